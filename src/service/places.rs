//! What a service has to reach beside its home: everything that the settings name, and nothing more.
//!
//! A system service sees no user's home but these places (`ProtectHome`), and writes nowhere else (`ProtectSystem`). Where a file is
//! replaced by renaming (a heartbeat, a secret, a page), its folder is meant: a file that was bound alone would stay the old one.

use moon_actors::settings::{Named, Settings, Use};
use std::path::{Component, Path, PathBuf};

/// No wall hides these from reading: programs of the machine's need no place of their own.
const SEEN_BY_ALL: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/etc", "/opt"];

/// Folders and files beside the home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    pub read: Vec<PathBuf>,
    pub write: Vec<PathBuf>,
}

impl Places {
    /// Everything that the settings name, for a user who calls `user_home` home. `home` is Moon's own and is not among them.
    pub fn of(settings: &Settings, home: &Path, user_home: &Path) -> Self {
        let mut wanted = Wanted { user_home, places: Self::default() };
        settings.paths().into_iter().for_each(|named| wanted.grant(named));
        wanted.places.without_repeats(home)
    }

    /// Each place once, and none inside of another one that grants the same or more.
    fn without_repeats(mut self, home: &Path) -> Self {
        let outermost = |places: &mut Vec<PathBuf>| {
            let all = places.clone();
            places.retain(|place| !all.iter().any(|other| other != place && place.starts_with(other)));
            places.sort();
            places.dedup();
        };
        self.write.retain(|place| !place.starts_with(home) && place != Path::new("/"));
        outermost(&mut self.write);
        let write = self.write.clone();
        let is_granted = |place: &Path| place.starts_with(home) || write.iter().any(|other| place.starts_with(other));
        self.read.retain(|place| !is_granted(place) && place != Path::new("/"));
        outermost(&mut self.read);
        self
    }
}

struct Wanted<'a> {
    user_home: &'a Path,
    places: Places,
}

impl Wanted<'_> {
    /// A path of the settings; `None` for an empty one, one below Moon's home, and a bare name.
    fn full(&self, text: &str) -> Option<PathBuf> {
        let path = match text.strip_prefix("~/") {
            Some(below) => self.user_home.join(below),
            None => PathBuf::from(text),
        };
        path.is_absolute().then_some(path)
    }

    /// The folder of a file or of a pattern.
    fn folder(&self, text: &str) -> Option<PathBuf> {
        let path = self.full(text)?;
        let is_pattern = |part: &Component<'_>| part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
        let plain: PathBuf = path.components().take_while(|part| !is_pattern(part)).collect();
        if plain == path { path.parent().map(Path::to_owned) } else { Some(plain) }
    }

    /// The same; the file alone where its folder would be the user's whole home.
    fn around(&self, text: &str) -> Option<PathBuf> {
        let folder = self.folder(text)?;
        let path = self.full(text)?;
        Some(if self.user_home.starts_with(&folder) { path } else { folder })
    }

    fn grant(&mut self, Named { text, is, .. }: Named<'_>) {
        let (read, write) = match is {
            Use::Folder | Use::ToRead => (self.full(text), None),
            Use::Made | Use::ToWrite => (None, self.full(text)),
            // SQLite makes files of its own beside a store or a database, also for a reader.
            Use::Store => (None, self.full(text).or_else(|| Some(self.user_home.join(".openclaw")))),
            Use::Databases if !text.ends_with(".jsonl") => (None, self.folder(text)),
            Use::Rotated | Use::Page => (None, self.folder(text)),
            Use::File | Use::Files | Use::Own | Use::Passing | Use::Databases => (self.around(text), None),
            Use::Program | Use::Word => (self.around(text).filter(|path| !is_seen_by_all(path)), None),
            Use::Tool => (None, None),
        };
        self.places.read.extend(read);
        self.places.write.extend(write);
    }
}

fn is_seen_by_all(path: &Path) -> bool {
    SEEN_BY_ALL.iter().any(|folder| path.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Places {
        let settings: Settings = toml::from_str(text).expect("settings");
        assert_eq!(settings.check(), vec![]);
        Places::of(&settings, Path::new("/home/ada/.lilac_metaflora"), Path::new("/home/ada"))
    }

    fn paths(all: &[&str]) -> Vec<PathBuf> {
        all.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn without_settings_it_is_the_session_host_alone() {
        assert_eq!(places(""), Places { read: vec![], write: paths(&["/home/ada/.openclaw"]) });
    }

    #[test]
    fn everything_that_the_settings_name_is_within_reach() {
        let found = places(
            r#"
            [watch]
            host = "transcripts"
            transcripts_dir = "/home/ada/transcripts"
            [service]
            read = ["~/notes"]
            [backup]
            folder = "/srv/backups"
            include = ["~/agent"]
            identity_file = "~/keys/age"
            [rotation]
            files = [{ path = "~/logs/*.log", signal = "HUP", pid_file = "~/run/agent.pid" }, { path = "/srv/logs/one.log" }]
            [dashboard]
            html_file = "logs/dashboard.html"
            textfile = "/srv/textfile/moon.prom"
            [health]
            databases = ["~/agent/memory/**/*.db", "~/lists/*.jsonl", "/srv/state.db"]
            processes = [{ name = "agent", heartbeat_file = "~/beats/status.json", stopped_file = "~/stopped" }]
            logs = [{ name = "email", path = "~/mail/email_*.log" }]
            commands = [{ name = "raid", argv = ["~/bin/check", "--file", "/home/ada/raid/state"] }, { name = "bare", argv = ["/usr/bin/true", "/etc/hosts"] }]
            [alerts]
            routes = [{ name = "mine", kind = "command", argv = ["/home/ada/tell/run"] }]
            "#,
        );
        // The home's own page, a bare name, and what is inside of another place are not named again.
        let write = ["/home/ada/agent/memory", "/home/ada/logs", "/srv"];
        let read = [
            "/home/ada/agent",
            "/home/ada/beats",
            "/home/ada/bin",
            "/home/ada/keys",
            "/home/ada/lists",
            "/home/ada/mail",
            "/home/ada/notes",
            "/home/ada/raid",
            "/home/ada/run",
            "/home/ada/stopped",
            "/home/ada/tell",
            "/home/ada/transcripts",
        ];
        assert_eq!(found, Places { read: paths(&read), write: paths(&write) });
    }
}
