//! The table of sessions as OpenClaw last showed them, turned into usage readings.
//!
//! Pure: rows in, readings out. It must never present a count the gateway does not vouch for as fresh, nor one from between a
//! compaction and the next run, and never let a row that was made earlier replace one that was made later.

use chrono::{DateTime, Utc};
use moon_actors::domain::{SessionKey, SessionRef, UsageReading};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Sessions remembered at most; the gateway lists the most recent first.
pub(super) const MOST_SESSIONS: usize = 10_000;

/// One session with what is not part of a reading.
#[derive(Clone, Debug)]
struct Row {
    reading: UsageReading,
    /// The session's key at the gateway and in its store.
    host_key: String,
    agent: Option<String>,
    /// When the gateway made the row, its own milliseconds, if it said.
    snapshot: Option<i64>,
    /// The gateway said whether a run is active; `running: false` alone may only mean that it did not say.
    run_known: bool,
    /// The generation may have changed since it was last looked up.
    generation_due: bool,
    /// What the last run left behind, as far as the gateway said.
    run: LastRun,
    /// Compacted, and no run has ended since. OpenClaw calls its count fresh then, but it is a guess at the history alone,
    /// without the instructions and tools of the next prompt (seen on 2026.9.6: 946, and 3746 with the next call).
    compacted: bool,
}

/// The traces of the run that ended last.
#[derive(Clone, Debug, Default, PartialEq)]
struct LastRun {
    id: Option<String>,
    /// Tokens in and out. A compaction takes them away, so that a count without them is the compaction's own guess.
    tokens: Option<(u64, u64)>,
}

/// Every known session by key.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: HashMap<SessionKey, Row>,
    loaded: bool,
    default_agent: Option<String>,
}

impl Table {
    /// True once a full list has been seen in this process.
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded
    }

    pub(super) fn set_default_agent(&mut self, agent: Option<String>) {
        self.default_agent = agent;
    }

    /// Moon's key for the session that `payload` names in `field`. A key without an agent (`global`) may be that of one session
    /// of each agent: those that are not the default agent's get their agent's name before it.
    pub(super) fn key_of(&self, payload: &Value, field: &str) -> Option<SessionKey> {
        let word = |name: &str| payload.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let key = word(field)?;
        let agent = word("agentId").filter(|agent| self.default_agent.as_deref().is_some_and(|own| own != *agent));
        Some(match agent {
            Some(agent) if agent_of_key(key).is_none() => SessionKey(format!("agent:{agent}:{key}")),
            _ => key.into(),
        })
    }

    /// What the gateway is told to mean this session: its key, and the agent if the key does not say it.
    pub(super) fn address(&self, key: &SessionKey) -> Value {
        let (host_key, agent) = match self.rows.get(key) {
            Some(row) => (row.host_key.as_str(), row.agent.as_deref()),
            None => (key.as_str(), None),
        };
        match agent.filter(|_| agent_of_key(host_key).is_none()) {
            Some(agent) => json!({ "key": host_key, "agentId": agent }),
            None => json!({ "key": host_key }),
        }
    }

    /// Takes one row. True when the reading is news. Rows without key or id and OpenClaw's private ones are skipped.
    pub(super) fn apply(&mut self, row: &Value, now: DateTime<Utc>) -> bool {
        let Some(key) = self.key_of(row, "key") else { return false };
        let Some(mut fresh_row) = Row::parse(row, key.clone(), now) else { return false };
        let Some(old) = self.rows.get_mut(&key) else {
            if self.rows.len() < MOST_SESSIONS {
                self.rows.insert(key, fresh_row);
                return true;
            }
            return false;
        };
        if matches!((fresh_row.snapshot, old.snapshot), (Some(new), Some(old)) if new < old) {
            return false;
        }
        fresh_row.inherit(old);
        let changed = !same(&fresh_row.reading, &old.reading);
        fresh_row.generation_due |= changed || old.generation_due;
        *old = fresh_row;
        changed
    }

    /// Takes a full list made at `listed_at` (the gateway's milliseconds): what it does not name is gone, unless it was
    /// seen later than that. True when anything changed.
    pub(super) fn replace_all(&mut self, list: &[Value], listed_at: i64, now: DateTime<Utc>) -> bool {
        let named: std::collections::HashSet<SessionKey> =
            list.iter().filter_map(|row| self.key_of(row, "key")).collect();
        let before = self.rows.len();
        self.rows.retain(|key, row| named.contains(key) || row.snapshot.is_some_and(|at| at > listed_at));
        let mut changed = self.rows.len() != before || !self.loaded;
        for row in list {
            changed |= self.apply(row, now);
        }
        self.loaded = true;
        changed
    }

    pub(super) fn remove(&mut self, key: &SessionKey) -> bool {
        self.rows.remove(key).is_some()
    }

    /// The session was compacted: nobody knows how full it is until its next run has ended. True when that is news.
    pub(super) fn mark_compacted(&mut self, key: &SessionKey) -> bool {
        let Some(row) = self.rows.get_mut(key) else { return false };
        row.compacted = true;
        std::mem::take(&mut row.reading.fresh)
    }

    /// The connection is gone: figures stay for people, but nobody vouches for them. Snapshots are forgotten, because a
    /// restarted gateway may run on a clock that was set back.
    pub(super) fn mark_stale(&mut self) {
        for row in self.rows.values_mut() {
            row.reading.fresh = false;
            row.snapshot = None;
        }
    }

    /// Readings sorted by key.
    pub(super) fn readings(&self) -> Vec<UsageReading> {
        let mut all: Vec<_> = self.rows.values().map(|row| row.reading.clone()).collect();
        all.sort_by(|a, b| a.session.key.cmp(&b.session.key));
        all
    }

    pub(super) fn reading(&self, key: &SessionKey) -> Option<&UsageReading> {
        self.rows.get(key).map(|row| &row.reading)
    }

    /// Whether a run is active; `None` when the gateway never said so.
    pub(super) fn run_state(&self, key: &SessionKey) -> Option<bool> {
        self.rows.get(key).filter(|row| row.run_known).map(|row| row.reading.running)
    }

    /// The agent a session belongs to: by its key, else by its row.
    pub(super) fn agent(&self, key: &SessionKey) -> Option<String> {
        agent_of_key(key.as_str()).map(str::to_owned).or_else(|| self.rows.get(key).and_then(|row| row.agent.clone()))
    }

    /// Sessions whose generation must be looked up, by agent, each with its key in the store; they count as looked up from
    /// now on.
    pub(super) fn take_due_generations(&mut self) -> HashMap<String, Vec<(SessionKey, String)>> {
        let mut due: HashMap<String, Vec<(SessionKey, String)>> = HashMap::new();
        for (key, row) in &mut self.rows {
            if !std::mem::take(&mut row.generation_due) {
                continue;
            }
            if let Some(agent) = agent_of_key(key.as_str()).map(str::to_owned).or_else(|| row.agent.clone()) {
                due.entry(agent).or_default().push((key.clone(), row.host_key.clone()));
            }
        }
        due
    }

    pub(super) fn set_generation(&mut self, key: &SessionKey, generation: &str) {
        if let Some(row) = self.rows.get_mut(key) {
            row.reading.generation = Some(generation.to_owned());
        }
    }
}

/// `main` of `agent:main:…`.
pub(super) fn agent_of_key(key: &str) -> Option<&str> {
    key.strip_prefix("agent:")?.split_once(':').map(|(agent, _)| agent)
}

impl Row {
    /// `key` is Moon's.
    fn parse(row: &Value, key: SessionKey, now: DateTime<Utc>) -> Option<Self> {
        let word = |name: &str| row.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let number = |name: &str| row.get(name).and_then(Value::as_u64);
        let (host_key, session_id) = (word("key")?.to_owned(), word("sessionId")?);
        if host_key.contains(":internal-session-effects:") {
            return None;
        }
        let activity = ["updatedAt", "lastInteractionAt", "lastActivityAt"]
            .iter()
            .filter_map(|name| row.get(*name).and_then(Value::as_i64))
            .max();
        let used_tokens = number("totalTokens");
        let tokens = number("inputTokens").zip(number("outputTokens"));
        let estimated = row.get("contextBudgetStatus").is_some_and(Value::is_object);
        let compacted = used_tokens.is_some_and(|used| used > 0) && tokens.is_none() && !estimated;
        let vouched = row.get("totalTokensFresh").and_then(Value::as_bool) == Some(true);
        let reading = UsageReading {
            session: SessionRef { key, session_id: session_id.to_owned() },
            used_tokens,
            window_tokens: number("contextTokens").filter(|window| *window > 0),
            // Nobody goes on with an archived session, so that its window is nothing to act on.
            fresh: used_tokens.is_some() && vouched && !compacted && row.get("archived") != Some(&Value::Bool(true)),
            running: row.get("hasActiveRun").and_then(Value::as_bool).unwrap_or(false),
            last_activity: activity.and_then(DateTime::from_timestamp_millis),
            generation: word("lifecycleRevision").map(str::to_owned),
            model: word("model").map(str::to_owned),
            provider: "openclaw".into(),
            captured_at: now,
        };
        let generation_due = reading.generation.is_none();
        let snapshot = row.get("snapshotAt").and_then(Value::as_i64);
        let run_known = row.get("hasActiveRun").is_some_and(Value::is_boolean);
        let agent = word("agentId").map(str::to_owned);
        let run = LastRun { id: word("lastRunId").map(str::to_owned), tokens };
        Some(Self { reading, host_key, agent, snapshot, run_known, generation_due, run, compacted })
    }

    /// Keeps what this row does not say: the last count that was vouched for, the run state, window and generation.
    fn inherit(&mut self, old: &Self) {
        let (new, was) = (&mut self.reading, &old.reading);
        self.snapshot = self.snapshot.or(old.snapshot);
        if new.session.session_id != was.session.session_id {
            return;
        }
        // While a run is going on, the row does not say which one was the last.
        let ended = LastRun {
            id: self.run.id.take().or_else(|| old.run.id.clone()),
            tokens: self.run.tokens.or(old.run.tokens),
        };
        self.compacted |= old.compacted && ended == old.run;
        self.run = ended;
        new.fresh &= !self.compacted;
        // After a compaction the gateway's guess is nearer to the truth than the count from before.
        if !new.fresh && was.used_tokens.is_some() && !(self.compacted && new.used_tokens.is_some()) {
            new.used_tokens = was.used_tokens;
        }
        if !self.run_known {
            new.running = was.running;
            self.run_known = old.run_known;
        }
        new.window_tokens = new.window_tokens.or(was.window_tokens);
        new.last_activity = new.last_activity.max(was.last_activity);
        if new.generation.is_none() {
            new.generation.clone_from(&was.generation);
        }
        self.generation_due = new.generation.is_none();
    }
}

/// Equal but for the moment it was read.
fn same(a: &UsageReading, b: &UsageReading) -> bool {
    let strip = |r: &UsageReading| UsageReading { captured_at: DateTime::UNIX_EPOCH, ..r.clone() };
    strip(a) == strip(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, at: i64, extra: &Value) -> Value {
        let mut row = json!({"key": key, "sessionId": "s1", "agentId": "main", "snapshotAt": at, "updatedAt": at,
            "totalTokens": 3298, "totalTokensFresh": true, "contextTokens": 16000, "hasActiveRun": false, "model": "m",
            "inputTokens": 3298, "outputTokens": 50, "lastRunId": "r1"});
        for (name, value) in extra.as_object().expect("an object") {
            row[name] = value.clone();
        }
        row
    }
    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_795_150_000_000).expect("a date")
    }
    fn only(table: &Table) -> UsageReading {
        let all = table.readings();
        assert_eq!(all.len(), 1);
        all.into_iter().next().expect("one")
    }

    #[test]
    fn a_row_becomes_a_reading() {
        let mut table = Table::default();
        assert!(table.apply(&row("agent:main:main", 10, &json!({"lastInteractionAt": 99})), now()));
        let reading = only(&table);
        assert_eq!((reading.used_tokens, reading.window_tokens, reading.fresh), (Some(3298), Some(16000), true));
        assert_eq!(reading.last_activity.map(|t| t.timestamp_millis()), Some(99));
        assert!(!table.apply(&row("agent:main:main", 11, &json!({"lastInteractionAt": 99})), now()), "nothing new");
    }

    #[test]
    fn a_count_nobody_vouches_for_keeps_the_last_good_figure() {
        let mut table = Table::default();
        table.apply(&row("agent:main:main", 1, &json!({})), now());
        assert!(
            table.apply(&row("agent:main:main", 2, &json!({"totalTokens": null, "totalTokensFresh": false})), now())
        );
        assert_eq!((only(&table).used_tokens, only(&table).fresh), (Some(3298), false));
        table.apply(&row("agent:main:main", 3, &json!({"totalTokens": 9999, "totalTokensFresh": false})), now());
        assert_eq!(only(&table).used_tokens, Some(3298), "an estimate does not replace a count");
        table.apply(&row("agent:main:main", 4, &json!({"totalTokens": 0})), now());
        assert_eq!((only(&table).used_tokens, only(&table).fresh), (Some(0), true));
        let other = json!({"sessionId": "s2", "totalTokens": null, "totalTokensFresh": false});
        table.apply(&row("agent:main:main", 5, &other), now());
        assert_eq!(only(&table).used_tokens, None, "another transcript's figure says nothing about this one");
    }

    /// The figures a compaction leaves, and those of the run after it, as 2026.9.6 gave them.
    fn compacted() -> Value {
        json!({"totalTokens": 946, "inputTokens": null, "outputTokens": null, "contextBudgetStatus": null})
    }
    fn next_run() -> Value {
        json!({"totalTokens": 3746, "inputTokens": 3746, "outputTokens": 100, "lastRunId": "r2"})
    }

    #[test]
    fn the_guess_after_a_compaction_is_shown_but_never_fresh_until_a_run_has_ended() {
        let mut table = Table::default();
        table.apply(&row("agent:main:main", 1, &json!({})), now());
        assert!(table.apply(&row("agent:main:main", 2, &compacted()), now()), "that the count went stale is news");
        assert_eq!((only(&table).used_tokens, only(&table).fresh), (Some(946), false));
        let mut running = compacted();
        running["hasActiveRun"] = json!(true);
        running["lastRunId"] = json!(null);
        table.apply(&row("agent:main:main", 3, &running), now());
        assert_eq!((only(&table).used_tokens, only(&table).fresh), (Some(946), false), "the run has not ended");
        table.apply(&row("agent:main:main", 4, &next_run()), now());
        assert_eq!((only(&table).used_tokens, only(&table).fresh), (Some(3746), true));
        // Moon was started after the compaction: nothing but the row tells of it.
        let mut late = Table::default();
        late.apply(&row("agent:main:main", 1, &compacted()), now());
        assert!(!only(&late).fresh);
    }

    #[test]
    fn a_compaction_that_was_told_of_counts_even_when_the_row_looks_as_before() {
        let mut table = Table::default();
        table.apply(&row("agent:main:main", 1, &json!({})), now());
        let key = SessionKey::from("agent:main:main");
        assert!(table.mark_compacted(&key) && !table.mark_compacted(&key) && !table.mark_compacted(&"other".into()));
        table.apply(&row("agent:main:main", 2, &json!({"totalTokens": 900})), now());
        table.mark_stale();
        table.apply(&row("agent:main:main", 3, &json!({"totalTokens": 900})), now());
        assert_eq!((only(&table).used_tokens, only(&table).fresh), (Some(900), false), "no run has ended since");
        table.apply(&row("agent:main:main", 4, &next_run()), now());
        assert!(only(&table).fresh);
        table.mark_compacted(&key);
        let reset = json!({"totalTokens": 0, "inputTokens": 0, "outputTokens": 0, "lastRunId": null});
        table.apply(&row("agent:main:main", 5, &reset), now());
        assert_eq!((only(&table).used_tokens, only(&table).fresh), (Some(0), true), "an empty window is a known one");
    }

    #[test]
    fn an_older_row_never_replaces_a_later_one_until_the_connection_was_lost() {
        let mut table = Table::default();
        table.apply(&row("agent:main:main", 20, &json!({"totalTokens": 500})), now());
        assert!(!table.apply(&row("agent:main:main", 10, &json!({"totalTokens": 400})), now()));
        assert_eq!(only(&table).used_tokens, Some(500));
        table.mark_stale();
        assert!(!only(&table).fresh);
        assert!(table.apply(&row("agent:main:main", 10, &json!({"totalTokens": 400})), now()));
        assert_eq!(only(&table).used_tokens, Some(400));
    }

    #[test]
    fn a_full_list_drops_what_is_gone_but_not_what_came_later() {
        let mut table = Table::default();
        table.apply(&row("agent:main:old", 10, &json!({})), now());
        table.apply(&row("agent:main:new", 50, &json!({})), now());
        assert!(table.replace_all(&[row("agent:main:main", 40, &json!({}))], 40, now()));
        let keys: Vec<_> = table.readings().into_iter().map(|r| r.session.key.0).collect();
        assert_eq!(keys, ["agent:main:main", "agent:main:new"]);
        assert!(table.remove(&"agent:main:new".into()) && !table.remove(&"agent:main:new".into()));
    }

    #[test]
    fn private_and_broken_rows_are_skipped() {
        let mut table = Table::default();
        let bad = [
            json!(null),
            json!([]),
            json!({"key": "k"}),
            json!({"sessionId": "s"}),
            json!({"key": "", "sessionId": "s"}),
        ];
        for bad in bad {
            assert!(!table.apply(&bad, now()));
        }
        assert!(!table.apply(&row("agent:main:internal-session-effects:1", 1, &json!({})), now()));
        assert!(table.readings().is_empty());
        table.apply(&row("agent:main:main", 1, &json!({"totalTokens": -5, "contextTokens": 0})), now());
        assert_eq!((only(&table).used_tokens, only(&table).window_tokens, only(&table).fresh), (None, None, false));
    }

    #[test]
    fn a_generation_is_looked_up_after_each_change_and_kept_meanwhile() {
        let mut table = Table::default();
        table.apply(&row("agent:main:main", 1, &json!({})), now());
        let due = table.take_due_generations();
        assert_eq!(due["main"], [(SessionKey::from("agent:main:main"), "agent:main:main".to_owned())]);
        assert!(table.take_due_generations().is_empty());
        table.set_generation(&"agent:main:main".into(), "g1");
        assert!(!table.apply(&row("agent:main:main", 2, &json!({"updatedAt": 1})), now()), "the same but for its time");
        assert!(table.take_due_generations().is_empty());
        table.apply(&row("agent:main:main", 3, &json!({"totalTokens": 0})), now());
        assert_eq!((only(&table).generation.as_deref(), table.take_due_generations().len()), (Some("g1"), 1));
    }
}
