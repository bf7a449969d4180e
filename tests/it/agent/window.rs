//! Long conversations: they stay within the window, and are the beginning of one another for as long as there is room.

use std::fs;

use patchwright::agent::{Pause, ProfileChoice};
use patchwright::event::Event;
use patchwright::model::{Message, ModelError, Reply};
use patchwright::outcome::{StopReason, Usage};
use serde_json::json;

use super::harness::{Setup, Turn, call, plan, says_nothing};

const WINDOW: u64 = 16_000;

fn finish() -> Turn {
    call("finish", json!({ "summary": "Two is three." }))
}

fn edit() -> Turn {
    call("replace", json!({ "path": "a.txt", "old": "two", "new": "three" }))
}

/// A model that reads another part of a long file at each step, and then does its task.
fn reader(steps: u32) -> Setup {
    let turns = [plan(), edit()].into_iter();
    let reads = (0..steps).flat_map(|step| {
        let read = call("read", json!({ "path": "long.txt", "start": 1 + step * 60, "lines": 60 }));
        // A run that only looks is ended.
        let write = || call("write", json!({ "path": "notes.txt", "content": format!("Read up to {step}.\n") }));
        [Some(read), (step % 10 == 9).then(write)].into_iter().flatten()
    });
    let setup = Setup::new(turns.chain(reads).chain([finish()]));
    let lines: Vec<String> =
        (1..=60 * steps).map(|line| format!("line {line} of many that tell the same story")).collect();
    fs::write(setup.path().join("long.txt"), lines.join("\n")).unwrap();
    setup
}

/// The tokens of a request by a count that is not the agent's: three bytes each.
fn tokens(messages: &[Message]) -> u64 {
    serde_json::to_string(messages).unwrap().len() as u64 / 3
}

fn kept(before: &[Message], after: &[Message]) -> bool {
    after.len() >= before.len() && after[..before.len()] == *before
}

#[tokio::test]
async fn old_observations_go_rarely_and_many_at_once() {
    let mut setup = reader(60);
    setup.model.card.window = Some(WINDOW);
    setup.model.counts = Some(100);
    setup.budgets.steps = 100;
    setup.budgets.tokens = 10_000_000;
    let (pause, _) = setup.run().await;
    assert!(matches!(pause.unwrap(), Pause::Finish { .. }));
    let requests = setup.model.requests.lock().unwrap();
    let cuts = requests.windows(2).filter(|pair| !kept(&pair[0].0, &pair[1].0)).count();
    assert!((2..=12).contains(&cuts), "{cuts} cuts in {} requests", requests.len());
    for (messages, answer) in requests.iter() {
        assert!(tokens(messages) + u64::from(*answer) < WINDOW + WINDOW / 4, "{}", tokens(messages));
        assert_eq!(messages[0], requests[0].0[0]);
        let (Message::User { content: first }, Message::User { content: now }) = (&requests[0].0[1], &messages[1])
        else {
            panic!("no task")
        };
        assert!(now.starts_with(first.trim_end_matches("\n\nBegin: call plan.")), "the task is not pinned: {now}");
    }
    let told = &requests.last().unwrap().0;
    let lines = told.iter().filter_map(|message| match message {
        Message::Tool { content, .. } => content.starts_with('[').then_some(content.as_str()),
        _ => None,
    });
    insta::assert_snapshot!(
        lines.take(1).collect::<String>(),
        @"[What read of `long.txt` answered (62 lines) is left out here to save room. If it is needed again, make the call again.]"
    );
    let notes = setup.log.lock().unwrap().iter().filter(|event| matches!(event, Event::Note { .. })).count();
    assert_eq!(notes, cuts, "each cut is told");
}

#[tokio::test]
async fn when_calls_alone_fill_the_window_the_older_half_is_summarised() {
    let big = |step: u32| {
        let text = format!("text number {step} and so on\n").repeat(60);
        call("write", json!({ "path": format!("made/{step}.txt"), "content": text }))
    };
    let summary = "I wrote the files made/0.txt and up. What is left: to change two to three in a.txt.";
    for asks in [true, false] {
        let mut turns: Vec<Turn> = vec![plan()];
        turns.extend((0..40).map(big));
        turns.extend([edit(), finish()]);
        let mut setup = Setup::new(turns);
        // The profile decides whether the model is asked.
        setup.model.summary = asks.then_some(summary);
        setup.budgets.steps = 100;
        setup.brief.profile = if asks { ProfileChoice::Medium } else { ProfileChoice::Small };
        setup.model.card.window = Some(WINDOW);
        setup.budgets.tokens = 10_000_000;
        let (pause, report) = setup.run().await;
        assert!(matches!(pause.unwrap(), Pause::Finish { .. }));
        assert_eq!(report.written_paths.len(), 41);
        let requests = setup.model.requests.lock().unwrap();
        let Message::User { content } = &requests.last().unwrap().0[1] else { panic!("no task") };
        let (_, done) = content.split_once("The older part of this conversation is gone.").expect("a summary");
        assert!(done.contains("1. look\n2. change") && done.contains("made/0.txt"), "{done}");
        assert!(!content.contains("Begin: call plan.") && done.contains("A task: Change two to three."), "{content}");
        match asks {
            true => assert!(done.contains(summary), "{done}"),
            false => assert!(done.contains("- write of `made/20.txt`: Created"), "{done}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_refuses_a_long_prompt_gets_a_shorter_one() {
    let reads = (0..6).map(|step| call("read", json!({ "path": "long.txt", "start": 1 + step * 60, "lines": 60 })));
    let overflow = Turn::Error(ModelError::ContextOverflow("too long".into()));
    let turns = [plan(), edit()].into_iter().chain(reads).chain([overflow, finish()]);
    let setup = Setup::new(turns);
    fs::write(setup.path().join("long.txt"), "one more line of a text\n".repeat(400)).unwrap();
    let (pause, _) = setup.run().await;
    assert!(matches!(pause.unwrap(), Pause::Finish { .. }));
    let requests = setup.model.requests.lock().unwrap();
    let [.., refused, shorter] = &requests[..] else { panic!("no requests") };
    assert!(tokens(&shorter.0) < tokens(&refused.0) * 4 / 5, "{} {}", tokens(&shorter.0), tokens(&refused.0));
}

#[tokio::test]
async fn the_estimate_learns_from_what_the_server_counts() {
    // A tokeniser that makes twice the tokens of ours: the window is full twice as early.
    let run = async |factor: u64| {
        let mut setup = reader(20);
        setup.model.card.window = Some(WINDOW);
        setup.model.counts = Some(factor);
        setup.budgets.tokens = 10_000_000;
        setup.budgets.steps = 100;
        setup.run().await.0.unwrap();
        let requests = setup.model.requests.lock().unwrap();
        requests.iter().map(|(messages, _)| tokens(messages)).max().unwrap()
    };
    let (few, many) = (run(100).await, run(200).await);
    assert!(many * 10 < few * 7, "{few} {many}");
}

#[tokio::test]
async fn one_observation_never_fills_the_window() {
    let turns = [plan(), edit(), call("read", json!({ "path": "long.txt" })), finish()];
    let mut setup = Setup::new(turns);
    fs::write(setup.path().join("long.txt"), "some words in a line\n".repeat(400)).unwrap();
    setup.model.card.window = Some(4_000);
    let (pause, _) = setup.run().await;
    assert!(matches!(pause.unwrap(), Pause::Finish { .. }));
    let told = setup.told();
    assert!(told[2].contains(" more lines: read on with start ") && told[2].len() < 4_000, "{}", told[2]);

    // The task alone is too much.
    let mut setup = Setup::new([]);
    setup.brief.instruction = "word ".repeat(4_000);
    setup.model.card.window = Some(3_000);
    let stop = setup.run().await.0.unwrap();
    let Pause::Stopped(StopReason::Stuck { reason, .. }) = stop else { panic!("{stop:?}") };
    insta::assert_snapshot!(reason, @"the model's context window of 3000 tokens is full; give the model a larger one");
}

#[tokio::test]
async fn a_reply_without_usage_is_counted_by_us() {
    let reply = Reply { content: "x".repeat(100), usage: Some(Usage::default()), ..says_nothing() };
    let setup = Setup::new([plan(), Turn::Reply(reply), edit(), finish()]);
    assert!(matches!(setup.run().await.0.unwrap(), Pause::Finish { .. }));
}
