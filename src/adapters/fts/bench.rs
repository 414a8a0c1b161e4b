//! Measuring the index: ranking on LoCoMo, time on a made-up history.
//!
//! Why in the product: a number that anybody can get again is worth more than one in a document. The LoCoMo file is
//! read from where the user has it and never copied; everything built is in a scratch folder that is removed.

use super::FtsIndex;
use crate::scratch::Scratch;
use chrono::{DateTime, Duration, NaiveDateTime, Utc};
use moon_actors::domain::{Role, SessionKey, Sha256, Turn};
use moon_actors::port::{Hit, IndexDoc, Query, SearchIndex, SegmentName, TurnHit};
use moon_actors::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::time::Instant;

/// Characters a chunk, as in the default settings.
const CHUNK_CHARS: usize = 1_200;

/// How a conversation reaches the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// One segment a session.
    Sessions,
    /// One segment for every two turns, as the daemon's continuous archiving does.
    Pairs,
}

/// What a run measured. Shares are 0.0..=1.0, times are milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Questions asked.
    pub count: usize,
    /// Questions without any hit.
    pub empty: f64,
    /// `None` where nobody knows the right answers.
    pub ranking: Option<Ranking>,
    pub search_p50_ms: f64,
    pub search_p95_ms: f64,
    pub puts: usize,
    pub put_p50_ms: f64,
    pub put_p95_ms: f64,
    /// Size of the index at the end, with its log.
    pub bytes: u64,
}

/// How often the right session and turn came first, as shares of the questions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ranking {
    /// A session with evidence is the first hit.
    pub recall_at_1: f64,
    /// ... is among the first five.
    pub recall_at_5: f64,
    /// Mean of 1 / rank of the first session with evidence, 0 beyond the tenth.
    pub mrr: f64,
    /// An evidence turn is the first shown turn of the first hit.
    pub evidence_1: f64,
    /// ... is among its shown turns (up to three).
    pub evidence_3: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "questions  {}, without a hit {:.3}", self.count, self.empty)?;
        if let Some(r) = &self.ranking {
            writeln!(f, "sessions   recall@1 {:.3}   recall@5 {:.3}   MRR {:.3}", r.recall_at_1, r.recall_at_5, r.mrr)?;
            writeln!(f, "turns      evidence@1 {:.3}   evidence@3 {:.3}", r.evidence_1, r.evidence_3)?;
        }
        writeln!(f, "search     p50 {:.2} ms   p95 {:.2} ms", self.search_p50_ms, self.search_p95_ms)?;
        writeln!(f, "put        p50 {:.2} ms   p95 {:.2} ms   ({} puts)", self.put_p50_ms, self.put_p95_ms, self.puts)?;
        write!(f, "index      {} bytes", self.bytes)
    }
}

/// Session recall on a LoCoMo file (a JSON list of conversations): the questions of categories 1 to 4 that have
/// evidence, each asked inside its conversation. Fed in pairs of turns, as the daemon does.
/// Errors: `config` `bench.unreadable` when the file cannot be read or is not LoCoMo; what the index answers.
pub async fn locomo(path: &Path) -> Result<Report> {
    locomo_fed(path, Feed::Pairs).await
}

/// Like [`locomo`], with a choice of how the conversations are fed.
pub async fn locomo_fed(path: &Path, feed: Feed) -> Result<Report> {
    let conversations = Conversation::read(path)?;
    let scratch = Scratch::make("bench")?;
    let index = FtsIndex::open(&scratch.path().join("history.db"), CHUNK_CHARS);
    let mut clock = Stopwatch::default();
    for conversation in &conversations {
        for session in &conversation.sessions {
            put_session(&index, conversation, session, feed, &mut clock.puts).await?;
        }
    }
    let (mut report, mut ranking) = (Report::default(), Ranking::default());
    for conversation in &conversations {
        for question in &conversation.questions {
            let query =
                Query { text: question.text.clone(), limit: 10, session: Some(conversation.key.clone()), since: None };
            let started = Instant::now();
            let answer = index.search(&query).await?;
            clock.searches.push(milliseconds(started));
            report.count += 1;
            report.empty += f64::from(u8::from(answer.hits.is_empty()));
            ranking.add(&answer.hits, &question.evidence);
        }
    }
    report.empty /= report.count.max(1) as f64;
    report.ranking = Some(ranking.over(report.count));
    clock.report(&mut report);
    report.bytes = index.status().await?.bytes;
    Ok(report)
}

/// Times of search and put on a made-up history of about `turns` turns in sessions of forty, fed in pairs.
pub async fn latency(turns: usize) -> Result<Report> {
    let scratch = Scratch::make("bench")?;
    let index = FtsIndex::open(&scratch.path().join("history.db"), CHUNK_CHARS);
    let mut random = Random(0x5eed);
    let mut clock = Stopwatch::default();
    let begin = DateTime::<Utc>::UNIX_EPOCH + Duration::days(20_000);
    for pair in 0..turns.div_ceil(2) {
        let session = pair / 20;
        let turns = (0..2)
            .map(|n| Turn {
                seq: (pair % 20 * 2 + n) as i64,
                at: Some(begin + Duration::minutes((pair * 2 + n) as i64)),
                role: if n == 0 { Role::User } else { Role::Assistant },
                speaker: if n == 0 { "user".into() } else { "assistant".into() },
                text: random.sentence(if n == 0 { 25 } else { 120 }),
            })
            .collect();
        let key = SessionKey(format!("agent:main:{session}"));
        timed_put(&index, document(&key, "1", pair as i64 % 20, turns), &mut clock.puts).await?;
    }
    let mut report = Report::default();
    for _ in 0..200 {
        let query = Query { text: random.sentence(5), limit: 10, session: None, since: None };
        let started = Instant::now();
        let answer = index.search(&query).await?;
        clock.searches.push(milliseconds(started));
        report.count += 1;
        report.empty += f64::from(u8::from(answer.hits.is_empty()));
    }
    report.empty /= report.count as f64;
    clock.report(&mut report);
    report.bytes = index.status().await?.bytes;
    Ok(report)
}

impl Ranking {
    fn add(&mut self, hits: &[Hit], evidence: &HashSet<(String, i64)>) {
        let one = |b: bool| f64::from(u8::from(b));
        let gold: HashSet<&str> = evidence.iter().map(|(session, _)| session.as_str()).collect();
        let rank = hits.iter().position(|h| gold.contains(h.session_id.as_str()));
        self.recall_at_1 += one(rank == Some(0));
        self.recall_at_5 += one(rank.is_some_and(|r| r < 5));
        self.mrr += rank.filter(|r| *r < 10).map_or(0.0, |r| 1.0 / (r + 1) as f64);
        if let Some(first) = hits.first() {
            let is_evidence = |t: &TurnHit| evidence.contains(&(first.session_id.clone(), t.seq));
            self.evidence_1 += one(first.turns.iter().take(1).any(is_evidence));
            self.evidence_3 += one(first.turns.iter().take(3).any(is_evidence));
        }
    }

    fn over(self, count: usize) -> Self {
        let share = |sum: f64| sum / count.max(1) as f64;
        Self {
            recall_at_1: share(self.recall_at_1),
            recall_at_5: share(self.recall_at_5),
            mrr: share(self.mrr),
            evidence_1: share(self.evidence_1),
            evidence_3: share(self.evidence_3),
        }
    }
}

struct Conversation {
    key: SessionKey,
    sessions: Vec<Session>,
    questions: Vec<Question>,
}

struct Session {
    id: String,
    turns: Vec<Turn>,
}

struct Question {
    text: String,
    /// Session id and position of the turn in it.
    evidence: HashSet<(String, i64)>,
}

impl Conversation {
    fn read(path: &Path) -> Result<Vec<Self>> {
        let unreadable = |cause: &dyn fmt::Display| {
            Error::config("bench.unreadable", format!("cannot measure with {}", path.display()))
                .cause(cause)
                .hint("give the path of a LoCoMo JSON file")
        };
        let bytes = std::fs::read(path).map_err(|e| unreadable(&e))?;
        let all: Vec<Value> = serde_json::from_slice(&bytes).map_err(|e| unreadable(&e))?;
        all.iter().map(|v| Self::parse(v).ok_or_else(|| unreadable(&"not a list of LoCoMo conversations"))).collect()
    }

    fn parse(value: &Value) -> Option<Self> {
        let conversation = value.get("conversation")?;
        let mut places = HashMap::new();
        let mut sessions = Vec::new();
        for number in 1.. {
            let id = format!("session_{number}");
            let Some(turns) = conversation.get(&id) else { break };
            let date = conversation.get(format!("{id}_date_time")).and_then(Value::as_str);
            let at =
                date.and_then(|d| NaiveDateTime::parse_from_str(d, "%I:%M %p on %d %B, %Y").ok()).map(|d| d.and_utc());
            let mut session = Session { id, turns: Vec::new() };
            for (seq, turn) in turns.as_array()?.iter().enumerate() {
                places.insert(turn.get("dia_id")?.as_str()?.to_owned(), (session.id.clone(), seq as i64));
                session.turns.push(Turn {
                    seq: seq as i64,
                    at: at.map(|at| at + Duration::seconds(seq as i64)),
                    role: if seq % 2 == 0 { Role::User } else { Role::Assistant },
                    speaker: turn.get("speaker")?.as_str()?.to_owned(),
                    text: turn.get("text")?.as_str()?.to_owned(),
                });
            }
            sessions.push(session);
        }
        let questions = value.get("qa")?.as_array()?.iter().filter_map(|q| Question::parse(q, &places)).collect();
        Some(Self { key: SessionKey(value.get("sample_id")?.as_str()?.to_owned()), sessions, questions })
    }
}

impl Question {
    /// `None` for adversarial questions (category 5) and those without evidence that exists.
    fn parse(value: &Value, places: &HashMap<String, (String, i64)>) -> Option<Self> {
        if !(1..=4).contains(&value.get("category")?.as_i64()?) {
            return None;
        }
        let named = value.get("evidence")?.as_array()?.iter().filter_map(Value::as_str);
        // Some entries name two turns at once: `D8:6; D9:17`.
        let evidence: HashSet<_> =
            named.flat_map(|n| n.split([';', ' '])).filter_map(|n| places.get(n.trim()).cloned()).collect();
        let text = value.get("question")?.as_str()?.to_owned();
        (!evidence.is_empty()).then_some(Self { text, evidence })
    }
}

async fn put_session(
    index: &FtsIndex,
    conversation: &Conversation,
    session: &Session,
    feed: Feed,
    times: &mut Vec<f64>,
) -> Result<()> {
    let size = if feed == Feed::Pairs { 2 } else { session.turns.len().max(1) };
    for (ordinal, turns) in session.turns.chunks(size).enumerate() {
        timed_put(index, document(&conversation.key, &session.id, ordinal as i64, turns.to_vec()), times).await?;
    }
    Ok(())
}

fn document(session: &SessionKey, session_id: &str, ordinal: i64, turns: Vec<Turn>) -> IndexDoc {
    let identity = format!("{session} {session_id} {ordinal}");
    let segment = Sha256::of(identity.as_bytes());
    let (session, session_id) = (session.clone(), session_id.to_owned());
    IndexDoc { name: SegmentName { segment, session, session_id, epoch: 0, ordinal }, turns }
}

async fn timed_put(index: &FtsIndex, doc: IndexDoc, times: &mut Vec<f64>) -> Result<()> {
    let started = Instant::now();
    index.put(doc).await?;
    times.push(milliseconds(started));
    Ok(())
}

#[derive(Default)]
struct Stopwatch {
    puts: Vec<f64>,
    searches: Vec<f64>,
}

impl Stopwatch {
    fn report(mut self, report: &mut Report) {
        self.puts.sort_by(f64::total_cmp);
        self.searches.sort_by(f64::total_cmp);
        report.puts = self.puts.len();
        (report.put_p50_ms, report.put_p95_ms) = (share_of(&self.puts, 0.5), share_of(&self.puts, 0.95));
        (report.search_p50_ms, report.search_p95_ms) = (share_of(&self.searches, 0.5), share_of(&self.searches, 0.95));
    }
}

/// The value that `share` of a sorted list does not exceed.
fn share_of(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

/// A small reproducible generator (SplitMix64); the history needs variety, not secrecy.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Made-up words, a few frequent and thousands rare, as in a language.
    fn sentence(&mut self, words: usize) -> String {
        let syllables =
            ["ba", "ko", "mi", "ter", "lun", "so", "ra", "vel", "ni", "gor", "pu", "shi", "da", "fen", "qua", "lo"];
        let mut out = String::new();
        for _ in 0..words {
            let uniform = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
            let mut rank = (20_000_f64.powf(uniform)) as usize;
            while rank > 0 {
                out.push_str(syllables[rank % 16]);
                rank /= 16;
            }
            out.push(' ');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_counts_only_questions_with_evidence_that_exists() {
        let file = tempfile::NamedTempFile::new().expect("a scratch file");
        let made_up = serde_json::json!([{
            "sample_id": "made-up",
            "conversation": {
                "session_1_date_time": "1:56 pm on 8 May, 2031",
                "session_1": [
                    {"speaker": "Ada", "dia_id": "D1:1", "text": "I bought a yellow kayak."},
                    {"speaker": "Bo", "dia_id": "D1:2", "text": "Nice, mine is red."},
                ],
                "session_2_date_time": "9:00 am on 1 June, 2031",
                "session_2": [
                    {"speaker": "Ada", "dia_id": "D2:1", "text": "The paddle broke."},
                    {"speaker": "Bo", "dia_id": "D2:2", "text": "Oh no."},
                ],
            },
            "qa": [
                {"question": "Which colour is the kayak Ada bought?", "evidence": ["D1:1"], "category": 1},
                {"question": "What broke in June?", "evidence": ["D1:2; D2:1"], "category": 2},
                {"question": "xylophone", "evidence": ["D2:2"], "category": 4},
                {"question": "kayak", "evidence": ["D1:1"], "category": 5},
                {"question": "kayak", "evidence": ["D9:9"], "category": 1},
            ],
        }]);
        std::fs::write(file.path(), made_up.to_string()).expect("written");
        for feed in [Feed::Sessions, Feed::Pairs] {
            let report = locomo_fed(file.path(), feed).await.expect("measured");
            let found = 2.0 / 3.0;
            let expected =
                Ranking { recall_at_1: found, recall_at_5: found, mrr: found, evidence_1: found, evidence_3: found };
            assert_eq!((report.count, report.empty, report.ranking), (3, 1.0 / 3.0, Some(expected)));
        }
    }

    #[tokio::test]
    async fn a_file_that_is_something_else_is_said_to_be() {
        let file = tempfile::NamedTempFile::new().expect("a scratch file");
        std::fs::write(file.path(), "[{\"qa\": 1}]").expect("written");
        assert_eq!(locomo(file.path()).await.expect_err("refused").code, "bench.unreadable");
    }

    #[tokio::test]
    async fn times_are_measured_for_every_put_and_search() {
        let report = latency(60).await.expect("measured");
        assert_eq!((report.count, report.puts, report.ranking.is_none()), (200, 30, true));
        assert!(report.put_p50_ms > 0.0 && report.search_p50_ms > 0.0 && report.bytes > 0);
    }
}
