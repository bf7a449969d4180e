//! What the policy says of a change: paths, kinds, names and sizes by rows; tests that are gone, skipped or weakened by
//! cases as text, `cases/policy/suites.txt`.

mod measure;

use std::collections::BTreeMap;

use patchwright::policy::*;
use proptest::prelude::*;

fn entry(mode: u32, text: &str) -> Option<Entry> {
    Some(Entry { mode, bytes: text.as_bytes().to_vec() })
}

fn judged(rules: Rules, file: FileChange) -> Report {
    Policy::new(rules).unwrap().judge(&Change { files: vec![file], ..Change::default() })
}

fn seen(report: &Report) -> String {
    let name = |finding: &Finding| match finding.class {
        Class::Path(class) => format!("{class:?} {:?}", finding.level),
        class => format!("{class:?} {:?}", finding.level),
    };
    report.findings.iter().map(name).collect::<Vec<_>>().join(", ")
}

const PATHS: &[(&str, &str)] = &[
    ("src/main.rs", ""),
    ("README.md", ""),
    ("docs/github/workflows.md", ""),
    ("a/b/c.txt", ""),
    (".github/workflows/ci.yml", "Ci Block"),
    (".github/actions/x/action.yml", "Ci Block"),
    (".github/actions/.claude/action.yml", "Ci Block"),
    (".GitHub/Workflows/CI.yml", "Ci Block"),
    (".gitlab-ci.yml", "Ci Block"),
    ("sub/.gitlab-ci.yml", "Ci Block"),
    ("Jenkinsfile", "Ci Block"),
    ("ci/Jenkinsfile.deploy", "Ci Block"),
    (".circleci/config.yml", "Ci Block"),
    ("azure-pipelines.yml", "Ci Block"),
    ("azure-pipelines-release.yaml", "Ci Block"),
    (".buildkite/pipeline.yml", "Ci Block"),
    (".travis.yml", "Ci Block"),
    (".drone.yml", "Ci Block"),
    (".woodpecker/test.yaml", "Ci Block"),
    ("bitbucket-pipelines.yml", "Ci Block"),
    (".forgejo/workflows/a.yml", "Ci Block"),
    (".github\u{200d}/workflows/ci.yml", "Ci Block, StrangeName Block"),
    (".github./workflows/ci.yml", "Ci Block, StrangeName Block"),
    (".github /workflows/ci.yml", "Ci Block, StrangeName Block"),
    (".github\\workflows\\ci.yml", "Ci Block, StrangeName Block"),
    (".github::$INDEX_ALLOCATION/workflows/ci.yml", "Ci Block, StrangeName Block"),
    (".ｇｉｔｈｕｂ/workflows/ci.yml", "Ci Block"),
    ("./.github//workflows/ci.yml", "Ci Block, StrangeName Block"),
    (".github/CODEOWNERS", "Forge Review"),
    (".github/dependabot.yml", "Forge Review"),
    ("CODEOWNERS", "Forge Review"),
    ("AGENTS.md", "Agents Review"),
    ("deep/er/agents.MD", "Agents Review"),
    ("CLAUDE.md", "Agents Review"),
    (".cursorrules", "Agents Review"),
    (".cursor/rules/a.mdc", "Agents Review"),
    (".github/copilot-instructions.md", "Agents Review"),
    (".patchwright.toml", "Agents Review"),
    (".devcontainer/devcontainer.json", "Hooks Review"),
    (".husky/pre-commit", "Hooks Review"),
    (".pre-commit-config.yaml", "Hooks Review"),
    (".vscode/tasks.json", "Hooks Review"),
    (".envrc", "Hooks Review"),
    (".gitattributes", "Hooks Review"),
    ("a/.gitattributes", "Hooks Review"),
    (".gitmodules", "Submodules Block"),
    ("package-lock.json", "Locks Review"),
    ("web/pnpm-lock.yaml", "Locks Review"),
    ("Cargo.lock", "Locks Review"),
    ("go.sum", "Locks Review"),
    ("package.json", "Manifests Review"),
    ("Cargo.toml", "Manifests Review"),
    ("crates/a/Cargo.toml", "Manifests Review"),
    ("requirements-dev.txt", "Manifests Review"),
    ("App.csproj", "Manifests Review"),
    ("Makefile", "Build Review"),
    ("setup.py", "Build Review"),
    ("build.rs", "Build Review"),
    ("Dockerfile.dev", "Build Review"),
    ("gradle/wrapper/gradle-wrapper.jar", "Build Review"),
    ("conftest.py", "Tests Note"),
    ("tests/test_a.py", "Tests Note"),
    ("src/a.test.ts", "Tests Note"),
    ("a_test.go", "Tests Note"),
    ("src/test/java/ATest.java", "Tests Note"),
    ("spec/a_spec.rb", "Tests Note"),
    ("tests/it.rs", "Tests Note"),
    (".git/config", "Forbidden Block"),
    ("a/.GIT/hooks/x", "Forbidden Block"),
    ("GIT~1/config", "Forbidden Block"),
    (".g\u{200c}it/config", "StrangeName Block, Forbidden Block"),
    ("../out", "StrangeName Block, Forbidden Block"),
    ("a\nb", "StrangeName Block"),
    ("a\u{202e}txt.exe", "StrangeName Block"),
    ("--upload-pack=x", "StrangeName Review"),
    ("caf\u{e9}.md", ""),
    ("日本語.md", ""),
];

#[test]
fn paths_are_classed_in_every_spelling() {
    assert!(PATHS.len() >= 70);
    let mut wrong = Vec::new();
    for (path, expected) in PATHS {
        let file =
            FileChange { path: path.as_bytes().into(), renamed_from: None, old: None, new: entry(0o100644, "x\n") };
        let found = seen(&judged(Rules::default(), file));
        if found != *expected {
            wrong.push(format!("{path:?}: expected `{expected}`, found `{found}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn kinds_of_entries() {
    // path, old mode and text, new mode and text, expected
    type Case = (&'static str, (u32, &'static str), (u32, &'static str), &'static str);
    const KINDS: &[Case] = &[
        ("a", (0, ""), (0o100755, "#!/bin/sh\n"), "Executable Block"),
        ("a", (0o100644, "x"), (0o100755, "x"), "Executable Block"),
        ("a", (0o100755, "x"), (0o100755, "y"), ""),
        ("a", (0o100755, "x"), (0o100644, "x"), ""),
        ("a", (0, ""), (0o120000, "b"), "Symlink Block"),
        ("a", (0o100644, "x"), (0o120000, "b"), "Symlink Block"),
        ("a", (0o120000, "b"), (0o120000, "c"), "Symlink Block"),
        ("a", (0o120000, "b"), (0, ""), ""),
        ("a", (0, ""), (0o120000, "/etc/passwd"), "Symlink Block"),
        ("a", (0, ""), (0o160000, ""), "Submodule Block"),
        ("a", (0o160000, "1"), (0o160000, "2"), "Submodule Block"),
        ("a", (0o160000, "1"), (0, ""), "Submodule Block"),
        ("a", (0, ""), (0o040000, ""), "Forbidden Block"),
    ];
    for (path, old, new, expected) in KINDS {
        let side = |(mode, text): &(u32, &str)| if *mode == 0 { None } else { entry(*mode, text) };
        let file = FileChange { path: path.as_bytes().into(), renamed_from: None, old: side(old), new: side(new) };
        assert_eq!(seen(&judged(Rules::default(), file)), *expected, "{path} {old:?} {new:?}");
    }
    let links = [
        ("a", "b", "Note"),
        ("d/a", "../b", "Note"),
        ("a", "../b", "Review"),
        ("d/a", "../../b", "Review"),
        ("a", "/etc/x", "Review"),
        ("a", ".git/config", "Review"),
        ("d/a", "x/../../../y", "Review"),
        ("a", "C:\\x", "Review"),
    ];
    for (path, target, level) in links {
        let rules = Rules { symlinks: Action::Allow, ..Rules::default() };
        let file = FileChange { path: path.into(), renamed_from: None, old: None, new: entry(0o120000, target) };
        assert_eq!(seen(&judged(rules, file)), format!("Symlink {level}"), "{path} {target}");
    }
}

#[test]
fn overrides_come_first_and_loosen_only_what_is_written() {
    let rules = |text: &str| toml::from_str::<Rules>(text).unwrap();
    let loosened = "overrides = [{ glob = '.github/workflows/docs.yml', action = 'allow' }, { glob = '**', action = 'review' }]\nci = 'block'";
    for (path, expected) in [
        (".github/workflows/docs.yml", "Ci Note"),
        (".github/Workflows/docs.yml", "Ci Review"),
        ("src/a.rs", "Other Review"),
    ] {
        let file = FileChange { path: path.into(), renamed_from: None, old: None, new: entry(0o100644, "x\n") };
        assert_eq!(seen(&judged(rules(loosened), file)), expected, "{path}");
    }
    let tightened = "overrides = [{ glob = 'Secret/**', action = 'block' }]";
    for path in ["Secret/a", "secret/A", "SECRET/b/c"] {
        let file = FileChange { path: path.into(), renamed_from: None, old: None, new: entry(0o100644, "x\n") };
        assert_eq!(seen(&judged(rules(tightened), file)), "Other Block", "{path}");
    }
    assert!(toml::from_str::<Rules>("tyop = 1").is_err());
    assert!(toml::from_str::<Rules>("[limits]\nfoo = 1").is_err());
    assert!(Policy::new(rules("overrides = [{ glob = 'a[', action = 'block' }]")).is_err());
}

#[test]
fn both_ends_of_a_rename_are_protected() {
    let file = FileChange {
        path: "x.yml".into(),
        renamed_from: Some(".github/workflows/x.yml".into()),
        old: entry(0o100644, "x\n"),
        new: entry(0o100644, "x\n"),
    };
    assert_eq!(seen(&judged(Rules::default(), file)), "Ci Block");
}

#[test]
fn limits_and_bounds_hold() {
    let limits = Limits { files: 1, lines: 2, binary_bytes: 3, exceeded: Action::Review };
    let policy = Policy::new(Rules { limits, ..Rules::default() }).unwrap();
    let file = |path: &str, text: &str| FileChange {
        path: path.into(),
        renamed_from: None,
        old: None,
        new: entry(0o100644, text),
    };
    let report =
        policy.judge(&Change { files: vec![file("a", "1\n2\n3\n"), file("b", "\0\0\0\0")], ..Change::default() });
    assert_eq!(seen(&report), "Size Review, Size Review, Size Review");
    assert_eq!((report.totals.files, report.totals.added_lines, report.totals.binary_bytes), (2, 3, 4));
    let files = (0..5000).map(|at| file(&format!("d{at}/AGENTS.md"), "x")).collect();
    let report = policy.judge(&Change { files, ..Change::default() });
    assert_eq!((report.findings.len(), report.omitted), (MOST_FINDINGS, 4802));
    assert_eq!(report.sections(20)[0].rows.len(), 20);
    assert!(report.summary().contains("4802 left out"));
    let hidden = policy.judge(&Change {
        unread: vec!["large.bin".into()],
        files: vec![file("a.rs", "let a = 1; // \u{202e}x\n")],
        ..Change::default()
    });
    assert_eq!(seen(&hidden), "Forbidden Block, HiddenCharacters Review");
}

#[test]
fn what_covers_what_setup_and_tests_have_made_is_as_grave_as_the_operator_says() {
    let new = entry(0o100644, "exit 0\n");
    let file = FileChange { path: "dep/check.sh".into(), renamed_from: None, old: None, new };
    let change = Change { files: vec![file], covering: vec!["dep/check.sh".into()], ..Change::default() };
    let with = |covering: Action| seen(&Policy::new(Rules { covering, ..Rules::default() }).unwrap().judge(&change));
    assert_eq!(with(Action::Block), "Covering Block");
    assert_eq!(with(Action::Allow), "Covering Note");
    assert_eq!(seen(&Policy::new(Rules::default()).unwrap().judge(&change)), "Covering Review");
}

/// `=== words | expected`, where expected are classes; then `--- old path` or `--- new path` and contents; a path may be
/// `from -> to`.
#[test]
fn suites() {
    let text = include_str!("cases/policy/suites.txt");
    let (mut count, mut wrong) = (0, Vec::new());
    for case in text.split("\n=== ").skip(1) {
        count += 1;
        let (head, rest) = case.split_once('\n').unwrap();
        let (words, expected) = head.split_once('|').unwrap();
        let mut files: BTreeMap<String, FileChange> = BTreeMap::new();
        for part in format!("\n{rest}").split("\n--- ").skip(1) {
            let (head, body) = part.split_once('\n').unwrap_or((part, ""));
            let (side, path) = head.split_once(' ').unwrap();
            let (from, to) = path.split_once(" -> ").map_or((None, path), |(from, to)| (Some(from), to));
            let file = files.entry(to.into()).or_insert(FileChange {
                path: to.into(),
                renamed_from: from.map(Into::into),
                old: None,
                new: None,
            });
            let body = body.replace("\\t", "\t");
            let entry = Some(Entry { mode: 0o100644, bytes: format!("{}\n", body.trim_end()).into_bytes() });
            if side == "old" { file.old = entry } else { file.new = entry }
        }
        let report = Policy::new(Rules::default())
            .unwrap()
            .judge(&Change { files: files.into_values().collect(), ..Change::default() });
        let found: Vec<&Finding> =
            report.findings.iter().filter(|finding| !matches!(finding.class, Class::Path(_))).collect();
        let names: Vec<String> = found.iter().map(|finding| format!("{:?}", finding.class)).collect();
        if names.join(" ") != expected.trim() {
            wrong.push(format!("{words}: expected `{}`, found {found:#?}", expected.trim()));
        }
    }
    assert!(count >= 60, "{count}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

proptest! {
    #[test]
    fn no_source_makes_it_panic(path in "(test_a\\.py|a\\.test\\.ts|a\\.rs|a_test\\.go|ATest\\.java|a_spec\\.rb|ATest\\.php|a\\.cc|a\\.bats|package\\.json|pytest\\.ini)", old in source(), new in source()) {
        let entry = |text: String| Some(Entry { mode: 0o100644, bytes: text.into_bytes() });
        let file = FileChange { path: path.into_bytes(), renamed_from: None, old: entry(old), new: entry(new) };
        let policy = Policy::new(Rules::default()).unwrap();
        let report = policy.judge(&Change { files: vec![file.clone()], ..Change::default() });
        prop_assert_eq!(report, policy.judge(&Change { files: vec![file], ..Change::default() }));
    }

    #[test]
    fn no_bytes_make_it_panic(path in proptest::collection::vec(any::<u8>(), 0..40), old in proptest::collection::vec(any::<u8>(), 0..300), mode in any::<u32>()) {
        let file = FileChange { path, renamed_from: None, old: Some(Entry { mode: 0o100644, bytes: old.clone() }), new: Some(Entry { mode, bytes: old }) };
        Policy::new(Rules::default()).unwrap().judge(&Change { files: vec![file], ..Change::default() });
    }
}

fn source() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("def test_a():\n    assert f() == 1\n".to_owned()),
        Just("it('a', () => {".to_owned()),
        Just("#[test]\nfn a() {\n".to_owned()),
        Just("\"".to_owned()),
        Just("'''".to_owned()),
        Just("/*".to_owned()),
        Just("*/".to_owned()),
        Just("`".to_owned()),
        Just("})\n".to_owned()),
        Just("@Test void a() {".to_owned()),
        Just("\\".to_owned()),
        Just("expect(é).toBe(é)".to_owned()),
        Just("\n".to_owned()),
        "\\PC{0,12}",
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

#[test]
fn hostile_sources_come_to_an_end() {
    let pieces = [
        ("test_a.py", "def test_a():\n    assert f()\n"),
        ("a.test.ts", "it('a', () => {\n"),
        ("a.test.ts", "it('a', "),
        ("a.rs", "#[test]\nfn a() {\n"),
        ("a.cc", "/*"),
        ("a.rs", "r#\""),
        ("Makefile", "\t-pytest || true\n"),
        ("a_test.go", "(((("),
        ("a_spec.rb", "it 'a' do\n"),
    ];
    let policy = Policy::new(Rules::default()).unwrap();
    for (path, piece) in pieces {
        let text = piece.repeat(100_000 / piece.len());
        let entry = |text: String| Some(Entry { mode: 0o100644, bytes: text.into_bytes() });
        for (old, new) in [
            (entry(text.clone()), entry(format!("{text}\n"))),
            (None, entry(text.clone())),
            (entry(text.clone()), None),
        ] {
            policy.judge(&Change {
                files: vec![FileChange { path: path.into(), renamed_from: None, old, new }],
                ..Change::default()
            });
        }
    }
}
