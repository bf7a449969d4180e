//! Large repositories, files and instructions, and disks that are full.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use lab::{Lab, Permission};

use super::harness::{BINARY, LONGEST, PATCH, Place, Ran, finish, git, kill, skip, wait};

const PATCH_RUN: [&str; 4] = ["--test-command", "grep -q world README", "--task", PATCH];

/// Runs the binary and answers the most memory that it had, in MiB.
fn run_measured(place: &Place, arguments: &[&str]) -> (Ran, u64) {
    let begun = Instant::now();
    let child = place.command(arguments).spawn().unwrap();
    let process = child.id();
    let status = format!("/proc/{process}/status");
    let (done, ended) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let mut most = 0;
            loop {
                let status = std::fs::read_to_string(&status).unwrap_or_default();
                let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
                most = most.max(line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0));
                if begun.elapsed() > LONGEST {
                    kill(process, "KILL");
                }
                if ended.recv_timeout(Duration::from_millis(5)) != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    return most / 1024;
                }
            }
        });
        let ran = wait(child, begun);
        drop(done);
        (ran, watch.join().unwrap())
    })
}

/// An empty repository that `stream`, in the language of `git fast-import`, fills.
fn import(place: &Place, stream: &[u8]) -> String {
    let path = place.path("repository");
    std::fs::create_dir_all(&path).unwrap();
    git(&path, &["init", "--quiet", "--bare", "--initial-branch", "main"], b"");
    git(&path, &["fast-import", "--quiet"], stream);
    path.to_str().unwrap().to_owned()
}

const HEAD: &str = "commit refs/heads/main\ncommitter Ada <ada@example.org> 1767225600 +0000\ndata 3\nOne\n\
                    M 100644 inline README\ndata 6\nHello\n\n";

#[test]
fn a_hundred_thousand_files_are_no_trouble() {
    let place = Place::in_memory();
    let mut stream = HEAD.to_owned();
    for number in 0..100_000 {
        let text = format!("This is file {number}.\n");
        let (first, second) = (number / 2_000, number / 50);
        writeln!(stream, "M 100644 inline packages/p{first}/m{second}/f{number}.txt\ndata {}\n{text}", text.len())
            .unwrap();
    }
    let repository = import(&place, stream.as_bytes());
    let run = [&["run", "--repo", &repository], &PATCH_RUN[..]].concat();
    let (ran, memory) = run_measured(&place, &run);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.starts_with(b"diff --git a/README b/README\n"));
    println!("MEASURED: 100,000 files: {:.1} s, {memory} MiB\n{}", ran.time.as_secs_f32(), ran.stderr);
    assert!(memory < 150, "{memory} MiB");
    place.assert_clean();
}

#[test]
fn a_large_file_is_not_read_into_memory() {
    let place = Place::in_memory();
    let length = 200 << 20;
    let mut stream = format!("{HEAD}M 100644 inline large.bin\ndata {length}\n").into_bytes();
    stream.resize(stream.len() + length, 0);
    stream.push(b'\n');
    let repository = import(&place, &stream);
    drop(stream);
    let run = [&["run", "--repo", &repository], &PATCH_RUN[..]].concat();
    let (ran, memory) = run_measured(&place, &run);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.starts_with(b"diff --git a/README b/README\n") && ran.stdout.len() < 1000);
    println!("MEASURED: a file of 200 MiB: {:.1} s, {memory} MiB\n{}", ran.time.as_secs_f32(), ran.stderr);
    assert!(memory < 150, "{memory} MiB");
    place.assert_clean();
}

/// [`PATCH`] and prose before it, `length` bytes in all.
fn long_instruction(length: usize) -> String {
    let line = "This is why the greeting has to name the world, told at length.\n";
    let mut text = line.repeat(length / line.len());
    text.truncate(length - PATCH.len() - 1);
    format!("{text}\n{PATCH}")
}

#[test]
fn long_instructions_are_taken_up_to_a_limit() {
    let place = Place::new();
    let repository = place.repository("repository");
    let run = ["run", "--repo", &repository, "--task", "-", "--test-command", "grep -q world README"];
    let ran = place.run_with_input(&run, long_instruction(10_000_000).as_bytes());
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    println!("MEASURED: an instruction of 10 MB: {:.1} s", ran.time.as_secs_f32());
    let ran = place.run_with_input(&run, long_instruction(11_000_000).as_bytes());
    ran.refuses(2, &["the instruction is longer than 10 MB", "Shorten it"]);
    place.run_with_input(&run, b" \n").refuses(2, &["the instruction on standard input is empty", "Say what"]);
    place.run_with_input(&run, b"\xff\xfe").refuses(2, &["standard input is not UTF-8"]);
    place.run(&run).refuses(2, &["the instruction on standard input is empty"]);
    place.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_issues_are_taken_up_to_a_limit() {
    let lab = Lab::start().await.unwrap();
    let files = [("README", "Hello\n")];
    lab.github.repository("acme/widgets").bot(Permission::Write).commit("One", &files).create().await.unwrap();
    let place = Place::at(&lab);
    for (id, length, code) in [("long-1-task", 10_000_000, 0), ("long-2-task", 11_000_000, 1)] {
        let metadata = format!("<!-- agent_task_metadata {{\"task_id\": \"{id}\"}} -->");
        let body = format!("{metadata}\n\n## Instruction\n\n{}", long_instruction(length));
        let number = lab.github.create_issue("acme/widgets", "acme", "Greet", Some(&body), &["copilot-agent"]);
        let issue = format!("acme/widgets#{number}");
        let ran = place.run(&["run", "--issue", &issue, "--test-command", "grep -q world README"]);
        assert_eq!(ran.code, Some(code), "{ran:#?}");
        println!("MEASURED: an issue of {length} bytes: {:.1} s", ran.time.as_secs_f32());
        let comments = lab.github.comments("acme/widgets", number);
        if code == 1 {
            ran.refuses(1, &["failed in stage `intake`", "at most", "Shorten it"]);
            assert_eq!(comments.len(), 1);
            assert!(comments[0].body.contains("at most"), "{}", comments[0].body);
        }
    }
    assert_eq!(lab.github.pulls("acme/widgets").len(), 1);
    place.assert_clean();
    assert_eq!(lab.finish(), Vec::<String>::new());
}

/// Runs the binary where `folder` of the place is a small disk of its own, which is gone afterwards.
fn run_on_small_disk(place: &Place, folder: &Path, arguments: &[&str]) -> Result<Ran, String> {
    let unshare = Path::new("/usr/bin/unshare");
    if !unshare.exists() {
        return Err("unshare is not installed".into());
    }
    std::fs::create_dir_all(folder).unwrap();
    let script = "mount -t tmpfs -o size=4m,mode=700 none \"$1\" || exit 99; folder=$1; shift; \"$@\"; code=$?; \
                  find \"$folder\" -name 'patchwright-*' -printf 'LEFT %p\\n' >&2; exit $code";
    let is_root = rustix::process::geteuid().is_root();
    let first: &[&str] = if is_root { &["--mount"] } else { &["--mount", "--user", "--map-root-user"] };
    let all = [first, &["sh", "-c", script, "sh", folder.to_str().unwrap(), BINARY], arguments].concat();
    let ran = finish(place.command_of(unshare, &all), b"");
    if ran.code == Some(99) || ran.stderr.contains("unshare failed") || ran.stderr.contains("unshare: ") {
        return Err(ran.stderr);
    }
    Ok(ran)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_left_as_it_was() {
    let lab = Lab::start().await.unwrap();
    let mut place = Place::at(&lab);
    let repository = place.repository("repository");
    // Nothing that compresses: a simple generator's numbers.
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    let noise: Vec<u8> = noise.take(8 << 20).collect();
    std::fs::write(place.path("repository/noise.bin"), noise).unwrap();
    git(Path::new(&repository), &["add", "--all"], b"");
    git(Path::new(&repository), &["commit", "--quiet", "--no-gpg-sign", "--message", "Two"], b"");
    let local = [&["run", "--repo", &repository], &PATCH_RUN[..]].concat();
    let temporary = place.path("tmp");
    let ran = match run_on_small_disk(&place, &temporary, &local) {
        Ok(ran) => ran,
        Err(reason) => return skip("a full disk", &reason),
    };
    ran.refuses(1, &["failed in stage `checkout`", "the disk is full", "Free space there"]);
    assert!(!ran.stderr.contains("LEFT"), "left behind: {ran:#?}");
    place.assert_clean();

    // The mirror's place is too small for what the server sends.
    let path = lab.github.repository("acme/widgets").bot(Permission::Write).folder(Path::new(&repository));
    path.create().await.unwrap();
    let workspace = place.path("workspace");
    place.set("WORKSPACE_DIR", &workspace);
    let remote = [&["run", "--repo", "acme/widgets", "--dry-run"], &PATCH_RUN[..]].concat();
    let ran = run_on_small_disk(&place, &workspace, &remote).unwrap();
    ran.refuses(1, &["failed in stage `checkout`", "the disk is full", "Free space there"]);
    assert!(!ran.stderr.contains("LEFT"), "left behind: {ran:#?}");
    place.assert_clean();

    // The change itself does not fit any more.
    let small = place.path("small");
    std::fs::create_dir_all(&small).unwrap();
    std::fs::write(small.join("README"), "Hello\n").unwrap();
    git(&small, &["init", "--quiet", "--initial-branch", "main"], b"");
    git(&small, &["add", "--all"], b"");
    git(&small, &["commit", "--quiet", "--no-gpg-sign", "--message", "One"], b"");
    let calls = [
        serde_json::json!([
            { "name": "plan", "arguments": { "steps": ["Fill the disk"] } },
            { "name": "run", "arguments": { "command": "cat /dev/zero > full" } },
        ]),
        // In a reply of its own, for nothing is changed behind a call that failed.
        serde_json::json!([
            { "name": "write", "arguments": { "path": "more.txt", "content": "No room for me.\n".repeat(1000) } },
        ]),
    ];
    let replies = calls.map(|calls| serde_json::json!({ "calls": calls }).to_string()).join("\n");
    let model = lab.model(lab::Script::parse(&replies).unwrap()).await.unwrap();
    let endpoint = model.endpoint();
    let run = ["run", "--repo", small.to_str().unwrap(), "--task", "Greet.", "--endpoint", &endpoint];
    let ran = run_on_small_disk(&place, &workspace, &run).unwrap();
    ran.refuses(1, &["failed in stage `solve`", "the disk is full", "free space, or write less"]);
    assert!(!ran.stderr.contains("LEFT"), "left behind: {ran:#?}");
    place.assert_clean();
}
