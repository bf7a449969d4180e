//! Repair by verified sampling: which file is suspected, which question comes when, and the loop around it.

use patchwright::agent::repair::{Clues, Repair, Source, Way, candidates, is_repair, is_test, splice};
use patchwright::agent::{Pause, ProtocolChoice};
use patchwright::model::Message;
use patchwright::outcome::{TestCommand, TestEnding, TestRun};
use proptest::prelude::*;

use super::harness::{Setup, Turn, says};

const CART: &str = "\"\"\"A cart.\"\"\"\n\n\ndef total(prices):\n    return sum(prices) + 1\n";
const TAX: &str = "def with_tax(price, rate):\n    return price * rate\n";
const TEST: &str = "from shop.cart import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n";
const FAILURE: &str = "test_cart.py:5: AssertionError\nE   assert 4 == 3\n1 failed in 0.01s";

fn suspects(task: &str, failure: &str) -> Vec<String> {
    let sources = [
        ("README.md", "# Shop\nA cart with total.\n"),
        ("shop/cart.py", CART),
        ("shop/tax.py", TAX),
        ("shop/__init__.py", ""),
        ("test_cart.py", TEST),
    ];
    let sources = sources.map(|(path, content)| Source { path, content });
    candidates(&sources, Clues { task, failure })
}

#[test]
fn the_file_that_a_task_or_a_failing_test_points_to_comes_first() {
    for (task, failure, first) in [
        ("The tests fail. Correct the code.", FAILURE, Some("shop/cart.py")),
        ("`total` is off by one", "", Some("shop/cart.py")),
        ("with_tax returns the tax and not the price", "", Some("shop/tax.py")),
        ("tax.py gives wrong prices", "", Some("shop/tax.py")),
        ("The tests fail.", "  File \"shop/tax.py\", line 2, in with_tax\nTypeError\n", Some("shop/tax.py")),
        ("Something is broken", "", None),
    ] {
        assert_eq!(suspects(task, failure).first().map(String::as_str), first, "{task}");
    }
    assert!(suspects("test_cart.py is wrong", FAILURE).iter().all(|path| !is_test(path)), "tests are no suspects");
}

#[test]
fn names_are_found_in_many_languages() {
    for (path, content) in [
        ("a.py", "class Parser:\n    def read_all(self):\n        pass\n"),
        ("a.js", "export function read_all(text) {\n}\n"),
        ("a.rs", "pub fn read_all(text: &str) {\n}\n"),
        ("a.go", "func read_all(text string) error {\n}\n"),
        ("a.c", "static int read_all(const char *text) {\n}\n"),
        ("a.java", "    public static int read_all(String text) {\n    }\n"),
        ("a.sh", "read_all() {\n}\n"),
        ("a.ts", "const read_all = (text: string) => {\n};\n"),
    ] {
        let sources = [Source { path: "b.py", content: "def other():\n    pass\n" }, Source { path, content }];
        let found = candidates(&sources, Clues { task: "`read_all` loses the last line", failure: "" });
        assert_eq!(found, [path], "{content}");
    }
}

#[test]
fn what_is_new_is_no_repair() {
    for (task, failure, expected) in [
        ("Fix the total", "", true),
        ("It should return 3 instead of 4", "", true),
        ("Create a module that should sum prices, with a test", "", false),
        ("Rename the constant LIMIT everywhere", "", false),
        ("Make it so", "1 failed", true),
    ] {
        assert_eq!(is_repair(Clues { task, failure }), expected, "{task}");
    }
}

#[test]
fn each_question_is_asked_once_and_the_likeliest_first() {
    let questions = |paths: &[&str]| {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let mut repair = Repair::new(&paths);
        let mut asked = Vec::new();
        while let Some(question) = repair.next_question() {
            asked.push((question.path, question.way));
        }
        asked
    };
    let one = |path: &str| [Way::Plain, Way::Trace, Way::Told, Way::Describe].map(|way| (path.to_owned(), way));
    assert_eq!(questions(&[]), []);
    assert_eq!(questions(&["a"]), one("a"));
    let two = questions(&["a", "b"]);
    let ([a1, a2, a3, a4], [b1, b2, b3, b4]) = (one("a"), one("b"));
    assert_eq!(two, [a1, a2, b1, b2, a3, a4, b3, b4]);
    assert_eq!(questions(&["a", "b", "c", "d"]).len(), 12, "of three files at most");
}

#[test]
fn an_answer_that_was_given_is_known_again_whatever_its_spaces() {
    let mut repair = Repair::new(&["a".into()]);
    assert!(repair.is_new("a", "x = 1\ny = 2\n"));
    assert!(!repair.is_new("a", "x = 1  \n\ny = 2"));
    assert!(repair.is_new("b", "x = 1\ny = 2\n") && repair.is_new("a", "x = 1\n    y = 2\n"));
}

proptest! {
    #[test]
    fn no_answer_makes_splicing_panic(original in "[a-z(){}: \n]{0,80}", answer in "[a-z(){}: \n\\PC]{0,80}") {
        for path in ["a.py", "a.js", "a.c", "A.java", "a.rs"] {
            splice(path, &original, &answer);
        }
    }

    #[test]
    fn no_text_makes_it_panic(task in "\\PC{0,80}", content in "\\PC{0,200}", failure in "\\PC{0,80}", path in "[a-zé./_]{1,12}") {
        let sources = [Source { path: &path, content: &content }, Source { path: "test_a.py", content: &failure }];
        let clues = Clues { task: &task, failure: &failure };
        is_repair(clues);
        prop_assert!(candidates(&sources, clues).len() <= 3);
    }
}

/// Path, file, answer, and what the file comes to.
const SPLICED: [(&str, &str, &str, &str); 9] = [
    (
        "a.py",
        "import os\n\n\ndef one():\n    return 1\n\n\ndef two():\n    return 3\n",
        "def two():\n    return 2\n",
        "import os\n\n\ndef one():\n    return 1\n\n\ndef two():\n    return 2\n",
    ),
    (
        "a.py",
        "class A:\n    x = 1\n\n    def two(self):\n        return 3\n",
        "def two(self):\n    if self.x:\n        return 2\n",
        "class A:\n    x = 1\n\n    def two(self):\n        if self.x:\n            return 2\n",
    ),
    (
        "a.py",
        "class A:\n    @property\n    def two(self):\n        return 3\n",
        "    def two(self):\n        return 2\n",
        "class A:\n    @property\n    def two(self):\n        return 2\n",
    ),
    (
        "a.js",
        "const n = 1;\nexport function one() {\n  return 2;\n}\nexport const two = () => 3;\n",
        "export const two = () => 2;\nexport function one() {\n  return 1;\n}\n",
        "const n = 1;\nexport function one() {\n  return 1;\n}\nexport const two = () => 2;\n",
    ),
    (
        "a.rs",
        "struct A;\n\nimpl A {\n    fn one(&self) -> u8 {\n        2\n    }\n}\n",
        "fn one(&self) -> u8 {\n    1\n}\n",
        "struct A;\n\nimpl A {\n    fn one(&self) -> u8 {\n        1\n    }\n}\n",
    ),
    (
        "a.c",
        "#include <stdio.h>\n\nstatic int *one(int n)\n{\n\treturn 0;\n}\n",
        "static int *one(int n)\n{\n\treturn 1;\n}\n",
        "#include <stdio.h>\n\nstatic int *one(int n)\n{\n\treturn 1;\n}\n",
    ),
    (
        "A.java",
        "class A {\n    int one() {\n        return 2;\n    }\n\n    int two() {\n        return 2;\n    }\n}\n",
        "int one() {\n    return 1;\n}\n",
        "class A {\n    int one() {\n        return 1;\n    }\n\n    int two() {\n        return 2;\n    }\n}\n",
    ),
    (
        "a.go",
        "package a\n\nfunc one() int {\n\treturn 2\n}\n",
        "func one() int {\n\treturn 1\n}\n",
        "package a\n\nfunc one() int {\n\treturn 1\n}\n",
    ),
    ("a.sh", "set -e\none() {\n  echo 2\n}\none\n", "one() {\n  echo 1\n}\n", "set -e\none() {\n  echo 1\n}\none\n"),
];

#[test]
fn functions_alone_go_to_their_own_places() {
    for (path, original, answer, expected) in SPLICED {
        assert_eq!(splice(path, original, answer).as_deref(), Some(expected), "{path}: {answer}");
    }
}

#[test]
fn what_has_no_certain_place_is_not_spliced() {
    let two = "class A:\n    def f(self):\n        return 1\n\n\nclass B:\n    def f(self):\n        return 2\n";
    for (path, original, answer) in [
        ("a.py", two, "def f(self):\n    return 3\n"),
        ("a.py", two, "def g(self):\n    return 3\n"),
        ("a.py", two, "import os\n"),
        ("a.py", two, "def f(self:\n    return 3\n"),
        ("a.py", two, ""),
        ("a.py", "def f():\n    return 1\n", "x = 1\n\n\ndef f():\n    return 3\n"),
        ("a.txt", "one() {\n}\n", "one() {\n}\n"),
        ("a.js", "function f() {}\n", "const f = () => 1;\n"),
    ] {
        assert_eq!(splice(path, original, answer), None, "{answer}");
    }
}

fn setup(turns: impl IntoIterator<Item = Turn>) -> Setup {
    let mut setup = Setup::new(turns);
    for (path, content) in [("cart.py", CART), ("tax.py", TAX), ("test_cart.py", &TEST.replace("shop.", ""))] {
        std::fs::write(setup.path().join(path), content).unwrap();
    }
    setup.brief.protocol = ProtocolChoice::WholeFile;
    setup.brief.instruction = "The tests fail. Correct the code.".into();
    let ending = TestEnding::Failed { exit_code: 1 };
    let excerpt = FAILURE.to_owned();
    setup.brief.test_command = Some(TestCommand { command: "pytest".into(), reason: "told".into() });
    setup.brief.baseline = Some(TestRun { command: "pytest".into(), ending, milliseconds: 1, excerpt, failing: None });
    setup
}

fn cart(body: &str) -> String {
    CART.replace("sum(prices) + 1", body)
}

fn answer(body: &str) -> Turn {
    says(&format!("cart.py\n```python\n{}```\n", cart(body)))
}

fn is_finish(pause: &Pause) -> bool {
    matches!(pause, Pause::Finish { .. })
}

#[tokio::test]
async fn what_is_rejected_is_followed_by_another_question_on_the_file_as_it_was() {
    let unnamed = says(&format!("Line 5 adds one.\n```python\n{}```\nThat is all.", cart("sum(prices)")));
    let setup = setup([answer("sum(prices) + 2"), unnamed]);
    let mut agent = setup.agent();
    assert!(is_finish(&agent.run().await.unwrap()));
    assert_eq!(setup.file("cart.py"), cart("sum(prices) + 2"));
    assert!(agent.is_sampling());
    agent.reject("Not accepted: assert 5 == 3").unwrap();
    assert_eq!(setup.file("cart.py"), CART, "as it was");
    assert!(is_finish(&agent.run().await.unwrap()));
    assert_eq!(setup.file("cart.py"), cart("sum(prices)"));
    assert_eq!(agent.report().written_paths, ["cart.py"]);
    setup.assert_used();
    let requests = setup.model.requests.lock().unwrap();
    let questions: Vec<&str> = requests
        .iter()
        .map(|(messages, _)| match &messages[..] {
            [Message::System { .. }, Message::User { content }] => content.as_str(),
            other => panic!("a question alone: {other:?}"),
        })
        .collect();
    assert!(questions[0].contains(CART) && questions[0].contains("assert 4 == 3"), "{}", questions[0]);
    assert!(!questions[0].contains("with_tax"), "no other file is shown: {}", questions[0]);
    assert!(questions[1].contains("  5|     return sum(prices) + 1\n"), "{}", questions[1]);
    assert!(requests[0].1 < requests[1].1, "a question that asks for thought has room for it");
}

#[tokio::test]
async fn an_answer_that_is_of_no_use_costs_no_run_of_the_tests() {
    let setup = setup([
        answer("sum(prices) + 1"),
        says("I cannot."),
        says("cart.py\n```python\n# ... existing code ...\n```"),
        says("cart.py\n```python\n```"),
        answer("sum(prices)"),
    ]);
    // One file is suspected, so its four questions are all.
    std::fs::remove_file(setup.path().join("tax.py")).unwrap();
    let mut agent = setup.agent();
    assert!(is_finish(&agent.run().await.unwrap()));
    setup.assert_used();
    assert!(!agent.is_sampling(), "the last one was asked for all that the task needs");
    let requests = setup.model.requests.lock().unwrap();
    let Message::System { content } = &requests[4].0[0] else { panic!("the system's message") };
    assert!(content.contains("each file that has to change"), "{content}");
}

#[tokio::test]
async fn the_same_answer_is_not_tested_twice_and_what_came_of_it_is_told() {
    let turns = [answer("sum(prices) + 3"), answer("sum(prices) + 3"), answer("sum(prices) * 1")];
    let setup = setup(turns);
    std::fs::remove_file(setup.path().join("tax.py")).unwrap();
    let mut agent = setup.agent();
    assert!(is_finish(&agent.run().await.unwrap()));
    agent.reject("Not accepted: assert 6 == 3").unwrap();
    assert!(is_finish(&agent.run().await.unwrap()));
    setup.assert_used();
    assert_eq!(setup.file("cart.py"), cart("sum(prices) * 1"));
    let asked = setup.asked();
    assert!(asked[2].contains("+     return sum(prices) + 3") && asked[2].contains("in another way"), "{}", asked[2]);
}
