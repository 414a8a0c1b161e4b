//! Files that a session touched, from tool calls and from paths that people wrote.
//!
//! A call says what was done to a path; a mention only that it matters. Must never read a file or take a path for
//! anything but text.

/// What was done to a file; the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touch {
    Mentioned,
    Read,
    Used,
    Edited,
}

impl Touch {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Mentioned => "mentioned",
            Self::Read => "read",
            Self::Used => "used in a command",
            Self::Edited => "edited",
        }
    }
}

const LONGEST: usize = 240;
const PATH_KEYS: &[&str] = &[
    "path",
    "file_path",
    "filePath",
    "filepath",
    "file",
    "filename",
    "notebook_path",
    "target_file",
    "old_path",
    "new_path",
    "paths",
    "files",
];
const EXTENSIONS: &[&str] = &[
    "rs",
    "toml",
    "md",
    "txt",
    "json",
    "jsonl",
    "yaml",
    "yml",
    "js",
    "mjs",
    "cjs",
    "ts",
    "tsx",
    "jsx",
    "py",
    "go",
    "c",
    "h",
    "cpp",
    "hpp",
    "cc",
    "java",
    "kt",
    "swift",
    "rb",
    "php",
    "sh",
    "bash",
    "zsh",
    "fish",
    "sql",
    "sqlite",
    "db",
    "html",
    "css",
    "scss",
    "vue",
    "svelte",
    "xml",
    "csv",
    "tsv",
    "ini",
    "cfg",
    "conf",
    "env",
    "lock",
    "log",
    "pdf",
    "docx",
    "xlsx",
    "pptx",
    "png",
    "jpg",
    "jpeg",
    "svg",
    "gif",
    "ipynb",
    "tex",
    "proto",
    "plist",
    "service",
    "patch",
    "diff",
    "dockerfile",
    "tf",
    "gradle",
    "ps1",
    "bat",
    "lua",
    "r",
    "scala",
    "ex",
    "exs",
    "erl",
    "hs",
    "ml",
    "nix",
];

/// Paths in a tool call.
pub(super) fn of_call(name: &str, arguments: &str) -> Vec<(String, Touch)> {
    let name = name.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let touch = if has(&["write", "edit", "patch", "create", "replace", "insert", "append", "delete", "move", "rename"])
    {
        Touch::Edited
    } else if has(&["read", "view", "open", "cat", "grep", "search", "list", "ls", "glob", "find"]) {
        Touch::Read
    } else {
        Touch::Used
    };
    let mut found = Vec::new();
    let mut key = "";
    for (text, is_key) in Strings(arguments) {
        if is_key {
            key = text;
        } else if PATH_KEYS.contains(&key) {
            found.extend(path(text, true).map(|p| (p, touch)));
        } else if matches!(key, "command" | "cmd" | "script" | "bash") {
            found.extend(text.split_whitespace().filter_map(|w| path(w, false)).map(|p| (p, Touch::Used)));
        } else if matches!(key, "input" | "patch" | "diff") {
            found.extend(patched(text));
        }
        if found.len() >= 200 {
            break;
        }
    }
    found
}

/// The files that a patch in OpenClaw's and Codex' form names.
fn patched(text: &str) -> Vec<(String, Touch)> {
    const MARKS: [&str; 4] = ["*** Update File: ", "*** Add File: ", "*** Delete File: ", "*** Move to: "];
    let named = text.lines().filter_map(|line| MARKS.iter().find_map(|mark| line.strip_prefix(mark)));
    named.filter_map(|name| path(name, true)).map(|p| (p, Touch::Edited)).collect()
}

/// Paths in words.
pub(super) fn of_words(text: &str) -> Vec<(String, Touch)> {
    if !text.contains(['/', '.', '\\']) {
        return Vec::new();
    }
    let words =
        text.split(|c: char| c.is_whitespace() || matches!(c, '`' | '"' | '(' | ')' | '[' | ']' | ',' | '，' | '、'));
    words.filter_map(|word| path(word, false)).map(|p| (p, Touch::Mentioned)).take(50).collect()
}

/// The word as a path, if it looks like one. A key of a tool call vouches for it (`sure`).
fn path(word: &str, sure: bool) -> Option<String> {
    let word = word.trim().trim_matches(['\'', '"', '`', '*', ';', ':', '!', '?', '。', '<', '>', '=', '{', '}']);
    let word = word.trim_end_matches('.');
    // `src/main.rs:42` names a line.
    let (head, line) = word.rsplit_once(':').unwrap_or((word, ""));
    let word = if !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit()) { head } else { word };
    let odd =
        |c: char| c.is_control() || c.is_whitespace() || matches!(c, '|' | '$' | '*' | '?' | '<' | '>' | '"' | '`');
    if word.len() < 3 || word.len() > LONGEST || word.contains("://") || word.contains("@") && !sure {
        return None;
    }
    if word.chars().any(|c| odd(c) && !(sure && c == ' ')) {
        return None;
    }
    let name = word.rsplit(['/', '\\']).next()?;
    let stem = name.rsplit_once('.');
    let known =
        stem.is_some_and(|(stem, end)| !stem.is_empty() && EXTENSIONS.iter().any(|e| e.eq_ignore_ascii_case(end)));
    let rooted = ["/", "./", "../", "~/"].iter().any(|root| word.starts_with(root)) && name.len() > 1;
    let nested = rooted && word.matches('/').count() >= 2 && !word.starts_with("//");
    (sure || known || nested).then(|| word.to_owned())
}

/// The strings of a rendered argument list with whether each is a key.
struct Strings<'a>(&'a str);

impl<'a> Iterator for Strings<'a> {
    type Item = (&'a str, bool);
    fn next(&mut self) -> Option<Self::Item> {
        let open = self.0.find('"')? + 1;
        let (rest, mut escaped) = (&self.0[open..], false);
        let end = rest.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        let after = &rest[end + 1..];
        self.0 = after;
        Some((&rest[..end], after.starts_with(':')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: &str) -> Vec<(String, Touch)> {
        of_call(name, arguments)
    }

    #[test]
    fn calls_name_their_files_by_keys_commands_and_patches() {
        assert_eq!(call("read", r#"{"path":"a b/c.rs","limit":3}"#), [("a b/c.rs".into(), Touch::Read)]);
        assert_eq!(
            call("multi_edit", r#"{"files":["x.md","y/z"],"note":"see q.rs"}"#),
            [("x.md".into(), Touch::Edited), ("y/z".into(), Touch::Edited)]
        );
        assert_eq!(
            call("exec", r#"{"command":"cargo run --bin x < data/in.csv | tee /tmp/out/log.txt"}"#),
            [("data/in.csv".into(), Touch::Used), ("/tmp/out/log.txt".into(), Touch::Used)]
        );
        let patch = "{\"input\":\"*** Begin Patch\n*** Update File: src/a.rs\n+x\n*** Add File: b.md\n\"}";
        assert_eq!(call("apply_patch", patch), [("src/a.rs".into(), Touch::Edited), ("b.md".into(), Touch::Edited)]);
    }

    #[test]
    fn words_name_files_only_if_they_look_like_paths() {
        let found = |text: &str| of_words(text).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
        assert_eq!(
            found("See `src/main.rs:42`, ~/notes/todo.md and (Cargo.toml)."),
            ["src/main.rs", "~/notes/todo.md", "Cargo.toml"]
        );
        assert_eq!(found("either/or, e.g. 3.5 and https://a.b/c.rs or me@x.rs. And/or so."), Vec::<String>::new());
    }
}
