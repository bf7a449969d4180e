//! How a test makes a repository: real commits in a real bare repository.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use super::state::{Permission, Repository};
use super::{BOT, Shared};
use crate::clock::now;
use crate::git;

/// A repository in the making; [`create`](Self::create) makes it.
pub struct RepositoryBuilder {
    shared: Arc<Shared>,
    full_name: String,
    default_branch: String,
    private: bool,
    filter: bool,
    bot: Permission,
    commits: Vec<Commit>,
}

/// One commit: files over those of the commit before, then a script in the working folder.
#[derive(Default)]
struct Commit {
    message: String,
    folder: Option<PathBuf>,
    files: Vec<(String, Vec<u8>)>,
    script: Option<PathBuf>,
}

impl RepositoryBuilder {
    pub(super) fn new(shared: Arc<Shared>, full_name: &str) -> Self {
        Self {
            shared,
            full_name: full_name.to_owned(),
            default_branch: "main".into(),
            private: false,
            filter: true,
            bot: Permission::Write,
            commits: Vec::new(),
        }
    }

    /// A default branch of another name than `main`.
    pub fn default_branch(mut self, name: &str) -> Self {
        self.default_branch = name.to_owned();
        self
    }

    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// The server answers no partial clone: `--filter` is ignored with a warning, as older servers do.
    pub fn without_filter(mut self) -> Self {
        self.filter = false;
        self
    }

    /// What [`BOT`] may do here; `Write` unless told otherwise.
    pub fn bot(mut self, permission: Permission) -> Self {
        self.bot = permission;
        self
    }

    /// A commit with everything in `folder`, modes and symbolic links included.
    pub fn folder(mut self, folder: &Path) -> Self {
        let commit = Commit { message: "Import".into(), folder: Some(folder.to_owned()), ..Commit::default() };
        self.commits.push(commit);
        self
    }

    /// A commit with these files, over those that are there.
    pub fn commit(mut self, message: &str, files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
        self.commits.push(Commit { message: message.into(), files, ..Commit::default() });
        self
    }

    /// Runs `sh script` in the working folder before the last commit, for what cannot be plain files in a test's data.
    pub fn script(mut self, script: &Path) -> Self {
        if let Some(commit) = self.commits.last_mut() {
            commit.script = Some(script.to_owned());
        }
        self
    }

    /// Makes the repository and returns its bare folder. Without a commit it is empty.
    pub async fn create(self) -> anyhow::Result<PathBuf> {
        let (owner, name) = self.full_name.split_once('/').context("a repository is named owner/name")?;
        let path = self.shared.folder.join(format!("{owner}+{name}.git"));
        let head = format!("--initial-branch={}", self.default_branch);
        let folder = path.to_string_lossy().into_owned();
        git::bytes(&self.shared.folder, &["init", "--quiet", "--bare", "--template=", &head, &folder]).await?;
        let filter = if self.filter { "true" } else { "false" };
        for (key, value) in [
            ("http.receivepack", "true"),
            ("uploadpack.allowFilter", filter),
            ("uploadpack.allowAnySHA1InWant", filter),
            ("receive.denyDeleteCurrent", "warn"),
            ("gc.auto", "0"),
        ] {
            git::bytes(&path, &["config", key, value]).await?;
        }
        if !self.commits.is_empty() {
            let work = tempfile::Builder::new().prefix("lab-work-").tempdir_in(&self.shared.folder)?;
            working_tree(work.path(), &self.default_branch, &self.commits).await?;
            git::bytes(work.path(), &["push", "--quiet", "--tags", &folder, "refs/heads/*:refs/heads/*"]).await?;
        }
        let mut state = self.shared.state();
        state.user(owner, "Organization");
        let id = state.next_id();
        let repository = Repository {
            id,
            owner: owner.to_owned(),
            name: name.to_owned(),
            private: self.private,
            archived: false,
            default_branch: self.default_branch.clone(),
            path: path.clone(),
            collaborators: [(BOT.to_owned(), self.bot)].into(),
            labels: Vec::new(),
            issues: Default::default(),
            comments: Default::default(),
            statuses: Vec::new(),
            events: Vec::new(),
            created: now(),
            pushed: now(),
        };
        state.repositories.insert(self.full_name.to_ascii_lowercase(), repository);
        Ok(path)
    }
}

/// Makes a repository with a working tree in `folder`: everything below `source`, what `script` adds, one commit.
pub async fn local(folder: &Path, branch: &str, source: &Path, script: Option<&Path>) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let commit = Commit {
        message: "Import".into(),
        folder: Some(source.to_owned()),
        script: script.map(Path::to_owned),
        ..Commit::default()
    };
    working_tree(folder, branch, &[commit]).await
}

async fn working_tree(folder: &Path, branch: &str, commits: &[Commit]) -> anyhow::Result<()> {
    git::bytes(folder, &["init", "--quiet", "--template=", &format!("--initial-branch={branch}")]).await?;
    for (hours, commit) in commits.iter().enumerate() {
        // Without the folder, the script makes everything.
        if let Some(source) = commit.folder.as_ref().filter(|source| source.is_dir() || commit.script.is_none()) {
            copy(source, folder).with_context(|| format!("cannot copy {}", source.display()))?;
        }
        for (path, bytes) in &commit.files {
            let path = folder.join(path);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(path, bytes)?;
        }
        if let Some(script) = &commit.script {
            run_script(folder, script).await?;
        }
        git::commit_all(folder, &commit.message, hours as u64).await?;
    }
    Ok(())
}

async fn run_script(folder: &Path, script: &Path) -> anyhow::Result<()> {
    let script = script.canonicalize()?;
    let output = tokio::process::Command::new("sh")
        .arg("-eu")
        .arg(&script)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", folder.join(".no-such-config"))
        .env("GIT_AUTHOR_NAME", "Ada Example")
        .env("GIT_AUTHOR_EMAIL", "ada@example.org")
        .env("GIT_AUTHOR_DATE", format!("{} +0000", git::FIRST_COMMIT))
        .env("GIT_COMMITTER_NAME", "Ada Example")
        .env("GIT_COMMITTER_EMAIL", "ada@example.org")
        .env("GIT_COMMITTER_DATE", format!("{} +0000", git::FIRST_COMMIT))
        .kill_on_drop(true)
        .output()
        .await?;
    anyhow::ensure!(
        output.status.success(),
        "{} failed ({}): {}",
        script.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Copies a tree, with modes and symbolic links as they are.
pub(crate) fn copy(source: &Path, target: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(target)?;
    for entry in std::fs::read_dir(source)? {
        let entry = entry?;
        let destination = target.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&entry.path(), &destination)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, &destination)?;
        } else {
            std::fs::copy(entry.path(), &destination)?;
        }
    }
    Ok(())
}
