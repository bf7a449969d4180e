//! Docker and Podman: one container for each box, one `exec` for each command.
//!
//! Two users share a container, neither of them root: the keeper, which is process 1 and only waits, and the user of
//! the commands. So a command's `kill -9 -1` is how everything of it ends, and it cannot end the container.

mod trial;
mod watch;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::query_parameters::{RestartContainerOptionsBuilder, StartContainerOptions};
use futures_util::StreamExt;
use tempfile::NamedTempFile;

use super::attach::{self, attach};
use super::capture::Capture;
use super::disk::Disk;
use super::engine::{self, ANSWER_LIMIT, ask};
use super::level::Standing;
use super::open::Open;
use super::ownership::{self, User};
use super::plan::WORKSPACE;
use super::portable::Portable;
use super::registry::{Registered, Registry};
use super::remote::line::Site;
use super::remote::measure::RemoteDisk;
use super::remote::mirror::{Carried, Mirror};
use super::remote::passage::Bridge;
use super::room::Room;
use super::shape::{self, Shape};
use super::sources::Sources;
use super::{Command, Ending, Limits, Output, Sandbox, SandboxError, Surroundings, complete, not_run, unrunnable};
use watch::Watched;

/// Processes of the keeper, without the relay.
const KEEPERS: usize = 2;

/// Runs the line (`$1`) in the folder (`$2`), then ends all that is left of it. Output and errors are one stream. A
/// process has at most as many files open as in a namespace box, or the fewer that the engine allows.
const WRAPPER: &str = r#"exec 2>&1 </dev/null
ulimit -n 65536 2>/dev/null
cd "$2" || exit 126
/bin/sh -c "$1"
code=$?
kill -s KILL -- -1 2>/dev/null
exit $code"#;

const KILL_LINE: &str = "kill -s KILL -- -1 2>/dev/null; exit 0";

/// How often a running command's memory is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// A container engine that answers, with an image that is there.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug, Clone)]
struct Inner {
    docker: Docker,
    image: String,
    limits: Limits,
    owner: String,
    description: String,
    /// Podman without root maps our user to itself only if asked.
    keep_user: bool,
    /// Our filter of system calls, as the engine takes it; `None`: the engine's own.
    filter: Option<String>,
    /// Podman reads the filter from here.
    _profile: Option<Arc<NamedTempFile>>,
    runtime: Option<String>,
    standing: Standing,
    sources: Sources,
    /// The relay's program; an error in words where it cannot be brought along.
    portable: Result<Portable, String>,
    /// What came of trying the relay; `None`: it runs.
    no_network: Option<String>,
    open: Open,
    registry: Arc<Registry>,
    /// The engine is on a socket of this machine.
    is_local: bool,
    /// The engine does not see our files: they are sent to boxes of this image, which has our binary in it.
    remote_image: Option<String>,
    /// The version of its machine's kernel, by its own word; may be empty.
    kernel: String,
    /// Where it is tried whether it sees our files.
    folder: Option<PathBuf>,
}

/// A container around one folder.
struct ContainerSandbox {
    engine: Arc<Inner>,
    registered: Registered,
    /// The engine's number for it, which its control group is named by.
    container: String,
    room: Room,
    surroundings: Surroundings,
    user: User,
    /// Processes of ours in it, where they are counted from outside.
    keepers: usize,
    /// Where our own processes in it are started.
    site: Option<Site>,
    /// One command at a time: the end of a command is the end of all processes of its user.
    state: tokio::sync::Mutex<State>,
    disk: Arc<Mutex<Disk>>,
    open: Open,
}

struct State {
    watched: Watched,
    /// Keeps the folders the same, where the engine does not see ours.
    mirror: Option<Mirror>,
    remote_disk: Option<RemoteDisk>,
    _bridge: Option<Bridge>,
}

impl Engine {
    /// What came of trying it.
    pub fn standing(&self) -> &Standing {
        &self.inner.standing
    }

    /// What it is, for people.
    pub fn description(&self) -> &str {
        &self.inner.description
    }

    /// Why no container reaches the egress proxy; `None`: they do.
    pub fn why_no_network(&self) -> Option<&str> {
        self.inner.no_network.as_deref()
    }

    /// Starts a container.
    pub async fn open(&self, surroundings: &Surroundings) -> Result<Box<dyn Sandbox>, SandboxError> {
        let inner = self.inner.clone();
        let is_remote = inner.remote_image.is_some();
        let (wanted, limits) = (surroundings.clone(), inner.limits.clone());
        let room = tokio::task::spawn_blocking(move || Room::furnish(&wanted, &limits, is_remote)).await;
        let room = room.map_err(|error| SandboxError::Broken(format!("cannot furnish the container: {error}")))??;
        let user = if is_remote { Ok(User::of_box()) } else { ownership::user_for(room.tree()) };
        let user = user.map_err(|error| {
            SandboxError::Broken(format!("cannot look at the tree {}: {error}", room.tree().display()))
        })?;
        let folders = room.folders().map(Path::to_path_buf).collect();
        let disk = Arc::new(Mutex::new(Disk::new(folders, &inner.limits, room.copied())));
        let shape = Shape {
            image: inner.remote_image.as_ref().unwrap_or(&inner.image),
            owner: &inner.owner,
            limits: &inner.limits,
            keep_user: inner.keep_user,
            seccomp: inner.filter.as_deref(),
            runtime: inner.runtime.as_deref(),
            is_remote,
        };
        let mut body = shape::body(&shape, &room, user)?;
        let portable = match &inner.no_network {
            None => inner.portable.as_ref().map_err(String::as_str),
            Some(reason) => Err(reason.as_str()),
        };
        attach(&mut body, &surroundings.network, &inner.sources, portable, is_remote)?;
        if inner.open.is_stopped() {
            return Err(closed());
        }
        let registered = Registered::new(&inner.registry, surroundings.hold.clone());
        let container = registered.order(body).await?;
        let program = inner.portable.as_ref().ok().filter(|_| is_remote);
        let sandbox = ContainerSandbox {
            registered,
            site: program.map(|program| Site::new(&inner.docker, &container, program)),
            container,
            surroundings: surroundings.clone(),
            user,
            keepers: KEEPERS + attach::processes(&surroundings.network),
            state: tokio::sync::Mutex::new(State {
                watched: Watched::Engine,
                mirror: is_remote.then(|| Mirror::new(&room, surroundings, &inner.limits)),
                remote_disk: None,
                _bridge: None,
            }),
            room,
            disk,
            open: inner.open.child(),
            engine: inner,
        };
        sandbox.begin().await?;
        Ok(Box::new(sandbox))
    }

    /// The image, by its contents.
    pub async fn fingerprint(&self) -> String {
        let image = self.inner.docker.inspect_image(&self.inner.image);
        let found = ask("look at the image", ANSWER_LIMIT, image).await;
        found.ok().and_then(|image| image.id).unwrap_or_else(|| self.inner.image.clone())
    }

    /// Removes containers of this owner whose process is gone.
    pub async fn sweep(&self) -> Result<usize, SandboxError> {
        engine::sweep(&self.inner.docker, &self.inner.owner, self.inner.is_local).await
    }

    /// Removes all containers of this process and waits, up to `limit`, until they are gone; also those that were
    /// dropped a moment ago, and those that are just being made.
    pub async fn close_all(&self, limit: Duration) {
        self.inner.open.stop();
        self.inner.registry.remove_all(limit).await;
    }
}

impl ContainerSandbox {
    /// Starts the container, waits until its keeper keeps, and sends what it is to hold.
    async fn begin(&self) -> Result<(), SandboxError> {
        let docker = &self.engine.docker;
        ask(
            "start the container",
            ANSWER_LIMIT,
            docker.start_container(&self.container, None::<StartContainerOptions>),
        )
        .await?;
        let mut state = self.state.lock().await;
        self.look(&mut state).await?;
        if let (Some(mirror), Some(site)) = (&mut state.mirror, &self.site) {
            if mirror.send(site, &self.user.in_words()).await? == Carried::TooMuch {
                let reason = "the box cannot be filled: it is too much, or the engine too slow";
                return Err(SandboxError::Broken(reason.into()));
            }
        }
        Ok(())
    }

    async fn start_line(
        &self,
        line: Vec<String>,
        environment: &BTreeMap<String, String>,
    ) -> Result<(String, StartExecResults), SandboxError> {
        let docker = &self.engine.docker;
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            user: Some(format!("{}:{}", self.user.uid, self.user.gid)),
            working_dir: Some("/".to_owned()),
            env: Some(environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            cmd: Some(line),
            ..CreateExecOptions::default()
        };
        let exec = ask("prepare a command", ANSWER_LIMIT, docker.create_exec(&self.container, options)).await?;
        let started = ask("start a command", ANSWER_LIMIT, docker.start_exec(&exec.id, None)).await?;
        Ok((exec.id, started))
    }

    /// Ends every process of the user of commands. The last means is to start the container anew.
    async fn kill_tree(&self, state: &mut State) -> Result<(), SandboxError> {
        let line = ["/bin/sh", "-c", KILL_LINE].map(str::to_owned).to_vec();
        // At the process limit this cannot start; then the container is started anew below.
        let killed = tokio::time::timeout(Duration::from_secs(5), async {
            let (_, started) = self.start_line(line, &BTreeMap::new()).await?;
            if let StartExecResults::Attached { mut output, .. } = started {
                while output.next().await.is_some() {}
            }
            Ok::<(), SandboxError>(())
        })
        .await;
        if matches!(killed, Ok(Ok(()))) && self.is_quiet(state, Duration::from_secs(1)).await {
            return Ok(());
        }
        let options = RestartContainerOptionsBuilder::default().t(0).build();
        ask(
            "restart the container",
            ANSWER_LIMIT,
            self.engine.docker.restart_container(&self.container, Some(options)),
        )
        .await?;
        self.look(state).await
    }

    /// Gives what is the box's own on this machine to `to`.
    async fn hand_over(&self, to: User) -> Result<(), SandboxError> {
        if !self.user.needs_ownership {
            return Ok(());
        }
        let folders: Vec<PathBuf> = self.room.folders().filter(|folder| folder.exists()).map(Path::to_owned).collect();
        tokio::task::spawn_blocking(move || folders.iter().try_for_each(|folder| ownership::give(folder, to)))
            .await
            .map_err(|error| SandboxError::Broken(format!("cannot hand the tree over: {error}")))?
            .map_err(|error| SandboxError::Broken(format!("cannot hand the tree over: {error}")))
    }

    /// Follows a started command to its end or to a limit.
    async fn follow(
        &self,
        state: &mut State,
        started: StartExecResults,
        captured: &mut Capture,
        timeout: Duration,
        kills: u64,
    ) -> Result<Option<Ending>, SandboxError> {
        let StartExecResults::Attached { mut output, .. } = started else {
            return Err(SandboxError::Broken("the engine gave no output".into()));
        };
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        let mut ticks = tokio::time::interval(WATCH_INTERVAL);
        loop {
            tokio::select! {
                chunk = output.next() => match chunk {
                    Some(Ok(LogOutput::StdOut { message } | LogOutput::StdErr { message }
                        | LogOutput::Console { message } | LogOutput::StdIn { message })) => captured.add(&message),
                    Some(Err(error)) => {
                        let error = engine::explain(&error);
                        return Err(SandboxError::Broken(format!("the command's output broke off: {error}")));
                    }
                    None => return Ok(None),
                },
                () = &mut deadline => return Ok(Some(Ending::TimedOut)),
                () = self.open.stopped() => return Err(closed()),
                _ = ticks.tick() => {
                    if let Some(ending) = self.passes_a_limit(state, kills).await? {
                        return Ok(Some(ending));
                    }
                }
            }
        }
    }

    async fn exit_code(&self, exec: &str) -> Result<i32, SandboxError> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            let details =
                ask("tell how the command ended", ANSWER_LIMIT, self.engine.docker.inspect_exec(exec)).await?;
            match (details.running, details.exit_code) {
                (Some(false) | None, Some(code)) => return Ok(i32::try_from(code).unwrap_or(i32::MAX)),
                _ if Instant::now() > deadline => {
                    return Err(SandboxError::Broken("the engine does not tell how the command ended".into()));
                }
                _ => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }
}

#[async_trait]
impl Sandbox for ContainerSandbox {
    async fn run(&self, command: &Command) -> Result<Output, SandboxError> {
        let plain = command.directory.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let directory = Path::new(WORKSPACE).join(&command.directory);
        let Some(directory) = directory.to_str().filter(|_| plain) else {
            let shown = command.directory.display();
            return Err(SandboxError::Broken(format!("the command's folder {shown} is not below the tree")));
        };
        let command = &complete(&self.surroundings, command);
        if let Some(answer) = unrunnable(&command.line) {
            return Ok(answer);
        }
        let mut state = self.state.lock().await;
        let _use = self.open.begin();
        if self.open.is_stopped() {
            return Err(closed());
        }
        self.hand_over(self.user).await?;
        let mut guard = Guard { sandbox: Some(self) };
        if let (Some(mirror), Some(site)) = (&mut state.mirror, &self.site) {
            if mirror.send(site, &self.user.in_words()).await? == Carried::TooMuch {
                guard.sandbox = None;
                let reason = "what is to be sent to the box takes too long";
                return Ok(not_run(Ending::OutOfDisk, reason));
            }
        }
        let start = Instant::now();
        let kills = self.count_memory_kills(&mut state).await?;
        let line = ["/bin/sh", "-c", WRAPPER, "sh", &command.line, directory].map(str::to_owned).to_vec();
        let (exec, started) = self.start_line(line, &command.environment).await?;
        let mut captured = Capture::new(self.engine.limits.output_bytes);
        let early = self.follow(&mut state, started, &mut captured, command.timeout, kills).await?;
        let ending = match early {
            Some(ending) => {
                self.kill_tree(&mut state).await?;
                if ending == Ending::OutOfDisk {
                    self.settle(&mut state).await?;
                }
                ending
            }
            None => {
                let code = self.exit_code(&exec).await?;
                if !self.is_quiet(&state, Duration::from_millis(200)).await {
                    self.kill_tree(&mut state).await?;
                }
                if self.ran_out_of_memory(&state, kills).await { Ending::OutOfMemory } else { ending_of(code) }
            }
        };
        let duration = start.elapsed();
        let mut is_fetched = true;
        if let (Some(mirror), Some(site)) = (&mut state.mirror, &self.site) {
            is_fetched = mirror.fetch(site, &self.user.in_words()).await? == Carried::Everything;
        }
        guard.sandbox = None;
        let kept = captured.finish();
        Ok(Output {
            ending: if is_fetched { ending } else { Ending::OutOfDisk },
            head: kept.head,
            tail: kept.tail,
            omitted_bytes: kept.omitted_bytes,
            duration,
        })
    }

    fn description(&self) -> &str {
        &self.engine.description
    }

    async fn close(&self) -> Result<(), SandboxError> {
        self.open.stop();
        self.registered.remove().await?;
        self.hand_over(User::ourselves()).await
    }
}

/// Removes the container of a command whose future was dropped: nobody is left to see to its processes.
struct Guard<'a> {
    sandbox: Option<&'a ContainerSandbox>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(sandbox) = self.sandbox.take() {
            sandbox.open.stop();
            sandbox.registered.remove_later();
        }
    }
}

/// The wrapper's shell reports a signal as 128 and its number.
fn ending_of(code: i32) -> Ending {
    match code {
        129..=192 => Ending::Signalled(code - 128),
        code => Ending::Exited(code),
    }
}

fn closed() -> SandboxError {
    SandboxError::Broken("it was closed".into())
}
