-- Alerts on the way to people. Columns named `steady` hold the steady clock of the life that wrote them; a later life takes one from
-- the future as its own present. All other times are wall times.

ALTER TABLE alerts ADD COLUMN fired_steady INTEGER NOT NULL DEFAULT 0;  -- what the time to its escalation counts from
ALTER TABLE alerts ADD COLUMN acked_at INTEGER;
ALTER TABLE alerts ADD COLUMN acked_by TEXT;
ALTER TABLE alerts ADD COLUMN ack_note TEXT;
ALTER TABLE alerts ADD COLUMN escalated_at INTEGER;
ALTER TABLE alerts ADD COLUMN superseded_by INTEGER;  -- the same, but worse: the instance that took over
UPDATE alerts SET fired_steady = fired_at;
CREATE INDEX alerts_by_key ON alerts(rule, subject);

-- Conditions that have not lasted long enough to be an alert.
CREATE TABLE pending_alerts (
  rule     TEXT NOT NULL,
  subject  TEXT NOT NULL,
  severity TEXT NOT NULL,
  message  TEXT NOT NULL,
  hint     TEXT,
  since    INTEGER NOT NULL,   -- steady
  since_wall INTEGER NOT NULL,
  patience INTEGER NOT NULL,   -- milliseconds
  boot     TEXT NOT NULL,      -- the life that saw the condition last: nothing fires on the word of a dead one
  PRIMARY KEY (rule, subject)
) STRICT;

CREATE TABLE silences (
  id         INTEGER PRIMARY KEY,
  rule       TEXT NOT NULL,    -- globs
  subject    TEXT NOT NULL,
  reason     TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  until      INTEGER NOT NULL,
  ended_at   INTEGER,
  ended_by   TEXT
) STRICT;

-- What there is to tell, written with its cause. A route is owed each notice that it has no delivery of.
CREATE TABLE notices (
  id      INTEGER PRIMARY KEY,
  alert   INTEGER NOT NULL REFERENCES alerts(id),
  phase   TEXT NOT NULL CHECK (phase IN ('firing', 'escalated', 'resolved')),
  made_at INTEGER NOT NULL,
  UNIQUE (alert, phase)
) STRICT;
INSERT INTO notices (alert, phase, made_at)
  SELECT id, phase, at FROM (
    SELECT id, 'firing' AS phase, fired_at AS at FROM alerts
    UNION ALL SELECT id, 'resolved', resolved_at FROM alerts WHERE resolved_at IS NOT NULL)
  ORDER BY at, id, phase;

CREATE TABLE routes (
  name          TEXT PRIMARY KEY,
  settled_to    INTEGER NOT NULL,          -- every notice up to this one has a delivery
  failures      INTEGER NOT NULL DEFAULT 0,
  failed_steady INTEGER NOT NULL DEFAULT 0,
  pause         INTEGER NOT NULL DEFAULT 0, -- milliseconds after the last failure
  under_way     INTEGER,                   -- the notice whose delivery failed last: it may have arrived all the same
  failing_since INTEGER,
  last_error    TEXT,
  told_at       INTEGER
) STRICT;
INSERT INTO routes (name, settled_to) SELECT DISTINCT route, 0 FROM deliveries;

CREATE TABLE digests (
  id           TEXT PRIMARY KEY,
  route        TEXT NOT NULL,
  state        TEXT NOT NULL CHECK (state IN ('open', 'closed', 'sent', 'failed')),
  opened       INTEGER NOT NULL,   -- steady
  patience     INTEGER NOT NULL,   -- milliseconds
  since        INTEGER NOT NULL,
  until        INTEGER NOT NULL,
  count        INTEGER NOT NULL,
  worst        TEXT NOT NULL,
  lines        TEXT NOT NULL,      -- JSON
  sent_steady  INTEGER
) STRICT;
CREATE UNIQUE INDEX one_open_digest ON digests(route) WHERE state = 'open';
CREATE UNIQUE INDEX one_closed_digest ON digests(route) WHERE state = 'closed';

ALTER TABLE deliveries RENAME TO deliveries_1;
CREATE TABLE deliveries (
  notice INTEGER NOT NULL REFERENCES notices(id),
  route  TEXT NOT NULL,
  state  TEXT NOT NULL CHECK (state IN ('sent', 'noted', 'digested', 'dropped', 'failed')),
  steady INTEGER NOT NULL,
  at     INTEGER NOT NULL,
  why    TEXT,                     -- of what was not sent
  digest TEXT REFERENCES digests(id),
  PRIMARY KEY (notice, route)
) STRICT;
CREATE INDEX deliveries_by_route ON deliveries(route, state, steady);
INSERT OR IGNORE INTO deliveries (notice, route, state, steady, at)
  SELECT n.id, d.route, 'sent', d.delivered_at, d.delivered_at
  FROM deliveries_1 d JOIN notices n ON n.alert = d.alert AND (n.phase = d.phase OR d.phase = 'resolved')
  ORDER BY d.delivered_at;
DROP TABLE deliveries_1;
