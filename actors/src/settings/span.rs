//! A span of time in people's words (`30s`, `5m`, `1h 30m`, `365d`), both ways.
//!
//! What is written out is what a person would write, and reading it gives the same span to the nanosecond.

use serde::{Deserialize, Deserializer, Serializer, de::Error};
use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// From here on people count in days even where hours are left over.
const MANY_HOURS: u64 = 100 * HOUR;

pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&words(*value))
}

pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text)
        .map_err(|e| D::Error::custom(format!("invalid duration {text:?}: {e}; write it like \"30s\" or \"5m\"")))
}

/// `365d`, `26h`, `1h 30m`, `1s 500ms`; `0s` for nothing.
pub fn words(span: Duration) -> String {
    let seconds = span.as_secs();
    // `26h` and not `1d 2h`; months and years are no lengths.
    let days = if seconds.is_multiple_of(DAY) || seconds >= MANY_HOURS { seconds / DAY } else { 0 };
    let rest = seconds - days * DAY;
    let nanos = span.subsec_nanos();
    let parts = [
        (days, "d"),
        (rest / HOUR, "h"),
        (rest % HOUR / MINUTE, "m"),
        (rest % MINUTE, "s"),
        (u64::from(nanos / 1_000_000), "ms"),
        (u64::from(nanos / 1000 % 1000), "us"),
        (u64::from(nanos % 1000), "ns"),
    ];
    let words: Vec<String> =
        parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if words.is_empty() { "0s".into() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_span_is_written_as_a_person_would() {
        for text in
            ["0s", "50ms", "1s 500ms", "30s", "30m", "1h 30m", "26h", "50h", "1d", "7d", "365d", "365d 6h", "4d 4h"]
        {
            assert_eq!(words(humantime::parse_duration(text).expect("a span")), text);
        }
        assert_eq!(words(Duration::from_secs(90 * 60)), "1h 30m");
        assert_eq!(words(Duration::from_secs(24 * 3600)), "1d");
    }

    proptest! {
        #[test]
        fn every_span_comes_back_as_it_was(seconds in prop_oneof![any::<u64>(), 0..200_000_u64], nanos in 0..1_000_000_000_u32) {
            for span in [Duration::new(seconds, nanos), Duration::from_secs(seconds)] {
                prop_assert_eq!(humantime::parse_duration(&words(span)), Ok(span));
            }
        }
    }
}
