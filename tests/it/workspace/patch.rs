//! Patches: in order, strictly, all or nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use patchwright::workspace::{Checkout, PatchError};

use super::support::{Ground, changed, fingerprint, path, snapshot};

async fn checkout(ground: &Ground) -> Checkout {
    let source = ground.repository("source");
    source.write("a.txt", "one\ntwo\nthree\n");
    source.write("crlf.txt", "one\r\ntwo\r\nthree\r\n");
    source.write("dir/b.txt", "one\ntwo\nthree\n");
    symlink("dir", source.path.join("link")).unwrap();
    source.commit("first");
    ground.checkout(&source.url(), None).await.unwrap()
}

fn read(checkout: &Checkout, name: &str) -> String {
    fs::read_to_string(checkout.tree_path().join(name)).unwrap()
}

#[tokio::test]
async fn patches_of_all_kinds_are_applied_in_order() {
    let ground = Ground::new();
    let checkout = checkout(&ground).await;
    let patches = [
        // A later patch builds on an earlier one; the last line end of the fence is missing.
        "--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three",
        "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,4 @@ heading\n one\n-TWO\n+2\n+2.5\n three\n",
        "--- /dev/null\n+++ b/new/file.txt\n@@ -0,0 +1 @@\n+hello\n",
        "diff --git a/run.sh b/run.sh\nnew file mode 100755\n--- /dev/null\n+++ b/run.sh\n@@ -0,0 +1 @@\n+#!/bin/sh\n",
        "diff --git a/dir/b.txt b/c.txt\nsimilarity index 100%\nrename from dir/b.txt\nrename to c.txt\n",
        "diff --git a/c.txt b/c.txt\nold mode 100644\nnew mode 100755\n",
        "diff --git a/link b/link\ndeleted file mode 120000\n--- a/link\n+++ /dev/null\n@@ -1 +0,0 @@\n-dir\n\\ No newline\n",
        // The line ends were lost on the way.
        "--- a/crlf.txt\n+++ b/crlf.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+zwei\n three\n",
    ];
    checkout.apply_patches(&patches.map(str::to_owned)).await.unwrap();
    assert_eq!(read(&checkout, "a.txt"), "one\n2\n2.5\nthree\n");
    assert_eq!(read(&checkout, "new/file.txt"), "hello\n");
    assert_eq!(read(&checkout, "crlf.txt"), "one\r\nzwei\r\nthree\r\n");
    let mode = |name: &str| fs::metadata(checkout.tree_path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run.sh"), mode("c.txt"), mode("a.txt")), (0o755, 0o755, 0o644));
    assert!(!checkout.tree_path().join("dir").exists() && !checkout.tree_path().join("link").is_symlink());
    assert_eq!(changed(&checkout).await, ["a.txt", "c.txt", "crlf.txt", "link", "new/file.txt", "run.sh"]);
}

#[tokio::test]
async fn binary_patches_are_applied() {
    let ground = Ground::new();
    let first = checkout(&ground).await;
    let bytes: Vec<u8> = (0..2000_u32).map(|number| (number * number % 251) as u8).collect();
    first.files().write(&path("image.bin"), &bytes).unwrap();
    let taken = snapshot(&first).await;
    let patch = String::from_utf8(first.diff(&taken).await.unwrap().patch).unwrap();
    assert!(patch.contains("GIT binary patch"));
    let url = patchwright::workspace::Remote::Url {
        url: url::Url::from_file_path(ground.path("source")).unwrap(),
        token: None,
    };
    let second = ground.checkout(&url, None).await.unwrap();
    second.apply_patches(&[patch]).await.unwrap();
    assert_eq!(snapshot(&second).await.tree(), taken.tree());
}

#[tokio::test]
async fn patches_build_on_what_is_in_the_tree_already() {
    let ground = Ground::new();
    let checkout = checkout(&ground).await;
    checkout.files().write(&path("a.txt"), b"eins\ntwo\nthree\n").unwrap();
    let patch = "--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n eins\n-two\n+zwei\n three\n";
    checkout.apply_patches(&[patch.into()]).await.unwrap();
    assert_eq!(read(&checkout, "a.txt"), "eins\nzwei\nthree\n");
}

#[tokio::test]
async fn patches_that_do_not_apply_change_nothing_and_say_why() {
    let ground = Ground::new();
    let checkout = checkout(&ground).await;
    let outside = ground.path("temporary");
    let before = (fingerprint(&checkout.tree_path(), true), fs::read_dir(&outside).unwrap().count());
    let good = "--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n";
    for (patch, file, reason) in [
        ("--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n one\n-zwei\n+TWO\n three\n", Some("a.txt"), "does not apply"),
        ("--- a/gone.txt\n+++ b/gone.txt\n@@ -1 +1 @@\n-a\n+b\n", Some("gone.txt"), "does not exist"),
        ("--- /dev/null\n+++ b/a.txt\n@@ -0,0 +1 @@\n+x\n", Some("a.txt"), "already exists"),
        ("--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+x\n", Some(".git/hooks/x"), "invalid path"),
        ("--- /dev/null\n+++ b/../x\n@@ -0,0 +1 @@\n+x\n", Some("../x"), "invalid path"),
        ("--- /dev/null\n+++ b//etc/x\n@@ -0,0 +1 @@\n+x\n", None, ""),
        ("--- /dev/null\n+++ b/link/x\n@@ -0,0 +1 @@\n+x\n", Some("link/x"), "beyond a symbolic link"),
        ("--- a/a.txt\n+++ b/a.txt\n@@ ... @@\n-two\n+TWO\n", Some("a.txt"), "no line ranges"),
        ("--- /dev/null\n+++ b/n.txt\n@@\n+two\n", Some("n.txt"), "no line ranges"),
        ("--- a/a.txt\n+++ b/a.txt\n", Some("a.txt"), "no hunk"),
        ("diff --git a/n b/n\nnew file mode 100644\n--- /dev/null\n+++ b/n\n", Some("n"), "no hunk"),
        ("--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n one\n", None, "corrupt patch"),
        ("--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n-one\n+one\n TWO\n three\n", Some("a.txt"), "changes nothing"),
        ("nothing here", None, "No valid patches"),
        ("", None, ""),
    ] {
        let error = checkout.apply_patches(&[good.into(), patch.into()]).await.unwrap_err();
        let PatchError::Rejected { number: 2, file: told, reason: why } = &error else { panic!("{patch}: {error}") };
        if let Some(file) = file {
            assert_eq!(told.as_deref(), Some(file), "{patch}: {error}");
        }
        assert!(why.contains(reason), "{patch}: {error}");
        assert!(!error.to_string().contains("/patchwright-"), "{error}");
        assert_eq!(fingerprint(&checkout.tree_path(), true), before.0, "{patch}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), before.1);
    }
}
