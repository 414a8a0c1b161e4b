//! The checks: one file each. They look, and change nothing that is looked at.
//!
//! What blocks runs on a thread of its own (`lane`), what is foreign is bounded, and a check that cannot look says so: it never
//! takes that for "fine". What a finding means is the policy's business (`moon_actors::health::policy`).

mod archive;
mod backup;
mod clock;
mod commands;
mod daemon;
mod databases;
mod delivery;
mod disk;
mod endpoints;
pub mod healer;
mod heartbeat;
mod host;
mod index;
mod jsonl;
mod lane;
mod ledger;
mod log_size;
mod logs;
pub mod nagios;
mod processes;
mod restarts;
mod sqlite_file;

use crate::home::Home;
use moon_actors::Error;
use moon_actors::port::{ArchiveStore, Check, Clock, Ledger, SearchIndex, SessionHost};
use moon_actors::settings::Settings;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Who looks: the daemon at itself and the world, or a command from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Daemon,
    Outside,
}

/// What the checks look through.
#[derive(Clone)]
pub struct Senses {
    pub home: Home,
    pub settings: Arc<Settings>,
    pub clock: Arc<dyn Clock>,
    /// `Err`: why there is none to be read.
    pub ledger: Result<Arc<dyn Ledger>, Error>,
    pub host: Arc<dyn SessionHost>,
    pub archive: Option<Arc<dyn ArchiveStore>>,
    pub index: Option<Arc<dyn SearchIndex>>,
    pub place: Place,
}

/// All checks, in the order they are shown.
pub fn all(senses: &Senses) -> Vec<Arc<dyn Check>> {
    let health = &senses.settings.health;
    let mut checks: Vec<Arc<dyn Check>> = vec![
        Arc::new(daemon::DaemonAlive::new(senses)),
        Arc::new(heartbeat::Heartbeat::new(senses)),
        Arc::new(ledger::LedgerSound::new(senses)),
        Arc::new(archive::SpotCheck::new(senses)),
        Arc::new(index::IndexWhole::new(senses)),
        Arc::new(host::HostReachable::new(senses)),
        Arc::new(disk::DiskRoom::new(senses)),
        Arc::new(disk::Inodes::new(senses)),
        Arc::new(log_size::LogSize::new(senses)),
        Arc::new(clock::ClockSane::new(senses)),
        Arc::new(backup::BackupAge::new(senses)),
        Arc::new(delivery::Delivery::new(senses)),
        Arc::new(restarts::Restarts::new(senses)),
    ];
    checks.extend(health.databases.iter().map(|entry| databases::Databases::new(entry, senses) as _));
    checks.extend(health.endpoints.iter().map(|entry| endpoints::EndpointUp::new(entry) as _));
    checks.extend(health.processes.iter().map(|entry| processes::ProcessUp::new(entry, senses) as _));
    checks.extend(health.logs.iter().map(|entry| logs::ErrorsInLog::new(entry) as _));
    checks.extend(health.commands.iter().map(|entry| commands::OwnCommand::new(entry) as _));
    checks
}

/// A path of the settings, whose form they have checked already.
fn expand(path: &str) -> PathBuf {
    crate::config::expand(Path::new(path), &crate::config::process_environment()).unwrap_or_else(|_| path.into())
}

/// A span for people, without what nobody reads: `3h 20m`, not `3h 20m 12s 55ms`.
fn shown(span: Duration) -> String {
    let seconds = span.as_secs();
    let rounded = match seconds {
        0 => return format!("{} ms", span.as_millis()),
        1..120 => seconds,
        120..86_400 => seconds / 60 * 60,
        _ => seconds / 3600 * 3600,
    };
    humantime::format_duration(Duration::from_secs(rounded)).to_string()
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    crate::cli::output::size(bytes)
}
