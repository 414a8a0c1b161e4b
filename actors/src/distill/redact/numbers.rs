//! Card numbers and international account numbers: digits in a known form whose checksum holds.
//!
//! Must never take a plain count, an id or a timestamp for one: length, prefix, grouping and checksum all have to agree.

use std::ops::Range;

/// Countries with the length of their account numbers (IBAN).
const COUNTRIES: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 \
    ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 \
    LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 \
    SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20";

/// How the digits of a card stand in groups.
const GROUPS: &[&[usize]] = &[&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[16], &[15], &[14]];

pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_alphanumeric() {
            at += 1;
            continue;
        }
        let end = at + bytes[at..].iter().take_while(|b| b.is_ascii_alphanumeric()).count();
        let stands_alone = at == 0 || !b"._/#@+$-:=&%\\".contains(&bytes[at - 1]);
        let secret = if !stands_alone {
            None
        } else if bytes[at].is_ascii_digit() {
            card(bytes, at)
        } else {
            account(bytes, at)
        };
        match secret {
            Some(end) => {
                found.push(at..end);
                at = end;
            }
            None => at = end,
        }
    }
    found
}

/// The end of the card number that begins here.
fn card(bytes: &[u8], start: usize) -> Option<usize> {
    let (mut groups, mut digits) = (Vec::new(), Vec::new());
    let (mut at, mut separator) = (start, None);
    let end = loop {
        let size = bytes[at..].iter().take(20).take_while(|b| b.is_ascii_digit()).count();
        digits.extend(bytes[at..at + size].iter().map(|b| b - b'0'));
        groups.push(size);
        at += size;
        let next = bytes.get(at).filter(|b| matches!(b, b' ' | b'-'));
        let goes_on = next.is_some() && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        if size == 0 || digits.len() > 16 || !goes_on || separator.is_some_and(|s| Some(&s) != next) {
            break at;
        }
        separator = next.copied();
        at += 1;
    };
    // "4 5111 …" is a row of numbers, "….5" a decimal, "…-rc1" a name.
    let before = bytes[..start].iter().rev().find(|b| **b != b' ');
    let row = start > 0 && bytes[start - 1] == b' ' && before.is_some_and(u8::is_ascii_digit);
    let joined = match bytes.get(end) {
        Some(b) if b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/' | b'=' | b'@') => true,
        Some(b'.' | b',') => bytes.get(end + 1).is_some_and(u8::is_ascii_alphanumeric),
        _ => false,
    };
    let round = groups.len() > 1 && digits.chunks(4).all(|four| four.ends_with(&[0, 0]));
    let is_card = !row && !joined && !round && GROUPS.contains(&groups.as_slice()) && issued(&digits) && luhn(&digits);
    is_card.then_some(end)
}

/// Whether a known issuer gives out numbers that begin so.
fn issued(digits: &[u8]) -> bool {
    let head = |n: usize| digits[..n].iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit));
    match digits.len() {
        16 => {
            digits[0] == 4
                || (51..=55).contains(&head(2))
                || (2_221..=2_720).contains(&head(4))
                || [35, 62, 65].contains(&head(2))
                || head(4) == 6_011
        }
        15 => [34, 37].contains(&head(2)),
        14 => [30, 36, 38].contains(&head(2)),
        _ => false,
    }
}

fn luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let value = |(at, digit): (usize, &u8)| u32::from(if at % 2 == 1 { doubled(*digit) } else { *digit });
    digits.iter().rev().enumerate().map(value).sum::<u32>().is_multiple_of(10)
}

/// The end of the account number that begins here, in one piece or in groups of four.
fn account(bytes: &[u8], start: usize) -> Option<usize> {
    let head = bytes.get(start..start + 4)?;
    if !(head[0].is_ascii_alphabetic() && head[1].is_ascii_alphabetic() && head[2..].iter().all(u8::is_ascii_digit)) {
        return None;
    }
    let country = [head[0].to_ascii_uppercase(), head[1].to_ascii_uppercase()];
    let known = COUNTRIES.split(' ').find(|known| known.as_bytes()[..2] == country)?;
    let length: usize = known[2..].parse().ok()?;
    let (mut letters, mut at) = (Vec::with_capacity(length), start);
    while letters.len() < length {
        match bytes.get(at)? {
            b' ' if letters.len().is_multiple_of(4) && bytes[at - 1] != b' ' => {}
            b if b.is_ascii_alphanumeric() => letters.push(b.to_ascii_uppercase()),
            _ => return None,
        }
        at += 1;
    }
    let ends = bytes.get(at).is_none_or(|b| !b.is_ascii_alphanumeric());
    letters.rotate_left(4);
    let rest = letters.iter().fold(0_u32, |rest, b| {
        let value = if b.is_ascii_digit() { u32::from(b - b'0') } else { u32::from(b - b'A') + 10 };
        (if value > 9 { rest * 100 + value } else { rest * 10 + value }) % 97
    });
    (ends && rest == 1).then_some(at)
}
