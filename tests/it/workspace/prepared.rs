//! What setups have made, kept from task to task.

use std::fs;
use std::path::Path;
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
    assert_eq!(names, ["lock", "one", "one.lock", "two.lock"], "what was given up is gone");
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
    until_gone("one", &there, || ground.workspace.limit_prepared(60_000)).await;
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
