ALTER TABLE credentials DROP COLUMN password;
