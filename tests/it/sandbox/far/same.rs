//! After each command the folder here and the folder there are the same.

use std::fs;
use std::os::unix::fs::symlink;

use patchwright::sandbox::{Home, Sandbox};

use super::*;

/// Prints each path with its kind, whether its owner may execute it, and its contents.
const LOOK: &str = r#"
import hashlib, os, stat, sys
for folder, folders, files in os.walk(sys.argv[1]):
    if folder == sys.argv[1] and '.git' in folders:
        folders.remove('.git')
    folders.sort()
    for name in sorted(folders + files):
        path = os.path.join(folder, name)
        shown, kind = os.path.relpath(path, sys.argv[1]).encode('utf-8', 'surrogateescape'), os.lstat(path).st_mode
        if stat.S_ISLNK(kind):
            print(shown, 'link', os.readlink(path))
        elif stat.S_ISDIR(kind):
            print(shown, 'folder')
        elif stat.S_ISREG(kind):
            held = hashlib.sha256(open(path, 'rb').read()).hexdigest()
            print(shown, 'file', bool(kind & 0o100), int(os.lstat(path).st_mtime), held)
"#;

async fn are_same(sandbox: &dyn Sandbox, tree: &Path, when: &str) {
    let mut order = command("python3 -c \"$LOOK\" /workspace");
    order.environment.insert("LOOK".into(), LOOK.into());
    let output = sandbox.run(&order).await.unwrap();
    assert_eq!(output.ending, Ending::Exited(0));
    let here = tokio::process::Command::new("python3").args(["-c", LOOK]).arg(tree).output().await.unwrap();
    assert!(here.status.success(), "{here:?}");
    assert_eq!(text(&output), String::from_utf8_lossy(&here.stdout), "{when}");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_stay_the_same_whoever_writes() {
    let Some(far) = Far::get() else { return };
    let mut settings = far.settings();
    settings.limits.output_bytes = 1 << 20;
    let Some(backend) = backend(&settings).await else { return };
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    let write = |name: &str, text: &str| {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), text).unwrap();
    };
    write("src/a.txt", "one");
    write("src/deep/er/b.txt", "two");
    write("run.sh", "#!/bin/sh\n");
    fs::set_permissions(root.join("run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    symlink("../nowhere", root.join("src/link")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::create_dir(root.join(".git")).unwrap();
    write(".git/config", "CANARY");
    let sandbox = backend.open(&Surroundings::of(root)).await.unwrap();
    are_same(&*sandbox, root, "at first").await;
    for line in [
        "test ! -e .git/config && ./run.sh && echo three > src/a.txt && rm -r src/deep && chmod -x run.sh",
        // As long as before, and with its old time.
        "cp -p src/a.txt /tmp/old; echo threE > src/a.txt; touch -r /tmp/old src/a.txt",
        "rm src/link; mkdir src/link; echo x > src/link/x; rm -r empty; echo file > empty",
        "rm -r src/link; ln -s /etc/passwd src/link; rm empty; ln -s / empty; ln src/a.txt hard; ln -s \"$(printf 'a\\nb')\" odd",
        "printf x > \"$(printf 'not \\377 text')\"; mkdir -p 'a b/c'; printf '\\0' > 'a b/c/-rf'; python3 -c \"import os; os.mkfifo('pipe')\"",
        "mkdir closed; echo in > closed/in; chmod 0 closed/in; chmod 555 closed; mkdir none; echo n > none/n; chmod 0 none",
        "echo more >> closed/in 2>/dev/null; chmod 755 closed none; rm -r none closed; mkdir .git; echo mine > .git/mine",
        "i=0; while [ $i -lt 300 ]; do echo $i > many$i; i=$((i+1)); done",
        "rm many*; rm -f pipe hard",
        "true",
    ] {
        let output = sandbox.run(&command(line)).await.unwrap();
        assert_eq!(output.ending, Ending::Exited(0), "{line}: {}", text(&output));
        are_same(&*sandbox, root, line).await;
    }
    assert_eq!(fs::read_to_string(root.join(".git/config")).unwrap(), "CANARY");
    assert!(!root.join(".git/mine").exists());
    // The host edits between commands: as long as before and at once, in place and by renaming, new, gone, another kind.
    for round in 0..5 {
        write("src/a.txt", &format!("edit{round}"));
        write("new/folder/file", &format!("{round}"));
        fs::write(root.join("early"), format!("renamed {round}")).unwrap();
        fs::rename(root.join("early"), root.join("run.sh")).unwrap();
        if round % 2 == 0 {
            let _ = fs::remove_file(root.join("kind"));
            fs::create_dir(root.join("kind")).unwrap();
            write("kind/x", "x");
        } else {
            fs::remove_dir_all(root.join("kind")).unwrap();
            write("kind", "file");
        }
        let line =
            format!("cat src/a.txt run.sh new/folder/file; echo $(cat src/a.txt)+ > src/a.txt; echo {round} > kind2");
        let output = sandbox.run(&command(&line)).await.unwrap();
        assert_eq!(text(&output), format!("edit{round}renamed {round}{round}"));
        assert_eq!(fs::read_to_string(root.join("src/a.txt")).unwrap(), format!("edit{round}+\n"));
        are_same(&*sandbox, root, &format!("round {round}")).await;
    }
    sandbox.close().await.unwrap();
}

/// What a box holds beyond its limit is not fetched; after it was cleaned up, all is the same again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_not_fetched() {
    let Some(far) = Far::get() else { return };
    let mut settings = far.settings();
    settings.limits.disk_bytes = 24 << 20;
    settings.limits.disk_files = 500;
    let Some(backend) = backend(&settings).await else { return };
    let tree = tempfile::tempdir().unwrap();
    let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
    for bomb in [
        // Holes: no disk is used, and no limit of the disk's is met.
        "python3 -c \"\nfor i in range(8):\n    open('hole%d' % i, 'w').truncate(8 << 20)\n\"; echo kept > kept",
        "i=0; while [ $i -lt 600 ]; do : > f$i; i=$((i+1)); done",
    ] {
        let output = sandbox.run(&command(bomb)).await.unwrap();
        assert_eq!(output.ending, Ending::OutOfDisk, "{}", text(&output));
        assert!(fs::read_dir(tree.path()).unwrap().count() < 5);
        // The host goes on, and its edit gets there.
        fs::write(tree.path().join("edit"), "edit").unwrap();
        let output = sandbox.run(&command("rm -f hole* f[0-9]*; cat edit; echo > after")).await.unwrap();
        assert_eq!((output.ending, text(&output).as_str()), (Ending::Exited(0), "edit"));
        are_same(&*sandbox, tree.path(), bomb).await;
    }
    assert_eq!(fs::read_to_string(tree.path().join("kept")).unwrap(), "kept\n");
    sandbox.close().await.unwrap();
}

/// A home that is kept is fetched, and one that is frozen is not; a repository is not part of the tree.
#[tokio::test(flavor = "multi_thread")]
async fn homes_and_repositories_are_folders_of_their_own() {
    let Some(far) = Far::get() else { return };
    let Some(backend) = backend(&far.settings()).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["tree", "home", "git"] {
        fs::create_dir(path(name)).unwrap();
    }
    fs::write(path("git/HEAD"), "ref\n").unwrap();
    let around = Surroundings {
        home: Home::Kept(path("home")),
        repository: Some(path("git")),
        ..Surroundings::of(&path("tree"))
    };
    let sandbox = backend.open(&around).await.unwrap();
    let output = sandbox.run(&command("cat .git/HEAD; echo index > .git/index; echo kept > ~/kept")).await.unwrap();
    assert_eq!(text(&output), "ref\n");
    sandbox.close().await.unwrap();
    assert_eq!(fs::read_to_string(path("home/kept")).unwrap(), "kept\n");
    // The next box finds it as it was.
    assert!(!path("git/index").exists());
    assert_eq!(fs::read_dir(path("tree")).unwrap().count(), 0);

    let frozen = Surroundings { home: Home::Frozen(path("home")), ..around };
    let sandbox = backend.open(&frozen).await.unwrap();
    assert_eq!(text(&sandbox.run(&command("cat ~/kept; echo more >> ~/kept; ls .git")).await.unwrap()), "kept\nHEAD\n");
    assert_eq!(text(&sandbox.run(&command("cat ~/kept")).await.unwrap()), "kept\nmore\n");
    sandbox.close().await.unwrap();
    assert_eq!(fs::read_to_string(path("home/kept")).unwrap(), "kept\n");
}
