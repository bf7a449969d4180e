//! The command line. Each flag's text states its default and unit.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use serde::Deserialize;
use serde::de::IntoDeserializer;

use crate::pipeline::ProfileChoice;
use crate::store::State;

/// A self-hosted coding agent: an instruction and a repository in, a tested diff or pull request out.
#[derive(Debug, Parser)]
#[command(name = "patchwright", version, max_term_width = 110)]
#[command(after_help = "The operator's config is $XDG_CONFIG_HOME/patchwright/patchwright.toml, or --config. \
Environment variables override it, flags override both.")]
pub struct Flags {
    #[command(subcommand)]
    pub command: Command,

    /// The operator's config file [default: $XDG_CONFIG_HOME/patchwright/patchwright.toml if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Show more on standard error: -v for what is done, -vv for every request
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Work one task and print the tested diff, or open a pull request
    Run(Box<RunFlags>),
    /// Watch dispatch repositories and work their issues into pull requests
    Serve(Box<ServeFlags>),
    /// See and steer the tasks of the service, whether it runs or not
    Tasks(TasksFlags),
    /// Ask a running service whether it is well; exit code 0 if it is, else 1
    Health(HealthFlags),
    /// Work a set of tasks with hidden tests, and tell how many a model resolves; or compare two such runs
    Eval(Box<EvalFlags>),
    /// Play a recorded run again without a model, and tell where it differs
    Replay(Box<ReplayFlags>),
    /// Try everything that tasks need (config, git, sandboxes, model, forge, disk); exit code 0 if all is well, else 1
    Doctor(Box<DoctorFlags>),
}

/// A set of tasks, and what becomes of it.
#[derive(Debug, Args)]
#[command(after_help = EVAL_HELP)]
pub struct EvalFlags {
    /// One JSON object a line: instance_id, repo, base_commit, problem_statement, test_patch; optional: setup,
    /// test_command. Without it, the report of what is in --out is written anew
    #[arg(value_name = "TASKS.jsonl", conflicts_with = "compare")]
    pub tasks: Option<PathBuf>,

    /// Results, diffs, records and reports; what is finished there is not done again
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Instances that are worked at a time [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub concurrency: Option<u32>,

    /// How often each instance is worked [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: Option<u32>,

    /// Only this instance; may be given several times [default: all]
    #[arg(long, value_name = "ID")]
    pub instance: Vec<String>,

    /// What these results are called in the column PROFILE [default: how the model is treated]
    #[arg(long, value_name = "NAME")]
    pub label: Option<String>,

    /// Compare two results: each a folder, FOLDER#NAME, or with --out NAME alone; NAME is a model, a profile, or
    /// MODEL@PROFILE
    #[arg(long, value_names = ["A", "B"], num_args = 2)]
    pub compare: Vec<String>,

    #[command(flatten)]
    pub work: WorkFlags,

    /// Print JSON on standard output instead of a table
    #[arg(long)]
    pub json: bool,
}

const EVAL_HELP: &str = "--timeout and --max-tokens bound each instance.\n\nExit codes:
  0    every instance has a result, whatever it is
  1    some could not be run or judged; the same command tries them again
  2    wrong usage or configuration; a bad line of the file is named by its number
  130  interrupted; the same command goes on";

/// A recorded run.
#[derive(Debug, Args)]
#[command(after_help = REPLAY_HELP)]
pub struct ReplayFlags {
    /// The file that `run --record` has written
    #[arg(value_name = "FILE")]
    pub record: PathBuf,

    /// Where the repository is now: a local folder, a clone address, or OWNER/NAME [default: as recorded]
    #[arg(long, value_name = "PATH|URL|OWNER/NAME")]
    pub repo: Option<String>,

    /// Where the repository's code runs; never on the host [default: auto]
    #[arg(long, value_enum, value_name = "BACKEND")]
    pub sandbox: Option<SandboxFlag>,

    /// Print JSON on standard output
    #[arg(long)]
    pub json: bool,
}

const REPLAY_HELP: &str = "Exit codes:
  0    the run is the same again
  1    it could not be played; the message says why
  2    wrong usage or configuration
  7    it differs; the first difference is told
  130  interrupted";

/// What is tried, and how it is shown.
#[derive(Debug, Args)]
pub struct DoctorFlags {
    #[command(flatten)]
    pub work: WorkFlags,

    /// Print JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// The service's queue.
#[derive(Debug, Args)]
#[command(after_help = "ID is a task's id, a beginning of it that no other task shares, or OWNER/REPO#N.\n\n\
Exit codes:\n  0  done\n  1  no such task, or it is not possible; the message says why\n  2  wrong usage or configuration")]
pub struct TasksFlags {
    #[command(subcommand)]
    pub command: TasksCommand,

    /// Print JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do with the queue.
#[derive(Debug, Subcommand)]
pub enum TasksCommand {
    /// Show the newest tasks
    List {
        /// Only tasks in this state; may be given several times [default: all]
        #[arg(long, value_name = "STATE", value_parser = state_parser())]
        state: Vec<State>,
        /// The most tasks to show; 0 for all [default: 50]
        #[arg(long, value_name = "N", default_value_t = 50, hide_default_value = true)]
        limit: u32,
    },
    /// Show one task and its journal
    Show {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Queue a task again that has failed, died, or was cancelled
    Retry {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Stop a task that waits or runs
    Cancel {
        #[arg(value_name = "ID")]
        id: String,
        /// Why, for the report on its issue [default: cancelled by the operator]
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Show what has happened while a task was worked
    Logs {
        #[arg(value_name = "ID")]
        id: String,
        /// Go on until the task has ended
        #[arg(long, short)]
        follow: bool,
    },
    /// Remove old tasks that have ended, and give their space back
    Prune {
        /// How long ago a task must have ended, as `30d` or `12h`
        #[arg(long, value_name = "TIME", value_parser = parse_age)]
        older_than: Duration,
    },
}

/// Parses `30d` too.
fn parse_age(text: &str) -> Result<Duration, String> {
    let days =
        text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok()).filter(|days| (1..=36_500).contains(days));
    match days {
        Some(days) => Ok(Duration::from_secs(days * 86_400)),
        None => parse_duration(text).map_err(|_| format!("`{text}` is not a time such as 30d or 12h")),
    }
}

fn state_parser() -> impl TypedValueParser<Value = State> {
    PossibleValuesParser::new(State::ALL.map(State::name))
        .try_map(|name| State::parse(&name).ok_or("there is no such state"))
}

/// One task from the command line.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
#[command(group = clap::ArgGroup::new("instruction").required(true).args(["task", "issue"]))]
pub struct RunFlags {
    /// The repository: a local folder, a clone address, or OWNER/NAME on the forge [default: the issue's target]
    #[arg(long, value_name = "PATH|URL|OWNER/NAME", required_unless_present = "issue")]
    pub repo: Option<String>,

    /// The instruction; `-` reads it from standard input
    #[arg(long, value_name = "TEXT")]
    pub task: Option<String>,

    /// The dispatch issue that holds the instruction
    #[arg(long, value_name = "OWNER/REPO#N")]
    pub issue: Option<String>,

    /// The id of a task given with --task; the same id finds the pull request of an earlier run
    /// [default: derived from repository and instruction]
    #[arg(long, value_name = "ID", requires = "task")]
    pub task_id: Option<String>,

    /// The branch, tag or commit to start from [default: the repository's default branch, or HEAD of a local folder]
    #[arg(long, value_name = "REF")]
    pub base: Option<String>,

    /// Print the diff; push nothing, comment nothing. Implied by a local folder without --issue
    #[arg(long)]
    pub dry_run: bool,

    /// For a local folder: commit the result onto this new local branch instead of printing a diff
    #[arg(long, value_name = "NAME", conflicts_with_all = ["dry_run", "issue"])]
    pub branch: Option<String>,

    /// The command that runs the repository's tests, for `sh -c` at its root [default: detected]
    #[arg(long, value_name = "CMD")]
    pub test_command: Option<String>,

    #[command(flatten)]
    pub work: WorkFlags,

    /// Print the outcome as one JSON object on standard output
    #[arg(long)]
    pub json: bool,

    /// Write each message, call and result as JSON lines into this new file
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// A service that works the issues of dispatch repositories.
#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub struct ServeFlags {
    /// A dispatch repository; may be given several times [default: DISPATCH_REPO]
    #[arg(long, value_name = "OWNER/REPO")]
    pub dispatch: Vec<String>,

    /// Poll once, work everything that is due, and end: for cron. Listens nowhere
    #[arg(long)]
    pub once: bool,

    /// Where webhooks, health and metrics are answered [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,

    /// The time between two polls, as `30s` or `5m` [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub poll_interval: Option<Duration>,

    /// Tasks that are worked at a time [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: Option<u32>,

    #[command(flatten)]
    pub work: WorkFlags,
}

/// Which service is asked, and what.
#[derive(Debug, Args)]
pub struct HealthFlags {
    /// Where the service listens [default: HEALTH_CHECK_PORT or PATCHWRIGHT_LISTEN, else 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub address: Option<String>,

    /// Ask whether store, forge, model, sandbox and disk are fine too
    #[arg(long)]
    pub ready: bool,
}

/// What tasks are worked with, wherever they come from.
#[derive(Debug, Default, Args)]
pub struct WorkFlags {
    /// The model's name at the endpoint [default: LLM_MODEL, else the first that the endpoint lists]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,

    /// How the model is treated: auto, small, medium or large [default: auto, by its size]
    #[arg(long, value_name = "PROFILE", value_parser = profile_parser())]
    pub profile: Option<ProfileChoice>,

    /// An OpenAI-compatible endpoint, with its /v1 [default: LLM_API_ENDPOINT, else the first local server that
    /// answers: Ollama 11434, vLLM 8000, llama.cpp 8080, LM Studio 1234]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,

    /// Try what the model and its server can do, with three short requests [default: auto, which does so once a week]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub probe: Option<ProbeFlag>,

    /// Where the repository's code runs; never on the host [default: auto]
    #[arg(long, value_enum, value_name = "BACKEND")]
    pub sandbox: Option<SandboxFlag>,

    /// The image for the container sandbox; it is never pulled
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,

    /// The wall time of the whole task, as `90s`, `30m` or `2h` [default: 30m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,

    /// The most requests to the model [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_steps: Option<u32>,

    /// The most tokens, prompts and answers together [default: 1000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_tokens: Option<u64>,

    /// Agents that work at a task at once, each in a tree of its own; the first verified change wins [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub attempts: Option<u32>,
}

fn profile_parser() -> impl TypedValueParser<Value = ProfileChoice> {
    let parse = |name: String| ProfileChoice::deserialize(name.as_str().into_deserializer());
    PossibleValuesParser::new(["auto", "small", "medium", "large"])
        .try_map(move |name| parse(name).map_err(|error: serde::de::value::Error| error))
}

/// `--probe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProbeFlag {
    /// Unless it was tried lately, or is documented
    Auto,
    /// Never
    Off,
    /// Every time
    Always,
}

/// `--sandbox`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxFlag {
    /// A container engine that answers and has the image, else namespaces
    Auto,
    /// Docker or Podman
    Container,
    /// Linux namespaces; nothing to install
    Namespace,
}

const EXIT_CODES: &str = "Exit codes:
  0    verified: the tests pass on exactly what was printed or published
  1    the task failed; the message names stage, cause and remedy
  2    wrong usage or configuration
  3    a diff or draft that is not verified: its tests fail, could not run, or do not exist
  4    no change was needed
  5    a budget ran out (steps, tokens or time)
  6    the tests pass, and the policy wants a person to look: a diff, or a draft
  130  interrupted";

const SERVE_HELP: &str = "Endpoints:
  /healthz  200 while the process runs
  /readyz   200 if store, forge, model, sandbox and disk are fine, else 503; says which is down
  /metrics  Prometheus
  /webhook  GitHub's deliveries, if GITHUB_WEBHOOK_SECRET is set

Exit codes:
  0    stopped by a signal, or --once is done
  2    wrong usage or configuration, or the service could not start";

/// Parses `90`, `90s`, `30m`, `2h`: a whole number above zero, seconds unless told otherwise.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time such as 90s, 30m or 2h");
    let (number, unit) = match text.find(|letter: char| !letter.is_ascii_digit()) {
        Some(end) => text.split_at(end),
        None => (text, "s"),
    };
    let seconds_per_unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds_per_unit));
    match seconds {
        Some(seconds) if (1..=31_536_000).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(_) | None => Err(wrong()),
    }
}
