-- Version 3: small things that other parts of the gateway keep over a restart.

CREATE TABLE remembered (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;
