//! What makes a repository's tests able to run: whose word counts, how each file is read, and what a stranger's file
//! cannot do.

use std::collections::BTreeMap;
use std::process::Command;

use patchwright::pipeline::setup::recipe::{
    Operator, Origin, PROGRAM_IS_MISSING, Recipe, RecipeError, RepositoryCommands, find, with_paths,
};
use patchwright::pipeline::setup::repository;
use patchwright::pipeline::verify::Listing;
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

/// A repository, what the operator says, and what must come of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    files: BTreeMap<String, String>,
    setup: Option<Vec<String>>,
    operators_image: Option<String>,
    #[serde(default)]
    ignore: bool,
    /// `None`: there is no recipe.
    origin: Option<String>,
    /// The names of the steps, exactly.
    #[serde(default)]
    steps: Vec<String>,
    /// A part of each step's line.
    #[serde(default)]
    lines: Vec<String>,
    /// Of each step.
    #[serde(default)]
    directories: Vec<String>,
    /// Of the first step.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// Variables that the first step lacks.
    #[serde(default)]
    without: Vec<String>,
    image: Option<String>,
    /// Parts of notes; without any there must be no note.
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    /// Among the inputs.
    #[serde(default)]
    inputs: Vec<String>,
    /// A part of the error.
    error: Option<String>,
}

fn found(
    files: &BTreeMap<String, String>,
    operator: &Operator,
    trust: RepositoryCommands,
) -> Result<Option<Recipe>, RecipeError> {
    let paths: Vec<String> = files.keys().cloned().collect();
    find(&Listing { paths: &paths, read: &|path| files.get(path).cloned() }, operator, trust)
}

fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Operator => "operator",
        Origin::PatchwrightFile => "patchwright-file",
        Origin::CopilotSetupSteps => "copilot-setup-steps",
        Origin::Devcontainer => "devcontainer",
        Origin::Detected => "detected",
    }
}

fn complaints(case: &Case) -> Vec<String> {
    let operator = Operator { setup: case.setup.clone(), image: case.operators_image.clone() };
    let trust = if case.ignore { RepositoryCommands::Ignore } else { RepositoryCommands::Run };
    let recipe = match (found(&case.files, &operator, trust), &case.error) {
        (Ok(recipe), None) => recipe,
        (Err(error), Some(part)) if error.to_string().contains(part.as_str()) => return Vec::new(),
        (other, _) => return vec![format!("it comes to {other:?}")],
    };
    let (Some(recipe), Some(origin)) = (&recipe, &case.origin) else {
        let fits = recipe.is_none() && case.origin.is_none();
        return if fits { Vec::new() } else { vec![format!("it comes to {recipe:#?}")] };
    };
    let names: Vec<&str> = recipe.steps.iter().map(|step| step.name.as_str()).collect();
    let directories: Vec<&str> = recipe.steps.iter().map(|step| step.directory.as_str()).collect();
    let first = recipe.steps.first().map(|step| step.environment.clone()).unwrap_or_default();
    let lines_fit = case.lines.iter().zip(&recipe.steps).all(|(part, step)| step.line.contains(part.as_str()))
        && case.lines.len() <= recipe.steps.len();
    let noted = case.notes.iter().all(|part| recipe.notes.iter().any(|note| note.contains(part.as_str())));
    let fits = [
        ("origin", origin_name(recipe.origin) == origin),
        ("steps", names == case.steps),
        ("lines", lines_fit),
        ("directories", case.directories.is_empty() || directories == case.directories),
        ("environment", case.environment.iter().all(|(name, value)| first.get(name) == Some(value))),
        ("without", !case.without.iter().any(|name| first.contains_key(name))),
        ("image", recipe.image.as_ref().map(|image| image.name.as_str()) == case.image.as_deref()),
        ("notes", noted && case.notes.is_empty() == recipe.notes.is_empty()),
        ("paths", recipe.paths == case.paths),
        ("inputs", case.inputs.iter().all(|path| recipe.inputs.contains(path))),
        ("listed inputs", recipe.inputs.iter().all(|path| case.files.contains_key(path))),
        (
            "required",
            recipe.steps.iter().all(|step| step.required == (origin != "detected") || origin == "copilot-setup-steps"),
        ),
    ];
    let wrong: Vec<&str> = fits.into_iter().filter(|(_, fits)| !fits).map(|(what, _)| what).collect();
    if wrong.is_empty() {
        wrong.into_iter().map(str::to_owned).collect()
    } else {
        vec![format!("{wrong:?} of {recipe:#?}")]
    }
}

#[test]
fn every_repository_of_the_tables_gets_its_recipe() {
    let tables = [
        include_str!("cases/setup/given.toml"),
        include_str!("cases/setup/copilot.toml"),
        include_str!("cases/setup/devcontainer.toml"),
        include_str!("cases/setup/detect.toml"),
    ];
    let cases: Vec<Case> = tables.iter().flat_map(|table| toml::from_str::<Cases>(table).unwrap().case).collect();
    let wrong: Vec<String> = cases
        .iter()
        .flat_map(|case| complaints(case).into_iter().map(|wrong| format!("{}: {wrong}", case.name)))
        .collect();
    assert!(wrong.is_empty(), "{} of {} fail:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 60, "{} cases", cases.len());
}

#[derive(Deserialize)]
struct Wanted {
    case: Vec<WantedCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedCase {
    name: String,
    files: BTreeMap<String, String>,
    /// A part of the reason; `None`: nobody wants a repository.
    wanted: Option<String>,
}

fn wants(files: &BTreeMap<String, String>) -> Option<String> {
    let paths: Vec<String> = files.keys().cloned().collect();
    repository::wanted(&Listing { paths: &paths, read: &|path| files.get(path).cloned() })
}

#[test]
fn a_repository_is_shown_where_something_wants_one() {
    let cases: Wanted = toml::from_str(include_str!("cases/setup/repository.toml")).unwrap();
    let fits = |case: &&WantedCase| match (&wants(&case.files), &case.wanted) {
        (Some(reason), Some(part)) => reason.contains(part.as_str()),
        (reason, part) => reason.is_none() && part.is_none(),
    };
    let wrong: Vec<String> = cases
        .case
        .iter()
        .filter(|case| !fits(case))
        .map(|case| format!("{}: {:?}", case.name, wants(&case.files)))
        .collect();
    assert!(wrong.is_empty(), "{} of {} fail:\n{}", wrong.len(), cases.case.len(), wrong.join("\n"));
}

#[test]
fn the_search_for_who_wants_a_repository_is_bounded() {
    let many = (0..2000).map(|number| (format!("{number:04}.sh"), "true\n".to_owned()));
    let mut files: BTreeMap<String, String> = many.chain([("z.sh".to_owned(), "git log\n".to_owned())]).collect();
    assert_eq!(wants(&files), None);
    files.insert("0000.sh".into(), "git log\n".into());
    assert!(wants(&files).is_some());
    let large = (0..40).map(|number| (format!("{number:02}.sh"), "git ".repeat(60_000)));
    assert_eq!(wants(&large.chain([("z.sh".to_owned(), "git log\n".to_owned())]).collect()), None);
}

const COPILOT: &str = ".github/workflows/copilot-setup-steps.yml";
const DEVCONTAINER: &str = ".devcontainer/devcontainer.json";
const OWN: &str = ".patchwright.toml";

fn error_of(file: &str, text: impl Into<String>) -> String {
    let files = BTreeMap::from([(file.to_owned(), text.into())]);
    match found(&files, &Operator::default(), RepositoryCommands::Run) {
        Err(error) => error.to_string(),
        Ok(recipe) => panic!("{recipe:?}"),
    }
}

#[test]
fn what_is_too_large_too_deep_or_too_much_is_refused_with_the_files_name() {
    let job = |steps: &str| format!("jobs:\n  copilot-setup-steps:\n    steps:\n{steps}");
    let anchors: String = (1..30)
        .map(|number| format!("b{number}: &b{number} [{}]\n", vec![format!("*b{}", number - 1); 9].join(", ")))
        .collect();
    let bomb = format!("b0: &b0 [x, x]\n{anchors}");
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(20_000), close.repeat(20_000));
    for (file, text, part) in [
        (COPILOT, bomb, "limit exceeded"),
        (COPILOT, deep("[", "]"), ""),
        (COPILOT, deep("{a: ", "}"), ""),
        (COPILOT, "- ".repeat(60_000), ""),
        (COPILOT, "\u{feff}\u{0}".into(), ""),
        (COPILOT, job(&"      - run: make\n".repeat(51)), "51 steps"),
        (COPILOT, job(&"      - run: make\n".repeat(5_000)), "steps"),
        (COPILOT, job(&format!("      - run: {}\n", "x".repeat(17_000))), "longer than 16 KiB"),
        (COPILOT, job("      - run: \"a\\0b\"\n"), "zero byte"),
        (
            COPILOT,
            job(&format!(
                "      - run: make\n        env: {{{}}}\n",
                (0..80).map(|n| format!("A{n}: x, ")).collect::<String>()
            )),
            "variables",
        ),
        (COPILOT, "x".repeat(300_000), "larger than 256 KiB"),
        (DEVCONTAINER, deep("[", "]"), "nested"),
        (DEVCONTAINER, deep("{\"a\":", "}"), "nested"),
        (DEVCONTAINER, format!("{{\"postCreateCommand\": \"{}\"}}", "x".repeat(17_000)), "longer"),
        (DEVCONTAINER, "{\"postCreateCommand\": \"a\\u0000b\"}".into(), "zero byte"),
        (DEVCONTAINER, "{\"postCreateCommand\": 'a'}".into(), ""),
        (OWN, format!("a = {}", deep("[", "]")), "nested"),
        (OWN, format!("[setup]\nrun = [{}]", "\"x\",".repeat(51)), "51 steps"),
        (OWN, "[setup]\nrun = [\"a\\u0000b\"]".into(), "zero byte"),
        (OWN, "[setup]\nrun = [\"a\"]\nenvironment = { \"A\\nB\" = \"x\" }".into(), "variable"),
    ] {
        let error = error_of(file, text);
        assert!(error.contains(part) && error.contains("Mend it"), "{file}, {part}: {error}");
        assert!(error.len() < 700 && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_as_text_is_an_error_and_not_passed_over() {
    for file in [COPILOT, DEVCONTAINER, OWN] {
        let paths = [file.to_owned()];
        let listing = Listing { paths: &paths, read: &|_| None };
        let error = find(&listing, &Operator::default(), RepositoryCommands::Run).unwrap_err();
        assert!(error.to_string().contains("no text"), "{error}");
        let recipe = find(&listing, &Operator { setup: Some(vec![]), image: None }, RepositoryCommands::Run).unwrap();
        assert_eq!(recipe.unwrap().steps, [], "the operator's word is enough");
    }
}

fn shell(folder: &std::path::Path, line: &str, path: &str) -> std::process::Output {
    Command::new("/bin/sh")
        .args(["-c", line])
        .current_dir(folder)
        .env("PATH", path)
        .env("HOME", folder)
        .output()
        .unwrap()
}

/// The lines are for a real shell: what they quote, how they end, and how they say that a program is not there.
#[test]
fn lines_mean_in_a_real_shell_what_they_say() {
    let folder = std::env::temp_dir().join(format!("patchwright-recipe-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let system = "/usr/bin:/bin";
    let line_of = |file: &str, text: &str| {
        let files = BTreeMap::from([(file.to_owned(), text.to_owned())]);
        let recipe = found(&files, &Operator::default(), RepositoryCommands::Run).unwrap().unwrap();
        recipe.steps[0].line.clone()
    };
    let exec = line_of(DEVCONTAINER, r#"{"postCreateCommand": ["printf", "%s|", "a b", "$(echo c)", "it's", "*"]}"#);
    assert_eq!(shell(&folder, &exec, system).stdout, b"a b|$(echo c)|it's|*|");
    let job = |step: &str| format!("jobs:\n  copilot-setup-steps:\n    steps:\n      - run: |\n          {step}\n");
    let script = line_of(COPILOT, &job("echo \"it's $0\" | cat\n          false\n          echo not reached"));
    let ended = shell(&folder, &script, system);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stdout.starts_with(b"it's ") && !ended.stdout.ends_with(b"reached\n"), "{ended:?}");
    // Without bash too.
    let bare = folder.join("bin");
    std::fs::create_dir_all(&bare).unwrap();
    for program in ["sh", "cat"] {
        let _ = std::os::unix::fs::symlink(format!("/bin/{program}"), bare.join(program));
    }
    assert_eq!(shell(&folder, &script, bare.to_str().unwrap()).status.code(), Some(1));
    for (file, text) in [
        ("package.json", r#"{"dependencies": {"a": "1"}, "packageManager": "pnpm@9.0.0"}"#),
        ("Cargo.toml", "[dependencies]\na = \"1\""),
        ("requirements.txt", "a"),
        ("Gemfile", "gem 'a'"),
        ("Pipfile", ""),
        ("pom.xml", "<project/>"),
    ] {
        let ended = shell(&folder, &line_of(file, text), bare.to_str().unwrap());
        assert_eq!(ended.status.code(), Some(PROGRAM_IS_MISSING), "{file}: {ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("is not here"), "{file}: {ended:?}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn later_phases_find_what_was_installed() {
    let files = BTreeMap::from([("requirements.txt".to_owned(), "a".to_owned())]);
    let recipe = found(&files, &Operator::default(), RepositoryCommands::Run).unwrap().unwrap();
    let line = with_paths(&recipe, "/workspace", "python3 -m pytest");
    assert_eq!(line, "PATH=\"/workspace/.venv/bin:$PATH\"; export PATH\npython3 -m pytest");
    let recipe = Recipe { paths: vec!["$HOME/.local/bin".into()], ..recipe };
    assert!(with_paths(&recipe, "/workspace", "x").starts_with("PATH=\"$HOME/.local/bin:$PATH\""));
    assert_eq!(with_paths(&Recipe { paths: vec![], ..recipe }, "/workspace", "x"), "x");
}

#[test]
fn a_large_repository_is_not_read_whole() {
    let paths: Vec<String> =
        (0..100_000).map(|number| format!("src/test_{number}.py")).chain(["requirements.txt".into()]).collect();
    let reads = std::sync::Mutex::new(0);
    let read = |path: &str| {
        *reads.lock().unwrap() += 1;
        paths.iter().any(|known| known == path).then(|| "a".to_owned())
    };
    let found = find(&Listing { paths: &paths, read: &read }, &Operator::default(), RepositoryCommands::Run).unwrap();
    assert_eq!(found.unwrap().inputs.len(), 1);
    assert!(*reads.lock().unwrap() < 1_000, "{}", reads.lock().unwrap());
}

/// Texts as a stranger may write them: random, and made from pieces of what is understood.
fn foreign_text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "jobs:\n",
        "  copilot-setup-steps:\n",
        "    steps:\n",
        "      - run: make\n",
        "      - uses: a/b@v1\n",
        "        env: {A: \"${{ x }}\"}\n",
        "        if: false\n",
        "        working-directory: ../..\n",
        "&a ",
        "*a",
        "<<: *a\n",
        "{",
        "}",
        "[",
        "]",
        "\"postCreateCommand\": ",
        "\"image\": \"a\"",
        "\"x\"",
        ",",
        "// c\n",
        "/*",
        "*/",
        ":",
        "\n",
        "[setup]\n",
        "run = [\"a\"]\n",
        "[dependencies]\n",
        "gem 'a'\n",
        "require a v1\n",
        "\"workspaces\": [\"a\"]",
        "\u{0}",
        "\u{202e}",
        "\u{1b}[2J",
        "é",
        "\t",
        "'",
        "\\",
        "$(x)",
        "`x`",
        "-",
        "#",
        "|",
        ">",
        "%",
        "!",
        "? ",
    ]);
    prop_oneof![
        "\\PC{0,200}",
        prop::collection::vec(any::<char>(), 0..100).prop_map(|characters| characters.into_iter().collect()),
        prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat()),
    ]
}

fn foreign_path() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z./ é\n$-]{0,16}",
        prop::sample::select(vec![
            COPILOT,
            DEVCONTAINER,
            OWN,
            ".devcontainer.json",
            ".devcontainer/a\nb/devcontainer.json",
            "package.json",
            "web/package.json",
            "-x/package.json",
            "yarn.lock",
            "pnpm-lock.yaml",
            ".yarnrc.yml",
            "Cargo.toml",
            "Cargo.lock",
            "pyproject.toml",
            "uv.lock",
            "poetry.lock",
            "Pipfile",
            "requirements.txt",
            "setup.py",
            "go.mod",
            "pom.xml",
            "build.gradle",
            "Gemfile",
            "composer.json",
            "a.sln",
            "mix.exs",
            "Package.swift",
            "build.zig.zon",
            "pubspec.yaml",
            "requirements/$(touch x).txt",
            "conftest.py",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_may_stand_where_git_is_looked_for(text in "(git|GIT_EXECUTABLE|log|describe|-c|-C|ü|[ \"'`,;:(){}]|\\PC)*") {
        wants(&BTreeMap::from([("Makefile".to_owned(), text.clone()), ("pyproject.toml".to_owned(), text)]));
    }

    #[test]
    fn no_file_makes_it_panic_or_forget_its_limits(
        files in prop::collection::btree_map(foreign_path(), foreign_text(), 0..10),
        ignore in any::<bool>(),
        setup in prop::option::of(prop::collection::vec("\\PC{0,20}", 0..4)),
    ) {
        let trust = if ignore { RepositoryCommands::Ignore } else { RepositoryCommands::Run };
        let by_operator = setup.is_some();
        match found(&files, &Operator { setup, image: None }, trust) {
            Err(error) => prop_assert!(!error.to_string().contains('\n') && error.to_string().len() < 1_500),
            Ok(None) => {}
            Ok(Some(recipe)) => {
                prop_assert!(recipe.steps.len() <= 50 && recipe.notes.len() <= 41);
                prop_assert!(!by_operator || recipe.origin == Origin::Operator);
                prop_assert!(!ignore || matches!(recipe.origin, Origin::Operator | Origin::Detected));
                prop_assert!(recipe.inputs.iter().all(|path| files.contains_key(path)));
                for text in recipe.notes.iter().chain(recipe.steps.iter().map(|step| &step.name)) {
                    prop_assert!(!text.chars().any(|character| character.is_control() || character == '\u{202e}'), "{text:?}");
                }
                for step in &recipe.steps {
                    prop_assert!(!step.line.contains('\0') && step.line.len() <= 16 << 10);
                    prop_assert!(!step.directory.starts_with('/') && !step.directory.split('/').any(|part| part == ".."));
                    // Ours are fixed but for plain names: nothing of the repository's reaches the shell unquoted.
                    prop_assert!(recipe.origin != Origin::Detected || !step.line.contains("touch"));
                }
            }
        }
    }
}
