-- How a project tells whether a release works on a server.

-- The command that tells it; empty: none.
ALTER TABLE projects ADD COLUMN health TEXT NOT NULL DEFAULT '';
-- How long at most a server may take until it holds.
ALTER TABLE projects ADD COLUMN health_seconds INTEGER NOT NULL DEFAULT 30 CHECK (health_seconds BETWEEN 1 AND 600);
