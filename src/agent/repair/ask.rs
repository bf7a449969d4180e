//! Asking for a file, or for functions of it, and taking the answer: written if it is new and whole, so that the tests
//! judge it; else the next question follows at once.

use std::collections::BTreeMap;

use super::splice::splice;
use super::{MOST_CANDIDATES, Question, Suspect, Way, questions, speaks_of_new, speaks_of_wrong};
use crate::agent::difference;
use crate::agent::opening::{self, Beginning, View};
use crate::agent::prompt::{Asked, Prompts};
use crate::agent::protocol::Protocol;
use crate::agent::protocol::whole_file::{Written, elision, left_out, read_files};
use crate::agent::shown::text_within;
use crate::agent::state::State;
use crate::agent::stuck::Watch;
use crate::agent::text::{clip, dedented, elide};
use crate::agent::tools;
use crate::agent::{Agent, AgentError, Brief, MOST_COMPARED_FILES, MOST_PLAN_BYTES, Pause, SinceFinish};
use crate::model::{Message, Reply};
use crate::outcome::TestEnding;
use crate::workspace::{Files, Walk};

/// The longest file, or functions of one, in bytes; less where the window is small.
const MOST_SHOWN_BYTES: usize = 12_000;
/// The largest file of which functions are asked for.
const MOST_FILE_BYTES: u64 = 400_000;
/// The most of what the failing tests printed, and of what they printed with a change.
const MOST_FAILURE_BYTES: usize = 1_200;
/// The most of the failing test's code.
const MOST_TEST_BYTES: usize = 1_200;
/// The most of a change that is shown as tried.
const MOST_TRIED_BYTES: usize = 1_200;
/// Tokens of an answer beyond its file.
const TOKENS_FOR_WORDS: usize = 200;
/// The same where the question asks for thought first.
const TOKENS_FOR_THOUGHT: usize = 700;
/// Tokens of a question besides the file and the bounded parts.
const TOKENS_FOR_TASK: usize = 1_500;
/// How many questions a model gets that does not write whole files anyway.
const MOST_OF_OTHERS: usize = 3;
/// The most of a reply that goes back into the history.
const MOST_HISTORY_BYTES: usize = 24_000;
/// A block with less than this part of the file's lines, in percent, ends an answer only if it is whole functions that
/// differ: else it is a quotation.
const LEAST_WHOLE: usize = 60;

/// The repair of one task.
#[derive(Debug)]
pub(in crate::agent) struct Repairing {
    /// Those that are left.
    questions: std::vec::IntoIter<Question>,
    now: Question,
    files: BTreeMap<String, Suspected>,
    told: BTreeMap<String, Told>,
    /// What the failing tests printed before any change, and the first of them.
    failure: String,
    test: String,
}

/// A file that is asked for, as it is on the base, with LF line ends.
#[derive(Debug)]
struct Suspected {
    content: String,
    /// Functions of it, each with its first line from 0; empty: all of it is asked for.
    parts: Vec<(usize, String)>,
}

/// What came of the answers for a file.
#[derive(Debug, Default)]
struct Told {
    /// The last one that was tested.
    answer: Option<String>,
    /// What the tests said of it; without one, why the last answer was of no use.
    problem: String,
}

/// Whose words a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent) enum Said {
    /// Of the tests or the guard, about a change.
    ByTests,
    /// Ours, about an answer that was not written.
    ByReader,
}

impl Repairing {
    /// `None`: the task is no repair, or nothing points to a small file or function.
    pub(in crate::agent) fn new(
        files: &Files,
        walk: &Walk,
        brief: &Brief,
        view: &View,
        protocol: Protocol,
        window: Option<u64>,
    ) -> Option<Self> {
        let failing = brief.baseline.as_ref().filter(|run| matches!(run.ending, TestEnding::Failed { .. }));
        let task = format!("{}\n{}", brief.title, brief.instruction);
        let most_questions = match (protocol, failing) {
            (Protocol::WholeFile, Some(_)) => usize::MAX,
            (Protocol::WholeFile, None) if speaks_of_wrong(&task) && !speaks_of_new(&task) => usize::MAX,
            (Protocol::Native | Protocol::Schema | Protocol::Fenced, Some(_)) if !speaks_of_new(&task) => {
                MOST_OF_OTHERS
            }
            (Protocol::WholeFile | Protocol::Native | Protocol::Schema | Protocol::Fenced, _) => return None,
        };
        let most = most_shown(window);
        let suspected = view.suspects.iter().filter_map(|suspect| {
            let path = &walk.files[suspect.file].path;
            Some((path.to_string(), Suspected::read(files, walk, suspect, most)?))
        });
        let suspected: Vec<(String, Suspected)> = suspected.take(MOST_CANDIDATES).collect();
        let paths: Vec<String> = suspected.iter().map(|(path, _)| path.clone()).collect();
        let mut questions = questions(&paths, most_questions).into_iter();
        let now = questions.next()?;
        let failure = failing.map(|run| {
            let first = run.digest.as_ref().and_then(|digest| digest.first_failure.clone());
            first.unwrap_or_else(|| elide(run.excerpt.trim(), MOST_FAILURE_BYTES))
        });
        Some(Self {
            questions,
            now,
            files: suspected.into_iter().collect(),
            told: BTreeMap::new(),
            failure: failure.unwrap_or_default(),
            test: elide(&view.failing.test, MOST_TEST_BYTES),
        })
    }

    pub(in crate::agent) fn paths(&self) -> impl Iterator<Item = &String> {
        self.files.keys()
    }

    pub(in crate::agent) fn temperature(&self) -> f32 {
        self.now.way.temperature()
    }

    /// The longest answer that makes sense.
    pub(in crate::agent) fn answer_tokens(&self) -> u32 {
        let words = match self.now.way {
            Way::Plain | Way::Told => TOKENS_FOR_WORDS,
            Way::Trace | Way::Describe => TOKENS_FOR_THOUGHT,
        };
        let shown = self.file().map_or(0, |file| file.shown(false).len());
        u32::try_from(shown * 2 / 5 + words).unwrap_or(u32::MAX)
    }

    /// Whether an answer has all that is wanted, so that the rest need not be waited for.
    pub(in crate::agent) fn is_enough(&self, content: &str) -> bool {
        // Only a line end can make it so, and reading is not for nothing.
        if !content.trim_end_matches(' ').ends_with('\n') && !content.ends_with("```") {
            return false;
        }
        let written = read_files(content, true);
        let Some(file) = self.file() else { return true };
        answer(&written, &self.now.path).is_some_and(|answer| {
            let is_long = answer.lines().count() * 100 >= file.content.lines().count() * LEAST_WHOLE;
            is_long && file.parts.is_empty()
                || splice(&self.now.path, &file.content, answer).is_some_and(|whole| whole != file.content)
        })
    }

    /// The first message of the question that is due.
    pub(in crate::agent) fn question(&self, prompts: &Prompts, brief: &Brief) -> Result<String, AgentError> {
        let way = self.now.way;
        let (tried, problem) = match (way, self.told.get(&self.now.path)) {
            (Way::Told, Some(told)) => (self.tried(told), told.problem.clone()),
            (Way::Plain | Way::Trace | Way::Told | Way::Describe, _) => (String::new(), String::new()),
        };
        let file = self.file();
        let content = file.map(|file| file.shown(way == Way::Trace)).unwrap_or_default();
        let asked = Asked {
            path: &self.now.path,
            content: &content,
            is_part: file.is_some_and(|file| !file.parts.is_empty()),
            way: way.name(),
            test: &self.test,
            failure: &self.failure,
            tried: &tried,
            problem: &problem,
        };
        prompts.repair(brief, &asked)
    }

    /// Remembers what came of the last answer, and takes the next question; `false`: there is none.
    fn go_on(&mut self, problem: &str, said: Said) -> bool {
        let told = self.told.entry(self.now.path.clone()).or_default();
        // What was said of an answer that was not written says nothing of the one that was.
        if said == Said::ByTests || told.answer.is_none() {
            told.problem = elide(problem.trim(), MOST_FAILURE_BYTES);
        }
        match self.questions.next() {
            Some(question) => {
                self.now = question;
                true
            }
            None => false,
        }
    }

    /// The last change that was tested, in lines, and what came of it.
    fn last_told(&self) -> (String, String) {
        let told = self.told.get(&self.now.path).filter(|told| told.answer.is_some());
        told.map(|told| (self.tried(told), told.problem.clone())).unwrap_or_default()
    }

    fn tried(&self, told: &Told) -> String {
        let before = self.file().map(|file| file.content.as_str()).unwrap_or_default();
        told.answer.as_deref().map(|answer| changed_lines(before, answer)).unwrap_or_default()
    }

    fn file(&self) -> Option<&Suspected> {
        self.files.get(&self.now.path)
    }

    /// The whole new file that an answer holds, or why it holds none.
    fn accept(&self, written: &Written) -> Result<String, String> {
        let path = &self.now.path;
        let Some(file) = self.file() else { return Err(format!("nothing is known of {path}")) };
        let Some(content) = answer(written, path) else {
            return Err(match written.cut {
                Some(_) => "the answer was cut off".into(),
                None => format!("the answer did not hold the code of {path}"),
            });
        };
        let original = &file.content;
        if content.trim().is_empty() {
            return Err("the code block was empty".into());
        }
        if let Some(line) = elision(content, original) {
            return Err(format!("`{}` stood for lines that were left out", clip(line, 100)));
        }
        let whole = match splice(path, original, content) {
            Some(whole) => whole,
            None if file.parts.is_empty() => content.to_owned(),
            None => return Err(format!("the answer was not made of whole functions of {path}")),
        };
        if let Some(lines) = left_out(&whole, original) {
            return Err(format!("these lines were left out: {}", clip(&lines.join(" "), 200)));
        }
        if whole.trim_end() == original.trim_end() {
            return Err("nothing was changed".into());
        }
        Ok(whole)
    }
}

impl Suspected {
    /// `None`: it is no text, or neither it nor the functions that are meant are short enough.
    fn read(files: &Files, walk: &Walk, suspect: &Suspect, most: usize) -> Option<Self> {
        let file = walk.files.get(suspect.file).filter(|file| file.length <= MOST_FILE_BYTES)?;
        let content = text_within(files, &file.path, MOST_FILE_BYTES).filter(|content| !content.trim().is_empty())?;
        if content.len() <= most {
            return Some(Self { content, parts: Vec::new() });
        }
        let lines: Vec<&str> = content.lines().collect();
        let mut parts = Vec::new();
        let mut left = most;
        for (first, last) in &suspect.functions {
            let text = dedented(lines.get(*first..=(*last).min(lines.len().checked_sub(1)?))?);
            let Some(rest) = left.checked_sub(text.len()) else { continue };
            left = rest;
            parts.push((*first, text));
        }
        (!parts.is_empty()).then_some(Self { content, parts })
    }

    /// What the question shows; with the numbers of its lines, where they are to be counted.
    fn shown(&self, numbered: bool) -> String {
        let whole = [(0, self.content.clone())];
        let parts = if self.parts.is_empty() { &whole[..] } else { &self.parts };
        let shown = parts.iter().map(|(first, text)| {
            let lines = text.lines().enumerate().map(|(at, line)| match numbered {
                true => format!("{:>3}| {line}\n", first + at + 1),
                false => format!("{line}\n"),
            });
            lines.collect::<String>()
        });
        shown.collect::<Vec<_>>().join("\n")
    }
}

impl Agent<'_> {
    /// Acts on the answer to a question: a new file ends the model's turn, so that the tests run.
    pub(in crate::agent) async fn act_on_repair(&mut self, reply: Reply) -> Result<Option<Pause>, AgentError> {
        let written = read_files(&reply.content, reply.finish_reason == "length");
        let content = if reply.content.trim().is_empty() { "(no answer)".into() } else { reply.content };
        self.history.push_reply(elide(&content, MOST_HISTORY_BYTES), &[]);
        let Some(repairing) = &self.repairing else { return Ok(None) };
        let path = repairing.now.path.clone();
        let problem = match repairing.accept(&written) {
            Ok(content) if self.answers.take([(path.as_str(), content.as_str())]).is_some() => {
                "it was an answer that had been given".into()
            }
            Ok(content) => {
                let answer = self.write_whole(&path, &content).await?;
                if answer.changed {
                    if let Some(repairing) = &mut self.repairing {
                        repairing.told.entry(path).or_default().answer = Some(content);
                    }
                    self.plan.get_or_insert_with(|| clip(&written.prose, MOST_PLAN_BYTES));
                    return Ok(Some(self.finish_whole_files(&written.prose)));
                }
                answer.text
            }
            Err(problem) => problem,
        };
        self.ask_next(&problem, Said::ByReader)?;
        Ok(None)
    }

    /// Asks the next question of a series, on the files as they were; after the last one the run goes on with the whole
    /// task, in its protocol.
    pub(in crate::agent) fn ask_next(&mut self, problem: &str, said: Said) -> Result<(), AgentError> {
        self.put_back()?;
        let Some(repairing) = &mut self.repairing else { return Ok(()) };
        if repairing.go_on(problem, said) {
            let text = repairing.question(&self.prompts, &self.brief)?;
            self.history.restart();
            self.history.push(Message::User { content: text });
            return Ok(());
        }
        let (tried, came) = repairing.last_told();
        self.repairing = None;
        (self.plan, self.summary) = (None, None);
        self.since_finish = SinceFinish::Work;
        let walk = self.files.walk(None, MOST_COMPARED_FILES)?;
        let (beginning, window) = (Beginning::Task, self.window());
        let mut opening =
            opening::begin(&self.files, &walk, &self.brief, self.model, self.protocol, beginning, window)?;
        if let Some(Message::User { content }) = opening.messages.last_mut().filter(|_| !tried.is_empty()) {
            *content = opening.prompts.whole_anew(content, &tried, &came, false)?;
        }
        self.take_up(opening);
        self.state = State::new(&self.files, &walk);
        self.watch = Watch::new(self.state.sum(), self.protocol.instead(self.model.card()).is_some());
        Ok(())
    }
}

/// The most bytes that are shown, so that they, the rest of the question and the answer have room in the window.
fn most_shown(window: Option<u64>) -> usize {
    let window = window.and_then(|window| usize::try_from(window).ok()).unwrap_or(usize::MAX);
    // A third of a token a byte in the question, two fifths in the answer.
    (window.saturating_sub(TOKENS_FOR_TASK + TOKENS_FOR_THOUGHT) / 11).saturating_mul(15).min(MOST_SHOWN_BYTES)
}

/// The block that is meant for a file: by its path or name, else the longest one without a path.
fn answer<'a>(written: &'a Written, path: &str) -> Option<&'a str> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let named = written.files.iter().filter(|file| tools::normal(&file.path) == path || name(&file.path) == name(path));
    named
        .map(|file| file.content.as_str())
        .next_back()
        .or_else(|| written.unnamed.iter().map(|block| block.content.as_str()).max_by_key(|content| content.len()))
}

/// The lines that an answer took away and added, within bounds.
pub(in crate::agent) fn changed_lines(before: &str, after: &str) -> String {
    elide(difference::changed_lines(before, after).trim_end(), MOST_TRIED_BYTES)
}
