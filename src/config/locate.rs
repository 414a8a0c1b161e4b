//! Finds the home and the settings file. Never looks into the working directory unless a flag names something there.

use super::{Environment, Origin, Problem, Sources};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The variables that name the settings file, first one wins.
pub(super) const FILE_VARIABLES: [&str; 2] = ["MOON_CONFIG_PATH", "MOON_CONFIG"];

/// The settings file that somebody named, by flag or environment.
pub(super) fn named_file(sources: &Sources) -> Result<Option<PathBuf>, Problem> {
    if let Some(path) = &sources.file {
        return resolve_flag(path, "--config").map(Some);
    }
    if !sources.installation {
        return Ok(None);
    }
    for name in FILE_VARIABLES {
        if let Some(value) = non_empty(&sources.environment, name) {
            let path = Path::new(value);
            return match expand(path, &sources.environment) {
                Ok(path) => Ok(Some(path)),
                // Naming a file there is asking for it.
                Err(_) if !path.starts_with("~") => resolve_flag(path, name).map(Some),
                Err(message) => Err(Problem { place: name.to_owned(), key: String::new(), message }),
            };
        }
    }
    Ok(None)
}

/// The home by flag or environment. A flag may be relative to where it was typed; a variable lives longer than that.
pub(super) fn named_home(sources: &Sources) -> Result<Option<(PathBuf, Origin)>, Problem> {
    if let Some(path) = &sources.home {
        return resolve_flag(path, "--home").map(|path| Some((path, Origin::Flag("--home".into()))));
    }
    if !sources.installation {
        return Ok(None);
    }
    for name in ["MOON_HOME", "MOON_HOME_PATH"] {
        if let Some(value) = non_empty(&sources.environment, name) {
            let problem = |message| Problem { place: name.to_owned(), key: "home.path".into(), message };
            let path = expand(Path::new(value), &sources.environment).map_err(problem)?;
            return Ok(Some((path, Origin::Environment(name.to_owned()))));
        }
    }
    Ok(None)
}

/// Replaces a leading `~` by the user's home folder; refuses a relative path, because the daemon and a terminal have
/// different working directories.
pub fn expand(path: &Path, environment: &Environment) -> Result<PathBuf, String> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let Ok(below) = path.strip_prefix("~") else {
        return Err(format!("{:?} must be absolute or begin with ~/", path.display().to_string()));
    };
    let user = non_empty(environment, "HOME").map(Path::new).filter(|home| home.is_absolute());
    // `~` alone strips to an empty path, and joining that would leave a slash at the end.
    match user {
        Some(user) if below.as_os_str().is_empty() => Ok(user.to_owned()),
        Some(user) => Ok(user.join(below)),
        None => Err("HOME is not set, so ~ means nothing; name an absolute path with --home or MOON_HOME".to_owned()),
    }
}

fn resolve_flag(path: &Path, flag: &str) -> Result<PathBuf, Problem> {
    let problem = |message| Problem { place: flag.to_owned(), key: String::new(), message };
    if path.as_os_str().is_empty() {
        return Err(problem("must not be empty".to_owned()));
    }
    std::path::absolute(path).map_err(|e| problem(format!("could not make it absolute: {e}")))
}

/// A variable that is set to nothing counts as not set, as everywhere else.
pub(super) fn non_empty<'e>(environment: &'e Environment, name: &str) -> Option<&'e OsStr> {
    environment.get(OsStr::new(name)).map(std::ffi::OsString::as_os_str).filter(|value| !value.is_empty())
}
