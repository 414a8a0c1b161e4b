-- Checks: one row each, what it found last. `kept` is what only the checks themselves read, as JSON.

CREATE TABLE health (
  name       TEXT PRIMARY KEY,
  state      TEXT NOT NULL CHECK (state IN ('ok', 'unknown', 'warning', 'critical')),
  reason     TEXT NOT NULL,
  hint       TEXT,
  since      INTEGER NOT NULL,
  checked_at INTEGER NOT NULL,
  took_ms    INTEGER NOT NULL,
  figures    TEXT NOT NULL,
  kept       TEXT NOT NULL
) STRICT;
