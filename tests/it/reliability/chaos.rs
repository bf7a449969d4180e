//! Chaos: many tasks, eight workers, a forge whose answers fail by chance, webhooks that come twice and out of order
//! beside the polling, and a model server that fails now and then. Each task ends, once.
//!
//! `cargo test` takes 40 tasks; `PATCHWRIGHT_TEST_TASKS=200` takes more.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::Script;
use lab::github::{Chaos, Mischief};

use super::station::{DISPATCH, Station};

const SECRET: &str = "the secret of these webhooks";
/// One task in so many is worked by the model.
const BY_MODEL: usize = 10;
/// One conversation in so many begins with a failure.
const FAILING: usize = 3;
const LIMIT: Duration = Duration::from_secs(420);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_ends_once_in_chaos() {
    let tasks = std::env::var("PATCHWRIGHT_TEST_TASKS").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let mut station = Station::new("").await;
    let model = station.lab.model(Script::parse(&script(tasks)).unwrap()).await.unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    station.place.set("PATCHWRIGHT_LISTEN", format!("127.0.0.1:{port}"));
    station.place.set("GITHUB_WEBHOOK_SECRET", SECRET);
    station.place.set("LLM_API_ENDPOINT", model.endpoint());
    station.place.set("LLM_MODEL", model.name());
    station.place.set("MAX_CONCURRENT_TASKS", "8");
    station.place.set("MAX_TASK_RETRIES", "30");
    station.place.set("RETRY_DELAY_SECONDS", "0");
    let github = station.lab.github.clone();
    github.add_webhook(&format!("http://127.0.0.1:{port}/webhook"), SECRET, &["issues", "issue_comment"]);
    github.set_mischief(Some(Mischief { seed: 7, duplicated: 0.3, delayed: 0.3, delay: Duration::from_millis(700) }));
    github.set_chaos(Some(Chaos { seed: 11, share: 0.2, slow: Duration::from_millis(300) }));
    // An hour's allowance of requests each second: what is asked here is not about the forge's limits.
    let allowance = tokio::spawn({
        let github = github.clone();
        async move {
            let token = github.token().to_owned();
            loop {
                github.set_limit(&token, 5_000, 3_600);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    });
    let service = station.start(&[]);
    let ids: Vec<String> = (1..=tasks)
        .map(|number| if is_by_model(number) { station.dispatch_to_model() } else { station.dispatch() })
        .collect();
    let ended = match station.until_all_ended(LIMIT).await {
        Ok(()) => station.until_queue_is_done(LIMIT).await,
        Err(error) => Err(error),
    };
    github.set_chaos(None);
    allowance.abort();
    let stopped = service.stop().await;
    let mut wrong: Vec<String> = [ended.err(), stopped.err()].into_iter().flatten().collect();
    let queue = station.queue();
    let mut endings: BTreeMap<String, usize> = BTreeMap::new();
    for id in &ids {
        let traces = station.traces(id, &queue);
        *endings.entry(traces.state.clone()).or_default() += 1;
        let once = traces.finished_comments == 1 && traces.started_comments <= 1 && traces.other_comments <= 1;
        let fits = match traces.state.as_str() {
            "completed" => traces.pull_requests == 1 && traces.branches == 1,
            "failed" | "dead" => traces.pull_requests == 0,
            _ => false,
        };
        if !(once && fits) {
            wrong.push(format!("task {id} left {traces:?}"));
        }
    }
    let attempts: u64 = queue.values().filter_map(|row| row["attempt"].as_u64()).sum();
    println!("{tasks} tasks ended: {endings:?}, in {attempts} attempts, {} requests", github.exchanges().len());
    wrong.extend(station.lab.finish());
    wrong.extend(station.place.leftovers());
    let log = station.log();
    let tail: Vec<&str> = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), tail[tail.len().saturating_sub(40)..].join("\n"));
    assert!(github.issue(DISPATCH, 1).is_some());
}

fn is_by_model(number: usize) -> bool {
    number.is_multiple_of(BY_MODEL)
}

/// A conversation for each task of the model; some begin with a server that is overloaded.
fn script(tasks: usize) -> String {
    let mut lines = String::new();
    for number in (1..=tasks).filter(|number| is_by_model(*number)) {
        let task = format!("notes/{number}.txt");
        if (number / BY_MODEL).is_multiple_of(FAILING) {
            lines += &format!(
                "{{\"task\": \"{task}\", \"error\": {{\"status\": 503, \"message\": \"overloaded\"}}, \"new_conversation\": true}}\n"
            );
        }
        lines += &format!(
            "{{\"task\": \"{task}\", \"calls\": [{{\"name\": \"plan\", \"arguments\": {{\"steps\": [\"Write the note\"]}}}}], \"new_conversation\": true}}\n\
             {{\"task\": \"{task}\", \"calls\": [{{\"name\": \"write\", \"arguments\": {{\"path\": \"{task}\", \"content\": \"Note {number}\\n\"}}}}]}}\n\
             {{\"task\": \"{task}\", \"calls\": [{{\"name\": \"finish\", \"arguments\": {{\"summary\": \"Written.\"}}}}]}}\n"
        );
    }
    lines
}
