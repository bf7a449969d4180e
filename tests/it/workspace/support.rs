//! Real git repositories in temporary folders, and a workspace beside them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use patchwright::workspace::{Author, Checkout, RelativePath, Remote, Settings, Snapshot, Workspace, WorkspaceError};
use url::Url;

/// A folder that holds everything of one test: repositories, cache, temporary folders.
pub struct Ground {
    pub folder: tempfile::TempDir,
    pub workspace: Workspace,
}

impl Ground {
    pub fn new() -> Self {
        Self::with_environment(Vec::new())
    }

    pub fn with_environment(environment: Vec<(String, String)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workspace = workspace_at(folder.path(), environment);
        Self { folder, workspace }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new repository with the branch `trunk` and no commit.
    pub fn repository(&self, name: &str) -> Repository {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        let repository = Repository { path };
        repository.git(&["init", "-q", "-b", "trunk"]);
        repository.git(&["config", "uploadpack.allowFilter", "true"]);
        repository
    }

    /// A bare clone of `source`, to be pushed to.
    pub fn bare(&self, source: &Repository, name: &str) -> Repository {
        let bare = Repository { path: self.path(name) };
        source.git(&["clone", "-q", "--bare", ".", bare.path.to_str().unwrap()]);
        bare.git(&["config", "uploadpack.allowFilter", "true"]);
        bare
    }

    pub async fn checkout(&self, remote: &Remote, base: Option<&str>) -> Result<Checkout, WorkspaceError> {
        self.workspace.checkout(remote, base).await
    }

    /// The folders of running tasks.
    pub fn task_folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("temporary")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.join("tree").exists()).collect()
    }
}

pub fn workspace_at(folder: &Path, environment: Vec<(String, String)>) -> Workspace {
    Workspace::new(Settings {
        git: which::which("git").unwrap(),
        cache: folder.join("cache"),
        temporary: folder.join("temporary"),
        git_timeout: Duration::from_secs(60),
        environment,
    })
    .unwrap()
}

/// A repository made with the git binary, without any configuration of this machine.
pub struct Repository {
    pub path: PathBuf,
}

impl Repository {
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = git(&self.path).args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    /// Commits everything as it is, with no conversion, ignored or not.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["-c", "core.autocrlf=false", "add", "-A", "-f"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub fn local(&self) -> Remote {
        Remote::Local(self.path.clone())
    }

    pub fn url(&self) -> Remote {
        Remote::Url { url: Url::from_file_path(&self.path).unwrap(), token: None }
    }
}

/// git with an identity of its own and no configuration of this machine.
pub fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/nonexistent");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Test").env(format!("GIT_{role}_EMAIL"), "test@example.invalid");
    }
    command
}

/// Every path below a folder with type, mode, contents and (for `exact`) times: two equal maps are the same bits.
pub fn fingerprint(folder: &Path, exact: bool) -> BTreeMap<Vec<u8>, String> {
    use std::os::unix::ffi::OsStrExt;
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let contents = if metadata.is_dir() {
                folders.push(path.clone());
                if !exact {
                    continue;
                }
                "folder".to_owned()
            } else if metadata.is_symlink() {
                format!("-> {:?}", fs::read_link(&path).unwrap())
            } else {
                let bytes = fs::read(&path).unwrap();
                format!("{:?} {}", git2::Oid::hash_object(git2::ObjectType::Blob, &bytes).unwrap(), bytes.len())
            };
            let mode = metadata.permissions().mode();
            let times = if exact { format!("{:?}", (metadata.mtime(), metadata.mtime_nsec())) } else { String::new() };
            let mode = if exact || !metadata.is_symlink() { mode } else { 0 };
            let name = path.strip_prefix(folder).unwrap().as_os_str().as_bytes().to_vec();
            found.insert(name, format!("{mode:o} {times} {contents}"));
        }
    }
    found
}

/// The tree id of the files in a folder, made by the git binary with nothing left out.
pub fn tree_by_git(files: &Path) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let repository = Repository { path: scratch.path().to_owned() };
    repository.git(&["init", "-q", "--bare"]);
    fs::write(scratch.path().join("info/attributes"), "* -text -filter -ident -working-tree-encoding\n").unwrap();
    let tree = format!("--work-tree={}", files.display());
    repository.git(&["--git-dir=.", &tree, "add", "-A", "-f", "."]);
    repository.git(&["write-tree"])
}

pub fn path(text: &str) -> RelativePath {
    RelativePath::parse(text).unwrap()
}

pub fn author() -> Author {
    Author { name: "Patchwright".into(), email: "patchwright@example.invalid".into() }
}

pub async fn snapshot(checkout: &Checkout) -> Snapshot {
    checkout.snapshot(&Default::default()).await.unwrap()
}

/// The paths that a snapshot changes.
pub async fn changed(checkout: &Checkout) -> Vec<String> {
    let diff = checkout.diff(&snapshot(checkout).await).await.unwrap();
    diff.files.into_iter().map(|file| file.path).collect()
}
