//! The sandbox, on real namespaces and a real engine: one table of commands for both backends, then what needs a
//! second process, a fake home or a broken engine.

mod cases;
mod disk;
mod egress;
mod engine;
mod far;
mod host;
mod levels;
mod nested;
mod sources;
mod surroundings;
mod walls;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patchwright::sandbox::capture::Capture;
use patchwright::sandbox::level::{Defence, Level};
use patchwright::sandbox::{
    Backend, Choice, Command, Ending, EngineSettings, Limits, Network, Output, SandboxError, Settings, Surroundings,
};

/// Tells that something was left out, or fails where nothing may be.
fn skipped(reason: &str) {
    eprintln!("SKIPPED: {reason}");
    assert!(std::env::var_os("PATCHWRIGHT_TEST_REQUIRE_ALL").is_none(), "cannot run here: {reason}");
}

fn settings(choice: Choice) -> Settings {
    Settings {
        choice,
        limits: Limits {
            memory_bytes: 256 << 20,
            processes: 64,
            file_size_bytes: 8 << 20,
            disk_bytes: 1 << 30,
            disk_files: 100_000,
            output_bytes: 16 << 10,
        },
        image: Some(std::env::var("PATCHWRIGHT_TEST_IMAGE").unwrap_or_else(|_| "patchwright-test:latest".into())),
        helper: std::env::var_os("PATCHWRIGHT_TEST_HELPER")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_patchwright")), PathBuf::from),
        path: std::env::var_os("PATH"),
        home: std::env::var_os("HOME").map(PathBuf::from),
        tool_homes: Default::default(),
        docker_host: std::env::var("PATCHWRIGHT_TEST_DOCKER_HOST").ok(),
        engine: EngineSettings {
            certificates: std::env::var_os("PATCHWRIGHT_TEST_CERTIFICATES").map(PathBuf::from),
            ..EngineSettings::default()
        },
        runtime: None,
        minimum_level: Level::Basic,
        sources: Default::default(),
        owner: "patchwright-tests".into(),
    }
}

async fn backend(settings: &Settings) -> Option<Backend> {
    match Backend::probe(settings).await {
        Ok(backend) => Some(backend),
        Err(SandboxError::Unavailable { reason, remedy }) => {
            skipped(&format!("{:?}: {reason}. {remedy}", settings.choice));
            None
        }
        Err(error @ SandboxError::Broken(_)) => panic!("{error}"),
    }
}

fn command(line: &str) -> Command {
    Command {
        line: line.into(),
        directory: PathBuf::new(),
        environment: BTreeMap::new(),
        timeout: Duration::from_secs(60),
    }
}

fn text(output: &Output) -> String {
    let mut bytes = output.head.clone();
    bytes.extend(&output.tail);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An argument for `sleep` that no other command has.
fn marker() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}{:08}", 100 + COUNT.fetch_add(1, Ordering::Relaxed), std::process::id())
}

/// Processes of this machine that have `marker` among their arguments.
fn alive(marker: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if arguments.split(|byte| *byte == 0).any(|argument| argument == marker.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// Control groups that process `pid` made for its commands.
fn groups_of(pid: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in std::fs::read_to_string("/proc/self/cgroup").unwrap().lines() {
        let own = line.rsplit(':').next().unwrap().trim_start_matches('/');
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"] {
            let own = Path::new(root).join(own);
            for folder in [Some(own.as_path()), own.parent()].into_iter().flatten() {
                let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
                let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
                found.extend(
                    entries.map(|entry| entry.path()).filter(|path| {
                        name(path).starts_with("patchwright-") && name(path).contains(&format!("-{pid}-"))
                    }),
                );
            }
        }
    }
    found
}

/// Awaits a condition, with a bound.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_in_namespaces() {
    let Some(backend) = backend(&settings(Choice::Namespace)).await else { return };
    cases::check(&backend, Choice::Namespace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_in_a_container() {
    let Some(backend) = backend(&settings(Choice::Container)).await else { return };
    cases::check(&backend, Choice::Container).await;
}

/// The same as an ordinary user, whose limits no control group keeps, if the tests run as root.
#[tokio::test(flavor = "multi_thread")]
async fn commands_in_namespaces_as_an_ordinary_user() {
    if !rustix::process::getuid().is_root() {
        return; // They all are.
    }
    if which::which("setpriv").is_err() {
        return skipped("setpriv is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    for (from, to) in [(std::env::current_exe().unwrap(), "tests"), (settings(Choice::Namespace).helper, "patchwright")]
    {
        std::fs::copy(from, folder.path().join(to)).unwrap();
    }
    for path in [folder.path(), &temporary] {
        std::os::unix::fs::chown(path, Some(1000), Some(1000)).unwrap();
    }
    let output = tokio::process::Command::new("setpriv")
        .args(["--reuid=1000", "--regid=1000", "--clear-groups"])
        .arg(folder.path().join("tests"))
        .args(["sandbox::commands_in_namespaces", "sandbox::a_killed_process", "sandbox::a_dropped_command"])
        .args([
            "sandbox::all_boxes",
            "sandbox::host::toolchains_in",
            "sandbox::host::nothing_is",
            "sandbox::the_environment_is",
            "sandbox::walls::",
            "sandbox::levels::",
            "sandbox::disk::",
            "sandbox::the_folders_of",
            "sandbox::surroundings::",
            "folders::",
            "workspace::prepared::",
            "sandbox::egress::boxes::boxes_",
            "sandbox::egress::boxes::nothing_",
            "sandbox::egress::boxes::two_",
            "sandbox::egress::boxes::no_",
            "sandbox::egress::boxes::programs_",
            "--skip",
            "as_an_ordinary_user",
            "--nocapture",
        ])
        .env_remove("PATCHWRIGHT_TEST_DOCKER_HOST")
        .env("PATCHWRIGHT_TEST_HELPER", folder.path().join("patchwright"))
        .env("HOME", &temporary)
        .env("TMPDIR", &temporary)
        .env("PATCHWRIGHT_TEST_NAMESPACE_ONLY", "1")
        .current_dir("/")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if printed.contains("Permission denied (os error 13)") && !printed.contains("running") {
        return skipped("the temporary folder cannot be reached by an ordinary user");
    }
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("memory and processes by watching") || printed.contains("by cgroup"), "{printed}");
    if printed.contains("SKIPPED") {
        skipped(&printed);
    }
}

/// The backends that work here, the container one also with an engine elsewhere; but for a child of these tests only one.
async fn all_backends() -> Vec<(Choice, Backend)> {
    all_backends_with(|_| {}).await
}

async fn all_backends_with(change: impl Fn(&mut Settings)) -> Vec<(Choice, Backend)> {
    let mut found = Vec::new();
    let only = std::env::var_os("PATCHWRIGHT_TEST_NAMESPACE_ONLY").is_some();
    for choice in [Choice::Namespace, Choice::Container] {
        if choice == Choice::Namespace || !only {
            let mut settings = settings(choice);
            change(&mut settings);
            found.extend(backend(&settings).await.map(|backend| (choice, backend)));
        }
    }
    if let Some(far) = (!only).then(far::Far::get).flatten() {
        let mut settings = far.settings();
        change(&mut settings);
        found.extend(backend(&settings).await.map(|backend| (Choice::Container, backend)));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_command_leaves_nothing_alive() {
    for (choice, backend) in all_backends().await {
        let tree = tempfile::tempdir().unwrap();
        let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
        let marker = marker();
        let line = command(&format!("setsid sleep {marker} & sleep {marker}"));
        {
            let run = sandbox.run(&line);
            tokio::pin!(run);
            tokio::select! {
                output = &mut run => panic!("{output:?}"),
                () = until("the command runs", || alive(&marker).len() >= 2) => {}
            }
        }
        until("the command is gone", || alive(&marker).is_empty()).await;
        let _ = sandbox.close().await;
        eprintln!("{choice:?}: {}", sandbox.description());
    }
}

/// To the kernel such a process is a zombie, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_first_thread_has_ended_does_not_outlive_its_command() {
    let number = if cfg!(target_arch = "x86_64") { 60 } else { 93 };
    let line = format!(
        "python3 -c \"
import ctypes, threading, time
def go():
    while True: time.sleep(0.01)
threading.Thread(target=go).start()
ctypes.CDLL(None).syscall({number}, 0)\" >/dev/null 2>&1 &
         until grep -q '^State:.Z' /proc/$!/status; do :; done; kill -9 $PPID; exit 0"
    );
    for (choice, backend) in all_backends().await {
        let tree = tempfile::tempdir().unwrap();
        let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
        // In a namespace box it is the first process, which nobody inside ends.
        let line = if choice == Choice::Namespace { line.replace("kill -9 $PPID; ", "") } else { line.clone() };
        sandbox.run(&command(&line)).await.unwrap();
        let look = "for s in /proc/[0-9]*/status; do grep -q '^State:.Z' $s && grep '^Threads:' $s; done; echo end";
        let said = text(&sandbox.run(&command(look)).await.unwrap());
        assert!(said.ends_with("end\n") && !said.contains('2'), "{choice:?}: {said}");
        sandbox.close().await.unwrap();
    }
}

/// Without processes nothing can be ended for them: they must not fill the box.
#[tokio::test(flavor = "multi_thread")]
async fn files_in_memory_leave_room_for_processes() {
    let fill = "exec python3 -c \"
import os
for folder in ('/tmp', '/dev/shm', os.path.expanduser('~')):
    for name in range(100000):
        try:
            with open('%s/%d' % (folder, name), 'wb') as file: file.write(bytes(1 << 20) if name < 300 else b'')
        except OSError:
            if name > 300: break
print('filled')\"";
    for (choice, backend) in all_backends().await {
        let tree = tempfile::tempdir().unwrap();
        let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
        let output = sandbox.run(&command(fill)).await.unwrap();
        if choice == Choice::Container {
            assert_eq!(text(&output), "filled\n", "{}: {:?}", backend.description(), output.ending);
        }
        let output = sandbox.run(&command("python3 -c 'print(len(bytes(4 << 20)))'")).await.unwrap();
        assert_eq!(text(&output), "4194304\n", "{}: {:?}", backend.description(), output.ending);
        sandbox.close().await.unwrap();
    }
}

/// Says which processes lived when it was let go of.
struct Witness {
    marker: String,
    saw: Arc<Mutex<Option<Vec<u32>>>>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        *self.saw.lock().unwrap() = Some(alive(&self.marker));
    }
}

/// A removal that begins while they live could be led elsewhere by them.
#[tokio::test(flavor = "multi_thread")]
async fn the_folders_of_a_dropped_box_are_held_until_its_processes_are_gone() {
    for (choice, backend) in all_backends().await {
        let tree = tempfile::tempdir().unwrap();
        let (marker, saw) = (marker(), Arc::default());
        let witness = Witness { marker: marker.clone(), saw: Arc::clone(&saw) };
        let surroundings = Surroundings { hold: Some(Arc::new(witness)), ..Surroundings::of(tree.path()) };
        let sandbox = backend.open(&surroundings).await.unwrap();
        drop(surroundings);
        let line =
            command(&format!("trap '' TERM HUP; setsid sleep {marker} & setsid sleep {marker} & sleep {marker}"));
        {
            let task = async move { sandbox.run(&line).await };
            tokio::pin!(task);
            tokio::select! {
                output = &mut task => panic!("{output:?}"),
                () = until("the command runs", || alive(&marker).len() >= 3) => {}
            }
        }
        until("they are let go of", || saw.lock().unwrap().is_some()).await;
        assert_eq!(*saw.lock().unwrap(), Some(Vec::new()), "{choice:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_boxes_end_when_told() {
    for (choice, backend) in all_backends().await {
        let tree = tempfile::tempdir().unwrap();
        let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
        let marker = marker();
        let line = command(&format!("sleep {marker}"));
        let started = Instant::now();
        let (output, ()) = tokio::join!(sandbox.run(&line), async {
            until("the command runs", || !alive(&marker).is_empty()).await;
            backend.close_all(Duration::from_secs(2)).await;
        });
        assert!(matches!(output, Err(SandboxError::Broken(_))), "{choice:?}: {output:?}");
        assert!(alive(&marker).is_empty(), "{choice:?}");
        assert!(started.elapsed() < Duration::from_secs(15), "{choice:?}");
        assert!(matches!(sandbox.run(&command("true")).await, Err(SandboxError::Broken(_))), "{choice:?}");
    }
}

/// As an interrupt does it: the task's future is dropped first, and its removal is still under way.
#[tokio::test(flavor = "multi_thread")]
async fn all_boxes_end_when_told_after_their_task_was_dropped() {
    for (choice, backend) in all_backends().await {
        let tree = tempfile::tempdir().unwrap();
        let marker = marker();
        {
            let task = async {
                let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
                sandbox.run(&command(&format!("setsid sleep {marker} & sleep {marker}"))).await
            };
            tokio::pin!(task);
            tokio::select! {
                output = &mut task => panic!("{output:?}"),
                () = until("the command runs", || alive(&marker).len() >= 2) => {}
            }
        }
        let started = Instant::now();
        backend.close_all(Duration::from_secs(20)).await;
        if choice == Choice::Container {
            assert!(alive(&marker).is_empty(), "the command outlives the end of all boxes");
        }
        // What was killed already needs a moment to vanish; nobody has to do anything for it.
        until("the command is gone", || alive(&marker).is_empty()).await;
        eprintln!("{choice:?}: ended within {:?}", started.elapsed());
    }
}

/// Not a test: what the tests below run as a process of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by other tests"]
async fn child() {
    let Ok(line) = std::env::var("PATCHWRIGHT_TEST_CHILD_LINE") else { return };
    let choice = match std::env::var("PATCHWRIGHT_TEST_CHILD_BACKEND").as_deref() {
        Ok("container") => Choice::Container,
        _ => Choice::Namespace,
    };
    let backend = Backend::probe(&settings(choice)).await.unwrap();
    let tree = PathBuf::from(std::env::var_os("PATCHWRIGHT_TEST_CHILD_TREE").unwrap());
    let network =
        std::env::var_os("PATCHWRIGHT_TEST_CHILD_PROXY").map_or(Network::Off, |path| Network::Proxy(path.into()));
    let sandbox = backend.open(&Surroundings { network, ..Surroundings::of(&tree) }).await.unwrap();
    let output = sandbox.run(&command(&line)).await.unwrap();
    println!("<output>{}</output>", text(&output));
    sandbox.close().await.unwrap();
}

/// Runs `line` in a sandbox of a process of its own, whose environment has `variables` too.
fn child_process(choice: Choice, tree: &Path, line: &str, variables: &[(&str, &str)]) -> tokio::process::Command {
    let mut process = tokio::process::Command::new(std::env::current_exe().unwrap());
    let name = if choice == Choice::Container { "container" } else { "namespace" };
    process
        .args(["--ignored", "--exact", "sandbox::child", "--nocapture"])
        .env("PATCHWRIGHT_TEST_CHILD_LINE", line)
        .env("PATCHWRIGHT_TEST_CHILD_BACKEND", name)
        .env("PATCHWRIGHT_TEST_CHILD_TREE", tree)
        .envs(variables.iter().copied())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true);
    process
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_takes_its_boxes_with_it() {
    for (choice, backend) in all_backends().await {
        let tree = tempfile::tempdir().unwrap();
        let marker = marker();
        let line = format!("setsid sleep {marker} & sleep {marker}");
        let mut process = child_process(choice, tree.path(), &line, &[]);
        if far::is_far(&backend) {
            let settings = far::Far::get().unwrap().settings();
            process.env("PATCHWRIGHT_TEST_DOCKER_HOST", settings.docker_host.unwrap());
            process.env("PATCHWRIGHT_TEST_CERTIFICATES", settings.engine.certificates.unwrap());
        }
        let mut process = process.spawn().unwrap();
        let pid = process.id().unwrap();
        until("the command runs", || alive(&marker).len() >= 2).await;
        // As the kernel or an operator would: no chance to tidy up.
        process.start_kill().unwrap();
        process.wait().await.unwrap();
        match choice {
            // It ends by itself; what is left of it is at most an empty control group.
            Choice::Namespace => {
                until("the command is gone", || alive(&marker).is_empty()).await;
                let deadline = Instant::now() + Duration::from_secs(20);
                while !groups_of(pid).is_empty() {
                    assert!(Instant::now() < deadline, "control groups are left: {:?}", groups_of(pid));
                    backend.sweep().await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
            Choice::Container => assert_eq!(backend.sweep().await.unwrap(), 1),
            Choice::Auto => unreachable!(),
        }
        until("the command is gone", || alive(&marker).is_empty()).await;
        assert_eq!(backend.sweep().await.unwrap_or(9), 0, "{choice:?}: nothing is left to sweep");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_made_from_nothing() {
    for (choice, _) in all_backends().await {
        let tree = tempfile::tempdir().unwrap();
        let line = "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; true";
        let secret = [("GITHUB_TOKEN", "canary-of-the-environment"), ("LD_PRELOAD", "")];
        let output = child_process(choice, tree.path(), line, &secret).output().await.unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{choice:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
        assert!(printed.contains("HOME=/home/agent"), "{choice:?}: {printed}");
        assert!(!printed.contains("canary-of-the-environment"), "{choice:?}: {printed}");
        assert!(!printed.contains("GITHUB_TOKEN"), "{choice:?}: {printed}");
    }
}

/// Prints what a command costs: `cargo test --test it overhead -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn overhead() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("proxy");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, mode) in [(folder.path(), 0o755), (&socket, 0o666)] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let networks = [Network::Off, Network::Proxy(socket.clone())];
    for (choice, network) in
        all_backends().await.iter().flat_map(|(choice, _)| networks.iter().map(|way| (*choice, way)))
    {
        let started = Instant::now();
        let backend = Backend::probe(&settings(choice)).await.unwrap();
        let probe = started.elapsed();
        let tree = tempfile::tempdir().unwrap();
        let started = Instant::now();
        let surroundings = Surroundings { network: network.clone(), ..Surroundings::of(tree.path()) };
        let sandbox = backend.open(&surroundings).await.unwrap();
        let open = started.elapsed();
        let mut times = Vec::new();
        for _ in 0..200 {
            let output = sandbox.run(&command("true")).await.unwrap();
            assert_eq!(output.ending, Ending::Exited(0));
            times.push(output.duration);
        }
        times.sort();
        println!(
            "{choice:?}, {network:?}: probe {probe:?}, open {open:?}, run median {:?}, best {:?}, worst {:?}",
            times[100], times[0], times[199]
        );
        sandbox.close().await.unwrap();
    }
}

proptest::proptest! {
    #[test]
    fn a_capture_keeps_head_and_tail(
        chunks in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..50), 0..20),
        limit in 0usize..100,
    ) {
        let all = chunks.concat();
        let mut capture = Capture::new(limit);
        chunks.iter().for_each(|chunk| capture.add(chunk));
        let kept = capture.finish();
        assert_eq!(kept.head.len() + kept.tail.len(), all.len().min(limit));
        assert_eq!(kept.omitted_bytes as usize, all.len().saturating_sub(limit));
        assert!(all.starts_with(&kept.head));
        assert!(all.ends_with(&kept.tail));
    }
}
