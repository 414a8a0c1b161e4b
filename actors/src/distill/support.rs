//! What is settled in talk without a word that says so.
//!
//! People decide by picking one of two things and being taken at their word: "JSON or binary?" "JSON is fine, but zipped."
//! "Good, I use the zip crate." Such a sentence counts when enough speaks for it: a weak phrase of its own, an offer or a
//! question right before it, its words in the offer, and what the other side does with it: takes note, repeats it, agrees,
//! edits a file. Must stay bounded: only the sentences of one turn wait, and only until the next person speaks.

use super::dialogue::Draft;
use super::lexicon::Cue;
use super::local::{CLEAR, Said, WEAK};
use super::{label, words};
use crate::domain::ItemKind;

/// Sentences of one turn that wait.
const MOST: usize = 16;
/// Stems of an agent's words that are kept to compare with.
const STEMS: usize = 256;

/// A sentence that waits for what the other side makes of it.
#[derive(Debug)]
pub(super) struct Support {
    draft: Draft,
    /// What its own phrases weigh; 0 for none.
    own: i32,
    stems: Vec<u64>,
    /// Names a day or a time.
    dated: bool,
    /// What was said before speaks for it.
    before: i32,
    /// What is said behind it speaks for it: the strongest of its kind.
    agreed: i32,
    repeated: i32,
    edited: i32,
    sealed: i32,
    /// The other side has put it off: what was ordered is still to be done.
    deferred: bool,
}

impl Support {
    pub(super) fn new(draft: Draft, own: i32, stems: Vec<u64>) -> Self {
        let dated = own == 0 && is_dated(&draft.text);
        Self { draft, own, stems, dated, before: 0, agreed: 0, repeated: 0, edited: 0, sealed: 0, deferred: false }
    }

    /// An order: only what it picks from is settled by it.
    fn orders(&self) -> bool {
        (1..WEAK).contains(&self.own)
    }

    fn total(&self) -> i32 {
        let edited = if self.orders() { 0 } else { self.edited };
        // What nobody offered or asked is settled by being taken down, not by being talked about.
        let agreed = if self.before > 0 || self.own > 0 { self.agreed.max(self.repeated) } else { 0 };
        let taken_down = if self.dated && self.before == 0 && self.agreed > WEAK { CLEAR } else { 0 };
        self.own + self.before + agreed.max(taken_down) + edited + self.sealed
    }
}

/// What one side said last, as far as the other answers to it.
#[derive(Debug, Default)]
pub(super) struct Talk {
    waiting: Vec<Support>,
    /// The agent has offered something, or was asked, before the words of this turn.
    offered: bool,
    offer: Vec<u64>,
    /// The same, being gathered for the next turn.
    offers: bool,
    said: Vec<u64>,
    asked: bool,
}

impl Talk {
    /// A person begins to speak: what the last one said is settled now or never.
    pub(super) fn person_speaks(&mut self) -> Vec<Draft> {
        let waiting = std::mem::take(&mut self.waiting);
        let (open, waiting): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|w| w.orders() && w.deferred);
        let mut settled: Vec<Support> = waiting.into_iter().filter(|w| w.total() >= CLEAR).collect();
        // Of the sentences that have no phrase of their own the best speaks for the turn.
        let best = settled.iter().filter(|w| w.own == 0).map(Support::total).max().unwrap_or_default();
        let mut taken = settled.iter().any(|w| w.own > 0 && w.draft.kind == ItemKind::Decision);
        settled.retain(|w| {
            let keep = w.own > 0 || !taken && w.total() == best;
            taken |= keep && w.own == 0;
            keep
        });
        self.offered = self.offers || self.asked;
        self.offer = std::mem::take(&mut self.said);
        (self.offers, self.asked) = (false, false);
        let weighed = settled.into_iter().map(|w| {
            let salience = w.draft.salience + (w.total() - CLEAR).min(10) / 2;
            Draft { salience, ..w.draft }
        });
        weighed.chain(open.into_iter().map(|w| Draft { kind: ItemKind::OpenTask, ..w.draft })).collect()
    }

    /// Whether a sentence without any phrase can settle something here: short, no question, no story, and something was
    /// offered or asked.
    pub(super) fn may_settle(&self, said: &Said<'_>) -> bool {
        let told = [Cue::Past, Cue::Elsewhere, Cue::Doubt, Cue::Deferral, Cue::Noise, Cue::Request];
        let length = words::length(said.words());
        (self.offered || is_dated(said.words()))
            && !said.asks
            && (2..=25).contains(&length)
            && told.iter().all(|cue| said.scores.of(*cue) == 0)
            && names_something(core(said.words()))
            && !narrates(said.words())
    }

    /// A person asks something, so that what the agent answers is something to choose from.
    pub(super) fn person_asks(&mut self) {
        self.asked = true;
    }

    /// Lets a sentence of this turn wait.
    pub(super) fn wait(&mut self, mut support: Support) {
        // "Change them": an order without an object settles nothing that could be read later.
        if support.orders() && object(&support.draft.text).is_empty() {
            return;
        }
        let related = words::shared(&support.stems, &self.offer) > 0;
        support.before = match (self.offered, related, support.own) {
            (true, true, 0) => WEAK + WEAK / 2,
            (true, false, 0) => WEAK,
            (true, true, _) if support.draft.kind == ItemKind::Decision => WEAK,
            (true, ..) if !support.orders() => WEAK / 2,
            _ => 0,
        };
        if self.waiting.len() < MOST {
            self.waiting.push(support);
        }
    }

    /// "Take it as my decision": what was said right before it in the turn `at`. Whether there was something.
    pub(super) fn seal(&mut self, at: usize) -> bool {
        let of_turn = |w: &&mut Support| w.draft.turn == at && w.draft.kind == ItemKind::Decision;
        let phrased = self.waiting.iter().any(|w| w.draft.turn == at && w.own > 0);
        let sealed = self.waiting.iter_mut().filter(of_turn).rfind(|w| w.own > 0 || !phrased);
        sealed.map(|w| w.sealed = 2 * CLEAR).is_some()
    }

    pub(super) fn agent_edits(&mut self) {
        self.waiting.iter_mut().for_each(|w| w.edited = WEAK / 2);
    }

    /// The agent answers.
    pub(super) fn agent_speaks(&mut self, all: &[Said<'_>]) {
        for (at, said) in all.iter().take(200).enumerate() {
            self.offers |= said.asks || said.scores.of(Cue::Offer) > 0;
            let stems = words::stems(said.words());
            if at < 3 {
                let deferred = said.scores.of(Cue::Deferral) > 0;
                self.waiting.iter_mut().for_each(|w| w.deferred |= deferred);
                let (agreed, short) = (said.scores.of(Cue::Accept), words::length(said.words()) <= 25);
                self.waiting.iter_mut().for_each(|w| accept(w, agreed, &stems, short && at < 2));
            }
            if self.said.len() < STEMS {
                self.said.extend(stems);
            }
        }
        self.said.sort_unstable();
        self.said.dedup();
    }
}

/// The sentence without the words of agreement before it.
fn core(text: &str) -> &str {
    &text[label::openings(text).pop().unwrap_or_default()..]
}

/// Whether a word of it says something: not figures alone.
fn names_something(text: &str) -> bool {
    words::terms(text).iter().any(|term| term.chars().any(char::is_alphabetic))
}

/// Stems of what stands behind the first word.
fn object(text: &str) -> Vec<u64> {
    let core = core(label::spoken(text));
    words::stems(core.split_once(' ').map_or("", |(_, rest)| rest))
}

/// Whether a day, a time of day or a span of time is named.
fn is_dated(text: &str) -> bool {
    const DAYS: [&str; 44] = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
        "january",
        "february",
        "march",
        "april",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "montag",
        "dienstag",
        "mittwoch",
        "donnerstag",
        "freitag",
        "samstag",
        "sonntag",
        "januar",
        "februar",
        "märz",
        "mai",
        "juni",
        "juli",
        "oktober",
        "dezember",
        "lundi",
        "mardi",
        "mercredi",
        "jeudi",
        "vendredi",
        "samedi",
        "lunes",
        "martes",
        "jueves",
        "viernes",
        "domingo",
    ];
    let clock = text
        .as_bytes()
        .windows(4)
        .any(|w| w[0].is_ascii_digit() && w[1] == b':' && w[2].is_ascii_digit() && w[3].is_ascii_digit());
    let day = || words::tokens(text).take(40).any(|word| DAYS.contains(&word.to_lowercase().trim_end_matches('s')));
    let eastern =
        || ["星期", "周一", "周二", "周三", "周四", "周五", "周六", "周日", "月曜", "火曜", "水曜", "木曜", "金曜"];
    const SPANS: [&str; 30] = [
        "minute", "minutes", "hour", "hours", "day", "days", "week", "weeks", "month", "months", "year", "years",
        "euros", "percent", "minuten", "stunden", "tage", "tagen", "wochen", "monate", "monaten", "jahre", "jahren",
        "euro", "jours", "semaines", "mois", "días", "semanas", "meses",
    ];
    const NUMBERS: [&str; 26] = [
        "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "eine", "einen",
        "zwei", "drei", "vier", "fünf", "sechs", "acht", "zehn", "deux", "trois", "quatre", "dos", "tres", "cuatro",
    ];
    let all: Vec<String> = words::tokens(text).take(40).map(str::to_lowercase).collect();
    let is_number = |word: &String| NUMBERS.contains(&word.as_str()) || word.bytes().all(|b| b.is_ascii_digit());
    let span = all.windows(2).any(|pair| is_number(&pair[0]) && SPANS.contains(&pair[1].as_str()));
    clock || span || day() || eastern().into_iter().any(|day| text.contains(day))
}

/// Whether somebody did something: "I picked them up".
fn narrates(text: &str) -> bool {
    let words: Vec<String> = words::tokens(text).take(30).map(str::to_lowercase).collect();
    words.windows(2).any(|pair| {
        matches!(pair[0].as_str(), "i" | "we" | "he" | "she" | "they" | "it" | "who")
            && pair[1].len() > 4
            && pair[1].ends_with("ed")
    })
}

/// Counts what a sentence of the agent's says for one that waits.
fn accept(waiting: &mut Support, agreed: i32, stems: &[u64], may_repeat: bool) {
    let phrased = waiting.own > 0;
    let weight = match agreed {
        0 => 0,
        CLEAR.. => WEAK + WEAK / 2,
        _ if phrased => WEAK,
        _ => WEAK / 2,
    };
    waiting.agreed = waiting.agreed.max(weight);
    let common = words::shared(stems, &waiting.stems);
    let least = stems.len().min(waiting.stems.len());
    if may_repeat && common > 0 && common * 2 >= least {
        waiting.repeated = WEAK;
    }
}
