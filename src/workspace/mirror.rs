//! The cached bare mirror of a remote repository: one per address, shared by all tasks and processes.
//!
//! It is a blobless partial clone where the server can make one, else a full one. A warm checkout costs one `ls-remote`
//! and one `read-tree`, at the same time if the remote says what it said before; a fetch comes in between only when the wanted commit is not there yet. Beside each mirror lies
//! its lock: exclusive for what changes the mirror, shared for reading it; and its use: shared by the tasks whose objects
//! lie in it, and touched by each, so that only what nobody needs is removed, the longest unused first.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use git2::{ObjectType, Odb, Oid};
use rustix::fs::FlockOperation;

use super::error::{WorkspaceError, blocking, make_private_folder, shown};
use super::folder::remove_tree;
use super::git::{Access, Call, Git, LONGEST_OUTPUT};
use super::lock::{Lock, LockFile};
use super::object::RAW_ATTRIBUTES;
use crate::folders;

/// `HOST/OWNER/NAME-HASH.git`.
const DEPTH: u32 = 3;
/// What the file of a mirror's use ends with.
const USE: &str = "use";
/// After so many fetches the packs are joined.
const MOST_PACKS: usize = 40;

/// A mirror that holds the wanted commit. It is locked for reading as long as this lives.
#[derive(Debug)]
pub(super) struct Ready {
    pub git_dir: PathBuf,
    pub base: Base,
    _lock: LockFile,
}

/// What the base of a task turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base {
    /// `None`: the repository has no commit yet.
    pub commit: Option<Oid>,
    /// The branch that the base is, if it is one.
    pub branch: Option<String>,
    pub default_branch: Option<String>,
}

/// What the remote says of the wanted base, before anything is fetched.
pub(super) struct Advertised {
    default_branch: Option<String>,
    head: Option<Oid>,
    branch: Option<Oid>,
    tag: Option<Oid>,
}

/// The commit that a base was when the remote was last heard of. The mirror is locked for reading as long as this lives.
pub(super) struct Guess {
    pub git_dir: PathBuf,
    pub commit: Oid,
    _lock: LockFile,
}

/// Guesses what `base` is, from the mirror alone; `None` if it knows nothing, or is being written to.
pub(super) fn guess(cache: &Path, access: Access<'_>, base: Option<&str>) -> Option<Guess> {
    let git_dir = mirror_path(cache, access.url);
    let reference = match base {
        Some(base) => format!("refs/heads/{}", base.strip_prefix("refs/heads/").unwrap_or(base)),
        None => format!("refs/heads/{}", head_branch(&git_dir)?),
    };
    if !is_whole(&git_dir) || !git2::Reference::is_valid_name(&reference) {
        return None;
    }
    let lock = LockFile::from(File::open(git_dir.with_extension("lock")).ok()?);
    rustix::fs::flock(&*lock, FlockOperation::NonBlockingLockShared).ok()?;
    let packed = || {
        let text = fs::read_to_string(git_dir.join("packed-refs")).ok()?;
        text.lines().find_map(|line| line.strip_suffix(&reference)?.strip_suffix(' ').map(str::to_owned))
    };
    let id = fs::read_to_string(git_dir.join(&reference)).ok().or_else(packed)?;
    Some(Guess { commit: Oid::from_str(id.trim()).ok()?, git_dir, _lock: lock })
}

/// Makes the mirror's tags those of the remote: a task whose base was there already has not asked for any. Other tasks wait
/// for the mirror only where there is something to fetch.
///
/// # Errors
/// The remote has more than `most`.
pub(super) async fn fetch_tags(git: &Git, cache: &Path, access: Access<'_>, most: usize) -> Result<(), WorkspaceError> {
    let arguments: Vec<OsString> =
        ["ls-remote", "--tags", "--refs", "--", access.url.as_str()].map(OsString::from).into();
    let call = Call { action: "ask the remote for its tags", arguments, index: None, access: Some(access) };
    let output = git.check(call).await?;
    let told: BTreeMap<&str, Oid> =
        lines(&output).filter_map(|(id, name)| Some((name, Oid::from_str(id).ok()?))).collect();
    // What is longer was cut.
    if told.len() > most || output.len() >= LONGEST_OUTPUT {
        let reason = format!("the remote has more than {most} tags");
        return Err(WorkspaceError::Git { action: "fetch tags", reason });
    }
    let known = tags(cache, access.url);
    if told.into_iter().eq(known.iter().map(|(name, id)| (name.as_str(), *id))) {
        return Ok(());
    }
    let git_dir = mirror_path(cache, access.url);
    let _lock = lock(&git_dir, Lock::Exclusive, git.timeout()).await?;
    fetch(git, &git_dir, access, &["+refs/tags/*:refs/tags/*"]).await
}

/// All tags that the mirror knows, by their full names. One that a fetch brings at this moment may be missing.
pub(super) fn tags(cache: &Path, url: &url::Url) -> Vec<(String, Oid)> {
    const TAGS: &str = "refs/tags/";
    let git_dir = mirror_path(cache, url);
    let packed = fs::read_to_string(git_dir.join("packed-refs")).unwrap_or_default();
    let lines = packed.lines().filter_map(|line| line.split_once(' ')).filter(|(_, name)| name.starts_with(TAGS));
    let mut tags: BTreeMap<String, String> = lines.map(|(id, name)| (name.to_owned(), id.to_owned())).collect();
    let mut folders = vec![TAGS.trim_end_matches('/').to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(git_dir.join(&folder)).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let name = format!("{folder}/{name}");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(name),
                Ok(_) => tags.extend(fs::read_to_string(entry.path()).ok().map(|id| (name, id.trim().to_owned()))),
                Err(_) => {}
            }
        }
    }
    tags.into_iter().filter_map(|(name, id)| Some((name, Oid::from_str(&id).ok()?))).collect()
}

/// Brings the mirror of `access` up to date with `base` (`None`: the default branch), of which the remote has told.
/// `remake` throws away what is there first: it was found to be damaged.
pub(super) async fn prepare(
    git: &Git,
    cache: &Path,
    access: Access<'_>,
    base: Option<&str>,
    advertised: &Advertised,
    remake: bool,
) -> Result<Ready, WorkspaceError> {
    let git_dir = mirror_path(cache, access.url);
    let parent = git_dir.parent().unwrap_or(cache);
    make_private_folder(parent)?;
    if !remake {
        let lock = lock(&git_dir, Lock::Shared, git.timeout()).await?;
        if let Some(found) = find_base(&git_dir, advertised, access, base)? {
            return Ok(Ready { git_dir, base: found, _lock: lock });
        }
    }
    let exclusive = lock(&git_dir, Lock::Exclusive, git.timeout()).await?;
    let place = git_dir.clone();
    blocking("remove what a killed clone left", move || {
        remove_leftovers(&place);
        Ok::<(), WorkspaceError>(())
    })
    .await?;
    // Another task may have fetched it in the meantime.
    let mut found = if remake { None } else { find_base(&git_dir, advertised, access, base)? };
    if found.is_none() {
        if remake || !is_whole(&git_dir) {
            clone(git, &git_dir, access).await?;
        } else {
            fetch(git, &git_dir, access, &["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]).await?;
            join_packs(git, &git_dir).await?;
        }
        found = find_base(&git_dir, advertised, access, base)?;
    }
    if found.is_none()
        && let Some(id) = base.filter(|base| is_full_id(base))
    {
        // A commit that no branch or tag leads to; many servers give it if it is asked for by name.
        if let Err(error) = fetch(git, &git_dir, access, &[id]).await {
            tracing::debug!(%error, "the server does not give this commit");
        }
        found = find_base(&git_dir, advertised, access, base)?;
    }
    let found = found.ok_or_else(|| WorkspaceError::BaseNotFound {
        base: base.unwrap_or("HEAD").to_owned(),
        remote: access.url.to_string(),
    })?;
    super::lock::share(&exclusive, &git_dir)?;
    Ok(Ready { git_dir, base: found, _lock: exclusive })
}

/// Keeps the mirror where it is until the file is closed. Its lock must be held meanwhile.
pub(super) fn hold(git_dir: &Path) -> Result<LockFile, WorkspaceError> {
    let path = git_dir.with_extension(USE);
    let file = super::lock::open(&path)?;
    rustix::fs::flock(&*file, FlockOperation::LockShared)
        .map_err(|errno| WorkspaceError::io("lock", &path)(errno.into()))?;
    file.set_modified(SystemTime::now()).map_err(WorkspaceError::io("touch", &path))?;
    Ok(file)
}

/// Removes mirrors that nobody holds, the one that was not used for the longest time first, until `bytes` are free or
/// none is left. Answers how many bytes were freed. Locks stay: who waits for one must not wait for another file.
pub(super) fn evict(cache: &Path, bytes: u64) -> u64 {
    let mut mirrors: Vec<(SystemTime, PathBuf)> =
        mirrors_below(cache, DEPTH).into_iter().map(|mirror| (last_used(&mirror), mirror)).collect();
    mirrors.sort();
    let mut freed = 0;
    for (_, git_dir) in mirrors {
        if freed >= bytes {
            break;
        }
        // In this order: who wants to use a mirror has its lock first.
        let locks = ["lock", USE].map(|name| super::lock::open(&git_dir.with_extension(name)));
        let is_free = |lock: &Result<LockFile, WorkspaceError>| {
            lock.as_ref().is_ok_and(|lock| rustix::fs::flock(&**lock, FlockOperation::NonBlockingLockExclusive).is_ok())
        };
        if !locks.iter().all(is_free) {
            continue;
        }
        let size = folders::size(&git_dir, folders::Access::Keep);
        // Moved away first: half a mirror is never met.
        let old = Discarded(git_dir.with_extension(format!("old-{}", uuid::Uuid::new_v4().simple())));
        match fs::rename(&git_dir, &old.0) {
            Ok(()) => drop(old),
            Err(error) => {
                tracing::warn!(mirror = %git_dir.display(), "the mirror cannot be removed: {error}");
                continue;
            }
        }
        tracing::info!(mirror = %git_dir.display(), "removed the mirror, for the workspace is full; it is made again when it is needed");
        freed = freed.saturating_add(size);
    }
    freed
}

/// Folders as [`mirror_path`] names them, at most `depth` levels down.
fn mirrors_below(folder: &Path, depth: u32) -> Vec<PathBuf> {
    let mut mirrors = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if path.with_extension("lock").is_file() && path.extension().is_some_and(|extension| extension == "git") {
            mirrors.push(path);
        } else if depth > 1 {
            mirrors.extend(mirrors_below(&path, depth - 1));
        }
    }
    mirrors
}

/// When a task last began to use the mirror.
fn last_used(git_dir: &Path) -> SystemTime {
    let metadata = fs::metadata(git_dir.with_extension(USE));
    metadata.and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Where a branch of the remote stands.
pub(super) async fn remote_branch(git: &Git, access: Access<'_>, branch: &str) -> Result<Option<Oid>, WorkspaceError> {
    let reference = format!("refs/heads/{branch}");
    let arguments: Vec<OsString> = ["ls-remote", "--", access.url.as_str(), &reference].map(OsString::from).into();
    let call = Call { action: "look for the branch", arguments, index: None, access: Some(access) };
    let output = git.check(call).await?;
    Ok(lines(&output).find(|(_, name)| *name == reference).and_then(|(id, _)| Oid::from_str(id).ok()))
}

/// `CACHE/HOST/OWNER/NAME-HASH.git`, of the address without its trailing `.git` or slash.
fn mirror_path(cache: &Path, url: &url::Url) -> PathBuf {
    let address = url.as_str().trim_end_matches('/');
    let address = address.strip_suffix(".git").unwrap_or(address);
    let hash = Oid::hash_object(ObjectType::Blob, address.as_bytes()).map(|id| id.to_string()).unwrap_or_default();
    let plain = |text: &str| -> String {
        let fits = |character: char| {
            if character.is_ascii_alphanumeric() || "-_.".contains(character) { character } else { '_' }
        };
        text.chars().take(100).map(fits).collect::<String>().trim_start_matches('.').to_owned()
    };
    let mut path = cache.join(plain(url.host_str().filter(|host| !host.is_empty()).unwrap_or("local")));
    let mut parts = address.rsplit('/');
    let name = plain(parts.next().unwrap_or_default());
    if let Some(owner) = parts.next().map(plain).filter(|owner| !owner.is_empty()) {
        path.push(owner);
    }
    path.push(format!("{name}-{}.git", hash.get(..12).unwrap_or_default()));
    path
}

/// Asks the remote for `base`.
pub(super) async fn advertise(git: &Git, access: Access<'_>, base: Option<&str>) -> Result<Advertised, WorkspaceError> {
    let mut arguments: Vec<OsString> =
        ["ls-remote", "--symref", "--", access.url.as_str(), "HEAD"].map(OsString::from).into();
    let branch = base.map(|base| format!("refs/heads/{}", base.strip_prefix("refs/heads/").unwrap_or(base)));
    let tag = base.map(|base| format!("refs/tags/{}", base.strip_prefix("refs/tags/").unwrap_or(base)));
    let peeled = tag.as_ref().map(|tag| format!("{tag}^{{}}"));
    for name in [&branch, &tag].into_iter().flatten() {
        if !git2::Reference::is_valid_name(name) {
            let (base, remote) = (base.unwrap_or_default().to_owned(), access.url.to_string());
            return Err(WorkspaceError::BaseNotFound { base, remote });
        }
    }
    arguments.extend([&branch, &tag, &peeled].into_iter().flatten().map(OsString::from));
    let call = Call { action: "ask the remote for its branches", arguments, index: None, access: Some(access) };
    let output = git.check(call).await?;
    let find = |wanted: Option<&str>| {
        lines(&output).find(|(_, name)| Some(*name) == wanted).and_then(|(id, _)| Oid::from_str(id).ok())
    };
    let default_branch = lines(&output)
        .find_map(|(target, name)| (name == "HEAD").then(|| target.strip_prefix("ref: refs/heads/")).flatten());
    Ok(Advertised {
        default_branch: default_branch.map(str::to_owned),
        head: lines(&output).filter(|(_, name)| *name == "HEAD").find_map(|(id, _)| Oid::from_str(id).ok()),
        branch: find(branch.as_deref()),
        tag: find(peeled.as_deref()).or_else(|| find(tag.as_deref())),
    })
}

/// The base, if the mirror holds its commit already.
pub(super) fn find_base(
    git_dir: &Path,
    advertised: &Advertised,
    access: Access<'_>,
    base: Option<&str>,
) -> Result<Option<Base>, WorkspaceError> {
    if !is_whole(git_dir) {
        return Ok(None);
    }
    let mut default_branch = advertised.default_branch.clone();
    let (commit, branch) = match base {
        Some(base) => match (advertised.branch, advertised.tag) {
            (Some(commit), _) => (commit, Some(base.strip_prefix("refs/heads/").unwrap_or(base).to_owned())),
            (None, Some(commit)) => (commit, None),
            (None, None) => match Oid::from_str(base).ok().filter(|_| is_full_id(base)) {
                Some(commit) => (commit, None),
                None => {
                    let remote = access.url.to_string();
                    return Err(WorkspaceError::BaseNotFound { base: base.to_owned(), remote });
                }
            },
        },
        None => match advertised.head {
            Some(commit) => (commit, default_branch.clone()),
            None => {
                // Nothing is there yet. The name of the branch to be born came with the clone.
                default_branch = default_branch.or_else(|| head_branch(git_dir));
                return Ok(Some(Base { commit: None, branch: default_branch.clone(), default_branch }));
            }
        },
    };
    let context = || WorkspaceError::git2("read the mirror", git_dir);
    let objects = Odb::new().map_err(context())?;
    objects.add_disk_alternate(&shown(&git_dir.join("objects"))).map_err(context())?;
    if !objects.exists(commit) {
        return Ok(None);
    }
    match objects.read_header(commit).map_err(context())? {
        (_, ObjectType::Commit) => Ok(Some(Base { commit: Some(commit), branch, default_branch })),
        (_, ObjectType::Any | ObjectType::Tree | ObjectType::Blob | ObjectType::Tag) => {
            Err(WorkspaceError::BaseNotFound {
                base: base.unwrap_or("HEAD").to_owned(),
                remote: access.url.to_string(),
            })
        }
    }
}

/// Removes what a killed process was cloning or replacing: `NAME-HASH.new-UUID` and `NAME-HASH.old-UUID` of this
/// mirror. Its lock must be held exclusively, so that none of them is in use.
fn remove_leftovers(git_dir: &Path) {
    let (Some(folder), Some(stem)) = (git_dir.parent(), git_dir.file_stem().and_then(|stem| stem.to_str())) else {
        return;
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(stem));
        let number = rest.and_then(|rest| rest.strip_prefix(".new-").or_else(|| rest.strip_prefix(".old-")));
        // Another mirror's name may begin alike, but never ends so.
        if number.is_some_and(|number| number.len() == 32 && number.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            remove_tree(&entry.path());
        }
    }
}

/// Clones beside the mirror's place and moves the whole there, so that a half-made mirror is never met.
async fn clone(git: &Git, git_dir: &Path, access: Access<'_>) -> Result<(), WorkspaceError> {
    let fresh = Discarded(git_dir.with_extension(format!("new-{}", uuid::Uuid::new_v4().simple())));
    let mut template = OsString::from("--template=");
    template.push(git.template());
    let mut arguments: Vec<OsString> =
        ["clone", "--quiet", "--bare", "--filter=blob:none", "--no-recurse-submodules"].map(OsString::from).into();
    arguments.extend([template, "--".into(), access.url.as_str().into(), fresh.0.clone().into()]);
    git.check(Call { action: "clone the repository", arguments, index: None, access: Some(access) }).await?;
    let info = fresh.0.join("info");
    fs::create_dir_all(&info).map_err(WorkspaceError::io("write", &info))?;
    fs::write(info.join("attributes"), RAW_ATTRIBUTES).map_err(WorkspaceError::io("write", &info))?;
    let old = Discarded(git_dir.with_extension(format!("old-{}", uuid::Uuid::new_v4().simple())));
    if git_dir.exists() {
        fs::rename(git_dir, &old.0).map_err(WorkspaceError::io("move away", git_dir))?;
    }
    fs::rename(&fresh.0, git_dir).map_err(WorkspaceError::io("move into place", git_dir))?;
    blocking("remove the old mirror", move || {
        drop((fresh, old));
        Ok(())
    })
    .await
}

async fn fetch(git: &Git, git_dir: &Path, access: Access<'_>, what: &[&str]) -> Result<(), WorkspaceError> {
    let mut arguments = in_repository(git_dir);
    let options = [
        "fetch",
        "--quiet",
        "--prune",
        "--no-tags",
        "--no-write-fetch-head",
        "--no-recurse-submodules",
        "--",
        "origin",
    ];
    arguments.extend(options.map(OsString::from));
    arguments.extend(what.iter().map(OsString::from));
    git.check(Call { action: "fetch from the remote", arguments, index: None, access: Some(access) }).await.map(|_| ())
}

/// Each fetch adds a pack, and many packs are slow to search. Nothing is dropped: tasks may use what no branch does.
async fn join_packs(git: &Git, git_dir: &Path) -> Result<(), WorkspaceError> {
    let packs = fs::read_dir(git_dir.join("objects/pack")).into_iter().flatten().flatten();
    let count = packs.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "pack")).count();
    if count <= MOST_PACKS {
        return Ok(());
    }
    let mut arguments = in_repository(git_dir);
    arguments.extend(["repack", "--quiet", "-a", "-d", "-k"].map(OsString::from));
    git.check(Call { action: "join the mirror's packs", arguments, index: None, access: None }).await.map(|_| ())
}

/// Waits for the lock beside the mirror, at most as long as git itself may take.
async fn lock(git_dir: &Path, lock: Lock, limit: Duration) -> Result<LockFile, WorkspaceError> {
    super::lock::wait(&git_dir.with_extension("lock"), lock, limit).await
}

/// Removed on drop, if it exists.
struct Discarded(PathBuf);

impl Drop for Discarded {
    fn drop(&mut self) {
        if self.0.exists() {
            remove_tree(&self.0);
        }
    }
}

fn is_whole(git_dir: &Path) -> bool {
    git_dir.join("HEAD").is_file() && git_dir.join("config").is_file() && git_dir.join("objects/pack").is_dir()
}

/// The branch that the mirror's `HEAD` names, born or not.
fn head_branch(git_dir: &Path) -> Option<String> {
    let head = fs::read_to_string(git_dir.join("HEAD")).ok()?;
    head.trim().strip_prefix("ref: refs/heads/").map(str::to_owned)
}

pub(super) fn is_full_id(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `--git-dir=DIRECTORY`, the start of a call's arguments.
pub(super) fn in_repository(git_dir: &Path) -> Vec<OsString> {
    let mut argument = OsString::from("--git-dir=");
    argument.push(git_dir);
    vec![argument]
}

/// The lines of `ls-remote`: what stands before and after the tab.
fn lines(output: &str) -> impl Iterator<Item = (&str, &str)> {
    output.lines().filter_map(|line| line.split_once('\t'))
}
