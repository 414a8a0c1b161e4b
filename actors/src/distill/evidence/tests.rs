//! What of two statements stays: pairs that a reader would not mix up, and pairs of which the later one holds.

use super::*;

fn statement((at, (kind, text)): (usize, &(ItemKind, &str))) -> Statement {
    let draft =
        Draft { kind: *kind, text: (*text).to_owned(), order: at, turn: at, round: at, salience: 20, role: Role::User };
    Statement::from(draft)
}

fn left(said: &[(ItemKind, &str)]) -> Vec<String> {
    settle(said.iter().enumerate().map(statement).collect()).into_iter().map(|s| s.text).collect()
}

use ItemKind::{Decision, Milestone, OpenTask, Question, Rule};

#[test]
fn a_statement_about_something_else_takes_nothing_away() {
    let pairs = [
        (
            (Rule, "Never paint the boats in the rain."),
            (Rule, "From now on the boats are painted by Ines, no longer by me."),
        ),
        (
            (Decision, "We decided to keep the logs in Sweden."),
            (Decision, "We decided to swap the reader for one that takes logs from Sweden."),
        ),
        (
            (Decision, "Let's go with daily copies of the member list to Malmö."),
            (Decision, "We'll keep the member list format, it is actually fine."),
        ),
        (
            (Decision, "We'll use the Adyen terminal for tickets."),
            (Decision, "We decided to drop the Adyen sample data, it is no longer needed."),
        ),
        (
            (Decision, "We decided to name the boat Otter."),
            (Decision, "We decided to name the dog Otter instead of Biber."),
        ),
        ((OpenTask, "TODO: sell the old mast in Kiel."), (Milestone, "I bought the new mast in Kiel.")),
        ((OpenTask, "We still need to measure the harbour crane."), (Milestone, "I painted the harbour crane.")),
        (
            (Question, "Open question: who insures the new crane?"),
            (Decision, "We decided to put the new crane at the north pier."),
        ),
        (
            (Question, "Open question: when does the ferry leave?"),
            (Decision, "We decided that the ferry carries bicycles."),
        ),
        (
            (Rule, "Never give out the key of the boat house to guests."),
            (Rule, "Never give out the key of the tool shed to guests."),
        ),
        (
            (Decision, "We decided to set the mooring fee to 12 euros."),
            (Decision, "We decided to set the winter fee to 15 euros."),
        ),
        ((Rule, "Always wash the sails after a race."), (Rule, "Always dry the sails after a race, no longer before.")),
    ];
    for (first, second) in pairs {
        assert_eq!(left(&[first, second]).len(), 2, "{} / {}", first.1, second.1);
    }
}

#[test]
fn a_statement_that_names_or_covers_an_earlier_one_takes_its_place() {
    let pairs = [
        (
            (Decision, "We'll use Adyen for the ticket sale."),
            (Decision, "We'll use Mollie for the ticket sale instead of Adyen."),
        ),
        ((Decision, "We take the blue paint."), (Decision, "On second thought, the red one.")),
        ((Decision, "Wir nehmen Hanf für die Taue."), (Decision, "Doch lieber Nylon.")),
        ((Decision, "我们用木头做码头。"), (Decision, "改成钢的。")),
        ((Decision, "Let's go with hemp ropes."), (Decision, "We go with nylon instead of hemp ropes.")),
        ((Rule, "Answer in Danish."), (Rule, "From now on answer in Swedish, no longer in Danish.")),
        ((OpenTask, "TODO: sell the old mast in Kiel."), (Milestone, "I sold the old mast in Kiel.")),
        ((OpenTask, "We still need to measure the harbour crane."), (Milestone, "The harbour crane is done.")),
        (
            (Question, "Open question: do we paint the boats blue or red?"),
            (Decision, "We decided to paint the boats red."),
        ),
        ((Rule, "Always wash the sails after a race."), (Rule, "As I said: always wash the sails after a race!")),
    ];
    for (first, second) in pairs {
        let left = left(&[first, second]);
        assert!(!left.contains(&first.1.to_owned()) || first.0 == second.0 && left.len() == 1, "{left:#?}");
    }
}

#[test]
fn pointing_back_reaches_the_last_decision_and_not_far() {
    let far: Vec<(ItemKind, &str)> = vec![
        (Decision, "We take the blue paint."),
        (Rule, "Always wash the sails."),
        (Rule, "Never leave the winch open."),
        (Rule, "Nobody rows alone."),
        (Rule, "Guests sign the book."),
        (Decision, "On second thought, nylon."),
    ];
    assert!(left(&far).contains(&"We take the blue paint.".to_owned()));
    let two =
        [(Decision, "We take the blue paint."), (Decision, "Hemp it is."), (Decision, "On second thought, nylon.")];
    assert_eq!(left(&two), ["We take the blue paint.", "On second thought, nylon."]);
}

#[test]
fn reports_that_come_again_and_again_leave_their_last_ones() {
    let texts: Vec<String> = (0..40).map(|n| format!("All {n} boat{n}x tests passed in {n} s.")).collect();
    let mut said: Vec<(ItemKind, &str)> = texts.iter().map(|text| (Milestone, text.as_str())).collect();
    said.insert(5, (Milestone, "The crane is installed."));
    let left = left(&said);
    assert_eq!(left.len(), 4, "{left:#?}");
    assert!(left.contains(&"The crane is installed.".to_owned()) && left.contains(&texts[39]));
}

#[test]
fn thousands_of_statements_are_settled_in_no_time() {
    let texts: Vec<String> =
        (0..5_000).map(|n| format!("We decided to set the level of gauge{n} to {n} instead of {}.", n + 1)).collect();
    let kinds = [Decision, Rule, Milestone, OpenTask, Question];
    let said: Vec<(ItemKind, &str)> =
        texts.iter().enumerate().map(|(at, text)| (kinds[at % 5], text.as_str())).collect();
    let started = std::time::Instant::now();
    let left = left(&said);
    assert!(left.len() > 100 && started.elapsed().as_secs() < 20, "{} in {:?}", left.len(), started.elapsed());
}
