//! Whole files in fenced blocks: the reader, and the loop around it, with hostile replies too.

use patchwright::agent::protocol::parameters_in;
use patchwright::agent::protocol::whole_file::{elision, fence_for, left_out, read_files};
use patchwright::agent::{Pause, ProtocolChoice};
use patchwright::event::Event;
use patchwright::model::{Message, Reply};
use patchwright::outcome::StopReason;
use proptest::prelude::*;

use super::harness::{Setup, Turn, says, says_nothing};

/// Paths and contents of a reply that ended by itself.
fn files(reply: &str) -> Vec<(String, String)> {
    read_files(reply, false).files.into_iter().map(|file| (file.path, file.content)).collect()
}

fn file(path: &str, content: &str) -> Vec<(String, String)> {
    vec![(path.to_owned(), content.to_owned())]
}

#[test]
fn a_path_stands_in_many_places() {
    for reply in [
        "I do it.\n\na.py\n```python\nx = 1\n```\nDone.",
        "### a.py\n\n```\nx = 1\n```",
        "**a.py**\n```py\nx = 1\n```",
        "- **File: `a.py`:**\n\n```py\nx = 1\n```",
        "1. `a.py`\n```py\nx = 1\n```",
        "```python a.py\nx = 1\n```",
        "```python:a.py\nx = 1\n```",
        "```a.py\nx = 1\n```",
        "```python title=\"a.py\"\nx = 1\n```",
        "```python\n# a.py\nx = 1\n```",
        "```python\n# a.py\n\nx = 1\n```",
        "Now a.py.\nThe content of `b.py` is old. Here is the new `a.py`:\n\n```python\nx = 1\n```",
        "## Change the greeting in a.py to 'Hi, you'\n\n```python\nx = 1\n```",
        "a.py\n~~~\nx = 1\n~~~",
        "a.py\r\n```python\r\nx = 1\r\n```\r\n",
        "<think>b.py\n```\nno\n```\n</think>a.py\n```\nx = 1\n```",
        "1. a.py\n   ```python\n   x = 1\n   ```",
        "a.py\n```python\nx = 1\n",
    ] {
        assert_eq!(files(reply), file("a.py", "x = 1\n"), "{reply}");
    }
}

#[test]
fn a_path_is_not_guessed() {
    for reply in [
        "```python\nx = 1\n```",
        "Both `a.py` and `b.py` change:\n```python\nx = 1\n```",
        "e.g.\n```python\nx = 1\n```",
        "Version 3.11:\n```python\nx = 1\n```",
        "Run it as in a.py:\n```bash\npython3 a.py\n```",
        "a.py prints:\n```text\nx\n```",
        "a.py\n\nand then:\n\n```python\nx = 1\n```",
    ] {
        assert_eq!(files(reply), [], "{reply}");
    }
}

#[test]
fn several_files_stand_in_one_reply_and_the_last_of_a_path_counts() {
    let reply = "a.py\n```\n1\n```\nsrc/b.rs\n```rust\n2\n```\nOnce more, better:\n\na.py\n```\n3\n```";
    assert_eq!(files(reply), [("src/b.rs".into(), "2\n".into()), ("a.py".into(), "3\n".into())]);
    let written = read_files("`a.py`:\n```py\n1\n```\n```py\n2\n```", false);
    assert_eq!(written.files.len(), 1, "a name holds for one block only: {written:?}");
    assert_eq!(written.unnamed.len(), 1);
}

#[test]
fn fences_inside_of_fences() {
    let inner = "# T\n```sh\nrun\n```\nend\n";
    assert_eq!(files(&format!("README.md\n````markdown\n{inner}````")), file("README.md", inner), "a longer fence");
    assert_eq!(files(&format!("README.md\n~~~\n{inner}~~~")), file("README.md", inner), "another fence");
    assert_eq!(files(&format!("README.md\n```markdown\n{inner}```")), file("README.md", inner), "pairs");
    let written = read_files("README.md\n```markdown\n# T\n```\nrun\n```\nend\n```", false);
    assert_eq!(written.files, [], "its end cannot be told");
    assert_eq!(written.ambiguous, ["README.md"]);
    assert_eq!(files("a.py\n```python\ns = '```'\n```"), file("a.py", "s = '```'\n"));
    assert_eq!((fence_for("x\n"), fence_for("a\n```sh\n```\n")), ("```".into(), "````".into()));
}

#[test]
fn a_reply_that_was_cut_gives_its_complete_files_only() {
    let reply = "a.py\n```\n1\n```\nb.py\n```\n2\n";
    let cut = read_files(reply, true);
    assert_eq!(cut.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["a.py"]);
    assert_eq!(cut.cut.unwrap().path.as_deref(), Some("b.py"));
    assert_eq!(files(reply).len(), 2, "a reply that ended by itself has forgotten the fence");
    let in_prose = read_files("a.py\n```\n1\n```\nand so", true);
    assert_eq!((in_prose.files.len(), in_prose.cut), (1, None));
}

#[test]
fn lines_that_stand_for_others_are_seen() {
    for line in ["# ... existing code ...", "// ... rest of the file ...", "    # ...", "<!-- ... unchanged ... -->"] {
        assert_eq!(elision(&format!("a\n{line}\nb\n"), ""), Some(line.trim()));
        assert_eq!(elision(&format!("a\n{line}\nb\n"), &format!("{line}\n")), None, "it was there before");
    }
    for line in ["# existing users are kept", "...", "x = ...", "# and so on ...", "// the rest of the file"] {
        assert_eq!(elision(&format!("{line}\n"), ""), None, "{line}");
    }
}

#[test]
fn lines_that_are_left_out_are_seen_and_lines_that_are_replaced_are_not() {
    let before = "def greet():\n    return 1\n\n\nif main:\n    greet()\n";
    for (after, lines) in [
        ("def greet():\n    return 2\n", Some(vec!["if main:", "    greet()"])),
        ("if main:\n    greet()\n", Some(vec!["def greet():", "    return 1"])),
        ("def greet():\n    return 2\n\n\nif main:\n    greet()\n", None),
        ("def greet(name):\n    return 2\nif main:\n    greet()\n", None),
        ("def greet():\n    return 1\n\n\nif other_main:\n    other()\n", None),
        ("def greet():\n    return 1\n\n\nif main:\n", None),
    ] {
        assert_eq!(left_out(after, before), lines, "{after}");
    }
    let body = "fn a() {\n    one();\n\n    two();\n    three();\n}\n";
    assert_eq!(left_out("fn a() {\n    one();\n}\n", body), None, "what is within a part may be rewritten");
}

#[test]
fn a_name_tells_how_large_a_model_is() {
    for (name, parameters) in [
        ("/models/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", Some(1_500_000_000)),
        ("qwen2.5-coder:0.5b", Some(500_000_000)),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", Some(30_000_000_000)),
        ("mixtral-8x7b", Some(56_000_000_000)),
        ("SmolLM2-360M", Some(360_000_000)),
        ("gpt-5.1", None),
        ("coder", None),
        ("x9999999999999999b", None),
        ("b", None),
    ] {
        assert_eq!(parameters_in(name), parameters, "{name}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_and_nothing_is_invented(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "```", "````", "~~~", "\n", "\r\n", "a.py", "b.md", "# ", "python", " ", "é", "<think>", "</think>",
                "x = 1", ".", ":", "\n\n",
            ]),
            0..60,
        ),
        was_cut: bool,
    ) {
        let reply = parts.concat();
        let written = read_files(&reply, was_cut);
        for file in &written.files {
            prop_assert!(reply.contains(&file.path));
            for line in file.content.lines() {
                prop_assert!(reply.contains(line));
            }
        }
        let mut paths: Vec<_> = written.files.iter().map(|file| &file.path).collect();
        paths.sort();
        paths.dedup();
        prop_assert_eq!(paths.len(), written.files.len());
    }

    #[test]
    fn what_is_shown_is_read_back(content in "([a-z `~#]{0,12}\n){1,12}") {
        let fence = fence_for(&content);
        let reply = format!("src/a.txt\n{fence}txt\n{content}{fence}\n");
        prop_assert_eq!(files(&reply), file("src/a.txt", &content));
    }
}

#[tokio::test]
async fn a_stream_that_goes_round_in_a_circle_or_has_all_is_cut() {
    const CIRCLE: &str = "a.py\n```python\nx = 2\n```\n\na.py\n```python\nx = 2\n```\n\na.py\n```python\nx = 3\n```\n";
    const ONLY: &str = "a.py\n```python\nx = 2\n```\n\nb.py\n```python\ny = 2\n```\n";
    for (others, streamed, length) in [(true, CIRCLE, 51), (false, ONLY, 25), (true, ONLY, ONLY.len())] {
        let mut setup = setup([Turn::Streamed(streamed)]);
        setup.brief.instruction = "Set x in a.py to 2.".into();
        std::fs::remove_file(setup.path().join("a.txt")).unwrap();
        std::fs::write(setup.path().join("a.py"), "x = 1\n").unwrap();
        if others {
            std::fs::write(setup.path().join("c.py"), "z = 1\n").unwrap();
        }
        let mut agent = setup.agent();
        assert!(is_finish(&agent.run().await.unwrap()));
        assert_eq!(setup.file("a.py"), "x = 2\n");
        let log = setup.log.lock().unwrap();
        let said = log.iter().find_map(|event| match event {
            Event::Reply { reply, .. } => reply["content"].as_str().map(str::to_owned),
            _ => None,
        });
        assert_eq!(said.unwrap().len(), length, "{streamed}");
    }
}

#[tokio::test]
async fn the_first_message_says_what_fits_the_task() {
    for (instruction, is_for_tests) in [("Create sum.py and a test.", true), ("Set x in a.py to 2.", false)] {
        let mut setup = setup([]);
        setup.brief.instruction = instruction.into();
        for number in 0..400 {
            std::fs::write(setup.path().join(format!("some_module_{number}.txt")), "word ".repeat(40)).unwrap();
        }
        drop(setup.agent());
        let log = setup.log.lock().unwrap();
        let messages: Vec<String> = log
            .iter()
            .filter_map(|event| match event {
                Event::Message { message } => message["content"].as_str().map(str::to_owned),
                _ => None,
            })
            .collect();
        let [system, first] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!(system.contains("takes one input and returns"), is_for_tests, "{system}");
        assert_eq!(first.contains("There are no tests yet"), is_for_tests, "{first}");
        // It has no tools to see more with.
        assert!(first.contains(" more files)") && !first.contains("with list and search"), "{first}");
        assert!(first.contains(&format!("The task is, once more: A task: {instruction}")), "{first}");
    }
}

fn setup(turns: impl IntoIterator<Item = Turn>) -> Setup {
    let mut setup = Setup::new(turns);
    setup.brief.protocol = ProtocolChoice::WholeFile;
    setup
}

fn cut(content: &str) -> Turn {
    Turn::Reply(Reply { content: content.into(), finish_reason: "length".into(), ..says_nothing() })
}

const THREE: &str = "I change it.\n\na.txt\n```\none\nthree\n```";

fn is_finish(pause: &Pause) -> bool {
    matches!(pause, Pause::Finish { no_change_needed: false, .. })
}

#[tokio::test]
async fn files_that_change_anything_end_the_turn() {
    let setup = setup([says(THREE)]);
    let (pause, report) = setup.run().await;
    assert!(is_finish(&pause.unwrap()));
    assert_eq!(setup.file("a.txt"), "one\nthree\n");
    assert_eq!((report.steps, report.written_paths.len()), (1, 1));
    assert_eq!(report.plan.as_deref(), Some("I change it.\n\na.txt"));
    let requests = setup.model.requests.lock().unwrap();
    let [(messages, most_tokens)] = &requests[..] else { panic!("one request") };
    assert!(*most_tokens < 2_000, "bounded by what there is to write");
    let Message::User { content } = &messages[1] else { panic!("the task") };
    assert!(content.contains("a.txt\n```txt\none\ntwo\n```\n"), "{content}");
}

#[tokio::test]
async fn a_rejected_change_is_tried_anew_on_the_files_as_they_were_and_then_repaired() {
    let both = "a.txt\n```\nfour\n```\nnew.txt\n```\nnew\n```";
    let setup = setup([says(both), says(THREE), says("a.txt\n```\nfive\n```")]);
    std::fs::write(setup.path().join("a.txt"), "one\r\ntwo\r\n").unwrap();
    let mut agent = setup.agent();
    assert!(is_finish(&agent.run().await.unwrap()));
    assert_eq!(setup.file("a.txt"), "four\r\n");
    agent.reject("The tests fail: 1 != 2").unwrap();
    assert_eq!(setup.file("a.txt"), "one\r\ntwo\r\n", "as it was, byte for byte");
    assert!(!setup.path().join("new.txt").exists());
    assert!(agent.report().written_paths.is_empty());
    assert!(is_finish(&agent.run().await.unwrap()));
    agent.reject("The tests fail: 3 != 4").unwrap();
    assert_eq!(setup.file("a.txt"), "one\r\nthree\r\n", "what is to be repaired stays");
    assert!(is_finish(&agent.run().await.unwrap()));
    setup.assert_used();
    let requests = setup.model.requests.lock().unwrap();
    let lengths: Vec<usize> = requests.iter().map(|(messages, _)| messages.len()).collect();
    assert_eq!(lengths, [2, 2, 4], "a new conversation, then a longer one");
    let Message::User { content: anew } = &requests[1].0[1] else { panic!("the task") };
    let Message::User { content: first } = &requests[0].0[1] else { panic!("the task") };
    assert!(anew.starts_with(first.trim_end()) && anew.contains("1 != 2"), "{anew}");
    assert!(
        anew.contains("a.txt\n- one\n- two\n+ four\n") && anew.contains("new.txt\n+ new"),
        "what was tried: {anew}"
    );
    assert!(!anew.contains("Of tests that you add"), "the task asks for none: {anew}");
    let Message::User { content: repair } = &requests[2].0[3] else { panic!("the feedback") };
    assert!(repair.contains("3 != 4") && repair.contains("Change two to three."), "{repair}");
}

#[tokio::test]
async fn paths_outside_and_gits_data_are_refused_and_nothing_is_written() {
    for name in ["../x.txt", "/etc/patchwright-test.txt", ".git/config.txt", "sub/.GIT/hooks.sh", "link/x.txt"] {
        let setup = setup([says(&format!("`{name}`\n```\nbad\n```")), says(THREE)]);
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), setup.path().join("link")).unwrap();
        let (pause, _) = setup.run().await;
        assert!(is_finish(&pause.unwrap()));
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        let mut left: Vec<_> =
            std::fs::read_dir(setup.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.txt", "link"]);
        assert!(setup.told()[0].contains("Error:"), "{:?}", setup.told());
    }
}

#[tokio::test]
async fn a_reply_that_was_cut_never_leaves_half_a_file() {
    let setup = setup([cut("a.txt\n```\none\n"), cut("new.txt\n```\nnew\n```\na.txt\n```\none\nth"), says(THREE)]);
    let (pause, _) = setup.run().await;
    assert!(is_finish(&pause.unwrap()));
    assert_eq!((setup.file("a.txt"), setup.file("new.txt")), ("one\nthree\n".into(), "new\n".into()));
    assert!(setup.told().iter().all(|text| text.contains("cut off inside of a.txt")), "{:?}", setup.told());
}

#[tokio::test]
async fn line_ends_of_a_file_are_kept() {
    let setup = setup([says(THREE)]);
    std::fs::write(setup.path().join("a.txt"), "one\r\ntwo\r\n").unwrap();
    let (pause, _) = setup.run().await;
    assert!(is_finish(&pause.unwrap()));
    assert_eq!(setup.file("a.txt"), "one\r\nthree\r\n");
}

#[tokio::test]
async fn a_file_that_was_not_shown_is_shown_instead_of_overwritten() {
    let setup = setup([says("big.txt\n```\nshort\n```"), says("big.txt\n```\nshorter\n```")]);
    let big = "0123456789\n".repeat(800);
    std::fs::write(setup.path().join("big.txt"), &big).unwrap();
    let mut agent = setup.agent();
    assert!(is_finish(&agent.run().await.unwrap()));
    let told = setup.told();
    assert!(told[0].contains("`big.txt` exists already") && told[0].contains("0123456789\n"), "{told:?}");
    assert_eq!(setup.file("big.txt"), "shorter\n", "it has been seen by then");
}

#[tokio::test]
async fn lines_left_out_and_empty_blocks_change_nothing() {
    let setup = setup([says("a.txt\n```\n# ... existing code ...\nthree\n```"), says("a.txt\n```\n```"), says(THREE)]);
    let (pause, _) = setup.run().await;
    assert!(is_finish(&pause.unwrap()));
    let asked = setup.asked();
    assert!(asked[1].contains("left out") && asked[2].contains("its block is empty"), "{asked:?}");
}

#[tokio::test]
async fn a_file_that_leaves_out_lines_is_asked_about_once() {
    const LONG: &str = "one\ntwo\n\nthree\nfour\n";
    let whole = "b.txt\n```\nOne\ntwo\n\nthree\nfour\n```";
    let short = "b.txt\n```\nOne\ntwo\n```";
    for (task, replies, asked, content) in [
        ("Change one to One in b.txt", vec![says(short), says(whole)], true, "One\ntwo\n\nthree\nfour\n"),
        ("Change one to One in b.txt", vec![says(short), says(short)], true, "One\ntwo\n"),
        ("Change one to One in b.txt and delete the rest", vec![says(short)], false, "One\ntwo\n"),
    ] {
        let mut setup = setup(replies);
        std::fs::write(setup.path().join("b.txt"), LONG).unwrap();
        setup.brief.instruction = task.into();
        let (pause, _) = setup.run().await;
        assert!(is_finish(&pause.unwrap()));
        assert_eq!(setup.file("b.txt"), content);
        assert_eq!(setup.told().concat().contains("leaves out these lines"), asked, "{:?}", setup.told());
    }
}

#[tokio::test]
async fn a_block_without_a_path_is_the_one_file_that_the_task_names() {
    let mut setup = setup([says("Here:\n```\none\nthree\n```")]);
    setup.brief.instruction = "Change two to three in a.txt".into();
    let (pause, _) = setup.run().await;
    assert!(is_finish(&pause.unwrap()));
    assert_eq!(setup.file("a.txt"), "one\nthree\n");
}

#[tokio::test]
async fn replies_without_a_change_end_the_run() {
    let same = "a.txt\n```\none\ntwo\n```";
    let setup = setup([says("I would change it."), says(same), says("```\nno path\n```")]);
    let (pause, _) = setup.run().await;
    let Pause::Stopped(StopReason::Stuck { reason, .. }) = pause.unwrap() else { panic!("stuck") };
    assert!(reason.contains("no file that changes anything"), "{reason}");
    assert_eq!(setup.file("a.txt"), "one\ntwo\n");
    let asked = setup.asked();
    assert!(asked[1].contains("has no file"), "{asked:?}");
    assert!(asked[2].starts_with(asked[0].trim_end()) && asked[2].contains("read so already"), "anew: {asked:?}");
}

#[tokio::test]
async fn a_task_that_asks_for_a_test_is_reminded_of_it_once() {
    let mut setup = setup([says("sum.py\n```\nx = 1\n```"), says("test_sum.py\n```\nimport sum\n```")]);
    setup.brief.instruction = "Create sum.py with a function and a test.".into();
    let (pause, report) = setup.run().await;
    assert!(is_finish(&pause.unwrap()));
    assert_eq!(report.written_paths, ["sum.py", "test_sum.py"]);
    assert!(setup.told()[0].contains("none is a test file"), "{:?}", setup.told());
}

#[tokio::test]
async fn a_name_that_the_tests_did_not_find_is_found_for_the_model() {
    let both = "sum.py\n```\ndef sum_up(n):\n    return n\n```\ntest_sum.py\n```\nsum_up(1)\n```";
    let setup = setup([says(both), says(both), says("test_sum.py\n```\nfrom sum import sum_up\nsum_up(1)\n```")]);
    let mut agent = setup.agent();
    assert!(is_finish(&agent.run().await.unwrap()));
    agent.reject("NameError: name 'sum_up' is not defined").unwrap();
    assert!(is_finish(&agent.run().await.unwrap()));
    setup.assert_used();
    let asked = setup.asked();
    let hint = "`sum_up` is defined in sum.py. The file that uses it must import it from there, with this line at its \
                top: `from sum import sum_up`.";
    assert!(asked[1..].iter().all(|text| text.contains(hint)), "{asked:#?}");
}

#[tokio::test]
async fn a_change_that_was_rejected_is_rejected_again_at_once() {
    let spaced = "a.txt\n```\none\n\nthree  \n```";
    let setup = setup([says(THREE), says(spaced), says("a.txt\n```\nfive\n```")]);
    let mut agent = setup.agent();
    assert!(agent.knows_its_answers());
    assert!(is_finish(&agent.run().await.unwrap()));
    agent.reject("The tests fail: 3 != 5").unwrap();
    assert!(is_finish(&agent.run().await.unwrap()));
    setup.assert_used();
    assert_eq!(setup.file("a.txt"), "five\n");
    let asked = setup.asked();
    assert!(asked[1].contains("thrown away") && asked[1].contains("3 != 5"), "{}", asked[1]);
    assert!(asked[2].contains("3 != 5") && asked[2].contains("Follow the failing input"), "the next way: {}", asked[2]);
}

#[tokio::test]
async fn the_same_rejected_change_again_and_again_ends_the_run() {
    let setup = setup([says(THREE), says(THREE), says(THREE), says(THREE)]);
    let mut agent = setup.agent();
    assert!(is_finish(&agent.run().await.unwrap()));
    agent.reject("The tests fail: 3 != 5").unwrap();
    let Pause::Stopped(StopReason::Stuck { reason, .. }) = agent.run().await.unwrap() else { panic!("stuck") };
    assert!(reason.contains("3 replies in a row made changes that had been rejected"), "{reason}");
    setup.assert_used();
}

#[tokio::test]
async fn files_that_are_put_back_by_hand_are_no_change() {
    let setup = setup([
        says(THREE),
        says("a.txt\n```\nfour\n```"),
        says("a.txt\n```\none\ntwo\n```"),
        says("a.txt\n```\n5\n```"),
    ]);
    let mut agent = setup.agent();
    for _ in 0..2 {
        assert!(is_finish(&agent.run().await.unwrap()));
        agent.reject("The tests fail: 3 != 5").unwrap();
    }
    assert!(is_finish(&agent.run().await.unwrap()));
    setup.assert_used();
    assert_eq!(setup.file("a.txt"), "5\n");
}
