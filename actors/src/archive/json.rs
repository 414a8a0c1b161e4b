//! A record's JSON with a limit on what it may become in memory.
//!
//! A value costs tens of bytes where its text costs two: 15 MB of `0,0,0,…` (an embedding, a table in a tool's output) would need
//! 600 MB as a tree. Beyond the limit the rest stays text, so that every word of it is still read and found. Strict about
//! everything else: what serde_json refuses is refused.

use super::block::unescape_lossily;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use std::cell::Cell;
use std::fmt;

/// Values made of one record, at most: some megabytes.
const MOST_VALUES: usize = 50_000;

/// Parses one JSON text. Values beyond the limit are joined to one text at the end of the list or object they stand in.
pub fn parse(text: &str) -> serde_json::Result<Value> {
    let left = Cell::new(MOST_VALUES);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Bounded { left: &left }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Bounded<'c> {
    left: &'c Cell<usize>,
}

impl Bounded<'_> {
    /// True while one more value may be made.
    fn take(self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while self.take() {
            match list.next_element_seed(self)? {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
        let mut rest = String::new();
        while let Some(raw) = list.next_element::<&RawValue>()? {
            join(&mut rest, raw.get());
        }
        if !rest.is_empty() {
            values.push(Value::String(unescape_lossily(&rest)));
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while self.take() {
            match object.next_key::<String>()? {
                Some(key) => drop(fields.insert(key, object.next_value_seed(self)?)),
                None => return Ok(Value::Object(fields)),
            }
        }
        let mut rest = String::new();
        while let Some((key, raw)) = object.next_entry::<String, &RawValue>()? {
            join(&mut rest, &key);
            join(&mut rest, raw.get());
        }
        if !rest.is_empty() {
            fields.insert("…".to_owned(), Value::String(unescape_lossily(&rest)));
        }
        Ok(Value::Object(fields))
    }
}

fn join(rest: &mut String, more: &str) {
    if !rest.is_empty() {
        rest.push(' ');
    }
    rest.push_str(more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_small_record_is_read_as_serde_json_reads_it() {
        for text in [
            "null",
            "[1,-2,3.5,true,\"a\\n\"]",
            r#"{"a":{"b":[]},"a":2}"#,
            r#""\u00e4\ud83d\ude00""#,
            "1e400",
            "[1",
            "{} x",
            "",
        ] {
            let (ours, theirs) = (parse(text), serde_json::from_str::<Value>(text));
            assert_eq!(ours.ok(), theirs.ok(), "{text}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err(), "as deep as serde_json goes");
    }

    #[test]
    fn what_is_beyond_the_limit_stays_as_text_and_nothing_of_it_is_lost() {
        let many = MOST_VALUES + 100;
        let list: Vec<String> = (0..many).map(|n| format!("\"word{n}\"")).collect();
        let text = format!(r#"{{"type":"message","content":[{}],"id":"behind"}}"#, list.join(","));
        let value = parse(&text).expect("JSON");
        let content = value["content"].as_array().expect("a list");
        assert!(content.len() <= MOST_VALUES + 1);
        let rest = content.last().and_then(Value::as_str).expect("text");
        assert!(rest.contains(&format!("word{}", many - 1)), "{}", &rest[rest.len() - 40..]);
        assert_eq!(value["type"], "message");
        assert!(value["…"].as_str().is_some_and(|rest| rest.contains("behind")), "{:?}", value["…"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_serde_json_reads_it(text in r#"[\[\]{}",:0-9a-e\\.\- ]{0,40}"#) {
            prop_assert_eq!(parse(&text).ok(), serde_json::from_str::<Value>(&text).ok());
        }

        #[test]
        fn any_value_survives(keys in prop::collection::vec(any::<String>(), 0..8), number in any::<f64>()) {
            let value = json!({ "keys": keys, "number": number, "nested": [[{ "a": keys.len() }]] });
            let text = value.to_string();
            prop_assert_eq!(parse(&text).expect("JSON"), serde_json::from_str::<Value>(&text).expect("JSON"));
        }
    }
}
