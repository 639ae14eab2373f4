-- How a server takes over the files that a release did not change: as copies, or as hard links where
-- nothing writes into them.
ALTER TABLE projects ADD COLUMN unchanged TEXT NOT NULL DEFAULT 'copy' CHECK (unchanged IN ('copy', 'link'));
