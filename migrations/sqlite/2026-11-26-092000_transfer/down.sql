ALTER TABLE projects DROP COLUMN unchanged;
