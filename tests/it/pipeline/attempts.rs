//! Several attempts at one task at once: the first verified one wins, and where none is, the best counts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use patchwright::event::{Event, Events};
use patchwright::model::record::{Record, Recorded};
use patchwright::model::replay::Replay;
use patchwright::model::{Call, Model, ModelCard, ModelError, Reply, Request};
use patchwright::outcome::{Conclusion, Outcome, TestCommand, Usage};
use patchwright::pipeline::{Ending, Order, ProtocolChoice};
use patchwright::progress;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::place::{Place, TARGET};
use lab::git;

/// What an attempt is answered, request by request; the last one again and again.
#[derive(Clone)]
enum Answer {
    /// The file as a whole.
    File(&'static str),
    /// A call.
    Call(&'static str, Value),
    /// Words alone.
    Words,
    /// None, ever.
    Silence,
    /// As the next one, when so many attempts are over.
    After(usize, Box<Answer>),
    /// As the next one, when so many requests came or one attempt is over.
    WhenAsked(usize, Box<Answer>),
}

struct Script {
    card: ModelCard,
    answers: Vec<Vec<Answer>>,
    given: Vec<AtomicUsize>,
    /// The attempts and temperatures of all requests.
    asked: Mutex<Vec<(u32, Option<u32>, Option<u64>)>>,
    /// How many requests came, and how many attempts are over.
    progress: watch::Sender<(usize, usize)>,
}

#[async_trait]
impl Model for Script {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    async fn complete(&self, request: &Request<'_>) -> Result<Reply, ModelError> {
        let attempt = request.attempt.unwrap_or(1);
        let hundredths = request.temperature.map(|temperature| (temperature * 100.0).round() as u32);
        self.asked.lock().unwrap().push((attempt, hundredths, request.seed));
        self.progress.send_modify(|(asked, _)| *asked += 1);
        let of_attempt = &self.answers[attempt as usize - 1];
        let at = self.given[attempt as usize - 1].fetch_add(1, Ordering::Relaxed);
        let mut answer = &of_attempt[at.min(of_attempt.len() - 1)];
        loop {
            let mut progress = self.progress.subscribe();
            answer = match answer {
                Answer::Silence => return std::future::pending().await,
                Answer::File(content) => return Ok(says(format!("state.txt\n```\n{content}\n```\n"), None)),
                Answer::Words => return Ok(says("Let me think about it.".into(), None)),
                Answer::Call(name, arguments) => {
                    let (id, arguments) = (format!("call_{attempt}_{at}"), arguments.to_string());
                    return Ok(says(String::new(), Some(Call { id, name: (*name).into(), arguments })));
                }
                Answer::After(count, next) => {
                    progress.wait_for(|(_, over)| over >= count).await.unwrap();
                    next
                }
                Answer::WhenAsked(count, next) => {
                    progress.wait_for(|(asked, over)| asked >= count || *over > 0).await.unwrap();
                    next
                }
            };
        }
    }
}

fn says(content: String, call: Option<Call>) -> Reply {
    Reply {
        content,
        reasoning: String::new(),
        finish_reason: if call.is_some() { "tool_calls".into() } else { "stop".into() },
        calls: call.into_iter().collect(),
        usage: Some(Usage { prompt_tokens: Some(100), completion_tokens: Some(10), ..Usage::default() }),
        model: None,
    }
}

/// A place with a task and a model that answers so many attempts; whole files, and no second round, unless changed.
async fn place(answers: &[&[Answer]]) -> Option<(Place, Arc<Script>)> {
    let mut place = Place::with("Do what the plan says.").await?;
    let script = Arc::new(Script {
        card: ModelCard::named("scripted"),
        answers: answers.iter().map(|answers| answers.to_vec()).collect(),
        given: answers.iter().map(|_| AtomicUsize::new(0)).collect(),
        asked: Mutex::default(),
        progress: watch::channel((0, 0)).0,
    });
    place.services.model = Some(script.clone());
    place.services.settings.protocol = ProtocolChoice::WholeFile;
    place.services.settings.limits.attempts = answers.len() as u32;
    place.services.settings.limits.verify_rounds = 0;
    follow(&mut place, &script, None);
    Some((place, script))
}

/// Tells the script of attempts that are over, and `record` of all events.
fn follow(place: &mut Place, script: &Arc<Script>, record: Option<Events>) {
    let (script, before) = (script.clone(), place.services.events.clone());
    place.services.events = Events::with_attempts(move |event, attempt| {
        before.of_attempt(attempt).emit(event.clone());
        if let Some(record) = &record {
            record.of_attempt(attempt).emit(event.clone());
        }
        if let Event::Note { text } = event
            && text.starts_with("over: ")
        {
            assert!(attempt.is_some(), "{text}");
            script.progress.send_modify(|(_, over)| *over += 1);
        }
    });
}

async fn run(place: &Place, command: &str) -> Outcome {
    let order = place.order(None);
    let order = Order { test_command: Some(TestCommand { command: command.into(), reason: "told".into() }), ..order };
    let Ending::Reported(outcome) = place.run(&order).await else { panic!("an end") };
    outcome
}

async fn published(place: &Place) -> String {
    let path = place.lab.github.repository_state(TARGET).unwrap().path;
    git::text(&path, &["show", "agent-task-550e8400:state.txt"]).await.unwrap()
}

fn asked(script: &Script) -> Vec<(u32, Option<u32>, Option<u64>)> {
    let mut asked = script.asked.lock().unwrap().clone();
    asked.sort_unstable();
    asked
}

#[tokio::test]
async fn the_first_verified_change_wins_and_stops_the_others() {
    use Answer::{File, Silence, WhenAsked};
    let all = |answer| WhenAsked(3, Box::new(answer));
    let answers: [&[Answer]; 3] = [&[Silence], &[all(File("wrong"))], &[all(File("fixed"))]];
    let Some((place, script)) = place(&answers).await else { return };
    let outcome = run(&place, "grep -q fixed state.txt").await;
    assert_eq!((&outcome.conclusion, outcome.attempt), (&Conclusion::Verified, Some(3)));
    assert_eq!(published(&place).await.trim(), "fixed");
    // Each warmer than the one before, and of its own seed; the first is as it would be alone.
    assert_eq!(asked(&script), [(1, Some(10), None), (2, Some(40), Some(2)), (3, Some(70), Some(3))]);
    assert_eq!(place.lab.github.pulls(TARGET).len(), 1);
    // The one that was never answered has been read by the server, too: so much, and nobody counted it.
    assert_eq!(outcome.steps, 3);
    assert!(outcome.usage.estimated && outcome.usage.prompt_tokens > Some(200), "{:?}", outcome.usage);
    assert_eq!(outcome.usage.completion_tokens, Some(20));
}

#[tokio::test]
async fn without_a_verified_one_the_fewest_failing_tests_count() {
    use Answer::File;
    let counted = ["3 failed in 0.1s", "1 failed in 0.1s", "2 failed in 0.1s"];
    let answers: [&[Answer]; 3] = [&[File(counted[0])], &[File(counted[1])], &[File(counted[2])]];
    let Some((place, _)) = place(&answers).await else { return };
    let outcome = run(&place, "cat state.txt; grep -q fixed state.txt").await;
    assert_eq!(outcome.conclusion, Conclusion::Unverified);
    assert_eq!(published(&place).await.trim(), counted[1]);
    assert_eq!((outcome.steps, outcome.usage.prompt_tokens), (3, Some(300)), "one budget for all");
    assert!(!outcome.usage.estimated);
}

#[tokio::test]
async fn tests_that_are_named_count_by_their_names() {
    use Answer::File;
    // Two fail on the base. The second answer mends two and breaks one, the third mends one and breaks none.
    let names = "for name in A B; do grep -q broken state.txt && echo \"--- FAIL: Test$name (0.0s)\"; done";
    let command = format!("{names}; cat state.txt; grep -q fixed state.txt");
    let answers: [&[Answer]; 3] = [
        &[File("--- FAIL: TestA (0.0s)\n--- FAIL: TestB (0.0s)\n--- FAIL: TestC (0.0s)")],
        &[File("--- FAIL: TestC (0.0s)")],
        &[File("More lines\nthan the others have,\nwhich is no matter.\n\n--- FAIL: TestB (0.0s)")],
    ];
    let Some((place, _)) = place(&answers).await else { return };
    let outcome = run(&place, &command).await;
    assert_eq!((&outcome.conclusion, outcome.attempt), (&Conclusion::Unverified, Some(3)));
    assert_eq!(outcome.result.unwrap().failing, Some(["TestB".to_owned()].into()));
}

#[tokio::test]
async fn a_stuck_attempt_on_a_green_base_does_not_win() {
    use Answer::{After, Call, Words};
    let plan = || Call("plan", json!({ "steps": ["change the state"] }));
    let write = |text: &str| Call("replace", json!({ "path": "state.txt", "old": "broken", "new": text }));
    let finish = || Call("finish", json!({ "summary": "Done." }));
    let good = [After(1, Box::new(plan())), write("good"), finish()];
    let answers: [&[Answer]; 2] = [&[plan(), write("half"), Words], &good];
    let Some((mut place, script)) = place(&answers).await else { return };
    place.services.settings.protocol = ProtocolChoice::Native;
    place.services.settings.limits.steps = 40;
    let outcome = run(&place, "test -s state.txt").await;
    assert_eq!((&outcome.conclusion, outcome.attempt), (&Conclusion::Verified, Some(2)), "{:?}", asked(&script));
    assert_eq!(published(&place).await.trim(), "good");
}

#[tokio::test]
async fn attempts_that_ask_at_once_do_not_overdraw_the_budget() {
    use Answer::{File, WhenAsked};
    let answer = [WhenAsked(3, Box::new(File("wrong")))];
    let answers: [&[Answer]; 3] = [&answer, &answer, &answer];
    let Some((mut place, script)) = place(&answers).await else { return };
    place.services.settings.limits.steps = 2;
    let outcome = run(&place, "grep -q fixed state.txt").await;
    assert_eq!((asked(&script).len(), outcome.steps), (2, 2));
}

#[tokio::test]
async fn one_attempt_goes_another_way() {
    use Answer::File;
    let answer = [File("3 failed")];
    let answers: [&[Answer]; 3] = [&answer, &answer, &answer];
    let Some((mut place, script)) = place(&answers).await else { return };
    place.services.settings.protocol = ProtocolChoice::Auto;
    place.services.settings.limits.steps = 12;
    let begun = Arc::new(Mutex::new(Vec::new()));
    let (seen, before) = (begun.clone(), place.services.events.clone());
    place.services.events = Events::with_attempts(move |event, attempt| {
        before.of_attempt(attempt).emit(event.clone());
        if let (Event::Message { message }, Some(attempt)) = (event, attempt)
            && message["role"] == "system"
        {
            seen.lock().unwrap().push((attempt, message["content"].as_str().unwrap_or_default().to_owned()));
        }
    });
    run(&place, "cat state.txt; grep -q fixed state.txt").await;
    assert!(asked(&script).len() >= 3);
    let begun = begun.lock().unwrap();
    let of = |attempt| &begun.iter().find(|(of, _)| *of == attempt).expect("a first message").1;
    assert!(of(1) == of(3) && of(1) != of(2), "{begun:#?}");
}

#[tokio::test]
async fn attempts_that_are_played_again_end_the_same() {
    use Answer::{File, Silence, WhenAsked};
    // The second wins while the first waits for its second answer.
    let answers: [&[Answer]; 2] = [&[File("wrong"), Silence], &[WhenAsked(3, Box::new(File("fixed")))]];
    let Some((mut place, script)) = place(&answers).await else { return };
    place.services.settings.limits.verify_rounds = 2;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.jsonl");
    let record = progress::recorded(&path).unwrap();
    let model = Recorded::new(script.clone(), record.clone());
    place.services.model = Some(Arc::new(model));
    follow(&mut place, &script, Some(record));
    let command = "grep -q fixed state.txt";
    let recorded = run(&place, command).await;
    assert_eq!((&recorded.conclusion, recorded.attempt), (&Conclusion::Verified, Some(2)));

    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for kind in ["exchange", "call", "tests"] {
        let of = lines.iter().filter(|line| line["event"] == kind && line["baseline"] != true);
        let attempts: std::collections::BTreeSet<Option<u64>> = of.map(|line| line["attempt"].as_u64()).collect();
        assert_eq!(attempts, [Some(1), Some(2)].into(), "{kind}: {text}");
    }
    let record = Record::parse(&text).unwrap();
    assert_eq!(record.ended.as_ref().unwrap().attempt, Some(2));

    let Some(mut again) = Place::with("Do what the plan says.").await else { return };
    let model = Arc::new(Replay::new(&record));
    again.services.model = Some(model.clone());
    again.services.settings = place.services.settings.clone();
    again.services.settings.winner = Some(2);
    let now = run(&again, command).await;
    assert_eq!(model.differences(), []);
    assert_eq!(model.left_over(Some(2)), 0);
    assert_eq!((now.conclusion, now.attempt, now.tree), (recorded.conclusion, recorded.attempt, recorded.tree));
}
