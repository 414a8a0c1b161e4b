//! `moon install`: puts the bridge into OpenClaw, settles who leads, and lets the service manager run Moon.

use super::output::Report;
use super::service::{self, About, How};
use super::{Context, runtime};
use crate::adapters::openclaw::install::{Installer, Report as Installed, StepState};
use crate::daemon::lock::HomeLock;
use moon_actors::settings::{HostChoice, Mode};
use moon_actors::{Error, Result};

/// Who leads, as a word on the command line
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ModeArg {
    /// Moon prunes and rolls over
    Lead,
    /// The session host decides; Moon archives, indexes and distils
    Observe,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who decides when a session is reduced, instead of `openclaw.mode`
    #[arg(long, value_enum)]
    pub mode: Option<ModeArg>,
    /// Say what would be changed and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Put the bridge in and leave the service alone
    #[arg(long)]
    pub no_service: bool,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    let mut report = bridge(ctx, args)?;
    if !args.no_service {
        let how = How { dry_run: args.dry_run, start: true, timers: false };
        also_service(&mut report, runtime::block_on(service::install(ctx, &About::default(), how))?);
    }
    Ok(report)
}

/// Puts the bridge into OpenClaw. A home that watches a folder of transcripts has none, and needs none.
fn bridge(ctx: &Context, args: &Args) -> Result<Report> {
    let mode = match args.mode {
        Some(ModeArg::Lead) => Mode::Lead,
        Some(ModeArg::Observe) => Mode::Observe,
        None => ctx.settings().openclaw.mode,
    };
    let mut report = Report::new("install");
    if ctx.settings().watch.host == HostChoice::Transcripts {
        if args.no_service || args.mode.is_some() {
            // Its compaction would be turned off, and nobody here would ever look at it.
            return Err(Error::config(
                "install.not_watched",
                "this home watches a folder of transcripts, not OpenClaw",
            )
            .hint("name another home with --home, or set watch.host = \"openclaw\" in its moon.toml first"));
        }
        report.detail("this home watches a folder of transcripts: no bridge is put into OpenClaw");
        return Ok(report);
    }
    let home = if args.dry_run { ctx.home.clone() } else { ctx.open_home()? };
    let installer = Installer::new(home.root(), &ctx.settings().openclaw);
    let installed = runtime::block_on(installer.install(mode, args.dry_run))??;
    report.detail(match mode {
        Mode::Lead => "mode lead: Moon prunes and rolls over. OpenClaw's own threshold compaction is turned off; its recovery from an overflow stays on as the net.",
        Mode::Observe => "mode observe: OpenClaw decides when to compact. Moon archives continuously and before every compaction; nothing of OpenClaw's compaction is changed.",
    });
    describe(&mut report, &installed, args.dry_run);
    if mode != ctx.settings().openclaw.mode && !args.dry_run {
        // Where the settings in force came from, so that they are in force the next time as well.
        let file = ctx.loaded.file.clone().unwrap_or_else(|| home.config_file());
        installer.keep_mode(&file, mode)?;
        report.detail(format!("{}: openclaw.mode = \"{}\"", file.display(), mode.as_str()));
    }
    if !args.dry_run {
        ask_to_restart(&mut report, &home);
    }
    Ok(report)
}

/// Adds what became of the service. It may be absent from a machine without making the rest wrong.
pub(super) fn also_service(report: &mut Report, outcome: Result<Report>) {
    match outcome {
        Ok(done) => {
            report.details.extend(done.details);
            done.issues.into_iter().for_each(|issue| _ = report.remark(issue));
            report.data["service"] = done.data;
        }
        Err(error) => {
            report.data["service"] = serde_json::json!({ "error": error });
            report.remark(error);
        }
    }
}

/// A running daemon keeps the mode it was started with.
pub(super) fn ask_to_restart(report: &mut Report, home: &crate::home::Home) {
    if HomeLock::holder(home).is_some_and(|holder| holder.what == "daemon") {
        report.remark("a moon daemon is running: restart it, so that it works in this mode");
    }
}

/// The steps, one line each.
pub(super) fn describe(report: &mut Report, installed: &Installed, dry_run: bool) {
    for step in &installed.steps {
        let state = match step.state {
            StepState::Planned => "would change",
            StepState::Done => "changed",
            StepState::Already => "already so",
            StepState::Left => "left alone",
        };
        report.detail(format!("{state:<13}{}  ({})", step.what, step.why));
    }
    if let Some(backup) = &installed.backup {
        report.detail(format!("OpenClaw's configuration as it was: {}", backup.display()));
    }
    for note in &installed.notes {
        report.remark(note.clone());
    }
    if dry_run {
        report.detail("dry run: nothing was changed");
    } else if !installed.changes_something() {
        report.detail("nothing had to be changed");
    }
    report.data(installed);
}
