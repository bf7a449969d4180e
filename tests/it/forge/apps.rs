//! GitHub Apps, tokens of fine grain, and that no secret shows.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use patchwright::forge::{CommitState, CommitStatus, Credentials, Forge, ForgeError, NewPullRequest, render};
use patchwright::task::TaskId;
use secrecy::ExposeSecret;

use super::support::{
    KEY, OTHER_KEY, SLUG, WIDGETS, add_app, add_app_with, app, asked, client_of, issue, name, nothing_wrong, settings,
    token, widgets,
};

const MINTS: &str = "/access_tokens";

/// How many tokens were made.
fn minted(lab: &lab::Lab) -> usize {
    lab.github.exchanges().iter().filter(|asked| asked.path.ends_with(MINTS) && asked.status == Some(201)).count()
}

async fn git_token(forge: &Forge) -> String {
    forge.git_token().await.unwrap().unwrap().expose_secret().to_owned()
}

#[tokio::test]
async fn an_app_has_a_token_for_each_repository_and_no_more() {
    let lab = widgets().await;
    lab.github.repository("acme/dispatch").private().commit("One", &[("a", "a")]).create().await.unwrap();
    let number = lab.github.create_issue("acme/dispatch", "ada", "Title", None, &[]);
    add_app(&lab, 3_600);
    let base = client_of(&lab, app(KEY));
    assert!(base.has_token() && base.git_token().await.is_err());
    let task = base.for_repository(&name(WIDGETS)).await.unwrap();
    assert_eq!(task.login().await.unwrap(), format!("{SLUG}[bot]"));

    let grant = lab.github.token_state(&git_token(&task).await).unwrap().grant.unwrap();
    assert_eq!(grant.repositories.iter().map(String::as_str).collect::<Vec<_>>(), [WIDGETS]);
    let permissions: Vec<_> = grant.permissions.iter().map(|(name, level)| format!("{name}:{level}")).collect();
    let expected = ["contents:write", "issues:write", "metadata:read", "pull_requests:write", "statuses:write"];
    assert_eq!(permissions, expected);
    // A second task has a token of its own.
    let second = base.for_repository(&name(WIDGETS)).await.unwrap();
    assert_ne!(git_token(&second).await, git_token(&task).await);
    let shown = patchwright::logging::screened(&format!("the token\n{}", git_token(&task).await));
    assert!(!shown.contains(&git_token(&task).await), "a token that was minted is known as a secret");
    // The dispatch repository's token is another one, and shared.
    let reference = patchwright::task::IssueReference { repository: name("acme/dispatch"), number };
    for client in [&base, &task, &second] {
        client.comment_once(&reference, "<!-- m -->", "<!-- m -->").await.unwrap();
    }
    assert_eq!(minted(&lab), 3);
    let comments = lab.github.comments("acme/dispatch", number);
    assert_eq!(comments.iter().map(|comment| comment.author.as_str()).collect::<Vec<_>>(), [format!("{SLUG}[bot]")]);
    assert_eq!(asked(&lab, "GET", "/app"), 1);
    nothing_wrong(&lab);
}

/// What an installation does not grant is asked for once, and what it does grant is had.
#[tokio::test]
async fn an_apps_tokens_may_change_workflows_where_that_is_granted() {
    for granted in [false, true] {
        let lab = widgets().await;
        add_app_with(&lab, 3_600, if granted { &["workflows"] } else { &[] });
        let base = client_of(&lab, app(KEY));
        for _ in 0..2 {
            let task = base.for_repository(&name(WIDGETS)).await.unwrap();
            let grant = lab.github.token_state(&git_token(&task).await).unwrap().grant.unwrap();
            assert_eq!(grant.permissions.contains_key("workflows"), granted, "{grant:?}");
        }
        assert_eq!(asked(&lab, "POST", MINTS), if granted { 2 } else { 3 });
        nothing_wrong(&lab);
    }
}

#[tokio::test]
async fn an_apps_token_is_renewed_while_its_task_runs() {
    let lab = widgets().await;
    lab.github.create_issue(WIDGETS, "ada", "Title", None, &[]);
    add_app(&lab, 2);
    let forge = client_of(&lab, app(KEY)).for_repository(&name(WIDGETS)).await.unwrap();
    let first = git_token(&forge).await;
    let renewed = async {
        while minted(&lab) < 3 {
            forge.issue(&issue(1)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), renewed).await.unwrap();
    assert_ne!(git_token(&forge).await, first);
    nothing_wrong(&lab);
}

#[tokio::test]
async fn an_apps_token_that_ended_early_is_replaced_at_once() {
    let lab = widgets().await;
    lab.github.create_issue(WIDGETS, "ada", "Title", None, &[]);
    add_app(&lab, 3_600);
    let forge = client_of(&lab, app(KEY)).for_repository(&name(WIDGETS)).await.unwrap();
    lab.github.revoke_token(&git_token(&forge).await);
    forge.comment_once(&issue(1), "<!-- m -->", "<!-- m -->").await.unwrap();
    assert_eq!((lab.github.comments(WIDGETS, 1).len(), minted(&lab)), (1, 2));
    nothing_wrong(&lab);
}

#[tokio::test]
async fn what_is_wrong_with_an_app_is_told() {
    let lab = widgets().await;
    lab.github.repository("other/thing").commit("One", &[("a", "a")]).create().await.unwrap();
    add_app(&lab, 3_600);
    let ask = async |credentials, repository: &str| {
        let error = client_of(&lab, credentials).for_repository(&name(repository)).await.unwrap_err();
        error.to_string()
    };
    assert!(ask(app(OTHER_KEY), WIDGETS).await.contains("the App's id, key and installation"));
    let elsewhere = ask(app(KEY), "other/thing").await;
    assert!(elsewhere.contains("is the App installed there?") && elsewhere.contains("other/thing"), "{elsewhere}");
    let installation = Credentials::App { id: 7, key: KEY.into(), installation: 71 };
    assert!(ask(installation, WIDGETS).await.contains("was not found"));

    let broken = KEY.replace("RSA PRIVATE", "EC PRIVATE");
    let cut = KEY.lines().take(4).collect::<Vec<_>>().join("\n");
    for key in [broken.as_str(), cut.as_str(), "nonsense", include_str!("app_key.pub")] {
        let error = Forge::new(&settings(&lab.github, app(key))).unwrap_err();
        let text = format!("{error:#} {error:?}");
        assert!(text.contains("no RSA key in PEM form"), "{text}");
        assert!(key.lines().skip(1).all(|line| line.len() < 20 || !text.contains(line)), "{text}");
    }
    nothing_wrong(&lab);
}

/// Everything that a task and its reports do at the forge.
async fn work_through(forge: &Forge, number: u64, commit: &str) -> Result<(), ForgeError> {
    let repository = name(WIDGETS);
    forge.issue(&issue(number)).await?;
    forge.repository(&repository).await?;
    forge.branch(&repository, "main").await?;
    forge.permission(&repository, "ada").await?;
    forge.history(&issue(number)).await?;
    forge.check().await?;
    forge.recent_comments(&repository, 1, None).await?;
    forge.open_issues(&repository, "copilot-agent", 1, None).await?;
    forge.put_comment(&issue(number), "<!-- s -->", "<!-- s --> claimed", None).await?;
    forge.put_comment(&issue(number), "<!-- s -->", "<!-- s --> done", None).await?;
    forge.change_labels(&issue(number), &["processed"], &["copilot-agent"]).await?;
    let context = "patchwright/verify".to_owned();
    let status = CommitStatus { state: CommitState::Success, context, description: "ok".into(), target_url: None };
    forge.set_status(&repository, commit, &status).await?;
    let task = TaskId::parse("550e8400-e29b-41d4-a716-446655440000").unwrap();
    let new = NewPullRequest {
        title: "Agent task".into(),
        body: render::metadata_line(&task),
        head: "work".into(),
        base: "main".into(),
        draft: false,
    };
    forge.open_pull_request(&task, &repository, &new).await?;
    forge.close_issue(&issue(number)).await
}

const NEEDED: [(&str, &str); 4] =
    [("contents", "write"), ("issues", "write"), ("pull_requests", "write"), ("statuses", "write")];

async fn private_lab() -> (lab::Lab, u64, String) {
    let lab = lab::Lab::start().await.unwrap();
    let repository = lab.github.repository(WIDGETS).private();
    let path = repository.commit("One", &[("a", "a")]).create().await.unwrap();
    let commit = lab::git::text(&path, &["rev-parse", "main"]).await.unwrap().trim().to_owned();
    let tree = format!("{commit}^{{tree}}");
    let identity = ["-c", "user.name=a", "-c", "user.email=a@b"];
    let arguments = [&identity[..], &["commit-tree", "-p", &commit, "-m", "Two", &tree]].concat();
    let made = lab::git::text(&path, &arguments).await.unwrap();
    lab::git::text(&path, &["branch", "work", made.trim()]).await.unwrap();
    lab.github.set_permission(WIDGETS, "ada", lab::Permission::Write);
    let number = lab.github.create_issue(WIDGETS, "ada", "Title", None, &["copilot-agent"]);
    (lab, number, commit)
}

#[tokio::test]
async fn a_fine_grained_token_needs_just_these_permissions() {
    let (lab, number, commit) = private_lab().await;
    let fine = lab.github.add_fine_token(lab::github::BOT, &[WIDGETS], &NEEDED);
    work_through(&client_of(&lab, token(&fine)), number, &commit).await.unwrap();
    assert_eq!((lab.github.comments(WIDGETS, number).len(), lab.github.pulls(WIDGETS).len()), (1, 1));
    nothing_wrong(&lab);
}

#[tokio::test]
async fn an_app_needs_just_these_permissions() {
    let (lab, number, commit) = private_lab().await;
    add_app(&lab, 3_600);
    let forge = client_of(&lab, app(KEY)).for_repository(&name(WIDGETS)).await.unwrap();
    work_through(&forge, number, &commit).await.unwrap();
    assert_eq!((lab.github.comments(WIDGETS, number).len(), lab.github.pulls(WIDGETS).len()), (1, 1));
    nothing_wrong(&lab);
}

#[tokio::test]
async fn without_one_of_them_the_forge_forbids() {
    for missing in NEEDED {
        let (lab, number, commit) = private_lab().await;
        let rest: Vec<_> = NEEDED.into_iter().filter(|permission| *permission != missing).collect();
        let fine = lab.github.add_fine_token(lab::github::BOT, &[WIDGETS], &rest);
        match work_through(&client_of(&lab, token(&fine)), number, &commit).await {
            Err(ForgeError::Forbidden { message, .. }) => {
                assert_eq!(message, "Resource not accessible by personal access token");
            }
            other => panic!("without {missing:?}: {other:?}"),
        }
        lab.github.comments(WIDGETS, number);
        nothing_wrong(&lab);
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn every_request_is_logged_and_no_secret_is() {
    let (lab, number, commit) = private_lab().await;
    add_app(&lab, 3_600);
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::level_filters::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // With a single one, tracing asks the thread that meets a log line first, which may be another test's.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);
    let fine = lab.github.add_fine_token(lab::github::BOT, &[WIDGETS], &NEEDED);
    let personal = client_of(&lab, token(&fine));
    let forge = client_of(&lab, app(KEY)).for_repository(&name(WIDGETS)).await.unwrap();
    personal.issue(&issue(number)).await.unwrap();
    work_through(&forge, number, &commit).await.unwrap();
    tracing::debug!("{forge:?} {personal:?}");
    drop(guard);
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    let lines = text.lines().filter(|line| line.contains("forge request")).count();
    assert_eq!(lines, lab.github.exchanges().len());
    let line = text.lines().find(|line| line.contains("method=PATCH")).unwrap();
    for part in ["DEBUG", "path=\"/repos/acme/widgets/issues/", "status=200", "milliseconds=", "remaining="] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    let key: Vec<&str> = KEY.lines().filter(|line| !line.contains("-----")).collect();
    let secrets = lab.github.secrets();
    assert!(secrets.len() >= 3);
    for secret in secrets.iter().map(String::as_str).chain(key).chain(["eyJ", "Bearer"]) {
        assert!(!text.contains(secret), "a secret is in the log: {}...", &secret[..3]);
    }
    lab.github.comments(WIDGETS, number);
    nothing_wrong(&lab);
}
