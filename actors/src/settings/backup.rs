//! `[backup]`: what is backed up, when, where to, and how long it is kept.

use super::{Rules, Spot, span};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    /// When a backup is made, as a cron expression in local time; empty: only when asked for.
    pub at: String,
    /// When the newest backup is restored into an empty place and compared; empty: only when asked for.
    pub drill_at: String,
    /// Where backups lie. Empty: `backups/moon` in the home.
    pub folder: String,
    /// Folders of the user that are backed up with the home. Absolute, or beginning with `~/`.
    pub include: Vec<String>,
    /// What is left out of all of them: patterns over the path below each folder, or over a name alone.
    pub exclude: Vec<String>,
    /// All backups are kept this long,
    #[serde(with = "span")]
    pub keep_daily: Duration,
    /// then one a week up to this age,
    #[serde(with = "span")]
    pub keep_weekly: Duration,
    /// then one a month up to this one.
    #[serde(with = "span")]
    pub keep_monthly: Duration,
    /// zstd level, 1 to 19.
    pub zstd_level: i32,
    /// age recipients (`age1…`). With any, backups are encrypted.
    pub recipients: Vec<String>,
    /// A file with more of them, one a line.
    pub recipients_file: String,
    /// A file with the age identity that opens them again. Without it a backup is proved before it is encrypted.
    pub identity_file: String,
    /// `s3://bucket/prefix`: every backup is copied there, too.
    pub s3_url: String,
    /// Address of an S3-compatible store. Empty: Amazon's.
    pub s3_endpoint: String,
    pub s3_region: String,
    /// A file with `aws_access_key_id` and `aws_secret_access_key`, for its owner only.
    pub s3_credentials_file: String,
    /// Allows an endpoint without TLS.
    pub s3_allow_http: bool,
}

/// Backups are not meant for longer than a life.
const LONGEST: Duration = Duration::from_secs(100 * 31_557_600);
const DAY: Duration = Duration::from_secs(86_400);

impl Default for Backup {
    fn default() -> Self {
        Self {
            at: "0 2 * * *".into(),
            drill_at: "30 3 * * 0".into(),
            folder: String::new(),
            include: vec![],
            exclude: vec![],
            keep_daily: 7 * DAY,
            keep_weekly: 30 * DAY,
            keep_monthly: 365 * DAY,
            zstd_level: 3,
            recipients: vec![],
            recipients_file: String::new(),
            identity_file: String::new(),
            s3_url: String::new(),
            s3_endpoint: String::new(),
            s3_region: "us-east-1".into(),
            s3_credentials_file: String::new(),
            s3_allow_http: false,
        }
    }
}

impl Backup {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.times("backup.at", &self.at);
        rules.times("backup.drill_at", &self.drill_at);
        let is_path = |path: &String| path.starts_with('/') || path.starts_with("~/") || path == "~";
        let paths = [
            ("backup.folder", &self.folder),
            ("backup.recipients_file", &self.recipients_file),
            ("backup.identity_file", &self.identity_file),
            ("backup.s3_credentials_file", &self.s3_credentials_file),
        ];
        for (key, path) in paths {
            rules.hold(path.is_empty() || is_path(path), key, || format!("{path:?} must be absolute or begin with ~/"));
        }
        for (at, path) in self.include.iter().enumerate() {
            let spot = Spot::entry("backup.include", at, "");
            rules.hold(is_path(path), spot, || format!("{path:?} must be absolute or begin with ~/"));
        }
        for (at, pattern) in self.exclude.iter().enumerate() {
            rules.hold(!pattern.trim().is_empty(), Spot::entry("backup.exclude", at, ""), || {
                "an empty pattern would leave out everything or nothing".into()
            });
        }
        for (key, span) in [
            ("backup.keep_daily", self.keep_daily),
            ("backup.keep_weekly", self.keep_weekly),
            ("backup.keep_monthly", self.keep_monthly),
        ] {
            rules.hold(span <= LONGEST, key, || "must be a hundred years or less".into());
        }
        rules.hold(self.keep_daily <= self.keep_weekly, "backup.keep_weekly", || {
            "must be at least backup.keep_daily".into()
        });
        rules.hold(self.keep_weekly <= self.keep_monthly, "backup.keep_monthly", || {
            "must be at least backup.keep_weekly".into()
        });
        rules.within("backup.zstd_level", self.zstd_level, 1..=19);
        for (at, recipient) in self.recipients.iter().enumerate() {
            rules.hold(recipient.starts_with("age1"), Spot::entry("backup.recipients", at, ""), || {
                // What stands there may be an identity, which is a secret.
                "a recipient begins with \"age1\"; an identity belongs into the file that backup.identity_file names"
                    .into()
            });
        }
        self.check_store(rules);
    }

    fn check_store(&self, rules: &mut Rules) {
        let bucket = self.s3_url.strip_prefix("s3://").map(|rest| rest.split('/').next().unwrap_or_default());
        rules.hold(self.s3_url.is_empty() || bucket.is_some_and(|b| !b.is_empty()), "backup.s3_url", || {
            format!("{:?} must be s3://bucket or s3://bucket/prefix", self.s3_url)
        });
        let is_http = self.s3_endpoint.starts_with("http://");
        let is_address = self.s3_endpoint.is_empty() || self.s3_endpoint.starts_with("https://") || is_http;
        rules.hold(is_address && !self.s3_endpoint.contains('@'), "backup.s3_endpoint", || {
            "must be https:// and a host, without a user in it".into()
        });
        rules.hold(self.s3_url.is_empty() || !self.s3_region.trim().is_empty(), "backup.s3_region", || {
            "must be set with backup.s3_url; a store that knows no regions takes \"us-east-1\"".into()
        });
        rules.hold(!is_http || self.s3_allow_http, "backup.s3_endpoint", || {
            "has no TLS: set backup.s3_allow_http = true if that is meant".into()
        });
        rules.hold(
            self.s3_url.is_empty() || !self.s3_credentials_file.is_empty(),
            "backup.s3_credentials_file",
            || "must be set with backup.s3_url".into(),
        );
    }
}
