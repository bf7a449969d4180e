//! How the tests of a repository are made able to run: which commands, from where. Pure: it sees a listing and texts, and
//! runs nothing.
//!
//! The first of these that says something wins, all of them as they stand in the base commit:
//!
//! 1. the operator's config for the repository;
//! 2. `.patchwright.toml` of the repository;
//! 3. the `run` steps of `.github/workflows/copilot-setup-steps.yml`;
//! 4. the commands of `devcontainer.json`;
//! 5. what its manifests and lock files show.
//!
//! The texts are a stranger's: sizes, depths and numbers are bounded, and what cannot be understood is an error with the
//! file's name or a note, never a guess.

mod copilot;
mod detect;
mod devcontainer;
mod inputs;
mod own;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::outcome::printable;
use crate::pipeline::verify::Listing;

/// More steps than this are refused.
const MOST_STEPS: usize = 50;
/// A longer line is refused.
const LONGEST_LINE: usize = 16 << 10;
/// A larger file of commands is refused.
const LARGEST_FILE: usize = 256 << 10;
/// Variables of one step.
const MOST_VARIABLES: usize = 64;
/// Bytes of a variable's value.
const LONGEST_VALUE: usize = 4 << 10;
/// Notes that are kept; more are counted.
const MOST_NOTES: usize = 40;
/// Characters of a foreign name or message that are shown.
const LONGEST_SHOWN: usize = 120;

/// The exit code of a detected step whose program is not there.
pub const PROGRAM_IS_MISSING: i32 = 86;

/// What makes the tests of a repository able to run.
///
/// What was made by a recipe is right for others with the same recipe (it is `Serialize` to be hashed) and the same
/// contents of its `inputs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recipe {
    pub origin: Origin,
    /// In order. None: there is nothing to do, and whoever gave the recipe says so.
    pub steps: Vec<Step>,
    pub image: Option<Image>,
    /// Files whose contents decide what the steps make. All of them are in the listing.
    pub inputs: BTreeSet<String>,
    /// Folders with programs that the steps install, to stand before all others in `PATH` in every later phase: below the
    /// root, or below `$HOME/`. Plain names, fit for a shell line as they are.
    pub paths: Vec<String>,
    /// For every later phase.
    pub environment: BTreeMap<String, String>,
    /// What was left out and why, each on one line, for people.
    pub notes: Vec<String>,
}

/// One command of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// For people; one line.
    pub name: String,
    /// For `sh -c`.
    pub line: String,
    /// Below the root; empty for the root itself.
    pub directory: String,
    pub environment: BTreeMap<String, String>,
    /// Whether its failure is the recipe's. What somebody wrote down is required; what was detected is tried, and ends
    /// with [`PROGRAM_IS_MISSING`] where its program is not there.
    pub required: bool,
}

/// Who gave a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    Operator,
    PatchwrightFile,
    CopilotSetupSteps,
    Devcontainer,
    Detected,
}

impl Origin {
    /// Where it stands, in words.
    pub fn describe(self) -> &'static str {
        match self {
            Origin::Operator => "the operator's config",
            Origin::PatchwrightFile => ".patchwright.toml",
            Origin::CopilotSetupSteps => "copilot-setup-steps.yml",
            Origin::Devcontainer => "devcontainer.json",
            Origin::Detected => "detected",
        }
    }
}

/// The container image to work in. One that the repository names is a stranger's wish, not an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    pub name: String,
    pub wanted_by: Origin,
}

/// What the operator says of a repository.
#[derive(Debug, Clone, Default)]
pub struct Operator {
    /// Lines for `sh -c`; an empty list means that there is nothing to do.
    pub setup: Option<Vec<String>>,
    pub image: Option<String>,
}

/// Whether commands that a repository gives may run before its tests do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepositoryCommands {
    #[default]
    Run,
    /// Its files of commands are passed over, packages are installed without their scripts where the tool can do so, and
    /// not at all where the manifest itself is a program.
    Ignore,
}

/// A file of commands that nobody can follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}. Mend it, or give `setup` for this repository in patchwright.toml")]
pub struct RecipeError {
    /// The file, or the key of the operator's config.
    pub file: String,
    pub reason: String,
}

/// Finds the recipe for a repository; `None` if nothing says that there is something to set up.
pub fn find(
    listing: &Listing<'_>,
    operator: &Operator,
    trust: RepositoryCommands,
) -> Result<Option<Recipe>, RecipeError> {
    let mut notes = Notes::default();
    let mut image = operator.image.clone().map(|name| Image { name, wanted_by: Origin::Operator });
    let mut found = operators(operator)?;
    for (origin, read) in GIVEN {
        if found.is_some() {
            break;
        }
        match (trust, read(listing, &mut notes)?) {
            (_, None) => {}
            (RepositoryCommands::Ignore, Some(given)) => notes.forget_to(format!(
                "`{}` was not followed: the operator lets no commands of this repository run",
                given.file
            )),
            (RepositoryCommands::Run, Some(given)) => {
                image = image.or(given.image.map(|name| Image { name, wanted_by: origin }));
                found = given.steps.map(|steps| Draft { origin, steps, inputs: given.inputs, ..Draft::of(origin) });
            }
        }
    }
    let draft = found.or_else(|| detect::detect(listing, trust, &mut notes));
    // What was left out is worth to be told, and an image to be known, without a step too.
    let worth_telling = image.is_some() || !notes.lines.is_empty();
    let Some(draft) = draft.or_else(|| worth_telling.then(|| Draft::of(Origin::Detected))) else { return Ok(None) };
    draft.finish(listing, image, notes).map(Some)
}

/// Puts the recipe's folders of programs before all others in `PATH`, for a line that runs with the root at `workspace`.
pub fn with_paths(recipe: &Recipe, workspace: &str, line: &str) -> String {
    if recipe.paths.is_empty() {
        return line.to_owned();
    }
    let place = |path: &String| match path.starts_with("$HOME/") {
        true => path.clone(),
        false => format!("{workspace}/{path}"),
    };
    let folders: Vec<String> = recipe.paths.iter().map(place).collect();
    format!("PATH=\"{}:$PATH\"; export PATH\n{line}", folders.join(":"))
}

/// A reader of one file of commands.
type ReadGiven = fn(&Listing<'_>, &mut Notes) -> Result<Option<Given>, RecipeError>;

const GIVEN: [(Origin, ReadGiven); 3] = [
    (Origin::PatchwrightFile, own::read),
    (Origin::CopilotSetupSteps, copilot::read),
    (Origin::Devcontainer, devcontainer::read),
];

/// What a file of the repository says.
struct Given {
    file: String,
    /// `None`: it says nothing of commands, and the next source is asked.
    steps: Option<Vec<Step>>,
    image: Option<String>,
    /// Further files that it names as inputs.
    inputs: BTreeSet<String>,
}

/// A recipe before its limits were checked.
struct Draft {
    origin: Origin,
    steps: Vec<Step>,
    inputs: BTreeSet<String>,
    paths: Vec<String>,
    environment: BTreeMap<String, String>,
}

impl Draft {
    fn of(origin: Origin) -> Self {
        Self { origin, steps: Vec::new(), inputs: BTreeSet::new(), paths: Vec::new(), environment: BTreeMap::new() }
    }

    /// Checks the limits and adds what every recipe has.
    fn finish(mut self, listing: &Listing<'_>, image: Option<Image>, notes: Notes) -> Result<Recipe, RecipeError> {
        let file = match self.origin {
            Origin::Operator => "setup",
            Origin::PatchwrightFile => own::FILE,
            Origin::CopilotSetupSteps => copilot::FILE,
            Origin::Devcontainer => "devcontainer.json",
            Origin::Detected => "the detected setup",
        };
        if self.steps.len() > MOST_STEPS {
            return refused(file, format!("{} steps are more than {MOST_STEPS}", self.steps.len()));
        }
        for step in &mut self.steps {
            step.name = shown(&step.name);
            check_step(step).map_err(|reason| RecipeError { file: file.into(), reason })?;
        }
        if let Some(image) = image.as_ref().filter(|image| !is_image(&image.name)) {
            return refused(file, format!("`{}` is no name of an image", shown(&image.name)));
        }
        self.inputs.extend(inputs::inputs(listing, &self.steps));
        Ok(Recipe {
            origin: self.origin,
            steps: self.steps,
            image,
            inputs: self.inputs,
            paths: self.paths,
            environment: self.environment,
            notes: notes.finish(),
        })
    }
}

/// Notes for people, bounded.
#[derive(Default)]
struct Notes {
    lines: Vec<String>,
}

impl Notes {
    fn add(&mut self, note: impl AsRef<str>) {
        let line = one_line(note.as_ref(), 3 * LONGEST_SHOWN);
        if !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }

    /// Keeps this one only: the others are of a file that is not followed.
    fn forget_to(&mut self, note: String) {
        self.lines.retain(|line| line.contains("was not followed"));
        self.add(note);
    }

    fn finish(mut self) -> Vec<String> {
        if self.lines.len() > MOST_NOTES {
            let more = self.lines.len() - MOST_NOTES;
            self.lines.truncate(MOST_NOTES);
            self.lines.push(format!("and {more} more"));
        }
        self.lines
    }
}

fn operators(operator: &Operator) -> Result<Option<Draft>, RecipeError> {
    let Some(lines) = &operator.setup else { return Ok(None) };
    let steps = lines.iter().map(|line| step_of(line)).collect();
    Ok(Some(Draft { steps, ..Draft::of(Origin::Operator) }))
}

/// A required step at the root, named by its line.
fn step_of(line: &str) -> Step {
    Step {
        name: line.to_owned(),
        line: line.to_owned(),
        directory: String::new(),
        environment: BTreeMap::new(),
        required: true,
    }
}

fn check_step(step: &Step) -> Result<(), String> {
    if step.line.contains('\0') {
        return Err(format!("the step `{}` holds a zero byte", step.name));
    }
    if step.line.len() > LONGEST_LINE {
        return Err(format!("the step `{}` is longer than {} KiB", step.name, LONGEST_LINE >> 10));
    }
    if step.environment.len() > MOST_VARIABLES {
        return Err(format!("the step `{}` has more than {MOST_VARIABLES} variables", step.name));
    }
    for (name, value) in &step.environment {
        if !is_variable(name) || value.contains('\0') || value.len() > LONGEST_VALUE {
            return Err(format!("the variable `{}` of the step `{}` cannot be set", shown(name), step.name));
        }
    }
    Ok(())
}

/// A file of commands: `None` if it is not there.
fn text_of(listing: &Listing<'_>, file: &str) -> Result<Option<String>, RecipeError> {
    match (listing.read)(file) {
        Some(text) if text.len() > LARGEST_FILE => {
            refused(file, format!("it is larger than {} KiB", LARGEST_FILE >> 10))
        }
        Some(text) => Ok(Some(text)),
        None if listing.paths.iter().any(|path| path == file) => refused(file, "it is no text, or too large".into()),
        None => Ok(None),
    }
}

fn refused<T>(file: &str, reason: String) -> Result<T, RecipeError> {
    Err(RecipeError { file: shown(file), reason })
}

/// A parser's complaint, on one line.
fn complaint(error: impl std::fmt::Display) -> String {
    one_line(&error.to_string(), 2 * LONGEST_SHOWN)
}

/// Foreign text on one line, cut.
fn shown(text: &str) -> String {
    one_line(text, LONGEST_SHOWN)
}

fn one_line(text: &str, longest: usize) -> String {
    // Before it is made printable: what follows is not shown anyway.
    let head: String = text.chars().take(longest * 8).collect();
    let words = printable(&head).split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(longest) {
        Some(_) => words.chars().take(longest - 1).chain(['…']).collect(),
        None => words,
    }
}

/// A word for `sh` that stands for exactly this text.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn is_variable(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// `registry.example:5000/team/name:tag@sha256:...`
fn is_image(name: &str) -> bool {
    name.len() <= 512
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || "._-/:@+".contains(character))
}

/// A folder below the root as it is written in files of commands; `None` if it leads elsewhere.
fn folder_below(text: &str) -> Option<String> {
    if text.starts_with('/') || text.contains(['\0', '\n', '\\', '$', '~']) || text.len() > 1024 {
        return None;
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    (!parts.contains(&"..")).then(|| parts.join("/"))
}

/// Whether a line asks for the powers of root, which no sandbox has.
fn needs_root(line: &str) -> bool {
    line.split(|character: char| character.is_whitespace() || ";&|(){}`\"'".contains(character))
        .any(|word| matches!(word, "sudo" | "apt-get" | "apt" | "dnf" | "yum" | "apk" | "docker" | "systemctl"))
}
