//! The `moon` command.

fn main() {}
