-- Tasks of the calendar: one row each, the last run.

CREATE TABLE chores (
  task       TEXT PRIMARY KEY,
  due_at     INTEGER NOT NULL,
  attempts   INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at   INTEGER,
  is_done    INTEGER NOT NULL DEFAULT 0,
  said       TEXT,
  done_at    INTEGER
) STRICT;
