//! `[dashboard]`: the pages and files that show how everything is.

use super::Rules;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dashboard {
    /// Address of the web page, such as `127.0.0.1:8787`; empty: no page is served.
    pub listen: String,
    /// Lets `listen` be an address that other machines reach. The page has a token and no encryption.
    pub exposed: bool,
    /// File that the page is written to every minute; empty: none. A relative path begins at Moon's home.
    pub html_file: String,
    /// File that the metrics are written to every minute, `*.prom`; empty: none. A relative path begins at Moon's home.
    pub textfile: String,
    /// Rights of that file, octal: the node exporter runs as another user.
    pub textfile_mode: String,
    /// When the health report is written, as a cron expression in local time; empty: only when asked for.
    pub report_at: String,
}

impl Default for Dashboard {
    fn default() -> Self {
        Self {
            listen: String::new(),
            exposed: false,
            html_file: String::new(),
            textfile: String::new(),
            textfile_mode: "0640".into(),
            report_at: "0 9 * * 0".into(),
        }
    }
}

impl Dashboard {
    /// Where the page is served, if it is.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }
    /// The rights as a number.
    pub fn textfile_rights(&self) -> Option<u32> {
        u32::from_str_radix(&self.textfile_mode, 8).ok().filter(|mode| mode & 0o7133 == 0 && mode & 0o600 == 0o600)
    }

    pub(super) fn check(&self, rules: &mut Rules) {
        let address = self.address();
        rules.hold(self.listen.is_empty() || address.is_some(), "dashboard.listen", || {
            format!("{:?} is not an address with a port such as \"127.0.0.1:8787\"", self.listen)
        });
        let stays_here = address.is_none_or(|address| address.ip().is_loopback());
        rules.hold(stays_here || self.exposed, "dashboard.listen", || {
            format!("{} can be reached from other machines, and the page is not encrypted: listen on 127.0.0.1, or set dashboard.exposed = true", self.listen)
        });
        let named = [("dashboard.html_file", &self.html_file), ("dashboard.textfile", &self.textfile)];
        for (key, path) in named {
            let leads_out = path.starts_with('~') || path.split('/').any(|part| part == "..");
            rules.hold(!leads_out, key, || {
                format!("{path:?} must be an absolute path, or one below Moon's home, without ~ and ..")
            });
        }
        rules.hold(self.textfile.is_empty() || self.textfile.ends_with(".prom"), "dashboard.textfile", || {
            format!("{:?} must end with .prom: the node exporter reads no other files", self.textfile)
        });
        rules.hold(self.textfile_rights().is_some(), "dashboard.textfile_mode", || {
            format!("{:?} must be 0600, or that with reading for the group or everybody", self.textfile_mode)
        });
        rules.times("dashboard.report_at", &self.report_at);
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    #[test]
    fn only_addresses_of_this_machine_are_listened_on_unless_the_owner_says_otherwise() {
        let broken = |listen: &str, exposed: bool| {
            let mut settings = Settings::default();
            (settings.dashboard.listen, settings.dashboard.exposed) = (listen.into(), exposed);
            settings.check().iter().any(|p| p.spot.key == "dashboard.listen")
        };
        assert!(!broken("", false) && !broken("127.0.0.1:8787", false) && !broken("[::1]:8787", false));
        assert!(broken("0.0.0.0:8787", false) && broken("192.0.2.1:80", false) && broken("localhost", false));
        assert!(!broken("0.0.0.0:8787", true));
    }

    #[test]
    fn the_rights_of_the_metrics_let_nobody_else_write() {
        let rights = |mode: &str| {
            let mut settings = Settings::default();
            settings.dashboard.textfile_mode = mode.into();
            settings.check().is_empty()
        };
        assert!(rights("0600") && rights("0640") && rights("0604"));
        assert!(!rights("0660") && !rights("0750") && !rights("0400") && !rights("rw") && !rights("4640"));
    }
}
