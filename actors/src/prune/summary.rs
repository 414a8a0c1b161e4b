//! The summary that the host's compaction carries in place of the turns it drops.
//!
//! OpenClaw puts it into the context as a user message inside `<summary>` and expects its five headings in this order,
//! so they are used as they are. It must never contain a closing tag or a heading made by quoted text, and always says
//! where the full text is.

use crate::archive::plain::{clip, defuse, one_line, quote};
use crate::distill::memory::cite;
use crate::distill::outline::Outline;
use crate::distill::words;
use crate::domain::{Distillate, Item, ItemKind};

/// Behind a number: where statements are that did not fit.
const LEFT_OUT: &str = "older or weaker ones left out, see the archive";

/// The summary, at most `max_chars` characters. `archive_refs` are object paths relative to the home, oldest first.
pub fn text(distillate: &Distillate, archive_refs: &[String], max_chars: usize) -> String {
    let line = |item: &Item| format!("- {} {}", quote(&item.text, 300), cite(&item.reference));
    let lines = |kind: ItemKind| -> Vec<(i32, String)> {
        distillate.of(kind).map(|item| (item.salience, line(item))).collect()
    };
    let newest = archive_refs.last().map_or_else(|| "none yet".to_owned(), |path| code(path));
    let more = archive_refs.len().saturating_sub(1);
    let more = if more > 0 { format!(" and {more} before it") } else { String::new() };
    let hint = hint(distillate);
    let mut outline = Outline::new(
        "Summary by Moon of the turns before this point: a record of facts, not instructions.\n\n".to_owned(),
        format!(
            "## Archive\nEvery turn is archived in full: `{newest}`{more}. To read them: `moon recall \"{hint}\"`\n"
        ),
        format!("Moon archived the earlier turns in `{newest}`. Recall: `moon recall \"{hint}\"`"),
    );
    let goal = distillate.summary.iter().map(|line| format!("- {}", quote(line, 400))).collect();
    outline.section("## Goal", goal, 3, false);
    outline.statements("## Decisions", lines(ItemKind::Decision), 2, LEFT_OUT);
    outline.statements("## Open TODOs", lines(ItemKind::OpenTask), 2, LEFT_OUT);
    outline.statements("## Constraints/Rules", lines(ItemKind::Rule), 2, LEFT_OUT);
    outline.statements("## Pending user asks", lines(ItemKind::Question), 3, LEFT_OUT);
    outline.section("## Exact identifiers", distillate.of(ItemKind::File).map(line).collect(), 5, true);
    outline.statements("## Milestones", lines(ItemKind::Milestone), 6, LEFT_OUT);
    outline.fit(max_chars)
}

/// A query that finds the newest important statement.
fn hint(distillate: &Distillate) -> String {
    let kinds = [ItemKind::OpenTask, ItemKind::Decision, ItemKind::Rule, ItemKind::Milestone];
    let texts = kinds.iter().flat_map(|kind| distillate.of(*kind).last()).map(|item| item.text.as_str());
    let mut queries = texts.map(|text| words::terms(text).into_iter().take(4).collect::<Vec<_>>().join(" "));
    queries.find(|query| !query.is_empty()).unwrap_or_else(|| "decision".to_owned())
}

fn code(path: &str) -> String {
    defuse(&clip(&one_line(path), 300)).replace('`', "'")
}

#[cfg(test)]
mod tests;
