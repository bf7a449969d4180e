//! Repair by verified sampling: which file is suspected, which question comes when, and the loop around it.

use patchwright::agent::repair::{Answers, Way, questions, speaks_of_new, speaks_of_wrong, splice};
use patchwright::agent::tools::digest;
use patchwright::agent::{Pause, ProtocolChoice};
use patchwright::model::{Message, ModelError};
use patchwright::outcome::{TestCommand, TestEnding, TestRun};
use proptest::prelude::*;
use serde_json::json;

use super::harness::{Setup, Turn, call, plan, says};

const CART: &str = "\"\"\"A cart.\"\"\"\n\n\ndef total(prices):\n    return sum(prices) + 1\n";
const TAX: &str = "def with_tax(price, rate):\n    return price * rate\n";
const TEST: &str = "from shop.cart import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n";
const FAILURE: &str = "____ test_total ____\n\n>       assert total([1, 2]) == 3\nE   assert 4 == 3\n\n\
                       test_cart.py:5: AssertionError\n===== 1 failed in 0.01s =====";

/// A model's first messages over these files, as the system's and the user's; the model never answers.
async fn asked_first(
    files: &[(&str, &str)],
    task: &str,
    failure: Option<&str>,
    protocol: ProtocolChoice,
) -> (String, String) {
    let mut setup = Setup::new([Turn::Error(ModelError::Cut("the test needs no answer".into()))]);
    std::fs::remove_file(setup.path().join("a.txt")).unwrap();
    for (path, content) in files {
        let path = setup.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    setup.brief.title = String::new();
    setup.brief.instruction = task.into();
    setup.brief.protocol = protocol;
    setup.brief.test_command = Some(TestCommand { command: "pytest".into(), reason: "told".into() });
    setup.brief.baseline = failure.map(red);
    setup.run().await.0.unwrap_err();
    let requests = setup.model.requests.lock().unwrap();
    match &requests[0].0[..] {
        [Message::System { content: system }, Message::User { content: first }] => (system.clone(), first.clone()),
        other => panic!("{other:?}"),
    }
}

fn red(output: &str) -> TestRun {
    let (ending, excerpt) = (TestEnding::Failed { exit_code: 1 }, output.to_owned());
    TestRun { command: "pytest".into(), ending, milliseconds: 1, excerpt, digest: digest(output) }
}

/// The file that a small model is asked for first; `None`: it gets the whole task.
async fn suspect(files: &[(&str, &str)], task: &str, failure: Option<&str>) -> Option<String> {
    let (system, first) = asked_first(files, task, failure, ProtocolChoice::WholeFile).await;
    let is_repair = system.contains("something is wrong");
    is_repair.then(|| first.lines().next().unwrap().trim_end_matches(", only these functions:").replace("Of ", ""))
}

const SHOP: [(&str, &str); 5] = [
    ("README.md", "# Shop\nA cart with total.\n"),
    ("shop/cart.py", CART),
    ("shop/tax.py", TAX),
    ("shop/__init__.py", ""),
    ("test_cart.py", TEST),
];

#[tokio::test]
async fn the_file_that_a_task_or_a_failing_test_points_to_comes_first() {
    for (task, failure, first) in [
        ("The tests fail. Correct the code.", Some(FAILURE), Some("shop/cart.py")),
        ("`total` is wrong by one", None, Some("shop/cart.py")),
        ("with_tax returns the tax and not the price, which is wrong", None, Some("shop/tax.py")),
        ("tax.py gives wrong prices", None, Some("shop/tax.py")),
        ("The tests fail.", Some("  File \"shop/tax.py\", line 2, in with_tax\nTypeError\n"), Some("shop/tax.py")),
        ("test_cart.py is wrong", Some(FAILURE), Some("shop/cart.py")),
        ("Something is broken", None, None),
    ] {
        assert_eq!(suspect(&SHOP, task, failure).await.as_deref(), first, "{task}");
    }
}

#[tokio::test]
async fn the_file_of_a_stack_trace_is_found_among_many() {
    let fillers: Vec<(String, String)> = (0..450)
        .map(|number| (format!("aa/part_{number}.py"), format!("def part_{number}(x):\n    return x\n")))
        .collect();
    let mut files: Vec<(&str, &str)> =
        fillers.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
    files.extend(SHOP);
    let found = suspect(&files, "The tests fail. Correct the code.", Some(FAILURE)).await;
    assert_eq!(found.as_deref(), Some("shop/cart.py"));
}

#[tokio::test]
async fn what_is_named_is_found_in_many_languages() {
    for (path, content) in [
        ("a.py", "class Parser:\n    def read_all(self):\n        pass\n"),
        ("a.js", "export function read_all(text) {\n}\n"),
        ("a.rs", "pub fn read_all(text: &str) {\n}\n"),
        ("a.go", "package a\n\nfunc read_all(text string) error {\n\treturn nil\n}\n"),
        ("a.c", "static int read_all(const char *text) {\n}\n"),
        ("a.java", "class A {\n    public static int read_all(String text) {\n    }\n}\n"),
        ("a.sh", "read_all() {\n  true\n}\n"),
        ("a.ts", "const read_all = (text: string) => {\n};\n"),
    ] {
        let files = [("b.py", "def other():\n    pass\n"), (path, content)];
        let found = suspect(&files, "`read_all` fails: it loses the last line", None).await;
        assert_eq!(found.as_deref(), Some(path), "{content}");
    }
}

#[test]
fn what_is_new_is_no_repair() {
    for (task, wrong, new) in [
        ("Fix the total", true, false),
        ("It should return 3 instead of 4", true, false),
        ("Create a module that should sum prices, with a test", true, true),
        ("Rename the constant LIMIT everywhere", false, true),
        ("render raises KeyError. Please add a filter `default` for it.", true, true),
        ("Defaults\n\n- Add a default, since a missing name is an error", true, true),
        ("The totals did not add up; `a.add(1)` does not work, and `write` fails", true, false),
        ("Buffer overflow: an invalid write of size 1 into a new buffer", true, false),
        ("New ledgers should be empty", true, false),
        ("Fix the parser and add tests for it", true, true),
    ] {
        assert_eq!((speaks_of_wrong(task), speaks_of_new(task)), (wrong, new), "{task}");
    }
}

#[tokio::test]
async fn a_feature_is_no_repair_though_it_names_a_file() {
    let task = "tax.py should know rates that are not expected. Please add an option for them.";
    assert_eq!(suspect(&SHOP, task, None).await, None);
}

#[test]
fn each_question_is_asked_once_and_the_likeliest_first() {
    let some = |paths: &[&str], most| {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        questions(&paths, most).into_iter().map(|question| (question.path, question.way)).collect::<Vec<_>>()
    };
    let questions = |paths: &[&str]| some(paths, usize::MAX);
    let one = |path: &str| [Way::Plain, Way::Trace, Way::Told, Way::Describe].map(|way| (path.to_owned(), way));
    assert_eq!(questions(&[]), []);
    assert_eq!(questions(&["a"]), one("a"));
    let two = questions(&["a", "b"]);
    let ([a1, a2, a3, a4], [b1, b2, b3, b4]) = (one("a"), one("b"));
    assert_eq!(two, [a1, a2, b1, b2, a3, a4, b3, b4]);
    assert_eq!(questions(&["a", "b", "c", "d"]).len(), 12, "of three files at most");
    assert_eq!(some(&["a", "b"], 3), two[..3]);
}

#[test]
fn a_change_that_was_made_is_known_again_whatever_its_spaces() {
    let mut answers = Answers::default();
    assert_eq!(answers.take([("a", "x = 1\ny = 2\n")]), None);
    answers.judge("1 != 2");
    assert_eq!(answers.take([("a", "x = 1  \n\ny = 2")]).as_deref(), Some("1 != 2"));
    assert_eq!(answers.take([("b", "x = 1\ny = 2\n")]), None);
    assert_eq!(answers.take([("a", "x = 1\n    y = 2\n")]), None);
    assert_eq!(answers.take([("a", "x = 1\ny = 2\n"), ("b", "z\n")]), None, "with another file it is another change");
}

proptest! {
    #[test]
    fn no_answer_makes_splicing_panic(original in "[a-z(){}: \n]{0,80}", answer in "[a-z(){}: \n\\PC]{0,80}") {
        for path in ["a.py", "a.js", "a.c", "A.java", "a.rs"] {
            splice(path, &original, &answer);
        }
    }

    #[test]
    fn no_text_makes_it_panic(task in "\\PC{0,80}|(add|write|`|please|\n|é|[.:,]| ){0,20}") {
        speaks_of_wrong(&task);
        speaks_of_new(&task);
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
    setup.brief.test_command = Some(TestCommand { command: "pytest".into(), reason: "told".into() });
    setup.brief.baseline = Some(red(FAILURE));
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
    assert!(!questions[0].contains("First failure") && !questions[0].contains("1 failed in"), "{}", questions[0]);
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

#[tokio::test]
async fn a_question_shows_the_file_then_what_fails_and_asks_last() {
    let (system, first) = asked_first(&SHOP, "The tests fail.", Some(FAILURE), ProtocolChoice::WholeFile).await;
    insta::assert_snapshot!(first, @r#"
    shop/cart.py
    ```py
    """A cart."""


    def total(prices):
        return sum(prices) + 1
    ```

    A test that fails:
    <test>
    def test_total():
        assert total([1, 2]) == 3
    </test>

    It says:
    <output>
    ____ test_total ____
    >       assert total([1, 2]) == 3
    E   assert 4 == 3
    test_cart.py:5: AssertionError
    </output>

    <task>
    The tests fail.
    </task>

    Write the whole corrected file shop/cart.py in one code block.
    "#);
    assert!(system.len() < 700, "short for a slow model: {}", system.len());
}

#[tokio::test]
async fn what_the_tests_said_is_not_lost_behind_an_answer_of_no_use() {
    let cut = "cart.py\n```python\n# ... existing code ...\n```";
    let setup = setup([answer("sum(prices) + 3"), says(cut), answer("sum(prices)")]);
    std::fs::remove_file(setup.path().join("tax.py")).unwrap();
    let mut agent = setup.agent();
    assert!(is_finish(&agent.run().await.unwrap()));
    agent.reject("Not accepted: assert 6 == 3").unwrap();
    assert!(is_finish(&agent.run().await.unwrap()));
    let asked = setup.asked();
    assert!(asked[2].contains("+     return sum(prices) + 3") && asked[2].contains("assert 6 == 3"), "{}", asked[2]);
    assert!(!asked[2].contains("left out"), "{}", asked[2]);
}

#[tokio::test]
async fn where_no_answer_was_tested_the_reason_is_told() {
    let setup = setup([says("I cannot."), says("cart.py\n```python\n```"), answer("sum(prices)")]);
    std::fs::remove_file(setup.path().join("tax.py")).unwrap();
    assert!(is_finish(&setup.run().await.0.unwrap()));
    let asked = setup.asked();
    assert!(asked[2].contains("could not be taken:\n<output>\nthe code block was empty\n"), "{}", asked[2]);
    assert!(!asked[2].contains("in another way"), "{}", asked[2]);
}

#[tokio::test]
async fn the_whole_task_is_told_what_the_series_tried_last() {
    let turns = [1, 2, 3, 4].map(|more| answer(&format!("sum(prices) + 1 + {more}")));
    let again = answer("sum(prices) + 1 + 2");
    let setup = setup(turns.into_iter().chain([again, answer("sum(prices)")]));
    std::fs::remove_file(setup.path().join("tax.py")).unwrap();
    let mut agent = setup.agent();
    for more in 1..=4 {
        assert!(agent.is_sampling() && is_finish(&agent.run().await.unwrap()));
        agent.reject(&format!("Not accepted: 3 != {more}")).unwrap();
    }
    assert!(!agent.is_sampling() && is_finish(&agent.run().await.unwrap()));
    setup.assert_used();
    assert_eq!(setup.file("cart.py"), cart("sum(prices)"));
    let asked = setup.asked();
    let (four, known) = (&asked[4], &asked[5]);
    assert!(four.contains("+     return sum(prices) + 1 + 4") && four.contains("3 != 4"), "{four}");
    assert!(known.contains("3 != 2"), "the series' answers are known to the whole task: {known}");
}

/// A module that is too long to be written as a whole.
fn long_module() -> String {
    let filler = |number: usize| {
        format!(
            "def filler_{number}(value):\n    \"\"\"Gives the value, number {number}.\"\"\"\n    return value\n\n\n"
        )
    };
    let before: String = (0..120).map(filler).collect();
    let after: String = (120..240).map(filler).collect();
    format!("{before}class Cart:\n    def total(self, prices):\n        return sum(prices) + 1\n\n\n{after}")
}

const LONG_TEST: &str = "from cart import Cart\n\n\ndef test_total():\n    assert Cart().total([1, 2]) == 3\n";

#[tokio::test]
async fn of_a_long_file_the_functions_are_asked_for_and_put_back() {
    let module = long_module();
    let fixed = "def total(self, prices):\n    return sum(prices)\n";
    for reply in [format!("cart.py\n```python\n{fixed}```\n"), format!("```python\n{fixed}```\n")] {
        let setup = setup([says(&reply)]);
        std::fs::write(setup.path().join("cart.py"), &module).unwrap();
        std::fs::write(setup.path().join("test_cart.py"), LONG_TEST).unwrap();
        assert!(is_finish(&setup.run().await.0.unwrap()));
        assert_eq!(setup.file("cart.py"), module.replace("sum(prices) + 1", "sum(prices)"));
        let asked = setup.asked();
        let question = &asked[0];
        assert!(question.starts_with("Of cart.py, only these functions:\n```py\n"), "{question}");
        assert!(question.contains("sum(prices) + 1") && !question.contains("filler"), "{question}");
        assert!(question.contains("these functions, whole and corrected,"), "{question}");
        assert!(question.len() < 1_500, "{}", question.len());
    }
}

#[tokio::test]
async fn a_long_file_is_not_replaced_by_what_is_not_its_functions() {
    let module = long_module();
    let other = says("cart.py\n```python\nprint('total')\n```\n");
    let setup = setup([other, says("cart.py\n```python\ndef total(self, prices):\n    return 3\n```")]);
    std::fs::write(setup.path().join("cart.py"), &module).unwrap();
    std::fs::write(setup.path().join("test_cart.py"), LONG_TEST).unwrap();
    assert!(is_finish(&setup.run().await.0.unwrap()));
    assert_eq!(setup.file("cart.py"), module.replace("sum(prices) + 1", "3"));
    let at = 1 + module.lines().position(|line| line.contains("sum(prices)")).unwrap();
    assert!(setup.asked()[1].contains(&format!("{at}|     return sum(prices) + 1\n")), "{}", setup.asked()[1]);
}

#[tokio::test]
async fn a_small_window_gets_functions_sooner() {
    let mut files = setup([says("```python\ndef total(prices):\n    return sum(prices)\n```")]);
    std::fs::write(files.path().join("cart.py"), format!("{}{CART}", "# A long comment on the cart.\n".repeat(120)))
        .unwrap();
    files.model.card.window = Some(4_096);
    assert!(is_finish(&files.run().await.0.unwrap()));
    assert!(files.asked()[0].starts_with("Of cart.py, only these functions:"), "{}", files.asked()[0]);
}

#[tokio::test]
async fn every_protocol_begins_with_a_few_questions_where_a_test_fails() {
    for protocol in [ProtocolChoice::Native, ProtocolChoice::Fenced, ProtocolChoice::Schema] {
        let mut setup = setup([answer("sum(prices)")]);
        setup.brief.protocol = protocol;
        let mut agent = setup.agent();
        assert!(is_finish(&agent.run().await.unwrap()), "{protocol:?}");
        assert_eq!(setup.file("cart.py"), cart("sum(prices)"));
        assert!(setup.model.tools.lock().unwrap().is_empty(), "a question offers no tools");
    }
    for (task, failure) in [("`total` is wrong", None), ("Add a function. The tests fail.", Some(FAILURE))] {
        let (system, _) = asked_first(&SHOP, task, failure, ProtocolChoice::Native).await;
        assert!(system.contains("tool"), "{task}: {system}");
    }
}

#[tokio::test]
async fn after_its_questions_the_loop_begins_with_what_was_tried() {
    let finish = call("finish", json!({ "summary": "It sums." }));
    let edit = json!({ "path": "cart.py", "old": " + 1", "new": "" });
    let read = call("read", json!({ "path": "cart.py" }));
    let turns = [answer("sum(prices) + 3"), says("I cannot."), says("Nor can I.")];
    let mut setup = setup(turns.into_iter().chain([plan(), read, call("replace", edit), finish]));
    setup.brief.protocol = ProtocolChoice::Native;
    // One file is suspected, so that all questions are about it.
    std::fs::remove_file(setup.path().join("tax.py")).unwrap();
    let mut agent = setup.agent();
    assert!(agent.is_sampling() && is_finish(&agent.run().await.unwrap()));
    agent.reject("Not accepted: assert 6 == 3").unwrap();
    assert!(is_finish(&agent.run().await.unwrap()), "the loop's own end");
    assert!(!agent.is_sampling() && !agent.knows_its_answers());
    setup.assert_used();
    assert_eq!(setup.file("cart.py"), cart("sum(prices)"));
    let asked = setup.asked();
    let first = &asked[3];
    assert!(first.contains("call plan") && first.contains("+     return sum(prices) + 3"), "{first}");
    assert!(first.contains("assert 6 == 3"), "{first}");
    assert!(asked[4].starts_with("The plan is noted"), "its plan is the first one: {}", asked[4]);
    assert!(!setup.model.tools.lock().unwrap().is_empty());
}
