//! Where everything of Moon's lives: one folder, typed paths, private to one user.
//!
//! Every path that Moon writes is named here and nowhere else, so that a backup, a right or a move is thought of once.
//! [`Home::open`] is the gate: it refuses a home that is a link or somebody else's, makes folders 0700 and narrows what has
//! become wider. It must never follow a link while changing rights, and never build a path from foreign text.

use moon_actors::domain::Sha256;
use moon_actors::{Error, Result};
use rustix::fs::OFlags;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Longest path a socket may have, bytes: Linux takes 107, macOS 103, and some room is left for a temporary name.
const SOCKET_PATH_MAX: usize = 100;

/// A folder of this name was meant for Moon, whatever else lies in it.
const DEFAULT_NAME: &str = ".lilac_metaflora";

/// Any of these files shows that a folder was Moon's home before.
const MARKERS: [&str; 4] = ["run/moon.lock", "state/moon.db", "state/moon_state.json", "state/openclaw-install.json"];

/// What may lie in a new home beside [`FOLDERS`]: settings, the installed plugin, a file of the first plan, and what systems
/// leave behind.
const BESIDE: [&str; 6] = ["moon.toml", "moon.toml.example", "openclaw", "MEMORY.md", "lost+found", ".DS_Store"];

/// What the name of a health report begins with; its day follows.
const REPORT: &str = "weekly_health_";

/// Folders made at opening, parents first.
const FOLDERS: [&str; 16] = [
    "",
    "state",
    "archives",
    "archives/objects",
    "archives/sessions",
    "archives/mlib",
    "memory",
    "continuity",
    "index",
    "skills",
    "skills/moon-system",
    "skills/moon-system/logs",
    "logs",
    "bridge",
    "run",
    "backups",
];

/// Folders whose own files are looked at when rights are narrowed. The many files below `archives/` are not walked: the
/// folder above them is private, and a start must not take longer the more was archived.
const FOLDERS_OF_FILES: [&str; 8] =
    ["", "state", "archives", "index", "logs", "skills/moon-system/logs", "run", "memory"];

/// Most files looked at in one folder when rights are narrowed.
const FILES_LOOKED_AT: usize = 4096;

/// The folder of one installation. Making one touches nothing; see [`Home::open`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Where the home says that somebody wants Moon to stay away.
    pub const STOPPED: &str = "state/stopped";

    /// Names a home without touching it. A trailing slash is dropped, so that a link at the end is seen as a link.
    pub fn at(root: impl AsRef<Path>) -> Self {
        Self { root: root.as_ref().components().collect() }
    }

    /// Opens a home for writing: refuses a link (`home.is_link`), a file (`home.not_a_folder`), another user's folder
    /// (`home.foreign_owner`) or a folder full of other things (`home.not_moons`), makes what is missing with mode 0700, and narrows wider rights of what Moon knows.
    /// Returns one sentence per narrowed path, to be logged once.
    pub fn open(root: impl AsRef<Path>) -> Result<(Self, Vec<String>)> {
        let home = Self::at(root);
        crate::adapters::restore::settle(&home)?;
        home.refuse_unsafe()?;
        home.refuse_others_folder()?;
        for folder in FOLDERS {
            let path = home.root.join(folder);
            crate::durable::create_folder(&path)
                .map_err(|e| io_error(&e, format!("could not make the folder {}", path.display())))?;
        }
        // Once more: between the first look and the making somebody may have put a link there.
        home.refuse_unsafe()?;
        let narrowed = home.narrow()?;
        Ok((home, narrowed))
    }

    /// The refusals of [`Home::open`] without making or changing anything: for commands that only read. A home that is not
    /// there is fine.
    pub fn refuse_unsafe(&self) -> Result<()> {
        let shown = self.root.display();
        let found = match std::fs::symlink_metadata(&self.root) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(io_error(&e, format!("could not look at the home {shown}"))),
        };
        if found.file_type().is_symlink() {
            return Err(Error::config("home.is_link", format!("could not use the home {shown}"))
                .cause("it is a symbolic link, and a link can be turned elsewhere while Moon writes")
                .hint("name the folder itself with --home or MOON_HOME"));
        }
        if !found.is_dir() {
            return Err(Error::config("home.not_a_folder", format!("could not use the home {shown}"))
                .cause("it is not a folder")
                .hint("name a folder with --home or MOON_HOME"));
        }
        refuse_foreign(&found, &self.root)
    }

    /// Refuses a folder that holds what is not Moon's. Opening changes rights and makes folders, and a mistyped home must not
    /// do that to somebody's `$HOME` or to `/`.
    fn refuse_others_folder(&self) -> Result<()> {
        let shown = self.root.display();
        let has_its_name = self.root.file_name().is_some_and(|name| name == DEFAULT_NAME);
        if has_its_name || MARKERS.iter().any(|marker| self.root.join(marker).is_file()) {
            return Ok(());
        }
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(io_error(&e, format!("could not list the folder {shown}"))),
        };
        let is_moons = |name: &str| {
            FOLDERS.contains(&name) || BESIDE.contains(&name) || name.starts_with(crate::durable::TEMPORARY_PREFIX)
        };
        for entry in entries {
            let entry = entry.map_err(|e| io_error(&e, format!("could not list the folder {shown}")))?;
            if !entry.file_name().to_str().is_some_and(is_moons) {
                return Err(Error::config("home.not_moons", format!("could not use {shown} as the home"))
                    .cause("it holds other things and no sign of an earlier Moon")
                    .hint("name an empty folder, or one that does not exist yet, with --home or MOON_HOME"));
            }
        }
        Ok(())
    }

    /// True once the folder is there.
    pub fn exists(&self) -> bool {
        self.root.is_dir()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }
    /// `moon.toml`: the settings file looked for when none is named.
    pub fn config_file(&self) -> PathBuf {
        self.root.join("moon.toml")
    }
    /// `state/moon.db`: the ledger.
    pub fn ledger_db(&self) -> PathBuf {
        self.root.join("state/moon.db")
    }
    pub fn state_dir(&self) -> PathBuf {
        self.root.join("state")
    }
    /// `state/moon_state.json`: the last state in a form other programs read.
    pub fn state_json(&self) -> PathBuf {
        self.root.join("state/moon_state.json")
    }
    /// `run/returns`: there while Moon is sent away by somebody who starts it again.
    pub fn returns_file(&self) -> PathBuf {
        self.root.join("run/returns")
    }
    /// `state/stopped`: there while Moon is away because somebody wanted it.
    pub fn stopped_file(&self) -> PathBuf {
        self.root.join(Self::STOPPED)
    }
    pub fn archives_dir(&self) -> PathBuf {
        self.root.join("archives")
    }
    /// `archives/objects`: segments by hash.
    pub fn objects_dir(&self) -> PathBuf {
        self.root.join("archives/objects")
    }
    /// `archives/sessions`: one folder of manifests per session.
    pub fn sessions_dir(&self) -> PathBuf {
        self.root.join("archives/sessions")
    }
    /// `archives/mlib`: Markdown projections.
    pub fn mlib_dir(&self) -> PathBuf {
        self.root.join("archives/mlib")
    }
    /// `archives/ledger.jsonl`: one line per archive.
    pub fn archive_ledger(&self) -> PathBuf {
        self.root.join("archives/ledger.jsonl")
    }
    /// `memory`: one Markdown file a day.
    pub fn memory_dir(&self) -> PathBuf {
        self.root.join("memory")
    }
    pub fn continuity_dir(&self) -> PathBuf {
        self.root.join("continuity")
    }
    pub fn index_dir(&self) -> PathBuf {
        self.root.join("index")
    }
    /// `index/history.db`: the full-text index; may be rebuilt from the archives at any time.
    pub fn index_db(&self) -> PathBuf {
        self.root.join("index/history.db")
    }
    /// `skills/moon-system/logs/audit.log`: the audit in a form other programs read.
    pub fn audit_log(&self) -> PathBuf {
        self.root.join("skills/moon-system/logs/audit.log")
    }
    /// True for what lies in the home and not among the logs: nobody rotates that.
    pub fn holds_no_log(&self, path: &Path) -> bool {
        path.starts_with(&self.root) && !path.starts_with(self.logs_dir())
    }
    pub fn logs_dir(&self) -> PathBuf {
        self.root.join("logs")
    }
    /// `logs/alerts.log`: one line for each thing that people are told, or spared.
    pub fn alerts_log(&self) -> PathBuf {
        self.root.join("logs/alerts.log")
    }
    /// `logs/moon.log`: the daemon's log, JSON lines; older ones are `moon.log-YYYYMMDD_HHMMSS` and so on.
    pub fn log_file(&self) -> PathBuf {
        self.root.join("logs/moon.log")
    }
    /// `logs/daemon.out`: what a daemon that `moon start` began says on its standard streams.
    pub fn daemon_output(&self) -> PathBuf {
        self.root.join("logs/daemon.out")
    }
    /// `logs/daemon_status.json`: how far the daemon's life is, for programs.
    pub fn status_file(&self) -> PathBuf {
        self.root.join("logs/daemon_status.json")
    }
    /// `logs/weekly_health_20261122.log` and its figures, `.json`.
    pub fn report_file(&self, day: &str, kind: &str) -> PathBuf {
        self.root.join(format!("logs/{REPORT}{day}.{kind}"))
    }
    /// The day in the name of a health report or of its figures. `None` for every other name.
    pub fn report_day(name: &str) -> Option<&str> {
        let (day, kind) = name.strip_prefix(REPORT)?.split_once('.')?;
        let is_day = day.len() == 8 && chrono::NaiveDate::parse_from_str(day, "%Y%m%d").is_ok();
        (is_day && matches!(kind, "log" | "json")).then_some(day)
    }
    /// `logs/dashboard.html`: the page as a file, where no other is named.
    pub fn dashboard_html(&self) -> PathBuf {
        self.root.join("logs/dashboard.html")
    }
    /// `run/dashboard.token`: who knows it may read the web page.
    pub fn dashboard_token(&self) -> PathBuf {
        self.root.join("run/dashboard.token")
    }
    /// `run/dashboard.url`: where the daemon serves the web page.
    pub fn dashboard_url(&self) -> PathBuf {
        self.root.join("run/dashboard.url")
    }
    pub fn bridge_dir(&self) -> PathBuf {
        self.root.join("bridge")
    }
    pub fn backups_dir(&self) -> PathBuf {
        self.root.join("backups")
    }
    /// `backups/moon`: Moon's own backups, unless the settings name another folder.
    pub fn own_backups_dir(&self) -> PathBuf {
        self.root.join("backups/moon")
    }
    /// `backups/work`: databases on their way into a backup, and backups restored to be compared. Emptied by the next backup.
    pub fn backup_work_dir(&self) -> PathBuf {
        self.root.join("backups/work")
    }
    /// `backups/backup.lock`: held by whoever makes, proves or removes backups.
    pub fn backup_lock(&self) -> PathBuf {
        self.root.join("backups/backup.lock")
    }
    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }
    /// `run/turn-ROUTE.lock`: held by the one process that hands a notice to this route of alerts.
    pub fn turn_file(&self, route: &str) -> PathBuf {
        self.root.join(format!("run/turn-{route}.lock"))
    }
    /// `run/turn-ROUTE.beside.lock`: the same for those who have waited for the other in vain.
    pub fn turn_beside_file(&self, route: &str) -> PathBuf {
        self.root.join(format!("run/turn-{route}.beside.lock"))
    }
    /// `run/moon.lock`: held by the one process that may write.
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("run/moon.lock")
    }

    /// Where the daemon listens: `run/moon.sock`, or a short path named by the home's hash when that is too long for a
    /// socket. Bind only after [`Home::prepare_socket_folder`].
    pub fn socket_path(&self) -> PathBuf {
        let usual = self.root.join("run/moon.sock");
        if usual.as_os_str().len() <= SOCKET_PATH_MAX {
            return usual;
        }
        self.short_sockets().into_iter().next().unwrap_or(usual)
    }

    /// Where a client looks, best first. More than one because the daemon may have been started by a service with other
    /// `XDG_RUNTIME_DIR` and `TMPDIR` than the terminal has.
    pub fn socket_candidates(&self) -> Vec<PathBuf> {
        let usual = self.root.join("run/moon.sock");
        if usual.as_os_str().len() <= SOCKET_PATH_MAX { vec![usual] } else { self.short_sockets() }
    }

    /// Makes the socket's folder 0700 if needed and refuses one that is a link or another user's: in a shared folder such as
    /// `/tmp` anybody could have been there first.
    pub fn prepare_socket_folder(&self) -> Result<PathBuf> {
        let socket = self.socket_path();
        let folder = Self::at(socket.parent().expect("a socket path always has a folder"));
        crate::durable::create_folder(folder.root())
            .map_err(|e| io_error(&e, format!("could not make the folder {}", folder.root.display())))?;
        folder.refuse_unsafe()?;
        narrow_one(&folder.root)?;
        Ok(socket)
    }

    fn short_sockets(&self) -> Vec<PathBuf> {
        let uid = rustix::process::geteuid().as_raw();
        let hash = Sha256::of(self.root.as_os_str().as_bytes());
        let folder = format!("moon-{uid}-{}", hash.short());
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_absolute() && p.is_dir());
        let guessed = Some(PathBuf::from(format!("/run/user/{uid}"))).filter(|p| p.is_dir());
        let mut sockets: Vec<PathBuf> = Vec::new();
        for base in [runtime, guessed, Some(std::env::temp_dir()), Some("/tmp".into())].into_iter().flatten() {
            let socket = base.join(&folder).join("moon.sock");
            if socket.as_os_str().len() <= SOCKET_PATH_MAX && !sockets.contains(&socket) {
                sockets.push(socket);
            }
        }
        sockets
    }

    fn narrow(&self) -> Result<Vec<String>> {
        let mut narrowed = Vec::new();
        for folder in FOLDERS {
            narrowed.extend(narrow_one(&self.root.join(folder))?);
        }
        for folder in FOLDERS_OF_FILES {
            let path = self.root.join(folder);
            let entries = std::fs::read_dir(&path)
                .map_err(|e| io_error(&e, format!("could not list the folder {}", path.display())))?;
            for entry in entries.take(FILES_LOOKED_AT).flatten() {
                // At the top other programs may keep things; they are not ours to change.
                let is_ours = !folder.is_empty() || entry.file_name().to_str().is_some_and(|n| BESIDE.contains(&n));
                if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                    narrowed.extend(narrow_one(&entry.path())?);
                }
            }
        }
        Ok(narrowed)
    }
}

/// Takes group's and others' rights away from a file or folder, through a handle that cannot be a link.
fn narrow_one(path: &Path) -> Result<Option<String>> {
    let failed = |e: &io::Error| io_error(e, format!("could not narrow the rights of {}", path.display()));
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        // A log or a database's side file may go away while we look.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(&e)),
    };
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 || found.file_type().is_symlink() {
        return Ok(None);
    }
    refuse_foreign(&found, path)?;
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("open flags are small");
    let file: File = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(&e)),
    };
    file.set_permissions(Permissions::from_mode(mode & 0o700)).map_err(|e| failed(&e))?;
    Ok(Some(format!("narrowed the rights of {} from {mode:o} to {:o}", path.display(), mode & 0o700)))
}

fn refuse_foreign(found: &Metadata, path: &Path) -> Result<()> {
    let (owner, me) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner == me {
        return Ok(());
    }
    Err(Error::config("home.foreign_owner", format!("could not use {}", path.display()))
        .cause(format!("it belongs to user id {owner}, and this is user id {me}"))
        .hint("run moon as the owner, or name another folder with --home or MOON_HOME"))
}

fn io_error(error: &io::Error, message: String) -> Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::config("home.denied", message).hint("name a folder you may write to with --home or MOON_HOME")
        }
        _ if crate::durable::is_full(error) => {
            Error::transient("home.disk_full", message).hint("make room on that disk, then try again")
        }
        _ => Error::transient("home.io", message),
    }
    .cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn a_new_home_is_private_throughout_and_needs_no_narrowing() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (home, narrowed) = Home::open(scratch.path().join("deep/home")).expect("opens");
        assert_eq!(narrowed, Vec::<String>::new());
        for folder in FOLDERS {
            assert_eq!(mode(&home.root().join(folder)), 0o700, "{folder}");
        }
    }

    #[test]
    fn wider_rights_are_narrowed_and_each_is_reported_once() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("opens");
        std::fs::write(home.ledger_db(), b"x").expect("a file");
        std::fs::set_permissions(home.ledger_db(), Permissions::from_mode(0o644)).expect("widened");
        std::fs::set_permissions(home.archives_dir(), Permissions::from_mode(0o755)).expect("widened");
        let (_, first) = Home::open(home.root()).expect("opens");
        assert_eq!(first.len(), 2, "{first:?}");
        assert_eq!((mode(&home.ledger_db()), mode(&home.archives_dir())), (0o600, 0o700));
        let (_, second) = Home::open(home.root()).expect("opens");
        assert_eq!(second, Vec::<String>::new());
    }

    #[test]
    fn a_home_that_is_a_link_is_refused_even_with_a_trailing_slash() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        std::fs::create_dir(scratch.path().join("real")).expect("a folder");
        std::os::unix::fs::symlink(scratch.path().join("real"), scratch.path().join("link")).expect("a link");
        for name in ["link", "link/"] {
            let refused = Home::open(scratch.path().join(name)).expect_err("a link");
            assert_eq!(refused.code, "home.is_link");
        }
        assert_eq!(std::fs::read_dir(scratch.path().join("real")).expect("listable").count(), 0);
    }

    #[test]
    fn a_link_inside_the_home_is_not_followed_when_rights_are_narrowed() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("opens");
        let outside = scratch.path().join("outside");
        std::fs::write(&outside, b"x").expect("a file");
        std::fs::set_permissions(&outside, Permissions::from_mode(0o644)).expect("widened");
        std::os::unix::fs::symlink(&outside, home.state_dir().join("moon_state.json")).expect("a link");
        Home::open(home.root()).expect("opens");
        assert_eq!(mode(&outside), 0o644);
    }

    #[test]
    fn a_long_home_gets_a_short_socket_of_its_own() {
        let long = |tail: &str| Home::at(PathBuf::from(format!("/srv/{}/{tail}", "deep/".repeat(40))));
        let (one, two) = (long("one").socket_path(), long("two").socket_path());
        assert!(one.as_os_str().len() <= SOCKET_PATH_MAX, "{}", one.display());
        assert_ne!(one, two);
        assert!(long("one").socket_candidates().contains(&one));
        assert_eq!(Home::at("/srv/moon").socket_path(), Path::new("/srv/moon/run/moon.sock"));
    }

    #[test]
    fn a_folder_full_of_other_things_is_refused_and_left_as_it_is() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        std::fs::write(scratch.path().join(".bashrc"), b"x").expect("a file");
        std::fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).expect("widened");
        assert_eq!(Home::open(scratch.path()).expect_err("not Moon's").code, "home.not_moons");
        assert_eq!((mode(scratch.path()), scratch.path().join("state").exists()), (0o755, false));
        std::fs::rename(scratch.path().join(".bashrc"), scratch.path().join("moon.toml")).expect("renamed");
        Home::open(scratch.path()).expect("only settings in it");
        std::fs::write(scratch.path().join("state/moon.db"), b"x").expect("a ledger");
        std::fs::write(scratch.path().join("notes.txt"), b"x").expect("a file");
        Home::open(scratch.path()).expect("known as Moon's by its ledger");
    }

    #[test]
    fn another_users_home_is_refused() {
        // Only a privileged process can make such a folder; for everybody else the root folder is one.
        let refused = if rustix::process::geteuid().is_root() {
            let scratch = tempfile::tempdir().expect("a scratch folder");
            std::os::unix::fs::chown(scratch.path(), Some(12_345), None).expect("given away");
            Home::open(scratch.path()).expect_err("not ours")
        } else {
            Home::at("/").refuse_unsafe().expect_err("not ours")
        };
        assert_eq!(refused.code, "home.foreign_owner");
    }
}
