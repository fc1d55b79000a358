-- The audit log on PostgreSQL: one log in a database. Run by PostgresLog.open when its role may; else
-- once by hand, as the role that sequences:   psql -f schema.sql DATABASE
--
-- Three roles, so that who writes cannot change what was written (names are yours):
--
--   CREATE ROLE guard_sequencer LOGIN;  -- owns the schema: the only one that needs the signing key
--   CREATE ROLE guard_writer LOGIN;     -- hands over, and sees no entry
--   CREATE ROLE guard_reader LOGIN;     -- guard audit pull
--   GRANT USAGE ON SCHEMA guard_audit TO guard_writer, guard_reader;
--   GRANT INSERT ON guard_audit.handed TO guard_writer;
--   GRANT SELECT ON guard_audit.checkpoint, guard_audit.writer TO guard_writer;
--   GRANT SELECT ON guard_audit.key, guard_audit.checkpoint, guard_audit.cosigned,
--                   guard_audit.entry, guard_audit.tile TO guard_reader;

CREATE SCHEMA IF NOT EXISTS guard_audit;

-- What processes hand over, until it is sequenced. `token` is a secret of the process: its writer is
-- named by the hash, so nobody who reads the log can hand over in another's name.
CREATE TABLE IF NOT EXISTS guard_audit.handed (
    id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    token bytea NOT NULL CHECK (octet_length(token) = 32),
    number bigint NOT NULL CHECK (number >= 0),
    timestamp_ns bigint NOT NULL,
    line bytea NOT NULL CHECK (octet_length(line) <= 60000),
    PRIMARY KEY (token, number)
);

-- The number that is next of each writer: what comes again after a lost answer is not taken twice.
CREATE TABLE IF NOT EXISTS guard_audit.writer (
    writer text PRIMARY KEY,
    next bigint NOT NULL
);

-- The log itself: everything here is covered by the latest checkpoint.
CREATE TABLE IF NOT EXISTS guard_audit.entry (
    index bigint PRIMARY KEY,
    line bytea NOT NULL
);
CREATE TABLE IF NOT EXISTS guard_audit.tile (
    name text PRIMARY KEY,  -- C2SP tlog-tiles: tile/0/x001/067, tile/1/004.p/27
    hashes bytea NOT NULL
);
CREATE TABLE IF NOT EXISTS guard_audit.checkpoint (
    size bigint PRIMARY KEY,
    note bytea NOT NULL
);
CREATE TABLE IF NOT EXISTS guard_audit.cosigned (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    note bytea NOT NULL
);
CREATE TABLE IF NOT EXISTS guard_audit.key (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vkey text NOT NULL UNIQUE
);
