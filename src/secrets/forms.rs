//! The ways in which a secret can be written down, as letters and digits alone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::compact::compact;
use super::{Form, SHORTEST_SECRET};

/// Fewer letters and digits in a row are never a part that counts.
const SHORTEST_PART: usize = 10;
/// A line of a secret of several lines that counts by itself.
const SHORTEST_LINE: usize = 32;
/// From so many letters and digits on, halves are looked for.
const SHORTEST_TO_HALVE: usize = 12;
const SHORTEST_HALF: usize = 6;

/// What may stand between the characters of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gaps {
    /// Anything that is no letter or digit.
    Any,
    /// What joins pieces of a literal. For secrets that could be words: `test-token` is not in `test_token`.
    Glue,
}

/// What a pattern stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The secret in this form.
    Whole(Form),
    /// Its beginning; the secret is there only with the end near it.
    Head,
    /// Its end.
    Tail,
}

/// Letters and digits to look for.
pub(super) struct Pattern {
    /// At least [`SHORTEST_HALF`] letters and digits.
    pub text: Vec<u8>,
    /// What is found with it.
    pub role: Role,
    /// How far apart they may stand.
    pub gaps: Gaps,
}

/// The patterns of a secret in compacted text. Two may be equal.
pub(super) fn patterns(secret: &str) -> Vec<Pattern> {
    let bytes = secret.as_bytes();
    let mut patterns = Vec::new();
    let mut add = |form: Form, gaps: Gaps, text: Vec<u8>| {
        if text.len() >= SHORTEST_SECRET && !patterns.iter().any(|known: &Pattern| known.text == text) {
            patterns.push(Pattern { text, role: Role::Whole(form), gaps });
        }
    };
    let plain = compact(bytes);
    let gaps = if is_wordlike(&plain) { Gaps::Glue } else { Gaps::Any };
    add(Form::Exact, gaps, plain.clone());
    add(Form::Reversed, gaps, plain.iter().rev().copied().collect());
    for text in base64_alignments(bytes) {
        add(Form::Base64, Gaps::Any, text);
    }
    for text in numbers(bytes) {
        add(Form::Numbers, Gaps::Any, text);
    }
    for text in url_encoded(bytes) {
        add(Form::UrlEncoded, gaps, compact(text.as_bytes()));
    }
    for text in escaped(secret) {
        add(Form::Escaped, gaps, compact(text.as_bytes()));
    }
    for line in secret.lines().map(|line| compact(line.as_bytes())).filter(|line| line.len() >= SHORTEST_LINE) {
        add(Form::Part, Gaps::Any, line);
    }
    if gaps == Gaps::Any && plain.len() >= SHORTEST_TO_HALVE {
        let half = (plain.len() / 4).max(SHORTEST_HALF);
        // Of two pieces, either both hold a half's key, or the longer one is a part.
        let part = (plain.len() * 3 / 4).min(plain.len() - half + 1);
        if part >= SHORTEST_PART {
            add(Form::Part, gaps, plain[..part].to_vec());
            add(Form::Part, gaps, plain[plain.len() - part..].to_vec());
        }
        patterns.push(Pattern { text: plain[..half].to_vec(), role: Role::Head, gaps });
        patterns.push(Pattern { text: plain[plain.len() - half..].to_vec(), role: Role::Tail, gaps });
    }
    patterns
}

/// The forms to look for as they are, of a secret that has too few letters and digits to be compacted.
pub(super) fn raw_patterns(secret: &str) -> Vec<(Form, Vec<u8>)> {
    if compact(secret.as_bytes()).len() >= SHORTEST_SECRET {
        return Vec::new();
    }
    let mut patterns = vec![(Form::Exact, secret.to_owned()), (Form::Reversed, secret.chars().rev().collect())];
    patterns.extend(url_encoded(secret.as_bytes()).map(|text| (Form::UrlEncoded, text)));
    patterns.extend(escaped(secret).into_iter().map(|text| (Form::Escaped, text)));
    patterns.into_iter().map(|(form, text)| (form, text.into_bytes())).collect()
}

/// Whether the letters and digits could be words of a program: letters only and not long.
fn is_wordlike(plain: &[u8]) -> bool {
    plain.len() < 20 && !plain.iter().any(u8::is_ascii_digit)
}

/// The characters of base64 that the secret alone decides, where 0, 1 or 2 bytes stand before it in its group of three.
fn base64_alignments(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..3_usize).map(|before| {
        let padded: Vec<u8> = std::iter::repeat_n(0, before).chain(bytes.iter().copied()).collect();
        let encoded = STANDARD_NO_PAD.encode(&padded);
        let (first, last) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        compact(encoded.as_bytes().get(first..last).unwrap_or_default())
    })
}

/// `67 68`, `\x67\x68`, `0x67, 0x68`, `\u0067\u0068`, `\147\150`, `103, 104`: without what stands between.
fn numbers(bytes: &[u8]) -> Vec<Vec<u8>> {
    let join = |form: &dyn Fn(u8) -> String| bytes.iter().map(|byte| form(*byte)).collect::<String>().into_bytes();
    vec![
        hex::encode(bytes).into_bytes(),
        hex::encode_upper(bytes).into_bytes(),
        join(&|byte| format!("x{byte:02x}")),
        join(&|byte| format!("x{byte:02X}")),
        join(&|byte| format!("0x{byte:02x}")),
        join(&|byte| format!("0x{byte:02X}")),
        join(&|byte| format!("u{byte:04x}")),
        join(&|byte| format!("u{byte:04X}")),
        join(&|byte| format!("u{byte:x}")),
        join(&|byte| format!("{byte:03o}")),
        join(&|byte| byte.to_string()),
        join(&|byte| format!("{byte:08b}")),
    ]
}

/// Percent-encoded but for unreserved characters (RFC 3986, 2.3), with both cases of digits.
fn url_encoded(bytes: &[u8]) -> impl Iterator<Item = String> {
    let encode = |upper: bool| {
        let mut text = String::new();
        for byte in bytes {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(*byte)),
                byte if upper => text.push_str(&format!("%{byte:02X}")),
                byte => text.push_str(&format!("%{byte:02x}")),
            }
        }
        text
    };
    [encode(true), encode(false)].into_iter()
}

/// With the escapes of JSON (short ones, or `\u` for all that is no letter or digit), HTML, and hexadecimal literals.
fn escaped(secret: &str) -> Vec<String> {
    let join = |form: &dyn Fn(char) -> Option<String>| {
        secret.chars().map(|character| form(character).unwrap_or_else(|| character.to_string())).collect::<String>()
    };
    let short = |character: char| match character {
        '\n' => Some("\\n".into()),
        '\r' => Some("\\r".into()),
        '\t' => Some("\\t".into()),
        '"' | '\\' | '/' => Some(format!("\\{character}")),
        _ => None,
    };
    let html = |character: char| match character {
        '&' => Some("&amp;".into()),
        '<' => Some("&lt;".into()),
        '>' => Some("&gt;".into()),
        '"' => Some("&quot;".into()),
        '\'' => Some("&#39;".into()),
        _ => None,
    };
    let other = |character: char, text: String| (!character.is_ascii_alphanumeric()).then_some(text);
    vec![
        join(&short),
        join(&html),
        join(&|character| other(character, format!("\\u{:04x}", u32::from(character)))),
        join(&|character| other(character, format!("\\u{:04X}", u32::from(character)))),
        join(&|character| other(character, format!("\\x{:02x}", u32::from(character)))),
        join(&|character| other(character, format!("\\x{:02X}", u32::from(character)))),
    ]
}
