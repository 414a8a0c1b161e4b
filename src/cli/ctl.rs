//! `moon ctl`: talks to the running daemon.

use super::Context;
use super::output::{Report, table};
use super::route::{self, Needs};
use super::{lifecycle, runtime};
use moon_actors::Result;
use moon_actors::contract::Request;
use moon_actors::supervisor::{ChildStatus, Phase};

/// Talk to the running daemon
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show how the daemon is
    Status,
    /// Show the supervision tree with states and restarts
    Tree,
    /// Start one actor again, also one that was parked; without a name everything, with the settings read anew
    Restart {
        /// Its name as `moon ctl tree` shows it
        actor: Option<String>,
    },
    /// Put log files aside, compress and remove them as the settings say
    RotateLogs,
    /// Read the settings anew and go on with them; wrong ones are refused and everything goes on as it was
    Reload,
    /// Let the daemon make a backup now
    Backup,
    /// Let running work finish and end the daemon
    Stop,
}

impl Command {
    /// The verb as reports name it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Status => "ctl status",
            Self::Tree => "ctl tree",
            Self::Restart { .. } => "ctl restart",
            Self::RotateLogs => "ctl rotate-logs",
            Self::Reload => "ctl reload",
            Self::Backup => "ctl backup",
            Self::Stop => "ctl stop",
        }
    }
}

pub(super) fn run(ctx: &Context, command: &Command) -> Result<Report> {
    let request = match command {
        Command::Status => Request::Status,
        Command::Tree => Request::Tree,
        Command::Restart { actor: Some(actor) } => Request::Restart { actor: actor.clone() },
        Command::Restart { actor: None } | Command::Reload => Request::Reload,
        Command::RotateLogs => Request::RotateLogs { dry_run: false },
        Command::Backup => Request::Backup,
        Command::Stop => Request::Stop,
    };
    let before = lifecycle::SocketId::of(ctx);
    let answer = route::ask(ctx, request, Needs::Daemon)?;
    let mut report = match command {
        Command::Status => {
            let mut document = route::shown(answer)?.data;
            document["home"] = serde_json::json!(ctx.home.root().display().to_string());
            document["daemon"] = serde_json::json!(crate::daemon::lock::HomeLock::holder(&ctx.home));
            super::status::report("ctl status", document)
        }
        _ => route::shown(answer)?,
    };
    report.command = command.name().into();
    match command {
        Command::Tree => tree(&mut report),
        // "Stopped" is true only once the lock is free.
        Command::Stop => stopped(ctx, &mut report),
        Command::Restart { actor: None } | Command::Reload => {
            // The answer came before the end of the old tree.
            match runtime::block_on(lifecycle::renewed(ctx, before.as_ref()))? {
                true => _ = report.detail("moon runs with them"),
                false => _ = report.issue("moon is not up again yet: see `moon status` and `moon logs`"),
            }
        }
        Command::Status | Command::Restart { actor: Some(_) } | Command::Backup | Command::RotateLogs => {}
    }
    Ok(report)
}

fn stopped(ctx: &Context, report: &mut Report) {
    let limit = ctx.settings().supervision.drain * 12;
    let begun = std::time::Instant::now();
    while crate::daemon::lock::HomeLock::holder(&ctx.home).is_some() {
        if begun.elapsed() > limit {
            report.issue("the daemon was told to stop and has not ended yet");
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    report.detail("moon has stopped");
}

fn tree(report: &mut Report) {
    let Ok(tree) = serde_json::from_value::<Vec<ChildStatus>>(report.data["tree"].clone()) else { return };
    let mut rows = Vec::new();
    lines(&tree, 0, &mut rows);
    let parked: Vec<String> =
        rows.iter().filter(|row| row[1] == "parked").map(|row| row[0].trim().to_owned()).collect();
    for line in table(&["ACTOR", "STATE", "RESTARTS", "SINCE", "LAST ERROR"], &rows) {
        report.detail(line);
    }
    for name in parked {
        report.issue(format!("{name} is parked: `moon ctl restart {name}` revives it"));
    }
}

fn lines(children: &[ChildStatus], depth: usize, rows: &mut Vec<Vec<String>>) {
    for child in children {
        let phase = match child.phase {
            Phase::Up => "up",
            Phase::Waiting => "waiting",
            Phase::Parked => "parked",
            Phase::Stopped => "stopped",
        };
        let since = humantime::format_duration(std::time::Duration::from_secs(child.since.as_secs())).to_string();
        let error: String = child.last_error.as_deref().unwrap_or("").chars().take(60).collect();
        rows.push(vec![
            format!("{}{}", "  ".repeat(depth), child.name),
            phase.into(),
            child.restarts.to_string(),
            since,
            error,
        ]);
        lines(&child.children, depth + 1, rows);
    }
}
