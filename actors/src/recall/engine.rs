//! Answers "what did we say about X?" from the archive, and hands a chosen passage to the bridge.
//!
//! A query, not a process: it reads. The only thing it writes is the one slot a person asked it to fill.

use super::frame::{self, Passage};
use crate::contract::{RecallMatch, RecallResult, count};
use crate::domain::{Role, SessionKey, Sha256};
use crate::error::{Error, Result};
use crate::port::{Bridge, Clock, Hits, Ids, Ledger, Query, SearchIndex, Slot, TurnHit, unknown_session};
use crate::settings;
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;

/// Longest snippet of a match, characters; the archive has the rest.
const SNIPPET_CHARS: usize = 1_200;
/// Passages of full length that may wait for one model call together.
const PASSAGES: usize = 4;
/// Longest query, bytes.
const LONGEST_QUERY: usize = 32 << 10;

#[derive(Clone)]
pub struct Recaller {
    pub index: Arc<dyn SearchIndex>,
    pub ledger: Arc<dyn Ledger>,
    pub bridge: Arc<dyn Bridge>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub settings: settings::Recall,
}

impl Recaller {
    /// The best passages, best first: the best turn of each session in the order of the sessions, then the rest of their turns.
    pub async fn recall(&self, query: &Query) -> Result<RecallResult> {
        let found = self.search(query).await?;
        let mut matches = Vec::new();
        for (session, session_id, turn) in ranked(&found, &query.text).into_iter().take(query.limit) {
            matches.push(self.found(matches.len() + 1, session, session_id, turn).await?);
        }
        Ok(RecallResult {
            query: query.text.clone(),
            matches,
            generated_at_epoch_secs: self.clock.now().timestamp(),
            backend: found.backend,
            degraded: found.degraded,
            repaired: found.repaired,
        })
    }

    /// Searches, and says when the index does not hold all of the archive: "nothing found" would else sound like "never said".
    async fn search(&self, query: &Query) -> Result<Hits> {
        if query.text.len() > LONGEST_QUERY {
            let length = query.text.len();
            return Err(Error::data("recall.query_too_long", format!("a query of {length} bytes is too long"))
                .cause(format!("at most {LONGEST_QUERY} bytes are searched for"))
                .hint("ask for the few words that matter"));
        }
        if let Some(session) = &query.session {
            knows(self.ledger.as_ref(), session).await?;
        }
        let mut found = self.index.search(query).await?;
        let (held, archived) = (self.index.status().await?.segments, self.ledger.totals().await?.segments);
        if found.degraded.is_none() && held < archived.unsigned_abs() {
            found.degraded = Some(format!("incomplete: it holds {held} of {}", count(archived, "archived segment")));
        }
        Ok(found)
    }

    async fn found(&self, rank: usize, session: &SessionKey, session_id: &str, turn: &TurnHit) -> Result<RecallMatch> {
        let path = self.ledger.find_segment(&turn.segment).await?.map(|(segment, _)| segment.path);
        Ok(RecallMatch {
            // The index may be ahead of a ledger that was restored: the object's name is its hash.
            archive_path: path.unwrap_or_else(|| format!("sha256:{}", turn.segment)),
            snippet: clip(&turn.text, SNIPPET_CHARS),
            score: turn.score,
            metadata: json!({
                "rank": rank, "session": session, "session_id": session_id, "seq": turn.seq, "at": turn.at,
                "speaker": turn.speaker, "segment": turn.segment,
            }),
        })
    }

    /// Puts the match of that rank (1 is the best) into the next model call of `target`, framed as quoted data, behind what
    /// waits there already. Returns the match and the hash of all that waits.
    pub async fn inject(&self, query: &Query, pick: usize, target: &SessionKey) -> Result<(RecallMatch, Sha256)> {
        knows(self.ledger.as_ref(), target).await?;
        let found = self.search(query).await?;
        let ranked = ranked(&found, &query.text);
        let Some((session, session_id, turn)) = ranked.into_iter().nth(pick.saturating_sub(1)) else {
            let message = match found.hits.is_empty() {
                true => "nothing was found that could be injected".to_owned(),
                false => format!("there is no match number {pick} to inject"),
            };
            return Err(Error::data("recall.no_such_match", message)
                .hint("run `moon recall` without --inject to see the matches"));
        };
        let found = self.found(pick, session, session_id, turn).await?;
        let status = self.bridge.status().await;
        if !status.alive {
            return Err(Error::unavailable(
                "recall.no_bridge",
                format!("no bridge is alive that could carry the passage into {target}"),
            )
            .cause(status.detail)
            .hint("run `moon install`, then `moon verify`"));
        }
        let passage = Passage {
            session: session.clone(),
            session_id: session_id.to_owned(),
            archive: found.archive_path.clone(),
            segment: turn.segment.clone(),
            seq: turn.seq,
            at: turn.at,
            speaker: turn.speaker.clone(),
            text: turn.text.clone(),
        };
        let text = frame::frame(&passage, &self.ids.next(), self.settings.max_inject_chars);
        let text = self.behind_waiting(target, text).await?;
        let sha256 = self.bridge.place(target, Slot::Passage, &text).await?;
        Ok((found, sha256))
    }

    /// The passage behind those that no model call has taken yet: a second one must not push the first one out.
    async fn behind_waiting(&self, target: &SessionKey, text: String) -> Result<String> {
        let Some(waiting) = self.bridge.placed(target, Slot::Passage).await? else { return Ok(text) };
        if (waiting.chars().count() + text.chars().count()) > PASSAGES * self.settings.max_inject_chars {
            let message = format!("{target} has as many passages waiting as fit into one model call");
            return Err(Error::conflict("recall.passages_wait", message)
                .hint("let the agent take its next turn, then inject this one"));
        }
        Ok(format!("{waiting}\n\n{text}"))
    }
}

/// Errors: [`unknown_session`].
pub(crate) async fn knows(ledger: &dyn Ledger, session: &SessionKey) -> Result<()> {
    if ledger.session(session).await?.is_some() || !ledger.all_series(Some(session)).await?.is_empty() {
        return Ok(());
    }
    Err(unknown_session(session.as_str()))
}

/// Every turn of an answer with its session: the best of each session first, then the second best of each, and so on. What was
/// shown already is not shown again (a forked session repeats its beginning). A question that is only asked again comes last:
/// whoever asks has often asked the agent first, and an echo answers nothing.
fn ranked<'a>(found: &'a Hits, question: &str) -> Vec<(&'a SessionKey, &'a str, &'a TurnHit)> {
    let deepest = found.hits.iter().map(|hit| hit.turns.len()).max().unwrap_or(0);
    let in_order = (0..deepest).flat_map(|depth| {
        found
            .hits
            .iter()
            .filter_map(move |hit| hit.turns.get(depth).map(|turn| (&hit.session, hit.session_id.as_str(), turn)))
    });
    let (asked, mut shown) = (words(question), HashSet::new());
    let fresh = in_order.filter(|(_, _, turn)| shown.insert((turn.speaker.as_str(), turn.text.trim())));
    let (echoes, mut answers): (Vec<_>, Vec<_>) = fresh.partition(|(_, _, turn)| is_echo(turn, &asked));
    answers.extend(echoes);
    answers
}

/// True for a person's question that holds all of the asked words in their order and hardly anything else. Only a question: an
/// error message or an identifier that was pasted is looked for, not asked.
fn is_echo(turn: &TurnHit, asked: &[String]) -> bool {
    let is_question = turn.text.trim_end().ends_with(['?', '？', '؟', '\u{37e}']);
    if turn.speaker != Role::User.as_str() || !is_question {
        return false;
    }
    let text = words(&turn.text);
    let close = text.len() <= asked.len() + asked.len() / 4 + 2;
    asked.len() > 2 && close && text.windows(asked.len()).any(|window| window == asked)
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase).collect()
}

fn clip(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{} …", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Hit;

    fn hit(session: &str, texts: &[&str]) -> Hit {
        let turn = |text: &&str| TurnHit {
            segment: Sha256::of(text.as_bytes()),
            seq: 0,
            at: None,
            speaker: "user".into(),
            text: (*text).to_owned(),
            score: 1.0,
        };
        let turns = texts.iter().map(turn).collect();
        Hit { session: session.into(), session_id: session.into(), score: 1.0, turns }
    }

    #[test]
    fn the_best_turn_of_each_session_comes_first_and_an_echo_of_the_question_last() {
        let hits =
            vec![hit("a", &["[Ada] Which port do we use?", "we use port 7777"]), hit("b", &["the port is open"])];
        let found = Hits { hits, ..Hits::default() };
        let texts: Vec<_> =
            ranked(&found, "which port do we use").into_iter().map(|(_, _, t)| t.text.as_str()).collect();
        assert_eq!(texts, ["the port is open", "we use port 7777", "[Ada] Which port do we use?"]);
    }

    #[test]
    fn a_turn_that_says_more_than_the_question_is_no_echo() {
        let echo = |text: &str, asked: &str| is_echo(&hit("a", &[text]).turns[0], &words(asked));
        assert!(echo("[Ada] Which port do we use?", "which port do we use"));
        assert!(!echo("Which port do we use? We use port 7777 since March, as Ada decided.", "which port do we use"));
        assert!(!echo("port", "port"));
        assert!(!echo("MAX_RETRY_COUNT_BEFORE_DLQ", "MAX_RETRY_COUNT_BEFORE_DLQ"));
        let refused = "ERROR 1045 (28000): Access denied for user 'root'@'localhost'";
        assert!(!echo(refused, refused));
    }

    #[test]
    fn what_a_fork_of_a_session_repeats_is_shown_once() {
        let hits = vec![hit("a", &["the port is 7777"]), hit("b", &["the port is 7777", "or was it 7778"])];
        let found = Hits { hits, ..Hits::default() };
        let texts: Vec<_> = ranked(&found, "port").into_iter().map(|(_, _, t)| t.text.as_str()).collect();
        assert_eq!(texts, ["the port is 7777", "or was it 7778"]);
    }
}
