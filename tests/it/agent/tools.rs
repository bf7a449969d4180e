//! Each tool's answers, on real files.

use std::fs;
use std::path::Path;

use patchwright::agent::tools::{Action, Answer, act_on_files, specifications};
use patchwright::workspace::Files;
use serde_json::{Value, json};

/// Acts in a folder with a few files.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, contents: &[u8]| fs::write(folder.path().join(name), contents).unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        write("src/calc.py", b"def add(a, b):\n    return a - b\n\n\ndef sub(a, b):\n    return a - b\n");
        write("crlf.txt", b"one\r\ntwo\r\nthree\r\n");
        write("latin.txt", b"caf\xe9\nold\n");
        write("binary", b"\0\x01\x02");
        write("README.md", b"# Calc\n");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path().join(name)).unwrap()
    }

    fn act(&self, name: &str, arguments: Value) -> Answer {
        let Value::Object(arguments) = arguments else { panic!("no object") };
        match Action::parse(name, &arguments) {
            Ok(action) => act_on_files(&Files::open(self.path()).unwrap(), &action, 5_000).unwrap(),
            Err(text) => Answer { ok: false, text, changed: false },
        }
    }

    /// The answer's text; `ok` is checked to be what the text says.
    fn say(&self, name: &str, arguments: Value) -> String {
        self.act(name, arguments).text
    }
}

#[test]
fn the_schemas_are_plain_and_short() {
    let tools = specifications();
    insta::assert_snapshot!(tools[1].parameters, @r#"{"type":"object","required":["path"],"properties":{"path":{"type":"string","description":"Also `output:1`, what a command printed"},"start":{"type":"integer","description":"First line, from 1"},"lines":{"type":"integer","description":"How many lines; at least 60 come"}}}"#);
    insta::assert_snapshot!(tools[0].parameters, @r#"{"type":"object","required":["steps"],"properties":{"steps":{"type":"array","items":{"type":"string"}}}}"#);
    let text: String =
        tools.iter().map(|tool| format!("{}{}{}", tool.name, tool.description, tool.parameters)).collect();
    assert!(!text.contains("$ref") && !text.contains("$schema") && !text.contains("\"title\""), "{text}");
    // With the system prompt's 1,300 bytes, about a thousand tokens.
    assert!(text.len() < 2_700, "{} bytes", text.len());
}

#[test]
fn read_shows_lines_with_numbers() {
    let tree = Tree::new();
    insta::assert_snapshot!(tree.say("read", json!({ "path": "src/calc.py" })), @r"
    `src/calc.py`, lines 1 to 6 of 6:
       1  def add(a, b):
       2      return a - b
       3  
       4  
       5  def sub(a, b):
       6      return a - b
    ");
    insta::assert_snapshot!(tree.say("read", json!({ "path": "/workspace/crlf.txt", "start": "3", "lines": null })), @r"
    `crlf.txt`, lines 3 to 3 of 3:
       3  three
    ");
    insta::assert_snapshot!(tree.say("read", json!({ "path": "latin.txt" })), @r"
    `latin.txt`, lines 1 to 2 of 2:
       1  caf�
       2  old
    [the file is no UTF-8; bytes that are none are shown as �]
    ");
    let long: String = (1..=1000).map(|number| format!("line {number}\n")).collect();
    fs::write(tree.path().join("long"), long).unwrap();
    let answer = tree.say("read", json!({ "path": "long", "start": 11, "lines": 1 }));
    assert!(answer.starts_with("`long`, lines 11 to 70 of 1000:\n  11  line 11\n"), "{answer}");
    assert!(answer.ends_with("[930 more lines: read on with start 71]"), "{answer}");
}

#[test]
fn read_says_what_to_do_when_it_cannot() {
    let tree = Tree::new();
    let say = |path: &str| tree.say("read", json!({ "path": path }));
    insta::assert_snapshot!(say("calc.py"), @"Error: `calc.py` does not exist; list its folder to see what is there. There is `src/calc.py`");
    insta::assert_snapshot!(say("src"), @"Error: `src` is a folder; call list with this path");
    insta::assert_snapshot!(say("binary"), @"Error: `binary` is a binary file of 3 bytes");
    insta::assert_snapshot!(say("../secret"), @"Error: `../secret` holds `..`; only paths below the repository's root are allowed, written without `..`");
    insta::assert_snapshot!(say("/etc/passwd"), @"Error: `/etc/passwd` is an absolute path; use a path relative to the repository's root, such as `src/main.rs`");
    insta::assert_snapshot!(say(".git/config"), @"Error: `.git/config` leads into git's own data (`.git`), which is not available; work on the repository's files only");
    insta::assert_snapshot!(tree.say("read", json!({ "path": "README.md", "start": 9 })), @"Error: `README.md` has only 1 lines");
}

#[test]
fn list_shows_a_folder() {
    let tree = Tree::new();
    insta::assert_snapshot!(tree.say("list", json!({})), @r"
    README.md  (7 bytes)
    binary  (3 bytes)
    crlf.txt  (17 bytes)
    latin.txt  (9 bytes)
    src/
    ");
    insta::assert_snapshot!(tree.say("list", json!({ "path": "src/" })), @"calc.py  (66 bytes)");
    insta::assert_snapshot!(tree.say("list", json!({ "path": "nowhere" })), @"Error: `nowhere` does not exist; list its folder to see what is there");
}

#[test]
fn search_finds_lines() {
    let tree = Tree::new();
    insta::assert_snapshot!(tree.say("search", json!({ "text": "return a" })), @r"
    src/calc.py:2:     return a - b
    src/calc.py:6:     return a - b
    ");
    insta::assert_snapshot!(tree.say("search", json!({ "text": "def (add|mul)", "regex": "true", "path": "src" })), @"src/calc.py:1: def add(a, b):");
    insta::assert_snapshot!(tree.say("search", json!({ "text": "DEF ADD" })), @r"
    Nothing in exactly this case; in another case:
    src/calc.py:1: def add(a, b):
    ");
    insta::assert_snapshot!(tree.say("search", json!({ "text": "nowhere" })), @"No line in 5 files matches. Search for a shorter part, or with regex.");
    let answer = tree.say("search", json!({ "text": "a(", "regex": true }));
    assert!(answer.starts_with("Error: the pattern cannot be searched for"), "{answer}");
    let many = "needle\n".repeat(200);
    fs::write(tree.path().join("many"), many).unwrap();
    let answer = tree.say("search", json!({ "text": "needle", "path": "many" }));
    assert_eq!(answer.lines().count(), 61);
    assert!(answer.ends_with("[there may be more: narrow the search by path or text]"), "{answer}");
}

#[test]
fn replace_changes_the_one_place() {
    let tree = Tree::new();
    let answer = tree.act("replace", json!({ "path": "src/calc.py", "old": "def add(a, b):\n    return a - b", "new": "def add(a, b):\n    return a + b" }));
    assert_eq!(
        (answer.text.as_str(), answer.changed),
        (
            "Replaced in `src/calc.py` at line 2. It now reads:\n   1  def add(a, b):\n   2      return a + b\n   3  ",
            true
        )
    );
    assert_eq!(tree.read("src/calc.py"), b"def add(a, b):\n    return a + b\n\n\ndef sub(a, b):\n    return a - b\n");
    tree.say("replace", json!({ "path": "crlf.txt", "old": "two\nthree", "new": "2\n3" }));
    assert_eq!(tree.read("crlf.txt"), b"one\r\n2\r\n3\r\n");
    tree.say("replace", json!({ "path": "latin.txt", "old": "old", "new": "new" }));
    assert_eq!(tree.read("latin.txt"), b"caf\xe9\nnew\n");
}

#[test]
fn replace_forgives_white_space_only_where_it_is_no_guess() {
    let tree = Tree::new();
    fs::write(tree.path().join("a.py"), "class A:\n    def f(self):  \n        return 1\n    x = 2\n").unwrap();
    insta::assert_snapshot!(tree.say("replace", json!({ "path": "a.py", "old": "    def f(self):\n        return 1\n", "new": "    def f(self):\n        return 2\n" })), @r"
    Replaced in `a.py` at line 3. (White space at line ends differed.) It now reads:
       2      def f(self):  
       3          return 2
       4      x = 2
    ");
    insta::assert_snapshot!(tree.say("replace", json!({ "path": "a.py", "old": "def f(self):\n    return 2", "new": "def f(self):\n    y = 1\n\n    return y" })), @r"
    Replaced in `a.py` at line 3. (The indentation differed; the new text was moved along.) It now reads:
       2      def f(self):  
       3          y = 1
       4  
       5          return y
       6      x = 2
    ");
    assert_eq!(tree.read("a.py"), b"class A:\n    def f(self):  \n        y = 1\n\n        return y\n    x = 2\n");
    fs::write(tree.path().join("b.py"), "if a:\n    x()\n    y()\nif b:\n        x()\n        y()\n").unwrap();
    insta::assert_snapshot!(tree.say("replace", json!({ "path": "b.py", "old": "x()\ny()", "new": "z()" })), @"Error: the text stands 2 times in `b.py`, at lines 2, 5; nothing was changed. Give more lines around it in the old text, so that it is unique.");
}

#[test]
fn replace_says_what_to_do_when_it_cannot() {
    let tree = Tree::new();
    let before = tree.read("src/calc.py");
    let say = |old: &str, new: &str| tree.say("replace", json!({ "path": "src/calc.py", "old": old, "new": new }));
    insta::assert_snapshot!(say("return a - b", "x"), @"Error: the text stands 2 times in `src/calc.py`, at lines 2, 6; nothing was changed. Give more lines around it in the old text, so that it is unique.");
    insta::assert_snapshot!(say("def sub(x, y):\n    return x - y", "x"), @r"
    Error: the text is not in `src/calc.py`; nothing was changed. The nearest text there is:
       5  def sub(a, b):
       6      return a - b
    Copy the old text from these lines, without the numbers.
    ");
    insta::assert_snapshot!(say("zzzz qqqq", "x"), @"Error: the text is not in `src/calc.py`; nothing was changed. Nothing there is like it: read the file.");
    insta::assert_snapshot!(say("", "x"), @"Error: old is empty. To add lines, copy a line of the file into old, and that line with the new ones into new; to create a file or rewrite it, call write");
    insta::assert_snapshot!(say("zz", "zz"), @"Error: old and new are the same, so nothing was changed; read the file");
    insta::assert_snapshot!(say("def add", "def add"), @"Error: old and new are the same, so nothing was changed; the file reads so already: do what is left of the task, or call finish");
    insta::assert_snapshot!(tree.say("replace", json!({ "path": "no.py", "old": "a", "new": "b" })), @"Error: `no.py` does not exist; list its folder to see what is there");
    assert_eq!(tree.read("src/calc.py"), before);
}

#[test]
fn write_and_delete() {
    let tree = Tree::new();
    insta::assert_snapshot!(tree.say("write", json!({ "path": "new/a b.txt", "content": "x\ny\n" })), @"Created `new/a b.txt` (2 lines).");
    assert_eq!(tree.read("new/a b.txt"), b"x\ny\n");
    insta::assert_snapshot!(tree.say("write", json!({ "path": "crlf.txt", "content": "x\n" })), @"Rewrote `crlf.txt` (1 lines).");
    assert_eq!(tree.read("crlf.txt"), b"x\r\n");
    let same = tree.act("write", json!({ "path": "crlf.txt", "content": "x\n" }));
    assert_eq!(
        (same.text.as_str(), same.changed),
        ("`crlf.txt` has exactly this content already; nothing was changed.", false)
    );
    insta::assert_snapshot!(tree.say("delete", json!({ "path": "new/a b.txt" })), @"Deleted `new/a b.txt`.");
    assert!(!tree.path().join("new").exists());
    insta::assert_snapshot!(tree.say("delete", json!({ "path": "src" })), @"Error: `src` is a folder, not a file; name a file in it");
    insta::assert_snapshot!(tree.say("write", json!({ "path": "../x", "content": "" })), @"Error: `../x` holds `..`; only paths below the repository's root are allowed, written without `..`");
    insta::assert_snapshot!(tree.say("write", json!({ "path": ".GIT/hooks/pre-commit", "content": "" })), @"Error: `.GIT/hooks/pre-commit` leads into git's own data (`.git`), which is not available; work on the repository's files only");
}

#[test]
fn a_link_is_not_followed_out_of_the_tree() {
    let tree = Tree::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    std::os::unix::fs::symlink(outside.path(), tree.path().join("link")).unwrap();
    for (name, more) in [
        ("read", json!({})),
        ("replace", json!({ "old": "s", "new": "t" })),
        ("write", json!({ "content": "t" })),
        ("delete", json!({})),
    ] {
        let mut arguments = more;
        arguments["path"] = "link/secret".into();
        let answer = tree.say(name, arguments);
        assert!(answer.contains("links are not followed"), "{answer}");
    }
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"s");
}

#[test]
fn wrong_arguments_are_told() {
    let tree = Tree::new();
    insta::assert_snapshot!(tree.say("reed", json!({})), @"there is no tool `reed`. Did you mean read? The tools are plan, read, list, search, replace, patch, write, delete, run, finish.");
    insta::assert_snapshot!(tree.say("run_it", json!({})), @"there is no tool `run_it`. Did you mean run? The tools are plan, read, list, search, replace, patch, write, delete, run, finish.");
    insta::assert_snapshot!(tree.say("xyzzy", json!({})), @"there is no tool `xyzzy`. The tools are plan, read, list, search, replace, patch, write, delete, run, finish.");
    insta::assert_snapshot!(tree.say("read", json!({ "name": "a" })), @"read takes path, start, lines (needed: path), but: unknown field `name`, expected one of `path`, `start`, `lines`. Make the call again.");
    insta::assert_snapshot!(tree.say("write", json!({ "path": "a" })), @"write takes path, content (needed: path, content), but: missing field `content`. Make the call again.");
    insta::assert_snapshot!(tree.say("read", json!({ "path": "a", "start": "first" })), @"read takes path, start, lines (needed: path), but: a whole number is needed. Make the call again.");
    insta::assert_snapshot!(tree.say("plan", json!({ "steps": 5 })), @"plan takes steps (needed: steps), but: steps must be a list of texts. Make the call again.");
}

#[test]
fn patch_changes_several_files_or_none() {
    let tree = Tree::new();
    let text = "*** Begin Patch\n*** Update File: src/calc.py\n@@ def add(a, b):\n-    return a - b\n+    return a + b\n\
                *** Add File: src/new.py\n+x = 1\n*** Delete File: README.md\n*** Update File: crlf.txt\n\
                *** Move to: text/crlf.txt\n@@\n-two\n+2\n*** End Patch\n";
    insta::assert_snapshot!(tree.say("patch", json!({ "text": text })), @r"
    Changed `src/calc.py` at line 2. It now reads:
       1  def add(a, b):
       2      return a + b
       3  
    Created `src/new.py` (1 lines).
    Deleted `README.md`.
    Moved `crlf.txt` to `text/crlf.txt`.
    Changed `text/crlf.txt` at line 2. It now reads:
       1  one
       2  2
       3  three
    ");
    assert_eq!(tree.read("text/crlf.txt"), b"one\r\n2\r\nthree\r\n");
    assert!(!tree.path().join("README.md").exists() && !tree.path().join("crlf.txt").exists());
    let before = tree.read("src/calc.py");
    let text = "--- a/src/calc.py\n+++ b/src/calc.py\n@@ -1 +1 @@\n-def add(a, b):\n+def plus(a, b):\n\
                --- a/latin.txt\n+++ b/latin.txt\n@@ -9 +9 @@\n-new\n+newer\n";
    insta::assert_snapshot!(tree.say("patch", json!({ "text": text })), @"Error: the text is not in `latin.txt`; nothing was changed. Nothing there is like it: read the file.");
    assert_eq!(tree.read("src/calc.py"), before);
}

#[test]
fn a_patch_that_cannot_be_written_leaves_all_as_it_was() {
    let tree = Tree::new();
    std::os::unix::fs::symlink("/etc", tree.path().join("link")).unwrap();
    let before = tree.read("src/calc.py");
    let change = "--- a/src/calc.py\n+++ b/src/calc.py\n@@ -1 +1 @@\n-def add(a, b):\n+def plus(a, b):\n";
    for (path, wanted) in [
        ("link/x", "links are not followed"),
        ("../x", "holds `..`"),
        (".git/config", "git's own data"),
        ("src", "is a folder"),
    ] {
        let text = format!("{change}--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n");
        let answer = tree.act("patch", json!({ "text": text }));
        assert!(!answer.ok && !answer.changed && answer.text.contains(wanted), "{path}: {answer:?}");
        assert_eq!(tree.read("src/calc.py"), before, "{path}");
    }
    // The file layer learns only when it writes that a file is in the way of a folder.
    let text = format!("{change}--- /dev/null\n+++ b/README.md/x\n@@ -0,0 +1 @@\n+x\n");
    let answer = tree.act("patch", json!({ "text": text }));
    assert!(!answer.ok && answer.text.contains("README.md"), "{answer:?}");
    assert_eq!(tree.read("src/calc.py"), before);
}

#[test]
fn a_moved_file_stays_executable() {
    use std::os::unix::fs::PermissionsExt;
    let tree = Tree::new();
    let script = tree.path().join("run.sh");
    fs::write(&script, "echo one\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let text = "*** Begin Patch\n*** Update File: run.sh\n*** Move to: bin/run.sh\n*** End Patch\n";
    insta::assert_snapshot!(tree.say("apply_patch", json!({ "input": text })), @"Moved `run.sh` to `bin/run.sh`.");
    let mode = fs::metadata(tree.path().join("bin/run.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
}

#[test]
fn a_new_syntax_error_is_told() {
    let tree = Tree::new();
    let edit = |old: &str, new: &str| tree.say("replace", json!({ "path": "src/calc.py", "old": old, "new": new }));
    insta::assert_snapshot!(edit("def sub(a, b):", "def sub(a, b:"), @r"
    Replaced in `src/calc.py` at line 5. It now reads:
       4  
       5  def sub(a, b:
    But `src/calc.py` has a syntax error now, which was not there before:
       5  def sub(a, b:
    Correct it.
    ");
    insta::assert_snapshot!(edit("def add(a, b):", "def add(a, c):"), @r"
    Replaced in `src/calc.py` at line 1. It now reads:
       1  def add(a, c):
       2      return a - b
    ");
}
