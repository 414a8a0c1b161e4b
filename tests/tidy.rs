//! The laws of this repository as tests: where things may stand, what must be written down, what must be absent.
//!
//! They read the sources as text, because each of them is about something the compiler does not see. A law that is broken fails
//! with the place; an exception is named here with its reason and fails when it is no longer needed. It must never change a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::Value;

#[path = "../deploy/link/build.rs"]
#[allow(dead_code, clippy::print_stdout, reason = "its main speaks to cargo")]
mod link;

/// Longest function in product code, lines, signature and closing brace included.
const LONGEST_FUNCTION: usize = 70;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files of the project, relative, sorted: everything but what is built, downloaded or Git's own.
fn files() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a listable folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            match path.symlink_metadata().expect("metadata").is_dir() {
                true if ["target", ".git", "node_modules"].contains(&name.as_str()) => {}
                true => walk(&path, found),
                // In a worktree `.git` is a file.
                false if name == ".git" => {}
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    let relative = |path: PathBuf| path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
    let mut found: Vec<String> = found.into_iter().map(relative).collect();
    found.sort();
    assert!(found.len() > 100, "the project is there: {} files", found.len());
    found
}

fn read(file: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(root().join(file)).expect("readable")).into_owned()
}

fn rust() -> impl Iterator<Item = String> {
    files().into_iter().filter(|file| file.ends_with(".rs"))
}

/// Product sources without their tests: (file, code). Lines stay where they are; lines of tests and comments are emptied.
fn product() -> Vec<(String, String)> {
    let in_product = |file: &String| file.starts_with("src/") || file.starts_with("actors/src/");
    let of_tests = |file: &str| file.ends_with("/tests.rs") || file.ends_with("_tests.rs");
    let code: Vec<_> = rust()
        .filter(in_product)
        .filter(|file| !of_tests(file))
        .map(|f| (f.clone(), without_tests(&read(&f))))
        .collect();
    assert!(code.len() > 80, "the product is there: {} files", code.len());
    code
}

/// Empties comments, and every item behind a `cfg` that names tests. rustfmt puts an item's end at its own indentation.
fn without_tests(text: &str) -> String {
    let (mut code, mut inside) = (Vec::new(), None::<String>);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let trimmed = line.trim_start();
        let indent = &line[..line.len() - trimmed.len()];
        if let Some(end) = &inside {
            if ["}", "};", ")"].iter().any(|closing| line == format!("{end}{closing}")) {
                inside = None;
            }
            code.push("");
        } else if trimmed.starts_with("#[cfg(") && trimmed.contains("test") {
            code.push("");
            while lines.peek().is_some_and(|next| next.trim_start().starts_with("#[")) {
                lines.next();
                code.push("");
            }
            let item = lines.next().unwrap_or_default();
            code.push("");
            if !item.trim_end().ends_with([';', '}', ',']) {
                inside = Some(indent.to_owned());
            }
        } else if trimmed.starts_with("//") {
            code.push("");
        } else {
            code.push(line);
        }
    }
    code.join("\n")
}

/// Whole words of a text.
fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect()
}

/// Contents of the plain string literals of a text that hold neither escape nor quote.
fn literals(text: &str) -> BTreeSet<&str> {
    text.lines().flat_map(|line| line.split('"').skip(1).step_by(2)).collect()
}

/// The text between `before` and the next quote, for every `before`.
fn quoted_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    text.match_indices(before)
        .filter_map(|(at, _)| text[at + before.len()..].trim_start().strip_prefix('"'))
        .filter_map(|rest| rest.split_once('"').map(|(literal, _)| literal))
        .collect()
}

fn is_noun_reason(text: &str) -> bool {
    let is_word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    text.split_once('.').is_some_and(|(noun, reason)| is_word(noun) && is_word(reason))
}

fn nothing(broken: &[String], law: &str) {
    assert!(broken.is_empty(), "{law}:\n{}", broken.join("\n"));
}

/// `file:line` of every product line for which `is_broken` holds.
fn lines_where(is_broken: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut broken = Vec::new();
    for (file, code) in product() {
        for (number, line) in code.lines().enumerate() {
            if is_broken(&file, line) {
                broken.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    broken
}

#[test]
fn every_source_file_opens_with_what_it_is() {
    let broken: Vec<String> = rust().filter(|file| !read(file).starts_with("//! ")).collect();
    nothing(&broken, "the first line of a source file says what it is (`//! …`)");
}

#[test]
fn only_actors_know_the_actor_library() {
    let may = |file: &str| {
        let below = file.strip_prefix("actors/src/").unwrap_or_default();
        below.starts_with("supervisor/")
            || below.starts_with("control/")
            || below.ends_with("/actor.rs")
            || below == "projection/mod.rs"
    };
    let broken = lines_where(|file, line| !may(file) && words(line).contains("ractor"));
    nothing(&broken, "ractor is named outside of actors");
}

#[test]
fn policies_are_pure() {
    let ports = read("actors/src/port/mod.rs");
    let mut traits = BTreeSet::new();
    for file in rust().filter(|file| file.starts_with("actors/src/port/")) {
        let text = read(&file);
        traits.extend(
            text.split("pub trait ")
                .skip(1)
                .filter_map(|rest| words(rest.split(':').next()?).pop_first().map(str::to_owned)),
        );
    }
    assert!(traits.len() >= 10 && traits.contains("Ledger") && ports.contains("Ledger"), "{traits:?}");
    let forbidden = ["async", "await", "SystemTime", "Instant", "tokio", "fs", "net", "process", "env"];
    let broken = lines_where(|file, line| {
        file.ends_with("/policy.rs")
            && (words(line).iter().any(|w| forbidden.contains(w) || traits.contains(*w)) || line.contains("::now("))
    });
    nothing(&broken, "a policy waits, looks at a clock or knows a port");
    assert!(product().iter().filter(|(file, _)| file.ends_with("/policy.rs")).count() >= 3);
}

#[test]
fn the_core_depends_on_no_library_that_touches_the_world() {
    let known = [
        "aho-corasick",
        "async-trait",
        "chrono",
        "croner",
        "data-encoding",
        "humantime",
        "ractor",
        "regex",
        "serde",
        "serde_json",
        "sha2",
        "strsim",
        "thiserror",
        "tokio",
        "tracing",
    ];
    let manifest: toml::Table = read("actors/Cargo.toml").parse().expect("TOML");
    for section in ["dependencies", "build-dependencies", "target"] {
        let named =
            manifest.get(section).and_then(Value::as_table).into_iter().flatten().map(|(name, _)| name.as_str());
        let strangers: Vec<_> = named.filter(|name| !known.contains(name)).collect();
        assert_eq!(strangers, Vec::<&str>::new(), "look whether it does I/O, then add it to this list");
    }
    let features = manifest["dependencies"]["tokio"]["features"].as_array().expect("a list");
    let features: Vec<_> = features.iter().filter_map(Value::as_str).collect();
    assert_eq!(features, ["rt", "sync", "time", "macros"], "tokio without its I/O");
}

#[test]
fn functions_fit_a_screen() {
    let mut broken = Vec::new();
    let mut functions = 0;
    for (file, code) in product() {
        let lines: Vec<&str> = code.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let trimmed = line.trim_start();
            let mut before = trimmed.split(" fn ").next().unwrap_or_default().split(' ');
            let is_function = (trimmed.starts_with("fn ") || trimmed.contains(" fn "))
                && (trimmed.starts_with("fn ")
                    || before.all(|w| ["pub", "pub(super)", "pub(crate)", "async", "const"].contains(&w)));
            if !is_function {
                continue;
            }
            functions += 1;
            let name = trimmed.split("fn ").nth(1).unwrap_or_default();
            let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let end = format!("{}}}", &line[..line.len() - trimmed.len()]);
            // rustfmt puts the end of a body, and of a declaration without one, at the function's own indentation.
            let is_end = |l: &str| l == end || l.starts_with(&end.replace('}', ")")) && l.ends_with(';');
            let is_one_line = line.ends_with(['}', ';']);
            let length = if is_one_line { 1 } else { 1 + lines[start..].iter().position(|l| is_end(l)).expect("ends") };
            if length > LONGEST_FUNCTION {
                broken.push(format!("{file}:{}: {name} has {length} lines", start + 1));
            }
        }
    }
    assert!(functions > 1000, "functions were found: {functions}");
    nothing(&broken, "functions longer than a screen");
}

#[test]
fn nothing_in_the_product_unwraps() {
    let broken = lines_where(|_, line| line.contains(".unwrap()") || line.contains(".unwrap_err()"));
    nothing(&broken, "`expect` says why it cannot fail");
}

#[test]
fn only_the_output_prints() {
    let printing = ["println!", "eprintln!", "print!(", "eprint!(", "dbg!"];
    let broken = lines_where(|file, line| file != "src/cli/output.rs" && printing.iter().any(|p| line.contains(p)));
    nothing(&broken, "stdout and stderr belong to src/cli/output.rs");
}

#[test]
fn a_panic_unwinds_in_the_release() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    assert_eq!(manifest["profile"]["release"]["panic"].as_str(), Some("unwind"), "the supervisor lives from unwinding");
}

#[test]
fn every_actor_of_the_tree_is_in_the_architecture() {
    let tree = read("actors/src/tree.rs");
    let names: Vec<&str> =
        ["supervisor(", ".vital(", ".optional("].iter().flat_map(|before| quoted_after(&tree, before)).collect();
    assert!(names.len() >= 40, "{names:?}");
    let text = read("docs/architecture.md");
    let missing: Vec<String> =
        names.iter().filter(|name| !text.contains(&format!("\n| `{name}` | "))).map(|n| (*n).to_owned()).collect();
    nothing(&missing, "actors without a row in docs/architecture.md");
    let mut below: Vec<&str> = names.into_iter().filter(|name| *name != "moon").collect();
    let mut listed = moon_actors::tree::NAMES.to_vec();
    below.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, below, "tree::NAMES, which `[[health.recover]] actor` is compared with, and the tree");
}

#[test]
fn the_rules_of_checks_are_those_that_checks_raise() {
    let mut raised = BTreeSet::from(["health.unknown".to_owned()]);
    for (file, code) in product().into_iter().filter(|(file, _)| file.starts_with("src/adapters/checks/")) {
        let found: Vec<&str> =
            literals(&code).into_iter().filter(|word| moon_actors::alert::rules::find(word).is_some()).collect();
        assert!(found.is_empty() || code.contains("AlertRules"), "{file}: {found:?}");
        raised.extend(found.into_iter().map(str::to_owned));
    }
    let listed: BTreeSet<String> = moon_actors::alert::rules::OF_CHECKS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(listed, raised, "alert::rules::OF_CHECKS, which `[[health.recover]] rule` is compared with");
}

/// Error codes with file and kind: what stands in an `Error::kind("…"`, directly or by a constant, and `error_code = Some("…"`.
fn error_codes() -> BTreeMap<String, (String, BTreeSet<&'static str>)> {
    let product = product();
    let mut constants = BTreeMap::new();
    for (_, code) in &product {
        for line in code.lines().filter(|line| line.contains("const ") && line.contains("&str = \"")) {
            let name = line.split("const ").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or_default();
            constants.extend(quoted_after(line, "= ").first().map(|value| (name.to_owned(), (*value).to_owned())));
        }
    }
    let mut codes: BTreeMap<String, (String, BTreeSet<&str>)> = BTreeMap::new();
    for (file, code) in &product {
        for kind in ["transient", "unavailable", "config", "data", "conflict", "new"] {
            for (at, before) in code.match_indices(&format!("Error::{kind}(")) {
                let mut argument = code[at + before.len()..].trim_start();
                if kind == "new" {
                    // `Error::new(kind, code, …)`; `io::Error::new` has no code.
                    let Some((first, rest)) = argument.split_once(',') else { continue };
                    if !first.starts_with("Kind::") && first != "kind" {
                        continue;
                    }
                    argument = rest.trim_start();
                }
                let found = match argument.strip_prefix('"') {
                    Some(rest) => rest.split('"').next().unwrap_or_default().to_owned(),
                    None => {
                        let path = argument.split([',', ')']).next().unwrap_or_default();
                        constants.get(path.rsplit("::").next().unwrap_or_default()).cloned().unwrap_or_default()
                    }
                };
                if is_noun_reason(&found) {
                    let known = codes.entry(found).or_insert_with(|| (file.clone(), BTreeSet::new()));
                    known.1.extend((kind != "new").then_some(kind));
                }
            }
        }
        for audited in quoted_after(code, "error_code = Some(") {
            codes.entry(audited.to_owned()).or_insert_with(|| (file.clone(), BTreeSet::new()));
        }
    }
    assert!(codes.len() > 100, "codes were found: {}", codes.len());
    codes
}

/// Literals with the shape of a code and the first word of one, which are something else.
const OTHER: [&str; 7] = [
    "config.home",     // a path in the plugin's entry
    "session.message", // methods and events of the gateway
    "sessions.changed",
    "sessions.compact",
    "sessions.get",
    "sessions.list",
    "sessions.reset",
];

#[test]
fn every_error_code_is_in_the_failure_policy() {
    let (codes, text) = (error_codes(), read("docs/failure_policy.md"));
    let is_listed = |code: &str| text.contains(&format!("`{code}`"));
    let mut missing: Vec<String> =
        codes.iter().filter(|(code, _)| !is_listed(code)).map(|(code, (file, _))| format!("{code} ({file})")).collect();
    for (code, (file, kinds)) in &codes {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{code}` |"))).unwrap_or_default();
        let told = words(row.split('|').nth(2).unwrap_or_default());
        missing.extend((!kinds.is_subset(&told)).then(|| format!("{code} is {kinds:?} in {file}")));
    }
    // A code that reaches its error by a variable is a literal somewhere, too.
    let nouns: BTreeSet<&str> = codes.keys().filter_map(|code| code.split('.').next()).collect();
    let (keys, points, mut needed) = (moon::config::keys(), probe_points(), BTreeSet::new());
    for (file, code) in product() {
        for literal in literals(&code).into_iter().filter(|l| is_noun_reason(l)) {
            needed.extend(OTHER.into_iter().find(|other| *other == literal));
            let is_file = ["json", "jsonl", "js"].iter().any(|end| literal.ends_with(&format!(".{end}")));
            let is_code = !is_file
                && nouns.contains(literal.split('.').next().unwrap_or_default())
                && !keys.iter().any(|key| key == literal)
                && !points.contains_key(literal)
                && !OTHER.contains(&literal);
            if is_code && !is_listed(literal) && !codes.contains_key(literal) {
                missing.push(format!("{literal} ({file})"));
            }
        }
    }
    nothing(&missing, "codes that docs/failure_policy.md does not list, or with another kind");
    assert_eq!(needed.len(), OTHER.len(), "an exception is no longer needed: {needed:?}");
}

#[test]
fn the_failure_policy_lists_no_code_that_is_gone() {
    let product: Vec<_> = product().into_iter().map(|(_, code)| code).collect();
    let text = read("docs/failure_policy.md");
    let listed = text.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('`').nth(1));
    let listed: Vec<&str> = listed.filter(|name| is_noun_reason(name)).collect();
    assert!(listed.len() > 100, "the codes stand in tables: {}", listed.len());
    let gone: Vec<String> = listed
        .iter()
        .filter(|code| {
            let (noun, reason) = code.split_once('.').expect("has the shape");
            // `archive.failing` and its like are put together from the name of a stage or of a task.
            let is_task = moon_actors::schedule::Task::ALL.iter().any(|task| task.as_str() == noun);
            let composed = (["failing", "quarantined"].contains(&reason)
                && moon_actors::domain::Stage::parse(noun).is_some())
                || (reason == "failing" && is_task);
            !composed && !product.iter().any(|text| text.contains(&format!("\"{code}\"")))
        })
        .map(|code| (*code).to_owned())
        .collect();
    nothing(&gone, "codes in docs/failure_policy.md that the source does not have");
}

#[test]
fn every_alert_rule_is_in_the_failure_policy_and_the_runbook() {
    let mut rules = BTreeSet::new();
    for (_, code) in product() {
        rules.extend(quoted_after(&code, "AlertKey::new(").into_iter().map(str::to_owned));
    }
    // What is put together from names stands in the catalogue; what a source names must stand there, too.
    let strangers: Vec<String> =
        rules.iter().filter(|rule| moon_actors::alert::rules::find(rule).is_none()).cloned().collect();
    nothing(&strangers, "alert rules that the catalogue (actors/src/alert/rules.rs) does not hold");
    rules.extend(moon_actors::alert::rules::CATALOGUE.iter().map(|rule| rule.name.to_owned()));
    for task in moon_actors::schedule::Task::ALL {
        rules.insert(format!("{}.failing", task.as_str()));
    }
    assert!(rules.len() >= 14, "{rules:?}");
    for document in ["docs/failure_policy.md", "docs/runbook.md"] {
        let text = read(document);
        let missing: Vec<String> = rules.iter().filter(|rule| !text.contains(&format!("`{rule}`"))).cloned().collect();
        nothing(&missing, &format!("alert rules that {document} does not name"));
    }
}

#[test]
fn the_failure_policy_has_one_row_for_each_rule_and_each_code() {
    let text = read("docs/failure_policy.md");
    let (_, rest) = text.split_once("\n## Alert rules\n").expect("the rules");
    let (rules, codes) = rest.split_once("\n## Codes\n").expect("the codes");
    let names = |part: &str| -> Vec<String> {
        let rows = part.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
        rows.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let (rules, codes) = (names(rules), names(codes));
    let more_than_once = |names: &[String]| {
        let mut seen = BTreeSet::new();
        names.iter().filter(|name| !seen.insert(name.as_str())).cloned().collect::<Vec<_>>()
    };
    nothing(&more_than_once(&rules), "alert rules that docs/failure_policy.md lists again: two rows will differ");
    nothing(&more_than_once(&codes), "codes that docs/failure_policy.md lists again: two rows will differ");
    let catalogue = moon_actors::alert::rules::CATALOGUE.iter().map(|rule| rule.name.to_owned());
    let (listed, known) = (rules.into_iter().collect::<BTreeSet<_>>(), catalogue.collect::<BTreeSet<_>>());
    let stray: Vec<String> = listed.symmetric_difference(&known).cloned().collect();
    nothing(&stray, "alert rules that only one of the catalogue and the table of docs/failure_policy.md has");
}

#[test]
fn nothing_recommends_that_others_may_read() {
    let wide = [
        concat!("06", "44"),
        concat!("07", "55"),
        concat!("chmod ", "644"),
        concat!("chmod ", "755"),
        concat!("=", "0644"),
    ];
    let is_advice = |file: &String| {
        ["md", "toml", "example", "service", "plist", "json"].iter().any(|e| file.ends_with(&format!(".{e}")))
    };
    let mut broken = Vec::new();
    for file in files().into_iter().filter(is_advice) {
        let text = read(&file);
        broken.extend(wide.iter().filter(|mode| text.contains(*mode)).map(|mode| format!("{file}: {mode}")));
    }
    nothing(&broken, "data is for its owner only: 0600 and 0700");
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let foreign = [concat!("../", "shared"), concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    let mut broken = Vec::new();
    for file in files() {
        let text = read(&file);
        broken.extend(foreign.iter().filter(|path| text.contains(*path)).map(|path| format!("{file}: {path}")));
    }
    nothing(&broken, "a path that exists on one machine only");
}

/// Every place where a test may stop the world, with how often it is named.
fn probe_points() -> BTreeMap<String, usize> {
    let mut points = BTreeMap::new();
    for (file, code) in product() {
        let borders = file == "actors/src/stage/pass.rs";
        let reached = quoted_after(&code, ".reach(").into_iter().chain(
            code.lines()
                .filter(|line| borders && line.trim_start().starts_with("Stage::"))
                .flat_map(|line| line.split('"').skip(1).step_by(2)),
        );
        for point in reached {
            *points.entry(point.to_owned()).or_insert(0) += 1;
        }
    }
    points
}

#[test]
fn every_probe_point_has_a_name_of_its_own() {
    let points = probe_points();
    assert!(points.len() >= 25, "{points:?}");
    let odd: Vec<String> =
        points.iter().filter(|(p, n)| **n != 1 || !is_noun_reason(p)).map(|(p, n)| format!("{p}: {n} times")).collect();
    nothing(&odd, "probe points are named `stage.step`, each once");
}

/// `moon` commands that a text names: the words behind "`moon ".
fn commands_in(text: &str) -> Vec<String> {
    let name = |rest: &str| {
        let mut words = rest.split('`').next().unwrap_or_default().split_whitespace().map(str::to_owned);
        words.find(|word| !word.starts_with('-') && !word.contains('/')).unwrap_or_default()
    };
    text.match_indices("`moon ").map(|(at, before)| name(&text[at + before.len()..])).collect()
}

#[test]
fn nobody_is_told_to_run_a_command_that_does_not_exist() {
    let cli = <moon::cli::Cli as clap::CommandFactory>::command();
    let known: BTreeSet<&str> = cli.get_subcommands().flat_map(|c| c.get_all_aliases().chain([c.get_name()])).collect();
    let mut sources = product();
    sources.extend(files().into_iter().filter(|file| file.ends_with(".md")).map(|file| (file.clone(), read(&file))));
    let mut strangers = Vec::new();
    for (file, text) in sources {
        let is_command = |word: &String| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        let unknown = commands_in(&text).into_iter().filter(is_command).filter(|word| !known.contains(word.as_str()));
        strangers.extend(unknown.map(|word| format!("{file}: moon {word}")));
    }
    nothing(&strangers, "commands that Moon does not have");
}

#[test]
fn what_is_laid_out_apart_still_exists_and_stands_in_order() {
    let list = read("deploy/link/seldom.txt");
    let names: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(names.len() > 100, "the list is there: {} lines", names.len());
    assert!(names.is_sorted_by(|a, b| a < b), "sorted, each once");
    let lock: Value = toml::from_str(&read("Cargo.lock")).expect("TOML");
    let mut crates: BTreeSet<String> = ["alloc", "core", "std"].map(String::from).into();
    let packages = lock["package"].as_array().expect("packages");
    crates.extend(packages.iter().map(|package| package["name"].as_str().expect("a name").replace('-', "_")));
    // Two whose library has another name than the package.
    crates.extend(["md5", "webpki"].map(String::from));
    let is_there = |name: &&&str| {
        let parts: Vec<&str> = name.trim_start_matches('<').split("::").collect();
        let below = match parts[0] {
            "moon" => "src",
            "moon_actors" => "actors/src",
            _ => return crates.contains(parts[0]) || name.ends_with("()"),
        };
        // What stands in the crate's root is no module.
        parts.len() < 3 || [".rs", ""].iter().any(|end| root().join(format!("{below}/{}{end}", parts[1])).exists())
    };
    let gone: Vec<String> = names.iter().filter(|name| !is_there(name)).map(|name| (*name).to_owned()).collect();
    nothing(&gone, "a line of deploy/link/seldom.txt names what is built in (deploy/link/record writes it anew)");
}

#[test]
fn a_line_of_the_layout_means_functions_of_a_module_and_methods_of_its_types() {
    let script =
        link::script("# why\nmoon::cli::dispatch\nsqlite3Pragma()\n<moon::home::Home as core::fmt::Debug>::fmt\n");
    for symbol in [
        ".text._ZN4moon3cli8dispatch*",
        ".text.unlikely._ZN4moon3cli8dispatch*",
        ".text._ZN*_$LT$moon..cli..dispatch..*",
        ".text._ZN*_$LT$moon..cli..dispatch$*",
        "*(.text.sqlite3Pragma .text.unlikely.sqlite3Pragma)",
        ".text._ZN*_$LT$moon..home..Home$u20$as$u20$core..fmt..Debug$GT$3fmt*",
    ] {
        assert!(script.contains(symbol), "{symbol} in\n{script}");
    }
    assert!(!script.contains('#') && script.ends_with("INSERT AFTER .text;\n"), "{script}");
}
