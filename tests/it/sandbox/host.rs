//! What of the host a namespace sandbox shows: the operator's toolchains, and none of the operator's secrets.

use std::os::unix::fs::PermissionsExt;

use patchwright::sandbox::sources::Sources;

use super::*;

async fn open(settings: &Settings, tree: &Path) -> Option<Box<dyn patchwright::sandbox::Sandbox>> {
    let backend = backend(settings).await?;
    Some(backend.open(&Surroundings::of(tree)).await.unwrap())
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn toolchains_in_homes_are_seen_and_logins_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let secrets = [
        ".cargo/config.toml",
        ".cargo/credentials.toml",
        ".cargo/credentials",
        ".npmrc",
        ".netrc",
        ".pypirc",
        ".ssh/id_ed25519",
        ".aws/credentials",
        ".config/gh/hosts.yml",
        ".docker/config.json",
        ".m2/settings.xml",
        ".m2/settings-security.xml",
        ".gradle/gradle.properties",
        ".gem/credentials",
        ".pyenv/versions/3.99.0/pip.conf",
        ".nvm/versions/node/v99.0.0/etc/npmrc",
        ".sdkman/candidates/maven/9.9/conf/settings.xml",
        "installed/tool/etc/secret",
        "installed/secret",
        ".unknown/token",
    ];
    for secret in secrets {
        write(&home, secret, "[registry]\ntoken = \"CANARY\"\n");
    }
    let config = "[registry]\ntoken = \"CANARY\"\n[source.crates-io]\nreplace-with = \"mirror\"\n\
                  [source.mirror]\nregistry = \"sparse+https://mirror.example/index/\"\ntoken = \"CANARY\"\n\
                  [source.private]\nregistry = \"https://user:CANARY@example.com/\"\n";
    write(&home, ".cargo/config.toml", config);
    let script = "#!/bin/sh\necho \"this is $0\"\n";
    let tools = [
        ".cargo/bin/tool-cargo",
        ".pyenv/shims/tool-pyenv",
        ".local/bin/tool-local",
        ".unknown/bin/tool-unknown",
        "installed/tool/bin/tool-installed",
    ];
    for tool in tools {
        write(&home, tool, script);
    }
    write(&home, "installed/tool/lib/library.txt", "library");
    write(&home, ".m2/repository/a/b.jar", "jar");
    write(&home, ".cargo/registry/cache/a.crate", "crate");
    let mut settings = settings(Choice::Namespace);
    settings.home = Some(home.clone());
    settings.sources = Sources::find(Some(&home), &Default::default(), &Default::default());
    let folders = tools.iter().map(|tool| home.join(tool).parent().unwrap().to_path_buf());
    let system = ["/usr/bin", "/bin", "/no/such/folder"].map(PathBuf::from);
    // The home itself, and the folder above it, must not come in by way of the path.
    let traps = [home.clone(), folder.path().to_path_buf(), PathBuf::from("/"), PathBuf::from("relative")];
    settings.path = Some(std::env::join_paths(folders.chain(system).chain(traps)).unwrap());
    let tree = tempfile::tempdir().unwrap();
    let Some(sandbox) = open(&settings, tree.path()).await else { return };

    for tool in tools {
        let name = tool.rsplit('/').next().unwrap();
        let output = sandbox.run(&command(name)).await.unwrap();
        assert_eq!(text(&output), format!("this is {}\n", home.join(tool).display()));
    }
    let line = format!(
        "cat {home}/installed/tool/lib/library.txt ~/.m2/repository/a/b.jar; echo changed > ~/.m2/repository/a/b.jar
         cat ~/.m2/repository/a/b.jar; echo new > {home}/.cargo/bin/new; cat /.cargo/config.toml",
        home = home.display()
    );
    let output = sandbox.run(&command(&line)).await.unwrap();
    let printed = text(&output);
    assert!(printed.starts_with("libraryjar"), "{printed}");
    assert!(printed.contains("mirror.example") && !printed.contains("CANARY"), "{printed}");
    assert_eq!(std::fs::read_to_string(home.join(".m2/repository/a/b.jar")).unwrap(), "jar");
    assert!(!home.join(".cargo/bin/new").exists());

    let line = format!("grep -rs CANARY {} /home /root /etc /tmp /var; echo \"$PATH\"", folder.path().display());
    let printed = text(&sandbox.run(&command(&line)).await.unwrap());
    assert!(!printed.contains("CANARY"), "{printed}");
    assert!(!printed.contains("/no/such"), "{printed}");
    sandbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_toolchains_work() {
    let mut settings = settings(Choice::Namespace);
    settings.limits = Limits {
        memory_bytes: 2 << 30,
        processes: 512,
        file_size_bytes: 1 << 30,
        output_bytes: 64 << 10,
        ..settings.limits
    };
    let tree = tempfile::tempdir().unwrap();
    let Some(sandbox) = open(&settings, tree.path()).await else { return };
    write(tree.path(), "hello.c", "#include <stdio.h>\nint main(void) { puts(\"works\"); return 0; }\n");
    write(
        tree.path(),
        "Hello.java",
        "class Hello { public static void main(String[] a) { System.out.println(\"works\"); } }",
    );
    write(tree.path(), "hello.go", "package main\nfunc main() { println(\"works\") }\n");
    let manifest = "[package]\nname = \"alone\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
    write(tree.path(), "alone/Cargo.toml", manifest);
    write(tree.path(), "alone/src/lib.rs", "#[test]\nfn works() {}\n");
    // Our own crate has this one in the host's cache, or these tests were not built.
    write(
        tree.path(),
        "needs/Cargo.toml",
        &format!("{}[dependencies]\nitoa = \"1\"\n", manifest.replace("alone", "needs")),
    );
    write(tree.path(), "needs/src/lib.rs", "#[test]\nfn works() { itoa::Buffer::new().format(7); }\n");
    let tools = [
        ("cc", "cc hello.c -o hello && ./hello", true),
        ("python3", "python3 -c \"import ssl, sqlite3, subprocess; print('works')\"", true),
        ("cargo", "cd alone && cargo test 2>&1 && echo works", true),
        ("cargo", "cd needs && cargo test 2>&1 && echo works", true),
        ("node", "node -e \"console.log('works')\"", false),
        ("npm", "npm --version && echo works", false),
        ("java", "java Hello.java", false),
        ("mvn", "mvn --offline --version && echo works", false),
        ("go", "go run hello.go 2>&1", false),
    ];
    for (program, line, needed) in tools {
        if which::which(program).is_err() {
            match needed {
                true => skipped(&format!("{program} is not installed")),
                false => eprintln!("not tried, since it is not installed: {program}"),
            }
            continue;
        }
        let output = sandbox.run(&command(line)).await.unwrap();
        let printed = text(&output);
        assert!(
            output.ending == Ending::Exited(0) && printed.contains("works"),
            "{line}: {:?} {printed}",
            output.ending
        );
    }
    sandbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_on_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(Choice::Namespace);
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let Some(sandbox) = open(&settings, &tree).await else { return };
    // Other tests' containers come and go meanwhile.
    let mounts = || {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        text.lines().filter(|line| !line.contains("overlay") && !line.contains("docker")).map(str::to_owned).collect()
    };
    let before: Vec<String> = mounts();
    let output = sandbox.run(&Command { timeout: Duration::from_millis(300), ..command("sleep 60") }).await.unwrap();
    assert_eq!(output.ending, Ending::TimedOut);
    sandbox.run(&command("true")).await.unwrap();
    let new: Vec<String> = mounts().into_iter().filter(|line| !before.contains(line)).collect();
    assert!(!new.iter().any(|line| line.contains("/sys ") || line.contains("/workspace")), "{new:?}");
    assert!(!new.iter().any(|line| line.contains(folder.path().to_str().unwrap())), "{new:?}");
    assert_eq!(std::fs::read_dir(&tree).unwrap().count(), 0);
    // Other tests of this process have commands running: their groups go with them.
    let left = || {
        let empty =
            |path: &PathBuf| std::fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|text| text.is_empty());
        groups_of(std::process::id()).iter().any(empty)
    };
    until("empty control groups are gone", || !left()).await;
}

/// Whoever shares our user on the host reads neither our memory nor our environment, which hold the tokens.
#[tokio::test(flavor = "multi_thread")]
async fn our_own_process_is_closed_to_its_user() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("patchwright");
    std::fs::copy(settings(Choice::Namespace).helper, &program).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let as_user = |program: &Path| {
        let mut process = tokio::process::Command::new("setpriv");
        match rustix::process::getuid().is_root() {
            true => drop(process.args(["--reuid=1000", "--regid=1000", "--clear-groups"]).arg(program)),
            false => process = tokio::process::Command::new(program),
        }
        process.current_dir("/").env_clear().env("HOME", "/").env("PATH", "/usr/bin:/bin").kill_on_drop(true);
        process
    };
    // It waits for its instruction on standard input.
    let mut ours = as_user(&program)
        .args(["run", "--repo", "/", "--task", "-", "--dry-run"])
        .env("GITHUB_TOKEN", "CANARY")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = ours.id().unwrap();
    let file = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
    let no_core = || {
        let limits = std::fs::read_to_string(file("limits")).unwrap_or_default();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
        line.split_whitespace().filter(|word| *word == "0").count() == 2
    };
    until("it has protected itself", no_core).await;
    for name in ["environ", "mem", "maps", "auxv", "fd/0", "root/etc"] {
        let output = as_user(Path::new("/bin/cat")).arg(file(name)).output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{name}: {told}");
        assert!(told.contains("Permission denied"), "{name}: {told}");
    }
    ours.start_kill().unwrap();
    ours.wait().await.unwrap();
}
