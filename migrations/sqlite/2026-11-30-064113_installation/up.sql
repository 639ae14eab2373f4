-- The name by which servers know whose releases lie there. Releases up to the number in
-- `unmarked_releases` came to servers before anything was written beside them that says so.
INSERT OR IGNORE INTO meta (key, value) VALUES ('installation', lower(hex(randomblob(8))));
INSERT OR REPLACE INTO meta (key, value)
VALUES ('unmarked_releases', (SELECT CAST(COALESCE(MAX(id), 0) AS TEXT) FROM releases));
