//! What a task asks to do and what a report says was done, compared across their forms.
//!
//! "Delete the server" is not finished by "I installed the server": of two statements about the same thing the verb makes
//! the difference. Forms are compared by their consonants without endings, which bears with strong verbs ("write",
//! "wrote", "written"; "schreiben", "geschrieben"). No dictionary: a verb that is not found is not the same.

use super::lexicon;
use super::words::{hash, is_cjk, tokens};

/// Verbs of a statement as hashes of their reduced forms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verbs {
    forms: Vec<u64>,
    /// "Done", "finished": done, whatever it was.
    whatever: bool,
}

/// Words that ask: the verb follows "to" behind one of them.
const ASKING: &[&str] = &[
    "need", "needs", "have", "has", "had", "still", "remind", "forget", "remember", "want", "wants", "left", "remains",
    "got", "ought", "supposed", "someone", "somebody", "time", "try",
];

/// Words that ask: the verb follows at once.
const BEFORE_VERB: &[&str] = &[
    "must",
    "should",
    "shall",
    "please",
    "kindly",
    "faut",
    "dois",
    "devons",
    "reste",
    "à",
    "hay",
    "que",
    "debo",
    "debemos",
    "falta",
    "нужно",
    "надо",
    "осталось",
    "необходимо",
];

/// Words that ask in German, where the verb ends the clause.
const VERB_LAST: &[&str] = &[
    "muss", "müssen", "musst", "müsste", "sollte", "sollten", "soll", "sollen", "darf", "bitte", "erinnere", "vergiss",
];

/// What may stand between the asking word and the verb, and before a bare command.
const BETWEEN: &[&str] = &[
    "to", "also", "still", "just", "then", "now", "you", "i", "we", "can", "could", "would", "encore", "me", "le",
    "la", "les", "ещё", "еще", "and", "the", "a", "an", "my", "our", "be", "get", "next", "on", "in", "monday",
    "tomorrow",
];

/// Verbs that say nothing about what is done.
const EMPTY: &[&str] = &["do", "make", "machen", "tun", "erledigen", "faire", "hacer", "сделать", "finish", "complete"];

const WHATEVER: &[&str] = &[
    "done",
    "finished",
    "complete",
    "completed",
    "erledigt",
    "fertig",
    "abgeschlossen",
    "terminé",
    "terminée",
    "fini",
    "hecho",
    "terminado",
    "terminada",
    "listo",
    "готово",
    "сделано",
];

/// Forms whose consonants differ, and verbs that mean the same.
const ALIKE: &[(&str, &str)] = &[
    ("sent", "send"),
    ("built", "build"),
    ("bought", "buy"),
    ("brought", "bring"),
    ("paid", "pay"),
    ("told", "tell"),
    ("made", "make"),
    ("kept", "keep"),
    ("sold", "sell"),
    ("taught", "teach"),
    ("did", "do"),
    ("went", "go"),
    ("said", "say"),
    ("lent", "lend"),
    ("spent", "spend"),
    ("delete", "remove"),
    ("deleted", "remove"),
    ("repair", "fix"),
    ("repaired", "fix"),
    ("upgrade", "update"),
    ("upgraded", "update"),
    ("speak", "talk"),
    ("spoke", "talk"),
    ("spoken", "talk"),
    ("gekauft", "kaufen"),
    ("gebracht", "bringen"),
];

/// What a task asks to do.
pub(super) fn asked(text: &str) -> Verbs {
    let clause = text.split([',', ';', '，', '。']).next().unwrap_or_default();
    let all: Vec<String> = tokens(text).take(60).map(str::to_lowercase).collect();
    let words: Vec<String> = tokens(clause).take(60).map(str::to_lowercase).collect();
    let is = |list: &'static [&'static str]| move |word: &String| list.contains(&word.as_str());
    let verb = if words.iter().any(is(VERB_LAST)) {
        words.last()
    } else if let Some(to) =
        (1..all.len()).find(|at| all[*at] == "to" && all[at.saturating_sub(4)..*at].iter().any(is(ASKING)))
    {
        all[to + 1..].iter().find(|word| !BETWEEN.contains(&word.as_str()))
    } else if let Some(at) = words.iter().position(is(BEFORE_VERB)) {
        words[at + 1..].iter().find(|word| !BETWEEN.contains(&word.as_str()) && !BEFORE_VERB.contains(&word.as_str()))
    } else {
        words.iter().find(|word| !BETWEEN.contains(&word.as_str()))
    };
    let verb = verb.filter(|verb| !EMPTY.contains(&verb.as_str()) && !verb.starts_with(is_cjk));
    Verbs { forms: verb.map(|verb| form(verb)).into_iter().collect(), whatever: false }
}

/// What a report says was done: any of its words may be the verb.
pub(super) fn reported(text: &str) -> Verbs {
    let words: Vec<String> = tokens(text).take(60).map(str::to_lowercase).collect();
    let whatever = words.iter().any(|word| WHATEVER.contains(&word.as_str()));
    let mut forms: Vec<u64> = words.iter().map(|word| form(word)).collect();
    forms.sort_unstable();
    forms.dedup();
    Verbs { forms, whatever }
}

/// Whether the report does what the task asks for.
pub(super) fn same(asked: &Verbs, reported: &Verbs) -> bool {
    reported.whatever || asked.forms.iter().any(|verb| reported.forms.binary_search(verb).is_ok())
}

/// A verb without its endings, its German "ge" and its vowels.
fn form(word: &str) -> u64 {
    let word = ALIKE.iter().find(|(other, _)| *other == word).map_or(word, |(_, verb)| *verb);
    let endings = ["ing", "ido", "ado", "ed", "en", "et", "es", "er", "ir", "ar", "re", "e", "s", "t", "n"];
    let mut trimmed = word;
    while trimmed.chars().count() > 4
        && let Some(rest) = endings.iter().find_map(|end| trimmed.strip_suffix(end))
    {
        trimmed = rest;
    }
    let bare = if trimmed.chars().count() > 5 { trimmed.replacen("ge", "", 1) } else { trimmed.to_owned() };
    let mut last = None;
    let consonants = bare.chars().enumerate().filter(|(at, c)| *at == 0 || !"aeiouyäöüáéíóúàèâêîôû".contains(*c));
    let consonants = consonants.map(|(_, c)| c).filter(move |c| {
        let again = last == Some(*c);
        last = Some(*c);
        !again
    });
    hash(consonants)
}

/// What a sentence has in common with others of its make: its common words and where its figures stand, not the words
/// between them. A sentence without figures is one of a kind.
pub(super) fn shape(text: &str) -> u64 {
    let words: Vec<String> = tokens(text).take(60).map(str::to_lowercase).collect();
    let figures = words.iter().filter(|word| word.bytes().any(|b| b.is_ascii_digit())).count();
    let common = words.iter().filter(|word| lexicon::is_stop(word)).count();
    if figures == 0 || common < 2 {
        return hash(text.chars());
    }
    let part = |word: &String| {
        if word.bytes().any(|b| b.is_ascii_digit()) {
            "#".to_owned()
        } else if lexicon::is_stop(word) {
            word.clone()
        } else {
            "·".to_owned()
        }
    };
    hash(words.iter().map(part).collect::<Vec<_>>().join(" ").chars())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_verb_are_the_same_and_other_verbs_are_not() {
        let pairs = [
            ("We still need to write the guide.", "I wrote the guide."),
            ("delete the server.", "The server is deleted."),
            ("Please delete the server.", "I've removed the server."),
            ("We have to run the load test.", "I ran the load test."),
            ("Remind me to send the parcel.", "I sent the parcel."),
            ("Wir müssen noch die Anleitung schreiben.", "Ich habe die Anleitung geschrieben."),
            ("Den Vertrag müssen wir bis 31. Juli kündigen.", "Der Vertrag ist gekündigt."),
            ("Il faut encore traduire la page.", "J'ai traduit la page."),
            ("order the certificates", "I ordered the certificates."),
            ("We still need to paint the fence.", "The fence is done."),
        ];
        for (task, report) in pairs {
            assert!(same(&asked(task), &reported(report)), "{task} / {report}");
        }
        let others = [
            ("delete the server.", "I installed the server."),
            ("We still need to document the retry.", "I added the retry."),
            ("Wir müssen noch die Pumpe kaufen.", "Ich habe die Pumpe beschrieben."),
            ("Somebody has to paint the fence.", "I measured the fence."),
        ];
        for (task, report) in others {
            assert!(!same(&asked(task), &reported(report)), "{task} / {report}");
        }
    }

    #[test]
    fn sentences_of_one_make_have_one_shape() {
        assert_eq!(shape("All 12 mail tests passed in 3 s."), shape("All 7 cart tests passed in 21 s."));
        assert_ne!(shape("All 12 mail tests passed in 3 s."), shape("The first mail went out at 12."));
        assert_ne!(shape("The pump is installed."), shape("The fence is painted."));
    }
}
