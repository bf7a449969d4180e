//! Repositories and tokens that the forge refuses.

use lab::{Lab, Permission};

use super::harness::{PATCH, Place};

fn run(repository: &str) -> Vec<&str> {
    vec!["run", "--repo", repository, "--task", PATCH, "--test-command", "grep -q world README"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_forge_refuses_is_told_with_cause_and_remedy() {
    let lab = Lab::start().await.unwrap();
    let files = [("README", "Hello\n")];
    lab.github.repository("acme/open").bot(Permission::Write).commit("One", &files).create().await.unwrap();
    lab.github.repository("acme/closed").private().bot(Permission::None).commit("One", &files).create().await.unwrap();
    lab.github.repository("acme/readable").bot(Permission::Read).commit("One", &files).create().await.unwrap();
    let mut place = Place::at(&lab);
    let unknown = place.run(&run("acme/unknown"));
    unknown.refuses(1, &["failed in stage", "acme/unknown", "token"]);
    let closed = place.run(&run("acme/closed"));
    closed.refuses(1, &["failed in stage", "acme/closed", "token"]);
    let dry = place.run(&[&run("acme/closed")[..], &["--dry-run"]].concat());
    dry.refuses(
        1,
        &["failed in stage `checkout`", "acme/closed", "Check the name, and that the token has read access"],
    );
    let readable = place.run(&run("acme/readable"));
    readable.refuses(
        1,
        &["failed in stage `intake`", "the token may not push to acme/readable", "Give it write access to contents"],
    );
    let base = place.run(&[&run("acme/open")[..], &["--base", "nowhere"]].concat());
    base.refuses(1, &["failed in stage `checkout`", "`nowhere` names no branch, tag or commit"]);
    let no_issue = place.run(&["run", "--issue", "acme/open#77"]);
    no_issue.refuses(1, &["failed in stage `intake`", "acme/open#77", "not found"]);
    for (token, parts) in [
        (
            "ghp_thisTokenIsWrong000000000000000000000",
            &["failed in stage", "GITHUB_TOKEN is valid and not expired"][..],
        ),
        ("two\nlines", &["the token", "holds characters that no token has", "Copy it anew"]),
    ] {
        place.set("GITHUB_TOKEN", token);
        let wrong = place.run(&run("acme/open"));
        assert!(matches!(wrong.code, Some(1 | 2)), "{wrong:#?}");
        wrong.says(parts);
        assert!(wrong.stdout.is_empty() && !wrong.stderr.contains(token) && !wrong.stderr.contains("panicked"));
    }
    place.set("GITHUB_TOKEN", "");
    place.run(&run("acme/open")).refuses(2, &["GITHUB_TOKEN is not set", "Set it, or add --dry-run"]);
    let without = place.run(&[&run("acme/open")[..], &["--dry-run"]].concat());
    assert_eq!(without.code, Some(0), "a public repository can be read without a token: {without:#?}");
    place.assert_clean();
    assert!(lab.github.pulls("acme/open").is_empty() && lab.github.pulls("acme/readable").is_empty());
}
