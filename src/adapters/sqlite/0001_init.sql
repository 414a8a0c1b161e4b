-- The ledger, version 1. Times are milliseconds since 1970, UTC. Hashes are lower-case hexadecimal SHA-256.

CREATE TABLE boots (
  id         TEXT PRIMARY KEY,
  writer     TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at   INTEGER,
  end_reason TEXT
) STRICT;

CREATE TABLE sessions (
  key        TEXT PRIMARY KEY,
  reading    TEXT NOT NULL,
  last_fresh TEXT,
  machine    TEXT,
  touched    INTEGER NOT NULL DEFAULT 0  -- grows over all sessions with each observation, and each cycle opened or closed
) STRICT;
CREATE INDEX sessions_touched ON sessions(touched);

CREATE TABLE cycles (
  id          TEXT PRIMARY KEY,
  session     TEXT NOT NULL REFERENCES sessions(key),
  session_id  TEXT NOT NULL,
  kind        TEXT NOT NULL,
  reason      TEXT NOT NULL,
  ratio       REAL,
  used_tokens INTEGER,
  trace       TEXT NOT NULL,
  ack         TEXT,
  opened_at   INTEGER NOT NULL,
  closed_at   INTEGER,
  outcome     TEXT
) STRICT;
CREATE UNIQUE INDEX one_open_cycle ON cycles(session) WHERE closed_at IS NULL AND kind <> 'capture';
CREATE INDEX cycles_by_session ON cycles(session, closed_at);
CREATE INDEX cycles_awaited ON cycles(id) WHERE ack IS NOT NULL AND closed_at IS NULL;
CREATE INDEX cycles_that_reduced ON cycles(session) WHERE closed_at IS NOT NULL AND kind IN ('prune', 'distill');

CREATE TABLE jobs (
  cycle      TEXT NOT NULL REFERENCES cycles(id),
  stage      TEXT NOT NULL,
  state      TEXT NOT NULL CHECK (state IN ('waiting', 'claimed', 'done', 'quarantined', 'cancelled')),
  attempts   INTEGER NOT NULL DEFAULT 0,
  failures   INTEGER NOT NULL DEFAULT 0,
  deaths     INTEGER NOT NULL DEFAULT 0,
  not_before INTEGER NOT NULL DEFAULT 0,  -- steady time of this life; 0 after a start
  token      TEXT,
  claimed_at INTEGER,
  intent     TEXT,
  last_error TEXT,
  queued_at  INTEGER NOT NULL,
  PRIMARY KEY (cycle, stage)
) STRICT;
CREATE INDEX jobs_due ON jobs(stage, state, not_before);

CREATE TABLE series (
  id               INTEGER PRIMARY KEY,
  session          TEXT NOT NULL,
  session_id       TEXT NOT NULL,
  epoch            INTEGER NOT NULL,
  last_seq         INTEGER NOT NULL DEFAULT -1,
  last_record      TEXT,
  records          INTEGER NOT NULL DEFAULT 0,
  bytes            INTEGER NOT NULL DEFAULT 0,
  projection_bytes INTEGER NOT NULL DEFAULT 0,
  superseded       TEXT,
  UNIQUE (session, session_id, epoch)
) STRICT;

CREATE TABLE segments (
  id              INTEGER PRIMARY KEY,
  series          INTEGER NOT NULL REFERENCES series(id),
  ordinal         INTEGER NOT NULL,
  sha256          TEXT NOT NULL,
  manifest        TEXT NOT NULL,
  manifest_sha256 TEXT NOT NULL,
  path            TEXT NOT NULL,
  manifest_path   TEXT NOT NULL,
  archived_at     INTEGER NOT NULL,
  indexed_at      INTEGER,
  UNIQUE (series, ordinal)
) STRICT;
CREATE INDEX segments_by_hash ON segments(sha256);
CREATE INDEX segments_unindexed ON segments(series) WHERE indexed_at IS NULL;

CREATE TABLE prunes (
  cycle         TEXT PRIMARY KEY REFERENCES cycles(id),
  session       TEXT NOT NULL,
  tokens_before INTEGER,
  tokens_after  INTEGER,
  permit        TEXT NOT NULL,
  at            INTEGER NOT NULL
) STRICT;
CREATE INDEX prunes_by_session ON prunes(session);

CREATE TABLE distillations (
  key          TEXT PRIMARY KEY,
  series       INTEGER NOT NULL REFERENCES series(id),
  session      TEXT NOT NULL,
  session_id   TEXT NOT NULL,
  cycle        TEXT NOT NULL REFERENCES cycles(id),
  from_seq     INTEGER NOT NULL,
  to_seq       INTEGER NOT NULL,
  provider     TEXT NOT NULL,
  summary_path TEXT NOT NULL,
  at           INTEGER NOT NULL,
  body         TEXT NOT NULL
) STRICT;
CREATE INDEX distillations_by_series ON distillations(series, to_seq);

CREATE TABLE continuity (
  cycle             TEXT PRIMARY KEY REFERENCES cycles(id),
  session           TEXT NOT NULL,
  source_session_id TEXT NOT NULL,
  target_session_id TEXT NOT NULL,
  map_path          TEXT NOT NULL,
  map_sha256        TEXT NOT NULL,
  block_sha256      TEXT NOT NULL,
  rollover          TEXT NOT NULL,
  at                INTEGER NOT NULL,
  confirmed_at      INTEGER
) STRICT;
CREATE INDEX continuity_by_session ON continuity(session);

CREATE TABLE alerts (
  id          INTEGER PRIMARY KEY,
  rule        TEXT NOT NULL,
  subject     TEXT NOT NULL,
  severity    TEXT NOT NULL,
  message     TEXT NOT NULL,
  hint        TEXT,
  fired_at    INTEGER NOT NULL,
  resolved_at INTEGER
) STRICT;
CREATE UNIQUE INDEX one_firing_alert ON alerts(rule, subject) WHERE resolved_at IS NULL;

CREATE TABLE deliveries (
  alert        INTEGER NOT NULL REFERENCES alerts(id),
  route        TEXT NOT NULL,
  phase        TEXT NOT NULL CHECK (phase IN ('firing', 'resolved')),
  delivered_at INTEGER NOT NULL,
  PRIMARY KEY (alert, route, phase)
) STRICT;

CREATE TABLE facts (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

-- The audit: sha256 = SHA-256(prev_sha256 || newline || record). The record is hashed as stored, byte for byte.
CREATE TABLE audit (
  seq         INTEGER PRIMARY KEY,
  record      TEXT NOT NULL,
  prev_sha256 TEXT NOT NULL,
  sha256      TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_is_append_only_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_is_append_only_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
