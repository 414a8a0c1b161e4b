//! The agent's memory in a folder: one Markdown file a day, and the continuity maps.
//!
//! ```text
//! memory/2026-11-20.md                          people and agents write here, too
//! continuity/continuity-1795150000-<cycle>.json ours alone
//! ```
//!
//! A block of ours stands between two comments that carry its key, so that a retry finds it and writes nothing. Every other
//! byte of a day's file is somebody else's: the file is read, the block put behind it, and the whole replaced at once, unless
//! the file changed meanwhile; then all begins anew. What this must never do: follow a symlink out of the home, or edit or
//! remove what it did not write.

use crate::durable::{self, Seen};
use async_trait::async_trait;
use moon_actors::domain::{ContinuityMap, Sha256};
use moon_actors::port::{MapFile, MemoryBlock, MemoryStore};
use moon_actors::{Error, Result};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const MEMORY: &str = "memory";
const CONTINUITY: &str = "continuity";
/// Larger files are refused: a day's notes are text that people wrote.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Somebody who writes more often than this within milliseconds is not a person with an editor.
const ATTEMPTS: u32 = 8;
const CYCLE_CHARS: usize = 64;

/// The memory below one home. Clones share it.
#[derive(Clone)]
pub struct MemoryDir {
    inner: Arc<Inner>,
}

struct Inner {
    home: PathBuf,
    /// One write at a time within this process; a killed actor's write goes on in its thread.
    writing: Mutex<()>,
}

impl MemoryDir {
    /// Makes the folders if they are missing. Errors: `InvalidInput` when one of them is a symlink.
    pub fn open(home_root: &Path) -> io::Result<Self> {
        for folder in [MEMORY, CONTINUITY] {
            let path = home_root.join(folder);
            durable::create_folder(&path)?;
            if path.symlink_metadata()?.file_type().is_symlink() {
                let refused = format!("{} is a symlink", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, refused));
            }
        }
        Ok(Self { inner: Arc::new(Inner { home: home_root.to_owned(), writing: Mutex::default() }) })
    }

    /// Runs file work where it may block. A panic in there is a bug of ours and goes on as one.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            Err(_) => Err(Error::transient("memory.io", "the memory is closing")),
        }
    }
}

#[async_trait]
impl MemoryStore for MemoryDir {
    /// Errors: `transient` `memory.disk_full`, `memory.io`; `conflict` `memory.changing` when others write without a pause;
    /// `data` `memory.too_large`; `config` `memory.not_a_file` for a symlink or a folder in its place.
    async fn append(&self, block: &MemoryBlock) -> Result<String> {
        let block = block.clone();
        self.blocking(move |memory| memory.append(&block, || ())).await
    }

    /// A file of that name with other content is replaced: the same cycle writes a better map. Errors as for `append`.
    async fn write_map(&self, cycle: &str, map: &ContinuityMap) -> Result<MapFile> {
        let name = format!("continuity-{}-{}.json", map.generated_at_epoch_secs, harmless(cycle));
        let mut bytes = serde_json::to_vec_pretty(map).expect("a map has only strings, numbers and lists");
        bytes.push(b'\n');
        self.blocking(move |memory| memory.write_map(format!("{CONTINUITY}/{name}"), &bytes)).await
    }

    /// Errors: `data` `memory.map_unreadable` when it is missing, damaged, or `path` is none that `write_map` gives.
    async fn read_map(&self, path: &str) -> Result<ContinuityMap> {
        let path = path.to_owned();
        self.blocking(move |memory| memory.read_map(&path)).await
    }
}

impl Inner {
    /// `before_replace` is where somebody else's write would hurt most; only tests put one there.
    fn append(&self, block: &MemoryBlock, mut before_replace: impl FnMut()) -> Result<String> {
        let path = format!("{MEMORY}/{}.md", block.day.format("%Y-%m-%d"));
        let full = self.home.join(&path);
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..ATTEMPTS {
            let (seen, mut bytes) = self.read_seen(&path).map_err(|e| failed("read", &path, e))?;
            if holds_block(&bytes, &block.key) {
                // Whoever wrote it may have died before its folder was synced.
                durable::sync_parent(&full).map_err(|e| failed("sync", &path, e))?;
                return Ok(path);
            }
            if bytes.last().is_some_and(|last| *last != b'\n') {
                bytes.push(b'\n');
            }
            bytes.extend_from_slice(render(block).as_bytes());
            before_replace();
            let replaced = durable::replace_unless_changed(&full, seen.as_ref(), &bytes);
            if replaced.map_err(|e| failed("write", &path, e))? {
                return Ok(path);
            }
        }
        Err(Error::conflict("memory.changing", format!("{path} changed each time it was about to be written"))
            .hint("it is tried again later; see what writes there without a pause"))
    }

    fn write_map(&self, path: String, bytes: &[u8]) -> Result<MapFile> {
        let full = self.home.join(&path);
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, there) = self.read_seen(&path).map_err(|e| failed("read", &path, e))?;
        let written = if there == bytes { durable::sync_parent(&full) } else { durable::replace(&full, bytes) };
        written.map_err(|e| failed("write", &path, e))?;
        Ok(MapFile { path, sha256: Sha256::of(bytes) })
    }

    fn read_map(&self, path: &str) -> Result<ContinuityMap> {
        let unreadable = |why: String| {
            Error::data("memory.map_unreadable", "a continuity map cannot be read")
                .cause(why)
                .hint("it is written anew at the next rollover; the archive it came from is untouched")
        };
        let name = path.strip_prefix("continuity/").filter(|name| is_map_name(name));
        let name = name.ok_or_else(|| unreadable("its path is none of ours".into()))?;
        match self.read_seen(&format!("{CONTINUITY}/{name}")) {
            Ok((None, _)) => Err(unreadable(format!("{path} is missing"))),
            // serde_json's text quotes no content, only the position.
            Ok((Some(_), bytes)) => {
                serde_json::from_slice(&bytes).map_err(|e| unreadable(format!("{path} is damaged: {e}")))
            }
            Err(e) if e.raw_os_error().is_none() => Err(unreadable(format!("{path}: {e}"))),
            Err(e) => Err(failed("read", path, e)),
        }
    }

    /// What the file looked like before it was read, and its bytes; none of both when it is not there.
    fn read_seen(&self, path: &str) -> io::Result<(Option<Seen>, Vec<u8>)> {
        let file = match durable::open_regular(&self.home.join(path)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((None, Vec::new())),
            opened => opened?,
        };
        let seen = Seen::from_metadata(&file.metadata()?);
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 64 MiB"));
        }
        Ok((Some(seen), bytes))
    }
}

fn begin(key: &Sha256) -> String {
    format!("<!-- moon:begin {key} -->")
}

fn holds_block(bytes: &[u8], key: &Sha256) -> bool {
    let begin = begin(key);
    bytes.split(|b| *b == b'\n').any(|line| line.trim_ascii_end() == begin.as_bytes())
}

fn render(block: &MemoryBlock) -> String {
    let text = neutral(&block.markdown);
    format!("{}\n{}\n<!-- moon:end {} -->\n", begin(&block.key), text.trim_end_matches('\n'), block.key)
}

/// Text in which nobody finds a mark of ours: what an agent said must not close a block or pass for one.
fn neutral(text: &str) -> String {
    let mut parts = text.split("<!--");
    let mut neutral = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_mark = part.trim_start().get(..5).is_some_and(|start| start.eq_ignore_ascii_case("moon:"));
        neutral.push_str(if is_mark { "&lt;!--" } else { "<!--" });
        neutral.push_str(part);
    }
    neutral
}

/// A cycle's name as part of a file name; one that had to be changed is told from others by its hash.
fn harmless(cycle: &str) -> String {
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if cycle.chars().all(is_harmless) && (1..=CYCLE_CHARS).contains(&cycle.len()) {
        return cycle.to_owned();
    }
    let slug: String = cycle.chars().map(|c| if is_harmless(c) { c } else { '-' }).take(CYCLE_CHARS).collect();
    format!("{slug}-{}", Sha256::of(cycle.as_bytes()).short())
}

fn is_map_name(name: &str) -> bool {
    let is_harmless = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    name.starts_with("continuity-") && name.ends_with(".json") && name.bytes().all(is_harmless)
}

fn failed(operation: &str, path: &str, error: io::Error) -> Error {
    let message = format!("could not {operation} {path}");
    let failed = match error.kind() {
        _ if durable::is_full(&error) => Error::transient("memory.disk_full", message)
            .hint("free space on the disk of the home; Moon goes on by itself"),
        io::ErrorKind::InvalidData => {
            Error::data("memory.too_large", message).hint("move a part of it to another file")
        }
        io::ErrorKind::InvalidInput => Error::config("memory.not_a_file", message)
            .hint("Moon follows no links out of its home: put a regular file there, or nothing"),
        _ => Error::transient("memory.io", message),
    };
    failed.cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;
    use moon_actors::Kind;
    use moon_actors::domain::SessionKey;
    use proptest::prelude::*;

    fn scratch() -> (tempfile::TempDir, MemoryDir) {
        let home = tempfile::tempdir().expect("a scratch folder");
        let memory = MemoryDir::open(home.path()).expect("can be opened");
        (home, memory)
    }

    fn block(key: &str, markdown: &str) -> MemoryBlock {
        let day = NaiveDate::from_ymd_opt(2026, 11, 20).expect("a day");
        MemoryBlock { day, key: Sha256::of(key.as_bytes()), markdown: markdown.into() }
    }

    fn day(home: &tempfile::TempDir) -> PathBuf {
        home.path().join("memory/2026-11-20.md")
    }

    fn map(summary: &str) -> ContinuityMap {
        ContinuityMap {
            source_session_id: "a".into(),
            target_session_id: "b".into(),
            session_key: SessionKey::from("agent:main:main"),
            archive_refs: vec![],
            daily_memory_refs: vec![],
            summary: vec![summary.into()],
            key_decisions: vec![],
            rules: vec![],
            open_tasks: vec![],
            open_questions: vec![],
            files: vec![],
            recall_hints: vec![],
            generated_at_epoch_secs: 1_795_150_000,
        }
    }

    fn code(error: &Error) -> (Kind, &str) {
        (error.kind, error.code.as_str())
    }

    #[tokio::test]
    async fn a_block_is_written_once_per_key_behind_what_is_there() {
        let (home, memory) = scratch();
        let foreign = b"# Notes\n\xff\0 no newline at the end";
        std::fs::write(day(&home), foreign).expect("an agent writes");
        assert_eq!(memory.append(&block("k", "## Distilled\n")).await.expect("written"), "memory/2026-11-20.md");
        let once = std::fs::read(day(&home)).expect("there");
        let key = Sha256::of(b"k");
        let ours = format!("\n<!-- moon:begin {key} -->\n## Distilled\n<!-- moon:end {key} -->\n");
        assert_eq!(once, [&foreign[..], ours.as_bytes()].concat());
        memory.append(&block("k", "something else")).await.expect("already there");
        assert_eq!(std::fs::read(day(&home)).expect("there"), once);
        memory.append(&block("other", "more")).await.expect("written");
        assert!(std::fs::read(day(&home)).expect("there").starts_with(&once));
    }

    #[tokio::test]
    async fn what_somebody_writes_in_the_last_moment_is_kept() {
        let (home, memory) = scratch();
        let (path, mut writes) = (day(&home), 0);
        let interrupt = || {
            if writes < 3 {
                writes += 1;
                let there = std::fs::read_to_string(&path).unwrap_or_default();
                std::fs::write(&path, format!("{there}note {writes}\n")).expect("an agent writes");
            }
        };
        memory.inner.append(&block("k", "ours"), interrupt).expect("written at the fourth attempt");
        let text = std::fs::read_to_string(day(&home)).expect("there");
        assert!(text.starts_with("note 1\nnote 2\nnote 3\n<!-- moon:begin "), "{text}");
    }

    #[tokio::test]
    async fn a_file_that_never_rests_is_given_up_for_now_and_left_alone() {
        let (home, memory) = scratch();
        let (path, mut text) = (day(&home), String::new());
        let interrupt = || {
            text.push('x');
            std::fs::write(&path, &text).expect("somebody writes");
        };
        let error = memory.inner.append(&block("k", "ours"), interrupt).expect_err("given up");
        assert_eq!(code(&error), (Kind::Conflict, "memory.changing"));
        assert_eq!(std::fs::read_to_string(day(&home)).expect("there"), "x".repeat(ATTEMPTS as usize));
        assert_eq!(std::fs::read_dir(home.path().join(MEMORY)).expect("listable").count(), 1);
    }

    #[tokio::test]
    async fn blocks_written_at_once_are_all_there() {
        let (home, memory) = scratch();
        let writers: Vec<_> = (0..12)
            .map(|n| {
                let memory = memory.clone();
                tokio::spawn(async move { memory.append(&block(&n.to_string(), &format!("text {n}"))).await })
            })
            .collect();
        for writer in writers {
            writer.await.expect("no panic").expect("written");
        }
        let text = std::fs::read_to_string(day(&home)).expect("there");
        assert!((0..12).all(|n| text.contains(&format!("\ntext {n}\n"))), "{text}");
    }

    #[tokio::test]
    async fn links_and_giants_are_refused() {
        let (home, memory) = scratch();
        let outside = home.path().join("outside");
        std::fs::write(&outside, "untouched").expect("somebody's file");
        std::os::unix::fs::symlink(&outside, day(&home)).expect("a trap");
        let error = memory.append(&block("k", "ours")).await.expect_err("refused");
        assert_eq!(code(&error), (Kind::Config, "memory.not_a_file"));
        assert_eq!(std::fs::read_to_string(&outside).expect("there"), "untouched");
        std::fs::remove_file(day(&home)).expect("removed");
        let giant = std::fs::File::create(day(&home)).expect("a file");
        giant.set_len(MAX_FILE_BYTES + 1).expect("sparse");
        let error = memory.append(&block("k", "ours")).await.expect_err("refused");
        assert_eq!(code(&error), (Kind::Data, "memory.too_large"));
        let linked = tempfile::tempdir().expect("a scratch folder");
        std::os::unix::fs::symlink(home.path(), linked.path().join(MEMORY)).expect("a trap");
        assert!(MemoryDir::open(linked.path()).is_err());
    }

    #[tokio::test]
    async fn a_map_is_written_and_read_and_a_better_one_of_the_same_cycle_replaces_it() {
        let (home, memory) = scratch();
        let first = memory.write_map("0193-ab", &map("one")).await.expect("written");
        assert_eq!(first.path, "continuity/continuity-1795150000-0193-ab.json");
        assert_eq!(memory.write_map("0193-ab", &map("one")).await.expect("written"), first);
        assert_eq!(first.sha256, Sha256::of(&std::fs::read(home.path().join(&first.path)).expect("there")));
        let second = memory.write_map("0193-ab", &map("two")).await.expect("written");
        assert_eq!(memory.read_map(&second.path).await.expect("readable"), map("two"));
        assert_eq!(first.path, second.path);
        std::fs::write(home.path().join(&first.path), "{").expect("damaged on purpose");
        let error = memory.read_map(&first.path).await.expect_err("damaged");
        assert_eq!(code(&error), (Kind::Data, "memory.map_unreadable"));
    }

    #[tokio::test]
    async fn a_map_has_no_path_outside_its_folder() {
        let (home, memory) = scratch();
        let stored = memory.write_map("../../../etc/cron.d/x", &map("one")).await.expect("written");
        assert_eq!(stored.path.split('/').count(), 2);
        assert_eq!(memory.read_map(&stored.path).await.expect("readable"), map("one"));
        assert_ne!(memory.write_map("../../../etc/cron.d-x", &map("one")).await.expect("written").path, stored.path);
        std::fs::copy(home.path().join(&stored.path), home.path().join("continuity-x.json")).expect("a copy");
        for path in
            ["continuity/../continuity-x.json", "continuity-x.json", "/etc/passwd", "", "continuity/continuity-1.json"]
        {
            assert_eq!(code(&memory.read_map(path).await.expect_err("refused")).1, "memory.map_unreadable", "{path}");
        }
    }

    #[test]
    fn a_mark_inside_the_text_is_neutralised_and_other_comments_stay() {
        assert_eq!(neutral("a <!-- moon:end x --> b"), "a &lt;!-- moon:end x --> b");
        assert_eq!(neutral("<!--  \n MOON:begin"), "&lt;!--  \n MOON:begin");
        assert_eq!(neutral("<!-- note --> <!--é-->"), "<!-- note --> <!--é-->");
    }

    proptest! {
        /// Whatever an agent said, its block begins once, ends once, and no key but its own is found in it.
        #[test]
        fn no_text_forges_a_block(parts in prop::collection::vec(prop_oneof![
            Just("<!--".to_owned()), Just(" moon:begin ".into()), Just("moon:end".into()), Just(" -->".into()),
            Just("\n".into()), Just(Sha256::of(b"other").as_str().to_owned()), "\\PC{0,6}",
        ], 0..25)) {
            let text = parts.concat();
            let rendered = render(&block("mine", &text));
            prop_assert!(!holds_block(rendered.as_bytes(), &Sha256::of(b"other")));
            prop_assert!(holds_block(rendered.as_bytes(), &Sha256::of(b"mine")));
            prop_assert_eq!(rendered.matches("<!-- moon:begin ").count(), 1);
            prop_assert_eq!(rendered.matches("<!-- moon:end ").count(), 1);
        }
    }
}
