//! Lines in a crontab, for those who want Moon's checks from outside: merged into what is there, and taken out again.
//!
//! Moon's lines stand in one marked block. Every byte outside of it stays as it is, whatever it is; a block that somebody broke
//! open is refused, not guessed at. Pure: text in, text out.

use super::Description;
use moon_actors::{Error, Result};

const BEGIN: &str = "# >>> moon: written by `moon service cron`, removed by `moon service cron --remove` >>>";
const END: &str = "# <<< moon <<<";

/// When and what: the operations document's table with Moon's verbs. Each line makes sense beside a daemon that lives, which keeps
/// most of these times itself, and beside one that is dead or was never started.
const TABLE: [(&str, &[&str]); 5] = [
    ("*/5 * * * *", &["health", "--revive"]),
    ("0 0 * * *", &["rotate-logs", "--unless-scheduled"]),
    ("0 2 * * *", &["backup", "--unless-scheduled"]),
    ("* * * * *", &["dashboard", "html", "--unless-scheduled"]),
    ("0 9 * * 0", &["dashboard", "report", "--keep", "--unless-scheduled"]),
];

/// The block, lines with their ends.
pub fn block(d: &Description) -> String {
    let log = quoted(&d.in_home("logs/cron.log").display().to_string());
    let line = |(times, verb): &(&str, &[&str])| {
        let call: Vec<String> = d.call(verb).iter().map(|word| quoted(word)).collect();
        format!("{times} umask 077; {} >> {log} 2>&1\n", call.join(" "))
    };
    [format!("{BEGIN}\n"), TABLE.iter().map(line).collect(), format!("{END}\n")].concat()
}

/// The times of the table.
pub fn times() -> Vec<&'static str> {
    TABLE.iter().map(|(times, _)| *times).collect()
}

/// A crontab with the block in it: where it stood, else at the end.
pub fn merged(crontab: &[u8], block: &str) -> Result<Vec<u8>> {
    Ok(match find(crontab)? {
        Some(range) => [&crontab[..range.start], block.as_bytes(), &crontab[range.end..]].concat(),
        None => {
            let mut text = crontab.to_vec();
            if !text.is_empty() && !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            text.extend(block.as_bytes());
            text
        }
    })
}

/// A crontab without the block.
pub fn without(crontab: &[u8]) -> Result<Vec<u8>> {
    Ok(match find(crontab)? {
        Some(range) => [&crontab[..range.start], &crontab[range.end..]].concat(),
        None => crontab.to_vec(),
    })
}

/// Where the block stands, with its last line's end.
fn find(crontab: &[u8]) -> Result<Option<std::ops::Range<usize>>> {
    let (begins, ends) = (lines_that_are(crontab, BEGIN), lines_that_are(crontab, END));
    match (begins.as_slice(), ends.as_slice()) {
        ([], []) => Ok(None),
        ([begin], [end]) if begin.start < end.start => Ok(Some(begin.start..end.end)),
        _ => Err(Error::data("cron.damaged_block", "the lines of Moon's in the crontab are not in one piece any more")
            .hint(
                "take the lines between the two marks out with `crontab -e`, the marks included, and run this again",
            )),
    }
}

fn lines_that_are(text: &[u8], wanted: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive(|b| *b == b'\n') {
        if line.trim_ascii_end() == wanted.as_bytes() {
            found.push(start..start + line.len());
        }
        start += line.len();
    }
    found
}

/// A word for the shell that cron starts, its percent signs escaped for cron.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+,@".contains(c);
    if word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('%', "\\%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: &str = "# >>> moon: written by `moon service cron`, removed by `moon service cron --remove` >>>\n1 1 * * * a\n# <<< moon <<<\n";

    #[test]
    fn a_block_comes_in_once_and_goes_out_without_a_trace() {
        let foreign = b"# mine\nMAILTO=ada\n0 4 * * * /usr/bin/tidy  \n".as_slice();
        let with = merged(foreign, BLOCK).expect("merged");
        assert!(with.starts_with(foreign));
        assert_eq!(merged(&with, BLOCK).expect("again"), with);
        let newer = BLOCK.replace("1 1", "2 2");
        let replaced = merged(&with, &newer).expect("replaced");
        assert_eq!(String::from_utf8_lossy(&replaced).matches("* * * a").count(), 1);
        assert_eq!(without(&replaced).expect("removed"), foreign);
        assert_eq!(merged(b"", BLOCK).expect("empty"), BLOCK.as_bytes());
    }

    #[test]
    fn a_block_that_was_broken_open_is_refused() {
        for text in [BLOCK.replace("# <<< moon <<<\n", ""), BLOCK.repeat(2), format!("{END}\n{BEGIN}\n")] {
            assert_eq!(merged(text.as_bytes(), BLOCK).expect_err("broken").code, "cron.damaged_block");
            assert_eq!(without(text.as_bytes()).expect_err("broken").code, "cron.damaged_block");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_stay_whatever_they_are(before: Vec<u8>, after: Vec<u8>) {
            let before = [&before[..], b"\n"].concat();
            let text = [&before[..], BLOCK.as_bytes(), &after[..]].concat();
            let out = without(&text).expect("one block");
            prop_assert_eq!(&out, &[&before[..], &after[..]].concat());
            let again = merged(&before, BLOCK).expect("merged");
            prop_assert_eq!(without(&again).expect("one block"), before);
        }
    }
}
