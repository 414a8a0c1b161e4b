//! `moon service`: Moon as a service of the machine, installed, shown and taken away.
//!
//! Files first, then the manager: when the manager refuses, the files are as they were before. What is not Moon's is kept.

use super::output::{self, Report, table};
use super::{Context, cron, runtime};
use crate::daemon::lock::HomeLock;
use crate::service::manager::{Kind, Manager};
use crate::service::units::{Found, Step, Unit};
use crate::service::{Description, Places, Scope, wish};
use moon_actors::{Error, Result};
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Run Moon as a service of this machine
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Install the service and start it; again after an update
    Install {
        #[command(flatten)]
        about: About,
        /// Say what would be changed and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Install it and do not start it
        #[arg(long)]
        no_start: bool,
        /// Put Moon's checks on systemd's timers too, for those who want them from outside
        #[arg(long)]
        timers: bool,
    },
    /// Stop the service and take it away; the home stays
    Uninstall {
        #[command(flatten)]
        about: About,
        /// Say what would be changed and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show how the service manager sees Moon
    Status(About),
    /// Show what the service manager keeps of Moon's words
    Logs {
        #[command(flatten)]
        about: About,
        /// How many lines from the end
        #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        lines: u32,
    },
    /// Print the units and change nothing
    Print {
        /// For which service manager, instead of this machine's
        kind: Option<Kind>,
        #[command(flatten)]
        about: About,
        /// The timers that look at Moon from outside, instead of the service
        #[arg(long)]
        timers: bool,
    },
    /// Put Moon's checks into the crontab too, for those who want them from outside
    Cron(cron::Args),
}

/// Which service is meant
#[derive(Clone, Debug, Default, clap::Args)]
pub struct About {
    /// The user's own service, which starts with the login (what happens without flags too)
    #[arg(long)]
    pub user: bool,
    /// The machine's service, which starts with the machine and stands behind walls; needs root
    #[arg(long, conflicts_with = "user")]
    pub system: bool,
    /// As whom a system service runs, instead of the home's owner
    #[arg(long = "as", value_name = "USER", requires = "system")]
    pub runs_as: Option<String>,
    /// The folder that this user calls home, instead of what the machine knows
    #[arg(long, value_name = "DIR", requires = "runs_as")]
    pub user_home: Option<PathBuf>,
    /// The program that the service runs, instead of this one
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Talk to this service manager
    #[arg(long, hide = true)]
    pub manager: Option<Kind>,
}

impl About {
    fn scope(&self) -> Scope {
        if self.system { Scope::System } else { Scope::User }
    }
}

impl Command {
    /// The verb as reports name it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Install { .. } => "service install",
            Self::Uninstall { .. } => "service uninstall",
            Self::Status(_) => "service status",
            Self::Logs { .. } => "service logs",
            Self::Print { .. } => "service print",
            Self::Cron(_) => "service cron",
        }
    }
}

pub(super) fn run(ctx: &Context, command: &Command) -> Result<Report> {
    match command {
        Command::Install { about, dry_run, no_start, timers } => {
            let how = How { dry_run: *dry_run, start: !no_start, timers: *timers };
            runtime::block_on(install(ctx, about, how))?
        }
        Command::Uninstall { about, dry_run } => runtime::block_on(uninstall(ctx, about, *dry_run))?,
        Command::Status(about) => runtime::block_on(status(ctx, about))?,
        Command::Logs { about, lines } => runtime::block_on(logs(ctx, about, *lines))?,
        Command::Print { kind, about, timers } => print(ctx, *kind, about, *timers),
        Command::Cron(args) => cron::run(ctx, args),
    }
}

/// This installation as a service.
pub(super) fn describe(ctx: &Context, about: &About) -> Result<Description> {
    let who = who(ctx, about)?;
    let program = match &about.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()
            .map_err(|e| Error::transient("service.no_program", "could not find out where this program is").cause(e))?,
    };
    let beside = ctx.loaded.file.clone().filter(|file| !file.starts_with(ctx.home.root()));
    let places = Places::of(ctx.settings(), ctx.home.root(), &who.1);
    Description::new(about.scope(), program, &ctx.home, beside, ctx.settings(), who, places)
}

pub(super) fn manager(ctx: &Context, about: &About) -> Result<Manager> {
    manager_of(ctx, about, about.manager.unwrap_or_else(Kind::here))
}

fn manager_of(ctx: &Context, about: &About, kind: Kind) -> Result<Manager> {
    let (_, user_home) = who(ctx, about)?;
    let set = |name: &str| ctx.environment.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty());
    let config_home = set("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Manager::new(kind, about.scope(), user_home, config_home)
}

/// The user that the service belongs to, and what that user calls home.
fn who(ctx: &Context, about: &About) -> Result<(String, PathBuf)> {
    let set = |name: &str| {
        let value = ctx.environment.get(std::ffi::OsStr::new(name))?;
        value.to_str().filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let uid = match (about.scope(), ctx.home.root().metadata()) {
        (Scope::System, Ok(found)) => found.uid(),
        _ => rustix::process::geteuid().as_raw(),
    };
    let known = match &about.runs_as {
        Some(name) => passwd(|user| user[0] == name),
        None => passwd(|user| user[2] == uid.to_string()),
    };
    let name = about.runs_as.clone().or_else(|| known.as_ref().map(|(name, _)| name.clone())).or_else(|| set("USER"));
    let is_other = about.runs_as.is_some() || about.system;
    let own_home = if is_other { None } else { set("HOME").map(PathBuf::from) };
    let home = about.user_home.clone().or(own_home).or(known.map(|(_, home)| home));
    match (name, home) {
        (Some(name), Some(home)) if is_user_name(&name) => Ok((name, home)),
        _ => Err(Error::config("service.no_user", "could not find out as whom the service shall run")
            .hint("name the user with --as, and its home folder with --user-home")),
    }
}

fn is_user_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "._-@".contains(c))
}

/// A user that this machine keeps in its own file. Others (a directory service) are named by hand.
pub(super) fn passwd(is_wanted: impl Fn(&[&str]) -> bool) -> Option<(String, PathBuf)> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut users = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = users.find(|user| user.len() >= 6 && is_wanted(user))?;
    Some((user[0].to_owned(), user[5].into()))
}

/// How to install.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub dry_run: bool,
    pub start: bool,
    /// With the checks from outside.
    pub timers: bool,
}

/// Installs the service and starts it. Files are as they were if the manager refuses.
pub(super) async fn install(ctx: &Context, about: &About, how: How) -> Result<Report> {
    let How { dry_run, start, timers } = how;
    let mut report = Report::new("service install");
    let (manager, d) = (manager(ctx, about)?, describe(ctx, about)?);
    refuse_other_home(ctx, &manager)?;
    if !dry_run {
        manager.reach().await?;
    }
    let checks = timers_of(&manager, &d, timers)?;
    let units = [checks.clone(), manager.units(&d)?].concat();
    let before = HomeLock::holder(&ctx.home).filter(|holder| holder.what == "daemon");
    let is_service = manager.state().await.is_ok_and(|state| state.is_active);
    let steps = put(&units, dry_run)?;
    // A new timer is no reason to start the daemon again.
    let changed = steps[checks.len()..].iter().any(|step| step.did == "written");
    tell(&mut report, &steps, dry_run);
    if dry_run {
        report.detail("dry run: nothing was changed");
        report.data(&json!({ "units": steps, "dry_run": true }));
        return Ok(report);
    }
    let brought = async {
        manager.enable().await?;
        if !checks.is_empty() {
            manager.enable_timers().await?;
        }
        Ok(match (start, &before, is_service) {
            (false, ..) => "not started",
            (true, _, true) if !changed => "runs already",
            (true, _, true) => {
                manager.stop().await?;
                manager.start().await?;
                "started again with the new unit"
            }
            (true, Some(_), false) => "not started: a daemon that is no service holds the home",
            (true, None, false) => {
                manager.start().await?;
                "started"
            }
        })
    };
    match brought.await {
        Ok(how) => _ = report.detail(format!("the service is installed, {how}")),
        Err(error) => {
            // Half a service would be started at the next login.
            if changed {
                let _ = manager.disable().await;
            }
            if timers {
                let _ = manager.disable_timers().await;
            }
            if steps.iter().any(|step| step.did == "written") {
                units.iter().zip(&steps).rev().for_each(|(unit, step)| unit.undo(step));
                let _ = manager.forget().await;
            }
            return Err(error);
        }
    }
    if start && before.is_some() && !is_service {
        report.remark("a daemon runs that was not started by the service: `moon stop`, then `moon start`");
    }
    if about.scope() == Scope::User && manager.kind == Kind::Systemd && !lingers(&d.user) {
        report.remark(format!(
            "the service starts with the login and ends with the logout: `loginctl enable-linger {}` lets it run without",
            d.user
        ));
    }
    report.data(&json!({ "units": steps, "dry_run": false, "state": manager.state().await.ok() }));
    Ok(report)
}

/// One user, one service: a second home under the same name would take the first one's place.
fn refuse_other_home(ctx: &Context, manager: &Manager) -> Result<()> {
    let unit = Unit { path: manager.main_unit(), text: String::new() };
    if matches!(unit.found()?, Found::Ours(_)) && !manager.serves(ctx.home.root()) {
        return Err(Error::conflict("service.other_home", "a service of Moon's is installed for another home")
            .cause(format!("{} names it", unit.path.display()))
            .hint("`moon service uninstall` with that home first, or give this one a service by hand from `moon service print`"));
    }
    Ok(())
}

/// The units of the checks from outside: if they are wanted, or there from an earlier time.
fn timers_of(manager: &Manager, d: &Description, wanted: bool) -> Result<Vec<Unit>> {
    let units = match manager.timers(d) {
        Ok(units) => units,
        Err(_) if !wanted => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let found = units.iter().map(Unit::found).collect::<Result<Vec<_>>>()?;
    let is_there = found.iter().any(|found| matches!(found, Found::Ours(_) | Found::Changed));
    Ok(if wanted || is_there { units } else { Vec::new() })
}

/// Writes all of them or none.
fn put(units: &[Unit], dry_run: bool) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for unit in units {
        match unit.put(dry_run) {
            Ok(step) => steps.push(step),
            Err(error) => {
                units.iter().zip(&steps).rev().for_each(|(unit, step)| unit.undo(step));
                return Err(error);
            }
        }
    }
    Ok(steps)
}

fn lingers(user: &str) -> bool {
    Path::new("/var/lib/systemd/linger").join(user).exists()
}

/// Stops the service and takes its units away.
pub(super) async fn uninstall(ctx: &Context, about: &About, dry_run: bool) -> Result<Report> {
    let mut report = Report::new("service uninstall");
    let (manager, d) = (manager(ctx, about)?, describe(ctx, about)?);
    let checks = timers_of(&manager, &d, false)?;
    let units = [checks.clone(), manager.units(&d)?].concat();
    let mut is_ours = false;
    for unit in &units {
        is_ours |= matches!(unit.found()?, Found::Ours(_) | Found::Changed);
    }
    refuse_other_home(ctx, &manager)?;
    if is_ours && !dry_run {
        manager.reach().await?;
        if manager.state().await.is_ok_and(|state| state.is_active) {
            wish::stopped(&ctx.home, "moon service uninstall", Some(super::alerts::me(ctx)));
        }
        if !checks.is_empty() {
            manager.disable_timers().await?;
        }
        manager.disable().await?;
    }
    // The daemon's unit goes first: the other one only tells of its end.
    let steps = units.iter().rev().map(|unit| unit.take_away(dry_run)).collect::<Result<Vec<_>>>()?;
    if is_ours && !dry_run {
        manager.forget().await?;
    }
    tell(&mut report, &steps, dry_run);
    report.detail(match (dry_run, is_ours) {
        (true, _) => "dry run: nothing was changed",
        (false, true) => "the service is stopped and gone; the home stays where it is",
        (false, false) => "no service of Moon's is installed here",
    });
    report.data(&json!({ "units": steps, "dry_run": dry_run }));
    Ok(report)
}

fn tell(report: &mut Report, steps: &[Step], dry_run: bool) {
    for step in steps {
        let did = match (step.did, dry_run) {
            ("written", true) => "would write",
            ("removed", true) => "would remove",
            ("written", false) => "wrote",
            ("removed", false) => "removed",
            ("already", _) => "already so",
            ("left", _) => "left, not Moon's",
            _ => "not there",
        };
        report.detail(format!("{did:<17}{}", step.path.display()));
        if let Some(kept) = &step.kept {
            report.remark(format!("what stood there is kept as {}", kept.display()));
        }
    }
}

async fn status(ctx: &Context, about: &About) -> Result<Report> {
    let mut report = Report::new("service status");
    let (manager, d) = (manager(ctx, about)?, describe(ctx, about)?);
    let mut rows = Vec::new();
    let mut files = Vec::new();
    let mut is_installed = true;
    for unit in [manager.units(&d)?, timers_of(&manager, &d, false)?].concat() {
        let (state, is_present) = match unit.found()? {
            Found::Nothing => ("not there", false),
            Found::Ours(text) if text == unit.text => ("as this moon writes it", true),
            Found::Ours(_) => ("of another version or other settings", true),
            Found::Changed => ("changed by somebody", true),
            Found::Foreign => ("not Moon's", false),
        };
        is_installed &= is_present;
        rows.push(vec![unit.path.display().to_string(), state.to_owned()]);
        files.push(json!({ "path": unit.path, "state": state }));
    }
    table(&["UNIT", "STATE"], &rows).into_iter().for_each(|line| _ = report.detail(line));
    let seen = async {
        manager.reach().await?;
        manager.state().await
    };
    let state = match seen.await {
        Ok(state) => {
            let pid = state.pid.map_or(String::new(), |pid| format!(", pid {pid}"));
            let restarts = state.restarts.map_or(String::new(), |count| format!(", restarted {count} times"));
            report.detail(format!("{}{pid}{restarts}", state.text));
            state.status.iter().for_each(|said| _ = report.detail(format!("says: {said}")));
            if is_installed && !state.is_active {
                report.issue(match wish::is_stopped(&ctx.home) {
                    true => "the service is stopped, because somebody stopped it: `moon start`",
                    false => "the service is installed and does not run: `moon start`, `moon service logs`",
                });
            }
            Some(state)
        }
        Err(error) => {
            report.issue(error);
            None
        }
    };
    if !is_installed {
        report.issue("the service is not installed: `moon service install`");
    }
    let stopped = wish::is_stopped(&ctx.home);
    report.data(&json!({ "units": files, "installed": is_installed, "state": state, "stopped_on_purpose": stopped }));
    Ok(report)
}

async fn logs(ctx: &Context, about: &About, lines: u32) -> Result<Report> {
    let mut report = Report::new("service logs");
    let lines = manager(ctx, about)?.log(&describe(ctx, about)?, lines).await?;
    if lines.is_empty() {
        report.detail("the service manager keeps nothing of Moon's; Moon's own log is `moon logs`");
    }
    lines.iter().for_each(|line| _ = report.detail(line));
    report.data(&json!({ "lines": lines }));
    Ok(report)
}

fn print(ctx: &Context, kind: Option<Kind>, about: &About, timers: bool) -> Result<Report> {
    let mut report = Report::new("service print");
    let kind = kind.or(about.manager).unwrap_or_else(Kind::here);
    let (manager, d) = (manager_of(ctx, about, kind)?, describe(ctx, about)?);
    let units = if timers { manager.timers(&d)? } else { manager.units(&d)? };
    for (at, unit) in units.iter().enumerate() {
        if kind == Kind::Systemd {
            if at > 0 {
                report.detail("");
            }
            report.detail(format!("# {}", unit.path.display()));
        }
        report.block(&unit.text);
    }
    let units: Vec<_> = units.iter().map(|unit| json!({ "path": unit.path, "text": unit.text })).collect();
    report.data(&json!({ "units": units }));
    Ok(report)
}

/// The manager whose unit runs Moon for this home, whether it can be reached or not: the user's own comes first.
pub(super) fn unit(ctx: &Context) -> Option<Manager> {
    let scopes = [About::default(), About { system: true, ..About::default() }];
    scopes.iter().filter_map(|about| manager(ctx, about).ok()).find(|m| m.serves(ctx.home.root()))
}

/// The manager that runs Moon for this home, if one does.
pub(super) async fn installed(ctx: &Context) -> Option<Manager> {
    let found = unit(ctx)?;
    match found.reach().await {
        Ok(()) => Some(found),
        Err(error) => {
            ctx.out.note(&format!("note: Moon is installed as a service, but {error}"));
            None
        }
    }
}

/// True when a person can be asked.
pub(super) fn can_ask() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdin()) && output::is_terminal()
}
