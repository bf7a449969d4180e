//! Reading what models say: `agent::protocol`.

use patchwright::agent::protocol::json_call::arguments_of;
use patchwright::agent::protocol::{
    Protocol, ProtocolChoice, Said, TextCall, fenced, read_text, schema, without_repeated, without_thinking,
};
use patchwright::agent::tools;
use patchwright::model::{Abilities, Ability, ModelCard};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Each call as `name arguments`, with `!` for a repaired one; then `broken`. `nothing` if there is neither.
fn read(text: &str) -> String {
    shown(read_text(text))
}

fn shown(said: Said) -> String {
    let call = |TextCall { name, arguments, repaired, .. }| {
        let mark = if repaired { "!" } else { "" };
        format!("{mark}{name} {}", Value::Object(arguments))
    };
    let mut lines: Vec<String> = said.calls.into_iter().map(call).collect();
    lines.extend(said.broken.map(|_| "broken".to_owned()));
    if lines.is_empty() { "nothing".into() } else { lines.join("\n") }
}

#[test]
fn each_shape_is_read() {
    let expected = r#"read {"path":"a.txt"}"#;
    for text in [
        r#"{"name": "read", "arguments": {"path": "a.txt"}}"#,
        r#"{"name": "read", "parameters": {"path": "a.txt"}}"#,
        r#"{"name": "read", "arguments": "{\"path\": \"a.txt\"}"}"#,
        r#"{"name": "read", "arguments": "\"{\\\"path\\\": \\\"a.txt\\\"}\""}"#,
        r#"{"name": "read", "arguments": [{"path": "a.txt"}]}"#,
        r#"{"name": "read", "arguments": "a.txt"}"#,
        r#"{"tool": "read", "args": {"path": "a.txt"}}"#,
        r#"{"tool_name": "read", "tool_input": {"path": "a.txt"}}"#,
        r#"{"action": "read", "action_input": {"path": "a.txt"}}"#,
        r#"{"type": "tool_use", "id": "1", "name": "read", "input": {"path": "a.txt"}}"#,
        r#"{"function": "read", "arguments": {"path": "a.txt"}}"#,
        r#"{"name": "functions.read:0", "arguments": {"path": "a.txt"}}"#,
        r#"{"name": "read", "path": "a.txt"}"#,
        r#"{"read": {"path": "a.txt"}}"#,
        r#""{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}""#,
        r#"{"thought": "I look.", "action": {"name": "read", "arguments": {"path": "a.txt"}}}"#,
        r#"{"type": "function", "function": {"name": "read", "arguments": {"path": "a.txt"}}}"#,
        r#"{"tool_calls": [{"name": "read", "arguments": {"path": "a.txt"}}]}"#,
        r#"[{"name": "read", "arguments": {"path": "a.txt"}}]"#,
        "```json\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}\n```",
        "```json {\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}```",
        "~~~\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
        "I will look.\n\n  ```\n  {\"name\": \"read\",\n \"arguments\": {\"path\": \"a.txt\"}}\n  ```\nDone.",
        "```tool_code\nread(path=\"a.txt\")\n```",
        "```tool_code\nprint(default_api.read(path='a.txt'))\n```",
        "[read(path=\"a.txt\")]",
        "<|tool_call_start|>[read(path=\"a.txt\")]<|tool_call_end|>",
        "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}\n</tool_call>",
        "<tool_call>read\n{\"path\": \"a.txt\"}</tool_call>",
        "<tools>{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}</tools>",
        "<function_call>{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}</function_call>",
        "<|tool_call|>[{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}]",
        "<|python_tag|>{\"name\": \"read\", \"parameters\": {\"path\": \"a.txt\"}}<|eom_id|>",
        "<function=read>{\"path\": \"a.txt\"}</function>",
        "<tool_call>\n<function=read>\n<parameter=path>\na.txt\n</parameter>\n</function>\n</tool_call>",
        "I look.\n<function=read><parameter=path>a.txt</parameter></function>\n</tool_call>",
        "<function=read>\n<parameter=path>\na.txt\n</parameter>",
        "<invoke name=\"read\">\n<parameter name=\"path\">a.txt</parameter>\n</invoke>",
        "<function_calls><invoke name=\"read\"><parameter name=\"path\" string=\"true\">a.txt</parameter></invoke></function_calls>",
        "<tool_call>read\n<arg_key>path</arg_key>\n<arg_value>a.txt</arg_value>\n</tool_call>",
        "<read>\n<path>a.txt</path>\n</read>",
        "[TOOL_CALLS][{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}]",
        "[TOOL_CALLS]read[ARGS]{\"path\": \"a.txt\"}",
        "[TOOL_CALLS]read[CALL_ID]123[ARGS]{\"path\": \"a.txt\"}",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>read\n```json\n{\"path\": \"a.txt\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>read<｜tool▁sep｜>{\"path\": \"a.txt\"}<｜tool▁call▁end｜>",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.read:0<|tool_call_argument_begin|>{\"path\": \"a.txt\"}<|tool_call_end|>",
        "<|channel|>commentary to=functions.read <|constrain|>json<|message|>{\"path\": \"a.txt\"}<|call|>",
        "Sure: <tool_call>{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
        "{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}}",
        "<think>{\"name\": \"run\", \"arguments\": {}}</think>{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
        "so I need to read</think>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
        "◁think▷hm◁/think▷<tool_call>{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}</tool_call>",
        "<thought>{\"name\": \"list\", \"arguments\": {}}</thought>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
        "I think.\n<think>{\"name\": \"list\", \"arguments\": {}}\n</think>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
        "<think>I must read it. <tool_call>{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}</tool_call>",
        "{\"some\": \"data\"}\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
        "{broken\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
        "```c\nint main() {\n}\n```\n{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}",
        "<|im_start|>assistant\n<tool_call>{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}</tool_call><|im_end|>",
    ] {
        assert_eq!(read(text), expected, "{text}");
    }
}

#[test]
fn several_calls_are_taken_in_order_and_the_rest_is_not_ours() {
    let two = "read {\"path\":\"a\"}\nlist {}";
    for text in [
        "{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n{\"name\": \"list\", \"arguments\": {}}",
        "[{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}, {\"name\": \"list\", \"arguments\": {}}]",
        "<|python_tag|>{\"name\": \"read\", \"parameters\": {\"path\": \"a\"}}; {\"name\": \"list\", \"parameters\": {}}",
        "<tool_call>{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}</tool_call><tool_call>{\"name\": \"list\"}\n{\"name\": \"list\", \"arguments\": null}</tool_call>",
        "<invoke name=\"read\"><parameter name=\"path\">a</parameter></invoke>\n<invoke name=\"list\">\n</invoke>",
        "[TOOL_CALLS]read[ARGS]{\"path\": \"a\"}[TOOL_CALLS]list[ARGS]{}",
        "[read(path='a'), list()]",
        "First:\n```json\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n```\nThen:\n```json\n{\"name\": \"list\", \"arguments\": \"\"}\n```",
        "{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n{\"name\": \"list\", \"arguments\": {}}\nResult of read:\nhello\n{\"name\": \"finish\", \"arguments\": {\"summary\": \"x\"}}",
        "<tool_call>{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}</tool_call><tool_call>{\"name\": \"list\", \"arguments\": {}}</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>hello</tool_response><tool_call>{\"name\": \"finish\", \"arguments\": {}}</tool_call>",
    ] {
        assert_eq!(read(text), two, "{text}");
    }
    let said = read_text("I look.\n{\"name\": \"list\", \"arguments\": {}}\nObservation: all is well.\nDone.");
    assert_eq!(
        (said.own.as_str(), said.prose.as_str()),
        ("I look.\n{\"name\": \"list\", \"arguments\": {}}", "I look.")
    );
    let many = "{\"name\": \"list\", \"arguments\": {}}\n".repeat(100);
    assert_eq!(read_text(&many).calls.len(), 16);
    let good_then_broken = "{\"name\": \"list\", \"arguments\": {}}\n{\"name\": \"run\", \"arguments\": {\"command\": \"grep \"foo\" bar\"}}\n{\"name\": \"finish\", \"arguments\": {}}";
    assert_eq!(read(good_then_broken), "list {}\nbroken");
}

#[test]
fn what_is_no_call_is_not_taken_for_one() {
    for text in [
        "",
        "I will read the file.",
        "{}",
        "[]",
        "{\"name\": \"x\"}",
        "{\"name\": \"x\", \"version\": \"1.0.0\", \"path\": \"a\"}",
        "{\"name\": \"read\", \"version\": \"1.0.0\"}",
        "{\"name\": 5, \"arguments\": {}}",
        "{\"name\": \"x\", \"arguments\": [1]}",
        "```python\nprint({'name': 'read'})\n```",
        "```python\nread(path='a')\n```",
        "```bash\ncat > calls.json <<'EOF'\n{\"name\": \"run\", \"arguments\": {\"command\": \"true\"}}\nEOF\n```",
        "inline {\"name\": \"read\", \"arguments\": {}} is prose",
        "<think>{\"name\": \"read\", \"arguments\": {}}",
        "<think>I could say <tool_call>{\"name\": \"list\", \"arguments\": {}}</tool_call> or not",
        "{\"examples\": [\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n]}",
        "if a <b> then <list> of things",
        "<search>",
        "See [the list](list.md).",
        "[see(above)]",
        "Result of read:\nhello",
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
    assert_eq!(read("{'name': 'read', 'arguments': {'path': 'it\\'s'}}"), r#"!read {"path":"it's"}"#);
    assert_eq!(
        read("<function=write>\n<parameter=path>\na\n<parameter=content>\nx\n</parameter>\n</function>"),
        r#"!write {"path":"a","content":"x"}"#
    );
    // Python keeps an escape that it does not know.
    assert_eq!(read(r#"{"name": "search", "arguments": {"text": "\d+"}}"#), r#"!search {"text":"\\d+"}"#);
    for broken in [
        r#"{"name": "run", "arguments": {"command": "grep "foo" bar"}}"#,
        r#"{"name": "run", "arguments": {"command": "ls"}"#,
        r#"{"name": "run", "arguments": {command: ls}}"#,
        "<function=write>\n<parameter=path>\na\n</parameter>\n<parameter=content>\nhalf of the",
        "<tool_call>write\n<arg_key>content</arg_key>\n<arg_value>half",
        "[TOOL_CALLS]run[ARGS]{\"command\": \"l",
    ] {
        assert_eq!(read(broken), "broken", "{broken}");
    }
}

#[test]
fn a_value_may_hold_what_ends_values() {
    let text = "<function=write>\n<parameter=path>\na.md\n</parameter>\n<parameter=content>\nUse </parameter> and\n<function=x> here.\n\n</parameter>\n</function>";
    assert_eq!(read(text), r#"write {"path":"a.md","content":"Use </parameter> and\n<function=x> here.\n"}"#);
    let text = "<tool_call>{\"name\": \"write\", \"arguments\": {\"path\": \"a\", \"content\": \"</tool_call> </think> <tool_call>\"}}</tool_call>";
    assert_eq!(read(text), r#"write {"path":"a","content":"</tool_call> </think> <tool_call>"}"#);
}

#[test]
fn prose_stands_apart_from_the_call() {
    let text = "<think>hm</think>First I look.\n```json\n{\"name\": \"list\", \"arguments\": {}}\n```\nThen I act.";
    assert_eq!(read_text(text).prose, "First I look.\nThen I act.");
    assert_eq!(without_thinking("<think>a</think> <think>b</think> c"), "c");
    assert_eq!(without_thinking("a <think> in the middle"), "a <think> in the middle");
    assert_eq!(without_repeated("I think so.\n\nYes.", "I think so."), "\n\nYes.");
    assert_eq!(without_repeated("Yes.", " "), "Yes.");
}

#[test]
fn arguments_are_an_object_however_often_they_were_put_into_a_text() {
    for text in [r#"{"path": "a"}"#, r#""{\"path\": \"a\"}""#, r#"[{"path": "a"}]"#, r#""a""#] {
        assert_eq!(Value::Object(arguments_of("read", text).unwrap()), json!({ "path": "a" }), "{text}");
    }
    assert_eq!(arguments_of("list", " "), Ok(Map::new()));
    assert_eq!(arguments_of("list", "null"), Ok(Map::new()));
    assert!(arguments_of("read", "{\"path\": \"a").unwrap_err().contains("They end in the middle"));
    assert!(arguments_of("write", "\"a\"").unwrap_err().contains("no JSON object"));
    assert!(arguments_of("run", "ls -la").is_err());
}

fn in_fences(text: &str) -> String {
    shown(fenced::read(text, false))
}

#[test]
fn fenced_blocks_are_commands_edits_and_files() {
    let run = r#"run {"command":"ls -la\ncat a"}"#;
    for text in [
        "I look.\n\n```bash\nls -la\ncat a\n```\n",
        "```sh\nls -la\ncat a\n```",
        "```console\n$ ls -la\ntotal 4\n$ cat a\n```",
        "```bash\n$ ls -la\n$ cat a\n```",
        "<think>```bash\nrm -r .\n```</think>\n~~~shell\nls -la\ncat a\n~~~~",
        "```bash\nls -la\ncat a",
        "```python\nprint('an example')\n```\nSo:\n```bash\nls -la\ncat a\n```\n\nResult of run:\nall is well\n```bash\nrm a\n```",
    ] {
        assert_eq!(in_fences(text), run, "{text}");
    }
    let piece = "<<<<<<< SEARCH\none\n=======\n```\ntwo\n>>>>>>> REPLACE\n";
    let patch = json!({ "text": piece, "path": "src/a.md" });
    for text in [
        format!("```edit src/a.md\n{piece}```"),
        format!("src/a.md\n```\n{piece}```"),
        format!("**`src/a.md`**:\n\n````markdown\n{piece}````"),
    ] {
        assert_eq!(in_fences(&text), format!("patch {patch}"), "{text}");
    }
    assert_eq!(
        in_fences("```diff\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n```"),
        r#"patch {"text":"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"}"#
    );
    assert_eq!(
        in_fences(&format!("```edit\nsrc/a.md\n{piece}```")),
        format!("patch {}", json!({ "text": format!("src/a.md\n{piece}") }))
    );
    assert_eq!(
        in_fences("x.py\n```diff\n@@ -1 +1 @@\n-a\n+b\n```"),
        r#"patch {"text":"@@ -1 +1 @@\n-a\n+b\n","path":"x.py"}"#
    );
    assert_eq!(
        in_fences("````write docs/a.md\n```sh\nls\n```\n````"),
        r#"write {"path":"docs/a.md","content":"```sh\nls\n```\n"}"#
    );
    assert_eq!(in_fences("DONE: Two is three.\nAnd tested."), r#"finish {"summary":"Two is three.\nAnd tested."}"#);
    assert_eq!(in_fences("**DONE:** Two."), r#"finish {"summary":"Two."}"#);
    assert_eq!(
        in_fences(
            "```bash\ntrue\n```\nthen\n```edit a.py\n<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n```\nDONE: x\n```bash\nnever\n```"
        ),
        "run {\"command\":\"true\"}\npatch {\"text\":\"<<<<<<< SEARCH\\na\\n=======\\nb\\n>>>>>>> REPLACE\\n\",\"path\":\"a.py\"}\nfinish {\"summary\":\"x\"}"
    );
}

#[test]
fn a_here_document_keeps_its_fences() {
    let text = "```bash\ncat > a.md <<'EOF'\n```sh\nls\n```\nEOF\n```\n";
    assert_eq!(in_fences(text), r#"run {"command":"cat > a.md <<'EOF'\n```sh\nls\n```\nEOF"}"#);
    assert_eq!(in_fences("```bash\ncat > a.md <<EOF\nhalf\n```\n"), "broken");
    assert_eq!(in_fences("```bash\ncat > a.md <<EOF\nhalf\n  EOF\n```\n"), "broken", "the shell sees no end either");
    assert_eq!(
        in_fences("```bash\necho $((1 << 2)); grep x <<< y\n```\n"),
        r#"run {"command":"echo $((1 << 2)); grep x <<< y"}"#
    );
}

#[test]
fn blocks_that_cannot_be_meant_so_are_refused() {
    for text in [
        "```edit a.py\nprint()\n```",
        "```write\nprint()\n```",
        "```edit a.py\n<<<<<<< SEARCH\na\n=======\nb\n```",
        "```bash\n\n```",
    ] {
        assert_eq!(in_fences(text), "broken", "{text}");
    }
    assert_eq!(shown(fenced::read("```bash\nrm -rf build/cac", true)), "broken");
    assert_eq!(shown(fenced::read("```write a\nhalf", true)), "broken");
    for text in ["I am DONE with this.", "```python\nx\n```", "`bash` is fine", "DONEGAL"] {
        assert_eq!(in_fences(text), "nothing", "{text}");
    }
    // Some write calls whatever they are told.
    let call = "<tool_call>{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}</tool_call>";
    assert_eq!(shown(Protocol::Fenced.read(call, false)), r#"read {"path":"a"}"#);
}

#[test]
fn no_prompt_holds_what_could_be_acted_on() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/prompts")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let prompt = std::fs::read_to_string(&path).unwrap();
        for protocol in [Protocol::Native, Protocol::Schema, Protocol::Fenced] {
            let said = protocol.read(&prompt, false);
            assert!(said.calls.is_empty() && said.broken.is_none(), "{}: {said:?}", path.display());
        }
    }
}

#[test]
fn a_reply_that_goes_on_in_our_name_is_enough() {
    let call = "<tool_call>{\"name\": \"list\", \"arguments\": {}}</tool_call>";
    assert!(!Protocol::Native.is_enough(call));
    assert!(Protocol::Native.is_enough(&format!("{call}\n<tool_response>")));
    assert!(Protocol::Native.is_enough(&format!("{call}\nResult of list:")));
    assert!(!Protocol::Native.is_enough("Result of list: it is"));
    assert!(!Protocol::Fenced.is_enough("```bash\nls\n"));
    assert!(!Protocol::Fenced.is_enough("```bash\nls\n```"));
    assert!(Protocol::Fenced.is_enough("```bash\nls\n```\n"));
    assert!(!Protocol::Fenced.is_enough("```write a\nls\n```\n"));
    assert!(!Protocol::Fenced.is_enough("```bash\ncat <<EOF\n```\n"));
    assert!(Protocol::Schema.is_enough("{\"thought\": \"\", \"action\": {\"name\": \"list\", \"arguments\": {}}}"));
    assert!(!Protocol::Schema.is_enough("{\"thought\": \"\", \"action\": {\"name\": \"list\", \"arguments\": {}}"));
}

#[test]
fn the_schema_holds_one_action_and_no_references() {
    let tools = tools::specifications();
    let schema = schema::of_one_action(&tools);
    assert!(!schema.to_string().contains("$ref"));
    let validator = jsonschema::validator_for(&schema).unwrap();
    let action =
        |name: &str, arguments: Value| json!({ "thought": "t", "action": { "name": name, "arguments": arguments } });
    assert!(validator.is_valid(&action("read", json!({ "path": "a" }))));
    assert!(validator.is_valid(&action("plan", json!({ "steps": ["a"] }))));
    assert!(!validator.is_valid(&action("read", json!({ "path": "a", "colour": 1 }))));
    assert!(!validator.is_valid(&action("read", json!({}))));
    assert!(!validator.is_valid(&action("fly", json!({}))));
    assert!(!validator.is_valid(&json!({ "action": { "name": "list", "arguments": {} } })));
    let words = schema::in_words(&tools);
    assert!(
        words.contains("- read: ") && words.contains("path (string)") && words.contains("start (integer, optional"),
        "{words}"
    );
}

#[test]
fn the_protocol_is_the_operators_or_follows_what_was_tried() {
    let card = |name: &str, native_calls: Ability| ModelCard {
        abilities: Some(Abilities { native_calls, ..Abilities::default() }),
        ..ModelCard::named(name)
    };
    let auto = |name, native| ProtocolChoice::Auto.resolve(&card(name, native));
    assert_eq!(auto("x-70b", Ability::Yes), Protocol::Native);
    assert_eq!(auto("x-70b", Ability::Unknown), Protocol::Native);
    assert_eq!(auto("x-7b", Ability::No), Protocol::Fenced);
    // Held to a schema, where the server was seen to do so and calls do not come.
    for (native_calls, expected) in [(Ability::No, Protocol::Schema), (Ability::Unknown, Protocol::Native)] {
        let abilities = Abilities { native_calls, schema: Ability::Yes, ..Abilities::default() };
        let card = ModelCard { abilities: Some(abilities), ..ModelCard::named("x-7b") };
        assert_eq!(ProtocolChoice::Auto.resolve(&card), expected);
    }
    assert_eq!(auto("x-1.5b", Ability::Yes), Protocol::WholeFile);
    assert_eq!(ProtocolChoice::Schema.resolve(&card("x-1.5b", Ability::Yes)), Protocol::Schema);
    let written = |text: &str| {
        toml::from_str::<toml::Table>(&format!("p = \"{text}\"")).unwrap()["p"].clone().try_into::<ProtocolChoice>()
    };
    assert_eq!(written("tools"), Ok(ProtocolChoice::Native));
    assert_eq!(written("native"), Ok(ProtocolChoice::Native));
    assert_eq!(written("fenced"), Ok(ProtocolChoice::Fenced));
    let no_schema = ModelCard {
        abilities: Some(Abilities { schema: Ability::No, ..Abilities::default() }),
        ..ModelCard::named("x")
    };
    assert_eq!(Protocol::Native.instead(&no_schema), Some(Protocol::Fenced));
    assert_eq!(Protocol::Fenced.instead(&no_schema), Some(Protocol::Native));
    assert_eq!(Protocol::Fenced.instead(&ModelCard::named("x")), Some(Protocol::Schema));
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

/// Texts as arguments in tags are: they hold no tag.
fn any_texts() -> impl Strategy<Value = Map<String, Value>> {
    let text = prop_oneof!["[ -;=-~\n\t\"\\\\]{0,60}", "\\PC{0,40}"]
        .prop_map(|text: String| Value::from(text.replace('<', "")));
    prop::collection::btree_map("[a-z_]{1,8}", text, 1..4).prop_map(|map| map.into_iter().collect())
}

/// A text as Python writes it.
fn python(text: &str) -> String {
    let mut written = String::from("'");
    for letter in text.chars() {
        match letter {
            '\\' => written.push_str("\\\\"),
            '\'' => written.push_str("\\'"),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            letter => written.push(letter),
        }
    }
    written + "'"
}

proptest! {
    #[test]
    fn a_call_says_what_was_written(
        arguments in any_arguments(),
        name in "[a-z_]{1,10}",
        pretty: bool,
        shape in 0..16usize,
    ) {
        let value = json!({ "name": name, "arguments": arguments });
        let written = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let object = Value::Object(arguments.clone());
        let text = match shape {
            0 => written,
            1 => format!("Let me see.\n```json\n{written}\n```\n"),
            2 => format!("<tool_call>\n{written}\n</tool_call>"),
            3 => format!("<tools>{written}</tools> and so on"),
            4 => format!("[TOOL_CALLS][{written}]"),
            5 => format!("[TOOL_CALLS]{name}[ARGS]{object}"),
            6 => format!("<|python_tag|>{}", json!({ "name": name, "parameters": arguments })),
            7 => format!("<function={name}>{object}</function>"),
            8 => format!("<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{object}\n```<｜tool▁call▁end｜>"),
            9 => format!("<|tool_call_begin|>functions.{name}:3<|tool_call_argument_begin|>{object}<|tool_call_end|>"),
            10 => format!("<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{object}<|call|>"),
            11 => format!("<tool_call>{name}\n{object}\n</tool_call>"),
            12 => json!({ "type": "function", "function": { "name": name, "arguments": object.to_string() } }).to_string(),
            13 => json!({ "thought": "x", "action": value }).to_string(),
            14 => format!("<|tool_call|>[{written}]"),
            _ => format!("<think>{{\"name\": \"x\"</think>\n\n{written}"),
        };
        let said = read_text(&text);
        prop_assert_eq!(said.calls.len(), 1, "{}", text);
        prop_assert_eq!(&said.calls[0].name, &name);
        prop_assert_eq!(&said.calls[0].arguments, &arguments);
        prop_assert!(!said.calls[0].repaired);
    }

    #[test]
    fn texts_in_tags_are_what_was_written(arguments in any_texts(), name in "[a-z_]{1,10}", shape in 0..4usize) {
        let text_of = |value: &Value| value.as_str().unwrap().to_owned();
        let each = |form: &dyn Fn(&str, &str) -> String| -> String {
            arguments.iter().map(|(key, value)| form(key, &text_of(value))).collect()
        };
        let text = match shape {
            0 => format!("<tool_call>\n<function={name}>\n{}</function>\n</tool_call>", each(&|key, value| format!("<parameter={key}>\n{value}\n</parameter>\n"))),
            1 => format!("<invoke name=\"{name}\">\n{}</invoke>", each(&|key, value| format!("<parameter name=\"{key}\">\n{value}\n</parameter>\n"))),
            2 => format!("<tool_call>{name}\n{}</tool_call>", each(&|key, value| format!("<arg_key>{key}</arg_key>\n<arg_value>\n{value}\n</arg_value>\n"))),
            _ => {
                let pairs: Vec<String> = arguments.iter().map(|(key, value)| format!("{key}={}", python(&text_of(value)))).collect();
                format!("```tool_code\nread({})\n```", pairs.join(", "))
            }
        };
        let said = read_text(&text);
        prop_assert_eq!(said.calls.len(), 1, "{}", text);
        if shape < 3 {
            prop_assert_eq!(&said.calls[0].name, &name);
        }
        prop_assert_eq!(&said.calls[0].arguments, &arguments);
        prop_assert!(!said.calls[0].repaired);
    }

    #[test]
    fn fenced_bodies_are_what_was_written(body in "[ -~]{1,30}(\n[ -~]{0,30}){0,5}", prose in "[a-zA-Z ,.]{0,30}") {
        prop_assume!(!body.trim().is_empty() && !body.contains("```") && !body.contains("~~~"));
        prop_assume!(!body.lines().next().unwrap_or_default().starts_with("$ ") && !prose.contains("DONE"));
        prop_assume!(!body.starts_with("--- ") && !body.starts_with("@@ ") && !body.starts_with("diff ") && !body.starts_with("*** "));
        let said = fenced::read(&format!("{prose}\n```write src/a.txt\n{body}\n```\n"), false);
        prop_assert_eq!(said.calls.len(), 1);
        prop_assert_eq!(&said.calls[0].arguments["content"], &Value::from(format!("{body}\n")));
        let said = fenced::read(&format!("{prose}\n```bash\n{body}\n```\n"), false);
        // What stands in a quote or a here-document without an end is not run.
        prop_assert_eq!(said.calls.len() + usize::from(said.broken.is_some()), 1);
        prop_assert!(said.calls.iter().all(|call| call.arguments["command"] == body.trim_end()), "{:?}", said);
    }

    #[test]
    fn line_ends_in_texts_are_repaired_to_what_was_meant(content in "[ -!#-\\[\\]-~\n\t]{0,60}") {
        let text = format!("{{\"name\": \"plan\", \"arguments\": {{\"steps\": \"{content}\",}}}}");
        let said = read_text(&text);
        prop_assert_eq!(said.calls.len(), 1);
        prop_assert!(said.calls[0].repaired);
        // A text is the steps, or the one argument that is needed.
        prop_assert_eq!(&said.calls[0].arguments["steps"], &Value::from(content));
    }

    #[test]
    fn nothing_makes_it_panic(parts in prop::collection::vec(prop_oneof![
        "\\PC{0,8}",
        "[\n\t{}\\[\\]\",:`~<>/\\\\'()=;]{0,6}",
        prop::sample::select(vec![
            "<think>", "</think>", "<tool_call>", "</tool_call>", "\"name\"", "\"arguments\"", "read", "path", "<function=read>",
            "<parameter=path>", "</parameter>", "</function>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<arg_key>", "</arg_key>",
            "<arg_value>", "```json\n", "```bash\n", "```", "\n", "<<<<<<< SEARCH", ">>>>>>> REPLACE", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>",
            "to=functions.read", "<|message|>", "<invoke name=\"read\">", "DONE:", "<<EOF", "<<- 'E'", "'", "\"", "$(", "$((", "))", "````", "```write a.md\n", "```write a.py\n", "  ```\n", "Result of ", "<|im_end|>", "<read>", "</read>",
            "{\"name\": \"list\", \"arguments\": {}}", "```edit a.py\n", "◁think▷",
        ]).prop_map(str::to_owned),
    ], 0..40)) {
        let text = parts.concat();
        for protocol in Protocol::ALL {
            let said = protocol.read(&text, false);
            protocol.read(&text, true);
            protocol.is_enough(&text);
            prop_assert!(said.calls.len() <= 16);
            prop_assert!(text.contains(said.own.as_str()));
        }
        let _ = arguments_of("read", &text);
    }
}

#[test]
fn hostile_texts_are_read_to_their_end() {
    let unit = "{\"name\": \"x\", \"arguments\": [[[[<tool_call><function=read><parameter=path>```json\n{\n[\n<think>";
    let texts = [
        unit.repeat(3_000),
        "[".repeat(300_000),
        "{\"name\":".repeat(50_000),
        "<parameter=a>".repeat(30_000),
        format!("<function=write>{}", "<parameter=content>\n</parameter> x".repeat(20_000)),
        "```bash\n".repeat(40_000),
        "<<EOF\n".repeat(40_000),
        "\\\"".repeat(100_000),
    ];
    for text in &texts {
        for protocol in Protocol::ALL {
            // A reader whose time grows with the square of the text would not come back within the test's patience.
            assert!(protocol.read(text, false).calls.len() <= 16);
        }
    }
}
