//! Whole tasks with the permissions that the guide names, and no more.

use lab::github::BOT;

use super::world::{LABEL, MAINTAINER, World, patch_task};
use crate::forge::support::{KEY, SLUG, add_app};

/// `docs/setup.md`, the table of permissions.
const NEEDED: [(&str, &str); 4] =
    [("contents", "write"), ("issues", "write"), ("pull_requests", "write"), ("statuses", "write")];
const DISPATCH: &str = "acme/tasks";
const TARGET: &str = "acme/gadgets";

/// Two private repositories; the issue's number.
async fn private_world() -> (World, u64) {
    let mut world = World::new("[repositories.\"acme/gadgets\"]\ntest_command = \"true\"\n").await;
    for name in [DISPATCH, TARGET] {
        let repository = world.lab.github.repository(name).private().bot(lab::Permission::Write);
        repository.commit("One", &[("README", "Hello\n")]).create().await.unwrap();
        world.lab.github.set_permission(name, MAINTAINER, lab::Permission::Write);
    }
    world.place.set("DISPATCH_REPO", DISPATCH);
    world.place.set("TARGET_REPO", TARGET);
    let body = patch_task("grain-001");
    let issue = world.lab.github.create_issue(DISPATCH, MAINTAINER, "Greet", Some(&body), &[LABEL]);
    (world, issue)
}

fn use_app(world: &mut World) {
    add_app(&world.lab, 3_600);
    let key = world.place.write("app.pem", KEY);
    world.place.set("GITHUB_TOKEN", "");
    world.place.set("GITHUB_APP_ID", "7");
    world.place.set("GITHUB_APP_INSTALLATION_ID", "70");
    world.place.set("GITHUB_APP_PRIVATE_KEY_PATH", key);
}

/// The task goes all its way, and everything is by `login`.
fn assert_works(world: &World, issue: u64, login: &str) {
    let running = world.poll();
    let labels = |world: &World| world.lab.github.issue(DISPATCH, issue).unwrap().labels;
    world.until(&running, "it is processed", |world| labels(world).iter().any(|label| label == "processed"));
    world.until(&running, "it is counted", |_| {
        running.get("/metrics").body.contains("patchwright_tasks{state=\"completed\"} 1")
    });
    let log = running.stop();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    let pulls = world.lab.github.pulls(TARGET);
    assert_eq!(pulls.iter().map(|pull| pull.author.as_str()).collect::<Vec<_>>(), [login]);
    assert_eq!(world.lab.github.repository_state(TARGET).unwrap().statuses.len(), 1);
    let comments = world.lab.github.comments(DISPATCH, issue);
    assert!(comments.len() == 3 && comments.iter().all(|comment| comment.author == login), "{comments:#?}");
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fine_grained_token_serves_with_what_the_guide_names() {
    let (mut world, issue) = private_world().await;
    let token = world.lab.github.add_fine_token(BOT, &[DISPATCH, TARGET], &NEEDED);
    world.place.set("GITHUB_TOKEN", token);
    assert_works(&world, issue, BOT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_serves_with_what_the_guide_names() {
    let (mut world, issue) = private_world().await;
    use_app(&mut world);
    assert_works(&world, issue, &format!("{SLUG}[bot]"));
}

#[test]
fn the_guide_names_these_permissions() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/setup.md")).unwrap();
    let row = guide.lines().find(|line| line.starts_with("| fine-grained token, or App |")).unwrap();
    for part in ["Issues: read and write", "Contents, Pull requests, Commit statuses: read and write", "Metadata: read"]
    {
        assert!(row.contains(part), "{row}");
    }
    assert_eq!(NEEDED.len(), 4, "the row names four");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_can_try_a_public_repository_of_others() {
    let (mut world, _) = private_world().await;
    use_app(&mut world);
    let files = [("README", "Hello\n")];
    world.lab.github.repository("else/open").commit("One", &files).create().await.unwrap();
    world.lab.github.repository("else/closed").private().commit("One", &files).create().await.unwrap();
    let dry = |name| {
        let line = ["run", "--repo", name, "--task", crate::cli::harness::PATCH, "--test-command", "true", "--dry-run"];
        world.place.run(&line)
    };
    let open = dry("else/open");
    assert_eq!(open.code, Some(0), "{open:#?}");
    assert!(String::from_utf8_lossy(&open.stdout).contains("+Hello, world"), "{open:#?}");
    // Its own stay readable, and what is closed stays closed.
    assert_eq!(dry(TARGET).code, Some(0));
    dry("else/closed").refuses(1, &["failed in stage `checkout`", "else/closed"]);
    world.assert_well(&[]);
}
