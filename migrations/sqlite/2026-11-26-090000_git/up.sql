-- How much of a repository a project takes.

-- How many commits of each branch and tag are fetched; 0: all.
ALTER TABLE projects ADD COLUMN depth INTEGER NOT NULL DEFAULT 0 CHECK (depth >= 0);
-- Whether submodules are released with it.
ALTER TABLE projects ADD COLUMN submodules BOOLEAN NOT NULL DEFAULT FALSE;
