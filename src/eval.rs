//! A set of tasks with hidden tests, worked through the pipeline as any task is, and counted.
//!
//! ```text
//! tasks -> work (pipeline, then judge) -> results -> summary -> report
//! ```
//!
//! Results are lines of a file that only grows: a set that was interrupted goes on where it was. Nothing is published.

pub mod compare;
pub mod report;
pub mod results;
pub mod statistics;
pub mod summary;
pub mod tasks;
mod work;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{StreamExt, stream};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::config::eval::{EvalConfig, EvalOrder};
use crate::model::ModelCard;
use crate::outcome::printable;
use crate::pipeline::{self, ProtocolChoice, Services};
use crate::progress::{self, Progress};
use crate::service::assemble;
use crate::{agent, sandbox, workspace};
use results::{Key, Results, Row, Status};
use tasks::Instance;

/// A set that is ready to be worked.
struct Bench {
    instances: Vec<Instance>,
    results: Results,
}

impl Bench {
    /// Reads the tasks and opens the results, before anything costs time.
    fn open(config: &EvalConfig) -> anyhow::Result<Self> {
        let mut instances = tasks::read(&config.tasks)?;
        if let Some(unknown) =
            config.instances.iter().find(|id| !instances.iter().any(|instance| instance.instance_id == **id))
        {
            bail!("--instance {unknown}: no task of {} is called so", config.tasks.display());
        }
        if !config.instances.is_empty() {
            instances.retain(|instance| config.instances.contains(&instance.instance_id));
        }
        Ok(Self { instances, results: Results::open(&config.out)? })
    }
}

/// Cleaning up after an interruption takes at most this long.
const GOODBYE: Duration = Duration::from_millis(1500);
/// Removing folders at the normal end takes at most this long.
const LONGEST_REMOVAL: Duration = Duration::from_secs(60);

/// Does what is ordered; answers how many instances could not be run. `None`: it was interrupted.
pub async fn command(
    order: EvalOrder,
    progress: &Arc<Progress>,
    interrupted: impl Future<Output = ()>,
    output: &mut impl Write,
) -> anyhow::Result<Option<usize>> {
    let config = match order {
        EvalOrder::Compare { left, right, out, json } => {
            return compare::print(&left, &right, out.as_deref(), json, output).map(|()| Some(0));
        }
        EvalOrder::Report { out, json } => return print(&out, json, output).map(|()| Some(0)),
        EvalOrder::Run(config) => config,
    };
    let mut interrupted = std::pin::pin!(interrupted);
    let bench = Bench::open(&config)?;
    let services = tokio::select! {
        services = prepare(&config, progress) => services?,
        () = &mut interrupted => {
            sandbox::await_removals(GOODBYE).await;
            return Ok(None);
        }
    };
    let failed = tokio::select! {
        failed = run(&config, bench, &services, progress) => failed?,
        () = &mut interrupted => {
            // The tasks' futures are dropped by now: their processes are killed, their folders removed.
            services.backend.close_all(GOODBYE).await;
            progress.print("what is finished stays; the same command goes on");
            return Ok(None);
        }
    };
    progress.finish();
    print(&config.out, config.json, output)?;
    sandbox::await_removals(LONGEST_REMOVAL).await;
    workspace::await_removals(LONGEST_REMOVAL);
    Ok(Some(failed))
}

/// The sandbox, the workspace and the model.
async fn prepare(config: &EvalConfig, progress: &Arc<Progress>) -> anyhow::Result<Services> {
    let connected = assemble::connect_model(&config.common.model, config.common.model.probe).await;
    let (model, notes) = connected.map_err(|error| anyhow::anyhow!("{error}. {}", error.remedy()))?;
    let events = progress::events(Arc::clone(progress), None)?;
    for note in notes {
        events.note(note);
    }
    assemble::services(&config.common, Arc::new(model), events).await
}

/// Works what has no result yet; answers how many could not be run. The reports are written anew with each result.
async fn run(config: &EvalConfig, mut bench: Bench, services: &Services, progress: &Progress) -> anyhow::Result<usize> {
    let card = services.model.as_ref().context("an eval needs a model")?.card();
    let model = card.name.clone();
    let settings = settings_of(config, services)?;
    let profile = config.label.clone().unwrap_or_else(|| profile_of(&services.settings, card));
    let all: Vec<(&Instance, Key)> = bench
        .instances
        .iter()
        .flat_map(|instance| (1..=config.runs).map(move |run| (instance, run)))
        .map(|(instance, run)| {
            let (model, profile, settings) = (model.clone(), profile.clone(), settings.clone());
            (instance, Key { instance_id: instance.instance_id.clone(), model, profile, settings, run })
        })
        .collect();
    let count = all.len();
    let keys: Vec<Key> = all.iter().map(|(_, key)| key.clone()).collect();
    let open: Vec<(&Instance, Key)> = all.into_iter().filter(|(_, key)| !bench.results.holds(key)).collect();
    let mut done = count - open.len();
    if done > 0 {
        progress.print(&format!("{done} of {count} results are there already"));
    }
    let mut working = stream::iter(open)
        .map(|(instance, key)| async move { work::work(config, services, instance, &key).await })
        .buffer_unordered(config.concurrency.max(1));
    report::write(bench.results.folder(), &bench.results.rows())?;
    while let Some(row) = working.next().await {
        done += 1;
        progress.print(&line_of(done, count, &row));
        bench.results.append(row)?;
        report::write(bench.results.folder(), &bench.results.rows())?;
    }
    Ok(keys.iter().filter(|key| !bench.results.holds(key)).count())
}

/// Prints the report of a folder, and writes it anew.
fn print(folder: &std::path::Path, json: bool, output: &mut impl Write) -> anyhow::Result<()> {
    let rows = results::read(folder)?;
    report::write(folder, &rows)?;
    match json {
        true => {
            serde_json::to_writer_pretty(&mut *output, &report::value(&rows))?;
            writeln!(output)?;
        }
        false => {
            output.write_all(report::table(&rows).as_bytes())?;
            writeln!(output, "\n{}", folder.join(report::PAGE).display())?;
        }
    }
    Ok(output.flush()?)
}

/// What the rows call how the model is treated: its profile, and the protocol where the operator chose one.
fn profile_of(settings: &pipeline::Settings, card: &ModelCard) -> String {
    let profile = settings.profile.of(card).name();
    match settings.protocol == ProtocolChoice::default() {
        true => profile.to_owned(),
        false => format!("{profile}, {:?}", settings.protocol).to_lowercase(),
    }
}

/// Our version, and a hash of all that shapes a run: the loop's settings, the prompts, and what the operator sends besides.
/// A row of other settings is no result of these.
fn settings_of(config: &EvalConfig, services: &Services) -> anyhow::Result<String> {
    let endpoints: Vec<_> = config.common.model.endpoints.iter().map(|model| (model.window, &model.body)).collect();
    let all = json!({
        "settings": pipeline::shaping(&services.settings),
        "prompts": agent::prompts_digest(services.settings.prompts.as_deref())?,
        "endpoints": endpoints,
    });
    let hash: String = hex::encode(Sha256::digest(all.to_string())).chars().take(8).collect();
    Ok(format!("{}-{hash}", env!("CARGO_PKG_VERSION")))
}

fn line_of(done: usize, count: usize, row: &Row) -> String {
    let status = match row.status {
        Status::Resolved => "resolved".to_owned(),
        Status::ForReview => format!("resolved, for review: {}", row.reason),
        Status::Unresolved => format!("not resolved: {}", row.reason),
        Status::Error => format!("could not be run: {}", row.reason),
    };
    let run = if row.run > 1 { format!(" run {}", row.run) } else { String::new() };
    printable(&format!("[{done}/{count}] {}{run} ({:.1} s): {status}", row.instance_id, row.seconds))
}
