//! `moon verify`: checks everything that is kept, and changes nothing.

use super::output::{Report, size};
use super::{Context, runtime};
use crate::adapters::archive_dir::ArchiveDir;
use crate::adapters::clock::SystemClock;
use crate::adapters::openclaw::install::Installer;
use crate::adapters::projections::Projections;
use crate::adapters::sqlite::SqliteLedger;
use crate::daemon::lock::HomeLock;
use crate::daemon::ports::{self, HostPlan};
use moon_actors::contract::count;
use moon_actors::domain::{Segment, Sha256};
use moon_actors::port::{ArchiveStore, Ledger, SearchIndex, SegmentName};
use moon_actors::{Error, Result};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub(super) fn run(ctx: &Context, _: &Args) -> Result<Report> {
    runtime::block_on(check(ctx))?
}

async fn check(ctx: &Context) -> Result<Report> {
    ctx.home.refuse_unsafe()?;
    let mut report = Report::new("verify");
    let Some(ledger) = ports::open_ledger_read_only(&ctx.home)? else {
        return before_the_first_archive(ctx, report).await;
    };
    let mut data = serde_json::Map::new();
    let sound = ledger_sound(&ledger, &mut report).await;
    let is_readable = sound.is_ok();
    data.insert("ledger".into(), told(sound, &mut report));
    if is_readable {
        data.insert("audit".into(), told(audit_whole(&ledger, &mut report).await, &mut report));
        data.insert("archives".into(), told(archives_whole(ctx, &ledger, &mut report).await, &mut report));
        data.insert("index".into(), told(index_complete(ctx, &ledger, &mut report).await, &mut report));
        data.insert("continuity".into(), told(maps_whole(ctx, &ledger, &mut report).await, &mut report));
        data.insert("projections".into(), told(projections_agree(ctx, &ledger, &mut report).await, &mut report));
    } else {
        // What lies in the archive can be judged without the ledger.
        data.insert("archives".into(), told(archives_alone(ctx, &mut report).await, &mut report));
    }
    data.insert("installation".into(), installation(ctx, &mut report).await);
    report.data(&data);
    Ok(report)
}

/// There is no ledger: whether Moon is rightly installed can be told all the same, and is best known before it is needed.
async fn before_the_first_archive(ctx: &Context, mut report: Report) -> Result<Report> {
    let missing = super::route::no_ledger(&ctx.home);
    if missing.code != "home.empty" || !is_openclaw_watched(ctx) {
        return Err(missing);
    }
    report.remark(missing);
    let checks = installation(ctx, &mut report).await;
    report.data(&json!({ "installation": checks }));
    Ok(report)
}

fn is_openclaw_watched(ctx: &Context) -> bool {
    matches!(super::route::host_plan(ctx), Ok(HostPlan::OpenClaw(_)))
}

/// A part that could not be looked at is an issue, and the other parts are looked at all the same.
fn told(part: Result<Value>, report: &mut Report) -> Value {
    part.unwrap_or_else(|error| {
        report.issue(error.clone());
        json!({ "error": error })
    })
}

async fn ledger_sound(ledger: &SqliteLedger, report: &mut Report) -> Result<Value> {
    let complaints = ledger.integrity().await?;
    match complaints.len() {
        0 => report.detail("ledger: sound (integrity and foreign keys)"),
        _ => report.issue(
            Error::data("ledger.corrupt", "the ledger is damaged")
                .cause(complaints.join("\n"))
                .hint("stop moon, keep a copy of state/, and restore a backup; the archives are untouched"),
        ),
    };
    Ok(json!({ "complaints": complaints }))
}

async fn audit_whole(ledger: &SqliteLedger, report: &mut Report) -> Result<Value> {
    let verdict = ledger.verify_audit().await?;
    match verdict {
        Ok(rows) => {
            report.detail(format!("audit: {}, every hash fits the one before", count(rows, "row")));
            Ok(json!({ "rows": rows, "whole": true }))
        }
        Err(seq) => {
            report.issue(
                Error::data("audit.broken", format!("the audit does not fit at row {seq}"))
                    .cause("the row, or one before it, was changed, removed or added from outside")
                    .hint("compare with a backup; what stands before that row is intact"),
            );
            Ok(json!({ "first_broken_seq": seq, "whole": false }))
        }
    }
}

async fn archives_whole(ctx: &Context, ledger: &SqliteLedger, report: &mut Report) -> Result<Value> {
    let store = archive_dir(ctx)?;
    let segments = ledger.all_segments().await?;
    let (mut bytes, mut bad) = (0, Vec::new());
    for segment in &segments {
        bytes += segment.manifest.bytes;
        if let Err(error) = store.verify(segment).await {
            // One object may be the segment of several sessions.
            if !bad.contains(&segment.path) {
                report.issue(error);
            }
            bad.push(segment.path.clone());
        }
    }
    for broken in broken_chains(&segments) {
        report.issue(broken);
    }
    for (path, why) in store.damaged_manifests().await? {
        report.issue(Error::data("archive.manifest", format!("the manifest {path} is damaged")).cause(why));
    }
    let known: HashSet<&str> = segments.iter().map(|s| s.manifest_path.as_str()).collect();
    let unknown = store.manifests().await?.into_iter().filter(|(path, _)| !known.contains(path.as_str())).count();
    if unknown > 0 {
        // A crash between the file and the ledger's row: the next capture records the same segment.
        report.detail(format!("archives: {} not in the ledger (yet)", count(unknown, "stored segment")));
    }
    let verdict = match bad.len() {
        0 => "every hash as recorded".to_owned(),
        damaged => format!("{damaged} of them damaged or missing"),
    };
    report.detail(format!("archives: {} read again, {}, {verdict}", count(segments.len(), "segment"), size(bytes)));
    Ok(json!({ "segments": segments.len(), "bytes": bytes, "bad": bad, "not_in_ledger": unknown }))
}

/// Every manifest with its object, when the ledger cannot say which there should be.
async fn archives_alone(ctx: &Context, report: &mut Report) -> Result<Value> {
    let store = archive_dir(ctx)?;
    let (mut segments, mut bytes, mut bad) = (0, 0, Vec::new());
    for (path, manifest) in store.manifests().await? {
        (segments, bytes) = (segments + 1, bytes + manifest.bytes);
        if let Err(error) = store.verify_object(&manifest).await {
            bad.push(path);
            report.issue(error);
        }
    }
    for (path, why) in store.damaged_manifests().await? {
        report.issue(Error::data("archive.manifest", format!("the manifest {path} is damaged")).cause(why));
    }
    let whole = segments - bad.len();
    report.detail(format!(
        "archives: {whole} of {} read again by their manifests, {}",
        count(segments, "segment"),
        size(bytes)
    ));
    Ok(json!({ "segments": segments, "bytes": bytes, "bad": bad }))
}

/// Every continuity map is there and is what was written.
async fn maps_whole(ctx: &Context, ledger: &SqliteLedger, report: &mut Report) -> Result<Value> {
    let links = ledger.continuity(None, usize::from(u16::MAX)).await?;
    let mut bad = Vec::new();
    for link in &links {
        let found = std::fs::read(ctx.home.root().join(&link.map_path));
        let why = match found {
            Ok(bytes) if Sha256::of(&bytes) == link.map_sha256 => continue,
            Ok(_) => "it is not what was written".to_owned(),
            Err(e) => e.to_string(),
        };
        bad.push(link.map_path.clone());
        let message = format!("the continuity map {} of {} is damaged", link.map_path, link.session);
        report.issue(
            Error::data("memory.map_unreadable", message)
                .cause(why)
                .hint("restore it from a backup; the archive it names is judged on its own"),
        );
    }
    if bad.is_empty() && !links.is_empty() {
        report.detail(format!("continuity: {} as written", count(links.len(), "map")));
    }
    Ok(json!({ "maps": links.len(), "bad": bad }))
}

/// Series whose segments do not follow each other, or do not name the one before: a row of the ledger is missing or changed.
fn broken_chains(segments: &[Segment]) -> Vec<Error> {
    let mut ends: HashMap<i64, (i64, Option<&Sha256>)> = HashMap::new();
    let mut broken = Vec::new();
    for segment in segments {
        let manifest = &segment.manifest;
        let (ordinal, previous) = ends.entry(segment.series_id).or_insert((0, None));
        if (manifest.ordinal, manifest.previous.as_ref()) != (*ordinal, *previous) {
            let message =
                format!("segment {} of {} does not follow the one before", manifest.ordinal, manifest.session_key);
            broken.push(
                Error::data("archive.chain", message)
                    .cause("a row of the ledger is missing or was changed; the files are judged on their own")
                    .hint("stop moon, keep a copy of state/, and restore a backup; the archives are untouched"),
            );
        }
        (*ordinal, *previous) = (manifest.ordinal + 1, Some(&segment.manifest_sha256));
    }
    broken
}

fn archive_dir(ctx: &Context) -> Result<ArchiveDir> {
    ArchiveDir::open(ctx.home.root(), ctx.settings().archive.zstd_level, ports::writer()).map_err(|e| {
        Error::config("home.io", "could not open the archive").cause(e).hint("check the owner and mode of the home")
    })
}

async fn index_complete(ctx: &Context, ledger: &SqliteLedger, report: &mut Report) -> Result<Value> {
    let index = crate::adapters::fts::FtsIndex::read_only(&ctx.home.index_db());
    let segments = ledger.all_segments().await?;
    let indexed: Vec<_> =
        segments.iter().filter(|s| s.indexed_at.is_some()).map(|s| SegmentName::from(&s.manifest)).collect();
    let waiting = segments.len() - indexed.len();
    let missing = match index.missing(&indexed).await {
        Ok(missing) => missing,
        Err(error) => {
            report.issue(error);
            return Ok(json!({ "readable": false }));
        }
    };
    let complaints = index.complaints().await?;
    if !complaints.is_empty() {
        report.issue(
            Error::data("index.corrupt", "the search index is damaged inside")
                .cause(complaints.join("\n"))
                .hint("moon index --rebuild"),
        );
    }
    if missing.is_empty() {
        let held = count(indexed.len(), "archived segment");
        report.detail(format!("index: holds {held}, none is missing; {waiting} to be indexed"));
    } else {
        report.issue(
            Error::data(
                "index.incomplete",
                format!("the index lacks {} of {}", missing.len(), count(indexed.len(), "segment")),
            )
            .hint("moon index --rebuild"),
        );
    }
    Ok(json!({ "readable": true, "missing": missing.len(), "waiting": waiting, "complaints": complaints }))
}

async fn projections_agree(ctx: &Context, ledger: &SqliteLedger, report: &mut Report) -> Result<Value> {
    let projections = Projections::new(&ctx.home, ledger.clone(), Arc::new(SystemClock::start()));
    let is_written = HomeLock::holder(&ctx.home).is_some_and(|holder| holder.what == "daemon");
    let mut found = projections.stale().await?;
    if is_written && !found.damaged.is_empty() {
        // A daemon that wrote between the look at the ledger and the look at a file: a second look finds damage only where it stays.
        found = projections.stale().await?;
    }
    let mut behind: Vec<String> = found.behind.into_iter().map(str::to_owned).collect();
    let store = archive_dir(ctx)?;
    for series in ledger.all_series(None).await?.into_iter().filter(|series| series.records > 0) {
        if !store.is_projected(&series).await? {
            behind.push(store.projection_path(&series));
        }
    }
    // Neither is an issue: they are never read back, and cost nothing to write.
    if !behind.is_empty() {
        let when = if is_written { "the running daemon writes every 30 s" } else { "written when moon runs next" };
        report.detail(format!("projections: behind the ledger: {} ({when})", behind.join(", ")));
    }
    if !found.damaged.is_empty() {
        let names = found.damaged.join(", ");
        report.detail(format!("projections: not what the ledger says: {names} (written anew when moon starts next)"));
    }
    if behind.is_empty() && found.damaged.is_empty() {
        report.detail("projections: agree with the ledger");
    }
    let stale: Vec<&str> = behind.iter().map(String::as_str).chain(found.damaged.iter().copied()).collect();
    Ok(json!({ "stale": stale, "damaged": found.damaged }))
}

async fn installation(ctx: &Context, report: &mut Report) -> Value {
    if !is_openclaw_watched(ctx) {
        report.detail("installation: no OpenClaw is watched from here");
        return Value::Null;
    }
    match Installer::new(ctx.home.root(), &ctx.settings().openclaw).verify(ctx.settings().openclaw.mode).await {
        Ok(checks) => {
            for check in checks.iter().filter(|c| !c.holds) {
                report.issue(
                    Error::config("install.incomplete", format!("{} is not as installed", check.what))
                        .cause(check.detail.clone())
                        .hint(check.hint.clone()),
                );
            }
            let holding = checks.iter().filter(|c| c.holds).count();
            report.detail(format!("installation: {holding} of {} expectations hold", checks.len()));
            json!(checks)
        }
        Err(error) => {
            report.issue(error.clone());
            json!({ "error": error })
        }
    }
}
