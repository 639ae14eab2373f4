ALTER TABLE project_servers DROP COLUMN real_path;
