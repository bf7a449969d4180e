//! The queue on PostgreSQL: claims a second by processes that do nothing with a task but end it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use patchwright::store::{ClaimRules, End, Settings, State, Store};
use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::figures::{Figures, Unit, milliseconds};
use crate::server::Server;

const GROUP: &str = "queue";
/// As a server is meant to be run.
const DURABLE: [&str; 3] = ["fsync=on", "synchronous_commit=on", "full_page_writes=on"];
/// Where a child finds the database.
const DATABASE: &str = "PATCHWRIGHT_BENCH_DATABASE";
/// Tasks that a number of processes ends.
const TASKS: u32 = 8_000;
/// Workers of a process.
const WORKERS: u32 = 4;
const TARGETS: u32 = 50;
const LIMIT: Duration = Duration::from_secs(300);

/// With 1, 2, 4 and 8 processes, beside no finished tasks and beside many.
pub async fn measure(figures: &mut Figures, finished: u32) -> anyhow::Result<()> {
    let Some(server) = Server::start(&DURABLE).await else {
        figures.leave_out(GROUP, "claims", "PostgreSQL is not installed", None);
        return Ok(());
    };
    let database = server.database().await;
    let address = server.address(&database);
    // The tables are made.
    drop(Store::open(&Settings::Postgres { address: SecretString::from(address.clone()) }).await?);
    let mut number = 0;
    for beside in [0, finished] {
        server.run(&database, &rows(&mut number, beside, "completed")).await;
        server.run(&database, "VACUUM ANALYZE").await;
        for processes in [1_u32, 2, 4, 8] {
            server.run(&database, &rows(&mut number, TASKS, "queued")).await;
            server.run(&database, "ANALYZE tasks").await;
            let (seconds, claims) = run(&address, processes).await?;
            anyhow::ensure!(claims.len() == TASKS as usize, "{} of {TASKS} were claimed", claims.len());
            let name = format!("{processes} processes of {WORKERS} workers, beside {beside} finished tasks");
            let rate = f64::from(TASKS) / seconds;
            figures.add_at_least(GROUP, &format!("{name}: tasks a second"), Unit::Count, vec![rate], 1_000.0);
            figures.add(GROUP, &format!("{name}: a claim, p99"), Unit::Milliseconds, vec![p99(claims)], Some(20.0));
        }
    }
    server.remove(&database).await;
    Ok(())
}

/// Tasks in `state`, behind those that there are.
fn rows(number: &mut u32, count: u32, state: &str) -> String {
    let (first, last) = (*number + 1, *number + count);
    *number = last;
    let ended = if state == "queued" { "NULL" } else { "n" };
    format!(
        "INSERT INTO tasks (repository, repository_key, number, task_id, title, body, author, target, target_key, \
         priority, state, revision, created_at, admitted_at, ended_at) \
         SELECT 'acme/tasks', 'acme/tasks', n, 'task-' || n, 'A task', repeat('Change something. ', 20), 'someone', \
         'acme/target-' || n % {TARGETS}, 'acme/target-' || n % {TARGETS}, 1, '{state}', 'r', n, n, {ended} \
         FROM generate_series({first}, {last}) AS n"
    )
}

/// All of the queue, by so many processes: seconds, and milliseconds of each claim.
async fn run(address: &str, processes: u32) -> anyhow::Result<(f64, Vec<f64>)> {
    let mut children = Vec::new();
    for number in 0..processes {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--claim-as", &format!("process-{number}")])
            .env(DATABASE, address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        let mut ready = String::new();
        output.read_line(&mut ready).await?;
        anyhow::ensure!(ready == "ready\n", "a process did not begin");
        children.push((child, output));
    }
    let begun = Instant::now();
    let mut claims = Vec::new();
    for (child, _) in &mut children {
        child.stdin.take().context("no input")?.write_all(b"go\n").await?;
    }
    for (child, output) in &mut children {
        claims.extend(tokio::time::timeout(LIMIT, told_by(child, output)).await??);
    }
    Ok((begun.elapsed().as_secs_f64(), claims))
}

async fn told_by(child: &mut Child, output: &mut (impl AsyncReadExt + Unpin)) -> anyhow::Result<Vec<f64>> {
    let mut text = String::new();
    output.read_to_string(&mut text).await?;
    anyhow::ensure!(child.wait().await?.success(), "a process failed");
    Ok(serde_json::from_str(&text)?)
}

fn p99(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() * 99 / 100).copied().unwrap_or_default()
}

/// What a child does: claims and ends until nothing is left, and prints how long each claim took.
pub async fn claim_as(owner: &str) -> anyhow::Result<()> {
    let address = SecretString::from(std::env::var(DATABASE)?);
    let store = Store::open(&Settings::Postgres { address }).await?;
    store.check().await?;
    println!("ready");
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    let workers = (0..WORKERS).map(|worker| {
        let rules = ClaimRules {
            owner: format!("{owner}-{worker}"),
            lease: Duration::from_secs(60),
            attempts: 3,
            per_repository: 100,
            closed: Vec::new(),
            reports_only: false,
        };
        let store = store.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            loop {
                let begun = Instant::now();
                let Some(claim) = store.claim(&rules).await? else { return anyhow::Ok(took) };
                took.push(milliseconds(begun.elapsed()));
                claim.end(End::Ended { state: State::Completed, reason: String::new(), pull_request: None }).await?;
            }
        })
    });
    let mut took = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        took.extend(worker.await??);
    }
    println!("{}", serde_json::to_string(&took)?);
    Ok(())
}
