//! What an answer to a review says.

use patchwright::agent::review::findings;

#[test]
fn an_answer_is_ok_or_a_list() {
    let none: &[&str] = &[];
    for (answer, expected) in [
        ("OK", Some(none)),
        ("**OK.**\n\n- It does all of it.", Some(none)),
        ("<think>\n- a.py: is it right?\n</think>\n\nok\n", Some(none)),
        ("- a.py: one\n* b.py: two", Some(&["a.py: one", "b.py: two"][..])),
        ("Let me see.\n\n1. a.py: one\n  2) b.py: two\nThat is all.", Some(&["a.py: one", "b.py: two"])),
        ("It looks fine, I think.", None),
        ("-\n- \n3.5 is a number", None),
        ("", None),
    ] {
        let expected = expected.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        assert_eq!(findings(answer), expected, "{answer}");
    }
    let many = findings(&"- the same again\n".repeat(30)).unwrap();
    let long = findings(&format!("- {}", "x".repeat(3_000))).unwrap();
    assert!(many.len() == 5 && long[0].len() < 500, "{} {}", many.len(), long[0].len());
}
