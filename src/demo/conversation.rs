//! The conversation that `moon demo` replays: a small team and its agent move a community library to a new catalogue.
//!
//! Written for this project: the people, the library and its records are invented, only the books exist. It is here so that a stranger can watch a window
//! fill, be pruned and rolled over without an agent, a model or an account. It must never hold real data, and the
//! planted fact must stand in it exactly once: the demo's proof is that it can be found again.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

const SOURCE: &str = include_str!("conversation.jsonl");

/// One thing that is asked, and everything that follows until the agent has answered.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    pub at: DateTime<Utc>,
    pub parts: Vec<Part>,
}

/// One step of an exchange.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Part {
    /// Somebody of the team writes.
    User { user: String, text: String },
    /// The agent uses a tool: two records, the call and its result.
    Tool {
        call: String,
        arguments: Value,
        result: String,
        #[serde(default)]
        failed: bool,
    },
    /// The agent writes.
    Assistant { assistant: String },
}

/// A fact that is said once, early, and needed at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planted {
    /// What a person asks weeks later.
    pub question: &'static str,
    /// The sentence that answers it, as it stands in the conversation.
    pub sentence: &'static str,
    /// The part of the sentence that nobody can guess.
    pub needle: &'static str,
    /// The day it was said, `YYYY-MM-DD`.
    pub decided_on: &'static str,
    /// 0-based index of its exchange in [`conversation`].
    pub exchange: usize,
}

/// The fact of this conversation.
pub const PLANTED: Planted = Planted {
    question: "How many days may a puppet theatre kit be kept, and why?",
    sentence: "The puppet theatre kits used to go out for 23 days per loan, because the van to the Oberwald school only \
               runs every third Friday and the children need one rehearsal after it.",
    needle: "23 days",
    decided_on: "2026-03-03",
    exchange: 6,
};

/// The whole conversation, oldest first: about 46,000 tokens. In a window of 16,000 that nobody prunes it crosses 80 % at
/// exchange 33 (0-based), 85 % at 34, 90 % at 36 and overflows at 41; pruned at 85 %, it gets there again at 63, 94, 124.
pub fn conversation() -> Vec<Exchange> {
    SOURCE
        .lines()
        .map(|line| serde_json::from_str(line).expect("the shipped conversation is read whole by a test"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn texts(exchange: &Exchange) -> Vec<String> {
        let text = |part: &Part| match part {
            Part::User { text, .. } => text.clone(),
            Part::Assistant { assistant } => assistant.clone(),
            Part::Tool { arguments, result, .. } => format!("{arguments}\n{result}"),
        };
        exchange.parts.iter().map(text).collect()
    }

    #[test]
    fn it_is_long_ordered_and_begins_every_exchange_with_a_person() {
        let all = conversation();
        let records: usize =
            all.iter().flat_map(|e| &e.parts).map(|p| 1 + usize::from(matches!(p, Part::Tool { .. }))).sum();
        assert!(all.len() >= 100 && records >= 300, "{} exchanges, {records} records", all.len());
        assert!(SOURCE.len() <= 400_000, "{} bytes", SOURCE.len());
        assert!(all.is_sorted_by_key(|e| e.at));
        for exchange in &all {
            assert!(matches!(exchange.parts.first(), Some(Part::User { .. })), "{}", exchange.at);
            assert!(matches!(exchange.parts.last(), Some(Part::Assistant { .. })), "{}", exchange.at);
        }
    }

    #[test]
    fn the_planted_fact_stands_in_it_once_and_early() {
        let all = conversation();
        let holding = |needle: &str| -> Vec<usize> {
            let hit = |e: &Exchange| texts(e).iter().any(|t| t.contains(needle));
            all.iter().enumerate().filter(|(_, e)| hit(e)).map(|(i, _)| i).collect()
        };
        assert_eq!(holding(PLANTED.sentence), [PLANTED.exchange]);
        assert_eq!(holding(PLANTED.needle), [PLANTED.exchange]);
        assert_eq!(holding("puppet").last(), Some(&PLANTED.exchange), "nothing later may give it away");
        assert_eq!(all[PLANTED.exchange].at.date_naive().to_string(), PLANTED.decided_on);
        assert!(PLANTED.sentence.contains(PLANTED.needle) && PLANTED.exchange < 12);
    }

    #[test]
    fn nothing_in_it_is_said_twice() {
        let mut seen = HashSet::new();
        for text in conversation().iter().flat_map(texts) {
            assert!(text.len() < 60 || seen.insert(text.clone()), "said twice: {text}");
        }
    }

    #[test]
    fn it_speaks_more_than_english() {
        assert!(SOURCE.chars().filter(|c| ('\u{4e00}'..='\u{9fff}').contains(c)).count() > 300);
        assert!(SOURCE.contains("ß") && SOURCE.contains("```"));
    }
}
