//! The command line: flags in, one task worked, an exit code out.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use futures_util::future::maybe_done;
use tokio::signal::unix::{Signal, SignalKind, signal};

use patchwright::config::environment::Environment;
use patchwright::config::eval::{EvalOrder, ReplayConfig};
use patchwright::config::flags::{Command, Flags, RunFlags, TasksCommand, TasksFlags};
use patchwright::config::{self, Destination, RepositoryArgument, RunConfig, Source};
use patchwright::eval;
use patchwright::event::Events;
use patchwright::forge::{Forge, ForgeError};
use patchwright::health;
use patchwright::logging;
use patchwright::model::Model;
use patchwright::model::record::Recorded;
use patchwright::operator;
use patchwright::outcome::{Conclusion, Outcome, Stage, TestCommand};
use patchwright::pipeline::{self, Delivery, Ending, Order, Services, intake};
use patchwright::progress::{self, Progress};
use patchwright::replay;
use patchwright::sandbox::{self, Backend, namespace};
use patchwright::service::{self, assemble};
use patchwright::store;
use patchwright::task::{IssueReference, RepositoryName, Task};
use patchwright::weak;
use patchwright::workspace::{self, Remote, Workspace};

/// What is freed goes back to the system at once, from one arena for all threads (`.cargo/config.toml`): a service is idle for
/// most of its life.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Bytes of an instruction on standard input.
const LONGEST_INSTRUCTION: u64 = 10_000_000;
/// Of a worker thread, in bytes: the futures of a task lie deep in each other. Only what is touched takes memory.
const STACK: usize = 16 * 1024 * 1024;
const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
/// A record that was played again and is not the same.
const DIFFERS: u8 = 7;
const INTERRUPTED: u8 = 130;
/// Removing a task's folders at its normal end takes at most this long.
const LONGEST_REMOVAL: Duration = Duration::from_secs(60);
/// Cleaning up after a signal takes at most this long.
const GOODBYE: Duration = Duration::from_millis(1500);

fn main() -> ExitCode {
    // Before any thread exists: the sandbox's child forks.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == namespace::HELPER_ARGUMENT) {
        return namespace::helper_main();
    }
    if let Err(error) = protect_memory() {
        drop(writeln!(std::io::stderr(), "error: cannot protect the process's memory: {error}"));
        return ExitCode::from(WRONG_USAGE);
    }
    let flags = Flags::parse();
    let environment = Environment::read();
    match start(&flags, &environment) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Standard error may be closed.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::from(WRONG_USAGE)
        }
    }
}

/// Other processes of the same user cannot read our memory or environment, which hold the token; nor does a core dump.
fn protect_memory() -> std::io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    Ok(rustix::process::setrlimit(rustix::process::Resource::Core, none)?)
}

/// Sets the process up and runs the command. An error here is one of usage or configuration.
fn start(flags: &Flags, environment: &Environment) -> anyhow::Result<u8> {
    match (config::logging::resolve(flags, environment), &flags.command) {
        (Ok(settings), _) => logging::start(&settings)?,
        // It tells itself what is wrong with the config file.
        (Err(_), Command::Doctor(_)) => {}
        (Err(error), _) => return Err(error),
    }
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        anyhow::bail!("the TLS provider was installed twice");
    }
    if let Some(point) = environment.crash_point() {
        store::crash::arm(point);
    }
    if let Some(name) = environment.without() {
        weak::switch_off(name);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_stack_size(STACK).enable_all().build()?;
    let code = match &flags.command {
        Command::Run(run) => runtime.block_on(run_command(flags, run, environment)),
        Command::Eval(eval) => {
            let order = config::eval::resolve_eval(flags, eval, environment)?;
            runtime.block_on(eval_command(order))
        }
        Command::Replay(replay) => {
            let config = config::eval::resolve_replay(flags, replay, environment)?;
            runtime.block_on(replay_command(&config))
        }
        Command::Serve(serve) => {
            let config = config::serve::resolve_serve(flags, serve, environment)?;
            runtime.block_on(service::serve(config)).map(|()| 0)
        }
        Command::Tasks(tasks) => {
            let settings = config::state::resolve_tasks(flags, environment)?;
            Ok(tasks_exit_code(runtime.block_on(tasks_command(tasks, &settings))))
        }
        Command::Health(health) => {
            let (address, path) = config::health::resolve(flags, health, environment)?;
            match health::ask(address, path) {
                Ok(answer) => writeln!(std::io::stdout(), "{answer}").map(|()| 0).context("cannot write the answer"),
                Err(error) => {
                    drop(writeln!(std::io::stderr(), "error: {error:#}"));
                    Ok(FAILED)
                }
            }
        }
        Command::Doctor(doctor) => {
            let config = config::doctor::resolve_doctor(flags, doctor, environment);
            let report = runtime.block_on(service::doctor::examine(&config));
            service::doctor::print(&report, doctor.json, &mut std::io::stdout())
                .map(|()| if report.well { 0 } else { FAILED })
                .context("cannot write the report")
        }
    };
    runtime.shutdown_timeout(Duration::from_millis(200));
    code
}

async fn eval_command(order: EvalOrder) -> anyhow::Result<u8> {
    let (mut signals, progress) = (Signals::new()?, Arc::new(Progress::new()));
    match eval::command(order, &progress, signals.heard(), &mut std::io::stdout()).await? {
        None => Ok(interruption(&progress)),
        Some(0) => Ok(0),
        Some(_) => Ok(FAILED),
    }
}

async fn replay_command(config: &ReplayConfig) -> anyhow::Result<u8> {
    let (mut signals, progress) = (Signals::new()?, Arc::new(Progress::new()));
    match replay::command(config, &progress, signals.heard(), &mut std::io::stdout()).await? {
        replay::Played::Interrupted => Ok(interruption(&progress)),
        replay::Played::Same => Ok(0),
        replay::Played::Differs => Ok(DIFFERS),
        replay::Played::Not => Ok(FAILED),
    }
}

/// What ends a run early.
struct Signals(Signal, Signal);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }

    async fn heard(&mut self) {
        tokio::select! { _ = self.0.recv() => {}, _ = self.1.recv() => {} }
    }
}

async fn tasks_command(tasks: &TasksFlags, settings: &store::Settings) -> anyhow::Result<()> {
    let store = operator::open(settings).await?;
    let (json, output) = (tasks.json, &mut std::io::stdout());
    match &tasks.command {
        TasksCommand::List { state, limit } => {
            let filter = store::Filter { states: state.clone(), limit: *limit };
            operator::list(&store, &filter, json, output).await
        }
        TasksCommand::Show { id } => operator::show(&store, id, json, output).await,
        TasksCommand::Retry { id } => operator::retry(&store, id, json, output).await,
        TasksCommand::Cancel { id, reason } => operator::cancel(&store, id, reason.as_deref(), json, output).await,
        TasksCommand::Logs { id, follow } => operator::logs(&store, id, *follow, json, output).await,
        TasksCommand::Prune { older_than } => operator::prune(&store, *older_than, json, output).await,
    }
}

/// A reader that has seen enough is no failure.
fn tasks_exit_code(done: anyhow::Result<()>) -> u8 {
    let Err(error) = done else { return 0 };
    let closed = error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
    });
    if closed {
        return 0;
    }
    // Standard error may be closed.
    drop(writeln!(std::io::stderr(), "error: {error:#}"));
    FAILED
}

async fn run_command(flags: &Flags, run: &RunFlags, environment: &Environment) -> anyhow::Result<u8> {
    let mut signals = Signals::new()?;
    let mut interrupted = std::pin::pin!(signals.heard());
    let progress = Arc::new(Progress::new());
    let prepared = tokio::select! {
        prepared = prepare(flags, run, environment, &progress) => prepared,
        () = &mut interrupted => {
            sandbox::await_removals(GOODBYE).await;
            return Ok(interruption(&progress));
        }
    };
    let (config, ready) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            progress.finish();
            return Err(error);
        }
    };
    let outcome = match ready {
        Ready::Failed(conclusion) => {
            progress.finish();
            let printed = if config.json { print_json(&mut std::io::stdout(), &conclusion) } else { Ok(()) };
            progress.print(&progress::failure_in_words(&conclusion));
            return Ok(exit_code(&conclusion, printed, &progress));
        }
        Ready::Work(work) => {
            let (services, order) = *work;
            tokio::select! {
                ending = pipeline::run_task(&services, &order) => match ending {
                    Ending::Reported(outcome) | Ending::Unreported { outcome, .. } | Ending::Again { outcome, .. } => outcome,
                    Ending::Stopped(error) => return Err(error.into()),
                    // Only with a claim.
                    Ending::Unauthorized => return Err(ForgeError::Unauthorized.into()),
                    Ending::Limited { reason, .. } => anyhow::bail!(reason),
                },
                () = &mut interrupted => {
                    // The task's future is dropped by now: its processes are killed, its folders removed.
                    services.backend.close_all(GOODBYE).await;
                    return Ok(interruption(&progress));
                }
            }
        }
    };
    progress.finish();
    let printed = print_result(&config, &outcome);
    for line in progress::closing_lines(&outcome) {
        progress.print(&line);
    }
    // A box that was dropped holds its folder until it is gone.
    sandbox::await_removals(LONGEST_REMOVAL).await;
    workspace::await_removals(LONGEST_REMOVAL);
    Ok(exit_code(&outcome.conclusion, printed, &progress))
}

fn interruption(progress: &Progress) -> u8 {
    progress.finish();
    progress.print("interrupted");
    INTERRUPTED
}

/// The conclusion's code; a result that could not be handed over is a failure, whatever it was.
fn exit_code(conclusion: &Conclusion, printed: std::io::Result<()>, progress: &Progress) -> u8 {
    let Err(error) = printed else { return conclusion.exit_code() };
    progress.print(&format!("error: cannot write the result to standard output: {error}. Give it a reader with room"));
    FAILED
}

/// What preparation comes to: a task to work, or one that failed before its first stage.
enum Ready {
    Work(Box<(Services, Order)>),
    Failed(Conclusion),
}

/// Everything up to the first stage: the config, the task, the sandbox, the model.
async fn prepare(
    flags: &Flags,
    run: &RunFlags,
    environment: &Environment,
    progress: &Arc<Progress>,
) -> anyhow::Result<(RunConfig, Ready)> {
    let config = config::resolve_run(flags, run, environment)?;
    let events = progress::events(Arc::clone(progress), config.record.as_deref())?;
    match prepare_task(&config, events).await {
        Ok(ready) => Ok((config, ready)),
        Err(error) => {
            // A record of nothing would only be in the way of the next try.
            config.record.as_deref().map(std::fs::remove_file).transpose().ok();
            Err(error)
        }
    }
}

async fn prepare_task(config: &RunConfig, events: Events) -> anyhow::Result<Ready> {
    let forge = Forge::new(&config.forge)?;
    if config.destination == Destination::PullRequest && !forge.has_token() {
        anyhow::bail!(
            "GITHUB_TOKEN is not set, and neither is a GitHub App, so no pull request can be opened. Set it, or add --dry-run for the diff"
        );
    }
    // A trial takes processors and waits for nobody, a forge the other way round: it has begun when the task is known.
    let mut trial = Box::pin(maybe_done(Backend::probe(&config.sandbox)));
    let order = {
        let mut taking = Box::pin(take_order(config, &forge, &events));
        std::future::poll_fn(|context| {
            let taken = taking.as_mut().poll(context);
            if taken.is_pending() {
                let _ = trial.as_mut().poll(context);
            }
            taken
        })
        .await
    };
    if !matches!(order, Ok(Ok(_))) {
        // What has begun cleans up behind itself.
        trial.as_mut().await;
    }
    let order = match order? {
        Ok(order) => order,
        Err(failed) => return Ok(Ready::Failed(failed)),
    };
    let backend = async {
        match own_image(config, &order) {
            Some(image) => Backend::probe(&sandbox::Settings { image: Some(image), ..config.sandbox.clone() }).await,
            None => {
                trial.as_mut().await;
                trial.as_mut().take_output().unwrap_or(Err(sandbox::SandboxError::Broken("it was not tried".into())))
            }
        }
    };
    match assemble(config, forge.clone(), events, &order, backend).await {
        Ok(services) => Ok(Ready::Work(Box::new((services, order)))),
        Err(error) => {
            if matches!(order.delivery, Delivery::PullRequest(_)) {
                tell_early(config, &forge, &order.task, &failed_at_intake(&error)).await;
            }
            Err(error)
        }
    }
}

/// The image that the config names for the task's repository.
fn own_image(config: &RunConfig, order: &Order) -> Option<String> {
    let section = assemble::section_of(&config.repositories, order.repository.as_ref());
    section.and_then(|section| section.image.clone()).filter(|_| !config.image_from_flag)
}

/// The sandbox, the workspace and the model of a task.
async fn assemble(
    config: &RunConfig,
    forge: Forge,
    events: Events,
    order: &Order,
    backend: impl Future<Output = Result<Backend, sandbox::SandboxError>>,
) -> anyhow::Result<Services> {
    let workspace = Workspace::new(config.workspace.clone())?;
    let needs_model = assemble::needs_model(&order.task, config.pipeline.patch_mode);
    let connect = async {
        match needs_model {
            true => Some(connect_model(config, &events).await),
            false => None,
        }
    };
    // Each waits for something else: a command in the sandbox, the model's server, git.
    let (backend, model, ()) = tokio::join!(backend, connect, workspace.warm_up());
    let backend = backend?;
    let containers = backend.sweep().await.unwrap_or_else(|error| {
        events.note(format!("leftovers of earlier runs could not be removed: {error}"));
        0
    });
    let swept = workspace.sweep() + containers;
    if swept > 0 {
        events.note(format!("removed {swept} leftovers of runs that were killed"));
    }
    let model = model.transpose()?;
    let (dispatch, settings) = (forge.clone(), config.pipeline.clone());
    let forge = match &order.repository {
        Some(name) => client_of(config, &forge, name).await?,
        None => forge,
    };
    Ok(Services { workspace, backend: Arc::new(backend), model, forge, dispatch, events, settings })
}

/// The client for the target. What is only read may be somebody else's.
async fn client_of(config: &RunConfig, forge: &Forge, target: &RepositoryName) -> Result<Forge, ForgeError> {
    match config.destination {
        Destination::Diff => forge.for_reading(target).await,
        Destination::LocalBranch(_) | Destination::PullRequest => forge.for_repository(target).await,
    }
}

/// Tells the issue of a task that will not begin; what cannot be posted is logged.
async fn tell_early(config: &RunConfig, forge: &Forge, task: &Task, conclusion: &Conclusion) {
    if let Err(error) = pipeline::failed_early(forge, &config.pipeline, task, conclusion).await {
        tracing::warn!("the issue could not be told: {error}");
    }
}

/// Takes the task from the command line or its issue. The inner error is a task that failed at intake.
async fn take_order(config: &RunConfig, forge: &Forge, events: &Events) -> anyhow::Result<Result<Order, Conclusion>> {
    let started = Instant::now();
    let deadline = started + config.pipeline.limits.task;
    let tell = config.destination == Destination::PullRequest;
    let (task, target) = match &config.source {
        Source::CommandLine { text, id } => {
            let instruction = match text {
                Some(text) => text.clone(),
                // Reading blocks, and a signal must be heard meanwhile.
                None => tokio::task::spawn_blocking(read_standard_input).await??,
            };
            let repository = config.repository.as_ref().map(RepositoryArgument::to_string).unwrap_or_default();
            (
                intake::from_command_line(&instruction, id.clone(), &repository, config.base.as_deref())?,
                config.repository.clone(),
            )
        }
        Source::Issue(issue) => match take_issue(config, forge, issue, tell).await {
            Ok((task, target)) => (task, Some(target)),
            Err(error) => return Ok(Err(failed_at_intake(&error))),
        },
    };
    let Some(target) = target else { anyhow::bail!("there is no repository. Give --repo") };
    let (remote, name) = match target {
        RepositoryArgument::Local(folder) => {
            if let Some(root) = config::repository_root_above(&folder) {
                events.note(format!("the diff is relative to {0}; apply it there: git -C {0} apply", root.display()));
            }
            (Remote::Local(folder), None)
        }
        RepositoryArgument::Url(url) => (Remote::Url { url, token: None }, None),
        RepositoryArgument::Forge(name) => {
            let token = client_of(config, forge, &name).await?.git_token().await?;
            (Remote::Url { url: forge.clone_url(&name), token }, Some(name))
        }
    };
    let delivery = match (&config.destination, &name) {
        (Destination::Diff, _) => Delivery::Diff,
        (Destination::LocalBranch(branch), _) => Delivery::LocalBranch(branch.clone()),
        (Destination::PullRequest, Some(name)) => Delivery::PullRequest(name.clone()),
        (Destination::PullRequest, None) => anyhow::bail!("the repository is not on the forge. Add --dry-run"),
    };
    let test_command = test_command_of(config, name.as_ref());
    let section = assemble::section_of(&config.repositories, name.as_ref());
    Ok(Ok(Order {
        setup: assemble::setup_of(section),
        access: config.network.access(section)?,
        task,
        remote,
        repository: name,
        base: config.base.clone(),
        delivery,
        test_command,
        started,
        deadline,
        claim: None,
        again_after: None,
    }))
}

async fn take_issue(
    config: &RunConfig,
    forge: &Forge,
    issue: &IssueReference,
    tell: bool,
) -> anyhow::Result<(Task, RepositoryArgument)> {
    let task = intake::from_issue(forge, issue, tell).await?;
    let target = match &config.repository {
        Some(named) => named.clone(),
        None => {
            let (default, allowed) = (config.target_repository.as_ref(), config.allowed_targets.as_deref());
            match intake::target_of(&task, issue, default, allowed) {
                Ok(name) => RepositoryArgument::Forge(name),
                Err(error) => {
                    if tell {
                        tell_early(config, forge, &task, &failed_at_intake(&error)).await;
                    }
                    return Err(error);
                }
            }
        }
    };
    Ok((task, target))
}

fn failed_at_intake(error: &anyhow::Error) -> Conclusion {
    Conclusion::Failed { stage: Stage::Intake, cause: format!("{error:#}"), remedy: String::new(), transient: false }
}

/// The operator's test command: the flag, else the config's for this repository.
fn test_command_of(config: &RunConfig, repository: Option<&RepositoryName>) -> Option<TestCommand> {
    if let Some(command) = &config.test_command {
        return Some(TestCommand { command: command.clone(), reason: "given with --test-command".into() });
    }
    assemble::test_command_of(assemble::section_of(&config.repositories, repository))
}

async fn connect_model(config: &RunConfig, events: &Events) -> anyhow::Result<Arc<dyn Model>> {
    let connected = assemble::connect_model(&config.model, config.model.probe).await;
    let (model, notes) = connected.map_err(|error| anyhow::anyhow!("{error}. {}", error.remedy()))?;
    for note in notes {
        events.note(note);
    }
    Ok(match config.record {
        Some(_) => Arc::new(Recorded::new(Arc::new(model), events.clone())),
        None => Arc::new(model),
    })
}

/// Reads the instruction from standard input, up to the largest one that is taken.
fn read_standard_input() -> anyhow::Result<String> {
    let mut text = Vec::new();
    let mut input = std::io::stdin().lock().take(LONGEST_INSTRUCTION + 1);
    input.read_to_end(&mut text).context("cannot read the instruction from standard input")?;
    if text.len() as u64 > LONGEST_INSTRUCTION {
        anyhow::bail!("the instruction is longer than {} MB. Shorten it", LONGEST_INSTRUCTION / 1_000_000);
    }
    let text = String::from_utf8(text).context("the instruction on standard input is not UTF-8")?;
    if text.trim().is_empty() {
        anyhow::bail!("the instruction on standard input is empty. Say what is to be changed");
    }
    Ok(text)
}

/// Puts the result, and nothing else, on standard output.
fn print_result(config: &RunConfig, outcome: &Outcome) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    if config.json {
        return print_json(&mut output, outcome);
    }
    match (&config.destination, &outcome.diff, &outcome.pull_request) {
        (Destination::Diff, Some(diff), _) => output.write_all(&diff.0)?,
        (Destination::PullRequest, _, Some(pull_request)) => writeln!(output, "{}", pull_request.url)?,
        (Destination::LocalBranch(_), _, _) => {
            if let Some(branch) = &outcome.branch {
                writeln!(output, "{branch}")?;
            }
        }
        (Destination::Diff | Destination::PullRequest, _, _) => {}
    }
    output.flush()
}

fn print_json(output: &mut impl Write, value: &impl serde::Serialize) -> std::io::Result<()> {
    let mut value = serde_json::to_value(value)?;
    // The diff was searched, and stays what was tested.
    let diff = value.get_mut("diff").map(serde_json::Value::take);
    logging::change_texts(&mut value, &|text| *text = logging::screened(text));
    if let Some(diff) = diff {
        value["diff"] = diff;
    }
    serde_json::to_writer_pretty(&mut *output, &value)?;
    output.write_all(b"\n")?;
    output.flush()
}
