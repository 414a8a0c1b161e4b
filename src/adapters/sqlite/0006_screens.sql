-- What screens and reports show: how full sessions were, until when a daemon lived, small counters.

CREATE TABLE usage_names (
  id      INTEGER PRIMARY KEY,
  session TEXT NOT NULL UNIQUE
) STRICT;

-- at: minutes since 1970, the beginning of the minute or hour. most, last: thousandths of the window.
CREATE TABLE usage_minutes (
  session INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  most    INTEGER NOT NULL,
  last    INTEGER NOT NULL,
  PRIMARY KEY (session, at)
) STRICT, WITHOUT ROWID;
CREATE TABLE usage_hours (
  session INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  most    INTEGER NOT NULL,
  last    INTEGER NOT NULL,
  PRIMARY KEY (session, at)
) STRICT, WITHOUT ROWID;

-- A daemon's life was last seen then; a command's never.
ALTER TABLE boots ADD COLUMN seen_at INTEGER;

-- day: days since 1970, UTC.
CREATE TABLE tallies (
  day   INTEGER NOT NULL,
  name  TEXT NOT NULL,
  value INTEGER NOT NULL,
  PRIMARY KEY (day, name)
) STRICT, WITHOUT ROWID;

-- The last job of a stage that was done, without walking all of them.
CREATE INDEX jobs_done ON jobs(stage, claimed_at) WHERE state = 'done';
