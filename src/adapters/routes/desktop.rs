//! A notification on the user's own screen: the session's D-Bus on Linux, the notification centre on macOS.
//!
//! It needs a session of the user; a machine without one is a route that is not available, not an error of the notice. A notice that
//! is repeated or ends replaces what was shown before, as long as this process remembers it.

use super::told::{Told, rank};
use super::{Adapter, Around};
use async_trait::async_trait;
use moon_actors::port::{Notice, Notifier};
use moon_actors::{Error, Result};
use notify_rust::Notification;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Alerts whose place on the screen is remembered.
const REMEMBERED: usize = 100;

pub(super) struct DesktopRoute {
    name: String,
    around: Arc<Around>,
    /// Alert to the number the desktop gave it. Only numbers it gave: another one may be somebody else's notification.
    shown: Mutex<BTreeMap<i64, u32>>,
}

impl DesktopRoute {
    pub(super) fn new(name: String, around: Arc<Around>) -> Self {
        Self { name, around, shown: Mutex::default() }
    }

    fn notification(&self, notice: &Notice) -> Notification {
        let told = Told::new(notice, &self.around.host);
        let mut body = told.message.clone();
        for line in told.hint.iter().map(|hint| format!("What to do: {hint}")).chain(told.lines.iter().cloned()) {
            body.push('\n');
            body.push_str(&line);
        }
        let mut notification = Notification::new();
        notification.appname("Moon").summary(&told.title).body(&markup(&body));
        urgency(&mut notification, notice);
        notification
    }

    fn remembered(&self, notice: &Notice) -> Option<u32> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        alert_id(notice).and_then(|id| shown.get(&id).copied())
    }

    fn remember(&self, notice: &Notice, number: u32) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = alert_id(notice) else { return };
        shown.insert(id, number);
        while shown.len() > REMEMBERED {
            shown.pop_first();
        }
    }
}

fn alert_id(notice: &Notice) -> Option<i64> {
    match notice {
        Notice::Alert(alert) | Notice::Escalation(alert) => Some(alert.id),
        Notice::Digest(_) => None,
    }
}

/// Desktops read a few tags in the body.
#[cfg(not(target_os = "macos"))]
fn markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
#[cfg(target_os = "macos")]
fn markup(text: &str) -> String {
    text.to_owned()
}

#[cfg(not(target_os = "macos"))]
fn urgency(notification: &mut Notification, notice: &Notice) {
    use moon_actors::port::Severity;
    use notify_rust::Urgency;
    notification.urgency(match rank(notice) {
        Severity::Info => Urgency::Low,
        Severity::Warning => Urgency::Normal,
        Severity::Critical => Urgency::Critical,
    });
}
/// The notification centre knows no urgency; a sound says it.
#[cfg(target_os = "macos")]
fn urgency(notification: &mut Notification, notice: &Notice) {
    if rank(notice) == moon_actors::port::Severity::Critical {
        notification.sound_name("Basso");
    }
}

#[cfg(not(target_os = "macos"))]
async fn show(notification: Notification) -> std::result::Result<u32, notify_rust::error::Error> {
    notification.show_async().await.map(|handle| handle.id())
}
#[cfg(target_os = "macos")]
async fn show(notification: Notification) -> std::result::Result<u32, notify_rust::error::Error> {
    // It waits for the notification centre without knowing of the runtime.
    let shown = tokio::task::spawn_blocking(move || notification.show().map(drop)).await;
    shown.unwrap_or_else(|_| Err("the notification centre did not answer".into())).map(|()| 0)
}

#[async_trait]
impl Notifier for DesktopRoute {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, notice: &Notice) -> Result<()> {
        let mut notification = self.notification(notice);
        if let Some(number) = self.remembered(notice) {
            notification.id(number);
        }
        let number = show(notification).await.map_err(|error| {
            Error::unavailable("route.no_desktop", "no desktop shows notifications here")
                .cause(super::excerpt(&error.to_string()))
                .hint("it needs the session of a user who is logged in: run Moon as that user's service, or take the route out")
        })?;
        // macOS gives none.
        if number != 0 {
            self.remember(notice, number);
        }
        Ok(())
    }
}

impl Adapter for DesktopRoute {
    /// Whether somebody is logged in changes from hour to hour.
    fn ready(&self) -> Result<()> {
        Ok(())
    }
}
