//! Everything that shows how Moon is: one screen of text, the terminal, the page, the metrics.
//!
//! All of them are made of the one status document ([`moon_actors::control::status`]) by way of one [`view::View`], in which foreign
//! text is already harmless. Where the document comes from, and what can be said when no daemon answers, is [`source`]'s business.
//! Nothing here changes anything.

pub mod chart;
pub mod metrics;
pub mod page;
pub mod plain;
pub mod source;
pub mod tui;
pub mod view;
pub mod web;
