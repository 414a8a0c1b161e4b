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
    sections: Vec<Section>,
}

#[derive(Clone, Debug)]
struct Section {
    heading: String,
    /// With their rank: low ones stay.
    lines: Vec<(usize, String)>,
    /// Says behind the number of lines that did not fit where they are.
    note: Option<&'static str>,
}

impl Section {
    /// The line that says how many are missing.
    fn missing(&self, kept: usize) -> Option<String> {
        let left = self.lines.len() - kept;
        self.note.filter(|_| left > 0).map(|note| format!("- {left} {note}"))
    }
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
        self.sections.push(Section { heading: heading.to_owned(), lines, note: None });
    }

    /// Adds a section of statements, each with how plain it is: plainer ones are more important, then newer ones. What does
    /// not fit is counted in a line that ends in `note`.
    pub fn statements(&mut self, heading: &str, lines: Vec<(i32, String)>, weight: usize, note: &'static str) {
        let mut order: Vec<usize> = (0..lines.len()).collect();
        order.sort_by_key(|at| (std::cmp::Reverse(lines[*at].0), std::cmp::Reverse(*at)));
        let mut ranks = vec![0; lines.len()];
        for (rank, at) in order.into_iter().enumerate() {
            ranks[at] = rank * weight;
        }
        let lines = ranks.into_iter().zip(lines).map(|(rank, (_, line))| (rank, line)).collect();
        self.sections.push(Section { heading: heading.to_owned(), lines, note: Some(note) });
    }

    /// The text, at most `max` characters. A section without lines is left out with its heading.
    pub fn fit(&self, max: usize) -> String {
        let fixed = chars(&self.head) + chars(&self.foot);
        let Some(left) = max.checked_sub(fixed) else { return clip(&self.essential, max).into_owned() };
        let mut kept = self.choose(left);
        // Counting what is missing takes room as well: as much as if something were missing everywhere.
        let room: usize = self.sections.iter().filter_map(|s| s.missing(0)).map(|note| chars(&note) + 1).sum();
        let is_short = self.sections.iter().zip(&kept).any(|(s, kept)| s.missing(kept.len()).is_some());
        let noted = is_short && room * 4 <= left;
        if noted {
            kept = self.choose(left - room);
        }
        let mut out = self.head.clone();
        for (section, mut kept) in self.sections.iter().zip(kept) {
            if kept.is_empty() {
                continue;
            }
            kept.sort_unstable();
            out.push_str(&section.heading);
            out.push('\n');
            let missing = section.missing(kept.len()).filter(|_| noted);
            for line in kept.into_iter().map(|at| &section.lines[at].1).chain(missing.iter()) {
                out.push_str(line);
                out.push('\n');
            }
            out.push('\n');
        }
        out.push_str(&self.foot);
        out
    }

    /// Which lines of each section fit into so many characters.
    fn choose(&self, mut left: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<(usize, usize, usize)> = Vec::new();
        for (section, Section { lines, .. }) in self.sections.iter().enumerate() {
            order.extend(lines.iter().enumerate().map(|(line, (rank, _))| (*rank, section, line)));
        }
        order.sort_unstable();
        let mut kept: Vec<Vec<usize>> = vec![Vec::new(); self.sections.len()];
        for (_, section, line) in order {
            let Section { heading, lines, .. } = &self.sections[section];
            let opening = if kept[section].is_empty() { chars(heading) + 2 } else { 0 };
            let cost = chars(&lines[line].1) + 1 + opening;
            if cost <= left {
                left -= cost;
                kept[section].push(line);
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests;
