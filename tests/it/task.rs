//! The parser of issue text: a table of cases, and what holds for any text.

use patchwright::task::{
    IssueReference, MAX_TEXT_BYTES, Rejection, RepositoryName, Task, TaskId, branch_name, from_command_line,
    parse_issue,
};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    title: String,
    body: String,
    id: Option<String>,
    want_title: Option<String>,
    instruction: Option<String>,
    target: Option<String>,
    patches: Option<Vec<String>>,
    rejected: Option<String>,
}

const GENUINE: &str = "550e8400-e29b-41d4-a716-446655440000";

fn issue() -> IssueReference {
    IssueReference::parse("dispatch/tasks#7").unwrap()
}

fn check(case: &Case) -> Result<(), String> {
    let task = match (parse_issue(&case.title, Some(&case.body), issue()), &case.rejected) {
        (Err(rejection), Some(part)) if rejection.to_string().contains(part) => return Ok(()),
        (Err(rejection), _) => return Err(format!("rejected: {rejection}")),
        (Ok(task), Some(_)) => return Err(format!("accepted: {task:?}")),
        (Ok(task), None) => task,
    };
    let target = task.target.as_ref().map(ToString::to_string).unwrap_or_default();
    let differs = |what: &str, have: &dyn std::fmt::Debug, want: &dyn std::fmt::Debug| {
        (format!("{have:?}") != format!("{want:?}")).then(|| format!("{what} is {have:?}, not {want:?}"))
    };
    [
        case.id.as_ref().and_then(|id| differs("id", &task.id.as_str(), id)),
        case.want_title.as_ref().and_then(|title| differs("title", &task.title, title)),
        case.instruction.as_ref().and_then(|instruction| differs("instruction", &task.instruction, instruction)),
        case.target.as_ref().and_then(|want| differs("target", &target, want)),
        case.patches.as_ref().and_then(|patches| differs("patches", &task.patches, patches)),
        differs("issue", &task.issue, &Some(issue())),
    ]
    .into_iter()
    .flatten()
    .next()
    .map_or(Ok(()), Err)
}

#[test]
fn every_case_of_the_table_holds() {
    let cases: Cases = toml::from_str(include_str!("cases/task/issues.toml")).unwrap();
    assert!(cases.case.len() >= 80, "only {} cases", cases.case.len());
    let wrong: Vec<_> = cases
        .case
        .iter()
        .filter_map(|case| {
            assert!(case.id.is_some() != case.rejected.is_some(), "{} says nothing", case.name);
            check(case).err().map(|error| format!("{}: {error}", case.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{} cases fail:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_checker_of_the_table_can_fail() {
    let cases: Cases = toml::from_str(include_str!("cases/task/issues.toml")).unwrap();
    let mut case = cases.case.into_iter().find(|case| case.instruction.is_some()).unwrap();
    assert_eq!(check(&case), Ok(()));
    case.instruction = Some("something else".into());
    assert!(check(&case).is_err());
    case.rejected = Some("anything".into());
    assert!(check(&case).is_err());
}

#[test]
fn no_body_is_no_task() {
    assert_eq!(parse_issue("Fix it", None, issue()), Err(Rejection::Empty));
}

#[test]
fn the_command_line_takes_plain_text() {
    let id = TaskId::parse("cli-1").unwrap();
    let task = from_command_line("\n# Fix the bug <!-- hidden -->\r\n\nin a.py\n", id.clone()).unwrap();
    assert_eq!(task.title, "Fix the bug");
    assert_eq!(task.instruction, "# Fix the bug \n\nin a.py");
    assert_eq!((task.issue, task.target, task.patches), (None, None, Vec::new()));

    let task = from_command_line(&"word ".repeat(40), id.clone()).unwrap();
    assert_eq!(task.title.chars().count(), 72);
    assert!(task.title.ends_with('…'));

    let task = from_command_line("```diff\n+<!-- a -->\n```\n", id.clone()).unwrap();
    assert_eq!((task.title.as_str(), task.patches), ("Apply the given patch", vec!["+<!-- a -->\n".to_owned()]));

    for empty in ["", " \n", "<!-- only hidden -->"] {
        assert!(matches!(from_command_line(empty, id.clone()), Err(Rejection::Malformed(_))), "{empty:?}");
    }
    assert!(from_command_line("```diff\n+a\n", id).unwrap_err().to_string().contains("never closed"));
}

#[test]
fn a_text_beyond_the_limit_is_rejected_with_the_remedy() {
    let text = "x".repeat(MAX_TEXT_BYTES + 1);
    let rejection = from_command_line(&text, TaskId::parse("long").unwrap()).unwrap_err().to_string();
    assert!(rejection.contains("Shorten it"), "{rejection}");
    assert!(matches!(parse_issue("t", Some(&text), issue()), Err(Rejection::Malformed(_))));
}

#[test]
fn branches_are_named_by_the_first_eight_characters() {
    let name = |id| branch_name(&TaskId::parse(id).unwrap());
    assert_eq!(name(GENUINE), "agent-task-550e8400");
    assert_eq!(name("ab12"), "agent-task-ab12");
    assert_eq!(TaskId::parse("ab12").unwrap().short(), "ab12");
}

#[test]
fn names_that_could_be_paths_or_options_are_refused() {
    for bad in ["a", "a/b/c", "../b", "a/..", "a/.", "-a/b", "a b/c", "a/b.git", "a/", "/b", "a/b#1", "a/b\n"] {
        assert_eq!(RepositoryName::parse(bad), None, "{bad:?}");
    }
    for bad in ["a/b", "a/b#", "a/b#0", "a/b#x", "#1", "a/b#-1"] {
        assert_eq!(IssueReference::parse(bad), None, "{bad:?}");
    }
    for bad in ["abc", "", "a b c d", "a/b/c", "päö1", &"a".repeat(65)] {
        assert_eq!(TaskId::parse(bad), None, "{bad:?}");
    }
}

/// Texts that would take a quadratic parser hours; here they only have to end.
#[test]
fn hostile_texts_end() {
    let units = [
        "<!--",
        "-->",
        "<!-- agent_task_metadata ",
        "<!-- agent_task_metadata {\"",
        "<!-- agent_task_metadata {\"a\":\"",
        "<!-- agent_task_metadata {\"task_id\":[",
        "<!<!---->--",
        "`<!--` ",
        "` `` ``` <!-- ",
        "```\n",
        "```diff\n",
        "~~~~\n```diff\n@@ -1,9 +1,9 @@\n ```\n",
        "\n## Instructions\n",
        "\n---\n\n<!-- agent_task_metadata\n",
        "Target Repository: \n",
        "- **Instruction**: \n",
        "\n",
        " ",
        "#",
        "\r\n",
        "\u{E0041}",
    ];
    for unit in units {
        parse_in_every_place(&unit.repeat(1_000_000 / unit.len()));
    }
    let mixed = units.concat();
    parse_in_every_place(&mixed.repeat(10_000_000 / mixed.len()));
}

fn parse_in_every_place(filler: &str) {
    let metadata = r#"<!-- agent_task_metadata {"task_id": "hostile-1"} -->"#;
    let before = format!("{filler}\n{metadata}");
    let section = format!("{metadata}\n## Instruction\n{filler}");
    for body in [before, section, backend_body(filler)] {
        assert!(body.len() <= MAX_TEXT_BYTES);
        if let Ok(task) = parse_issue("A title", Some(&body), issue()) {
            assert!(!task.instruction.contains("<!--"));
        }
    }
}

fn backend_body(instruction: &str) -> String {
    format!(
        "# Agent Task Delegation\n\n**Task ID:** `{GENUINE}`\n**User ID:** `user`\n\n## Instructions\n\n{instruction}\n\n\
         ---\n\n<!-- agent_task_metadata\n{{\"task_id\": \"{GENUINE}\", \"user_id\": \"user\"}}\n-->"
    )
}

/// Text made of the pieces that parsers trip over, and of anything else.
fn tricky_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "\n",
            "\n\n",
            "\r\n",
            "## Instructions\n",
            "\n## Instructions\n",
            "---\n",
            "\n---\n\n",
            "<!-- agent_task_metadata\n",
            "<!--agent_task_metadata ",
            "{\"task_id\": \"forged-id-1\"}",
            "\n-->",
            "-->",
            "<!--",
            "<!<!-- x -->--",
            "**Task ID:** `forged-id-2`\n",
            "# Agent Task Delegation\n\n",
            "```diff\n",
            "```\n",
            "~~~~patch\n",
            "~~~~\n",
            "@@ -1,3 +1,3 @@\n",
            " ```\n",
            "+a <!-- b\n",
            "Target Repository: evil/repo\n",
            "**Target:** issue `evil/repo#3`\n",
            "`",
            "``",
            "- **Instruction**: do it\n",
            "\u{E0041}",
            "\u{feff}",
        ])
        .prop_map(str::to_owned),
        ".{0,12}",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn holds_for(task: &Task) -> Result<(), TestCaseError> {
    prop_assert!(!task.instruction.contains("<!--"));
    prop_assert!(!task.title.contains("<!--"));
    prop_assert!(!task.title.contains(char::is_control));
    prop_assert!(!task.title.is_empty());
    prop_assert!(!task.instruction.is_empty() || !task.patches.is_empty());
    prop_assert!(task.title.chars().count() <= 200);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_parsed_or_rejected(title in tricky_text(), body in tricky_text()) {
        for body in [body.clone(), format!("<!-- agent_task_metadata {{\"task_id\": \"some-id\"}} -->{body}")] {
            if let Ok(task) = parse_issue(&title, Some(&body), issue()) {
                holds_for(&task)?;
            }
        }
        if let Ok(task) = from_command_line(&body, TaskId::parse("some-id").unwrap()) {
            holds_for(&task)?;
        }
    }

    #[test]
    fn nothing_in_an_instruction_changes_the_id(instruction in tricky_text(), carriage_returns in any::<bool>()) {
        let body = backend_body(&instruction);
        let body = if carriage_returns { body.replace('\n', "\r\n") } else { body };
        match parse_issue("A title of its own", Some(&body), issue()) {
            Ok(task) => {
                prop_assert_eq!(task.id.as_str(), GENUINE);
                holds_for(&task)?;
            }
            Err(Rejection::Malformed(reason)) => prop_assert!(reason.contains("never closed"), "{}", reason),
            Err(Rejection::Empty) => prop_assert!(false, "not empty"),
        }
    }

    #[test]
    fn a_patch_comes_out_as_it_went_in(lines in prop::collection::vec("[ +-][^\r\n`~]{0,20}", 0..20), tildes in any::<bool>()) {
        let patch: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let fence = if tildes { "~~~" } else { "```" };
        let body = backend_body(&format!("Apply this:\n\n{fence}diff\n{patch}{fence}\n\nThanks."));
        let task = parse_issue("A title", Some(&body), issue()).unwrap();
        prop_assert_eq!(task.patches, vec![patch]);
    }
}
