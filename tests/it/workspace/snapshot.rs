//! Snapshots, exports and diffs: what is published is what was tested.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use patchwright::outcome::{ChangeKind, ChangedFile};
use patchwright::workspace::{Artefacts, WorkspaceError};

use super::support::{Ground, Repository, changed, fingerprint, git, path, snapshot, tree_by_git};

fn varied(ground: &Ground) -> Repository {
    let source = ground.repository("source");
    source.write("src/main.rs", "fn main() {}\n");
    source.write("crlf.txt", "one\r\ntwo\r\n");
    source.write("latin1.txt", b"caf\xe9\n");
    source.write("binary", [0, 1, 2, 255, 10, 13, 0]);
    source.write("run.sh", "#!/bin/sh\n");
    source.write("renamed.txt", (0..50).map(|line| format!("line {line}\n")).collect::<String>());
    source.write("gone.txt", "gone\n");
    source.write("a b/ü\n-x", "odd name\n");
    source.write("-rf", "leading dash\n");
    fs::set_permissions(source.path.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("src/main.rs", source.path.join("link")).unwrap();
    symlink("/etc/passwd", source.path.join("outside")).unwrap();
    source.commit("varied");
    source
}

#[tokio::test]
async fn an_unchanged_tree_is_the_base() {
    let ground = Ground::new();
    let source = varied(&ground);
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let taken = snapshot(&checkout).await;
    assert!(taken.is_empty());
    assert_eq!(taken.tree().as_str(), source.git(&["rev-parse", "HEAD^{tree}"]));
    assert!(checkout.diff(&taken).await.unwrap().patch.is_empty());
    // Touched, but the same: still nothing.
    fs::write(checkout.tree_path().join("src/main.rs"), "fn main() {}\n").unwrap();
    assert!(snapshot(&checkout).await.is_empty());
}

#[tokio::test]
async fn what_is_exported_is_exactly_what_was_there() {
    let ground = Ground::new();
    let source = varied(&ground);
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let tree = checkout.tree_path();
    let files = checkout.files();
    files.write(&path("src/main.rs"), b"fn main() { println!(); }\n").unwrap();
    files.write(&path("new/deep/file.txt"), "unicode: ü\n".as_bytes()).unwrap();
    files.remove(&path("gone.txt")).unwrap();
    fs::rename(tree.join("renamed.txt"), tree.join("moved.txt")).unwrap();
    fs::write(tree.join("crlf.txt"), "one\r\nthree\r\n").unwrap();
    fs::write(tree.join("latin1.txt"), b"caf\xe9 cr\xe8me\n").unwrap();
    fs::write(tree.join("binary"), [9, 0, 9, 0, 255, 254]).unwrap();
    fs::write(tree.join("a b/ü\n-x"), "odd name, new text\n").unwrap();
    fs::write(tree.join("-new"), "dash\n").unwrap();
    fs::write(tree.join("no newline"), "no newline").unwrap();
    fs::set_permissions(tree.join("run.sh"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(tree.join("new/deep/file.txt"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(tree.join("link")).unwrap();
    symlink("new/deep", tree.join("link")).unwrap();
    fs::remove_file(tree.join("-rf")).unwrap();
    fs::create_dir(tree.join("-rf")).unwrap();
    fs::write(tree.join("-rf/inside"), "a file became a folder\n").unwrap();

    let taken = snapshot(&checkout).await;
    assert_eq!(taken.tree().as_str(), tree_by_git(&tree));
    let export = checkout.export(taken.tree()).await.unwrap();
    assert_eq!(export.tree(), taken.tree());
    assert_eq!(fingerprint(&export.tree_path(), false), fingerprint(&tree, false));
    assert_eq!(tree_by_git(&export.tree_path()), taken.tree().as_str());
    assert_eq!(snapshot(&checkout).await, taken, "the same files make the same tree");

    let diff = checkout.diff(&taken).await.unwrap();
    let find = |name: &str| diff.files.iter().find(|file| file.path == name).unwrap_or_else(|| panic!("{name}"));
    let expected =
        ChangedFile { path: "moved.txt".into(), kind: ChangeKind::Renamed, added_lines: 0, removed_lines: 0 };
    assert_eq!(find("moved.txt"), &expected);
    assert_eq!(
        (find("crlf.txt").kind, find("crlf.txt").added_lines, find("crlf.txt").removed_lines),
        (ChangeKind::Modified, 1, 1)
    );
    assert_eq!(find("gone.txt").kind, ChangeKind::Deleted);
    assert_eq!(find("new/deep/file.txt").kind, ChangeKind::Added);

    // The patch makes the same tree in a fresh clone with the git binary.
    let clone = Repository { path: ground.path("clone") };
    source.git(&["-c", "core.autocrlf=false", "clone", "-q", ".", clone.path.to_str().unwrap()]);
    let mut apply = git(&clone.path).args(["apply", "--index"]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut apply.stdin.take().unwrap(), &diff.patch).unwrap();
    assert!(apply.wait().unwrap().success(), "{}", String::from_utf8_lossy(&diff.patch));
    assert_eq!(clone.git(&["write-tree"]), taken.tree().as_str());

    let place = export.tree_path();
    drop(export);
    assert!(!place.exists());
}

#[tokio::test]
async fn ignored_files_and_junk_stay_out_unless_tracked_or_written() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write(".gitignore", "*.log\n/out/\n");
    source.write("out/tracked.txt", "1\n");
    source.write("node_modules/tracked.js", "1\n");
    source.write("a.py", "1\n");
    source.commit("first");
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let tree = checkout.tree_path();
    for name in
        ["x.log", "out/new.txt", "node_modules/m/i.js", "__pycache__/a.pyc", "new.py", "sub/y.log", "deep/.gitignore"]
    {
        fs::create_dir_all(tree.join(name).parent().unwrap()).unwrap();
        fs::write(tree.join(name), "2\n").unwrap();
    }
    fs::write(tree.join("out/tracked.txt"), "2\n").unwrap();
    fs::write(tree.join("node_modules/tracked.js"), "2\n").unwrap();
    assert_eq!(changed(&checkout).await, ["deep/.gitignore", "new.py", "node_modules/tracked.js", "out/tracked.txt"]);
    checkout.files().write(&path("out/wanted/by/agent.txt"), b"3\n").unwrap();
    checkout.files().write(&path("wanted.log"), b"3\n").unwrap();
    assert_eq!(
        changed(&checkout).await,
        [
            "deep/.gitignore",
            "new.py",
            "node_modules/tracked.js",
            "out/tracked.txt",
            "out/wanted/by/agent.txt",
            "wanted.log"
        ]
    );
    checkout.files().remove(&path("wanted.log")).unwrap();
    assert!(!changed(&checkout).await.contains(&"wanted.log".to_owned()));
}

#[tokio::test]
async fn what_the_tests_make_is_kept_out() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write("src/a.c", "1\n");
    source.commit("first");
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let export = checkout.export(checkout.base_tree()).await.unwrap();
    assert!(checkout.freeze(export).await.unwrap().artefacts().is_empty());
    let export = checkout.export(checkout.base_tree()).await.unwrap();
    let make = |tree: &std::path::Path, names: &[&str]| {
        for name in names {
            fs::create_dir_all(tree.join(name).parent().unwrap()).unwrap();
            fs::write(tree.join(name), "made\n").unwrap();
        }
    };
    make(&export.tree_path(), &["build/sub/a.o", "build/run-1.txt", "src/a.out", ".coverage", "x.pyc"]);
    let layer = checkout.freeze(export).await.unwrap();
    let artefacts = layer.artefacts().clone();
    assert_eq!(artefacts.paths().collect::<Vec<_>>(), [".coverage", "build/", "src/a.out", "x.pyc"]);
    assert_eq!(fs::read_to_string(layer.path().join("build/sub/a.o")).unwrap(), "made\n");
    assert!(!layer.path().join("src/a.c").exists(), "what is tracked is no part of it");

    make(&checkout.tree_path(), &["build/run-2.txt", "src/a.out", "src/b.c", ".coverage"]);
    checkout.files().write(&path("build/kept.txt"), b"by the agent\n").unwrap();
    let taken = checkout.snapshot(&artefacts).await.unwrap();
    let diff = checkout.diff(&taken).await.unwrap();
    assert_eq!(diff.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["build/kept.txt", "src/b.c"]);
    let all = checkout.snapshot(&Artefacts::default()).await.unwrap();
    assert_eq!(checkout.diff(&all).await.unwrap().files.len(), 5);
}

#[tokio::test]
async fn a_file_that_no_forge_takes_is_an_error() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.commit("first");
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let file = fs::File::create(checkout.tree_path().join("big.bin")).unwrap();
    file.set_len(200 << 20).unwrap();
    let error = checkout.snapshot(&Artefacts::default()).await.unwrap_err();
    let WorkspaceError::FileTooLarge { path, length, .. } = &error else { panic!("{error}") };
    assert_eq!((path.as_str(), *length), ("big.bin", 200 << 20));
    fs::write(checkout.tree_path().join(".gitignore"), "*.bin\n").unwrap();
    assert_eq!(changed(&checkout).await, [".gitignore"]);
}
