-- Backups that lie somewhere, as they were when it was last looked, and the drills that restored them.

CREATE TABLE backups (
  id          TEXT NOT NULL,
  target      TEXT NOT NULL,
  record      TEXT NOT NULL,
  bytes       INTEGER NOT NULL,
  members     INTEGER,
  created_at  INTEGER NOT NULL,
  verified_at INTEGER,
  made_ms     INTEGER,
  verified_ms INTEGER,
  proof       TEXT,
  issues      TEXT,
  gone_at     INTEGER,
  PRIMARY KEY (id, target)
) STRICT;
CREATE INDEX backups_by_time ON backups(created_at) WHERE gone_at IS NULL;

CREATE TABLE drills (
  id   INTEGER PRIMARY KEY,
  at   INTEGER NOT NULL,
  ok   INTEGER NOT NULL,
  said TEXT NOT NULL
) STRICT;
