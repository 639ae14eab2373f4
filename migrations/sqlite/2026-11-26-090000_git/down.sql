ALTER TABLE projects DROP COLUMN submodules;
ALTER TABLE projects DROP COLUMN depth;
