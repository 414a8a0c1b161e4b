//! `moon recall`: finds archived passages, and puts one back into a session.

use super::Context;
use super::output::Report;
use super::route::{self, Needs};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use moon_actors::contract::{RecallResult, Request};
use moon_actors::{Error, Result};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to look for
    #[arg(value_name = "QUERY", required_unless_present = "query_flag", conflicts_with = "query_flag")]
    query: Option<String>,
    /// The query, as the first plan wrote it
    #[arg(long = "query", value_name = "QUERY", hide = true)]
    query_flag: Option<String>,
    /// Look only into this session
    #[arg(long, value_name = "KEY")]
    pub session: Option<String>,
    /// Only what was said since then: a date (2026-11-20), a time (RFC 3339) or a span (3d)
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// At most this many passages instead of `recall.limit`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub limit: Option<u16>,
    /// Put a passage into the next model call of this session
    #[arg(long, value_name = "SESSION")]
    pub inject: Option<String>,
    /// Which passage to put there, counted from 1
    #[arg(long, value_name = "N", requires = "inject", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub pick: u16,
}

impl Args {
    /// What to look for, however it was given.
    pub fn query(&self) -> &str {
        self.query.as_deref().or(self.query_flag.as_deref()).unwrap_or_default()
    }
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    let pick = usize::from(args.pick);
    let request = Request::Recall {
        query: args.query().to_owned(),
        session: args.session.clone(),
        since: args.since.as_deref().map(|text| since(text, Utc::now())).transpose()?,
        limit: args.limit.map_or(ctx.settings().recall.limit, usize::from).max(pick),
        inject: args.inject.clone(),
        pick,
    };
    let mut report = route::shown(route::ask(ctx, request, Needs::Nothing)?)?;
    if args.inject.is_none()
        && let Ok(found) = serde_json::from_value::<RecallResult>(report.data.clone())
    {
        describe(&mut report, &found);
    }
    Ok(report)
}

/// A day, a moment, or a span before now.
fn since(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Ok(moment.to_utc());
    }
    if let Some(day) = text.parse::<NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0)) {
        return Ok(day.and_utc());
    }
    let span = humantime::parse_duration(text).ok().and_then(|span| TimeDelta::from_std(span).ok());
    span.and_then(|span| now.checked_sub_signed(span)).ok_or_else(|| {
        Error::config("cli.usage", format!("--since does not understand {text:?}"))
            .hint("write a date (2026-11-20), a time (2026-11-20T08:00:00Z) or a span (3d)")
    })
}

fn describe(report: &mut Report, found: &RecallResult) {
    if let Some(why) = &found.degraded {
        report.remark(format!("the index is {why}: the answer may lack something"));
    }
    report.details.extend(lines(found));
}

/// Lines of a passage that are shown; the archive has the rest.
const LINES_SHOWN: usize = 12;

/// What was found, as people read it.
pub(crate) fn lines(found: &RecallResult) -> Vec<String> {
    let mut lines = Vec::new();
    for (word, instead) in &found.repaired {
        lines.push(format!("(nobody wrote {word:?}; searched {instead:?} instead)"));
    }
    if found.matches.is_empty() {
        lines.push("nothing found".to_owned());
    }
    for (rank, one) in found.matches.iter().enumerate() {
        let text = |key: &str| one.metadata[key].as_str().unwrap_or("unknown").to_owned();
        if rank > 0 {
            lines.push(String::new());
        }
        let (session, at, speaker) = (text("session"), text("at"), text("speaker"));
        lines.push(format!("{}. {session}  {at}  {speaker}  score {:.2}", rank + 1, one.score));
        lines.extend(one.snippet.lines().take(LINES_SHOWN).map(|line| format!("   {line}")));
        if one.snippet.lines().nth(LINES_SHOWN).is_some() {
            lines.push("   …".to_owned());
        }
        lines.push(format!("   {} #{}", one.archive_path, one.metadata["seq"]));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_understands_a_day_a_moment_and_a_span() {
        let now = DateTime::parse_from_rfc3339("2026-11-20T12:00:00Z").expect("a time").to_utc();
        let at = |text| since(text, now).expect("understood").to_rfc3339();
        assert_eq!(at("2026-11-01"), "2026-11-01T00:00:00+00:00");
        assert_eq!(at("2026-11-20T08:00:00+02:00"), "2026-11-20T06:00:00+00:00");
        assert_eq!(at("3d"), "2026-11-17T12:00:00+00:00");
        assert_eq!(since("yesterday-ish", now).expect_err("not a time").code, "cli.usage");
    }
}
