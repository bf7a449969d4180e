//! The commands that both backends must treat alike.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;

use super::*;

/// One command and what must come of it.
struct Case {
    name: &'static str,
    line: String,
    ending: Ending,
    /// Must be in the output.
    shows: &'static [&'static str],
    /// Must not be in the output.
    hides: &'static [&'static str],
    seconds: u64,
}

fn case(name: &'static str, line: &str, ending: Ending, shows: &'static [&'static str]) -> Case {
    Case { name, line: line.into(), ending, shows, hides: &["CANARY"], seconds: 30 }
}

fn cases(port: u16, home: &str, marker: &str) -> Vec<Case> {
    let ok = Ending::Exited(0);
    vec![
        case("success", "true", ok, &[]),
        case("an exit code", "exit 7", Ending::Exited(7), &[]),
        case("the largest exit code", "exit 255", Ending::Exited(255), &[]),
        case("not found", "no-such-program", Ending::Exited(127), &["not found"]),
        case("a signal", "kill -9 $$", Ending::Signalled(9), &[]),
        case("output in order", "echo a; echo b >&2; echo c; echo d >&2", ok, &["a\nb\nc\nd\n"]),
        case("no input", "cat; echo end", ok, &["end"]),
        case("the shell line is not touched", r#"printf '%s|' 'a b' "$(echo '$x')" '"'"#, ok, &["a b|$x|\"|"]),
        case("the working folder", "pwd; echo \"$HOME $USER\"", ok, &["/workspace\n/home/agent agent"]),
        case("not root", "test \"$(id -u)\" != 0 && echo fine", ok, &["fine"]),
        case("no capabilities", "grep CapEff: /proc/self/status", ok, &["CapEff:\t0000000000000000"]),
        case("no new privileges", "grep NoNewPrivs: /proc/self/status", ok, &["NoNewPrivs:\t1"]),
        case("tmp and home are writable", "echo x > /tmp/x && echo x > ~/x && cat /tmp/x ~/x", ok, &["x\nx"]),
        case("dev null", "echo x > /dev/null && head -c 4 /dev/urandom | wc -c", ok, &["4"]),
        case(
            "nothing else is writable",
            "for d in / /usr /etc /bin /lib /dev /root /home /proc /proc/sys /var; do
                 touch $d/canary 2>/dev/null && echo \"wrote $d\"; done; echo end",
            ok,
            &["end"],
        )
        .hiding(&["wrote"]),
        case(
            "the kernel's settings are not writable",
            "for f in core_pattern modprobe hotplug; do
                 f=/proc/sys/kernel/$f; test -e $f && echo x 2>/dev/null > $f && echo \"wrote $f\"; done; echo end",
            ok,
            &["end"],
        )
        .hiding(&["wrote"]),
        case(
            "the host's secrets are not there",
            &format!(
                "cat /etc/shadow /etc/gshadow /etc/sudoers /etc/ssh/* /etc/ssl/private/* {home}/CANARY 2>/dev/null \
                 | wc -c; ls -a {home} 2>/dev/null | grep CANARY; ls /run /sys/kernel/debug /var/log 2>/dev/null; true"
            ),
            ok,
            &["0\n"],
        ),
        case("only its own processes", "ls /proc | grep -c '^[0-9]*$'", ok, &[]),
        case(
            "the host's loopback is out of reach",
            &format!(
                "python3 -c \"import socket
try:
    socket.create_connection(('127.0.0.1', {port}), 2)
    print('CANARY')
except OSError as error:
    print('refused', error)\""
            ),
            ok,
            &["refused"],
        ),
        case(
            "no network",
            "python3 -c \"import socket
try:
    socket.create_connection(('169.254.169.254', 80), 2)
    print('CANARY')
except OSError as error:
    print('unreachable', error.errno)\"",
            ok,
            &["unreachable 101"],
        ),
        case(
            "its own loopback works",
            "python3 -c \"import socket
s = socket.create_server(('127.0.0.1', 0))
c = socket.create_connection(s.getsockname())
print('connected')\"",
            ok,
            &["connected"],
        ),
        case(
            "the file size is bounded",
            "dd if=/dev/zero of=big bs=1M count=64 2>&1; ls -l big; rm -f big",
            ok,
            &["8388608"],
        ),
        case("no core dumps", "ulimit -c", ok, &["0"]),
        case(
            "a memory bomb",
            "python3 -c \"
x = []
while True:
    x.append(bytearray(1 << 20))\"",
            Ending::OutOfMemory,
            &[],
        ),
        case(
            "a memory bomb of many processes",
            "for i in 1 2 3 4 5 6; do python3 -c \"
import time
x = bytearray(80 << 20)
for i in range(0, len(x), 4096): x[i] = 1
time.sleep(60)\" & done; wait",
            Ending::OutOfMemory,
            &[],
        ),
        case(
            "a bomb of file descriptors",
            "python3 -c \"
import os
try:
    while True:
        os.open('/dev/null', os.O_RDONLY)
except OSError as error:
    print('refused', error.errno)\"",
            ok,
            &["refused 24"],
        ),
        case("well after a memory bomb", "echo fine", ok, &["fine"]),
        case("a timeout kills the tree", &format!("setsid sleep {marker} & sleep {marker}"), Ending::TimedOut, &[])
            .within(1),
        case(
            "background processes",
            &format!(
                "sleep {marker} & nohup sleep {marker} >/dev/null 2>&1 & setsid sleep {marker} &
                 (setsid sh -c 'sleep {marker} & sleep {marker}' &) ; echo end"
            ),
            ok,
            &["end"],
        ),
        case("nothing of it is alive for the next", &format!("ls /proc/[0-9]*/cmdline | wc -l; {}", "true"), ok, &[]),
        case(
            "a command that kills all it can",
            "kill -9 -1; for p in /proc/[0-9]*; do kill -9 ${p#/proc/} 2>/dev/null; done",
            Ending::Signalled(9),
            &[],
        )
        .any_ending(),
        case("well after that", "echo fine", ok, &["fine"]),
        case("not UTF-8", "printf '\\377\\376ok'", ok, &["ok"]),
    ]
}

impl Case {
    fn hiding(mut self, hides: &'static [&'static str]) -> Self {
        self.hides = hides;
        self
    }

    fn within(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    /// How it ends is the command's affair.
    fn any_ending(mut self) -> Self {
        self.seconds = 3;
        self.ending = Ending::Exited(-1);
        self
    }
}

/// Runs all commands in one box, then looks at the host.
pub async fn check(backend: &Backend, choice: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree with space");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("given.txt"), "given").unwrap();
    std::fs::write(tree.join(".git"), "gitdir: /CANARY/of/git").unwrap();
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
    let canary = Path::new(&home).join(format!("CANARY-{}", std::process::id()));
    let _ = std::fs::write(&canary, "CANARY of the home");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let marker = marker();
    let sandbox = backend.open(&Surroundings::of(&tree)).await.unwrap();
    eprintln!("{}", sandbox.description());

    let mut failures = Vec::new();
    for case in cases(listener.local_addr().unwrap().port(), &home, &marker) {
        let started = Instant::now();
        let order = Command { timeout: Duration::from_secs(case.seconds), ..command(&case.line) };
        let output = match sandbox.run(&order).await {
            Ok(output) => output,
            Err(error) => {
                failures.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        let printed = text(&output);
        let ended = output.ending == case.ending || case.ending == Ending::Exited(-1);
        let shown = case.shows.iter().all(|wanted| printed.contains(wanted));
        let hidden = !case.hides.iter().any(|unwanted| printed.contains(unwanted));
        let prompt = started.elapsed() < Duration::from_secs(case.seconds + 10);
        let quiet = alive(&marker).is_empty();
        if !(ended && shown && hidden && prompt && quiet) {
            let time = started.elapsed();
            failures.push(format!("{}: {:?} in {time:?} (quiet: {quiet})\n{printed}", case.name, output.ending));
        }
    }
    let _ = std::fs::remove_file(&canary);
    assert!(failures.is_empty(), "{choice:?}:\n{}", failures.join("\n"));
    tree_is_shared(&*sandbox, &tree).await;
    output_is_bounded(&*sandbox).await;
    processes_are_bounded(&*sandbox).await;
    sandbox.close().await.unwrap();

    // What commands wrote is the host's to read and to delete, and its own.
    let written = std::fs::metadata(tree.join("made/by the command.txt")).unwrap();
    assert_eq!(written.uid(), rustix::process::getuid().as_raw(), "{choice:?}");
    folder.close().unwrap();
}

async fn tree_is_shared(sandbox: &dyn patchwright::sandbox::Sandbox, tree: &Path) {
    let output =
        sandbox.run(&command("cat given.txt; mkdir made; echo new > 'made/by the command.txt'")).await.unwrap();
    assert_eq!(text(&output), "given");
    assert_eq!(std::fs::read_to_string(tree.join("made/by the command.txt")).unwrap(), "new\n");

    // The host goes on writing, in folders that commands made too.
    std::fs::File::create(tree.join("made/by the host.txt")).unwrap().write_all(b"host").unwrap();
    let line = "cat 'by the host.txt' && echo changed > 'by the host.txt'";
    let output = sandbox.run(&Command { directory: "made".into(), ..command(line) }).await.unwrap();
    assert_eq!((output.ending, text(&output)), (Ending::Exited(0), "host".into()));
    assert_eq!(std::fs::read_to_string(tree.join("made/by the host.txt")).unwrap(), "changed\n");

    let output = sandbox.run(&command("cat .git; ls -A .git; rm -rf .git; mv .git x; true")).await.unwrap();
    assert!(!text(&output).contains("CANARY"), "{}", text(&output));
    assert_eq!(std::fs::read_to_string(tree.join(".git")).unwrap(), "gitdir: /CANARY/of/git");

    let output = sandbox.run(&Command { directory: "no/such".into(), ..command("true") }).await.unwrap();
    assert_eq!(output.ending, Ending::Exited(126), "{}", text(&output));
    let outside = sandbox.run(&Command { directory: "../..".into(), ..command("true") }).await;
    assert!(matches!(outside, Err(SandboxError::Broken(_))));

    for line in ["echo a\0b".to_owned(), format!("echo {}", "x".repeat(200_000))] {
        let output = sandbox.run(&command(&line)).await.unwrap();
        assert_eq!(output.ending, Ending::Exited(126), "{}", text(&output));
    }

    let mut order = command("echo \"$GIVEN\"");
    order.environment.insert("GIVEN".into(), "with 'quotes' and\nlines".into());
    assert_eq!(text(&sandbox.run(&order).await.unwrap()), "with 'quotes' and\nlines\n");
}

async fn output_is_bounded(sandbox: &dyn patchwright::sandbox::Sandbox) {
    let output = sandbox.run(&command("echo first; yes | head -c 200000000; echo last")).await.unwrap();
    assert_eq!(output.ending, Ending::Exited(0));
    assert_eq!(output.head.len() + output.tail.len(), 16 << 10);
    assert_eq!(output.omitted_bytes, 6 + 200_000_000 + 5 - (16 << 10));
    assert!(output.head.starts_with(b"first\ny\n") && output.tail.ends_with(b"y\nlast\n"));
}

async fn processes_are_bounded(sandbox: &dyn patchwright::sandbox::Sandbox) {
    let bomb = "python3 -c \"
import os
while True:
    try:
        os.fork()
    except OSError:
        pass\"";
    let started = Instant::now();
    let output = sandbox.run(&Command { timeout: Duration::from_secs(2), ..command(bomb) }).await.unwrap();
    assert!(matches!(output.ending, Ending::TimedOut | Ending::Signalled(9) | Ending::OutOfMemory), "{output:?}");
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    let output = sandbox.run(&command("echo fine")).await.unwrap();
    assert_eq!(text(&output), "fine\n");
}
