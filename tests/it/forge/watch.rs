//! What a service reads again and again, and what it writes more than once.

use lab::github::{BOT, Permission as Role};
use lab::{Fault, FaultRule};
use patchwright::forge::{CommitState, CommitStatus, ForgeError, Fresh, Issue, Permission};

use super::support::{WIDGETS, asked, client, client_of, issue, name, nothing_wrong, token, widgets};

const LABEL: &str = "copilot-agent";
const MARKER: &str = "<!-- patchwright:status -->";

fn changed<T>(fresh: Fresh<T>) -> (T, String, bool) {
    match fresh {
        Fresh::Changed { value, etag, has_next } => (value, etag, has_next),
        Fresh::Unchanged => panic!("nothing changed"),
    }
}

fn numbers(issues: &[Issue]) -> (u64, u64, usize) {
    (issues.first().map_or(0, |issue| issue.number), issues.last().map_or(0, |issue| issue.number), issues.len())
}

#[tokio::test]
async fn open_issues_are_read_page_by_page_and_cost_nothing_while_nothing_is_new() {
    let lab = widgets().await;
    for number in 1..=251 {
        let labels: &[&str] = if number == 3 { &["other"] } else { &[LABEL] };
        lab.github.create_issue(WIDGETS, "ada", &format!("Issue {number}"), None, labels);
    }
    lab.github.close_issue(WIDGETS, 2, "ada");
    let forge = client(&lab);
    let repository = name(WIDGETS);
    let mut etags = Vec::new();
    for (page, expected) in [(1, (1, 102, 100)), (2, (103, 202, 100)), (3, (203, 251, 49))] {
        let (issues, etag, has_next) = changed(forge.open_issues(&repository, LABEL, page, None).await.unwrap());
        assert_eq!((numbers(&issues), has_next), (expected, page < 3));
        etags.push(etag);
    }
    let used = lab.github.token_state(lab.github.token()).unwrap().used;
    for (page, etag) in (1..).zip(&etags) {
        let fresh = forge.open_issues(&repository, LABEL, page, Some(etag)).await.unwrap();
        assert!(matches!(fresh, Fresh::Unchanged), "page {page}");
    }
    assert_eq!(lab.github.token_state(lab.github.token()).unwrap().used, used, "304 is not counted");
    assert_eq!((lab.github.counts().unchanged, forge.limits().not_modified, forge.limits().requests), (3, 3, 6));

    lab.github.create_issue(WIDGETS, "ada", "New", None, &[LABEL]);
    assert!(matches!(forge.open_issues(&repository, LABEL, 1, Some(&etags[0])).await.unwrap(), Fresh::Unchanged));
    let (issues, ..) = changed(forge.open_issues(&repository, LABEL, 3, Some(&etags[2])).await.unwrap());
    assert_eq!(numbers(&issues), (203, 252, 50));
    let etag = Some("no\nheader");
    assert_eq!(changed(forge.open_issues(&repository, LABEL, 4, etag).await.unwrap()).0.len(), 0);
    nothing_wrong(&lab);
}

#[tokio::test]
async fn a_full_page_is_followed_by_another_look() {
    let lab = widgets().await;
    for number in 0..100 {
        lab.github.create_issue(WIDGETS, "ada", &number.to_string(), None, &["a label, with % and ü"]);
    }
    let page = client(&lab).open_issues(&name(WIDGETS), "a label, with % and ü", 1, None).await.unwrap();
    let (issues, _, has_next) = changed(page);
    // GitHub separates labels by commas, so such a label matches nothing; it must not break the request either.
    assert_eq!((issues.len(), has_next), (0, false));
    for number in 0..100 {
        lab.github.create_issue(WIDGETS, "ada", &number.to_string(), None, &["plain ü"]);
    }
    let (issues, _, has_next) = changed(client(&lab).open_issues(&name(WIDGETS), "plain ü", 1, None).await.unwrap());
    assert_eq!((issues.len(), has_next), (100, true));
    nothing_wrong(&lab);
}

#[tokio::test]
async fn recent_comments_come_newest_first_with_their_issue() {
    let lab = widgets().await;
    for number in 1..=2 {
        lab.github.create_issue(WIDGETS, "ada", &format!("Issue {number}"), None, &[]);
    }
    let first = lab.github.create_comment(WIDGETS, 1, "ada", "/retry");
    let second = lab.github.create_comment(WIDGETS, 2, "eve", "/stop");
    let forge = client(&lab);
    let (comments, etag, _) = changed(forge.recent_comments(&name(WIDGETS), 1, None).await.unwrap());
    let seen: Vec<_> = comments.iter().map(|comment| (comment.id, comment.issue, comment.author.as_str())).collect();
    assert_eq!(seen, [(second, 2, "eve"), (first, 1, "ada")]);
    assert!(comments[0].created_at > 1_500_000_000_000 && comments[0].body == "/stop");
    let again = forge.recent_comments(&name(WIDGETS), 1, Some(&etag)).await.unwrap();
    assert!(matches!(again, Fresh::Unchanged));
    nothing_wrong(&lab);
}

/// Whatever a text comes from, no form of a secret of ours goes over the wire.
#[tokio::test]
async fn no_text_is_sent_with_a_secret_in_any_form() {
    use base64::Engine;
    const SECRET: &str = "Hn5+wQ8/xC3-zT7kM2rV9p";
    patchwright::logging::keep_secret("LLM_API_KEY", SECRET);
    let lab = widgets().await;
    let number = lab.github.create_issue(WIDGETS, "ada", "Title", None, &[]);
    let forge = client(&lab);
    let reversed: String = SECRET.chars().rev().collect();
    let forms = [
        SECRET.to_owned(),
        base64::prelude::BASE64_STANDARD.encode(SECRET),
        hex::encode(SECRET),
        reversed,
        format!("{}' +\n'{}", &SECRET[..9], &SECRET[9..]),
    ];
    for (at, form) in forms.iter().enumerate() {
        let marker = format!("<!-- {at} -->");
        let text = format!("before\n{form}\nafter\n{marker}");
        forge.comment_once(&issue(number), &marker, &text).await.unwrap();
        forge.put_comment(&issue(number), &marker, &text, None).await.unwrap();
    }
    let comments = lab.github.comments(WIDGETS, number);
    assert_eq!(comments.len(), forms.len(), "each was found again by its marker");
    for comment in &comments {
        assert!(comment.body.starts_with("before\n") && comment.body.contains("\nafter\n"), "{}", comment.body);
    }
    for asked in lab.github.exchanges() {
        let told = format!("{:?} {}", asked.query, asked.json());
        assert!(forms.iter().flat_map(|form| form.lines()).all(|line| !told.contains(line)), "{told}");
    }
    nothing_wrong(&lab);
}

#[tokio::test]
async fn the_status_comment_is_made_once_and_edited() {
    let lab = widgets().await;
    let number = lab.github.create_issue(WIDGETS, "ada", "Title", None, &[]);
    // Anyone can write our marker: it must neither be edited nor silence us.
    lab.github.create_comment(WIDGETS, number, "eve", &format!("{MARKER} nothing to see"));
    let forge = client(&lab);
    assert!(!forge.has_comment(&issue(number), MARKER).await.unwrap());
    lab.github.add_fault(FaultRule::new("POST", "/repos/*/*/issues/*/comments", Fault::AnswerLost));
    let id = forge.put_comment(&issue(number), MARKER, &format!("{MARKER} claimed"), None).await.unwrap();
    assert_eq!(asked(&lab, "POST", "/comments"), 1);
    lab.github.add_fault(FaultRule::new("PATCH", "/repos/*/*/issues/comments/*", Fault::Status(502)).times(2));
    for known in [Some(id), None] {
        let text = format!("{MARKER} working, {known:?}");
        assert_eq!(forge.put_comment(&issue(number), MARKER, &text, known).await.unwrap(), id);
    }
    forge.comment_once(&issue(number), MARKER, "not written").await.unwrap();
    let comments = lab.github.comments(WIDGETS, number);
    let bodies: Vec<_> = comments.iter().map(|comment| (comment.author.as_str(), comment.body.as_str())).collect();
    let eve = format!("{MARKER} nothing to see");
    let ours = format!("{MARKER} working, None");
    assert_eq!(bodies, [("eve", eve.as_str()), (BOT, ours.as_str())]);
    // A comment that somebody deleted is made anew.
    let other = forge.put_comment(&issue(number), "<!-- other -->", "<!-- other -->", Some(99_999)).await.unwrap();
    assert_eq!(lab.github.comments(WIDGETS, number).last().unwrap().id, other);
    assert_eq!(asked(&lab, "GET", "/user"), 1, "our login is asked for once");
    nothing_wrong(&lab);
}

#[tokio::test]
async fn without_a_login_a_bot_is_trusted_and_a_person_is_not() {
    let lab = widgets().await;
    let number = lab.github.create_issue(WIDGETS, "ada", "Title", None, &[]);
    lab.github.create_comment(WIDGETS, number, "eve", MARKER);
    let actions = lab.github.add_fine_token("github-actions[bot]", &[WIDGETS], &[("issues", "write")]);
    let forge = client_of(&lab, token(&actions));
    assert!(matches!(forge.login().await, Err(ForgeError::Forbidden { .. })));
    assert!(!forge.has_comment(&issue(number), MARKER).await.unwrap());
    forge.comment_once(&issue(number), MARKER, MARKER).await.unwrap();
    assert!(forge.has_comment(&issue(number), MARKER).await.unwrap());
    assert_eq!(lab.github.comments(WIDGETS, number).len(), 2);
    nothing_wrong(&lab);
}

#[tokio::test]
async fn markers_are_found_beyond_the_first_page() {
    let lab = widgets().await;
    let number = lab.github.create_issue(WIDGETS, "ada", "Title", None, &[]);
    for text in 0..100 {
        lab.github.create_comment(WIDGETS, number, "ada", &text.to_string());
    }
    lab.github.create_comment(WIDGETS, number, BOT, MARKER);
    assert!(client(&lab).has_comment(&issue(number), MARKER).await.unwrap());
    nothing_wrong(&lab);
}

#[tokio::test]
async fn permissions_and_labels_tell_who_may_and_who_did() {
    let lab = widgets().await;
    let roles = [("ada", Role::Admin, Permission::Admin), ("mae", Role::Maintain, Permission::Maintain)];
    let more = [("wil", Role::Write, Permission::Write), ("tim", Role::Triage, Permission::Triage)];
    for (login, role, _) in roles.iter().chain(&more) {
        lab.github.set_permission(WIDGETS, login, *role);
    }
    let number = lab.github.create_issue(WIDGETS, "eve", "Title", None, &["bug"]);
    let forge = client(&lab);
    for (login, _, expected) in roles.iter().chain(&more) {
        assert_eq!(forge.permission(&name(WIDGETS), login).await.unwrap(), *expected, "{login}");
    }
    assert_eq!(forge.permission(&name(WIDGETS), "eve").await.unwrap(), Permission::Read);
    assert_eq!(forge.permission(&name(WIDGETS), "no one/../x[bot]").await.unwrap(), Permission::None);
    let bystander = client_of(&lab, token(&lab.github.add_token("eve", &["public_repo"])));
    assert!(matches!(bystander.permission(&name(WIDGETS), "ada").await, Err(ForgeError::Forbidden { .. })));

    for _ in 0..60 {
        lab.github.add_label(WIDGETS, number, "tim", LABEL);
        lab.github.remove_label(WIDGETS, number, "eve", LABEL);
    }
    forge.change_labels(&issue(number), &[LABEL], &["bug"]).await.unwrap();
    let history = forge.history(&issue(number)).await.unwrap();
    assert_eq!((history.title.as_str(), history.body.as_str(), history.changed_at), ("Title", "", None));
    let set = history.labelled;
    let (first, last) = (set.first().unwrap(), set.last().unwrap());
    assert_eq!((first.actor.as_str(), first.label.as_str()), ("eve", "bug"));
    assert_eq!((last.actor.as_str(), last.label.as_str(), set.len()), (BOT, LABEL, 62));
    assert!(set.windows(2).all(|pair| pair[0].at <= pair[1].at));
    nothing_wrong(&lab);
}

#[tokio::test]
async fn the_history_tells_when_a_text_was_changed_and_by_which_bot_it_was_labelled() {
    let lab = widgets().await;
    let forge = client(&lab);
    let (title, body, none) = ("Title", "Body", "Other");
    for (what, is_changed) in [("a body", true), ("a title", true), ("a label", false), ("a comment", false)] {
        let number = lab.github.create_issue(WIDGETS, "eve", title, Some(body), &[]);
        match what {
            "a body" => lab.github.edit_issue(WIDGETS, number, "eve", none),
            "a title" => lab.github.rename_issue(WIDGETS, number, "eve", none),
            "a label" => lab.github.add_label(WIDGETS, number, "helper[bot]", LABEL),
            _ => drop(lab.github.create_comment(WIDGETS, number, "eve", none)),
        }
        let history = forge.history(&issue(number)).await.unwrap();
        assert_eq!(history.changed_at.is_some(), is_changed, "{what}: {history:?}");
        let labellers: Vec<_> = history.labelled.iter().map(|label| label.actor.as_str()).collect();
        assert!(labellers == ["helper[bot]"] || what != "a label", "{history:?}");
    }
    let pull = forge.history(&issue(99)).await;
    assert!(matches!(pull, Err(ForgeError::NotFound { .. })), "{pull:?}");
    lab.github.add_fault(FaultRule::new("POST", "/graphql", Fault::Status(502)));
    assert_eq!(forge.history(&issue(1)).await.unwrap().body, none);
    lab.github.revoke_token(lab.github.token());
    assert!(matches!(forge.history(&issue(1)).await, Err(ForgeError::Unauthorized)));
    assert!(matches!(forge.check().await, Err(ForgeError::Unauthorized)));
    nothing_wrong(&lab);
}

#[tokio::test]
async fn a_commit_status_is_set_again_under_its_name() {
    let lab = widgets().await;
    let forge = client(&lab);
    let commit = forge.branch(&name(WIDGETS), "main").await.unwrap().unwrap().commit;
    lab.github.add_fault(FaultRule::new("POST", "/repos/*/*/statuses/*", Fault::AnswerLost));
    for state in [CommitState::Pending, CommitState::Success] {
        let status = CommitStatus {
            state,
            context: "patchwright/verify".into(),
            description: "ü".repeat(200),
            target_url: Some("https://example.org/1".into()),
        };
        forge.set_status(&name(WIDGETS), &commit, &status).await.unwrap();
    }
    let statuses = lab.github.repository_state(WIDGETS).unwrap().statuses;
    let states: Vec<_> = statuses.iter().map(|status| status.state.as_str()).collect();
    assert_eq!(states, ["pending", "pending", "success"]);
    assert_eq!(statuses[2].description.as_ref().unwrap().chars().count(), 140);
    nothing_wrong(&lab);
}

#[tokio::test]
async fn trouble_does_not_say_that_an_issue_is_gone() {
    let lab = widgets().await;
    let number = lab.github.create_issue(WIDGETS, "ada", "Title", None, &[]);
    let forge = client(&lab);
    let path = "/repos/*/*/issues/*";
    lab.github.add_fault(FaultRule::new("GET", path, Fault::Status(404)));
    assert!(matches!(forge.issue(&issue(number)).await, Err(ForgeError::NotFound { .. })));
    lab.github.add_fault(FaultRule::new("GET", path, Fault::Status(500)).times(4));
    assert!(matches!(forge.issue(&issue(number)).await, Err(ForgeError::Transient { .. })));
    for fault in [Fault::Hangup, Fault::CutBody, Fault::AnswerLost, Fault::Status(503)] {
        lab.github.add_fault(FaultRule::new("GET", path, fault));
        assert_eq!(forge.issue(&issue(number)).await.unwrap().state, "open");
    }
    lab.github.close_issue(WIDGETS, number, "ada");
    assert_eq!(forge.issue(&issue(number)).await.unwrap().state, "closed");
    assert!(forge.limits().failures >= 8, "{:?}", forge.limits());
    nothing_wrong(&lab);
}
