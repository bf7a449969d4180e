//! Acting on a reply of whole files: each is written as a whole or not at all, and files that change anything end the
//! model's turn, so that the tests run.
//!
//! Not written, with the reason as the answer:
//!
//! - what the file layer refuses (outside, git's data, links);
//! - a file that exists and was not shown: it is shown instead;
//! - a file with a line that stands for others (`# ... existing code ...`);
//! - a file that leaves out lines, where the task does not speak of removing any: it is asked about once;
//! - a file whose block was cut at the limit, or whose end is ambiguous.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::json;

use super::opening::View;
use super::perform::milliseconds_since;
use super::prompt::Prompts;
use super::protocol::fences::info_of;
use super::protocol::whole_file::{Written, WrittenFile, elision, fence_for, left_out, read_files};
use super::repair::changed_lines;
use super::shown::{self, Shown, text_of};
use super::text::{clip, elide};
use super::tools::{self, Action, Answer, WriteArguments};
use super::{Agent, AgentError, Brief, MOST_PLAN_BYTES, MOST_SUMMARY_BYTES, MOST_UNUSABLE, Pause, SinceFinish};
use crate::event::Event;
use crate::model::{Message, Reply};
use crate::outcome::{Habit, StopReason};
use crate::workspace::{Files, RelativePath, Walk};

/// Tokens of an answer beyond what the shown files have: a new file with its test.
const TOKENS_FOR_NEW_FILES: usize = 1_500;
/// The most of what was wrong that goes into a conversation that begins anew, and of the change that was thrown away.
const MOST_PROBLEM_BYTES: usize = 1_500;
const MOST_TRIED_BYTES: usize = 1_200;
/// The largest file that is rewritten as a whole; it must be shown as a whole before.
const MOST_ORIGINAL_BYTES: u64 = 1 << 20;
/// The most of a reply that goes back into the history.
const MOST_HISTORY_BYTES: usize = 24_000;

/// What a run by whole files knows.
#[derive(Debug)]
pub(super) struct WholeFile {
    /// By path, as the model saw or wrote it last.
    known: BTreeMap<String, String>,
    /// The only file that the task names, to be meant by a block without a path.
    only_named: Option<String>,
    /// The task asks for a test, and there is none yet.
    lacks_test: bool,
    /// There are no tests, and the task asks for some.
    writes_tests: bool,
    rejections: usize,
    /// The first message, for a conversation that begins anew.
    first: String,
    /// What the last feedback lacks, in one sentence.
    hint: Option<String>,
    /// The task is, or may be, about taking something away.
    may_remove: bool,
    /// Files whose left-out lines the model was asked about.
    doubted: BTreeSet<String>,
}

/// How the model is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// In a new conversation, on the files as they were.
    Anew,
    /// In the same conversation, with what the tests said.
    Repair,
}

/// What became of the files of a reply.
#[derive(Debug, Default)]
struct Applied {
    changed: bool,
    /// Why something was not written: for the model.
    problems: Vec<String>,
}

impl WholeFile {
    /// What a run begins with, and its first two messages.
    pub(super) fn begin(
        prompts: &Prompts,
        files: &Files,
        walk: &Walk,
        brief: &Brief,
        view: &View,
    ) -> Result<(Self, [Message; 2]), AgentError> {
        let shown = shown::select(files, walk, view);
        let first = prompts.whole_task(brief, view, &shown)?;
        let messages =
            [Message::System { content: prompts.whole_system(brief)? }, Message::User { content: first.clone() }];
        Ok((Self::new(brief, &shown, first), messages))
    }

    fn new(brief: &Brief, shown: &Shown, first: String) -> Self {
        let named: Vec<&str> = shown.files.iter().filter(|file| file.is_named).map(|file| file.path.as_str()).collect();
        let asks_for_test = brief.instruction.to_ascii_lowercase().contains("test");
        Self {
            known: shown.files.iter().map(|file| (file.path.clone(), file.content.clone())).collect(),
            only_named: if let [only] = named[..] { Some(only.to_owned()) } else { None },
            lacks_test: brief.test_command.is_none() && asks_for_test,
            writes_tests: brief.test_command.is_none() && asks_for_test,
            rejections: 0,
            first,
            hint: None,
            may_remove: speaks_of_removing(&brief.instruction),
            doubted: BTreeSet::new(),
        }
    }

    pub(super) fn shown_paths(&self) -> BTreeSet<String> {
        self.known.keys().cloned().collect()
    }

    /// Whether an answer that is still being written begins to go round in a circle, or has the only file there is.
    pub(super) fn is_enough(&self, content: &str) -> bool {
        // Reading is not for nothing, and only a close can make it so.
        let line = content.trim_end_matches('\n').rsplit('\n').next().unwrap_or_default();
        if !content.ends_with('\n') || info_of(line) != Some("") {
            return false;
        }
        let written = read_files(content, true);
        let only =
            self.known.iter().next().filter(|(path, _)| {
                self.known.len() == 1 && self.only_named.as_ref() == Some(*path) && !self.lacks_test
            });
        let has_only = || {
            only.is_some_and(|(path, before)| {
                written.files.iter().any(|file| tools::normal(&file.path) == *path && file.content != *before)
            })
        };
        written.repeats || has_only()
    }

    /// The longest answer that makes sense: every shown file again, and new ones.
    pub(super) fn answer_tokens(&self) -> u32 {
        let bytes: usize = self.known.values().map(String::len).sum();
        u32::try_from(bytes / 3 + TOKENS_FOR_NEW_FILES).unwrap_or(u32::MAX)
    }

    /// The likeliest answer first, and others as it is rejected.
    pub(super) fn temperature(&self) -> f32 {
        match self.rejections {
            0 => 0.1,
            1 => 0.5,
            _ => 0.8,
        }
    }

    /// The feedback, with where to find a name that is missing; it is remembered for the next answer too.
    pub(super) fn explain(&mut self, feedback: &str) -> String {
        self.hint = undefined_name(feedback).and_then(|name| {
            let (path, _) = self.known.iter().find(|(_, content)| defines(content, name))?;
            let line = python_import(path, name).map(|line| format!(", with this line at its top: `{line}`"));
            let line = line.unwrap_or_default();
            Some(format!("`{name}` is defined in {path}. The file that uses it must import it from there{line}."))
        });
        match &self.hint {
            Some(hint) => format!("{feedback}\n\n{hint}"),
            None => feedback.to_owned(),
        }
    }

    /// The question whether lines that a file leaves out are to go; `None`: there are none, or it was asked already.
    fn doubt(&mut self, path: &str, content: &str) -> Option<String> {
        let before = self.known.get(path).filter(|_| !self.may_remove)?;
        let lines = left_out(content, before)?;
        self.doubted.insert(path.to_owned()).then(|| {
            let lines = clip(&lines.join("\n"), MOST_PROBLEM_BYTES);
            let fence = fence_for(&lines);
            format!(
                "{path} was not written: it leaves out these lines, and the task does not say that they are to go:\n\
                 {fence}\n{lines}\n{fence}\nWrite {path} again with them."
            )
        })
    }

    /// What follows a rejection: a model that errs seldom finds its own error, so the first thing is another try, the
    /// second to repair that one, and so on.
    pub(super) fn next_way(&mut self) -> Way {
        self.rejections += 1;
        if self.rejections % 2 == 1 { Way::Anew } else { Way::Repair }
    }
}

/// Whether a task's text has a word for taking something away.
fn speaks_of_removing(instruction: &str) -> bool {
    const WORDS: [&str; 12] = [
        "remov", "delet", "drop", "clean", "simplif", "unused", "duplicat", "dead", "strip", "merge", "refactor",
        "extract",
    ];
    let instruction = instruction.to_ascii_lowercase();
    WORDS.iter().any(|word| instruction.contains(word))
}

/// The name that a run of the tests did not find, as Python, JavaScript, Go or Rust say it.
fn undefined_name(feedback: &str) -> Option<&str> {
    let name_in = |text: &'_ str| text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let behind = |marker: &str| {
        let (_, rest) = feedback.split_once(marker)?;
        Some(&rest[..name_in(rest).unwrap_or(rest.len())])
    };
    let found = ["NameError: name '", "ReferenceError: ", "undefined: ", "cannot find function `"];
    found.into_iter().find_map(behind).filter(|name| !name.is_empty())
}

/// The line that imports `name` from a Python file.
fn python_import(path: &str, name: &str) -> Option<String> {
    let module = path.strip_suffix(".py")?.replace('/', ".");
    Some(format!("from {module} import {name}"))
}

/// Whether a file defines `name`, as most languages write it.
fn defines(content: &str, name: &str) -> bool {
    let keywords = ["def ", "class ", "function ", "func ", "fn ", "const "];
    content.lines().any(|line| {
        keywords.iter().any(|keyword| {
            let defined = line.split_once(keyword).and_then(|(_, rest)| rest.strip_prefix(name));
            defined.is_some_and(|rest| !rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_'))
        })
    })
}

impl Agent<'_> {
    /// Asks the first question again, with the change that is thrown away and what was wrong with it; on the files as
    /// they were.
    pub(super) fn begin_anew(&mut self, problem: &str) -> Result<(), AgentError> {
        let tried =
            self.change().into_iter().map(|(path, before, now)| format!("{path}\n{}", changed_lines(&before, &now)));
        let tried = elide(&tried.collect::<Vec<_>>().join("\n"), MOST_TRIED_BYTES);
        self.put_back()?;
        let Some(whole_file) = &self.whole_file else { return Ok(()) };
        let problem = elide(problem.trim(), MOST_PROBLEM_BYTES);
        let text = self.prompts.whole_anew(&whole_file.first, &tried, &problem, whole_file.writes_tests)?;
        self.history.restart();
        self.history.push(Message::User { content: text });
        Ok(())
    }

    /// What the answers have made of the files: path, content before, content now, each with LF line ends.
    fn change(&self) -> Vec<(String, String, String)> {
        let Some(whole_file) = &self.whole_file else { return Vec::new() };
        let texts = self.before.iter().map(|(path, before)| {
            let before = String::from_utf8_lossy(before.as_deref().unwrap_or_default()).replace("\r\n", "\n");
            (path.clone(), before, whole_file.known.get(path).cloned().unwrap_or_default())
        });
        texts.filter(|(_, before, now)| before.trim_end() != now.trim_end()).collect()
    }

    /// Ends the model's turn, unless the change is one that was judged before: that is rejected again at once, with the
    /// same words, so that another way of asking follows.
    fn finish_if_new(&mut self, prose: &str) -> Result<Option<Pause>, AgentError> {
        let change = self.change();
        let came = match &change[..] {
            [] => Some("The files read as before the task again.".into()),
            change => self.answers.take(change.iter().map(|(path, _, now)| (path.as_str(), now.as_str()))),
        };
        match came {
            None => Ok(Some(self.finish_whole_files(prose))),
            Some(came) => {
                self.unusable += 1;
                if self.unusable >= MOST_UNUSABLE {
                    let reason = format!("{MOST_UNUSABLE} replies in a row made changes that had been rejected");
                    return Ok(Some(Pause::Stopped(StopReason::Stuck { habit: Some(Habit::SameAnswer), reason })));
                }
                self.reject(&came)?;
                Ok(None)
            }
        }
    }

    /// Puts the files back as they were before the last answer.
    pub(super) fn put_back(&mut self) -> Result<(), AgentError> {
        for (path, content) in std::mem::take(&mut self.before) {
            let Ok(relative) = RelativePath::parse(&path) else { continue };
            let known = self.whole_file.as_mut().map(|whole_file| &mut whole_file.known);
            match content {
                Some(content) => {
                    self.files.write(&relative, &content)?;
                    let text = || text_of(&self.files, &relative).unwrap_or_default();
                    known.and_then(|known| known.insert(path, text()));
                }
                None => {
                    self.files.remove(&relative)?;
                    known.and_then(|known| known.remove(&path));
                    self.seen.remove(&path);
                }
            }
        }
        self.written.clear();
        Ok(())
    }

    pub(super) async fn act_on_whole_files(&mut self, reply: Reply) -> Result<Option<Pause>, AgentError> {
        let was_cut = reply.finish_reason == "length";
        let mut written = read_files(&reply.content, was_cut);
        let content = if reply.content.trim().is_empty() { "(no answer)".into() } else { reply.content };
        self.history.push_reply(elide(&content, MOST_HISTORY_BYTES), &[]);
        self.name_the_only_block(&mut written);
        if !written.prose.is_empty() {
            self.plan.get_or_insert_with(|| clip(&written.prose, MOST_PLAN_BYTES));
        }
        let applied = self.apply(&written).await?;
        let problem = match (applied.changed, applied.problems.is_empty()) {
            (true, true) => match self.missing_test() {
                None => return self.finish_if_new(&written.prose),
                Some(problem) => problem,
            },
            (_, false) => applied.problems.join("\n"),
            (false, true) if !written.files.is_empty() => {
                let hint = self.whole_file.as_ref().and_then(|whole_file| whole_file.hint.clone()).unwrap_or_default();
                format!("Nothing has changed: these files read so already, and so they are not right yet. {hint}")
            }
            (false, true) if !written.unnamed.is_empty() => {
                "Nothing was written, since the code block has no path before it.".into()
            }
            (false, true) if was_cut => "The answer was too long and was cut off before any file was complete.".into(),
            (false, true) => "Nothing was written: the answer has no file.".into(),
        };
        let text = self.prompts.whole_again(&problem, &self.task)?;
        self.history.push(Message::User { content: text });
        self.unusable = if applied.changed { 0 } else { self.unusable + 1 };
        // Once more from the beginning, before it counts as stuck.
        if self.unusable + 1 == MOST_UNUSABLE {
            self.begin_anew(&problem)?;
        }
        let is_stuck = self.unusable >= MOST_UNUSABLE;
        let reason = format!("{MOST_UNUSABLE} replies in a row held no file that changes anything");
        Ok(is_stuck.then_some(Pause::Stopped(StopReason::Stuck { habit: Some(Habit::Unreadable), reason })))
    }

    pub(super) fn finish_whole_files(&mut self, prose: &str) -> Pause {
        self.unusable = 0;
        self.since_finish = SinceFinish::Nothing;
        let summary = clip(prose, MOST_SUMMARY_BYTES);
        self.summary = Some(summary.clone());
        Pause::Finish { summary, no_change_needed: false }
    }

    /// One block without a path is the one file that the task names.
    fn name_the_only_block(&self, written: &mut Written) {
        let only = self.whole_file.as_ref().and_then(|whole_file| whole_file.only_named.clone());
        if let (Some(path), [block], true) = (only, &written.unnamed[..], written.files.is_empty()) {
            written.files = vec![WrittenFile { path, content: block.content.clone() }];
            written.unnamed.clear();
        }
    }

    /// What to say where the task asks for a test and none was written; said once.
    fn missing_test(&mut self) -> Option<String> {
        let whole_file = self.whole_file.as_mut()?;
        let has_test = self
            .written
            .iter()
            .any(|path| path.rsplit('/').next().is_some_and(|name| name.to_ascii_lowercase().contains("test")));
        if !std::mem::take(&mut whole_file.lacks_test) || has_test {
            return None;
        }
        Some(
            "The files are written, but none is a test file that a test runner finds. Put the test into a new file with \
             a name as the first message says; it imports what it tests."
                .into(),
        )
    }

    async fn apply(&mut self, written: &Written) -> Result<Applied, AgentError> {
        let mut applied = Applied::default();
        for file in &written.files {
            self.apply_one(file, &mut applied).await?;
        }
        for path in &written.ambiguous {
            applied.problems.push(format!(
                "{} was not written, since where it ends cannot be told: put a fence around it that is longer than any \
                 inside of it, and close it.",
                clip(path, 200)
            ));
        }
        if let Some(path) = written.cut.as_ref().and_then(|cut| cut.path.as_ref()) {
            applied.problems.push(format!(
                "The answer was too long and was cut off inside of {}, so that file was not written. Write it again, \
                 alone and shorter.",
                clip(path, 200)
            ));
        }
        Ok(applied)
    }

    /// The file that a rewrite would have lost; `None`: it cannot be shown as a whole.
    fn show_instead(&mut self, path: &str) -> Option<Answer> {
        let content = text_of(&self.files, &RelativePath::parse(path).ok()?)?;
        let fence = fence_for(&content);
        let shown = format!(
            "`{path}` exists already and you had not seen it, so it was not written. It reads:\n\n{path}\n\
             {fence}\n{content}{fence}\n"
        );
        self.whole_file.as_mut()?.known.insert(path.to_owned(), content);
        Some(Answer::error(shown))
    }

    async fn apply_one(&mut self, file: &WrittenFile, applied: &mut Applied) -> Result<(), AgentError> {
        let path = tools::normal(&file.path);
        let Some(whole_file) = &self.whole_file else { return Ok(()) };
        let before = whole_file.known.get(&path).map(String::as_str).unwrap_or_default();
        if before == file.content && !before.is_empty() {
            return Ok(());
        }
        if let Some(line) = elision(&file.content, before) {
            applied.problems.push(format!(
                "{path} was not written: `{}` stands for lines that were left out. Write out all of its lines.",
                clip(line, 100)
            ));
            return Ok(());
        }
        if file.content.trim().is_empty() && !before.trim().is_empty() {
            applied.problems.push(format!("{path} was not written: its block is empty."));
            return Ok(());
        }
        if let Some(question) = self.whole_file.as_mut().and_then(|whole_file| whole_file.doubt(&path, &file.content)) {
            applied.problems.push(question);
            return Ok(());
        }
        let answer = self.write_whole(&path, &file.content).await?;
        if !answer.ok {
            applied.problems.push(answer.text);
            return Ok(());
        }
        applied.changed |= answer.changed;
        if let Some(whole_file) = &mut self.whole_file {
            whole_file.known.insert(path, file.content.clone());
        }
        Ok(())
    }

    /// Writes one file, remembering what it was.
    pub(super) async fn write_whole(&mut self, path: &str, content: &str) -> Result<Answer, AgentError> {
        let step = self.spent.steps;
        let arguments = json!({ "path": path });
        self.events.emit(Event::Call { step, tool: "write".into(), arguments });
        let begun = Instant::now();
        // What cannot be read is refused below, or is not there.
        let original = RelativePath::parse(path).ok().and_then(|path| self.files.read(&path, MOST_ORIGINAL_BYTES).ok());
        let write = WriteArguments { path: path.to_owned(), content: content.to_owned() };
        let is_unseen = self.seen.insert(path.to_owned());
        let protected = if is_unseen { tools::protect_unseen(&self.files, &write, u64::MAX)? } else { None };
        let answer = match protected {
            Some(refused) => self.show_instead(path).unwrap_or(refused),
            None => self.edit(path.to_owned(), Action::Write(write)).await?,
        };
        if answer.changed {
            self.before.entry(path.to_owned()).or_insert(original);
        }
        let milliseconds = milliseconds_since(begun);
        let result = answer.text.clone();
        self.events.emit(Event::CallResult { step, tool: "write".into(), ok: answer.ok, result, milliseconds });
        Ok(answer)
    }
}
