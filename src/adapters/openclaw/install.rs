//! Puts Moon's plugin into OpenClaw, takes it out again, and tells whether it is in.
//!
//! The configuration is changed by OpenClaw's own command, after a copy of the file was put aside. What was
//! changed is recorded, so that `moon uninstall` restores exactly that: lists are merged, other people's entries stay, and
//! what somebody changed since is left alone. A second run changes nothing. A dry run goes the same way without writing.
//!
//! It must never write `openclaw.json` itself and never print a value it did not set.

mod check;
mod command;
mod edit;
mod mode;
mod shrink;
mod write;

use crate::adapters::bridge_dir::{self, BridgeDir};
use crate::durable;
pub use check::Check;
use chrono::Utc;
use command::Cli;
use edit::{Change, Outcome, PLUGIN};
use moon_actors::settings::{Mode, OpenClaw};
use moon_actors::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// OpenClaw's command takes 1 to 3 s on a calm machine.
const COMMAND_DEADLINE: Duration = Duration::from_mins(2);
/// OpenClaw gives a compaction hook 30 s; the plugin must be back before.
const WAIT_LIMIT: Duration = Duration::from_secs(28);
/// A configuration larger than this is not one.
const CONFIG_LIMIT: u64 = 8 << 20;

/// The plugin as it is compiled into Moon.
const PLUGIN_FILES: [(&str, &str); 4] = [
    ("README.md", include_str!("../../../deploy/openclaw/moon-bridge/README.md")),
    ("index.js", include_str!("../../../deploy/openclaw/moon-bridge/index.js")),
    ("openclaw.plugin.json", include_str!("../../../deploy/openclaw/moon-bridge/openclaw.plugin.json")),
    ("package.json", include_str!("../../../deploy/openclaw/moon-bridge/package.json")),
];

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// A dry run: it would be done.
    Planned,
    Done,
    /// Nothing had to change.
    Already,
    /// Somebody else changed it since; not touched.
    Left,
}

/// One thing that is changed, or would be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// A path in OpenClaw's configuration or a file.
    pub what: String,
    /// For people: what it is good for, or what happened to it.
    pub why: String,
    /// Values in OpenClaw's configuration; none where there is nothing.
    pub before: Option<Value>,
    pub after: Option<Value>,
    pub state: StepState,
}

/// Everything `install` or `uninstall` did, or would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub steps: Vec<Step>,
    /// The copy of OpenClaw's configuration as it was before.
    pub backup: Option<PathBuf>,
    /// Remarks for people.
    pub notes: Vec<String>,
}

impl Report {
    /// True if anything was changed or, in a dry run, would be.
    pub fn changes_something(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.state, StepState::Planned | StepState::Done))
    }
}

/// Installs for one Moon home and one OpenClaw.
pub struct Installer {
    home: PathBuf,
    settings: OpenClaw,
    environment: Vec<(String, OsString)>,
}

/// `<home>/state/openclaw-install.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Record {
    v: u32,
    mode: Mode,
    config: PathBuf,
    changes: Vec<Change>,
    /// What the settings file said, once Moon has written the mode into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode_before: Option<mode::Before>,
}

/// OpenClaw's configuration as its owner wrote it.
struct Authored {
    path: PathBuf,
    text: String,
    value: Value,
}

impl Installer {
    /// `home` is Moon's home, absolute. The environment of this process decides which OpenClaw is meant.
    pub fn new(home: &Path, settings: &OpenClaw) -> Self {
        let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self { home: home.to_owned(), settings: settings.clone(), environment: environment.collect() }
    }

    /// The same with another environment: another user's OpenClaw, or a test's.
    #[must_use]
    pub fn with_environment(mut self, environment: Vec<(String, OsString)>) -> Self {
        self.environment = environment;
        self
    }

    /// Puts the plugin in for `mode`, or switches from the other mode. Repeating it changes nothing.
    /// Errors: `openclaw.command_*`, `openclaw.not_configured`, `openclaw.config_*`, `openclaw.plugin*`, `openclaw.write_refused`,
    /// `install.*`.
    pub async fn install(&self, mode: Mode, dry_run: bool) -> Result<Report> {
        self.check_home()?;
        let (cli, authored) = self.openclaw().await?;
        let record = self.read_record(&authored.path)?;
        edit::refuse_includes(&authored.value)?;
        let recorded = self.all_changes(&authored.value, record.as_ref());
        let base = edit::without_moon(&authored.value, &recorded);
        let wishes = self.wishes(&base, mode)?;
        let (target, changes, outcomes) = edit::apply(&authored.value, &base, &wishes, &recorded);
        let will_be_written = authored.value != target;
        let mut report = Report { steps: vec![], backup: None, notes: authored.notes(will_be_written) };
        report.notes.extend(switched_off(&authored.value, &target, mode));
        let files_changed = self.put_files(dry_run, &mut report)?;
        report.steps.extend(outcomes.into_iter().map(|outcome| step(outcome, dry_run)));
        if dry_run {
            return Ok(report);
        }
        let mode_before = record.as_ref().and_then(|record| record.mode_before.clone());
        let next = Record { v: 1, mode, config: authored.path.clone(), changes, mode_before };
        if record.as_ref() != Some(&next) {
            // Before the change: a crash in between leaves a record of what may not be there, never a change without one.
            self.write_record(&next)?;
        }
        if will_be_written {
            report.backup = Some(self.back_up(&authored)?);
            report.notes.extend(write::write(&cli, &authored, &[target]).await?);
        } else if files_changed {
            report.notes.push(self.reload(&cli).await);
        }
        Ok(report)
    }

    /// Writes the mode into the settings file, which `uninstall` takes back. Call it after [`Self::install`] for that mode.
    /// Errors: `config.write`, `install.*`.
    pub fn keep_mode(&self, file: &Path, mode: Mode) -> Result<()> {
        let before = mode::write(file, mode)?;
        if let Some(record) = self.load_record()? {
            // The first time counts: later ones find what Moon itself wrote.
            let mode_before = record.mode_before.clone().or(Some(before));
            self.write_record(&Record { mode, mode_before, ..record })?;
        }
        Ok(())
    }

    /// Takes out what `install` put in, and nothing else. Moon's own files of the bridge's folder stay, but for its texts.
    /// Without its record it goes by what can only be Moon's. Errors: as for [`Self::install`].
    pub async fn uninstall(&self, dry_run: bool) -> Result<Report> {
        self.check_home()?;
        let mut report = Report { steps: vec![], backup: None, notes: vec![] };
        let found = self.load_record()?;
        let left = match self.openclaw().await {
            Ok((cli, authored)) => self.take_out(&cli, &authored, dry_run, &mut report).await?,
            Err(error) if found.is_none() && !self.may_be_in(&error) => {
                report.notes.push(format!("nothing of Moon's is recorded in OpenClaw's configuration ({error})"));
                None
            }
            Err(error) => return Err(self.not_reachable(error)),
        };
        match left {
            None => self.remove_files(dry_run, &mut report)?,
            Some(place) => {
                let why =
                    format!("OpenClaw's configuration still names it at {place}: take that out, then run this again");
                let what = self.plugin_folder().display().to_string();
                report.steps.push(Step { what, why, before: None, after: None, state: StepState::Left });
            }
        }
        self.empty_slots(dry_run, &mut report)?;
        self.restore_mode(found.as_ref(), dry_run, &mut report)?;
        if !dry_run {
            durable::remove(&self.record_path()).map_err(|e| disk("remove the record of the installation", &e))?;
        }
        Ok(report)
    }

    /// Takes Moon's changes out of the configuration. Returns where it names the plugin's folder all the same.
    async fn take_out(
        &self,
        cli: &Cli,
        authored: &Authored,
        dry_run: bool,
        report: &mut Report,
    ) -> Result<Option<String>> {
        let record = self.read_record(&authored.path)?;
        let changes = self.all_changes(&authored.value, record.as_ref());
        if !changes.is_empty() || self.plugin_folder().exists() {
            // What is written elsewhere could name the plugin too.
            edit::refuse_includes(&authored.value)?;
        }
        if changes.is_empty() {
            report.notes.push("nothing of Moon's is in OpenClaw's configuration".into());
        } else if record.is_none() {
            report.notes.push("the record of the installation is lost: what can only be Moon's is taken out".into());
        }
        let (stages, outcomes) = shrink::stages(&authored.value, &changes);
        report.notes.extend(authored.notes(!stages.is_empty()));
        if stages.len() > 1 {
            let writes = stages.len();
            report
                .notes
                .push(format!("in {writes} writes, as OpenClaw refuses a single one that halves its configuration"));
        }
        report.steps.extend(outcomes.into_iter().map(|outcome| step(outcome, dry_run)));
        if stages.is_empty() || dry_run {
            let now = stages.last().unwrap_or(&authored.value);
            return Ok(edit::names_folder(now, &self.plugin_folder()));
        }
        report.backup = Some(self.back_up(authored)?);
        report.notes.extend(write::write(cli, authored, &stages).await?);
        // What is really there now, whoever wrote meanwhile.
        Ok(edit::names_folder(&read_authored(&authored.path)?.value, &self.plugin_folder()))
    }

    /// False if an OpenClaw that answers like this cannot have the plugin: it has no configuration, or there is no plugin.
    fn may_be_in(&self, error: &Error) -> bool {
        error.code != "openclaw.not_configured" && self.plugin_folder().exists()
    }

    fn not_reachable(&self, error: Error) -> Error {
        match error.code.as_str() {
            "openclaw.command_missing" | "openclaw.not_configured" => error.hint(format!(
                "set openclaw.command and openclaw.state_dir in moon.toml; if OpenClaw is gone for good, remove {} and {}",
                self.record_path().display(),
                self.plugin_folder().display()
            )),
            _ => error,
        }
    }

    /// Takes Moon's texts away: the next installation must not begin with old ones.
    fn empty_slots(&self, dry_run: bool, report: &mut Report) -> Result<()> {
        let texts = bridge_dir::empty_slots(&self.home, dry_run).map_err(|e| disk("empty the bridge's slots", &e))?;
        if texts > 0 {
            let why = format!("texts for the plugin, removed ({texts})");
            report.steps.push(file_step(&self.home.join("bridge").join("slots"), &why, true, dry_run));
        }
        Ok(())
    }

    fn restore_mode(&self, record: Option<&Record>, dry_run: bool, report: &mut Report) -> Result<()> {
        let before = record.and_then(|record| Some((record, record.mode_before.as_ref()?)));
        let file = before.map_or_else(|| self.home.join("moon.toml"), |(_, before)| before.file.clone());
        let mut leads = self.settings.mode == Mode::Lead;
        if let Some((record, before)) = before {
            let is_moons = mode::says(&file, record.mode)?;
            let state = match (is_moons, dry_run) {
                (false, _) => StepState::Left,
                (true, true) => StepState::Planned,
                (true, false) => StepState::Done,
            };
            if state == StepState::Done {
                mode::restore(before)?;
            }
            leads = if is_moons { before.mode.as_deref() == Some("lead") } else { leads };
            let why = if is_moons { "as it was before" } else { "changed by somebody else since, left as it is" };
            let what = format!("openclaw.mode in {}", file.display());
            report.steps.push(Step { what, why: why.into(), before: None, after: None, state });
        }
        if leads {
            report.notes.push(format!(
                "openclaw.mode is still lead: without the plugin Moon should observe; see {}",
                file.display()
            ));
        }
        Ok(())
    }

    fn all_changes(&self, config: &Value, record: Option<&Record>) -> Vec<Change> {
        let (folder, home) = (self.plugin_folder(), self.home.to_string_lossy());
        edit::all_changes(config, record.map(|record| &record.changes[..]), &folder.to_string_lossy(), &home)
    }

    fn wishes(&self, config: &Value, mode: Mode) -> Result<Vec<edit::Wish>> {
        let wait = u64::try_from(self.settings.bridge_wait.min(WAIT_LIMIT).as_millis()).unwrap_or(u64::MAX);
        let (folder, home) = (self.plugin_folder(), &self.home);
        edit::wishes(config, mode, &folder.to_string_lossy(), &home.to_string_lossy(), wait)
    }

    /// The command, and the configuration it works on.
    async fn openclaw(&self) -> Result<(Cli, Authored)> {
        let cli = Cli::new(&self.settings, self.environment.iter().cloned(), COMMAND_DEADLINE);
        let told = cli.run(&["config", "file", "--json"], b"").await?;
        let path = serde_json::from_str::<Value>(&told).ok().and_then(|told| Some(told["path"].as_str()?.to_owned()));
        let Some(path) = path.map(PathBuf::from) else {
            return Err(Error::unavailable(
                "openclaw.command_unknown",
                "OpenClaw's command did not name its configuration",
            )
            .hint("Moon's plugin needs OpenClaw 2026.9.6 or one that understands `openclaw config file --json`"));
        };
        let authored = read_authored(&path)?;
        // OpenClaw checks the whole configuration with a change, the values of its variables included.
        let needed = command::variables(&authored.text);
        Ok((cli.with_variables(self.environment.iter().filter(|(name, _)| needed.contains(name)).cloned()), authored))
    }

    /// A plugin whose files changed is still the old one in a running gateway.
    async fn reload(&self, cli: &Cli) -> String {
        match cli.run(&["plugins", "reload", PLUGIN], b"").await {
            Ok(_) => "the running gateway has reloaded the plugin".into(),
            Err(error) => format!("restart the gateway to load the new plugin ({error})"),
        }
    }

    fn plugin_folder(&self) -> PathBuf {
        self.home.join("openclaw").join(PLUGIN)
    }

    fn record_path(&self) -> PathBuf {
        self.home.join("state").join("openclaw-install.json")
    }

    fn check_home(&self) -> Result<()> {
        if self.home.is_absolute() && self.home.to_str().is_some() {
            return Ok(());
        }
        Err(Error::config("install.home", "Moon's home must be an absolute path in UTF-8")
            .hint("set home.path in moon.toml"))
    }

    /// Writes the plugin's files and the bridge's folder. True if a file of the plugin changed.
    fn put_files(&self, dry_run: bool, report: &mut Report) -> Result<bool> {
        let folder = self.plugin_folder();
        let mut changed = false;
        for (name, text) in PLUGIN_FILES {
            let file = folder.join(name);
            let is_same = std::fs::read(&file).is_ok_and(|bytes| bytes == text.as_bytes());
            if !is_same && !dry_run {
                let written = durable::create_folder(&folder).and_then(|()| durable::replace(&file, text.as_bytes()));
                written.map_err(|e| disk("write the plugin's files", &e))?;
            }
            changed |= !is_same;
            report.steps.push(file_step(&file, "the plugin", !is_same, dry_run));
        }
        let bridge = self.home.join("bridge");
        let is_missing = !bridge.is_dir();
        if is_missing && !dry_run {
            BridgeDir::open(&self.home).map_err(|e| disk("make the bridge's folder", &e))?;
        }
        report.steps.push(file_step(&bridge, "where Moon and the plugin meet", is_missing, dry_run));
        Ok(changed)
    }

    /// Removes the plugin's files by name, and its folder if nothing else is in it.
    fn remove_files(&self, dry_run: bool, report: &mut Report) -> Result<()> {
        let folder = self.plugin_folder();
        for (name, _) in PLUGIN_FILES {
            let file = folder.join(name);
            if !file.exists() {
                continue;
            }
            if !dry_run {
                durable::remove(&file).map_err(|e| disk("remove the plugin's files", &e))?;
            }
            report.steps.push(file_step(&file, "removed", true, dry_run));
        }
        if !dry_run {
            // Fails, as it should, when somebody put a file of their own beside ours.
            let _ = std::fs::remove_dir(&folder);
        }
        Ok(())
    }

    fn back_up(&self, authored: &Authored) -> Result<PathBuf> {
        let folder = self.home.join("backups").join("openclaw-config");
        let file = folder.join(format!("{}.json", Utc::now().format("%Y%m%dT%H%M%S%.6fZ")));
        let written = durable::create_folder(&folder).and_then(|()| durable::replace(&file, authored.text.as_bytes()));
        written.map_err(|e| disk("copy OpenClaw's configuration aside", &e))?;
        Ok(file)
    }

    fn write_record(&self, record: &Record) -> Result<()> {
        let path = self.record_path();
        let text = serde_json::to_vec_pretty(record).expect("a record of strings and values is JSON");
        let folder = path.parent().expect("the record has a folder");
        let written = durable::create_folder(folder).and_then(|()| durable::replace(&path, &text));
        written.map_err(|e| disk("record what is changed", &e))
    }

    fn load_record(&self) -> Result<Option<Record>> {
        let path = self.record_path();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk("read the record of the installation", &error)),
        };
        let damaged = |cause: String| {
            Error::data("install.record_damaged", format!("the record {} cannot be read", path.display()))
                .cause(cause)
                .hint("compare OpenClaw's configuration with the copies in backups/openclaw-config, then remove the record")
        };
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if record.v == 1 { Ok(Some(record)) } else { Err(damaged(format!("version {} is unknown", record.v))) }
    }

    /// The record, if it is about this configuration.
    fn read_record(&self, config: &Path) -> Result<Option<Record>> {
        match self.load_record()? {
            Some(record) if record.config != config => {
                let message = format!("Moon is installed in {}, not in {}", record.config.display(), config.display());
                Err(Error::conflict("install.other_config", message)
                    .hint("run `moon uninstall` with the settings of that time first"))
            }
            record => Ok(record),
        }
    }
}

impl Authored {
    fn notes(&self, will_be_written: bool) -> Vec<String> {
        let mut notes = Vec::new();
        if !will_be_written {
            return notes;
        }
        if serde_json::from_str::<Value>(&self.text).is_err() {
            notes
                .push("OpenClaw drops the comments of its configuration when it writes it; the copy keeps them".into());
        }
        if let Ok(linked) = std::fs::read_link(&self.path) {
            let (path, linked) = (self.path.display(), linked.display());
            notes.push(format!("{path} is a link: OpenClaw puts a file in its place and leaves {linked} as it is"));
        }
        notes
    }
}

/// Remarks about what is switched off in a way that is easily overlooked.
fn switched_off(config: &Value, target: &Value, mode: Mode) -> Vec<String> {
    let is_off = |config: &Value, path: &str| config.pointer(path) == Some(&Value::Bool(false));
    let mut notes = Vec::new();
    if is_off(config, &format!("/plugins/entries/{PLUGIN}/enabled")) {
        notes.push(format!("{PLUGIN} was switched off in OpenClaw's configuration; it is switched on again"));
    }
    let compaction = "/agents/defaults/compaction/enabled";
    if mode == Mode::Observe && is_off(config, compaction) {
        notes.push(match is_off(target, compaction) {
            true => "OpenClaw's own compaction is off (agents.defaults.compaction.enabled), and Moon, which only observes, will not \
                     compact either: `openclaw config unset agents.defaults.compaction.enabled` switches it on"
                .into(),
            false => "OpenClaw's own compaction was off for a Moon that leads; it is on again".into(),
        });
    }
    notes
}

fn read_authored(path: &Path) -> Result<Authored> {
    let describe = || format!("read OpenClaw's configuration {}", path.display());
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::config("openclaw.not_configured", describe())
                .cause("there is no such file")
                .hint("set OpenClaw up first (`openclaw onboard`), or set openclaw.state_dir in moon.toml"));
        }
        Ok(meta) if meta.len() > CONFIG_LIMIT => {
            return Err(Error::data("openclaw.config_unreadable", describe()).cause(format!("{} bytes", meta.len())));
        }
        _ => {}
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = "run Moon as the user who owns OpenClaw's configuration";
        Error::config("openclaw.config_unreadable", describe()).cause(error).hint(hint)
    })?;
    // The parser's words could quote a line with a secret; where it is says enough.
    let value = json5::from_str::<Value>(&text).ok().filter(Value::is_object).ok_or_else(|| {
        Error::data("openclaw.config_unreadable", describe())
            .cause("it is not a JSON5 object")
            .hint("see `openclaw config validate`")
    })?;
    Ok(Authored { path: path.to_owned(), text, value })
}

fn step(outcome: Outcome, dry_run: bool) -> Step {
    let state = match outcome.before == outcome.after {
        true if outcome.why.starts_with("changed by somebody else") => StepState::Left,
        true => StepState::Already,
        false if dry_run => StepState::Planned,
        false => StepState::Done,
    };
    let Outcome { path, before, after, why } = outcome;
    Step { what: edit::dotted(&path), why, before, after, state }
}

fn file_step(file: &Path, why: &str, is_change: bool, dry_run: bool) -> Step {
    let state = match (is_change, dry_run) {
        (false, _) => StepState::Already,
        (true, true) => StepState::Planned,
        (true, false) => StepState::Done,
    };
    Step { what: file.display().to_string(), why: why.into(), before: None, after: None, state }
}

fn disk(operation: &str, error: &io::Error) -> Error {
    let failed = if durable::is_full(error) {
        Error::transient("install.disk_full", operation).hint("free space on Moon's disk")
    } else {
        Error::config("install.disk", operation).hint("Moon's home must belong to the user who runs Moon")
    };
    failed.cause(error)
}

#[cfg(test)]
mod tests;
