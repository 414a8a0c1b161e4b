//! The property list for launchd, with the keys of the operations document.
//!
//! launchd knows neither readiness nor a watchdog: what it can do is start Moon at login and again after a crash, at most once a
//! minute. It must never be handed an argument that is more than one word.

use super::Description;
use moon_actors::{Error, Result};
use plist::{Dictionary, Value};

/// The label, and with `.plist` the file's name.
pub const LABEL: &str = "com.moon.agent";
/// Seconds between two starts, at least.
const THROTTLE: i64 = 60;

/// The agent as an XML property list.
pub fn agent(d: &Description) -> Result<String> {
    let text = |text: &str| Value::String(text.to_owned());
    let path = |name: &str| Value::String(d.in_home(name).display().to_string());
    let number = |number: i64| Value::Integer(number.into());
    let map = |pairs: Vec<(&str, Value)>| {
        Value::Dictionary(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Dictionary>())
    };
    let words = d.call(&["watch", "--daemon"]).into_iter().map(Value::String).collect();
    let root = map(vec![
        ("Label", text(LABEL)),
        ("ProgramArguments", Value::Array(words)),
        ("RunAtLoad", Value::Boolean(true)),
        ("KeepAlive", map(vec![("SuccessfulExit", Value::Boolean(false)), ("Crashed", Value::Boolean(true))])),
        ("ThrottleInterval", number(THROTTLE)),
        ("Nice", number(10)),
        ("ProcessType", text("Background")),
        ("LowPriorityIO", Value::Boolean(true)),
        ("SoftResourceLimits", map(vec![("NumberOfFiles", number(1024)), ("Core", number(0))])),
        ("HardResourceLimits", map(vec![("NumberOfFiles", number(2048)), ("Core", number(0))])),
        ("TimeOut", number(300)),
        ("ExitTimeOut", number(60)),
        ("Umask", number(0o077)),
        ("WorkingDirectory", Value::String(d.home.display().to_string())),
        ("StandardOutPath", path("logs/launchd_stdout.log")),
        ("StandardErrorPath", path("logs/launchd_stderr.log")),
    ]);
    let mut out = Vec::new();
    root.to_writer_xml(&mut out)
        .map_err(|e| Error::data("service.unprintable", "could not write out the property list").cause(e))?;
    out.push(b'\n');
    String::from_utf8(out).map_err(|e| Error::data("service.unprintable", "the property list is no text").cause(e))
}
