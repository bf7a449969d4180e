//! What the kernel refuses inside: each system call is really tried, from Python, as a hostile program would; and what
//! ordinary work needs goes on.

use patchwright::sandbox::seccomp;

use super::*;

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

/// Calls that are refused, their arguments, and the answer.
const REFUSED: &[(&str, &[u64], i32)] = &[
    ("acct", &[0], EPERM),
    ("add_key", &[], EPERM),
    ("bpf", &[], EPERM),
    ("chroot", &[], EPERM),
    ("clock_adjtime", &[], EPERM),
    ("clock_settime", &[], EPERM),
    ("clone3", &[], ENOSYS),
    ("delete_module", &[], EPERM),
    ("fanotify_init", &[], EPERM),
    ("finit_module", &[u64::MAX], EPERM),
    ("fsmount", &[u64::MAX], EPERM),
    ("fsopen", &[], EPERM),
    ("init_module", &[], EPERM),
    ("io_uring_enter", &[u64::MAX], EPERM),
    ("io_uring_register", &[u64::MAX], EPERM),
    ("io_uring_setup", &[], EPERM),
    ("kcmp", &[], EPERM),
    ("kexec_load", &[], EPERM),
    ("keyctl", &[], EPERM),
    ("mbind", &[], EPERM),
    ("mount", &[], EPERM),
    ("mount_setattr", &[], EPERM),
    ("move_mount", &[], EPERM),
    ("open_by_handle_at", &[], EPERM),
    ("open_tree", &[], EPERM),
    ("perf_event_open", &[], EPERM),
    // One that 32-bit programs use; and one where the kernel ignores what a filter must not be fooled by.
    ("personality", &[8], EPERM),
    ("personality", &[0x1_0000_0008], EPERM),
    ("pidfd_getfd", &[u64::MAX], EPERM),
    ("pivot_root", &[], EPERM),
    ("process_madvise", &[u64::MAX], EPERM),
    ("quotactl", &[], EPERM),
    ("reboot", &[], EPERM),
    ("request_key", &[], EPERM),
    ("setdomainname", &[], EPERM),
    ("sethostname", &[], EPERM),
    ("setns", &[u64::MAX], EPERM),
    ("settimeofday", &[], EPERM),
    ("swapoff", &[], EPERM),
    ("swapon", &[], EPERM),
    ("syslog", &[3], EPERM),
    ("umount2", &[], EPERM),
    ("userfaultfd", &[], EPERM),
    ("vhangup", &[], EPERM),
    // New namespaces: of users, mounts, networks, processes, control groups, names, clocks, messages.
    ("unshare", &[0x1000_0000], EPERM),
    ("unshare", &[0x0002_0000], EPERM),
    ("unshare", &[0x4000_0000], EPERM),
    ("unshare", &[0x2000_0000], EPERM),
    ("unshare", &[0x0200_0000], EPERM),
    ("unshare", &[0x0400_0000], EPERM),
    ("unshare", &[0x0000_0080], EPERM),
    ("unshare", &[0x0800_0000], EPERM),
    ("clone", &[0x1000_0011], EPERM),
    // Sockets: packets, keys, the kernel's ciphers, Bluetooth, virtual machines, XDP, netfilter.
    ("socket", &[17, 3, 0], EPERM),
    ("socket", &[15, 3, 2], EPERM),
    ("socket", &[38, 5, 0], EPERM),
    ("socket", &[31, 3, 1], EPERM),
    ("socket", &[40, 1, 0], EPERM),
    ("socket", &[44, 3, 0], EPERM),
    ("socket", &[16, 3, 12], EPERM),
    // Typing into a terminal.
    ("ioctl", &[0, 0x5412], EPERM),
    ("ioctl", &[0, 0x1_0000_5412], EPERM),
];

/// A program that makes the calls and prints each answer: 0, or the error's number.
fn program(calls: &[(&str, &[u64], i32)]) -> String {
    let rows: Vec<String> = calls
        .iter()
        .filter_map(|(name, arguments, _)| Some(format!("('{name}', {}, {arguments:?}),", seccomp::number_here(name)?)))
        .collect();
    format!(
        "import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for name, number, given in [{}]:
    ctypes.set_errno(0)
    words = [ctypes.c_ulong(word) for word in given + [0] * (6 - len(given))]
    answer = libc.syscall(ctypes.c_long(number), *words)
    print(name, given, ctypes.get_errno() if answer == -1 else 0, flush=True)
",
        rows.join("\n")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_calls_are_refused() {
    for (choice, backend) in all_backends().await {
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("calls.py"), program(REFUSED)).unwrap();
        let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
        let output = sandbox.run(&command("python3 calls.py")).await.unwrap();
        let printed = text(&output);
        let answers: Vec<&str> = printed.lines().collect();
        let known = REFUSED.iter().filter(|(name, ..)| seccomp::number_here(name).is_some());
        let mut failures = Vec::new();
        for (index, (name, arguments, wanted)) in known.enumerate() {
            let expected = format!("{name} {arguments:?} {wanted}");
            if answers.get(index) != Some(&expected.as_str()) {
                failures.push(format!("{expected}: {:?}", answers.get(index)));
            }
        }
        assert!(failures.is_empty(), "{choice:?}: {:?}\n{}", output.ending, failures.join("\n"));
        sandbox.close().await.unwrap();
    }
}

/// Calls of the 32-bit interface would pass by numbers that mean something else.
#[cfg(target_arch = "x86_64")]
#[tokio::test(flavor = "multi_thread")]
async fn other_interfaces_of_the_kernel_are_closed() {
    // mov eax, 20 (getpid); int 0x80; ret
    let narrow = "import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex('b814000000cd80c3'))
run = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
print('CANARY', run(), flush=True)
";
    let wide = "import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
number = int(sys.argv[1])
print(libc.syscall(ctypes.c_long(number)), ctypes.get_errno())
";
    for (choice, backend) in all_backends().await {
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("narrow.py"), narrow).unwrap();
        std::fs::write(tree.path().join("wide.py"), wide).unwrap();
        let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
        let printed = text(&sandbox.run(&command("python3 narrow.py; echo code $?")).await.unwrap());
        assert!(printed.contains("code 159") && !printed.contains("CANARY"), "{choice:?}: {printed}");
        // An engine's filter ends who asks for x32; ours refuses the call.
        let printed = text(&sandbox.run(&command("python3 wide.py $((0x40000000 + 39)); echo code $?")).await.unwrap());
        assert!(printed.contains("code 159") || printed.contains("-1 1\n"), "{choice:?}: {printed}");
        let printed = text(&sandbox.run(&command("python3 wide.py 5000")).await.unwrap());
        assert_eq!(printed, "-1 38\n", "{choice:?}: a call that nobody knows is not there");
        sandbox.close().await.unwrap();
    }
}

/// That a folder is not written which the mounts would let anybody write to is part of each probe; here it is device nodes.
#[tokio::test(flavor = "multi_thread")]
async fn landlock_holds_where_the_kernel_has_it() {
    let Some(backend) = backend(&settings(Choice::Namespace)).await else { return };
    if !backend.standing().holds(Defence::Landlock) {
        return skipped(&backend.standing().explain(Level::Hardened));
    }
    let tree = tempfile::tempdir().unwrap();
    let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
    // The restriction answers EACCES (13); without it, a missing capability would answer EPERM (1).
    let line = "python3 -c \"
import os, stat
for path in ['/workspace/node', '/tmp/node', '/dev/shm/node']:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except OSError as error:
        print(path, error.errno)
\"";
    let printed = text(&sandbox.run(&command(line)).await.unwrap());
    assert_eq!(printed, "/workspace/node 13\n/tmp/node 13\n/dev/shm/node 13\n");
    sandbox.close().await.unwrap();
}

const WORK: &[(&str, &str)] = &[
    ("threads", "import threading
threads = [threading.Thread(target=sum, args=(range(1000),)) for _ in range(8)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]"),
    ("processes", "import subprocess, multiprocessing
assert subprocess.run(['sh', '-c', 'exit 3']).returncode == 3
lock = multiprocessing.get_context('fork').Lock()
lock.acquire(); lock.release()"),
    ("a pseudo-terminal", "import os, pty, termios, fcntl, struct
child, terminal = pty.fork()
if child == 0:
    os.execvp('sh', ['sh', '-c', 'test -t 0 && echo terminal'])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
assert b'terminal' in os.read(terminal, 100)
os.waitpid(child, 0)"),
    ("sockets", "import socket, threading
for family, place in [(socket.AF_UNIX, '/tmp/socket'), (socket.AF_UNIX, '\\0abstract'), (socket.AF_INET, ('127.0.0.1', 0)), (socket.AF_INET6, ('::1', 0))]:
    server = socket.socket(family)
    try:
        server.bind(place)
    except OSError as error:
        assert (family, error.errno) == (socket.AF_INET6, 99), error  # An engine without IPv6.
        continue
    server.listen()
    client = socket.socket(family); client.connect(server.getsockname())
    client.sendall(b'x'); assert server.accept()[0].recv(1) == b'x'
assert 'lo' in [name for _, name in socket.if_nameindex()]
socket.getaddrinfo('localhost', 80)"),
    ("events", "import asyncio
async def work():
    server = await asyncio.start_server(lambda _, writer: writer.close(), '127.0.0.1', 0)
    reader, _ = await asyncio.open_connection(*server.sockets[0].getsockname())
    return await reader.read()
assert asyncio.run(work()) == b''"),
    ("files", "import os, fcntl, tempfile, shutil, mmap
os.makedirs('a/b'); os.makedirs('c')
open('a/b/file', 'w').write('text')
os.rename('a/b/file', 'c/file'); os.link('c/file', 'a/link'); os.symlink('file', 'c/symlink')
os.mkfifo('c/fifo'); os.truncate('c/file', 2); os.utime('c/file'); os.chmod('c/file', 0o755)
shutil.move('c/file', '/tmp/moved'); shutil.move('/tmp/moved', 'c/file')
with open('c/file', 'r+') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
tempfile.TemporaryFile().write(b'x')
open('/dev/shm/x', 'w').write('x'); open(os.path.expanduser('~/x'), 'w').write('x')
open('/dev/stdout', 'w').write('out'); open('/dev/null', 'w').write('x')
shutil.rmtree('a'); shutil.rmtree('c')"),
    ("a debugger", "import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
child = os.fork()
if child == 0:
    assert libc.ptrace(0, 0, None, None) == 0
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(7)
os.waitpid(child, 0)
assert libc.ptrace(7, child, None, None) == 0, ctypes.get_errno()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7"),
    ("no address randomisation", "import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.personality(ctypes.c_ulong(0x40000)) == 0
assert libc.personality(ctypes.c_ulong(0xffffffff)) == 0x40000"),
    ("signals", "import os, signal
child = os.fork()
if child == 0:
    signal.pause()
os.kill(child, signal.SIGTERM)
os.waitpid(child, 0)"),
];

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_work_goes_on() {
    for (choice, backend) in all_backends().await {
        let tree = tempfile::tempdir().unwrap();
        let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
        let mut failures = Vec::new();
        for (name, program) in WORK {
            std::fs::write(tree.path().join("work.py"), program).unwrap();
            let output = sandbox.run(&command("exec python3 work.py")).await.unwrap();
            if output.ending != Ending::Exited(0) {
                failures.push(format!("{name}: {:?}\n{}", output.ending, text(&output)));
            }
        }
        assert!(failures.is_empty(), "{choice:?}:\n{}", failures.join("\n"));
        sandbox.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_tools_work_behind_the_walls() {
    let mut settings = settings(Choice::Namespace);
    settings.limits.memory_bytes = 2 << 30;
    settings.limits.processes = 256;
    let Some(backend) = backend(&settings).await else { return };
    let tree = tempfile::tempdir().unwrap();
    let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
    let git = "git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git log";
    let node = "node -e \"
const { Worker } = require('worker_threads');
const server = require('http').createServer((_, answer) => answer.end('x')).listen(0, '127.0.0.1', () => {
    require('http').get(server.address(), () => {
        new Worker('process.exit(0)', { eval: true }).on('exit', () => process.exit(0));
    });
});\"";
    let debugger = "printf 'int main(void) { return 7; }' > d.c && cc -g d.c -o d && \
                    gdb -batch -ex 'break main' -ex run -ex continue ./d";
    for (program, line) in [("git", git), ("node", node), ("gdb", debugger)] {
        if which::which(program).is_err() {
            eprintln!("not tried, since it is not installed: {program}");
            continue;
        }
        let output = sandbox.run(&command(line)).await.unwrap();
        assert_eq!(output.ending, Ending::Exited(0), "{program}: {}", text(&output));
        assert!(!text(&output).contains("ptrace: "), "{}", text(&output));
    }
    sandbox.close().await.unwrap();
}

/// The profile for both machines, whatever this one is.
#[test]
fn the_profile_compiles_for_every_machine() {
    for architecture in ["x86_64", "aarch64"] {
        let programs = seccomp::compile(architecture).unwrap();
        assert_eq!(programs.len(), 3, "{architecture}");
        assert!(programs.iter().all(|program| (4..4096).contains(&program.len())), "{architecture}");
    }
    assert!(seccomp::compile("riscv64").is_err());
}
