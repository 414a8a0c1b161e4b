//! A distillate as a block of the daily memory, and the key that keeps it from being written twice.
//!
//! People and agents read and edit these files, so the block is plain Markdown with a reference behind every
//! statement. It must never let a statement pass for a heading, another block or a marker of Moon's.

use crate::archive::plain::quote;
use crate::domain::{Distillate, ItemKind, Reference, SessionKey, Sha256};
use chrono::{DateTime, Utc};
use std::fmt::Write as _;

/// Objects named one by one. The references in brackets lead to each of the others.
const PATHS: usize = 4;

/// Names one distillation: the same stretch of the same transcript by the same distiller has the same key.
pub fn key(session: &SessionKey, session_id: &str, epoch: i64, from_seq: i64, to_seq: i64, distiller: &str) -> Sha256 {
    let mut named = String::from("moon.memory.v1\n");
    // Lengths first, so that no two different lists of fields join to the same bytes.
    for field in [session.as_str(), session_id, distiller] {
        let _ = writeln!(named, "{}:{field}", field.len());
    }
    let _ = write!(named, "{epoch} {from_seq} {to_seq}");
    Sha256::of(named.as_bytes())
}

/// `[archive 1a2b3c4d #42]`
pub fn cite(reference: &Reference) -> String {
    format!("[archive {} #{}]", &reference.segment.as_str()[..8], reference.seq)
}

/// The block: `### <session key>`, who wrote it and when, a section for every kind that has items.
pub fn markdown(session: &SessionKey, distillate: &Distillate, archive_refs: &[String], at: DateTime<Utc>) -> String {
    let mut out = format!(
        "### {}\n\n_Distilled by {} at {}._\n",
        quote(session.as_str(), 200),
        quote(&distillate.provider, 60),
        at.format("%Y-%m-%d %H:%M UTC")
    );
    if !distillate.summary.is_empty() {
        out.push_str("\n**Summary**\n\n");
        for line in &distillate.summary {
            let _ = writeln!(out, "- {}", quote(line, 400));
        }
    }
    for kind in ItemKind::ALL {
        let mut items = distillate.of(kind).peekable();
        if items.peek().is_none() {
            continue;
        }
        let _ = write!(out, "\n**{}**\n\n", kind.heading());
        for item in items {
            let by = quote(&item.reference.speaker, 40);
            let _ = writeln!(out, "- {} ({by}) {}", quote(&item.text, 300), cite(&item.reference));
        }
    }
    if !archive_refs.is_empty() {
        out.push_str("\n**Archive**\n\n");
        let listed = |path: &String| format!("- `{}`\n", quote(path, 300).replace('`', "'"));
        match archive_refs {
            [first, .., last] if archive_refs.len() > PATHS => {
                let between = archive_refs.len() - 2;
                let _ = write!(out, "{}- and {between} more up to\n{}", listed(first), listed(last));
            }
            few => few.iter().for_each(|path| out.push_str(&listed(path))),
        }
    }
    out
}

#[cfg(test)]
mod tests;
