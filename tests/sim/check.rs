//! Judges who stand outside Moon: what was promised, compared with what the world holds.
//!
//! They read the world's own state and the ledger's audit, never Moon's opinion of itself. A broken promise is written down with
//! enough to find it again; nothing here changes the world.

use crate::world::{State, World, real_ms_of};
use moon_actors::alert::policy::{Ruling, rule};
use moon_actors::domain::{CycleKind, SessionKey, Stage};
use moon_actors::port::{AlertBook, AuditRow, Ledger, SegmentName, Slot};
use moon_actors::settings::Thresholds;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// An index that is lost, or emptied to be filled again, right behind a permit: the archive is all the same complete.
const MOMENT_MS: i64 = 20 * 60 * 1000;

/// At the moment of a reduction: every record but the newest `kept` is archived byte for byte and in the index.
pub(crate) fn reduction(state: &mut State, key: &SessionKey, by: &str, now_ms: i64, kept: usize) {
    let session = &state.sessions[key];
    let records = &session.transcripts[&session.id].records;
    let held = state.archive.holds(key, &session.id);
    let silent = &session.transcripts[&session.id].silently;
    let index_shaken = state.index.shaken_at.is_some_and(|at| now_ms - at < MOMENT_MS);
    let mut broken = Vec::new();
    for record in &records[..records.len().saturating_sub(kept)] {
        let copies = held.get(&record.seq).map(Vec::as_slice).unwrap_or_default();
        let same: Vec<_> = copies.iter().filter(|(copy, _)| **copy == *record.bytes).collect();
        let indexed = same.iter().any(|(_, m)| state.index.docs.contains(&SegmentName::from(*m)));
        // A compaction of the host's own waits for the archive only, and nobody compared; Moon's waits for the index as well.
        if same.is_empty() {
            if by != "host" || !silent.contains(&record.seq) {
                broken.push(format!("record {} of {key} was not archived", record.seq));
            }
        } else if !indexed && by != "host" && !index_shaken {
            broken.push(format!("record {} of {key} was not in the index", record.seq));
        }
    }
    if let Some(first) = broken.first() {
        let count = broken.len();
        state.violations.push(format!("at {now_ms} ms, reduced by {by}: {first} ({count} such records)"));
    }
}

/// At the moment of a reset: the map is written and lies where the next model call takes it from.
pub(crate) fn map_in_place(state: &mut State, key: &SessionKey, cycle: Option<&str>) {
    let placed = state.inbox.slots.contains_key(&(key.clone(), Slot::Context));
    let written = cycle.is_some_and(|cycle| state.memory.maps.keys().any(|path| path.contains(cycle)));
    if !placed || !written || state.inbox.dead {
        let dead = state.inbox.dead;
        state
            .violations
            .push(format!("{key} was reset without its map (placed {placed}, written {written}, bridge dead {dead})"));
    }
}

impl World {
    pub(crate) async fn audit(&self) -> Vec<AuditRow> {
        self.ledger.audit_rows(0, usize::MAX >> 1).await.expect("the ledger reads")
    }

    /// What must hold at every moment.
    pub(crate) async fn always(&self, thresholds: &Thresholds) -> Vec<String> {
        let mut broken = self.state().violations.clone();
        let rows = self.audit().await;
        match self.ledger.verify_audit().await.expect("the ledger reads") {
            Ok(n) if n as usize == rows.len() => {}
            other => broken.push(format!("the audit chain says {other:?} of {} rows", rows.len())),
        }
        broken.extend(order(&rows));
        broken.extend(self.once());
        broken.extend(self.really_done(&rows));
        broken.extend(self.storms(&rows, thresholds));
        broken
    }

    /// Never two reductions for one cycle, none without one, and each memory block once.
    fn once(&self) -> Vec<String> {
        let state = self.state();
        let (mut broken, mut seen) = (Vec::new(), HashSet::new());
        for done in &state.reductions {
            match &done.cycle {
                None => broken.push(format!("{} was reduced ({}) outside every cycle", done.session, done.kind)),
                Some(cycle) if !seen.insert(cycle.clone()) => {
                    broken.push(format!("{} was reduced twice for cycle {cycle}", done.session));
                }
                Some(_) => {}
            }
        }
        let mut keys = HashSet::new();
        for (day, blocks) in &state.memory.blocks {
            for key in blocks {
                if !keys.insert(key.clone()) {
                    broken.push(format!("the memory block {key} stands twice, again on {day}"));
                }
            }
        }
        broken
    }

    /// What the audit calls done, the host has really done. (A compaction of the host's own in the course of a prune will do.)
    fn really_done(&self, rows: &[AuditRow]) -> Vec<String> {
        let state = self.state();
        let done = rows.iter().filter(|r| r.entry.event == "succeeded" && r.entry.outcome == "ok");
        let reducing = done.filter(|r| match r.entry.stage {
            Some(Stage::Prune) => true,
            Some(Stage::Continuity) => r.entry.detail["rollover"] != "none",
            _ => false,
        });
        let mut broken = Vec::new();
        for row in reducing {
            let (Some(cycle), Some(session)) = (&row.entry.cycle, &row.entry.session) else { continue };
            let by_moon = state.reductions.iter().any(|r| r.cycle.as_deref() == Some(cycle.as_str()));
            let since = real_ms_of(cycle.as_str());
            let by_host = state.own_compactions.iter().any(|(key, at)| key == session && *at >= since);
            if !by_moon && !by_host {
                broken.push(format!(
                    "cycle {cycle} says that it reduced {session}, and nobody did: {}",
                    row.entry.message
                ));
            }
        }
        broken
    }

    /// No two triggers of one kind on one session within its cooldown, in real time. A wall clock that jumped forward while Moon
    /// was down has really passed for it, so that much is excused.
    fn storms(&self, rows: &[AuditRow], t: &Thresholds) -> Vec<String> {
        let lives = self.time.lives.lock().expect("no panic under this lock").clone();
        let jumped = |from: i64, to: i64| -> i64 {
            let within = lives.windows(2).filter(|pair| pair[1].0 > from && pair[1].0 <= to);
            within.map(|pair| (pair[1].1 - pair[0].1).max(0)).sum()
        };
        let mut last: HashMap<(String, String), i64> = HashMap::new();
        let mut broken = Vec::new();
        for row in rows.iter().filter(|r| r.entry.event == "triggered" && r.entry.actor == "threshold") {
            let kind = row.entry.detail["kind"].as_str().unwrap_or_default().to_owned();
            let cooldown = match CycleKind::parse(&kind) {
                Some(CycleKind::Archive) => t.archive_cooldown,
                Some(CycleKind::Prune) => t.prune_cooldown,
                Some(CycleKind::Distill | CycleKind::IdleDistill) => t.distill_cooldown,
                _ => Duration::ZERO,
            };
            let at = real_ms_of(row.entry.cycle.as_ref().expect("a trigger names its cycle").as_str());
            let session = row.entry.session.as_ref().map(ToString::to_string).unwrap_or_default();
            if let Some(before) = last.insert((session.clone(), kind.clone()), at)
                && at - before + jumped(before, at) < cooldown.as_millis() as i64
            {
                broken.push(format!("{kind} of {session} was triggered again after {} ms", at - before));
            }
        }
        broken
    }

    /// What must hold once the faults have stopped and the world is quiet.
    pub(crate) async fn settled(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for job in self.ledger.jobs(true).await.expect("the ledger reads") {
            if job.state != "quarantined" {
                broken.push(format!(
                    "{:?} of {} ({}) is still {}: {:?}",
                    job.stage, job.session, job.cycle, job.state, job.last_error
                ));
            }
        }
        for alert in self.ledger.alerts(true).await.expect("the ledger reads") {
            if !alert.key.rule.ends_with(".quarantined") {
                broken.push(format!(
                    "the alert {} of {} still fires: {}",
                    alert.key.rule, alert.key.subject, alert.message
                ));
            }
        }
        let settings = moon_actors::settings::Alerts::default();
        let book = self.ledger.book("sim", 0, 100, settings.cooldown).await.expect("the ledger reads");
        for (owed, ruling) in book.owed.iter().zip(rule(&book, &settings)) {
            if ruling == Ruling::Send {
                let key = &owed.alert.key;
                broken.push(format!("{:?} of {} of {} was never delivered", owed.phase, key.rule, key.subject));
            }
        }
        broken.extend(self.everything_is_archived().await);
        broken
    }

    async fn everything_is_archived(&self) -> Vec<String> {
        let segments = self.ledger.all_segments().await.expect("the ledger reads");
        let known: HashSet<_> = segments.iter().map(|s| s.manifest_sha256.clone()).collect();
        let mut broken = Vec::new();
        for segment in &segments {
            if let Err(error) = moon_actors::port::ArchiveStore::verify(self, segment).await {
                broken.push(format!("a row of the ledger points at nothing good: {error}"));
            }
            let m = &segment.manifest;
            if !self.state().index.docs.contains(&SegmentName::from(m)) {
                broken.push(format!("segment {} of {} is not in the index", segment.id, m.session_key));
            }
        }
        drop(known);
        let state = self.state();
        for (key, session) in &state.sessions {
            for (id, transcript) in session.transcripts.iter().filter(|(_, t)| !t.gone) {
                let held = state.archive.holds(key, id);
                for record in &transcript.records {
                    let copies = held.get(&record.seq).map(Vec::as_slice).unwrap_or_default();
                    let there = copies.iter().any(|(copy, _)| **copy == *record.bytes);
                    if !there && !transcript.silently.contains(&record.seq) {
                        broken.push(format!(
                            "record {} of {} of {key} ({id}) was never archived: {:.60}",
                            record.seq,
                            transcript.records.len(),
                            String::from_utf8_lossy(&record.bytes)
                        ));
                    }
                }
            }
        }
        broken
    }
}

/// Within each cycle: archive before index before prune or distil before continuity, and each done at most once.
fn order(rows: &[AuditRow]) -> Vec<String> {
    let mut done: BTreeMap<String, Vec<Stage>> = BTreeMap::new();
    let mut broken = Vec::new();
    for row in rows.iter().filter(|r| matches!(r.entry.event.as_str(), "succeeded" | "skipped")) {
        let (Some(cycle), Some(stage)) = (&row.entry.cycle, row.entry.stage) else { continue };
        let before = done.entry(cycle.to_string()).or_default();
        if before.last().is_some_and(|last| *last >= stage) {
            broken.push(format!("cycle {cycle} did {stage:?} after {before:?}"));
        }
        if stage >= Stage::Prune && !(before.contains(&Stage::Archive) && before.contains(&Stage::Index)) {
            broken.push(format!("cycle {cycle} did {stage:?} after only {before:?}"));
        }
        before.push(stage);
    }
    broken
}
