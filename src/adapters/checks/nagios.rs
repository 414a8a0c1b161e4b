//! The words of Nagios plugins: read from those of others, written for those who ask Moon.
//!
//! ```text
//! TEXT | 'label'=value[UOM];[warning];[critical];[min];[max] …
//! more text
//! ```
//!
//! By the plugin guidelines of the Monitoring Plugins project. What does not follow them is left out, never guessed.

use moon_actors::domain::{Condition, Figure};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Figures taken from one plugin.
const MOST_FIGURES: usize = 40;

/// What a plugin said.
#[derive(Debug, Default, PartialEq)]
pub struct Said {
    /// The first line.
    pub text: String,
    pub figures: BTreeMap<String, Figure>,
}

/// What its exit code means. A plugin that was killed, or ends otherwise, has said nothing.
pub fn condition(code: Option<i32>) -> Condition {
    match code {
        Some(0) => Condition::Ok,
        Some(1) => Condition::Warning,
        Some(2) => Condition::Critical,
        _ => Condition::Unknown,
    }
}

/// Reads a plugin's output. Performance data stand behind the first `|` of the first line, and behind the first one of what follows.
pub fn parse(output: &str) -> Said {
    let (first, rest) = output.trim_start().split_once('\n').unwrap_or((output.trim(), ""));
    let (text, data) = first.split_once('|').unwrap_or((first, ""));
    let more = rest.split_once('|').map_or("", |(_, data)| data);
    let mut figures = BTreeMap::new();
    for item in items(data).into_iter().chain(items(more)).take(MOST_FIGURES) {
        figures.extend(figure(&item));
    }
    Said { text: text.trim().to_owned(), figures }
}

/// Splits at white space that stands outside of quotes.
fn items(data: &str) -> Vec<String> {
    let (mut items, mut item, mut is_quoted) = (Vec::new(), String::new(), false);
    for c in data.chars() {
        match c {
            '\'' => {
                is_quoted = !is_quoted;
                item.push(c);
            }
            c if c.is_whitespace() && !is_quoted => items.push(std::mem::take(&mut item)),
            c => item.push(c),
        }
    }
    items.push(item);
    items.retain(|item| !item.is_empty());
    items
}

fn figure(item: &str) -> Option<(String, Figure)> {
    let (label, data) = item.rsplit_once('=')?;
    let label = match label.strip_prefix('\'').and_then(|label| label.strip_suffix('\'')) {
        Some(quoted) => quoted.replace("''", "'"),
        // A quote that was never closed: nobody knows where the label ends.
        None if label.contains('\'') => return None,
        None => label.to_owned(),
    };
    let mut fields = data.split(';');
    let value = fields.next()?;
    let end = value.find(|c: char| !(c.is_ascii_digit() || ".-+eE".contains(c))).unwrap_or(value.len());
    let (number, unit) = value.split_at(end);
    let number: f64 = number.parse().ok().filter(|n: &f64| n.is_finite())?;
    let is_unit = unit.is_empty() || unit == "%" || unit.chars().all(|c| c.is_ascii_alphabetic());
    if label.is_empty() || !is_unit {
        return None;
    }
    let (warning, critical) = (limit(fields.next()), limit(fields.next()));
    let mut plain = || fields.next().and_then(|text| text.parse().ok());
    let (min, max) = (plain(), plain());
    let below = warning.or(critical).is_some_and(|(_, below)| below);
    let (warning, critical) = (warning.map(|(n, _)| n), critical.map(|(n, _)| n));
    Some((label, Figure { value: number, unit: unit.into(), warning, critical, min, max, below }))
}

/// `10` and `0:10` are worse above, `10:` is worse below. Other ranges are no single limit.
fn limit(text: Option<&str>) -> Option<(f64, bool)> {
    let text = text?.trim();
    if let Some(floor) = text.strip_suffix(':') {
        return floor.parse().ok().map(|n| (n, true));
    }
    text.strip_prefix("0:").or_else(|| text.strip_prefix("~:")).unwrap_or(text).parse().ok().map(|n| (n, false))
}

/// Performance data of one figure.
pub fn datum(label: &str, figure: &Figure) -> String {
    // Neither a quote, nor what ends a label, nor what begins the data.
    let label: String = label.chars().map(|c| if "'=|".contains(c) || c.is_control() { '_' } else { c }).collect();
    let number = |n: f64| format!("{}", (n * 1e6).round() / 1e6);
    let limit =
        |n: Option<f64>| n.map_or(String::new(), |n| if figure.below { format!("{}:", number(n)) } else { number(n) });
    let plain = |n: Option<f64>| n.map_or(String::new(), number);
    let unit = if ["s", "us", "ms", "%", "B", "KB", "MB", "GB", "TB", "c"].contains(&figure.unit.as_str()) {
        &figure.unit
    } else {
        ""
    };
    let mut text = format!("'{label}'={}{unit}", number(figure.value));
    let fields = [limit(figure.warning), limit(figure.critical), plain(figure.min), plain(figure.max)];
    let used = fields.iter().rposition(|field| !field.is_empty()).map_or(0, |last| last + 1);
    for field in &fields[..used] {
        write!(text, ";{field}").expect("writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_real_plugins_is_read() {
        let said = parse(
            "DISK OK - free space: / 3326 MB (56%); | /=2643MB;5948;5958;0;5968\n/ 15272 MB (77%);\n/boot 68 MB (69%); | /boot=68MB;88;93;0;98\n/home=69357MB;253404;253409;0;253414",
        );
        assert_eq!(said.text, "DISK OK - free space: / 3326 MB (56%);");
        assert_eq!(said.figures.len(), 3, "{:?}", said.figures);
        let root = &said.figures["/"];
        assert_eq!(
            (root.value, root.unit.as_str(), root.warning, root.max),
            (2643.0, "MB", Some(5948.0), Some(5968.0))
        );
        let said = parse("LOAD WARNING | 'load 1 min'=4.20;4.0;8.0;0; free=12%;20:;10: x=U time=0.004s;;;0.000;10.000");
        assert_eq!(said.figures["load 1 min"].value, 4.2);
        assert!(said.figures["free"].below && said.figures["free"].warning == Some(20.0));
        assert!(!said.figures.contains_key("x"), "no value is none");
        assert_eq!(said.figures["time"].max, Some(10.0));
    }

    #[test]
    fn what_is_no_plugin_output_gives_its_first_line_and_no_figures() {
        assert_eq!(parse(""), Said::default());
        let said = parse("\n  all fine\nsecond line");
        assert_eq!((said.text.as_str(), said.figures.len()), ("all fine", 0));
        assert!(parse("x | = ;;; a=b =3 'c=1").figures.is_empty());
        assert_eq!(condition(None), Condition::Unknown);
        assert_eq!(condition(Some(64)), Condition::Unknown);
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let floor = Figure::new(1_234_567_890.0, "B").floor(Some(5e9), Some(2e9)).max(1e12);
        let above = Figure::new(0.125, "s").above(None, Some(9.0));
        for (name, figure) in [("disk_free", floor), ("daemon answer", above), ("n", Figure::new(3.0, ""))] {
            let text = datum(name, &figure);
            let read = parse(&format!("x | {text}"));
            assert_eq!(read.figures[name], figure, "{text}");
        }
        assert_eq!(datum("a'b=c|d", &Figure::new(1.0, "furlong")), "'a_b_c_d'=1;;;0");
    }
}
