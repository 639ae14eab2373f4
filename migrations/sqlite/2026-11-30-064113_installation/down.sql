DELETE FROM meta WHERE key IN ('installation', 'unmarked_releases');
