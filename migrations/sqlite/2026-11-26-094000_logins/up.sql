-- Of a key: the password for a server that asks for one as well, sealed.
ALTER TABLE credentials ADD COLUMN password BLOB;
