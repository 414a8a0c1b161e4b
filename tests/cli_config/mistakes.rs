//! What is wrong with settings: refused all at once, each mistake at its own place, with the word that was meant.

use super::*;

#[test]
fn unknown_keys_and_tables_are_refused_with_a_suggestion() {
    let scene = Scene::new();
    let sources = scene.with_file("[thresholds]\nprun = 0.8\nlimit = 3\nxyzzy = 1\n[wacth]\npoll = \"1m\"\n");
    let file = scene.path("given.toml").display().to_string();
    let got = problems(&sources);
    assert_eq!(got[0], format!("{file}:2:1: thresholds.prun: unknown key; did you mean \"prune\"?"));
    assert_eq!(got[1], format!("{file}:3:1: thresholds.limit: unknown key; did you mean \"recall.limit\"?"));
    assert!(
        got[2].starts_with(&format!("{file}:4:1: thresholds.xyzzy: unknown key; there are archive,")),
        "{}",
        got[2]
    );
    assert_eq!(got[3], format!("{file}:5:2: wacth: unknown table; did you mean \"[watch]\"?"));
    assert_eq!(got.len(), 4);
}

#[test]
fn a_route_that_is_wrong_is_named_at_its_own_place_with_what_was_meant() {
    let scene = Scene::new();
    let text = "[alerts]\nper_hour = 3\n\n[[alerts.routes]]\nname = \"a\"\nkind = \"desktop\"\n\n\
                [[alerts.routes]]\nname = \"b\"\nkind = \"emial\"\n\n\
                [[alerts.routes]]\nname = \"c\"\nkind = \"email\"\n  hots = \"mail\"\nto = [\"me@example.org\"]\n\n\
                [[alerts.routes]]\nname = \"d\"\nkind = \"desktop\"\nhost = \"mail\"\nport = \"x\"\n";
    let got = problems(&scene.with_file(text));
    assert_eq!(got.len(), 4, "{got:#?}");
    assert!(got[0].contains("given.toml:10:8: alerts.routes.kind: unknown variant `emial`"), "{}", got[0]);
    assert!(got[0].ends_with("did you mean \"email\"?"), "{}", got[0]);
    let wrong = "given.toml:15:3: alerts.routes.hots: unknown key; did you mean \"host\"?";
    assert!(got[1].ends_with(wrong), "{}", got[1]);
    let stranger = "given.toml:21:1: alerts.routes.host: does not belong to kind = \"desktop\"";
    assert!(got[2].contains(stranger), "{}", got[2]);
    assert!(got[3].contains("given.toml:22:8: alerts.routes.port: invalid type: string \"x\""), "{}", got[3]);
    let twice = "[[alerts.routes]]\nname = \"a\"\nkind = \"desktop\"\n";
    let got = problems(&scene.with_file(&twice.repeat(2)));
    assert!(got[0].contains("given.toml:5:1: alerts.routes.name: two routes have the name \"a\""), "{}", got[0]);
    let path = "[[alerts.routes]]\nname = \"a\"\nkind = \"webhook\"\nurl_file = \"relative\"\n";
    let got = problems(&scene.with_file(path));
    assert!(got[0].contains(":4:1: alerts.routes.url_file: \"relative\" must be absolute"), "{}", got[0]);
}

#[test]
fn two_routes_of_one_name_are_told_beside_whatever_else_is_wrong_with_them() {
    let scene = Scene::new();
    let route = |fields: &str| format!("[[alerts.routes]]\nname = \"a\"\n{fields}\n");
    let (fine, no_url, no_kind) = ("kind = \"desktop\"", "kind = \"webhook\"", "kind = \"emial\"");
    for (fields, at) in [
        (&[no_url, no_url][..], &[5][..]),
        (&[fine, no_url], &[5]),
        (&[no_url, fine], &[5]),
        (&[fine, no_kind], &[5]),
        (&[no_url, fine, fine], &[5, 8]),
        (&[fine, fine, no_url], &[5, 8]),
    ] {
        let got = problems(&scene.with_file(&fields.iter().map(|fields| route(fields)).collect::<String>()));
        let twice: Vec<&String> = got.iter().filter(|line| line.contains("two routes have the name \"a\"")).collect();
        let is_at = |(line, at): (&&String, &usize)| line.contains(&format!(":{at}:1: alerts.routes.name: "));
        assert!(twice.len() == at.len() && twice.iter().zip(at).all(is_at), "{fields:?}: {got:#?}");
        assert_eq!(got.len() - twice.len(), fields.iter().filter(|fields| **fields != fine).count(), "{got:#?}");
    }
}

#[test]
fn a_mistake_in_one_table_hides_none_in_another() {
    let scene = Scene::new();
    let text = "[[health.recover]]\nrule = \"daemon_critical\"\nactor = \"index\"\nsubjct = \"moon\"\n\
                [[health.recover]]\nrule = \"disk_low\"\nactor = \"index\"\nservice = \"b\"\n\
                [[health.recover]]\nactor = \"index\"\n\
                [[rotation.files]]\npath = \"/var/log/a\"\nsignal = \"KILL\"\npid_file = \"/run/a\"\n\
                [[rotation.files]]\npath = 5\nsingal = \"HUP\"\n\
                [[health.endpoints]]\nname = \"a\"\nurl = \"imap://h\"\n\
                [[health.endpoints]]\nname = \"b\"\nurl = \"tcp://h:1\"\ntimeout = \"5\"\n\
                [backup]\ninclude = [\n  \"/a\",\n  7,\n  \"b\",\n]\n";
    let got = problems(&scene.with_file(text));
    let wanted = [
        ":4:1: health.recover.subjct: unknown key; did you mean \"subject\"?",
        ":9:1: health.recover.rule: is missing",
        ":16:8: rotation.files.path: invalid type: integer `5`",
        ":17:1: rotation.files.singal: unknown key; did you mean \"signal\"?",
        ":24:11: health.endpoints.timeout: invalid duration \"5\"",
        ":28:3: backup.include: invalid type: integer `7`",
        ":5:1: health.recover: disk_low: needs exactly one of actor, service and argv",
        ":13:1: rotation.files.signal: \"/var/log/a\": signal must be HUP, USR1 or USR2",
        ":20:1: health.endpoints.url: a: \"imap://h\" must be tcp://host:port",
        ":29:3: backup.include: \"b\" must be absolute",
    ];
    for part in wanted {
        assert!(got.iter().any(|line| line.contains(part)), "{part:?} is missing in\n{}", got.join("\n"));
    }
    assert_eq!(got.len(), wanted.len(), "{}", got.join("\n"));
    let line = |problem: &String| {
        problem.rsplit_once(".toml:").and_then(|(_, rest)| rest.split(':').next()?.parse::<usize>().ok())
    };
    assert!(got.is_sorted_by_key(|problem| line(problem).expect("a line")), "{}", got.join("\n"));
}

#[test]
fn an_entry_that_cannot_be_read_hides_no_mistake_of_its_own_or_of_those_that_name_it() {
    let scene = Scene::new();
    let text = "[[health.processes]]\nname = \"agent\"\ninterval = 5\npid_file = \"agent.pid\"\n\
                [[health.processes]]\nname = \"agent\"\nservice = \"b\"\n\
                [[health.recover]]\nrule = \"daemon_critical\"\nsubject = \"agnt\"\nargv = 5\n\
                [[health.endpoints]]\nurl = \"imap://h\"\n\
                [[alerts.routes]]\nname = \"a\"\nkind = \"webhook\"\nurl = \"https://10.0.0.1/hook\"\ntimeout = 5\n";
    let got = problems(&scene.with_file(text));
    let wanted = [
        ":3:12: health.processes.interval: invalid type: integer `5`",
        ":4:1: health.processes.pid_file: agent: \"agent.pid\" must be an absolute path",
        ":6:1: health.processes.name: \"agent\" is there twice",
        ":10:1: health.recover.subject: alerts \"daemon_critical\" are about",
        ":11:8: health.recover.argv: invalid type: integer `5`",
        ":12:1: health.endpoints.name: is missing",
        ":13:1: health.endpoints.url: ",
        ":17:1: alerts.routes.url: Moon does not post to 10.0.0.1",
        ":18:11: alerts.routes.timeout: invalid type: integer `5`",
    ];
    let fits = got.len() == wanted.len() && got.iter().zip(wanted).all(|(got, wanted)| got.contains(wanted));
    assert!(fits, "{}", got.join("\n"));
}

#[test]
fn one_table_where_a_list_of_them_belongs_is_told_how_it_is_written() {
    let scene = Scene::new();
    let got = problems(&scene.with_file("[alerts.routes]\nname = \"a\"\nkind = \"desktop\"\n"));
    let end = "alerts.routes: expected a list, found a table; a list of tables is written [[alerts.routes]]";
    assert!(got.len() == 1 && got[0].ends_with(end), "{got:?}");
}

#[test]
fn an_entry_is_refused_and_never_left_out() {
    let scene = Scene::new();
    let text = "[[health.logs]]\nname = \"a\"\npath = \"/a\"\nlines = 18446744073709551615\n";
    let got = problems(&scene.with_file(text));
    assert!(got.len() == 1 && got[0].contains(":1:1: health.logs: holds a number that is too large"), "{got:?}");
    // And what two would refuse is said once.
    let got = problems(
        &scene.with_file("[alerts]\nemail_to = [\"me@\", \"you\"]\n[backup]\nrecipients = [\"AGE-SECRET-KEY-1X\"]\n"),
    );
    assert_eq!(got.len(), 3, "{got:?}");
    assert!(!got[2].contains("SECRET"), "{got:?}");
}

#[test]
fn a_list_in_a_variable_is_judged_entry_by_entry() {
    let scene = Scene::new();
    let list = "[{ name = \"a\", url = \"tcp://h:1\" }, { nam = \"b\", url = 5 }]";
    let got = problems(&set(scene.sources(), "MOON_HEALTH_ENDPOINTS", list));
    assert_eq!(got.len(), 1, "{got:?}");
    let begin = "MOON_HEALTH_ENDPOINTS: health.endpoints: entry 2: nam: unknown key; did you mean \"name\"?; entry 2: url: invalid type";
    assert!(got[0].starts_with(begin), "{got:?}");
    let one = "[{ name = \"a\", url = \"imap://h\" }]";
    let got = problems(&set(scene.sources(), "MOON_HEALTH_ENDPOINTS", one));
    assert!(got[0].starts_with("MOON_HEALTH_ENDPOINTS: health.endpoints.url: a: \"imap://h\""), "{got:?}");
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
        "given.toml:1:1: index: expected a table [index], found integer",
        "given.toml:3:1: watch.poll: expected a duration such as \"30s\" or \"5m\", found integer 60",
        "given.toml:4:1: watch.host: unknown variant `opencla`",
        "given.toml:7:1: archive.zstd_level: 40 must be between 1 and 19",
        "given.toml:8:1: archive.segment_bytes: -1 is below 0",
        "given.toml:10:1: log.level: unknown level \"inof\"; did you mean \"info\"?",
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
    assert!(got[0].contains("given.toml:2:9: not valid TOML"), "{}", got[0]);
}

#[test]
fn an_impossible_order_of_thresholds_is_refused_at_the_line_that_caused_it() {
    let scene = Scene::new();
    // The default of `prune` is what is broken; the line of `archive` is what broke it.
    let got = problems(&scene.with_file("\n[thresholds]\narchive = 0.88\n"));
    assert_eq!(got.len(), 1, "{got:?}");
    assert!(
        got[0].contains("given.toml:3:1: thresholds.prune: 0.85 must be above thresholds.archive (0.88)"),
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
    assert!(got[0].contains(":3:1: thresholds.prune: expected a number, found text"), "{}", got[0]);
}

#[test]
fn a_path_or_a_program_that_depends_on_the_working_directory_is_refused() {
    let scene = Scene::new();
    let got = problems(&scene.with_file(
        "[watch]\ntranscripts_dir = \"logs\"\n[openclaw]\ncommand = \"./openclaw\"\ntoken_file = \"~/token\"\n",
    ));
    assert_eq!(got.len(), 2, "{got:?}");
    assert!(got[0].contains(":2:1: watch.transcripts_dir: \"logs\" must be absolute"), "{}", got[0]);
    assert!(got[1].contains(":4:1: openclaw.command: \"./openclaw\" must be absolute"), "{}", got[1]);
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
fn hostile_text_in_a_settings_file_reaches_nobodys_terminal() {
    let scene = Scene::new();
    scene.write("bad.toml", "[recall]\n\"a\\u001b[2J\\nerror: forged\\u202e\" = 1\n");
    let output = scene.moon().args(["--config", "bad.toml", "config", "check"]).assert().code(64).get_output().clone();
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("recall.a\\u{1b}[2J\\nerror: forged\\u{202e}"), "{text}");
}
