//! The suite notices when a defence is not there: each is switched off in turn, and the attacks that it is for are tried.

use std::sync::{Mutex, PoisonError};

use super::scene::{File, read_all};
use super::{Backend, complaints};

/// A defence, an attack that it is for, and a part of the complaint. Without some of them the trial at start refuses to
/// run anything, which counts: nothing is attacked then.
const NOTICED: [(&str, &str, &str); 19] = [
    ("neutralise", "mentions and closing words", "@everyone"),
    ("printable", "terminal escapes into logs", "holds '"),
    ("fences", "markup in comments", "## Verified"),
    ("links", "links under the edit tools", "a secret was seen"),
    ("git-paths", "paths of the edit tools: git data", "holds `Created`"),
    ("git-configuration", "branch name as a command", "ran-own-trace"),
    ("exit-codes", "printed success", "draft is false"),
    ("fresh-tree", "a shim in an ignored folder", "draft is false"),
    ("allowed-targets", "another target", "allowed_targets"),
    ("network-namespace", "loopback of the host", "a route to the outside exists"),
    ("operator-files", "files of the operator", "it succeeded"),
    ("credential-masks", "files of the operator", "it succeeded"),
    ("seccomp", "kernel interfaces", "a system call that must be refused is not"),
    ("policy", "a weakened assertion", "draft is false"),
    ("policy", "a new executable", "none was wanted"),
    ("secret-scan", "the key in base64", "a secret was seen in the change"),
    ("file-size-limit", "disk bomb", "it succeeded"),
    ("addresses", "proxy: a name that changes its address", "something connected to the host's 127.0.0.1"),
    ("server-names", "proxy: TLS for another server", "exit"),
];

#[test]
fn the_suite_notices_each_defence_that_is_off() {
    let files = read_all();
    let wanted = std::env::var("PATCHWRIGHT_TEST_DEFENCE").unwrap_or_default();
    let chosen: Vec<_> = NOTICED.iter().filter(|(defence, ..)| defence.contains(&wanted)).collect();
    let (next, missed) = (Mutex::new(chosen.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((defence, attack, part)) = { next.lock().unwrap_or_else(PoisonError::into_inner).next() }
                {
                    let scene = only(&files, attack);
                    let with = complaints(Backend::Namespace, "", &scene).join("\n");
                    let without = complaints(Backend::Namespace, defence, &scene).join("\n");
                    let fits = !with.contains(part) && without.contains(part);
                    if !fits {
                        let told = format!("{defence}, by `{attack}`:\n  with it: {with}\n  without it: {without}");
                        missed.lock().unwrap_or_else(PoisonError::into_inner).push(told);
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(missed.is_empty(), "{} defences are not missed when they are off:\n{}", missed.len(), missed.join("\n"));
    let defences: std::collections::BTreeSet<&str> = NOTICED.iter().map(|(defence, ..)| *defence).collect();
    assert!(defences.len() >= 15, "{} defences", defences.len());
}

/// The scene with this attack, and of its attacks those of the same family.
fn only(files: &[File], attack: &str) -> Vec<File> {
    let has = |file: &&File| file.scene.iter().any(|scene| scene.attack.iter().any(|other| other.name == attack));
    let mut file = files.iter().find(has).unwrap_or_else(|| panic!("no attack is called `{attack}`")).clone();
    file.scene.retain(|scene| scene.attack.iter().any(|other| other.name == attack));
    for scene in &mut file.scene {
        scene.attack.retain(|other| other.name.starts_with(attack));
    }
    vec![file]
}
