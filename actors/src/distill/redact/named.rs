//! Secrets that are recognised by the word beside them: "the password is …", `api_key=…`, "lautet das Passwort …".
//!
//! A key word, at most a few filler words, then a value that looks like a secret and not like a word, a path, a version or
//! an identifier. How much a value has to look like one depends on how plainly it is named. Must stay linear: from each
//! key word only a bounded stretch is read.

use crate::distill::words::is_cjk;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use std::ops::Range;
use std::sync::LazyLock;

/// What a key word promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Password,
    Pin,
    Key,
}

/// Key words, longer ones first where one begins like another.
const NAMES: &[(Class, &[&str])] = &[
    (
        Class::Password,
        &[
            "password",
            "passwd",
            "passwort",
            "passphrase",
            "passcode",
            "kennwort",
            "pwd",
            "contraseña",
            "mot de passe",
            "clave",
            "senha",
            "пароль",
            "Пароль",
            "密码",
            "密碼",
            "口令",
            "パスワード",
            "비밀번호",
            "zugangscode",
        ],
    ),
    (Class::Pin, &["pin", "pin code", "pin-code", "pin number", "geheimzahl", "code pin", "暗証番号"]),
    (
        Class::Key,
        &[
            "secret",
            "token",
            "api key",
            "api-key",
            "api_key",
            "apikey",
            "api secret",
            "access key",
            "access-key",
            "access_key",
            "accesskey",
            "secret key",
            "secret_key",
            "secretkey",
            "secret access key",
            "private key",
            "private_key",
            "privatekey",
            "account key",
            "account_key",
            "accountkey",
            "encryption key",
            "encryption_key",
            "signing key",
            "signing_key",
            "license key",
            "licence key",
            "auth key",
            "auth_key",
            "shared key",
            "client secret",
            "credential",
            "credentials",
            "webhook",
            "api-schlüssel",
            "zugangsschlüssel",
            "geheimschlüssel",
            "clé api",
            "clé d'api",
            "clé secrète",
            "clave api",
            "clave secreta",
            "jeton",
            "ключ",
            "Ключ",
            "токен",
            "Токен",
            "секрет",
            "Секрет",
            "密钥",
            "密鑰",
            "令牌",
            "トークン",
            "シークレット",
            "apiキー",
            "アクセスキー",
        ],
    ),
];

/// Words that say that the value follows.
const COPULAS: &[&str] =
    &["is", "are", "was", "be", "ist", "lautet", "heißt", "war", "est", "es", "son", "это", "=", ":", "->", "=>", ":="];

/// Other words that may stand between name and value.
const FILLERS: &[&str] = &[
    "for",
    "für",
    "pour",
    "para",
    "of",
    "to",
    "from",
    "von",
    "vom",
    "the",
    "our",
    "my",
    "your",
    "a",
    "new",
    "neue",
    "neues",
    "neuer",
    "unser",
    "unsere",
    "mein",
    "meine",
    "der",
    "die",
    "das",
    "des",
    "dem",
    "den",
    "le",
    "la",
    "les",
    "del",
    "el",
    "access",
    "gateway",
    "api",
    "auth",
    "bot",
    "admin",
    "root",
    "test",
    "staging",
    "production",
    "prod",
    "now",
    "jetzt",
    "here",
    "hier",
    "value",
    "still",
    "must",
    "always",
    "und",
    "and",
];

/// Behind these any few words may follow up to a copula: "the password for the old staging database is …".
const LEADS_ON: &[&str] = &["for", "of", "to", "für", "von", "vom", "zu", "zum", "zur", "pour", "de", "para"];

/// A word before "pin" that makes it a thing and not a verb.
const DETERMINERS: &[&str] = &[
    "the", "a", "my", "our", "your", "his", "her", "their", "new", "safe", "card", "sim", "bank", "door", "alarm",
    "der", "die", "den", "dem", "mein", "meine", "meiner", "unsere", "neue", "neuen", "le", "mon", "notre", "el", "mi",
    "nuestro",
];

/// Words with digits that name a technique; a value that begins with one is none.
const TECHNIQUES: &[&str] = &[
    "aes", "argon", "base", "bcrypt", "blake", "ecdsa", "ed25519", "h264", "http", "ipv", "iso", "md5", "oauth",
    "openid", "pbkdf", "pkcs", "rsa", "scrypt", "secp", "sha", "tls", "totp", "utf", "uuid", "version", "web",
    "x25519", "x509", "x86",
];

/// Endings of words that describe a password rather than being one.
const DESCRIBES: &[&str] = &[
    "ed", "ing", "able", "ible", "ent", "ant", "ary", "ly", "ive", "al", "ous", "less", "ful", "ion", "ity", "ness",
    "ment", "ic", "wise", "ward", "lich", "lichen", "ig", "bar", "los", "isch", "ung", "ert", "iert", "elt", "tzt",
    "ten", "ieren", "ado", "ada", "ido", "ida", "ble", "mente", "ment", "ée", "é", "here", "where", "thing", "body",
];

/// Bytes read behind a key word.
const REACH: usize = 400;

static AUTOMATON: LazyLock<(AhoCorasick, Vec<Class>)> = LazyLock::new(|| {
    let names = NAMES.iter().flat_map(|(class, names)| names.iter().map(|name| (*class, *name)));
    let (classes, names): (Vec<Class>, Vec<&str>) = names.unzip();
    let automaton = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .ascii_case_insensitive(true)
        // Of this many names a table of all transitions would be half a megabyte, which a daemon keeps for good.
        .kind(Some(AhoCorasickKind::ContiguousNFA))
        .build(names)
        .expect("the key words are constants and fit an automaton");
    (automaton, classes)
});

pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let (automaton, classes) = &*AUTOMATON;
    let mut found: Vec<Range<usize>> = Vec::new();
    for name in automaton.find_iter(text) {
        // "-----BEGIN", a value or a name inside of one that was found already.
        if found.last().is_some_and(|last| name.start() < last.end) {
            continue;
        }
        found.extend(value(text, name.range(), classes[name.pattern().as_usize()]));
    }
    found
}

/// Where the value of the name stands, if there is one.
fn value(text: &str, name: Range<usize>, class: Class) -> Option<Range<usize>> {
    let before = text[..name.start].chars().next_back();
    let after = text[name.end..].chars().next();
    let foreign = text[name.clone()].chars().next_back().is_some_and(is_cjk);
    // "tokens", "pinned", "secretary"; "passwordless" and "token_count" are other words, too.
    if !foreign && after.is_some_and(|c| c.is_alphanumeric() && !is_cjk(c) || matches!(c, '_' | '-' | '(' | '.')) {
        return None;
    }
    let whole = foreign || before.is_none_or(|c| !c.is_alphanumeric() || is_cjk(c));
    let mut walk = Walk { text, at: name.end, end: limit(text, name.end), signed: false };
    walk.skip_closing();
    walk.sign();
    if !whole && !walk.signed || class == Class::Pin && before == Some('.') {
        return None;
    }
    if !walk.signed && !walk.fillers() {
        return None;
    }
    let named = named_as_thing(text, &name);
    let (word, quoted) = walk.word()?;
    let secret = &text[word.clone()];
    let is_secret = match class {
        Class::Pin => (walk.signed || named) && is_pin(secret),
        _ if quoted && secret.contains(char::is_whitespace) => {
            class == Class::Password && is_phrase(secret, &text[name])
        }
        Class::Password => is_password(secret, walk.signed),
        Class::Key => is_value(secret, walk.signed),
    };
    is_secret.then_some(word)
}

/// Whether "pin" is a thing here and no verb: written large, or behind an article.
fn named_as_thing(text: &str, name: &Range<usize>) -> bool {
    let large = text[name.clone()].chars().filter(|c| c.is_alphabetic()).all(char::is_uppercase);
    let head = &text[floor(text, name.start.saturating_sub(40))..name.start];
    let word = head.split_whitespace().next_back().unwrap_or_default().to_lowercase();
    large || DETERMINERS.contains(&word.as_str())
}

fn limit(text: &str, from: usize) -> usize {
    floor(text, from.saturating_add(REACH).min(text.len()))
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Reads on behind a key word.
struct Walk<'a> {
    text: &'a str,
    at: usize,
    end: usize,
    /// A sign or a copula says that the value follows.
    signed: bool,
}

impl<'a> Walk<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at.min(self.end)..self.end]
    }

    fn skip(&mut self, skipped: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(skipped).len();
    }

    /// The quote or the stars that close around the name.
    fn skip_closing(&mut self) {
        self.skip(|c| matches!(c, '"' | '\'' | '`' | '*' | '”' | '’' | '」'));
    }

    /// `=`, `:` and their like, the copulas of scripts without blanks.
    fn sign(&mut self) {
        let blanks = |text: &str| text.len() - text.trim_start_matches([' ', '\t', '*']).len();
        let at = self.at + blanks(self.rest());
        let rest = &self.text[at.min(self.end)..self.end];
        let sign = [":=", "=>", "->", "=", ":", "：", "＝", "是", "为", "為", "は"]
            .into_iter()
            .find(|sign| rest.starts_with(sign));
        if let Some(sign) = sign {
            self.signed = true;
            self.at = at + sign.len();
        }
    }

    /// Skips up to four filler words and at most one copula. `false`: something else follows.
    fn fillers(&mut self) -> bool {
        let (mut count, mut leads) = (0, false);
        loop {
            self.skip(|c| c == ' ' || c == '\t');
            let rest = self.rest();
            let word = rest.split([' ', '\t', '\n']).next().unwrap_or_default();
            let plain = word.trim_end_matches([',', ':']).to_lowercase();
            let (size, ends) = (word.len(), word.ends_with(':'));
            if COPULAS.contains(&plain.as_str()) || ends && FILLERS.contains(&plain.as_str()) {
                self.at += size;
                self.signed = true;
                return self.after_copula();
            }
            leads |= LEADS_ON.contains(&plain.as_str());
            if FILLERS.contains(&plain.as_str())
                || leads && count < 6 && plain.chars().all(char::is_alphabetic) && ahead(rest)
            {
                self.at += size;
                count += 1;
            } else {
                return true;
            }
            if count > 6 || word.is_empty() || word.ends_with(['.', ';', '!', '?']) {
                return false;
            }
        }
    }

    /// Words behind a copula: "is now", "ist für alle".
    fn after_copula(&mut self) -> bool {
        for _ in 0..3 {
            self.skip(|c| c == ' ' || c == '\t');
            let word = self.rest().split([' ', '\t', '\n']).next().unwrap_or_default();
            if !FILLERS.contains(&word.trim_end_matches(':').to_lowercase().as_str()) {
                break;
            }
            self.at += word.len();
        }
        true
    }

    /// The next word, or what stands in quotes, without what closes around it.
    fn word(&mut self) -> Option<(Range<usize>, bool)> {
        self.skip(|c| c == ' ' || c == '\t' || c == '*' || c == '\u{3000}');
        let rest = self.rest();
        let open = rest.chars().next()?;
        if open == '\n' || open == '\r' {
            return None;
        }
        let closing = match open {
            '"' | '\'' | '`' => Some(open),
            '“' => Some('”'),
            '„' => Some('“'),
            '«' => Some('»'),
            '「' => Some('」'),
            _ => None,
        };
        if let Some(closing) = closing {
            let start = self.at + open.len_utf8();
            let inner = &self.text[start..self.end];
            if let Some(size) = inner.find([closing, '\n', '”']).filter(|size| *size > 0) {
                return Some((start..start + size, true));
            }
        }
        let start = self.at + closing.map_or(0, |_| open.len_utf8());
        let inner = &self.text[start..self.end];
        let stop = |c: char| {
            c.is_whitespace()
                || is_cjk(c)
                || matches!(
                    c,
                    '"' | '`' | '<' | '>' | '(' | ')' | '[' | ']' | '{' | '}' | '，' | '。' | '；' | '、' | '”'
                )
        };
        let size = inner.find(stop).unwrap_or(inner.len());
        let word = inner[..size].trim_end_matches(['.', ',', ';', ':', '\'', '*']);
        (!word.is_empty()).then(|| (start..start + word.len(), false))
    }
}

/// Whether a copula follows within a few words, before the sentence ends.
fn ahead(rest: &str) -> bool {
    let words = rest.split([' ', '\t']).take(7).take_while(|word| !word.contains(['.', ';', '!', '?', '\n']));
    words.map(|word| word.to_lowercase()).any(|word| COPULAS.contains(&word.as_str()) || word.ends_with(':'))
}

fn is_pin(word: &str) -> bool {
    (4..=12).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit())
}

/// Several words in quotes behind "passphrase" (or four behind "password") that make no sentence.
fn is_phrase(quoted: &str, name: &str) -> bool {
    let words: Vec<String> = quoted.split_whitespace().map(str::to_lowercase).collect();
    let least = if name.to_ascii_lowercase().ends_with("phrase") { 3 } else { 4 };
    let is_word =
        |w: &String| w.len() > 2 && w.chars().all(char::is_alphanumeric) && !crate::distill::lexicon::is_stop(w);
    (least..=24).contains(&words.len()) && words.iter().all(is_word)
}

/// Whether the value behind a word for "password" is one.
fn is_password(word: &str, signed: bool) -> bool {
    let length = word.chars().count();
    if length < 6 || is_reference(word) {
        return false;
    }
    let bare = word.trim_end_matches(['!', '?']);
    let plain = bare.chars().all(|c| c.is_alphabetic());
    if plain {
        // A word that nobody would use to describe a password.
        let lower = bare.bytes().all(|b| b.is_ascii_lowercase());
        return signed && lower && length >= 12 && !DESCRIBES.iter().any(|end| bare.ends_with(end));
    }
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let symbols = bare.chars().filter(|c| !c.is_alphanumeric()).count();
    // "Loutre#1987": these stand in no description of a password.
    let odd = bare.contains(['#', '&', '@', '$', '%', '^', '*', '+', '=', '~', '!', '?', '§', '€', '|']);
    if !odd && is_ordinary(bare) {
        // "Sommer2026!" is what people use; "base64-encoded" and "8-12" describe.
        let one_word = bare.chars().all(char::is_alphanumeric);
        let mixed = digits >= 1 && length - digits >= 3;
        return one_word && !is_technique(bare) && (mixed && (signed || word.ends_with('!')) || signed && digits >= 6);
    }
    let classes = classes(word);
    if signed { digits + symbols > 0 && classes >= 2 } else { length >= 8 && classes >= 3 }
}

/// Whether a value is a key and not a word, a path, a version or an identifier. `signed`: something says that it is one.
pub(super) fn is_value(word: &str, signed: bool) -> bool {
    let length = word.chars().count();
    if length < if signed { 6 } else { 8 } || is_reference(word) || is_unique_id(word) && !signed {
        return false;
    }
    let bare = word.trim_end_matches(['!', '?', '=', '&']);
    let digits = bare.chars().filter(char::is_ascii_digit).count();
    if is_ordinary(bare) {
        let one_word = bare.chars().all(char::is_alphanumeric);
        return signed && one_word && digits >= 2 && length >= 8 && length > digits && !is_technique(bare);
    }
    let symbol = bare.chars().any(|c| !c.is_alphanumeric());
    is_scrambled(bare) || signed && digits > 0 && (symbol || length >= 8) && !bare.contains(['/', '(', '\\'])
}

fn classes(word: &str) -> usize {
    let has = |is: fn(&char) -> bool| usize::from(word.chars().any(|c| is(&c)));
    has(|c| c.is_lowercase()) + has(|c| c.is_uppercase()) + has(char::is_ascii_digit) + has(|c| !c.is_alphanumeric())
}

/// A value that stands for one: a variable, a path, a call, an address, a place holder.
fn is_reference(word: &str) -> bool {
    let path = word.starts_with(['/', '~', '.']) || word.starts_with("http") && word.contains("://");
    let code = ["env.", "environ", "process.", "::", "()", "->", "${", "{{", "***", "…", "..."];
    let holder = word.bytes().all(|b| matches!(b, b'*' | b'x' | b'X' | b'.' | b'-' | b'_' | b'?'));
    // `!vault` is a tag of YAML's.
    let tag = word.strip_prefix('!').is_some_and(|rest| rest.chars().all(char::is_alphabetic));
    path || tag || word.starts_with(['$', '%', '<', '[', '{']) || holder || code.iter().any(|part| word.contains(part))
}

/// `550e8400-e29b-41d4-a716-446655440000`
fn is_unique_id(word: &str) -> bool {
    let groups: Vec<usize> = word.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

fn is_technique(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    TECHNIQUES.iter().any(|technique| lower.starts_with(technique))
}

/// Whether every part is what words, numbers, versions and identifiers are made of.
fn is_ordinary(word: &str) -> bool {
    word.split(['-', '_', '.', '/', ':', '+', '@', ',', '#', '\'', '\\', '=', '&', '|', '×']).all(is_plain_part)
}

/// A word with digits behind or before it, a number, or a few of them written together with large first letters.
fn is_plain_part(part: &str) -> bool {
    let middle = part.trim_start_matches(|c: char| c.is_ascii_digit());
    let before = part.len() - middle.len();
    let letters = middle.trim_end_matches(|c: char| c.is_ascii_digit());
    let after = middle.len() - letters.len();
    if letters.is_empty() {
        return true;
    }
    if before > 4 || after > 6 || before > 0 && after > 0 || !letters.chars().all(char::is_alphabetic) {
        return is_technique(part) && part.len() <= 12;
    }
    let upper = letters.chars().filter(|c| c.is_uppercase()).count();
    let count = letters.chars().count();
    // "camelCase", "HTTPServer" and "README" are words; a case that changes at random is not.
    let mut humps = 0;
    let mut last = false;
    for c in letters.chars() {
        humps += usize::from(c.is_uppercase() && !last);
        last = c.is_uppercase();
    }
    upper == count || count >= 4 * humps.saturating_sub(usize::from(humps == 1)) || count <= 4
}

/// Digits among letters, or letters whose case changes at random: what generators make.
fn is_scrambled(word: &str) -> bool {
    if is_technique(word) && word.len() <= 16 {
        return false;
    }
    // A path of plain words with one odd part is a path.
    let parts: Vec<&str> = word.split(['-', '_', '.', '/', ':', '+', '@', '=', '&', '#', ',']).collect();
    let worded = |part: &&str| part.len() >= 3 && part.bytes().all(|b| b.is_ascii_lowercase());
    if word.contains('/') && parts.iter().any(worded) || word.contains("://") {
        return false;
    }
    parts.iter().any(|part| {
        let odd = !is_plain_part(part);
        let digits = part.bytes().filter(u8::is_ascii_digit).count();
        let switches = part.as_bytes().windows(2).filter(|w| w[0].is_ascii_digit() != w[1].is_ascii_digit()).count();
        odd && part.len() >= 8 && (switches >= 2 || digits == 0 && part.len() >= 10)
    }) || parts.len() == 2 && joined(parts[0], parts[1])
}

/// `prefix_Body`: a short name and a long body whose letters change their case, but not as words do.
fn joined(prefix: &str, body: &str) -> bool {
    let upper_run = body.as_bytes().windows(3).any(|w| w.iter().all(u8::is_ascii_uppercase));
    prefix.len() <= 12
        && prefix.bytes().all(|b| b.is_ascii_lowercase())
        && body.len() >= 14
        && body.bytes().all(|b| b.is_ascii_alphanumeric())
        && body.bytes().any(|b| b.is_ascii_lowercase())
        && (upper_run || body.bytes().any(|b| b.is_ascii_digit()))
}
