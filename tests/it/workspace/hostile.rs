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
        let commit = checkout.commit(&taken, "message", &author()).await.unwrap();
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
    checkout.commit(&taken, "message", &author()).await.unwrap();
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
        let commit = checkout.commit(&snapshot(&checkout).await, "m", &author()).await.unwrap();
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
