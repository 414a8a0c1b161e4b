//! The entries of a list, judged one by one: every mistake of every entry, each with its own place.
//!
//! Reading stops at the first mistake of a table. So what was complained of is taken out of the table and the rest is read again,
//! until nothing is left to complain of; what follows from a mistake that was told already is not told on top. It must never take an
//! entry with a mistake in it for a good one.

use super::keys;
use moon_actors::settings::Settings;
use serde::Deserialize as _;
use std::borrow::Cow;
use std::collections::BTreeSet;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};
use toml::{Spanned, Value};

/// An entry after it was judged.
#[derive(Debug, Default)]
pub(super) struct Entry<'t> {
    /// In the order of the text.
    pub(super) mistakes: Vec<Mistake>,
    /// What of an entry with mistakes can be read all the same: rules are held against it, and nothing else.
    pub(super) rest: Option<DeValue<'t>>,
    pub(super) told: Told,
}

/// Keys of an entry that were complained of, or that somebody meant: what else is said about them follows from that.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(BTreeSet<String>);

impl Told {
    /// Whether a rule's complaint about a key of the entry (empty: about the entry) says nothing new.
    pub(super) fn covers(&self, field: &str, message: &str) -> bool {
        // Shorter keys are words of every sentence, like `to` and `name`; what is said of the whole entry is about few of them.
        let is_word =
            |key: &str| message.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).any(|word| word == key);
        let is_named =
            |key: &String| key.len() > 4 && message.contains(key.as_str()) || field.is_empty() && is_word(key);
        self.0.contains(field) || self.0.iter().any(is_named)
    }
    /// Whether rules over other entries cannot know what this one is called.
    pub(super) fn hides_the_name(&self) -> bool {
        self.0.contains("name")
    }
}

/// What is wrong in one entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// Where in the text.
    pub(super) at: usize,
    /// The key of the table that is meant; empty: the entry.
    pub(super) field: String,
    pub(super) message: String,
}

/// The entry of the list under `key`, with every mistake in it.
pub(super) fn judge<'t>(key: &'t str, item: &'t Spanned<DeValue<'t>>) -> Entry<'t> {
    let mut entry = match item.get_ref() {
        DeValue::Table(fields) => Table::new(key, item.span().start, fields).judge(),
        _ => Entry { mistakes: plain(key, item).into_iter().collect(), ..Entry::default() },
    };
    entry.mistakes.sort_by_key(|mistake| mistake.at);
    entry
}

/// The same for the entries of a value that has no place of its own: the mistakes, each with its entry's index.
pub(super) fn judge_value(key: &str, list: &Value) -> Vec<(usize, Mistake)> {
    let text = format!("list = {list}");
    let Ok(table) = DeTable::parse(&text) else { return Vec::new() };
    let Some(DeValue::Array(items)) = table.get_ref().get("list").map(Spanned::get_ref) else { return Vec::new() };
    let of = |(index, item)| judge(key, item).mistakes.into_iter().map(move |mistake| (index, mistake));
    items.iter().enumerate().flat_map(of).collect()
}

/// A text or a number.
fn plain(key: &str, item: &Spanned<DeValue<'_>>) -> Option<Mistake> {
    let wrong = read(key, item.clone()).err()?;
    // A type of ours means nothing to people.
    let message = match wrong.message().split_once("expected struct") {
        Some(_) => format!("expected a table, found {}", item.get_ref().type_str()),
        None => wrong.message().trim().to_owned(),
    };
    Some(Mistake { at: item.span().start, field: String::new(), message })
}

/// Whether the settings take this entry under this key.
fn read(key: &str, item: Spanned<DeValue<'_>>) -> Result<(), Error> {
    let (section, field) = key.split_once('.').expect("every key has a section");
    let whole = item.span();
    let under = |name: &str, value| {
        let mut table = DeTable::new();
        table.insert(Spanned::new(whole.clone(), Cow::Owned(name.to_owned())), Spanned::new(whole.clone(), value));
        table
    };
    let mut list = DeArray::new();
    list.push(item);
    let settings = under(section, DeValue::Table(under(field, DeValue::Array(list))));
    Settings::deserialize(Deserializer::from(Spanned::new(whole.clone(), settings))).map(drop)
}

/// A table of the list while it is read again and again.
struct Table<'t> {
    key: &'t str,
    start: usize,
    fields: &'t DeTable<'t>,
    left: DeTable<'t>,
    found: Vec<Mistake>,
    told: Told,
    /// Keys that were missing and have a stand-in, so that the rest is read, too.
    stand_ins: BTreeSet<String>,
}

impl<'t> Table<'t> {
    fn new(key: &'t str, start: usize, fields: &'t DeTable<'t>) -> Self {
        Self {
            key,
            start,
            fields,
            left: fields.clone(),
            found: Vec::new(),
            told: Told::default(),
            stand_ins: BTreeSet::new(),
        }
    }

    fn judge(mut self) -> Entry<'t> {
        loop {
            let item = Spanned::new(self.start..self.start + 1, DeValue::Table(self.left.clone()));
            let rest = match read(self.key, item) {
                Err(error) if self.goes_on(&error) => continue,
                Err(_) => None,
                Ok(()) => Some(DeValue::Table(self.left)).filter(|_| !self.found.is_empty()),
            };
            return Entry { mistakes: self.found, rest, told: self.told };
        }
    }

    fn find(&mut self, at: usize, field: &str, message: String) {
        self.found.push(Mistake { at, field: field.to_owned(), message });
    }

    /// Notes what is wrong. False: nothing more can be found out.
    fn goes_on(&mut self, error: &Error) -> bool {
        let message = error.message().trim();
        let named = message.split('`').nth(1).unwrap_or_default();
        if message.starts_with("unknown field") {
            return self.unknown(named, message);
        }
        if message.starts_with("missing field") {
            return self.missing(named);
        }
        let span = error.span().unwrap_or_default();
        let holds = |value: &Spanned<DeValue<'_>>| value.span().start <= span.start && span.start < value.span().end;
        let culprit = self.left.iter().find(|(_, value)| holds(value)).map(|(name, _)| name.get_ref().to_string());
        match culprit {
            Some(field) if self.stand_ins.contains(&field) => self.is_a_list_then(&field),
            Some(field) => {
                if self.told.0.insert(field.clone()) {
                    self.find(span.start, &field, keys::with_suggestion(message));
                }
                self.left.remove(field.as_str()).is_some()
            }
            // In a table below.
            None if span.start > self.start => {
                self.find(span.start, "", keys::with_suggestion(message));
                false
            }
            // Rules over the whole table: a line each, which begins with its key.
            None => {
                message.lines().for_each(|line| self.rule(line));
                false
            }
        }
    }

    fn unknown(&mut self, field: &str, message: &str) -> bool {
        let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
        let near = keys::nearest(field, known.iter().copied());
        let said = match near {
            Some(near) => format!("unknown key; did you mean \"{near}\"?"),
            None => format!("unknown key; there are {}", known.join(", ")),
        };
        self.find(self.place(field), field, said);
        self.told.0.extend(near.map(str::to_owned));
        self.left.remove(field).is_some()
    }

    fn missing(&mut self, field: &str) -> bool {
        if !self.stand_ins.insert(field.to_owned()) {
            return false;
        }
        if self.told.0.insert(field.to_owned()) {
            self.find(self.start, field, "is missing".to_owned());
        }
        self.put(field, DeValue::String(Cow::Borrowed("?")));
        true
    }

    /// A text was no good as a stand-in.
    fn is_a_list_then(&mut self, field: &str) -> bool {
        let was_text = self.left.get(field).is_some_and(|value| value.get_ref().is_str());
        if was_text {
            self.put(field, DeValue::Array(DeArray::new()));
        }
        was_text
    }

    fn put(&mut self, field: &str, value: DeValue<'t>) {
        self.left.insert(Spanned::new(NOWHERE, Cow::Owned(field.to_owned())), Spanned::new(NOWHERE, value));
    }

    fn rule(&mut self, line: &str) {
        let is_key = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let (field, message) = line.split_once(": ").filter(|(field, _)| is_key(field)).unwrap_or(("", line));
        if !self.told.covers(field, message) {
            self.find(self.place(field), field, message.to_owned());
        }
    }

    fn place(&self, field: &str) -> usize {
        let name = self.fields.get_key_value(field).map(|(name, _)| name.span().start);
        name.unwrap_or(self.start)
    }
}

/// Where no text is.
const NOWHERE: std::ops::Range<usize> = usize::MAX - 1..usize::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::btree_map;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn said(key: &str, text: &str) -> Vec<String> {
        let table = DeTable::parse(text).expect("TOML");
        let (_, DeValue::Array(items)) = table.get_ref().iter().next().map(|(k, v)| (k, v.get_ref())).expect("one key")
        else {
            panic!("a list")
        };
        let line = |at: usize| text[..at].matches('\n').count() + 1;
        let said = |(index, item)| {
            let mistakes = judge(key, item).mistakes.into_iter();
            mistakes.map(move |m| format!("{index} line {} {}: {}", line(m.at), m.field, m.message))
        };
        items.iter().enumerate().flat_map(said).collect()
    }

    #[test]
    fn every_mistake_of_every_table_is_told_once_and_in_order() {
        let text = "[[l]]\nname = \"mail\"\nurll = \"tcp://h:1\"\ntimeout = 5\nstatus = \"ok\"\ncolour = 1\n\n\
                    [[l]]\nname = \"fine\"\nurl = \"tcp://h:1\"\n\n\
                    [[l]]\nurl = 7\nexpct = \"x\"\n";
        let said = said("health.endpoints", text);
        let begins = [
            "0 line 3 urll: unknown key; did you mean \"url\"?",
            "0 line 4 timeout: invalid type: integer `5`",
            "0 line 5 status: invalid type: string \"ok\"",
            "0 line 6 colour: unknown key; there are name, url",
            "2 line 12 name: is missing",
            "2 line 13 url: invalid type: integer `7`",
            "2 line 14 expct: unknown key; did you mean \"expect\"?",
        ];
        assert_eq!(said.len(), begins.len(), "{said:#?}");
        for (said, begin) in said.iter().zip(begins) {
            assert!(said.starts_with(begin), "{said}");
        }
    }

    #[test]
    fn what_follows_from_a_mistake_is_not_told_on_top() {
        let said =
            said("alerts.routes", "[[l]]\nname = \"a\"\nkind = \"email\"\nhots = \"h\"\nto = [\"me\"]\nport = \"x\"\n");
        assert_eq!(said.len(), 3, "{said:#?}");
        assert!(said[0].starts_with("0 line 4 hots: unknown key; did you mean \"host\"?"), "{said:?}");
        assert!(said[1].starts_with("0 line 5 to: \"me\" is not an e-mail address"), "{said:?}");
        assert!(said[2].starts_with("0 line 6 port: invalid type: string"), "{said:?}");
    }

    #[test]
    fn a_table_without_its_kind_is_told_and_the_rest_of_it_is_still_read() {
        let said = said(
            "alerts.routes",
            "[[l]]\nname = \"a\"\nhots = \"h\"\n[[l]]\nname = \"b\"\nkind = \"emial\"\nport = \"x\"\n",
        );
        assert_eq!(said.len(), 4, "{said:#?}");
        assert!(said[0].starts_with("0 line 1 kind: is missing"), "{said:?}");
        assert!(said[1].starts_with("0 line 3 hots: unknown key"), "{said:?}");
        assert!(
            said[2].contains("1 line 6 kind: unknown variant `emial`") && said[2].ends_with("\"email\"?"),
            "{said:?}"
        );
        assert!(said[3].starts_with("1 line 7 port: invalid type"), "{said:?}");
    }

    #[test]
    fn a_list_of_words_is_judged_word_by_word() {
        let said = said("backup.include", "l = [\"/a\", 5, \"/b\", true]\n");
        assert_eq!(said.len(), 2, "{said:#?}");
        assert!(said[0].starts_with("1 line 1 : invalid type: integer `5`"), "{said:?}");
        assert_eq!(
            super::judge_value("alerts.routes", &Value::Array(vec![Value::Integer(1)]))[0].1.message,
            "expected a table, found integer"
        );
    }

    proptest! {
        /// However strange a table is: it is judged to an end, and good exactly when the settings take it.
        #[test]
        fn an_entry_is_good_exactly_when_the_settings_take_it(
            key in select(vec!["alerts.routes", "health.endpoints", "health.recover", "health.commands", "rotation.files"]),
            fields in btree_map(
                select(vec![
                    "name", "kind", "url", "urll", "to", "host", "labels", "timeout", "argv", "rule", "path", "dated", "a`b",
                ]),
                select(vec![
                    "\"a\"", "5", "true", "[]", "[\"/a\"]", "[5]", "{ x = 5 }", "\"desktop\"", "\"email\"", "\"5s\"", "\"\"",
                ]),
                0..8,
            ),
        ) {
            let text: String = fields.iter().map(|(name, value)| format!("{name:?} = {value}\n")).collect();
            let text = format!("[[l]]\n{text}");
            let table = DeTable::parse(&text).expect("TOML");
            let Some(DeValue::Array(items)) = table.get_ref().get("l").map(Spanned::get_ref) else { panic!("a list") };
            let mistakes = judge(key, &items[0]).mistakes;
            prop_assert_eq!(mistakes.is_empty(), read(key, items[0].clone()).is_ok(), "{}: {:?}", text, mistakes);
            let mut once = mistakes.iter().map(|m| (m.at, &m.field, &m.message)).collect::<Vec<_>>();
            once.dedup();
            prop_assert_eq!(once.len(), mistakes.len());
            prop_assert!(mistakes.iter().all(|mistake| mistake.at <= text.len()), "{:?}", mistakes);
        }
    }
}
