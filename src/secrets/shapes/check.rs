//! What tells a token from a text that only begins like one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::plain::{entropy, is_placeholder};

/// The test of a token's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// It looks drawn at random.
    Random,
    /// As `Random`, of hexadecimal digits.
    Hex,
    /// As `Random`, of the letters and digits of base32.
    Base32,
    /// The last six characters are the CRC-32 of those before in base62 (GitHub's blog, "Behind GitHub's new authentication
    /// token formats", 2021). A right one is proof. A wrong one is none against: formats change.
    Checksum,
    /// Three parts of which the first is a JSON object that names an algorithm (RFC 7519).
    WebToken,
}

impl Check {
    /// Whether `body`, which ends the token `whole`, passes.
    pub(super) fn passes(self, whole: &[u8], body: &[u8]) -> bool {
        match self {
            Check::Random => looks_random(body),
            Check::Hex => body.iter().all(u8::is_ascii_hexdigit) && looks_random(body),
            Check::Base32 => {
                body.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
                    && body.iter().any(u8::is_ascii_digit)
                    && looks_random(body)
            }
            Check::Checksum => has_checksum(body) || looks_random(body),
            Check::WebToken => is_web_token(whole),
        }
    }
}

fn looks_random(body: &[u8]) -> bool {
    const LEAST_ENTROPY: f64 = 2.8;
    let has_digit = body.iter().any(u8::is_ascii_digit);
    (has_digit || body.len() >= 30) && !is_placeholder(body) && entropy(body) >= LEAST_ENTROPY && !is_words(body)
}

/// Names of variables and files: words in one case, with separators between.
fn is_words(body: &[u8]) -> bool {
    let separators = body.iter().filter(|byte| matches!(byte, b'-' | b'_' | b'.' | b'/')).count();
    let digits = body.iter().filter(|byte| byte.is_ascii_digit()).count();
    let upper = body.iter().filter(|byte| byte.is_ascii_uppercase()).count();
    separators * 12 >= body.len() && digits + upper <= 2
}

fn has_checksum(body: &[u8]) -> bool {
    const LENGTH: usize = 6;
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let Some((drawn, sum)) = body.split_last_chunk::<LENGTH>() else { return false };
    let mut rest = crc32(drawn);
    let mut expected = [b'0'; LENGTH];
    for digit in expected.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    rest == 0 && expected == *sum && !is_placeholder(drawn)
}

/// The CRC-32 of ISO-HDLC, as in zip and PNG.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

fn is_web_token(token: &[u8]) -> bool {
    const SHORTEST_SIGNATURE: usize = 20;
    /// The middle of the token that jwt.io and half the documentation of the world show.
    const FAMOUS: &[u8] = b"eyJzdWIiOiIxMjM0NTY3ODkw";
    let parts: Vec<&[u8]> = token.splitn(4, |byte| *byte == b'.').collect();
    let [head, body, signature, ..] = parts.as_slice() else { return false };
    let Ok(head) = URL_SAFE_NO_PAD.decode(head) else { return false };
    let names_algorithm = head.windows(5).any(|part| part == b"\"alg\"" || part == b"\"enc\"");
    head.starts_with(b"{") && names_algorithm && signature.len() >= SHORTEST_SIGNATURE && !body.starts_with(FAMOUS)
}
