//! Goes through every log and does what the policy says; what fails with one holds up no other.

use super::policy::{Step, steps};
use crate::contract::count;
use crate::error::{Error, Result};
use crate::port::{LogFiles, LogSet};
use crate::schedule::{Chore, Task};
use async_trait::async_trait;
use std::sync::Arc;

/// What one pass did, or would do.
#[derive(Clone, Debug, Default)]
pub struct Rotated {
    /// Log and step, in the order they were done.
    pub steps: Vec<(String, Step)>,
    /// Bytes fewer on the disk.
    pub freed: u64,
    pub failed: Vec<Error>,
}

impl Rotated {
    /// One sentence for people.
    pub fn sentence(&self) -> String {
        let number = |is: fn(&Step) -> bool| self.steps.iter().filter(|(_, step)| is(step)).count();
        let aside = number(|step| matches!(step, Step::PutAside { .. }));
        let compressed = number(|step| matches!(step, Step::Compress { .. }));
        let removed = number(|step| matches!(step, Step::Remove { .. }));
        if aside + compressed + removed == 0 {
            return "no log file had to be rotated".into();
        }
        format!(
            "{} put aside, {compressed} compressed, {removed} removed, {} KiB freed",
            count(aside, "log file"),
            self.freed / 1024
        )
    }
}

/// The rotation of all logs.
pub struct Rotation {
    pub logs: Arc<dyn LogFiles>,
    pub times: String,
}

impl Rotation {
    /// What a pass would do now.
    pub async fn plan(&self) -> Rotated {
        let mut planned = Rotated::default();
        for log in self.logs.list().await {
            match log {
                Ok(log) => planned.steps.extend(self.due(&log).into_iter().map(|step| (log.name.clone(), step))),
                Err(error) => planned.failed.push(error),
            }
        }
        planned
    }

    /// Does it.
    pub async fn pass(&self) -> Rotated {
        let mut done = Rotated::default();
        for log in self.logs.list().await {
            match log {
                Ok(log) => self.rotate(&log, &mut done).await,
                Err(error) => done.failed.push(error),
            }
        }
        done
    }

    fn due(&self, log: &LogSet) -> Vec<Step> {
        steps(&log.files, &log.rules, self.logs.now())
    }

    async fn rotate(&self, log: &LogSet, done: &mut Rotated) {
        let mut was_renamed = false;
        for step in self.due(log) {
            match self.logs.carry_out(log, &step).await {
                Ok(freed) => {
                    was_renamed |= matches!(step, Step::PutAside { .. });
                    done.freed += freed;
                    done.steps.push((log.name.clone(), step));
                }
                Err(error) => done.failed.push(error),
            }
        }
        if was_renamed && let Err(error) = self.logs.reopen(log).await {
            done.failed.push(error);
        }
    }
}

#[async_trait]
impl Chore for Rotation {
    fn task(&self) -> Task {
        Task::Rotation
    }
    fn times(&self) -> &str {
        &self.times
    }
    async fn run(&self) -> Result<String> {
        let done = self.pass().await;
        match done.failed.first() {
            None => Ok(done.sentence()),
            Some(error) => {
                let more = done.failed.len() - 1;
                let cause = if more == 0 { error.to_string() } else { format!("{error} (and {more} more)") };
                Err(Error { message: "could not rotate every log".into(), cause: Some(cause), ..error.clone() })
            }
        }
    }
}
