//! `cargo bench`: what Patchwright costs beside the work itself, next to what it is to be compared with, in one run.
//!
//! The table goes to standard error and the same figures as JSON to standard output, or with `--json` to a file.
//! Everything is real but the remote ends: the release binary, git, the kernel's namespaces, and GitHub and the model
//! are the lab's, in this process. `docs/PERFORMANCE.md` says how to read the figures.

mod checkout;
mod figures;
mod repository;
mod sandboxes;
mod task;

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

use figures::{Figures, Machine};

/// What to measure.
#[derive(Debug, Parser)]
struct Options {
    /// Timed runs of each thing, after one that is not timed
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only these groups
    #[arg(long, value_delimiter = ',', default_values_t = GROUPS.map(str::to_owned))]
    only: Vec<String>,
    /// Where the JSON goes [default: standard output]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

const GROUPS: [&str; 4] = ["checkout", "sandbox", "task", "memory"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    for group in &options.only {
        anyhow::ensure!(GROUPS.contains(&group.as_str()), "there is no group `{group}`: {}", GROUPS.join(", "));
    }
    let wanted = |group: &str| options.only.iter().any(|wanted| wanted == group);
    let mut figures = Figures::new(Machine::look(), options.rounds);
    if wanted("checkout") {
        checkout::measure(&mut figures).await.context("checkout")?;
    }
    if wanted("sandbox") {
        sandboxes::measure(&mut figures).await.context("sandbox")?;
    }
    if wanted("task") {
        task::measure_time(&mut figures).await.context("task")?;
    }
    if wanted("memory") {
        task::measure_memory(&mut figures).await.context("memory")?;
    }
    figures.finish();
    eprint!("{}", figures.table());
    let json = serde_json::to_string_pretty(&figures)?;
    match options.json {
        Some(path) => std::fs::write(&path, json).with_context(|| format!("cannot write {}", path.display())),
        None => {
            println!("{json}");
            Ok(())
        }
    }
}
