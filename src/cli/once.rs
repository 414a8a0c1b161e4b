//! One pass without actors: `moon watch --once`, and the previews that change nothing.

use super::output::Report;
use super::{Context, route, runtime};
use crate::daemon::lock::HomeLock;
use crate::daemon::ports;
use moon_actors::contract::count;
use moon_actors::domain::{Series, SessionKey, Trigger};
use moon_actors::port::{Ledger, SessionHost, SessionRow, unknown_session};
use moon_actors::stage::once::{Ran, run_until_quiet};
use moon_actors::threshold::engine::machine_of;
use moon_actors::usage::policy;
use moon_actors::{Error, Result};
use serde_json::json;
use std::sync::Arc;

/// Rounds of judging and working: archive, prune, distil and the end.
const ROUNDS: usize = 8;

/// Looks once, does what is due, and ends.
pub(super) fn pass(ctx: &Context) -> Result<Report> {
    // Before the home is touched: on a machine without a host nothing is made.
    let plan = route::host_plan(ctx)?;
    let home = ctx.open_home()?;
    let lock = HomeLock::take(&home, "watch --once")?;
    runtime::block_on(async {
        let host = plan.start(ctx.settings(), &home);
        route::wait_for(host.as_ref(), ctx.settings().openclaw.connect_timeout).await?;
        let (ports, ledger) = ports::open(&home, ctx.settings(), host)?;
        ports::begin(&ports, &ledger).await?;
        let wiring = ports::alone(ports, ctx.settings().clone());
        let (ports, engines) = (&wiring.ports, wiring.engines());
        for engine in &engines {
            if let Err(error) = engine.prepare().await {
                // As in the daemon: the jobs themselves say what is wrong, and go on past what is not theirs.
                tracing::warn!(stage = engine.stage().as_str(), code = error.code, "{error}");
            }
        }
        let known = ledger.sessions().await?;
        let mut watcher = wiring.watcher();
        let inbox = wiring.inbox();
        inbox.deal_with_new().await?;
        watcher.look(true).await?;
        let mut ran = Ran::default();
        let mut triggers = Vec::new();
        for _ in 0..ROUNDS {
            let opened = wiring.judge().look().await?;
            let round = run_until_quiet(&engines, &ledger, ports.probe.as_ref(), &ctx.settings().supervision).await?;
            let quiet = opened.is_empty() && round.did.is_empty();
            triggers.extend(opened);
            ran.did.extend(round.did);
            ran.failed
                .extend(round.failed.into_iter().filter(|failed| !ran.failed.contains(failed)).collect::<Vec<_>>());
            if quiet {
                break;
            }
            // A reduction is judged by a reading taken after it.
            watcher.look(true).await?;
        }
        inbox.check_arrivals().await?;
        wiring.post().deliver().await?;
        let rows = ledger.sessions().await?;
        ledger.end("one pass done").await?;
        for repaired in ports.projector.refresh().await? {
            tracing::warn!("{repaired}");
        }
        drop(lock);
        Ok(summary(changed(&known, &rows), &rows, &triggers, ran))
    })?
}

/// How many sessions are new, or were read differently than the last time.
fn changed(known: &[SessionRow], now: &[SessionRow]) -> usize {
    let before = |row: &SessionRow| known.iter().find(|k| k.reading.session.key == row.reading.session.key);
    now.iter().filter(|row| policy::is_news(before(row).map(|known| &known.reading), &row.reading)).count()
}

fn summary(changed: usize, rows: &[SessionRow], triggers: &[(SessionKey, Trigger)], ran: Ran) -> Report {
    let mut report = Report::new("watch");
    report.detail(format!("{}, {changed} new or changed", count(rows.len(), "session")));
    for (session, trigger) in triggers {
        report.detail(format!("triggered {} of {session}: {}", trigger.kind.as_str(), trigger.reason));
    }
    for (stage, session, message) in &ran.did {
        report.detail(format!("{} of {session}: {message}", stage.as_str()));
    }
    for (stage, session, error) in &ran.failed {
        report.issue(Error { message: format!("{} of {session}: {}", stage.as_str(), error.message), ..error.clone() });
    }
    let did: Vec<_> =
        ran.did.iter().map(|(stage, session, m)| json!({ "stage": stage, "session": session, "message": m })).collect();
    let triggers: Vec<_> = triggers
        .iter()
        .map(|(session, t)| json!({ "session": session, "kind": t.kind, "reason": t.reason, "ratio": t.ratio }))
        .collect();
    report.data(&json!({ "sessions": rows.len(), "changed": changed, "triggers": triggers, "did": did }));
    report
}

/// Which command asks for a preview: each says what it would do itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preview {
    Watch,
    Snapshot,
    Distill,
}

/// Says what would be done now. Changes no file: no home is made, no lock taken, no device paired.
pub(super) fn preview(ctx: &Context, what: Preview, session: Option<&str>) -> Result<Report> {
    let plan = route::host_plan(ctx)?;
    runtime::block_on(async {
        let mut settings = ctx.settings().clone();
        settings.openclaw.pair_device = false;
        let host = plan.start(&settings, &ctx.home);
        route::wait_for(host.as_ref(), settings.openclaw.connect_timeout).await?;
        let mut readings = host.refresh().await?;
        readings.retain(|r| session.is_none_or(|s| r.session.key.as_str() == s));
        if let Some(session) = session.filter(|_| readings.is_empty()) {
            return Err(unknown_session(session));
        }
        let (known, series) = known(ctx).await?;
        let mut report = Report::new(what.command());
        let mut planned = Vec::new();
        for reading in readings {
            let row = match known.iter().find(|row| row.reading.session.key == reading.session.key) {
                Some(row) => SessionRow { reading, ..row.clone() },
                None => SessionRow::new(reading),
            };
            let archived = series.iter().rfind(|s| s.session_id == row.reading.session.session_id);
            let new = unarchived(host.as_ref(), &row, archived).await;
            let trigger = judge(&settings, Arc::clone(&host), &row).filter(|_| what == Preview::Watch);
            report.detail(sentence(what, &row, new, trigger.as_ref()));
            planned.push(json!({
                "session": row.reading.session.key, "usage_ratio": row.reading.ratio(), "trigger": trigger,
                "new_records": new.map(|(records, _)| records), "more": new.is_some_and(|(_, more)| more),
                "undistilled": row.undistilled,
            }));
        }
        report.detail("dry run: nothing was changed");
        report.data(&json!({ "dry_run": true, "planned": planned }));
        Ok(report)
    })?
}

impl Preview {
    fn command(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Snapshot => "snapshot",
            Self::Distill => "distill",
        }
    }
}

fn sentence(what: Preview, row: &SessionRow, new: Option<(usize, bool)>, trigger: Option<&Trigger>) -> String {
    let used = row.reading.ratio().map_or("unknown".into(), |r| format!("{:.1} %", r * 100.0));
    let archive = match new {
        Some((0, _)) => "nothing new to archive".to_owned(),
        Some((records, more)) => {
            format!("would archive {}{}", count(records, "new record"), if more { " and more" } else { "" })
        }
        None => "its transcript cannot be read now".to_owned(),
    };
    let then = match (what, trigger) {
        (_, Some(trigger)) => format!(", then {} ({})", trigger.kind.as_str(), trigger.reason),
        (Preview::Distill, None) if row.undistilled > 0 || new.is_some_and(|(records, _)| records > 0) => {
            ", then distil what is not distilled yet".to_owned()
        }
        (Preview::Distill, None) => ", nothing new to distil".to_owned(),
        _ => String::new(),
    };
    format!("{}: {used} used; {archive}{then}", row.reading.session.key)
}

/// Records that the host has behind the archived ones: how many in the first MiB, and whether there are more.
async fn unarchived(host: &dyn SessionHost, row: &SessionRow, series: Option<&Series>) -> Option<(usize, bool)> {
    let from = series.map_or(0, |series| series.last_seq + 1);
    let page = host.records(&row.reading.session, from, 1 << 20).await.ok()?;
    Some((page.records.len(), page.more))
}

fn judge(settings: &moon_actors::settings::Settings, host: Arc<dyn SessionHost>, row: &SessionRow) -> Option<Trigger> {
    use crate::adapters::clock::{SystemClock, UuidIds};
    let clock: Arc<dyn moon_actors::port::Clock> = Arc::new(SystemClock::start());
    let ids: Arc<dyn moon_actors::port::Ids> = Arc::new(UuidIds);
    // Judging asks the ledger nothing; one in memory stands in.
    let ledger = crate::adapters::sqlite::SqliteLedger::in_memory(Arc::clone(&clock), Arc::clone(&ids)).ok()?;
    let judge = moon_actors::threshold::engine::Judge {
        host,
        ledger: Arc::new(ledger),
        clock,
        ids,
        settings: Arc::new(settings.clone()),
    };
    judge.step(row, &machine_of(row)).1
}

/// What the ledger knows of sessions and of their archive, read without leaving a trace.
async fn known(ctx: &Context) -> Result<(Vec<SessionRow>, Vec<Series>)> {
    match ports::open_ledger_untouched(&ctx.home)? {
        Some(ledger) => Ok((ledger.sessions().await?, ledger.all_series(None).await?)),
        None => Ok((vec![], vec![])),
    }
}
