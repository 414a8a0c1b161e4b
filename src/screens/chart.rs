//! Lines of a usage history as SVG paths: numbers only, made here, so that a page needs no library and no inline style.

use super::view::{Session, View};
use serde::Serialize;

/// Sessions with a line of their own; more cannot be told apart.
pub const MOST_LINES: usize = 6;

#[derive(Clone, Debug, Serialize)]
pub struct Chart {
    pub title: &'static str,
    pub from: &'static str,
    pub width: f64,
    pub height: f64,
    /// Heights and names of the three thresholds.
    pub marks: Vec<Mark>,
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Mark {
    pub y: f64,
    pub name: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub key: String,
    pub path: String,
    /// Where it ends, for its point.
    pub end: Option<(f64, f64)>,
}

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 160.0;

/// The charts of a view: the last day, and the last 90 days.
pub fn charts(view: &View) -> Vec<Chart> {
    let with_history: Vec<&Session> =
        view.sessions.iter().filter(|s| s.day.iter().chain(&s.quarter).any(Option::is_some)).take(MOST_LINES).collect();
    if with_history.is_empty() {
        return Vec::new();
    }
    let chart = |title, from, cells: fn(&Session) -> &[Option<f64>]| Chart {
        title,
        from,
        width: WIDTH,
        height: HEIGHT,
        marks: [0, 1, 2].map(|n| Mark { y: y(view.thresholds[n]), name: ["archive", "prune", "distil"][n] }).to_vec(),
        lines: with_history.iter().map(|s| line(s, cells(s))).collect(),
    };
    vec![chart("Last 24 hours", "24 h ago", |s| &s.day), chart("Last 90 days", "90 days ago", |s| &s.quarter)]
}

fn y(share: f64) -> f64 {
    round(HEIGHT * (1.0 - share.clamp(0.0, 1.0)))
}

fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn line(session: &Session, cells: &[Option<f64>]) -> Line {
    let (path, end) = path(cells, WIDTH, HEIGHT);
    Line { key: session.key.clone(), path, end }
}

/// A path through the cells; a gap where nothing was known.
pub fn path(cells: &[Option<f64>], width: f64, height: f64) -> (String, Option<(f64, f64)>) {
    let step = width / (cells.len().max(2) - 1) as f64;
    let (mut path, mut is_open, mut end) = (String::new(), false, None);
    for (n, cell) in cells.iter().enumerate() {
        let Some(share) = cell else {
            is_open = false;
            continue;
        };
        let point = (round(n as f64 * step), round(height * (1.0 - share.clamp(0.0, 1.0))));
        path.push_str(&format!("{}{} {}", if is_open { "L" } else { "M" }, point.0, point.1));
        (is_open, end) = (true, Some(point));
    }
    (path, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_gap_where_nothing_was_known_and_stays_inside() {
        let (path, end) = path(&[Some(0.0), Some(0.5), None, Some(1.7)], 30.0, 10.0);
        assert_eq!(path, "M0 10L10 5M30 0");
        assert_eq!(end, Some((30.0, 0.0)));
        assert_eq!(super::path(&[None, None], 30.0, 10.0), (String::new(), None));
    }
}
