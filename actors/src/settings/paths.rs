//! Every path that the settings name, in one list: for whoever looks whether it is there, and for whoever lets a service reach it.

use super::route::Target;
use super::{HostChoice, Settings, Spot};

/// What a path is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A folder that is read.
    Folder,
    /// A folder whose SQLite stores are read; empty: the usual one.
    Store,
    /// A folder that is made and filled.
    Made,
    /// Any place, for a service to read, or to write.
    ToRead,
    ToWrite,
    /// A file that is read.
    File,
    /// The same; that it cannot be used is told by whoever uses it.
    Own,
    /// Files that are read, by a pattern, too.
    Files,
    /// The same of databases and JSONL files.
    Databases,
    /// Logs that are renamed and compressed where they lie, by a pattern, too.
    Rotated,
    /// A file that another program makes and takes away.
    Passing,
    /// A file that is replaced again and again.
    Page,
    /// A program, by its path or its name, and what it is given.
    Program,
    Word,
    /// A program of the user's commands, which no service runs.
    Tool,
}

/// A path, or a pattern, as it is written; empty: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'s> {
    pub spot: Spot,
    pub text: &'s str,
    pub is: Use,
}

impl Settings {
    pub fn paths(&self) -> Vec<Named<'_>> {
        let mut all = All(Vec::new());
        all.host(self);
        all.health(self);
        all.alerts(self);
        all.backup(self);
        all.rotation(self);
        all.screens_and_service(self);
        all.0
    }
}

struct All<'s>(Vec<Named<'s>>);

impl<'s> All<'s> {
    fn add(&mut self, is: Use, spot: impl Into<Spot>, text: &'s str) {
        self.0.push(Named { spot: spot.into(), text, is });
    }

    fn argv(&mut self, spot: Spot, argv: &'s [String]) {
        for (at, word) in argv.iter().enumerate() {
            self.add(if at == 0 { Use::Program } else { Use::Word }, spot, word);
        }
    }

    fn host(&mut self, settings: &'s Settings) {
        let (watch, openclaw) = (&settings.watch, &settings.openclaw);
        if watch.host != HostChoice::Openclaw {
            self.add(Use::Folder, "watch.transcripts_dir", &watch.transcripts_dir);
        }
        if watch.host != HostChoice::Transcripts {
            self.add(Use::Store, "openclaw.state_dir", &openclaw.state_dir);
            self.add(Use::File, "openclaw.token_file", &openclaw.token_file);
        }
        // The usual name is there only where OpenClaw is.
        if openclaw.command != Settings::default().openclaw.command {
            self.add(Use::Tool, "openclaw.command", &openclaw.command);
        }
    }

    fn health(&mut self, settings: &'s Settings) {
        let health = &settings.health;
        for (at, entry) in health.databases.iter().enumerate() {
            self.add(Use::Databases, Spot::entry("health.databases", at, ""), entry);
        }
        for (at, process) in health.processes.iter().enumerate() {
            let spot = |field| Spot::entry("health.processes", at, field);
            self.add(Use::Passing, spot("pid_file"), &process.pid_file);
            self.add(Use::Passing, spot("heartbeat_file"), &process.heartbeat_file);
            self.add(Use::Own, spot("stopped_file"), &process.stopped_file);
        }
        for (at, log) in health.logs.iter().enumerate() {
            self.add(Use::Files, Spot::entry("health.logs", at, "path"), &log.path);
        }
        for (at, command) in health.commands.iter().enumerate() {
            self.argv(Spot::entry("health.commands", at, "argv"), &command.argv);
        }
        for (at, remedy) in health.recover.iter().enumerate() {
            self.argv(Spot::entry("health.recover", at, "argv"), &remedy.argv);
        }
    }

    fn alerts(&mut self, settings: &'s Settings) {
        for (at, route) in settings.alerts.routes.iter().enumerate() {
            for (field, file) in route.files() {
                self.add(Use::Own, Spot::entry("alerts.routes", at, field), file);
            }
            if let Target::Command(command) = &route.target {
                for word in &command.argv {
                    self.add(Use::Word, Spot::entry("alerts.routes", at, "argv"), word);
                }
            }
        }
    }

    fn backup(&mut self, settings: &'s Settings) {
        let backup = &settings.backup;
        self.add(Use::Made, "backup.folder", &backup.folder);
        for (at, folder) in backup.include.iter().enumerate() {
            self.add(Use::Folder, Spot::entry("backup.include", at, ""), folder);
        }
        self.add(Use::Own, "backup.recipients_file", &backup.recipients_file);
        self.add(Use::Own, "backup.identity_file", &backup.identity_file);
        self.add(Use::Own, "backup.s3_credentials_file", &backup.s3_credentials_file);
    }

    fn rotation(&mut self, settings: &'s Settings) {
        for (at, file) in settings.rotation.files.iter().enumerate() {
            let spot = |field| Spot::entry("rotation.files", at, field);
            self.add(Use::Rotated, spot("path"), &file.path);
            self.add(Use::Passing, spot("pid_file"), &file.pid_file);
            self.argv(spot("command"), &file.command);
        }
    }

    fn screens_and_service(&mut self, settings: &'s Settings) {
        let (dashboard, service) = (&settings.dashboard, &settings.service);
        self.add(Use::Page, "dashboard.html_file", &dashboard.html_file);
        self.add(Use::Page, "dashboard.textfile", &dashboard.textfile);
        for (at, text) in service.read.iter().enumerate() {
            self.add(Use::ToRead, Spot::entry("service.read", at, ""), text);
        }
        for (at, text) in service.write.iter().enumerate() {
            self.add(Use::ToWrite, Spot::entry("service.write", at, ""), text);
        }
    }
}
