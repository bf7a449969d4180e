//! Finds a repository's test command by what stands in it. Pure: it sees a listing and texts, and runs nothing.
//!
//! The order, where several fit: Cargo, npm and its kin, Python, Go, Maven, Gradle, CMake, Make, Meson, dotnet, Ruby, mix,
//! Swift, Zig. The root goes before the folders below it. A project without a visible test is passed over: runners that
//! exit with 0 when there is nothing to run would verify what nobody tested.

mod compiled;
mod javascript;
mod python;
mod scripted;

use crate::outcome::TestCommand;

/// How many folders below the root are looked at.
const MOST_FOLDERS: usize = 20;

/// Folders whose contents are not the repository's own project.
pub(in crate::pipeline) const FOREIGN_FOLDERS: [&str; 17] = [
    "node_modules",
    "vendor",
    "third_party",
    "external",
    "deps",
    "venv",
    "env",
    "site-packages",
    "target",
    "build",
    "dist",
    "out",
    "examples",
    "example",
    "fixtures",
    "testdata",
    "docs",
];

/// What detection may see of a repository.
#[derive(Clone, Copy)]
pub struct Listing<'a> {
    /// Every file, relative to the root, with `/` between names.
    pub paths: &'a [String],
    /// A file's text; `None` if it is missing, no text, or too large to be worth reading.
    pub read: &'a dyn Fn(&str) -> Option<String>,
}

/// The repository's test command, or `None` if no test shows.
pub fn detect(listing: &Listing<'_>) -> Option<TestCommand> {
    let root = Project { listing: *listing, folder: "" };
    let mut found = ECOSYSTEMS.iter().filter_map(|(name, find)| Some((*name, find(&root)?)));
    if let Some((_, first)) = found.next() {
        let others: Vec<_> = found.map(|(name, _)| name).collect();
        let also = if others.is_empty() { String::new() } else { format!("; also there: {}", others.join(", ")) };
        return Some(TestCommand { command: first.command, reason: format!("{}{also}", first.evidence) });
    }
    below_the_root(listing)
}

/// A project in a folder of its own: the first by ecosystem, then by name.
fn below_the_root(listing: &Listing<'_>) -> Option<TestCommand> {
    let folders = own_folders(listing);
    let mut found = ECOSYSTEMS.iter().flat_map(|(_, find)| {
        folders.iter().filter_map(move |folder| Some((*folder, find(&Project { listing: *listing, folder })?)))
    });
    let (folder, first) = found.next()?;
    let mut others: Vec<_> = found.map(|(other, _)| other).filter(|other| *other != folder).collect();
    others.dedup();
    let also = if others.is_empty() { String::new() } else { format!("; not run: {}", others.join(", ")) };
    Some(TestCommand {
        command: format!("cd {folder} && {}", first.command),
        reason: format!("nothing at the root; in `{folder}`: {}{also}", first.evidence),
    })
}

/// The folders below the root that may hold a project of their own, by name.
pub(in crate::pipeline) fn own_folders<'a>(listing: &Listing<'a>) -> Vec<&'a str> {
    let mut folders: Vec<&str> = listing
        .paths
        .iter()
        .filter_map(|path| path.split_once('/'))
        .filter(|(folder, name)| !name.contains('/') && is_own_folder(folder) && is_plain_name(folder))
        .map(|(folder, _)| folder)
        .collect();
    folders.sort_unstable();
    folders.dedup();
    folders.truncate(MOST_FOLDERS);
    folders
}

type Find = fn(&Project<'_>) -> Option<Found>;

const ECOSYSTEMS: [(&str, Find); 14] = [
    ("Cargo", compiled::cargo),
    ("npm", javascript::package),
    ("Python", python::python),
    ("Go", compiled::go),
    ("Maven", compiled::maven),
    ("Gradle", compiled::gradle),
    ("CMake", compiled::cmake),
    ("Make", scripted::make),
    ("Meson", compiled::meson),
    ("dotnet", compiled::dotnet),
    ("Ruby", scripted::ruby),
    ("mix", scripted::mix),
    ("Swift", compiled::swift),
    ("Zig", compiled::zig),
];

/// A command and the sentence that says what it was seen by.
struct Found {
    command: String,
    evidence: String,
}

impl Found {
    fn new(command: impl Into<String>, evidence: impl Into<String>) -> Option<Self> {
        Some(Self { command: command.into(), evidence: evidence.into() })
    }
}

/// One folder of the repository; paths are relative to it.
pub(in crate::pipeline) struct Project<'a> {
    pub listing: Listing<'a>,
    /// Empty for the root, else a name without `/`.
    pub folder: &'a str,
}

impl<'a> Project<'a> {
    /// The project's own files.
    pub fn paths(&self) -> impl Iterator<Item = &'a str> {
        let folder = self.folder;
        self.listing
            .paths
            .iter()
            .filter_map(move |path| {
                if folder.is_empty() { Some(path.as_str()) } else { path.strip_prefix(folder)?.strip_prefix('/') }
            })
            .filter(|path| path.rsplit_once('/').is_none_or(|(folders, _)| folders.split('/').all(is_own_folder)))
    }

    pub fn has(&self, path: &str) -> bool {
        self.paths().any(|own| own == path)
    }

    /// The first of `names` that stands in the folder.
    pub fn first_of(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.has(name))
    }

    /// The text of a file; `None` if it is not there.
    pub fn text(&self, path: &str) -> Option<String> {
        let whole = if self.folder.is_empty() { path.to_owned() } else { format!("{}/{path}", self.folder) };
        (self.listing.read)(&whole)
    }
}

pub(in crate::pipeline) fn is_own_folder(name: &str) -> bool {
    !name.starts_with('.') && !FOREIGN_FOLDERS.contains(&name)
}

/// Whether a name can stand in a shell line as it is.
pub(in crate::pipeline) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name.chars().all(|character| character.is_ascii_alphanumeric() || "_-./".contains(character))
}

pub(in crate::pipeline) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
