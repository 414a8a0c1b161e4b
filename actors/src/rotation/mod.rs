//! Log files that never fill a disk and never lose a line: put aside by rename, compressed when nobody writes into them any more,
//! removed when they are old.
//!
//! A line is safe because a file is never cut and never copied while somebody writes: it gets another name, its writer finishes
//! in it and opens a new one. The audit and the ledger are not logs, and are never rotated.

pub mod engine;
pub mod policy;
