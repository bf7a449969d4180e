//! The rules of the design as tests: layout, direction of imports, where the world is touched, sizes, closed matches.
//!
//! Each rule is a function from a path below `src/` and its text to complaints, and is itself tested on a bad snippet.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Production lines of a file: neither blank nor comment alone.
const MOST_LINES_OF_A_FILE: usize = 500;
/// Lines of a function, from `fn` to its closing brace.
const MOST_LINES_OF_A_FUNCTION: usize = 80;

/// Each module at the top and what it may import from the crate, besides itself.
const IMPORTS: [(&str, &[&str]); 26] = [
    (
        "main",
        &[
            "config",
            "operator",
            "eval",
            "replay",
            "health",
            "logging",
            "progress",
            "service",
            "pipeline",
            "agent",
            "forge",
            "model",
            "sandbox",
            "workspace",
            "store",
            "event",
            "outcome",
            "task",
        ],
    ),
    ("lib", &[]),
    ("progress", &["logging", "event", "outcome"]),
    ("operator", &["store", "outcome", "task"]),
    (
        "eval",
        &[
            "config",
            "logging",
            "progress",
            "service",
            "pipeline",
            "agent",
            "model",
            "sandbox",
            "workspace",
            "event",
            "outcome",
            "task",
        ],
    ),
    (
        "replay",
        &[
            "config",
            "logging",
            "progress",
            "service",
            "pipeline",
            "agent",
            "model",
            "sandbox",
            "workspace",
            "event",
            "outcome",
            "task",
        ],
    ),
    ("health", &[]),
    ("logging", &["secrets"]),
    (
        "config",
        &[
            "logging",
            "pipeline",
            "forge",
            "model",
            "sandbox",
            "workspace",
            "store",
            "policy",
            "secrets",
            "outcome",
            "task",
        ],
    ),
    (
        "service",
        &[
            "config",
            "logging",
            "pipeline",
            "agent",
            "forge",
            "model",
            "sandbox",
            "workspace",
            "store",
            "event",
            "outcome",
            "task",
        ],
    ),
    (
        "pipeline",
        &[
            "logging",
            "agent",
            "forge",
            "model",
            "sandbox",
            "workspace",
            "store",
            "policy",
            "secrets",
            "event",
            "outcome",
            "task",
        ],
    ),
    ("agent", &["pattern", "model", "sandbox", "workspace", "event", "outcome", "task"]),
    ("forge", &["tls", "logging", "policy", "event", "outcome", "task"]),
    ("model", &["tls", "event", "outcome", "task"]),
    ("sandbox", &["folders", "event", "outcome", "task"]),
    ("workspace", &["folders", "event", "outcome", "task"]),
    ("store", &["event", "outcome", "task"]),
    ("event", &["outcome", "task"]),
    ("outcome", &["policy", "task"]),
    ("policy", &["pattern"]),
    ("secrets", &[]),
    ("task", &[]),
    ("folders", &[]),
    ("pattern", &[]),
    ("tls", &[]),
    // Asked by whatever defends.
    ("weak", &[]),
];

/// Crates and the modules that may use them.
const CRATES: [(&str, &[&str]); 7] = [
    ("octocrab", &["forge"]),
    ("async_openai", &["model"]),
    ("reqwest", &["model", "forge"]),
    ("git2", &["workspace"]),
    ("bollard", &["sandbox"]),
    ("hakoniwa", &["sandbox"]),
    ("sqlx", &["store"]),
];

/// Modules in which traits are declared: the seams to what is remote, slow or random.
const SEAMS_WITH_TRAITS: [&str; 2] = ["model.rs", "sandbox.rs"];

type Rule = fn(&Source) -> Vec<String>;

const RULES: [Rule; 11] = [
    stands_in_the_layout,
    imports_go_one_way,
    crates_stay_where_they_belong,
    git_is_run_by_the_workspace_only,
    the_environment_is_read_by_the_configuration_only,
    files_are_short,
    functions_are_short,
    closed_enums_are_matched_without_a_wildcard,
    traits_stand_at_seams_only,
    nothing_is_left_to_do,
    lines_end_in_no_white_space,
];

#[test]
fn the_sources_follow_every_rule() {
    let sources = read_sources(&root().join("src"));
    assert!(sources.len() > 10, "only {} sources were found", sources.len());
    let complaints: Vec<String> =
        RULES.iter().flat_map(|rule| sources.iter().flat_map(rule)).chain(enum_names_are_known(&sources)).collect();
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn tests_and_manifests_hold_no_stray_white_space_and_nothing_left_to_do() {
    let mut complaints = Vec::new();
    for path in files_below(&root()) {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        let is_ours = name.ends_with(".rs") || name.ends_with("Cargo.toml") || name.starts_with("prompts/");
        if is_ours && !name.starts_with("src/") {
            let source = Source::new(&name, &std::fs::read_to_string(&path).unwrap());
            // Snapshots in the agent's tests hold what tools print, and that may end in spaces.
            if !name.starts_with("tests/it/agent/") {
                complaints.extend(lines_end_in_no_white_space(&source));
            }
            if !name.ends_with("tidy.rs") {
                complaints.extend(nothing_is_left_to_do(&source));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_rule_can_fail() {
    let long_file = "let a = 1;\n".repeat(MOST_LINES_OF_A_FILE + 1);
    let long_function = format!("fn long() {{\n{}}}\n", "    a();\n".repeat(MOST_LINES_OF_A_FUNCTION));
    let bad: [(Rule, &str, &str); 29] = [
        (stands_in_the_layout, "util.rs", ""),
        (stands_in_the_layout, "helpers/a.rs", ""),
        (stands_in_the_layout, "forge/mod.rs", ""),
        (imports_go_one_way, "forge/render.rs", "use crate::model::Model;"),
        (imports_go_one_way, "forge.rs", "use crate::{task::Task, agent::Agent};"),
        (imports_go_one_way, "sandbox/container.rs", "fn a() { crate::workspace::open(); }"),
        (imports_go_one_way, "sandbox/container.rs", "use super::super::forge::render;"),
        (imports_go_one_way, "agent.rs", "use crate::{\n    model::{self, Reply},\n    config,\n};"),
        (imports_go_one_way, "outcome.rs", "use crate::event::Event;"),
        (imports_go_one_way, "task.rs", "use super::outcome::Verdict;"),
        (imports_go_one_way, "pipeline/publish.rs", "use crate::service;"),
        (crates_stay_where_they_belong, "pipeline.rs", "use octocrab::Octocrab;"),
        (crates_stay_where_they_belong, "agent.rs", "fn a() -> reqwest::Client { todo() }"),
        (crates_stay_where_they_belong, "forge.rs", "git2::Repository::open(path)"),
        (crates_stay_where_they_belong, "main.rs", "use bollard as docker;"),
        (git_is_run_by_the_workspace_only, "pipeline.rs", "Command::new(\"git\")"),
        (git_is_run_by_the_workspace_only, "forge.rs", "which::which(r#\"git\"#)"),
        (the_environment_is_read_by_the_configuration_only, "forge.rs", "std::env::var(\"GITHUB_TOKEN\")"),
        (the_environment_is_read_by_the_configuration_only, "main.rs", "use std::env;\nenv::var_os(name)"),
        (the_environment_is_read_by_the_configuration_only, "model.rs", "use std::env::{self, vars};"),
        (files_are_short, "agent.rs", &long_file),
        (functions_are_short, "agent.rs", &long_function),
        (
            closed_enums_are_matched_without_a_wildcard,
            "pipeline.rs",
            "enum Ways { A, B }\nmatch way {\n Ways::A => 1,\n _ => 2,\n}",
        ),
        (
            closed_enums_are_matched_without_a_wildcard,
            "agent.rs",
            "match f(|a| { a }) { Verdict::Broken { .. } => { x }\n _ => 2 }",
        ),
        (traits_stand_at_seams_only, "forge.rs", "pub trait Forge { fn a(); }"),
        (nothing_is_left_to_do, "agent.rs", "fn a() { todo!() }"),
        (nothing_is_left_to_do, "agent.rs", "// FIXME: later"),
        (nothing_is_left_to_do, "agent.rs", "#[cfg(test)]\nmod tests {}"),
        (lines_end_in_no_white_space, "agent.rs", "let a = 1; \n"),
    ];
    for (rule, path, text) in bad {
        assert!(!rule(&Source::new(path, text)).is_empty(), "no complaint about {path}:\n{text}");
    }
    let tried: BTreeSet<usize> = bad.iter().map(|(rule, ..)| *rule as usize).collect();
    assert!(RULES.iter().all(|rule| tried.contains(&(*rule as usize))), "a rule is not tried");
}

#[test]
fn no_rule_complains_of_what_is_allowed() {
    let function = format!("fn fits() {{\n{}}}\n", "    a();\n".repeat(MOST_LINES_OF_A_FUNCTION - 2));
    let good: [(&str, &str); 15] = [
        ("forge/render.rs", "use crate::outcome::Verdict;\nuse super::retry;\nuse crate::forge::auth;"),
        ("forge/render/harmless.rs", "use super::super::auth;\n// use crate::model::Model;\nlet a = \"crate::model\";"),
        ("forge.rs", "use octocrab::Octocrab;\n/* Command::new(\"git\") /* nested */ env::var */"),
        ("workspace/git.rs", "Command::new(\"git\"); git2::Repository::open(path);"),
        (
            "agent.rs",
            "let a = \"octocrab::x\"; let b = '\"'; let c: &'static str = r##\"env::var(\"#)\"##; let d = \".git\";",
        ),
        ("config.rs", "std::env::var(\"HOME\")"),
        ("main.rs", "std::env::args(); std::env::current_exe()"),
        ("agent.rs", &function),
        ("agent.rs", "fn short();\nfn also_short(f: impl Fn(usize) -> [u8; 3]) {}\n"),
        ("pipeline.rs", "match way { Verdict::Broken => 1, Verdict::Verified => match text { \"a\" => 1, _ => 2 } }"),
        ("pipeline.rs", "match text { \"Verdict::Broken\" => f(Verdict::Broken), _ => 2 }"),
        ("model.rs", "pub trait Model { fn a(); }"),
        ("pipeline.rs", "match way { _ if blank => 1, Verdict::Broken => 2 }"),
        ("workspace.rs", "// patchwright-XXXX is a folder"),
        ("agent.rs", "let holds = text.contains(\"#[cfg(test)]\");"),
    ];
    for (path, text) in good {
        let source = Source::new(path, text);
        let complaints: Vec<String> = RULES.iter().flat_map(|rule| rule(&source)).collect();
        assert!(complaints.is_empty(), "{path}:\n{text}\n{complaints:?}");
    }
}

/// One file, and its code with comments and the contents of literals blanked out, line for line.
struct Source {
    path: String,
    text: String,
    code: String,
    /// Text literals with the line they begin on.
    literals: Vec<(usize, String)>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let (code, literals) = blank_out(text);
        Self { path: path.into(), text: text.into(), code, literals }
    }

    /// The module at the top that the file belongs to: `forge` for `forge.rs` and `forge/render.rs`.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    fn complaint(&self, line: usize, words: impl std::fmt::Display) -> String {
        format!("src/{}:{line}: {words}", self.path)
    }
}

fn stands_in_the_layout(source: &Source) -> Vec<String> {
    let known = IMPORTS.iter().any(|(module, _)| *module == source.module());
    let by_folder = source.path.ends_with("/mod.rs") || source.path == "mod.rs";
    let complaint = if !known {
        "this module is not in the design's layout"
    } else if by_folder {
        "a module's file stands beside its folder, not as `mod.rs` in it"
    } else {
        return Vec::new();
    };
    vec![source.complaint(1, complaint)]
}

fn imports_go_one_way(source: &Source) -> Vec<String> {
    let own = source.module();
    let allowed = IMPORTS.iter().find(|(module, _)| *module == own).map_or(&[][..], |(_, allowed)| allowed);
    imported_modules(source)
        .into_iter()
        .filter(|(_, module)| module != own && module != "weak" && !allowed.contains(&module.as_str()))
        .filter(|(_, module)| IMPORTS.iter().any(|(known, _)| known == module))
        .map(|(line, module)| source.complaint(line, format!("`{own}` may not import `{module}`")))
        .collect()
}

/// The modules at the top that paths in the code lead to, through `crate`, or `super` up to the root.
fn imported_modules(source: &Source) -> Vec<(usize, String)> {
    let depth = match source.path.as_str() {
        "lib.rs" | "main.rs" => 0,
        path => path.split('/').count(),
    };
    let tokens = tokens(&source.code);
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let follows_path = index > 0 && tokens[index - 1].text == "::";
        let mut at = index;
        if token.text == "super" && !follows_path {
            let mut levels = 0;
            while tokens.get(at).is_some_and(|token| token.text == "super") {
                levels += 1;
                at += 2;
            }
            if levels != depth {
                continue;
            }
            at -= 2;
        } else if !matches!(token.text, "crate" | "patchwright") || follows_path {
            continue;
        }
        if tokens.get(at + 1).is_some_and(|token| token.text == "::") {
            found.extend(first_names(&tokens[at + 2..]));
        }
    }
    found
}

/// The first name of a path, or of each path in a group.
fn first_names(tokens: &[Token<'_>]) -> Vec<(usize, String)> {
    let Some(first) = tokens.first() else { return Vec::new() };
    if first.text != "{" {
        return vec![(first.line, first.text.to_owned())];
    }
    let mut depth = 0;
    let mut names = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            name if depth == 1 && index > 0 && matches!(tokens[index - 1].text, "{" | ",") => {
                names.push((token.line, name.to_owned()));
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn crates_stay_where_they_belong(source: &Source) -> Vec<String> {
    let tokens = tokens(&source.code);
    let is_path = |index: usize| {
        let after = tokens.get(index + 1).map(|token| token.text);
        let before = index.checked_sub(1).map(|before| tokens[before].text);
        before != Some("::") && before != Some(".") && (after == Some("::") || before == Some("use"))
    };
    tokens
        .iter()
        .enumerate()
        .filter(|(index, _)| is_path(*index))
        .filter_map(|(_, token)| Some((token, CRATES.iter().find(|(name, _)| *name == token.text)?)))
        .filter(|(_, (_, owners))| !owners.contains(&source.module()))
        .map(|(token, (name, owners))| {
            source.complaint(token.line, format!("`{name}` belongs to `{}`", owners.join(", ")))
        })
        .collect()
}

fn git_is_run_by_the_workspace_only(source: &Source) -> Vec<String> {
    // It looks for the word in a repository's files.
    if source.module() == "workspace" || source.path == "pipeline/setup/repository.rs" {
        return Vec::new();
    }
    let literals = source.literals.iter().filter(|(_, text)| text == "git");
    literals.map(|(line, _)| source.complaint(*line, "git is run by `workspace` only")).collect()
}

fn the_environment_is_read_by_the_configuration_only(source: &Source) -> Vec<String> {
    if source.path == "config.rs" || source.path.starts_with("config/") {
        return Vec::new();
    }
    let tokens = tokens(&source.code);
    let readers = ["var", "vars", "var_os", "vars_os"];
    let mut complaints = Vec::new();
    for window in tokens.windows(3).filter(|window| window[0].text == "env" && window[1].text == "::") {
        let grouped = window[2].text == "{"
            && source.code.lines().nth(window[2].line - 1).is_some_and(|line| {
                line.split(|character: char| !(character.is_alphanumeric() || character == '_'))
                    .any(|name| readers.contains(&name))
            });
        if readers.contains(&window[2].text) || grouped {
            complaints.push(source.complaint(window[0].line, "the environment is read in `config.rs` only"));
        }
    }
    complaints
}

fn files_are_short(source: &Source) -> Vec<String> {
    let lines = source.code.lines().filter(|line| !line.trim().is_empty()).count();
    let complaint = || source.complaint(1, format!("{lines} production lines; at most {MOST_LINES_OF_A_FILE}"));
    (lines > MOST_LINES_OF_A_FILE).then(complaint).into_iter().collect()
}

fn functions_are_short(source: &Source) -> Vec<String> {
    let tokens = tokens(&source.code);
    let mut complaints = Vec::new();
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "fn") {
        let Some(name) = tokens
            .get(index + 1)
            .filter(|name| name.text.starts_with(|first: char| first.is_alphabetic() || first == '_'))
        else {
            continue;
        };
        let Some(last) = end_of_body(&tokens[index..]) else { continue };
        let lines = last - token.line + 1;
        if lines > MOST_LINES_OF_A_FUNCTION {
            let words = format!("`{}` has {lines} lines; at most {MOST_LINES_OF_A_FUNCTION}", name.text);
            complaints.push(source.complaint(token.line, words));
        }
    }
    complaints
}

/// The line of the brace that closes a function's body; `None` if it has none.
fn end_of_body(tokens: &[Token<'_>]) -> Option<usize> {
    let mut nesting = 0;
    let mut braces = 0;
    for token in tokens {
        match token.text {
            "(" | "[" => nesting += 1,
            ")" | "]" => nesting -= 1,
            ";" if nesting == 0 && braces == 0 => return None,
            "{" => braces += 1,
            "}" => {
                braces -= 1;
                if braces == 0 {
                    return Some(token.line);
                }
            }
            _ => {}
        }
    }
    None
}

/// Our closed enums, in whose matches a new variant must not go unnoticed. Errors are not among them; nor is an arm with a
/// guard a wildcard, since the compiler still wants every variant.
const CLOSED_ENUMS: [&str; 25] = [
    "Stage",
    "TestEnding",
    "Verdict",
    "Budget",
    "StopReason",
    "Habit",
    "Protocol",
    "ProtocolChoice",
    "Advice",
    "Rung",
    "ChangeKind",
    "Conclusion",
    "Event",
    "Message",
    "Ending",
    "Choice",
    "EngineFiles",
    "Backend",
    "Home",
    "Network",
    "Level",
    "Defence",
    "Rejection",
    "Marker",
    "Kind",
];

/// The enums of the pure modules and the seams are in the list above.
fn enum_names_are_known(sources: &[Source]) -> Vec<String> {
    let is_listed = |source: &&Source| {
        matches!(source.path.as_str(), "outcome.rs" | "event.rs" | "task.rs" | "sandbox.rs" | "model.rs")
    };
    let mut complaints = Vec::new();
    for source in sources.iter().filter(is_listed) {
        for (line, name) in declared(&source.code, "enum") {
            if !name.ends_with("Error") && !CLOSED_ENUMS.contains(&name.as_str()) {
                complaints.push(source.complaint(line, format!("`{name}` is missing in the list of closed enums")));
            }
        }
    }
    complaints
}

/// What `keyword` declares in the code: lines and names.
fn declared(code: &str, keyword: &str) -> Vec<(usize, String)> {
    let tokens = tokens(code);
    let pairs = tokens.windows(2).filter(|pair| pair[0].text == keyword);
    pairs.map(|pair| (pair[1].line, pair[1].text.to_owned())).collect()
}

fn closed_enums_are_matched_without_a_wildcard(source: &Source) -> Vec<String> {
    let own: Vec<String> = declared(&source.code, "enum").into_iter().map(|(_, name)| name).collect();
    let is_closed = |name: &str| CLOSED_ENUMS.contains(&name) || own.iter().any(|own| own == name);
    let tokens = tokens(&source.code);
    let mut complaints = Vec::new();
    for index in (0..tokens.len()).filter(|index| tokens[*index].text == "match") {
        let patterns = patterns_of_match(&tokens[index..]);
        let names_one =
            |pattern: &&[Token<'_>]| pattern.windows(2).any(|pair| is_closed(pair[0].text) && pair[1].text == "::");
        let wildcard = patterns.iter().find(|pattern| pattern.len() == 1 && pattern[0].text == "_");
        if let Some(wildcard) = wildcard.filter(|_| patterns.iter().any(|pattern| names_one(&pattern.as_slice()))) {
            complaints.push(source.complaint(wildcard[0].line, "a closed enum is matched with `_`"));
        }
    }
    complaints
}

/// The patterns of the `match` that the tokens begin with, each up to its `=>`.
fn patterns_of_match<'a>(tokens: &[Token<'a>]) -> Vec<Vec<Token<'a>>> {
    let mut nesting = 0;
    let Some(open) = tokens.iter().position(|token| {
        nesting += match token.text {
            "(" | "[" => 1,
            ")" | "]" => -1,
            _ => 0,
        };
        token.text == "{" && nesting == 0
    }) else {
        return Vec::new();
    };
    let mut patterns = Vec::new();
    let mut pattern = Vec::new();
    let mut in_pattern = true;
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if in_pattern && depth == 1 && token.text == "=>" {
            patterns.push(std::mem::take(&mut pattern));
            in_pattern = false;
        } else if in_pattern && index > open {
            pattern.push(*token);
        } else if depth == 1 && index > open {
            let next = tokens.get(index + 1).map(|next| next.text);
            in_pattern = token.text == "," || (token.text == "}" && next != Some(",") && next != Some("."));
        }
    }
    patterns
}

fn traits_stand_at_seams_only(source: &Source) -> Vec<String> {
    if SEAMS_WITH_TRAITS.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let traits = declared(&source.code, "trait").into_iter();
    traits.map(|(line, name)| source.complaint(line, format!("the trait `{name}` stands at no seam"))).collect()
}

fn nothing_is_left_to_do(source: &Source) -> Vec<String> {
    let in_text = ["FIXME", "XXX", "TODO"];
    let in_code = ["todo!", "unimplemented!", "dbg!", "cfg(test)"];
    let lines = source.text.lines().zip(source.code.lines().chain(std::iter::repeat(""))).enumerate();
    lines
        .flat_map(|(index, (text, code))| {
            let in_line = |word: &&&str| text.split(|mark: char| !mark.is_alphanumeric()).any(|other| other == **word);
            let words = in_text.iter().filter(in_line).collect::<Vec<_>>().into_iter();
            let calls = in_code.iter().filter(move |word| code.contains(**word));
            words.chain(calls).map(move |word| (index + 1, *word))
        })
        .map(|(line, word)| source.complaint(line, format!("`{word}`")))
        .collect()
}

fn lines_end_in_no_white_space(source: &Source) -> Vec<String> {
    let lines = source.text.lines().enumerate().filter(|(_, line)| line.trim_end() != *line);
    lines.map(|(index, _)| source.complaint(index + 1, "white space at the end of the line")).collect()
}

#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// Names and numbers whole, `::` and `=>` whole, every other mark alone.
fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        let length = if is_word(first) {
            rest.find(|character| !is_word(character)).unwrap_or(rest.len())
        } else if rest.starts_with("::") || rest.starts_with("=>") {
            2
        } else {
            first.len_utf8()
        };
        let (text, after) = rest.split_at(length);
        if !first.is_whitespace() {
            tokens.push(Token { text, line });
        }
        line += usize::from(first == '\n');
        rest = after;
    }
    tokens
}

/// Replaces comments and what stands in literals by spaces; line ends stay. Also the text literals and their lines.
fn blank_out(text: &str) -> (String, Vec<(usize, String)>) {
    let characters: Vec<char> = text.chars().collect();
    let starts = |at: usize, mark: &str| {
        mark.chars().enumerate().all(|(offset, wanted)| characters.get(at + offset) == Some(&wanted))
    };
    let mut code = String::with_capacity(text.len());
    let mut literals = Vec::new();
    let mut at = 0;
    while at < characters.len() {
        let end = if starts(at, "//") {
            (at..characters.len()).find(|index| characters[*index] == '\n').unwrap_or(characters.len())
        } else if starts(at, "/*") {
            end_of_block_comment(&characters, at)
        } else if let Some((open, close)) = text_literal(&characters, at) {
            let line = 1 + code.matches('\n').count();
            literals.push((line, characters[open..close.min(characters.len())].iter().collect()));
            (close..characters.len()).find(|index| !matches!(characters[*index], '"' | '#')).unwrap_or(characters.len())
        } else if let Some(end) = character_literal(&characters, at) {
            end
        } else {
            code.push(characters[at]);
            at += 1;
            continue;
        };
        code.extend(characters[at..end].iter().map(|character| if *character == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    (code, literals)
}

fn end_of_block_comment(characters: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < characters.len() {
        match characters.get(at..at + 2) {
            Some(['/', '*']) => (depth, at) = (depth + 1, at + 2),
            Some(['*', '/']) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Where the contents of a text literal that begins here start and end.
fn text_literal(characters: &[char], start: usize) -> Option<(usize, usize)> {
    let is_word = |character: &char| character.is_alphanumeric() || *character == '_';
    if start > 0 && is_word(&characters[start - 1]) {
        return None;
    }
    let prefix = characters[start..].iter().take_while(|character| matches!(character, 'b' | 'c' | 'r')).count();
    let hashes = characters[start + prefix..].iter().take_while(|character| **character == '#').count();
    let open = start + prefix + hashes;
    let raw = characters[start..start + prefix].contains(&'r');
    if characters.get(open) != Some(&'"') || prefix > 2 || (hashes > 0 && !raw) {
        return None;
    }
    let mut at = open + 1;
    while at < characters.len() {
        let closed = characters[at] == '"'
            && characters[at + 1..].iter().take(hashes).filter(|character| **character == '#').count() == hashes;
        if closed {
            break;
        }
        at += if characters[at] == '\\' && !raw { 2 } else { 1 };
    }
    Some((open + 1, at))
}

/// The end of a character literal that begins here; a lifetime is none.
fn character_literal(characters: &[char], start: usize) -> Option<usize> {
    if characters[start] != '\'' {
        return None;
    }
    if characters.get(start + 1) == Some(&'\\') {
        let close = (start + 3..characters.len()).find(|index| characters[*index] == '\'')?;
        return Some(close + 1);
    }
    (characters.get(start + 2) == Some(&'\'')).then_some(start + 3)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read_sources(folder: &Path) -> Vec<Source> {
    files_below(folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            Source::new(&name, &std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// Every file below a folder, build output and hidden folders apart.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                files.extend(files_below(&entry.path()));
            }
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}
