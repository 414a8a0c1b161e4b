//! The live dashboard in a terminal: panes, bars against the thresholds, sparklines.
//!
//! It takes over the terminal and gives it back whatever happens: at the end, on a panic and on a signal. Where there is no colour
//! everything is still said in words and marks. Documents are fetched by a thread of its own, so that a daemon that hangs freezes
//! no key.

mod draw;
mod run;

pub use draw::{Pane, Screen, draw};
pub use run::run;

use super::view::View;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::text::Span;

/// The dashboard as lines of text, for what is no terminal. As high as it has to be.
pub fn printed(view: &View, width: u16) -> Vec<String> {
    let screen = Screen { view: Some(view.clone()), is_printed: true, ..Screen::default() };
    let height = draw::height(view);
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(|frame| draw(frame, &screen));
    let buffer = terminal.backend().buffer();
    let line = |y: u16| {
        let (mut line, mut covered) = (String::new(), 0);
        for x in 0..width {
            // A wide character covers the cell behind it.
            if covered == 0 {
                let symbol = buffer[(x, y)].symbol();
                line.push_str(symbol);
                covered = Span::raw(symbol).width().max(1);
            }
            covered -= 1;
        }
        line.trim_end().to_owned()
    };
    let mut lines: Vec<String> = (0..height).map(line).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}
