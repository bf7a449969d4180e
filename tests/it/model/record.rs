//! Records: what a run said to its model is read back whole, and given again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use patchwright::event::{Begun, Ended, Event, Events, RECORD_FORMAT};
use patchwright::model::record::{Record, RecordError, Recorded};
use patchwright::model::replay::Replay;
use patchwright::model::{Call, Message, Model, ModelCard, ModelError, Reply, Request};
use patchwright::outcome::{Conclusion, Usage};
use patchwright::task::{TaskId, from_command_line};
use proptest::prelude::*;
use serde_json::json;

struct Script {
    card: ModelCard,
    answers: Mutex<VecDeque<Result<Reply, ModelError>>>,
}

#[async_trait]
impl Model for Script {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    async fn complete(&self, _: &Request<'_>) -> Result<Reply, ModelError> {
        self.answers.lock().unwrap().pop_front().expect("an answer for each request")
    }
}

fn says(content: &str) -> Reply {
    let usage = Usage { prompt_tokens: Some(7), ..Usage::default() };
    Reply { content: content.into(), finish_reason: "stop".into(), usage: Some(usage), ..Reply::default() }
}

fn system(text: &str) -> Message {
    Message::System { content: text.into() }
}

fn user(text: &str) -> Message {
    Message::User { content: text.into() }
}

fn assistant(text: &str) -> Message {
    Message::Assistant { content: text.into(), calls: Vec::new() }
}

fn begun() -> Event {
    let task = from_command_line("Mend it.", TaskId::parse("task-1").unwrap()).unwrap();
    Event::Begun(Box::new(Begun {
        format: RECORD_FORMAT,
        patchwright: "0.1.0".into(),
        task,
        repository: "/repository".into(),
        base_commit: Some("0123456789012345678901234567890123456789".into()),
        test_command: None,
        model: serde_json::to_value(ModelCard { window: Some(4096), ..ModelCard::named("scripted-7b") }).ok(),
        settings: json!({ "protocol": "auto" }),
    }))
}

fn ended() -> Event {
    Event::Ended(Box::new(Ended {
        conclusion: Conclusion::Verified,
        stop: None,
        verdict: None,
        tree: None,
        attempt: None,
        steps: 4,
        usage: Usage::default(),
        milliseconds: 5,
    }))
}

/// The conversations of the test: one that grows, and one that begins anew.
fn conversations() -> Vec<Vec<Message>> {
    let first = vec![system("Be brief."), user("The test took 0.31 s at 0x7ffd12.")];
    let second = [first.clone(), vec![assistant("one"), user("go on")]].concat();
    let third = [second.clone(), vec![assistant("two"), user("and on")]].concat();
    let anew = vec![system("Be brief."), user("Begin anew.")];
    vec![first, second, third, anew]
}

/// The lines of a record of these requests, with an error in the third place.
async fn record(requests: &[Vec<Message>]) -> String {
    let call = Call { id: "c1".into(), name: "read".into(), arguments: r#"{"path": "a"}"#.into() };
    let answers = [
        Ok(says("one")),
        Ok(Reply { calls: vec![call], ..says("two") }),
        Err(ModelError::Cut("the stream ended after 3 bytes".into())),
        Ok(says("four")),
    ];
    let lines = Arc::new(Mutex::new(String::new()));
    let written = lines.clone();
    let events = Events::new(move |event| {
        let line = serde_json::to_string(event).unwrap();
        written.lock().unwrap().push_str(&format!("{line}\n"));
    });
    events.emit(begun());
    let model = Script { card: ModelCard::named("scripted-7b"), answers: Mutex::new(answers.into()) };
    let model = Recorded::new(Arc::new(model), events.clone());
    for messages in requests {
        let _ = model.complete(&Request::new(messages, 100)).await;
    }
    events.note("something between");
    events.emit(ended());
    let lines = lines.lock().unwrap();
    lines.clone()
}

#[tokio::test]
async fn a_record_holds_each_message_once_and_is_read_back_whole() {
    let requests = conversations();
    let text = record(&requests).await;
    for (words, times) in [("The test took", 1), ("go on", 1), ("and on", 1), ("Be brief.", 1)] {
        assert_eq!(text.matches(words).count(), times, "{words}: {text}");
    }
    let record = Record::parse(&text).unwrap();
    assert_eq!(record.begun.task.instruction.trim(), "Mend it.");
    assert_eq!(record.ended.as_ref().unwrap().conclusion, Conclusion::Verified);
    let read: Vec<Vec<Message>> = record.requests.iter().map(|request| request.messages.clone()).collect();
    assert_eq!(read, requests);
    assert_eq!(record.requests[1].answer.as_ref().unwrap().calls[0].name, "read");
    assert_eq!(record.requests[2].answer, Err(ModelError::Cut("the stream ended after 3 bytes".into())));

    let torn = text.trim_end_matches('\n').strip_suffix('}').unwrap();
    let torn = Record::parse(torn).unwrap();
    assert_eq!((torn.requests.len(), torn.ended), (4, None));
}

#[tokio::test]
async fn the_same_requests_get_the_same_answers() {
    let requests = conversations();
    let record = Record::parse(&record(&requests).await).unwrap();
    let model = Replay::new(&record);
    assert_eq!((model.card().name.as_str(), model.card().window), ("scripted-7b", Some(4096)));
    // Requests of attempts that go on side by side come in any order.
    for at in [3, 0, 1, 2] {
        let answer = model.complete(&Request::new(&requests[at], 100)).await;
        assert_eq!(answer, record.requests[at].answer);
    }
    assert_eq!((model.differences(), model.left_over(None)), (Vec::new(), 0));
    let beyond = model.complete(&Request::new(&requests[0], 100)).await;
    assert_eq!(beyond, Err(ModelError::NotRecorded { request: 5 }));
}

#[tokio::test]
async fn what_differs_is_told() {
    let requests = conversations();
    let record = Record::parse(&record(&requests).await).unwrap();
    let model = Replay::new(&record);
    let mut first = requests[0].clone();
    first[1] = user("The test took 12.5 s at 0x55aa00.");
    assert_eq!(model.complete(&Request::new(&first, 100)).await.unwrap().content, "one");
    model.complete(&Request::new(&requests[1], 99)).await.unwrap();
    let mut third = requests[2].clone();
    third.truncate(5);
    model.complete(&Request::new(&third, 100)).await.unwrap_err();
    assert_eq!(model.left_over(None), 1);
    insta::assert_snapshot!(serde_json::to_string_pretty(&model.differences()).unwrap(), @r#"
    [
      {
        "request": 1,
        "message": 1,
        "recorded": "user: The test took 0.31 s at 0x7ffd12.",
        "now": "user: The test took 12.5 s at 0x55aa00.",
        "only_numbers": true
      },
      {
        "request": 2,
        "message": null,
        "recorded": "at most 100 tokens, temperature the server's, tools []",
        "now": "at most 99 tokens, temperature the server's, tools []",
        "only_numbers": false
      },
      {
        "request": 3,
        "message": 5,
        "recorded": "user: and on",
        "now": "",
        "only_numbers": false
      }
    ]
    "#);
}

#[test]
fn other_formats_and_other_files_are_refused_with_the_reason() {
    let line = |event: &Event| serde_json::to_string(event).unwrap();
    let error = |text: &str| Record::parse(text).unwrap_err().to_string();
    insta::assert_snapshot!(error(&line(&begun()).replace("\"format\":1", "\"format\":2")), @"the record has the format 2, and this version reads 1. Use the version that wrote it");
    insta::assert_snapshot!(error("{\"event\": \"note\", \"text\": \"x\"}\n"), @"the record does not say what was to be done: it ended before the checkout, or is of an older version");
    insta::assert_snapshot!(error("{\"event\": \"note\"}\nx = 1\n"), @"line 2 is none of a record: expected value at line 1 column 1");
    insta::assert_snapshot!(error("{\"instance_id\": \"a\"}\n"), @"line 1 is none of a record: it has no `event`");
    let dangling = r#"{"event":"exchange","number":2,"hash":"","after":1,"kept":1,"messages":[],"tools":[],"max_tokens":1,"temperature":null,"seed":null,"schema":null,"reply":null,"error":null,"milliseconds":0}"#;
    insta::assert_snapshot!(error(&format!("{}\n{dangling}\n", line(&begun()))), @"line 2 is none of a record: request 2 goes on from 1, which is not there");
    assert!(matches!(Record::read("/no/such/record".as_ref()), Err(RecordError::Unreadable { .. })));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(lines in prop::collection::vec(".{0,80}", 0..8), cut in 0usize..4000) {
        let _ = Record::parse(&lines.join("\n"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let text = runtime.block_on(record(&conversations()));
        let end = (0..=cut.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap();
        let _ = Record::parse(&text[..end]);
    }
}
