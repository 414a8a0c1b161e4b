//! One file per outside party. An adapter translates; it never decides.

mod ahead;
pub mod archive_dir;
pub mod backup;
mod beneath;
pub mod bridge_dir;
pub mod checks;
pub mod clock;
pub mod fts;
pub mod log_notifier;
pub mod memory_dir;
pub mod meter;
pub mod no_host;
pub mod openclaw;
pub mod probe;
pub mod projections;
pub mod restore;
pub mod room;
pub mod rotation;
pub mod routes;
mod shown;
pub mod sqlite;
pub mod transcripts;
