-- Credentials that the platform does not keep itself: key files and the SSH agent. SQLite cannot
-- change a CHECK, so the table is made anew; what refers to it is checked at the end of the
-- transaction, when every row is back under its id.
PRAGMA defer_foreign_keys = ON;

CREATE TEMPORARY TABLE credentials_kept AS SELECT * FROM credentials;
CREATE TEMPORARY TABLE credentials_number AS
    SELECT seq FROM sqlite_sequence WHERE name = 'credentials';
DROP TABLE credentials;

CREATE TABLE credentials (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (
        kind IN ('ssh_key', 'ssh_key_file', 'ssh_agent', 'password', 'git_token', 'git_ssh_key')
    ),
    -- Sealed; of a key file or the agent, sealed nothing.
    secret BLOB NOT NULL,
    passphrase BLOB,
    -- Where a key file is.
    path TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
INSERT INTO credentials (id, name, kind, secret, passphrase, created_at, updated_at)
    SELECT id, name, kind, secret, passphrase, created_at, updated_at FROM credentials_kept;
-- An id is never given twice.
INSERT INTO sqlite_sequence (name, seq)
    SELECT 'credentials', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'credentials');
UPDATE sqlite_sequence SET seq = max(seq, coalesce((SELECT max(seq) FROM credentials_number), 0))
    WHERE name = 'credentials';
DROP TABLE credentials_kept;
DROP TABLE credentials_number;

-- The server that this one is reached through.
ALTER TABLE servers ADD COLUMN jump_id INTEGER REFERENCES servers (id);
-- Time-outs of its own, in seconds; none: the settings'.
ALTER TABLE servers ADD COLUMN connect_seconds INTEGER CHECK (connect_seconds > 0);
ALTER TABLE servers ADD COLUMN idle_seconds INTEGER CHECK (idle_seconds > 0);

-- What was done on servers by hand. It outlives the accounts and servers that it names.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    at BIGINT NOT NULL,
    -- The account, or who ran the command line.
    who TEXT NOT NULL,
    way TEXT NOT NULL CHECK (way IN ('page', 'api', 'cli')),
    action TEXT NOT NULL,
    server_id INTEGER,
    server TEXT NOT NULL,
    -- The command, or the paths.
    detail TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('begun', 'succeeded', 'failed')),
    message TEXT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX audit_by_time ON audit (at);
