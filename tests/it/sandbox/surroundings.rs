//! Layers, homes and repositories around a tree, on both backends.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use patchwright::sandbox::Home;

use super::*;

/// A folder with a tree and what lies around it.
struct Ground {
    folder: tempfile::TempDir,
}

/// What the folder's name begins with: no mount's option can name the second one, so there everything is copied.
const PREFIXES: [&str; 2] = ["plain", "co:lon"];

impl Ground {
    fn with(prefix: &str) -> Self {
        let ground = Self { folder: tempfile::Builder::new().prefix(prefix).tempdir().unwrap() };
        ground.write("tree/tracked.txt", "tracked\n");
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn around(&self) -> Surroundings {
        Surroundings::of(&self.path("tree"))
    }
}

/// Each backend, with a folder whose layers can be mounted and one where they have to be copied. The engine's mounts
/// cannot name the latter at all.
async fn everywhere() -> Vec<(Choice, std::sync::Arc<Backend>, Ground)> {
    let mut found = Vec::new();
    for (choice, backend) in all_backends().await {
        let backend = std::sync::Arc::new(backend);
        let prefixes = if choice == Choice::Container { &PREFIXES[..1] } else { &PREFIXES[..] };
        found.extend(prefixes.iter().map(|prefix| (choice, backend.clone(), Ground::with(prefix))));
    }
    found
}

/// Opens a box, runs each line in it, and closes it. What each printed, with how it ended if not well.
async fn run(backend: &Backend, surroundings: &Surroundings, lines: &[&str]) -> Vec<String> {
    let sandbox = backend.open(surroundings).await.unwrap();
    let mut said = Vec::new();
    for line in lines {
        let output = sandbox.run(&command(line)).await.unwrap();
        let text = text(&output).trim().to_owned();
        said.push(if output.ending == Ending::Exited(0) { text } else { format!("{text} {:?}", output.ending) });
    }
    sandbox.close().await.unwrap();
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_seen_below_the_tree_and_stay_as_they_are() {
    for (choice, backend, ground) in everywhere().await {
        ground.write("upper/node_modules/a/index.js", "upper\n");
        ground.write("lower/node_modules/a/index.js", "lower\n");
        ground.write("lower/node_modules/b/index.js", "lower\n");
        ground.write("lower/tracked.txt", "not this one\n");
        symlink("b", ground.path("lower/node_modules/link")).unwrap();
        fs::set_permissions(ground.path("lower/node_modules/b/index.js"), fs::Permissions::from_mode(0o755)).unwrap();
        let layers = vec![ground.path("upper"), ground.path("lower")];
        let around = Surroundings { layers, ..ground.around() };
        let said = run(
            &backend,
            &around,
            &[
                "cat tracked.txt node_modules/a/index.js node_modules/link/index.js",
                "test -x node_modules/b/index.js && echo x >> node_modules/b/index.js && rm -r node_modules/a && ls node_modules",
                "cat node_modules/b/index.js; echo new > made.txt; mkdir -p node_modules/c; ls -d node_modules/*",
            ],
        )
        .await;
        assert_eq!(said[0], "tracked\nupper\nlower", "{choice:?}");
        assert_eq!(said[1], "b\nlink", "{choice:?}");
        assert_eq!(said[2], "lower\nx\nnode_modules/b\nnode_modules/c\nnode_modules/link", "{choice:?}");
        assert_eq!(fs::read_to_string(ground.path("upper/node_modules/a/index.js")).unwrap(), "upper\n");
        assert_eq!(fs::read_to_string(ground.path("lower/node_modules/b/index.js")).unwrap(), "lower\n");
        assert_eq!(fs::read_to_string(ground.path("tree/made.txt")).unwrap(), "new\n", "{choice:?}");
        assert_eq!(fs::read_to_string(ground.path("tree/tracked.txt")).unwrap(), "tracked\n");
        // A second tree over the same layers starts from them again.
        ground.write("other/tracked.txt", "other\n");
        let around = Surroundings { tree: ground.path("other"), ..around };
        let said = run(&backend, &around, &["cat tracked.txt node_modules/a/index.js node_modules/b/index.js"]).await;
        assert_eq!(said, ["other\nupper\nlower"], "{choice:?}");
        drop(said);
        let left: Vec<String> = fs::read_dir(ground.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains('.'))
            .collect();
        assert!(left.is_empty(), "{choice:?} left {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_home_stays_and_a_frozen_one_does_not_change() {
    for (choice, backend, ground) in everywhere().await {
        fs::create_dir(ground.path("home")).unwrap();
        let kept = Surroundings { home: Home::Kept(ground.path("home")), ..ground.around() };
        let lines = [
            "mkdir -p ~/.cache/tool ~/.cargo/registry && echo one > ~/.cache/tool/a && echo two > ~/.cargo/registry/own",
            "cat ~/.cache/tool/a ~/.cargo/registry/own; test -w ~/.cargo/registry",
        ];
        let said = run(&backend, &kept, &lines).await;
        assert_eq!(said, ["", "one\ntwo"], "{choice:?}");
        assert_eq!(fs::read_to_string(ground.path("home/.cache/tool/a")).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(ground.path("home/.cargo/registry/own")).unwrap(), "two\n");
        let frozen = Surroundings { home: Home::Frozen(ground.path("home")), ..ground.around() };
        for _ in 0..2 {
            let line = "cat ~/.cache/tool/a ~/.cargo/registry/own && echo x >> ~/.cache/tool/a && rm ~/.cargo/registry/own && touch ~/new";
            assert_eq!(run(&backend, &frozen, &[line]).await, ["one\ntwo"], "{choice:?}");
        }
        assert_eq!(fs::read_to_string(ground.path("home/.cache/tool/a")).unwrap(), "one\n");
        assert!(ground.path("home/.cargo/registry/own").exists() && !ground.path("home/new").exists());
    }
}

/// The operator may clean his caches up, and what is kept must not miss what was in them.
#[tokio::test(flavor = "multi_thread")]
async fn caches_of_the_operator_are_no_part_of_a_home_that_is_kept() {
    let operator = tempfile::tempdir().unwrap();
    fs::create_dir_all(operator.path().join(".cargo/registry/cache")).unwrap();
    fs::write(operator.path().join(".cargo/registry/cache/crate"), "of the operator\n").unwrap();
    fs::set_permissions(operator.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (choice, backend) in all_backends_with(|settings| settings.home = Some(operator.path().to_owned())).await {
        assert_eq!(backend.shows_caches(), choice == Choice::Namespace);
        let ground = Ground::with(PREFIXES[0]);
        fs::create_dir(ground.path("home")).unwrap();
        let socket = ground.path("proxy");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let look = "mkdir -p ~/.cargo/registry/cache; cat ~/.cargo/registry/cache/* 2>/dev/null; true";
        let without = Surroundings { home: Home::Kept(ground.path("home")), ..ground.around() };
        let with = Surroundings { network: Network::Proxy(socket), ..without.clone() };
        let shown = if choice == Choice::Namespace { "of the operator" } else { "" };
        assert_eq!(run(&backend, &without, &[look]).await, [shown], "{choice:?}: there is no other way to them");
        if choice == Choice::Namespace {
            let own = "; echo own > ~/.cargo/registry/cache/own";
            assert_eq!(run(&backend, &with, &[&format!("{look}{own}"), look]).await, ["", "own"]);
            let frozen = Surroundings { home: Home::Frozen(ground.path("home")), ..ground.around() };
            assert_eq!(run(&backend, &frozen, &[look]).await, ["of the operator\nown"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_and_homes_may_be_on_other_file_systems() {
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return skipped("/dev/shm cannot be written to") };
    for (choice, backend, ground) in everywhere().await {
        for (name, text) in [("layer/made.txt", "made\n"), ("home/kept.txt", "kept\n")] {
            let path = other.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let (layers, home) = (vec![other.path().join("layer")], Home::Frozen(other.path().join("home")));
        let around = Surroundings { layers, home, ..ground.around() };
        let lines = ["cat tracked.txt made.txt ~/kept.txt; echo more >> made.txt; echo x > ~/kept.txt", "cat made.txt"];
        let said = run(&backend, &around, &lines).await;
        assert_eq!(said, ["tracked\nmade\nkept", "made\nmore"], "{choice:?}");
        let untouched = |name: &str| fs::read_to_string(other.path().join(name)).unwrap();
        assert_eq!((untouched("layer/made.txt"), untouched("home/kept.txt")), ("made\n".into(), "kept\n".into()));
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 2, "{choice:?}: a trial is left");
    }
}

/// Where layers cannot be mounted, they are copied: that must not cost more than they hold.
#[tokio::test(flavor = "multi_thread")]
async fn copies_of_layers_are_no_larger_than_the_layers() {
    for (choice, backend) in all_backends_with(|settings| settings.limits.disk_bytes = 64 << 20).await {
        if far::is_far(&backend) {
            continue; // What is sent has neither second names nor holes.
        }
        // The namespace sandbox copies here.
        let ground = Ground::with(PREFIXES[if choice == Choice::Container { 0 } else { 1 }]);
        ground.write("layer/closed/secret.txt", "closed\n");
        ground.write("layer/closed/inner/deep.txt", "deep\n");
        fs::write(ground.path("layer/large"), vec![7; 10 << 20]).unwrap();
        for number in 0..20 {
            fs::hard_link(ground.path("layer/large"), ground.path(&format!("layer/name-{number}"))).unwrap();
            // Nothing but holes, and a word at the end.
            let holes = fs::File::create(ground.path(&format!("layer/holes-{number}"))).unwrap();
            std::os::unix::fs::FileExt::write_at(&holes, b"end", 7 << 20).unwrap();
        }
        for (path, mode) in [("layer/closed/secret.txt", 0), ("layer/closed/inner", 0o100), ("layer/closed", 0o311)] {
            fs::set_permissions(ground.path(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        let around = Surroundings { layers: vec![ground.path("layer")], ..ground.around() };
        let lines = [
            "stat -c %h name-3; stat -c %b holes-4 large; tail -c 3 holes-5; head -c 2 holes-6 | od -An -tx1",
            "test -f closed/secret.txt && cat closed/inner/deep.txt",
            // It may hold as much of its own.
            "head -c 7000000 /dev/zero > own; rm own",
        ];
        let said = run(&backend, &around, &lines).await;
        let mut words = said[0].split_whitespace();
        let mut next = || words.next().unwrap_or_default();
        assert_eq!(next(), "21", "{choice:?}: {said:?}");
        let (holes, large): (u64, u64) = (next().parse().unwrap(), next().parse().unwrap());
        assert!(holes < 100 && large >= 20_480, "{choice:?}: {said:?}");
        assert_eq!([next(), next(), next()], ["end", "00", "00"], "{choice:?}: {said:?}");
        assert_eq!(said[1..], ["deep", ""], "{choice:?}");
        // More than a box may hold is not copied at all.
        for number in 0..8 {
            fs::write(ground.path(&format!("layer/more-{number}")), vec![7; 8 << 20]).unwrap();
        }
        fs::create_dir(ground.path("fresh")).unwrap();
        let around = Surroundings { tree: ground.path("fresh"), ..around };
        let error = backend.open(&around).await.err().expect("it must not fit").to_string();
        assert!(error.contains("more than a box may hold"), "{choice:?}: {error}");
    }
}

/// Mounts are made where links could lead out of the box.
#[tokio::test(flavor = "multi_thread")]
async fn links_in_a_home_lead_no_mount_elsewhere() {
    for (choice, backend, ground) in everywhere().await {
        fs::create_dir_all(ground.path("home")).unwrap();
        fs::create_dir_all(ground.path("victim")).unwrap();
        let victim = ground.path("victim");
        let kept = Surroundings { home: Home::Kept(ground.path("home")), ..ground.around() };
        let plant = format!(
            "cd ~ && mv .cargo was-cargo; mv .rustup was-rustup; rm -rf .cargo .rustup .m2 .npm; \
             for name in .cargo .rustup .m2 .npm go .cache; do ln -s {} $name; done; ls -A {} 2>/dev/null; true",
            victim.display(),
            victim.display()
        );
        run(&backend, &kept, &[&plant, "true", "ls -A ~"]).await;
        let frozen = Surroundings { home: Home::Frozen(ground.path("home")), ..ground.around() };
        run(&backend, &frozen, &["true"]).await;
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "{choice:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_each_boxs_own() {
    for (choice, backend, ground) in everywhere().await {
        ground.write("git/HEAD", "ref: refs/heads/main\n");
        ground.write("layer/node_modules/a", "a\n");
        for layers in [Vec::new(), vec![ground.path("layer")]] {
            let around = Surroundings { repository: Some(ground.path("git")), layers, ..ground.around() };
            let lines = ["cat .git/HEAD && echo more > .git/index && echo x > .git/HEAD", "cat .git/index .git/HEAD"];
            for _ in 0..2 {
                let said = run(&backend, &around, &lines).await;
                assert_eq!(said, ["ref: refs/heads/main", "more\nx"], "{choice:?}");
            }
        }
        assert_eq!(fs::read_to_string(ground.path("git/HEAD")).unwrap(), "ref: refs/heads/main\n", "{choice:?}");
        assert_eq!(fs::read_dir(ground.path("git")).unwrap().count(), 1, "{choice:?}");
        // A place for the mount, where it is one.
        let place = ground.path("tree/.git");
        assert!(
            fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_none()) || !place.exists(),
            "{choice:?}: it is in the tree itself"
        );
        let left = fs::read_dir(ground.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("tree.")).collect();
        assert!(left.is_empty(), "{choice:?} left {left:?}");
        let around = Surroundings { repository: Some(ground.path("git")), ..ground.around() };
        // A link that a command has put there leads nowhere, and a file is hidden.
        drop(fs::remove_dir(&place));
        symlink(ground.path("victim"), ground.path("tree/.git")).unwrap();
        fs::create_dir(ground.path("victim")).unwrap();
        run(&backend, &around, &["echo x > .git/x || true"]).await;
        assert_eq!(fs::read_dir(ground.path("victim")).unwrap().count(), 0, "{choice:?}");
        fs::remove_file(ground.path("tree/.git")).unwrap();
        ground.write("tree/.git", "gitdir: /elsewhere\n");
        for around in [around, ground.around()] {
            assert_eq!(run(&backend, &around, &["cat .git 2>/dev/null; true"]).await, [""], "{choice:?}");
        }
    }
}

/// Git itself refuses a repository that belongs to somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn git_takes_the_repository_for_its_own() {
    for (choice, backend, ground) in everywhere().await {
        let host = |line: &str| {
            let line = format!("cd '{}' && {line}", ground.folder.path().display());
            let mut shell = std::process::Command::new("sh");
            shell.args(["-euc", &line]).env("GIT_CONFIG_GLOBAL", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1");
            assert!(shell.status().unwrap().success(), "{line}");
        };
        host(
            "git init -q -b main tree && cd tree && git add -A && \
             git -c user.name=a -c user.email=a@b commit -qm one && git tag v1.2.3 && mv .git ../git",
        );
        let around = Surroundings { repository: Some(ground.path("git")), ..ground.around() };
        let lines = [
            "command -v git >/dev/null || echo none",
            "git status --porcelain && git describe --tags --dirty",
            "echo more >> tracked.txt && git describe --tags --dirty && git stash -q; git -c user.name=a -c user.email=a@b stash -q; cat tracked.txt",
            "git -c user.name=a -c user.email=a@b stash pop -q && git -c user.name=a -c user.email=a@b commit -qam two && git describe --tags",
        ];
        let said = run(&backend, &around, &lines).await;
        if said[0] == "none" {
            skipped(&format!("{choice:?}: there is no git inside"));
            continue;
        }
        assert_eq!(said[1], "v1.2.3", "{choice:?}");
        assert!(said[2].starts_with("v1.2.3-dirty") && said[2].ends_with("tracked"), "{choice:?}: {}", said[2]);
        assert!(said[3].starts_with("v1.2.3-1-g"), "{choice:?}: {}", said[3]);
        // What was committed inside is nowhere else.
        let said = run(&backend, &around, &["git log --format=%s"]).await;
        assert_eq!(said, ["one"], "{choice:?}");
    }
}
