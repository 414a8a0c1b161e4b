//! Tells people by the log: always there, needs nothing. The other routes come beside it.

use async_trait::async_trait;
use moon_actors::port::{Alert, Notice, Notifier, Severity};
use moon_actors::{Error, Result};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Writes each notice as one JSON line to `logs/alerts.log`, and to the daemon's own log.
pub struct LogNotifier {
    path: PathBuf,
}

impl LogNotifier {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn append(&self, alert: &Alert) -> std::io::Result<()> {
        let state = if alert.resolved_at.is_some() { "resolved" } else { "firing" };
        let mut line = serde_json::json!({ "state": state, "alert": alert }).to_string();
        line.push('\n');
        let mut file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        file.write_all(line.as_bytes())
    }
}

#[async_trait]
impl Notifier for LogNotifier {
    fn name(&self) -> &str {
        "log"
    }

    async fn deliver(&self, notice: &Notice) -> Result<()> {
        let (Notice::Alert(alert) | Notice::Escalation(alert)) = notice else { return Ok(()) };
        let (rule, subject, hint) = (&alert.key.rule, &alert.key.subject, alert.hint.as_deref().unwrap_or(""));
        match (alert.resolved_at, alert.severity) {
            (Some(_), _) => tracing::info!(alert = alert.id, rule, subject, "resolved: {}", alert.message),
            (None, Severity::Critical) => tracing::error!(alert = alert.id, rule, subject, hint, "{}", alert.message),
            (None, _) => tracing::warn!(alert = alert.id, rule, subject, hint, "{}", alert.message),
        }
        self.append(alert).map_err(|e| Error::transient("alert.log", "could not append to logs/alerts.log").cause(e))
    }
}
