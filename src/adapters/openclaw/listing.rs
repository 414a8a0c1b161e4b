//! Gathering `sessions.list` page by page.
//!
//! Pure. It must never ask without an end: a gateway whose pages bring nothing new, or too much, is listed no further.

use super::frame::Refusal;
use super::usage::MOST_SESSIONS;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Rows asked for at once.
pub(super) const PAGE: usize = 200;

/// How much of what it has a gateway is asked for. Without a word OpenClaw leaves out the archived sessions and the ones that
/// belong to no conversation of their own: with `session.scope = "global"` that is all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Breadth {
    #[default]
    Everything,
    /// For releases that know nothing of archived sessions.
    Present,
    /// Without any of the words: a gateway refuses parameters it does not know.
    Plain,
}

impl Breadth {
    /// What to ask for after a refusal; `None` when there is nothing less to ask for.
    pub(super) fn after(self, refusal: &Refusal) -> Option<Self> {
        match self {
            _ if refusal.code != "INVALID_REQUEST" => None,
            Self::Everything => Some(Self::Present),
            Self::Present => Some(Self::Plain),
            Self::Plain => None,
        }
    }
}

/// The agents in an answer to `agents.list` that need a list of their own.
pub(super) fn agents_beside(default_agent: Option<&str>, answer: &Value) -> VecDeque<String> {
    let agents = answer.get("agents").and_then(Value::as_array).into_iter().flatten();
    let ids = agents.filter_map(|agent| agent.get("id").and_then(Value::as_str));
    ids.filter(|id| Some(*id) != default_agent).map(str::to_owned).collect()
}

/// Parameters of `sessions.list`; the first page goes without the offset that old releases do not know.
pub(super) fn page_request(breadth: Breadth, agent: Option<&str>, offset: usize) -> Value {
    let mut params = match breadth {
        Breadth::Everything => {
            json!({ "limit": PAGE, "includeGlobal": true, "includeUnknown": true, "archived": "all" })
        }
        Breadth::Present => json!({ "limit": PAGE, "includeGlobal": true, "includeUnknown": true }),
        Breadth::Plain => json!({ "limit": PAGE }),
    };
    if let Some(agent) = agent {
        params["agentId"] = agent.into();
    }
    if offset > 0 {
        params["offset"] = offset.into();
    }
    params
}

/// One page of `sessions.list` (or of the list inside a `sessions.subscribe` answer).
pub(super) struct ListPage {
    pub(super) rows: Vec<Value>,
    pub(super) listed_at: i64,
    pub(super) next: Option<usize>,
}

impl ListPage {
    /// `None` when the answer carries no list.
    pub(super) fn take(mut payload: Value) -> Option<Self> {
        let mut list = match payload.get_mut("list") {
            Some(list) => list.take(),
            None => payload,
        };
        let listed_at = list.get("ts").and_then(Value::as_i64).unwrap_or(i64::MAX);
        let has_more = list.get("hasMore").and_then(Value::as_bool).unwrap_or(false);
        let next = list.get("nextOffset").and_then(Value::as_u64).filter(|_| has_more);
        let Value::Array(rows) = list.get_mut("sessions")?.take() else { return None };
        Some(Self { rows, listed_at, next: next.and_then(|n| usize::try_from(n).ok()) })
    }
}

/// Pages gathered so far.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) rows: Vec<Value>,
    /// The time of the first page: what was seen later than that is kept.
    pub(super) listed_at: Option<i64>,
    /// Whose sessions are being listed now; `None` for the list of all.
    pub(super) agent: Option<String>,
    /// Agents to be listed after that.
    pub(super) agents: VecDeque<String>,
}

impl Listing {
    /// Takes a page; the offset of the next one, if it should be asked for, then of [`Self::agent`].
    pub(super) fn add(&mut self, page: ListPage) -> Option<usize> {
        let progress = !page.rows.is_empty();
        self.rows.extend(page.rows);
        self.listed_at.get_or_insert(page.listed_at);
        if self.rows.len() >= MOST_SESSIONS {
            return None;
        }
        page.next.filter(|_| progress).or_else(|| {
            self.agent = Some(self.agents.pop_front()?);
            Some(0)
        })
    }
}
