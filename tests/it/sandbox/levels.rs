//! What the probe finds of each backend, and what is refused for it.

use patchwright::sandbox::level::{Finding, Standing};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_backend_is_confined_and_says_so() {
    for (choice, backend) in all_backends().await {
        let standing = backend.standing();
        for finding in &standing.findings {
            eprintln!("{choice:?}: {:?} {} {}", finding.defence, finding.holds, finding.detail);
        }
        assert!(standing.lacks(Level::Confined).is_empty(), "{choice:?}: {}", standing.explain(Level::Confined));
        let is_root = rustix::process::getuid().is_root();
        let (landlock, outside) = (standing.holds(Defence::Landlock), standing.holds(Defence::NotRootOutside));
        match choice {
            Choice::Namespace => {
                assert_eq!(outside, !is_root);
                assert!(standing.holds(Defence::UserNamespace));
            }
            Choice::Container => assert!(!landlock && outside),
            Choice::Auto => unreachable!(),
        }
        assert!(!standing.holds(Defence::OwnKernel), "{choice:?}");
        let level = standing.level().unwrap();
        let tree = tempfile::tempdir().unwrap();
        let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
        assert_eq!(sandbox.description(), backend.description());
        assert!(sandbox.description().contains(&format!("level {level}")), "{}", sandbox.description());
        assert!(sandbox.description().contains("seccomp"), "{}", sandbox.description());
        sandbox.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_minimum_nothing_runs() {
    for (choice, _) in all_backends().await {
        let settings = Settings { minimum_level: Level::Virtual, ..settings(choice) };
        match Backend::probe(&settings).await {
            Err(SandboxError::Unavailable { reason, remedy }) => {
                assert!(reason.contains("for `virtual` it lacks") && reason.contains("own kernel"), "{reason}");
                assert!(remedy.contains("minimum_level = \""), "{remedy}");
            }
            Err(error) => panic!("{choice:?}: {error}"),
            Ok(_) => panic!("{choice:?} has a kernel of its own?"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_is_really_tried() {
    if std::env::var_os("PATCHWRIGHT_TEST_NAMESPACE_ONLY").is_some() {
        return;
    }
    let Some(_) = backend(&settings(Choice::Container)).await else { return };
    let with = |runtime: &str| Settings { runtime: Some(runtime.to_owned()), ..settings(Choice::Container) };
    match Backend::probe(&with("no-such-runtime")).await {
        Err(SandboxError::Unavailable { reason, remedy }) => {
            assert!(reason.contains("no runtime `no-such-runtime`") && reason.contains("runc"), "{reason}");
            assert!(remedy.contains("daemon.json"), "{remedy}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("there is such a runtime"),
    }
    // One that the engine knows, and that does nothing.
    match Backend::probe(&with("broken")).await {
        Err(SandboxError::Unavailable { reason, remedy }) => {
            assert!(
                reason.contains("`broken` does not start a container") || reason.contains("no runtime"),
                "{reason}"
            );
            assert!(remedy.contains("daemon.json"), "{remedy}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it does not start anything"),
    }
    // The tests' engine knows runc by this name too: it is taken, and found to have the host's kernel.
    match Backend::probe(&with("other")).await {
        Ok(backend) => {
            assert!(backend.description().contains("runtime other"), "{}", backend.description());
            assert!(!backend.standing().holds(Defence::OwnKernel));
        }
        Err(error) => skipped(&error.to_string()),
    }
}

#[test]
fn a_level_is_what_its_defences_come_to() {
    let standing = |held: &[Defence]| Standing {
        findings: held
            .iter()
            .map(|defence| Finding { defence: *defence, holds: true, detail: String::new() })
            .collect(),
    };
    for level in Level::ALL {
        assert_eq!(standing(level.needs()).level(), Some(level));
        for (index, missing) in level.needs().iter().enumerate() {
            let mut held = level.needs().to_vec();
            held.remove(index);
            let standing = standing(&held);
            assert!(standing.level() < Some(level), "{level} without {missing:?}");
            assert_eq!(standing.lacks(level), [*missing]);
        }
    }
    assert_eq!(standing(&[]).level(), None);
    assert!(Level::Basic < Level::Confined && Level::Confined < Level::Hardened && Level::Hardened < Level::Virtual);
}
