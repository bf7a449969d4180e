//! The lab itself: the real clients against it, and that its strictness notices what it should.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use lab::github::{BOT, Delivery, Permission};
use lab::model::{Model, Reply, Script};
use lab::{Fault, FaultRule, Lab};
use octocrab::Octocrab;
use octocrab::params::State;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const WIDGETS: &str = "acme/widgets";

fn tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn client(lab: &Lab, token: &str) -> Octocrab {
    tls();
    let retry = octocrab::service::middleware::retry::RetryConfig::None;
    let builder = Octocrab::builder().base_uri(lab.github.api_url()).unwrap().add_retry_config(retry);
    builder.personal_token(token.to_owned()).build_with_reqwest(reqwest::Client::new()).unwrap()
}

fn http() -> reqwest::Client {
    tls();
    reqwest::Client::builder().user_agent("patchwright-test").build().unwrap()
}

async fn widgets() -> Lab {
    let lab = Lab::start().await.unwrap();
    let repository = lab.github.repository(WIDGETS);
    repository.commit("One", &[("README.md", "# Widgets\n"), ("src/big.txt", "big\n")]).create().await.unwrap();
    lab
}

/// Runs git as a user would, in `folder`, and returns what came of it.
async fn git(folder: &Path, arguments: &[&str]) -> Output {
    lab::git::command(folder).args(arguments).output().await.unwrap()
}

/// A clone address with a token. (The program under test never does so; the test may.)
fn clone_url(lab: &Lab, token: Option<&str>) -> String {
    let base = lab.github.web_url();
    match token {
        Some(token) => format!("{}/{WIDGETS}.git", base.replace("http://", &format!("http://x-access-token:{token}@"))),
        None => format!("{base}/{WIDGETS}.git"),
    }
}

/// Clones, commits a change on `branch` and pushes it.
async fn push_branch(lab: &Lab, branch: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let url = clone_url(lab, Some(lab.github.token()));
    assert!(git(folder.path(), &["clone", "--quiet", &url, "work"]).await.status.success());
    let work = folder.path().join("work");
    assert!(git(&work, &["checkout", "--quiet", "-b", branch]).await.status.success());
    std::fs::write(work.join("new.txt"), branch).unwrap();
    let commit = lab::git::commit_all(&work, "Two", 1).await.unwrap();
    let pushed = git(&work, &["push", "--quiet", "origin", branch]).await;
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    commit
}

#[track_caller]
fn github_error(error: octocrab::Error) -> (u16, String, String) {
    match error {
        octocrab::Error::GitHub { source, .. } => {
            let errors = source.errors.unwrap_or_default();
            (source.status_code.as_u16(), source.message, Value::Array(errors).to_string())
        }
        other => panic!("not an error of GitHub: {other:?}"),
    }
}

#[tokio::test]
async fn octocrab_reads_repository_user_branches_and_permissions() {
    let lab = widgets().await;
    lab.github.set_permission(WIDGETS, "ada", Permission::Maintain);
    let client = client(&lab, lab.github.token());
    let repository = client.repos("acme", "widgets").get().await.unwrap();
    assert_eq!(repository.default_branch.as_deref(), Some("main"));
    assert!(repository.permissions.unwrap().push);
    assert_eq!(client.current().user().await.unwrap().login, BOT);
    let branches = client.repos("acme", "widgets").list_branches().send().await.unwrap();
    assert_eq!(branches.items.iter().map(|branch| branch.name.as_str()).collect::<Vec<_>>(), ["main"]);
    let reference = octocrab::params::repos::Reference::Branch("main".into());
    let reference = client.repos("acme", "widgets").get_ref(&reference).await.unwrap();
    assert_eq!(reference.ref_field, "refs/heads/main");
    let permission: Value = client.get("/repos/acme/widgets/collaborators/ada/permission", None::<&()>).await.unwrap();
    assert_eq!((&permission["permission"], &permission["role_name"]), (&json!("write"), &json!("maintain")));
    let branch: Value = client.get("/repos/acme/widgets/branches/main", None::<&()>).await.unwrap();
    assert_eq!(branch["commit"]["commit"]["message"], "One");
    let limit = client.ratelimit().get().await.unwrap();
    assert_eq!(limit.rate.limit, 5_000);
    assert_eq!(lab.finish(), Vec::<String>::new());
}

#[tokio::test]
async fn octocrab_works_an_issue() {
    let lab = widgets().await;
    for number in 0..35 {
        let labels: &[&str] = if number % 5 == 0 { &["copilot-agent"] } else { &[] };
        lab.github.create_issue(WIDGETS, "ada", &format!("Issue {number}"), None, labels);
    }
    let client = client(&lab, lab.github.token());
    let issues = client.issues("acme", "widgets");
    let page = issues.list().state(State::Open).per_page(20).send().await.unwrap();
    assert_eq!((page.items.len(), page.number_of_pages()), (20, Some(2)));
    assert_eq!(client.all_pages(page).await.unwrap().len(), 35);
    let labelled = issues.list().labels(&["copilot-agent".to_owned()]).send().await.unwrap();
    assert_eq!(labelled.items.len(), 7);
    assert_eq!(labelled.items[0].number, 31, "the newest comes first");

    issues.add_labels(1, &["agent-running".to_owned()]).await.unwrap();
    issues.remove_label(1, "copilot-agent").await.unwrap();
    let missing = issues.remove_label(1, "copilot-agent").await.unwrap_err();
    assert_eq!(github_error(missing).0, 404);
    let comment = issues.create_comment(1, "Started.").await.unwrap();
    issues.update_comment(comment.id, "Finished.").await.unwrap();
    assert_eq!(issues.list_comments(1).send().await.unwrap().items[0].body.as_deref(), Some("Finished."));
    issues.update(1).state(octocrab::models::IssueState::Closed).send().await.unwrap();
    let issue = issues.get(1).await.unwrap();
    assert_eq!(issue.labels.iter().map(|label| label.name.as_str()).collect::<Vec<_>>(), ["agent-running"]);
    assert_eq!(issue.state, octocrab::models::IssueState::Closed);
    issues.create_label("processed", "00ff00", "Done").await.unwrap();
    let twice = github_error(issues.create_label("Processed", "00ff00", "Done").await.unwrap_err());
    assert!(twice.0 == 422 && twice.2.contains("already_exists"), "{twice:?}");

    let wrong = lab.finish();
    assert!(wrong.len() == 1 && wrong[0].contains("nobody read the comment"), "{wrong:?}");
    assert_eq!(lab.github.comments(WIDGETS, 1)[0].body, "Finished.");
    assert_eq!(lab.finish(), Vec::<String>::new());
    lab.github.remove_issue(WIDGETS, 2);
    assert_eq!(github_error(issues.get(2).await.unwrap_err()).0, 410);
    assert_eq!(github_error(issues.create_comment(3, "x".repeat(65_537)).await.unwrap_err()).0, 422);
}

#[tokio::test]
async fn pull_requests_look_at_the_real_branches() {
    let lab = widgets().await;
    let client = client(&lab, lab.github.token());
    let pulls = client.pulls("acme", "widgets");
    let refused = async |head: &str, base: &str| github_error(pulls.create("T", head, base).send().await.unwrap_err());
    assert!(refused("nowhere", "main").await.2.contains(r#""field":"head""#));
    let commit = push_branch(&lab, "topic").await;
    assert!(refused("topic", "nowhere").await.2.contains(r#""field":"base""#));
    assert!(refused("main", "main").await.2.contains("No commits between main and main"));

    let pull = pulls.create("Title", "topic", "main").body("Body").draft(true).send().await.unwrap();
    assert_eq!((pull.head.sha.as_str(), pull.draft, pull.changed_files), (commit.as_str(), Some(true), Some(1)));
    assert!(refused("acme:topic", "main").await.2.contains("A pull request already exists for acme:topic."));
    let found = pulls.list().head("acme:topic").state(State::All).send().await.unwrap();
    assert_eq!(found.items.iter().map(|pull| pull.number).collect::<Vec<_>>(), [pull.number]);
    assert!(pulls.list().head("acme:other").send().await.unwrap().items.is_empty());
    pulls.update(pull.number).body("Other").send().await.unwrap();
    assert_eq!(pulls.get(pull.number).await.unwrap().body.as_deref(), Some("Other"));
    let opened = lab.github.pulls(WIDGETS)[0].pull.clone().unwrap();
    assert_eq!(opened.opened_body.as_deref(), Some("Body"));
    let status: Value = client
        .post(format!("/repos/acme/widgets/statuses/{commit}"), Some(&json!({ "state": "success" })))
        .await
        .unwrap();
    assert_eq!(status["context"], "default");
    assert_eq!(lab.finish(), Vec::<String>::new());
}

#[tokio::test]
async fn tokens_and_permissions_are_those_of_github() {
    let lab = Lab::start().await.unwrap();
    lab.github.repository(WIDGETS).private().commit("One", &[("a", "a")]).create().await.unwrap();
    lab.github.create_issue(WIDGETS, "ada", "Title", None, &[]);
    let stranger = client(&lab, &lab.github.add_token("stranger", &["repo"]));
    assert_eq!(github_error(stranger.repos("acme", "widgets").get().await.unwrap_err()).0, 404);
    let wrong = client(&lab, "ghp_wrong");
    let (status, message, _) = github_error(wrong.repos("acme", "widgets").get().await.unwrap_err());
    assert_eq!((status, message.as_str()), (401, "Bad credentials"));
    lab.github.set_permission(WIDGETS, "reader", Permission::Read);
    let reader_token = lab.github.add_token("reader", &["repo"]);
    let reader = client(&lab, &reader_token);
    let refused = reader.issues("acme", "widgets").add_labels(1, &["x".to_owned()]).await.unwrap_err();
    assert_eq!(github_error(refused).0, 403);
    lab.github.set_limit(&reader_token, 1, 600);
    reader.repos("acme", "widgets").get().await.unwrap();
    let spent = reader.repos("acme", "widgets").get().await;
    let (status, message, _) = github_error(spent.unwrap_err());
    assert!(status == 403 && message.contains("API rate limit exceeded"), "{status} {message}");
    lab.github.remove_repository(WIDGETS);
    let bot = client(&lab, lab.github.token());
    assert_eq!(github_error(bot.repos("acme", "widgets").get().await.unwrap_err()).0, 404);
}

#[tokio::test]
async fn an_unchanged_answer_is_304_and_costs_nothing() {
    let lab = widgets().await;
    let url = format!("{}/repos/{WIDGETS}/issues?state=open", lab.github.api_url());
    let get = async |tag: &str| {
        let request = http().get(&url).bearer_auth(lab.github.token()).header("if-none-match", tag);
        request.send().await.unwrap()
    };
    let first = get("").await;
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    let second = get(&tag).await;
    assert_eq!(second.status(), 304);
    assert_eq!(first.headers()["x-ratelimit-remaining"], second.headers()["x-ratelimit-remaining"]);
    lab.github.create_issue(WIDGETS, "ada", "New", None, &[]);
    let third = get(&tag).await;
    assert_eq!((third.status().as_u16(), &third.headers()["x-oauth-scopes"]), (200, &"repo".parse().unwrap()));
    assert_eq!(lab.finish(), Vec::<String>::new());
}

#[tokio::test]
async fn git_clones_in_part_and_pushes_with_a_token_only() {
    let lab = Lab::start().await.unwrap();
    lab.github.repository(WIDGETS).private().commit("One", &[("a.txt", "a\n")]).create().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let anonymous = git(folder.path(), &["clone", &clone_url(&lab, None), "none"]).await;
    assert!(!anonymous.status.success());
    let url = clone_url(&lab, Some(lab.github.token()));
    let cloned = git(folder.path(), &["clone", "--bare", "--filter=blob:none", &url, "part"]).await;
    assert!(cloned.status.success(), "{}", String::from_utf8_lossy(&cloned.stderr));
    let missing = git(&folder.path().join("part"), &["rev-list", "--objects", "--all", "--missing=print"]).await;
    assert!(String::from_utf8_lossy(&missing.stdout).contains('?'), "the blob is not there yet");
    let shown = git(&folder.path().join("part"), &["cat-file", "blob", "main:a.txt"]).await;
    assert_eq!(shown.stdout, b"a\n", "a missing blob is fetched when it is wanted");
    push_branch(&lab, "topic").await;
    assert!(lab.github.exchanges().iter().any(|exchange| exchange.path == "/acme/widgets.git/git-receive-pack"));

    lab.github.set_permission(WIDGETS, "reader", Permission::Read);
    let reader = clone_url(&lab, Some(&lab.github.add_token("reader", &["repo"])));
    let refused = git(&folder.path().join("part"), &["push", &reader, "main:refs/heads/other"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("403"), "{}", String::from_utf8_lossy(&refused.stderr));
    assert_eq!(lab.finish(), Vec::<String>::new());
}

#[tokio::test]
async fn a_large_push_comes_through_chunked_and_gzipped_bodies() {
    let lab = widgets().await;
    let folder = tempfile::tempdir().unwrap();
    let url = clone_url(&lab, Some(lab.github.token()));
    assert!(git(folder.path(), &["clone", "--quiet", &url, "work"]).await.status.success());
    let work = folder.path().join("work");
    let noise: Vec<u8> = (0..3_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(work.join("noise.bin"), &noise).unwrap();
    lab::git::commit_all(&work, "Noise", 1).await.unwrap();
    let pushed = git(&work, &["push", "--quiet", "origin", "HEAD:refs/heads/noise"]).await;
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    for number in 0..60 {
        let name = format!("refs/heads/many/branch-with-a-long-name-{number}");
        assert!(git(&work, &["update-ref", &name, "HEAD"]).await.status.success());
    }
    assert!(git(&work, &["push", "--quiet", "origin", "refs/heads/many/*:refs/heads/many/*"]).await.status.success());
    assert!(git(&work, &["fetch", "--quiet", "origin"]).await.status.success());
    let heads = git(&work, &["ls-remote", "--heads", "origin"]).await;
    assert_eq!(String::from_utf8_lossy(&heads.stdout).lines().count(), 62);
}

#[tokio::test]
async fn faults_happen_as_ordered() {
    let lab = widgets().await;
    let client = client(&lab, lab.github.token());
    push_branch(&lab, "topic").await;
    let path = "/repos/*/*/pulls";
    let create = async || client.pulls("acme", "widgets").create("T", "topic", "main").send().await;
    lab.github.add_fault(FaultRule::new("POST", path, Fault::SecondaryLimit { retry_after: 7 }));
    lab.github.add_fault(FaultRule::new("POST", path, Fault::Status(502)));
    lab.github.add_fault(FaultRule::new("POST", path, Fault::Hangup));
    lab.github.add_fault(FaultRule::new("POST", path, Fault::AnswerLost));
    let limited = create().await.unwrap_err();
    assert!(github_error(limited).1.contains("secondary rate limit"));
    assert_eq!(github_error(create().await.unwrap_err()).0, 502);
    assert!(!matches!(create().await.unwrap_err(), octocrab::Error::GitHub { .. }));
    assert!(lab.github.pulls(WIDGETS).is_empty());
    assert!(!matches!(create().await.unwrap_err(), octocrab::Error::GitHub { .. }));
    assert_eq!(lab.github.pulls(WIDGETS).len(), 1, "the effect is there, the answer is not");
    assert!(github_error(create().await.unwrap_err()).2.contains("already exists"));

    lab.github.add_fault(FaultRule::new("GET", "/repos/acme/widgets", Fault::CutBody));
    let request = http().get(format!("{}/repos/{WIDGETS}", lab.github.api_url())).bearer_auth(lab.github.token());
    let cut = request.send().await.unwrap();
    assert_eq!(cut.status(), 200);
    assert!(cut.bytes().await.is_err());
    lab.github.add_fault(FaultRule::new("GET", "/repos/acme/widgets", Fault::Slow(Duration::from_secs(60))));
    let get = async || client.repos("acme", "widgets").get().await;
    assert!(tokio::time::timeout(Duration::from_millis(300), get()).await.is_err());
    lab.github.add_fault(FaultRule::new("POST", "/*/*.git/git-upload-pack", Fault::Status(500)));
    let folder = tempfile::tempdir().unwrap();
    assert!(!git(folder.path(), &["clone", &clone_url(&lab, None), "work"]).await.status.success());
    assert_eq!(lab.finish(), Vec::<String>::new());
    lab.github.add_fault(FaultRule::new("GET", "/user", Fault::Status(500)));
    assert!(lab.finish()[0].contains("a fault was never met"));
}

#[tokio::test]
async fn requests_out_of_contract_and_leaked_tokens_are_violations() {
    let lab = widgets().await;
    lab.github.create_issue(WIDGETS, "ada", "Title", None, &[]);
    let send = async |method: reqwest::Method, path: &str, body: Option<Value>| {
        let mut request = http().request(method, format!("{}{path}", lab.github.api_url()));
        request = request.bearer_auth(lab.github.token());
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap();
        lab.finish().pop().unwrap_or_default()
    };
    use reqwest::Method;
    assert!(send(Method::GET, "/repos/acme/widgets/wiki", None).await.contains("no operation of GitHub"));
    assert!(send(Method::GET, "/user?secret=1", None).await.contains("`secret` is unknown"));
    assert!(send(Method::GET, "/repos/acme/widgets/issues?state=opened", None).await.contains("state=opened"));
    let comments = "/repos/acme/widgets/issues/1/comments";
    assert!(send(Method::POST, comments, Some(json!({ "text": "x" }))).await.contains("issues/create-comment: body"));
    let leak = format!("/repos/acme/widgets/issues?creator={}", lab.github.token());
    assert!(send(Method::GET, &leak, None).await.contains("a secret in the address"));
}

#[tokio::test]
async fn webhooks_go_out_signed() {
    let lab = widgets().await;
    let known = Delivery {
        id: "1".into(),
        event: "push".into(),
        url: String::new(),
        secret: "It's a Secret to Everybody".into(),
        body: "Hello, World!".into(),
        status: None,
        answered_in: None,
        error: None,
    };
    let documented = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert_eq!(known.signature(), documented);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    lab.github.add_webhook(&url, "s3cret", &["issue_comment"]);
    lab.github.create_issue(WIDGETS, "ada", "Title", None, &[]);
    let client = client(&lab, lab.github.token());
    client.issues("acme", "widgets").add_labels(1, &["x".to_owned()]).await.unwrap();
    client.issues("acme", "widgets").create_comment(1, "Hi").await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut received = String::new();
    while !received.ends_with('}') {
        let mut buffer = [0; 4_096];
        let read = stream.read(&mut buffer).await.unwrap();
        received.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let answered = |github: &lab::GitHub| github.deliveries().iter().all(|delivery| delivery.status == Some(202));
    lab.github.until(Duration::from_secs(10), answered).await.unwrap();
    let deliveries = lab.github.deliveries();
    assert_eq!(deliveries.len(), 1, "labels are another event");
    assert_eq!(deliveries[0].payload()["comment"]["body"], "Hi");
    assert!(received.contains(&format!("x-hub-signature-256: {}", deliveries[0].signature())));
    assert!(received.contains("x-github-event: issue_comment"));
    assert_eq!(lab.github.comments(WIDGETS, 1).len(), 1);
    assert_eq!(lab.finish(), Vec::<String>::new());
}

/// A receiver of webhooks that answers 202 and keeps the delivery ids in the order in which they came.
async fn receiver() -> (String, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let kept = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let ids = kept.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut received = Vec::new();
            let text = loop {
                let mut buffer = [0; 16_384];
                let read = stream.read(&mut buffer).await.unwrap();
                received.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&received).into_owned();
                let length = text.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next());
                let whole = text.split_once("\r\n\r\n").zip(length.and_then(|length| length.parse::<usize>().ok()));
                if read == 0 || whole.is_some_and(|((_, body), length)| body.len() >= length) {
                    break text;
                }
            };
            let id = text.split_once("x-github-delivery: ").and_then(|(_, rest)| rest.lines().next());
            kept.lock().unwrap().push(id.unwrap_or_default().to_owned());
            stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    });
    (url, ids)
}

#[tokio::test]
async fn people_and_programs_set_off_the_same_webhooks() {
    let lab = widgets().await;
    let (url, _) = receiver().await;
    lab.github.add_webhook(&url, "s3cret", &["issues", "issue_comment"]);
    let number = lab.github.create_issue(WIDGETS, "ada", "Title", None, &["a"]);
    lab.github.edit_issue(WIDGETS, number, "ada", "new");
    lab.github.add_label(WIDGETS, number, "ada", "b");
    lab.github.remove_label(WIDGETS, number, "ada", "a");
    lab.github.close_issue(WIDGETS, number, "ada");
    lab.github.reopen_issue(WIDGETS, number, "ada");
    lab.github.create_comment(WIDGETS, number, "ada", "/retry");
    let by_hand: Vec<String> = actions(&lab);
    let stranger = client(&lab, &lab.github.add_token("eve", &["public_repo"]));
    let made = stranger.issues("acme", "widgets").create("By a stranger").send().await.unwrap();
    stranger.issues("acme", "widgets").create_comment(made.number, "/stop").await.unwrap();
    let bot = client(&lab, lab.github.token());
    bot.issues("acme", "widgets").add_labels(made.number, &["a".to_owned()]).await.unwrap();
    bot.issues("acme", "widgets").remove_label(made.number, "a").await.unwrap();
    let expected = ["opened", "labeled a", "edited", "labeled b", "unlabeled a", "closed", "reopened", "created"];
    assert_eq!(by_hand, expected.map(|action| format!("{action} by ada")));
    let rest = ["opened by eve", "created by eve", "labeled a by patchwright-bot", "unlabeled a by patchwright-bot"];
    assert_eq!(actions(&lab)[8..], rest);
    lab.github.comments(WIDGETS, made.number);
    assert_eq!(lab.finish(), Vec::<String>::new());
}

fn actions(lab: &Lab) -> Vec<String> {
    let said = |delivery: &Delivery| {
        let payload = delivery.payload();
        let label = payload["label"]["name"].as_str().map(|label| format!(" {label}")).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{}{label} by {}", text(&payload["action"]), text(&payload["sender"]["login"]))
    };
    lab.github.deliveries().iter().map(said).collect()
}

#[tokio::test]
async fn webhooks_come_twice_and_out_of_order_on_demand() {
    let lab = widgets().await;
    let (url, ids) = receiver().await;
    lab.github.add_webhook(&url, "s3cret", &["issues"]);
    let delay = Duration::from_millis(200);
    let mischief = lab::github::Mischief { seed: 1, duplicated: 0.3, delayed: 0.3, delay };
    lab.github.set_mischief(Some(mischief));
    for number in 0..40 {
        lab.github.create_issue(WIDGETS, "ada", &number.to_string(), None, &[]);
    }
    let all = |github: &lab::GitHub| github.deliveries().iter().all(|delivery| delivery.status == Some(202));
    lab.github.until(Duration::from_secs(20), all).await.unwrap();
    let (sent, came) = (lab.github.deliveries(), ids.lock().unwrap().clone());
    let first_seen: Vec<&String> =
        came.iter().enumerate().filter(|(place, id)| !came[..*place].contains(id)).map(|(_, id)| id).collect();
    let in_order: Vec<&String> = sent.iter().map(|delivery| &delivery.id).collect();
    assert!(came.len() > 45 && first_seen.len() == 40, "{} deliveries", came.len());
    assert_ne!(first_seen, in_order);
}

#[tokio::test]
async fn chaos_is_a_share_of_all_answers_and_the_same_for_the_same_seed() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let lab = widgets().await;
        let slow = Duration::from_millis(1);
        lab.github.set_chaos(Some(lab::github::Chaos { seed, share: 0.2, slow }));
        let url = format!("{}/repos/{WIDGETS}", lab.github.api_url());
        tls();
        // A connection of its own for each: the client would repeat a request on one that was closed.
        let client =
            reqwest::Client::builder().user_agent("patchwright-test").pool_max_idle_per_host(0).build().unwrap();
        let mut outcomes = Vec::new();
        for _ in 0..200 {
            let answer = client.get(&url).send().await;
            outcomes.push(match answer {
                Ok(answer) if answer.status() == 200 => answer.text().await.map_or("none", |_| "fine"),
                Ok(_) => "refused",
                Err(_) => "none",
            });
        }
        let wrong = outcomes.iter().filter(|outcome| **outcome != "fine").count();
        assert!((15..60).contains(&wrong), "{wrong} of 200");
        let kinds: std::collections::BTreeSet<_> = outcomes.iter().copied().collect();
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["fine", "none", "refused"]);
        runs.push(outcomes);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test]
async fn three_thousand_open_issues_are_listed_in_thirty_pages() {
    let lab = widgets().await;
    for number in 0..3_000 {
        lab.github.create_issue(WIDGETS, "ada", &number.to_string(), None, &["copilot-agent"]);
    }
    let mut seen = 0;
    for page in 1..=31 {
        let route = format!("/repos/{WIDGETS}/issues?labels=copilot-agent&per_page=100&page={page}");
        let issues: Vec<Value> = client(&lab, lab.github.token()).get(route, None::<&()>).await.unwrap();
        seen += issues.len();
    }
    assert_eq!((seen, lab.github.counts().counted), (3_000, 31));
    assert_eq!(lab.finish(), Vec::<String>::new());
}

fn chat(messages: Value) -> Value {
    let parameters = json!({ "type": "object", "properties": { "path": { "type": "string" } } });
    let tool = json!({ "type": "function", "function": { "name": "read", "parameters": parameters } });
    json!({
        "model": "scripted-7b", "messages": messages, "tools": [tool],
        "stream": true, "stream_options": { "include_usage": true },
    })
}

async fn model(lines: &str) -> Model {
    Model::start(Script::parse(lines).unwrap()).await.unwrap()
}

async fn ask(model: &Model, request: &Value) -> (u16, Result<String, reqwest::Error>) {
    let answer = http().post(format!("{}/chat/completions", model.endpoint())).json(request).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await)
}

/// The pieces of a stream, without `[DONE]`.
fn pieces(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.filter(|line| *line != "[DONE]").map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_model_streams_calls_in_pieces() {
    let script = r#"{"reasoning": "Let me look.", "calls": [{"name": "read", "arguments": {"path": "a.txt"}}]}
{"content": "Done.", "expect": {"tool": ["hello"]}}"#;
    let model = model(script).await;
    let mut messages = json!([{ "role": "system", "content": "S" }, { "role": "user", "content": "U" }]);
    let (status, text) = ask(&model, &chat(messages.clone())).await;
    let text = text.unwrap();
    assert!(status == 200 && text.ends_with("data: [DONE]\n\n"), "{text}");
    let pieces = pieces(&text);
    let joined =
        |pointer: &str| -> String { pieces.iter().filter_map(|piece| piece.pointer(pointer)?.as_str()).collect() };
    assert_eq!(joined("/choices/0/delta/reasoning_content"), "Let me look.");
    assert_eq!(joined("/choices/0/delta/tool_calls/0/function/arguments"), r#"{"path":"a.txt"}"#);
    assert_eq!(joined("/choices/0/finish_reason"), "tool_calls");
    assert!(pieces.last().unwrap()["usage"]["prompt_tokens"].as_u64().unwrap() > 0);

    let call = json!({ "id": "call_1_1", "type": "function", "function": { "name": "read", "arguments": "{}" } });
    let list = messages.as_array_mut().unwrap();
    list.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] }));
    let (status, explained) = ask(&model, &chat(messages.clone())).await;
    assert!(status == 500 && explained.as_ref().unwrap().contains("have no answer"), "{explained:?}");
    let list = messages.as_array_mut().unwrap();
    list.push(json!({ "role": "tool", "tool_call_id": "call_1_1", "content": "bye" }));
    let (status, explained) = ask(&model, &chat(messages.clone())).await;
    assert!(status == 500 && explained.as_ref().unwrap().contains("no tool's answer holds `hello`"), "{explained:?}");
    assert!(model.finish().iter().any(|wrong| wrong.contains("reply 2 of the script was given 0 of 1 times")));
    messages[3]["content"] = "hello".into();
    let mut changed = messages.clone();
    changed[1]["content"] = "V".into();
    let (status, explained) = ask(&model, &chat(changed)).await;
    assert!(status == 500 && explained.as_ref().unwrap().contains("is not what was sent before"), "{explained:?}");
    assert_eq!(ask(&model, &chat(messages.clone())).await.0, 200);
    let (status, explained) = ask(&model, &chat(messages)).await;
    assert!(status == 500 && explained.unwrap().contains("beyond the script"));
    assert_eq!(model.finish().len(), 4);
    model.until_asked(6, Duration::from_secs(5)).await.unwrap();
    assert_eq!(model.requests().len(), 6);
}

#[tokio::test]
async fn the_model_has_the_habits_of_real_servers() {
    let call = r#""calls": [{"name": "read", "arguments": {"path": "a"}}]"#;
    let script = format!(
        r#"{{{call}, "quirks": ["no_index", "no_id", "empty_role", "no_usage"]}}
{{"content": "A long text that is cut.", "quirks": ["no_finish_reason"]}}
{{"content": "A long text that is cut.", "quirks": ["cut"]}}
{{"content": "A long text that stalls.", "quirks": ["stall"]}}
{{"error": {{"status": 503, "message": "loading", "retry_after": 1}}}}
{{"content": "A long text that fails.", "stream_error": {{"message": "out of memory", "code": 500}}}}
{{"content": "x", "reasoning": "y", "quirks": ["reasoning_field", "comments", "no_done"]}}
{{"calls": [{{"name": "read", "arguments": "{{\"path\": "}}], "quirks": ["whole_calls"]}}"#
    );
    let model = model(&script).await;
    let request = chat(json!([{ "role": "user", "content": "U" }]));
    let first = pieces(&ask(&model, &request).await.1.unwrap());
    assert_eq!(first[1]["choices"][0]["delta"]["role"], "");
    assert!(first[1]["choices"][0]["delta"]["tool_calls"][0].get("index").is_none());
    assert!(first[1]["choices"][0]["delta"]["tool_calls"][0].get("id").is_none());
    assert!(first.iter().all(|piece| piece.get("usage").is_none()));
    let cut = ask(&model, &request).await.1.unwrap();
    assert!(!cut.contains("[DONE]") && !cut.contains("\"finish_reason\":\"stop\""));
    assert!(ask(&model, &request).await.1.is_err());
    assert!(tokio::time::timeout(Duration::from_millis(300), ask(&model, &request)).await.is_err());
    let (status, body) = ask(&model, &request).await;
    assert_eq!((status, pieces(&format!("data: {}", body.unwrap()))[0]["error"]["code"].clone()), (503, json!(503)));
    assert!(
        ask(&model, &request).await.1.unwrap().contains(r#"data: {"error":{"message":"out of memory","code":500}}"#)
    );
    let odd = ask(&model, &request).await.1.unwrap();
    assert!(odd.contains(": keep-alive\r\n") && odd.contains(r#""reasoning":"y""#) && !odd.contains("[DONE]"), "{odd}");
    assert!(ask(&model, &request).await.1.unwrap().contains(r#""arguments":"{\"path\": ""#));
    assert_eq!(model.finish(), Vec::<String>::new());
}

#[tokio::test]
async fn the_model_answers_at_once_lists_itself_and_knows_no_other() {
    let mut script = Script::new(vec![Reply { content: "Hi".into(), ..Reply::default() }]);
    script.replies[0].times = 1;
    script.key = Some("sk-lab".into());
    let model = Model::start(script).await.unwrap();
    let send = async |path: &str, body: Option<Value>, key: &str| {
        let url = format!("{}{path}", model.endpoint());
        let request = match body {
            Some(body) => http().post(url).json(&body),
            None => http().get(url),
        };
        let answer = request.bearer_auth(key).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    assert_eq!(send("/models", None, "sk-lab").await.1["data"][0]["id"], "scripted-7b");
    assert_eq!(send("/models", None, "other").await.0, 401);
    let mut request = json!({ "model": "gpt", "messages": [{ "role": "user", "content": "U" }] });
    let (status, body) = send("/chat/completions", Some(request.clone()), "sk-lab").await;
    assert!(status == 404 && body["error"]["message"] == "The model `gpt` does not exist.", "{body}");
    request["model"] = "scripted-7b".into();
    let (_, body) = send("/chat/completions", Some(request), "sk-lab").await;
    assert_eq!(body["choices"][0]["message"]["content"], "Hi");
    assert_eq!(model.finish(), Vec::<String>::new());
}

#[tokio::test]
async fn the_model_keeps_its_window() {
    let script = Script::parse("{\"content\": \"Yes.\", \"times\": 2}").unwrap();
    let model = Model::start(Script { context_window: Some(400), ..script }).await.unwrap();
    let mut request = chat(json!([{ "role": "user", "content": "word ".repeat(120) }]));
    request["max_tokens"] = 100.into();
    let (status, text) = ask(&model, &request).await;
    let counted = pieces(&text.unwrap()).last().unwrap()["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(status == 200 && (200..300).contains(&counted), "{counted}");
    request["max_tokens"] = (401 - counted).into();
    let (status, text) = ask(&model, &request).await;
    assert!(status == 400 && text.unwrap().contains("maximum context length is 400 tokens"), "{status}");
    assert_eq!(model.refused(), 1);
    request["max_tokens"] = (400 - counted).into();
    assert_eq!(ask(&model, &request).await.0, 200);
    assert_eq!(model.finish(), Vec::<String>::new());
}

/// A scenario in a temporary folder, for a program that is a shell script.
fn scenario(folder: &Path, settings: &str) -> lab::scenario::Scenario {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("scenario.toml", &format!("about = \"A test of the runner.\"\n{settings}"));
    write("issue.md", "Do it.\n");
    write("repo/kept.txt", "kept\n");
    write("repo/gone.txt", "gone\n");
    write("repo/old.txt", "old\n");
    write("setup.sh", "chmod +x kept.txt\nln -s kept.txt link\n");
    write("expected/old.txt", "new\n");
    lab::scenario::Scenario::load(folder).unwrap()
}

/// Runs the shell script `program` as if it were the program under test.
async fn run_script(folder: &Path, scenario: &lab::scenario::Scenario, program: &str) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{program}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let report = lab::scenario::run(&path, scenario).await.unwrap();
    lab::scenario::check(&report, scenario)
}

#[tokio::test]
async fn the_runner_sees_what_a_program_did_to_a_local_repository() {
    let folder = tempfile::tempdir().unwrap();
    let settings = r#"args = ["{repository}", "{task}"]
serve = "local"
[expect]
exit = 3
stdout = "diff"
deleted = ["gone.txt"]
stderr_contains = ["Do it."]"#;
    let scenario = scenario(folder.path(), settings);
    let good = r#"echo "$2" >&2; cp -a "$1" "$TMPDIR/w"; cd "$TMPDIR/w"; echo new > old.txt; rm gone.txt
git diff HEAD; rm -rf "$TMPDIR/w"; exit 3"#;
    assert_eq!(run_script(folder.path(), &scenario, good).await, Vec::<String>::new());
    let bad = r#"cd "$1"; echo newer > old.txt; git diff HEAD; touch "$TMPDIR/left"; echo "$GITHUB_TOKEN" >&2
sleep 30 >/dev/null 2>&1 &"#;
    let wrong = run_script(folder.path(), &scenario, bad).await.join("\n");
    for expected in [
        "the exit code is Some(0), not 3",
        "gone.txt is as before",
        "-new\n+newer",
        "the local repository was touched",
        "TMPDIR holds left",
        "a secret was printed",
        "a process lives on: sleep 30",
        "standard error lacks `Do it.`",
    ] {
        assert!(wrong.contains(expected), "{expected} is not in:\n{wrong}");
    }
}

#[tokio::test]
async fn the_runner_sees_what_a_program_did_on_github() {
    let folder = tempfile::tempdir().unwrap();
    let settings = r#"args = ["{issue}"]
[expect]
stdout = "empty"
branch = "topic"
deleted = ["gone.txt"]
symlinks = { "second" = "kept.txt" }
[expect.issue]
labels = ["copilot-agent"]
comments = []"#;
    let scenario = scenario(folder.path(), settings);
    let push = r#"set -e; test "$1" = "acme/widgets#1"; cd "$TMPDIR"
auth=$(printf 'x-access-token:%s' "$GITHUB_TOKEN" | base64 -w0)
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=http.extraHeader GIT_CONFIG_VALUE_0="Authorization: Basic $auth"
git clone -q "$GITHUB_SERVER_URL/acme/widgets.git" w && cd w && git checkout -q -b topic
echo new > old.txt; rm gone.txt; ln -s kept.txt second; git add -A
git -c user.name=A -c user.email=a@b commit -q -m x && git push -q origin topic; cd ..; rm -rf w"#;
    assert_eq!(run_script(folder.path(), &scenario, push).await, Vec::<String>::new());
    let wrong = run_script(folder.path(), &scenario, &format!("{push}\nexit 1")).await.join("\n");
    assert!(wrong.contains("the exit code is Some(1), not 0"), "{wrong}");
    let nothing = run_script(folder.path(), &scenario, "exit 0").await.join("\n");
    assert!(nothing.contains("there is no new branch topic") && nothing.contains("old.txt is as before"), "{nothing}");
}

#[tokio::test]
async fn transcripts_are_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = scenario(folder.path(), "args = [\"{issue}\"]");
    let program = folder.path().join("program");
    std::fs::write(&program, "#!/bin/sh\necho \"$GITHUB_API_URL $HOME $$ took 12 ms\" >&2\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let report = lab::scenario::run(&program, &scenario).await.unwrap();
    let text = lab::scenario::render(&report, &scenario);
    assert!(text.contains("! http://GITHUB/api/v3 $RUN/home ") && text.contains("took DURATION\nexit 0"), "{text}");
    std::fs::write(folder.path().join("transcript.snap"), format!("{text}more\n")).unwrap();
    let difference = lab::scenario::compare(&report, &scenario).unwrap();
    assert!(difference.unwrap().contains("-more"));
}

#[test]
fn the_scenarios_of_the_repository_load() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let folders = lab::scenario::list(&folder).unwrap();
    assert!(folders.len() >= 3);
    for folder in folders {
        lab::scenario::Scenario::load(&folder).unwrap();
    }
}
