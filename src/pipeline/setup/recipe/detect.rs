//! Setup by what manifests and lock files show: one fixed command of ours for each project, at the root and one folder
//! below it. What is installed must work without network afterwards.
//!
//! A command is tried, not required: where its program is not there, it ends with [`super::PROGRAM_IS_MISSING`].

mod compiled;
mod javascript;
mod python;
mod scripted;

use std::collections::BTreeMap;

use super::{Draft, Listing, Notes, Origin, RepositoryCommands, Step};
use crate::pipeline::verify::detect::{Project, own_folders};

/// Projects that are set up; further ones are noted.
const MOST_PROJECTS: usize = 12;

/// Where package managers that are not there are installed for this repository alone.
const OWN_PROGRAMS: &str = "$HOME/.local/bin";

type Find = fn(&Project<'_>, RepositoryCommands) -> Option<Found>;

const ECOSYSTEMS: [Find; 13] = [
    compiled::cargo,
    javascript::package,
    python::python,
    compiled::go,
    compiled::maven,
    compiled::gradle,
    compiled::dotnet,
    scripted::ruby,
    scripted::composer,
    scripted::mix,
    compiled::swift,
    compiled::zig,
    scripted::dart,
];

/// What one project needs.
struct Found {
    /// For people: `npm ci`.
    name: String,
    /// The program without which nothing can be done.
    program: String,
    /// Commands that get the program where it is not there.
    get: Option<String>,
    line: String,
    /// It has a lock file of its own.
    locked: bool,
    /// The projects of the same kind in folders below belong to it.
    covers_below: bool,
    /// Its manifest is a program: whoever installs runs the repository's own code.
    runs_manifest: bool,
    /// What is made depends on any file, since packages are built from the repository's sources.
    reads_sources: bool,
    /// Folders with programs, below the project's.
    paths: Vec<&'static str>,
    /// For this and every later phase.
    environment: BTreeMap<&'static str, &'static str>,
    notes: Vec<String>,
}

impl Found {
    fn new(program: &str, name: impl Into<String>, line: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            get: None,
            line: line.into(),
            locked: false,
            covers_below: false,
            runs_manifest: false,
            reads_sources: false,
            paths: Vec::new(),
            environment: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// The whole line for the shell: the program is looked for, then got, then used.
    fn guarded(&self) -> String {
        let program = &self.program;
        let found = format!("command -v {program} >/dev/null 2>&1");
        let missing = format!("{{ echo '{program} is not here' >&2; exit {}; }}", super::PROGRAM_IS_MISSING);
        let get = self
            .get
            .as_ref()
            .map(|get| format!("PATH=\"{OWN_PROGRAMS}:$PATH\"; export PATH\n{found} || {{ {get}; }} >&2\n"));
        format!("{}{found} || {missing}\n{}", get.unwrap_or_default(), self.line)
    }
}

/// What the manifests show; `None` if there is nothing to install.
pub(super) fn detect(listing: &Listing<'_>, trust: RepositoryCommands, notes: &mut Notes) -> Option<Draft> {
    let folders = own_folders(listing);
    let mut draft = Draft::of(Origin::Detected);
    for find in ECOSYSTEMS {
        let root = find(&Project { listing: *listing, folder: "" }, trust);
        let (at_root, covered) = (root.is_some(), root.as_ref().is_some_and(|found| found.covers_below));
        if let Some(found) = root {
            add(&mut draft, "", found, listing, trust, notes);
        }
        for folder in folders.iter().filter(|_| !covered) {
            let Some(found) = find(&Project { listing: *listing, folder }, trust) else { continue };
            if !at_root || found.locked {
                add(&mut draft, folder, found, listing, trust, notes);
            }
        }
    }
    for step in &mut draft.steps {
        step.environment.extend(draft.environment.clone());
    }
    (!draft.steps.is_empty()).then_some(draft)
}

fn add(
    draft: &mut Draft,
    folder: &str,
    found: Found,
    listing: &Listing<'_>,
    trust: RepositoryCommands,
    notes: &mut Notes,
) {
    let place = if folder.is_empty() { String::new() } else { format!(" in {folder}") };
    if trust == RepositoryCommands::Ignore && found.runs_manifest {
        return notes.add(format!(
            "`{}`{place} is left out: it runs code of the repository, which the operator does not let run with network",
            found.name
        ));
    }
    if draft.steps.len() == MOST_PROJECTS {
        return notes.add(format!("`{}`{place} is left out: {MOST_PROJECTS} projects are set up already", found.name));
    }
    for note in &found.notes {
        notes.add(format!("{note}{place}"));
    }
    for path in &found.paths {
        let path = if folder.is_empty() { (*path).to_owned() } else { format!("{folder}/{path}") };
        draft.paths.push(path);
    }
    if found.get.is_some() && !draft.paths.iter().any(|path| path == OWN_PROGRAMS) {
        draft.paths.push(OWN_PROGRAMS.to_owned());
    }
    if found.reads_sources {
        draft.inputs.extend(listing.paths.iter().cloned());
    }
    draft.environment.extend(found.environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    draft.steps.push(Step {
        name: format!("{}{place}", found.name),
        line: found.guarded(),
        directory: folder.to_owned(),
        environment: BTreeMap::new(),
        required: false,
    });
}

/// The lines of a file without its comments; empty if it is not there.
fn lines_of(project: &Project<'_>, file: &str, comment: &str) -> String {
    let text = project.text(file).unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with(comment)).collect::<Vec<_>>().join("\n")
}
