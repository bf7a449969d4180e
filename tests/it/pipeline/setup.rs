//! The setup of a repository: made once, kept by what it depends on, the same for base, agent and judge.

use lab::git;
use patchwright::outcome::{Conclusion, Outcome, Stage, StepEnding};
use patchwright::pipeline::setup::recipe::RepositoryCommands;
use patchwright::pipeline::setup::repository::ShowRepository;
use patchwright::pipeline::{Delivery, Ending, Order};
use patchwright::workspace::Remote;

use super::place::Place;

const OTHER: &str = "acme/other";
const SETUP: &str =
    "[setup]\nrun = [\"mkdir dep && cat lock > dep/made && echo home > ~/made && echo x > state.txt\"]\n";
const TEST: &str = "grep -q fixed state.txt && cmp -s lock dep/made && grep -q home ~/made";

/// A repository with a setup of its own.
async fn place(setup: &str) -> Option<Place> {
    let place = Place::new().await?;
    let files = [("state.txt", "broken\n"), ("lock", "one\n"), (".gitignore", "dep/\n"), (".patchwright.toml", setup)];
    place.lab.github.repository(OTHER).commit("One", &files).create().await.unwrap();
    Some(place)
}

fn order(place: &Place, base: Option<&str>) -> Order {
    let order = place.order(None);
    let name = patchwright::task::RepositoryName::parse(OTHER).unwrap();
    let test_command =
        order.test_command.clone().map(|command| patchwright::outcome::TestCommand { command: TEST.into(), ..command });
    Order {
        remote: Remote::Url { url: place.services.forge.clone_url(&name), token: None },
        repository: Some(name),
        base: base.map(str::to_owned),
        delivery: Delivery::Diff,
        test_command,
        ..order
    }
}

async fn run(place: &Place, order: &Order) -> Outcome {
    match place.run(order).await {
        Ending::Reported(outcome) => outcome,
        other => panic!("not reported: {other:?}"),
    }
}

async fn commit(place: &Place, branch: &str, file: &str, text: &str) {
    let bare = place.lab.github.repository_state(OTHER).unwrap().path;
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    git::text(work, &["clone", "-q", bare.to_str().unwrap(), "."]).await.unwrap();
    git::text(work, &["checkout", "-q", "-B", branch]).await.unwrap();
    std::fs::write(work.join(file), text).unwrap();
    git::text(work, &["add", "-A"]).await.unwrap();
    git::text(work, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "More"]).await.unwrap();
    git::text(work, &["push", "-q", "origin", &format!("HEAD:{branch}")]).await.unwrap();
}

fn is_reused(outcome: &Outcome) -> bool {
    let setup = outcome.setup.as_ref().expect("there is a setup");
    assert!(setup.steps.iter().all(|step| step.ending == StepEnding::Done), "{setup:?}");
    assert_eq!(outcome.conclusion, Conclusion::Verified, "{outcome:?}");
    setup.reused
}

#[tokio::test]
async fn a_setup_is_made_once_for_a_branch_a_recipe_and_its_inputs() {
    let setup = SETUP.replace("[setup]\n", "[setup]\ninputs = [\"lock\"]\n");
    let Some(place) = place(&setup).await else { return };
    assert!(!is_reused(&run(&place, &order(&place, None)).await));
    assert!(is_reused(&run(&place, &order(&place, None)).await));
    commit(&place, "main", "unrelated", "x\n").await;
    assert!(is_reused(&run(&place, &order(&place, None)).await), "nothing that it depends on has changed");
    commit(&place, "main", "lock", "two\n").await;
    assert!(!is_reused(&run(&place, &order(&place, None)).await), "an input has changed");
    assert!(is_reused(&run(&place, &order(&place, None)).await));
    commit(&place, "side", "unrelated", "y\n").await;
    assert!(!is_reused(&run(&place, &order(&place, Some("side"))).await), "another branch has other authors");
    commit(&place, "main", ".patchwright.toml", &setup.replace("~/made", "~/made # again")).await;
    assert!(!is_reused(&run(&place, &order(&place, None)).await), "the recipe has changed");
}

#[tokio::test]
async fn the_operator_decides_whose_commands_run() {
    let Some(mut place) = place(SETUP).await else { return };
    let mut own = order(&place, None);
    own.setup.operator.setup = Some(vec!["mkdir dep".into(), "cp lock dep/made; echo home > ~/made".into()]);
    let outcome = run(&place, &own).await;
    assert_eq!(outcome.setup.as_ref().map(|setup| setup.origin.as_str()), Some("the operator's config"));
    assert_eq!(outcome.conclusion, Conclusion::Verified);
    own.setup.operator.setup = Some(Vec::new());
    assert_eq!(run(&place, &own).await.conclusion, Conclusion::Unverified, "nothing is set up");
    let mut ignoring = order(&place, None);
    ignoring.setup.repository_commands = Some(RepositoryCommands::Ignore);
    let outcome = run(&place, &ignoring).await;
    assert_eq!(outcome.conclusion, Conclusion::Unverified);
    assert!(outcome.setup.is_some_and(|setup| setup.steps.is_empty() && setup.notes[0].contains(".patchwright.toml")));
    place.services.settings.setup.repository_commands = RepositoryCommands::Ignore;
    assert_eq!(run(&place, &order(&place, None)).await.conclusion, Conclusion::Unverified);
    place.services.settings.setup.enabled = false;
    assert!(run(&place, &order(&place, None)).await.setup.is_none());
}

#[tokio::test]
async fn a_setup_that_fails_is_not_kept() {
    let setup = "[setup]\nrun = [\"mkdir dep\", \"echo it is not there; exit 7\"]\n";
    let Some(place) = place(setup).await else { return };
    for _ in 0..2 {
        let outcome = run(&place, &order(&place, None)).await;
        let Conclusion::Failed { stage: Stage::Setup, cause, .. } = &outcome.conclusion else { panic!("{outcome:?}") };
        assert!(cause.contains("exit code 7") && cause.contains("it is not there"), "{cause}");
    }
}

#[tokio::test]
async fn tasks_at_the_same_time_share_one_setup() {
    let Some(place) = place(SETUP).await else { return };
    let orders = [order(&place, None), order(&place, None), order(&place, None)];
    let outcomes = futures_util::future::join_all(orders.iter().map(|order| run(&place, order))).await;
    let made = outcomes.iter().filter(|outcome| !is_reused(outcome)).count();
    assert_eq!(made, 1);
}

async fn tag(place: &Place, name: &str) {
    let bare = place.lab.github.repository_state(OTHER).unwrap().path;
    git::text(&bare, &["tag", name, "main"]).await.unwrap();
}

/// A tool that takes versions from tags wants the repository when it is installed, and the tests of it later.
#[tokio::test]
async fn the_repository_that_boxes_show_has_the_newest_tag_from_the_setup_on() {
    let setup = "[setup]\nrun = [\"mkdir dep && git describe --tags --abbrev=0 > dep/version\"]\n";
    let Some(place) = place(setup).await else { return };
    let mut order = order(&place, None);
    let line = "test \"$(git describe --tags --abbrev=0)\" = \"$(cat dep/version)\" && grep -q fixed state.txt";
    order.test_command =
        order.test_command.map(|command| patchwright::outcome::TestCommand { command: line.into(), ..command });
    tag(&place, "v1").await;
    let shows = |outcome: &Outcome, name: &str| {
        let shown = outcome.shown_repository.as_deref().unwrap_or_default();
        assert!(shown.contains(&format!("with the tags {name}; `.patchwright.toml` calls `git describe`")), "{shown}");
    };
    let first = run(&place, &order).await;
    assert!(!is_reused(&first));
    shows(&first, "v1");
    assert!(is_reused(&run(&place, &order).await));
    // The base is the same, and the version another.
    tag(&place, "v2").await;
    let second = run(&place, &order).await;
    assert!(!is_reused(&second));
    shows(&second, "v1, v2");
    commit(&place, "main", "unrelated", "x\n").await;
    assert!(is_reused(&run(&place, &order).await), "another commit has the same tag");
    order.setup.repository = Some(ShowRepository::Never);
    let outcome = run(&place, &order).await;
    assert_eq!(outcome.shown_repository, None);
    assert!(matches!(outcome.conclusion, Conclusion::Failed { stage: Stage::Setup, .. }), "{outcome:?}");
}

#[tokio::test]
async fn the_operator_decides_whether_a_repository_is_shown() {
    let Some(mut place) = place("[setup]\nrun = []\n").await else { return };
    let order = order(&place, None);
    assert_eq!(run(&place, &order).await.shown_repository, None, "nothing wants one");
    place.services.settings.setup.repository = ShowRepository::Always;
    for enabled in [true, false] {
        place.services.settings.setup.enabled = enabled;
        let shown = run(&place, &order).await.shown_repository.unwrap();
        assert!(shown.contains("without a tag; the operator wants one"), "{shown}");
    }
    let mut own = order;
    own.setup.repository = Some(ShowRepository::Never);
    assert_eq!(run(&place, &own).await.shown_repository, None);
}

/// The tests do not see it: they run on what the base's setup has made.
#[tokio::test]
async fn a_change_to_what_the_setup_depends_on_is_told() {
    let setup = "[setup]\ninputs = [\"lock\"]\nrun = [\"mkdir dep && cp l* dep/made && echo home > ~/made\"]\n";
    let Some(place) = place(setup).await else { return };
    let told = |outcome: &Outcome| {
        let notes = outcome.notes.iter();
        notes
            .filter_map(|note| Some(note.split_once("touches what that depends on: ")?.1.to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&run(&place, &order(&place, None)).await), Vec::<String>::new());
    let mut changing = order(&place, None);
    changing.task.patches.push("--- a/lock\n+++ b/lock\n@@ -1 +1 @@\n-one\n+two\n".into());
    let outcome = run(&place, &changing).await;
    assert_eq!(told(&outcome), ["lock"], "{outcome:?}");
    assert_eq!(outcome.conclusion, Conclusion::Unverified, "what the setup has made fits the base alone");
}
