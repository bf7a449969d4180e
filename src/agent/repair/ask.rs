//! Asking for a file, and taking the answer: written if it is a new and whole one, so that the tests judge it; else the
//! next question follows at once.

use std::collections::BTreeMap;

use super::splice::splice;
use super::{Clues, MOST_FILE_BYTES, Question, Repair, Source, Way, candidates, is_repair};
use crate::agent::prompt::{Asked, Prompts};
use crate::agent::protocol::whole_file::{Written, elision, left_out, read_files};
use crate::agent::shown::text_of;
use crate::agent::text::{clip, elide};
use crate::agent::tools;
use crate::agent::{Agent, AgentError, Brief, MOST_PLAN_BYTES, Pause};
use crate::model::Reply;
use crate::outcome::TestEnding;
use crate::workspace::{Files, Walk};

/// The most files that are looked at for the one that is meant.
const MOST_SOURCES: usize = 400;
/// The most bytes of them.
const MOST_SOURCE_BYTES: usize = 2 << 20;
/// The most of what the failing tests printed.
const MOST_FAILURE_BYTES: usize = 1_200;
/// The most of a change that is shown as tried.
const MOST_TRIED_BYTES: usize = 1_200;
/// Tokens of an answer beyond its file.
const TOKENS_FOR_WORDS: usize = 200;
/// The same where the question asks for thought first.
const TOKENS_FOR_THOUGHT: usize = 700;
/// The most of a reply that goes back into the history.
const MOST_HISTORY_BYTES: usize = 24_000;
/// A block with less than this part of the file's lines, in percent, ends an answer only if it is whole functions that
/// differ: else it is a quotation.
const LEAST_WHOLE: usize = 60;

/// The repair of one task.
#[derive(Debug)]
pub(in crate::agent) struct Repairing {
    repair: Repair,
    now: Question,
    /// The candidates as they are on the base, with LF line ends.
    originals: BTreeMap<String, String>,
    /// By path: the last answer, and what came of it.
    told: BTreeMap<String, (String, String)>,
    /// What the failing tests printed before any change.
    failure: String,
}

impl Repairing {
    /// `None`: the task is no repair, or nothing points to a small file.
    pub(in crate::agent) fn new(files: &Files, walk: &Walk, brief: &Brief) -> Option<Self> {
        let failing = brief.baseline.as_ref().filter(|run| matches!(run.ending, TestEnding::Failed { .. }));
        let failure = failing.map(|run| elide(run.excerpt.trim(), MOST_FAILURE_BYTES)).unwrap_or_default();
        let task = format!("{}\n{}", brief.title, brief.instruction);
        let clues = Clues { task: &task, failure: failing.map_or("", |run| &run.excerpt) };
        if !is_repair(clues) {
            return None;
        }
        let mut texts: BTreeMap<String, String> = BTreeMap::new();
        let mut bytes = 0;
        for file in walk.files.iter().filter(|file| file.length <= MOST_FILE_BYTES as u64).take(MOST_SOURCES) {
            let Some(text) = text_of(files, &file.path) else { continue };
            bytes += text.len();
            if bytes > MOST_SOURCE_BYTES {
                break;
            }
            texts.insert(file.path.to_string(), text);
        }
        let sources: Vec<Source<'_>> = texts.iter().map(|(path, content)| Source { path, content }).collect();
        let paths = candidates(&sources, clues);
        let mut repair = Repair::new(&paths);
        let now = repair.next_question()?;
        let originals = paths.iter().filter_map(|path| texts.remove_entry(path)).collect();
        Some(Self { repair, now, originals, told: BTreeMap::new(), failure })
    }

    pub(in crate::agent) fn paths(&self) -> impl Iterator<Item = &String> {
        self.originals.keys()
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
        u32::try_from(self.original().len() * 2 / 5 + words).unwrap_or(u32::MAX)
    }

    /// Whether an answer has all that is wanted, so that the rest need not be waited for.
    pub(in crate::agent) fn is_enough(&self, content: &str) -> bool {
        // Only a line end can make it so, and reading is not for nothing.
        if !content.trim_end_matches(' ').ends_with('\n') && !content.ends_with("```") {
            return false;
        }
        let written = read_files(content, true);
        let (path, original) = (&self.now.path, self.original());
        answer(&written, path).is_some_and(|answer| {
            answer.lines().count() * 100 >= original.lines().count() * LEAST_WHOLE
                || splice(path, original, answer).is_some_and(|whole| whole != original)
        })
    }

    /// The first message of the question that is due.
    pub(in crate::agent) fn question(&self, prompts: &Prompts, brief: &Brief) -> Result<String, AgentError> {
        let (tried, problem) = match (self.now.way, self.told.get(&self.now.path)) {
            (Way::Told, Some((answer, problem))) => (changed_lines(self.original(), answer), problem.clone()),
            (Way::Plain | Way::Trace | Way::Told | Way::Describe, _) => (String::new(), String::new()),
        };
        let numbered = match self.now.way {
            Way::Trace => Some(with_numbers(self.original())),
            Way::Plain | Way::Told | Way::Describe => None,
        };
        prompts.repair(
            brief,
            &Asked {
                path: &self.now.path,
                content: numbered.as_deref().unwrap_or(self.original()),
                way: match self.now.way {
                    Way::Plain => "plain",
                    Way::Trace => "trace",
                    Way::Told => "told",
                    Way::Describe => "describe",
                },
                failure: &self.failure,
                tried: &tried,
                problem: &problem,
            },
        )
    }

    /// Remembers what came of the last answer, and takes the next question; `false`: there is none.
    pub(in crate::agent) fn go_on(&mut self, problem: &str) -> bool {
        if let Some((_, told)) = self.told.get_mut(&self.now.path) {
            *told = elide(problem.trim(), MOST_FAILURE_BYTES);
        }
        match self.repair.next_question() {
            Some(question) => {
                self.now = question;
                true
            }
            None => false,
        }
    }

    fn original(&self) -> &str {
        self.originals.get(&self.now.path).map(String::as_str).unwrap_or_default()
    }

    /// The whole new file that an answer holds, or why it holds none.
    fn accept(&mut self, written: &Written) -> Result<String, String> {
        let path = self.now.path.clone();
        let Some(content) = answer(written, &path) else {
            return Err(match written.cut {
                Some(_) => "the answer was cut off".into(),
                None => format!("the answer did not hold the file {path}"),
            });
        };
        let original = self.original();
        if content.trim().is_empty() {
            return Err("the file was empty".into());
        }
        if let Some(line) = elision(content, original) {
            return Err(format!("`{}` stood for lines that were left out", clip(line, 100)));
        }
        let whole = splice(&path, original, content).unwrap_or_else(|| content.to_owned());
        if let Some(lines) = left_out(&whole, original) {
            return Err(format!("these lines were left out: {}", clip(&lines.join(" "), 200)));
        }
        let is_same = whole.trim_end() == original.trim_end();
        if is_same || !self.repair.is_new(&path, &whole) {
            return Err(if is_same { "nothing was changed" } else { "it was an answer that had been given" }.into());
        }
        Ok(whole)
    }
}

impl Agent<'_> {
    /// Acts on the answer to a question: a new file ends the model's turn, so that the tests run.
    pub(in crate::agent) async fn act_on_repair(&mut self, reply: Reply) -> Result<Option<Pause>, AgentError> {
        let written = read_files(&reply.content, reply.finish_reason == "length");
        let content = if reply.content.trim().is_empty() { "(no answer)".into() } else { reply.content };
        self.history.push_reply(elide(&content, MOST_HISTORY_BYTES), &[]);
        let Some(repairing) = self.whole_file.as_mut().and_then(|whole_file| whole_file.repairing.as_mut()) else {
            return Ok(None);
        };
        let path = repairing.now.path.clone();
        let problem = match repairing.accept(&written) {
            Ok(content) => {
                repairing.told.insert(path.clone(), (content.clone(), String::new()));
                let answer = self.write_whole(&path, &content).await?;
                if answer.changed {
                    self.plan.get_or_insert_with(|| clip(&written.prose, MOST_PLAN_BYTES));
                    return Ok(Some(self.finish_whole_files(&written.prose)));
                }
                answer.text
            }
            Err(problem) => problem,
        };
        self.put_back()?;
        self.ask_next(&problem)?;
        Ok(None)
    }
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

/// The lines with their numbers, as they are shown to be counted.
fn with_numbers(content: &str) -> String {
    content.lines().enumerate().map(|(at, line)| format!("{:>3}| {line}\n", at + 1)).collect()
}

/// The lines that an answer took away and added.
fn changed_lines(before: &str, after: &str) -> String {
    let diff = similar::TextDiff::from_lines(before, after);
    let lines = diff.iter_all_changes().filter_map(|change| match change.tag() {
        similar::ChangeTag::Delete => Some(format!("- {}", change.value())),
        similar::ChangeTag::Insert => Some(format!("+ {}", change.value())),
        similar::ChangeTag::Equal => None,
    });
    elide(lines.collect::<String>().trim_end(), MOST_TRIED_BYTES)
}
