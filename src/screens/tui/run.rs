//! The terminal itself: taken over, listened to, given back.

use super::draw::{Pane, Screen, draw};
use crate::cli::runtime;
use crate::home::Home;
use crate::screens::source;
use crate::screens::view::View;
use moon_actors::settings::Settings;
use moon_actors::{Error, Result};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// The document is asked for this often.
const EVERY: Duration = Duration::from_secs(1);
/// A key is answered at once, a new document this soon.
const LOOK: Duration = Duration::from_millis(100);

/// What the fetching thread says: a document, or why there is none.
type Fetched = std::result::Result<Value, String>;

/// Shows the dashboard until a person or a signal ends it.
pub fn run(home: &Home, settings: &Settings, has_colour: bool) -> Result<()> {
    let failed = |e: std::io::Error| {
        Error::unavailable("dashboard.terminal", "could not use this terminal")
            .cause(e)
            .hint("`moon status` prints one screen")
    };
    let told_to_stop = Arc::new(AtomicBool::new(false));
    let (send, documents) = mpsc::sync_channel(1);
    fetch((home.clone(), settings.clone()), send, Arc::clone(&told_to_stop));
    // Its panic hook gives the terminal back before anything is said.
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let mut screen = Screen { has_colour, ..Screen::default() };
    let shown = (|| {
        let mut is_old = true;
        while !told_to_stop.load(Ordering::Relaxed) {
            is_old |= take(&documents, &mut screen);
            if is_old {
                terminal.draw(|frame| draw(frame, &screen))?;
            }
            is_old = false;
            if event::poll(LOOK)? {
                match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        if press(&mut screen, key) {
                            return Ok(());
                        }
                        is_old = true;
                    }
                    Event::Resize(..) => is_old = true,
                    _ => {}
                }
            }
        }
        Ok(())
    })();
    ratatui::restore();
    shown.map_err(failed)
}

/// Takes what was fetched since the last look. True when there was something.
fn take(documents: &mpsc::Receiver<Fetched>, screen: &mut Screen) -> bool {
    match documents.try_iter().last() {
        Some(Ok(document)) => (screen.view, screen.error) = (Some(View::of(&document)), None),
        Some(Err(error)) => screen.error = Some(error),
        None => return false,
    }
    true
}

/// Fetches documents in a thread of its own, which also hears signals. It ends with the process.
fn fetch((home, settings): (Home, Settings), send: mpsc::SyncSender<Fetched>, told: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let ended = runtime::block_on(async move {
            tokio::spawn(async move {
                crate::daemon::told_to_stop().await;
                told.store(true, Ordering::Relaxed);
            });
            loop {
                let fetched = source::document(&home, &settings).await.map_err(|e| e.to_string());
                // Full: the one before has not been looked at yet, so this one is dropped.
                if let Err(mpsc::TrySendError::Disconnected(_)) = send.try_send(fetched) {
                    return;
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        if let Err(error) = ended {
            tracing::warn!(code = error.code, "{error}");
        }
    });
}

/// True when it was the key to leave by.
fn press(screen: &mut Screen, key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('c' | 'd') if control => return true,
        KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => focus(screen, 1),
        KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => focus(screen, -1),
        KeyCode::Down | KeyCode::Char('j') => screen.scroll = screen.scroll.saturating_add(1).min(500),
        KeyCode::Up | KeyCode::Char('k') => screen.scroll = screen.scroll.saturating_sub(1),
        KeyCode::PageDown => screen.scroll = screen.scroll.saturating_add(10).min(500),
        KeyCode::PageUp => screen.scroll = screen.scroll.saturating_sub(10),
        KeyCode::Home => screen.scroll = 0,
        KeyCode::Char(c @ '1'..='7') => {
            (screen.focus, screen.scroll) = (Pane::ALL[c as usize - '1' as usize], 0);
        }
        _ => {}
    }
    false
}

fn focus(screen: &mut Screen, by: isize) {
    (screen.focus, screen.scroll) = (screen.focus.step(by), 0);
}
