//! Linux namespaces: a box per command, built by our own binary executed again, since forking a program with threads
//! and then building a box in the child is unsound.

mod trial;

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

use super::capture::Capture;
use super::cgroup::{Controllers, Group};
use super::disk::Disk;
use super::egress::CERTIFICATES;
use super::helper::{BoxSpec, CommandSpec, Report, Walls};
use super::level::Standing;
use super::online::{self, SHOWN};
use super::open::{Open, Use};
use super::plan::{Entry, Plan, WORKSPACE};
use super::registry;
use super::sources::Sources;
use super::surround::{Ground, Overlays, is_cache};
use super::{
    Command, Ending, Home, Limits, Network, Output, Sandbox, SandboxError, Settings, Surroundings, complete,
    unrunnable, watch,
};
use super::{landlock, seccomp};
use crate::weak::{self, Defence};

/// The first argument that makes our binary a sandbox helper.
pub const HELPER_ARGUMENT: &str = "sandbox-helper";

/// How long a killed box may take to be gone.
const DEATH_LIMIT: Duration = Duration::from_secs(10);

/// How long a box may take to be built and to say how it went, besides the command's own time.
const BUILD_LIMIT: Duration = Duration::from_secs(30);

/// How often a watched command is measured.
const WATCH_INTERVAL: Duration = Duration::from_millis(25);

/// Builds namespace sandboxes on this host.
#[derive(Debug, Clone)]
pub struct Launcher {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    helper: PathBuf,
    limits: Limits,
    plan: Plan,
    sources: Sources,
    groups: Option<Controllers>,
    walls: Walls,
    standing: Standing,
    description: String,
    /// What the kernel can do on the file systems that boxes were put around.
    overlays: Mutex<HashMap<Devices, Overlays>>,
    open: Open,
}

/// The file systems of a box, by the numbers of their devices.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Devices {
    tree: u64,
    layers: Vec<u64>,
    home: Option<u64>,
}

/// A box around one folder. Each command gets a box of its own; what lasts between them is the folder.
struct NamespaceSandbox {
    launcher: Arc<Inner>,
    ground: Ground,
    surroundings: Surroundings,
    disk: Arc<Mutex<Disk>>,
    open: Open,
    /// One command at a time: what it leaves decides where the next one's mounts are made.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What a sandbox helper does; `main` calls it before anything else when the first argument is [`HELPER_ARGUMENT`].
pub fn helper_main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(2).map(|argument| argument.to_string_lossy().into_owned()).collect();
    super::helper::main(&arguments)
}

impl Launcher {
    fn new(settings: &Settings, plan: Plan, groups: Option<Controllers>, standing: Standing) -> Self {
        let limits_by = match &groups {
            Some(groups) => groups.description().to_owned(),
            None if watch::can_watch() => "memory and processes by watching".to_owned(),
            None => "memory by a limit for each process".to_owned(),
        };
        Self {
            inner: Arc::new(Inner {
                helper: settings.helper.clone(),
                limits: settings.limits.clone(),
                plan,
                sources: settings.sources.clone(),
                groups,
                description: format!(
                    "namespace{} (user, mount, pid, network, ipc, uts, cgroup; {}{limits_by})",
                    standing.level_in_words(),
                    standing.walls_in_words()
                ),
                walls: Walls {
                    seccomp: seccomp::missing().is_none() && !weak::is_off(Defence::Seccomp),
                    landlock: landlock::version().is_some(),
                },
                standing,
                overlays: Mutex::default(),
                open: Open::new(),
            }),
        }
    }

    /// What came of trying it.
    pub fn standing(&self) -> &Standing {
        &self.inner.standing
    }

    /// What it is, for people.
    pub fn description(&self) -> &str {
        &self.inner.description
    }

    /// Puts a box around what the surroundings name.
    pub async fn open(&self, surroundings: &Surroundings) -> Result<Box<dyn Sandbox>, SandboxError> {
        let is_bare =
            surroundings.layers.is_empty() && surroundings.home == Home::Empty && surroundings.repository.is_none();
        let overlays =
            if is_bare { Overlays { memory: false, tree: false } } else { self.overlays(surroundings).await? };
        self.open_with(surroundings, overlays).await.map(|sandbox| Box::new(sandbox) as Box<dyn Sandbox>)
    }

    async fn open_with(
        &self,
        surroundings: &Surroundings,
        overlays: Overlays,
    ) -> Result<NamespaceSandbox, SandboxError> {
        let (launcher, wanted) = (self.inner.clone(), surroundings.clone());
        let ground = look(move || Ground::lay(&launcher.plan, &wanted, overlays, &launcher.limits)).await??;
        let disk = Arc::new(Mutex::new(Disk::new(ground.written(), &self.inner.limits, ground.copied())));
        let (launcher, open, turn) = (self.inner.clone(), self.inner.open.child(), Arc::default());
        Ok(NamespaceSandbox { launcher, ground, surroundings: surroundings.clone(), disk, open, turn })
    }

    /// Whether boxes show caches of the operator's.
    pub fn shows_caches(&self) -> bool {
        self.inner.plan.entries.keys().any(|target| is_cache(target))
    }

    /// The programs of the folders on the `PATH` inside, by when they changed.
    pub fn fingerprint(&self) -> String {
        let path = self.inner.plan.environment.get("PATH").map(String::as_str).unwrap_or_default();
        let changed = |folder: &str| {
            let metadata = std::fs::metadata(folder).ok()?;
            Some(format!("{folder} {} {}", metadata.mtime(), metadata.mtime_nsec()))
        };
        path.split(':').filter_map(changed).collect::<Vec<_>>().join("\n")
    }

    /// Removes the control groups of processes that are gone.
    pub fn sweep(&self) -> usize {
        self.inner.groups.as_ref().map_or(0, Controllers::sweep)
    }

    /// Ends all commands that run.
    pub async fn close_all(&self, limit: Duration) {
        self.inner.open.stop_and_wait(limit).await;
    }
}

#[async_trait]
impl Sandbox for NamespaceSandbox {
    async fn run(&self, command: &Command) -> Result<Output, SandboxError> {
        let turn = self.turn.clone().lock_owned().await;
        if self.open.is_stopped() {
            return Err(closed());
        }
        let command = &complete(&self.surroundings, command);
        if let Some(answer) = unrunnable(&command.line) {
            return Ok(answer);
        }
        let started = Instant::now();
        let frames = [
            frame(&self.launcher.box_spec(&self.ground, &self.surroundings.network)?)?,
            frame(&self.launcher.command_spec(command, &self.surroundings.network)?)?,
        ];
        let group = match &self.launcher.groups {
            Some(groups) => Some(
                groups
                    .create(self.launcher.limits.memory_bytes, self.launcher.limits.processes.saturating_add(OURS))
                    .map_err(|error| SandboxError::Broken(format!("cannot create a control group: {error}")))?,
            ),
            None => None,
        };
        let child = self.launcher.start(group.as_ref())?;
        let (launcher, disk, open) = (self.launcher.clone(), self.disk.clone(), self.open.child());
        let held = Held {
            _turn: turn,
            _hold: self.surroundings.hold.clone(),
            _use: open.begin(),
            _removal: registry::removal(),
        };
        let _end = EndOnDrop(open.clone());
        let running = Running { child, group, launcher, disk, open, started, _held: held };
        // A task of its own: whoever does not wait for the command any more must not leave it dying unobserved.
        let finished = tokio::spawn(running.finish(frames.concat(), command.timeout)).await;
        finished.map_err(|error| SandboxError::Broken(format!("the command was lost: {error}")))?
    }

    fn description(&self) -> &str {
        &self.launcher.description
    }

    async fn close(&self) -> Result<(), SandboxError> {
        self.open.stop();
        // The command that runs, if any, has ended then.
        drop(self.turn.lock().await);
        Ok(())
    }
}

impl Drop for NamespaceSandbox {
    fn drop(&mut self) {
        self.open.stop();
    }
}

/// Processes and threads of ours for each box: the helper and its relay, hakoniwa's, init and its watcher.
const OURS: u64 = 5;

impl Inner {
    fn box_spec(&self, ground: &Ground, network: &Network) -> Result<BoxSpec, SandboxError> {
        let (mut entries, more) = ground.entries()?;
        if let Some(path) = online::certificates(network) {
            entries.insert(format!("{SHOWN}/{CERTIFICATES}"), Entry::ReadOnly { source: utf8(&path)? });
        }
        let proxy = match network {
            Network::Off => None,
            Network::Proxy(socket) => Some(utf8(socket)?),
        };
        let hidden = self.plan.hidden.iter().cloned().chain(more).collect();
        let watched = self.groups.is_none();
        Ok(BoxSpec {
            entries,
            hidden,
            helper: utf8(&self.helper)?,
            overlay_bytes: self.limits.memory_bytes,
            proxy,
            // Twice the limit: what watches must see a command pass the limit before an allocation fails.
            data_bytes: watched
                .then(|| self.limits.memory_bytes.saturating_mul(if watch::can_watch() { 2 } else { 1 })),
            processes: counts_processes_by_namespace().then(|| self.limits.processes.saturating_add(OURS)),
            file_size_bytes: self.limits.file_size_bytes,
            without: weak::off(),
        })
    }

    fn command_spec(&self, command: &Command, network: &Network) -> Result<CommandSpec, SandboxError> {
        let plain = command.directory.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !plain {
            return Err(SandboxError::Broken(format!(
                "the command's folder {} is not below the tree",
                command.directory.display()
            )));
        }
        let mut environment: BTreeMap<String, String> = self.plan.environment.clone();
        environment.extend(online::environment(network, &self.sources));
        environment.extend(command.environment.clone());
        Ok(CommandSpec {
            line: command.line.clone(),
            directory: utf8(&Path::new(WORKSPACE).join(&command.directory))?,
            environment,
            walls: self.walls,
        })
    }

    fn start(&self, group: Option<&Group>) -> Result<Child, SandboxError> {
        let child = tokio::process::Command::new(&self.helper)
            .arg(HELPER_ARGUMENT)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| SandboxError::Broken(format!("cannot start {}: {error}", self.helper.display())))?;
        if let (Some(group), Some(pid)) = (group, child.id()) {
            group.add(pid).map_err(|error| SandboxError::Broken(format!("cannot use the control group: {error}")))?;
        }
        Ok(child)
    }
}

/// Ends the command that nobody waits for any more.
struct EndOnDrop(Open);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A command in its box. Dropped: the helper is killed and its pipe closed; either ends everything inside.
struct Running {
    // Before `group`, which is removed when nothing lives in it any more.
    child: Child,
    group: Option<Group>,
    launcher: Arc<Inner>,
    disk: Arc<Mutex<Disk>>,
    open: Open,
    started: Instant,
    _held: Held,
}

/// What a command keeps until it is gone. In this order: whoever waits for the end of all uses finds the others let go.
struct Held {
    _turn: tokio::sync::OwnedMutexGuard<()>,
    _hold: Option<Arc<dyn Any + Send + Sync>>,
    _use: Use,
    _removal: Use,
}

/// Why a command was ended before its time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Timeout,
    Memory,
    Processes,
    Disk,
    Closed,
}

impl Running {
    /// Sends the orders, collects the output, and ends the box at a limit. Returns when nothing of it is alive.
    async fn finish(mut self, orders: Vec<u8>, timeout: Duration) -> Result<Output, SandboxError> {
        let broken = || SandboxError::Broken("the helper has no pipes".into());
        let mut control = Some(self.child.stdin.take().ok_or_else(broken)?);
        let output = self.child.stdout.take().ok_or_else(broken)?;
        let errors = self.child.stderr.take().ok_or_else(broken)?;
        let pid = self.child.id();
        let limits = self.launcher.limits.clone();
        let captured = Mutex::new(Capture::new(limits.output_bytes));
        let reported = Mutex::new(Capture::new(64 * 1024));

        let sent = match control.as_mut() {
            Some(pipe) => {
                tokio::time::timeout(BUILD_LIMIT, pipe.write_all(&orders)).await.is_ok_and(|sent| sent.is_ok())
            }
            None => false,
        };
        if !sent {
            // It will not come to life; without its pipe it ends.
            control.take();
        }
        let mut cause = None;
        let ended = {
            let work =
                async { tokio::join!(pump(output, &captured), pump(errors, &reported), self.child.wait()).2.is_ok() };
            tokio::pin!(work);
            let early = tokio::select! {
                _ = &mut work => true,
                reason = interrupted(timeout, &self.open, self.group.as_ref(), pid, &limits, &self.disk), if sent => {
                    cause = Some(reason);
                    false
                }
            };
            // Closing the pipe ends the box's first process, and with it the box.
            control.take();
            early || tokio::time::timeout(DEATH_LIMIT / 2, &mut work).await.is_ok()
        };
        if !ended {
            let _ = self.child.start_kill();
            let _ = tokio::time::timeout(DEATH_LIMIT / 2, self.child.wait()).await;
        }
        let out_of_memory = self.group.as_ref().is_some_and(Group::ran_out_of_memory);
        self.bury().await?;
        if cause == Some(Cause::Disk) {
            let disk = self.disk.clone();
            look(move || disk.lock().unwrap_or_else(PoisonError::into_inner).settle()).await?;
        }
        let report = lock_into(reported);
        let ending = ending(cause, out_of_memory, &[report.head, report.tail].concat())?;
        let kept = lock_into(captured);
        Ok(Output {
            ending,
            head: kept.head,
            tail: kept.tail,
            omitted_bytes: kept.omitted_bytes,
            duration: self.started.elapsed(),
        })
    }

    /// Kills what is left in the group and removes it.
    async fn bury(&mut self) -> Result<(), SandboxError> {
        let Some(group) = self.group.take() else { return Ok(()) };
        if group.is_empty() {
            return Ok(());
        }
        let gone = tokio::task::spawn_blocking(move || group.kill(DEATH_LIMIT)).await.unwrap_or(false);
        if gone { Ok(()) } else { Err(SandboxError::Broken("processes of the command could not be killed".into())) }
    }
}

/// Resolves when the command has to end early.
async fn interrupted(
    timeout: Duration,
    open: &Open,
    group: Option<&Group>,
    pid: Option<u32>,
    limits: &Limits,
    disk: &Arc<Mutex<Disk>>,
) -> Cause {
    let watching = async {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            if group.is_some_and(Group::ran_out_of_memory) {
                return Cause::Memory;
            }
            let Some(pid) = pid else { continue };
            let (has_group, limits, disk) = (group.is_some(), limits.clone(), disk.clone());
            let look = tokio::task::spawn_blocking(move || excess(pid, has_group, &limits, &disk));
            if let Ok(Some(cause)) = look.await {
                return cause;
            }
        }
    };
    tokio::select! {
        () = tokio::time::sleep(timeout) => Cause::Timeout,
        () = open.stopped() => Cause::Closed,
        cause = watching => cause,
    }
}

/// Which limit a command has passed. Where a control group keeps memory and processes, they need no watching.
fn excess(pid: u32, has_group: bool, limits: &Limits, disk: &Mutex<Disk>) -> Option<Cause> {
    if !has_group {
        let usage = watch::tree_usage(pid, limits.memory_bytes);
        if usage.memory_bytes > limits.memory_bytes {
            return Some(Cause::Memory);
        }
        if usage.processes > limits.processes.saturating_add(OURS) {
            return Some(Cause::Processes);
        }
    }
    disk.lock().unwrap_or_else(PoisonError::into_inner).is_exceeded(|| watch::tree(pid)).then_some(Cause::Disk)
}

/// Judges the end of a box from why we ended it, what the kernel counted, and what its helpers reported.
fn ending(cause: Option<Cause>, out_of_memory: bool, reports: &[u8]) -> Result<Ending, SandboxError> {
    match cause {
        Some(Cause::Closed) => return Err(closed()),
        Some(Cause::Memory) => return Ok(Ending::OutOfMemory),
        Some(Cause::Timeout) => return Ok(Ending::TimedOut),
        Some(Cause::Disk) => return Ok(Ending::OutOfDisk),
        // As the kernel would have: the tree was killed for a limit that is not memory.
        Some(Cause::Processes) => return Ok(Ending::Signalled(9)),
        None if out_of_memory => return Ok(Ending::OutOfMemory),
        None => {}
    }
    let text = String::from_utf8_lossy(reports);
    let parsed: Vec<Report> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let ended = parsed.iter().find_map(|report| match report {
        Report::Exited(code) => Some(Ending::Exited(*code)),
        Report::Signalled(signal) => Some(Ending::Signalled(*signal)),
        Report::Broken(_) => None,
    });
    let unparsed = text.lines().filter(|line| serde_json::from_str::<Report>(line).is_err());
    let reasons: Vec<&str> = parsed
        .iter()
        .filter_map(|report| match report {
            Report::Broken(reason) => Some(reason.as_str()),
            Report::Exited(_) | Report::Signalled(_) => None,
        })
        .chain(unparsed)
        .collect();
    ended.ok_or_else(|| {
        let reason = if reasons.is_empty() { "the helper ended without a word".into() } else { reasons.join("; ") };
        SandboxError::Broken(reason)
    })
}

/// Looks at the host on a thread that may wait for its disk.
async fn look<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SandboxError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| SandboxError::Broken(format!("cannot look at this host: {error}")))
}

async fn pump(mut from: impl AsyncRead + Unpin, into: &Mutex<Capture>) {
    let mut buffer = vec![0u8; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        lock(into).add(buffer.get(..count).unwrap_or_default());
    }
}

fn lock(capture: &Mutex<Capture>) -> std::sync::MutexGuard<'_, Capture> {
    capture.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock_into(capture: Mutex<Capture>) -> super::capture::Captured {
    capture.into_inner().unwrap_or_else(PoisonError::into_inner).finish()
}

fn frame(order: &impl serde::Serialize) -> Result<Vec<u8>, SandboxError> {
    let broken = |error: &dyn std::fmt::Display| SandboxError::Broken(format!("cannot write the orders: {error}"));
    let json = serde_json::to_vec(order).map_err(|error| broken(&error))?;
    let length = u32::try_from(json.len()).map_err(|error| broken(&error))?;
    Ok([length.to_le_bytes().as_slice(), &json].concat())
}

fn utf8(path: &Path) -> Result<String, SandboxError> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        SandboxError::Broken(format!("the path {} is not UTF-8", String::from_utf8_lossy(path.as_os_str().as_bytes())))
    })
}

fn closed() -> SandboxError {
    SandboxError::Broken("it was closed".into())
}

/// Since Linux 5.14 the process limit counts within a user namespace; before, it counted the user's processes on the
/// whole host, where it would hit whatever else runs.
fn counts_processes_by_namespace() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 14)
}
