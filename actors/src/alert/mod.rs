//! The one way by which Moon tells people of trouble, and that it is over.
//!
//! Whoever notices something raises an alert in the ledger, in the transaction of its cause. What each route may send of it now is
//! [`policy`]; [`engine`] carries it, [`actor`] keeps that going, [`desk`] answers people, [`rules`] lists what there is.

pub mod actor;
pub mod desk;
pub mod engine;
pub mod policy;
pub mod rules;

pub use actor::{AlertMsg, start};
pub use engine::Post;
