//! What the model is told: the templates in `prompts/`, and the repository's overview.
//!
//! Whatever comes from a task or a repository is a value of a template, never a template. A missing variable is an
//! error.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::{Environment, UndefinedBehavior, context};
use sha2::{Digest, Sha256};

use super::opening::View;
use super::profile::Profile;
use super::protocol::Protocol;
use super::protocol::fences::fence_for;
use super::shown::Shown;
use super::text::{clip, elide, keep_tail};
use super::{AgentError, Brief, tools};
use crate::model::ModelCard;
use crate::outcome::Habit;
use crate::workspace::{Files, Walk};

/// The most paths of the repository that the first message shows.
const MOST_PATHS: usize = 150;
/// The most bytes of those paths.
const MOST_LISTING_BYTES: usize = 6_000;
/// What a token has at least in the output of tests.
const BYTES_OF_A_TOKEN: usize = 3;
/// The most bytes of the baseline's output.
const MOST_BASELINE_BYTES: usize = 2_000;
/// The most bytes of an instruction; its middle is left out beyond that.
const MOST_INSTRUCTION_BYTES: usize = 48_000;
/// With more bytes than this behind the task, it is said again at the end of the message.
const MOST_BEHIND_THE_TASK: usize = 3_000;
/// How much of the task is said again.
const MOST_REMINDER_BYTES: usize = 300;
/// An operator's template is not longer than this.
const MOST_TEMPLATE_BYTES: u64 = 256 << 10;

/// The templates by their names in `prompts/`, with their built-in texts.
const BUILT_IN: [(&str, &str); 25] = [
    ("system.md", include_str!("../../prompts/system.md")),
    ("task.md", include_str!("../../prompts/task.md")),
    ("no_call.md", include_str!("../../prompts/no_call.md")),
    ("begin.md", include_str!("../../prompts/begin.md")),
    ("planned.md", include_str!("../../prompts/planned.md")),
    ("replanned.md", include_str!("../../prompts/replanned.md")),
    ("no_change.md", include_str!("../../prompts/no_change.md")),
    ("unchanged.md", include_str!("../../prompts/unchanged.md")),
    ("nudge.md", include_str!("../../prompts/nudge.md")),
    ("again.md", include_str!("../../prompts/again.md")),
    ("schema_system.md", include_str!("../../prompts/schema_system.md")),
    ("fenced_system.md", include_str!("../../prompts/fenced_system.md")),
    ("rejected.md", include_str!("../../prompts/rejected.md")),
    ("summarise.md", include_str!("../../prompts/summarise.md")),
    ("summarised.md", include_str!("../../prompts/summarised.md")),
    ("whole_system.md", include_str!("../../prompts/whole_system.md")),
    ("whole_task.md", include_str!("../../prompts/whole_task.md")),
    ("whole_again.md", include_str!("../../prompts/whole_again.md")),
    ("whole_rejected.md", include_str!("../../prompts/whole_rejected.md")),
    ("whole_anew.md", include_str!("../../prompts/whole_anew.md")),
    ("repair_system.md", include_str!("../../prompts/repair_system.md")),
    ("repair.md", include_str!("../../prompts/repair.md")),
    ("review_system.md", include_str!("../../prompts/review_system.md")),
    ("review.md", include_str!("../../prompts/review.md")),
    ("reviewed.md", include_str!("../../prompts/reviewed.md")),
];

/// What stands in the place of one of them in a profile: in `prompts/PROFILE/`.
const BUILT_IN_OF_PROFILES: [(Profile, &str, &str); 2] = [
    (Profile::Small, "system.md", include_str!("../../prompts/small/system.md")),
    (Profile::Large, "system.md", include_str!("../../prompts/large/system.md")),
];

/// One file that is asked for, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) path: &'a str,
    /// With numbers before the lines, where `way` speaks of them.
    pub(super) content: &'a str,
    /// It is functions of the file, and not the whole.
    pub(super) is_part: bool,
    /// `plain`, `trace`, `told` or `describe`.
    pub(super) way: &'a str,
    /// The code of the first failing test, and what it printed before any change.
    pub(super) test: &'a str,
    pub(super) failure: &'a str,
    /// The change of an earlier answer, and what came of it; without a change, why the last answer was of no use.
    pub(super) tried: &'a str,
    pub(super) problem: &'a str,
}

/// A name for all that the templates say: the built-in ones, and the operator's instead of them.
pub fn digest(folder: Option<&Path>) -> Result<String, AgentError> {
    let mut hasher = Sha256::new();
    let of_profiles = BUILT_IN_OF_PROFILES.iter().map(|(_, name, text)| (*name, *text));
    for (name, text) in BUILT_IN.into_iter().chain(of_profiles) {
        hasher.update(format!("{name}\n{}\n{text}", text.len()));
    }
    for (name, _) in BUILT_IN {
        let Some(folder) = folder else { break };
        let of_profiles = Profile::ALL.map(|profile| folder.join(profile.name()));
        for place in of_profiles.iter().map(PathBuf::as_path).chain([folder]) {
            let text = overriding(&place.join(name))?.unwrap_or_default();
            hasher.update(format!("{name}\n{}\n{text}", text.len()));
        }
    }
    Ok(hex::encode(hasher.finalize()))
}

/// The templates, ready to render.
#[derive(Debug)]
pub(super) struct Prompts(Environment<'static>);

impl Prompts {
    /// Loads the templates of a profile: of each, the first that is there of the operator's for the profile, the
    /// operator's, the built-in one for the profile, the built-in one. In them, `protocol` is the protocol's name, and
    /// `calls_seen` says that the model was seen to call tools in the server's form.
    pub(super) fn load(
        folder: Option<&Path>,
        profile: Profile,
        protocol: Protocol,
        card: &ModelCard,
    ) -> Result<Self, AgentError> {
        let mut environment = Environment::new();
        environment.add_global("protocol", protocol.name());
        environment.add_global("calls_seen", card.abilities.unwrap_or_default().native_calls.is_yes());
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // Prompts are no HTML, whatever their names end with.
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        for (name, built_in) in BUILT_IN {
            let of_operator = match folder {
                Some(folder) => match overriding(&folder.join(profile.name()).join(name))? {
                    Some(text) => Some(text),
                    None => overriding(&folder.join(name))?,
                },
                None => None,
            };
            let of_profile = BUILT_IN_OF_PROFILES.iter().find(|(own, other, _)| *own == profile && *other == name);
            let built_in = of_profile.map_or(built_in, |(_, _, text)| text);
            let text = of_operator.map_or(Cow::Borrowed(built_in), Cow::Owned);
            environment.add_template_owned(name, text).map_err(|error| AgentError::Prompt(explain(name, &error)))?;
        }
        Ok(Self(environment))
    }

    /// `tools`: the actions, a line each.
    pub(super) fn schema_system(&self, tools: &str) -> Result<String, AgentError> {
        self.render("schema_system.md", context! { tools => tools })
    }

    pub(super) fn fenced_system(&self) -> Result<String, AgentError> {
        self.render("fenced_system.md", context! {})
    }

    pub(super) fn system(&self) -> Result<String, AgentError> {
        self.render("system.md", context! {})
    }

    /// The first message: the task, the repository's overview, the tests and how they fare before any change.
    pub(super) fn task(&self, brief: &Brief, view: &View) -> Result<String, AgentError> {
        let code = Some(view.failing.text.as_str()).filter(|text| !text.is_empty()).map(|text| quoted("code", text));
        let map = quoted("files", &view.map.text);
        let baseline = baseline_of(brief, view);
        let body =
            self.render("task.md", context! { map, code, baseline, notes => notes_of(view), ..values_of(brief) })?;
        let is_long = body.len().saturating_sub(brief.instruction.len()) > MOST_BEHIND_THE_TASK;
        Ok(format!("{body}{}", self.ending(brief, is_long)?))
    }

    /// What the first message ends with.
    fn ending(&self, brief: &Brief, is_long: bool) -> Result<String, AgentError> {
        Ok(format!("\n\n{}", self.render("begin.md", context! { is_long, task => reminder(brief) })?))
    }

    /// The first message without its end, for one that goes on with something else than the beginning.
    fn without_ending<'a>(&self, first: &'a str, brief: &Brief) -> Result<&'a str, AgentError> {
        for is_long in [true, false] {
            if let Some(body) = first.strip_suffix(&self.ending(brief, is_long)?) {
                return Ok(body);
            }
        }
        Ok(first)
    }

    /// What the model is asked for when the conversation has to become shorter.
    pub(super) fn summarise(&self) -> Result<String, AgentError> {
        self.render("summarise.md", context! {})
    }

    /// The first message, with what was done since.
    pub(super) fn summarised(
        &self,
        first: &str,
        brief: &Brief,
        plan: Option<&str>,
        files: &[&str],
        done: &str,
    ) -> Result<String, AgentError> {
        let first = self.without_ending(first, brief)?;
        let task = reminder(brief);
        self.render("summarised.md", context! { first, task, plan, files => files.join(", "), done })
    }

    /// What rejected the change, for a model that calls tools.
    pub(super) fn rejected(&self, feedback: &str) -> Result<String, AgentError> {
        self.render("rejected.md", context! { feedback => feedback })
    }

    pub(super) fn whole_system(&self, brief: &Brief) -> Result<String, AgentError> {
        self.render("whole_system.md", context! { lacks_test => lacks_test(brief) })
    }

    /// The first message where the model writes whole files: the task, the files, the tests.
    pub(super) fn whole_task(&self, brief: &Brief, view: &View, shown: &Shown) -> Result<String, AgentError> {
        let files: Vec<minijinja::Value> = shown
            .files
            .iter()
            .map(|file| {
                let fence = fence_for(&file.content);
                let language = language_of(&file.path);
                context! { path => &file.path, content => &file.content, fence => fence, language => language }
            })
            .collect();
        let bytes = shown.files.iter().map(|file| file.content.len()).sum::<usize>() + shown.hidden.len();
        self.render(
            "whole_task.md",
            context! {
                is_long => bytes > MOST_BEHIND_THE_TASK,
                task => reminder(brief),
                lacks_test => lacks_test(brief),
                files,
                hidden => &shown.hidden,
                notes => notes_of(view),
                baseline => baseline_of(brief, view),
                ..values_of(brief)
            },
        )
    }

    /// `problem`: why the last answer is not enough.
    pub(super) fn whole_again(&self, problem: &str, task: &str) -> Result<String, AgentError> {
        self.render("whole_again.md", context! { problem => problem, task => task })
    }

    /// What rejected the change that the model is to repair.
    pub(super) fn whole_rejected(&self, feedback: &str, task: &str) -> Result<String, AgentError> {
        self.render("whole_rejected.md", context! { feedback => feedback, task => task })
    }

    /// The first message, with the change that was thrown away and what came of it. `writes_tests`: there are none yet.
    pub(super) fn whole_anew(
        &self,
        first: &str,
        tried: &str,
        problem: &str,
        writes_tests: bool,
    ) -> Result<String, AgentError> {
        let data = |name: &str, text: &str| (!text.is_empty()).then(|| quoted(name, text));
        let (tried, problem) = (data("change", tried), data("output", problem));
        self.render("whole_anew.md", context! { first, tried, problem, writes_tests })
    }

    pub(super) fn repair_system(&self) -> Result<String, AgentError> {
        self.render("repair_system.md", context! {})
    }

    /// The question for one file, in which something is wrong.
    pub(super) fn repair(&self, brief: &Brief, asked: &Asked<'_>) -> Result<String, AgentError> {
        let Asked { path, content, is_part, way, test, failure, tried, problem } = *asked;
        let (fence, language) = (fence_for(content), language_of(path));
        let data = |name: &str, text: &str| (!text.is_empty()).then(|| quoted(name, text));
        let (test, failure) = (data("test", test), data("output", failure));
        let (tried, problem) = (data("change", tried), data("output", problem));
        let own = context! { path, content, is_part, way, test, failure, tried, problem, fence, language };
        self.render("repair.md", context! { ..own, ..values_of(brief) })
    }

    pub(super) fn review_system(&self) -> Result<String, AgentError> {
        self.render("review_system.md", context! {})
    }

    /// The question whether a change is right for its task.
    pub(super) fn review(&self, brief: &Brief, diff: &str) -> Result<String, AgentError> {
        self.render("review.md", context! { diff => quoted("diff", diff.trim_end()), ..values_of(brief) })
    }

    /// What a review has found, for whoever made the change.
    pub(super) fn reviewed(&self, findings: &str) -> Result<String, AgentError> {
        self.render("reviewed.md", context! { findings => quoted("findings", findings) })
    }

    pub(super) fn no_call(&self, tools: &str) -> Result<String, AgentError> {
        self.render("no_call.md", context! { tools => tools })
    }

    pub(super) fn no_change(&self) -> Result<String, AgentError> {
        self.render("no_change.md", context! { is_red => false })
    }

    /// The first answer to a model that says that nothing is to be changed, where the tests fail.
    pub(super) fn still_red(&self) -> Result<String, AgentError> {
        self.render("no_change.md", context! { is_red => true })
    }

    pub(super) fn unchanged(&self) -> Result<String, AgentError> {
        self.render("unchanged.md", context! {})
    }

    pub(super) fn planned(&self, task: &str) -> Result<String, AgentError> {
        self.render("planned.md", context! { task => task })
    }

    pub(super) fn replanned(&self, task: &str) -> Result<String, AgentError> {
        self.render("replanned.md", context! { task => task })
    }

    /// What to say of a habit. `call`: what the model did last.
    pub(super) fn nudge(&self, habit: Habit, call: &str, task: &str) -> Result<String, AgentError> {
        self.render("nudge.md", context! { habit => habit.name(), call => call, task => task })
    }

    /// The first message of a conversation that begins again, with what was done before.
    pub(super) fn again(&self, first: &str, brief: &Brief, values: minijinja::Value) -> Result<String, AgentError> {
        let first = self.without_ending(first, brief)?;
        self.render("again.md", context! { first, task => reminder(brief), ..values })
    }

    fn render(&self, name: &str, values: minijinja::Value) -> Result<String, AgentError> {
        let rendered = self.0.get_template(name).and_then(|template| template.render(values));
        rendered.map(|text| text.trim_end().to_owned()).map_err(|error| AgentError::Prompt(explain(name, &error)))
    }
}

/// What a fence around a file says of it.
fn language_of(path: &str) -> &str {
    path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, ending)| ending)
}

/// The title and the beginning of the instruction, to be said again.
pub(super) fn reminder(brief: &Brief) -> String {
    let (title, instruction) = (brief.title.trim(), brief.instruction.trim());
    match title.is_empty() || instruction.starts_with(title) {
        true => clip(instruction, MOST_REMINDER_BYTES),
        false => clip(&format!("{title}: {instruction}"), MOST_REMINDER_BYTES),
    }
}

/// Whether the task asks for a test, and there is none yet.
fn lacks_test(brief: &Brief) -> bool {
    brief.test_command.is_none() && brief.instruction.to_ascii_lowercase().contains("test")
}

/// What the repository says of itself.
fn notes_of(view: &View) -> Vec<minijinja::Value> {
    let notes = view.instructions.iter();
    notes.map(|note| quoted("notes", &format!("{}:\n{}", one_line(&note.path), note.content.trim_end()))).collect()
}

/// The task and its tests, as every kind of first message needs them.
fn values_of(brief: &Brief) -> minijinja::Value {
    let title = brief.title.trim();
    context! {
        // A title that only repeats the instruction costs tokens for nothing.
        title => if brief.instruction.trim().starts_with(title) { "" } else { title },
        instruction => quoted("task", &elide(brief.instruction.trim(), MOST_INSTRUCTION_BYTES)),
        test_command => brief.test_command.as_ref().map(|command| command.command.as_str()),
    }
}

/// How the tests fared before any change, unless they passed: what is told of them, or as much of the end as fits.
fn baseline_of(brief: &Brief, view: &View) -> Option<minijinja::Value> {
    let run = brief.baseline.as_ref().filter(|run| run.ending != crate::outcome::TestEnding::Passed)?;
    let most = usize::try_from(view.allowance.output).unwrap_or(usize::MAX).saturating_mul(BYTES_OF_A_TOKEN);
    let told = run.told();
    let output = match told.len() <= most {
        true => told,
        false => keep_tail(run.excerpt.trim(), most.min(MOST_BASELINE_BYTES)),
    };
    Some(context! { ending => run.ending.describe(), output => quoted("output", output.trim()) })
}

/// A text of others in a tag that it cannot close: one that it does not hold.
pub(super) fn quoted(name: &str, text: &str) -> minijinja::Value {
    let lower = text.to_lowercase();
    let mut tag = name.to_owned();
    let mut number = 1;
    while lower.contains(&format!("</{tag}")) {
        tag = format!("{name}-{number}");
        number += 1;
    }
    context! { tag => tag, text => text }
}

/// A path may hold line ends.
fn one_line(path: &str) -> String {
    path.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// The repository's files, as many as fit: all of them, or the shallow ones and how many each folder has.
pub(super) fn listing(files: &Files, walk: &Walk) -> String {
    let paths: Vec<&str> = walk.files.iter().map(|file| file.path.as_str()).collect();
    if paths.is_empty() {
        return "(the repository is empty)".into();
    }
    let bytes: usize = paths.iter().map(|path| path.len() + 1).sum();
    if paths.len() <= MOST_PATHS && bytes <= MOST_LISTING_BYTES && !walk.truncated {
        return paths.join("\n");
    }
    let mut lines = Vec::new();
    let mut folders: BTreeMap<&str, usize> = BTreeMap::new();
    for (folder, _) in paths.iter().filter_map(|path| path.split_once('/')) {
        *folders.entry(folder).or_default() += 1;
    }
    // A walk that was cut short may have missed whole folders: name them at least.
    for folder in top_folders(files) {
        match folders.get(folder.as_str()) {
            Some(count) => lines.push(format!("{folder}/ ({count} files)")),
            None if walk.truncated => lines.push(format!("{folder}/")),
            None => {}
        }
    }
    let mut shallow = paths.clone();
    shallow.sort_by_key(|path| (path.matches('/').count(), *path));
    let mut left = MOST_LISTING_BYTES.saturating_sub(lines.iter().map(|line| line.len() + 1).sum());
    let mut shown = 0;
    for path in shallow.into_iter().take(MOST_PATHS) {
        let Some(rest) = left.checked_sub(path.len() + 1) else { break };
        left = rest;
        shown += 1;
        lines.push(path.to_owned());
    }
    let more = if walk.truncated { "many".to_owned() } else { (paths.len() - shown).to_string() };
    lines.push(format!("(and {more} more files)"));
    lines.join("\n")
}

/// The folders at the root.
pub(super) fn top_folders(files: &Files) -> Vec<String> {
    let top = files.list(None, MOST_PATHS).map(|listing| listing.entries).unwrap_or_default();
    let folders = top.into_iter().filter(|entry| entry.kind == crate::workspace::Kind::Directory);
    folders.map(|entry| entry.name).collect()
}

fn overriding(path: &Path) -> Result<Option<String>, AgentError> {
    let fail = |reason: String| AgentError::Prompt(format!("cannot read `{}`: {reason}", path.display()));
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail(error.to_string())),
        Ok(metadata) if metadata.len() > MOST_TEMPLATE_BYTES => Err(fail("it is too long for a prompt".into())),
        Ok(_) => std::fs::read_to_string(path).map(Some).map_err(|error| fail(error.to_string())),
    }
}

fn explain(name: &str, error: &minijinja::Error) -> String {
    format!("the prompt `{name}` cannot be rendered: {error:#}")
}
