//! Lays the sources over one another: defaults, file, environment, flags. Then checks the whole.

use super::file::{self, FileValues};
use super::keys::{self, Variable};
use super::locate::{self, FILE_VARIABLES};
use super::origin::{self, Entries};
use super::{Loaded, Origin, Problem, Sources, Usable, check};
use moon_actors::settings::{Problem as Broken, Settings};
use serde::Deserialize as _;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The stack while it grows.
#[derive(Default)]
struct Stack {
    table: Table,
    origins: BTreeMap<String, Origin>,
    /// Where the entries of lists stand in the file.
    entries: Entries,
    /// Keys with a value nobody could read: rules about them would only add noise.
    bad: BTreeSet<String>,
    problems: Vec<Problem>,
    /// How many of them are about templates of routes.
    templates: usize,
    warnings: Vec<String>,
}

/// The place of what a flag sets.
const SET: &str = "--set";

/// All sources laid over one another, whatever is wrong with them.
struct Laid {
    stack: Stack,
    /// The file that was read, if any.
    file: Option<PathBuf>,
    home: Option<PathBuf>,
    settings: Option<Settings>,
}

pub(super) fn load(sources: &Sources) -> Result<Loaded, Vec<Problem>> {
    let Laid { mut stack, file, home, settings } = lay(sources)?;
    match (settings, home) {
        (Some(settings), Some(home)) if stack.problems.is_empty() => Ok(stack.loaded(settings, home, file)),
        _ => {
            stack.problems.sort_by_key(Problem::position);
            Err(stack.problems)
        }
    }
}

pub(super) fn usable(sources: &Sources) -> Option<Usable> {
    let Laid { stack, file, home, settings } = lay(sources).ok()?;
    let home = home?;
    if let Some(settings) = settings
        && stack.problems.len() == stack.templates
    {
        return Some(Usable::AllButTemplates(stack.loaded(settings, home, file)));
    }
    // Whoever mistypes a flag is there to type it again.
    if stack.problems.iter().any(|problem| problem.place == SET) {
        return None;
    }
    let mut apart = Stack { table: keys::defaults(), ..Stack::default() };
    let origin = stack.origins.get("home.path").cloned().unwrap_or_default();
    apart.put("home.path", Value::String(home.to_string_lossy().into_owned()), origin);
    let settings = Settings::deserialize(apart.table.clone()).ok()?;
    Some(Usable::HomeAlone(apart.loaded(settings, home, file)))
}

pub(super) fn beside(sources: &Sources) -> (Vec<String>, Vec<Problem>) {
    let Ok(Laid { stack, file, home, settings }) = lay(sources) else { return Default::default() };
    let warnings = stack.warnings.clone();
    let (Some(settings), Some(home)) = (settings, home) else { return (warnings, Vec::new()) };
    let (told, bad) = (stack.problems.clone(), stack.bad.clone());
    let mut missing = stack.loaded(settings, home, file).missing(&sources.environment);
    // What is wrong will not work either, and is said once.
    let is_told = |missing: &Problem, told: &Problem| {
        missing.message.contains(&told.message) || (&missing.place, &missing.key) == (&told.place, &told.key)
    };
    missing.retain(|missing| !bad.contains(&missing.key) && !told.iter().any(|told| is_told(missing, told)));
    (warnings, missing)
}

fn lay(sources: &Sources) -> Result<Laid, Vec<Problem>> {
    let mut stack = Stack { table: keys::defaults(), ..Stack::default() };
    let named_file = take(locate::named_file(sources), &mut stack.problems).flatten();
    let named_home = take(locate::named_home(sources), &mut stack.problems).flatten();
    if !stack.problems.is_empty() {
        // Which file to read is not known, so there is nothing more to say.
        return Err(stack.problems);
    }
    let is_named = named_file.is_some();
    let file = named_file.or_else(|| beside_home(sources, named_home.as_ref()));
    if let Some(path) = &file {
        stack.file(file::read(path));
    }
    // A file that nobody can read may name another home.
    let is_hidden = is_named && named_home.is_none() && stack.problems.iter().any(|problem| problem.key.is_empty());
    if sources.installation {
        stack.environment(sources);
    }
    stack.flags(sources);
    let home = stack.home(sources, named_home, file.as_deref().filter(|_| !is_named));
    let settings = stack.settings(sources, home.as_deref());
    Ok(Laid { stack, file, home: home.filter(|_| !is_hidden), settings })
}

fn take<T>(result: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

/// `moon.toml` in the home, if something is there. That it cannot be read is then a problem, not an absence.
fn beside_home(sources: &Sources, named: Option<&(PathBuf, Origin)>) -> Option<PathBuf> {
    if !sources.installation {
        return None;
    }
    let default = || locate::expand(Path::new(&Settings::default().home.path), &sources.environment).ok();
    let file = crate::home::Home::at(named.map(|(home, _)| home.clone()).or_else(default)?).config_file();
    std::fs::symlink_metadata(&file).is_ok().then_some(file)
}

impl Stack {
    fn loaded(self, settings: Settings, home: PathBuf, file: Option<PathBuf>) -> Loaded {
        let Self { origins, entries, warnings, .. } = self;
        Loaded { settings, home, file, origins, entries, warnings }
    }

    fn put(&mut self, key: &str, value: Value, origin: Origin) {
        keys::assign(&mut self.table, key, value);
        self.origins.insert(key.to_owned(), origin);
        self.bad.remove(key);
        self.entries.remove(key);
    }

    fn refuse(&mut self, key: &str, place: &str, message: String) {
        self.problems.push(Problem { place: place.to_owned(), key: key.to_owned(), message });
        self.bad.insert(key.to_owned());
    }

    fn file(&mut self, read: FileValues) {
        self.problems.extend(read.problems);
        for (key, value, origin) in read.values {
            self.put(&key, value, origin);
        }
        self.entries.extend(read.entries);
        self.bad.extend(read.bad);
    }

    fn environment(&mut self, sources: &Sources) {
        let variables = keys::variables();
        for Variable { name, key, bare_seconds } in &variables {
            // The home was found before the file was, see `locate`.
            let Some(value) = sources.environment.get(std::ffi::OsStr::new(name)).filter(|_| key != "home.path") else {
                continue;
            };
            let text = value.to_str().ok_or_else(|| "is not UTF-8 text".to_owned());
            let parsed = text.and_then(|text| match bare_seconds {
                true if text.trim().parse::<u64>().is_ok() => keys::parse(key, &format!("{}s", text.trim())),
                true => Err(format!("expected a whole number of seconds, found {text:?}")),
                false => keys::parse(key, text),
            });
            match parsed {
                Ok(value) => {
                    if let Some(Origin::Environment(former)) = self.origins.get(key) {
                        self.warnings.push(format!("{former} is ignored: {name} sets {key} too"));
                    }
                    self.put(key, value, Origin::Environment(name.clone()));
                }
                Err(message) => self.refuse(key, name, message),
            }
        }
        self.unknown_variables(sources, &variables);
    }

    /// One warning for all of them: a variable may belong to a newer Moon or to somebody else, so it is not refused.
    fn unknown_variables(&mut self, sources: &Sources, variables: &[Variable]) {
        let known: BTreeSet<&str> = variables.iter().map(|v| v.name.as_str()).chain(FILE_VARIABLES).collect();
        let mut unknown = Vec::new();
        for name in sources.environment.keys() {
            let name = name.to_string_lossy();
            if name.starts_with("MOON_") && !known.contains(name.as_ref()) {
                unknown.push(match keys::nearest(&name, known.iter().copied()) {
                    Some(near) => format!("{name} (did you mean {near}?)"),
                    None => name.into_owned(),
                });
            }
        }
        if !unknown.is_empty() {
            self.warnings.push(format!("unknown variables are ignored: {}", unknown.join(", ")));
        }
    }

    fn flags(&mut self, sources: &Sources) {
        for assignment in &sources.set {
            let Some((key, text)) = assignment.split_once('=') else {
                self.refuse("", SET, "expected KEY=VALUE".to_owned());
                continue;
            };
            let (key, all) = (key.trim(), keys::all());
            if !all.iter().any(|known| known == key) {
                let message = match keys::nearest(key, all.iter().map(String::as_str)) {
                    Some(near) => format!("unknown key; did you mean \"{near}\"?"),
                    None => file::unknown_key_of(key),
                };
                self.refuse(key, SET, message);
            } else if key == "home.path" {
                self.refuse(key, SET, "use --home".to_owned());
            } else {
                match keys::parse(key, text) {
                    Ok(value) => self.put(key, value, Origin::Flag(SET.into())),
                    Err(message) => self.refuse(key, SET, message),
                }
            }
        }
    }

    /// Settles the home and writes it back, so that the settings show the folder in force. `implicit` is a settings file
    /// that was found in the home, which therefore cannot name another one.
    fn home(
        &mut self,
        sources: &Sources,
        named: Option<(PathBuf, Origin)>,
        implicit: Option<&Path>,
    ) -> Option<PathBuf> {
        if let Some((home, origin)) = named {
            self.put("home.path", Value::String(home.to_string_lossy().into_owned()), origin);
            return Some(home);
        }
        let text = keys::lookup(&self.table, "home.path").and_then(Value::as_str).unwrap_or_default().to_owned();
        let place = self.place("home.path");
        if self.bad.contains("home.path") || text.trim().is_empty() {
            return None; // Reported with its place by the reader or by the rules.
        }
        let home = match locate::expand(Path::new(&text), &sources.environment) {
            Ok(home) => home,
            Err(message) => {
                self.refuse("home.path", &place, message);
                return None;
            }
        };
        let found_in = implicit.and_then(Path::parent);
        if found_in.is_some_and(|folder| crate::home::Home::at(folder) != crate::home::Home::at(&home)) {
            let message = "names another home than the one this file lies in; use MOON_HOME or --home for that, or name this \
                           file with --config";
            self.refuse("home.path", &place, message.to_owned());
            return None;
        }
        Some(home)
    }

    /// The settings, with every broken rule added to the problems.
    fn settings(&mut self, sources: &Sources, home: Option<&Path>) -> Option<Settings> {
        let settings = match Settings::deserialize(self.table.clone()) {
            Ok(settings) => settings,
            Err(error) => {
                // Each value was accepted alone, so this is a value nobody foresaw; still a problem and not a panic.
                self.refuse("", "", error.message().to_owned());
                return None;
            }
        };
        let mut broken = settings.check();
        // What a rule refuses already is said once.
        let more = check::of_values(&settings, home, &sources.environment).into_iter();
        let more: Vec<Broken> = more.filter(|new| !broken.iter().any(|old| old.spot == new.spot)).collect();
        broken.extend(more);
        broken.into_iter().for_each(|broken| self.add(broken));
        let before = self.problems.len();
        check::of_templates(&settings, &sources.environment).into_iter().for_each(|broken| self.add(broken));
        self.templates = self.problems.len() - before;
        Some(settings)
    }

    /// A broken rule, unless it follows from what was told already.
    fn add(&mut self, Broken { spot, message }: Broken) {
        let others = keys::all().into_iter().filter(|key| key != spot.key && message.contains(key.as_str()));
        let involved: Vec<String> = std::iter::once(spot.key.to_owned()).chain(others).collect();
        // A mistake in one entry of a list says nothing about the others.
        let own = usize::from(spot.entry.is_some());
        if involved.iter().skip(own).any(|key| self.bad.contains(key)) || origin::is_told(&self.entries, spot, &message)
        {
            return;
        }
        // A default can only be wrong beside something that was set: point at that.
        let beside = || involved.iter().map(|key| self.place(key)).find(|place| !place.is_empty());
        let own = origin::place_of(&self.entries, spot);
        let message = check::of_entry(spot, own.is_some(), message);
        let place = own.or_else(beside).unwrap_or_default();
        // An entry without a name is called so while it is judged.
        let message = message.strip_prefix("?: ").map(str::to_owned).unwrap_or(message);
        self.problems.push(Problem { place, key: check::shown(spot), message });
    }

    fn place(&self, key: &str) -> String {
        self.origins.get(key).map(Origin::place).unwrap_or_default()
    }
}
