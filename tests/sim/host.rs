//! The session host of the simulated world: transcripts that stay, windows that are really lost.
//!
//! Like OpenClaw it appends a record for every compaction and reset, refuses both while a turn runs, and compacts in its own time:
//! once asked, it goes on whether Moon lives or not. Every reduction is judged at the moment it happens.

use crate::check;
use crate::driver::Plan;
use crate::world::{State, World};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use moon_actors::domain::{Capabilities, Page, Record, SessionKey, SessionRef, SourceIdentity, UsageReading};
use moon_actors::port::{BridgeEventKind, Clock, Compacted, Doorbell, SessionHost, Slot};
use moon_actors::{Error, Result};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

pub(crate) const WINDOW: u64 = 100_000;
/// The newest records stay in a compacted window.
pub(crate) const KEPT: usize = 3;

#[derive(Default)]
pub(crate) struct Transcript {
    pub(crate) records: Vec<Record>,
    pub(crate) generation: u64,
    pub(crate) gone: bool,
    /// Records changed without a word: only a full comparison can see it.
    pub(crate) silently: HashSet<i64>,
}

#[derive(Default)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) transcripts: BTreeMap<String, Transcript>,
    pub(crate) used: Option<u64>,
    pub(crate) fresh: bool,
    pub(crate) running: bool,
    /// The id of the compaction under way, and what it freed when it was done.
    pub(crate) compacting: Option<String>,
    pub(crate) last_compaction: Option<(String, Compacted)>,
    pub(crate) last_activity: Option<DateTime<Utc>>,
    pub(crate) lifecycle: u64,
    /// A reset of this session also begins a new transcript.
    pub(crate) renames: bool,
    /// The host seems to work on it for ever.
    pub(crate) held_busy: bool,
}

impl Session {
    pub(crate) fn new(id: &str, renames: bool) -> Self {
        let mut session = Self { id: id.into(), renames, used: Some(2_000), fresh: true, ..Self::default() };
        session.transcripts.insert(id.into(), Transcript::default());
        session.append(&format!(r#"{{"type":"session","id":"{id}"}}"#), 0);
        session
    }
    pub(crate) fn now(&mut self) -> &mut Transcript {
        self.transcripts.entry(self.id.clone()).or_default()
    }
    pub(crate) fn append(&mut self, text: &str, gap: i64) {
        let transcript = self.now();
        let seq = transcript.records.last().map_or(0, |r| r.seq + 1 + gap);
        transcript.records.push(Record { seq, bytes: text.as_bytes().to_vec() });
    }
    pub(crate) fn say(&mut self, role: &str, at: DateTime<Utc>, text: &str) {
        let at = at.to_rfc3339();
        let line = serde_json::json!({
            "type": "message", "timestamp": at, "message": { "role": role, "content": [{ "type": "text", "text": text }] },
        });
        self.append(&line.to_string(), 0);
    }
}

impl World {
    fn snapshot(&self, key: &SessionKey, session: &Session) -> UsageReading {
        UsageReading {
            session: SessionRef { key: key.clone(), session_id: session.id.clone() },
            used_tokens: session.used,
            window_tokens: Some(WINDOW),
            fresh: session.fresh,
            running: session.running || session.held_busy,
            last_activity: session.last_activity,
            generation: Some(session.lifecycle.to_string()),
            model: None,
            provider: "sim".into(),
            captured_at: self.time.now(),
        }
    }

    /// Shows Moon how a session stands now, unless the push is lost.
    pub(crate) fn push(&self, key: &SessionKey) {
        let lost = self.state().weather.lost_pushes;
        if self.dice.per_mille("host.push", lost) {
            return;
        }
        {
            let mut state = self.state();
            let reading = self.snapshot(key, &state.sessions[key]);
            state.shown.insert(key.clone(), reading);
        }
        self.ring_host();
    }

    /// A compaction begins; the host does it in its own time.
    pub(crate) fn begin_compaction(&self, key: &SessionKey, by: &'static str) -> String {
        let id = format!("compaction-{}", self.dice.next("compaction.id"));
        let (now, at) = (self.time.real_ms(), self.time.now());
        let cycle = self.open_cycle(key);
        let (waits, written) = {
            let mut state = self.state();
            state.sessions.get_mut(key).expect("a session of this world").compacting = Some(id.clone());
            let waits = state.inbox.waits(now);
            (waits, state.inbox.say(at, key, BridgeEventKind::BeforeCompaction { id: id.clone() }))
        };
        if written {
            self.ring_bridge();
        }
        let until = if waits { now + 20_000 } else { now };
        self.plan(50, Plan::Compact { key: key.clone(), id: id.clone(), until, by, cycle });
        id
    }

    /// Does it: the older part of the window is gone from the model's sight.
    pub(crate) fn finish_compaction(&self, key: &SessionKey, id: &str, by: &'static str, cycle: Option<String>) {
        let (at, now) = (self.time.now(), self.time.real_ms());
        let share = self.dice.between("compaction.share", 20, 97);
        let mut state = self.state();
        let share = state.share.unwrap_or(share);
        let acked = state.inbox.acks.contains(id);
        if by == "moon" || acked {
            check::reduction(&mut state, key, by, now, KEPT);
        } else {
            state.unanswered += 1;
        }
        let summary =
            state.inbox.slots.get(&(key.clone(), Slot::Summary)).cloned().unwrap_or_else(|| "a summary".into());
        let session = state.sessions.get_mut(key).expect("a session of this world");
        let before = session.used;
        let after = before.unwrap_or(WINDOW) * share / 100;
        session.append(&serde_json::json!({ "type": "compaction", "id": id, "summary": summary }).to_string(), 0);
        (session.used, session.fresh, session.compacting) = (Some(after), true, None);
        session.last_activity = Some(at);
        session.last_compaction = Some((id.to_owned(), Compacted { tokens_before: before, tokens_after: Some(after) }));
        if by == "moon" {
            let done = crate::world::Reduction { session: key.clone(), kind: "compact", cycle };
            state.reductions.push(done);
        } else {
            state.own_compactions.push((key.clone(), now));
        }
        *state.happened.entry("compactions").or_default() += 1;
        state.inbox.say(at, key, BridgeEventKind::AfterCompaction);
        drop(state);
        self.ring_bridge();
        self.push(key);
    }

    /// The cycle of Moon's that is open for a session and may reduce it.
    pub(crate) fn open_cycle(&self, key: &SessionKey) -> Option<String> {
        use futures_util::FutureExt;
        use moon_actors::port::Ledger;
        let row = self.ledger.session(key).now_or_never().expect("the ledger in memory answers at once");
        row.expect("the ledger reads").and_then(|row| row.open_cycle).map(|cycle| cycle.0)
    }
}

fn changed(session: &SessionRef) -> Error {
    Error::conflict("host.changed", format!("{} has another transcript now", session.key))
}

fn busy(session: &SessionRef) -> Error {
    Error::transient("host.busy", format!("a turn is running in {}", session.key))
}

/// Whether an act on this session may begin now.
fn may_act(state: &State, session: &SessionRef) -> Result<()> {
    if !state.lead {
        return Err(Error::unavailable("host.scope", "Moon may only look"));
    }
    let now =
        state.sessions.get(&session.key).filter(|s| s.id == session.session_id).ok_or_else(|| changed(session))?;
    if now.running || now.held_busy || now.compacting.is_some() {
        return Err(busy(session));
    }
    Ok(())
}

#[async_trait]
impl SessionHost for World {
    fn name(&self) -> &'static str {
        "sim"
    }
    fn capabilities(&self) -> Capabilities {
        let state = self.state();
        Capabilities { push: true, compact: state.lead, reset: state.lead, inject: !state.inbox.dead }
    }
    fn describe(&self) -> String {
        "a simulated host".into()
    }
    fn subscribe(&self, bell: Doorbell) {
        self.state().host_bell = Some(bell);
    }
    async fn readings(&self) -> Result<Vec<UsageReading>> {
        self.act("host.readings", |state| Ok(state.shown.values().cloned().collect())).await
    }
    async fn refresh(&self) -> Result<Vec<UsageReading>> {
        let all: Vec<UsageReading> = {
            let state = self.state();
            let listed = state.sessions.iter().filter(|(key, _)| !state.unlisted.contains(*key));
            listed.map(|(key, session)| self.snapshot(key, session)).collect()
        };
        self.act("host.refresh", |state| {
            state.shown = all.iter().map(|r| (r.session.key.clone(), r.clone())).collect();
            Ok(all)
        })
        .await
    }

    async fn records(&self, session: &SessionRef, from: i64, max_bytes: usize) -> Result<Page> {
        let torn = self.dice.per_mille("host.torn", 200);
        self.act("host.records", |state| {
            let now = state.sessions.get(&session.key);
            let running = now.is_some_and(|s| s.running && s.id == session.session_id);
            let transcript = now.and_then(|s| s.transcripts.get(&session.session_id)).filter(|t| !t.gone);
            let transcript = transcript.ok_or_else(|| {
                Error::unavailable("host.session_gone", format!("no transcript {} is there", session.session_id))
            })?;
            let (mut records, mut bytes, mut more) = (Vec::new(), 0, false);
            for record in transcript.records.iter().filter(|r| r.seq >= from) {
                if !records.is_empty() && bytes + record.bytes.len() > max_bytes {
                    more = true;
                    break;
                }
                bytes += record.bytes.len();
                records.push(record.clone());
            }
            let source = SourceIdentity {
                kind: "sim".into(),
                location: "sim".into(),
                device: None,
                inode: None,
                schema: None,
                generation: Some(transcript.generation.to_string()),
            };
            Ok(Page { records, more, source, torn_bytes: if running && torn && !more { 17 } else { 0 }, revision: 0 })
        })
        .await
    }

    async fn compact(&self, session: &SessionRef) -> Result<Compacted> {
        tokio::time::sleep(Duration::from_millis(self.dice.between("compact.flight", 0, 200))).await;
        let mood = self.dice.next("compact.mood") % 1000;
        let stormy = self.state().weather.faults > 0;
        self.act("host.compact", |state| may_act(state, session)).await?;
        // Another request may have come in while the answer was on its way.
        may_act(&self.state(), session)?;
        let is_last_a_compaction = self.state().sessions[&session.key]
            .transcripts
            .get(&session.session_id)
            .and_then(|transcript| transcript.records.last())
            .is_some_and(|record| moon_actors::archive::transcript::is_compaction(&record.bytes));
        if is_last_a_compaction {
            // As the real gateway does (tests/bridge_real.rs).
            return Err(Error::conflict("host.nothing_to_compact", "already compacted"));
        }
        match mood {
            0..30 if stormy => return Err(Error::conflict("host.nothing_to_compact", "nothing to compact")),
            30..60 if stormy => return Err(Error::data("host.compact_refused", "the host refused")),
            60..90 if stormy => {
                self.note("empty yes");
                return Ok(Compacted::default());
            }
            _ => {}
        }
        let id = self.begin_compaction(&session.key, "moon");
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let done = self.state().sessions[&session.key].last_compaction.clone().filter(|(done, _)| *done == id);
            if let Some((_, compacted)) = done {
                return self.act("host.compacted", |_| Ok(compacted)).await;
            }
        }
    }

    async fn reset(&self, session: &SessionRef) -> Result<String> {
        let (at, now, cycle) = (self.time.now(), self.time.real_ms(), self.open_cycle(&session.key));
        let fresh_id = format!("id-{}", self.dice.next("session.id"));
        let answer = self
            .act("host.reset", |state| {
                may_act(state, session)?;
                check::reduction(state, &session.key, "reset", now, 0);
                check::map_in_place(state, &session.key, cycle.as_deref());
                let live = state.sessions.get_mut(&session.key).expect("checked above");
                live.append(&serde_json::json!({ "type": "reset", "reason": "new" }).to_string(), 0);
                live.lifecycle += 1;
                (live.used, live.fresh, live.last_activity) = (Some(1_500), true, Some(at));
                if live.renames {
                    live.id.clone_from(&fresh_id);
                    live.append(&format!(r#"{{"type":"session","id":"{fresh_id}"}}"#), 0);
                }
                let id = live.id.clone();
                state.reductions.push(crate::world::Reduction { session: session.key.clone(), kind: "reset", cycle });
                *state.happened.entry("resets").or_default() += 1;
                state.inbox.say(at, &session.key, BridgeEventKind::WindowEnding);
                Ok(id)
            })
            .await;
        self.ring_bridge();
        self.push(&session.key);
        answer
    }
}
