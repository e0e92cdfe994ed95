-- Version 2: records know all their clocks and carry a checksum; what the broker refuses is kept aside; a run
-- that ended without a word is noticed.

ALTER TABLE records ADD COLUMN uptime INTEGER NOT NULL DEFAULT 0; -- milliseconds since the machine started
ALTER TABLE records ADD COLUMN synced INTEGER NOT NULL DEFAULT 1; -- 0: made before the clock was set
ALTER TABLE records ADD COLUMN crc    INTEGER; -- CRC-32 of the row; NULL: written by version 1
UPDATE records SET synced = 0 WHERE instr(body, CAST('"clock":"unsynced"' AS BLOB)); -- or they would be too old at once
-- Replies go first and events are dropped last: found without reading every poll.
CREATE INDEX records_urgent ON records (run, seq) WHERE kind < 2;

-- The runs that have records here, and the last one.
CREATE TABLE runs (
    run     INTEGER PRIMARY KEY,
    boot    TEXT    NOT NULL, -- of the machine: uptimes of two runs compare only within one
    uptime  INTEGER NOT NULL, -- when it began
    floor   INTEGER NOT NULL, -- every number up to here was stored, acknowledged or told lost
    ceiling INTEGER NOT NULL, -- no number above was given
    clean   INTEGER NOT NULL  -- 1: it ended in order, `floor` is its last number
);

-- Records the broker will never take, or that were damaged in the file; a gap or set-aside event has named each.
CREATE TABLE aside (
    run         INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    topic       TEXT    NOT NULL,
    body        BLOB    NOT NULL,
    correlation BLOB,
    made        INTEGER NOT NULL,
    uptime      INTEGER NOT NULL,
    synced      INTEGER NOT NULL,
    crc         INTEGER,
    reason      TEXT    NOT NULL,
    at          INTEGER NOT NULL, -- when it was set aside
    PRIMARY KEY (run, seq)
);

-- Losses that no event tells yet: of a purge, or of a run that ended without a word.
CREATE TABLE lost (
    id     INTEGER PRIMARY KEY AUTOINCREMENT, -- never given again: what is told is taken out by its id
    run    INTEGER NOT NULL,
    first  INTEGER NOT NULL,
    last   INTEGER NOT NULL,
    reason TEXT    NOT NULL
);
