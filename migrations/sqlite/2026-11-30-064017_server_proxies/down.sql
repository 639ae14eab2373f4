ALTER TABLE servers DROP COLUMN proxy_command;
ALTER TABLE servers DROP COLUMN proxy_password;
ALTER TABLE servers DROP COLUMN proxy;
