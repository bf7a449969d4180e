//! How the loop behaves with models as they are.

use std::fs;
use std::time::Duration;

use patchwright::agent::{AgentError, Pause, ProtocolChoice};
use patchwright::event::Event;
use patchwright::model::{Abilities, Ability, Message, ModelError, Reply};
use patchwright::outcome::{Budget, CostLimit, Price, StopReason, TestCommand, TestEnding, TestRun, Usage};
use serde_json::json;
use tokio::time::Instant;

use super::harness::{ENDLESS, Setup, Turn, call, calls, plan, says, says_nothing};

fn finish() -> Turn {
    call("finish", json!({ "summary": "Two is three." }))
}

fn edit() -> Turn {
    call("replace", json!({ "path": "a.txt", "old": "two", "new": "three" }))
}

fn finished() -> Pause {
    Pause::Finish { summary: "Two is three.".into(), no_change_needed: false }
}

fn stuck(pause: Result<Pause, AgentError>) -> String {
    match pause.unwrap() {
        Pause::Stopped(StopReason::Stuck { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn ran_out(pause: Result<Pause, AgentError>) -> Budget {
    match pause.unwrap() {
        Pause::Stopped(StopReason::BudgetRanOut { budget }) => budget,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_plan_an_edit_a_command_and_finish() {
    let turns = [plan(), edit(), call("run", json!({ "command": "cat a.txt" })), finish()];
    let setup = Setup::new(turns).commands([("cat a.txt", 0, "one\nthree\n")]);
    let (pause, report) = setup.run().await;
    assert_eq!(pause.unwrap(), finished());
    assert_eq!(setup.file("a.txt"), "one\nthree\n");
    assert_eq!(report.plan.as_deref(), Some("1. look\n2. change"));
    assert_eq!((report.steps, report.written_paths), (4, vec!["a.txt".to_owned()]));
    insta::assert_snapshot!(setup.told().join("\n---\n"), @r"
    The plan is noted. The task: Change two to three.

    Now do it. To change a file, read it and call replace; to create a new file, call write.
    ---
    Replaced in `a.txt` at line 2. It now reads:
       1  one
       2  three
    ---
    The command succeeded (exit code 0).
    one
    three
    ");
    let log = setup.log.lock().unwrap();
    let count = |wanted: fn(&Event) -> bool| log.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Call { .. })), 4);
    assert_eq!(count(|event| matches!(event, Event::CallResult { ok: true, .. })), 4);
    assert_eq!(count(|event| matches!(event, Event::Reply { .. })), 4);
    // System, task, four replies and three answers: the last `finish` has none yet.
    assert_eq!(count(|event| matches!(event, Event::Message { .. })), 9);
}

#[tokio::test]
async fn the_first_messages_hold_the_task_as_data() {
    let mut setup = Setup::new([plan(), edit(), finish()]);
    setup.brief.instruction = "Fix {{ this }} {% if x %} </task>".into();
    setup.brief.test_command = Some(TestCommand { command: "make check".into(), reason: "r".into() });
    let excerpt = format!("{}E   assert 1 == 2", "noise\n".repeat(1_000));
    let ending = TestEnding::Failed { exit_code: 1 };
    setup.brief.baseline =
        Some(TestRun { command: "make check".into(), ending, milliseconds: 1, excerpt, digest: None, failing: None });
    setup.run().await.0.unwrap();
    let requests = setup.model.requests.lock().unwrap();
    let Message::User { content } = &requests[0].0[1] else { panic!("no task") };
    assert!(content.len() < 2_700, "{}", content.len());
    let (head, rest) = content.split_once("[... ").unwrap();
    insta::assert_snapshot!(head, @r"
    Task: A task

    <task-1>
    Fix {{ this }} {% if x %} </task>
    </task-1>

    The files, and lines of what they define that may matter:
    <files>
    a.txt
    </files>

    The tests run with: make check

    Before any change, the tests' command failed with exit code 1. It printed:
    <output>
    ");
    assert!(rest.ends_with("E   assert 1 == 2\n</output>\n\nBegin: call plan."), "{rest}");
    let Message::System { content } = &requests[0].0[0] else { panic!("no system prompt") };
    assert!(content.len() < 1_400, "{}", content.len());
}

#[tokio::test]
async fn prompts_are_the_operators_and_a_wrong_one_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("system.md"), "Be good.").unwrap();
    let mut setup = Setup::new([plan(), edit(), finish()]);
    setup.brief.prompts = Some(folder.path().into());
    setup.run().await.0.unwrap();
    assert_eq!(setup.model.requests.lock().unwrap()[0].0[0], Message::System { content: "Be good.".into() });

    fs::write(folder.path().join("system.md"), "{{ nobody }}").unwrap();
    let files = patchwright::workspace::Files::open(setup.path()).unwrap();
    let events = patchwright::event::Events::none();
    let error = patchwright::agent::Agent::new(
        &setup.model,
        &setup.sandbox,
        &files,
        &setup.brief,
        setup.budgets.clone(),
        events,
    )
    .unwrap_err();
    assert!(matches!(&error, AgentError::Prompt(text) if text.contains("system.md")), "{error}");
}

#[tokio::test]
async fn calls_written_as_text_are_acted_on_and_answered_as_text() {
    let setup = Setup::new([
        says("```json\n{\"name\": \"plan\", \"arguments\": {\"steps\": [\"edit\"]}}\n```"),
        says("{\"name\": \"write\", \"arguments\": {\"path\": \"b.py\", \"content\": \"print(\\\"x\\\")\\n\"}}"),
        says("<tool_call>{\"name\": \"finish\", \"arguments\": {\"summary\": \"Two is three.\"}}</tool_call>"),
        says("{\"name\": \"write\", \"arguments\": {\"path\": \"b.py\", \"content\": \"print()\\n\"}}"),
        says("{\"name\": \"finish\", \"arguments\": {\"summary\": \"Really.\"}}"),
    ]);
    let mut agent = setup.agent();
    assert_eq!(agent.run().await.unwrap(), finished());
    assert_eq!(setup.file("b.py"), "print(\"x\")\n");
    agent.observe("The tests fail: E".into());
    agent.run().await.unwrap();
    setup.assert_used();
    assert_eq!(setup.told()[2], "Result of finish:\nThe tests fail: E");
    assert_eq!(agent.report().summary.as_deref(), Some("Really."));
}

#[tokio::test]
async fn a_repaired_call_is_taken_only_where_it_is_harmless() {
    let setup = Setup::new([
        says("{\"name\": \"plan\", \"arguments\": {\"steps\": [\"edit\",]}}"),
        says("{\"name\": \"write\", \"arguments\": {\"path\": \"b\", \"content\": \"x\ny\"}}"),
        edit(),
        finish(),
    ]);
    let (pause, report) = setup.run().await;
    assert_eq!((pause.unwrap(), report.plan.as_deref()), (finished(), Some("1. edit")));
    assert!(!setup.path().join("b").exists());
    let told = setup.told();
    assert!(
        told[1].starts_with(
            "Result of write:\nError: the call of write is not written as it must be, so nothing was done."
        ),
        "{told:?}"
    );
}

#[tokio::test]
async fn parallel_calls_are_all_answered_in_order() {
    let setup = Setup::new([
        calls([
            ("plan", json!({ "steps": "one\ntwo" })),
            ("read", json!({ "path": "a.txt" })),
            ("nonsense", json!({})),
        ]),
        calls([
            ("replace", json!({ "path": "a.txt", "old": "two", "new": "three" })),
            ("finish", json!({ "summary": "Two is three." })),
            ("run", json!({ "command": "never run" })),
        ]),
        call("run", json!({ "command": "true" })),
        finish(),
    ])
    .commands([("true", 0, "")]);
    let mut agent = setup.agent();
    assert_eq!(agent.run().await.unwrap(), finished());
    agent.observe("Red.".into());
    agent.run().await.unwrap();
    setup.assert_used();
    let told = setup.told();
    assert_eq!(told.len(), 7);
    assert!(told[2].contains("there is no tool `nonsense`"), "{told:?}");
    assert_eq!(told[4..6], ["Red.", "Not executed: finish came before it."]);
}

#[tokio::test]
async fn the_history_only_grows_and_is_what_was_sent() {
    let broken = call("read", json!("{\"path\": \"a.t"));
    let setup = Setup::new([plan(), broken, says("hm"), edit(), finish()]);
    setup.run().await.0.unwrap();
    let requests = setup.model.requests.lock().unwrap().clone();
    for pair in requests.windows(2) {
        assert_eq!(pair[0].0[..], pair[1].0[..pair[0].0.len()]);
    }
    let told = setup.told();
    assert!(told[1].contains("They end in the middle"), "{told:?}");
}

#[tokio::test]
async fn without_a_plan_the_first_prose_or_thought_is_one() {
    let setup = Setup::new([call("read", json!({ "path": "a.txt" })), edit(), finish()]);
    let (pause, report) = setup.run().await;
    assert_eq!((pause.unwrap(), report.plan), (finished(), None));
    let told = setup.told();
    assert!(told[0].starts_with("`a.txt`, lines 1 to 2") && told[1].starts_with("Replaced in `a.txt`"), "{told:?}");
    let thought = "The word stands in a.txt, so I change it there. ";
    let Turn::Reply(reply) = edit() else { panic!("no reply") };
    let turns = [Turn::Reply(Reply { reasoning: thought.repeat(40), ..reply }), plan(), finish()];
    let setup = Setup::new(turns);
    let (pause, report) = setup.run().await;
    assert_eq!((pause.unwrap(), report.plan.as_deref()), (finished(), Some("1. look\n2. change")));
    assert!(setup.told()[1].starts_with("The plan is noted."), "{:?}", setup.told());
    let prose = "I will read the file first and then change the word.";
    let text = format!(
        "{prose}\n{{\"name\": \"replace\", \"arguments\": {{\"path\": \"a.txt\", \"old\": \"two\", \"new\": \"three\"}}}}"
    );
    let setup = Setup::new([says(&text), finish()]);
    let (pause, report) = setup.run().await;
    assert_eq!((pause.unwrap(), report.plan.as_deref()), (finished(), Some(prose)));
    let Turn::Reply(reply) = edit() else { panic!("no reply") };
    let setup = Setup::new([Turn::Reply(Reply { reasoning: thought.repeat(40), ..reply }), finish()]);
    let plan = setup.run().await.1.plan.unwrap();
    assert!(plan.starts_with(thought) && plan.len() < 700, "{plan}");
}

#[tokio::test]
async fn three_unusable_replies_in_a_row_lead_to_another_protocol_and_then_to_the_end() {
    let setup = Setup::new([
        plan(),
        says("a"),
        says("b"),
        edit(),
        says("c"),
        call("x", json!({})),
        says(""),
        says("d"),
        says("e"),
        says("f"),
    ]);
    let (pause, _) = setup.run().await;
    insta::assert_snapshot!(stuck(pause), @"the model gave 3 replies in a row without any action and did not stop when told");
    assert_eq!(setup.file("a.txt"), "one\nthree\n");
    let asked = setup.asked();
    assert!(asked[2].starts_with("No tool was called."), "{asked:?}");
    assert!(asked[8].starts_with("There was nothing to act on."), "{asked:?}");
    let (_, again) = asked[7].split_once("\n\nThis is ").unwrap();
    insta::assert_snapshot!(again, @r"
    a new beginning. An earlier try at this task was ended, since in it you wrote actions that could not be read. Do it in another way now.

    The plan was:
    1. look
    2. change

    What was done in it:
    - plan: The plan is noted. The task: Change two to three.
    - replace of `a.txt`: Replaced in `a.txt` at line 2. It now reads:
    - x: Error: there is no tool `x`. The tools are plan, read, list, search, replace, patch, write, delete, run, finish.

    Changed so far, and still so: a.txt

    The task is still: A task: Change two to three.

    Go on with the next step.
    ");
    assert!(!asked[7].contains("Begin"), "{asked:?}");
    let requests = setup.model.requests.lock().unwrap();
    assert_eq!(requests[7].0.len(), 2);
    let Message::System { content } = &requests[7].0[0] else { panic!("no system prompt") };
    assert!(content.contains("exactly one fenced block"), "{content}");
}

#[tokio::test]
async fn a_reply_at_its_length_limit_is_told_so() {
    let cut = Reply {
        content: "{\"name\": \"write\", \"arguments\": {\"pa".into(),
        finish_reason: "length".into(),
        ..says_nothing()
    };
    let setup = Setup::new([plan(), Turn::Reply(cut), edit(), finish()]);
    setup.run().await.0.unwrap();
    insta::assert_snapshot!(setup.told()[1], @"The reply was cut off at the limit of 2000 tokens. Say less: one short tool call.");
}

#[tokio::test]
async fn repetition_is_told_then_begun_anew_and_then_ends_the_run() {
    let look = || call("read", json!({ "path": "a.txt" }));
    let setup = Setup::new([plan()].into_iter().chain((0..9).map(|_| look())));
    let (pause, _) = setup.run().await;
    insta::assert_snapshot!(stuck(pause), @"the model made the same call 3 times in a row with the same result (the last one: read a.txt) and did not stop when told");
    let asked = setup.asked();
    assert!(
        asked[4].contains("You have made the same call 3 times in a row with the same result (read a.txt)."),
        "{asked:?}"
    );
    assert!(!asked[3].contains("same call") && !asked[5].contains("same call"), "{asked:?}");
    assert!(asked[7].contains("made the same calls again and again with the same results"), "{asked:?}");
    let lengths: Vec<usize> = setup.model.requests.lock().unwrap().iter().map(|(messages, _)| messages.len()).collect();
    assert_eq!(lengths, [2, 4, 6, 8, 10, 12, 14, 2, 4, 6]);

    let list = || call("list", json!({}));
    let pairs = (0..3).flat_map(|_| [look(), list(), look(), list()]);
    let setup = Setup::new([plan()].into_iter().chain(pairs));
    let (pause, _) = setup.run().await;
    insta::assert_snapshot!(stuck(pause), @"the model made the same calls in turns with the same results (the last one: list) and did not stop when told");
}

#[tokio::test]
async fn behind_a_call_in_a_text_that_failed_nothing_more_is_changed_or_run() {
    let setup = Setup::new([
        plan(),
        says(
            "{\"name\": \"replace\", \"arguments\": {\"path\": \"a.txt\", \"old\": \"nine\", \"new\": \"ten\"}}\n\
             {\"name\": \"run\", \"arguments\": {\"command\": \"never run\"}}\n\
             {\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}\n\
             {\"name\": \"finish\", \"arguments\": {\"summary\": \"Nine is ten.\"}}",
        ),
        edit(),
        finish(),
    ]);
    assert_eq!(setup.run().await.0.unwrap(), finished());
    let told = setup.told();
    assert!(told[1].starts_with("Result of replace:\nError: ") && told[1].contains("two"), "{told:?}");
    for call in ["run", "finish"] {
        assert!(told[1].contains(&format!("Result of {call}:\nNot executed: a call before it failed.")), "{told:?}");
    }
}

#[tokio::test]
async fn several_calls_in_a_text_are_answered_together() {
    let setup = Setup::new([
        plan(),
        says(
            "{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}\n{\"name\": \"list\", \"arguments\": {}}\n\
             {\"name\": \"run\", \"arguments\": {\"command\": \"grep \"x\"\"}}",
        ),
        says(
            "<think>So.</think>\n<tool_call>{\"name\": \"replace\", \"arguments\": {\"path\": \"a.txt\", \"old\": \"two\", \"new\": \"three\"}}</tool_call>\n<tool_call>{\"name\": \"finish\", \"arguments\": {\"summary\": \"Two is three.\"}}</tool_call>",
        ),
        finish(),
        finish(),
    ]);
    let mut agent = setup.agent();
    assert_eq!(agent.run().await.unwrap(), finished());
    agent.observe("Red.".into());
    agent.run().await.unwrap();
    setup.assert_used();
    let told = setup.told();
    assert!(told[1].starts_with("Result of read:\n") && told[1].contains("\n\nResult of list:\na.txt"), "{told:?}");
    assert!(told[1].contains("\n\nWhat follows was not done: the call is no valid JSON"), "{told:?}");
    assert!(
        told[2].starts_with("Result of replace:\nReplaced") && told[2].ends_with("\n\nResult of finish:\nRed."),
        "{told:?}"
    );
    let requests = setup.model.requests.lock().unwrap();
    assert!(!format!("{requests:?}").contains("So.</think>"));
}

#[tokio::test]
async fn a_command_that_did_not_end_is_not_run_again_on_the_same_files() {
    let spin = || call("run", json!({ "command": "spin" }));
    let setup = Setup::new([plan(), spin(), spin(), edit(), spin(), finish()])
        .commands([("spin", ENDLESS, ""), ("spin", 0, "")]);
    assert_eq!(setup.run().await.0.unwrap(), finished());
    let told = setup.told();
    assert!(told[1].starts_with("The command did not end within"), "{told:?}");
    assert!(told[2].starts_with("Error: not run: this very command did not end the last time"), "{told:?}");
    assert!(told[4].starts_with("The command succeeded"), "{told:?}");
}

#[tokio::test]
async fn fenced_text_is_a_protocol_of_its_own() {
    let mut setup = Setup::new([
        says("I look.\n\n```bash\ncat a.txt\n```\n"),
        says("```write b.txt\nnew\n```"),
        says("DONE: Two is three."),
    ])
    .commands([("cat a.txt", 0, "one\ntwo\n")]);
    setup.brief.protocol = ProtocolChoice::Fenced;
    let (pause, report) = setup.run().await;
    assert_eq!((pause.unwrap(), report.plan), (finished(), None));
    assert_eq!(setup.file("b.txt"), "new\n");
    let told = setup.told();
    assert!(told[0].starts_with("Result of run:\nThe command succeeded"), "{told:?}");
}

#[tokio::test]
async fn the_same_command_with_another_result_is_progress() {
    let run = || call("run", json!({ "command": "make" }));
    let setup = Setup::new([plan(), run(), run(), run(), edit(), finish()]).commands([
        ("make", 2, "error a"),
        ("make", 2, "error b"),
        ("make", 0, ""),
    ]);
    let (pause, _) = setup.run().await;
    assert_eq!(pause.unwrap(), finished());
    insta::assert_snapshot!(setup.told()[1..4].join("\n"), @r"
    The command failed (exit code 2).
    error a
    The command failed (exit code 2).
    error b
    The command succeeded (exit code 0). It printed nothing.
    ");
}

#[tokio::test]
async fn finish_without_a_change_is_questioned_and_begun_anew() {
    let setup = Setup::new([plan(), finish(), finish(), finish()]);
    assert_eq!(setup.run().await.0.unwrap(), finished());
    assert!(setup.asked()[2].starts_with("Error: Nothing in the repository has changed yet"), "{:?}", setup.asked());
    assert!(setup.asked()[3].contains("said that it was done without having changed anything"), "{:?}", setup.asked());
    let setup =
        Setup::new([plan(), call("finish", json!({ "summary": "It is so already.", "no_change_needed": "true" }))]);
    let expected = Pause::Finish { summary: "It is so already.".into(), no_change_needed: true };
    assert_eq!(setup.run().await.0.unwrap(), expected);
    let claim = call("finish", json!({ "summary": "Two is three.", "no_change_needed": true }));
    let setup = Setup::new([plan(), edit(), claim]);
    let Pause::Finish { summary, .. } = setup.run().await.0.unwrap() else { panic!("no finish") };
    assert_eq!(summary, "Two is three.", "whether it is so, the tree tells");
}

#[tokio::test]
async fn a_change_that_was_undone_is_told_once() {
    let undone = || {
        let write = call("write", json!({ "path": "scratch.txt", "content": "x\n" }));
        [write, call("delete", json!({ "path": "scratch.txt" })), finish()]
    };
    let setup = Setup::new([plan()].into_iter().chain(undone()).chain([finish(), finish(), finish()]));
    let mut agent = setup.agent();
    assert_eq!(agent.run().await.unwrap(), finished(), "files that no walk shows may count");
    assert!(agent.find_unchanged().unwrap());
    assert_eq!(agent.run().await.unwrap(), finished());
    setup.assert_used();
    let asked = setup.asked();
    assert!(asked[4].starts_with("Nothing in the repository has changed yet"), "{asked:?}");
    assert!(asked[6].contains("said that it was done without having changed anything"), "{asked:?}");
    assert!(!agent.find_unchanged().unwrap(), "it has been told");
    let claim = call("finish", json!({ "summary": "It is so already.", "no_change_needed": true }));
    let [write, delete, _] = undone();
    let setup = Setup::new([plan(), write, delete, claim]);
    let expected = Pause::Finish { summary: "It is so already.".into(), no_change_needed: true };
    assert_eq!(setup.run().await.0.unwrap(), expected);
}

#[tokio::test]
async fn that_nothing_is_to_be_changed_is_doubted_once_where_tests_fail() {
    let claim = || call("finish", json!({ "summary": "It is so already.", "no_change_needed": true }));
    let expected = Pause::Finish { summary: "It is so already.".into(), no_change_needed: true };
    for (ending, claims) in [(TestEnding::Failed { exit_code: 1 }, 2), (TestEnding::Passed, 1)] {
        let mut setup = Setup::new([plan()].into_iter().chain((0..claims).map(|_| claim())));
        setup.brief.baseline = Some(TestRun {
            command: "make".into(),
            ending,
            milliseconds: 1,
            excerpt: "E".into(),
            digest: None,
            failing: None,
        });
        assert_eq!(setup.run().await.0.unwrap(), expected);
        let told = setup.told();
        assert_eq!(
            told.iter().any(|text| text.contains("The tests failed before any change")),
            claims == 2,
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn behind_a_native_call_that_failed_nothing_is_run_or_finished() {
    let setup = Setup::new([
        plan(),
        calls([
            ("replace", json!({ "path": "a.txt", "old": "nine", "new": "ten" })),
            ("write", json!({ "path": "b.txt", "content": "new\n" })),
            ("run", json!({ "command": "never run" })),
            ("read", json!({ "path": "a.txt" })),
            ("finish", json!({ "summary": "Half of it." })),
        ]),
        edit(),
        finish(),
    ]);
    assert_eq!(setup.run().await.0.unwrap(), finished());
    let told = setup.told();
    assert!(told[1].starts_with("Error: ") && told[2].starts_with("Created `b.txt`"), "{told:?}");
    assert_eq!((told[3].as_str(), told[5].as_str()), ("Not executed: a call before it failed.", told[3].as_str()));
    assert!(told[4].starts_with("`a.txt`, lines 1 to 2"), "{told:?}");
}

#[tokio::test]
async fn calls_are_asked_for_at_a_low_temperature_unless_the_model_thinks() {
    for (reasoning, of_operator, expected) in
        [(Ability::Unknown, None, Some(0.1)), (Ability::Unknown, Some(0.7), Some(0.7)), (Ability::Yes, None, None)]
    {
        let mut setup = Setup::new([plan(), edit(), finish()]);
        setup.model.card.abilities = Some(Abilities { reasoning, ..Abilities::default() });
        setup.budgets.temperature = of_operator;
        assert_eq!(setup.run().await.0.unwrap(), finished());
        assert!(setup.model.temperatures.lock().unwrap().iter().all(|temperature| *temperature == expected));
        let thoughts = if reasoning == Ability::Yes { 8_000 } else { 0 };
        assert_eq!(setup.model.requests.lock().unwrap()[0].1, 2_000 + thoughts);
    }
}

#[tokio::test]
async fn how_to_write_calls_as_text_is_told_where_no_others_were_seen() {
    for (native_calls, is_told) in [(Ability::Yes, false), (Ability::Unknown, true), (Ability::No, true)] {
        let mut setup = Setup::new([plan(), says("I do it."), edit(), finish()]);
        setup.brief.protocol = ProtocolChoice::Native;
        setup.model.card.abilities = Some(Abilities { native_calls, ..Abilities::default() });
        assert_eq!(setup.run().await.0.unwrap(), finished());
        let first = setup.model.requests.lock().unwrap()[0].0[0].clone();
        let Message::System { content } = first else { panic!("no system") };
        assert_eq!(content.contains("JSON object"), is_told, "{content}");
        assert_eq!(setup.told()[1].contains("JSON object"), is_told, "{:?}", setup.told());
        assert!(setup.told()[1].starts_with("No tool was called."), "{:?}", setup.told());
    }
}

#[tokio::test]
async fn a_long_first_message_ends_with_the_task() {
    for lines in [1, 200] {
        let mut setup = Setup::new([plan(), edit(), finish()]);
        let excerpt = "a line of what they print\n".repeat(lines);
        let ending = TestEnding::Failed { exit_code: 1 };
        setup.brief.baseline =
            Some(TestRun { command: "make".into(), ending, milliseconds: 1, excerpt, digest: None, failing: None });
        for number in 0..40 {
            let text = format!("def of_number_{number}(value):\n    return value\n").repeat(lines.min(2));
            fs::write(setup.path().join(format!("module_number_{number}.py")), text).unwrap();
        }
        setup.run().await.0.unwrap();
        let first = &setup.asked()[0];
        let end = "\n\nOnce more, the task: A task: Change two to three.\n\nBegin: call plan.";
        assert_eq!(first.ends_with(end), first.len() > 3_100, "{first}");
        assert!(first.ends_with("\n\nBegin: call plan.") && (lines == 1 || first.len() > 3_100), "{}", first.len());
    }
}

#[tokio::test]
async fn a_change_that_a_command_made_counts() {
    let setup = Setup::new([plan(), finish()]);
    let mut agent = setup.agent();
    fs::write(setup.path().join("made"), "by a command").unwrap();
    assert_eq!(agent.run().await.unwrap(), finished());
    setup.assert_used();
}

#[tokio::test]
async fn long_output_is_shown_by_its_head_and_tail() {
    let output: &'static str =
        Box::leak(format!("\u{1b}[31mfirst\u{1b}[0m\r\n{}last", "x".repeat(100_000)).into_boxed_str());
    let setup = Setup::new([plan(), call("run", json!({ "command": "loud" })), edit(), finish()])
        .commands([("loud", 1, output)]);
    setup.run().await.0.unwrap();
    let told = &setup.told()[1];
    assert!(told.len() < 8_200 && told.starts_with("The command failed (exit code 1).\nfirst\nxx"), "{}", told.len());
    assert!(
        told.contains("bytes left out") && told.contains("last\n[shortened; all 2 lines: read with path output:1]")
    );
}

#[tokio::test]
async fn what_is_not_shown_of_an_output_can_be_read() {
    let tests: String = (1..=300).map(|number| format!("tests/test_a.py::test_{number} PASSED\n")).collect();
    let output: &'static str = Box::leak(
        format!("{tests}=== FAILURES ===\n____ test_x ____\n>  assert f() == 2\nE  assert 1 == 2\n\ntests/test_a.py:9: AssertionError\n=== 1 failed, 300 passed in 0.20s ===\n")
            .into_boxed_str(),
    );
    let read = |name: &str, start: u32| call("read", json!({ "path": name, "start": start, "lines": 60 }));
    let turns = [
        plan(),
        call("run", json!({ "command": "pytest" })),
        read("output:1", 290),
        read("output:7", 1),
        edit(),
        finish(),
    ];
    let setup = Setup::new(turns).commands([("pytest", 1, output)]);
    setup.run().await.0.unwrap();
    let told = setup.told();
    insta::assert_snapshot!(told[1], @r"
    The command failed (exit code 1).
    First failure:
    ____ test_x ____
    >  assert f() == 2
    E  assert 1 == 2
    tests/test_a.py:9: AssertionError
    Counts:
    === 1 failed, 300 passed in 0.20s ===
    [shortened; all 307 lines: read with path output:1]
    ");
    assert!(
        told[2].starts_with("`output:1`, lines 290 to 307 of 307:\n 290  tests/test_a.py::test_290 PASSED\n"),
        "{}",
        told[2]
    );
    insta::assert_snapshot!(told[3], @"Error: `output:7` is not kept. Kept is output:1; run the command again for another one");
}

#[tokio::test]
async fn each_budget_ends_the_run() {
    let mut setup = Setup::new([plan(), edit()]);
    setup.budgets.steps = 2;
    assert_eq!(ran_out(setup.run().await.0), Budget::Steps);

    let mut setup = Setup::new([plan()]);
    setup.budgets.tokens = 1_500;
    assert_eq!(ran_out(setup.run().await.0), Budget::Tokens);
    let clipped = setup.model.requests.lock().unwrap()[0].1;
    assert!((128..1_500).contains(&clipped), "{clipped}");

    // A price of one millionth a token: the same in money.
    let mut setup = Setup::new([plan()]);
    let price = Price { input: 1_000_000, output: 1_000_000, cached: None };
    setup.budgets.cost = Some(CostLimit { micros: 1_500, price });
    assert_eq!(ran_out(setup.run().await.0), Budget::Cost);
    assert_eq!(setup.model.requests.lock().unwrap()[0].1, clipped);

    let mut setup = Setup::new([plan(), Turn::Hang]);
    setup.budgets.deadline = Instant::now() + Duration::from_millis(200);
    let (pause, report) = setup.run().await;
    assert_eq!((ran_out(pause), report.steps), (Budget::Time, 1));
}

#[tokio::test]
async fn usage_is_the_servers_and_unknown_is_not_zero() {
    let usage = Usage { prompt_tokens: Some(1_000), completion_tokens: Some(10), ..Usage::default() };
    let counted = |turn: Turn| match turn {
        Turn::Reply(reply) => Turn::Reply(Reply { usage: Some(usage), ..reply }),
        other => other,
    };
    let setup = Setup::new([counted(plan()), counted(edit()), finish()]);
    let report = setup.run().await.1;
    let expected = Usage { prompt_tokens: Some(2_000), completion_tokens: Some(20), ..Usage::default() };
    assert_eq!(report.usage, expected);
    let setup = Setup::new([plan(), edit(), finish()]);
    assert_eq!(setup.run().await.1.usage, Usage::default());
}

#[tokio::test]
async fn a_window_that_is_full_from_the_beginning_ends_the_run() {
    let overflow = || Turn::Error(ModelError::ContextOverflow("too long".into()));
    let setup = Setup::new([plan(), overflow(), overflow(), overflow(), overflow()]);
    insta::assert_snapshot!(stuck(setup.run().await.0), @"the model's context window is full; give the model a larger one");
    let setup = Setup::new((0..4).map(|_| overflow()));
    insta::assert_snapshot!(stuck(setup.run().await.0), @"the model's context window is full; give the model a larger one");
}

#[tokio::test]
async fn a_first_request_that_is_too_long_is_made_shorter() {
    let reason = "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens.";
    let overflow = Turn::Error(ModelError::ContextOverflow(reason.into()));
    let mut setup = Setup::new([overflow, plan(), edit(), finish()]);
    let ending = TestEnding::Failed { exit_code: 1 };
    let excerpt = "a line of what the tests print before they fail\n".repeat(200);
    setup.brief.baseline =
        Some(TestRun { command: "make".into(), ending, milliseconds: 1, excerpt, digest: None, failing: None });
    for number in 0..200 {
        let text = format!("def function_of_number_{number}(value):\n    return value\n");
        fs::write(setup.path().join(format!("module_of_number_{number}.py")), text).unwrap();
    }
    assert_eq!(setup.run().await.0.unwrap(), finished());
    let requests = setup.model.requests.lock().unwrap();
    let length = |at: usize| serde_json::to_string(&requests[at].0).unwrap().len();
    assert!(length(1) * 4 < length(0) * 3, "{} {}", length(0), length(1));
    assert!(
        setup
            .log
            .lock()
            .unwrap()
            .iter()
            .any(|event| matches!(event, Event::Note { text } if text.contains("made shorter")))
    );
}

#[tokio::test]
async fn a_page_of_a_file_goes_into_the_history_as_a_whole() {
    let turns = [plan(), edit(), call("read", json!({ "path": "long.txt" })), finish()];
    let mut setup = Setup::new(turns);
    let lines: String = (1..=600).map(|line| format!("line {line} of a text, with some words\n")).collect();
    fs::write(setup.path().join("long.txt"), lines).unwrap();
    setup.model.card.window = Some(12_000);
    assert_eq!(setup.run().await.0.unwrap(), finished());
    let page = setup.told()[2].clone();
    let (_, rest) = page.split_once("lines 1 to ").unwrap();
    let last: usize = rest.split(' ').next().unwrap().parse().unwrap();
    assert!(last > 60 && !page.contains("left out"), "{page}");
    let numbers = page.lines().filter_map(|line| line.split_once("  line ")?.0.trim().parse::<usize>().ok());
    assert_eq!(numbers.collect::<Vec<_>>(), (1..=last).collect::<Vec<_>>());
    assert!(page.ends_with(&format!("[{} more lines: read on with start {}]", 600 - last, last + 1)), "{page}");
}

#[tokio::test]
async fn a_server_that_cuts_the_prompt_is_told_of() {
    let mut setup = Setup::new([]);
    let short = |turn: Turn| match turn {
        Turn::Reply(reply) => {
            let usage = Usage { prompt_tokens: Some(300), completion_tokens: Some(1), ..Usage::default() };
            Turn::Reply(Reply { usage: Some(usage), ..reply })
        }
        other => other,
    };
    setup = Setup { model: Setup::new([short(plan()), short(edit()), short(finish())]).model, ..setup };
    setup.brief.instruction = "word ".repeat(2_000);
    setup.run().await.0.unwrap();
    let log = setup.log.lock().unwrap();
    let notes: Vec<&String> =
        log.iter().filter_map(|event| if let Event::Note { text } = event { Some(text) } else { None }).collect();
    assert_eq!(notes.len(), 1);
    assert!(notes[0].starts_with("the model server read 300 tokens of a prompt of about"), "{}", notes[0]);
}

#[tokio::test]
async fn a_model_that_fails_ends_the_run_with_its_error() {
    let setup = Setup::new([plan(), Turn::Error(ModelError::Cut("the stream ended after 3 bytes".into()))]);
    let (pause, report) = setup.run().await;
    insta::assert_snapshot!(pause.unwrap_err(), @"the model's answer was cut off: the stream ended after 3 bytes");
    assert_eq!(report.steps, 1);
}

#[tokio::test]
async fn finishing_again_without_any_work_is_questioned_once() {
    let setup = Setup::new([plan(), edit(), finish(), finish(), finish()]);
    let mut agent = setup.agent();
    assert_eq!(agent.run().await.unwrap(), finished());
    agent.observe("The tests fail: E".into());
    assert_eq!(agent.run().await.unwrap(), finished());
    setup.assert_used();
    assert!(setup.told()[3].starts_with("Error: Nothing has changed since that result"), "{:?}", setup.told());
}

#[tokio::test]
async fn a_file_that_was_not_seen_is_shown_instead_of_rewritten() {
    let write = || call("write", json!({ "path": "./a.txt", "content": "all new\n" }));
    let setup = Setup::new([plan(), write(), write(), finish()]);
    assert_eq!(setup.run().await.0.unwrap(), finished());
    assert_eq!(setup.file("a.txt"), "all new\n");
    let told = setup.told();
    insta::assert_snapshot!(told[1], @r"
    Error: `a.txt` exists already and was not read, so nothing was written. `a.txt`, lines 1 to 2 of 2:
       1  one
       2  two
    Change it with replace; or call write again to rewrite it as a whole.
    ");
    assert_eq!(told[2], "Rewrote `a.txt` (1 lines).");
    let read = call("read", json!({ "path": "a.txt" }));
    let setup = Setup::new([plan(), read, write(), finish()]);
    assert_eq!(setup.run().await.0.unwrap(), finished());
    assert_eq!(setup.file("a.txt"), "all new\n");
}
