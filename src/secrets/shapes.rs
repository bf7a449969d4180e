//! Tokens by their maker's prefix, private keys, and passwords in addresses.
//!
//! Prefixes, alphabets and lengths are those of GitHub's "Supported secret scanning patterns" and of gitleaks' rules.

mod check;

use aho_corasick::AhoCorasick;

use super::plain::{is_common_password, is_placeholder};
use super::{Found, Kind, ScannerError, small_automaton};
use check::Check;

/// The longest token that is looked at.
const LONGEST: usize = 4096;

/// How tokens of one maker look.
struct Shape {
    maker: &'static str,
    prefix: &'static str,
    /// Besides letters and digits.
    also: &'static [u8],
    /// Of what follows the prefix.
    shortest: usize,
    longest: usize,
    check: Check,
}

const fn shape(maker: &'static str, prefix: &'static str, shortest: usize, longest: usize, check: Check) -> Shape {
    Shape { maker, prefix, also: b"", shortest, longest, check }
}

const fn also(shape: Shape, also: &'static [u8]) -> Shape {
    Shape { also, ..shape }
}

static SHAPES: [Shape; 63] = [
    shape("GitHub token", "ghp_", 30, 255, Check::Checksum),
    shape("GitHub token", "gho_", 30, 255, Check::Checksum),
    shape("GitHub token", "ghu_", 30, 255, Check::Checksum),
    also(shape("GitHub token", "ghs_", 30, LONGEST, Check::Checksum), b"._-"),
    shape("GitHub token", "ghr_", 30, 255, Check::Checksum),
    also(shape("GitHub token", "github_pat_", 40, 255, Check::Random), b"_"),
    also(shape("GitLab token", "glpat-", 20, 300, Check::Random), b"_-."),
    also(shape("GitLab token", "gldt-", 20, 300, Check::Random), b"_-."),
    also(shape("GitLab token", "glrt-", 20, 300, Check::Random), b"_-."),
    also(shape("GitLab token", "glptt-", 20, 300, Check::Random), b"_-."),
    also(shape("GitLab token", "glcbt-", 20, 300, Check::Random), b"_-."),
    shape("AWS access key", "AKIA", 16, 16, Check::Base32),
    shape("AWS access key", "ASIA", 16, 16, Check::Base32),
    shape("AWS access key", "ABIA", 16, 16, Check::Base32),
    shape("AWS access key", "ACCA", 16, 16, Check::Base32),
    also(shape("Slack token", "xoxb-", 20, 300, Check::Random), b"-"),
    also(shape("Slack token", "xoxp-", 20, 300, Check::Random), b"-"),
    also(shape("Slack token", "xoxa-", 20, 300, Check::Random), b"-"),
    also(shape("Slack token", "xoxr-", 20, 300, Check::Random), b"-"),
    also(shape("Slack token", "xoxs-", 20, 300, Check::Random), b"-"),
    also(shape("Slack token", "xoxe-", 20, 300, Check::Random), b"-"),
    also(shape("Slack token", "xoxc-", 20, 300, Check::Random), b"-"),
    also(shape("Slack token", "xoxd-", 20, 300, Check::Random), b"-%"),
    also(shape("Slack token", "xapp-", 20, 300, Check::Random), b"-"),
    also(shape("Slack webhook", "hooks.slack.com/services/", 30, 100, Check::Random), b"/"),
    also(shape("Discord webhook", "discord.com/api/webhooks/", 60, 150, Check::Random), b"/_-"),
    shape("Stripe key", "sk_live_", 16, 255, Check::Random),
    shape("Stripe key", "rk_live_", 16, 255, Check::Random),
    shape("Stripe key", "sk_test_", 16, 255, Check::Random),
    shape("Stripe key", "rk_test_", 16, 255, Check::Random),
    shape("Stripe key", "whsec_", 24, 255, Check::Random),
    also(shape("Google API key", "AIza", 35, 35, Check::Random), b"_-"),
    also(shape("Google OAuth secret", "GOCSPX-", 28, 28, Check::Random), b"_-"),
    also(shape("Google access token", "ya29.", 30, LONGEST, Check::Random), b"_-."),
    also(shape("Anthropic key", "sk-ant-", 30, 255, Check::Random), b"_-"),
    also(shape("OpenAI key", "sk-proj-", 30, 255, Check::Random), b"_-"),
    also(shape("OpenAI key", "sk-svcacct-", 30, 255, Check::Random), b"_-"),
    also(shape("OpenRouter key", "sk-or-v1-", 64, 64, Check::Hex), b""),
    shape("OpenAI key", "sk-", 32, 255, Check::Random),
    shape("Hugging Face token", "hf_", 30, 64, Check::Random),
    shape("npm token", "npm_", 36, 36, Check::Checksum),
    also(shape("PyPI token", "pypi-AgEIcHlwaS5vcmc", 40, LONGEST, Check::Random), b"_-"),
    also(shape("PyPI token", "pypi-AgENdGVzdC5weXBpLm9yZw", 40, LONGEST, Check::Random), b"_-"),
    shape("RubyGems key", "rubygems_", 48, 48, Check::Hex),
    also(shape("crates.io token", "cio", 32, 32, Check::Random), b""),
    also(shape("Docker token", "dckr_pat_", 27, 64, Check::Random), b"_-"),
    also(shape("SendGrid key", "SG.", 66, 66, Check::Random), b"_-."),
    shape("DigitalOcean token", "dop_v1_", 64, 64, Check::Hex),
    shape("DigitalOcean token", "doo_v1_", 64, 64, Check::Hex),
    shape("Shopify token", "shpat_", 32, 32, Check::Hex),
    shape("Shopify secret", "shpss_", 32, 32, Check::Hex),
    shape("Databricks token", "dapi", 32, 32, Check::Hex),
    also(shape("Vault token", "hvs.", 24, 300, Check::Random), b"_-"),
    also(shape("Doppler token", "dp.pt.", 40, 44, Check::Random), b""),
    also(shape("Linear key", "lin_api_", 32, 48, Check::Random), b""),
    also(shape("Postman key", "PMAK-", 59, 59, Check::Random), b"-"),
    also(shape("Sentry token", "sntrys_", 60, LONGEST, Check::Random), b"_-+/="),
    also(shape("Grafana token", "glsa_", 41, 41, Check::Random), b"_"),
    also(shape("Terraform token", "atlasv1.", 60, 80, Check::Random), b"_-="),
    shape("age key", "AGE-SECRET-KEY-1", 58, 58, Check::Random),
    also(shape("Azure storage key", "AccountKey=", 80, 90, Check::Random), b"+/="),
    also(shape("Tailscale key", "tskey-", 30, 100, Check::Random), b"-"),
    also(shape("JSON web token", "eyJ", 40, LONGEST, Check::WebToken), b"_-."),
];

const KEY: &str = "PRIVATE KEY";
const ADDRESS: &str = "://";

/// The automaton that finds where tokens may begin.
pub(super) struct Shapes(AhoCorasick);

impl Shapes {
    /// Builds the automaton.
    pub(super) fn new() -> Result<Self, ScannerError> {
        let prefixes = SHAPES.iter().map(|shape| shape.prefix).chain([KEY, ADDRESS]);
        small_automaton().build(prefixes).map(Self).map_err(|_| ScannerError::TooLarge)
    }

    /// The tokens, keys and passwords in a text.
    pub(super) fn find(&self, text: &[u8]) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for hit in self.0.find_overlapping_iter(text) {
            // Within a token that was found, another cannot begin.
            if found.last().is_some_and(|last| hit.start() < last.span.end) {
                continue;
            }
            found.extend(match SHAPES.get(hit.pattern().as_usize()) {
                Some(shape) => token(shape, text, hit.start()),
                None if text[hit.range()] == *KEY.as_bytes() => private_key(text, hit.end()),
                None => password_in_address(text, hit.end()),
            });
        }
        found
    }
}

fn token(shape: &Shape, text: &[u8], start: usize) -> Option<Found> {
    let is_inside =
        |byte: &u8| byte.is_ascii_alphanumeric() || (matches!(byte, b'-' | b'_') && !is_after_escape(text, start));
    if start.checked_sub(1).and_then(|before| text.get(before)).is_some_and(is_inside) && !is_after_escape(text, start)
    {
        return None;
    }
    let from = start + shape.prefix.len();
    let rest = text.get(from..)?;
    let longest = rest.len().min(shape.longest + 1);
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || shape.also.contains(byte);
    let length = rest[..longest].iter().take_while(|byte| allowed(byte)).count();
    if !(shape.shortest..=shape.longest).contains(&length)
        || !shape.check.passes(&text[start..from + length], &rest[..length])
    {
        return None;
    }
    Some(Found { span: start..from + length, kind: Kind::Token { maker: shape.maker.into() } })
}

/// Behind `\n` and the like the letter belongs to the escape, not to a word.
fn is_after_escape(text: &[u8], start: usize) -> bool {
    start >= 2 && text[start - 2] == b'\\' && matches!(text[start - 1], b'n' | b'r' | b't')
}

/// A key's header counts only with a body: code that speaks of headers is no key.
fn private_key(text: &[u8], end: usize) -> Option<Found> {
    const NEAR: usize = 400;
    const SHORTEST_LINE: usize = 40;
    let rest = text.get(end..)?;
    let rest = &rest[..rest.len().min(NEAR)];
    if !rest.starts_with(b"-----") && !rest.starts_with(b" BLOCK-----") {
        return None;
    }
    let is_body = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let mut at = 0;
    for run in rest.split(|byte| !is_body(byte)) {
        // In a literal, the `n` of `\n` joins the line behind it.
        if run.len() >= SHORTEST_LINE && !is_placeholder(run) {
            return Some(Found { span: end..end + at + run.len(), kind: Kind::PrivateKey });
        }
        at += run.len() + 1;
    }
    None
}

/// `user:password@` behind the scheme.
fn password_in_address(text: &[u8], end: usize) -> Option<Found> {
    const LONGEST_PART: usize = 256;
    const SHORTEST_PASSWORD: usize = 6;
    let rest = text.get(end..)?;
    let rest = &rest[..rest.len().min(LONGEST_PART)];
    let ends =
        |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'"' | b'\'' | b'`' | b'\\' | b'?' | b'#');
    let authority = rest.split(ends).next()?;
    let at = authority.iter().rposition(|byte| *byte == b'@')?;
    let colon = authority[..at].iter().position(|byte| *byte == b':')?;
    let (user, password) = (&authority[..colon], &authority[colon + 1..at]);
    let is_plain = password.len() < SHORTEST_PASSWORD || password == user || is_common_password(password);
    (!is_plain).then(|| Found { span: end..end + at, kind: Kind::PasswordInAddress })
}
