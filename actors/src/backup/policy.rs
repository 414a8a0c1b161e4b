//! Which backups are kept. Pure: their times and the clock's answers come in as values.
//!
//! All of the last days are kept, then the oldest verified one of each week, then the oldest verified one of each month. The oldest,
//! because it stays the oldest: tomorrow's look chooses the same one, and the day after that, until its time is over. A marker that
//! moves from day to day would remove everything in the end.

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use std::collections::BTreeMap;
use std::fmt;

/// A backup as the policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub id: String,
    pub at: DateTime<Utc>,
    pub is_verified: bool,
}

/// How long backups are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// All of this long.
    pub daily: TimeDelta,
    /// Then one a week, up to this age.
    pub weekly: TimeDelta,
    /// Then one a month, up to this age.
    pub monthly: TimeDelta,
    /// What usually lies between two looks: the calendar's period, zero without one.
    pub usual: TimeDelta,
}

/// A look that comes this much later than usual may be one through a clock that jumped.
const JUMP: TimeDelta = TimeDelta::days(1);

/// Why one is kept, or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    Newest,
    NewestVerified,
    Recent,
    /// Year and week, as ISO 8601 counts them.
    OfWeek(i32, u32),
    /// Year and month.
    OfMonth(i32, u32),
    /// Would go, were the clock trusted.
    Held,
    /// The other one stands for its week.
    WeekHas(String),
    /// The other one stands for its month.
    MonthHas(String),
    TooOld,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("the newest"),
            Self::NewestVerified => f.write_str("the newest verified one"),
            Self::Recent => f.write_str("recent"),
            Self::OfWeek(year, week) => write!(f, "stands for week {year}-W{week:02}"),
            Self::OfMonth(year, month) => write!(f, "stands for {year}-{month:02}"),
            Self::Held => f.write_str("would go, but the clock is in doubt"),
            Self::WeekHas(id) => write!(f, "its week is kept as {id}"),
            Self::MonthHas(id) => write!(f, "its month is kept as {id}"),
            Self::TooOld => f.write_str("older than anything is kept"),
        }
    }
}

/// What becomes of one, and why. Never without a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub id: String,
    pub keep: bool,
    pub reasons: Vec<Reason>,
}

/// Why nothing is removed this time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// There is a backup from the future.
    BeforeNewest { newest: DateTime<Utc> },
    /// The clock stands before the last look.
    BeforeLastLook { last: DateTime<Utc> },
    /// Much more time went by since the last look than should have.
    Jumped { last: DateTime<Utc> },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeforeNewest { newest } => {
                write!(f, "the clock stands before the newest backup ({newest}): nothing is removed")
            }
            Self::BeforeLastLook { last } => {
                write!(f, "the clock stands before the last look ({last}): nothing is removed")
            }
            Self::Jumped { last } => {
                write!(f, "the last look was unusually long ago ({last}): nothing is removed until the next one")
            }
        }
    }
}

/// What becomes of all of them, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub verdicts: Vec<Verdict>,
    pub doubt: Option<Doubt>,
}

impl Plan {
    pub fn deleted(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| !verdict.keep)
    }
}

/// Decides over all backups of one place.
pub fn retain(backups: &[Candidate], now: DateTime<Utc>, last_look: Option<DateTime<Utc>>, rules: &Rules) -> Plan {
    let mut all: Vec<&Candidate> = backups.iter().collect();
    all.sort_by(|a, b| (b.at, &b.id).cmp(&(a.at, &a.id)));
    let doubt = doubt(&all, now, last_look, rules);
    let newest = all.first().map(|b| b.id.as_str());
    let newest_verified = all.iter().find(|b| b.is_verified).map(|b| b.id.as_str());
    let (weeks, months) = (standing(&all, week), standing(&all, month));
    let verdict = |backup: &&Candidate| {
        let mut reasons = Vec::new();
        reasons.extend((newest == Some(&backup.id)).then_some(Reason::Newest));
        reasons.extend((newest_verified == Some(&backup.id)).then_some(Reason::NewestVerified));
        let by_age = by_age(backup, now - backup.at, rules, weeks[&week(backup.at)], months[&month(backup.at)]);
        let is_kept = matches!(by_age, Reason::Recent | Reason::OfWeek(..) | Reason::OfMonth(..));
        let keep = is_kept || !reasons.is_empty();
        if is_kept || !keep {
            reasons.push(by_age);
        }
        if !keep && doubt.is_some() {
            reasons.insert(0, Reason::Held);
        }
        Verdict { id: backup.id.clone(), keep: keep || doubt.is_some(), reasons }
    };
    Plan { verdicts: all.iter().map(verdict).collect(), doubt }
}

fn by_age(backup: &Candidate, age: TimeDelta, rules: &Rules, of_week: &str, of_month: &str) -> Reason {
    if age <= rules.daily {
        return Reason::Recent;
    }
    if age <= rules.weekly {
        let (year, week) = week(backup.at);
        return if of_week == backup.id { Reason::OfWeek(year, week) } else { Reason::WeekHas(of_week.into()) };
    }
    if age <= rules.monthly {
        let (year, month) = month(backup.at);
        return if of_month == backup.id { Reason::OfMonth(year, month) } else { Reason::MonthHas(of_month.into()) };
    }
    Reason::TooOld
}

/// Which backup stands for each week or month: the oldest verified one, the oldest if none is.
fn standing<'a>(
    newest_first: &[&'a Candidate],
    part: fn(DateTime<Utc>) -> (i32, u32),
) -> BTreeMap<(i32, u32), &'a str> {
    let mut chosen: BTreeMap<(i32, u32), &Candidate> = BTreeMap::new();
    for backup in newest_first.iter().rev() {
        let holder = chosen.entry(part(backup.at)).or_insert(backup);
        if backup.is_verified && !holder.is_verified {
            *holder = backup;
        }
    }
    chosen.into_iter().map(|(part, backup)| (part, backup.id.as_str())).collect()
}

fn week(at: DateTime<Utc>) -> (i32, u32) {
    (at.iso_week().year(), at.iso_week().week())
}

fn month(at: DateTime<Utc>) -> (i32, u32) {
    (at.year(), at.month())
}

fn doubt(
    newest_first: &[&Candidate],
    now: DateTime<Utc>,
    last_look: Option<DateTime<Utc>>,
    rules: &Rules,
) -> Option<Doubt> {
    if let Some(newest) = newest_first.first().filter(|newest| now < newest.at) {
        return Some(Doubt::BeforeNewest { newest: newest.at });
    }
    let last = last_look?;
    if now < last {
        return Some(Doubt::BeforeLastLook { last });
    }
    (now - last > rules.usual + JUMP).then_some(Doubt::Jumped { last })
}

#[cfg(test)]
mod tests;
