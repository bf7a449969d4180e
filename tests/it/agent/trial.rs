//! A trial against a real model, through the real binary: each task some times, each time on a fresh repository.
//!
//! `PATCHWRIGHT_TRIAL_ENDPOINT=http://127.0.0.1:8080/v1 cargo test --test it agent::trial -- --ignored --nocapture`
//!
//! It prints the rows of the table in `docs/local-models.md`. `PATCHWRIGHT_TRIAL_RUNS` is how often (default: 5),
//! `PATCHWRIGHT_TRIAL_TASK` one task's name, `PATCHWRIGHT_TRIAL_FOLDER` a folder that keeps repositories and records.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

/// A small repository, and what is to be done with it.
struct Task {
    name: &'static str,
    instruction: &'static str,
    files: &'static [(&'static str, &'static str)],
}

const WORDS: &str =
    "def count_words(text):\n    \"\"\"How many words stand in the text.\"\"\"\n    return len(text.split())\n";
const WORDS_TEST: &str = "import unittest\n\nfrom words import count_words\n\n\nclass CountWordsTest(unittest.TestCase):\n    \
    def test_counts_words(self):\n        self.assertEqual(count_words(\"one two  three\"), 3)\n\n    \
    def test_an_empty_text_has_none(self):\n        self.assertEqual(count_words(\"\"), 0)\n\n\n\
    if __name__ == \"__main__\":\n    unittest.main()\n";
const README: (&str, &str) = ("README.md", "# Words\n\nSmall tools for texts.\n");

const TASKS: [Task; 5] = [
    Task {
        name: "greeting",
        instruction: "change the greeting in hello.py to 'Hello, Patchwright'",
        files: &[
            (
                "hello.py",
                "def greet():\n    return \"Hello, World\"\n\n\nif __name__ == \"__main__\":\n    print(greet())\n",
            ),
            ("words.py", WORDS),
            ("test_words.py", WORDS_TEST),
            README,
        ],
    },
    Task {
        name: "fizzbuzz",
        instruction: "create fizzbuzz.py with a function and a test",
        files: &[("README.md", "# Exercises\n")],
    },
    Task {
        name: "failing test",
        instruction: "The tests fail. Correct the code.",
        files: &[
            (
                "stack.py",
                "class Stack:\n    \"\"\"Last in, first out.\"\"\"\n\n    def __init__(self):\n        \
                 self.items = []\n\n    def push(self, item):\n        self.items.append(item)\n\n    \
                 def pop(self):\n        if not self.items:\n            raise IndexError(\"the stack is empty\")\n        \
                 return self.items.pop(0)\n\n    def peek(self):\n        return self.items[-1]\n\n    \
                 def __len__(self):\n        return len(self.items)\n",
            ),
            (
                "test_stack.py",
                "import unittest\n\nfrom stack import Stack\n\n\nclass StackTest(unittest.TestCase):\n    \
                 def test_the_last_one_comes_first(self):\n        stack = Stack()\n        stack.push(1)\n        \
                 stack.push(2)\n        self.assertEqual(stack.pop(), 2)\n        self.assertEqual(stack.pop(), 1)\n\n    \
                 def test_an_empty_one_refuses(self):\n        self.assertRaises(IndexError, Stack().pop)\n",
            ),
        ],
    },
    Task {
        name: "new function",
        instruction: "Add a function longest_word(text) to words.py, with a test in test_words.py.",
        files: &[("words.py", WORDS), ("test_words.py", WORDS_TEST), README],
    },
    Task {
        name: "rename",
        instruction: "Rename the constant LIMIT to MAX_ITEMS everywhere.",
        files: &[
            ("settings.py", "LIMIT = 3\nNAME = \"basket\"\n"),
            (
                "basket.py",
                "from settings import LIMIT\n\n\ndef add(basket, item):\n    if len(basket) >= LIMIT:\n        \
                 raise ValueError(f\"more than {LIMIT} items\")\n    return [*basket, item]\n",
            ),
            (
                "test_basket.py",
                "import unittest\n\nfrom basket import add\nfrom settings import LIMIT\n\n\n\
                 class BasketTest(unittest.TestCase):\n    def test_is_bounded(self):\n        \
                 self.assertRaises(ValueError, add, [0] * LIMIT, 1)\n\n    def test_adds(self):\n        \
                 self.assertEqual(add([], 1), [1])\n",
            ),
        ],
    },
];

#[test]
#[ignore = "needs a real model"]
fn tasks() {
    let endpoint = std::env::var("PATCHWRIGHT_TRIAL_ENDPOINT").expect("PATCHWRIGHT_TRIAL_ENDPOINT");
    let runs: usize = std::env::var("PATCHWRIGHT_TRIAL_RUNS").map_or(5, |text| text.parse().unwrap());
    let only = std::env::var("PATCHWRIGHT_TRIAL_TASK").ok();
    let temporary = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("PATCHWRIGHT_TRIAL_FOLDER").map(PathBuf::from);
    let folder = kept.as_deref().unwrap_or(temporary.path());
    println!(
        "| task | exit code | steps | tokens in / out | seconds | stopped by | files |\n|---|---|---|---|---|---|---|"
    );
    for task in TASKS.iter().filter(|task| only.as_deref().is_none_or(|only| only == task.name)) {
        let passed =
            (0..runs).filter(|run| attempt(task, &endpoint, &folder.join(format!("{}-{run}", task.name)))).count();
        println!("{}: {passed} of {runs} verified", task.name);
    }
}

/// Whether a run of the task ends verified.
fn attempt(task: &Task, endpoint: &str, folder: &Path) -> bool {
    let repository = folder.join("repository");
    std::fs::create_dir_all(&repository).unwrap();
    for (name, text) in task.files {
        std::fs::write(repository.join(name), text).unwrap();
    }
    for arguments in [
        &["init", "--quiet", "--initial-branch", "main"][..],
        &["add", "--all"],
        &[
            "-c",
            "user.name=T",
            "-c",
            "user.email=t@localhost",
            "commit",
            "--quiet",
            "--no-gpg-sign",
            "--message",
            "One",
        ],
    ] {
        assert!(Command::new("git").arg("-C").arg(&repository).args(arguments).status().unwrap().success());
    }
    let begun = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_patchwright"))
        .args(["run", "--json", "--task", task.instruction, "--endpoint", endpoint, "--timeout", "15m", "--repo"])
        .arg(&repository)
        .arg("--record")
        .arg(folder.join("record.jsonl"))
        .output()
        .unwrap();
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    std::fs::write(folder.join("outcome.json"), &output.stdout).unwrap();
    let code = output.status.code().unwrap_or(-1);
    println!(
        "| {} | {code} | {} | {} / {} | {} | {} | {} |",
        task.name,
        outcome["steps"],
        outcome["usage"]["prompt_tokens"],
        outcome["usage"]["completion_tokens"],
        begun.elapsed().as_secs(),
        outcome["stop"],
        outcome["changed_files"],
    );
    code == 0
}
