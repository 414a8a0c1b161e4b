//! What the settings name and this machine does not have now: files, folders, programs, secrets.
//!
//! A look from outside: whether it is there and may be used. Keys and secrets are read, and shown nowhere.

use super::super::{Environment, locate};
use crate::adapters::{backup, routes};
use crate::child::{runs, runs_from};
use crate::pattern;
use moon_actors::settings::{Named, Settings, Spot, Use};
use rustix::fs::Access;
use std::path::{Path, PathBuf};

struct Look<'a> {
    environment: &'a Environment,
    missing: Vec<(Spot, String)>,
}

pub(super) fn look(settings: &Settings, home: &Path, environment: &Environment) -> Vec<(Spot, String)> {
    let mut look = Look { environment, missing: Vec::new() };
    settings.paths().into_iter().for_each(|named| look.at(named));
    look.alerts(settings);
    look.backup(settings, home);
    look.missing
}

impl Look<'_> {
    fn say(&mut self, spot: impl Into<Spot>, message: Option<String>) {
        let spot = spot.into();
        self.missing.extend(message.map(|message| (spot, message)));
    }

    /// `None`: nothing is set, or it is no path, which is an error and said elsewhere.
    fn path(&self, text: &str) -> Option<PathBuf> {
        (!text.is_empty()).then(|| locate::expand(Path::new(text), self.environment).ok()).flatten()
    }

    fn at(&mut self, Named { spot, text, is }: Named<'_>) {
        match is {
            Use::Folder | Use::Store => self.folder(spot, text),
            Use::Made => self.say(spot, self.path(text).and_then(|path| cannot_be_made(&path))),
            Use::ToRead | Use::ToWrite => self.place(spot, text),
            Use::File => self.file(spot, text),
            Use::Files | Use::Databases | Use::Rotated => self.files(spot, text),
            // A relative page begins at the home, which is made.
            Use::Passing | Use::Page => self.folder_of(spot, text),
            Use::Program | Use::Tool => self.program(spot, text),
            Use::Own | Use::Word => {}
        }
    }

    fn place(&mut self, spot: Spot, text: &str) {
        let wrong = self.path(text).filter(|path| !path.exists());
        self.say(spot, wrong.map(|path| format!("{} is not there", path.display())));
    }

    fn file(&mut self, spot: Spot, text: &str) {
        let wrong = self.path(text).and_then(|path| match path.metadata() {
            Err(e) => Some(format!("{}: {e}", path.display())),
            Ok(found) if found.is_dir() => Some(format!("{} is a folder", path.display())),
            Ok(_) => denied(&path, Access::READ_OK, "read"),
        });
        self.say(spot, wrong);
    }

    fn folder(&mut self, spot: Spot, text: &str) {
        let wrong = self.path(text).and_then(|path| match path.metadata() {
            Err(e) => Some(format!("{}: {e}", path.display())),
            Ok(found) if !found.is_dir() => Some(format!("{} is no folder", path.display())),
            Ok(_) => denied(&path, Access::READ_OK | Access::EXEC_OK, "look into"),
        });
        self.say(spot, wrong);
    }

    /// The folder of a file that comes and goes.
    fn folder_of(&mut self, spot: Spot, text: &str) {
        let folder = self.path(text).and_then(|path| path.parent().map(|folder| folder.display().to_string()));
        self.folder(spot, folder.as_deref().unwrap_or_default());
    }

    /// A file, or at least one that a pattern names.
    fn files(&mut self, spot: Spot, text: &str) {
        if !pattern::is_pattern(text) {
            return self.file(spot, text);
        }
        let found = self.path(text).and_then(|path| pattern::paths(&path.to_string_lossy()).ok()?.next());
        self.say(spot, found.is_none().then(|| format!("no file matches {text}")));
    }

    /// A program by its path, or by its name on the PATH.
    fn program(&mut self, spot: Spot, text: &str) {
        if !text.contains('/') {
            let path = self.environment.get(std::ffi::OsStr::new("PATH"));
            let found = path.is_some_and(|path| runs_from(path, text));
            let lacks = !text.is_empty() && !found;
            return self.say(spot, lacks.then(|| format!("there is no program {text:?} on the PATH")));
        }
        let wrong = self.path(text).and_then(|path| match path.metadata() {
            Err(e) => Some(format!("{}: {e}", path.display())),
            Ok(_) if !runs(&path) => Some(format!("{} is no program that may be run", path.display())),
            Ok(_) => None,
        });
        self.say(spot, wrong);
    }
}

/// What is more than a path.
impl Look<'_> {
    fn alerts(&mut self, settings: &Settings) {
        let tables = settings.alerts.routes.len();
        for (at, sentence) in routes::unready(&settings.alerts, routes::Around::of(self.environment.clone())) {
            // Behind the tables comes the mail of `email_to`.
            let spot = if at < tables { Spot::entry("alerts.routes", at, "") } else { "alerts.email_to".into() };
            self.say(spot, Some(sentence));
        }
    }

    fn backup(&mut self, settings: &Settings, home: &Path) {
        let backup = &settings.backup;
        self.included(&backup.include, home);
        for (key, message) in backup::unready(backup, self.environment) {
            self.say(key, Some(message));
        }
        let is_unused =
            backup.s3_url.is_empty() && !(backup.s3_endpoint.is_empty() && backup.s3_credentials_file.is_empty());
        self.say(
            "backup.s3_url",
            is_unused.then(|| {
                "is empty, so no backup is sent to the store of backup.s3_endpoint and backup.s3_credentials_file"
                    .into()
            }),
        );
    }

    /// What lies in another one would be in each backup twice, and what lies in the home comes back with it alone.
    fn included(&mut self, include: &[String], home: &Path) {
        let real = |path: PathBuf| path.canonicalize().ok();
        let folders: Vec<_> = include.iter().map(|text| self.path(text).and_then(real)).collect();
        let home = real(home.to_owned());
        for (at, folder) in folders.iter().enumerate() {
            let Some(folder) = folder else { continue };
            let is_around = |(other, around): &(usize, &Option<PathBuf>)| {
                let around = around.as_ref().filter(|around| folder.starts_with(around));
                around.is_some_and(|around| around != folder || *other < at)
            };
            let around = folders.iter().enumerate().find(is_around);
            let twice = if home.as_ref().is_some_and(|home| folder.starts_with(home)) {
                Some(format!("{} lies in the home, which is in every backup: leave it out", folder.display()))
            } else {
                let told = |other: usize| format!("{} lies in {}: leave out one of them", include[at], include[other]);
                around.map(|(other, _)| told(other))
            };
            self.say(Spot::entry("backup.include", at, ""), twice);
        }
    }
}

fn denied(path: &Path, access: Access, what: &str) -> Option<String> {
    rustix::fs::access(path, access).err().map(|e| format!("Moon may not {what} {}: {e}", path.display()))
}

/// A folder that is made when it is needed: what of it is there must take it.
fn cannot_be_made(folder: &Path) -> Option<String> {
    let there = folder.ancestors().find(|part| part.symlink_metadata().is_ok())?;
    match there.is_dir() {
        true => denied(there, Access::WRITE_OK | Access::EXEC_OK, "write into"),
        false => Some(format!("{} is no folder", there.display())),
    }
}
