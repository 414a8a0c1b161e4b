//! The readable form of an archive: Markdown for people, for grep and for other search tools.
//!
//! It grows with its series by appending, so `markdown(a)` followed by `markdown(b)` is `markdown(a ++ b)`: a turn is
//! rendered from itself alone. It must never let a turn's text open something that swallows the next turn (a fence, a
//! comment) or look like a turn of somebody else; it is a copy for reading, never the source of anything.

use super::block::{Part, parts};
use super::plain::{clip, escape, fence, one_line};
use crate::distill::local;
use crate::domain::{Role, Series, Turn};
use std::fmt::Write as _;

/// The first bytes of a projection: whose it is. Depends on the series' identity only, never on its length.
pub fn header(series: &Series) -> String {
    format!(
        "# {}\n\n- Session id: {}\n- Epoch: {} (grows when the host rewrote its transcript)\n- A readable copy made by \
         Moon; the archive's segments hold the exact bytes.\n\n",
        inline(series.session.as_str()),
        inline(&series.session_id),
        series.epoch
    )
}

/// The turns, each as one self-contained block that ends with an empty line.
pub fn markdown(turns: &[Turn]) -> String {
    let mut out = String::new();
    for turn in turns {
        block(turn, &mut out);
    }
    out
}

fn block(turn: &Turn, out: &mut String) {
    let at = turn.at.map_or_else(|| "no time".to_owned(), |at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string());
    let who = match turn.role {
        Role::Tool => format!("tool {}", inline(&turn.speaker)),
        _ if turn.speaker == turn.role.as_str() => turn.speaker.clone(),
        role => format!("{} ({})", inline(&turn.speaker), role.as_str()),
    };
    let _ = writeln!(out, "## {at} · {who} · #{}\n", turn.seq);
    match turn.role {
        Role::Tool | Role::System => fenced(&turn.text, out),
        Role::User | Role::Summary => prose(&turn.text, turn.role == Role::User, out),
        Role::Assistant => {
            for part in parts(&turn.text) {
                match part {
                    Part::Text(text) => prose(text, true, out),
                    Part::Thinking(text) => {
                        out.push_str("*Thinking:*\n\n");
                        fenced(text, out);
                    }
                    Part::Call { name, whole, .. } => {
                        let _ = writeln!(out, "*Tool call {}:*\n", inline(name));
                        fenced(whole, out);
                    }
                }
            }
        }
    }
}

/// A name inside a heading or a list: one line, short, without marks that mean something there.
fn inline(text: &str) -> String {
    let line = one_line(text);
    let mut out = String::new();
    for c in clip(&line, 200).chars() {
        if matches!(c, '`' | '*' | '_' | '<' | '[' | '\\' | '#') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn fenced(text: &str, out: &mut String) {
    let text = escape(text.trim_end());
    let fence = fence(&text);
    let _ = write!(out, "{fence}text\n{text}\n{fence}\n\n");
}

/// Words as they were written, as a block quote: whatever they leave open (a fence, a comment) ends with the quote, and
/// their headings are not ours. Decisions are marked.
fn prose(text: &str, mark: bool, out: &mut String) {
    let text = escape(text.trim_end());
    let mut open: Option<&str> = None;
    for line in text.trim_start_matches('\n').split('\n') {
        out.push_str(if line.trim().is_empty() { ">" } else { "> " });
        match (open, fence_of(line)) {
            (Some(fence), Some(found)) => {
                if found.starts_with(fence) && line.trim().len() == found.len() {
                    open = None;
                }
                out.push_str(line);
            }
            (None, Some(_)) => {
                open = fence_of(line);
                out.push_str(line);
            }
            (Some(_), None) => out.push_str(line),
            (None, None) => prose_line(line, mark, out),
        }
        out.push('\n');
    }
    out.push('\n');
}

/// The run of backticks or tildes if the line opens or closes a fence.
fn fence_of(line: &str) -> Option<&str> {
    let trimmed = line.trim_start_matches(' ');
    let mark = trimmed.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let run = trimmed.len() - trimmed.trim_start_matches(mark).len();
    let (fence, info) = trimmed.split_at(run);
    (line.len() - trimmed.len() <= 3 && run >= 3 && !(mark == '`' && info.contains('`'))).then_some(fence)
}

fn prose_line(line: &str, mark: bool, out: &mut String) {
    let body = line.trim_start_matches([' ', '\t', '-', '*', '+', '>']);
    let lead = &line[..line.len() - body.len()];
    out.push_str(lead);
    if mark && local::is_decision(line) {
        out.push_str("**Decision:** ");
    }
    if body.starts_with(['#', '<']) {
        out.push('\\');
    }
    out.push_str(body);
}

#[cfg(test)]
mod tests;
