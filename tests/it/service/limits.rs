//! How many tasks at a time, in how much room, and in which image.

use std::fs::File;
use std::path::PathBuf;

use lab::{Permission, Script};

use super::world::{MAINTAINER, World, model_task, patch_task};
use crate::cli::harness::skip;

fn for_target(text: &str, target: &str) -> String {
    format!("{text}\n\nTarget Repository: {target}\n")
}

/// A repository whose mirror is larger than a mebibyte.
async fn large_repository(world: &World, name: &str) {
    let mut state = 1_u64;
    let mut line = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{state:016x}{:016x}\n", state.rotate_left(21) ^ state >> 7)
    };
    let large: String = (0..120_000).map(|_| line()).collect();
    let files = [("README", "Hello\n"), ("large.txt", large.as_str())];
    world.lab.github.repository(name).bot(Permission::Write).commit("One", &files).create().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_repository_does_not_take_all_workers() {
    let mut world = World::new("[service]\nworkers = 3\nworkers_per_repository = 1\n").await;
    world.repository("acme/gadgets").await;
    let stall = r#"{"content": "I am thinking about it.", "quirks": ["stall"], "times": 9, "new_conversation": true, "optional": true}"#;
    let model = world.lab.model(Script::parse(stall).unwrap()).await.unwrap();
    world.place.set("LLM_API_ENDPOINT", model.endpoint());
    let first = world.dispatch(MAINTAINER, &model_task("first-001"));
    let second = world.dispatch(MAINTAINER, &patch_task("second-01"));
    let running = world.poll();
    world.until(&running, "the model is asked", |_| !model.requests().is_empty());
    let other = world.dispatch(MAINTAINER, &for_target(&patch_task("other-001"), "acme/gadgets"));
    world.until(&running, "the other repository's task is processed", |world| world.has_label(other, "processed"));
    world.until(&running, "the one that waits is seen to wait", |_| {
        let metrics = running.get("/metrics").body;
        metrics.contains("patchwright_tasks{state=\"queued\"} 1")
            && metrics.contains("patchwright_tasks{state=\"running\"} 1")
    });
    assert!(world.comments(second).is_empty(), "{}", running.log());
    world.lab.github.close_issue("acme/widgets", first, MAINTAINER);
    world.until(&running, "it is its turn", |world| world.has_label(second, "processed"));
    let log = running.stop();
    for issue in [first, second, other] {
        world.comments(issue);
    }
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_that_waits_is_told_in_the_metrics() {
    let mut world = World::new("[service]\nworkers = 1\n").await;
    let stall = r#"{"content": "I am thinking about it.", "quirks": ["stall"], "times": 9, "new_conversation": true, "optional": true}"#;
    let model = world.lab.model(Script::parse(stall).unwrap()).await.unwrap();
    world.place.set("LLM_API_ENDPOINT", model.endpoint());
    let first = world.dispatch(MAINTAINER, &model_task("first-002"));
    let second = world.dispatch(MAINTAINER, &patch_task("second-02"));
    let running = world.poll();
    world.until(&running, "the second one waits", |_| {
        let metrics = running.get("/metrics").body;
        let oldest = metrics.split("\npatchwright_queue_oldest_seconds ").nth(1).unwrap_or_default();
        let oldest: f64 = oldest.lines().next().unwrap_or_default().parse().unwrap_or_default();
        oldest > 0.0 && metrics.contains("patchwright_queue_depth 1")
    });
    world.lab.github.close_issue("acme/widgets", second, MAINTAINER);
    world.lab.github.close_issue("acme/widgets", first, MAINTAINER);
    world.until(&running, "it has stopped", |world| !world.has_label(first, "agent-running"));
    let log = running.stop();
    world.comments(first);
    world.comments(second);
    world.assert_well(&[log]);
}

fn mirrors(folder: PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            match path.extension().is_some_and(|extension| extension == "git") {
                true => found.push(path),
                false => folders.extend(path.is_dir().then_some(path)),
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_workspace_gives_up_mirrors_before_it_holds_tasks_back() {
    let mut world = World::new("").await;
    large_repository(&world, "acme/large").await;
    let place = world.place.path("workspace");
    world.place.set("WORKSPACE_DIR", place.clone());
    let first = world.dispatch(MAINTAINER, &for_target(&patch_task("large-001"), "acme/large"));
    assert_eq!(world.serve(&["--once"]).wait().0, Some(0));
    assert!(world.has_label(first, "processed"));
    let mirror = mirrors(place).pop().unwrap();
    world.place.set("MAX_WORKSPACE_SIZE_MB", "1");
    let second = world.dispatch(MAINTAINER, &patch_task("small-001"));
    // Another process is at work on the mirror.
    let lock = File::open(mirror.with_extension("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
    let running = world.poll();
    running.until_logged("nothing new is begun: the workspace holds");
    assert!(running.get("/readyz").body.contains("all of it in use"));
    let waited = running.stop();
    assert!(mirror.exists() && !world.has_label(second, "processed"), "{waited}");
    drop(lock);
    let running = world.poll();
    world.until(&running, "there is room again", |world| world.has_label(second, "processed"));
    let log = running.stop();
    assert!(!mirror.exists() && log.contains("removed the mirror"), "{log}");
    world.comments(first);
    world.comments(second);
    world.assert_well(&[waited, log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_on_the_disk_nothing_begins() {
    let world = World::new("[service]\nfree_mib = 1099511627776\n").await;
    let issue = world.dispatch(MAINTAINER, &patch_task("large-002"));
    let running = world.poll();
    running.until_logged("nothing new is begun: ");
    let answer = running.get("/readyz");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(
        answer.body.contains("\"disk\":{\"state\":\"down\"") && answer.body.contains("MiB left. Make room"),
        "{answer:?}"
    );
    let log = running.stop();
    assert!(world.comments(issue).is_empty() && world.pulls() == 0, "{log}");
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_has_the_image_that_is_named_for_it() {
    let image = std::env::var("PATCHWRIGHT_TEST_IMAGE").unwrap_or_else(|_| "patchwright-test:latest".into());
    let mut docker = std::process::Command::new("docker");
    if let Ok(host) = std::env::var("PATCHWRIGHT_TEST_DOCKER_HOST") {
        docker.env("DOCKER_HOST", host);
    }
    if !docker.args(["image", "inspect", &image]).output().is_ok_and(|output| output.status.success()) {
        return skip("a repository's own image", "no engine with the image for tests answers");
    }
    let gadgets = format!(
        "[repositories.\"acme/gadgets\"]\nimage = \"{image}\"\ntest_command = \"test -f /.dockerenv\"\n\
         [repositories.\"acme/things\"]\ntest_command = \"test ! -f /.dockerenv\"\n"
    );
    let mut world = World::new(&gadgets).await;
    if let Ok(host) = std::env::var("PATCHWRIGHT_TEST_DOCKER_HOST") {
        world.place.set("DOCKER_HOST", host);
    }
    for name in ["acme/gadgets", "acme/things"] {
        world.repository(name).await;
    }
    let boxed = world.dispatch(MAINTAINER, &for_target(&patch_task("boxed-001"), "acme/gadgets"));
    let usual = world.dispatch(MAINTAINER, &for_target(&patch_task("usual-001"), "acme/things"));
    let running = world.poll();
    world.until_long(&running, "both are processed", |world| {
        world.has_label(boxed, "processed") && world.has_label(usual, "processed")
    });
    let log = running.stop();
    for (issue, name) in [(boxed, "acme/gadgets"), (usual, "acme/things")] {
        let pull = world.lab.github.pulls(name).remove(0);
        assert!(!pull.pull.unwrap().draft, "the tests of {name} did not pass:\n{:?}\n{log}", pull.body);
        world.comments(issue);
    }
    world.assert_well(&[log]);
}
