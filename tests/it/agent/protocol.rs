//! Reading a call out of text: `agent::protocol`.

use patchwright::agent::protocol::{Said, TextCall, read_text, without_thinking};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// `name arguments`, with `!` for a repaired call; `broken` or `nothing`.
fn read(text: &str) -> String {
    match read_text(text) {
        Said::Call(TextCall { name, arguments, repaired, .. }) => {
            let mark = if repaired { "!" } else { "" };
            format!("{mark}{name} {}", Value::Object(arguments))
        }
        Said::Broken { .. } => "broken".into(),
        Said::Nothing => "nothing".into(),
    }
}

#[test]
fn each_shape_is_read() {
    let expected = r#"read {"path":"a.txt"}"#;
    for text in [
        r#"{"name": "read", "arguments": {"path": "a.txt"}}"#,
        r#"{"name": "read", "parameters": {"path": "a.txt"}}"#,
        r#"{"name": "read", "arguments": "{\"path\": \"a.txt\"}"}"#,
        r#"{"type": "function", "function": {"name": "read", "arguments": {"path": "a.txt"}}}"#,
        r#"{"tool_calls": [{"name": "read", "arguments": {"path": "a.txt"}}]}"#,
        r#"[{"name": "read", "arguments": {"path": "a.txt"}}]"#,
        "```json\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}\n```",
        "~~~\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
        "I will look.\n\n  ```\n  {\"name\": \"read\",\n \"arguments\": {\"path\": \"a.txt\"}}\n  ```\nDone.",
        "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}\n</tool_call>",
        "<tools>{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}</tools>",
        "Sure: <tool_call>{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
        "{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}}",
        "<think>{\"name\": \"run\", \"arguments\": {}}</think>{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
        "so I need to read</think>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
        "{\"some\": \"data\"}\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
        "{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}\n{\"name\": \"list\", \"arguments\": {}}",
        "{broken\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
    ] {
        assert_eq!(read(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_call_is_not_taken_for_one() {
    for text in [
        "",
        "I will read the file.",
        "{}",
        "[]",
        "{\"name\": \"x\"}",
        "{\"name\": 5, \"arguments\": {}}",
        "{\"name\": \"x\", \"arguments\": [1]}",
        "```python\nprint({'name': 'read'})\n```",
        "inline {\"name\": \"read\", \"arguments\": {}} is prose",
        "<think>{\"name\": \"read\", \"arguments\": {}}",
    ] {
        assert_eq!(read(text), "nothing", "{text}");
    }
}

#[test]
fn repairs_are_few_and_marked() {
    assert_eq!(
        read("{\"name\": \"plan\", \"arguments\": {\"steps\": [\"a\nb\tc\",],}}"),
        r#"!plan {"steps":["a\nb\tc"]}"#
    );
    assert_eq!(
        read("```json\n{\"name\": \"write\", \"arguments\": {\"path\": \"a\", \"content\": \"x\ny\"}}\n```\ntext"),
        r#"!write {"path":"a","content":"x\ny"}"#
    );
    for broken in [
        r#"{"name": "run", "arguments": {"command": "grep "foo" bar"}}"#,
        r#"{"name": "run", "arguments": {"command": "ls"}"#,
        r#"{"name": "run", "arguments": {'command': 'ls'}}"#,
        r#"{"name": "run", "arguments": {"command": "\d"}}"#,
    ] {
        assert_eq!(read(broken), "broken", "{broken}");
    }
}

#[test]
fn prose_stands_apart_from_the_call() {
    let text = "<think>hm</think>First I look.\n```json\n{\"name\": \"list\", \"arguments\": {}}\n```\nThen I act.";
    let Said::Call(call) = read_text(text) else { panic!("no call") };
    assert_eq!(call.prose, "First I look.\nThen I act.");
    assert_eq!(without_thinking("<think>a</think> <think>b</think> c"), "c");
    assert_eq!(without_thinking("a <think> in the middle"), "a <think> in the middle");
}

fn any_arguments() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~\n\t`<>{}\"\\\\]{0,40}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::from));
    prop::collection::btree_map("[a-z_]{1,8}", value, 0..4).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #[test]
    fn a_call_says_what_was_written(
        arguments in any_arguments(),
        name in "[a-z_]{1,10}",
        pretty: bool,
        shape in 0..5usize,
    ) {
        let value = json!({ "name": name, "arguments": arguments });
        let written = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let text = match shape {
            0 => written,
            1 => format!("Let me see.\n```json\n{written}\n```\n"),
            2 => format!("<tool_call>\n{written}\n</tool_call>"),
            3 => format!("<tools>{written}</tools> and so on"),
            _ => format!("<think>{{\"name\": \"x\"</think>\n\n{written}"),
        };
        let Said::Call(call) = read_text(&text) else { panic!("no call in {text}") };
        prop_assert_eq!(call.name, name);
        prop_assert_eq!(call.arguments, arguments);
        prop_assert!(!call.repaired);
    }

    #[test]
    fn line_ends_in_texts_are_repaired_to_what_was_meant(content in "[ -!#-\\[\\]-~\n\t]{0,60}") {
        let text = format!("{{\"name\": \"plan\", \"arguments\": {{\"steps\": \"{content}\",}}}}");
        let Said::Call(call) = read_text(&text) else { panic!("no call in {text}") };
        prop_assert!(call.repaired);
        prop_assert_eq!(&call.arguments["steps"], &Value::from(content));
    }

    #[test]
    fn nothing_makes_it_panic(text in "(\\PC|[\n\t{}\\[\\]\",:`~<>/\\\\]|<think>|</think>|<tool_call>|\"name\"|\"arguments\"){0,60}") {
        read_text(&text);
    }
}
