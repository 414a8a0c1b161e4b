//! `[service]`: how the service manager of the machine runs Moon, and what its unit may touch.

use super::{MOMENT, Rules, SECOND, Spot, span};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// A daemon that has not proved to be alive for this long is killed and started again.
    #[serde(with = "span")]
    pub watchdog: Duration,
    /// A vital actor that is busy with one message for longer than this counts as hung (archiving: beside its job's own limit).
    #[serde(with = "span")]
    pub stuck_after: Duration,
    /// Most memory the service may take, MiB.
    pub memory_max_mib: u32,
    /// Further folders and files that a system service may read.
    pub read: Vec<String>,
    /// Further folders that a system service may write.
    pub write: Vec<String>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            watchdog: Duration::from_secs(30),
            stuck_after: Duration::from_secs(120),
            memory_max_mib: 512,
            read: Vec::new(),
            write: Vec::new(),
        }
    }
}

impl Service {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.span("service.watchdog", self.watchdog, SECOND);
        rules.span("service.stuck_after", self.stuck_after, MOMENT);
        rules.within("service.memory_max_mib", self.memory_max_mib, 64..=1 << 20);
        for (key, paths) in [("service.read", &self.read), ("service.write", &self.write)] {
            for (at, path) in paths.iter().enumerate() {
                let is_path = path.starts_with('/') || path.starts_with("~/");
                rules.hold(is_path, Spot::entry(key, at, ""), || format!("{path:?} must be absolute or begin with ~/"));
            }
        }
    }
}
