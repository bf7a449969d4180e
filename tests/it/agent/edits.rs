//! The edit engine: the cases of `tests/edits`, and properties of the readers and of applying.
//!
//! A file of cases holds, line by line:
//!
//! ```text
//! %%% common PATH [escaped]        before the first case: a file for cases to use
//! %%% case NAME
//! %%% use PATH                     a common file, as it is
//! %%% file PATH [escaped]          a file as it is
//! %%% text [only PATH]             an edit: what a model wrote, read and applied
//! %%% replace PATH [escaped]       an edit: the old text of `replace`, then
//! %%% by [escaped]                 its new text
//! %%% write PATH [escaped]         an edit: the content of `write`
//! %%% result PATH [escaped]        a file as it is to be; every other file stays as it was
//! %%% gone PATH                    a file that is to be no more
//! %%% notes WORDS                  what must be noted of it, in this order
//! %%% refused                      nothing happens; each line here stands in the answer
//! ```
//!
//! A section's text are the lines below it. `escaped`: line ends and other bytes are only those written as `\n`, `\r`, `\t`,
//! `\\` and `\xNN`. The texts of `replace`, and of its new one, end without a line end.

mod properties;

use std::collections::BTreeMap;
use std::path::PathBuf;

use patchwright::agent::edit::{self, Edited};

/// Fewer cases than this are a mistake.
const FEWEST_CASES: usize = 300;

type Tree = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Default)]
struct Case {
    name: String,
    files: Tree,
    edit: Option<Edit>,
    results: Tree,
    gone: Vec<String>,
    notes: Option<String>,
    refused: Option<Vec<String>>,
}

#[derive(Debug)]
enum Edit {
    Text { text: String, only: Option<String> },
    Replace { path: String, old: String, new: String },
    Write { path: String, content: String },
}

#[test]
fn every_case_comes_out_as_it_says() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/edits");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut wrong = Vec::new();
    let mut names = std::collections::BTreeSet::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "cases")) {
        let group = path.file_stem().unwrap().to_string_lossy().into_owned();
        for case in cases(&std::fs::read_to_string(path).unwrap()) {
            let name = format!("{group}: {}", case.name);
            if let Err(complaint) = check(&case) {
                wrong.push(format!("== {name}\n{complaint}"));
            }
            assert!(names.insert(name.clone()), "two cases are called {name}");
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), names.len(), wrong.join("\n"));
    assert!(names.len() >= FEWEST_CASES, "only {} cases", names.len());
}

fn check(case: &Case) -> Result<(), String> {
    let edited = run(case);
    let expected = case.refused.as_ref();
    let edited = match (edited, expected) {
        (Err(answer), Some(parts)) => {
            let missing: Vec<&String> = parts.iter().filter(|part| !answer.contains(part.as_str())).collect();
            // No answer may be taken for an edit.
            let is_edit = edit::read(&answer).is_ok();
            return match (missing.is_empty(), is_edit) {
                (true, false) => Ok(()),
                (false, _) => Err(format!("the answer lacks {missing:?}:\n{answer}")),
                (true, true) => Err(format!("the answer can be read as an edit:\n{answer}")),
            };
        }
        (Err(answer), None) => return Err(format!("refused: {answer}")),
        (Ok(edited), Some(_)) => return Err(format!("not refused, but:\n{}", shown(&edited))),
        (Ok(edited), None) => edited,
    };
    let mut tree = case.files.clone();
    let mut notes = Vec::new();
    for edited in &edited {
        if edited.before.as_ref() != case.files.get(&edited.path) {
            return Err(format!("{}: another text than the file's is told as before", edited.path));
        }
        notes.extend(edited.notes.iter().map(|note| format!("{note:?}")));
        match &edited.after {
            Some(after) => tree.insert(edited.path.clone(), after.clone()),
            None => tree.remove(&edited.path),
        };
    }
    let mut wanted = case.files.clone();
    wanted.extend(case.results.clone());
    for path in &case.gone {
        assert!(wanted.remove(path).is_some(), "{}: {path} was not there", case.name);
    }
    if tree != wanted {
        return Err(format!("wanted:\n{}\ncame:\n{}", listed(&wanted), listed(&tree)));
    }
    match &case.notes {
        Some(wanted) if *wanted != notes.join(" ") => Err(format!("noted: {}", notes.join(" "))),
        None if !notes.is_empty() => Err(format!("noted: {}", notes.join(" "))),
        Some(_) | None => Ok(()),
    }
}

/// The edit of a case; the error is the answer.
fn run(case: &Case) -> Result<Vec<Edited>, String> {
    match case.edit.as_ref().expect("a case without an edit") {
        Edit::Text { text, only } => {
            let edits = edit::read(text).map_err(|unreadable| unreadable.to_string())?;
            edit::apply(&edits, |path| case.files.get(path).cloned(), only.as_deref()).map_err(|no| no.to_string())
        }
        Edit::Replace { path, old, new } => {
            edit::replace(path, &case.files[path], old, new).map(|edited| vec![edited]).map_err(|no| no.to_string())
        }
        Edit::Write { path, content } => edit::write(path, case.files.get(path).map(Vec::as_slice), content)
            .map(|edited| vec![edited])
            .map_err(|no| no.to_string()),
    }
}

fn shown(edited: &[Edited]) -> String {
    let shown = edited.iter().map(|edited| match &edited.after {
        Some(after) => format!("{}: {:?}", edited.path, String::from_utf8_lossy(after)),
        None => format!("{} gone", edited.path),
    });
    shown.collect::<Vec<_>>().join("\n")
}

fn listed(tree: &Tree) -> String {
    let listed = tree.iter().map(|(path, contents)| format!("  {path}: {}", contents.escape_ascii()));
    listed.collect::<Vec<_>>().join("\n")
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut common = Case::default();
    let mut section: Option<(String, Vec<&str>)> = None;
    for line in text.lines().chain(["%%% case end"]) {
        let Some(header) = line.strip_prefix("%%% ") else {
            if let Some((_, lines)) = &mut section {
                lines.push(line);
            } else {
                assert!(line.trim().is_empty() || cases.is_empty(), "a line of no section: {line}");
            }
            continue;
        };
        if let Some((header, lines)) = section.take() {
            if let Some(path) = header.strip_prefix("common ") {
                assert!(cases.is_empty(), "common files come first");
                take(&mut common, &format!("file {path}"), &lines);
            } else if let Some(path) = header.strip_prefix("use ") {
                let case = cases.last_mut().expect("a case");
                case.files.insert(path.to_owned(), common.files[path].clone());
            } else {
                take(cases.last_mut().expect("a section before the first case"), &header, &lines);
            }
        }
        match header.strip_prefix("case ") {
            Some(name) => cases.push(Case { name: name.to_owned(), ..Case::default() }),
            None => section = Some((header.to_owned(), Vec::new())),
        }
    }
    cases.pop();
    for case in &cases {
        let has_end = case.refused.is_some() || !case.results.is_empty() || !case.gone.is_empty();
        assert!(case.edit.is_some() && has_end, "{}: an edit or its outcome is missing", case.name);
    }
    cases
}

fn take(case: &mut Case, header: &str, lines: &[&str]) {
    // Blank lines before the next case are nobody's.
    let (words, is_escaped) = match header.strip_suffix(" escaped") {
        Some(words) => (words, true),
        None => (header, false),
    };
    let whole = match is_escaped {
        true => unescaped(&lines.concat()),
        false => lines.iter().flat_map(|line| [line, "\n"]).collect::<String>().into_bytes(),
    };
    let text = || String::from_utf8(whole.clone()).expect("a text");
    let piece = || if is_escaped { text() } else { lines.join("\n") };
    let (name, rest) = words.split_once(' ').unwrap_or((words, ""));
    match (name, rest) {
        ("file", path) => assert!(case.files.insert(path.to_owned(), whole).is_none(), "{}: {path} twice", case.name),
        ("text", only) => {
            let only = only.strip_prefix("only ").map(str::to_owned);
            set(case, Edit::Text { text: text(), only });
        }
        ("replace", path) => set(case, Edit::Replace { path: path.to_owned(), old: piece(), new: String::new() }),
        ("by", "") => match &mut case.edit {
            Some(Edit::Replace { new, .. }) => *new = piece(),
            other => panic!("{}: `by` behind {other:?}", case.name),
        },
        ("write", path) => set(case, Edit::Write { path: path.to_owned(), content: text() }),
        ("result", path) => {
            case.results.insert(path.to_owned(), whole);
        }
        ("gone", path) => case.gone.push(path.to_owned()),
        ("notes", words) => case.notes = Some(words.to_owned()),
        ("refused", "") => {
            let parts = lines.iter().filter(|line| !line.trim().is_empty()).map(|line| (*line).to_owned());
            case.refused = Some(parts.collect());
        }
        _ => panic!("{}: there is no section `{header}`", case.name),
    }
}

fn set(case: &mut Case, edit: Edit) {
    assert!(case.edit.replace(edit).is_none(), "{}: two edits", case.name);
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            bytes.extend(letter.to_string().bytes());
            continue;
        }
        match letters.next() {
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('t') => bytes.push(b'\t'),
            Some('\\') => bytes.push(b'\\'),
            Some('x') => {
                let digits: String = letters.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&digits, 16).expect("two digits"));
            }
            other => panic!("there is no escape {other:?}"),
        }
    }
    bytes
}
