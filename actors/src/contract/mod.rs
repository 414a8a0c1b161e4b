//! What leaves the process: the plan's records, the report of a command, requests to a running daemon. Fields are only added.

pub mod alerts;
pub mod ctl;
pub mod records;

pub use alerts::AlertsRequest;
pub use ctl::{Issue, Report, Request, count, nearest};
pub use records::{ArchiveRecord, DistillationRecord, MoonState, RecallMatch, RecallResult, SessionUsageSnapshot};
