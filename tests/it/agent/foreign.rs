//! Calls as other agents' tools have them, understood where the meaning is the same.

use patchwright::agent::tools::{Action, Tool};
use serde_json::{Value, json};

/// The action of a call, as `name(argument=value, ...)` of what is given.
fn understood(name: &str, arguments: Value) -> String {
    let Value::Object(arguments) = arguments else { panic!("no object") };
    match Action::parse(name, &arguments) {
        Err(answer) => format!("Error: {answer}"),
        Ok(Action::Plan(plan)) => format!("plan {:?}", plan.steps),
        Ok(Action::Read(read)) => format!("read {} {:?} {:?}", read.path, read.start, read.lines),
        Ok(Action::List(list)) => format!("list {:?}", list.path),
        Ok(Action::Search(search)) => format!("search {:?} {:?} {:?}", search.text, search.path, search.regex),
        Ok(Action::Replace(edit)) => format!("replace {} {:?} {:?}", edit.path, edit.old, edit.new),
        Ok(Action::Patch(patch)) => format!("patch {:?} {:?}", patch.path, patch.text),
        Ok(Action::Write(edit)) => format!("write {} {:?}", edit.path, edit.content),
        Ok(Action::Delete(edit)) => format!("delete {}", edit.path),
        Ok(Action::Run(run)) => format!("run {:?} {:?}", run.command, run.timeout),
        Ok(Action::Finish(finish)) => format!("finish {:?} {:?}", finish.summary, finish.no_change_needed),
    }
}

#[test]
fn foreign_calls_mean_ours() {
    let cases = [
        ("read_file", json!({ "file_path": "a.py" }), "read a.py None None"),
        ("ReadFile", json!({ "path": "a.py", "offset": 5, "limit": 9 }), "read a.py Some(5) Some(9)"),
        (
            "functions.read_file",
            json!({ "target_file": "a.py", "start_line": "5", "end_line": 9 }),
            "read a.py Some(5) Some(5)",
        ),
        ("view", json!({ "filename": "a.py", "explanation": "to look" }), "read a.py None None"),
        ("cat", json!({ "file": "a.py" }), "read a.py None None"),
        (
            "str_replace_editor",
            json!({ "command": "view", "path": "a.py", "view_range": [3, 8] }),
            "read a.py Some(3) Some(6)",
        ),
        (
            "str_replace_editor",
            json!({ "command": "view", "path": "a.py", "view_range": [3, -1] }),
            "read a.py Some(3) None",
        ),
        (
            "str_replace_editor",
            json!({ "command": "create", "path": "a.py", "file_text": "x\n" }),
            "write a.py \"x\\n\"",
        ),
        (
            "str_replace_based_edit_tool",
            json!({ "command": "str_replace", "path": "a.py", "old_str": "a", "new_str": "b" }),
            "replace a.py \"a\" \"b\"",
        ),
        (
            "Edit",
            json!({ "file_path": "a.py", "old_string": "a", "new_string": "b", "replace_all": false }),
            "replace a.py \"a\" \"b\"",
        ),
        ("replace", json!({ "path": "a.py", "search": "a", "replace": "b" }), "replace a.py \"a\" \"b\""),
        ("edit_file", json!({ "path": "a.py", "old_text": "a", "new_text": "b" }), "replace a.py \"a\" \"b\""),
        ("edit_file", json!({ "path": "a.py", "content": "a" }), "write a.py \"a\""),
        ("replace_in_file", json!({ "path": "a.py", "diff": "x" }), "patch Some(\"a.py\") \"x\""),
        ("apply_patch", json!({ "input": "*** Begin Patch" }), "patch None \"*** Begin Patch\""),
        ("create_file", json!({ "filepath": "a.py", "contents": "x" }), "write a.py \"x\""),
        ("write_to_file", json!({ "path": "a.py", "content": ["x", "y"] }), "write a.py \"x\\ny\""),
        ("delete_file", json!({ "target_file": "a.py" }), "delete a.py"),
        ("list_dir", json!({ "directory": "src" }), "list Some(\"src\")"),
        ("ls", json!({}), "list None"),
        ("grep", json!({ "pattern": "a|b", "path": "src" }), "search \"a|b\" Some(\"src\") Some(true)"),
        ("search_code", json!({ "query": 42 }), "search \"42\" None None"),
        ("bash", json!({ "cmd": "ls -la" }), "run \"ls -la\" None"),
        ("execute_command", json!({ "command": ["bash", "-lc", "ls | wc"] }), "run \"ls | wc\" None"),
        (
            "shell",
            json!({ "command": ["grep", "it's", "a.py"], "timeout": "20" }),
            "run \"grep 'it'\\\\''s' a.py\" Some(20)",
        ),
        ("run_terminal_cmd", json!({ "command": "ls", "is_background": false }), "run \"ls\" None"),
        ("submit", json!({}), "finish \"\" None"),
        ("attempt_completion", json!({ "result": "Done." }), "finish \"Done.\" None"),
        ("todo_write", json!({ "todos": [{ "content": "look", "status": "pending" }] }), "plan [\"look\"]"),
    ];
    for (name, arguments, wanted) in cases {
        assert_eq!(understood(name, arguments.clone()), wanted, "{name} {arguments}");
    }
}

#[test]
fn what_ours_do_not_do_is_refused() {
    let cases = [
        (
            "Edit",
            json!({ "file_path": "a", "old_string": "a", "new_string": "b", "replace_all": true }),
            "has no replace_all",
        ),
        ("bash", json!({ "command": "sleep 9", "run_in_background": true }), "has no run_in_background"),
        ("str_replace_editor", json!({ "command": "undo_edit", "path": "a" }), "has no command `undo_edit`"),
        (
            "str_replace_editor",
            json!({ "command": "insert", "path": "a", "insert_line": 3, "new_str": "x" }),
            "no command `insert`",
        ),
        ("bash", json!({ "command": { "line": "ls" } }), "command must be a text"),
        ("write", json!({ "path": "a", "content": { "a": 1 } }), "a text is needed, or a list of lines"),
        ("write", json!({ "path": "a", "content": ["x\n", "y"] }), "a text is needed, or a list of lines"),
        ("edit_file", json!({ "path": "a", "code_edit": "// ... existing code ..." }), "unknown field `code_edit`"),
        ("run", json!({ "command": "a", "cmd": "b" }), "unknown field `cmd`"),
        ("browser", json!({ "url": "a" }), "there is no tool `browser`"),
    ];
    for (name, arguments, wanted) in cases {
        let answer = understood(name, arguments.clone());
        assert!(answer.starts_with("Error: ") && answer.contains(wanted), "{name} {arguments}: {answer}");
    }
}

#[test]
fn our_own_names_come_first() {
    for tool in Tool::ALL {
        let answer = understood(tool.name(), json!({ "nonsense": 1 }));
        assert!(answer.starts_with(&format!("Error: {} takes ", tool.name())), "{answer}");
    }
}
