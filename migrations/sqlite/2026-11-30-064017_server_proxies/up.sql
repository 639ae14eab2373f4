-- The address of a proxy that a server is reached by, without its password, which is sealed; or a command, as a JSON array.
ALTER TABLE servers ADD COLUMN proxy TEXT;
ALTER TABLE servers ADD COLUMN proxy_password BLOB;
ALTER TABLE servers ADD COLUMN proxy_command TEXT;
