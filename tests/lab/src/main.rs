//! The lab as a program: `cargo demo`, and a lab to try things with by hand.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::{bugs, demo, scenario};

/// The lab beside Patchwright's tests.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One task, from the issue to the pull request, for people to watch
    Demo(demo::Options),
    /// Run scenarios with a patchwright that is already built, and print what does not fit
    Scenario {
        #[arg(long, value_name = "PATH")]
        binary: PathBuf,
        /// Folders of scenarios; default: all of the repository's
        folders: Vec<PathBuf>,
    },
    /// Make git repositories of the bugs in tests/bugs, and tasks.jsonl for `patchwright eval`
    Bugs {
        /// A new or empty folder
        out: PathBuf,
        /// Only these; default: all
        names: Vec<String>,
    },
    /// Run the lab in the foreground with a seeded repository, and print the environment to export
    Serve,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options).await,
        Command::Scenario { binary, folders } => scenario::run_folders(&binary, folders).await,
        Command::Bugs { out, names } => write_bugs(&out, &names).await,
        Command::Serve => demo::serve().await.map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn write_bugs(out: &Path, names: &[String]) -> anyhow::Result<bool> {
    let mut all = bugs::all()?;
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|bug| bug.name == **name)) {
        anyhow::bail!("there is no bug {unknown} in tests/bugs");
    }
    all.retain(|bug| names.is_empty() || names.contains(&bug.name));
    bugs::write(out, &all).await?;
    println!("{}", out.join(bugs::TASKS).display());
    Ok(true)
}
