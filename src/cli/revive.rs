//! `moon health --revive`: what cron calls. A daemon that is dead though nobody stopped it is told of, and started again.
//!
//! A deliberate stop is never undone, and a home in which no daemon ever ran gets none. Where a service manager looks after Moon, it
//! has started Moon again or has given up for a reason: then people are told and nothing else. A daemon that hangs is told of and not
//! killed from here; that it answers again ends the alert.

use super::output::Report;
use super::{Context, alerts, lifecycle, runtime, service};
use crate::daemon::socket;
use crate::screens::source;
use crate::service::RESTART_PAUSE;
use crate::service::manager::Kind;
use moon_actors::Result;
use moon_actors::contract::Request;

const NEXT_STEP: &str = "moon logs says how it ended; moon start starts it by hand";

/// The alert about a daemon that is not there for anybody.
const DOWN: (&str, &str) = ("daemon_critical", "moon");

/// What was done about a dead daemon, in one sentence; `None`: none is dead. An alert tells of it, and the next life ends that.
pub(super) fn run(ctx: &Context) -> Result<Option<String>> {
    let found = source::liveness(&ctx.home);
    if found["state"] == "stale" {
        return hung(ctx);
    }
    if found["state"] != "dead" {
        return Ok(None);
    }
    let said = found["said"].as_str().unwrap_or("the daemon is dead");
    let unit = service::unit(ctx);
    if let Some(manager) = &unit {
        let is_back = runtime::block_on(async {
            let has_given_up = manager.state().await.is_ok_and(|state| !state.is_active);
            !has_given_up && lifecycle::appears(ctx, RESTART_PAUSE * 3).await
        })?;
        if is_back {
            return Ok(Some(format!("{said}; its service manager has started it again")));
        }
    }
    let message = match unit {
        Some(_) => format!("{said}, and its service manager has not started it again"),
        None => said.to_owned(),
    };
    // Whoever cannot be told is no reason to leave it dead.
    let told = alerts::tell(ctx, DOWN, None, &message, Some(NEXT_STEP));
    let untold = told.err().map_or(String::new(), |error| format!(" ({error})"));
    if unit.is_some() {
        return Ok(Some(format!("{message}: `moon service status`{untold}")));
    }
    let mut started = Report::new("start");
    let how = match runtime::block_on(lifecycle::start(ctx, &mut started))? {
        Ok(()) if started.ok => "it was started again".to_owned(),
        Ok(()) => started.issues.iter().map(|issue| issue.message.clone()).collect::<Vec<_>>().join("; "),
        Err(error) => format!("it could not be started again: {error}"),
    };
    Ok(Some(format!("{said}; {how}{untold}")))
}

/// A daemon that holds the home: `None` if it answers.
fn hung(ctx: &Context) -> Result<Option<String>> {
    // The manager's watchdog ends one that hangs.
    if service::unit(ctx).is_some_and(|manager| manager.kind == Kind::Systemd) {
        return Ok(None);
    }
    let silent = match runtime::block_on(socket::ask(&ctx.home, &Request::Ping))? {
        Err(error) if error.code == socket::SILENT => error,
        // Whoever raised it: the daemon answers.
        Ok(Some(report)) if report.error.is_none() => return alerts::over(ctx, DOWN).map(|()| None),
        _ => return Ok(None),
    };
    let hint = "moon restart --force ends it and starts another one";
    let told = alerts::tell(ctx, DOWN, None, &silent.message, Some(hint));
    let untold = told.err().map_or(String::new(), |error| format!(" ({error})"));
    Ok(Some(format!("{}; people were told{untold}", silent.message)))
}
