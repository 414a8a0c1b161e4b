//! `moon restore`: verifies a backup, asks, sends the daemon away, swaps, and starts it again.

use super::bar::{self, Bar, Uninterrupted};
use super::output::{Report, size};
use super::{Context, runtime};
use crate::adapters::backup::BackupVault;
use crate::adapters::clock::{SystemClock, UuidIds};
use crate::adapters::probe;
use crate::adapters::restore::names::checked;
use crate::adapters::restore::source::Source;
use crate::adapters::restore::{self, Changes, Choice, Done, Fate, Interrupted, Kept, Prepared, WayBack};
use crate::adapters::sqlite::SqliteLedger;
use crate::daemon::away::{self, Away};
use crate::daemon::lock::HomeLock;
use crate::daemon::ports;
use clap::builder::NonEmptyStringValueParser;
use moon_actors::contract::count;
use moon_actors::port::{AuditEntry, Held, Ledger, Vault};
use moon_actors::{Error, Result};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most paths of a preview that are shown of each kind.
const SHOWN: usize = 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// `latest`, the id of a backup, or a file (.tar.zst, .tar.zst.age, or .tar.gz with --to)
    #[arg(default_value = "latest", conflicts_with = "undo", value_parser = NonEmptyStringValueParser::new())]
    pub backup: String,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Verify everything, say what would change, and change nothing; with --undo, say what would be put back
    #[arg(long)]
    pub dry_run: bool,
    /// Restore only this file or folder, a path inside the backup such as memory/2026-11-20.md; may be given again
    #[arg(long, value_name = "PATH", value_parser = NonEmptyStringValueParser::new(),
        conflicts_with_all = ["undo", "to", "include"])]
    pub only: Vec<String>,
    /// Restore this included folder to its place as well; may be given again
    #[arg(long, value_name = "DIR", conflicts_with_all = ["undo", "to"])]
    pub include: Vec<PathBuf>,
    /// Restore everything into this new folder instead, beside whatever runs
    #[arg(long, value_name = "DIR", conflicts_with = "undo")]
    pub to: Option<PathBuf>,
    /// The file with the key of an encrypted backup
    #[arg(long, value_name = "FILE", conflicts_with = "undo")]
    pub identity: Option<PathBuf>,
    /// Put back what the last restore replaced
    #[arg(long)]
    pub undo: bool,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    let choice = choice(ctx, args)?;
    ctx.home.refuse_unsafe()?;
    if !args.dry_run
        && let Some(finished) = restore::settle(&ctx.home)?
        && args.undo
        && finished.is_undo()
    {
        return already_undone(ctx);
    }
    // Nobody is asked about what is not there.
    let source = if args.undo { None } else { Some(Source::find(&folder(ctx)?, &args.backup)?) };
    let must_ask = !args.yes && !args.dry_run && args.to.is_none();
    if must_ask && !ctx.out.can_ask() {
        let words =
            if args.undo { "moon restore --undo --yes".into() } else { format!("moon restore {} --yes", args.backup) };
        return Err(Error::config(
            "restore.unconfirmed",
            "a restore replaces what is there, and nobody can be asked here",
        )
        .hint(words));
    }
    let Some(source) = source else { return undo(ctx, must_ask, args.dry_run) };
    let probe = probe::from_environment();
    let bar = Bar::of_restore(source.to_read());
    let told = |bytes: u64| bar.at(bytes);
    // Inside a runtime: a write beyond the limit of a file's size is then an error and not the end of the process.
    let prepared = runtime::block_on(async {
        restore::prepare(&ctx.home, &source, args.identity.as_deref(), choice.clone(), &told, probe.as_ref())
    })?;
    drop(bar);
    let prepared = prepared.inspect_err(|error| note_damage(ctx, &source, error))?;
    let mut report = about(&source, &prepared);
    if args.dry_run {
        return preview(report, &prepared);
    }
    let _held = if args.to.is_some() { None } else { hold(ctx)? };
    if must_ask {
        report.details.iter().for_each(|line| ctx.out.note(line));
        let also: String = args.include.iter().map(|folder| format!(" and {}", folder.display())).collect();
        ask(ctx, &format!("Replace {}{also} with this backup?", ctx.home.root().display()))?;
        report.details.clear();
    }
    let id = prepared.verified.id.clone();
    if matches!(choice, Choice::To(_)) {
        let done = prepared.put_in_place(None, &probe)?;
        let folder = args.to.as_ref().map(|to| to.display().to_string()).unwrap_or_default();
        report.detail(format!("restored {} into {folder}", count(done.placed, "file")));
        merge(&mut report, &json!({ "restored": true, "to": folder }));
        return Ok(report);
    }
    let said = format!("restored the backup {id}");
    let is_backup = matches!(choice, Choice::Whole { .. });
    runtime::block_on(replace(ctx, &mut report, (&said, is_backup), |lock| prepared.put_in_place(lock, &probe)))??;
    Ok(report)
}

/// The backups of this home, held until everything is in its place: nobody makes, proves or removes backups while the home that they
/// lie in is exchanged. `conflict` `backup.held` while somebody is at work on them. Without a home nobody can be.
fn hold(ctx: &Context) -> Result<Option<Held>> {
    if !ctx.home.exists() {
        return Ok(None);
    }
    let vault = BackupVault::new(&ctx.home, &ctx.settings().backup);
    runtime::block_on(async move { vault.hold().await })?.map(Some)
}

/// What a restore has found out about a backup is what health and lists say from then on. Best effort: the restore has failed anyway.
fn note_damage(ctx: &Context, source: &Source, error: &Error) {
    if error.code.as_str() != "restore.damaged" {
        return;
    }
    let vault = BackupVault::new(&ctx.home, &ctx.settings().backup);
    match runtime::block_on(vault.note_damage(&source.path, error)) {
        Ok(Ok(())) => {}
        Ok(Err(other)) | Err(other) => ctx.out.note(&format!("the backup could not be marked as damaged: {other}")),
    }
}

/// The undo that is asked for was begun before, and the opening of the home has finished it: to undo now would be to undo that.
fn already_undone(ctx: &Context) -> Result<Report> {
    let mut report = Report::new("restore");
    report.detail("the undo that was interrupted has been finished");
    // Where nothing was replaced there is no way back, and nothing is kept.
    let kept = restore::way_back(&ctx.home).map(|back| back.back).unwrap_or_default();
    let done = Done { placed: kept.len(), kept };
    told_of_kept(&mut report, &done);
    report
        .data(&json!({ "restored": true, "finished": true, "kept": done.kept, "placed": done.placed, "daemon": null }));
    let said = "finished an undo that was interrupted";
    if let Err(error) = runtime::block_on(record(ctx, None, (said, false), &done))? {
        report.issue(error);
    }
    Ok(report)
}

/// What an undo would do to a restore that was interrupted half-way: its journal says more than the home does.
fn preview_of_interrupted(one: &Interrupted) -> Report {
    let mut report = Report::new("restore");
    report.detail(format!("a restore was interrupted and will be finished first: {}", one.what()));
    report.detail(if one.is_undo() {
        "it is an undo itself: nothing more would be undone"
    } else {
        "then it would be taken back"
    });
    report.data(&json!({ "dry_run": true, "restored": false, "interrupted": one }));
    report
}

fn undo(ctx: &Context, must_ask: bool, dry_run: bool) -> Result<Report> {
    let interrupted = restore::interrupted(&ctx.home).filter(|_| dry_run);
    if let Some(one) = interrupted.as_ref().filter(|one| one.will_be == Fate::Finished) {
        return Ok(preview_of_interrupted(one));
    }
    let back = restore::way_back(&ctx.home)?;
    let mut report = Report::new("restore");
    if let Some(one) = &interrupted {
        report.detail(format!("a restore was interrupted and will be taken back first: {}", one.what()));
    }
    if dry_run || must_ask {
        lines_of(&back).into_iter().for_each(|line| {
            report.detail(line);
        });
    }
    if dry_run {
        report.data(&json!({ "dry_run": true, "restored": false, "undo": back, "interrupted": interrupted }));
        return Ok(report);
    }
    let _held = hold(ctx)?;
    if must_ask {
        report.details.iter().for_each(|line| ctx.out.note(line));
        ask(ctx, "Put back what was there before?")?;
        report.details.clear();
    }
    let probe = probe::from_environment();
    let undone = |lock: Option<&HomeLock>| {
        let lock = lock.ok_or_else(|| {
            Error::config("restore.nothing_to_undo", "there is no restore to undo, and nothing was touched")
                .cause(format!("{} is not there", ctx.home.root().display()))
                .hint("name a backup to restore")
        })?;
        restore::undo(&ctx.home, lock, &probe)
    };
    let said = match back.whole {
        true => "put back the state from before the last restore",
        false => "put back what the last restore of single files had replaced",
    };
    runtime::block_on(replace(ctx, &mut report, (said, false), undone))??;
    Ok(report)
}

/// What an undo would do, for people.
fn lines_of(back: &WayBack) -> Vec<String> {
    let what = if back.whole { "the home" } else { "single files" };
    let from = if back.from == "undo" { "an undo".to_owned() } else { format!("the backup {}", back.from) };
    let mut lines = vec![format!("the last restore put back {what} from {from}, {}", back.at)];
    let put_back = |kept: &Kept| format!("would put back {} from {}", kept.place.display(), kept.kept.display());
    lines.extend(back.back.iter().take(SHOWN).map(put_back));
    lines.extend(
        back.aside.iter().take(SHOWN).map(|path| format!("would put aside {}, which was not there", path.display())),
    );
    let more = back.back.len().saturating_sub(SHOWN) + back.aside.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.push("what is there now would be kept beside it".into());
    if let Some(earlier) = &back.earlier {
        lines.push(format!(
            "not undone: an earlier restore of the whole home, before which it was {}",
            earlier.display()
        ));
    }
    lines
}

/// Where ids are looked for: the folder that `moon backup` writes to.
fn folder(ctx: &Context) -> Result<PathBuf> {
    BackupVault::new(&ctx.home, &ctx.settings().backup).folder()
}

fn choice(ctx: &Context, args: &Args) -> Result<Choice> {
    Ok(match &args.to {
        Some(folder) => Choice::To(folder.clone()),
        None if args.only.is_empty() => Choice::Whole { include: args.include.clone() },
        None => Choice::Only(args.only.iter().map(|path| inside(ctx, path)).collect::<Result<_>>()?),
    })
}

/// A path of `--only`: one inside the backup.
fn inside(ctx: &Context, path: &str) -> Result<String> {
    if let Ok(path) = checked(path.as_bytes()) {
        return Ok(path.to_owned());
    }
    let home = ctx.home.root();
    let example = Path::new(path).strip_prefix(home).ok().and_then(Path::to_str).filter(|path| !path.is_empty());
    let example = example.unwrap_or("memory/2026-11-20.md");
    Err(Error::config("cli.usage", format!("--only {path:?} is no path inside the backup"))
        .cause("it is relative to the home, without . and .. in it")
        .hint(format!("for example: moon restore --only {example}")))
}

/// The home to ourselves, the work, and the daemon back. Whatever fails before the swap leaves everything as it was, and the
/// daemon runs again.
async fn replace(
    ctx: &Context,
    report: &mut Report,
    (said, is_backup): (&str, bool),
    work: impl FnOnce(Option<&HomeLock>) -> Result<Done>,
) -> Result<()> {
    let limit = ctx.settings().supervision.drain * 12;
    if HomeLock::holder(&ctx.home).is_some() {
        bar::makes_way();
    }
    let away = if ctx.home.exists() { away::send_away(&ctx.home, limit, words(ctx)).await? } else { None };
    // A home half-way between two states, or without its daemon, is nothing to leave behind for the sake of a moment.
    let uninterrupted = Uninterrupted::begin();
    let done = locked(ctx, (said, is_backup), work).await;
    if done.is_ok() {
        uninterrupted.done();
    }
    let started = match &away {
        Some(away) => Some(away::start_again(away, &ctx.home).await),
        None => None,
    };
    let (done, remark) = match done {
        Ok(done) => done,
        Err(error) => {
            if let Some(Err(again)) = &started {
                ctx.out.note(&format!("the daemon was stopped and could not be started again: {again}"));
            }
            return Err(error);
        }
    };
    report.detail(said);
    told_of_kept(report, &done);
    if let Some(error) = remark {
        report.issue(error);
    }
    let daemon = told_of_daemon(report, away.as_ref(), started);
    merge(report, &json!({ "restored": true, "kept": done.kept, "placed": done.placed, "daemon": daemon }));
    Ok(())
}

/// The work under the home's lock, and a line in the audit of the state that is there afterwards.
async fn locked(
    ctx: &Context,
    (said, is_backup): (&str, bool),
    work: impl FnOnce(Option<&HomeLock>) -> Result<Done>,
) -> Result<(Done, Option<Error>)> {
    let lock = if ctx.home.exists() {
        crate::durable::create_folder(&ctx.home.run_dir())
            .map_err(|e| Error::transient("restore.io", "could not make the folder of the home's lock").cause(e))?;
        Some(HomeLock::take(&ctx.home, "restore")?)
    } else {
        None
    };
    let done = work(lock.as_ref())?;
    let remark = record(ctx, lock, (said, is_backup), &done).await.err();
    Ok((done, remark))
}

/// Looks whether the ledger is sound where it lies now, and writes into it that it was put there.
async fn record(ctx: &Context, lock: Option<HomeLock>, (said, is_backup): (&str, bool), done: &Done) -> Result<()> {
    let (home, _) = crate::home::Home::open(ctx.home.root())?;
    // After a swap the lock is that of the old state.
    let _lock = match lock.filter(|lock| lock.is_of(&home)) {
        Some(lock) => lock,
        None => HomeLock::take(&home, "restore")?,
    };
    if !home.ledger_db().exists() {
        return Ok(());
    }
    let ledger = SqliteLedger::open(&home.ledger_db(), Arc::new(SystemClock::start()), Arc::new(UuidIds))?;
    if let Some(complaint) = ledger.integrity().await?.first() {
        return Err(Error::data("ledger.corrupt", "the ledger is damaged")
            .cause(complaint)
            .hint("moon restore --undo"));
    }
    if is_backup {
        // The life that went on when the backup was made did not crash.
        ledger.close_lives("its backup was restored").await?;
    }
    ledger.begin(&ports::writer()).await?;
    let detail = json!({ "kept": done.kept });
    ledger.audit(&AuditEntry::new("restore", "restored", "ok", said).detail(detail)).await?;
    ledger.end("restore done").await
}

/// How a daemon is started with what this command was told.
fn words(ctx: &Context) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["--home".into(), ctx.home.root().into()];
    if let Some(file) = &ctx.globals.config {
        words.extend(["--config".into(), file.into()]);
    }
    for set in &ctx.globals.set {
        words.extend(["--set".into(), set.into()]);
    }
    words.extend(["watch".into(), "--daemon".into()]);
    words
}

fn told_of_kept(report: &mut Report, done: &Done) {
    for kept in &done.kept {
        report.detail(format!("what was in {} before is kept as {}", kept.place.display(), kept.kept.display()));
    }
}

fn told_of_daemon(report: &mut Report, away: Option<&Away>, started: Option<Result<u32>>) -> Value {
    match (away, started) {
        (Some(away), Some(Ok(pid))) => {
            report.detail(format!("the daemon was stopped (pid {}) and runs again (pid {pid})", away.pid));
            json!({ "stopped": away.pid, "started": pid })
        }
        (Some(away), Some(Err(error))) => {
            report.issue(error);
            json!({ "stopped": away.pid, "started": null })
        }
        _ => Value::Null,
    }
}

fn ask(ctx: &Context, question: &str) -> Result<()> {
    bar::asks();
    if ctx.out.ask(&format!("{question} Type yes: ")).trim() == "yes" {
        return Ok(());
    }
    Err(Error::conflict("restore.declined", "not restored: nothing was touched"))
}

fn about(source: &Source, prepared: &Prepared) -> Report {
    let verified = &prepared.verified;
    let mut report = Report::new("restore");
    let manifest = verified.manifest.as_ref();
    let made = manifest.map(|m| format!(", made {} on {}", m.created_at, m.host)).unwrap_or_default();
    report.detail(format!(
        "{}: backup {}{made}: {}, {}, every hash as listed{}",
        source.path.display(),
        verified.id,
        count(verified.files(), "file"),
        size(verified.content_bytes),
        databases(prepared)
    ));
    let unsound = verified.unsound();
    if !unsound.is_empty() {
        let more = if unsound.len() > SHOWN { " …" } else { "" };
        let named = unsound.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        report.detail(format!("not sound when the backup was made, and no sounder in it: {named}{more}"));
    }
    let include: Vec<String> =
        manifest.iter().flat_map(|m| &m.include).map(|entry| entry.path.display().to_string()).collect();
    if !include.is_empty() {
        report.detail(format!("included folders (restored with --include or --to): {}", include.join(", ")));
    }
    if !verified.has_sidecar {
        report.detail("no sidecar beside it: the archive was compared with its own lists only");
    }
    report.data(&json!({
        "id": verified.id, "file": source.path, "files": verified.files(), "content_bytes": verified.content_bytes,
        "sidecar": verified.has_sidecar, "include": include, "restored": false,
        "databases": { "whole": prepared.whole, "unopened": prepared.unopened, "unsound": unsound },
    }));
    report
}

/// What was found out about the databases, behind a comma.
fn databases(prepared: &Prepared) -> String {
    let mut said = String::new();
    if prepared.whole > 0 {
        said.push_str(&format!(", {} opened and whole", count(prepared.whole, "database")));
    }
    if prepared.unopened > 0 {
        said.push_str(&format!(", {} not restored and not opened", count(prepared.unopened, "database")));
    }
    said
}

fn preview(mut report: Report, prepared: &Prepared) -> Result<Report> {
    let changes = restore::compare(prepared)
        .map_err(|e| Error::transient("restore.io", "could not compare the backup with what is there").cause(e))?;
    let Changes { added, changed, removed, same } = &changes;
    report.detail(format!(
        "would add {}, change {}, remove {}, leave {same} as they are",
        added.len(),
        changed.len(),
        removed.len()
    ));
    for (sign, paths) in [("+", added), ("~", changed), ("-", removed)] {
        paths.iter().take(SHOWN).for_each(|path| {
            report.detail(format!("  {sign} {path}"));
        });
        if paths.len() > SHOWN {
            report.detail(format!("  {sign} and {} more", paths.len() - SHOWN));
        }
    }
    let capped = |paths: &[String]| paths.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    merge(
        &mut report,
        &json!({
            "dry_run": true, "same": same,
            "added": { "count": added.len(), "paths": capped(added) },
            "changed": { "count": changed.len(), "paths": capped(changed) },
            "removed": { "count": removed.len(), "paths": capped(removed) },
        }),
    );
    Ok(report)
}

fn merge(report: &mut Report, more: &Value) {
    let (Some(into), Some(from)) = (report.data.as_object_mut(), more.as_object()) else { return };
    into.extend(from.iter().map(|(key, value)| (key.clone(), value.clone())));
}
