DROP TABLE ballots;
DROP TABLE vote_options;
DROP TABLE votes;
