//! Mirrors that make room.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd};

use super::support::{Ground, Repository};

fn mirrors(ground: &Ground) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![ground.path("cache")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().is_some_and(|extension| extension == "git") {
                true => found.push(path),
                false if path.is_dir() => folders.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// The mirror that `work` makes.
async fn mirror_of(ground: &Ground, source: &Repository) -> PathBuf {
    let before = mirrors(ground);
    drop(ground.checkout(&source.url(), None).await.unwrap());
    mirrors(ground).into_iter().find(|mirror| !before.contains(mirror)).unwrap()
}

fn last_used(mirror: &Path, seconds_ago: u64) {
    let file = File::options().write(true).open(mirror.with_extension("use")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds_ago)).unwrap();
}

/// As a program has them between its fork and its execution.
fn copies_of(path: &Path) -> Vec<OwnedFd> {
    let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap();
    let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let numbers = open.filter(|open| fs::read_link(open).is_ok_and(|target| target == path));
    let numbers = numbers.map(|open| open.file_name().unwrap().to_str().unwrap().parse().unwrap());
    numbers.map(|number| pidfd_getfd(&own, number, PidfdGetfdFlags::empty()).unwrap()).collect()
}

#[tokio::test]
async fn the_longest_unused_mirror_that_nobody_holds_goes_first() {
    let ground = Ground::new();
    let mut made = Vec::new();
    for name in ["one", "two", "three"] {
        let source = ground.repository(name);
        source.write("a.txt", name);
        source.commit("first");
        let mirror = mirror_of(&ground, &source).await;
        made.push((source, mirror));
    }
    let [(one, first), (_, second), (_, third)] = made.try_into().ok().unwrap();
    let whole = ground.workspace.size();
    assert!(whole > 0);
    for (mirror, seconds_ago) in [(&first, 300), (&second, 200), (&third, 100)] {
        last_used(mirror, seconds_ago);
    }
    assert_eq!(ground.workspace.evict(0), 0);
    assert_eq!(mirrors(&ground).len(), 3);
    // The oldest is in use, so the second oldest goes, and no more than is needed.
    let held = ground.checkout(&one.url(), None).await.unwrap();
    last_used(&first, 300);
    let freed = ground.workspace.evict(1);
    assert!(freed > 0 && !second.exists() && first.exists() && third.exists(), "{:?}", mirrors(&ground));
    assert!(ground.workspace.evict(u64::MAX) > 0);
    assert_eq!(mirrors(&ground), std::slice::from_ref(&first));
    // What is held still works, to the push and beyond.
    held.export(held.base_tree()).await.unwrap();
    // What is being started at this moment has each open file too.
    let copies = copies_of(&first.with_extension("use"));
    assert_eq!(copies.len(), 1);
    drop(held);
    assert!(ground.workspace.evict(u64::MAX) > 0);
    assert!(mirrors(&ground).is_empty());
    assert!(ground.workspace.size() < whole);
    // And it is made again.
    assert_eq!(mirror_of(&ground, &one).await, first);
}

#[tokio::test]
async fn a_mirror_that_is_being_fetched_stays() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.commit("first");
    let mirror = mirror_of(&ground, &source).await;
    let lock = File::open(mirror.with_extension("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
    assert_eq!(ground.workspace.evict(u64::MAX), 0);
    assert!(mirror.exists());
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::Unlock).unwrap();
    assert!(ground.workspace.evict(u64::MAX) > 0 && !mirror.exists());
}
