//! The inside of the namespace sandbox: our own binary, executed again, as a process without threads.
//!
//! 1. **outer**: leaves the host's network and mounts, makes room in memory for a new root, and has hakoniwa build the
//!    box there. Then it is the relay to the egress proxy, if there is one;
//! 2. **init**: process 1 of the box. Starts the shell line, reaps orphans, reports how the line ended, and ends; with
//!    it ends every process of the box.
//!
//! Standard input carries two frames (a length, four bytes, little endian, then JSON) and then stays open for as long
//! as the caller wants the command alive: at its end init ends. Standard output is the command's output. Standard error
//! carries one [`Report`] as a line of JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use hakoniwa::{Container, MountOptions, Namespace, Rlimit};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use rustix::fs::Access;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};
use rustix::process::{DumpableBehavior, WaitOptions};
use serde::{Deserialize, Serialize};

use super::egress::relay;
use super::plan::{Entry, HOME, WORKSPACE};
use super::remote::{attendant, exchange, measure, passage};
use crate::weak::{self, Defence};

/// The second argument that makes a helper the box's process 1.
const INIT_ARGUMENT: &str = "init";

/// Where the box has our binary.
const INIT_PATH: &str = "/.patchwright/init";

/// The user and group inside. Outside it is the user who runs us.
const USER: u32 = 1000;

/// The box, for the outer helper.
#[derive(Debug, Serialize, Deserialize)]
pub struct BoxSpec {
    pub entries: BTreeMap<String, Entry>,
    /// Host paths.
    pub hidden: BTreeSet<String>,
    pub helper: String,
    /// How much may be written to overlays over memory.
    pub overlay_bytes: u64,
    /// The egress proxy's socket on the host, if the box may reach it.
    pub proxy: Option<String>,
    pub data_bytes: Option<u64>,
    pub processes: Option<u64>,
    pub file_size_bytes: u64,
    pub without: Option<Defence>,
}

/// The command, for init.
#[derive(Debug, Serialize, Deserialize)]
pub struct CommandSpec {
    pub line: String,
    /// Absolute, inside.
    pub directory: String,
    pub environment: BTreeMap<String, String>,
    /// What init puts around itself, and so around all that it starts.
    pub walls: Walls,
}

/// What this kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walls {
    pub seccomp: bool,
    pub landlock: bool,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    Exited(i32),
    Signalled(i32),
    /// The box could not be built or the command not be started.
    Broken(String),
}

/// Runs the helper that the arguments after the first name.
pub fn main(arguments: &[String]) -> ExitCode {
    let result = match arguments {
        [] => outer(),
        [stage] if stage == INIT_ARGUMENT => init(),
        [stage, socket] if stage == relay::ARGUMENT => relay::main(socket),
        [stage] if stage == attendant::ARGUMENT => attendant::main(),
        [stage] if stage == passage::ARGUMENT => passage::main(),
        [stage] if stage == exchange::ARGUMENT => exchange::main(),
        [stage] if stage == measure::ARGUMENT => measure::main(),
        _ => Err(anyhow::anyhow!("this is not for people: it is how Patchwright starts a sandbox")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&Report::Broken(format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn outer() -> Result<()> {
    // No controlling terminal: else the command could type into it.
    let _ = rustix::process::setsid();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let spec: BoxSpec = read_frame(rustix::stdio::stdin())?;
    spec.without.into_iter().for_each(weak::without);
    leave_host()?;
    let relay = spec.proxy.as_deref().map(|socket| relay::Waiting::new(socket.as_ref())).transpose()?;
    let room = make_room(spec.overlay_bytes)?;
    hide(&spec, &room)?;
    freeze(&spec)?;
    let container = build(&spec, &room)?;
    let mut command = container.command(INIT_PATH);
    command.args([super::namespace::HELPER_ARGUMENT, INIT_ARGUMENT]);
    command.current_dir("/");
    let mut child = command.spawn().context("cannot start the box")?;
    relay.map(relay::Waiting::start).transpose()?;
    // The pipes belong to init alone from here on, so that their end is its end.
    let status = child.wait().context("cannot wait for the box")?;
    match status.exit_code {
        Some(0) => Ok(()),
        Some(code) => bail!("the box's first process ended with code {code}"),
        None => bail!("{}", status.reason),
    }
}

/// Leaves the host's user, mount and network namespaces.
///
/// The network belongs to this outer user namespace and the box lives in one below it: nothing inside has power over
/// the network, whatever it becomes there.
fn leave_host() -> Result<()> {
    let user = rustix::process::getuid().as_raw();
    let group = rustix::process::getgid().as_raw();
    let mut flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    flags.set(CloneFlags::CLONE_NEWNET, !weak::is_off(Defence::NetworkNamespace));
    nix::sched::unshare(flags).context("cannot leave the host's namespaces")?;
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{user} {user} 1"))?;
    write("/proc/self/gid_map", &format!("{group} {group} 1"))?;
    // One more, for the box itself; the command gets none, and so none of the kernel's surface behind them.
    write("/proc/sys/user/max_user_namespaces", "1")?;
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("cannot make the mounts private")?;
    if weak::is_off(Defence::NetworkNamespace) {
        return Ok(());
    }
    loopback_up().context("cannot bring the loopback interface up")
}

/// Sets the interface `lo` up, as rtnetlink(7) tells: an `RTM_NEWLINK` whose flags and mask are `IFF_UP`.
fn loopback_up() -> Result<()> {
    const LENGTH: u32 = 32;
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_WITH_ACKNOWLEDGEMENT: u16 = 1 | 4;
    const LOOPBACK_INDEX: i32 = 1;
    const IFF_UP: u32 = 1;
    let mut message = Vec::new();
    message.extend(LENGTH.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_WITH_ACKNOWLEDGEMENT.to_ne_bytes());
    message.extend(1u32.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend([0u8; 4]);
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());

    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    rustix::net::send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0u8; 1024];
    let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    match answer.get(16..20).filter(|_| length >= 20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(error) => bail!("the kernel answered {}", std::io::Error::from_raw_os_error(error.wrapping_neg())),
        None => bail!("the kernel answered too little"),
    }
}

/// Folders in memory, visible to nobody else and gone with the last process.
struct Room {
    base: &'static str,
    /// Number of the next overlay.
    overlays: std::cell::Cell<usize>,
}

/// Mounts a file system in memory over a folder of the host that no sandbox shows.
fn make_room(bytes: u64) -> Result<Room> {
    let base = ["/sys", "/boot", "/srv", "/mnt", "/media"]
        .into_iter()
        .find(|folder| Path::new(folder).is_dir())
        .context("none of /sys, /boot, /srv, /mnt and /media exists: there is no place to build the box")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let data = format!("mode=755,nr_inodes=1048576,size={bytes}");
    nix::mount::mount(Some("tmpfs"), base, Some("tmpfs"), flags, Some(data.as_str()))
        .context("cannot mount a file system in memory")?;
    for folder in ["root", "empty", "terminals", "overlays"] {
        fs::create_dir(Path::new(base).join(folder)).with_context(|| format!("cannot create {base}/{folder}"))?;
    }
    fs::write(Path::new(base).join("nothing"), "").context("cannot create an empty file")?;
    let terminals = Path::new(base).join("terminals");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    nix::mount::mount(Some("devpts"), &terminals, Some("devpts"), flags, Some("newinstance,ptmxmode=0666,mode=620"))
        .context("cannot mount pseudo-terminals")?;
    Ok(Room { base, overlays: std::cell::Cell::new(0) })
}

/// Covers what must not be seen where it is on the host, in our own view of it; what is shown later shows the cover.
fn hide(spec: &BoxSpec, room: &Room) -> Result<()> {
    for path in &spec.hidden {
        // What is out of our own reach is out of the command's.
        let cover = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => format!("{}/empty", room.base),
            Ok(_) => format!("{}/nothing", room.base),
            Err(_) => continue,
        };
        nix::mount::mount(Some(cover.as_str()), path.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("cannot hide {path}"))?;
        remount_read_only(path)?;
    }
    Ok(())
}

/// Makes the mounts below what is shown read-only, each on its own: a read-only bind does not reach into them.
fn freeze(spec: &BoxSpec) -> Result<()> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    let shown: Vec<&String> = spec
        .entries
        .values()
        .filter_map(|entry| if let Entry::ReadOnly { source } = entry { Some(source) } else { None })
        .collect();
    for point in mountinfo.lines().filter_map(|line| line.split(' ').nth(4)) {
        let point = point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
        let below = |source: &&String| point != **source && Path::new(&point).starts_with(source.as_str());
        // One that is covered by another is out of reach, here as inside.
        if shown.iter().any(below) && Path::new(&point).exists() {
            remount_read_only(&point)?;
        }
    }
    Ok(())
}

/// Sets a mount read-only and keeps the flags it has: those that the host set cannot be taken off.
fn remount_read_only(point: &str) -> Result<()> {
    use rustix::fs::StatVfsMountFlags as Flags;
    let given = rustix::fs::statvfs(point).with_context(|| format!("cannot look at {point}"))?.f_flag;
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    for (flag, kept) in
        [(Flags::NOSUID, MsFlags::MS_NOSUID), (Flags::NODEV, MsFlags::MS_NODEV), (Flags::NOEXEC, MsFlags::MS_NOEXEC)]
    {
        flags.set(kept, given.contains(flag));
    }
    nix::mount::mount(None::<&str>, point, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot make {point} read-only"))
}

fn build(spec: &BoxSpec, room: &Room) -> Result<Container> {
    let mut container = Container::empty();
    for namespace in
        [Namespace::User, Namespace::Mount, Namespace::Pid, Namespace::Ipc, Namespace::Uts, Namespace::Cgroup]
    {
        container.unshare(namespace);
    }
    container.uidmap(USER).gidmap(USER).hostname("sandbox");
    container.rootdir(Path::new(room.base).join("root"));
    for (target, entry) in &spec.entries {
        // As root in a user namespace we may less than root: what another user keeps to itself is not shown.
        let sources = match entry {
            Entry::ReadOnly { source } => std::slice::from_ref(source),
            Entry::Overlay { lower } => lower.as_slice(),
            Entry::ReadWrite { .. }
            | Entry::Layered { .. }
            | Entry::Memory { .. }
            | Entry::Device { .. }
            | Entry::Terminals
            | Entry::Symlink { .. }
            | Entry::File { .. }
            | Entry::Folder => &[],
        };
        if sources.iter().all(|source| rustix::fs::access(source, Access::READ_OK).is_ok()) {
            place(&mut container, room, target, entry)?;
        }
    }
    bind(&mut container, &spec.helper, INIT_PATH, MountOptions::RDONLY | MountOptions::NODEV)?;
    for target in spec.entries.iter().filter(|(_, entry)| needs_parent(entry)).map(|(target, _)| target) {
        parents(&mut container, spec, target);
    }
    // Read-only, for the box's user is the host's own: as root it could write the host's kernel settings otherwise.
    let flags = MountOptions::RDONLY | MountOptions::NOSUID | MountOptions::NODEV | MountOptions::NOEXEC;
    container.mount("proc", "/proc", "proc", flags, None);

    limit(&mut container, Rlimit::Core, 0);
    if !weak::is_off(Defence::FileSizeLimit) {
        limit(&mut container, Rlimit::Fsize, spec.file_size_bytes);
    }
    limit(&mut container, Rlimit::Nofile, 65_536);
    if let Some(bytes) = spec.data_bytes {
        limit(&mut container, Rlimit::Data, bytes);
    }
    if let Some(processes) = spec.processes {
        limit(&mut container, Rlimit::Nproc, processes);
    }
    Ok(container)
}

fn place(container: &mut Container, room: &Room, target: &str, entry: &Entry) -> Result<()> {
    match entry {
        Entry::ReadOnly { source } => {
            bind(container, source, target, MountOptions::RDONLY | MountOptions::NODEV)?;
        }
        Entry::ReadWrite { source } => bind(container, source, target, MountOptions::NODEV)?,
        Entry::Device { source } => bind(container, source, target, MountOptions::empty())?,
        Entry::Terminals => bind(container, &format!("{}/terminals", room.base), target, MountOptions::empty())?,
        Entry::Overlay { lower } => {
            let number = room.overlays.get();
            room.overlays.set(number + 1);
            let folder = format!("{}/overlays/{number}", room.base);
            let (upper, work) = (format!("{folder}/upper"), format!("{folder}/work"));
            for path in [&upper, &work] {
                fs::create_dir_all(path).with_context(|| format!("cannot create {path}"))?;
            }
            overlay(container, target, lower, &upper, &work);
        }
        Entry::Layered { lower, upper, work } => overlay(container, target, lower, upper, work),
        Entry::Memory { bytes } => {
            let mode = if target == HOME { "755" } else { "1777" };
            let data = format!("size={bytes},nr_inodes=524288,mode={mode}");
            container.mount("tmpfs", target, "tmpfs", MountOptions::NOSUID | MountOptions::NODEV, Some(data));
        }
        Entry::Symlink { to } => {
            container.symlink(to, target);
        }
        Entry::File { text } => {
            container.file(target, text);
        }
        Entry::Folder => {
            container.dir(target, 0o755);
        }
    }
    Ok(())
}

/// What an overlay notes of itself stands in attributes that an ordinary user may set, so that all kinds of boxes read
/// each other's layers.
fn overlay(container: &mut Container, target: &str, lower: &[String], upper: &str, work: &str) {
    let data = format!("lowerdir={},upperdir={upper},workdir={work},userxattr", lower.join(":"));
    container.mount("overlay", target, "overlay", MountOptions::NOSUID | MountOptions::NODEV, Some(data));
}

/// Binds one mount of the host. Flags that the host set on it cannot be taken off in a user namespace, and asking for
/// fewer fails: so they are asked for too.
fn bind(container: &mut Container, source: &str, target: &str, wanted: MountOptions) -> Result<()> {
    use rustix::fs::StatVfsMountFlags as Flags;
    let given = rustix::fs::statvfs(source).with_context(|| format!("cannot show {source}"))?.f_flag;
    let mut options = MountOptions::BIND | MountOptions::REC | MountOptions::NOSUID | wanted;
    for (flag, option) in [
        (Flags::RDONLY, MountOptions::RDONLY),
        (Flags::NODEV, MountOptions::NODEV),
        (Flags::NOEXEC, MountOptions::NOEXEC),
    ] {
        if given.contains(flag) {
            options |= option;
        }
    }
    container.mount(source, target, "", options, None);
    Ok(())
}

fn needs_parent(entry: &Entry) -> bool {
    match entry {
        Entry::Symlink { .. } | Entry::File { .. } => true,
        Entry::ReadOnly { .. }
        | Entry::ReadWrite { .. }
        | Entry::Overlay { .. }
        | Entry::Layered { .. }
        | Entry::Memory { .. }
        | Entry::Device { .. }
        | Entry::Terminals
        | Entry::Folder => false,
    }
}

/// Makes the folders above a symlink or file that no mount brings.
fn parents(container: &mut Container, spec: &BoxSpec, target: &str) {
    for parent in Path::new(target).ancestors().skip(1) {
        let Some(name) = parent.to_str().filter(|name| *name != "/") else { continue };
        match spec.entries.get(name) {
            None => container.dir(name, 0o755),
            Some(_) => return,
        };
    }
}

/// Sets a limit, soft and hard, but never above what we have ourselves: that would be refused.
fn limit(container: &mut Container, resource: Rlimit, wanted: u64) {
    use rustix::process::Resource;
    let own = match resource {
        Rlimit::Core => Resource::Core,
        Rlimit::Fsize => Resource::Fsize,
        Rlimit::Nproc => Resource::Nproc,
        Rlimit::Data => Resource::Data,
        _ => Resource::Nofile,
    };
    let value = rustix::process::getrlimit(own).maximum.map_or(wanted, |maximum| maximum.min(wanted));
    container.setrlimit(resource, value, value);
}

fn init() -> Result<()> {
    // Nobody inside may look into this process, which holds the report's pipe.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot protect init")?;
    let spec: CommandSpec = read_frame(rustix::stdio::stdin())?;
    let output = rustix::stdio::stdout().as_fd().try_clone_to_owned().context("cannot duplicate the output")?;
    if spec.walls.landlock {
        super::landlock::restrict()?;
    }
    if spec.walls.seccomp {
        super::seccomp::install()?;
    }
    // Before anything can use up the processes that there may be.
    std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(|| {
            let mut byte = [0u8; 1];
            while !matches!(rustix::io::read(rustix::stdio::stdin(), &mut byte), Ok(0)) {}
            std::process::exit(0);
        })
        .context("cannot watch for the caller's end")?;
    let started = if Path::new(&spec.directory).is_dir() {
        std::process::Command::new("/bin/sh")
            .args(["-c", &spec.line])
            .current_dir(&spec.directory)
            .env_clear()
            .envs(&spec.environment)
            .stdin(Stdio::null())
            .stderr(Stdio::from(output))
            .spawn()
            .map_err(|error| format!("the shell could not be started: {error}"))
    } else {
        let below = Path::new(&spec.directory).strip_prefix(WORKSPACE).unwrap_or(Path::new(""));
        Err(format!("there is no folder {}", below.display()))
    };
    let child = match started {
        Ok(child) => child.id(),
        Err(reason) => {
            // As a shell does for what it cannot execute.
            let _ = writeln!(std::io::stdout(), "sandbox: {reason}");
            report(&Report::Exited(126));
            return Ok(());
        }
    };
    loop {
        let Some((pid, status)) = rustix::process::wait(WaitOptions::empty()).context("cannot wait")? else { continue };
        if pid.as_raw_nonzero().get().unsigned_abs() != child {
            continue;
        }
        report(&match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Report::Exited(code),
            (None, Some(signal)) => Report::Signalled(signal),
            (None, None) => continue,
        });
        return Ok(());
    }
}

fn read_frame<T: for<'a> Deserialize<'a>>(input: BorrowedFd<'_>) -> Result<T> {
    let mut length = [0u8; 4];
    read_exact(input, &mut length)?;
    let mut bytes = vec![0u8; usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX).min(64 << 20)];
    read_exact(input, &mut bytes)?;
    serde_json::from_slice(&bytes).context("cannot read the sandbox's orders")
}

/// Reads without a buffer: what follows belongs to the next stage.
fn read_exact(input: BorrowedFd<'_>, mut bytes: &mut [u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::read(input, &mut *bytes) {
            Ok(0) => bail!("the caller is gone"),
            Ok(count) => bytes = bytes.get_mut(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot read the sandbox's orders"),
        }
    }
    Ok(())
}

fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {path}"))
}

fn report(report: &Report) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        let _ = std::io::stderr().write_all(&line);
    }
}
