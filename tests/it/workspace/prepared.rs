//! What setups have made, kept from task to task.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use patchwright::workspace::{Checkout, Found, Preparation, Prepared};

use super::support::{Ground, Repository};

const LONG: Duration = Duration::from_secs(60);

fn source(ground: &Ground) -> Repository {
    let source = ground.repository("source");
    source.write("package.json", "{}\n");
    source.write("src/a.js", "1\n");
    source.commit("first");
    source
}

async fn begin(checkout: &Checkout, key: &str) -> Preparation {
    match checkout.prepared(key, LONG).await.unwrap() {
        Found::Nothing(preparation) => preparation,
        found => panic!("{key}: {found:?}"),
    }
}

async fn find(checkout: &Checkout, key: &str) -> Prepared {
    match checkout.prepared(key, LONG).await.unwrap() {
        Found::Prepared(prepared) => prepared,
        found => panic!("{key}: {found:?}"),
    }
}

/// Does what a setup does.
async fn make(checkout: &Checkout, key: &str, text: &str) -> Prepared {
    let preparation = begin(checkout, key).await;
    let tree = preparation.tree_path();
    assert_eq!(fs::read_to_string(tree.join("src/a.js")).unwrap(), "1\n");
    fs::create_dir_all(tree.join("node_modules/b")).unwrap();
    fs::write(tree.join("node_modules/b/index.js"), text).unwrap();
    fs::write(tree.join("src/a.js"), "overwritten\n").unwrap();
    fs::write(preparation.home_path().join("cache"), text).unwrap();
    preparation.finish(format!("made of {text}"), false).await.unwrap()
}

fn read(path: &Path, name: &str) -> String {
    fs::read_to_string(path.join(name)).unwrap()
}

#[tokio::test]
async fn a_setup_is_made_once_and_found_by_its_key() {
    let ground = Ground::new();
    let source = source(&ground);
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let made = make(&checkout, "one", "1").await;
    assert_eq!(made.artefacts().paths().collect::<Vec<_>>(), ["node_modules/"]);
    drop((made, checkout));
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let found = find(&checkout, "one").await;
    assert_eq!((read(&found.layer_path(), "node_modules/b/index.js"), found.note()), ("1".into(), "made of 1"));
    assert_eq!(read(&found.home_path(), "cache"), "1");
    assert!(!found.layer_path().join("src").exists(), "tracked files are no part of it");
    assert_eq!(found.artefacts().paths().collect::<Vec<_>>(), ["node_modules/"]);
    // Another key is another setup.
    drop(begin(&checkout, "two").await);
    drop(begin(&checkout, "two").await);
    let names: Vec<_> = fs::read_dir(ground.path("cache/.prepared")).unwrap().map(|entry| entry.unwrap()).collect();
    let mut names: Vec<_> = names.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, ["one", "one.lock", "one.making", "two.lock", "two.making"], "what was given up is gone");
}

#[tokio::test]
async fn a_setup_for_one_task_alone_goes_with_it() {
    let ground = Ground::new();
    let source = source(&ground);
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let preparation = begin(&checkout, "one").await;
    fs::write(preparation.tree_path().join("made"), "1").unwrap();
    let once = preparation.finish("half of it".into(), true).await.unwrap();
    assert_eq!(read(&once.layer_path(), "made"), "1");
    let layer = once.layer_path();
    drop(once);
    assert!(!layer.exists());
    drop(begin(&checkout, "one").await);
}

#[tokio::test]
async fn tasks_wait_for_the_one_that_makes_it() {
    let ground = Ground::new();
    let source = source(&ground);
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let first = begin(&checkout, "one").await;
    // Who has no time to wait makes one of its own, which is not kept.
    let Found::Nothing(own) = checkout.prepared("one", Duration::from_millis(50)).await.unwrap() else {
        panic!("nobody has finished it");
    };
    fs::write(own.tree_path().join("own"), "").unwrap();
    let own = own.finish("its own".into(), false).await.unwrap();
    assert!(own.layer_path().join("own").exists() && !ground.path("cache/.prepared/one").exists());
    let (second, made) =
        tokio::join!(find(&checkout, "one"), async { first.finish("by the first".into(), false).await.unwrap() });
    assert_eq!((second.note(), made.note()), ("by the first", "by the first"));
}

#[tokio::test]
async fn the_longest_unused_that_nobody_holds_goes_first() {
    let ground = Ground::new();
    let source = source(&ground);
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    for (key, age) in [("one", 300), ("two", 200), ("three", 100)] {
        drop(make(&checkout, key, &"x".repeat(10_000)).await);
        let lock = fs::File::options().write(true).open(ground.path(&format!("cache/.prepared/{key}.lock"))).unwrap();
        lock.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    let there = |key: &str| ground.path(&format!("cache/.prepared/{key}")).exists();
    let held = find(&checkout, "three").await;
    until_gone("one", &there, || ground.workspace.limit_prepared(100_000)).await;
    assert!(there("two") && there("three"), "the oldest goes, and no more than has to");
    until_gone("two", &there, || ground.workspace.limit_prepared(0)).await;
    assert!(there("three"), "what is held stays");
    drop(held);
    until_gone("three", &there, || _ = ground.workspace.evict(1)).await;
}

/// A program that another test starts at this moment holds our locks too, until it is executed.
async fn until_gone(key: &str, there: &impl Fn(&str) -> bool, make_room: impl Fn()) {
    let begun = std::time::Instant::now();
    while there(key) {
        make_room();
        assert!(begun.elapsed() < LONG, "{key} stays");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Builds tell what to do again by the times of files.
#[tokio::test]
async fn what_is_as_on_the_base_is_as_old_as_in_the_working_tree() {
    let ground = Ground::new();
    let source = source(&ground);
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let time = |path: &Path| fs::symlink_metadata(path).unwrap().modified().unwrap();
    let base = checkout.export(checkout.base_tree()).await.unwrap();
    fs::write(checkout.tree_path().join("src/a.js"), "2\n").unwrap();
    let changed = checkout.snapshot(&Default::default()).await.unwrap();
    let candidate = checkout.export(changed.tree()).await.unwrap();
    let of = |tree: &Path| (time(&tree.join("package.json")), time(&tree.join("src/a.js")));
    let ((same, old), (same_again, new)) = (of(&base.tree_path()), of(&candidate.tree_path()));
    assert_eq!((same, old), (same_again, same));
    assert!(new > same, "what differs is younger than what was built before");
    assert!(time(&checkout.tree_path().join("package.json")) <= same);
}

#[tokio::test]
async fn a_setup_that_failed_is_not_tried_again_for_a_while() {
    let ground = Ground::new();
    let source = source(&ground);
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    begin(&checkout, "one").await.give_up("there is no network".into(), LONG);
    match checkout.prepared("one", LONG).await.unwrap() {
        Found::Failed { reason, left } => assert!(reason == "there is no network" && left <= LONG, "{reason} {left:?}"),
        found => panic!("{found:?}"),
    }
    drop(begin(&checkout, "two").await);
    begin(&checkout, "two").await.give_up("for a moment".into(), Duration::ZERO);
    drop(begin(&checkout, "two").await);
}

#[tokio::test]
async fn locks_of_what_is_not_there_are_swept() {
    let ground = Ground::new();
    let source = source(&ground);
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    drop(make(&checkout, "kept", "1").await);
    drop(begin(&checkout, "given-up").await);
    let begun = begin(&checkout, "begun").await;
    let there = |key: &str| ground.path(&format!("cache/.prepared/{key}.lock")).exists();
    assert!(there("kept") && there("given-up") && there("begun"));
    until_gone("given-up", &there, || _ = ground.workspace.sweep()).await;
    assert!(there("kept") && there("begun"), "a lock is gone that somebody needs");
    // Whoever waits for a lock that is swept meanwhile takes the one that is there then.
    let (waiting, ()) = tokio::join!(find(&checkout, "begun"), async {
        for name in ["begun.lock", "begun.making"] {
            fs::remove_file(ground.path("cache/.prepared").join(name)).unwrap();
        }
        let again = begin(&checkout, "begun").await;
        fs::write(again.tree_path().join("again"), "").unwrap();
        drop(again.finish("again".into(), false).await.unwrap());
        drop(begun);
    });
    assert!(waiting.layer_path().join("again").exists() && waiting.note() == "again");
}

/// Who has just made a setup, or found it, holds it already when somebody makes room.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_removed_between_its_making_and_its_use() {
    let ground = Ground::new();
    let source = source(&ground);
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let (workspace, end) = (ground.workspace.clone(), Arc::new(AtomicBool::new(false)));
    let seen = end.clone();
    let evicting = std::thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            workspace.limit_prepared(0);
        }
    });
    for round in 0..40 {
        let prepared = match checkout.prepared("one", LONG).await.unwrap() {
            Found::Prepared(prepared) => prepared,
            Found::Nothing(preparation) => {
                fs::write(preparation.tree_path().join("made"), "").unwrap();
                preparation.finish("made".into(), false).await.unwrap()
            }
            Found::Failed { reason, .. } => panic!("{reason}"),
        };
        assert!(prepared.layer_path().join("made").exists(), "round {round}");
    }
    end.store(true, Ordering::Relaxed);
    evicting.join().unwrap();
}

/// For root nothing is closed, so there this holds anyway.
#[tokio::test]
async fn what_is_left_in_closed_folders_is_kept_too() {
    let ground = Ground::new();
    let source = source(&ground);
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let preparation = begin(&checkout, "one").await;
    let tree = preparation.tree_path();
    fs::write(tree.join("src/left.js"), "").unwrap();
    fs::create_dir_all(tree.join("made/inner")).unwrap();
    fs::write(tree.join("made/inner/file"), "").unwrap();
    for (name, mode) in [("src", 0o555), ("made/inner", 0o111), ("made", 0o000)] {
        fs::set_permissions(tree.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let prepared = preparation.finish("closed".into(), false).await.unwrap();
    assert_eq!(prepared.artefacts().paths().collect::<Vec<_>>(), ["made/", "src/left.js"]);
    let layer = prepared.layer_path();
    assert!(layer.join("src/left.js").exists() && layer.join("made/inner/file").exists());
    let mode = |name: &str| fs::metadata(layer.join(name)).unwrap().permissions().mode() & 0o700;
    assert_eq!((mode("made"), mode("made/inner")), (0o700, 0o700), "whoever copies it must be able to list it");
}
