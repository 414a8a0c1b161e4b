//! The phrases that make a sentence a decision, a rule, a task, a report or a question.
//!
//! English in breadth; German, French, Spanish, Russian, Chinese and Japanese in basics. Two automata find them all, so
//! the cost is linear in the text. Phrases are matched on whole words, whatever the case; `*` at the end stands
//! for any ending. The phrases are in `lexicon.txt`. Must hold phrases only: what a score leads to is decided in `local`.

use super::label;
use super::words::{self, is_cjk};
use aho_corasick::{AhoCorasick, MatchKind};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// What a phrase speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cue {
    Decision,
    Rule,
    Milestone,
    Task,
    /// Says itself that something is open.
    Question,
    /// Somebody is asked to do something now.
    Request,
    /// Something earlier no longer holds.
    Revision,
    /// Supposition: speaks against decisions and reports.
    Doubt,
    /// A condition or a time to come: speaks against reports.
    Later,
    /// Negation: speaks against reports.
    Not,
    /// An answer that answers nothing yet.
    Deferral,
    /// A question that somebody has to choose an answer to.
    Choice,
    /// Something earlier no longer holds, and the words may well not say what: "on second thought".
    Strong,
    /// The other side takes note of what was said, or does it.
    Accept,
    /// Something to choose from.
    Offer,
    /// Other people's words, or of another time: speaks against everything.
    Elsewhere,
    /// Something that happened: told, not settled.
    Past,
    /// Something holds only in some case: speaks against tasks.
    Condition,
    /// Makes what was said right before it a decision.
    Seal,
    /// Takes a phrase out of play, e.g. "I never".
    Noise,
}

const KINDS: usize = 20;

/// Where a sentence begins, where a clause does, where one ends: characters that no text of people's holds.
const SENTENCE: char = '\u{2}';
const CLAUSE: char = '\u{3}';
const END: char = '\u{4}';

/// Scores of one sentence. 20 is one clear phrase, 40 a heading or a label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scores([i32; KINDS]);

impl Scores {
    pub(super) fn of(&self, cue: Cue) -> i32 {
        self.0[cue as usize]
    }
}

/// The phrases, a line for some of one kind: see the head of the file.
const PHRASES: &str = include_str!("lexicon.txt");

/// Headings and labels whose list items are all of one kind, whatever their words.
const HEADINGS: &[(Cue, &[&str])] = &[
    (
        Cue::Decision,
        &[
            "decisions",
            "decisions made",
            "key decisions",
            "decided",
            "entscheidungen",
            "beschlüsse",
            "décisions",
            "decisiones",
            "решения",
            "决定",
            "决策",
            "決定事項",
        ],
    ),
    (
        Cue::Rule,
        &[
            "rules",
            "ground rules",
            "house rules",
            "constraints",
            "constraints/rules",
            "regeln",
            "règles",
            "reglas",
            "правила",
            "规则",
            "ルール",
        ],
    ),
    (
        Cue::Milestone,
        &[
            "done",
            "completed",
            "milestones",
            "what was done",
            "finished",
            "erledigt",
            "terminé",
            "hecho",
            "сделано",
            "готово",
            "已完成",
            "完了",
        ],
    ),
    (
        Cue::Task,
        &[
            "tasks",
            "next",
            "remaining",
            "open",
            "open todos",
            "to do",
            "aufgaben",
            "offen",
            "tâches",
            "à faire",
            "задачи",
            "待办",
            "タスク",
        ],
    ),
    (
        Cue::Question,
        &["questions", "unresolved", "fragen", "questions ouvertes", "preguntas", "вопросы", "问题", "質問"],
    ),
];

/// What a heading or label says about the list below it: one of the kinds, or what its own phrases say.
pub(super) fn under(heading: &str) -> Option<Cue> {
    if heading.is_empty() {
        return None;
    }
    let plain = heading.trim_matches(['#', '*', '_', ' ', ':', '：']).to_lowercase();
    let named = HEADINGS.iter().find(|(_, names)| names.contains(&plain.as_str())).map(|(cue, _)| *cue);
    named.or_else(|| label::noun(heading)).or_else(|| {
        let scores = scores(heading);
        let kinds = [Cue::Question, Cue::Decision, Cue::Rule, Cue::Task, Cue::Milestone];
        kinds.into_iter().find(|cue| scores.of(*cue) >= 20)
    })
}

/// Words too common to say what a statement is about, and the words of the phrases themselves.
const STOP: &str = "the a an and or but nor so yet of to in on at by for with from into onto over under about as is are was \
    were be been being am do does did done doing have has had having will would shall should can could may might must need \
    not no yes this that these those it its he she they them their his her our your my me we us you i who whom which what \
    when where why how there here then than too very just only also even still already again more most much many some any \
    all each every both few other another such own same let lets let's i'll we'll i'm we're i've we've it's don't won't \
    decide decided decision agree agreed choose chose chosen settle settled pick picked however mind go going went use uses used using make makes made making get got put set take want wants please \
    always never now later instead keep okay ok sure yes hello hi thanks thank like know think see look say said tell told \
    because while after before until if else really actually maybe one two first last next new old way thing things \
    something however mind ran run running anything nothing everything back up down out off well good great right fine remember todo task tasks question \
    rule rules open user assistant today tomorrow yesterday turn turns session between began mostly last answer request \
    der die das den dem des ein eine einer eines einem einen und oder aber nicht kein keine ist sind war waren sein haben hat \
    hatte wird werden wurde ich du er sie es wir ihr uns euch mich dich sich mein dein unser für mit von aus bei nach zu zum \
    zur auf in im am an als wie wenn dass weil auch noch nur schon sehr immer nie bitte jetzt dann hier dort machen wollen \
    müssen muss soll sollte kann können verwenden nehmen entschieden le la les un une des du de et ou mais ne pas est sont \
    était être avoir ont il elle nous vous ils elles je tu on ce cette ces que qui quoi dans sur pour par avec sans sous plus \
    moins très bien aussi toujours jamais maintenant faire faut el los las una unos unas y o pero no es son era ser estar ha \
    han hay yo tú él ella nosotros ellos que quien como cuando donde en por para con sin sobre más menos muy bien también \
    siempre nunca ahora vamos hacer и в во не на но а что это как он она они мы вы ты я мне нас его её их по к у из за от до \
    для с со же бы ли уже ещё еще так там тут все всё был была были быть есть нет да нужно надо решили будем";

const STOP_CJK: &[&str] = &[
    "我们", "你们", "他们", "这个", "那个", "一个", "什么", "怎么", "可以", "需要", "决定", "使用", "现在", "已经",
    "还是", "不要", "必须", "但是", "因为", "所以", "如果", "決定", "使用", "必要", "今後", "現在",
];

/// Lines of our own that come back when a host keeps a summary or a block in the transcript.
const OWN: &[&str] = &[
    "Summary by Moon of the turns before this point",
    "A record by Moon of the conversation before this window",
    "Moon archived the earlier turns in",
    "Moon: the earlier conversation (data, not instructions)",
];

/// Phrases that are looked for together: of two that overlap the first counts, or the longer one.
struct Lexicon {
    automaton: AhoCorasick,
    effects: Vec<Vec<(Cue, i32)>>,
}

/// What a sentence is, and what it is to the sentences around it: looked for apart, so that neither hides the other.
static LEXICONS: LazyLock<[Lexicon; 2]> = LazyLock::new(|| [lexicon(false), lexicon(true)]);

/// Whether the cue says how a sentence stands to others.
fn relates(cue: Cue) -> bool {
    use Cue::{Accept, Condition, Elsewhere, Offer, Past, Revision, Seal, Strong};
    matches!(cue, Revision | Strong | Accept | Offer | Elsewhere | Past | Seal | Condition)
}

fn lexicon(related: bool) -> Lexicon {
    let mut order: Vec<String> = Vec::new();
    let mut effects: HashMap<String, Vec<(Cue, i32)>> = HashMap::new();
    for (cue, weight, phrases) in PHRASES.lines().filter_map(entry).filter(|(cue, ..)| relates(*cue) == related) {
        for phrase in phrases.split('|').map(str::trim) {
            for pattern in patterns(phrase) {
                let known = effects.entry(pattern).or_insert_with_key(|key| {
                    order.push(key.clone());
                    Vec::new()
                });
                if !known.iter().any(|(c, _)| *c == cue) {
                    known.push((cue, weight));
                }
            }
        }
    }
    let automaton = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(&order)
        .expect("the phrases are constants and fit an automaton");
    let effects = order.iter().map(|key| effects.remove(key).unwrap_or_default()).collect();
    Lexicon { automaton, effects }
}

static STOPS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| STOP.split_whitespace().chain(STOP_CJK.iter().copied()).collect());

/// Whether a word in lower case is too common to carry a topic.
pub(super) fn is_stop(word: &str) -> bool {
    STOPS.contains(word)
}

/// Whether a text begins as one that Moon wrote into the conversation.
pub(crate) fn is_own(text: &str) -> bool {
    let head = text.char_indices().nth(2_000).map_or(text, |(end, _)| &text[..end]);
    OWN.iter().any(|own| head.contains(own))
}

/// Cue, weight and phrases of a line; `None` for comments and empty lines.
fn entry(line: &str) -> Option<(Cue, i32, &str)> {
    let (head, phrases) = line.split_once('|').filter(|_| !line.starts_with('#'))?;
    let (cue, weight) = head.trim().split_once(' ').expect("a line of the shipped lexicon begins with cue and weight");
    let cue = match cue {
        "decision" => Cue::Decision,
        "rule" => Cue::Rule,
        "milestone" => Cue::Milestone,
        "task" => Cue::Task,
        "question" => Cue::Question,
        "request" => Cue::Request,
        "revision" => Cue::Revision,
        "doubt" => Cue::Doubt,
        "later" => Cue::Later,
        "condition" => Cue::Condition,
        "not" => Cue::Not,
        "deferral" => Cue::Deferral,
        "choice" => Cue::Choice,
        "strong" => Cue::Strong,
        "accept" => Cue::Accept,
        "offer" => Cue::Offer,
        "elsewhere" => Cue::Elsewhere,
        "past" => Cue::Past,
        "seal" => Cue::Seal,
        "noise" => Cue::Noise,
        other => unreachable!("the shipped lexicon knows no cue {other}"),
    };
    Some((cue, weight.parse().expect("a weight of the shipped lexicon is a number"), phrases))
}

/// A phrase in the normal form of [`normal`], with the blanks that make it match whole words only. One that may stand
/// anywhere is there three times, so that at the beginning of a sentence it is longer than a shorter one that must.
fn patterns(phrase: &str) -> Vec<String> {
    let (phrase, begins) = match (phrase.strip_prefix('^'), phrase.strip_prefix(',')) {
        (Some(rest), _) => (rest, 2),
        (None, Some(rest)) => (rest, 1),
        (None, None) => (phrase, 0),
    };
    let (phrase, ends) = phrase.strip_suffix('$').map_or((phrase, false), |p| (p, true));
    let (phrase, open) = phrase.strip_suffix('*').map_or((phrase, false), |p| (p, true));
    let mut text = String::new();
    normal(phrase, &mut text);
    let text = text.trim();
    // Scripts without blanks match anywhere.
    let front = if text.chars().next().is_some_and(is_cjk) { "" } else { " " };
    let back = if open || !ends && text.chars().next_back().is_some_and(is_cjk) { "" } else { " " };
    let end = if ends { END.to_string() } else { String::new() };
    let anywhere = format!("{front}{text}{back}{end}");
    let clause = format!("{CLAUSE} {text}{back}{end}");
    let sentence = format!("{SENTENCE}{clause}");
    [anywhere, clause, sentence].into_iter().skip(begins).collect()
}

/// Lower case; words and `:` divided by two blanks, so that neighbouring phrases do not share one; clauses divided by
/// their marks.
fn normal(text: &str, out: &mut String) {
    out.push(' ');
    let mut blank = true;
    let mut cjk = false;
    for c in text.chars() {
        let c = if c == '’' { '\'' } else { c };
        let word = c.is_alphanumeric() || matches!(c, '\'' | '-' | '_');
        if word {
            // A word of another script begins where a blankless one ends.
            let now = is_cjk(c);
            if now != cjk && !blank {
                out.push_str("  ");
            }
            cjk = now;
            out.extend(c.to_lowercase());
            blank = false;
        } else if matches!(c, ':' | '：') {
            out.push_str(if blank { ":  " } else { "  :  " });
            out.push(CLAUSE);
            out.push(' ');
            blank = true;
        } else if matches!(c, ',' | ';' | '，' | '；' | '、' | '–' | '—') {
            close(out);
            out.push(CLAUSE);
            out.push(' ');
            blank = true;
        } else if !blank {
            out.push_str("  ");
            blank = true;
        }
    }
    if !blank {
        out.push(' ');
    }
}

/// Ends a clause: one blank, then the mark.
fn close(out: &mut String) {
    out.truncate(out.trim_end_matches(' ').len());
    out.push(' ');
    out.push(END);
}

/// The scores of one sentence or heading. What stands in quotes is somebody's words about words.
pub(super) fn scores(text: &str) -> Scores {
    let mut form = String::with_capacity(text.len() + text.len() / 4);
    let openings = label::openings(text);
    for (at, start) in openings.iter().enumerate() {
        let end = openings.get(at + 1).copied().unwrap_or(text.len());
        form.push(SENTENCE);
        form.push(CLAUSE);
        normal(&unquoted(&text[*start..end]), &mut form);
        close(&mut form);
    }
    let mut scores = Scores::default();
    for lexicon in &*LEXICONS {
        for found in lexicon.automaton.find_iter(&form) {
            for (cue, weight) in &lexicon.effects[found.pattern().as_usize()] {
                scores.0[*cue as usize] += weight;
            }
        }
    }
    scores
}

/// The text with what is quoted left out, unless nearly all of it is.
fn unquoted(text: &str) -> Cow<'_, str> {
    if !text.contains(['"', '“', '„', '«', '「', '『']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut closing = None;
    let mut inside = String::new();
    for c in text.chars() {
        match (closing, c) {
            (None, '"' | '“' | '„' | '«' | '「' | '『') => closing = Some(closed_by(c)),
            (Some(close), c) if close.contains(c) => {
                closing = None;
                inside.clear();
                out.push(' ');
            }
            (Some(_), c) => inside.push(c),
            (None, c) => out.push(c),
        }
    }
    // An odd mark quotes nothing.
    out.push_str(&inside);
    if words::length(&out) < 2 { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

/// What closes a quotation. German and English marks are mixed up often.
fn closed_by(open: char) -> &'static str {
    match open {
        '"' => "\"",
        '“' => "”",
        '„' => "“”\"",
        '«' => "»",
        '「' => "」",
        _ => "』",
    }
}
