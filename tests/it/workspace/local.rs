//! A repository of the user's: read, never changed.

use std::fs;

use patchwright::workspace::{Remote, WorkspaceError};

use super::support::{Ground, Repository, author, fingerprint, path, snapshot};

fn ours(ground: &Ground) -> Repository {
    let source = ground.repository("source");
    source.write("a.txt", "one\n");
    source.write("sub/b.txt", "one\n");
    source.write("sub/c.txt", "one\n");
    source.commit("first");
    source
}

#[tokio::test]
async fn a_dry_run_leaves_it_bit_for_bit() {
    let ground = Ground::new();
    let source = ours(&ground);
    source.write("a.txt", "uncommitted\n");
    source.write("untracked.txt", "untracked\n");
    source.write("staged.txt", "staged\n");
    source.git(&["add", "staged.txt"]);
    let before = fingerprint(&source.path, true);
    let checkout = ground.checkout(&source.local(), None).await.unwrap();
    assert!(checkout.uncommitted_changes());
    assert_eq!(checkout.files().read(&path("a.txt"), 99).unwrap(), b"one\n");
    assert!(!checkout.tree_path().join("untracked.txt").exists());
    checkout.files().write(&path("a.txt"), b"two\n").unwrap();
    let taken = snapshot(&checkout).await;
    checkout.diff(&taken).await.unwrap();
    checkout.commit(&taken, "message", &author(), None).await.unwrap();
    drop(checkout.export(taken.tree()).await.unwrap());
    drop(checkout);
    assert_eq!(fingerprint(&source.path, true), before);
}

#[tokio::test]
async fn uncommitted_changes_are_told_and_only_those() {
    let ground = Ground::new();
    let source = ours(&ground);
    let told = async || ground.checkout(&source.local(), None).await.unwrap().uncommitted_changes();
    assert!(!told().await);
    source.write("a.txt", "one\n");
    assert!(!told().await, "rewritten, but the same");
    fs::create_dir_all(source.path.join("__pycache__")).unwrap();
    source.write("__pycache__/x.pyc", "junk");
    source.write(".git/info/exclude", "*.mine\n");
    source.write("x.mine", "excluded");
    assert!(!told().await, "ignored files are no changes");
    source.write("new.txt", "x");
    assert!(told().await, "untracked");
    fs::remove_file(source.path.join("new.txt")).unwrap();
    source.write("a.txt", "two\n");
    assert!(told().await, "modified");
    source.git(&["add", "a.txt"]);
    assert!(told().await, "staged");
    source.git(&["reset", "-q", "--hard"]);
    fs::remove_file(source.path.join("sub/b.txt")).unwrap();
    assert!(told().await, "deleted");
}

#[tokio::test]
async fn a_result_becomes_a_new_branch_and_nothing_else() {
    let ground = Ground::new();
    let source = ours(&ground);
    source.write("a.txt", "uncommitted\n");
    let checkout = ground.checkout(&source.local(), None).await.unwrap();
    checkout.files().write(&path("sub/b.txt"), b"two\n").unwrap();
    checkout.files().write(&path("new/c.txt"), b"new\n").unwrap();
    let taken = snapshot(&checkout).await;
    let commit = checkout.commit(&taken, "The message\n\nTask-Id: x", &author(), None).await.unwrap();
    let state = || {
        (
            source.git(&["status", "--porcelain"]),
            source.git(&["rev-parse", "HEAD"]),
            fs::read(source.path.join(".git/index")).unwrap(),
        )
    };
    let before = state();
    checkout.create_local_branch(&commit, "fix/result").await.unwrap();
    assert_eq!(state(), before);
    assert_eq!(source.git(&["rev-parse", "fix/result^{tree}"]), taken.tree().as_str());
    assert_eq!(source.git(&["rev-parse", "fix/result^"]), source.git(&["rev-parse", "trunk"]));
    assert_eq!(
        source.git(&["log", "-1", "--format=%an <%ae> %B", "fix/result"]),
        "Patchwright <patchwright@example.invalid> The message\n\nTask-Id: x"
    );
    source.git(&["fsck", "--strict"]);
    let error = checkout.create_local_branch(&commit, "fix/result").await.unwrap_err();
    assert!(matches!(error, WorkspaceError::BranchExists(_)), "{error}");
    for name in ["-x", "a..b", "a b", "HEAD", "", "x.lock", "a\nb"] {
        let error = checkout.create_local_branch(&commit, name).await.unwrap_err();
        assert!(matches!(error, WorkspaceError::InvalidBranch(_)), "{name}: {error}");
    }
    assert!(checkout.push(&commit, "x", &patchwright::workspace::PushExpectation::Absent).await.is_err());
}

#[tokio::test]
async fn odd_repositories_are_handled_or_refused_with_a_remedy() {
    let ground = Ground::new();
    let source = ours(&ground);
    let refusal = async |path: &std::path::Path| {
        let error = ground.checkout(&Remote::Local(path.to_owned()), None).await.unwrap_err();
        assert!(matches!(error, WorkspaceError::LocalRepository { .. }), "{error}");
        assert!(!error.remedy().is_empty());
        error.to_string()
    };
    assert!(refusal(&ground.path("missing")).await.contains("does not exist"));
    assert!(refusal(&source.path.join("a.txt")).await.contains("not a folder"));
    let plain = ground.path("plain");
    fs::create_dir(&plain).unwrap();
    assert!(refusal(&plain).await.contains("not in a git repository"));
    let sha256 = Repository { path: ground.path("sha256") };
    fs::create_dir(&sha256.path).unwrap();
    sha256.git(&["init", "-q", "--object-format=sha256"]);
    assert!(refusal(&sha256.path).await.contains("SHA-256"));
    let reftable = Repository { path: ground.path("reftable") };
    fs::create_dir(&reftable.path).unwrap();
    reftable.git(&["init", "-q", "--ref-format=reftable"]);
    assert!(refusal(&reftable.path).await.contains("not supported"));

    let fine = async |path: &std::path::Path| {
        let checkout = ground.checkout(&Remote::Local(path.to_owned()), None).await.unwrap();
        assert_eq!(checkout.files().read(&super::support::path("a.txt"), 99).unwrap(), b"one\n");
        (checkout.base_branch().map(str::to_owned), checkout.uncommitted_changes())
    };
    assert_eq!(fine(&source.path.join("sub")).await, (Some("trunk".into()), false));
    let bare = ground.bare(&source, "bare.git");
    assert_eq!(fine(&bare.path).await, (Some("trunk".into()), false));
    let linked = ground.path("linked");
    source.git(&["worktree", "add", "-q", "-b", "other", linked.to_str().unwrap()]);
    assert_eq!(fine(&linked).await, (Some("other".into()), false));
    let shared = ground.path("shared");
    source.git(&["clone", "-q", "--shared", ".", shared.to_str().unwrap()]);
    assert_eq!(fine(&shared).await, (Some("trunk".into()), false));
    let shallow = ground.path("shallow");
    source.commit("second");
    let url = format!("file://{}", source.path.display());
    source.git(&["clone", "-q", "--depth=1", &url, shallow.to_str().unwrap()]);
    assert_eq!(fine(&shallow).await, (Some("trunk".into()), false));
    source.git(&["checkout", "-q", "--detach"]);
    assert_eq!(fine(&source.path).await, (None, false));
    assert!(ground.task_folders().is_empty());
}
