DROP TABLE audit;
ALTER TABLE servers DROP COLUMN idle_seconds;
ALTER TABLE servers DROP COLUMN connect_seconds;
ALTER TABLE servers DROP COLUMN jump_id;

PRAGMA defer_foreign_keys = ON;
UPDATE servers SET credential_id = NULL WHERE credential_id IN (
    SELECT id FROM credentials WHERE kind IN ('ssh_key_file', 'ssh_agent')
);
DELETE FROM credentials WHERE kind IN ('ssh_key_file', 'ssh_agent');
CREATE TEMPORARY TABLE credentials_kept AS SELECT * FROM credentials;
DROP TABLE credentials;
CREATE TABLE credentials (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('ssh_key', 'password', 'git_token', 'git_ssh_key')),
    secret BLOB NOT NULL,
    passphrase BLOB,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
INSERT INTO credentials SELECT id, name, kind, secret, passphrase, created_at, updated_at
    FROM credentials_kept;
DROP TABLE credentials_kept;
