-- Votes are kept beside the log: retention drops messages, never a count.

CREATE TABLE votes (
    name TEXT PRIMARY KEY NOT NULL,
    question TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'closed')),
    -- Who opened it, as a voter is written.
    organiser TEXT NOT NULL,
    -- Grows with every change.
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX votes_by_time ON votes (updated_at);

CREATE TABLE vote_options (
    vote TEXT NOT NULL REFERENCES votes (name) ON DELETE CASCADE,
    -- From 1.
    place INTEGER NOT NULL,
    text TEXT NOT NULL,
    -- How many ballots name it.
    count BIGINT NOT NULL,
    PRIMARY KEY (vote, place)
);

-- One ballot a voter: an account, or the fingerprint of a browser's token, or a program's name.
CREATE TABLE ballots (
    vote TEXT NOT NULL REFERENCES votes (name) ON DELETE CASCADE,
    voter TEXT NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (vote, voter)
);
