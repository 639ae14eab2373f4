-- Each start of the server begins another epoch of the log. A cursor names its epoch, so that one of a
-- history that this database does not know (it was put back from a copy) is told from one that it does.
CREATE TABLE log_epochs (
    number INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    epoch TEXT NOT NULL UNIQUE,
    -- The last number that was given in it; none while it lasts.
    last BIGINT
);
INSERT INTO log_epochs (epoch) SELECT value FROM meta WHERE key = 'log_birth';
DELETE FROM meta WHERE key IN ('log_birth', 'log_open');
