//! The status document as what a person is shown: typed, in words, trouble first.
//!
//! Foreign text loses here what a terminal obeys; a page escapes once more for HTML. What the document does not know stays `None`,
//! and the screens say "not known".

use crate::cli::output::{escape, size};
use chrono::{DateTime, Local, Utc};
use moon_actors::contract::count;
use moon_actors::domain::Stage;
use moon_actors::supervisor::{ChildStatus, Phase};
use serde::Serialize;
use serde_json::Value;

/// How much the screens may believe what they show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Live,
    /// It holds the home and does not answer.
    Stale,
    /// A command holds the home; no daemon runs.
    Busy,
    /// It ended without an orderly stop.
    Dead,
    Stopped,
    NeverStarted,
}

impl State {
    pub fn of(text: &str) -> Self {
        match text {
            "live" => Self::Live,
            "stale" => Self::Stale,
            "busy" => Self::Busy,
            "dead" => Self::Dead,
            "stopped" => Self::Stopped,
            _ => Self::NeverStarted,
        }
    }
    /// In a word or two.
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Busy => "no daemon",
            Self::Dead => "daemon dead",
            Self::Stopped => "stopped",
            Self::NeverStarted => "never started",
        }
    }
    pub fn level(self) -> Level {
        match self {
            Self::Live => Level::Ok,
            Self::Stale | Self::Busy | Self::Stopped | Self::NeverStarted => Level::Warning,
            Self::Dead => Level::Critical,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    Info,
    Unknown,
    Warning,
    Critical,
}

impl Level {
    pub fn of(text: &str) -> Self {
        match text {
            "ok" => Self::Ok,
            "info" => Self::Info,
            "warning" => Self::Warning,
            "critical" => Self::Critical,
            _ => Self::Unknown,
        }
    }
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
    /// One mark, for those who see no colours.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Ok => "\u{2713}",
            Self::Info => "i",
            Self::Unknown => "?",
            Self::Warning => "!",
            Self::Critical => "\u{2717}",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Trouble {
    pub level: Level,
    pub text: String,
    pub hint: Option<String>,
    /// How long already.
    pub age: Option<String>,
    pub silenced: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Session {
    pub key: String,
    pub ratio: Option<f64>,
    /// `61.3 %`, or `?`.
    pub percent: String,
    pub tokens: String,
    pub state: String,
    pub running: bool,
    pub stale: bool,
    pub age: String,
    pub prunes: u64,
    pub undistilled: u64,
    /// Of the thresholds: 0 below all, 3 above the last.
    pub crossed: usize,
    pub day: Vec<Option<f64>>,
    pub quarter: Vec<Option<f64>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct StageRow {
    pub name: &'static str,
    pub waiting: i64,
    pub claimed: i64,
    pub failing: i64,
    pub failed: i64,
    pub last_done: String,
    pub level: Level,
}

#[derive(Clone, Debug, Serialize)]
pub struct ActorRow {
    pub depth: usize,
    pub name: String,
    pub phase: &'static str,
    pub restarts: u64,
    pub since: String,
    pub error: String,
    pub level: Level,
}

#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: String,
    pub level: Level,
    pub reason: String,
    pub age: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct PastAlert {
    pub level: Level,
    pub rule: String,
    pub subject: String,
    pub text: String,
    pub age: String,
    pub firing: bool,
}

/// A name and what is said of it.
#[derive(Clone, Debug, Serialize)]
pub struct Fact {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct View {
    pub state: State,
    pub word: &'static str,
    pub level: Level,
    /// The sentence about the daemon.
    pub said: String,
    pub generated: String,
    pub version: String,
    pub home: String,
    pub host: Option<String>,
    /// The mode and what is known of the bridge; empty: neither is.
    pub mode: String,
    pub thresholds: [f64; 3],
    pub troubles: Vec<Trouble>,
    pub sessions: Vec<Session>,
    /// Empty: not known.
    pub stages: Vec<StageRow>,
    pub actors: Vec<ActorRow>,
    pub verdict: Option<Level>,
    pub checks: Vec<Check>,
    /// How long ago the newest of them was made; `None` while a daemon makes them.
    pub checked: Option<String>,
    pub alerts: Option<Vec<PastAlert>>,
    pub backups: Option<Vec<Fact>>,
    pub chores: Option<Vec<Fact>>,
    pub costs: Vec<Fact>,
    pub totals: Vec<Fact>,
}

/// Sessions on a screen; the rest is counted.
pub const MOST_SESSIONS: usize = 200;

impl View {
    pub fn of(document: &Value) -> Self {
        let d = document;
        let now = time(&d["generated_at"]).unwrap_or_else(Utc::now);
        let state = State::of(d["liveness"]["state"].as_str().unwrap_or_default());
        let thresholds = ["archive", "prune", "distill"].map(|name| d["thresholds"][name].as_f64().unwrap_or(1.0));
        let actors = actors(&d["tree"]);
        let checks = checks(&d["health"], now);
        let mut view = Self {
            state,
            word: state.word(),
            level: state.level(),
            said: headline(d, state, now),
            generated: now.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string(),
            version: text(&d["moon"]).unwrap_or_else(|| env!("CARGO_PKG_VERSION").into()),
            home: text(&d["home"]).unwrap_or_default(),
            host: text(&d["host"]["description"]).filter(|_| matches!(state, State::Live | State::Stale)),
            mode: mode(d),
            thresholds,
            troubles: Vec::new(),
            sessions: sessions(d, &thresholds),
            stages: stages(&d["pipeline"], now),
            actors,
            verdict: d["health"]["verdict"].as_str().filter(|_| d["health"]["error"].is_null()).map(Level::of),
            checks,
            checked: checked(&d["health"], now).filter(|_| state != State::Live),
            alerts: d["recent_alerts"].as_array().map(|all| all.iter().map(|a| past_alert(a, now)).collect()),
            backups: backups(&d["backups"], now),
            chores: d["chores"].as_array().map(|all| all.iter().map(|c| chore(c, now)).collect()),
            costs: costs(&d["resources"], state),
            totals: totals(&d["totals"]),
        };
        view.troubles = troubles(d, &view, now);
        view
    }

    /// The worst of everything.
    pub fn worst(&self) -> Level {
        self.troubles.iter().map(|t| t.level).max().unwrap_or(Level::Ok).max(self.level)
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(escape)
}

fn time(value: &Value) -> Option<DateTime<Utc>> {
    value.as_str()?.parse().ok()
}

/// Two units at most: `3d 4h`, `1h 12m`, `5s`; what lies ahead is now.
pub fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let units = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = units.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    let told = units.iter().skip(first).take(2).filter(|(n, _)| *n > 0 || first == 3);
    told.map(|(n, unit)| format!("{n}{unit}")).collect::<Vec<_>>().join(" ")
}

fn ago(at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<String> {
    at.map(|at| format!("{} ago", span((now - at).num_seconds())))
}

fn mode(d: &Value) -> String {
    let bridge = text(&d["bridge"]["detail"]).map(|detail| format!("bridge: {detail}"));
    text(&d["mode"]).into_iter().chain(bridge).collect::<Vec<_>>().join("; ")
}

fn headline(d: &Value, state: State, now: DateTime<Utc>) -> String {
    let live = &d["liveness"];
    let pid = live["pid"].as_u64().map_or(String::new(), |pid| format!(", pid {pid}"));
    let since = time(&live["since"]).map(|at| span((now - at).num_seconds()));
    let beat = ago(time(&live["heartbeat_at"]), now).map_or(String::new(), |ago| format!("; last heartbeat {ago}"));
    let said = text(&live["said"]).unwrap_or_default();
    match state {
        State::Live => format!("running{pid}{}", since.map_or(String::new(), |up| format!(", up {up}"))),
        State::Stale => format!("{said}{pid}{beat}"),
        State::Busy => format!("not running: {said}{pid}"),
        State::Dead => format!("{said}{beat}"),
        State::Stopped => format!("{said}{}", since.map_or(String::new(), |ago| format!(", {ago} ago"))),
        State::NeverStarted => "never started in this home".into(),
    }
}

fn sessions(d: &Value, thresholds: &[f64; 3]) -> Vec<Session> {
    let tracks = d["usage_history"].as_array().map(Vec::as_slice).unwrap_or_default();
    let cells = |track: Option<&Value>, name: &str| -> Vec<Option<f64>> {
        track.and_then(|t| t[name].as_array()).into_iter().flatten().map(Value::as_f64).collect()
    };
    let mut all: Vec<Session> = Vec::new();
    for s in d["sessions"].as_array().into_iter().flatten() {
        let usage = &s["usage"];
        let ratio = usage["usage_ratio"].as_f64();
        let track = tracks.iter().find(|track| track["session"] == s["key"]);
        let number = |v: &Value| v.as_u64().map_or("?".into(), short);
        let running = s["running"].as_bool() == Some(true);
        all.push(Session {
            key: text(&s["key"]).unwrap_or_else(|| "?".into()),
            ratio,
            percent: ratio.map_or("?".into(), |r| format!("{:.1} %", r * 100.0)),
            tokens: format!("{}/{}", number(&usage["used_tokens"]), number(&usage["max_tokens"])),
            state: if running { "Running".into() } else { text(&s["phase"]).unwrap_or_else(|| "?".into()) },
            running,
            stale: s["stale"].as_bool() == Some(true),
            age: span(s["age_seconds"].as_i64().unwrap_or(0)),
            prunes: s["prunes_since_rollover"].as_u64().unwrap_or(0),
            undistilled: s["undistilled"].as_u64().unwrap_or(0),
            crossed: thresholds.iter().filter(|threshold| ratio.is_some_and(|r| r >= **threshold)).count(),
            day: cells(track, "day"),
            quarter: cells(track, "quarter"),
        });
    }
    all.sort_by(|a, b| b.ratio.unwrap_or(-1.0).total_cmp(&a.ratio.unwrap_or(-1.0)).then_with(|| a.key.cmp(&b.key)));
    all
}

/// `19540` as `19.5k`.
pub fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.1}k", number as f64 / 1e3),
        _ => format!("{:.1}M", number as f64 / 1e6),
    }
}

fn stages(pipeline: &Value, now: DateTime<Utc>) -> Vec<StageRow> {
    let rows = pipeline.as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |stage: Stage| {
        let found = rows.iter().find(|row| row["stage"] == stage.as_str())?;
        let number = |key: &str| found[key].as_i64().unwrap_or(0);
        let (failing, failed) = (number("failing"), number("failed"));
        Some(StageRow {
            name: stage.as_str(),
            waiting: number("waiting"),
            claimed: number("claimed"),
            failing,
            failed,
            last_done: ago(time(&found["last_done"]), now).unwrap_or_else(|| "never".into()),
            level: match (failed, failing) {
                (1.., _) => Level::Critical,
                (_, 1..) => Level::Warning,
                _ => Level::Ok,
            },
        })
    };
    Stage::ALL.into_iter().filter_map(row).collect()
}

fn actors(tree: &Value) -> Vec<ActorRow> {
    fn below(children: &[ChildStatus], depth: usize, rows: &mut Vec<ActorRow>) {
        for child in children {
            let (phase, level) = match child.phase {
                Phase::Up => ("up", Level::Ok),
                Phase::Waiting => ("waiting", Level::Warning),
                Phase::Parked => ("parked", Level::Critical),
                Phase::Stopped => ("stopped", Level::Warning),
            };
            rows.push(ActorRow {
                depth,
                name: escape(&child.name),
                phase,
                restarts: child.restarts,
                since: span(child.since.as_secs() as i64),
                error: escape(child.last_error.as_deref().unwrap_or_default()),
                level,
            });
            below(&child.children, depth + 1, rows);
        }
    }
    let mut rows = Vec::new();
    if let Ok(tree) = serde_json::from_value::<Vec<ChildStatus>>(tree.clone()) {
        below(&tree, 0, &mut rows);
    }
    rows
}

fn checks(health: &Value, now: DateTime<Utc>) -> Vec<Check> {
    let check = |c: &Value| Check {
        name: text(&c["name"]).unwrap_or_else(|| "?".into()),
        level: Level::of(c["state"].as_str().unwrap_or_default()),
        reason: text(&c["reason"]).unwrap_or_default(),
        age: ago(time(&c["since"]), now).unwrap_or_default(),
    };
    let mut checks: Vec<Check> = health["checks"].as_array().into_iter().flatten().map(check).collect();
    checks.sort_by_key(|check| std::cmp::Reverse(check.level));
    checks
}

fn checked(health: &Value, now: DateTime<Utc>) -> Option<String> {
    let all = health["checks"].as_array().into_iter().flatten();
    ago(all.filter_map(|check| time(&check["checked_at"])).max(), now)
}

fn past_alert(alert: &Value, now: DateTime<Utc>) -> PastAlert {
    PastAlert {
        level: Level::of(alert["severity"].as_str().unwrap_or_default()),
        rule: text(&alert["rule"]).unwrap_or_default(),
        subject: text(&alert["subject"]).unwrap_or_default(),
        text: text(&alert["message"]).unwrap_or_default(),
        age: ago(time(&alert["fired_at"]), now).unwrap_or_default(),
        firing: alert["resolved_at"].is_null(),
    }
}

fn fact(name: &str, value: impl Into<String>) -> Fact {
    Fact { name: name.into(), value: value.into() }
}

fn backups(backups: &Value, now: DateTime<Utc>) -> Option<Vec<Fact>> {
    if !backups.is_object() {
        return None;
    }
    let one = |b: &Value| {
        let id = text(&b["id"])?;
        let bytes = b["bytes"].as_u64().map_or(String::new(), |bytes| format!(", {}", size(bytes)));
        Some(format!("{id}{bytes}, {}", ago(time(&b["at"]), now).unwrap_or_else(|| "age not known".into())))
    };
    let drill = &backups["last_drill"];
    let verdict = if drill["ok"] == true { "ok" } else { "failed" };
    let drilled = ago(time(&drill["at"]), now).map_or("never".into(), |ago| format!("{verdict}, {ago}"));
    let kept = count(backups["count"].as_u64().unwrap_or(0), "backup");
    Some(vec![
        fact("newest verified", one(&backups["newest_verified"]).unwrap_or_else(|| "none".into())),
        fact("newest", one(&backups["newest"]).unwrap_or_else(|| "none".into())),
        fact("kept", format!("{kept}, {}", size(backups["bytes"].as_u64().unwrap_or(0)))),
        fact("restore drill", drilled),
    ])
}

fn chore(row: &Value, now: DateTime<Utc>) -> Fact {
    let name = text(&row["task"]).unwrap_or_default();
    let done = ago(time(&row["done_at"]), now);
    let said = text(&row["said"]).unwrap_or_default();
    let value = match (done, row["is_done"] == true, row["attempts"].as_u64()) {
        (_, false, _) if row["ended_at"].is_null() => "running".to_owned(),
        (_, false, _) => format!("failed: {said}"),
        (Some(done), ..) => done,
        (None, ..) => "waits for its first time".into(),
    };
    Fact { name, value }
}

fn costs(r: &Value, state: State) -> Vec<Fact> {
    let bytes = |key: &str| r[key].as_u64().map(size);
    let mut facts = Vec::new();
    let mut add = |name: &str, value: Option<String>| facts.extend(value.map(|value| fact(name, value)));
    // Figures of a process: only the daemon's own are of interest.
    if state == State::Live {
        add("resident", bytes("rss_bytes"));
        add("processor", r["cpu_ms"].as_u64().map(|ms| format!("{:.1} s since the start", ms as f64 / 1000.0)));
        add("open files", r["open_files"].as_u64().map(|n| n.to_string()));
    }
    let home = r["home_files"].as_u64().map(|n| format!(" in {}", count(n, "file")));
    add("home", bytes("home_bytes").map(|b| b + &home.unwrap_or_default()));
    add("logs", bytes("log_bytes"));
    let total = bytes("disk_total_bytes").map_or(String::new(), |total| format!(" of {total}"));
    add("disk free", bytes("disk_free_bytes").map(|free| free + &total));
    facts
}

fn totals(t: &Value) -> Vec<Fact> {
    if !t.is_object() {
        return Vec::new();
    }
    let n = |key: &str| t[key].as_i64().unwrap_or(0);
    let unindexed = if n("unindexed") > 0 { format!("; {} not indexed", n("unindexed")) } else { String::new() };
    vec![
        fact(
            "archive",
            format!(
                "{} in {}, {}{unindexed}",
                count(n("records"), "record"),
                count(n("segments"), "segment"),
                size(n("bytes"))
            ),
        ),
        fact("memory", format!("{}, {}", count(n("distillations"), "distillation"), count(n("rollovers"), "rollover"))),
        fact("audit", count(n("audit_rows"), "row")),
    ]
}

/// What fires, with its rule, and the subject unless the message names that itself.
fn firing(alert: &Value, now: DateTime<Utc>) -> Trouble {
    let said = |value: &Value| text(value).unwrap_or_default();
    let (rule, subject, message) =
        (said(&alert["key"]["rule"]), said(&alert["key"]["subject"]), said(&alert["message"]));
    let of = if message.contains(&subject) { String::new() } else { format!(" {subject}") };
    let silenced = !alert["silenced_by"].is_null();
    Trouble {
        level: Level::of(alert["severity"].as_str().unwrap_or_default()),
        text: format!("{rule}{of}: {message}{}", if silenced { ", silenced" } else { "" }),
        hint: text(&alert["hint"]),
        age: time(&alert["fired_at"]).map(|at| span((now - at).num_seconds())),
        silenced,
    }
}

/// What is wrong, worst first: the daemon itself, what fires, failing checks and parked actors that nothing fires for. What somebody
/// has silenced comes last.
fn troubles(d: &Value, view: &View, now: DateTime<Utc>) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    let start = "start it with `moon start`";
    let hint = match view.state {
        State::Dead => Some(format!("{start}; `moon logs` says what was last")),
        State::Stale => Some("look at `moon logs`; what is shown is what the ledger holds".into()),
        _ => None,
    };
    if let Some(hint) = hint {
        let level = Level::Critical;
        let text = format!("daemon: {}", view.said);
        troubles.push(Trouble { level, text, hint: Some(hint), age: None, silenced: false });
    }
    troubles.extend(d["alerts"].as_array().into_iter().flatten().map(|alert| firing(alert, now)));
    troubles.extend(untold_checks(d));
    let is_told = |name: &str| {
        let firing = d["alerts"].as_array().into_iter().flatten();
        firing.filter_map(|a| a["key"]["subject"].as_str()).any(|s| s.rsplit('/').next() == Some(name))
    };
    for actor in view.actors.iter().filter(|a| a.phase == "parked" && !is_told(&a.name)) {
        troubles.push(Trouble {
            level: Level::Critical,
            text: format!("the actor {} is parked: {}", actor.name, actor.error),
            hint: Some(format!("`moon ctl restart {}` revives it", actor.name)),
            age: None,
            silenced: false,
        });
    }
    troubles.sort_by_key(|trouble| (trouble.silenced, std::cmp::Reverse(trouble.level)));
    troubles
}

/// Failing checks that no alert speaks of: the same trouble is shown once, and as the alert that people were told.
fn untold_checks(d: &Value) -> Vec<Trouble> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let firing: Vec<Value> = list(&d["alerts"]).into_iter().map(|alert| alert["key"].clone()).collect();
    let is_told = |check: &Value| list(&check["alerts"]).iter().any(|key| firing.contains(key));
    let trouble = |check: &Value| {
        let said = |key: &str| text(&check[key]).unwrap_or_default();
        Trouble {
            level: Level::of(check["state"].as_str().unwrap_or_default()),
            text: format!("check {}: {}", said("name"), said("reason")),
            hint: text(&check["hint"]),
            age: None,
            silenced: false,
        }
    };
    let untold = list(&d["health"]["checks"]).into_iter().filter(|check| !is_told(check));
    let failing = |trouble: &Trouble| matches!(trouble.level, Level::Warning | Level::Critical);
    untold.map(|check| trouble(&check)).filter(failing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_said_in_two_units_at_most() {
        let said = [0, 59, 60, 3_661, 86_400, 273_900, -5].map(span);
        assert_eq!(said, ["0s", "59s", "1m", "1h 1m", "1d", "3d 4h", "0s"]);
    }

    #[test]
    fn every_state_has_its_own_word_and_only_live_is_good() {
        let states = ["live", "stale", "busy", "dead", "stopped", "never_started"].map(State::of);
        let words: std::collections::BTreeSet<_> = states.iter().map(|state| state.word()).collect();
        assert_eq!(words.len(), 6);
        assert!(states.iter().all(|state| (state.level() == Level::Ok) == (*state == State::Live)));
        assert_eq!(State::of("something new"), State::NeverStarted);
    }
}
