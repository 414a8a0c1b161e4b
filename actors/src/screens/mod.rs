//! What is shown without being asked: the files that are written every minute, and the web page.

pub mod actor;
