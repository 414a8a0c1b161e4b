//! Goes through every log and does what the policy says; what fails with one holds up no other.

use super::policy::{LogFile, Step, steps, why_left};
use crate::contract::{Report, count};
use crate::error::Error;
use crate::port::{Carried, LogFiles, LogSet};
use crate::schedule::{Chore, Ran, Task};
use async_trait::async_trait;
use serde::Serialize;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// What one pass did, or would do.
#[derive(Clone, Debug, Default)]
pub struct Rotated {
    /// Log and step, in the order they were done.
    pub steps: Vec<(String, Step)>,
    /// What became of every file that was looked at.
    pub files: Vec<Fate>,
    /// Bytes fewer on the disk.
    pub freed: u64,
    pub failed: Vec<Error>,
}

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// The log that it is of.
    pub log: String,
    pub file: String,
    pub did: Did,
    /// Its size before.
    pub bytes: u64,
    pub freed: u64,
    /// Its new name.
    pub to: Option<String>,
    pub why: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    PutAside,
    Compressed,
    Removed,
    Left,
}

impl Fate {
    fn left(log: &LogSet, file: &LogFile, why: &'static str) -> Self {
        let path = Path::new(&log.name).with_file_name(&file.name).display().to_string();
        Self {
            log: log.name.clone(),
            file: path,
            did: Did::Left,
            bytes: file.bytes,
            freed: 0,
            to: None,
            why: Some(why),
        }
    }

    /// For people.
    pub fn line(&self) -> String {
        let did = match self.did {
            Did::PutAside => "put aside",
            Did::Compressed => "compressed",
            Did::Removed => "removed",
            Did::Left => "left",
        };
        let to = self.to.as_ref().map_or(String::new(), |to| format!(" -> {to}"));
        let why = self.why.map_or(String::new(), |why| format!(": {why}"));
        format!("{did:<11}{} ({} bytes){to}{why}", self.file, self.bytes)
    }
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
                Ok(log) => {
                    let due = self.due(&log);
                    planned.files.extend(self.left(&log, &due));
                    planned.steps.extend(due.into_iter().map(|step| (log.name.clone(), step)));
                }
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

    /// The files without a step.
    fn left(&self, log: &LogSet, due: &[Step]) -> Vec<Fate> {
        let now = self.logs.now();
        let rest = log.files.iter().filter(|file| due.iter().all(|step| step.name() != file.name));
        rest.map(|file| Fate::left(log, file, why_left(file, &log.rules, now))).collect()
    }

    async fn rotate(&self, log: &LogSet, done: &mut Rotated) {
        let mut was_renamed = false;
        let due = self.due(log);
        for step in &due {
            let Some(file) = log.files.iter().find(|file| file.name == step.name()) else { continue };
            match self.logs.carry_out(log, step).await {
                Ok(Carried::Done { freed, to }) => {
                    was_renamed |= matches!(step, Step::PutAside { .. });
                    done.freed += freed;
                    done.files.push(Fate { did: step.did(), freed, to, why: step.why(), ..Fate::left(log, file, "") });
                    done.steps.push((log.name.clone(), step.clone()));
                }
                Ok(Carried::Left(why)) => done.files.push(Fate::left(log, file, why)),
                Err(error) => {
                    done.files.push(Fate::left(log, file, "it could not be done"));
                    done.failed.push(error);
                }
            }
        }
        done.files.extend(self.left(log, &due));
        if was_renamed && let Err(error) = self.logs.reopen(log).await {
            done.failed.push(error);
        }
    }
}

impl Step {
    fn did(&self) -> Did {
        match self {
            Self::PutAside { .. } => Did::PutAside,
            Self::Compress { .. } => Did::Compressed,
            Self::Remove { .. } => Did::Removed,
        }
    }
    fn name(&self) -> &str {
        let (Self::PutAside { name, .. } | Self::Compress { name } | Self::Remove { name, .. }) = self;
        name
    }
    fn why(&self) -> Option<&'static str> {
        match self {
            Self::PutAside { why, .. } | Self::Remove { why, .. } => Some(why),
            Self::Compress { .. } => None,
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
    async fn run(&self) -> Ran {
        let done = self.pass().await;
        let data = json!({ "steps": done.steps, "files": done.files, "freed": done.freed });
        let mut told = Report::new("rotate-logs").data(data);
        told.details = done.files.iter().map(Fate::line).collect();
        told.details.push(done.sentence());
        let said = match done.failed.first() {
            None => Ok(done.sentence()),
            Some(error) => {
                let more = done.failed.len() - 1;
                let cause = if more == 0 { error.to_string() } else { format!("{error} (and {more} more)") };
                Err(Error { message: "could not rotate every log".into(), cause: Some(cause), ..error.clone() })
            }
        };
        done.failed.into_iter().for_each(|error| told.issue(error));
        Ran { said, told: Some(told) }
    }
}
