//! Cutting turns into pieces of bounded size. Pure.
//!
//! Why: ranking wants passages of about a thousand characters, and a tool result may have twenty million. Nothing is
//! ever left out: the pieces of a turn join to its exact text.

/// Cuts `text` into pieces of at most `limit` characters, at whitespace if there is some in the second half of a
/// piece, else at any character that is no letter or digit, else anywhere. Whitespace stays with the piece before it.
pub(super) fn pieces(text: &str, limit: usize) -> Pieces<'_> {
    Pieces { rest: text, limit: limit.max(2) }
}

pub(super) struct Pieces<'a> {
    rest: &'a str,
    limit: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (piece, rest) = self.rest.split_at(cut(self.rest, self.limit));
        self.rest = rest;
        Some(piece)
    }
}

/// Where the first piece of a text ends, bytes; more than 0.
fn cut(text: &str, limit: usize) -> usize {
    let Some((end, _)) = text.char_indices().nth(limit) else { return text.len() };
    let half = text.char_indices().nth(limit / 2).map_or(end, |(at, _)| at);
    let behind = |wanted: fn(char) -> bool| {
        text[half..end].char_indices().rev().find(|(_, c)| wanted(*c)).map(|(at, c)| half + at + c.len_utf8())
    };
    behind(char::is_whitespace).or_else(|| behind(|c| !c.is_alphanumeric())).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_text_is_cut_at_whitespace() {
        let cut: Vec<_> = pieces("one two three four", 9).collect();
        assert_eq!(cut, ["one two ", "three ", "four"]);
    }

    #[test]
    fn a_text_without_whitespace_is_cut_all_the_same() {
        let cut: Vec<_> = pieces("aaaa/bbbbbbbbbbbbbb", 6).collect();
        assert_eq!(cut, ["aaaa/", "bbbbbb", "bbbbbb", "bb"]);
    }

    proptest! {
        #[test]
        fn pieces_are_small_and_lose_nothing(text in any::<String>(), limit in 2usize..40) {
            let all: Vec<_> = pieces(&text, limit).collect();
            prop_assert_eq!(all.concat(), text.as_str());
            prop_assert!(all.iter().all(|p| !p.is_empty() && p.chars().count() <= limit));
        }
    }
}
