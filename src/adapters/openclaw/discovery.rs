//! Finding the OpenClaw of this machine: state folder, gateway address, token.
//!
//! Here because a user should not have to repeat what OpenClaw's own configuration already says. It must never write into
//! that configuration, never print a token, and never guess: a token it cannot read plainly is a clear error.

use moon_actors::settings;
use moon_actors::{Error, Result};
use serde_json::Value;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Code of the error that says "there is no OpenClaw on this machine".
pub const NOT_FOUND: &str = "openclaw.not_found";
/// Where OpenClaw's gateway listens unless its configuration says otherwise.
const DEFAULT_PORT: u64 = 18789;
/// A configuration larger than this is not one.
const LARGEST_CONFIG: u64 = 8 << 20;

/// A secret that prints as dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub(super) fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What was found of an OpenClaw.
#[derive(Clone, Debug)]
pub struct Discovered {
    /// `~/.openclaw` or what replaces it.
    pub state_dir: PathBuf,
    /// `openclaw.json`; may be missing when the address comes from Moon's own settings.
    pub config_path: PathBuf,
    /// `ws://127.0.0.1:18789`; never carries credentials.
    pub url: String,
    /// `None` when the gateway's configuration names no token.
    pub token: Option<Token>,
    /// Sentences a person should read (readable configuration, unencrypted remote address).
    pub notes: Vec<String>,
}

/// How environment variables are read, so that tests need not change the process.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(super) fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Finds OpenClaw by Moon's settings, the environment and OpenClaw's configuration, in that order. Blocking.
///
/// Errors: `unavailable` [`NOT_FOUND`] when there is no OpenClaw; `config` `openclaw.config_unreadable`,
/// `openclaw.token_unreadable`, `openclaw.url_invalid` when there is one that cannot be used as it is.
pub fn discover(settings: &settings::OpenClaw) -> Result<Discovered> {
    discover_in(settings, &process_environment)
}

pub(super) fn discover_in(settings: &settings::OpenClaw, env: Environment<'_>) -> Result<Discovered> {
    let state_dir = state_dir(settings, env)?;
    let config_path = match env("OPENCLAW_CONFIG_PATH") {
        Some(path) => expand(&path, env)?,
        None => state_dir.join("openclaw.json"),
    };
    let mut notes = Vec::new();
    let config = read_config(&config_path, &mut notes)?;
    if config.is_none() && settings.url.is_empty() {
        return Err(not_found(&config_path));
    }
    let url = gateway_url(settings, config.as_ref(), &mut notes)?;
    let token = resolve_token(settings, config.as_ref(), &config_path, env)?;
    Ok(Discovered { state_dir, config_path, url, token, notes })
}

/// Reads the token again, because it may have been rotated since [`discover`]. Blocking. Errors: as [`discover`].
pub(super) fn current_token(settings: &settings::OpenClaw, config_path: &Path) -> Result<Option<Token>> {
    let config = read_config(config_path, &mut Vec::new())?;
    resolve_token(settings, config.as_ref(), config_path, &process_environment)
}

/// Reads the gateway's address again, because OpenClaw may have been given another port since [`discover`]. `None` when there is
/// nothing to follow: `openclaw.url` decides, or there is no configuration now. Blocking. Errors: as [`discover`].
pub(super) fn current_url(settings: &settings::OpenClaw, config_path: &Path) -> Result<Option<String>> {
    if !settings.url.is_empty() {
        return Ok(None);
    }
    let config = read_config(config_path, &mut Vec::new())?;
    config.map(|config| gateway_url(settings, Some(&config), &mut Vec::new())).transpose()
}

fn not_found(config: &Path) -> Error {
    // Cause and next step in the one line: it is the first thing that many people see of Moon.
    let config = config.display();
    Error::unavailable(
        NOT_FOUND,
        format!(
            "no OpenClaw on this machine ({config} does not exist): install it, name a folder of *.jsonl transcripts as \
             watch.transcripts_dir, or try `moon demo`"
        ),
    )
}

fn state_dir(settings: &settings::OpenClaw, env: Environment<'_>) -> Result<PathBuf> {
    if !settings.state_dir.is_empty() {
        return expand(&settings.state_dir, env);
    }
    match env("OPENCLAW_STATE_DIR") {
        Some(path) => expand(&path, env),
        None => expand("~/.openclaw", env),
    }
}

fn expand(path: &str, env: Environment<'_>) -> Result<PathBuf> {
    let Some(rest) = path.strip_prefix('~') else { return Ok(PathBuf::from(path)) };
    let home = env("HOME").ok_or_else(|| {
        Error::config("openclaw.no_home", format!("cannot resolve {path}: HOME is not set"))
            .hint("set openclaw.state_dir in moon.toml to an absolute path")
    })?;
    Ok(Path::new(&home).join(rest.trim_start_matches('/')))
}

/// `None` when there is no file.
fn read_config(path: &Path, notes: &mut Vec<String>) -> Result<Option<Value>> {
    let unreadable = |cause: String| {
        Error::config("openclaw.config_unreadable", format!("cannot read OpenClaw's configuration {}", path.display()))
            .cause(cause)
            .hint("check the file and its permissions; `openclaw doctor` explains what is wrong with it")
    };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(unreadable(e.to_string())),
    };
    if metadata.len() > LARGEST_CONFIG {
        return Err(unreadable(format!("{} bytes, more than a configuration can have", metadata.len())));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        notes.push(format!(
            "{} can be read by other users although it may hold the gateway token; run chmod 600 on it",
            path.display()
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
    // The parser's own message may quote the line, and the line may hold the token: only the place is told.
    json5::from_str(&text).map(Some).map_err(|e| match e.position() {
        Some(at) => unreadable(format!("not JSON5 at line {}, column {}", at.line + 1, at.column + 1)),
        None => unreadable("not JSON5".into()),
    })
}

fn gateway_url(settings: &settings::OpenClaw, config: Option<&Value>, notes: &mut Vec<String>) -> Result<String> {
    if settings.url.is_empty() {
        let port = match config.and_then(|c| c.pointer("/gateway/port")) {
            None => DEFAULT_PORT,
            Some(port) => port.as_u64().filter(|p| (1..=65535).contains(p)).ok_or_else(|| {
                Error::config("openclaw.config_unreadable", "OpenClaw's gateway.port is not a port number")
                    .hint("set openclaw.url in moon.toml, or correct gateway.port in openclaw.json")
            })?,
        };
        return Ok(format!("ws://127.0.0.1:{port}"));
    }
    let invalid = |cause: &str| {
        Error::config("openclaw.url_invalid", "openclaw.url in moon.toml cannot be used")
            .cause(cause)
            .hint("write it like ws://127.0.0.1:18789")
    };
    let authority = settings.url.strip_prefix("ws://").ok_or_else(|| invalid("it does not begin with ws://"))?;
    let authority = authority.trim_end_matches('/');
    if authority.is_empty() || authority.contains(['/', '@', '?', '#', ' ']) {
        return Err(invalid("only a host and a port belong into it, no path, user name or query"));
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    if !matches!(host, "127.0.0.1" | "localhost" | "[::1]") {
        notes.push(format!("the gateway token travels unencrypted to {host}; use a tunnel to 127.0.0.1 instead"));
    }
    Ok(format!("ws://{authority}"))
}

fn resolve_token(
    settings: &settings::OpenClaw,
    config: Option<&Value>,
    config_path: &Path,
    env: Environment<'_>,
) -> Result<Option<Token>> {
    if !settings.token_file.is_empty() {
        return token_from_file(&expand(&settings.token_file, env)?).map(Some);
    }
    if let Some(token) = env("OPENCLAW_GATEWAY_TOKEN").as_deref().and_then(Token::new) {
        return Ok(Some(token));
    }
    match config.and_then(|c| c.pointer("/gateway/auth/token")) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => token_from_text(text, config_path, env),
        Some(_) => {
            Err(unreadable_token(config_path, "gateway.auth.token is a reference that only OpenClaw can resolve"))
        }
    }
}

fn token_from_file(path: &Path) -> Result<Token> {
    let unreadable = |cause: String| {
        Error::config("openclaw.token_unreadable", format!("cannot read the gateway token from {}", path.display()))
            .cause(cause)
            .hint("openclaw.token_file must name a file with the token as its only content")
    };
    let metadata = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
    if metadata.len() > 4096 {
        return Err(unreadable("too long for a token".into()));
    }
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
    Token::new(&text).ok_or_else(|| unreadable("the file is empty".into()))
}

fn token_from_text(text: &str, config_path: &Path, env: Environment<'_>) -> Result<Option<Token>> {
    let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
        // A variable inside a longer text: OpenClaw substitutes it, so the plain text is not the token.
        return match text.contains("${") {
            true => Err(unreadable_token(config_path, "gateway.auth.token mixes text and variables")),
            false => Ok(Token::new(text)),
        };
    };
    match env(name).as_deref().and_then(Token::new) {
        Some(token) => Ok(Some(token)),
        None => {
            Err(unreadable_token(config_path, &format!("the environment variable {name} it names is not set here")))
        }
    }
}

fn unreadable_token(config_path: &Path, cause: &str) -> Error {
    Error::config("openclaw.token_unreadable", format!("cannot read the gateway token from {}", config_path.display()))
        .cause(cause)
        .hint("put the token into a file of mode 600 and name it as openclaw.token_file in moon.toml")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    struct Scene {
        dir: tempfile::TempDir,
        env: HashMap<String, String>,
        settings: settings::OpenClaw,
    }

    impl Scene {
        fn new(config: Option<&str>) -> Self {
            let dir = tempfile::tempdir().expect("a scratch folder");
            let env = HashMap::from([("HOME".to_owned(), dir.path().display().to_string())]);
            std::fs::create_dir(dir.path().join(".openclaw")).expect("the state folder");
            let scene = Self { dir, env, settings: settings::OpenClaw::default() };
            if let Some(text) = config {
                scene.write(".openclaw/openclaw.json", text, 0o600);
            }
            scene
        }
        fn write(&self, name: &str, text: &str, mode: u32) -> String {
            let path = self.dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
            path.display().to_string()
        }
        fn set(&mut self, name: &str, value: &str) {
            self.env.insert(name.into(), value.into());
        }
        fn discover(&self) -> Result<Discovered> {
            discover_in(&self.settings, &|name| self.env.get(name).cloned())
        }
        fn token(&self) -> String {
            self.discover().expect("found").token.expect("a token").reveal().to_owned()
        }
    }

    #[test]
    fn a_machine_without_openclaw_is_told_apart_in_one_line() {
        let error = Scene::new(None).discover().expect_err("nothing there");
        assert_eq!((error.code.as_str(), error.kind), (NOT_FOUND, moon_actors::error::Kind::Unavailable));
        assert!(error.message.contains("moon demo") && error.cause.is_none() && error.hint.is_none(), "{error:?}");
        assert!(!error.message.contains('\n'));
    }

    #[test]
    fn port_and_token_come_from_a_json5_configuration() {
        let scene = Scene::new(Some("{ // mine\n gateway: { port: 4711, auth: { mode: 'token', token: 'abc' }, }, }"));
        let found = scene.discover().expect("found");
        assert_eq!(found.url, "ws://127.0.0.1:4711");
        assert_eq!(scene.token(), "abc");
        assert_eq!(found.notes, Vec::<String>::new());
        assert_eq!(Scene::new(Some("{}")).discover().expect("found").url, "ws://127.0.0.1:18789");
    }

    #[test]
    fn the_token_file_wins_over_the_environment_and_that_over_the_configuration() {
        let mut scene = Scene::new(Some("{gateway:{auth:{token:'from-config'}}}"));
        assert_eq!(scene.token(), "from-config");
        scene.set("OPENCLAW_GATEWAY_TOKEN", "from-env");
        assert_eq!(scene.token(), "from-env");
        scene.settings.token_file = scene.write("token", "from-file\n", 0o600);
        assert_eq!(scene.token(), "from-file");
    }

    #[test]
    fn a_variable_is_resolved_and_anything_cleverer_is_refused() {
        let mut scene = Scene::new(Some("{gateway:{auth:{token:'${GATE}'}}}"));
        let unset = scene.discover().expect_err("not set");
        assert_eq!(unset.code, "openclaw.token_unreadable");
        scene.set("GATE", "resolved");
        assert_eq!(scene.token(), "resolved");
        for clever in ["{source:'exec',id:'x'}", "'pre-${GATE}'", "42"] {
            let scene = Scene::new(Some(&format!("{{gateway:{{auth:{{token:{clever}}}}}}}")));
            assert_eq!(scene.discover().expect_err("refused").code, "openclaw.token_unreadable");
        }
    }

    #[test]
    fn a_configuration_others_can_read_is_noted_and_a_broken_one_does_not_leak_its_token() {
        let scene = Scene::new(None);
        scene.write(".openclaw/openclaw.json", "{gateway:{auth:{token:'s3cret'}}}", 0o644);
        assert!(scene.discover().expect("found").notes[0].contains("chmod 600"));
        assert!(!format!("{:?}", scene.discover()).contains("s3cret"));
        scene.write(".openclaw/openclaw.json", "{gateway:{auth:{token:'s3cret", 0o600);
        let error = scene.discover().expect_err("broken");
        assert_eq!(error.code, "openclaw.config_unreadable");
        assert!(!format!("{error:?}").contains("s3cret"));
    }

    #[test]
    fn an_address_of_our_own_needs_no_configuration_but_may_carry_no_secret() {
        let mut scene = Scene::new(None);
        scene.settings.url = "ws://localhost:9/".into();
        assert_eq!(scene.discover().expect("found").url, "ws://localhost:9");
        for bad in ["http://x", "ws://user:pass@host:1", "ws://h:1/?token=x", "wss://h:1", "ws://"] {
            scene.settings.url = bad.into();
            assert_eq!(scene.discover().expect_err(bad).code, "openclaw.url_invalid");
        }
        scene.settings.url = "ws://10.0.0.9:18789".into();
        assert!(scene.discover().expect("found").notes[0].contains("unencrypted"));
    }

    #[test]
    fn state_folder_and_configuration_can_be_moved() {
        let mut scene = Scene::new(Some("{gateway:{port:1}}"));
        let other = scene.write("elsewhere.json", "{gateway:{port:2}}", 0o600);
        scene.set("OPENCLAW_CONFIG_PATH", &other);
        assert_eq!(scene.discover().expect("found").url, "ws://127.0.0.1:2");
        scene.set("OPENCLAW_STATE_DIR", "~/moved");
        assert_eq!(scene.discover().expect("found").state_dir, scene.dir.path().join("moved"));
        scene.settings.state_dir = "/set".into();
        assert_eq!(scene.discover().expect("found").state_dir, PathBuf::from("/set"));
    }
}
