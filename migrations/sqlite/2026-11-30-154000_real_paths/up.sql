-- The folder of a project on a server with every link in it followed, as the last connection test saw it.
ALTER TABLE project_servers ADD COLUMN real_path TEXT;
