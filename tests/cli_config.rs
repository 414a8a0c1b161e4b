//! The outermost layer as a user meets it: the built `moon` with an environment of its own, and the loader behind it.
//!
//! Every test gets its own folder as `HOME`; nothing of the machine's user is read or written.

use assert_cmd::Command;
use moon::config::{Environment, Loaded, Origin, Problem, Sources, load};
use moon_actors::settings::Settings;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a scratch folder") }
    }
    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }
    fn write(&self, below: &str, text: &str) -> PathBuf {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().expect("has a folder")).expect("folders");
        std::fs::write(&path, text).expect("written");
        path
    }
    fn moon(&self) -> Command {
        self.command(assert_cmd::cargo::cargo_bin!("moon"))
    }
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().env("HOME", self.folder.path()).current_dir(self.folder.path());
        command
    }
    fn sources(&self) -> Sources {
        let environment = Environment::from([("HOME".into(), self.folder.path().into())]);
        Sources { environment, installation: true, ..Sources::default() }
    }
    fn with_file(&self, text: &str) -> Sources {
        Sources { file: Some(self.write("given.toml", text)), ..self.sources() }
    }
}

fn set(mut sources: Sources, name: &str, value: &str) -> Sources {
    sources.environment.insert(name.into(), value.into());
    sources
}

fn loaded(sources: &Sources) -> Loaded {
    load(sources).unwrap_or_else(|problems| panic!("should load: {}", lines(&problems).join("\n")))
}

fn problems(sources: &Sources) -> Vec<String> {
    lines(&load(sources).expect_err("should be refused"))
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn json(command: &mut Command) -> (Value, i32) {
    let output = command.output().expect("runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}"));
    (value, output.status.code().expect("ended by itself"))
}

fn keys_of(text: &str) -> Vec<String> {
    let table: toml::Table = toml::from_str(text).expect("TOML");
    let fields = |(section, value): (&String, &toml::Value)| -> Vec<String> {
        value.as_table().expect("a section").keys().map(|field| format!("{section}.{field}")).collect()
    };
    table.iter().flat_map(fields).collect()
}

#[test]
fn the_example_carries_every_key_at_its_default() {
    let text = include_str!("../moon.toml.example");
    let settings: Settings = toml::from_str(text).expect("the example is valid");
    assert_eq!(settings, Settings::default());
    let mut there = keys_of(text);
    let mut all = moon::config::keys();
    there.sort();
    all.sort();
    assert_eq!(there, all);
    let scene = Scene::new();
    assert_eq!(loaded(&scene.with_file(text)).warnings, Vec::<String>::new());
}

#[test]
fn the_example_may_be_copied_into_any_home_as_it_is() {
    let scene = Scene::new();
    scene.write("elsewhere/moon.toml", include_str!("../moon.toml.example"));
    let sources = set(scene.sources(), "MOON_HOME", scene.path("elsewhere").to_str().expect("text"));
    assert_eq!(loaded(&sources).home, scene.path("elsewhere"));
}

#[test]
fn a_part_of_a_table_keeps_the_other_defaults() {
    let scene = Scene::new();
    let got = loaded(&scene.with_file("[thresholds]\narchive = 0.7\n")).settings;
    let mut want = Settings::default();
    want.thresholds.archive = 0.7;
    assert_eq!(got, want);
}

#[test]
fn unknown_keys_and_tables_are_refused_with_a_suggestion() {
    let scene = Scene::new();
    let sources = scene.with_file("[thresholds]\nprun = 0.8\nlimit = 3\nxyzzy = 1\n[wacth]\npoll = \"1m\"\n");
    let file = scene.path("given.toml").display().to_string();
    let got = problems(&sources);
    assert_eq!(got[0], format!("{file}:2: thresholds.prun: unknown key; did you mean \"prune\"?"));
    assert_eq!(got[1], format!("{file}:3: thresholds.limit: unknown key; did you mean \"recall.limit\"?"));
    assert!(got[2].starts_with(&format!("{file}:4: thresholds.xyzzy: unknown key; there are archive,")), "{}", got[2]);
    assert_eq!(got[3], format!("{file}:5: wacth: unknown table; did you mean \"[watch]\"?"));
    assert_eq!(got.len(), 4);
}

#[test]
fn a_route_that_is_wrong_is_named_at_its_own_line_with_what_was_meant() {
    let scene = Scene::new();
    let text = "[alerts]\nper_hour = 3\n\n[[alerts.routes]]\nname = \"a\"\nkind = \"desktop\"\n\n\
                [[alerts.routes]]\nname = \"b\"\nkind = \"emial\"\n\n\
                [[alerts.routes]]\nname = \"c\"\nkind = \"email\"\nhots = \"mail\"\n\n\
                [[alerts.routes]]\nname = \"d\"\nkind = \"desktop\"\nhost = \"mail\"\n";
    let got = problems(&scene.with_file(text));
    assert_eq!(got.len(), 3, "{got:#?}");
    assert!(got[0].contains("given.toml:8: alerts.routes: unknown variant `emial`"), "{}", got[0]);
    assert!(got[0].ends_with("did you mean \"email\"?"), "{}", got[0]);
    assert!(got[1].contains("given.toml:12: alerts.routes: unknown field `hots`"), "{}", got[1]);
    assert!(got[1].ends_with("did you mean \"host\"?"), "{}", got[1]);
    let stranger = "given.toml:17: alerts.routes: route \"d\": host does not belong to kind = \"desktop\"";
    assert!(got[2].contains(stranger), "{}", got[2]);
    let twice = "[[alerts.routes]]\nname = \"a\"\nkind = \"desktop\"\n";
    let got = problems(&scene.with_file(&twice.repeat(2)));
    assert!(got[0].contains("given.toml:1: alerts.routes: two routes have the name \"a\""), "{}", got[0]);
    let path = "[[alerts.routes]]\nname = \"a\"\nkind = \"webhook\"\nurl_file = \"relative\"\n";
    let got = problems(&scene.with_file(path));
    assert!(got[0].contains("url_file: \"relative\" must be absolute"), "{}", got[0]);
}

#[test]
fn the_mail_address_of_the_first_plan_is_a_route() {
    let scene = Scene::new();
    let got = loaded(&set(scene.sources(), "ALERT_EMAIL", "me@example.org, you@example.org"));
    assert_eq!(got.settings.alerts.email_to, ["me@example.org", "you@example.org"]);
    assert_eq!(got.settings.alerts.all_routes().len(), 1);
    assert!(problems(&set(scene.sources(), "ALERT_EMAIL", "nobody"))[0].contains("is not an e-mail address"));
}

#[test]
fn the_routes_of_the_runbook_are_accepted() {
    let runbook = include_str!("../docs/runbook.md");
    let examples: Vec<&str> = runbook.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let routes: String = examples.into_iter().filter(|text| text.contains("alerts")).collect();
    let got = loaded(&Scene::new().with_file(&routes)).settings;
    assert!(got.alerts.all_routes().len() >= 7, "{routes}");
}

#[test]
fn every_problem_of_every_source_is_reported_at_once_with_its_place() {
    let scene = Scene::new();
    let sources = scene.with_file(
        "index = 1\n[watch]\npoll = 60\nhost = \"opencla\"\n\n[archive]\nzstd_level = 40\nsegment_bytes = -1\n[log]\nlevel = \"inof\"\n",
    );
    let mut sources = set(sources, "MOON_RECALL_LIMIT", "many");
    sources.set = vec!["index.chunk_chars=7".into(), "indx.chunk_chars=700".into(), "nonsense".into()];
    let got = problems(&sources);
    assert_eq!(got.len(), 10, "{got:#?}");
    let got = got.join("\n");
    for part in [
        "given.toml:1: index: expected a table [index], found integer",
        "given.toml:3: watch.poll: expected a duration such as \"30s\" or \"5m\", found integer 60",
        "given.toml:4: watch.host: unknown variant `opencla`",
        "given.toml:7: archive.zstd_level: 40 must be between 1 and 19",
        "given.toml:8: archive.segment_bytes: -1 is below 0",
        "given.toml:10: log.level: unknown level \"inof\"; did you mean \"info\"?",
        "MOON_RECALL_LIMIT: recall.limit: expected a whole number, found \"many\"",
        "--set: index.chunk_chars: 7 must be between 200 and 20000",
        "--set: indx.chunk_chars: unknown key; did you mean \"index.chunk_chars\"?",
        "--set: expected KEY=VALUE",
    ] {
        assert!(got.contains(part), "{part:?} is missing in\n{got}");
    }
}

#[test]
fn text_that_is_not_toml_is_reported_with_line_and_column_and_nothing_else() {
    let scene = Scene::new();
    let got = problems(&scene.with_file("[watch]\npoll = [\n"));
    assert_eq!(got.len(), 1, "{got:?}");
    assert!(got[0].contains("given.toml:2, column 9: not valid TOML"), "{}", got[0]);
}

#[test]
fn an_impossible_order_of_thresholds_is_refused_at_the_line_that_caused_it() {
    let scene = Scene::new();
    // The default of `prune` is what is broken; the line of `archive` is what broke it.
    let got = problems(&scene.with_file("\n[thresholds]\narchive = 0.88\n"));
    assert_eq!(got.len(), 1, "{got:?}");
    assert!(
        got[0].contains("given.toml:3: thresholds.prune: 0.85 must be above thresholds.archive (0.88)"),
        "{}",
        got[0]
    );
    for text in ["archive = 0.8\nprune = 0.8", "distill = 0.85", "archive = nan", "distill = inf", "hysteresis = 0.8"] {
        problems(&scene.with_file(&format!("[thresholds]\n{text}\n")));
    }
}

#[test]
fn a_value_nobody_could_read_does_not_break_rules_on_top() {
    let scene = Scene::new();
    let got = problems(&scene.with_file("[thresholds]\narchive = 0.88\nprune = \"0.9\"\n"));
    assert_eq!(got.len(), 1, "{got:?}");
    assert!(got[0].contains(":3: thresholds.prune: expected a number, found text"), "{}", got[0]);
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let scene = Scene::new();
    let key = "thresholds.archive";
    for (in_file, in_environment, in_flag) in
        [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 1)]
    {
        let mut sources = scene.with_file(if in_file == 1 { "[thresholds]\narchive = 0.1\n" } else { "" });
        if in_environment == 1 {
            sources = set(sources, "MOON_THRESHOLDS_ARCHIVE", "0.2");
        }
        if in_flag == 1 {
            sources.set.push(format!("{key}=0.3"));
        }
        let got = loaded(&sources);
        let file = Origin::File { path: scene.path("given.toml"), line: 2 };
        let want = match (in_file, in_environment, in_flag) {
            (_, _, 1) => (0.3, Origin::Flag("--set".into())),
            (_, 1, _) => (0.2, Origin::Environment("MOON_THRESHOLDS_ARCHIVE".into())),
            (1, _, _) => (0.1, file),
            _ => (0.8, Origin::Default),
        };
        let origin = got.origins.get(key).cloned().unwrap_or_default();
        assert_eq!((got.settings.thresholds.archive, origin), want);
    }
}

#[test]
fn every_key_can_be_set_by_its_variable() {
    let scene = Scene::new();
    let defaults = toml::Table::try_from(Settings::default()).expect("a table");
    for key in moon::config::keys().into_iter().filter(|key| key != "home.path") {
        let (section, field) = key.split_once('.').expect("dotted");
        let value = match &defaults[section][field] {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let name = format!("MOON_{}", key.replace('.', "_").to_uppercase());
        let got = loaded(&set(scene.sources(), &name, &value));
        assert_eq!(got.settings, Settings::default(), "{name}");
        assert_eq!(got.origins.get(&key), Some(&Origin::Environment(name.clone())), "{name}");
        assert_eq!(got.warnings, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_variables_of_the_first_plan_still_work_and_the_present_names_win() {
    let scene = Scene::new();
    let mut sources = scene.sources();
    for (name, value) in [
        ("MOON_THRESHOLD_ARCHIVE_RATIO", "0.5"),
        ("MOON_THRESHOLD_PRUNE_RATIO", "0.6"),
        ("MOON_THRESHOLD_DISTILL_RATIO", "0.7"),
        ("MOON_POLL_INTERVAL_SECS", "45"),
        ("MOON_COOLDOWN_SECS", "90"),
        ("OPENCLAW_BIN", "/opt/openclaw"),
    ] {
        sources = set(sources, name, value);
    }
    let got = loaded(&sources);
    let t = &got.settings.thresholds;
    assert_eq!((t.archive, t.prune, t.distill, t.prune_cooldown.as_secs()), (0.5, 0.6, 0.7, 90));
    assert_eq!((got.settings.watch.poll.as_secs(), got.settings.openclaw.command.as_str()), (45, "/opt/openclaw"));
    assert_eq!(got.warnings, Vec::<String>::new());

    let got = loaded(&set(sources.clone(), "MOON_WATCH_POLL", "10s"));
    assert_eq!(got.settings.watch.poll.as_secs(), 10);
    assert_eq!(got.warnings, ["MOON_POLL_INTERVAL_SECS is ignored: MOON_WATCH_POLL sets watch.poll too"]);
    let got = problems(&set(sources, "MOON_COOLDOWN_SECS", "5m"));
    assert_eq!(
        got,
        ["MOON_COOLDOWN_SECS: thresholds.prune_cooldown: expected a whole number of seconds, found \"5m\""]
    );
}

#[test]
fn unknown_variables_are_one_warning_and_never_a_refusal() {
    let scene = Scene::new();
    let sources = set(set(scene.sources(), "MOON_WATCH_POL", "1s"), "MOON_ZZZ", "1");
    assert_eq!(
        loaded(&sources).warnings,
        ["unknown variables are ignored: MOON_WATCH_POL (did you mean MOON_WATCH_POLL?), MOON_ZZZ"]
    );
}

#[test]
fn the_home_is_found_by_flag_then_variable_then_named_file_then_default() {
    let scene = Scene::new();
    assert_eq!(loaded(&scene.sources()).home, scene.path(".lilac_metaflora"));
    let file = scene.with_file("[home]\npath = \"~/from-file\"\n");
    assert_eq!(loaded(&file).home, scene.path("from-file"));
    let variable = set(file, "MOON_HOME", "~/from-variable");
    assert_eq!(loaded(&variable).home, scene.path("from-variable"));
    let flag = Sources { home: Some(scene.path("from-flag")), ..variable };
    let got = loaded(&flag);
    assert_eq!(got.home, scene.path("from-flag"));
    assert_eq!(got.origins.get("home.path"), Some(&Origin::Flag("--home".into())));
    let empty = set(scene.sources(), "MOON_HOME", "");
    assert_eq!(loaded(&empty).home, scene.path(".lilac_metaflora"));
}

#[test]
fn a_home_that_means_something_else_elsewhere_is_refused() {
    let scene = Scene::new();
    let got = problems(&set(scene.sources(), "MOON_HOME", "relative/home"));
    assert_eq!(got, ["MOON_HOME: home.path: \"relative/home\" must be absolute or begin with ~/"]);
    let got = problems(&scene.with_file("[home]\npath = \"home\"\n"));
    assert!(got[0].contains("given.toml:2: home.path:") && got.len() == 1, "{got:?}");
    scene.write(".lilac_metaflora/moon.toml", "[home]\npath = \"/another\"\n");
    let got = problems(&scene.sources());
    assert!(got[0].contains("names another home than the one this file lies in"), "{got:?}");
    let no_user = Sources { environment: Environment::new(), ..scene.sources() };
    assert!(problems(&no_user)[0].contains("HOME is not set"));
}

#[test]
fn the_file_in_the_home_is_read_and_a_named_one_wins() {
    let scene = Scene::new();
    scene.write(".lilac_metaflora/moon.toml", "[recall]\nlimit = 7\n");
    let path = scene.write("other.toml", "[recall]\nlimit = 9\n");
    assert_eq!(loaded(&scene.sources()).settings.recall.limit, 7);
    for name in ["MOON_CONFIG_PATH", "MOON_CONFIG"] {
        let named = set(scene.sources(), name, path.to_str().expect("text"));
        assert_eq!(loaded(&named).settings.recall.limit, 9, "{name}");
    }
    let missing = Sources { file: Some(scene.path("missing.toml")), ..scene.sources() };
    assert!(problems(&missing)[0].contains("missing.toml: could not open the file"));
    let folder = Sources { file: Some(scene.path(".lilac_metaflora")), ..scene.sources() };
    assert!(problems(&folder)[0].contains("not a file"));
}

#[test]
fn nothing_is_taken_from_the_working_directory() {
    let scene = Scene::new();
    for name in ["moon.toml", ".moon.toml", ".env"] {
        scene.write(&format!("work/{name}"), "[recall]\nlimit = 9\nMOON_RECALL_LIMIT=9\n");
    }
    let (report, code) = json(scene.moon().current_dir(scene.path("work")).args(["config", "show", "--json"]));
    assert_eq!(code, 0);
    assert_eq!(report["data"]["file"], Value::Null);
    let limit = report["data"]["keys"].as_array().expect("keys").iter().find(|k| k["key"] == "recall.limit");
    assert_eq!(limit.expect("there")["value"], "5");
}

#[test]
fn a_path_or_a_program_that_depends_on_the_working_directory_is_refused() {
    let scene = Scene::new();
    let got = problems(&scene.with_file(
        "[watch]\ntranscripts_dir = \"logs\"\n[openclaw]\ncommand = \"./openclaw\"\ntoken_file = \"~/token\"\n",
    ));
    assert_eq!(got.len(), 2, "{got:?}");
    assert!(got[0].contains(":2: watch.transcripts_dir: \"logs\" must be absolute"), "{}", got[0]);
    assert!(got[1].contains(":4: openclaw.command: \"./openclaw\" must be absolute"), "{}", got[1]);
}

#[test]
fn a_settings_file_that_everybody_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    let sources = scene.with_file("[recall]\nlimit = 7\n");
    std::fs::set_permissions(scene.path("given.toml"), std::fs::Permissions::from_mode(0o666)).expect("widened");
    let got = problems(&sources);
    assert!(got.len() == 1 && got[0].contains("given.toml: everybody may write to this file"), "{got:?}");
}

#[test]
fn demo_and_bench_stay_apart_from_a_broken_installation() {
    let scene = Scene::new();
    let sources = set(scene.with_file("not toml"), "MOON_RECALL_LIMIT", "many");
    let apart = Sources { file: None, installation: false, ..sources };
    assert_eq!(loaded(&apart).settings, Settings::default());
}

#[test]
fn show_tells_each_value_with_its_origin() {
    let scene = Scene::new();
    scene.write(".lilac_metaflora/moon.toml", "[watch]\npoll = \"2m\"\n");
    let mut command = scene.moon();
    command.env("MOON_RECALL_LIMIT", "8").args(["--set", "log.keep=2", "config", "show", "--origin"]);
    let text = String::from_utf8(command.assert().success().get_output().stdout.clone()).expect("text");
    let line = |key: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(&format!("{key} "))).expect("the key is shown");
        line.split("  ").map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
    };
    let file = scene.path(".lilac_metaflora/moon.toml");
    assert_eq!(line("watch.poll"), ["watch.poll", "\"2m\"", &format!("{}:2", file.display())]);
    assert_eq!(line("recall.limit"), ["recall.limit", "8", "env MOON_RECALL_LIMIT"]);
    assert_eq!(line("log.keep"), ["log.keep", "2", "flag --set"]);
    assert_eq!(line("log.level"), ["log.level", "\"info\"", "default"]);
    assert_eq!(text.lines().count(), moon::config::keys().len() + 1);
}

#[test]
fn every_report_has_the_same_shape() {
    let scene = Scene::new();
    scene.write("bad.toml", "[recall]\nlimt = 9\n");
    for (words, code) in [
        (vec!["config", "show"], 0),
        (vec!["config", "check"], 0),
        (vec!["logs"], 0),
        (vec!["--config", "bad.toml", "config", "check"], 64),
        (vec!["--config", "bad.toml", "config", "show"], 64),
        (vec!["--config", "bad.toml", "logs"], 64),
        (vec!["config", "show", "--no-such-flag"], 64),
        (vec!["no-such-verb"], 64),
    ] {
        let (report, got) = json(scene.moon().arg("--json").args(&words));
        assert_eq!(got, code, "{words:?}");
        let fields: Vec<_> = report.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(fields, ["command", "ok", "details", "issues", "data"], "{words:?}");
        assert_eq!(report["ok"], code == 0, "{words:?}");
        assert_eq!(report["issues"].as_array().expect("a list").is_empty(), code == 0, "{words:?}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_64_and_help_with_0() {
    let scene = Scene::new();
    for words in [vec![], vec!["no-such-verb"], vec!["recall"], vec!["ctl"], vec!["recall", "q", "--limit", "0"]] {
        let output = scene.moon().args(&words).assert().code(64).get_output().clone();
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{words:?}");
    }
    for words in [vec!["--help"], vec!["--version"], vec!["recall", "--help"], vec!["ctl", "restart", "-h"]] {
        let output = scene.moon().args(&words).assert().code(0).get_output().clone();
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn an_error_names_operation_causes_and_next_step_on_stderr_without_colour() {
    let scene = Scene::new();
    scene.write(".lilac_metaflora/moon.toml", "[recall]\nlimt = 9\nlimit = 0\n");
    let output = scene.moon().arg("logs").assert().code(64).get_output().clone();
    let file = scene.path(".lilac_metaflora/moon.toml");
    let want = format!(
        "error: could not use the configuration: 2 problems\n  cause: {file}:2: recall.limt: unknown key; did you mean \
         \"limit\"?\n  cause: {file}:3: recall.limit: 0 must be between 1 and 100\n  hint:  `moon config check` shows the \
         problems again, `moon.toml.example` every key with its default\n",
        file = file.display()
    );
    assert_eq!(String::from_utf8(output.stderr).expect("text"), want);
    assert!(output.stdout.is_empty());
}

#[test]
fn the_names_of_the_first_plan_work_as_verbs_and_as_links() {
    let scene = Scene::new();
    for name in ["moon-watch", "moon-recall", "moon-distill", "moon-snapshot", "moon-index", "moon-status"] {
        let verb = name.trim_start_matches("moon-");
        let help = |command: &mut Command| {
            let output = command.arg("--help").assert().code(0).get_output().clone();
            String::from_utf8(output.stdout).expect("text")
        };
        let want = help(scene.moon().arg(verb));
        assert!(want.contains(&format!("Usage: moon {verb}")), "{want}");
        assert_eq!(help(scene.moon().arg(name)), want);
        let link = scene.path(name);
        std::os::unix::fs::symlink(assert_cmd::cargo::cargo_bin!("moon"), &link).expect("a link");
        assert_eq!(help(&mut scene.command(&link)), want);
    }
}

/// What `moon recall` in an empty home says on a terminal.
fn said_on_a_terminal(scene: &Scene, no_color: bool) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&controller).and_then(|()| unlockpt(&controller)).expect("unlocked");
    let name = ptsname(&controller, Vec::new()).expect("a name").into_string().expect("text");
    let terminal = std::fs::OpenOptions::new().read(true).write(true).open(name).expect("opens");
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("moon"));
    command.env_clear().env("HOME", scene.folder.path()).env("TERM", "xterm").args(["recall", "x"]).stderr(terminal);
    if no_color {
        command.env("NO_COLOR", "1");
    }
    assert_eq!(command.status().expect("runs").code(), Some(1));
    // It holds the terminal too; once nobody does, the reading ends (on Linux with an error).
    drop(command);
    let mut said = Vec::new();
    let _ = std::fs::File::from(controller).read_to_end(&mut said);
    String::from_utf8(said).expect("text")
}

#[test]
fn colour_is_used_on_a_terminal_and_not_with_no_color() {
    let scene = Scene::new();
    let plain = said_on_a_terminal(&scene, true);
    assert!(plain.starts_with("error: ") && !plain.contains('\u{1b}'), "{plain:?}");
    let coloured = said_on_a_terminal(&scene, false);
    assert!(coloured.contains("\u{1b}["), "{coloured:?}");
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
}

#[test]
fn a_reader_that_goes_away_ends_the_output_quietly() {
    let scene = Scene::new();
    let long: String = (0..20_000).map(|n| format!("{{\"message\":\"line {n}\"}}\n")).collect();
    scene.write(".lilac_metaflora/logs/moon.log", &long);
    for extra in ["--lines=10000", "--follow"] {
        let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("moon"))
            .env_clear()
            .env("HOME", scene.folder.path())
            .args(["logs", "--lines", "9999", "--json"])
            .args((extra == "--follow").then_some(extra))
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        let mut first = [0; 16];
        child.stdout.take().expect("piped").read_exact(&mut first).expect("begins to answer");
        let output = child.wait_with_output().expect("ends");
        assert_eq!(output.status.code(), Some(0), "{extra}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{extra}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    let scene = Scene::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let output = std::process::Command::new(assert_cmd::cargo::cargo_bin!("moon"))
        .env_clear()
        .env("HOME", scene.folder.path())
        .args(["config", "show"])
        .stdout(full)
        .stderr(std::process::Stdio::piped())
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: could not write the answer\n  cause: "));
}

#[test]
fn commands_that_only_read_make_no_home() {
    let scene = Scene::new();
    scene.moon().arg("logs").assert().success();
    scene.moon().args(["config", "show"]).assert().success();
    assert_eq!(std::fs::read_dir(scene.folder.path()).expect("listable").count(), 0);
}

#[test]
fn hostile_text_in_a_settings_file_reaches_nobodys_terminal() {
    let scene = Scene::new();
    scene.write("bad.toml", "[recall]\n\"a\\u001b[2J\\nerror: forged\\u202e\" = 1\n");
    let output = scene.moon().args(["--config", "bad.toml", "config", "check"]).assert().code(64).get_output().clone();
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("recall.a\\u{1b}[2J\\nerror: forged\\u{202e}"), "{text}");
}

#[test]
fn every_command_flag_and_exit_code_is_in_the_documentation() {
    fn walk(command: &clap::Command, words: &str, missing: &mut Vec<String>) {
        let text = include_str!("../docs/cli.md");
        for flag in command.get_arguments().filter(|a| !a.is_hide_set()).filter_map(clap::Arg::get_long) {
            if !text.contains(&format!("--{flag}")) {
                missing.push(format!("{words} --{flag}"));
            }
        }
        for child in command.get_subcommands() {
            let name = child.get_name();
            let words = format!("{words} {name}");
            // `ctl` lists its own on one line.
            let there = text.contains(&format!("`{words}")) || text.contains(&format!("|{name}")) || name == "status";
            if !there {
                missing.push(words.clone());
            }
            walk(child, &words, missing);
        }
    }
    let mut missing = Vec::new();
    walk(&<moon::cli::Cli as clap::CommandFactory>::command(), "moon", &mut missing);
    assert_eq!(missing, Vec::<String>::new());
    use moon::cli::exit::Exit;
    for exit in [Exit::Ok, Exit::Error, Exit::NotOk, Exit::Held, Exit::HostUnreachable, Exit::Usage, Exit::GaveUp] {
        assert!(include_str!("../docs/cli.md").contains(&format!("\n| {} | ", exit as u8)), "{exit:?}");
    }
}

/// The subscriber is one per process, so everything about the daemon's log is one test.
#[test]
fn the_daemons_log_is_private_json_lines_that_moon_logs_finds_by_trace() {
    let scene = Scene::new();
    let (home, _) = moon::home::Home::open(scene.path(".lilac_metaflora")).expect("opens");
    moon::logging::start(0);
    tracing::error!(target: "moon::test", "before the daemon");
    let log = moon::logging::daemon(&home, &Settings::default().log).expect("a log file");
    tracing::info!(target: "moon::test", trace = "t1", bytes = 5, "archived");
    tracing::info_span!(target: "moon::test", "job", trace = "t2").in_scope(|| {
        tracing::warn!(target: "moon::test", "slow");
    });
    tracing::debug!(target: "moon::test", "below the level");
    tracing::info!(target: "hyper::proto", "a library talks");
    let crashed = std::thread::spawn(|| panic!("a bug of a test")).join();
    assert!(crashed.is_err());
    assert_eq!(log.lost_lines(), 0);
    drop(log);
    tracing::error!(target: "moon::test", "after the daemon");

    let text = std::fs::read_to_string(home.log_file()).expect("readable");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap_or_default()).collect();
    assert_eq!(messages, ["archived", "slow", "a part of moon crashed"]);
    assert_eq!(lines[2]["panic"], "a bug of a test");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(home.log_file()).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);

    for (trace, message) in [("t1", "archived"), ("t2", "slow")] {
        let (report, _) = json(scene.moon().args(["logs", "--json", "--trace", trace]));
        let found: Vec<_> = report["data"]["lines"].as_array().expect("a list").iter().map(|l| &l["message"]).collect();
        assert_eq!(found, [message]);
    }
    let text = scene.moon().args(["logs", "-n", "2"]).assert().success().get_output().stdout.clone();
    let text = String::from_utf8(text).expect("text");
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains(" WARN slow trace=t2\n"), "{text}");
}
