//! Secrets: one row for each text, then properties.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use patchwright::secrets::*;
use proptest::prelude::*;

/// A token of GitHub's form with a right checksum, made for this test; and others drawn at random.
const OURS: &str = "Zx9-kQ2/vB7+mN4pL8wR3tY6uJ1";

fn scanner(known: &[(&str, &str)]) -> Scanner {
    let known: Vec<Known> =
        known.iter().map(|(name, secret)| Known { name: (*name).into(), secret: (*secret).into() }).collect();
    Scanner::new(&known).unwrap()
}

fn file(path: &str) -> Place {
    Place::File(path.into())
}

fn kinds(hits: &[Hit]) -> String {
    let name = |hit: &Hit| match &hit.kind {
        Kind::Own { form, .. } => format!("{}:{form:?}", hit.line),
        Kind::Token { maker } => format!("{}:{maker}", hit.line),
        Kind::PrivateKey => format!("{}:key", hit.line),
        Kind::PasswordInAddress => format!("{}:address", hit.line),
        Kind::RandomValue => format!("{}:random", hit.line),
    };
    hits.iter().map(name).collect::<Vec<_>>().join(" ")
}

/// Text with `@` parts joined, so that this file itself holds no token; and what is found.
const TOKENS: &[(&str, &str)] = &[
    ("t = 'ghp@_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17'", "1:GitHub token"),
    ("a\nb gho@_16C7e42F292c6912E7710c838347Ae178B4a", "2:GitHub token"),
    ("ghu@_16C7e42F292c6912E7710c838347Ae178B4a", "1:GitHub token"),
    ("ghs@_16C7e42F292c6912E7710c838347Ae178B4a", "1:GitHub token"),
    ("ghr@_1B4a2e77838347a7E420ce178F2E7c6912E169246c34E1ccbF66C46812d16D5B1A9Dc86A1498", "1:GitHub token"),
    ("github@_pat_11ABCDEFG0aBcDeFgHiJkL_mNoPqRsTuVwXyZ0123456AbC98dEfGhIjKlMnOpQrStUv", ""),
    ("github@_pat_11AX3VQRY0z7Kp2mWbT9dL_hJ4nQs8VuXcE1rFgYt6BoZiMa5DkPw3CyR7sNvUqHe2Lj", "1:GitHub token"),
    ("ghp@_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", ""),
    ("ghp@_YOURTOKENHERE1234567890abcdefghijklm", ""),
    ("ghp@_short", ""),
    ("xghp@_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17", ""),
    ("let s = \"a\\nghp@_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17\";", "1:GitHub token"),
    ("glpat@-x7Kp2mWbT9dLhJ4nQs8V", "1:GitLab token"),
    ("glpat@-your-access-token-here", ""),
    ("AKIA@Z7QH3M5XK2WPT4RD", "1:AWS access key"),
    ("AKIA@IOSFODNN7EXAMPLE", ""),
    ("ASIA@Z7QH3M5XK2WPT4RD", "1:AWS access key"),
    ("AKIA@z7qh3m5xk2wpt4rd", ""),
    ("AKIA@Z7QH3M5XK2WPT4RDAAAA", ""),
    ("aws_secret_access_key = wJa7rXUtnF3EMI8K7MDENG2bPxRfi5CYzk9Qd4Lp", "1:random"),
    ("xoxb@-2849301928-4829103847562-Qz7Kp2mWbT9dLhJ4nQs8VuXc", "1:Slack token"),
    ("xoxb@-your-token-goes-here-please", ""),
    ("https://hooks.slack@.com/services/T8K2M4X6Q/B3W5R7T9Y/z7Kp2mWbT9dLhJ4nQs8VuXcE", "1:Slack webhook"),
    ("sk_live@_4eC39HqLyjWDarjtT1zdp7dc", "1:Stripe key"),
    ("rk_live@_4eC39HqLyjWDarjtT1zdp7dc", "1:Stripe key"),
    ("AIza@SyD7k2Mx9QpL4vN8wR3tY6uJ1bZ5cH0fGq2", "1:Google API key"),
    ("sk@-7Kp2mWbT9dLhJ4nQs8VuXcE1rFgYt6BoZiMa5DkPw3CyR7sN", "1:OpenAI key"),
    ("sk@-proj-7Kp2mWbT9dLhJ4nQs8VuXcE1rFgYt6BoZiMa5DkPw3Cy", "1:OpenAI key"),
    ("sk@-ant-api03-7Kp2mWbT9dLhJ4nQs8VuXcE1rFgYt6BoZiMa5DkPw3Cy-AA", "1:Anthropic key"),
    ("class='sk@-loading-spinner-container-wrapper-outer'", ""),
    ("npm@_7Kp2mWbT9dLhJ4nQs8VuXcE1rFgYt6BoZiMa", "1:npm token"),
    ("npm@_config_registry", ""),
    ("pypi@-AgEIcHlwaS5vcmcCJDc4ZTk5YmQ2LWZhMzctNDk1Yi1hNjQ3LTJiODE4NzdmYjE2", "1:PyPI token"),
    ("hf@_7KpXmWbTqdLhJqnQsrVuXcEzrFgYtyBoZi", "1:Hugging Face token"),
    ("SG@.z7Kp2mWbT9dLhJ4nQs8VuX.cE1rFgYt6BoZiMa5DkPw3CyR7sNvUqHe2LjX4fGd8Sa", "1:SendGrid key"),
    (
        "eyJ@hbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VyIjo0MiwiZXhwIjoxNzk5OTk5OTk5fQ.Qz7Kp2mWbT9dLhJ4nQs8VuXcE1rFgYt6BoZiMa5DkPw",
        "1:JSON web token",
    ),
    (
        "eyJ@hbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
        "",
    ),
    ("eyJ@1c2VyIjo0MiwiZXhwIjoxNzk5OTk5OTk5fXoxNzk5OTk5OTk5", ""),
    ("-----BEGIN RSA PRIVATE@ KEY-----\nMIIEpAIBAAKCAQEAz7Kp2mWbT9dLhJ4nQs8VuXcE1rFgYt6BoZiMa5DkPw3CyR7s\n", "1:key"),
    (
        "k = \"-----BEGIN OPENSSH PRIVATE@ KEY-----\\nb3BlbnNzaC1rZXktdjEz7Kp2mWbT9dLhJ4nQs8VuXcE1rFgYt6BoZiMa5DkPw3CyR\"",
        "1:key",
    ),
    ("if text.startswith('-----BEGIN RSA PRIVATE@ KEY-----'):\n    return parse(text)", ""),
    ("-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAz7Kp2mWbT9dLhJ4nQs8V", ""),
    ("postgres://app:Qz7Kp2mWbT9@db.internal/x", "1:address"),
    ("https://x-access-token:Qz7Kp2mWbT9d@github.com/a/b", "1:address"),
    ("postgres://postgres:postgres@localhost/x", ""),
    ("postgres://user:password@localhost/x", ""),
    ("https://user:${PASSWORD}@host", ""),
    ("https://host/a:b@c", ""),
    ("redis://:s3cr3tPass9@cache:6379", "1:address"),
    ("PASSWORD=Qz7Kp2mWbT9dLhJ4nQ", "1:random"),
    ("\"api_key\": \"Qz7Kp2mWbT9dLhJ4nQ\"", "1:random"),
    ("client_secret: 'f3a9c1d27b6e48509d1c3f7a2b8e6d40'", "1:random"),
    ("token = \"f3a9c1d2-7b6e-4850-9d1c-3f7a2b8e6d40\"", ""),
    ("const tokenKey = \"authentication.session.token\"", ""),
    ("password = os.environ[\"APP_PASSWORD_2024\"]", ""),
    ("token = get_token_for_user2(session1)", ""),
    ("secret_name: my-app-secret-name-production", ""),
    ("token_sha256 = 'f3a9c1d27b6e48509d1c3f7a2b8e6d40'", ""),
    ("password: changeme1234567890ABC", ""),
    ("password = 'correct horse battery staple'", ""),
    ("api_key = '<your api key>'", ""),
    ("apiKey: process.env.API_KEY_V2_PRODUCTION,", ""),
    ("token: ${{ secrets.GITHUB_TOKEN_2 }}", ""),
    ("max_tokens = 128000", ""),
    ("OperandToken0: D3D10_SB_OPERAND_4_COMPONENT_SWIZZLE_SHIFT", ""),
    ("hash(kSecret, XXH3_hashLong64_withSeed2)", ""),
    ("PrivateKey, &ECDSA_P256_SHA256_FIXED_SIGNING", ""),
    ("API_KEY=Qz7K_p2mWbT9d_LhJ4nQs8V", "1:random"),
    ("secret = 'k3v9x2mq7tz4wn8rbj5hc6'", "1:random"),
    ("api_key = 'my_api_key_f3a9c1d27b6e48509d1c3f7a2b8e6d40'", "1:random"),
    ("Authorization: token_header_name_of_version_22", ""),
    ("password: Spring2024SummerHoliday", "1:random"),
    ("dop@_v1_f3a9c1d27b6e48509d1c3f7a2b8e6d40f3a9c1d27b6e48509d1c3f7a2b8e6d41", "1:DigitalOcean token"),
    ("dapi@f3a9c1d27b6e48509d1c3f7a2b8e6d40", "1:Databricks token"),
    ("xapi@f3a9c1d27b6e48509d1c3f7a2b8e6d40", ""),
    ("tokenize(input1, options2)", ""),
    ("the secret is to wait 1234 days for it", ""),
];

fn joined(text: &str) -> String {
    // Only the first `@` joins; addresses need theirs.
    let is_address = text.contains("://") && !text.contains("slack@");
    if is_address { text.to_owned() } else { text.replacen('@', "", 1) }
}

#[test]
fn tokens() {
    let scanner = scanner(&[]);
    let mut wrong = Vec::new();
    for (text, expected) in TOKENS {
        let text = joined(text);
        let hits =
            scanner.scan(&Text { place: file("src/a.py"), bytes: text.as_bytes(), base: None }, &Allowed::default());
        if kinds(&hits) != *expected {
            wrong.push(format!("{text}: expected `{expected}`, found `{}`", kinds(&hits)));
        }
        let again = scanner.scan(
            &Text { place: file("src/a.py"), bytes: text.as_bytes(), base: Some(text.as_bytes()) },
            &Allowed::default(),
        );
        assert!(again.is_empty(), "{text}: the base has it");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}

fn each(secret: &str, form: impl Fn(u8) -> String) -> String {
    secret.bytes().map(form).collect()
}

fn pieces(secret: &str, size: usize, between: &str) -> String {
    let pieces: Vec<String> =
        secret.as_bytes().chunks(size).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect();
    pieces.join(between)
}

fn percent(secret: &str) -> String {
    each(secret, |byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    })
}

/// All forms in which a secret may be written, by name.
fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let half = secret.len() / 2;
    let (left, right) = secret.split_at(half);
    vec![
        ("exact", secret.to_owned()),
        ("base64", STANDARD.encode(secret)),
        ("base64 no pad", STANDARD_NO_PAD.encode(secret)),
        ("base64 url", URL_SAFE.encode(secret)),
        ("base64 url no pad", URL_SAFE_NO_PAD.encode(secret)),
        ("base64 second alignment", STANDARD.encode(format!("a{secret}"))),
        ("base64 third alignment", URL_SAFE.encode(format!("ab{secret}xyz"))),
        ("base64 of more", STANDARD.encode(format!("token={secret}\n"))),
        ("base64 wrapped", pieces(&STANDARD.encode(secret), 7, "\n")),
        ("hex", hex::encode(secret)),
        ("HEX", hex::encode_upper(secret)),
        ("hex with colons", each(secret, |byte| format!("{byte:02x}:"))),
        ("\\x", each(secret, |byte| format!("\\x{byte:02x}"))),
        ("0x", each(secret, |byte| format!("0x{byte:02X}, "))),
        ("\\u", each(secret, |byte| format!("\\u{byte:04x}"))),
        ("octal", each(secret, |byte| format!("\\{byte:03o}"))),
        ("decimal", each(secret, |byte| format!("{byte}, "))),
        ("html numbers", each(secret, |byte| format!("&#{byte};"))),
        ("percent", percent(secret)),
        ("all percent", each(secret, |byte| format!("%{byte:02x}"))),
        ("json", format!("\"{}\"", secret.replace('\\', "\\\\").replace('"', "\\\"").replace('/', "\\/"))),
        ("shell", format!("'{}'", secret.replace('\'', "'\\''"))),
        ("reversed", reversed(secret)),
        ("spaces", pieces(secret, 1, "  \n")),
        ("literals", pieces(secret, 3, "\" + \"")),
        ("adjacent", pieces(secret, 4, "' '")),
        ("continued", pieces(secret, 5, "\\\n  ")),
        ("array", pieces(secret, 2, "', '")),
        ("lines of a comment", pieces(secret, 4, "\n# ")),
        ("zero width", pieces(secret, 1, "\u{200b}")),
        ("utf-16", pieces(secret, 1, "\0")),
        ("halves", format!("a = \"{left}\"\nnot_much = 1\nb = \"{right}\"\n")),
        ("halves, the last first", format!("b = \"{right}\"\nwhatever()\na = \"{left}\"\n")),
        ("short end apart", format!("{}\nx = 1\n{}", &secret[..secret.len() - 3], &secret[secret.len() - 3..])),
    ]
}

#[test]
fn our_secret_is_found_in_every_form_even_in_the_base() {
    let scanner = scanner(&[("TOKEN", OURS)]);
    assert!(forms(OURS).len() >= 34);
    for (form, text) in forms(OURS) {
        let text = format!("before\n{text}\nafter");
        let hits = scanner.scan(
            &Text { place: Place::Body, bytes: text.as_bytes(), base: Some(text.as_bytes()) },
            &Allowed::default(),
        );
        assert!(
            hits.iter().any(|hit| matches!(&hit.kind, Kind::Own { name, .. } if name == "TOKEN")),
            "{form}: {text}"
        );
        for shown in [format!("{hits:?}"), hits.iter().map(Hit::to_string).collect(), format!("{scanner:?}")] {
            assert!(!shown.contains("kQ2"), "{shown}");
        }
    }
}

#[test]
fn forms_are_named() {
    let scanner = scanner(&[
        ("TOKEN", OURS),
        (
            "APP_KEY",
            "-----BEGIN KEY-----\nz7Kp2mWbT9dLhJ4nQs8VuXcE1rFgYt6BoZiMa5DkPw3CyR7s\nQQz7Kp2mWbT9dLhJ4nQs8VuXcE1rFgYt6BoZiMa5DkPw3C\n-----END KEY-----\n",
        ),
    ]);
    let named = |text: &str| {
        kinds(&scanner.scan(&Text { place: Place::Comment, bytes: text.as_bytes(), base: None }, &Allowed::default()))
    };
    assert_eq!(named(&format!("\n{OURS}")), "2:Exact");
    assert_eq!(named(&reversed(OURS)), "1:Reversed");
    assert_eq!(named(&hex::encode(OURS)), "1:Numbers");
    assert_eq!(named(&STANDARD.encode(OURS)), "1:Base64");
    assert_eq!(named(&OURS[..25]), "1:Part");
    assert_eq!(named("x z7Kp2mWbT9dLhJ4nQs8VuXcE1rFgYt6BoZiMa5DkPw3CyR7s"), "1:Part");
    assert_eq!(named(&OURS[..12]), "");
}

#[test]
fn secrets_that_could_be_words_do_not_stop_ordinary_code() {
    let scanner = scanner(&[("A", "test-token"), ("B", "p@$$-&!%w"), ("C", "short"), ("D", "abcdefgh")]);
    let found = |text: &str| {
        kinds(&scanner.scan(&Text { place: Place::Title, bytes: text.as_bytes(), base: None }, &Allowed::default()))
    };
    assert_eq!(found("let test_token = testToken(test.token);"), "");
    assert_eq!(found("x test-token y"), "1:Exact");
    assert_eq!(found("'test' + '-tok' 'en'"), "1:Split");
    assert_eq!(found("p@$$-&!%w"), "1:Exact");
    assert_eq!(found("p%40%24%24-%26%21%25w"), "1:UrlEncoded");
    assert_eq!(found("short"), "");
    assert_eq!(found("YWJjZGVmZ2g="), "1:Base64");
}

#[test]
fn a_name_with_a_secret_is_not_shown() {
    let scanner = scanner(&[("TOKEN", OURS)]);
    let path = format!("docs/{}.md", hex::encode(OURS));
    let hits =
        scanner.scan(&Text { place: Place::File(path), bytes: OURS.as_bytes(), base: None }, &Allowed::default());
    assert!(hits.iter().all(|hit| hit.place == Place::FileName) && hits.len() >= 2, "{hits:?}");
}

#[test]
fn the_operator_may_allow_paths_but_not_our_own() {
    let allow = Allow { allow: vec!["fixtures/**".into()], allow_random_values: vec!["**/*.snap".into()] };
    let (scanner, allowed) = (scanner(&[("T", OURS)]), Allowed::new(&allow).unwrap());
    let token = joined("ghp@_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17");
    let found = |path: &str, text: &str| {
        kinds(&scanner.scan(&Text { place: file(path), bytes: text.as_bytes(), base: None }, &allowed))
    };
    assert_eq!(found("fixtures/a.txt", &token), "");
    assert_eq!(found("fixtures/a.txt", OURS), "1:Exact");
    assert_eq!(found("a.snap", &token), "1:GitHub token");
    assert_eq!(found("a.snap", "password=Qz7Kp2mWbT9dLhJ4nQ"), "");
    assert_eq!(found("package-lock.json", "token=Qz7Kp2mWbT9dLhJ4nQ"), "");
    assert!(Allowed::new(&Allow { allow: vec!["a[".into()], ..Allow::default() }).is_err());
}

#[test]
fn cleaning_takes_out_whole_lines_and_says_what_stood_there() {
    let scanner = scanner(&[("TOKEN", OURS)]);
    assert!(matches!(scanner.clean("nothing\nhere\n"), std::borrow::Cow::Borrowed(_)));
    for (form, text) in forms(OURS) {
        let clean = scanner.clean(&format!("before\n{text}\nafter\n")).into_owned();
        assert!(clean.starts_with("before\n(a line was left out: our secret TOKEN "), "{form}: {clean}");
        assert!(clean.ends_with("\nafter\n"), "{form}: {clean}");
        assert_eq!(scanner.clean(&clean), clean, "{form}: it is clean now");
        let left = scanner.scan(&Text { place: Place::Body, bytes: clean.as_bytes(), base: None }, &Allowed::default());
        assert!(left.is_empty(), "{form}: {left:?} in {clean}");
    }
    let endless = (0..20).fold(String::new(), |text, _| format!("{}\n{text}\n{}", &OURS[..14], &OURS[14..]));
    assert!(!scanner.clean(&endless).contains(&OURS[..14]) || !scanner.clean(&endless).contains(&OURS[14..]));
}

#[test]
fn hostile_input_comes_to_an_end() {
    let scanner = scanner(&[("TOKEN", OURS)]);
    for piece in [
        "a",
        "sk-",
        "eyJ",
        "ghp_",
        "://a:",
        "token=",
        "-----BEGIN PRIVATE KEY-----",
        "Zx9kQ2",
        "tY6uJ1",
        "\n",
        "password password",
        "AKIA",
        "'+'",
        "Zx9kQ2tY6uJ1",
        "xoxb-1 ",
    ] {
        let text = piece.repeat((256 << 10) / piece.len());
        scanner.scan(
            &Text { place: Place::Body, bytes: text.as_bytes(), base: Some(text.as_bytes()) },
            &Allowed::default(),
        );
    }
}

/// Statements of five languages, with names and numbers to be filled in.
const CORPUS: &[&str] = &[
    "fn NAME(token: &str) -> Result<Token, Error> { parse(token, NUMBER) }",
    "let NAME_secret = secrets.get(\"NAME\").context(\"cannot read the secret\")?;",
    "assert_eq!(hash, \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\");",
    "def NAME(self, password: str = None) -> Optional[str]:",
    "    token = self.tokenizer.NAME(text, max_tokens=NUMBER)",
    "password = getpass.getpass(f\"Password for {NAME}: \")",
    "const NAME = await fetchToken({ clientId: config.NAME, apiKey: process.env.NAME_API_KEY });",
    "import { TokenKindNUMBER } from './token-kinds/NAME';",
    "export const API_KEY_HEADER = 'x-api-key-NAME';",
    "private static final String PASSWORD_FIELD = \"NAMEPasswordFieldNUMBER\";",
    "return new TokenResponse(tokenService.NAME(user.getId()), NUMBER);",
    "if err := NAME.VerifyToken(ctx, req.Token); err != nil {",
    "var errNAME = errors.New(\"secret NAME not found in store NUMBER\")",
    "url: https://example.com:8080/NAME/NUMBER?token=abc",
    "git clone https://github.com/NAME/NAME.git && cd NAME",
    "id = \"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\" // uuid NUMBER",
    "password_hash = bcrypt.hashpw(password.encode(), bcrypt.gensalt(NUMBER))",
    "SECRET_KEY = env(\"DJANGO_SECRET_KEY\", default=\"NAME\")",
    "tokens: Vec<Token>, // at most NUMBER",
    "private_key_path: /etc/ssl/private/NAME-NUMBER.pem",
];

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000), text in "\\PC{0,500}") {
        let scanner = scanner(&[("TOKEN", OURS), ("B", "p@$$-&!%w")]);
        scanner.scan(&Text { place: file("a"), bytes: &bytes, base: Some(text.as_bytes()) }, &Allowed::default());
        scanner.scan(&Text { place: Place::Branch, bytes: text.as_bytes(), base: None }, &Allowed::default());
    }

    #[test]
    fn any_secret_is_found_in_any_form_anywhere(secret in "[A-Za-z0-9_+/.-]{12,60}[0-9]{2}", before in "[ -~\n]{0,3000}", after in "[ -~\n]{0,300}") {
        // With fewer letters and digits, only forms without separators are promised.
        prop_assume!(secret.bytes().filter(u8::is_ascii_alphanumeric).count() >= SHORTEST_SECRET);
        let scanner = scanner(&[("TOKEN", &secret)]);
        for (form, text) in forms(&secret) {
            // Letters and digits next to split forms are no part of them, but their lines are.
            let text = format!("{before}\n{text}\n{after}");
            let hits = scanner.scan(&Text { place: Place::Body, bytes: text.as_bytes(), base: None }, &Allowed::default());
            let is_compact = secret.bytes().filter(u8::is_ascii_alphanumeric).count() >= 16;
            let needs_compact = form.starts_with("halves") || form.starts_with("short end");
            if is_compact || !needs_compact {
                prop_assert!(hits.iter().any(|hit| matches!(hit.kind, Kind::Own { .. })), "{form}: {text}");
            }
        }
    }

    #[test]
    fn ordinary_code_gives_no_hit(rows in proptest::collection::vec((0..CORPUS.len(), "[a-z]{3,9}(_[a-z]{3,9}){0,2}", 0_u32..100_000), 1..40)) {
        let text: String = rows.iter().map(|(row, name, number)| CORPUS[*row].replace("NAME", name).replace("NUMBER", &number.to_string()) + "\n").collect();
        let hits = scanner(&[("TOKEN", OURS)]).scan(&Text { place: file("src/a"), bytes: text.as_bytes(), base: None }, &Allowed::default());
        prop_assert!(hits.is_empty(), "{hits:?}\n{text}");
    }
}
