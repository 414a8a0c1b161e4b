//! The supervision tree of Moon, whole. Children start top to bottom and stop bottom to top.
//!
//! A vital child past its limit takes its supervisor with it, up to the process, which the service manager starts again. An
//! optional one is parked and shown, and everybody else goes on: losing distillation must not stop archiving.

use crate::backup::chore::{BackupChore, DrillChore};
use crate::domain::Stage::{Archive, Continuity, Distill, Index, Prune};
use crate::schedule::Task;
use crate::supervisor::{OneForOne, RestForOne, SupervisorSpec, max, supervisor};
use crate::wiring::Wiring;
use crate::{alert, bridge, control, projection, schedule, stage, threshold, usage};
use std::sync::Arc;

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
        .branch(
            supervisor("care", OneForOne, limits())
                .optional("backup", schedule::actor::start(w, Task::Backup, |w| Arc::new(BackupChore(w.backups()))))
                .optional("drill", schedule::actor::start(w, Task::Drill, |w| Arc::new(DrillChore(w.backups())))),
        )
        .branch(
            supervisor("control", RestForOne, limits())
                .vital("router", control::actor::router(w))
                .vital("socket", control::actor::socket(w)),
        )
}
