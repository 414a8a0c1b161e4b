//! The page: HTML made of a view by a template that escapes everything, for the browser and as a file.
//!
//! No script is in it. Served, one small script of its own replaces the middle when the daemon sends a new one; as a file it loads
//! itself again. Nothing is loaded from anywhere else, and the content policy says so.

use super::chart;
use super::source::unreadable;
use super::view::{MOST_SESSIONS, View};
use data_encoding::BASE64;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use moon_actors::Result;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub const STYLE: &str = include_str!("page.css");
pub const SCRIPT: &str = include_str!("page.js");
const PAGE: &str = include_str!("page.html");
const MIDDLE_NAME: &str = "middle.html";
const MIDDLE: &str = include_str!("middle.html");

/// Makes pages; parsing the templates is the costly part of it.
pub struct Pages {
    templates: Environment<'static>,
}

impl Pages {
    pub fn new() -> Result<Self> {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.set_auto_escape_callback(|_| AutoEscape::Html);
        templates.add_filter("svgpath", |cells: Vec<Option<f64>>| chart::path(&cells, 96.0, 20.0).0);
        templates.add_template("page.html", PAGE).map_err(unreadable)?;
        templates.add_template(MIDDLE_NAME, MIDDLE).map_err(unreadable)?;
        Ok(Self { templates })
    }

    /// The part of the page that changes.
    pub fn middle(&self, document: &Value) -> Result<String> {
        self.render(MIDDLE_NAME, document, "")
    }
    /// The page as it is served: style and script lie beside it.
    pub fn served(&self, document: &Value) -> Result<String> {
        self.render("page.html", document, "")
    }
    /// The page as one file that needs nothing else.
    pub fn file(&self, document: &Value) -> Result<String> {
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
            BASE64.encode(&Sha256::digest(STYLE))
        );
        self.render("page.html", document, &policy)
    }

    fn render(&self, name: &str, document: &Value, policy: &str) -> Result<String> {
        let mut view = View::of(document);
        let charts = chart::charts(&view);
        let unshown = view.sessions.len().saturating_sub(MOST_SESSIONS);
        view.sessions.truncate(MOST_SESSIONS);
        let made = |name: &str, middle: &str| {
            let (caution, worst) = (super::plain::caution(&view), view.worst().word());
            let (v, charts) = (Serde(&view), Serde(&charts));
            let values = context! {
                v => v, charts => charts, caution => caution, worst => worst, unshown => unshown,
                policy => policy, style => STYLE, middle => middle,
            };
            self.templates.get_template(name).and_then(|template| template.render(values)).map_err(unreadable)
        };
        let middle = made(MIDDLE_NAME, "")?;
        if name == MIDDLE_NAME { Ok(middle) } else { made(name, &middle) }
    }
}
