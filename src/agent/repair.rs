//! Repair by verified sampling: which file a model is asked for next, and how. Pure.
//!
//! Where something is wrong, and a failing test or the task points to few files, each of these is asked for alone, with a
//! short prompt: the whole file, or of a longer one the functions that are meant. The tests choose. No question is asked
//! twice: what follows a rejection is another file or another way of asking, since the same question brings the same
//! answer. (Of 26 plain resamples of a model of 1.5 billion parameters one solved its task; asked to trace the failing
//! input first, it solved 3 of 8.) A small model gets the whole series, any other one its beginning; then the loop.

mod ask;
mod splice;
mod suspects;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

pub(super) use ask::{Repairing, Said, changed_lines};
pub use splice::splice;
pub(super) use suspects::{Clues, Suspect, suspects};

/// The most files that are asked for.
pub(super) const MOST_CANDIDATES: usize = 3;

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

    /// As the template knows it.
    fn name(self) -> &'static str {
        match self {
            Way::Plain => "plain",
            Way::Trace => "trace",
            Way::Told => "told",
            Way::Describe => "describe",
        }
    }
}

/// A question: this file, in this way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub path: String,
    pub way: Way,
}

/// The questions for these files, at most `most`, the likeliest one first.
pub fn questions(candidates: &[String], most: usize) -> Vec<Question> {
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
    questions.truncate(most);
    questions
}

/// The changes that a model whose answers are samples has made in a run, each with what came of it.
#[derive(Debug, Default)]
pub struct Answers {
    known: HashMap<u64, String>,
    last: Option<u64>,
}

impl Answers {
    /// What came of this change (paths with their new contents, in order) before; `None`: it is another one than all
    /// before it, whatever its spaces.
    pub fn take<'a>(&mut self, change: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        for (path, content) in change {
            path.hash(&mut hasher);
            for line in content.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
                line.hash(&mut hasher);
            }
        }
        let answer = hasher.finish();
        self.last = Some(answer);
        if let Some(came) = self.known.get(&answer) {
            return Some(came.clone());
        }
        self.known.insert(answer, String::new());
        None
    }

    /// Remembers what came of the last one.
    pub fn judge(&mut self, came: &str) {
        if let Some(last) = self.last.take() {
            self.known.insert(last, came.to_owned());
        }
    }
}

/// Whether a task is about something that is wrong.
pub fn speaks_of_wrong(task: &str) -> bool {
    const WRONG: [&str; 21] = [
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
        "do not",
        "correct the",
        "overflow",
    ];
    let task = task.to_lowercase();
    WRONG.iter().any(|word| task.contains(word))
}

/// Whether a task asks for something new: a sentence begins with a verb of making, or asks politely for it.
pub fn speaks_of_new(task: &str) -> bool {
    const VERBS: [&str; 15] = [
        "add",
        "create",
        "delete",
        "document",
        "extend",
        "implement",
        "introduce",
        "move",
        "provide",
        "refactor",
        "remove",
        "rename",
        "support",
        "translate",
        "write",
    ];
    const ASKING: [&str; 7] = ["please", "should", "must", "and", "also", "you", "we"];
    // What stands in backticks is a name, and no verb.
    let prose: String = task.split('`').step_by(2).collect::<Vec<_>>().join(" x ").to_lowercase();
    let mut before: &str = "";
    let mut is_first = true;
    for word in prose.split_whitespace() {
        let bare = word.trim_matches(|letter: char| !letter.is_alphanumeric());
        if VERBS.contains(&bare) && (is_first || ASKING.contains(&before)) {
            return true;
        }
        if !bare.is_empty() {
            is_first = word.ends_with(['.', '!', '?', ':', ';', ',']);
            before = bare;
        }
    }
    prose.contains("feature")
        || prose.contains("with a test")
        || prose.contains("with tests")
        || begins_lines(&prose, &VERBS)
}

/// Whether a line begins with one of the verbs.
fn begins_lines(prose: &str, verbs: &[&str]) -> bool {
    let first = |line: &'_ str| {
        let line = line.trim_start_matches(|letter: char| !letter.is_alphanumeric());
        line[..line.find(|letter: char| !letter.is_alphanumeric()).unwrap_or(line.len())].to_owned()
    };
    prose.lines().any(|line| verbs.contains(&first(line).as_str()))
}
