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

/// The summary, at most `max_chars` characters. `archive_refs` are object paths relative to the home, oldest first.
pub fn text(distillate: &Distillate, archive_refs: &[String], max_chars: usize) -> String {
    let lines = |kind: ItemKind| -> Vec<String> {
        let line = |item: &Item| format!("- {} {}", quote(&item.text, 300), cite(&item.reference));
        distillate.of(kind).map(line).collect()
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
    outline.section("## Decisions", lines(ItemKind::Decision), 2, true);
    outline.section("## Open TODOs", lines(ItemKind::OpenTask), 2, true);
    outline.section("## Constraints/Rules", lines(ItemKind::Rule), 2, true);
    outline.section("## Pending user asks", lines(ItemKind::Question), 3, true);
    outline.section("## Exact identifiers", lines(ItemKind::File), 5, true);
    outline.section("## Milestones", lines(ItemKind::Milestone), 6, true);
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
