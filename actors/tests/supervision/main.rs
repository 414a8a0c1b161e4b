//! The supervision tree from outside: crashes, limits, escalation, restarts on request and shutdown, on a paused clock.
//!
//! An hour of restart window costs no real time here. What these tests must never do: look at a supervisor's inside; an
//! operator cannot either.

mod crashes;
mod ends;
mod kids;
mod limits;
mod looks;
