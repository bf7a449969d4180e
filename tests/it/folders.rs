//! Walks through folders that somebody else changes meanwhile, or has made to be walked badly.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use patchwright::folders::{self, Access, DEEPEST, Met, Next, Usage};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};

/// What is done again and again beside a test, until it ends.
struct Meanwhile {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Meanwhile {
    fn go(work: impl Fn() + Send + 'static) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let seen = end.clone();
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                work();
            }
        });
        Self { end, thread: Some(thread) }
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A folder with a file in a folder that nobody may enter.
fn victim(folder: &Path) -> PathBuf {
    let victim = folder.join("victim");
    fs::create_dir_all(victim.join("inner")).unwrap();
    fs::write(victim.join("inner/kept"), "kept").unwrap();
    set_mode(&victim.join("inner"), 0o511);
    set_mode(&victim, 0o555);
    victim
}

fn is_untouched(victim: &Path) -> bool {
    mode(victim) == 0o555 && mode(&victim.join("inner")) == 0o511 && victim.join("inner/kept").is_file()
}

/// As a box does whose task was cancelled: folders are links by turns, and made anew when they are gone. A removal by paths
/// is led to the victim within ten rounds.
#[test]
fn no_removal_is_led_elsewhere_by_a_link_that_is_swapped_in() {
    let ground = tempfile::tempdir().unwrap();
    let victim = victim(ground.path());
    for round in 0..40 {
        let tree = ground.path().join("tree");
        for number in 0..8 {
            fs::create_dir_all(tree.join(format!("a{number}/below"))).unwrap();
            symlink(&victim, tree.join(format!("b{number}"))).unwrap();
        }
        let (own, target) = (tree.clone(), victim.clone());
        let swaps = Meanwhile::go(move || {
            for number in 0..8 {
                let (folder, link) = (own.join(format!("a{number}")), own.join(format!("b{number}")));
                if rustix::fs::renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).is_err() {
                    let _ = fs::create_dir(&folder);
                    let _ = symlink(&target, &link);
                }
            }
        });
        folders::measure(&tree, Access::Lend, |_| false);
        folders::size(&tree, Access::Give);
        // With somebody who goes on making files it may fail; it must not go astray.
        let _ = folders::remove(&tree);
        drop(swaps);
        assert!(is_untouched(&victim), "round {round}");
        folders::remove(&tree).unwrap();
        assert!(!tree.exists());
    }
    set_mode(&victim, 0o755);
    set_mode(&victim.join("inner"), 0o755);
}

/// Folders below each other, made without a path that would be too long.
fn nest(root: &Path, name: &str, depth: usize) {
    fs::create_dir_all(root).unwrap();
    let mut folder = folders::open(root).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&folder, name, Mode::RWXU).unwrap();
        folder = rustix::fs::openat(&folder, name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let flags = OFlags::CREATE | OFlags::WRONLY;
        drop(rustix::fs::openat(&folder, "file", flags, Mode::RUSR).unwrap());
    }
}

#[test]
fn no_tree_is_too_deep_to_be_removed_or_to_be_told_from_one_that_can_be_measured() {
    let ground = tempfile::tempdir().unwrap();
    let tree = ground.path().join("tree");
    // Longer than any path.
    nest(&tree, &"x".repeat(250), 60);
    let usage = folders::measure(&tree, Access::Keep, |_| false).unwrap();
    assert_eq!(usage.files, 120);
    let enough = folders::measure(&tree, Access::Keep, |usage| usage.files >= 10).unwrap();
    assert_eq!(enough.files, 10, "no more is looked at than is asked for");
    folders::remove(&tree).unwrap();
    assert!(!tree.exists());
    nest(&tree, "y", DEEPEST * 2 + 5);
    assert_eq!(folders::measure(&tree, Access::Keep, |_| false), None, "what is below is not known");
    assert!(folders::measure(&tree, Access::Keep, |usage| usage.files > 3).is_some(), "but this was");
    folders::remove(&tree).unwrap();
    assert!(!tree.exists());
    folders::remove(&tree).unwrap();
    assert_eq!(folders::measure(&tree, Access::Keep, |_| false), Some(Usage::default()));
}

/// For root nothing is closed, so there this holds anyway.
#[test]
fn closed_folders_are_looked_into_and_stay_closed_unless_they_are_to_be_opened() {
    let ground = tempfile::tempdir().unwrap();
    let tree = ground.path().join("tree");
    for name in ["none", "only-enter", "only-list", "open"] {
        fs::create_dir_all(tree.join(name).join("inner")).unwrap();
        fs::write(tree.join(name).join("inner/file"), vec![1; 10_000]).unwrap();
        set_mode(&tree.join(name).join("inner"), 0o000);
    }
    let modes = [("none", 0o000), ("only-enter", 0o311), ("only-list", 0o444), ("open", 0o755)];
    modes.iter().for_each(|(name, mode)| set_mode(&tree.join(name), *mode));
    let usage = folders::measure(&tree, Access::Lend, |_| false).unwrap();
    assert_eq!(usage.files, 12);
    assert!(usage.bytes >= 40_000, "{usage:?}");
    // Also where the walk ends early, in the middle of one.
    let mut files = 0;
    folders::walk(&tree, Access::Lend, |met| {
        files += usize::from(matches!(met, Met::Entry(entry) if !entry.is_folder()));
        Ok(if files == 2 { Next::End } else { Next::On })
    })
    .unwrap();
    assert_eq!(files, 2);
    for (name, wanted) in modes {
        assert_eq!(mode(&tree.join(name)), wanted, "{name}");
    }
    if !rustix::process::geteuid().is_root() {
        assert_eq!(folders::measure(&tree, Access::Keep, |_| false), None);
    }
    assert!(folders::size(&tree, Access::Give) >= 40_000);
    for (name, wanted) in modes {
        assert_eq!(mode(&tree.join(name)), wanted | 0o700, "{name}");
        assert_eq!(mode(&tree.join(name).join("inner")), 0o700, "{name}");
    }
    modes.iter().for_each(|(name, _)| set_mode(&tree.join(name), 0o000));
    folders::remove(&tree).unwrap();
    assert!(!tree.exists());
}

#[test]
fn a_file_of_several_names_counts_once_and_links_are_not_followed() {
    let ground = tempfile::tempdir().unwrap();
    let (tree, other) = (ground.path().join("tree"), ground.path().join("other"));
    fs::create_dir_all(&tree).unwrap();
    fs::create_dir_all(&other).unwrap();
    fs::write(tree.join("0"), vec![1; 100_000]).unwrap();
    let blocks = |path: &Path| rustix::fs::statat(CWD, path, AtFlags::empty()).unwrap().st_blocks as u64 * 512;
    let one = blocks(&tree.join("0"));
    for number in 1..8 {
        fs::hard_link(tree.join("0"), tree.join(number.to_string())).unwrap();
    }
    fs::write(other.join("large"), vec![1; 1_000_000]).unwrap();
    symlink(&other, tree.join("link")).unwrap();
    let usage = folders::measure(&tree, Access::Keep, |_| false).unwrap();
    assert_eq!(usage.files, 9);
    assert!((one..one + 8_192).contains(&usage.bytes), "{usage:?}, {one}");
    // The walk's own folder must not be a link either.
    symlink(&tree, ground.path().join("tree-by-link")).unwrap();
    assert!(folders::walk(&ground.path().join("tree-by-link"), Access::Keep, |_| Ok(Next::On)).is_err());
    assert!(folders::remove(&ground.path().join("tree-by-link")).is_err());
    assert_eq!(fs::read_dir(&tree).unwrap().count(), 9);
}
