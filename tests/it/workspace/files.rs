//! The path-safe file layer, with and without `openat2`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use patchwright::workspace::{FileError, Files, Kind, PathError, RelativePath};

use super::support::path;
use proptest::prelude::*;

/// Runs `check` on both ways of resolving, each with a root of its own beside a file that nobody may reach.
fn both_ways(check: impl Fn(&Files, &Path)) {
    for componentwise in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        fs::create_dir(&root).unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        let files = if componentwise { Files::open_componentwise(&root) } else { Files::open(&root) }.unwrap();
        check(&files, &root);
        assert_eq!(fs::read_to_string(folder.path().join("secret")).unwrap(), "secret");
    }
}

#[test]
fn paths_that_lead_anywhere_else_are_refused() {
    let refused = |text: &str| RelativePath::parse(text).unwrap_err();
    assert_eq!(refused(""), PathError::Empty);
    assert_eq!(refused("./"), PathError::Empty);
    assert_eq!(refused("/etc/passwd"), PathError::Absolute("/etc/passwd".into()));
    assert_eq!(refused("a/../../b"), PathError::Parent("a/../../b".into()));
    assert_eq!(refused("a\0b"), PathError::Nul);
    assert_eq!(refused(&"a".repeat(256)), PathError::TooLong);
    assert_eq!(refused(&"a/".repeat(2049)), PathError::TooLong);
    for name in [
        ".git",
        ".GIT",
        ".Git/config",
        "a/.git/hooks/x",
        "git~1",
        "GIT~1/config",
        ".git ",
        ".git.",
        ".git . .",
        ".git::$INDEX_ALLOCATION",
        ".gi\u{200c}t",
        "\u{feff}.git",
        ".g\u{202e}it/x",
        "a\\.git\\hooks",
        ".git/",
    ] {
        assert_eq!(refused(name), PathError::GitData(name.into()), "{name:?}");
    }
    for name in [".gitignore", ".github/workflows/ci.yml", "git", "a.git", "git~2", "-rf", " x", "a b\nc", "ü/ñ"] {
        assert_eq!(path(name).as_str(), name);
    }
    assert_eq!(path("./a//b/").as_str(), "a/b");
}

proptest! {
    #[test]
    fn a_parsed_path_stays_below_its_root(text in "[./a-cGITgit~ :\\\\\u{200c}\u{feff}\0]{0,24}") {
        if let Ok(path) = RelativePath::parse(&text) {
            prop_assert!(!path.as_str().is_empty() && !path.as_str().starts_with('/'));
            for component in path.as_str().split('/') {
                prop_assert!(!["", ".", "..", ".git", "git~1"].contains(&component.to_ascii_lowercase().as_str()));
            }
            prop_assert_eq!(RelativePath::parse(path.as_str()).unwrap(), path);
        }
    }

    #[test]
    fn parsing_never_panics(text in any::<String>()) {
        let _ = RelativePath::parse(&text);
    }
}

#[test]
fn files_are_written_at_once_with_their_folders_and_their_mode() {
    both_ways(|files, root| {
        files.write(&path("new/deep/file.txt"), b"one").unwrap();
        assert_eq!(files.read(&path("new/deep/file.txt"), 3).unwrap(), b"one");
        assert_eq!(fs::metadata(root.join("new/deep/file.txt")).unwrap().permissions().mode() & 0o777, 0o644);

        fs::write(root.join("run.sh"), "old").unwrap();
        fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        files.write(&path("run.sh"), b"new").unwrap();
        assert_eq!(fs::metadata(root.join("run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(files.kind(&path("run.sh")).unwrap(), Kind::File { length: 3, executable: true });

        let listing = files.list(None, 1).unwrap();
        assert_eq!((listing.entries[0].name.as_str(), listing.omitted), ("new", 1));
        assert_eq!(files.list(Some(&path("new/deep")), 10).unwrap().entries.len(), 1, "no temporary file stays");

        files.remove(&path("new/deep/file.txt")).unwrap();
        assert!(!root.join("new").exists(), "empty folders go with their last file");
    });
}

#[test]
fn errors_name_what_stands_in_the_way() {
    both_ways(|files, root| {
        fs::create_dir(root.join("folder")).unwrap();
        fs::write(root.join("file"), "12345").unwrap();
        symlink("file", root.join("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();

        assert!(matches!(files.read(&path("gone"), 9), Err(FileError::NotFound(_))));
        assert!(matches!(files.read(&path("folder"), 9), Err(FileError::IsDirectory(_))));
        assert!(matches!(files.read(&path("file/x"), 9), Err(FileError::NotADirectory(_))));
        assert!(matches!(files.read(&path("pipe"), 9), Err(FileError::Special(_))));
        assert!(matches!(files.read(&path("socket"), 9), Err(FileError::Special(_))));
        assert!(matches!(files.read(&path("file"), 4), Err(FileError::TooLarge { length: 5, limit: 4, .. })));
        assert!(matches!(files.write(&path("folder"), b""), Err(FileError::IsDirectory(_))));
        assert!(matches!(files.write(&path("pipe"), b""), Err(FileError::Special(_))));
        assert!(matches!(files.write(&path("file/x"), b""), Err(FileError::NotADirectory(_))));
        assert!(matches!(files.remove(&path("folder")), Err(FileError::IsDirectory(_))));
        assert!(matches!(files.remove(&path("gone")), Err(FileError::NotFound(_))));
        assert!(matches!(files.list(Some(&path("file")), 9), Err(FileError::NotADirectory(_))));
        assert_eq!(files.kind(&path("link")).unwrap(), Kind::Symlink);
        assert_eq!(files.kind(&path("pipe")).unwrap(), Kind::Special);
    });
}

#[test]
fn links_are_never_followed() {
    both_ways(|files, root| {
        symlink("..", root.join("up")).unwrap();
        symlink("../secret", root.join("leak")).unwrap();
        symlink("/etc", root.join("etc")).unwrap();
        symlink("/proc/self/cwd", root.join("magic")).unwrap();
        for name in ["leak", "up/secret", "etc/passwd", "magic/Cargo.toml"] {
            assert!(matches!(files.read(&path(name), 99), Err(FileError::Symlink(_))), "{name}");
            assert!(matches!(files.write(&path(name), b"x"), Err(FileError::Symlink(_))), "{name}");
        }
        for name in ["up/secret", "etc/passwd"] {
            assert!(matches!(files.remove(&path(name)), Err(FileError::Symlink(_))), "{name}");
            assert!(matches!(files.kind(&path(name)), Err(FileError::Symlink(_))), "{name}");
        }
        assert!(matches!(files.write(&path("up/new/file"), b"x"), Err(FileError::Symlink(_))));
        assert!(matches!(files.list(Some(&path("etc")), 9), Err(FileError::Symlink(_))));
        assert!(files.walk(None, 99).unwrap().files.is_empty());
        files.remove(&path("leak")).unwrap();
        assert!(!root.join("leak").is_symlink(), "the link itself goes");
    });
}

#[test]
fn a_folder_swapped_for_a_link_never_leads_outside() {
    both_ways(|files, root| {
        let outside = root.parent().unwrap().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "secret").unwrap();
        fs::create_dir(root.join("real")).unwrap();
        fs::write(root.join("real/file"), "inside").unwrap();
        fs::rename(root.join("real"), root.join("folder")).unwrap();
        symlink(&outside, root.join("link")).unwrap();
        let done = AtomicBool::new(false);
        let swaps = std::thread::scope(|scope| {
            let swapper = scope.spawn(|| {
                let mut swaps = 0;
                while !done.load(Ordering::Relaxed) {
                    let exchange = rustix::fs::RenameFlags::EXCHANGE;
                    let (one, other) = (root.join("folder"), root.join("link"));
                    rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &other, exchange).unwrap();
                    swaps += 1;
                }
                swaps
            });
            let mut read = 0;
            for _ in 0..3000 {
                if let Ok(contents) = files.read(&path("folder/file"), 99) {
                    assert_ne!(contents, b"secret");
                    read += 1;
                }
                let _ = files.write(&path("folder/file"), b"inside");
                let _ = files.write(&path("folder/new/file"), b"inside");
                let _ = files.remove(&path("folder/new/file"));
                for walked in files
                    .walk(None, 99)
                    .unwrap_or(patchwright::workspace::Walk { files: vec![], truncated: false })
                    .files
                {
                    assert_ne!(files.read(&walked.path, 99).unwrap_or_default(), b"secret");
                }
            }
            done.store(true, Ordering::Relaxed);
            assert!(read > 0, "the folder was never there: the race was not run");
            swapper.join().unwrap()
        });
        assert!(swaps > 100, "only {swaps} swaps");
        let left: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["file"]);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "secret");
    });
}

#[test]
fn walking_respects_ignore_files_and_skips_what_is_no_source() {
    both_ways(|files, root| {
        for name in [
            "src/main.rs",
            "src/generated/x.rs",
            "src/generated/keep.rs",
            "Cargo.toml",
            "target/debug/x",
            "lib/target/y",
            "node_modules/m/i.js",
            "a.log",
            "logs/b.log",
            ".git/config",
            "sub/.git/config",
            "sub/file",
            "venv/pyvenv.cfg",
            "venv/bin/x",
            "odd/venv/notes.md",
            "p/__pycache__/x.pyc",
        ] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "x").unwrap();
        }
        fs::write(root.join(".gitignore"), "*.log\n").unwrap();
        fs::write(root.join("src/.gitignore"), "/generated/*\n!keep.rs\n").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("lib/.gitignore"), rustix::fs::FileType::Fifo, 0o644.into(), 0)
            .unwrap();
        let names = |directory: Option<&RelativePath>, limit| {
            let walk = files.walk(directory, limit).unwrap();
            (walk.files.into_iter().map(|file| file.path.as_str().to_owned()).collect::<Vec<_>>(), walk.truncated)
        };
        let all = [
            ".gitignore",
            "Cargo.toml",
            "lib/target/y",
            "odd/venv/notes.md",
            "src/.gitignore",
            "src/generated/keep.rs",
            "src/main.rs",
            "sub/file",
        ];
        assert_eq!(names(None, 99), (all.map(str::to_owned).to_vec(), false));
        assert!(!names(None, 8).1);
        assert_eq!(names(None, 7), (all[..7].iter().map(|name| (*name).to_owned()).collect(), true));
        assert_eq!(names(Some(&path("src/generated")), 9).0, ["src/generated/keep.rs"], "rules from above hold");
        assert!(names(Some(&path("logs")), 9).0.is_empty());
    });
}
