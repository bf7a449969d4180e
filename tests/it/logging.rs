//! Logging: what is taken out of lines, how lines look, how files are rotated, and what settings are refused.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use patchwright::config::environment::Environment;
use patchwright::config::logging::{LogSection, of};
use patchwright::logging::redact::{MASK, redact, redact_with};
use patchwright::logging::{FileSettings, Format, RotatingFile, Settings, Stream};
use proptest::prelude::*;

const BINARY: &str = env!("CARGO_BIN_EXE_patchwright");

#[test]
fn what_looks_like_a_secret_is_taken_out() {
    let cases = [
        ("token ghp_abcdefghijklmnopqrstuvwxyz0123456789", "token ghp_***"),
        ("gho_abc123 ghu_abc123 ghr_abc123", "gho_*** ghu_*** ghr_***"),
        ("ghs_123_eyJhbGciOi.JIUzI1NiJ9.c2ln-bmF0dXJl!", "ghs_***!"),
        ("xghp_abcdefghijklmnopqrstuvwxyz0123456789", "xghp_***"),
        ("github_pat_11ABCDEFG0abcdefghij_klmnopqrstuvwxyz", "github_pat_***"),
        ("key=sk-proj-abcdefGHIJ_klm-nop123", "key=sk-***"),
        ("xoxb-123456789012-abcdefABCDEF", "xoxb-***"),
        ("AKIAIOSFODNN7EXAMPLE and ASIAIOSFODNN7EXAMPLE", "AKIA*** and ASIA***"),
        ("glpat-abcdefghij hf_abcdefghijklmnop", "glpat-*** hf_***"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "jwt eyJ***"),
        ("Bearer abcdefgh.12345678", "Bearer ***"),
        ("\"Basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0\"", "\"Basic ***\""),
        ("authorization: abcd", "authorization: ***"),
        ("Authorization: token abcd, accept: x", "Authorization: ***, accept: x"),
        ("{\"authorization\":\"Bearer abc\",\"a\":1}", "{\"authorization\":\"***\",\"a\":1}"),
        (r#"{"message":"{\"authorization\": \"Basic QQ==\"}"}"#, r#"{"message":"{\"authorization\": \"***\"}"}"#),
        ("proxy-authorization=Basic QWxhZGRpbg==", "proxy-authorization=***"),
        ("https://user:pass@host/path?a=b", "https://***@host/path?a=b"),
        ("https://x-access-token:abc@github.com/a/b", "https://***@github.com/a/b"),
        ("HTTP://token@host and ftp://a:b@c", "HTTP://***@host and ftp://***@c"),
        ("x-access-token:abc next", "x-access-token:*** next"),
        ("\x1b[3mtoken\x1b[0m=\x1b[0mghp_short1", "\x1b[3mtoken\x1b[0m=\x1b[0mghp_***"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabcd\n-----END RSA PRIVATE KEY-----\nafter",
            "-----BEGIN RSA PRIVATE KEY-----***\n\n\n-----END RSA PRIVATE KEY-----\nafter",
        ),
        (
            r#"{"a":"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n","b":1}"#,
            r#"{"a":"-----BEGIN PRIVATE KEY-----***-----END PRIVATE KEY-----\n","b":1}"#,
        ),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk", "-----BEGIN OPENSSH PRIVATE KEY-----***\n"),
    ];
    for (text, clean) in cases {
        assert_eq!(redact(text), clean, "{text}");
        assert_eq!(redact(clean), clean, "a second time");
    }
}

#[test]
fn what_is_no_secret_stays() {
    let kept = [
        "",
        "plain text\nin two lines\n",
        "risk-assessment-of-something, ask-me, sk-1",
        "Basic authentication failed; bearer of news",
        "highs_and_lows, ghp_",
        "https://github.com/acme/widgets/issues/42#note@1",
        "mail ada@example.org, or acme/widgets@v1",
        "authorization failed",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "commit 0123456789abcdef0123456789abcdef01234567",
    ];
    for text in kept {
        assert!(matches!(redact(text), std::borrow::Cow::Borrowed(same) if same == text), "{text} -> {}", redact(text));
    }
}

#[test]
fn registered_secrets_are_taken_out_whatever_they_look_like() {
    let known = ["hunter2hunter2".to_owned(), "short".to_owned()];
    assert_eq!(
        redact_with("a hunter2hunter2, short; Bearer x1X2x3X4", &known),
        format!("a {MASK}, short; Bearer {MASK}")
    );
}

proptest! {
    #[test]
    fn any_text_keeps_its_lines_and_a_second_time_changes_nothing(
        parts in prop::collection::vec(prop_oneof![
            Just("ghp_".to_owned()), Just("Bearer ".to_owned()), Just("authorization: ".to_owned()),
            Just("https://".to_owned()), Just("@".to_owned()), Just("x-access-token:".to_owned()), Just("\n".to_owned()),
            Just("-----BEGIN PRIVATE KEY-----".to_owned()), Just("-----END PRIVATE KEY-----".to_owned()),
            Just("\x1b[0m".to_owned()), Just("sk-".to_owned()), Just("\"".to_owned()), Just("***".to_owned()),
            "[A-Za-z0-9]{0,30}", "\\PC{0,6}", "[ -~]{0,8}",
        ], 0..14)
    ) {
        let text = parts.concat();
        let clean = redact(&text).into_owned();
        prop_assert_eq!(clean.matches('\n').count(), text.matches('\n').count());
        prop_assert_eq!(redact(&clean).into_owned(), clean);
    }

    #[test]
    fn a_token_in_any_company_is_taken_out(before in "[ -~\n]{0,20}[^A-Za-z0-9]", token in "[A-Za-z0-9]{36}", after in "[ -~\n]{0,20}") {
        let clean = redact(&format!("{before}ghp_{token}{after}")).into_owned();
        prop_assert!(!clean.contains(&token), "{}", clean);
    }
}

#[test]
fn a_file_is_rotated_by_size_and_by_days_and_old_ones_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs/patchwright.log");
    let settings = FileSettings { path: path.clone(), most_bytes: 20, days: 2, kept: 2 };
    let read = |name: &str| std::fs::read_to_string(folder.path().join("logs").join(name)).unwrap_or_default();
    let mut file = RotatingFile::open(settings.clone()).unwrap();
    let today = jiff::Timestamp::now();
    let day = |number: i64| today + jiff::SignedDuration::from_hours(24 * number);
    for line in ["first 789\n", "second 89\n", "third 789\n", "longer than any file may be\n", "fifth\n"] {
        file.write_line_at(line.as_bytes(), today).unwrap();
    }
    assert_eq!(read("patchwright.log"), "fifth\n");
    assert_eq!(read("patchwright.log.1"), "longer than any file may be\n");
    assert_eq!(read("patchwright.log.2"), "third 789\n");
    assert!(!path.with_extension("log.3").exists());
    drop(file);
    // A restart goes on in the same file.
    let mut file = RotatingFile::open(settings).unwrap();
    file.write_line_at(b"sixth\n", day(1)).unwrap();
    assert_eq!(read("patchwright.log"), "fifth\nsixth\n");
    file.write_line_at(b"seventh\n", day(2)).unwrap();
    assert_eq!(read("patchwright.log"), "seventh\n");
    assert_eq!(read("patchwright.log.1"), "fifth\nsixth\n");
    for name in ["patchwright.log", "patchwright.log.1", "patchwright.log.2"] {
        let mode = std::fs::metadata(path.with_file_name(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

fn resolved(variables: &[(&str, &str)]) -> anyhow::Result<Settings> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    of(&LogSection::default(), &Environment::of(variables), 0, "info")
}

#[test]
fn the_words_of_the_environment_are_understood() {
    let plain = resolved(&[]).unwrap();
    assert_eq!(plain, Settings { level: "info".into(), format: Format::Text, stream: Some(Stream::Error), file: None });
    let json = resolved(&[("LOG_FORMAT", "JSON"), ("LOG_LEVEL", "WARNING"), ("LOG_OUTPUT", "stdout")]).unwrap();
    assert_eq!((json.level.as_str(), json.format, json.stream), ("warn", Format::Json, Some(Stream::Output)));
    for (output, stream) in [("file", None), ("both", Some(Stream::Error)), ("", Some(Stream::Error))] {
        let settings = resolved(&[("LOG_OUTPUT", output), ("LOG_FILE_PATH", "/var/log/a.log")]).unwrap();
        assert_eq!(settings.stream, stream, "{output}");
        assert_eq!(settings.file.unwrap().path.to_str(), Some("/var/log/a.log"), "{output}");
    }
    let console = resolved(&[("LOG_OUTPUT", "console"), ("LOG_FILE_PATH", "/var/log/a.log")]).unwrap();
    assert_eq!((console.stream, console.file), (Some(Stream::Error), None));
}

#[test]
fn bad_values_are_refused_by_name() {
    let cases: [(&[(&str, &str)], &[&str]); 5] = [
        (&[("LOG_LEVEL", "loud")], &["LOG_LEVEL=`loud`", "error, warn, info, debug, trace, off"]),
        (&[("LOG_FORMAT", "xml")], &["LOG_FORMAT=`xml`", "text", "json"]),
        (&[("LOG_OUTPUT", "syslog")], &["LOG_OUTPUT=`syslog`", "stderr", "stdout", "file", "both"]),
        (&[("LOG_OUTPUT", "file")], &["LOG_FILE_PATH"]),
        (&[("LOG_FILE_PATH", "/")], &["LOG_FILE_PATH=`/`", "folder"]),
    ];
    for (variables, words) in cases {
        let error = format!("{:#}", resolved(variables).unwrap_err());
        assert!(words.iter().all(|word| error.contains(word)), "{variables:?}: {error}");
    }
}

/// Runs the binary where it fails at once, and logs on the way.
fn log_of(variables: &[(&str, &str)]) -> std::process::Output {
    let folder = tempfile::tempdir().unwrap();
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    Command::new(BINARY)
        .args(["run", "--repo", "/nowhere/at/all", "--task", "a task"])
        .env_clear()
        .env("HOME", folder.path())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(variables)
        .output()
        .unwrap()
}

#[test]
fn the_binary_opens_its_log_file_for_its_owner_alone_and_names_what_it_cannot_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/patchwright.log");
    log_of(&[("LOG_FILE_PATH", path.to_str().unwrap()), ("LOG_OUTPUT", "file")]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = log_of(&[("LOG_FILE_PATH", "/dev/null/a.log")]);
    assert_eq!(refused.status.code(), Some(2));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("/dev/null/a.log") && error.contains("LOG_FILE_PATH"), "{error}");
}

/// Not a test by itself: the child of the one below, for logging is started once a process.
#[test]
fn child_that_logs() {
    let Some(format) = std::env::var_os("PATCHWRIGHT_TEST_LOG_CHILD") else { return };
    let format = if format == "json" { Format::Json } else { Format::Text };
    let file = std::env::var_os("PATCHWRIGHT_TEST_LOG_FILE").unwrap().into();
    let file = FileSettings { path: file, most_bytes: 1 << 20, days: 1, kept: 1 };
    patchwright::logging::start(&Settings { level: "warn".into(), format, stream: None, file: Some(file) }).unwrap();
    patchwright::logging::keep_secret("PASSPHRASE", "correct horse battery staple");
    let task = patchwright::logging::task_span("550e8400", 2);
    let _in_task = task.enter();
    let stage = patchwright::logging::stage_span("solve");
    let _in_stage = stage.enter();
    tracing::warn!(status = 502, url = "https://u:p@host/", "a \"quoted\"\nline with correct horse battery staple");
    tracing::info!("not at this level");
    drop(std::panic::catch_unwind(|| panic!("with ghp_abcdefghijklmnopqrstuvwxyz0123456789 in it")));
}

#[test]
fn every_line_names_task_attempt_and_stage_and_holds_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let lines_of = |format: &str| {
        let path = folder.path().join(format);
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "logging::child_that_logs"])
            .env("PATCHWRIGHT_TEST_LOG_CHILD", format)
            .env("PATCHWRIGHT_TEST_LOG_FILE", &path)
            .output()
            .unwrap();
        assert!(status.status.success(), "{status:?}");
        std::fs::read_to_string(path).unwrap()
    };
    let json = lines_of("json");
    let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{json}");
    for line in &lines {
        assert_eq!((&line["task"], &line["attempt"], &line["stage"]), (&"550e8400".into(), &2.into(), &"solve".into()));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    assert_eq!((&lines[0]["level"], &lines[0]["status"]), (&"WARN".into(), &502.into()));
    assert_eq!(lines[0]["message"], "a \"quoted\"\nline with ***");
    assert_eq!(lines[0]["url"], "https://***@host/");
    assert_eq!(lines[1]["message"], "panic: with ghp_*** in it");
    assert!(lines[1]["place"].as_str().unwrap().contains("logging.rs"), "{json}");
    let text = lines_of("text");
    assert_eq!(text.lines().count(), 2, "{text}");
    for line in text.lines() {
        for word in ["task=\"550e8400\"", "attempt=2", "stage=\"solve\""] {
            assert!(line.contains(word), "{line}");
        }
    }
    assert!(text.contains(r#"a "quoted"\nline with ***"#) && text.contains("status=502"), "{text}");
    assert!(!text.contains("battery") && !text.contains("u:p@") && !text.contains("ghp_abc"), "{text}");
}
