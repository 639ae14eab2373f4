-- A value sealed with the installation's key, by which the database knows the key again.
CREATE TABLE key_check (
    id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    sealed BLOB NOT NULL
);
