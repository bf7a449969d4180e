//! Several services on one database, as on several machines.

use crate::store::support::{Backend, Place};

use super::world::{MAINTAINER, SECRET, World, patch_task};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_share_the_work_and_one_of_them_is_in_front() {
    let Some(database) = Place::on(Backend::Postgres).await else { return };
    let (server, name) = database.database();
    let mut world = World::new("").await;
    world.place.set("DATABASE_URL", server.address(name));
    world.place.set("GITHUB_WEBHOOK_SECRET", SECRET);
    let first = world.poll();
    first.until_logged("watching acme/widgets");
    // A machine of its own.
    world.place.set("WORKSPACE_DIR", world.place.path("second"));
    let second = world.poll();
    world.lab.github.add_webhook(&format!("http://{}/webhook", second.address()), SECRET, &[]);
    let issues: Vec<u64> =
        (0..6).map(|number| world.dispatch(MAINTAINER, &patch_task(&format!("both-{number}000")))).collect();
    world.until(&first, "all are processed", |world| issues.iter().all(|issue| world.has_label(*issue, "processed")));
    let log = first.stop();
    // What comes in now is for the one that is left.
    let last = world.dispatch(MAINTAINER, &patch_task("last-0000"));
    world.until(&second, "the last is processed", |world| world.has_label(last, "processed"));
    let logs = [log, second.stop()];
    assert_eq!(world.pulls(), issues.len() + 1, "{}", logs.join("\n--\n"));
    for issue in issues.into_iter().chain([last]) {
        let started = world.comments(issue).iter().filter(|text| text.contains("started processing")).count();
        assert_eq!(started, 1, "{}", logs.join("\n--\n"));
    }
    // `patchwright tasks` asks the same database.
    let listed: serde_json::Value =
        serde_json::from_slice(&world.place.run(&["tasks", "list", "--json"]).stdout).unwrap();
    let states: Vec<&str> = listed.as_array().unwrap().iter().map(|task| task["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["completed"; 7]);
    world.assert_well(&logs);
    database.remove().await;
}
