//! The lab as a program: `cargo demo`, and a lab to try things with by hand.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::{demo, scenario};

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
    /// Run the lab in the foreground with a seeded repository, and print the environment to export
    Serve,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options).await,
        Command::Scenario { binary, folders } => scenario::run_folders(&binary, folders).await,
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
