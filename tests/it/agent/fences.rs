//! Where fenced blocks end: what they hold is taken as it was written, or not at all.

use patchwright::agent::protocol::{Protocol, Said, fenced, whole_file};
use proptest::prelude::*;

fn read(text: &str) -> Said {
    fenced::read(text, false)
}

/// The calls of a reply, each as its name and its body.
fn calls(said: &Said) -> Vec<(String, String)> {
    let body = |call: &patchwright::agent::protocol::TextCall| {
        let text = ["command", "content", "text", "summary"].iter().find_map(|key| call.arguments.get(*key)?.as_str());
        text.unwrap_or_default().to_owned()
    };
    said.calls.iter().map(|call| (call.name.clone(), body(call))).collect()
}

/// The first beginning of a reply, by whole lines, at which its stream is cut.
fn cut(text: &str) -> Option<usize> {
    let mut ends = text.match_indices('\n').map(|(at, _)| at + 1);
    ends.find(|end| Protocol::Fenced.is_enough(&text[..*end]))
}

#[test]
fn fences_in_the_texts_of_a_command_are_part_of_it() {
    for command in [
        "cat <<EOF > a.md\n```sh\nls\n```\nEOF",
        "cat << 'EOF' > a.md\n```\nls\n```\nEOF",
        "cat <<  \"EOF\" > a.md\n```\nls\n```\nEOF\ncat a.md",
        "cat > a.md <<-EOF\n\t```\n\tls\n\t```\n\tEOF",
        "cat > a.md <<- 'E O F'\n```\nls\nE O F",
        "cat > a.md <<\\EOF\n```\nEOF",
        "cat > a.md <<E\"O\"F\n```\nEOF",
        "cat <<A 2<<B\n```\nB\nA\n```\nB",
        "python3 - <<'PY' && ls\nprint('''\n```\n''')\nPY",
        "printf '%s\n```\n' x > a.md",
        "echo \"$(cat <<EOF\n```\nEOF\n)\"",
        "echo $'a\\'\n```\n'",
        "echo it\\'s; echo \"it's\" # don't\nls",
        "echo $((1 << 2)) $(( (3) << 4 )); ((x = 1 << 2)); grep x <<< '<<EOF'",
        "echo ${x#'}'} \"${y:-it's}\" ${#z}",
        "case $x in a) echo b;; esac\nx=(1 2)\necho \"$(echo \"it's\")\"",
    ] {
        let text = format!("I do it.\n\n```bash\n{command}\n```\n");
        let more = format!("{text}\nThen:\n\n```bash\nrm -r x\n```\n");
        assert_eq!(calls(&read(&text)), [("run".to_owned(), command.to_owned())], "{text}");
        assert_eq!(cut(&text), Some(text.len()), "cut within: {text}");
        assert_eq!(read(&more).calls.len(), 2, "{more}");
    }
}

#[test]
fn a_command_whose_text_has_no_end_is_not_run() {
    for (command, reason) in [
        ("cat << 'EOF' > a.md\n# T\n```\nls", "has no line EOF at its end"),
        ("cat <<EOF\nx\n  EOF", "has no line EOF at its end"),
        ("cat <<-EOF\nx\n    EOF", "has no line EOF at its end"),
        ("echo don't", "a quote that the command opens is not closed"),
        ("ls\n```bash\nrm x", "where its block ends cannot be told"),
    ] {
        let text = format!("```bash\n{command}\n```\n\n```bash\nrm -r x\n```\n");
        let said = read(&text);
        assert_eq!(calls(&said), [], "{text}");
        assert!(said.broken.as_ref().is_some_and(|broken| broken.contains(reason)), "{said:?}");
        assert_eq!(cut(&text), None, "{text}");
    }
}

#[test]
fn a_document_with_fences_is_written_whole_or_not_at_all() {
    for (path, body, is_written) in [
        ("README.md", "# T\n```sh\nls\n```\nend\n", true),
        ("README.md", "- one:\n  ```\n  ls\n  ```\n- two\n", true),
        ("README.md", "# T\n```\nls\n```\nend\n", false),
        ("README.md", "# T\n```\nsrc/a.py\n```\nend\n", false),
        ("README.md", "# T\n```\nls\n```\nand\n```bash\nrm -r x\n```\n", false),
        ("README.md", "# T\n```sh\nls\n", false),
        ("notes.txt", "a\n```\nls\n```\nb\n", false),
        ("a.py", "s = '''\n```sh\nls\n```\n'''\n", true),
        ("a.py", "def f():\n    \"\"\"\n    ```\n    f()\n    ```\n    \"\"\"\n", true),
        ("a.py", "s = '''\n```\nls\n```\n'''\n", false),
        ("a.rs", "/*\n```\nf();\n```\n*/\nfn f() {}\n", false),
        ("a.c", "/*\n```\nf();\n```\n*/\nint f(void);\n", false),
        ("make.sh", "cat > a.md << 'EOF'\n```\nls\n```\nEOF\n", true),
    ] {
        let text = format!("I write it.\n\n```write {path}\n{body}```\n");
        let said = read(&text);
        let expected = if is_written { vec![("write".to_owned(), body.to_owned())] } else { Vec::new() };
        assert_eq!(calls(&said), expected, "{text}");
        assert_eq!(said.broken.is_some(), !is_written, "{said:?}");
        let text = format!("I write it.\n\n{path}\n```\n{body}```\n");
        let written = whole_file::read_files(&text, false);
        let contents: Vec<&str> = written.files.iter().map(|file| file.content.as_str()).collect();
        assert_eq!(contents, if is_written { vec![body] } else { Vec::new() }, "{text}");
        assert_eq!(written.ambiguous.is_empty(), is_written, "{text}");
        let longer = format!("{path}\n````\n{body}````\nRun it:\n```\nls\n```\n");
        let written = whole_file::read_files(&longer, false);
        assert_eq!(written.files.first().map(|file| file.content.as_str()), Some(body), "{longer}");
    }
}

#[test]
fn a_file_of_code_stays_sure_with_a_block_behind_it() {
    let reply = "a.py\n```python\nx = 1\n```\nRun it:\n```\npython3 a.py\n```\n";
    let written = whole_file::read_files(reply, false);
    assert_eq!((written.files.len(), written.ambiguous.len()), (1, 0), "{written:?}");
    let two = "README.md\n```markdown\n# T\n```\n\na.py\n```python\nx = 1\n```\n";
    assert_eq!(whole_file::read_files(two, false).files.len(), 2);
    let cut = whole_file::read_files("README.md\n```markdown\n# T\n```\nls", true);
    assert_eq!((cut.files.len(), cut.ambiguous), (0, vec!["README.md".to_owned()]), "the rest may belong to it");
    let runs_together = "a.py\n```python\nx = 1\n\nb.py\n```python\ny = 1\n```\n";
    let written = whole_file::read_files(runs_together, false);
    assert_eq!((written.files.len(), written.ambiguous), (0, vec!["a.py".to_owned()]));
}

#[test]
fn the_lines_of_a_diff_may_be_fences() {
    let diff = "--- a/a.md\n+++ b/a.md\n@@ -1,3 +1,3 @@\n ```\n-ls\n+ls -l\n ```\n";
    assert_eq!(calls(&read(&format!("```diff\n{diff}```\n"))), [("patch".to_owned(), diff.to_owned())]);
    let unmarked = diff.replace(" ```", "```");
    assert_eq!(calls(&read(&format!("```diff\n{unmarked}```\n"))), []);
}

/// Lines of documents that are hard to tell from what stands around them.
fn any_document() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "```",
        "```",
        "```sh",
        "```bash",
        "````",
        "````md",
        "  ```",
        "   ```sh",
        "~~~",
        "~~~sh",
        "text",
        "",
        "rm -r x",
        "DONE: x",
        "<<<<<<< SEARCH",
        "=======",
        ">>>>>>> REPLACE",
        "Result of run:",
        "cat <<EOF",
        "EOF",
        "it's",
        "# T",
    ]);
    prop::collection::vec(line, 1..14).prop_map(|lines| lines.iter().flat_map(|line| [line, "\n"]).collect())
}

/// Sound Python that holds such lines in its texts.
fn any_python() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("x = 1\n".to_owned()),
        Just("def f():\n    return \"```\"\n".to_owned()),
        any_document().prop_map(|text| format!("s = r'''\n{}'''\n", text.replace('\'', ""))),
        any_document().prop_map(|text| {
            let lines: String = text.lines().map(|line| format!("    {line}\n")).collect();
            format!("def g():\n    \"\"\"\n{lines}    \"\"\"\n    return 1\n")
        }),
    ];
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_file_is_written_whole_or_not_at_all(
        (path, body) in prop_oneof![
            any_document().prop_map(|body| ("docs/a.md", body)),
            any_document().prop_map(|body| ("notes.txt", body)),
            any_python().prop_map(|body| ("a.py", body)),
        ],
        length in 3usize..5,
        behind in prop::sample::select(vec!["", "\nThat is all.\n", "\nRun it:\n\n```\nls\n```\n", "\n```sh\nls\n```\n"]),
    ) {
        let fence = "`".repeat(length);
        let text = format!("{fence}write {path}\n{body}{fence}\n{behind}");
        let said = read(&text);
        for (name, content) in calls(&said).iter().take(1) {
            prop_assert_eq!((name.as_str(), content.as_str()), ("write", body.as_str()), "{}", text);
        }
        if said.calls.len() > 1 {
            let own = matches!(&calls(&said)[1..], [(name, command)] if name == "run" && command == "ls");
            prop_assert!(own && behind.contains("```sh"), "{}: {:?}", text, said);
        }
        let text = format!("Here:\n\n{path}\n{fence}\n{body}{fence}\n{behind}");
        let written = whole_file::read_files(&text, false);
        for file in &written.files {
            prop_assert_eq!((file.path.as_str(), file.content.as_str()), (path, body.as_str()), "{}", text);
        }
        // While it is coming, too, nothing but the whole is taken for certain.
        for (end, _) in text.match_indices('\n') {
            for file in whole_file::read_files(&text[..=end], true).files {
                prop_assert_eq!(file.content, body.as_str(), "{}", &text[..=end]);
            }
        }
    }

    #[test]
    fn any_here_document_is_run_whole(
        body in any_document(),
        operator in prop::sample::select(vec!["<<", "<< ", "<<-", "<<- "]),
        (word, end) in prop::sample::select(vec![("END", "END"), ("'END'", "END"), ("\"E D\"", "E D"), ("\\END", "END")]),
        behind in prop::sample::select(vec![" > a.md", " | cat", "; ls", ""]),
    ) {
        let command = format!("cat {operator}{word}{behind}\n{body}{end}");
        let text = format!("```bash\n{command}\n```\n");
        prop_assert_eq!(calls(&read(&text)), [("run".to_owned(), command)], "{}", text);
        prop_assert_eq!(cut(&text), Some(text.len()), "{}", text);
    }
}
