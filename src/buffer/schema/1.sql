-- The buffer file, version 1. Times are milliseconds since 1970, UTC.

-- Numbers that outlive a run: `run`, the last run begun.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- Records that wait for the broker. A rowid table, not WITHOUT ROWID: that one would cut bodies over a
-- quarter of a page into overflow pages, and a poll of a hundred points is longer.
CREATE TABLE records (
    run         INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    kind        INTEGER NOT NULL, -- 0 reply, 1 event, 2 readings
    topic       TEXT    NOT NULL,
    body        BLOB    NOT NULL,
    correlation BLOB,
    made        INTEGER NOT NULL,
    PRIMARY KEY (run, seq)
);

-- The journal of commands: begun before the device is asked, finished before the reply is sent.
CREATE TABLE commands (
    topic       TEXT    NOT NULL, -- the device, or empty for the gateway itself
    id          TEXT    NOT NULL,
    digest      BLOB    NOT NULL, -- of the body, to tell a repeat from an id used twice
    begun       INTEGER NOT NULL,
    action      TEXT    NOT NULL,
    reply       TEXT    NOT NULL, -- where the reply goes
    correlation BLOB,
    outcome     BLOB,             -- the reply's body; NULL while it runs
    PRIMARY KEY (topic, id)
) WITHOUT ROWID;
CREATE INDEX commands_by_age ON commands (begun);
