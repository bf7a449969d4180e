//! Repair by verified sampling: which file a small model is asked for next, and how. Pure.
//!
//! Where the task is about something that is wrong, and the task or a failing test points to few small files, each of
//! these is asked for alone, with a short prompt; the tests choose. No question is asked twice: what follows a rejection
//! is another file or another way of asking, since the same question brings the same answer. (Of 26 plain resamples of
//! a model of 1.5 billion parameters one solved its task; asked to trace the failing input first, it solved 3 of 8.)

mod ask;
mod splice;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

pub(super) use ask::Repairing;
pub use splice::splice;

/// The most files that are asked for.
const MOST_CANDIDATES: usize = 3;
/// The longest file that is rewritten as a whole, in bytes.
pub(super) const MOST_FILE_BYTES: usize = 12_000;
/// A file with fewer points than this is no suspect.
const FEWEST_POINTS: u32 = 8;
/// A file with fewer than this part of the first one's points is none either.
const SMALLEST_SHARE: u32 = 4;
/// Shorter words say nothing of a file.
const SHORTEST_WORD: usize = 4;
/// Files that define a name which as many files define are not meant by it.
const MOST_DEFINITIONS: usize = 3;

/// How a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// The file with what is wrong.
    Plain,
    /// First the failing input is to be followed through numbered lines, and the wrong line named.
    Trace,
    /// What came of the last answer is told, and its file is what is to be corrected.
    Told,
    /// What each part is to do comes first, from its name and description; then the file anew.
    Describe,
}

impl Way {
    /// The likeliest answer to a question first; a question that asks for more thought may have bolder ones.
    pub fn temperature(self) -> f32 {
        match self {
            Way::Plain => 0.1,
            Way::Trace => 0.3,
            Way::Told => 0.5,
            Way::Describe => 0.7,
        }
    }
}

/// A question: this file, in this way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub path: String,
    pub way: Way,
}

/// The questions that are left, and the answers that were had.
#[derive(Debug)]
pub struct Repair {
    questions: std::vec::IntoIter<Question>,
    answers: HashSet<u64>,
}

impl Repair {
    /// The questions for these files, the likeliest one first.
    pub fn new(candidates: &[String]) -> Self {
        // Each file's row begins when the one before has had its first two questions, and goes first then.
        let ways = [Way::Plain, Way::Trace, Way::Told, Way::Describe];
        let mut questions = Vec::new();
        for round in 0..ways.len() / 2 + MOST_CANDIDATES {
            for (place, path) in candidates.iter().take(MOST_CANDIDATES).enumerate().rev() {
                let Some(at) = round.checked_sub(place) else { continue };
                let two = ways.chunks(2).nth(at).unwrap_or_default();
                questions.extend(two.iter().map(|way| Question { path: path.clone(), way: *way }));
            }
        }
        Self { questions: questions.into_iter(), answers: HashSet::new() }
    }

    pub fn next_question(&mut self) -> Option<Question> {
        self.questions.next()
    }

    /// Whether an answer is another one than all before it, whatever its spaces; tests tell nothing new of the others.
    pub fn is_new(&mut self, path: &str, content: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        for line in content.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            line.hash(&mut hasher);
        }
        self.answers.insert(hasher.finish())
    }
}

/// A file that may be meant.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub path: &'a str,
    pub content: &'a str,
}

/// What is known of what is wrong.
#[derive(Debug, Clone, Copy)]
pub struct Clues<'a> {
    /// Title and instruction.
    pub task: &'a str,
    /// What the failing tests printed; empty if none fails.
    pub failure: &'a str,
}

/// Whether a task is about something that is wrong, and not about something new.
pub fn is_repair(clues: Clues<'_>) -> bool {
    const WRONG: [&str; 19] = [
        "bug",
        "wrong",
        "fix",
        "incorrect",
        "broken",
        "fails",
        "failing",
        "failed",
        "error",
        "crash",
        "exception",
        "should",
        "instead of",
        "expected",
        "unexpected",
        "raises",
        "does not",
        "doesn't",
        "correct the",
    ];
    const NEW: [&str; 10] = [
        "create ",
        "implement ",
        "rename ",
        "new file",
        "a new ",
        "with a test",
        "with tests",
        "write a",
        "refactor",
        "delete ",
    ];
    let task = clues.task.to_lowercase();
    let has = |among: &[&str]| among.iter().any(|word| task.contains(word));
    !clues.failure.is_empty() || has(&WRONG) && !has(&NEW)
}

/// The files that are most likely to be wrong, the likeliest first; tests are not among them.
pub fn candidates(sources: &[Source<'_>], clues: Clues<'_>) -> Vec<String> {
    let tests: Vec<&Source<'_>> =
        sources.iter().filter(|source| is_test(source.path) && clues.failure.contains(name_of(source.path))).collect();
    let called: BTreeSet<&str> = tests.iter().flat_map(|test| called_names(test.content)).collect();
    let in_task = names_in(clues.task);
    let in_failure = names_in(clues.failure);
    let definitions: Vec<BTreeSet<&str>> = sources.iter().map(|source| defined_names(source.content)).collect();
    let mut defined: BTreeMap<&str, usize> = BTreeMap::new();
    for (source, names) in sources.iter().zip(&definitions) {
        if !is_test(source.path) {
            names.iter().for_each(|name| *defined.entry(name).or_default() += 1);
        }
    }
    let is_telling = |name: &&str| defined.get(*name).is_some_and(|count| *count <= MOST_DEFINITIONS);
    let mut ranked: Vec<(u32, &str)> = Vec::new();
    for (source, names) in sources.iter().zip(&definitions) {
        if is_test(source.path) || !is_code(source.path) || source.content.len() > MOST_FILE_BYTES {
            continue;
        }
        let telling: Vec<&str> = names.iter().copied().filter(is_telling).collect();
        let count = |among: &BTreeSet<&str>| telling.iter().filter(|name| among.contains(**name)).count().min(4) as u32;
        let imported = tests.iter().any(|test| imports(test.content, source.path));
        let points = 60 * u32::from(mentions(clues.task, source.path))
            + 40 * u32::from(
                clues.failure.contains(&format!("{}\"", source.path)) || is_framed(clues.failure, source.path),
            )
            + 20 * u32::from(mentions_stem(clues.task, source.path))
            + 20 * u32::from(imported)
            + 15 * count(&in_task)
            + 8 * count(&in_failure)
            + 5 * count(&called)
            + shared_words(clues.task, source.content);
        ranked.push((points, source.path));
    }
    ranked.sort_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(right.1)));
    let most = ranked.first().map_or(0, |(points, _)| *points);
    let enough = ranked.into_iter().filter(|(points, _)| *points >= FEWEST_POINTS && *points * SMALLEST_SHARE >= most);
    enough.take(MOST_CANDIDATES).map(|(_, path)| path.to_owned()).collect()
}

/// Whether a path is one of a test, by its look.
pub fn is_test(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let name = name_of(&lower);
    let stem = name.split('.').next().unwrap_or_default();
    lower.split('/').rev().skip(1).any(|folder| matches!(folder, "test" | "tests" | "spec" | "specs" | "__tests__"))
        || name.starts_with("test_")
        || name == "conftest.py"
        || stem == "test"
        || stem == "tests"
        || stem.ends_with("_test")
        || stem.ends_with("_spec")
        || name.contains(".test.")
        || name.contains(".spec.")
        || name_of(path).split('.').next().is_some_and(|stem| stem.ends_with("Test") || stem.ends_with("Tests"))
}

fn is_code(path: &str) -> bool {
    const ENDINGS: [&str; 31] = [
        "py", "js", "mjs", "cjs", "jsx", "ts", "tsx", "rs", "go", "java", "kt", "c", "h", "cc", "cpp", "hpp", "cs",
        "rb", "php", "sh", "bash", "pl", "lua", "swift", "scala", "ex", "exs", "hs", "ml", "sql", "awk",
    ];
    name_of(path).rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending))
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a text names a file by its path or its name.
fn mentions(text: &str, path: &str) -> bool {
    let is_inside = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '/');
    [path, name_of(path)].iter().any(|wanted| {
        text.match_indices(wanted)
            .any(|(at, _)| !text[..at].ends_with(is_inside) && !text[at + wanted.len()..].starts_with(is_inside))
    })
}

/// Whether a text has the name of a file without its ending as a word.
fn mentions_stem(text: &str, path: &str) -> bool {
    let stem = name_of(path).split('.').next().unwrap_or_default().to_lowercase();
    stem.len() >= SHORTEST_WORD && words(text).any(|word| word.to_lowercase() == stem)
}

/// Whether a stack trace passes through a file: its path or name, followed by a line's number.
fn is_framed(failure: &str, path: &str) -> bool {
    let name = name_of(path);
    failure.match_indices(name).any(|(at, _)| {
        let before = &failure[..at];
        let rest = &failure[at + name.len()..];
        !before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_')
            && (rest.starts_with("\", line ")
                || rest.strip_prefix(':').is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit())))
    })
}

/// Whether a file takes in another one, as most languages write it.
fn imports(content: &str, path: &str) -> bool {
    let stem = name_of(path).split('.').next().unwrap_or_default();
    !stem.is_empty()
        && content
            .lines()
            .filter(|line| is_import(line))
            .any(|line| line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == stem))
}

fn is_import(line: &str) -> bool {
    const BEGINNINGS: [&str; 9] =
        ["import ", "from ", "use ", "#include", "require", "source ", ". ", "mod ", "package "];
    let line = line.trim_start();
    BEGINNINGS.iter().any(|beginning| line.starts_with(beginning))
        || line.contains("require(")
        || line.contains("import(")
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}

/// The words of a text that look like names of code: with an underscore, with capitals inside, in backticks, or before
/// a parenthesis.
fn names_in(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let quoted = text.split('`').skip(1).step_by(2).flat_map(words);
    names.extend(quoted.filter(|word| word.len() >= 3));
    for word in words(text) {
        let after = &text[word.as_ptr() as usize - text.as_ptr() as usize + word.len()..];
        let has_hump = word.chars().skip(1).any(char::is_uppercase) && word.chars().any(char::is_lowercase);
        if word.len() >= 3 && (word.contains('_') || has_hump || after.starts_with('(')) {
            names.insert(word);
        }
    }
    names
}

/// The names that a file calls: what stands before a parenthesis.
fn called_names(content: &str) -> BTreeSet<&str> {
    words(content)
        .filter(|word| {
            let end = word.as_ptr() as usize - content.as_ptr() as usize + word.len();
            word.len() >= 3 && content[end..].starts_with('(')
        })
        .collect()
}

/// The names that a file defines, as most languages write it.
fn defined_names(content: &str) -> BTreeSet<&str> {
    const KEYWORDS: [&str; 14] = [
        "def",
        "class",
        "function",
        "func",
        "fn",
        "struct",
        "enum",
        "trait",
        "interface",
        "type",
        "const",
        "let",
        "module",
        "static",
    ];
    let mut names = BTreeSet::new();
    for line in content.lines() {
        let mut line_words = words(line).peekable();
        let mut last_before_parenthesis = None;
        while let Some(word) = line_words.next() {
            if KEYWORDS.contains(&word)
                && let Some(name) = line_words.peek()
            {
                names.insert(*name);
            }
            let end = word.as_ptr() as usize - line.as_ptr() as usize + word.len();
            if last_before_parenthesis.is_none() && line[end..].starts_with('(') {
                last_before_parenthesis = Some(word);
            }
        }
        // `int total(…) {`, `total() {`, `public static int total(…) {`.
        let opens = line.trim_end().ends_with('{');
        let is_control = |word: &str| matches!(word, "if" | "for" | "while" | "switch" | "catch" | "match" | "else");
        if let Some(name) = last_before_parenthesis.filter(|word| opens && !is_control(word)) {
            names.insert(name);
        }
    }
    names
}

/// Points for the words that a task and a file have in common, beyond names of code.
fn shared_words(task: &str, content: &str) -> u32 {
    const EMPTY: [&str; 24] = [
        "that", "this", "with", "from", "have", "when", "then", "should", "test", "tests", "code", "file", "value",
        "return", "returns", "function", "class", "line", "lines", "wrong", "instead", "error", "expected", "import",
    ];
    let parts = |text: &str| -> BTreeSet<String> {
        words(text)
            .flat_map(|word| word.split('_'))
            .filter(|word| word.len() >= SHORTEST_WORD)
            .map(str::to_lowercase)
            .filter(|word| !EMPTY.contains(&word.as_str()))
            .collect()
    };
    let task = parts(task);
    let shared = parts(content).intersection(&task).count();
    u32::try_from(shared.min(10)).unwrap_or_default()
}
