//! Errors among the last lines of a log file of the user's.

use super::expand;
use crate::pattern;
use async_trait::async_trait;
use moon_actors::domain::{Figure, Finding};
use moon_actors::port::{AlertRules, Check, CheckGroup, Look};
use moon_actors::settings::LogErrors;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Of the end of a file this much is read, bytes.
const MOST_BYTES: u64 = 1 << 20;
/// The entry whose alert has the document's own name.
const EMAIL: &str = "email";

pub(super) struct ErrorsInLog {
    name: String,
    log: LogErrors,
    lane: super::lane::Lane,
}

impl ErrorsInLog {
    pub(super) fn new(log: &LogErrors) -> Arc<Self> {
        Arc::new(Self { name: format!("log:{}", log.name), log: log.clone(), lane: Default::default() })
    }
}

/// The file meant: of several that match, the one written last.
fn newest(entry: &Path) -> Result<PathBuf, String> {
    let text = entry.to_string_lossy();
    if !pattern::is_pattern(&text) {
        return Ok(entry.to_owned());
    }
    let paths = pattern::paths(&text).map_err(|why| format!("the pattern cannot be used: {why}"))?;
    let dated = paths.filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)));
    dated.max().map(|(_, path)| path).ok_or_else(|| format!("no file matches {text}"))
}

/// How many of the last lines hold the text, and how many lines there are.
fn count(entry: &Path, text: &str, lines: usize) -> Result<(usize, usize), String> {
    let mut file = std::fs::File::open(newest(entry)?).map_err(|e| e.to_string())?;
    let length = file.metadata().map_err(|e| e.to_string())?.len();
    let from = length.saturating_sub(MOST_BYTES);
    file.seek(SeekFrom::Start(from)).map_err(|e| e.to_string())?;
    let mut end = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut end).map_err(|e| e.to_string())?;
    let end = String::from_utf8_lossy(&end).to_lowercase();
    // Cut in the midst of a line: that one does not count.
    let skip = usize::from(from > 0);
    let all: Vec<&str> = end.lines().skip(skip).collect();
    let last = &all[all.len().saturating_sub(lines)..];
    let text = text.to_lowercase();
    Ok((last.iter().filter(|line| line.contains(&text)).count(), last.len()))
}

#[async_trait]
impl Check for ErrorsInLog {
    fn name(&self) -> &str {
        &self.name
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Logs
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::both(if self.log.name == EMAIL { "email_errors" } else { "logs.errors" }))
    }
    async fn look(&self, _: &Look) -> Finding {
        let (path, text, lines) = (expand(&self.log.path), self.log.text.clone(), self.log.lines);
        let (errors, lines) = match self.lane.run(move || count(&path, &text, lines)).await {
            Ok(Ok(counted)) => counted,
            Ok(Err(why)) | Err(why) => return Finding::unknown(format!("{} could not be read: {why}", self.log.path)),
        };
        let reason = format!("{errors} of the last {lines} lines hold {:?}", self.log.text);
        let finding = if errors > self.log.most { Finding::warning(reason) } else { Finding::ok(reason) };
        finding
            .hint(format!("look into {}", self.log.path))
            .figure("errors", Figure::new(errors as f64, "").above(Some(self.log.most as f64), None))
    }
}
