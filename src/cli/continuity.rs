//! `moon continuity show`: looks at the maps that new windows begin with.

use super::Context;
use super::output::Report;
use super::route::{self, Needs};
use moon_actors::contract::Request;
use moon_actors::domain::ContinuityMap;
use moon_actors::port::ContinuityRow;
use moon_actors::{Error, Result};

/// Look at the maps that new windows begin with
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show the newest map, or the one of a session
    Show {
        /// The session the map is for
        #[arg(long, value_name = "KEY")]
        session: Option<String>,
    },
}

pub(super) fn run(ctx: &Context, Command::Show { session }: &Command) -> Result<Report> {
    let request = Request::Continuity { session: session.clone(), limit: 1 };
    let mut report = route::shown(route::ask(ctx, request, Needs::Nothing)?)?;
    report.command = "continuity show".into();
    let rows: Vec<ContinuityRow> = serde_json::from_value(report.data["continuity"].clone())
        .map_err(|e| Error::data("continuity.unreadable", "could not read the daemon's answer").cause(e))?;
    let Some(row) = rows.first() else {
        report.detail(match session {
            Some(session) => format!("{session} has not been rolled over yet"),
            None => "no session has been rolled over yet".to_owned(),
        });
        return Ok(report);
    };
    let path = ctx.home.root().join(&row.map_path);
    let unreadable = |e: &dyn std::fmt::Display| {
        Error::data("continuity.unreadable", format!("could not read the map {}", path.display()))
            .cause(e)
            .hint("run `moon verify`")
    };
    let text = std::fs::read(&path).map_err(|e| unreadable(&e))?;
    let map: ContinuityMap = serde_json::from_slice(&text).map_err(|e| unreadable(&e))?;
    let seen =
        row.confirmed_at.map_or("not yet seen in a model call".into(), |at| format!("seen in a model call at {at}"));
    report.detail(format!("{}  {}  rollover: {}  {seen}", row.session, row.at, row.rollover));
    report.detail(row.map_path.clone());
    report.detail("");
    report.block(&moon_actors::continuity::map::block(&map, ctx.settings().continuity.max_chars));
    report.data(&serde_json::json!({ "link": row, "map": map }));
    Ok(report)
}
