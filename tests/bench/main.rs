//! `cargo bench`: what Patchwright costs beside the work itself, next to what it is to be compared with, in one run.
//!
//! The table goes to standard error and the same figures as JSON to standard output, or with `--json` to a file.
//! Everything is real but the remote ends: the release binary, git, the kernel's namespaces, and GitHub and the model
//! are the lab's, in this process. `docs/PERFORMANCE.md` says how to read the figures.

mod checkout;
mod conversation;
mod edits;
mod figures;
mod queue;
mod repository;
mod sandboxes;
#[expect(dead_code, clippy::unwrap_used, reason = "it is the tests' own")]
#[path = "../it/store/server.rs"]
mod server;
mod service;
mod snapshots;
mod task;

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

use figures::{Figures, Machine};
use repository::Large;

/// What to measure.
#[derive(Debug, Parser)]
struct Options {
    /// Timed runs of each thing, after one that is not timed
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only these groups; `soak` runs only if it is named
    #[arg(long, value_delimiter = ',', default_values_t = DEFAULT_GROUPS.map(str::to_owned))]
    only: Vec<String>,
    /// Tasks that the group `idle` works before the second look
    #[arg(long, default_value_t = 300)]
    finished: u32,
    /// Polls of the group `polls`
    #[arg(long, default_value_t = 1_000)]
    polls: usize,
    /// Open tasks of the group `backlog`
    #[arg(long, default_value_t = 3_000)]
    backlog: u32,
    /// Finished tasks that the group `queue` claims beside
    #[arg(long, default_value_t = 1_000_000)]
    beside: u32,
    /// How long the group `soak` takes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..))]
    minutes: u32,
    /// Where the JSON goes [default: standard output]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A process of the group `queue`
    #[arg(long, hide = true)]
    claim_as: Option<String>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

const GROUPS: [&str; 16] = [
    "checkout", "sandbox", "snapshot", "task", "memory", "service", "webhooks", "idle", "polls", "backlog", "prefix",
    "window", "map", "edits", "queue", "soak",
];
const DEFAULT_GROUPS: [&str; 15] = [
    "checkout", "sandbox", "snapshot", "task", "memory", "service", "webhooks", "idle", "polls", "backlog", "prefix",
    "window", "map", "edits", "queue",
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(owner) = &options.claim_as {
        return queue::claim_as(owner).await;
    }
    for group in &options.only {
        anyhow::ensure!(GROUPS.contains(&group.as_str()), "there is no group `{group}`: {}", GROUPS.join(", "));
    }
    let wanted = |group: &str| options.only.iter().any(|wanted| wanted == group);
    let mut figures = Figures::new(Machine::look(), options.rounds);
    let needs_large = ["checkout", "task", "memory"].into_iter().any(wanted);
    let large = if needs_large { Some(Large::make().await?) } else { None };
    if let Some(large) = &large {
        measure_spine(&mut figures, large, &wanted).await?;
    }
    if wanted("sandbox") {
        sandboxes::measure(&mut figures).await.context("sandbox")?;
    }
    if wanted("snapshot") {
        snapshots::measure(&mut figures).await.context("snapshot")?;
    }
    if wanted("service") {
        service::measure_throughput(&mut figures).await.context("service")?;
    }
    if wanted("webhooks") {
        service::measure_webhooks(&mut figures).await.context("webhooks")?;
    }
    if wanted("idle") {
        service::measure_idle(&mut figures, options.finished).await.context("idle")?;
    }
    if wanted("polls") {
        service::measure_polls(&mut figures, options.polls).await.context("polls")?;
    }
    if wanted("backlog") {
        service::measure_backlog(&mut figures, options.backlog).await.context("backlog")?;
    }
    if wanted("prefix") {
        conversation::measure_prefix(&mut figures).await.context("prefix")?;
    }
    if wanted("window") {
        conversation::measure_window(&mut figures).await.context("window")?;
    }
    if wanted("edits") {
        edits::measure(&mut figures).context("edits")?;
    }
    if wanted("map") {
        conversation::measure_map(&mut figures).await.context("map")?;
    }
    if wanted("queue") {
        queue::measure(&mut figures, options.beside).await.context("queue")?;
    }
    if wanted("soak") {
        service::soak(&mut figures, options.minutes).await.context("soak")?;
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

/// What one run from the command line costs.
async fn measure_spine(figures: &mut Figures, large: &Large, wanted: &impl Fn(&str) -> bool) -> anyhow::Result<()> {
    if wanted("checkout") {
        checkout::measure(figures, large).await.context("checkout")?;
    }
    if wanted("task") {
        task::measure_time(figures, large).await.context("task")?;
    }
    if wanted("memory") {
        task::measure_memory(figures, large).await.context("memory")?;
    }
    Ok(())
}
