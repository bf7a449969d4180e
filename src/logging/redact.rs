//! PURE: takes secrets out of a text, known ones and those that only look like one.
//!
//! What looks like a secret: tokens with their maker's prefix (GitHub, OpenAI, Slack, AWS, GitLab, Hugging Face, Google),
//! JSON web tokens, `Bearer` and `Basic` credentials, `authorization` headers, `x-access-token`, the user's part of an
//! address, and private keys in PEM.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Stands where a secret stood.
pub const MASK: &str = "***";

/// Shorter texts are no secrets, and to mask them would garble every line.
pub const SHORTEST_SECRET: usize = 8;

/// Passes after the first; two are rare.
const MOST_PASSES: usize = 16;

/// A token begins after no letter or digit; on a terminal, a colour's code may end in one.
const BEFORE: &str = r"(?:^|(?u:[^A-Za-z0-9])|\x1b\[[0-9;]*m)";

/// Letters, digits and white space are ASCII's: what Unicode counts among them, also as the other case of a letter, takes
/// megabytes of states in the caches of the threads.
static SECRETS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let forms = [
        // The body of a private key, up to whatever is not part of one.
        r#"(?P<key>-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----)(?P<body>(?u:[^"-]|-[^"-])*)"#.to_owned(),
        r#"(?P<user>://)(?u:[^\t-\r /?#"'<>\\])+@"#.to_owned(),
        r#"(?P<access>x-access-token:)(?u:[^\t-\r @"'\\])+"#.to_owned(),
        r#"(?P<header>authorization\\?["']?[ \t]*[:=][ \t]*\\?["']?)(?:(?:bearer|basic|token)[ \t]+)?(?u:[^\t-\r "'\\,;])+"#
            .to_owned(),
        format!(r"(?P<scheme>{BEFORE}(?:bearer|basic)[ \t]+)(?P<credentials>[a-z0-9._~+/=-]{{8,}})"),
        format!(
            r"(?P<maker>{BEFORE}(?-i:gh[opusr]_|github_pat_|glpat-|hf_|sk-|xox[a-z]-|AKIA|ASIA|AIza|eyJ))(?P<token>[A-Za-z0-9._-]{{4,}})"
        ),
        // Long enough to be no word, so it counts wherever it begins.
        r"(?P<glued>(?-i:gh[opusr]_|github_pat_))[A-Za-z0-9]{20,}[A-Za-z0-9._-]*".to_owned(),
    ];
    Regex::new(&format!("(?i-u:{})", forms.join("|"))).ok()
});

/// `text` without what looks like a secret; its line ends stay, and a second time changes nothing.
///
/// The result is borrowed if there was nothing to take out.
pub fn redact(text: &str) -> Cow<'_, str> {
    // The pattern is a constant, and compiles: a test holds it.
    let Some(secrets) = SECRETS.as_ref() else { return Cow::Owned(MASK.into()) };
    let Cow::Owned(mut clean) = secrets.replace_all(text, masked) else { return Cow::Borrowed(text) };
    // What is left of one form can make another.
    for _ in 0..MOST_PASSES {
        match secrets.replace_all(&clean, masked) {
            Cow::Owned(again) if again != clean => clean = again,
            Cow::Owned(_) | Cow::Borrowed(_) => break,
        }
    }
    if clean == text { Cow::Borrowed(text) } else { Cow::Owned(clean) }
}

/// `text` without these secrets, and without what looks like one.
pub fn redact_with<'a>(text: &'a str, known: &[String]) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(text);
    for secret in known.iter().filter(|secret| secret.len() >= SHORTEST_SECRET) {
        if text.contains(secret.as_str()) {
            text = Cow::Owned(text.replace(secret.as_str(), MASK));
        }
    }
    match text {
        Cow::Borrowed(text) => redact(text),
        Cow::Owned(text) => Cow::Owned(redact(&text).into_owned()),
    }
}

fn masked(found: &Captures<'_>) -> String {
    let whole = &found[0];
    if let (Some(key), Some(body)) = (found.name("key"), found.name("body")) {
        let line_ends: String = body.as_str().chars().filter(|character| *character == '\n').collect();
        return format!("{}{MASK}{line_ends}", key.as_str());
    }
    if found.name("user").is_some() {
        return format!("://{MASK}@");
    }
    let is_no_secret = found.name("credentials").is_some_and(|text| is_word(text.as_str()))
        || matches!((found.name("maker"), found.name("token")), (Some(maker), Some(token))
            if is_too_short(maker.as_str(), token.as_str()));
    if is_no_secret {
        return whole.to_owned();
    }
    let before = ["access", "header", "scheme", "maker", "glued"].into_iter().find_map(|name| found.name(name));
    format!("{}{MASK}", before.map_or("", |before| before.as_str()))
}

/// `Basic authentication` and the like: one plain word.
fn is_word(text: &str) -> bool {
    let text = text.trim_end_matches('.');
    text.len() < 20 && text.chars().skip(1).all(|character| character.is_ascii_lowercase())
}

/// Prefixes that also begin words need more behind them.
fn is_too_short(maker: &str, token: &str) -> bool {
    let shortest = match () {
        () if maker.ends_with("sk-") || maker.ends_with("hf_") => 12,
        () if maker.ends_with("AKIA") || maker.ends_with("ASIA") || maker.ends_with("AIza") => 12,
        () if maker.ends_with("eyJ") => 20,
        () => 4,
    };
    token.len() < shortest
}
