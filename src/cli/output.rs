//! The only place that prints.
//!
//! stdout is the answer, stderr the commentary. Foreign text (session keys, file names, passages) can hold terminal commands
//! and letters that turn the reading direction round: everything passes [`escape`]. A reader that went away (`| head`) ends
//! the output quietly and never the work. Colour is used on a terminal only, and not with `NO_COLOR`.

#![allow(clippy::disallowed_macros, reason = "this is the one file that may write to the standard streams")]

use super::exit::Exit;
use anstyle::{AnsiColor, Style};
use bytesize::ByteSize;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use moon_actors::Error;
pub use moon_actors::contract::Issue;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// What a command found: one shape for all, text or JSON. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The verb as typed without aliases: `recall`, `config show`.
    pub command: String,
    /// False when the command ran and what it looked at is not in order.
    pub ok: bool,
    /// The answer in lines for people.
    pub details: Vec<String>,
    pub issues: Vec<Issue>,
    /// The answer for programs; each command documents its fields in `docs/cli.md`.
    pub data: serde_json::Value,
    /// People see the issues before the details.
    #[serde(skip)]
    pub trouble_first: bool,
    /// What people see before an issue of a report that is in order.
    #[serde(skip)]
    pub remarks: Remarks,
    /// Set when neither 0 nor 2 says enough.
    #[serde(skip)]
    pub exit: Option<Exit>,
}

/// What the remarks of a report are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remarks {
    Notes,
    Warnings,
}

impl Report {
    /// An empty report that is in order.
    pub fn new(command: impl Into<String>) -> Self {
        let (details, issues) = (Vec::new(), Vec::new());
        Self {
            command: command.into(),
            ok: true,
            details,
            issues,
            data: serde_json::json!({}),
            trouble_first: false,
            remarks: Remarks::Notes,
            exit: None,
        }
    }
    /// Adds one line.
    pub fn detail(&mut self, line: impl Into<String>) -> &mut Self {
        self.details.push(line.into());
        self
    }
    /// Adds several lines, such as a passage or a table.
    pub fn block(&mut self, text: &str) -> &mut Self {
        self.details.extend(text.lines().map(str::to_owned));
        self
    }
    /// Adds a problem: the report is not ok any more.
    pub fn issue(&mut self, issue: impl Into<Issue>) -> &mut Self {
        self.ok = false;
        self.issues.push(issue.into());
        self
    }
    /// Adds a remark that leaves the report ok.
    pub fn remark(&mut self, issue: impl Into<Issue>) -> &mut Self {
        self.issues.push(issue.into());
        self
    }
    /// Sets the data for programs. A value that cannot be written as JSON is a bug of the command.
    pub fn data(&mut self, data: &impl Serialize) -> &mut Self {
        self.data = serde_json::to_value(data).expect("report data has text keys and plain values");
        self
    }
    /// The code the process ends with.
    pub fn exit(&self) -> Exit {
        self.exit.unwrap_or(if self.ok { Exit::Ok } else { Exit::NotOk })
    }
    /// The report of a command that could not be carried out.
    pub fn failed(command: impl Into<String>, error: &Error) -> Self {
        let mut report = Self::new(command);
        report.issue(error.clone()).data(&serde_json::json!({ "error": error }));
        report.exit = Some(Exit::of(error));
        report
    }
}

/// The two standard streams with what is known about them.
#[derive(Debug)]
pub struct Output {
    json: bool,
    /// The reader of stdout went away.
    closed: AtomicBool,
    /// stdout could not be written for another reason (disk full).
    failed: AtomicBool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json, closed: AtomicBool::new(false), failed: AtomicBool::new(false) }
    }
    /// True when the answer is wanted as JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }
    /// True once nobody reads any more: a command that prints for ever should end.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    /// Prints a finished report and returns the exit code.
    pub fn report(&self, report: &Report) -> Exit {
        let text = if self.json { json(report) } else { text(report) };
        self.write(&text);
        if self.failed.load(Ordering::Relaxed) { Exit::Error } else { report.exit() }
    }

    /// Prints an error and returns the exit code: on stderr for people, as a report on stdout for programs.
    pub fn error(&self, command: &str, error: &Error) -> Exit {
        if self.json {
            return self.report(&Report::failed(command, error));
        }
        to_stderr(&trouble(("error", RED), &error.clone().into()));
        Exit::of(error)
    }

    /// Prints one line while a command is running (`logs --follow`, `watch --dry-run`).
    pub fn line(&self, line: &str) {
        self.write(&format!("{}\n", escape(line)));
    }

    /// Prints one JSON value on one line, for commands that print a stream.
    pub fn json_line(&self, value: &impl Serialize) {
        let text = serde_json::to_string(value).expect("plain values can be written as JSON");
        self.write(&format!("{}\n", escape_json(&text)));
    }

    /// Prints a report in the place of the one before, where there is a terminal.
    pub fn screen(&self, report: &Report) {
        let top = if is_terminal() { "\u{1b}[H\u{1b}[2J\u{1b}[3J" } else { "" };
        let end = if is_terminal() { "" } else { "\n" };
        self.write(&format!("{top}{}{end}", text(report)));
    }

    /// Prints commentary: progress and remarks that are not the answer.
    pub fn note(&self, line: &str) {
        to_stderr(&format!("{}\n", escape(line)));
    }

    /// True when a person can be asked: both ends of the conversation are a terminal.
    pub fn can_ask(&self) -> bool {
        !self.json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks on stderr and gives the line that was typed; empty when nobody answers.
    pub fn ask(&self, question: &str) -> String {
        to_stderr(&escape(question));
        let mut answer = String::new();
        let _ = io::stdin().read_line(&mut answer);
        answer
    }

    fn write(&self, text: &str) {
        if self.is_closed() {
            return;
        }
        let mut stdout = anstream::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => self.closed.store(true, Ordering::Relaxed),
            Err(e) => {
                self.failed.store(true, Ordering::Relaxed);
                let error = Error::transient("cli.output", "could not write the answer").cause(e);
                to_stderr(&trouble(("error", RED), &error.into()));
            }
        }
    }
}

/// True once nobody can read stdout any more, also while nothing is written: a reader such as `head` has gone away.
pub fn reader_is_gone() -> bool {
    let stdout = io::stdout();
    let mut look = [PollFd::new(&stdout, PollFlags::empty())];
    let gone = PollFlags::ERR | PollFlags::HUP;
    poll(&mut look, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok() && look[0].revents().intersects(gone)
}

/// Bytes for people: `12.3 MiB`.
pub fn size(bytes: impl TryInto<u64>) -> String {
    ByteSize(bytes.try_into().unwrap_or(0)).display().iec().to_string()
}

/// Lays rows under headers in aligned columns; columns whose cells all begin with a digit to the right. Lines carry no trailing
/// spaces.
pub fn table(headers: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| escape(cell)));
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        let is_figure = |row: &Vec<String>| row[at].starts_with(|c: char| c.is_ascii_digit());
        if !rows.is_empty() && rows.iter().all(is_figure) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// True when stdout is a terminal: long answers may then be shortened.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// True when somebody may press keys: stdin is a terminal, too.
pub fn hears_keys() -> bool {
    io::stdin().is_terminal()
}

/// Makes foreign text harmless on one line: control characters, line breaks and marks that turn the reading direction round
/// are shown as `\u{..}`. Tabs stay.
pub fn escape(text: &str) -> String {
    if !text.chars().any(is_harmful) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            c if is_harmful(c) => write!(safe, "\\u{{{:x}}}", c as u32).expect("writing to a String cannot fail"),
            c => safe.push(c),
        }
    }
    safe
}

/// The same for finished JSON: what JSON itself allows raw but a terminal obeys becomes `\uXXXX`.
fn escape_json(text: &str) -> String {
    if !text.chars().any(|c| c != '\n' && is_harmful(c)) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c == '\n' || !is_harmful(c) {
            safe.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(safe, "\\u{unit:04x}").expect("writing to a String cannot fail");
        }
    }
    safe
}

fn is_harmful(c: char) -> bool {
    let turns_direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks_line = matches!(c, '\u{2028}' | '\u{2029}');
    let is_invisible = matches!(c, '\u{200b}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    (c.is_control() && c != '\t') || turns_direction || breaks_line || is_invisible
}

fn json(report: &Report) -> String {
    let text = serde_json::to_string_pretty(report).expect("a report has text keys and plain values");
    format!("{}\n", escape_json(&text))
}

fn text(report: &Report) -> String {
    let details: String = report.details.iter().map(|line| escape(line) + "\n").collect();
    let label = match report.remarks {
        _ if !report.ok => ("issue", YELLOW),
        Remarks::Warnings => ("warning", YELLOW),
        Remarks::Notes => ("note", YELLOW),
    };
    let issues: String = report.issues.iter().map(|issue| trouble(label, issue)).collect();
    if report.trouble_first { issues + &details } else { details + &issues }
}

/// ```text
/// error: could not archive the session agent:main
///   cause: transcript not found
///   hint:  check `openclaw.state_dir`
/// ```
/// A cause of several lines is several causes.
fn trouble((label, style): (&str, Style), issue: &Issue) -> String {
    let mut out = format!("{style}{label}:{style:#} {}\n", escape(&issue.message));
    for cause in issue.cause.iter().flat_map(|cause| cause.lines()) {
        writeln!(out, "  cause: {}", escape(cause)).expect("writing to a String cannot fail");
    }
    if let Some(hint) = &issue.hint {
        writeln!(out, "  {CYAN}hint:{CYAN:#}  {}", escape(hint)).expect("writing to a String cannot fail");
    }
    out
}

/// Commentary that cannot be written is lost; there is nowhere left to say so.
pub(super) fn to_stderr(text: &str) {
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_move_the_cursor_or_turn_the_line_round() {
        assert_eq!(escape("a\u{1b}[2Jb\u{202e}c\nd\u{9b}\t"), "a\\u{1b}[2Jb\\u{202e}c\\nd\\u{9b}\t");
        assert_eq!(escape("größer 漢字 👩‍👩‍👧"), "größer 漢字 👩‍👩‍👧");
    }

    #[test]
    fn escaped_json_still_says_the_same() {
        let value = serde_json::json!({"k": "a\u{7f}\u{202e}\u{e0041}\u{1b}"});
        let text = escape_json(&serde_json::to_string_pretty(&value).expect("JSON"));
        assert!(!text.chars().any(|c| c != '\n' && is_harmful(c)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value);
    }

    #[test]
    fn a_table_is_aligned_and_its_cells_are_harmless() {
        let rows = [vec!["usage".into(), "up".into()], vec!["a\nb".into(), "parked".into()]];
        assert_eq!(table(&["ACTOR", "STATE"], &rows), ["ACTOR  STATE", "usage  up", "a\\nb   parked"]);
    }

    #[test]
    fn an_issue_makes_a_report_not_ok_and_a_remark_does_not() {
        let mut report = Report::new("verify");
        report.remark("odd");
        assert_eq!((report.ok, report.exit()), (true, Exit::Ok));
        report.issue("broken");
        assert_eq!((report.ok, report.exit()), (false, Exit::NotOk));
    }

    #[test]
    fn an_error_is_shown_as_operation_cause_and_next_step() {
        let error =
            Error::data("archive.corrupt", "could not read the segment 12ab").cause("hash differs\nsize differs");
        let shown = trouble(("error", Style::new()), &error.hint("moon verify").into());
        let plain = anstream::adapter::strip_str(&shown).to_string();
        assert_eq!(
            plain,
            "error: could not read the segment 12ab\n  cause: hash differs\n  cause: size differs\n  hint:  moon verify\n"
        );
    }
}
