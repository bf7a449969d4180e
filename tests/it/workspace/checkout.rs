//! Mirrors, bases, locks, and what is left behind.

use std::fs;
use std::time::Duration;

use patchwright::workspace::{CommitId, Remote, Settings, Workspace, WorkspaceError};
use url::Url;

use super::support::{Ground, Repository, fingerprint, path, workspace_at};

fn mirrors(ground: &Ground) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![ground.path("cache")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.join("objects").is_dir() {
                found.push(entry);
            } else if entry.is_dir() {
                folders.push(entry);
            }
        }
    }
    found
}

#[tokio::test]
async fn a_remote_is_mirrored_once_and_its_tree_has_no_git_data() {
    let ground = Ground::new();
    let source = ground.repository("owner/source");
    source.write("a.txt", "one");
    let first = source.commit("first");
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    assert_eq!(checkout.base_commit(), CommitId::parse(&first));
    assert_eq!((checkout.base_branch(), checkout.default_branch()), (Some("trunk"), Some("trunk")));
    let names: Vec<_> = fs::read_dir(checkout.tree_path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["a.txt"]);
    let tree = checkout.tree_path();
    drop(checkout);
    assert!(!tree.exists());
    assert!(ground.task_folders().is_empty());

    let mirror = &mirrors(&ground)[..];
    let [mirror] = mirror else { panic!("{mirror:?}") };
    let mirror = Repository { path: mirror.clone() };
    assert_eq!(mirror.git(&["config", "remote.origin.partialclonefilter"]), "blob:none");

    source.write("a.txt", "two");
    let second = source.commit("second");
    source.git(&["branch", "-m", "trunk", "main"]);
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    assert_eq!(checkout.base_commit(), CommitId::parse(&second));
    assert_eq!(checkout.default_branch(), Some("main"), "the default branch is the remote's present one");
    assert_eq!(checkout.files().read(&path("a.txt"), 9).unwrap(), b"two");
    assert_eq!(mirrors(&ground).len(), 1);
}

#[tokio::test]
async fn blobs_that_the_mirror_lacks_are_fetched_when_a_tree_needs_them() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write("a.txt", "old and gone");
    let old = source.commit("first");
    source.write("a.txt", "new");
    source.commit("second");
    drop(ground.checkout(&source.url(), None).await.unwrap());
    let mirror = Repository { path: mirrors(&ground).remove(0) };
    let missing = mirror.git(&["rev-list", "--objects", "--all", "--missing=print"]);
    assert!(missing.lines().any(|line| line.starts_with('?')), "the mirror is not blobless: {missing}");
    let checkout = ground.checkout(&source.url(), Some(&old)).await.unwrap();
    assert_eq!(checkout.files().read(&path("a.txt"), 99).unwrap(), b"old and gone");
    assert_eq!(checkout.base_branch(), None);
    let export = checkout.export(checkout.base_tree()).await.unwrap();
    assert_eq!(fs::read(export.tree_path().join("a.txt")).unwrap(), b"old and gone");
}

#[tokio::test]
async fn a_server_without_filters_is_cloned_in_full() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.git(&["config", "uploadpack.allowFilter", "false"]);
    source.write("a.txt", "one");
    source.commit("first");
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    assert_eq!(checkout.files().read(&path("a.txt"), 9).unwrap(), b"one");
}

#[tokio::test]
async fn branches_tags_and_commits_are_bases() {
    for local in [false, true] {
        let ground = Ground::new();
        let source = ground.repository("source");
        source.write("a", "1");
        let first = source.commit("first");
        source.git(&["tag", "-a", "v1", "-m", "annotated"]);
        source.git(&["tag", "light"]);
        source.git(&["checkout", "-q", "-b", "feature/x"]);
        source.write("a", "2");
        let second = source.commit("second");
        source.git(&["checkout", "-q", "trunk"]);
        let remote = if local { source.local() } else { source.url() };
        for (base, commit, branch) in [
            (None, &first, Some("trunk")),
            (Some("feature/x"), &second, Some("feature/x")),
            (Some("refs/heads/feature/x"), &second, Some("feature/x")),
            (Some("v1"), &first, None),
            (Some("light"), &first, None),
            (Some(second.as_str()), &second, None),
        ] {
            let checkout = ground.checkout(&remote, base).await.unwrap();
            assert_eq!(checkout.base_commit(), CommitId::parse(commit), "{base:?}");
            assert_eq!(checkout.base_branch(), branch, "{base:?}");
            assert_eq!(checkout.default_branch(), Some("trunk"));
        }
        let blob = source.git(&["rev-parse", "HEAD:a"]);
        for base in ["gone", "--upload-pack=x", "a..b", "x y", "*", "", blob.as_str(), &"0".repeat(40)] {
            let error = ground.checkout(&remote, Some(base)).await.unwrap_err();
            assert!(
                matches!(&error, WorkspaceError::BaseNotFound { base: told, .. } if told == base),
                "{base}: {error}"
            );
        }
        assert!(ground.task_folders().is_empty());
    }
}

#[tokio::test]
async fn a_repository_without_commits_has_the_empty_tree_as_base() {
    for local in [false, true] {
        let ground = Ground::new();
        let source = ground.repository("source");
        let remote = if local { source.local() } else { source.url() };
        let checkout = ground.checkout(&remote, None).await.unwrap();
        assert_eq!(checkout.base_commit(), None);
        assert_eq!(checkout.base_branch(), Some("trunk"));
        assert_eq!(checkout.base_tree().as_str(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
        assert!(super::support::snapshot(&checkout).await.is_empty());
        checkout.files().write(&path("a"), b"1").unwrap();
        assert_eq!(super::support::changed(&checkout).await, ["a"]);
        let export = checkout.export(checkout.base_tree()).await.unwrap();
        assert_eq!(fs::read_dir(export.tree_path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_damaged_mirror_is_made_anew() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write("a", "1");
    source.commit("first");
    type Damage = fn(&std::path::Path);
    let truncate: Damage = |mirror| {
        for entry in fs::read_dir(mirror.join("objects/pack")).unwrap() {
            fs::write(entry.unwrap().path(), "damaged").unwrap();
        }
    };
    let unhead: Damage = |mirror| fs::remove_file(mirror.join("HEAD")).unwrap();
    let unconfigure: Damage = |mirror| fs::write(mirror.join("config"), "[core\n").unwrap();
    for damage in [truncate, unhead, unconfigure] {
        drop(ground.checkout(&source.url(), None).await.unwrap());
        for entry in fs::read_dir(mirrors(&ground)[0].join("objects/pack")).unwrap() {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o644)).unwrap();
        }
        damage(&mirrors(&ground)[0]);
        let checkout = ground.checkout(&source.url(), None).await.unwrap();
        assert_eq!(checkout.files().read(&path("a"), 9).unwrap(), b"1");
        assert_eq!(mirrors(&ground).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_share_a_mirror_at_the_same_time() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write("a", "1");
    let commit = source.commit("first");
    // A second workspace on the same folders stands for a second process: locks are per open file, not per process.
    let other = workspace_at(ground.folder.path(), Vec::new());
    let remote = source.url();
    let tasks = (0..8).map(|number| {
        let workspace = if number % 2 == 0 { ground.workspace.clone() } else { other.clone() };
        let remote = remote.clone();
        tokio::spawn(async move { workspace.checkout(&remote, None).await.unwrap() })
    });
    let mut checkouts = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        checkouts.push(task.await.unwrap());
    }
    assert!(checkouts.iter().all(|checkout| checkout.base_commit() == CommitId::parse(&commit)));
    assert_eq!(mirrors(&ground).len(), 1);
    assert_eq!(ground.workspace.sweep(), 0, "what is in use is not swept");
}

#[tokio::test]
async fn a_held_lock_is_waited_for_only_so_long() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.commit("first");
    drop(ground.checkout(&source.url(), None).await.unwrap());
    let lock = fs::File::open(mirrors(&ground)[0].with_extension("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let impatient = Workspace::new(Settings {
        git: which::which("git").unwrap(),
        cache: ground.path("cache"),
        temporary: ground.path("temporary"),
        git_timeout: Duration::from_secs(1),
        environment: Vec::new(),
    });
    let error = impatient.unwrap().checkout(&source.url(), None).await.unwrap_err();
    assert!(matches!(error, WorkspaceError::Busy { seconds: 1, .. }), "{error}");
}

#[tokio::test]
async fn remotes_that_cannot_be_used_say_why_and_leave_nothing() {
    let ground = Ground::new();
    let try_url = async |text: &str| {
        let remote = Remote::Url { url: Url::parse(text).unwrap(), token: None };
        ground.checkout(&remote, None).await.unwrap_err()
    };
    let missing = format!("file://{}/missing", ground.folder.path().display());
    assert!(matches!(try_url(&missing).await, WorkspaceError::RepositoryNotFound { .. }));
    let error = try_url("http://127.0.0.1:1/owner/name").await;
    assert!(matches!(error, WorkspaceError::Unreachable { .. }), "{error}");
    let error = try_url("https://user:hunter2@example.invalid/owner/name").await;
    assert!(matches!(error, WorkspaceError::UnsupportedRemote { .. }), "{error}");
    assert!(!format!("{error} {error:?} {}", error.remedy()).contains("hunter2"));
    for text in ["ssh://example.invalid/x", "ext::sh -c true", "git://example.invalid/x", "https://example.invalid/x?a"]
    {
        assert!(matches!(try_url(text).await, WorkspaceError::UnsupportedRemote { .. }), "{text}");
    }
    assert!(ground.task_folders().is_empty());
    assert!(mirrors(&ground).is_empty());
}

#[tokio::test]
async fn what_a_killed_clone_left_goes_before_the_next_one() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write("a.txt", "one");
    source.commit("first");
    drop(ground.checkout(&source.url(), None).await.unwrap());
    let mirror = mirrors(&ground).remove(0);
    let number = "0123456789abcdef0123456789abcdef";
    let left = ["new", "old"].map(|kind| mirror.with_extension(format!("{kind}-{number}")));
    // A repository may be called almost like that.
    let other = mirror.with_extension(format!("new-{number}-0123456789ab.git"));
    for folder in left.iter().chain([&other]) {
        fs::create_dir_all(folder.join("objects")).unwrap();
    }
    fs::remove_dir_all(mirror.join("refs")).unwrap();
    fs::remove_file(mirror.join("HEAD")).unwrap();
    drop(ground.checkout(&source.url(), None).await.unwrap());
    assert!(mirror.join("HEAD").exists());
    assert!(left.iter().all(|folder| !folder.exists()), "{:?}", mirrors(&ground));
    assert!(other.exists());
}

#[tokio::test]
async fn a_cancelled_checkout_leaves_nothing_and_kills_git() {
    let ground = Ground::new();
    // A server that takes the connection and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/owner/name", listener.local_addr().unwrap())).unwrap();
    let remote = Remote::Url { url, token: None };
    let workspace = ground.workspace.clone();
    let task = tokio::spawn(async move { workspace.checkout(&remote, None).await.map(|_| ()) });
    let (mut connection, _) = tokio::task::spawn_blocking(move || listener.accept().unwrap()).await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    // The connection ends only when git's helper process is dead.
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ended = tokio::task::spawn_blocking(move || std::io::copy(&mut connection, &mut std::io::sink()));
    ended.await.unwrap().unwrap();
    assert!(ground.task_folders().is_empty());
}

#[test]
fn what_a_dead_process_left_is_swept() {
    let ground = Ground::new();
    let dead = ground.path("temporary/patchwright-dead");
    fs::create_dir_all(dead.join("tree/sub")).unwrap();
    fs::write(dead.join("lock"), "1\n").unwrap();
    fs::write(dead.join("tree/sub/file"), "x").unwrap();
    let young = ground.path("temporary/patchwright-young");
    fs::create_dir(&young).unwrap();
    let foreign = ground.path("temporary/other");
    fs::create_dir(&foreign).unwrap();
    std::os::unix::fs::symlink(&foreign, ground.path("temporary/patchwright-link")).unwrap();
    let before = fingerprint(&foreign, true);
    assert_eq!(ground.workspace.sweep(), 1);
    assert!(!dead.exists() && young.exists() && foreign.exists());
    assert_eq!(fingerprint(&foreign, true), before);
}

/// A small file system of its own, unmounted on drop.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: std::path::PathBuf) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512k,mode=777", "none"]).arg(&path);
        mount.output().is_ok_and(|output| output.status.success()).then(|| Self(path.clone()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_as_such() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write("small.txt", "x");
    let small = source.commit("small");
    let noise = |seed: u64, length: u64| -> Vec<u8> {
        (0..length)
            .scan(seed, |state, _| {
                *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                Some((*state >> 56) as u8)
            })
            .collect()
    };
    source.write("big.bin", noise(1, 1 << 20));
    source.commit("big");
    let Some(disk) = SmallDisk::mount(ground.path("disk")) else {
        eprintln!("SKIPPED: a full disk needs the right to mount a tmpfs");
        assert!(std::env::var_os("PATCHWRIGHT_TEST_REQUIRE_ALL").is_none(), "cannot mount a tmpfs here");
        return;
    };
    let workspace = Workspace::new(Settings {
        git: which::which("git").unwrap(),
        cache: ground.path("cache"),
        temporary: disk.0.clone(),
        git_timeout: Duration::from_secs(60),
        environment: Vec::new(),
    })
    .unwrap();
    for remote in [source.url(), source.local()] {
        let error = workspace.checkout(&remote, None).await.unwrap_err();
        assert!(matches!(error, WorkspaceError::DiskFull { .. }), "{error}");
        assert!(error.remedy().contains("Free space"));
        let checkout = workspace.checkout(&remote, Some(&small)).await.unwrap();
        let error = checkout.files().write(&path("new.bin"), &noise(2, 1 << 20)).unwrap_err();
        assert!(matches!(error, patchwright::workspace::FileError::DiskFull(_)), "{error}");
        assert_eq!(fs::read_dir(checkout.tree_path()).unwrap().count(), 1, "no half a file stays");
        checkout.files().write(&path("new.bin"), &noise(3, 300 << 10)).unwrap();
        let error = checkout.snapshot(&Default::default()).await.unwrap_err();
        assert!(matches!(error, WorkspaceError::DiskFull { .. }), "{error}");
    }
    drop(workspace);
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 0);
}
