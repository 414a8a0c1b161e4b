//! What would fail later is told by the settings' check: an error when it can never work, a warning when this machine lacks it now.

use super::*;
use std::os::unix::fs::PermissionsExt;

/// The problems of a text, without the name of the file.
fn refused(scene: &Scene, text: &str) -> Vec<String> {
    let file = format!("{}:", scene.path("given.toml").display());
    let short = |line: String| line.strip_prefix(&file).map(str::to_owned).unwrap_or(line);
    problems(&scene.with_file(text)).into_iter().map(short).collect()
}

/// Each of these is wrong in itself: text, and how the problem begins.
#[track_caller]
fn each_refused(cases: &[(&str, &str)]) {
    let scene = Scene::new();
    for (text, begin) in cases {
        let got = refused(&scene, text);
        assert!(got.len() == 1 && got[0].starts_with(begin), "{text}\nwanted {begin}\ngot {got:#?}");
    }
}

fn recover(fields: &str) -> String {
    format!("[[health.recover]]\n{fields}\n")
}

#[test]
fn a_remedy_names_what_exists_or_is_refused_with_the_word_that_was_meant() {
    let process = "[[health.processes]]\nname = \"agent\"\nservice = \"a.service\"\n";
    let subject = format!("{process}{}", recover("rule = \"daemon_critical\"\nsubject = \"agnt\"\nactor = \"index\""));
    each_refused(&[
        (
            &recover("rule = \"daemon_critcal\"\nactor = \"index\""),
            "2:1: health.recover.rule: unknown rule of a check \"daemon_critcal\"; did you mean \"daemon_critical\"?",
        ),
        (
            &recover("rule = \"xyzzy\"\nactor = \"index\""),
            "2:1: health.recover.rule: unknown rule of a check \"xyzzy\"; there are backup.corrupt,",
        ),
        (
            &recover("rule = \"archive.failing\"\nactor = \"index\""),
            "2:1: health.recover.rule: no check raises \"archive.failing\", so nothing would be done; there are",
        ),
        (
            &recover("rule = \"index.behind\"\nactor = \"indx\""),
            "3:1: health.recover.actor: unknown actor \"indx\"; did you mean \"index\"?",
        ),
        (&subject, "6:1: health.recover.subject: alerts \"daemon_critical\" are about \"moon\" or a name of"),
        (
            &recover("rule = \"backup.old\"\nsubject = \"backups\"\nactor = \"backup\""),
            "3:1: health.recover.subject: alerts \"backup.old\" are about \"backup\", and never about \"backups\"; did you",
        ),
        (
            &format!(
                "[health]\ndatabases = [\"/a/*.db\"]\n{}",
                recover("rule = \"memory_corrupt\"\nsubject = \"b.db\"\nactor = \"index\"")
            ),
            "5:1: health.recover.subject: alerts \"memory_corrupt\" are about \"ledger\", the path of an archived object",
        ),
    ]);
    for subject in ["ledger", "archives/objects/3f/3fe1.jsonl.zst", "/a/b.db", ""] {
        let remedy = recover(&format!("rule = \"memory_corrupt\"\nsubject = {subject:?}\nactor = \"index\""));
        loaded(&Scene::new().with_file(&format!("[health]\ndatabases = [\"/a/*.db\"]\n{remedy}")));
    }
    let scene = Scene::new();
    let fine = subject.replace("agnt", "agent") + &recover("rule = \"index.behind\"\nactor = \"index\"");
    assert_eq!(loaded(&scene.with_file(&fine)).settings.health.recover.len(), 2);
    // A process with a mistake of its own is not missed on top.
    let got = refused(&scene, &subject.replace("service = \"a.service\"", "service = 5").replace("agnt", "agent"));
    assert!(got.len() == 1 && got[0].starts_with("3:11: health.processes.service"), "{got:?}");
}

#[test]
fn what_a_backup_could_never_be_made_with_is_refused() {
    each_refused(&[
        (
            "[backup]\nrecipients = [\n\"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\",\n\"age1nonsense\"]\n",
            "4:1: backup.recipients: is no age recipient: invalid Bech32",
        ),
        ("[backup]\nexclude = [\"*.tmp\", \"[a\"]\n", "2:21: backup.exclude: the pattern \"[a\" cannot be used:"),
        (
            "[backup]\nexclude = [\"*.{tmp,bak}\"]\n",
            "2:12: backup.exclude: the pattern \"*.{tmp,bak}\" cannot be used: {a,b}",
        ),
        (
            "[backup]\ns3_url = \"s3://my bucket/x\"\ns3_credentials_file = \"/c\"\n",
            "2:1: backup.s3_url: \"my bucket\" cannot be the name of a bucket",
        ),
        ("[backup]\ns3_url = \"s3://bucket\"\n", "2:1: backup.s3_credentials_file: must be set with backup.s3_url"),
        (
            "[backup]\ns3_url = \"s3://bucket\"\ns3_credentials_file = \"/c\"\ns3_region = \"\"\n",
            "4:1: backup.s3_region: must be set with backup.s3_url",
        ),
        ("[backup]\ns3_endpoint = \"https://host:port\"\n", "2:1: backup.s3_endpoint: cannot be read as an address"),
        ("[backup]\nat = \"0 2 31 2 *\"\n", "2:1: backup.at: \"0 2 31 2 *\" is not a cron expression"),
    ]);
    // What may be an identity by mistake is never shown.
    let got = refused(&Scene::new(), "[backup]\nrecipients = [\"age1secret\"]\n");
    assert!(!got[0].contains("age1secret"), "{got:?}");
}

#[test]
fn routes_that_could_never_deliver_are_refused() {
    let route = |fields: &str| format!("[[alerts.routes]]\nname = \"r\"\n{fields}\n");
    let scene = Scene::new();
    let template = scene.write("bad.j2", "{\n\"a\": {{ title }\n}\n");
    let unknown = scene.write("unknown.j2", "{ \"a\": {{ titel }} }\n");
    let hook = |file: &Path| route(&format!("kind = \"webhook\"\nurl = \"https://example.org\"\ntemplate = {file:?}"));
    each_refused(&[
        (
            "[alerts]\nemail_to = [\"a b@example.org\"]\n",
            "2:13: alerts.email_to: \"a b@example.org\" is not an e-mail address",
        ),
        (
            &route("kind = \"email\"\nhost = \"h\"\nto = [\"me@example.org\", \"a b@c\"]"),
            "5:1: alerts.routes.to: \"a b@c\" is not an e-mail address",
        ),
        (
            &route("kind = \"email\"\nhost = \"h\"\nfrom = \"Moon <moon@@x>\"\nto = [\"me@example.org\"]"),
            "5:1: alerts.routes.from: \"Moon <moon@@x>\" is not an e-mail address",
        ),
        (
            &route("kind = \"webhook\"\nurl = \"https://10.0.0.1/hook\""),
            "4:1: alerts.routes.url: Moon does not post to 10.0.0.1: that is not an address of",
        ),
        (
            &route("kind = \"alertmanager\"\nurl = \"https://localhost:9093\""),
            "4:1: alerts.routes.url: Moon does not post to localhost:9093",
        ),
        (&route("kind = \"webhook\"\nurl = \"https://[1\""), "4:1: alerts.routes.url: cannot use the address in url"),
        (
            &hook(&template),
            &format!("5:1: alerts.routes.template: {template:?}: the template cannot be used: syntax error"),
        ),
        (
            &hook(&unknown),
            &format!("5:1: alerts.routes.template: {unknown:?}: the template cannot be used: undefined value"),
        ),
    ]);
    let fine = route("kind = \"alertmanager\"\nurl = \"https://localhost:9093\"\nallow_private = true");
    assert_eq!(loaded(&scene.with_file(&fine)).settings.alerts.routes.len(), 1);
}

#[test]
fn patterns_and_addresses_that_nobody_could_use_are_refused() {
    let scene = Scene::new();
    let in_home = scene.path(".lilac_metaflora/state/*").display().to_string();
    each_refused(&[
        (
            "[health]\ndatabases = [\"/a/x**y.db\"]\n",
            "2:14: health.databases: the pattern \"/a/x**y.db\" cannot be used:",
        ),
        (
            "[[health.logs]]\nname = \"a\"\npath = \"/a/[x\"\n",
            "3:1: health.logs.path: the pattern \"/a/[x\" cannot be used:",
        ),
        ("[[rotation.files]]\npath = \"/a/[x\"\n", "2:1: rotation.files.path: the pattern \"/a/[x\" cannot be used:"),
        (
            "[[rotation.files]]\npath = \"a.log\"\n",
            "2:1: rotation.files.path: \"a.log\": path must be absolute or begin with ~/",
        ),
        ("[[health.endpoints]]\nname = \"a\"\nurl = \"tcp://host\"\n", "3:1: health.endpoints.url: a: needs a port"),
        (
            "[[health.endpoints]]\nname = \"a\"\nurl = \"http://h:x/\"\n",
            "3:1: health.endpoints.url: a: cannot be read as an address",
        ),
    ]);
    let got = refused(&scene, &format!("[[rotation.files]]\npath = {in_home:?}\n"));
    assert!(got.len() == 1 && got[0].contains("names files of Moon's home, which are no logs"), "{got:?}");
}

/// What the check of a text warns of, and how it ends.
fn warned(scene: &Scene, text: &str) -> (Vec<String>, i32) {
    scene.write("given.toml", text);
    let mut command = scene.moon();
    let (report, code) =
        json(command.env("PATH", "/usr/bin:/bin").args(["--config", "given.toml", "--json", "config", "check"]));
    assert_eq!(report["ok"], code == 0, "{report}");
    let text = scene
        .moon()
        .env("PATH", "/usr/bin:/bin")
        .args(["--config", "given.toml", "config", "check"])
        .output()
        .expect("runs")
        .stdout;
    let told = String::from_utf8(text).expect("text").lines().filter(|line| line.starts_with("warning: ")).count();
    assert!(code != 0 || told == report["issues"].as_array().expect("a list").len(), "{report}");
    let warnings = report["data"]["warnings"].as_array().expect("a list").iter();
    let said = |w: &Value| {
        let place = w["place"].as_str().expect("text").rsplit_once("given.toml:").map_or("", |(_, place)| place);
        format!("{place}: {}: {}", w["key"].as_str().expect("text"), w["message"].as_str().expect("text"))
    };
    (warnings.map(said).collect(), code)
}

#[test]
fn what_this_machine_lacks_now_is_a_warning_with_its_place_and_stops_nobody() {
    let scene = Scene::new();
    let there = scene.write("there.log", "x\n").display().to_string();
    let text = "[watch]\ntranscripts_dir = \"~/none\"\n\
        [openclaw]\ntoken_file = \"~/none\"\n\
        [health]\ndatabases = [\"~/none.db\", \"~/*.db\"]\n\
        [[health.logs]]\nname = \"a\"\npath = \"~/none.log\"\n\
        [[health.logs]]\nname = \"b\"\npath = \"THERE\"\n\
        [[health.commands]]\nname = \"c\"\nargv = [\"THERE\"]\n\
        [[health.recover]]\nrule = \"disk_low\"\nargv = [\"~/none\"]\n\
        [[health.processes]]\nname = \"p\"\npid_file = \"~/none/a.pid\"\n\
        [[alerts.routes]]\nname = \"w\"\nkind = \"webhook\"\nurl_file = \"~/none\"\n\
        [[alerts.routes]]\nname = \"t\"\nkind = \"webhook\"\nurl = \"https://example.org\"\ntemplate = \"$CREDENTIALS_DIRECTORY/t\"\n\
        [backup]\ninclude = [\"~\", \"~/none\"]\nfolder = \"THERE/x\"\nidentity_file = \"~/none\"\nrecipients_file = \"THERE\"\n\
        s3_credentials_file = \"THERE\"\n\
        [[rotation.files]]\npath = \"~/none/*.log\"\ncommand = [\"no-such-program-here\"]\n\
        [dashboard]\nhtml_file = \"/none/a.html\"\n\
        [service]\nread = [\"/none\"]\n\
        [[alerts.routes]]\nname = \"c\"\nkind = \"command\"\nargv = [\"THERE\"]\n"
        .replace("THERE", &there);
    let (got, code) = warned(&scene, &text);
    assert_eq!(code, 0);
    let wanted = [
        "2:1: watch.transcripts_dir: ",
        "4:1: openclaw.token_file: ",
        "6:14: health.databases: ",
        "6:27: health.databases: no file matches ~/*.db",
        "21:1: health.processes.pid_file: ",
        "9:1: health.logs.path: ",
        "15:1: health.commands.argv: ",
        "18:1: health.recover.argv: ",
        "22:1: alerts.routes: the alert route \"w\" cannot deliver",
        "26:1: alerts.routes: the alert route \"t\" cannot deliver: cannot find template: CREDENTIALS_DIRECTORY is not set",
        "33:1: backup.folder: ",
        "32:17: backup.include: ",
        "35:1: backup.recipients_file: ",
        "34:1: backup.identity_file: ",
        "36:1: backup.s3_credentials_file: could not use the credentials",
        ": backup.s3_url: is empty, so no backup is sent",
        "38:1: rotation.files.path: no file matches",
        "39:1: rotation.files.command: there is no program \"no-such-program-here\"",
        "41:1: dashboard.html_file: ",
        "43:9: service.read: /none is not there",
        "44:1: alerts.routes: the alert route \"c\" cannot deliver: the command of the route is not there, or may not be run",
    ];
    for begin in wanted {
        assert!(got.iter().any(|line| line.starts_with(begin)), "{begin:?} is missing in\n{}", got.join("\n"));
    }
    assert_eq!(got.len(), wanted.len(), "{}", got.join("\n"));
}

#[test]
fn a_folder_that_would_be_backed_up_twice_is_told_at_its_place() {
    let scene = Scene::new();
    for folder in ["agent/deep", "agent2", "home/memory"] {
        std::fs::create_dir_all(scene.path(folder)).expect("folders");
    }
    std::os::unix::fs::symlink(scene.path("agent2"), scene.path("way")).expect("a link");
    let text = "[backup]\ninclude = [\n\"HERE/agent/deep\",\n\"HERE/agent\",\n\"HERE/agent2\",\n\"HERE/way/\",\n\"HERE/home/memory\"]\n";
    let here = scene.path("");
    let text = text.replace("HERE/", &here.display().to_string());
    let mut command = scene.moon();
    scene.write("given.toml", &text);
    command.arg("--home").arg(scene.path("home")).args(["--config", "given.toml", "--json", "config", "check"]);
    let (report, code) = json(&mut command);
    assert_eq!(code, 0, "{report}");
    let warnings = report["data"]["warnings"].as_array().expect("a list").iter();
    let said: Vec<String> = warnings.map(|w| format!("{}: {}", w["place"], w["message"])).collect();
    for (line, words) in
        [(3, "/agent: leave out one of them"), (6, "/agent2: leave out one of them"), (7, "lies in the home")]
    {
        let is_this = |one: &&String| one.contains(&format!("given.toml:{line}:1\"")) && one.contains(words);
        assert!(said.iter().any(|one| is_this(&one)), "{line} {words}: {said:#?}");
    }
    assert_eq!(said.len(), 3, "{said:#?}");
}

#[test]
fn an_entry_of_a_flag_is_named_by_its_number() {
    let scene = Scene::new();
    let mut sources = scene.sources();
    let right = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    sources.set = vec![format!("backup.recipients=[\"{right}\", \"age1nonsense\"]")];
    let got = problems(&sources);
    assert!(got.len() == 1 && got[0].starts_with("--set: backup.recipients: entry 2: is no age recipient"), "{got:?}");
}

#[test]
fn settings_whose_files_and_programs_are_there_have_nothing_to_tell() {
    let scene = Scene::new();
    let script = scene.write("run", "#!/bin/sh\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).expect("mode");
    scene.write("a.db", "");
    let text = "[health]\ndatabases = [\"~/*.db\"]\n[[health.commands]]\nname = \"c\"\nargv = [\"~/run\"]\n\
        [[rotation.files]]\npath = \"~/a.db\"\ncommand = [\"sh\"]\n[backup]\ninclude = [\"~\"]\nfolder = \"~/not/made/yet\"\n";
    assert_eq!(warned(&scene, text), (vec![], 0));
    assert_eq!(warned(&scene, include_str!("../../moon.toml.example")), (vec![], 0));
}

#[test]
fn spans_are_shown_as_they_are_written_in_the_example() {
    let scene = Scene::new();
    let shown = loaded(&scene.sources()).entries().expect("entries");
    let mut spans = 0;
    for (section, fields) in include_str!("../../moon.toml.example").parse::<toml::Table>().expect("TOML") {
        for (field, value) in fields.as_table().expect("a section") {
            let text = value.as_str().filter(|text| humantime::parse_duration(text).is_ok());
            let Some(text) = text else { continue };
            let key = format!("{section}.{field}");
            let (_, value, _) = shown.iter().find(|(known, ..)| *known == key).expect("shown");
            assert_eq!(*value, format!("{text:?}"), "{key}");
            spans += 1;
        }
    }
    assert!(spans > 30, "{spans}");
}

#[test]
fn what_is_odd_and_what_the_machine_lacks_is_told_beside_what_is_wrong_and_nothing_of_it_twice() {
    let scene = Scene::new();
    let text = "[watch]\npolll = \"1m\"\n[backup]\ninclude = [\"/nowhere\"]\n\
                [[alerts.routes]]\nname = \"a\"\nkind = \"webhook\"\nurl = \"https://10.0.0.1/\"\n";
    let file = scene.write("given.toml", text);
    let ran = |words: &[&str]| {
        let mut command = scene.moon();
        let output = command.args(["--config"]).arg(&file).args(words).env("MOON_ZZZ", "1").output().expect("runs");
        assert_eq!(output.status.code(), Some(64));
        String::from_utf8(output.stdout).expect("text")
    };
    let text = ran(&["config", "check"]);
    let said: Vec<&str> = text.lines().map(|line| line.split("given.toml").last().expect("a line")).collect();
    let wanted = [
        ":2:1: watch.polll: unknown key; did you mean \"poll\"?",
        ":8:1: alerts.routes.url: Moon does not post to 10.0.0.1: that is not an address of the public internet (allow_",
        "warning: unknown variables are ignored: MOON_ZZZ",
        ":4:12: backup.include: /nowhere: No such file or directory",
    ];
    assert!(said.len() == 4 && said.iter().zip(wanted).all(|(said, begin)| said.starts_with(begin)), "{said:#?}");
    assert!(text.lines().nth(3).is_some_and(|line| line.starts_with("warning: ")), "{text}");
    let report: Value = serde_json::from_str(&ran(&["config", "check", "--json"])).expect("JSON");
    let of = |what: &str| report["data"][what].as_array().map(Vec::len);
    assert_eq!((of("problems"), of("warnings")), (Some(2), Some(1)), "{report}");
    // A section says what it has when nothing in it is near.
    let set = scene.moon().args(["--set", "health.nope=1", "config", "check"]).output().expect("runs").stdout;
    let set = String::from_utf8(set).expect("text");
    assert!(set.starts_with("issue: --set: health.nope: unknown key; there are every, "), "{set}");
}
