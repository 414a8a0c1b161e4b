//! One file per outside party. An adapter translates; it never decides.

pub mod archive_dir;
pub mod bridge_dir;
pub mod clock;
pub mod fts;
pub mod memory_dir;
pub mod openclaw;
pub mod sqlite;
pub mod transcripts;
