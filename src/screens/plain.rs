//! `moon status`: one screen of text, trouble first. Made to fit 24 lines of 80 characters while all is well.

use super::view::{Level, State, View};
use crate::cli::output::table;
use moon_actors::contract::count;

/// Troubles and sessions that are shown before they are counted.
const MOST_TROUBLES: usize = 6;
const MOST_SESSIONS: usize = 8;
const BAR: usize = 20;
/// Characters of a session's key.
const LONGEST_KEY: usize = 34;

/// The lines of the screen. Troubles are the report's issues and stand elsewhere.
pub fn lines(view: &View) -> Vec<String> {
    let mut lines = vec![
        format!("moon {}  {}  {}", view.version, view.word, view.home),
        format!("daemon    {}", view.said),
        format!("host      {}", view.host.as_deref().unwrap_or("nobody is connected")),
    ];
    if !view.mode.is_empty() {
        lines.push(format!("mode      {}", view.mode));
    }
    lines.push(String::new());
    lines.extend(sessions(view));
    lines.push(String::new());
    lines.push(format!("pipeline  {}", pipeline(view)));
    lines.push(format!("health    {}", health(view)));
    lines.push(format!("backups   {}", backups(view)));
    lines.push(format!("alerts    {}", alerts(view)));
    lines.extend(view.totals.iter().map(|fact| format!("{:<9} {}", fact.name, fact.value)));
    let costs: Vec<String> = view.costs.iter().map(|fact| format!("{} {}", fact.name, fact.value)).collect();
    lines.extend(wrapped("costs", &costs));
    lines
}

/// Words behind a name, in lines of at most 80 characters.
fn wrapped(name: &str, parts: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + part.chars().count() + 2 <= 79 => {
                line.push_str(", ");
                line.push_str(part);
            }
            Some(_) => lines.push(format!("{:<9} {part}", "")),
            None => lines.push(format!("{name:<9} {part}")),
        }
    }
    lines
}

fn sessions(view: &View) -> Vec<String> {
    if view.sessions.is_empty() {
        return vec!["no sessions seen yet".into()];
    }
    let row = |s: &super::view::Session| {
        vec![
            shortened(&s.key, LONGEST_KEY),
            bar(s.ratio, &view.thresholds),
            format!("{}{}", s.percent, if s.stale { " stale" } else { "" }),
            s.state.clone(),
            format!("{} ago", s.age),
        ]
    };
    let rows: Vec<Vec<String>> = view.sessions.iter().take(MOST_SESSIONS).map(row).collect();
    let mut lines = table(&["SESSION", "", "USED", "STATE", "SEEN"], &rows);
    let more = view.sessions.len().saturating_sub(MOST_SESSIONS);
    if more > 0 {
        lines.push(format!("and {more} more: `moon sessions`"));
    }
    lines
}

/// Twenty characters with the thresholds as marks in what is still free.
fn bar(ratio: Option<f64>, thresholds: &[f64; 3]) -> String {
    let at = |share: f64| ((share * BAR as f64).round() as usize).min(BAR);
    let filled = ratio.map_or(0, at);
    let is_mark = |cell: usize| thresholds.iter().any(|t| at(*t).saturating_sub(1) == cell);
    let cell = |n: usize| match () {
        () if n < filled => '#',
        () if is_mark(n) => '|',
        () => '.',
    };
    format!("[{}]", (0..BAR).map(cell).collect::<String>())
}

/// A key that leaves room for the other columns; JSON has it whole.
pub fn shortened(key: &str, longest: usize) -> String {
    let length = key.chars().count();
    if length <= longest {
        return key.to_owned();
    }
    let head = longest * 2 / 3;
    let tail = longest - head - 1;
    key.chars().take(head).chain(['…']).chain(key.chars().skip(length - tail)).collect()
}

/// Stages with something to say.
pub fn pipeline(view: &View) -> String {
    if view.stages.is_empty() {
        return "not known".into();
    }
    let mut parts = Vec::new();
    for stage in &view.stages {
        let mut said = Vec::new();
        for (number, what) in [(stage.claimed, "at work"), (stage.waiting, "waiting"), (stage.failed, "set aside")] {
            if number > 0 {
                said.push(format!("{number} {what}"));
            }
        }
        if !said.is_empty() {
            parts.push(format!("{} {}", stage.name, said.join(", ")));
        }
    }
    if !parts.is_empty() {
        return parts.join("; ");
    }
    let last = view.stages.first().map_or("never", |archive| archive.last_done.as_str());
    format!("nothing waits; last archived {last}")
}

pub fn health(view: &View) -> String {
    let all = view.checks.len();
    match (view.verdict, view.state) {
        (None, _) => "not known".into(),
        (_, State::Live) if all == 0 => "the first checks are under way".into(),
        _ if all == 0 => "nothing was checked yet".into(),
        (Some(verdict), _) => {
            let ok = view.checks.iter().filter(|check| check.level == Level::Ok).count();
            let said = format!("{}: {ok} of {} ok", verdict.word(), count(all, "check"));
            match (&view.checked, view.state) {
                (None, _) => said,
                (Some(ago), State::Stale) => format!("the daemon does not answer; {ago} {said}"),
                (Some(ago), _) => format!("no daemon runs; {ago} {said}"),
            }
        }
    }
}

pub fn backups(view: &View) -> String {
    match view.backups.as_ref().and_then(|facts| facts.first()) {
        Some(newest) => format!("{}: {}", newest.name, newest.value),
        None => "not known".into(),
    }
}

pub fn alerts(view: &View) -> String {
    let Some(alerts) = &view.alerts else { return "not known".into() };
    let firing = alerts.iter().filter(|alert| alert.firing).count();
    match alerts.len() {
        0 => "none in the last 24 hours".into(),
        n => format!("{n} in the last 24 hours, {firing} of them firing"),
    }
}

/// The troubles as sentences, and how many more there are.
pub fn troubles(view: &View) -> Vec<(String, Option<String>)> {
    let said = |trouble: &super::view::Trouble| {
        let age = trouble.age.as_ref().map_or(String::new(), |age| format!(" (for {age})"));
        (format!("{}: {}{age}", trouble.level.word(), trouble.text), trouble.hint.clone())
    };
    let mut all: Vec<_> = view.troubles.iter().take(MOST_TROUBLES).map(said).collect();
    let more = view.troubles.len().saturating_sub(MOST_TROUBLES);
    if more > 0 {
        all.push((format!("and {more} more"), Some("`moon dashboard` shows all".into())));
    }
    all
}

/// A sentence for a screen without a living daemon, so that nobody takes old figures for new ones.
pub fn caution(view: &View) -> Option<String> {
    match view.state {
        State::Live => None,
        State::NeverStarted => Some("no daemon has ever run here: `moon start` starts one".into()),
        _ => Some("not live: this is what the ledger holds".into()),
    }
}
