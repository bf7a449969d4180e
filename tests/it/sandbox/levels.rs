//! What the probe finds of each backend, and what is refused for it.

use patchwright::sandbox::level::{Finding, Standing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

/// An engine behind a socket of this machine whose answers name another kernel, as long as the real one's.
fn renaming(folder: &Path, kernel: char) -> (String, tokio::task::JoinHandle<()>) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let real = format!("\"KernelVersion\":\"{}\"", release.trim()).into_bytes();
    let other = format!("\"KernelVersion\":\"{}\"", kernel.to_string().repeat(release.trim().len())).into_bytes();
    let engine = settings(Choice::Container).docker_host.unwrap().replace("unix://", "");
    let socket = folder.join(format!("engine-{}", u32::from(kernel)));
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let tunnel = tokio::spawn(async move {
        while let Ok((here, _)) = listener.accept().await {
            let there = tokio::net::UnixStream::connect(&engine).await.unwrap();
            let (real, other) = (real.clone(), other.clone());
            tokio::spawn(async move {
                let ((mut from_us, mut to_us), (mut from_engine, mut to_engine)) =
                    (here.into_split(), there.into_split());
                let back = async {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(count @ 1..) = from_engine.read(&mut buffer).await {
                        let said = &mut buffer[..count];
                        if let Some(at) = said.windows(real.len()).position(|window| window == real) {
                            said[at..at + real.len()].copy_from_slice(&other);
                        }
                        to_us.write_all(said).await?;
                    }
                    to_us.shutdown().await
                };
                let _ = tokio::join!(tokio::io::copy(&mut from_us, &mut to_engine), back);
            });
        }
    });
    (format!("unix://{}", socket.display()), tunnel)
}

/// A socket here may lead to another machine: what runs there is compared with the kernel that the engine tells, not with
/// this machine's; and one that tells none is believed nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_of_its_own_is_another_than_the_engine_tells() {
    if std::env::var_os("PATCHWRIGHT_TEST_NAMESPACE_ONLY").is_some() {
        return;
    }
    let Some(_) = backend(&settings(Choice::Container)).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut found = Vec::new();
    for kernel in ['9', ' '] {
        let (host, tunnel) = renaming(folder.path(), kernel);
        let settings =
            Settings { docker_host: Some(host), runtime: Some("runc".into()), ..settings(Choice::Container) };
        let Some(backend) = backend(&settings).await else { return };
        found.push(backend.standing().holds(Defence::OwnKernel));
        drop(backend);
        tunnel.abort();
    }
    assert_eq!(found, [true, false]);
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
