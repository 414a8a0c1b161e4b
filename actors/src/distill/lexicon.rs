//! The phrases that make a sentence a decision, a rule, a task, a report or a question.
//!
//! English in breadth; German, French, Spanish, Russian, Chinese and Japanese in basics. The phrases are in `lexicon.txt`
//! and are found as `phrases` says. Must hold phrases only: what a score leads to is decided in `local`.

use super::label;
use super::phrases::{self, PLACES, Phrases, Place};
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

/// What phrases speak for, and how much.
type Effects = Vec<(Cue, i32)>;

/// Phrases that are looked for together: of two that overlap the first counts, or the longer one.
struct Lexicon([Phrases<Effects>; PLACES]);

/// What a sentence is, and what it is to the sentences around it: looked for apart, so that neither hides the other.
static LEXICONS: LazyLock<[Lexicon; 2]> = LazyLock::new(|| [lexicon(false), lexicon(true)]);

/// Whether the cue says how a sentence stands to others.
fn relates(cue: Cue) -> bool {
    use Cue::{Accept, Condition, Elsewhere, Offer, Past, Revision, Seal, Strong};
    matches!(cue, Revision | Strong | Accept | Offer | Elsewhere | Past | Seal | Condition)
}

fn lexicon(related: bool) -> Lexicon {
    let mut places: [Vec<(String, Effects)>; PLACES] = Default::default();
    let mut known: HashMap<(Place, String), usize> = HashMap::new();
    for (cue, weight, phrases) in PHRASES.lines().filter_map(entry).filter(|(cue, ..)| relates(*cue) == related) {
        for phrase in phrases.split('|').map(str::trim) {
            let (place, pattern) = phrases::pattern(phrase);
            let all = &mut places[place as usize];
            let at = *known.entry((place, pattern.clone())).or_insert(all.len());
            if at == all.len() {
                all.push((pattern, Effects::new()));
            }
            let effects = &mut all[at].1;
            if !effects.iter().any(|(c, _)| *c == cue) {
                effects.push((cue, weight));
            }
        }
    }
    Lexicon(places.map(Phrases::new))
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

/// The scores of one sentence or heading. What stands in quotes is somebody's words about words.
pub(super) fn scores(text: &str) -> Scores {
    let form = phrases::form(text);
    let mut scores = Scores::default();
    for Lexicon(phrases) in &*LEXICONS {
        phrases::find(phrases, &form, |effects| {
            // Of a phrase that is listed twice for one thing the stronger line counts.
            let mut strongest = Scores::default();
            for (cue, weight) in effects.flatten() {
                let score = &mut strongest.0[*cue as usize];
                *score = (*score).max(*weight);
            }
            scores.0.iter_mut().zip(strongest.0).for_each(|(score, weight)| *score += weight);
        });
    }
    scores
}
