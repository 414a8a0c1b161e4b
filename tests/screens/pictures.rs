//! The pictures of the documents, drawn by hand.

use super::*;
use crate::document::sample;
use crate::support::browser::Browser;

/// A drawn terminal as a page, for a picture of it.
fn as_page(buffer: &ratatui::buffer::Buffer) -> String {
    use ratatui::style::{Color, Modifier};
    let mut page = String::from(
        "<meta charset=utf-8><body style='background:#11151f;margin:16px'><pre style='font:14px/17px monospace;color:#d7dce8;margin:0'>",
    );
    for y in 0..buffer.area.height {
        for x in 0..buffer.area.width {
            let cell = &buffer[(x, y)];
            let colour = match cell.fg {
                Color::Green => "#5fd3a5",
                Color::Yellow => "#f2bd5c",
                Color::Red => "#ff8791",
                Color::Cyan => "#6fc3df",
                Color::Blue => "#86b8ee",
                Color::DarkGray => "#69748d",
                _ => "#d7dce8",
            };
            let weight = if cell.modifier.contains(Modifier::BOLD) { "bold" } else { "normal" };
            let ground = if cell.modifier.contains(Modifier::REVERSED) {
                format!("background:{colour};color:#11151f")
            } else {
                format!("color:{colour}")
            };
            page.push_str(&format!(
                "<span style='font-weight:{weight};{ground}'>{}</span>",
                cell.symbol().replace('<', "&lt;")
            ));
        }
        page.push('\n');
    }
    page + "</pre>"
}

/// Makes the pictures of the documents: `MOON_PICTURES=docs/images cargo test --test screens -- --ignored pictures`.
#[tokio::test]
#[ignore = "by hand: it draws the pictures of the documents; see its comment"]
async fn pictures_for_the_documents() {
    let folder = std::path::PathBuf::from(std::env::var_os("MOON_PICTURES").expect("MOON_PICTURES names a folder"));
    let scratch = Scratch::new();
    let mut browser = Browser::start(scratch.path()).await.expect("Chromium");
    let file = scratch.path().join("page.html");
    std::fs::write(&file, moon::screens::page::Pages::new().expect("templates").file(&sample()).expect("a page"))
        .expect("written");
    for (name, size, is_dark) in [
        ("dashboard-dark", (1200, 1330), true),
        ("dashboard-light", (1200, 1330), false),
        ("dashboard-phone", (390, 1400), true),
    ] {
        browser.look(size, is_dark).await;
        browser.open(&format!("file://{}", file.display())).await;
        browser.until("document.querySelectorAll('.card').length > 7").await;
        std::fs::write(folder.join(format!("{name}.png")), browser.picture().await).expect("written");
    }
    let screen = moon::screens::tui::Screen { view: Some(View::of(&sample())), has_colour: true, ..Default::default() };
    let mut terminal = ratatui::Terminal::new(ratatui::backend::TestBackend::new(132, 42)).expect("a terminal");
    terminal.draw(|frame| moon::screens::tui::draw(frame, &screen)).expect("drawn");
    std::fs::write(&file, as_page(terminal.backend().buffer())).expect("written");
    browser.look((1152, 750), true).await;
    browser.open(&format!("file://{}", file.display())).await;
    browser.until("document.querySelector('pre') !== null").await;
    std::fs::write(folder.join("dashboard-terminal.png"), browser.picture().await).expect("written");
}
