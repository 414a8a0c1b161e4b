//! What a route is sent now, what is held back, what goes into a digest. Pure.
//!
//! A firing notice waits out the cooldown of its rule and subject, and a silence. A route is sent so many notices within an hour
//! and no more; the worst go first, the last ones are kept for what is critical, the rest is counted in one digest. That something
//! has ended is told exactly where it was told that it began, whatever the cooldown and the silence say.

use crate::error::{Error, Kind};
use crate::port::{AlertKey, Book, Digests, Entry, Fate, Owed, Phase, Severity};
use crate::settings::{Alerts, Supervision};
use crate::stage::policy::pause;
use std::collections::HashMap;
use std::time::Duration;

/// The alert about a route that does not deliver; its subject is the route.
pub const UNDELIVERED: &str = "alert.undelivered";

/// What `per_hour` is counted over, and the shortest time between two digests.
pub const HOUR: Duration = Duration::from_secs(3600);
/// Of an hour's notices so many, and never more than half, are for critical alerts only: however many warnings came before, one
/// that is critical does not wait for a digest.
const RESERVE: usize = 2;
/// A digest waits this long for more of what came too fast.
pub const GATHER: Duration = Duration::from_secs(60);
/// Failures in a row before the other routes are told of it.
const PATIENCE: u32 = 3;
/// Most lines of a digest.
pub const DIGEST_LINES: usize = 20;

/// Why something is not sent. The first two stand in the log behind `suppressed - `.
pub const COOLDOWN: &str = "cooldown active";
pub const RATE: &str = "hourly limit reached";
pub const SILENCED: &str = "silenced";
pub const NOT_TOLD: &str = "its beginning was not told";
const IN_DIGEST: &str = "its beginning was told in a digest";
const OWN: &str = "about this route";
const UNWANTED: &str = "not for this route";
const OVER: &str = "acknowledged or over";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    Send,
    /// Held in a record instead of being sent.
    Note(&'static str),
    /// Not now; it is asked about again.
    Hold(&'static str, Option<Duration>),
    /// Into the digest, which waits this long at most once it may go out.
    Digest(&'static str, Duration),
    Drop(&'static str),
}

/// Decides about every notice of the book, in its order.
pub fn rule(book: &Book, settings: &Alerts) -> Vec<Ruling> {
    let mut rulings: Vec<Ruling> = Vec::with_capacity(book.owed.len());
    // Of this pass: what was decided about an instance's beginning, and how bad what is about to be sent of a key is.
    let mut begun: HashMap<i64, Ruling> = HashMap::new();
    let mut told: HashMap<&AlertKey, Severity> = HashMap::new();
    for owed in &book.owed {
        let firing = owed.firing.map(after).or_else(|| begun.get(&owed.alert.id).copied());
        let ruling = match owed.phase {
            _ if owed.alert.key.rule == UNDELIVERED && owed.alert.key.subject == book.route => Ruling::Drop(OWN),
            _ if !owed.is_wanted => Ruling::Drop(UNWANTED),
            _ if book.under_way == Some(owed.notice) => Ruling::Send,
            Phase::Firing => {
                let again = told.get(&owed.alert.key).is_some_and(|severity| *severity >= owed.alert.severity);
                beginning(owed, again, settings)
            }
            Phase::Escalated => escalation(owed, firing),
            Phase::Resolved => end(firing, settings),
        };
        if owed.phase == Phase::Firing {
            begun.insert(owed.alert.id, ruling);
            if ruling == Ruling::Send {
                let worst = told.entry(&owed.alert.key).or_insert(owed.alert.severity);
                *worst = (*worst).max(owed.alert.severity);
            }
        }
        rulings.push(ruling);
    }
    limit(book, settings, &mut rulings);
    rulings
}

/// The same for a record, which is given what people are not.
pub fn for_record(ruling: Ruling) -> Ruling {
    match ruling {
        Ruling::Hold(why, _) | Ruling::Digest(why, _) => Ruling::Note(why),
        Ruling::Drop(why) if [SILENCED, NOT_TOLD].contains(&why) => Ruling::Note(why),
        other => other,
    }
}

fn after(fate: Fate) -> Ruling {
    match fate {
        Fate::Sent => Ruling::Send,
        Fate::Digested => Ruling::Digest(IN_DIGEST, Duration::ZERO),
        Fate::Noted | Fate::Dropped | Fate::Failed => Ruling::Drop(NOT_TOLD),
    }
}

fn beginning(owed: &Owed, told_in_this_pass: bool, settings: &Alerts) -> Ruling {
    let is_over = owed.alert.resolved_at.is_some();
    if owed.is_silenced {
        return if is_over { Ruling::Drop(SILENCED) } else { Ruling::Hold(SILENCED, None) };
    }
    let left = if told_in_this_pass {
        settings.cooldown
    } else {
        owed.last_told.map_or(Duration::ZERO, |age| settings.cooldown.saturating_sub(age))
    };
    match left {
        Duration::ZERO => Ruling::Send,
        // It came and went while nobody wanted to hear of it: counted, and told with others.
        _ if is_over => Ruling::Digest(COOLDOWN, settings.cooldown),
        left => Ruling::Hold(COOLDOWN, Some(left)),
    }
}

fn escalation(owed: &Owed, firing: Option<Ruling>) -> Ruling {
    if owed.is_acknowledged || owed.alert.resolved_at.is_some() {
        return Ruling::Drop(OVER);
    }
    match firing {
        _ if owed.is_silenced => Ruling::Hold(SILENCED, None),
        Some(Ruling::Send | Ruling::Digest(..)) => Ruling::Send,
        Some(Ruling::Drop(_) | Ruling::Note(_)) => Ruling::Drop(NOT_TOLD),
        Some(Ruling::Hold(..)) | None => Ruling::Hold(NOT_TOLD, None),
    }
}

/// Silence and cooldown hold back no good news about what was told.
fn end(firing: Option<Ruling>, settings: &Alerts) -> Ruling {
    match firing {
        Some(Ruling::Send) => Ruling::Send,
        Some(Ruling::Digest(..)) => Ruling::Digest(IN_DIGEST, settings.cooldown),
        Some(Ruling::Drop(_) | Ruling::Note(_)) => Ruling::Drop(NOT_TOLD),
        Some(Ruling::Hold(..)) | None => Ruling::Hold(NOT_TOLD, None),
    }
}

/// Of so many notices an hour, those that only critical alerts may take.
pub fn reserve(per_hour: usize) -> usize {
    RESERVE.min(per_hour / 2)
}

/// Leaves what may still be sent within the hour, the worst of it; the rest goes into the digest.
fn limit(book: &Book, settings: &Alerts, rulings: &mut [Ruling]) {
    let per_hour = settings.per_hour as usize;
    let mut sent = book.sent.iter().filter(|age| **age < HOUR).count();
    let is_under_way = |at: usize| book.under_way == Some(book.owed[at].notice);
    let mut wished: Vec<usize> = (0..rulings.len()).filter(|at| rulings[*at] == Ruling::Send).collect();
    // Bad news before good news: an end, which is as severe as its beginning, is never sent without it and takes no other's place.
    wished.sort_by_key(|at| {
        let owed = &book.owed[*at];
        (!is_under_way(*at), std::cmp::Reverse(owed.alert.severity), owed.phase == Phase::Resolved, *at)
    });
    for at in wished {
        let may_use_all = book.owed[at].alert.severity == Severity::Critical || is_under_way(at);
        let most = if may_use_all { per_hour } else { per_hour - reserve(per_hour) };
        if sent < most {
            sent += 1;
        } else {
            rulings[at] = Ruling::Digest(RATE, GATHER);
        }
    }
}

/// When the open digest goes out: after it has gathered, and an hour after the last one. `None`: there is none.
pub fn digest_in(digests: &Digests) -> Option<Duration> {
    let (age, patience) = digests.open?;
    let hour = digests.last_sent.map_or(Duration::ZERO, |age| HOUR.saturating_sub(age));
    Some(patience.saturating_sub(age).max(hour))
}

/// A notice as one line of a digest.
pub fn entry(owed: &Owed, why: &'static str, patience: Duration) -> Entry {
    let title = super::rules::title(&owed.alert.key.rule);
    let state = match owed.phase {
        Phase::Resolved => "RESOLVED".to_owned(),
        Phase::Firing | Phase::Escalated => owed.alert.severity.as_str().to_uppercase(),
    };
    let line = format!("[{state}] {title} - {}", short(&owed.alert.message));
    Entry { notice: owed.notice, severity: owed.alert.severity, made_at: owed.made_at, line, why, patience }
}

/// A line of a digest is read at a glance.
fn short(message: &str) -> String {
    const LONGEST: usize = 200;
    match message.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &message[..at]),
        None => message.to_owned(),
    }
}

/// What follows from a failed delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setback {
    pub is_given_up: bool,
    pub pause: Duration,
    pub alarm: bool,
}

/// `failures` counts those in a row before this one. What the world may mend is tried again, with growing pauses; what the route
/// refuses is not.
pub fn setback(error: &Error, failures: u32, settings: &Supervision) -> Setback {
    let is_given_up = !matches!(error.kind, Kind::Transient | Kind::Unavailable);
    let pause = if is_given_up { Duration::ZERO } else { pause(error, failures, settings) };
    Setback { is_given_up, pause, alarm: is_given_up || failures + 1 >= PATIENCE }
}

#[cfg(test)]
mod tests;
