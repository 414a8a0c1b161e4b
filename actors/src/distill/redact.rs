//! Obvious secrets taken out of text that leaves the archive as a statement.
//!
//! A distillate is read by people, agents and models long after the key in it was typed, so key shapes are replaced
//! with `[redacted]`. Patterns are few and precise: a false hit destroys a true statement. It must never be applied to
//! the archive itself. Not found: keys cut by line breaks or invisible characters, and encoded ones.

use regex::{Regex, RegexSet};
use std::borrow::Cow;
use std::sync::LazyLock;

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Pattern and the number of the group that is the secret (0: all of it).
const PATTERNS: &[(&str, usize)] = &[
    // PEM blocks, also cut off before their end.
    (r"(?s)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,12}-----.*?(-----END [A-Z0-9 ]{0,40}-----|$)", 0),
    // OpenAI, Anthropic, OpenRouter, Stripe.
    (r"\b(?:sk|rk|pk)[-_](?:[A-Za-z0-9]{2,12}[-_]){0,3}[A-Za-z0-9_-]{16,}", 0),
    // GitHub, GitLab, npm, PyPI, Hugging Face.
    (r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,})", 0),
    (r"\b(?:npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{40,}|hf_[A-Za-z0-9]{24,})", 0),
    // AWS, Google, Slack, Telegram, SendGrid.
    (r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{16}\b", 0),
    (r"\bAIza[A-Za-z0-9_-]{30,}|\bya29\.[A-Za-z0-9_-]{20,}", 0),
    (r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{20,}", 0),
    (r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{32,}|\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}", 0),
    (r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,}|discord(?:app)?\.com/api/webhooks/[0-9]+/[A-Za-z0-9_-]{20,}", 0),
    // JSON web tokens.
    (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", 0),
    // Authorization headers and user:password in an address.
    (r"(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/=-]{12,})", 1),
    (r"(?i)\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]*:([^\s/@]{3,})@", 1),
    // A name that says what it is, a sign, a value.
    (
        r#"(?i)(?:password|passwd|passphrase|passwort|contraseña|mot de passe|пароль|密码|パスワード|pwd|secret|api[ _-]?key|apikey|access[ _-]?key|auth[ _-]?token|access[ _-]?token|client[ _-]?secret|private[ _-]?key|token)["']?\s*(?:=|:|：|＝)\s*["'`]?([^\s"'`,;<>()\[\]{}]{6,})"#,
        1,
    ),
    (r#"(?i)\b(?:password|passphrase|passwort|pin) (?:is|ist) ["'`]?([^\s"'`,;]*[0-9!@#$%^&*][^\s"'`,;]{2,})"#, 1),
];

static SET: LazyLock<RegexSet> =
    LazyLock::new(|| RegexSet::new(PATTERNS.iter().map(|p| p.0)).expect("the patterns are constants under test"));
static EACH: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    PATTERNS.iter().map(|p| Regex::new(p.0).expect("the patterns are constants under test")).collect()
});

/// The text with every secret that has a known shape as `[redacted]`. Redacting twice changes nothing.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    for at in SET.matches(&text.clone()) {
        let (pattern, group) = (&EACH[at], PATTERNS[at].1);
        let mut out = String::with_capacity(text.len());
        let mut last = 0;
        for found in pattern.captures_iter(&text) {
            let Some(secret) = found.get(group).filter(|secret| group == 0 || plausible(secret.as_str())) else {
                continue;
            };
            out.push_str(&text[last..secret.start()]);
            out.push_str(REDACTED);
            last = secret.end();
        }
        out.push_str(&text[last..]);
        text = Cow::Owned(out);
    }
    text
}

/// Whether a value that stands behind a telling name can be a secret: not a plain word, not a reference to one.
fn plausible(value: &str) -> bool {
    let reference = value.starts_with(['/', '$', '<', '%']) || value.contains("env.") || value.contains("environ");
    let plain = value.trim_end_matches(['.', '!', '?', ':']).chars().all(|c| c.is_alphabetic() || c == '-' || c == '_');
    !reference && !plain
}

#[cfg(test)]
mod tests;
