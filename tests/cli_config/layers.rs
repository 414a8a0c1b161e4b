//! Where values come from: the example, the file, variables and flags, and which of them wins.

use super::*;
use moon::config::Origin;
use moon_actors::settings::Settings;

fn keys_of(text: &str) -> Vec<String> {
    let table: toml::Table = toml::from_str(text).expect("TOML");
    let fields = |(section, value): (&String, &toml::Value)| -> Vec<String> {
        value.as_table().expect("a section").keys().map(|field| format!("{section}.{field}")).collect()
    };
    table.iter().flat_map(fields).collect()
}

#[test]
fn the_example_carries_every_key_at_its_default() {
    let text = include_str!("../../moon.toml.example");
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
    scene.write("elsewhere/moon.toml", include_str!("../../moon.toml.example"));
    let sources = set(scene.sources(), "MOON_HOME", scene.path("elsewhere").to_str().expect("text"));
    assert_eq!(loaded(&sources).home, scene.path("elsewhere"));
}

#[test]
fn the_tables_that_the_example_shows_in_its_comments_are_accepted() {
    let (mut tables, mut inside) = (String::new(), false);
    for line in include_str!("../../moon.toml.example").lines() {
        let shown = line.strip_prefix("#   ").unwrap_or_default();
        inside = shown.starts_with("[[") || inside && shown.contains(" = ");
        if inside {
            tables += &format!("{shown}\n");
        }
    }
    let got = loaded(&Scene::new().with_file(&tables)).settings;
    assert_eq!((got.health.recover.len(), got.health.commands.len(), got.rotation.files.len()), (1, 1, 1), "{tables}");
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
fn the_mail_address_of_the_first_plan_is_a_route() {
    let scene = Scene::new();
    let got = loaded(&set(scene.sources(), "ALERT_EMAIL", "me@example.org, you@example.org"));
    assert_eq!(got.settings.alerts.email_to, ["me@example.org", "you@example.org"]);
    assert_eq!(got.settings.alerts.all_routes().len(), 1);
    assert!(problems(&set(scene.sources(), "ALERT_EMAIL", "nobody"))[0].contains("is not an e-mail address"));
}

#[test]
fn the_routes_of_the_runbook_are_accepted() {
    let runbook = include_str!("../../docs/runbook.md");
    let examples: Vec<&str> = runbook.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let routes: String = examples.into_iter().filter(|text| text.contains("alerts")).collect();
    let got = loaded(&Scene::new().with_file(&routes)).settings;
    assert!(got.alerts.all_routes().len() >= 7, "{routes}");
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
        let file = Origin::File { path: scene.path("given.toml"), line: 2, column: 1 };
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
    assert!(got[0].contains("given.toml:2:1: home.path:") && got.len() == 1, "{got:?}");
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
    assert_eq!(line("watch.poll"), ["watch.poll", "\"2m\"", &format!("{}:2:1", file.display())]);
    assert_eq!(line("recall.limit"), ["recall.limit", "8", "env MOON_RECALL_LIMIT"]);
    assert_eq!(line("log.keep"), ["log.keep", "2", "flag --set"]);
    assert_eq!(line("log.level"), ["log.level", "\"info\"", "default"]);
    assert_eq!(text.lines().count(), moon::config::keys().len() + 1);
}
