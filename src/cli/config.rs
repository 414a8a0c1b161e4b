//! `moon config`: shows the settings in force with their origin, or says what is wrong with them.

use super::exit::Exit;
use super::output::{Issue, Remarks, Report, table};
use crate::config::{Environment, Loaded, Problem, Sources, as_error, beside};
use moon_actors::Result;
use moon_actors::contract::count;
use serde_json::json;
use std::path::Path;

/// Show or check the settings
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show every key with the value in force
    Show {
        /// Say for each value where it came from
        #[arg(long)]
        origin: bool,
    },
    /// Check the settings and report every problem at once
    Check,
}

impl Command {
    /// The verb as reports name it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Show { .. } => "config show",
            Self::Check => "config check",
        }
    }
}

/// Takes what loading gave, good or bad: checking bad settings is this command's work.
pub(super) fn run(
    command: &Command,
    loaded: &std::result::Result<Loaded, Vec<Problem>>,
    sources: &Sources,
) -> Result<Report> {
    match (command, loaded) {
        (Command::Show { origin }, Ok(loaded)) => show(command.name(), loaded, *origin),
        (Command::Show { .. }, Err(problems)) => Err(as_error(problems)),
        (Command::Check, Ok(loaded)) => Ok(sound(command.name(), loaded, &sources.environment)),
        (Command::Check, Err(problems)) => Ok(broken(command.name(), problems, sources)),
    }
}

fn show(name: &str, loaded: &Loaded, origin: bool) -> Result<Report> {
    let mut report = Report::new(name);
    let entries = loaded.entries()?;
    if origin {
        let rows: Vec<Vec<String>> =
            entries.iter().map(|(key, value, from)| vec![key.clone(), value.clone(), from.to_string()]).collect();
        report.details = table(&["KEY", "VALUE", "ORIGIN"], &rows);
    } else {
        report.details = entries.iter().map(|(key, value, _)| format!("{key} = {value}")).collect();
    }
    warn(&mut report, loaded);
    let keys: Vec<_> =
        entries.iter().map(|(key, value, from)| json!({ "key": key, "value": value, "origin": from })).collect();
    report.data(&json!({ "home": shown(&loaded.home), "file": loaded.file.as_deref().map(shown), "keys": keys }));
    Ok(report)
}

fn sound(name: &str, loaded: &Loaded, environment: &Environment) -> Report {
    let mut report = Report::new(name);
    let missing = loaded.missing(environment);
    let set = count(loaded.origins.len(), "key");
    let but = match missing.len() {
        0 => String::new(),
        lacking => format!("; this machine lacks {}", count(lacking, "thing")),
    };
    report.detail(match &loaded.file {
        Some(file) => format!("{}: in order; {set} set here or elsewhere{but}", file.display()),
        None => format!("no settings file: the defaults are in force; {set} set elsewhere{but}"),
    });
    warn(&mut report, loaded);
    for problem in &missing {
        report.remark(problem.to_string());
    }
    report.data(&json!({
        "home": shown(&loaded.home),
        "file": loaded.file.as_deref().map(shown),
        "problems": [],
        "warnings": list(&missing),
    }));
    report
}

fn list(problems: &[Problem]) -> Vec<serde_json::Value> {
    problems.iter().map(|p| json!({ "place": p.place, "key": p.key, "message": p.message })).collect()
}

/// JSON holds text only: a path that is none is shown as well as can be.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The warnings come behind what is wrong: nothing is left to be found out when that is right.
fn broken(name: &str, problems: &[Problem], sources: &Sources) -> Report {
    let mut report = Report::new(name);
    let (odd, missing) = beside(sources);
    let missing_lines = missing.iter().map(ToString::to_string);
    report.details = odd.into_iter().chain(missing_lines).map(|line| format!("warning: {line}")).collect();
    report.trouble_first = true;
    for problem in problems {
        let issue = Issue::from(problem.to_string());
        report.issue(Issue { code: Some("config.invalid".into()), ..issue });
    }
    report.data(&json!({ "problems": list(problems), "warnings": list(&missing) }));
    report.exit = Some(Exit::Usage);
    report
}

fn warn(report: &mut Report, loaded: &Loaded) {
    report.remarks = Remarks::Warnings;
    for warning in &loaded.warnings {
        report.remark(warning.as_str());
    }
}
