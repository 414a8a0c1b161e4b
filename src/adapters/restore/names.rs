//! Which names of members are accepted: the one gate between foreign text and a path below a held folder.
//!
//! Pure. A name that passes is relative, plain and short enough for every system; it says nothing about what it names.

use crate::adapters::backup::format::{DEPTH_MAX, PATH_MAX};
use moon_actors::{Error, Result};

/// Longest name of one file or folder, bytes: what Linux and macOS take.
const NAME_MAX: usize = 255;

/// An archive that is not what a backup is: somebody made or changed it.
pub fn refused(why: impl std::fmt::Display) -> Error {
    Error::data("restore.unsafe", "the archive is refused, and nothing was touched")
        .cause(why)
        .hint("use another backup: `moon restore latest`, or name a file")
}

/// An archive whose bytes are not those that were written.
pub fn damaged(why: impl std::fmt::Display) -> Error {
    Error::data("restore.damaged", "the archive is damaged, and nothing was touched")
        .cause(why)
        .hint("use another backup, or fetch this one again from where it was copied to")
}

/// The path of a member as text, checked. A slash at the end (folders) is taken off.
pub fn checked(raw: &[u8]) -> Result<&str> {
    let shown = || String::from_utf8_lossy(raw).into_owned();
    let text = std::str::from_utf8(raw).map_err(|_| refused(format!("a member's name is not UTF-8: {}", shown())))?;
    let path = text.strip_suffix('/').unwrap_or(text);
    if path.is_empty() || path.starts_with('/') {
        return Err(refused(format!("a member's path is empty or absolute: {}", shown())));
    }
    if path.len() > PATH_MAX {
        return Err(refused(format!("a member's path has {} bytes, more than {PATH_MAX}", path.len())));
    }
    if let Some(bad) = path.chars().find(|c| c.is_control()) {
        return Err(refused(format!("a member's name holds the control character {:#x}: {}", bad as u32, shown())));
    }
    if path.split('/').count() > DEPTH_MAX {
        return Err(refused(format!("a member lies more than {DEPTH_MAX} folders deep: {}", shown())));
    }
    for name in path.split('/') {
        if name.is_empty() || name == "." || name == ".." {
            return Err(refused(format!("a member's path does not stay below its folder: {}", shown())));
        }
        if name.len() > NAME_MAX {
            return Err(refused(format!("a member's name has {} bytes, more than {NAME_MAX}", name.len())));
        }
    }
    Ok(path)
}

/// Refuses what is Moon's own machinery or a database's side file: a backup holds none of it, and a planted one would be obeyed.
pub fn check_home_path(path: &str) -> Result<()> {
    let first = path.split('/').next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    let is_machinery = ["run", "index", "backups"].contains(&first) || path == "state/reserve.bin";
    if is_machinery {
        return Err(refused(format!("{path} is never part of a backup")));
    }
    if last.starts_with(crate::durable::TEMPORARY_PREFIX) {
        return Err(refused(format!("{path} has the name of a temporary file")));
    }
    Ok(())
}

/// True for `YYYYMMDD_HHMMSS`, with `-2` and so on behind it.
pub fn is_id(text: &str) -> bool {
    let (stamp, number) = text.split_once('-').map_or((text, None), |(stamp, number)| (stamp, Some(number)));
    let digits = |t: &str, n: usize| t.len() == n && t.bytes().all(|b| b.is_ascii_digit());
    let is_stamp = stamp.split_once('_').is_some_and(|(day, time)| digits(day, 8) && digits(time, 6));
    is_stamp && number.is_none_or(|n| !n.is_empty() && n.len() < 6 && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_relative_names_pass_and_a_folders_slash_is_dropped() {
        for (given, path) in [("a", "a"), ("a/b.db", "a/b.db"), ("a/b/", "a/b"), ("a/..b/größe ✓\\", "a/..b/größe ✓\\")]
        {
            assert_eq!(checked(given.as_bytes()).expect(given), path);
        }
    }

    #[test]
    fn a_name_that_leaves_its_folder_or_lies_to_a_terminal_is_refused() {
        let deep = "d/".repeat(160) + "f";
        let (long, longer) = ("n".repeat(256), "pqrs/".repeat(900));
        let names: [&[u8]; 17] = [
            b"",
            b"/",
            b"/etc/passwd",
            b"..",
            b"../x",
            b"a/../../x",
            b"a/..",
            b"./a",
            b"a/./b",
            b"a//b",
            b"a\0b",
            b"a\nb",
            b"a\x1b[2Jb",
            b"\xff\xfe",
            deep.as_bytes(),
            long.as_bytes(),
            longer.as_bytes(),
        ];
        for name in names {
            assert_eq!(checked(name).expect_err("refused").code, "restore.unsafe", "{name:?}");
        }
    }

    #[test]
    fn ids_are_stamps_with_or_without_a_number() {
        assert!(["20261121_020000", "20261121_020000-2"].into_iter().all(is_id));
        assert!(
            !["", "latest", "20261121", "20261121_020000-", "2026112_0200000", "20261121_020000-x"]
                .into_iter()
                .any(is_id)
        );
    }

    #[test]
    fn moons_own_machinery_is_no_member() {
        for path in ["run/moon.lock", "backups/latest", "index/history.db", "state/reserve.bin", "memory/.moon-tmp-1-2"]
        {
            assert!(check_home_path(path).is_err(), "{path}");
        }
        for path in ["state/moon.db", "memory/2026-11-20.md", "moon.toml", "skills/run/x"] {
            check_home_path(path).expect(path);
        }
    }
}
