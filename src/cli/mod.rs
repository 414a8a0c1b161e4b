//! The command line: what there is to type, and which file carries it out.
//!
//! Help texts are the doc comments. Each verb has a file of its own with its `Args` and `run(ctx, args) -> Result<Report>`;
//! this file only reads the words, loads the settings and hands over. It must never do a verb's work.

pub(crate) mod alerts;
mod backup;
mod bar;
mod bench;
mod config;
mod continuity;
mod cron;
mod ctl;
mod dashboard;
mod demo;
mod distill;
pub mod exit;
mod health;
mod index;
mod install;
mod lifecycle;
mod logs;
mod once;
pub mod output;
pub(crate) mod recall;
mod restart;
mod restore;
mod revive;
mod rotate_logs;
mod route;
pub mod runtime;
mod service;
mod sessions;
mod snapshot;
mod start;
mod status;
mod stop;
mod tail;
mod troubleshoot;
mod uninstall;
mod verify;
mod watch;

use crate::config::{Environment, Loaded, Problem, Sources, Usable};
use crate::home::Home;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use exit::Exit;
use moon_actors::settings::Settings;
use moon_actors::{Error, Result};
use output::{Output, Report};
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Keep a long-running AI agent alive without losing a byte of its memory
#[derive(Debug, Parser)]
#[command(name = "moon", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

/// What `--help` calls the flags that every command understands.
const GLOBAL: &str = "Global options";

/// Flags that every command understands
#[derive(Clone, Debug, Default, Args)]
pub struct Globals {
    /// Keep everything in this folder instead of `MOON_HOME` or ~/.lilac_metaflora
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    pub home: Option<PathBuf>,
    /// Read this settings file instead of `MOON_CONFIG_PATH` or moon.toml in the home
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub config: Option<PathBuf>,
    /// Set one key for this run, such as `--set thresholds.archive=0.7`; may be given again
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = GLOBAL)]
    pub set: Vec<String>,
    /// Print one JSON report instead of text
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Say more on stderr; -vv and -vvv say still more
    #[arg(long, short, global = true, action = clap::ArgAction::Count, help_heading = GLOBAL)]
    pub verbose: u8,
}

/// The verbs. The aliases are the names of the first plan.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch the sessions and keep them safe, for as long as it runs
    #[command(alias = "moon-watch")]
    Watch(watch::Args),
    /// Show the daemon, its actors, the sessions and what needs attention
    #[command(aliases = ["moon-status", "s"])]
    Status(status::Args),
    /// Show how everything is: live in the terminal, as a page, as JSON, as metrics
    #[command(aliases = ["dash", "d"])]
    Dashboard(dashboard::Args),
    /// List the sessions with their fill level and what is archived of them
    Sessions(sessions::Args),
    /// Archive sessions now, whatever their fill level
    #[command(alias = "moon-snapshot")]
    Snapshot(snapshot::Args),
    /// Bring the search index up to date with the archives
    #[command(alias = "moon-index")]
    Index(index::Args),
    /// Find archived passages, and put one back into a session
    #[command(alias = "moon-recall")]
    Recall(recall::Args),
    /// Distil sessions into the daily memory now
    #[command(alias = "moon-distill")]
    Distill(distill::Args),
    /// Look at the maps that new windows begin with
    #[command(subcommand)]
    Continuity(continuity::Command),
    /// Check the audit chain, every archive's hash, the ledger, the projections and the installation
    Verify(verify::Args),
    /// Check everything Moon and the agent need: 0 healthy, 1 critical, 2 degraded
    #[command(alias = "check")]
    Health(health::Args),
    /// Start the daemon, as a service if it is installed as one, and wait until it is up
    Start(start::Args),
    /// Stop the daemon and keep it stopped until somebody starts it
    Stop(stop::Args),
    /// Stop the daemon in order and start it again
    Restart(restart::Args),
    /// Run Moon as a service of this machine
    #[command(subcommand)]
    Service(service::Command),
    /// Put Moon's checks into the crontab too, for those who want them from outside
    #[command(alias = "cron")]
    CronInstall(cron::Args),
    /// Gather what helps to find a fault, without secrets and without a word of a conversation
    #[command(aliases = ["trouble", "t"])]
    Troubleshoot(troubleshoot::Args),
    /// Put a backup in place of what is there, verified first; or undo that
    Restore(restore::Args),
    /// Make a backup, list, prove or prune them
    Backup(backup::Args),
    /// Put the bridge into the session host, settle who leads, and install the service
    Install(install::Args),
    /// Take the bridge and the service out again; archives and memory stay
    Uninstall(uninstall::Args),
    /// Show or check the settings
    #[command(subcommand)]
    Config(config::Command),
    /// Show who is told of what, say that you know, silence it, try the routes
    Alerts(alerts::Args),
    /// Show the daemon's log
    #[command(aliases = ["log", "l"])]
    Logs(logs::Args),
    /// Put log files aside, compress and remove them as the settings say, now
    RotateLogs(rotate_logs::Args),
    /// Talk to the running daemon
    #[command(subcommand)]
    Ctl(ctl::Command),
    /// Play the whole story against a made-up host, apart from any installation
    Demo(demo::Args),
    /// Measure speed and memory on made-up sessions
    Bench(bench::Args),
}

/// What every command gets.
#[derive(Debug)]
pub struct Context {
    pub globals: Globals,
    /// Paths only: call [`Context::open_home`] before writing.
    pub home: Home,
    pub loaded: Loaded,
    /// What is wrong with the settings, for commands that go on all the same.
    pub wrong: Vec<Problem>,
    pub out: Output,
    pub environment: Environment,
}

impl Context {
    pub fn settings(&self) -> &Settings {
        &self.loaded.settings
    }
    /// Makes the home and its folders if needed, refuses an unsafe one, and logs what was too open.
    pub fn open_home(&self) -> Result<Home> {
        let (home, narrowed) = Home::open(self.home.root())?;
        for sentence in narrowed {
            tracing::warn!("{sentence}");
        }
        Ok(home)
    }
    /// A path from the settings: `~` is the user's home, empty is none, relative is refused.
    pub fn setting_path(&self, key: &str, text: &str) -> Result<Option<PathBuf>> {
        setting_path(&self.environment, key, text)
    }
}

fn setting_path(environment: &Environment, key: &str, text: &str) -> Result<Option<PathBuf>> {
    if text.is_empty() {
        return Ok(None);
    }
    crate::config::expand(Path::new(text), environment).map(Some).map_err(|message| {
        Error::config("config.invalid", "could not use the configuration").cause(format!("{key}: {message}"))
    })
}

/// Runs the command line and returns the code to end with. The process's first act must already have been the umask.
pub fn main(words: impl IntoIterator<Item = OsString>, environment: Environment) -> Exit {
    let words = sets_together(by_own_name(words.into_iter().collect()));
    let wants_json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => return unreadable(&error, wants_json),
    };
    if cli.command.works_like_the_daemon() {
        // Before anything is said, which would be said twice.
        runtime::in_one_heap();
    }
    crate::logging::start(cli.globals.verbose);
    let out = Output::new(cli.globals.json);
    let name = cli.command.name();
    let sources = sources(&cli, &environment);
    let loaded = crate::config::load(&sources);
    if let Command::Config(command) = &cli.command {
        return conclude(out, name, |_| config::run(command, &loaded, &sources));
    }
    let (loaded, wrong) = match loaded {
        Ok(loaded) => (loaded, Vec::new()),
        Err(problems) => match cli.command.despite(crate::config::usable(&sources)) {
            Some(loaded) => (loaded, problems),
            // Whoever watches plugins takes every other code for something else.
            None if matches!(&cli.command, Command::Health(args) if args.format == health::Format::Nagios) => {
                return out.report(&health::unknown(&crate::config::as_error(&problems)));
            }
            None => return out.error(name, &crate::config::as_error(&problems)),
        },
    };
    if let [first, others @ ..] = wrong.as_slice() {
        let more = if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) };
        tracing::warn!("the settings are wrong, `moon config check` says how: {first}{more}");
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let home = Home::at(&loaded.home);
    let context = Context { globals: cli.globals, home, loaded, wrong, out, environment };
    // A bug in a command ends that command like any other failure; the panic hook has said where it is.
    let result = catch_unwind(AssertUnwindSafe(|| dispatch(&context, &cli.command))).unwrap_or_else(|_| {
        Err(Error::data("cli.crashed", format!("could not finish `moon {name}`"))
            .cause("a bug in moon; its place is in the line above")
            .hint("run it again with -v and report what it says"))
    });
    match result {
        Ok(report) => context.out.report(&report),
        Err(error) => context.out.error(name, &error),
    }
}

fn dispatch(ctx: &Context, command: &Command) -> Result<Report> {
    match command {
        Command::Watch(args) => watch::run(ctx, args),
        Command::Status(args) => status::run(ctx, args),
        Command::Dashboard(args) => dashboard::run(ctx, args),
        Command::Sessions(args) => sessions::run(ctx, args),
        Command::Snapshot(args) => snapshot::run(ctx, args),
        Command::Index(args) => index::run(ctx, args),
        Command::Recall(args) => recall::run(ctx, args),
        Command::Distill(args) => distill::run(ctx, args),
        Command::Continuity(command) => continuity::run(ctx, command),
        Command::Verify(args) => verify::run(ctx, args),
        Command::Health(args) => health::run(ctx, args),
        Command::Start(args) => start::run(ctx, args),
        Command::Stop(args) => stop::run(ctx, args),
        Command::Restart(args) => restart::run(ctx, args),
        Command::Service(command) => service::run(ctx, command),
        Command::CronInstall(args) => cron::run(ctx, args),
        Command::Troubleshoot(args) => troubleshoot::run(ctx, args),
        Command::Restore(args) => restore::run(ctx, args),
        Command::Backup(args) => backup::run(ctx, args),
        Command::Install(args) => install::run(ctx, args),
        Command::Uninstall(args) => uninstall::run(ctx, args),
        Command::Config(_) => unreachable!("handled before the settings are required"),
        Command::Alerts(args) => alerts::run(ctx, args),
        Command::Logs(args) => logs::run(ctx, args),
        Command::RotateLogs(args) => rotate_logs::run(ctx, args),
        Command::Ctl(command) => ctl::run(ctx, command),
        Command::Demo(args) => demo::run(ctx, args),
        Command::Bench(args) => bench::run(ctx, args),
    }
}

impl Command {
    /// The verb as reports name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Watch(_) => "watch",
            Self::Status(_) => "status",
            Self::Dashboard(_) => "dashboard",
            Self::Sessions(_) => "sessions",
            Self::Snapshot(_) => "snapshot",
            Self::Index(_) => "index",
            Self::Recall(_) => "recall",
            Self::Distill(_) => "distill",
            Self::Continuity(_) => "continuity show",
            Self::Verify(_) => "verify",
            Self::Health(_) => "health",
            Self::Start(_) => "start",
            Self::Stop(_) => "stop",
            Self::Restart(_) => "restart",
            Self::Service(command) => command.name(),
            Self::CronInstall(_) => "service cron",
            Self::Troubleshoot(_) => "troubleshoot",
            Self::Restore(_) => "restore",
            Self::Backup(args) => args.name(),
            Self::Install(_) => "install",
            Self::Uninstall(_) => "uninstall",
            Self::Config(command) => command.name(),
            Self::Alerts(args) => args.name(),
            Self::Logs(_) => "logs",
            Self::RotateLogs(_) => "rotate-logs",
            Self::Ctl(command) => command.name(),
            Self::Demo(_) => "demo",
            Self::Bench(_) => "bench",
        }
    }

    /// The daemon itself, and what measures it.
    fn works_like_the_daemon(&self) -> bool {
        match self {
            Self::Watch(args) => args.stays(),
            Self::Bench(_) => true,
            _ => false,
        }
    }

    /// What this command does with when the settings are wrong. Looking for the fault, seeing how things are and stopping what runs takes
    /// the home alone; what begins a daemon takes all of them, as that one does.
    fn despite(&self, usable: Option<Usable>) -> Option<Loaded> {
        let only_looks = match self {
            Self::Troubleshoot(_) | Self::Stop(_) | Self::Status(_) | Self::Logs(_) | Self::Ctl(_) => true,
            Self::Alerts(args) => args.only_reads(),
            _ => false,
        };
        let begins = match self {
            Self::Watch(_) | Self::Start(_) | Self::Restart(_) | Self::Install(_) => true,
            Self::Service(command) => matches!(command, service::Command::Install { .. }),
            _ => false,
        };
        match usable? {
            Usable::AllButTemplates(loaded) => Some(loaded).filter(|_| !begins),
            Usable::HomeAlone(loaded) => Some(loaded).filter(|_| only_looks),
        }
    }

    /// False for commands that must not read or touch a real installation.
    fn uses_installation(&self) -> bool {
        !matches!(self, Self::Demo(_) | Self::Bench(_))
    }
}

fn sources(cli: &Cli, environment: &Environment) -> Sources {
    let Globals { home, config, set, .. } = cli.globals.clone();
    let installation = cli.command.uses_installation();
    Sources { home, file: config, set, environment: environment.clone(), installation }
}

fn conclude(out: Output, name: &str, run: impl FnOnce(&Output) -> Result<Report>) -> Exit {
    match run(&out) {
        Ok(report) => out.report(&report),
        Err(error) => out.error(name, &error),
    }
}

/// Called through a link named `moon-watch`, the program is `moon moon-watch`.
fn by_own_name(mut words: Vec<OsString>) -> Vec<OsString> {
    const NAMES: [&str; 6] =
        ["moon-watch", "moon-recall", "moon-distill", "moon-snapshot", "moon-index", "moon-status"];
    let own = words.first().map(Path::new).and_then(Path::file_name).and_then(|name| name.to_str());
    if let Some(name) = own.and_then(|own| NAMES.into_iter().find(|name| *name == own)) {
        words.splice(0..1, ["moon".into(), name.into()]);
    }
    words
}

/// Puts every `--set` before the command: of a flag given on both sides of it, clap would keep the later side only.
fn sets_together(words: Vec<OsString>) -> Vec<OsString> {
    let (mut sets, mut others) = (Vec::new(), Vec::new());
    let mut words = words.into_iter();
    others.extend(words.next());
    while let Some(word) = words.next() {
        if word == "--" {
            others.push(word);
            break;
        }
        if word == "--set" {
            match words.next() {
                Some(value) => sets.extend([word, value]),
                None => others.push(word),
            }
        } else if word.as_encoded_bytes().starts_with(b"--set=") {
            sets.push(word);
        } else {
            others.push(word);
        }
    }
    others.extend(words);
    let rest = others.split_off(others.len().min(1));
    others.into_iter().chain(sets).chain(rest).collect()
}

/// Help and version are answers; everything else is a wrong command line.
fn unreadable(error: &clap::Error, wants_json: bool) -> Exit {
    let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if wants_json && !is_answer {
        return Output::new(true).error("", &usage_error(&error.to_string()));
    }
    // A reader that went away is not worth a word.
    let _ = error.print();
    if is_answer { Exit::Ok } else { Exit::Usage }
}

/// clap's words as one sentence, and how it should have been typed.
fn usage_error(text: &str) -> Error {
    let told = |line: &&str| !line.is_empty() && !line.starts_with("For more information");
    let mut lines = text.lines().map(str::trim).filter(told);
    let said: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("Usage:")).collect();
    let message = said.join(" ").trim_start_matches("error: ").to_owned();
    let usage = text.lines().find_map(|line| line.trim().strip_prefix("Usage: ")).unwrap_or("moon --help");
    Error::config("cli.usage", message).hint(usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_usage_error_names_what_is_missing_and_how_it_is_typed() {
        let refused = Cli::try_parse_from(["moon", "recall"]).expect_err("no query");
        let error = usage_error(&refused.to_string());
        assert!(error.message.contains("<QUERY>"), "{error:?}");
        assert!(error.hint.is_some_and(|hint| hint.starts_with("moon recall")));
    }

    #[test]
    fn a_link_named_like_a_verb_runs_that_verb_and_other_names_run_moon() {
        let words = |list: &[&str]| by_own_name(list.iter().map(OsString::from).collect());
        assert_eq!(words(&["/usr/bin/moon-recall", "x"]), ["moon", "moon-recall", "x"]);
        assert_eq!(words(&["/usr/bin/moon-thing", "x"]), ["/usr/bin/moon-thing", "x"]);
    }

    #[test]
    fn settings_on_both_sides_of_the_command_all_count() {
        let words = |list: &[&str]| sets_together(list.iter().map(OsString::from).collect());
        let given = ["moon", "--set", "a=1", "watch", "--set=b=2", "--once", "--set", "c=3"];
        let all = words(&given);
        assert_eq!(all, ["moon", "--set", "a=1", "--set=b=2", "--set", "c=3", "watch", "--once"]);
        let cli = Cli::try_parse_from(all).expect("a command line");
        assert_eq!(cli.globals.set, ["a=1", "b=2", "c=3"]);
        assert_eq!(words(&["moon", "recall", "--", "--set", "x"]), ["moon", "recall", "--", "--set", "x"]);
        assert_eq!(words(&["moon", "status", "--set"]), ["moon", "status", "--set"]);
        assert_eq!(words(&[]), Vec::<OsString>::new());
    }
}
