//! `moon troubleshoot`: what a person needs to find a fault, in one file that can be handed on, and what it looks like.
//!
//! Nothing in it is from a conversation, and everything passes the redaction that the memory has, and besides every secret that
//! this process can name is taken out literally. It reads; the only thing it writes is that file, for its owner alone. It works
//! without a daemon and with wrong settings, because that is when it is needed.

use super::output::{self, Report, size};
use super::service::{self, About};
use super::{Context, lifecycle, runtime, tail};
use crate::daemon::{ports, socket};
use crate::service::wish;
use moon_actors::contract::Request;
use moon_actors::distill::redact::{REDACTED, redact};
use moon_actors::port::Ledger as _;
use moon_actors::{Error, Result};
use serde_json::{Value, json};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lines of each log, from its end.
const LOG_LINES: usize = 2000;
/// Bytes of a log that are read for them.
const LOG_BYTES: u64 = 4 << 20;
/// A running daemon may take this long for each answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Free room below which the document warns, and below which it is critical.
const DISK_LOW: u64 = 5_000_000_000;
const DISK_CRITICAL: u64 = 2_000_000_000;
/// Logs that together are larger are worth a word.
const LOGS_LARGE: u64 = 100 << 20;
/// Shorter values are ordinary words; taking them out would make the rest unreadable.
const SHORTEST_SECRET: usize = 6;
/// Largest file that is read as a secret.
const SECRET_FILE: u64 = 64 << 10;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the bundle to this file instead of moon-troubleshoot-<time>.tar.gz here
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What looks wrong, why that may be, and what to do: the document's matrix.
struct Finding {
    symptom: String,
    cause: &'static str,
    step: String,
}

struct Bundle {
    secrets: Vec<String>,
    members: Vec<(String, String)>,
    findings: Vec<Finding>,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    let mut bundle = Bundle { secrets: secrets(ctx), members: Vec::new(), findings: Vec::new() };
    bundle.machine();
    bundle.settings(ctx);
    bundle.daemon(ctx);
    bundle.ledger(ctx);
    bundle.service(ctx);
    bundle.disk(ctx);
    bundle.rights(ctx);
    bundle.logs(ctx);
    let told: Vec<Value> = bundle
        .findings
        .iter()
        .map(|f| {
            let (symptom, step) = (bundle.clean_text(&f.symptom), bundle.clean_text(&f.step));
            json!({ "symptom": symptom, "likely_cause": f.cause, "next_step": step })
        })
        .collect();
    bundle.add("findings.json", &pretty(&json!(told)));
    let out = match &args.out {
        Some(out) => std::path::absolute(out),
        None => {
            std::path::absolute(format!("moon-troubleshoot-{}.tar.gz", chrono::Local::now().format("%Y%m%d_%H%M%S")))
        }
    }
    .map_err(|e| Error::config("troubleshoot.write", "could not name the bundle's file").cause(e))?;
    bundle.write(&out)?;
    let mut report = Report::new("troubleshoot");
    for finding in &bundle.findings {
        report.detail(bundle.clean_text(&finding.symptom));
        report.detail(format!("  likely cause  {}", finding.cause));
        report.detail(format!("  next step     {}", bundle.clean_text(&finding.step)));
    }
    if bundle.findings.is_empty() {
        report.detail("nothing looks wrong from here");
    }
    report.detail(format!(
        "{} files, without secrets and without a word of a conversation: {}",
        bundle.members.len(),
        out.display()
    ));
    report.detail("read it before you hand it on");
    let members: Vec<&String> = bundle.members.iter().map(|(name, _)| name).collect();
    report.data(&json!({ "file": out, "members": members, "findings": told }));
    if !bundle.findings.is_empty() {
        report.ok = false;
    }
    Ok(report)
}

impl Bundle {
    fn add(&mut self, name: &str, text: &str) {
        let text = self.clean(text);
        self.members.push((name.to_owned(), text));
    }

    fn find(&mut self, symptom: impl Into<String>, cause: &'static str, step: impl Into<String>) {
        self.findings.push(Finding { symptom: symptom.into(), cause, step: step.into() });
    }

    /// Text without secrets: line by line, values of JSON one by one, so that quotes hide nothing.
    fn clean(&self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        for line in text.lines() {
            let line = match serde_json::from_str::<Value>(line) {
                Ok(mut value @ (Value::Object(_) | Value::Array(_))) => {
                    self.clean_value(&mut value);
                    value.to_string()
                }
                _ => self.clean_text(line),
            };
            clean.push_str(&line);
            clean.push('\n');
        }
        clean
    }

    fn clean_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.clean_text(text),
            Value::Array(list) => list.iter_mut().for_each(|value| self.clean_value(value)),
            Value::Object(map) => {
                for (key, value) in map.iter_mut() {
                    // "password": "plain word" is a secret by its neighbour only.
                    if value.is_string() && names_a_secret(key) && !key.to_lowercase().ends_with("_file") {
                        *value = REDACTED.into();
                    } else {
                        self.clean_value(value);
                    }
                }
            }
            _ => {}
        }
    }

    fn clean_text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), REDACTED);
            }
        }
        redact(&text).into_owned()
    }

    fn machine(&mut self) {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let text = format!(
            "moon {}\nos {} {}\nkernel {}\n{}\nuptime {}\n",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH,
            file("/proc/version").trim(),
            file("/etc/os-release").trim(),
            file("/proc/uptime").trim(),
        );
        self.add("about/machine.txt", &text);
    }

    fn settings(&mut self, ctx: &Context) {
        let mut text = format!("file {:?}\nhome {}\n", ctx.loaded.file, ctx.home.root().display());
        for (key, value, origin) in ctx.loaded.entries().unwrap_or_default() {
            text.push_str(&format!("{key} = {value}    ({origin})\n"));
        }
        // Names only: what a variable holds is nobody's business.
        let named = |name: &&std::ffi::OsString| {
            let name = name.to_string_lossy();
            name.starts_with("MOON_") || name.starts_with("OPENCLAW_")
        };
        for name in ctx.environment.keys().filter(named) {
            text.push_str(&format!("variable {} is set\n", name.to_string_lossy()));
        }
        for warning in &ctx.loaded.warnings {
            text.push_str(&format!("warning: {warning}\n"));
        }
        for problem in &ctx.wrong {
            text.push_str(&format!("wrong: {problem}\n"));
            self.find(
                format!("the settings are wrong: {problem}"),
                "A mistake in moon.toml or in a variable",
                "`moon config check`, and correct what it names",
            );
        }
        self.add("about/settings.txt", &text);
    }

    fn daemon(&mut self, ctx: &Context) {
        let holder = lifecycle::running(ctx);
        let mut text = format!("holder of the home: {}\n", json!(holder));
        let is_stopped = wish::is_stopped(&ctx.home);
        text.push_str(&format!("stopped on purpose: {is_stopped}\n"));
        match (&holder, is_stopped) {
            (None, true) => self.find("the daemon does not run", "Somebody stopped it", "`moon start`"),
            (None, false) => self.find(
                "the daemon does not run and nobody stopped it",
                "It was never started, it crashed and nothing restarts it, or it cannot start",
                "`moon start`; if that fails, `moon watch --daemon` says why",
            ),
            (Some(holder), _) => {
                let answer = |request: Request| {
                    let asked = async { tokio::time::timeout(ANSWER, socket::ask(&ctx.home, &request)).await };
                    runtime::block_on(asked).ok().and_then(|a| a.ok()).and_then(|a| a.ok()).flatten()
                };
                match (answer(Request::Status), answer(Request::Tree)) {
                    (Some(status), Some(tree)) => {
                        self.parked(&tree.data["tree"]);
                        self.checks(&status.data["health"]["checks"]);
                        self.add("tree.json", &tree.data.to_string());
                        self.add("status.json", &status.data.to_string());
                    }
                    _ => self.find(
                        format!("the daemon (pid {}) does not answer", holder.pid),
                        "It hangs, or is busy with its start",
                        "Wait a minute, then `moon restart --force`",
                    ),
                }
            }
        }
        self.add("about/daemon.txt", &text);
    }

    /// Health checks that are not in order, as the status document has them.
    fn checks(&mut self, checks: &Value) {
        for check in checks.as_array().into_iter().flatten() {
            let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
            if ["warning", "critical"].contains(&text("state").as_str()) {
                let symptom = format!("{} is {}: {}", text("name"), text("state"), text("reason"));
                self.find(symptom, "See the check", text("hint"));
            }
        }
    }

    fn parked(&mut self, tree: &Value) {
        for child in tree.as_array().into_iter().flatten() {
            let name = child["name"].as_str().unwrap_or_default();
            if child["phase"] == "parked" {
                let error = child["last_error"].as_str().unwrap_or("no reason is known");
                self.find(
                    format!("{name} is parked: {error}"),
                    "It crashed too often: a bug",
                    format!("`moon ctl restart {name}`, and report the crash"),
                );
            }
            self.parked(&child["children"]);
        }
    }

    fn ledger(&mut self, ctx: &Context) {
        let outcome = runtime::block_on(async {
            let Some(ledger) = ports::open_ledger_read_only(&ctx.home)? else { return Ok(None) };
            let (complaints, audit) = (ledger.integrity().await?, ledger.verify_audit().await?);
            Ok::<_, Error>(Some((
                complaints,
                audit,
                ledger.alerts(false).await?,
                ledger.chores().await?,
                ledger.jobs(true).await?,
            )))
        });
        match outcome.and_then(|inner| inner) {
            Ok(None) => self.add("about/ledger.txt", "there is no ledger yet"),
            Ok(Some((complaints, audit, alerts, chores, jobs))) => {
                for complaint in &complaints {
                    self.find(
                        format!("the ledger complains: {complaint}"),
                        "The disk, or somebody else's write",
                        "`moon stop`, keep a copy of state/, restore a backup",
                    );
                }
                if let Err(seq) = audit {
                    self.find(
                        format!("the audit does not fit at row {seq}"),
                        "Somebody changed the database, or the disk did",
                        "`moon verify`, and compare with a backup",
                    );
                }
                for alert in alerts.iter().filter(|alert| alert.resolved_at.is_none()) {
                    let step = alert.hint.clone().unwrap_or_else(|| "the runbook".into());
                    self.find(format!("an alert fires: {}: {}", alert.key.rule, alert.message), "See the alert", step);
                }
                let recent: Vec<String> = alerts.iter().rev().take(200).map(|alert| json!(alert).to_string()).collect();
                self.add("alerts.jsonl", &recent.join("\n"));
                self.add("chores.json", &json!(chores).to_string());
                self.add("jobs.json", &json!(jobs).to_string());
                self.add("about/ledger.txt", &format!("complaints {complaints:?}\naudit {audit:?}\n"));
            }
            Err(error) => {
                self.add("about/ledger.txt", &format!("{error}"));
                self.find(
                    error.to_string(),
                    "The database is damaged, locked or not readable",
                    error.hint.unwrap_or_else(|| "`moon logs`".into()),
                );
            }
        }
    }

    fn service(&mut self, ctx: &Context) {
        let about = About::default();
        let (Ok(manager), Ok(d)) = (service::manager(ctx, &about), service::describe(ctx, &about)) else { return };
        let mut text = String::new();
        let is_installed = manager.main_unit().exists();
        let seen = runtime::block_on(async {
            manager.reach().await?;
            manager.state().await
        });
        match seen.and_then(|seen| seen) {
            Ok(state) => {
                text.push_str(&format!("{}\n", json!(state)));
                if is_installed && state.text.starts_with("failed") {
                    self.find(
                        format!("the service is {}", state.text),
                        "It kept failing, and the manager has given up",
                        "`moon service logs`, then `moon start`",
                    );
                }
            }
            Err(error) => text.push_str(&format!("{error}\n")),
        }
        for unit in manager.units(&d).unwrap_or_default() {
            let text_there = std::fs::read_to_string(&unit.path).unwrap_or_else(|e| format!("({e})"));
            text.push_str(&format!("\n# {}\n{text_there}\n", unit.path.display()));
        }
        self.add("about/service.txt", &text);
        if is_installed && let Ok(Ok(lines)) = runtime::block_on(manager.log(&d, 500)) {
            self.add("service-log.txt", &lines.join("\n"));
        }
    }

    fn disk(&mut self, ctx: &Context) {
        let root = ctx.home.root();
        let mut text = String::new();
        if let Some(free) = crate::adapters::room::free(root) {
            text.push_str(&format!("free {free} bytes\n"));
            if free < DISK_LOW {
                let how = if free < DISK_CRITICAL { "critically little" } else { "little" };
                self.find(
                    format!("{how} room is left on the home's disk: {}", size(free)),
                    "Logs or old backups, or somebody else's files",
                    "`moon rotate-logs`, then look at backups/",
                );
            }
        }
        let folders = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        for folder in folders.filter(|path| path.is_dir() && !path.is_symlink()) {
            let bytes = bytes_in(&folder, 6);
            text.push_str(&format!("{} {bytes}\n", folder.display()));
            if folder == ctx.home.logs_dir() && bytes > LOGS_LARGE {
                self.find(format!("the logs take {}", size(bytes)), "Logs are not rotated", "`moon rotate-logs`");
            }
        }
        self.add("about/disk.txt", &text);
    }

    fn rights(&mut self, ctx: &Context) {
        let mut text = String::new();
        let mut wide = 0;
        let mut folders = vec![ctx.home.root().to_owned()];
        let below = ["state", "logs", "run", "backups", "bridge"].map(|name| ctx.home.root().join(name));
        folders.extend(below);
        for path in folders.iter().flat_map(|folder| std::iter::once(folder.clone()).chain(entries(folder))) {
            let Ok(found) = path.symlink_metadata() else { continue };
            let mode = found.permissions().mode() & 0o7777;
            text.push_str(&format!("{mode:04o} {}:{} {}\n", found.uid(), found.gid(), path.display()));
            wide += usize::from(mode & 0o077 != 0 && !found.is_symlink());
        }
        if wide > 0 {
            self.find(
                format!("others can use {wide} of the files and folders of the home"),
                "Somebody widened them, or a copy did",
                "The next start narrows what Moon knows; see about/rights.txt",
            );
        }
        self.add("about/rights.txt", &text);
    }

    fn logs(&mut self, ctx: &Context) {
        let names = [
            "logs/moon.log",
            "logs/alerts.log",
            "logs/daemon.out",
            "logs/cron.log",
            "logs/launchd_stdout.log",
            "logs/launchd_stderr.log",
        ];
        for name in names {
            let mut budget = LOG_BYTES;
            let lines = tail::last_matching(&ctx.home.root().join(name), LOG_LINES, &mut budget, |_| true);
            if let Ok(lines) = lines
                && !lines.is_empty()
            {
                self.add(name, &lines.join("\n"));
            }
        }
    }

    fn write(&self, out: &Path) -> Result<()> {
        let failed = |e: std::io::Error| {
            Error::config("troubleshoot.write", format!("could not write {}", out.display()))
                .cause(e)
                .hint("name another file with --out")
        };
        crate::durable::replace_with(out, |file| {
            let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::default()));
            for (name, text) in &self.members {
                let mut header = tar::Header::new_ustar();
                header.set_mode(0o600);
                header.set_size(text.len() as u64);
                header.set_mtime(chrono::Utc::now().timestamp().unsigned_abs());
                tar.append_data(&mut header, format!("moon-troubleshoot/{name}"), text.as_bytes())?;
            }
            tar.into_inner()?.finish()?.flush()
        })
        .map_err(failed)
    }
}

/// Every secret that this process can name: variables that say what they are, and files that the settings point to.
fn secrets(ctx: &Context) -> Vec<String> {
    let mut secrets: Vec<String> = Vec::new();
    for (name, value) in &ctx.environment {
        if names_a_secret(&name.to_string_lossy()) {
            secrets.push(value.to_string_lossy().into_owned());
        }
    }
    for (key, value, _) in ctx.loaded.entries().unwrap_or_default() {
        let files = value.split('"').skip(1).step_by(2).filter(|part| part.starts_with(['/', '~']));
        if key.ends_with("_file") || value.contains("_file") {
            for file in files.filter_map(|file| crate::config::expand(Path::new(file), &ctx.environment).ok()) {
                secrets.extend(read_secret(&file));
            }
        }
    }
    secrets.retain(|secret| secret.trim().len() >= SHORTEST_SECRET);
    // A longer one may hold a shorter one.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

fn read_secret(path: &Path) -> Vec<String> {
    let Ok(file) = crate::durable::open_regular(path) else { return Vec::new() };
    let mut text = String::new();
    match std::io::Read::read_to_string(&mut std::io::Read::take(file, SECRET_FILE), &mut text) {
        Ok(_) => text.lines().map(|line| line.trim().to_owned()).collect(),
        Err(_) => Vec::new(),
    }
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    ["token", "secret", "password", "passwd", "passphrase", "api_key", "apikey", "private_key", "credential"]
        .iter()
        .any(|word| name.contains(word))
        // What counts tokens is no secret.
        && !name.ends_with("tokens")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().take(500).map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// Bytes below a folder, so many levels deep; links are not followed.
fn bytes_in(folder: &Path, depth: u32) -> u64 {
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() && depth > 0 => bytes_in(&entry.path(), depth - 1),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(size).sum()
}

fn pretty(value: &Value) -> String {
    output::escape(&value.to_string())
}
