INSERT INTO meta (key, value) SELECT 'log_birth', epoch FROM log_epochs WHERE last IS NULL;
DROP TABLE log_epochs;
