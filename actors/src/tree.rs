//! The supervision tree of Moon, whole. Children start top to bottom and stop bottom to top.
//!
//! A vital child past its limit takes its supervisor with it, up to the process, which the service manager starts again. An
//! optional one is parked and shown, and everybody else goes on: losing distillation must not stop archiving.

use crate::domain::Stage::{Archive, Continuity, Distill, Index, Prune};
use crate::port::CheckGroup;
use crate::schedule::Task;
use crate::supervisor::{OneForOne, RestForOne, SupervisorSpec, max, supervisor};
use crate::wiring::Wiring;
use crate::{alert, bridge, control, health, projection, schedule, screens, stage, threshold, usage};

/// Everybody of the tree below its root: who can be restarted by name.
pub const NAMES: &[&str] = &[
    "alert",
    "projection",
    "pipeline",
    "archive",
    "index",
    "prune",
    "distill",
    "continuity",
    "threshold",
    "usage",
    "bridge",
    "health",
    "check-daemon",
    "check-heartbeat",
    "check-ledger",
    "check-archive",
    "check-index",
    "check-host",
    "check-disk",
    "check-inodes",
    "check-log-size",
    "check-clock",
    "check-backup",
    "check-delivery",
    "check-restarts",
    "check-databases",
    "check-endpoints",
    "check-processes",
    "check-logs",
    "check-commands",
    "care",
    "backup",
    "drill",
    "rotation",
    "report",
    "screens",
    "pages",
    "web",
    "control",
    "router",
    "socket",
];

pub fn tree(w: &Wiring) -> SupervisorSpec {
    let limits = || max(w.settings.supervision.max_crashes).per(w.settings.supervision.window);

    supervisor("moon", OneForOne, limits())
        .optional("alert", alert::start(w))
        .optional("projection", projection::start(w))
        .branch(
            supervisor("pipeline", OneForOne, limits())
                .vital("archive", stage::start(w, Archive))
                .optional("index", stage::start(w, Index))
                .optional("prune", stage::start(w, Prune))
                .optional("distill", stage::start(w, Distill))
                .optional("continuity", stage::start(w, Continuity))
                .vital("threshold", threshold::actor::start(w))
                .vital("usage", usage::actor::start(w))
                .vital("bridge", bridge::actor::start(w)),
        )
        .branch(checks(w, supervisor("health", OneForOne, limits())))
        .branch(
            supervisor("care", OneForOne, limits())
                .optional("backup", schedule::actor::start(w, Task::Backup))
                .optional("drill", schedule::actor::start(w, Task::Drill))
                .optional("rotation", schedule::actor::start(w, Task::Rotation))
                .optional("report", schedule::actor::start(w, Task::Report)),
        )
        .branch(
            supervisor("screens", OneForOne, limits())
                .optional("pages", screens::actor::pages(w))
                .optional("web", screens::actor::web(w)),
        )
        .branch(
            supervisor("control", RestForOne, limits())
                .vital("router", control::actor::router(w))
                .vital("socket", control::actor::socket(w)),
        )
}

/// One actor per group of checks: none delays another, and each may be lost alone.
fn checks(w: &Wiring, branch: SupervisorSpec) -> SupervisorSpec {
    branch
        .optional("check-daemon", health::actor::start(w, CheckGroup::Daemon))
        .optional("check-heartbeat", health::actor::start(w, CheckGroup::Heartbeat))
        .optional("check-ledger", health::actor::start(w, CheckGroup::Ledger))
        .optional("check-archive", health::actor::start(w, CheckGroup::Archive))
        .optional("check-index", health::actor::start(w, CheckGroup::Index))
        .optional("check-host", health::actor::start(w, CheckGroup::Host))
        .optional("check-disk", health::actor::start(w, CheckGroup::Disk))
        .optional("check-inodes", health::actor::start(w, CheckGroup::Inodes))
        .optional("check-log-size", health::actor::start(w, CheckGroup::LogSize))
        .optional("check-clock", health::actor::start(w, CheckGroup::Clock))
        .optional("check-backup", health::actor::start(w, CheckGroup::Backup))
        .optional("check-delivery", health::actor::start(w, CheckGroup::Delivery))
        .optional("check-restarts", health::actor::start(w, CheckGroup::Restarts))
        .optional("check-databases", health::actor::start(w, CheckGroup::Databases))
        .optional("check-endpoints", health::actor::start(w, CheckGroup::Endpoints))
        .optional("check-processes", health::actor::start(w, CheckGroup::Processes))
        .optional("check-logs", health::actor::start(w, CheckGroup::Logs))
        .optional("check-commands", health::actor::start(w, CheckGroup::Commands))
}
