-- Times are milliseconds since 1970-01-01 UTC. Names of states and kinds are those of the API.

CREATE TABLE meta (
    key TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);

CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('admin', 'deployer', 'viewer')),
    disabled BOOLEAN NOT NULL DEFAULT FALSE,
    created_at BIGINT NOT NULL
);

-- Login sessions, API tokens and one-time links are kept as fingerprints of their tokens.
CREATE TABLE login_sessions (
    fingerprint TEXT PRIMARY KEY NOT NULL,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    csrf TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE api_tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    fingerprint TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE one_time_links (
    fingerprint TEXT PRIMARY KEY NOT NULL,
    user_id INTEGER REFERENCES users (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL
);

CREATE TABLE credentials (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('ssh_key', 'password', 'git_token', 'git_ssh_key')),
    secret BLOB NOT NULL,
    passphrase BLOB,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE servers (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    hostname TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL,
    port INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
    user TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('ssh', 'local')),
    credential_id INTEGER REFERENCES credentials (id),
    root TEXT NOT NULL,
    host_key TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE projects (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    title TEXT NOT NULL,
    repo TEXT NOT NULL,
    credential_id INTEGER REFERENCES credentials (id),
    host_key TEXT,
    env TEXT NOT NULL CHECK (env IN ('prod', 'test')),
    path TEXT NOT NULL,
    keep INTEGER NOT NULL CHECK (keep >= 1),
    build TEXT NOT NULL,
    restart TEXT NOT NULL,
    before_download TEXT NOT NULL,
    after_download TEXT NOT NULL,
    before_deploy TEXT NOT NULL,
    after_deploy TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (title, env)
);

CREATE TABLE project_servers (
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    server_id INTEGER NOT NULL REFERENCES servers (id),
    PRIMARY KEY (project_id, server_id)
);
CREATE INDEX project_servers_by_server ON project_servers (server_id);

CREATE TABLE releases (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('deploy', 'rollback')),
    -- What a rollback goes back to: the release whose files are on the servers.
    target_id INTEGER,
    revision TEXT NOT NULL,
    commit_id TEXT,
    summary TEXT NOT NULL,
    state TEXT NOT NULL CHECK (
        state IN ('queued', 'running', 'succeeded', 'partial', 'failed', 'cancelled', 'interrupted')
    ),
    message TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    -- The project and its servers as they were when the release was asked for, as JSON.
    spec TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT
);
CREATE INDEX releases_by_project ON releases (project_id, id);
-- One active release a project: this index is the lock.
CREATE UNIQUE INDEX one_active_release ON releases (project_id) WHERE state IN ('queued', 'running');

CREATE TABLE nodes (
    release_id INTEGER NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    parent TEXT,
    position INTEGER NOT NULL,
    step TEXT NOT NULL,
    server_id INTEGER,
    server_name TEXT,
    state TEXT NOT NULL CHECK (
        state IN ('waiting', 'running', 'succeeded', 'failed', 'cancelled', 'skipped', 'interrupted')
    ),
    message TEXT NOT NULL,
    progress TEXT NOT NULL,
    version BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    PRIMARY KEY (release_id, key)
);

-- The log: every message of every room, numbered. AUTOINCREMENT never gives a number twice.
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    room TEXT NOT NULL,
    kind TEXT NOT NULL,
    sender TEXT NOT NULL,
    data TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX events_by_room ON events (room, number);

-- Up to which number a room's messages were dropped by retention.
CREATE TABLE room_marks (
    room TEXT PRIMARY KEY NOT NULL,
    dropped_to BIGINT NOT NULL
);
