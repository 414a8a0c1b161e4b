//! Patterns of file names as the settings have them: the one way to read them, to match them and to look files up.
//!
//! `*` stands for anything but a slash, `?` for one such character, `[ab]` for one of several, `**` for any folders. The `{a,b}` of
//! other languages is refused: taken by its letters it would match nothing, and nobody would know.

use std::path::{Path, PathBuf};

/// One that can be read.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(glob::Pattern);

impl Pattern {
    /// `Err`: what is wrong with it.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let has_choice = text
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'))
            .is_some_and(|(choice, _)| choice.contains(','));
        if has_choice {
            return Err("{a,b} is not understood: write one pattern for each".into());
        }
        glob::Pattern::new(text).map(Self).map_err(|e| format!("{}, at character {}", e.msg, e.pos + 1))
    }

    /// Whether the whole of a path matches.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
        self.0.matches_with(&path.to_string_lossy(), options)
    }
}

/// Whether a path of the settings stands for several files.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// A path as a pattern that matches it alone.
pub(crate) fn literal(path: &Path) -> String {
    glob::Pattern::escape(&path.to_string_lossy())
}

/// What is there and matches, in order; what may not be looked at is left out.
pub(crate) fn paths(text: &str) -> Result<impl Iterator<Item = PathBuf> + use<>, String> {
    Pattern::new(text)?;
    glob::glob(text).map(Iterator::flatten).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_ends_at_a_slash_and_two_of_them_do_not() {
        let matches = |pattern: &str, path: &str| Pattern::new(pattern).expect(pattern).matches(Path::new(path));
        for (pattern, path) in [
            ("*.tmp", "a.tmp"),
            ("*.tmp", ".a.tmp"),
            ("cache/**", "cache/a"),
            ("cache/**", "cache/a/b"),
            ("**/x", "x"),
            ("**/x", "a/b/x"),
            ("a/**/x", "a/x"),
            ("a/**/x", "a/b/c/x"),
            ("[ab].db", "b.db"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*.tmp", "a/b.tmp"),
            ("cache/*", "cache/a/b"),
            ("cache/**", "caches/a"),
            ("cache/**", "cache"),
            ("a?b", "a/b"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn what_cannot_be_read_or_would_silently_match_nothing_is_refused() {
        for (pattern, because) in
            [("[a", "at character"), ("a**b", "at character"), ("*.{tmp,bak}", "one pattern for each")]
        {
            let said = Pattern::new(pattern).expect_err(pattern);
            assert!(said.contains(because), "{said}");
            assert!(paths(pattern).is_err());
        }
        assert!(Pattern::new("{a}").is_ok());
    }

    #[test]
    fn a_path_with_signs_of_a_pattern_is_found_by_its_letters() {
        let scratch = tempfile::tempdir().expect("a folder");
        let odd = scratch.path().join("[odd] *");
        std::fs::write(&odd, "").expect("written");
        std::fs::write(scratch.path().join("o x"), "").expect("written");
        assert_eq!(paths(&literal(&odd)).expect("a pattern").collect::<Vec<_>>(), [odd]);
    }
}
