//! Sections of lines that must fit a number of characters: the most important lines stay, in their order.
//!
//! Continuity map and compaction summary are both such a text, and both must keep their foot (where the archive lies
//! and how to recall it) whatever else has to go. It must never cut inside a line that it keeps.

use crate::archive::plain::{chars, clip};

/// A text that is still too long.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// Always there, first. Ends with a line break or is empty.
    head: String,
    /// Always there, last.
    foot: String,
    /// Stands alone when not even head and foot fit.
    essential: String,
    sections: Vec<(String, Vec<(usize, String)>)>,
}

impl Outline {
    /// A text without sections yet.
    pub fn new(head: String, foot: String, essential: String) -> Self {
        Self { head, foot, essential, sections: Vec::new() }
    }

    /// Adds a section of lines. The line at position `n` counted from the most important one has rank `n * weight`;
    /// lines of low rank stay. `newest_first` says that the last line is the most important one.
    pub fn section(&mut self, heading: &str, lines: Vec<String>, weight: usize, newest_first: bool) {
        let count = lines.len();
        let rank = |at: usize| weight * if newest_first { count - 1 - at } else { at };
        let lines = lines.into_iter().enumerate().map(|(at, line)| (rank(at), line)).collect();
        self.sections.push((heading.to_owned(), lines));
    }

    /// The text, at most `max` characters. A section without lines is left out with its heading.
    pub fn fit(&self, max: usize) -> String {
        let fixed = chars(&self.head) + chars(&self.foot);
        let Some(mut left) = max.checked_sub(fixed) else { return clip(&self.essential, max).into_owned() };
        let mut order: Vec<(usize, usize, usize)> = Vec::new();
        for (section, (_, lines)) in self.sections.iter().enumerate() {
            order.extend(lines.iter().enumerate().map(|(line, (rank, _))| (*rank, section, line)));
        }
        order.sort_unstable();
        let mut kept: Vec<Vec<usize>> = vec![Vec::new(); self.sections.len()];
        for (_, section, line) in order {
            let (heading, lines) = &self.sections[section];
            let opening = if kept[section].is_empty() { chars(heading) + 2 } else { 0 };
            let cost = chars(&lines[line].1) + 1 + opening;
            if cost <= left {
                left -= cost;
                kept[section].push(line);
            }
        }
        let mut out = self.head.clone();
        for ((heading, lines), mut kept) in self.sections.iter().zip(kept) {
            if kept.is_empty() {
                continue;
            }
            kept.sort_unstable();
            out.push_str(heading);
            out.push('\n');
            for line in kept {
                out.push_str(&lines[line].1);
                out.push('\n');
            }
            out.push('\n');
        }
        out.push_str(&self.foot);
        out
    }
}

#[cfg(test)]
mod tests;
