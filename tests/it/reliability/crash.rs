//! The crash matrix: `kill -9` before and after each effect and each line of the journal, and in the middle of each
//! stage; then a restart, and the questions.
//!
//! `cargo test` does each crash once. `PATCHWRIGHT_TEST_ROUNDS=3` does each three times and, with
//! `PATCHWRIGHT_TEST_RELIABILITY=FILE`, writes the table of `docs/RELIABILITY.md` into a file.

use std::fmt::Write;
use std::sync::Mutex;
use std::time::Duration;

use super::station::{DISPATCH, Station, TARGET};

const STAGES: [&str; 9] =
    ["intake", "checkout", "setup", "baseline", "solve", "commit", "push", "pull_request", "report"];
const EFFECTS: [&str; 9] = [
    "status_comment",
    "started_comment",
    "running_labels",
    "push",
    "pull_request",
    "commit_status",
    "finished_comment",
    "finished_labels",
    "close_issue",
];
const ENDING: Duration = Duration::from_secs(60);

/// Every place of the matrix, as the binary names it.
fn points() -> Vec<String> {
    let mut points = vec!["claim.after".to_owned(), "end.before".to_owned(), "end.after".to_owned()];
    for stage in STAGES {
        points.push(format!("stage:{stage}"));
        points.push(format!("stage:{stage}+8ms"));
        points.push(format!("journal.before:stage_done.{stage}"));
        points.push(format!("journal.after:stage_done.{stage}"));
    }
    // A part of solve, without a line of its own in the journal.
    points.extend(["stage:verify".to_owned(), "stage:verify+8ms".to_owned()]);
    for effect in EFFECTS {
        for place in ["journal.before:intent", "journal.after:intent", "journal.before:had", "journal.after:had"] {
            points.push(format!("{place}.{effect}"));
        }
        points.push(format!("effect.before:{effect}"));
        points.push(format!("effect.after:{effect}"));
    }
    for entry in ["solved", "concluded"] {
        points.push(format!("journal.before:{entry}"));
        points.push(format!("journal.after:{entry}"));
    }
    points
}

/// What one crash came to.
struct Row {
    point: String,
    rounds: usize,
    wrong: Vec<String>,
}

#[test]
fn a_crash_anywhere_loses_nothing_and_doubles_nothing() {
    let rounds = std::env::var("PATCHWRIGHT_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let only = std::env::var("PATCHWRIGHT_TEST_POINTS").unwrap_or_default();
    let points: Vec<String> = points().into_iter().filter(|point| point.contains(&only)).collect();
    assert!(!points.is_empty(), "no point is called {only}");
    let (next, rows) = (Mutex::new(points.iter().enumerate()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                loop {
                    let Some((index, point)) = next.lock().unwrap().next() else { break };
                    let wrong = (0..rounds).flat_map(|_| runtime.block_on(crash(point)).err()).collect();
                    rows.lock().unwrap().push((index, Row { point: point.clone(), rounds, wrong }));
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|(index, _)| *index);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    if let Some(file) = std::env::var_os("PATCHWRIGHT_TEST_RELIABILITY") {
        std::fs::write(file, table(&rows)).unwrap();
    }
    let wrong: Vec<String> =
        rows.iter().flat_map(|row| row.wrong.iter().map(|wrong| format!("{}: {wrong}", row.point))).collect();
    assert!(wrong.is_empty(), "{} of {} crashes went wrong:\n{}", wrong.len(), rows.len() * rounds, wrong.join("\n"));
}

/// One task, one crash at `point`, one restart.
async fn crash(point: &str) -> Result<(), String> {
    let mut station = Station::new("[publish]\nclose_issues = true\n").await;
    let id = station.dispatch();
    let mut service = station.start(&[("PATCHWRIGHT_CRASH_AT", point)]);
    if let Err(error) = service.crashed().await {
        return Err(format!("{error}; the point was not met\n{}", station.log()));
    }
    let service = station.start(&[]);
    // A task that was done already leaves it nothing to do.
    station.until_it_watches(2, ENDING).await?;
    let ended = match station.until_all_ended(ENDING).await {
        Ok(()) => station.until_queue_is_done(ENDING).await,
        Err(error) => Err(error),
    };
    let stopped = service.stop().await;
    let mut wrong: Vec<String> = [ended.err(), stopped.err()].into_iter().flatten().collect();
    wrong.extend(station.complaints(&id, &station.queue()));
    if station.lab.github.issue(DISPATCH, station.tasks[&id]).is_none_or(|issue| issue.open) {
        wrong.push("the issue is still open".into());
    }
    let statuses = station.lab.github.repository_state(TARGET).unwrap().statuses;
    if statuses.is_empty() || statuses.iter().any(|status| status.state != "success") {
        wrong.push(format!("the commit's status: {statuses:?}"));
    }
    wrong.extend(station.lab.finish());
    wrong.extend(station.place.leftovers().into_iter().map(|left| format!("left behind: {left}")));
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}\n{}", wrong.join("; "), station.log())) }
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| killed at | times | nothing lost | one pull request, no comment twice, no orphan |\n|---|---|---|---|\n",
    );
    for row in rows {
        let verdict = if row.wrong.is_empty() { "yes" } else { "**no**" };
        let lost = if row.wrong.iter().any(|wrong| wrong.contains("not every task ended")) { "**no**" } else { "yes" };
        let _ = writeln!(text, "| `{}` | {} | {lost} | {verdict} |", row.point, row.rounds);
    }
    text
}
