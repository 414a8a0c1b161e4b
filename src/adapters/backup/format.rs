//! What a backup looks like: its names, the manifest, the list of checksums, and the note beside the file. Pure.
//!
//! `docs/contracts.md` describes it. A reader of today must understand every file that was ever written under version 1.

use chrono::{DateTime, Local, NaiveDateTime, TimeZone, Utc};
use moon_actors::Error;
use moon_actors::domain::Sha256;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

pub const FORMAT: &str = "moon-backup";
pub const VERSION: u32 = 1;
pub const MANIFEST: &str = "manifest.json";
pub const CHECKSUMS: &str = "checksums.sha256";
/// Holds the id of the newest backup of a folder.
pub const LATEST: &str = "latest";
/// Where the home's members stand, and those of the user's folders.
pub const HOME: &str = "home";
pub const INCLUDE: &str = "include";

/// What a restore takes, and what therefore no backup goes beyond. The path of a member with the top folder, bytes:
pub const PATH_MAX: usize = 4096;
/// folders in each other, with the top folder,
pub const DEPTH_MAX: usize = 160;
/// members,
pub const MEMBERS_MAX: usize = 500_000;
/// and the manifest or the list of checksums, bytes.
pub const LIST_MAX: u64 = 256 << 20;

/// Room for databases in a note, bytes.
const DATABASES_MAX: usize = 32 << 10;

const PLAIN: &str = ".tar.zst";
const ENCRYPTED: &str = ".tar.zst.age";
const STAMP: &str = "%Y%m%d_%H%M%S";

/// The last but one member of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    pub version: u32,
    pub id: String,
    pub created_at: DateTime<Utc>,
    /// Version of the Moon that made it.
    pub moon: String,
    pub host: String,
    /// Absolute path of the home it was taken from.
    pub home: String,
    pub include: Vec<Included>,
    /// Where the ledger in it ends. `None`: there is none.
    pub ledger: Option<LedgerMark>,
    pub members: Vec<Member>,
}

/// The n-th entry of `[backup] include`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Included {
    pub n: usize,
    pub path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerMark {
    pub schema: i64,
    pub audit_seq: i64,
    pub audit_sha256: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    File,
    /// A database, taken whole and sound.
    Sqlite,
    Folder,
}

/// One file or folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Relative to the top folder: `home/state/moon.db`.
    pub path: String,
    pub kind: Kind,
    pub bytes: u64,
    /// `None` for folders.
    pub sha256: Option<Sha256>,
    #[serde(with = "octal")]
    pub mode: u32,
    /// Seconds since 1970.
    pub mtime: i64,
}

/// Rights as people write them: `"600"`.
mod octal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(mode: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{mode:o}"))
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        let text = String::deserialize(from)?;
        u32::from_str_radix(&text, 8).map_err(|_| D::Error::custom(format!("{text:?} are no rights in octal")))
    }
}

/// `<id>.json` beside the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    pub id: String,
    pub file: String,
    pub bytes: u64,
    /// Of the file as it lies there.
    pub sha256: Sha256,
    pub encrypted: bool,
    pub created_at: DateTime<Utc>,
    pub verified_at: Option<DateTime<Utc>>,
    /// What the last proof found wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
    pub members: u64,
    /// Of all members, unpacked.
    pub content_bytes: u64,
    /// Some databases that are in it whole and sound: so that somebody who lost one need not open every backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<Database>,
    /// How many databases are in it that SQLite found unsound, or could not copy.
    #[serde(default, skip_serializing_if = "is_none_of")]
    pub unsound: usize,
}

fn is_none_of(number: &usize) -> bool {
    *number == 0
}

/// A database that a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Where it was taken from.
    pub path: String,
    pub member: String,
}

/// The sound databases of a manifest, as many as a note has room for.
pub fn databases(manifest: &Manifest) -> Vec<Database> {
    let origin = |member: &str| -> Option<String> {
        let (place, rest) = member.split_once('/')?;
        if place == HOME {
            return Some(format!("{}/{rest}", manifest.home));
        }
        let (n, below) = rest.split_once('/')?;
        let include = manifest.include.iter().find(|include| include.n.to_string() == n)?;
        Some(format!("{}/{below}", include.path))
    };
    let sound = manifest.members.iter().filter(|member| member.kind == Kind::Sqlite);
    let found = sound.filter_map(|m| Some(Database { path: origin(&m.path)?, member: m.path.clone() }));
    let mut room = DATABASES_MAX;
    found
        .take_while(|database| {
            let taken = database.path.len() + database.member.len() + 64;
            let fits = taken <= room;
            room = room.saturating_sub(taken);
            fits
        })
        .collect()
}

/// Longest text about a damage in a note, characters.
const LONGEST_DAMAGE: usize = 500;

impl Sidecar {
    /// What stands beside a backup that a proof found damaged: nobody may take it for a good one again.
    pub fn damaged(self, error: &Error) -> Self {
        let why = error.cause.as_deref().unwrap_or(&error.message);
        let why = why.lines().collect::<Vec<_>>().join("; ").chars().take(LONGEST_DAMAGE).collect();
        Self { verified_at: None, damaged: Some(why), ..self }
    }
}

/// `<id>.tar.zst`, `<id>.tar.zst.age`
pub fn file_name(id: &str, encrypted: bool) -> String {
    format!("{id}{}", if encrypted { ENCRYPTED } else { PLAIN })
}

/// `<id>.json`
pub fn sidecar_name(id: &str) -> String {
    format!("{id}.json")
}

/// The id in the name of a backup's file, and whether it is encrypted. `None` for every other name.
pub fn parse_name(name: &str) -> Option<(&str, bool)> {
    let encrypted = name.strip_suffix(ENCRYPTED).map(|id| (id, true));
    let (id, encrypted) = encrypted.or_else(|| name.strip_suffix(PLAIN).map(|id| (id, false)))?;
    is_id(id).then_some((id, encrypted))
}

/// Whether a text is the id of a backup. Nothing else ever becomes part of a path.
pub fn is_id(text: &str) -> bool {
    let (stamp, number) = text.split_once('-').unwrap_or((text, "2"));
    let is_number = number.len() <= 4 && number.parse().is_ok_and(|n: u32| n >= 2) && !number.starts_with(['0', '+']);
    stamp.len() == 15 && is_number && NaiveDateTime::parse_from_str(stamp, STAMP).is_ok()
}

/// The first free id of a moment.
pub fn new_id(at: DateTime<Utc>, is_taken: impl Fn(&str) -> bool) -> String {
    let stamp = at.with_timezone(&Local).format(STAMP).to_string();
    let numbered = (2..).map(|n: u32| format!("{stamp}-{n}"));
    std::iter::once(stamp.clone())
        .chain(numbered)
        .find(|id| !is_taken(id))
        .expect("there are more numbers than backups")
}

/// The moment that an id names, by this machine's calendar.
pub fn time_of(id: &str) -> Option<DateTime<Utc>> {
    let stamp = NaiveDateTime::parse_from_str(id.get(..15)?, STAMP).ok()?;
    Local.from_local_datetime(&stamp).earliest().map(|at| at.with_timezone(&Utc))
}

/// A name that the manifest and `sha256sum -c` both take as it is.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains('/') && !name.chars().any(char::is_control)
}

/// Whether a member's path stays below the top folder, in one of the two places.
pub fn is_member_path(path: &str) -> bool {
    let mut parts = path.split('/');
    let place = match parts.next() {
        Some(HOME) => true,
        Some(INCLUDE) => parts.next().is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()) && !n.is_empty()),
        _ => false,
    };
    place && parts.all(is_plain_name)
}

/// The list that `sha256sum -c` reads: every regular file and the manifest, sorted.
pub fn checksums(members: &[Member], manifest: &Sha256) -> String {
    let files = members.iter().filter_map(|m| m.sha256.as_ref().map(|sha256| (m.path.as_str(), sha256)));
    let mut files: Vec<_> = files.chain([(MANIFEST, manifest)]).collect();
    files.sort_unstable_by_key(|(path, _)| *path);
    let mut text = String::with_capacity(files.len() * 100);
    for (path, sha256) in files {
        writeln!(text, "{}  {path}", sha256.as_str()).expect("writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_are_ids() {
        for good in ["20261121_020000", "20261121_020000-2", "20261121_020000-17"] {
            assert!(is_id(good), "{good}");
            assert_eq!(parse_name(&file_name(good, true)), Some((good, true)));
            assert_eq!(parse_name(&file_name(good, false)), Some((good, false)));
        }
        for bad in [
            "",
            "latest",
            "20261321_020000",
            "20261121_020000-1",
            "20261121_020000-02",
            "../20261121_0200",
            "20261121_020000-",
        ] {
            assert!(!is_id(bad), "{bad}");
        }
        assert_eq!(parse_name("20261121_020000.tar.gz"), None);
    }

    #[test]
    fn a_moment_that_is_taken_gets_a_number() {
        let now = Utc::now();
        let first = new_id(now, |_| false);
        let third = new_id(now, |id| id == first || id == format!("{first}-2"));
        assert_eq!(third, format!("{first}-3"));
        assert!(is_id(&third) && (time_of(&third).expect("a time") - now).num_seconds().abs() <= 3600);
    }

    #[test]
    fn no_path_of_a_member_leaves_its_place() {
        for good in ["home", "home/state/moon.db", "include/0", "include/12/a b/ü.txt"] {
            assert!(is_member_path(good), "{good}");
        }
        for bad in ["", "/home", "home/../x", "home//x", "include", "include/x/y", "etc/passwd", "home/a\nb", "home/."]
        {
            assert!(!is_member_path(bad), "{bad}");
        }
    }

    #[test]
    fn a_note_names_databases_where_they_were_and_not_more_than_it_has_room_for() {
        let member =
            |path: &str, kind| Member { path: path.into(), kind, bytes: 0, sha256: None, mode: 0o600, mtime: 0 };
        let mut manifest = Manifest {
            format: FORMAT.into(),
            version: VERSION,
            id: String::new(),
            created_at: Utc::now(),
            moon: String::new(),
            host: String::new(),
            home: "/moon".into(),
            include: vec![Included { n: 0, path: "/agent".into() }],
            ledger: None,
            members: vec![
                member("home/state/moon.db", Kind::Sqlite),
                member("home/damaged.db", Kind::File),
                member("include/0/deep/a.db", Kind::Sqlite),
                member("include/7/of/nobody.db", Kind::Sqlite),
            ],
        };
        let paths = |manifest: &Manifest| databases(manifest).into_iter().map(|d| d.path).collect::<Vec<_>>();
        assert_eq!(paths(&manifest), ["/moon/state/moon.db", "/agent/deep/a.db"]);
        manifest.members = (0..5000).map(|n| member(&format!("home/{n}.db"), Kind::Sqlite)).collect();
        let text = serde_json::to_string_pretty(&databases(&manifest)).expect("JSON");
        assert!((100..5000).contains(&paths(&manifest).len()) && text.len() < 48 << 10, "{}", text.len());
    }

    #[test]
    fn a_member_is_written_as_documented() {
        let member = Member {
            path: "home/a".into(),
            kind: Kind::Sqlite,
            bytes: 3,
            sha256: Some(Sha256::of(b"abc")),
            mode: 0o600,
            mtime: -1,
        };
        let text = serde_json::to_string(&member).expect("JSON");
        assert!(text.contains(r#""kind":"sqlite","bytes":3"#) && text.contains(r#""mode":"600","mtime":-1"#), "{text}");
        assert_eq!(serde_json::from_str::<Member>(&text).expect("JSON"), member);
    }
}
