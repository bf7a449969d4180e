//! The repository that boxes show: what git says in it, and what is not in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use patchwright::workspace::{Checkout, Inside, Remote, StandIn};

use super::support::{Ground, Repository, fingerprint};

/// Five commits: a light tag, an annotated one without a digit, one with, a light one without, and the base.
fn source(ground: &Ground) -> Repository {
    let source = ground.repository("source");
    source.write("gone.txt", "SECRET of the past\n");
    source.commit("first");
    source.git(&["tag", "v1.0.0"]);
    fs::remove_file(source.path.join("gone.txt")).unwrap();
    source.write("src/a.txt", "a\n");
    source.write("run.sh", "#!/bin/sh\n");
    source.write("crlf.txt", "one\r\ntwo\r\n");
    source.write(".gitattributes", "*.txt text eol=crlf\n");
    source.commit("second");
    source.git(&["tag", "-a", "-m", "words of a person", "release"]);
    source.commit("third");
    source.git(&["tag", "v1.1.0"]);
    source.commit("fourth");
    source.git(&["tag", "nightly"]);
    source.commit("the base, by a person");
    source
}

async fn stand_in(checkout: &Checkout) -> StandIn {
    match checkout.stand_in().await.unwrap() {
        Inside::Made(made) => made,
        other => panic!("{other:?}"),
    }
}

/// A tree with the stand-in beside it, as a box would show it, but a copy.
struct Shown {
    folder: tempfile::TempDir,
}

impl Shown {
    fn new(tree: &Path, stand_in: &StandIn) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let copied = |from: &Path, to: &Path| {
            let status = Command::new("cp").args(["-a", "--"]).arg(from).arg(to).status().unwrap();
            assert!(status.success());
        };
        copied(tree, &folder.path().join("tree"));
        copied(stand_in.path(), &folder.path().join("tree/.git"));
        Self { folder }
    }

    fn git(&self, arguments: &[&str]) -> String {
        Repository { path: self.folder.path().join("tree") }.git(arguments)
    }
}

async fn both(ground: &Ground, source: &Repository) -> [(&'static str, Checkout); 2] {
    let checkout = async |remote: &Remote| ground.checkout(remote, None).await.unwrap();
    [("a mirror", checkout(&source.url()).await), ("a local repository", checkout(&source.local()).await)]
}

#[tokio::test]
async fn git_finds_the_base_clean_and_the_tags_in_order() {
    let ground = Ground::new();
    let source = source(&ground);
    let (base, time) = (source.git(&["rev-parse", "HEAD"]), source.git(&["log", "-1", "--format=%ct"]));
    let untouched = fingerprint(&source.path, true);
    for (kind, checkout) in both(&ground, &source).await {
        let made = stand_in(&checkout).await;
        assert_eq!(made.tags(), ["release", "v1.1.0", "nightly"], "{kind}");
        let export = checkout.export(checkout.base_tree()).await.unwrap();
        for tree in [checkout.tree_path(), export.tree_path()] {
            let shown = Shown::new(&tree, &made);
            assert_eq!(shown.git(&["status", "--porcelain"]), "", "{kind}");
            assert_eq!(shown.git(&["symbolic-ref", "HEAD"]), "refs/heads/trunk", "{kind}");
            assert_eq!(shown.git(&["log", "-1", "--format=%ct"]), time, "{kind}");
            let describe = |arguments: &[&str]| {
                let said = shown.git(&[&["describe"], arguments].concat());
                said.rsplit_once("-g").map(|(name, _)| name.to_owned()).unwrap_or(said)
            };
            assert_eq!(describe(&["--tags", "--dirty"]), "nightly-1", "{kind}");
            assert_eq!(describe(&["--tags", "--match", "v*"]), "v1.1.0-2", "{kind}");
            assert_eq!(describe(&[]), "release-3", "{kind}");
            assert!(shown.git(&["log", "-1", "--format=%B"]).contains(&base), "{kind}");
            shown.git(&["fsck", "--strict"]);
            fs::write(shown.folder.path().join("tree/src/a.txt"), "b\n").unwrap();
            assert_eq!(shown.git(&["status", "--porcelain"]), " M src/a.txt", "{kind}");
        }
    }
    assert_eq!(fingerprint(&source.path, true), untouched, "the user's repository is only read");
}

/// What a script asks that does not have git look at the files again.
#[tokio::test]
async fn exports_are_clean_without_another_look_at_their_files() {
    let ground = Ground::new();
    let checkout = ground.checkout(&source(&ground).url(), None).await.unwrap();
    let made = stand_in(&checkout).await;
    let export = checkout.export(checkout.base_tree()).await.unwrap();
    let shown = Shown::new(&export.tree_path(), &made);
    assert_eq!(shown.git(&["diff-index", "HEAD"]), "");
}

#[tokio::test]
async fn nothing_of_the_past_of_people_or_of_the_operator_is_in_it() {
    let ground = Ground::new();
    let source = source(&ground);
    for (kind, checkout) in both(&ground, &source).await {
        let made = stand_in(&checkout).await;
        let shown = Shown::new(&checkout.tree_path(), &made);
        let objects = shown.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]);
        let mut told = String::new();
        for object in objects.lines().filter(|id| shown.git(&["cat-file", "-t", id]) != "tree") {
            told.push_str(&shown.git(&["cat-file", "-p", object]));
        }
        let mut files = String::new();
        for path in fingerprint(made.path(), false).keys() {
            let path = String::from_utf8(path.clone()).unwrap();
            files.push_str(&format!("{path}\n"));
            if !path.ends_with(".pack") {
                files.push_str(&String::from_utf8_lossy(&fs::read(made.path().join(&path)).unwrap()));
            }
        }
        for secret in ["SECRET of the past", "Test", "example.invalid", "person", ground.path("").to_str().unwrap()] {
            assert!(!told.contains(secret) && !files.contains(secret), "{kind}: {secret}\n{told}\n{files}");
        }
        assert!(
            !files.contains("alternates") && !files.contains("logs/") && !files.contains("hooks"),
            "{kind}: {files}"
        );
        assert_eq!(shown.git(&["remote"]), "", "{kind}");
        assert_eq!(shown.git(&["config", "--local", "--list", "--name-only"]).lines().count(), 5, "{kind}");
        assert_eq!(shown.git(&["rev-list", "--all", "--count"]), "4", "{kind}");
    }
}

#[tokio::test]
async fn without_tags_there_is_one_commit_and_without_a_branch_no_name() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write("a.txt", "a\n");
    let base = source.commit("one");
    let checkout = ground.checkout(&source.url(), Some(&base)).await.unwrap();
    let made = stand_in(&checkout).await;
    assert!(made.tags().is_empty());
    let shown = Shown::new(&checkout.tree_path(), &made);
    assert_eq!(shown.git(&["rev-list", "--all", "--count", "HEAD"]), "1");
    assert_eq!(shown.git(&["rev-parse", "--abbrev-ref", "HEAD"]), "HEAD");
    assert_eq!(shown.git(&["status", "--porcelain"]), "");
    // The same base makes the same commit, whenever it is made.
    let again = ground.checkout(&source.local(), Some(&base)).await.unwrap();
    let other = Shown::new(&again.tree_path(), &stand_in(&again).await);
    assert_eq!(shown.git(&["rev-parse", "HEAD"]), other.git(&["rev-parse", "HEAD"]));
    // A tag on the base itself is on the commit itself.
    source.git(&["tag", "-a", "-m", "x", "v2"]);
    let tagged = ground.checkout(&source.local(), None).await.unwrap();
    let shown = Shown::new(&tagged.tree_path(), &stand_in(&tagged).await);
    assert_eq!(shown.git(&["describe"]), "v2");
}

#[tokio::test]
async fn a_repository_without_a_commit_has_none() {
    let ground = Ground::new();
    let source = ground.repository("source");
    let checkout = ground.checkout(&source.local(), None).await.unwrap();
    assert!(matches!(checkout.stand_in().await.unwrap(), Inside::NoCommit));
}

/// The name in an annotated tag is its author's, and need not be that of the reference.
#[tokio::test]
async fn a_tag_that_names_itself_otherwise_leads_nowhere() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write("a.txt", "a\n");
    source.commit("one");
    let head = source.git(&["rev-parse", "HEAD"]);
    let text = format!("object {head}\ntype commit\ntag ../../../HEAD\ntagger A <a@b> 1 +0000\n\nx\n");
    fs::write(ground.path("tag"), text).unwrap();
    let id = source.git(&["hash-object", "-t", "tag", "-w", "--literally", ground.path("tag").to_str().unwrap()]);
    source.git(&["update-ref", "refs/tags/v1", &id]);
    for (kind, checkout) in both(&ground, &source).await {
        let made = stand_in(&checkout).await;
        assert!(made.tags().is_empty(), "{kind}: {:?}", made.tags());
        let head = fs::read_to_string(made.path().join("HEAD")).unwrap();
        assert_eq!(head, "ref: refs/heads/trunk\n", "{kind}");
    }
}

/// The index of a checkout holds the lowest 32 bits of sizes: a file of four gigabytes has none there.
#[tokio::test]
async fn the_size_of_the_base_is_that_of_its_files_whatever_the_index_says() {
    let ground = Ground::new();
    let source = source(&ground);
    fs::File::create(ground.path("zeros")).unwrap().set_len(64 << 20).unwrap();
    let id = source.git(&["hash-object", "-w", ground.path("zeros").to_str().unwrap()]);
    let checkout = ground.checkout(&source.local(), None).await.unwrap();
    let path = checkout.tree_path().with_file_name("index");
    let mut index = git2::Index::open(&path).unwrap();
    let id = git2::Oid::from_str(&id).unwrap();
    for name in 0..9 {
        let path = format!("zeros-{name}").into_bytes();
        index.add(&git2::IndexEntry { id, path, file_size: 0, ..index.get(0).unwrap() }).unwrap();
    }
    index.write().unwrap();
    assert!(matches!(checkout.stand_in().await.unwrap(), Inside::TooLarge));
}

/// Whoever reads the mirror meanwhile: a task of another, for hours.
#[tokio::test]
async fn a_mirror_is_waited_for_only_where_there_are_other_tags() {
    let ground = Ground::new();
    let source = source(&ground);
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let lock = fingerprint(&ground.path("cache"), false);
    let lock = lock.keys().map(|path| String::from_utf8(path.clone()).unwrap()).find(|path| path.ends_with(".lock"));
    let lock = fs::File::open(ground.path("cache").join(lock.unwrap())).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
    // Less than git may take, and so a lock.
    let limit = std::time::Duration::from_secs(30);
    let made = tokio::time::timeout(limit, stand_in(&checkout)).await.unwrap();
    assert_eq!(made.tags(), ["release", "v1.1.0", "nightly"]);
    drop(lock);
    // And where there are, they are fetched; also where one is gone.
    source.git(&["tag", "newest"]);
    source.git(&["tag", "-d", "nightly"]);
    let again = ground.checkout(&source.url(), None).await.unwrap();
    assert_eq!(stand_in(&again).await.tags(), ["release", "v1.1.0", "newest"]);
}

#[tokio::test]
async fn more_tags_than_anybody_has_are_not_fetched() {
    let ground = Ground::new();
    let source = source(&ground);
    drop(ground.checkout(&source.url(), None).await.unwrap());
    let head = source.git(&["rev-parse", "HEAD"]);
    let many: String = (0..20_001).map(|number| format!("{head} refs/tags/many-{number:05}\n")).collect();
    source.git(&["pack-refs", "--all"]);
    let packed = fs::read_to_string(source.path.join(".git/packed-refs")).unwrap();
    let header = packed.lines().next().unwrap().replace(" sorted", "");
    let lines: String = packed.lines().skip(1).map(|line| format!("{line}\n")).collect();
    fs::write(source.path.join(".git/packed-refs"), format!("{header}\n{lines}{many}")).unwrap();
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    assert_eq!(stand_in(&checkout).await.tags(), ["release", "v1.1.0", "nightly"]);
}
