//! A repository for boxes to show, where something wants one: the base as one commit, and the tags that lead to it.
//!
//! Of the real repository it has the base's tree, its time, the branch's name and the nearest tags; no history, no remote,
//! no settings, no names of people. It is made once for a task and never read again on this machine: each box has a copy.
//!
//! A tag that is not on the base itself stands on a commit of its own before it, with the same tree: `git describe` finds
//! the same tags in the same order, but counts commits that lie between as one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use git2::{
    DescribeFormatOptions, DescribeOptions, ErrorClass, Index, IndexEntry, IndexTime, ObjectType, Oid, Repository,
    Signature, Time,
};

use super::checkout::Checkout;
use super::error::{WorkspaceError, blocking};
use super::folder::Folder;
use super::git::{Access, Call};
use super::mirror::{self, in_repository};
use super::object::TaskRepository;
use super::{Remote, local};

/// A tree of more files, or more bytes, gets no repository: each box may have to copy it.
const MOST_FILES: usize = 100_000;
const MOST_BYTES: u64 = 512 << 20;
/// Tags beyond this are not looked at, and of those on one commit not taken.
const MOST_TAGS: usize = 20_000;
const MOST_ON_ONE: usize = 20;
const ACTION: &str = "make a repository for the sandbox";

/// What is in effect while it is made: an operator who wants every reference logged would be named in the log.
const CONFIG_OF_MAKING: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\tlogallrefupdates = false\n";

/// Files are compared by size and time: their owners and numbers are others in each box.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\
    \tcheckStat = minimal\n\ttrustctime = false\n";

/// A repository that boxes may be given copies of. Removed with the task's folder.
#[derive(Debug, Clone)]
pub struct StandIn {
    path: PathBuf,
    tags: Vec<String>,
    /// Which it lies in.
    _folder: Arc<Folder>,
}

/// What came of making one.
#[derive(Debug)]
pub enum Inside {
    Made(StandIn),
    /// The repository has no commit yet.
    NoCommit,
    TooLarge,
}

impl StandIn {
    /// What is to be seen as `.git`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tags in it, by name.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }
}

impl Checkout {
    /// Makes a repository of the base for boxes to show; once for a task.
    ///
    /// 1. it borrows the task's objects, and all tags of the remote, to find those that are nearest;
    /// 2. commits of its own are made, with those tags, and git packs what belongs to them;
    /// 3. it lends nothing any more, and gets its index and its settings.
    pub async fn stand_in(&self) -> Result<Inside, WorkspaceError> {
        let Some(base) = self.base.commit else { return Ok(Inside::NoCommit) };
        let draft = Draft {
            base,
            branch: self.base.branch.clone(),
            path: self.folder.path().join("inside"),
            index: self.folder.path().join("index"),
            repository: self.repository.clone(),
            filled: self.filled,
        };
        let draft = Arc::new(draft);
        let looked = Arc::clone(&draft);
        if blocking(ACTION, move || looked.is_too_large()).await? {
            return Ok(Inside::TooLarge);
        }
        if let Remote::Url { url, token } = &self.remote {
            let access = Access { url, token: token.as_ref() };
            // What is known of tags is better than nothing.
            if let Err(error) = mirror::fetch_tags(self.git(), self.cache(), access, MOST_TAGS).await {
                tracing::warn!("the newest tags may be missing in the sandbox's repository: {error}");
            }
        }
        let (begun, remote, cache) = (Arc::clone(&draft), self.remote.clone(), self.cache().to_owned());
        let tags = blocking(ACTION, move || {
            let tags = match &remote {
                Remote::Local(path) => local::tags(path)?,
                Remote::Url { url, .. } => mirror::tags(&cache, url),
            };
            begun.begin(&tags)
        });
        let tags = tags.await?;
        let mut arguments = in_repository(&draft.path);
        // What its own references lead to. `git repack` would add all that came from the remote of a blobless mirror.
        let options = ["pack-objects", "--quiet", "--all", "--delta-base-offset", "--window=0"];
        arguments.extend(options.map(OsString::from));
        arguments.push(draft.path.join("objects/pack/pack").into());
        self.git().check(Call { action: ACTION, arguments, index: None, access: None }).await?;
        let finished = Arc::clone(&draft);
        blocking(ACTION, move || finished.finish()).await?;
        Ok(Inside::Made(StandIn { path: draft.path.clone(), tags, _folder: Arc::clone(&self.folder) }))
    }
}

/// A stand-in while it is made.
struct Draft {
    base: Oid,
    branch: Option<String>,
    path: PathBuf,
    /// The base's.
    index: PathBuf,
    /// The task's.
    repository: TaskRepository,
    /// The age of files that are as on the base.
    filled: SystemTime,
}

/// A tag of the real repository.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tag {
    name: String,
    annotated: bool,
}

/// Tags by the number of commits between them and the base.
type Nearest = BTreeMap<u64, BTreeSet<Tag>>;

impl Draft {
    fn is_too_large(&self) -> Result<bool, WorkspaceError> {
        let index = Index::open(&self.index).map_err(WorkspaceError::git2(ACTION, &self.index))?;
        if index.len() > MOST_FILES {
            return Ok(true);
        }
        let repository = self.repository.open()?;
        let objects = repository.odb().map_err(self.git2())?;
        // The index has the lowest 32 bits of a file's size. A submodule is no object here.
        let size = |entry: &IndexEntry| match objects.read_header(entry.id) {
            Ok((size, _)) => size as u64,
            Err(_) => u64::from(entry.file_size),
        };
        let mut bytes = 0u64;
        Ok(index.iter().any(|entry| {
            bytes = bytes.saturating_add(size(&entry));
            bytes > MOST_BYTES
        }))
    }

    /// Makes commits, tags and the branch; answers the tags' names.
    fn begin(&self, tags: &[(String, Oid)]) -> Result<Vec<String>, WorkspaceError> {
        let draft = TaskRepository::create(self.path.clone(), &self.repository.path().join("objects"))?;
        self.write("config", CONFIG_OF_MAKING)?;
        self.write("packed-refs", &packed(tags))?;
        let nearest = nearest(&draft.open()?, self.base, tags).map_err(self.git2())?;
        let borrowed = self.path.join("packed-refs");
        fs::remove_file(&borrowed).map_err(WorkspaceError::io("remove", &borrowed))?;
        let (head, names) = self.commit(&draft.open()?, nearest).map_err(self.git2())?;
        let branch = self.branch.as_ref().filter(|branch| git2::Branch::name_is_valid(branch).unwrap_or(false));
        match branch {
            Some(branch) => {
                let reference = format!("refs/heads/{branch}");
                draft.open()?.reference(&reference, head, false, "").map_err(self.git2())?;
                self.write("HEAD", &format!("ref: {reference}\n"))?;
            }
            None => self.write("HEAD", &format!("{head}\n"))?,
        }
        Ok(names)
    }

    /// Commits the base's tree once for each distance at which there are tags, and once for the base itself.
    fn commit(&self, repository: &Repository, mut nearest: Nearest) -> Result<(Oid, Vec<String>), git2::Error> {
        let base = repository.find_commit(self.base)?;
        let (tree, time) = (base.tree()?, Time::new(base.time().seconds(), 0));
        let by = Signature::new("Nobody", "nobody@localhost", &time)?;
        let on_base = nearest.remove(&0).unwrap_or_default();
        let before = nearest.into_values().rev().map(|tags| (tags, "Before the base\n".to_owned()));
        let (mut head, mut names) = (None, Vec::new());
        for (tags, message) in before.chain([(on_base, format!("The base, {}\n", self.base))]) {
            let parents: Vec<_> = head.iter().collect();
            // Not with `Repository::commit`, which sets the time of the tree's file: it may be the user's.
            let text = repository.commit_create_buffer(&by, &by, &message, &tree, &parents)?;
            let commit = repository.find_commit(repository.odb()?.write(ObjectType::Commit, &text)?)?;
            for Tag { name, annotated } in tags {
                let made = match annotated {
                    true => repository.tag(&name, commit.as_object(), &by, &name, false),
                    false => repository.tag_lightweight(&name, commit.as_object(), false),
                };
                match made {
                    Ok(_) => names.push(name),
                    Err(error) => tracing::debug!(name, %error, "a tag is left out of the sandbox's repository"),
                }
            }
            head = Some(commit);
        }
        Ok((head.map_or(self.base, |commit| commit.id()), names))
    }

    /// Takes away what was borrowed, and adds what a repository beside a tree has.
    fn finish(&self) -> Result<(), WorkspaceError> {
        let objects = self.path.join("objects");
        let io = || WorkspaceError::io("tidy up", &objects);
        for entry in fs::read_dir(&objects).map_err(io())? {
            let entry = entry.map_err(io())?;
            // All but the pack: what was borrowed, and what was packed.
            if entry.file_name() != "pack" {
                fs::remove_dir_all(entry.path()).map_err(io())?;
            }
        }
        self.write("config", CONFIG)?;
        self.write_index().map_err(self.git2())
    }

    /// As the base's, with the sizes and times that files have in a box as long as they are as on the base.
    fn write_index(&self) -> Result<(), git2::Error> {
        let since = self.filled.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mtime = IndexTime::new(i32::try_from(since.as_secs()).unwrap_or_default(), since.subsec_nanos());
        let mut index = Index::open(&self.path.join("index"))?;
        for entry in Index::open(&self.index)?.iter() {
            let ctime = IndexTime::new(0, 0);
            index.add(&IndexEntry { mtime, ctime, dev: 0, ino: 0, uid: 0, gid: 0, ..entry })?;
        }
        index.write()
    }

    fn write(&self, name: &str, text: &str) -> Result<(), WorkspaceError> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(WorkspaceError::io("write", &path))
    }

    fn git2(&self) -> impl FnOnce(git2::Error) -> WorkspaceError + use<> {
        WorkspaceError::git2(ACTION, &self.path)
    }
}

/// Finds what tools look for: the nearest tag, the nearest that has a digit, the nearest that is annotated; each with the
/// others on its commit.
fn nearest(repository: &Repository, base: Oid, tags: &[(String, Oid)]) -> Result<Nearest, git2::Error> {
    let mut of: HashMap<Oid, Vec<Tag>> = HashMap::new();
    for (name, target) in tags.iter().take(MOST_TAGS) {
        let Ok(object) = repository.find_object(*target, None) else { continue };
        let annotated = object.kind() == Some(ObjectType::Tag);
        let (Some(name), Ok(commit)) = (name.strip_prefix("refs/tags/"), object.peel(ObjectType::Commit)) else {
            continue;
        };
        of.entry(commit.id()).or_default().push(Tag { name: name.to_owned(), annotated });
    }
    let commit = repository.find_object(base, Some(ObjectType::Commit))?;
    let found_none = |error: &git2::Error| error.class() == ErrorClass::Describe;
    let (mut any, mut numbered, annotated) = (DescribeOptions::new(), DescribeOptions::new(), DescribeOptions::new());
    any.describe_tags();
    numbered.describe_tags().pattern("*[0-9]*");
    let mut long = DescribeFormatOptions::new();
    long.abbreviated_size(40).always_use_long_format(true);
    let mut nearest = Nearest::new();
    for options in [&any, &numbered, &annotated] {
        let described = match commit.describe(options) {
            Ok(described) => described.format(Some(&long))?,
            Err(error) if found_none(&error) && nearest.is_empty() => break,
            Err(error) if found_none(&error) => continue,
            Err(error) => return Err(error),
        };
        // NAME-DISTANCE-gCOMMIT; an annotated tag says its name itself.
        let mut parts = described.rsplitn(3, '-').skip(1);
        let (Some(distance), Some(name)) = (parts.next().and_then(|text| text.parse().ok()), parts.next()) else {
            continue;
        };
        let reference = repository.find_reference(&format!("refs/tags/{name}"));
        let Ok(tagged) = reference.and_then(|reference| reference.peel(ObjectType::Commit)) else { continue };
        let others = of.remove(&tagged.id()).unwrap_or_default();
        nearest.entry(distance).or_default().extend(others.into_iter().take(MOST_ON_ONE));
    }
    Ok(nearest)
}

/// The file in which git keeps many references.
fn packed(tags: &[(String, Oid)]) -> String {
    tags.iter().take(MOST_TAGS).map(|(name, target)| format!("{target} {name}\n")).collect()
}
