//! The repository is data: nothing of it runs or resolves on this machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::support::{Ground, author, changed, fingerprint, path, snapshot, tree_by_git};

fn script(path: &Path, marker: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\necho ran \"$0\" >> '{}'\ncat\n", marker.display())).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn hooks_filters_and_settings_of_a_local_repository_never_run() {
    let ground = Ground::new();
    let marker = ground.path("marker");
    let trap = ground.path("trap");
    let source = ground.repository("source");
    source.write(".gitattributes", "* text=auto eol=crlf ident filter=evil diff=evil merge=evil\n*.bin filter=lfs\n");
    source.write("a.txt", "$Id$ one\ntwo\n");
    source.write("crlf.txt", "$Id$ one\r\ntwo\r\n");
    source.write("big.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
    source.write("utf16.txt", b"\xff\xfea\0b\0");
    source.git(&["-c", "core.autocrlf=false", "hash-object", "-w", "--no-filters", "a.txt"]);
    // Without the traps in place yet, and with the attributes overruled: the objects are the files' own bytes.
    fs::write(source.path.join(".git/info/attributes"), "* -text -ident -filter\n").unwrap();
    source.commit("first");
    fs::remove_file(source.path.join(".git/info/attributes")).unwrap();
    script(&trap, &marker);
    for hook in
        ["post-checkout", "pre-commit", "commit-msg", "post-commit", "reference-transaction", "post-index-change"]
    {
        script(&source.path.join(".git/hooks").join(hook), &marker);
    }
    let trap = trap.to_str().unwrap();
    for key in [
        "core.fsmonitor",
        "filter.evil.smudge",
        "filter.evil.clean",
        "filter.lfs.smudge",
        "filter.lfs.process",
        "diff.evil.textconv",
        "diff.evil.command",
        "diff.external",
        "core.sshCommand",
        "core.pager",
        "gpg.program",
        "uploadpack.packObjectsHook",
        "credential.helper",
        "merge.evil.driver",
        "core.editor",
    ] {
        source.git(&["config", key, trap]);
    }
    let expected: Vec<_> =
        fingerprint(&source.path, false).into_iter().filter(|(name, _)| !name.starts_with(b".git/")).collect();
    for remote in [source.local(), source.url()] {
        let checkout = ground.checkout(&remote, None).await.unwrap();
        let found: Vec<_> = fingerprint(&checkout.tree_path(), false).into_iter().collect();
        assert_eq!(found, expected, "bytes are taken as they are");
        checkout.files().write(&path("crlf.txt"), b"$Id$ one\r\nthree\r\n").unwrap();
        checkout.files().write(&path("big.bin"), b"changed\r\n").unwrap();
        let taken = snapshot(&checkout).await;
        assert_eq!(taken.tree().as_str(), tree_by_git(&checkout.tree_path()));
        let diff = checkout.diff(&taken).await.unwrap();
        assert_eq!(diff.files.len(), 2);
        let export = checkout.export(taken.tree()).await.unwrap();
        assert_eq!(fingerprint(&export.tree_path(), false), fingerprint(&checkout.tree_path(), false));
        let commit = checkout.commit(&taken, "message", &author(), None).await.unwrap();
        if matches!(remote, patchwright::workspace::Remote::Local(_)) {
            checkout.create_local_branch(&commit, "result").await.unwrap();
        }
        let patch = String::from_utf8(diff.patch).unwrap();
        let second = ground.checkout(&remote, None).await.unwrap();
        second.apply_patches(&[patch]).await.unwrap();
        assert_eq!(snapshot(&second).await.tree(), taken.tree());
    }
    assert!(!marker.exists(), "{}", fs::read_to_string(&marker).unwrap_or_default());
}

#[tokio::test]
async fn links_pipes_and_git_folders_in_the_tree_are_only_looked_at() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write("a/file", "1\n");
    source.write("tracked", "1\n");
    source.commit("first");
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let tree = checkout.tree_path();
    let outside = ground.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "secret\n").unwrap();
    fs::remove_dir_all(tree.join("a")).unwrap();
    symlink(&outside, tree.join("a")).unwrap();
    symlink("/etc", tree.join("etc")).unwrap();
    let pipe = |name: &str| {
        let target = tree.join(name);
        rustix::fs::mknodat(rustix::fs::CWD, target, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    };
    pipe(".gitignore");
    pipe(".gitattributes");
    fs::remove_file(tree.join("tracked")).unwrap();
    pipe("tracked");
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    let marker = ground.path("marker");
    for place in [".git", "nested/.git", "nested/.GIT", "b/git~1"] {
        fs::create_dir_all(tree.join(place).join("hooks")).unwrap();
        fs::write(tree.join(place).join("config"), format!("[core]\nfsmonitor = touch {}\n", marker.display()))
            .unwrap();
        fs::write(tree.join(place).join("HEAD"), "ref: refs/heads/x\n").unwrap();
    }
    fs::write(tree.join("nested/file"), "2\n").unwrap();
    let taken = tokio::time::timeout(std::time::Duration::from_secs(30), snapshot(&checkout));
    let taken = taken.await.expect("a pipe must not be waited for");
    let diff = checkout.diff(&taken).await.unwrap();
    assert_eq!(changed(&checkout).await, ["a", "a/file", "etc", "nested/file", "tracked"]);
    assert!(!String::from_utf8_lossy(&diff.patch).contains("secret"));
    let export = checkout.export(taken.tree()).await.unwrap();
    assert_eq!(fs::read_link(export.tree_path().join("a")).unwrap(), outside);
    checkout.commit(&taken, "message", &author(), None).await.unwrap();
    assert!(!marker.exists());
    drop(export);
    drop(checkout);
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "secret\n");
}

#[tokio::test]
async fn submodules_stay_as_they_are() {
    let ground = Ground::new();
    let inner = ground.repository("inner");
    inner.write("x", "1\n");
    inner.commit("inner");
    let source = ground.repository("source");
    source.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        inner.path.to_str().unwrap(),
        "sub/module",
    ]);
    source.write("sub/file", "1\n");
    source.commit("first");
    let link = source.git(&["ls-tree", "HEAD", "sub/module"]);
    for remote in [source.local(), source.url()] {
        let checkout = ground.checkout(&remote, None).await.unwrap();
        assert!(!checkout.uncommitted_changes());
        assert_eq!(fs::read_dir(checkout.tree_path().join("sub/module")).unwrap().count(), 0);
        assert!(snapshot(&checkout).await.is_empty());
        fs::write(checkout.tree_path().join("sub/module/y"), "2\n").unwrap();
        fs::write(checkout.tree_path().join("sub/file"), "2\n").unwrap();
        assert_eq!(changed(&checkout).await, ["sub/file"]);
        let commit = checkout.commit(&snapshot(&checkout).await, "m", &author(), None).await.unwrap();
        if matches!(remote, patchwright::workspace::Remote::Local(_)) {
            checkout.create_local_branch(&commit, "result").await.unwrap();
            assert_eq!(source.git(&["ls-tree", "result", "sub/module"]), link);
        }
    }
}

#[tokio::test]
async fn a_folder_without_permissions_goes_with_its_checkout() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.commit("first");
    let checkout = ground.checkout(&source.url(), None).await.unwrap();
    let locked = checkout.tree_path().join("locked/inner");
    fs::create_dir_all(&locked).unwrap();
    fs::write(locked.join("file"), "x").unwrap();
    fs::set_permissions(locked.parent().unwrap(), fs::Permissions::from_mode(0o000)).unwrap();
    drop(checkout);
    assert!(ground.task_folders().is_empty());
}

/// What nobody may read stops no task. Root may read everything, so it has an ordinary user run this.
#[tokio::test]
async fn what_a_command_closed_is_opened_again() {
    if rustix::process::getuid().is_root() {
        return as_an_ordinary_user("workspace::hostile::what_a_command_closed_is_opened_again");
    }
    let close = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write("tracked/a", "1\n");
    source.commit("first");
    fs::create_dir(source.path.join("private")).unwrap();
    close(&source.path.join("private"), 0o000);
    for remote in [source.local(), source.url()] {
        let checkout = ground.checkout(&remote, None).await.unwrap();
        let export = checkout.export(checkout.base_tree()).await.unwrap();
        for tree in [checkout.tree_path(), export.tree_path()] {
            for (name, mode) in [("none/inner", 0o000), ("list/inner", 0o400), ("enter/inner", 0o100)] {
                fs::create_dir_all(tree.join(name)).unwrap();
                fs::write(tree.join(name).join("file"), "x").unwrap();
                close(&tree.join(name).join("file"), 0o000);
                close(&tree.join(name), mode);
                close(tree.join(name).parent().unwrap(), mode);
            }
            close(&tree.join("tracked"), 0o000);
        }
        checkout.files().walk(None, 100).unwrap();
        let layer = checkout.freeze(export).await.unwrap();
        let artefacts = layer.artefacts().clone();
        assert_eq!(artefacts.paths().collect::<Vec<_>>(), ["enter/", "list/", "none/"]);
        assert_eq!(changed(&checkout).await, ["enter/inner/file", "list/inner/file", "none/inner/file"]);
        assert!(checkout.snapshot(&artefacts).await.unwrap().is_empty());
        close(&checkout.tree_path().join("none/inner"), 0o000);
        close(&checkout.tree_path().join("none"), 0o000);
        drop((checkout, layer));
        assert!(ground.task_folders().is_empty());
    }
    let mode = fs::metadata(source.path.join("private")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o000, "the user's own repository is not touched");
    close(&source.path.join("private"), 0o700);
}

/// Runs one of these tests as user 1000.
fn as_an_ordinary_user(test: &str) {
    let skipped = |reason: &str| {
        eprintln!("SKIPPED: {reason}");
        assert!(std::env::var_os("PATCHWRIGHT_TEST_REQUIRE_ALL").is_none(), "cannot run here: {reason}");
    };
    if which::which("setpriv").is_err() {
        return skipped("setpriv is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    // Copied by another process: a writable descriptor of ours could live on in a child, and the copy would be busy.
    let mut copy = std::process::Command::new("cp");
    copy.arg(std::env::current_exe().unwrap()).arg(folder.path().join("tests"));
    assert!(copy.status().unwrap().success());
    std::os::unix::fs::chown(folder.path(), Some(1000), Some(1000)).unwrap();
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=1000", "--regid=1000", "--clear-groups"])
        .arg(folder.path().join("tests"))
        .args(["--exact", test, "--nocapture"])
        .env("HOME", folder.path())
        .env("TMPDIR", folder.path())
        .current_dir("/")
        .output()
        .unwrap();
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if printed.contains("Permission denied (os error 13)") && !printed.contains("running") {
        return skipped("the temporary folder cannot be reached by an ordinary user");
    }
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

#[tokio::test]
async fn a_base_with_paths_into_git_data_is_refused() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write("x", "1\n");
    source.commit("first");
    let blob = source.git(&["rev-parse", "HEAD:x"]);
    let mktree = |line: String| {
        let file = ground.path("entries");
        fs::write(&file, line).unwrap();
        let output = super::support::git(&source.path).arg("mktree").stdin(fs::File::open(&file).unwrap()).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
    };
    for name in [".git", ".GIT", "git~1", ".gi\u{200c}t", ".."] {
        let inner = mktree(format!("100755 blob {blob}\tconfig\n"));
        let tree = mktree(format!("040000 tree {inner}\t{name}\n"));
        let commit = source.git(&["commit-tree", "-m", "evil", &tree]);
        source.git(&["branch", "-f", "evil", &commit]);
        for remote in [source.local(), source.url()] {
            let error = ground.checkout(&remote, Some("evil")).await.unwrap_err();
            assert!(error.to_string().contains("invalid path"), "{name}: {error}");
        }
    }
    assert!(ground.task_folders().is_empty());
}
