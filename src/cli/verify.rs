//! `moon verify`: checks everything that is kept, and changes nothing.

use super::output::Report;
use super::{Context, runtime};
use crate::adapters::archive_dir::ArchiveDir;
use crate::adapters::clock::SystemClock;
use crate::adapters::openclaw::install::Installer;
use crate::adapters::projections::Projections;
use crate::adapters::sqlite::SqliteLedger;
use crate::daemon::ports::{self, HostPlan};
use moon_actors::domain::{Segment, Sha256};
use moon_actors::port::{ArchiveStore, Ledger, SearchIndex};
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
    let mut report = Report::new("verify");
    let Some(ledger) = ports::open_ledger_read_only(&ctx.home)? else {
        return Err(Error::data("home.empty", format!("{} holds nothing to verify yet", ctx.home.root().display()))
            .hint("begin with `moon watch --once`, or try `moon demo --home DIR`"));
    };
    ctx.home.refuse_unsafe()?;
    let mut data = serde_json::Map::new();
    data.insert("ledger".into(), ledger_sound(&ledger, &mut report).await?);
    data.insert("audit".into(), audit_whole(&ledger, &mut report).await?);
    data.insert("archives".into(), archives_whole(ctx, &ledger, &mut report).await?);
    data.insert("index".into(), index_complete(ctx, &ledger, &mut report).await?);
    data.insert("projections".into(), projections_agree(ctx, &ledger, &mut report).await?);
    data.insert("installation".into(), installation(ctx, &mut report).await);
    report.data(&data);
    Ok(report)
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
            report.detail(format!("audit: {rows} rows, every hash fits the one before"));
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
            bad.push(segment.path.clone());
            report.issue(error);
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
        report.detail(format!("archives: {unknown} stored segments are not in the ledger (yet)"));
    }
    if bad.is_empty() {
        report
            .detail(format!("archives: {} segments read again, {bytes} bytes, every hash as recorded", segments.len()));
    }
    Ok(json!({ "segments": segments.len(), "bytes": bytes, "bad": bad, "not_in_ledger": unknown }))
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
    let index = crate::adapters::fts::FtsIndex::read_only(&ctx.home.index_db())?;
    let segments = ledger.all_segments().await?;
    let indexed: Vec<_> =
        segments.iter().filter(|s| s.indexed_at.is_some()).map(|s| s.manifest.sha256.clone()).collect();
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
        report.detail(format!("index: holds all {} segments, {waiting} wait to be indexed", indexed.len()));
    } else {
        report.issue(
            Error::data("index.incomplete", format!("the index lacks {} of {} segments", missing.len(), indexed.len()))
                .hint("moon index --rebuild"),
        );
    }
    Ok(json!({ "readable": true, "missing": missing.len(), "waiting": waiting, "complaints": complaints }))
}

async fn projections_agree(ctx: &Context, ledger: &SqliteLedger, report: &mut Report) -> Result<Value> {
    let clock = Arc::new(SystemClock::start());
    let stale = Projections::new(&ctx.home, ledger.clone(), clock).stale().await?;
    if stale.is_empty() {
        report.detail("projections: agree with the ledger");
    } else {
        // They cost nothing: the next pass writes them anew.
        report.detail(format!("projections: {} will be written anew from the ledger", stale.join(", ")));
    }
    Ok(json!({ "stale": stale }))
}

async fn installation(ctx: &Context, report: &mut Report) -> Value {
    if !matches!(super::route::host_plan(ctx), Ok(HostPlan::OpenClaw(_))) {
        report.detail("installation: no OpenClaw is watched from here");
        return Value::Null;
    }
    match Installer::new(ctx.home.root(), &ctx.settings().openclaw).verify(ctx.settings().openclaw.mode).await {
        Ok(checks) => {
            for check in checks.iter().filter(|c| !c.holds) {
                report.issue(
                    Error::config("install.incomplete", format!("{} is not as installed", check.what))
                        .cause(check.detail.clone())
                        .hint("moon install"),
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
