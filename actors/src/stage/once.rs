//! The pipeline without actors: due stages are run until nothing is due. For `moon watch --once` and the other commands that
//! work while no daemon runs. Same engines, same ledger, same audit.

use super::{Engine, Passed, pass};
use crate::domain::{CycleId, Stage};
use crate::error::{Error, Result};
use crate::port::{Ledger, Probe};
use crate::settings::Supervision;
use std::collections::HashSet;
use std::sync::Arc;

/// What a run did, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ran {
    /// Stage, session, sentence.
    pub did: Vec<(Stage, String, String)>,
    pub failed: Vec<(Stage, String, Error)>,
}

/// Runs every stage until a whole round finds nothing new to do. However long that takes, a job that keeps failing does not keep
/// it going: the run ends.
pub async fn run_until_quiet(
    engines: &[Arc<dyn Engine>],
    ledger: &dyn Ledger,
    probe: &dyn Probe,
    settings: &Supervision,
) -> Result<Ran> {
    let mut ran = Ran::default();
    let mut put_back: HashSet<(CycleId, Stage)> = HashSet::new();
    loop {
        let mut quiet = true;
        for engine in engines {
            loop {
                match pass(engine.as_ref(), ledger, probe, settings).await? {
                    Passed::Idle => break,
                    Passed::Did(job, done) => ran.did.push((job.stage, job.session.to_string(), done.message)),
                    Passed::Failed(job, error) | Passed::Waits(job, error) => {
                        // Its pause is over while we still work: whoever is not put back yet went before it.
                        if !put_back.insert((job.cycle.clone(), job.stage)) {
                            break;
                        }
                        ran.failed.push((job.stage, job.session.to_string(), error));
                    }
                    Passed::Lost => {}
                }
                quiet = false;
            }
        }
        if quiet {
            return Ok(ran);
        }
    }
}
