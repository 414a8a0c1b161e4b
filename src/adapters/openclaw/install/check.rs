//! Whether Moon's plugin is in OpenClaw as it should be, one expectation at a time.
//!
//! Looking changes nothing: it must make no folder and write no file.

use super::edit::{self, PLUGIN};
use super::{Installer, PLUGIN_FILES, disk};
use crate::adapters::bridge_dir::{Asked, BridgeDir};
use moon_actors::Result;
use moon_actors::port::Bridge as _;
use moon_actors::settings::Mode;
use serde::Serialize;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// One expectation and whether it holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    pub what: String,
    pub holds: bool,
    pub detail: String,
    /// What mends it.
    pub hint: String,
}

impl Check {
    /// One that `moon install` mends.
    fn new(what: impl Into<String>, holds: bool, detail: impl Into<String>) -> Self {
        Self { what: what.into(), holds, detail: detail.into(), hint: "moon install".into() }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl Installer {
    /// Every expectation of an installation for `mode`, in the order in which to mend them.
    /// Errors: OpenClaw's command or its configuration cannot be read at all.
    pub async fn verify(&self, mode: Mode) -> Result<Vec<Check>> {
        self.check_home()?;
        let (_, authored) = self.openclaw().await?;
        let record = self.read_record(&authored.path)?;
        let base = edit::without_moon(&authored.value, &self.all_changes(&authored.value, record.as_ref()));
        let mut checks: Vec<Check> = PLUGIN_FILES.iter().map(|(name, text)| self.check_file(name, text)).collect();
        match self.wishes(&base, mode) {
            Err(error) => {
                let hint = error.hint.clone().unwrap_or_default();
                checks.push(Check::new("plugins", false, error.to_string()).hint(hint));
            }
            Ok(wishes) => checks.extend(wishes.iter().map(|wish| {
                let now = edit::get(&authored.value, &wish.path);
                let detail = now.map_or_else(|| "not set".to_owned(), Value::to_string);
                Check::new(edit::dotted(&wish.path), edit::holds(&authored.value, wish), detail)
            })),
        }
        checks.extend(check_not_overruled(&authored.value, mode));
        checks.push(check_private(&authored.path));
        checks.extend(self.check_loaded().await?);
        Ok(checks)
    }

    fn check_file(&self, name: &str, text: &str) -> Check {
        let file = self.plugin_folder().join(name);
        let holds = std::fs::read(&file).is_ok_and(|bytes| bytes == text.as_bytes());
        let detail = if holds { "as in this Moon" } else { "missing or of another version" };
        Check::new(file.display().to_string(), holds, detail)
    }

    /// Whether a gateway has the plugin and, if so, calls it.
    async fn check_loaded(&self) -> Result<Vec<Check>> {
        let what = "a running gateway has loaded the plugin";
        // Opening the bridge would make its folder; looking must not.
        if !self.home.join("bridge").is_dir() {
            return Ok(vec![Check::new(what, false, "the folder where Moon and the plugin meet is missing")]);
        }
        let bridge = BridgeDir::open(&self.home).map_err(|e| disk("open the bridge's folder", &e))?;
        let status = bridge.status().await;
        let hint = "start the gateway; if it runs, `moon install`, then `openclaw plugins reload moon-bridge`";
        let mut checks = vec![Check::new(what, status.alive, status.detail).hint(hint)];
        checks.extend(bridge.asked().map(check_asked));
        Ok(checks)
    }
}

/// What somebody may have set against Moon.
fn check_not_overruled(config: &Value, mode: Mode) -> Vec<Check> {
    let hooks = format!("plugins.entries.{PLUGIN}.hooks");
    let denied = config.pointer(&format!("/plugins/entries/{PLUGIN}/hooks/allowPromptInjection"));
    let what = format!("{hooks}.allowPromptInjection is not false");
    let detail = "without it no text of Moon's reaches the model";
    let hint = format!("openclaw config unset {hooks}.allowPromptInjection");
    let mut checks = vec![Check::new(what, denied != Some(&Value::Bool(false)), detail).hint(hint)];
    if mode == Mode::Observe {
        let provider = config.pointer("/agents/defaults/compaction/provider").and_then(Value::as_str);
        let detail = provider.unwrap_or("not set");
        let holds = provider != Some(PLUGIN);
        checks.push(Check::new("agents.defaults.compaction.provider is not Moon's", holds, detail));
    }
    checks
}

fn check_private(config: &Path) -> Check {
    let mode_bits = std::fs::metadata(config).map(|m| m.permissions().mode() & 0o777).unwrap_or_default();
    let detail = format!("mode {mode_bits:o}; it holds the gateway's token");
    let hint = format!("chmod 600 {}", config.display());
    Check::new("OpenClaw's configuration is readable by its owner only", mode_bits & 0o077 == 0, detail).hint(hint)
}

fn check_asked(asked: Asked) -> Check {
    let detail = match asked {
        Asked::Yes => "it has, since it loaded the plugin",
        Asked::Never => "models were called, and the plugin was not asked: no text of Moon's reaches them",
        Asked::Unknown => "no model call was seen since it loaded the plugin",
    };
    let hooks = format!("plugins.entries.{PLUGIN}.hooks");
    let hint = format!(
        "{hooks}.allowPromptInjection must not be false and {hooks}.allowConversationAccess must be true; if they are right, the \
         session's model is run by another program, which OpenClaw gives no plugin's texts"
    );
    Check::new("the gateway asks the plugin for Moon's texts", asked != Asked::Never, detail).hint(hint)
}
