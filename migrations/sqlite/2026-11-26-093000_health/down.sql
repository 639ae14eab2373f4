ALTER TABLE projects DROP COLUMN health_seconds;
ALTER TABLE projects DROP COLUMN health;
