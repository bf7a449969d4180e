//! Commits and pushes.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use patchwright::workspace::{Checkout, CommitId, PushError, PushExpectation};

use super::support::{Ground, Repository, author, path, snapshot};

async fn changed_checkout(ground: &Ground, remote: &Repository, contents: &str) -> (Checkout, CommitId) {
    let checkout = ground.checkout(&remote.url(), None).await.unwrap();
    checkout.files().write(&path("a.txt"), contents.as_bytes()).unwrap();
    let taken = snapshot(&checkout).await;
    let commit = checkout.commit(&taken, "message", &author(), None).await.unwrap();
    (checkout, commit)
}

#[tokio::test]
async fn what_is_pushed_is_the_snapshot_on_its_base() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write("a.txt", "1\n");
    let base = source.commit("first");
    let remote = ground.bare(&source, "remote.git");
    let (checkout, commit) = changed_checkout(&ground, &remote, "2\n").await;
    assert_eq!(checkout.remote_branch("result").await.unwrap(), None);
    checkout.push(&commit, "result", &PushExpectation::Absent).await.unwrap();
    assert_eq!(checkout.remote_branch("result").await.unwrap(), Some(commit.clone()));
    assert_eq!(remote.git(&["rev-parse", "result^{tree}"]), snapshot(&checkout).await.tree().as_str());
    assert_eq!(remote.git(&["rev-parse", "result^"]), base);
    assert_eq!(remote.git(&["rev-parse", "trunk"]), base);
    checkout.push(&commit, "result", &PushExpectation::Absent).await.expect("the same again is no error");
}

#[tokio::test]
async fn a_branch_is_only_moved_from_where_it_was_expected() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write("a.txt", "1\n");
    source.commit("first");
    let remote = ground.bare(&source, "remote.git");
    let (first, one) = changed_checkout(&ground, &remote, "one\n").await;
    let (second, two) = changed_checkout(&ground, &remote, "two\n").await;
    first.push(&one, "result", &PushExpectation::Absent).await.unwrap();
    for expectation in [PushExpectation::Absent, PushExpectation::At(two.clone())] {
        let error = second.push(&two, "result", &expectation).await.unwrap_err();
        assert!(matches!(error, PushError::Moved { .. }), "{error}");
        assert_eq!(second.remote_branch("result").await.unwrap(), Some(one.clone()));
    }
    second.push(&two, "result", &PushExpectation::At(one)).await.unwrap();
    assert_eq!(second.remote_branch("result").await.unwrap(), Some(two.clone()));
    for name in ["-x", "--mirror", "a..b", "a b", "x.lock", "", "a:b", "+x", "HEAD"] {
        let pushed = second.push(&two, name, &PushExpectation::Absent).await;
        // `+x` is a name that git allows; it must not be taken for a forced push.
        assert_eq!(pushed.is_ok(), name == "+x", "{name}: {pushed:?}");
    }
}

#[tokio::test]
async fn a_push_works_when_the_base_branch_has_moved_on() {
    let ground = Ground::new();
    let source = ground.repository("source");
    for number in 0..5 {
        source.write("a.txt", format!("{number}\n"));
        source.write("other.txt", format!("{number}\n"));
        source.commit("more");
    }
    let remote = ground.bare(&source, "remote.git");
    let (checkout, commit) = changed_checkout(&ground, &remote, "mine\n").await;
    source.write("a.txt", "theirs\n");
    source.commit("theirs");
    source.git(&["push", "-q", remote.path.to_str().unwrap(), "trunk"]);
    checkout.push(&commit, "result", &PushExpectation::Absent).await.unwrap();
    // The other way to push relies on a base that stands still, and works without that too.
    checkout.push_beside_base(&commit, "beside", &PushExpectation::Absent).await.unwrap();
    remote.git(&["branch", "-D", "result", "beside"]);
    checkout.push_beside_base(&commit, "result", &PushExpectation::Absent).await.unwrap();
    assert_eq!(remote.git(&["rev-parse", "result"]), commit.as_str());
    remote.git(&["fsck", "--strict"]);
}

#[tokio::test]
async fn a_refusal_of_the_server_is_told() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.commit("first");
    let remote = ground.bare(&source, "remote.git");
    let hook = remote.path.join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho 'this branch is protected' >&2\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let (checkout, commit) = changed_checkout(&ground, &remote, "x\n").await;
    let error = checkout.push(&commit, "result", &PushExpectation::Absent).await.unwrap_err();
    assert!(
        matches!(&error, PushError::Refused { reason, .. } if reason.contains("this branch is protected")),
        "{error}"
    );
    fs::remove_dir_all(&remote.path).unwrap();
    let error = checkout.push(&commit, "result", &PushExpectation::Absent).await.unwrap_err();
    assert!(matches!(error, PushError::Workspace(_)), "{error}");
}

#[tokio::test]
async fn the_first_commit_of_an_empty_repository_has_no_parent() {
    let ground = Ground::new();
    let source = ground.repository("source");
    let remote = ground.bare(&source, "remote.git");
    let (checkout, commit) = changed_checkout(&ground, &remote, "x\n").await;
    let branch = checkout.default_branch().unwrap().to_owned();
    checkout.push(&commit, &branch, &PushExpectation::Absent).await.unwrap();
    assert_eq!(remote.git(&["rev-list", "--count", &branch]), "1");
    let (again, _) = changed_checkout(&ground, &remote, "y\n").await;
    assert_eq!(again.base_commit(), Some(commit));
}
