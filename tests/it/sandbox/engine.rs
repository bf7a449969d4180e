//! Engines that are not there, do not answer, or have no image; and the choice between the backends.

use std::os::unix::net::UnixListener;

use super::*;

async fn refusal(settings: &Settings) -> (String, String) {
    match Backend::probe(settings).await {
        Err(SandboxError::Unavailable { reason, remedy }) => (reason, remedy),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a sandbox was found"),
    }
}

#[tokio::test]
async fn an_engine_that_hangs_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let mut settings = settings(Choice::Container);
    settings.docker_host = Some(format!("unix://{}", socket.display()));
    let started = Instant::now();
    let (reason, _) = refusal(&settings).await;
    assert!(reason.contains("no answer within"), "{reason}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn no_engine_and_no_namespaces_is_no_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(Choice::Auto);
    settings.docker_host = Some(format!("unix://{}/no.sock", folder.path().display()));
    settings.helper = PathBuf::from("/bin/false");
    let (reason, remedy) = refusal(&settings).await;
    assert!(reason.contains("container: no container engine answers"), "{reason}");
    assert!(reason.contains("namespace: Linux namespaces do not work"), "{reason}");
    assert!(remedy.contains("systemctl start docker"), "{remedy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_falls_back_to_namespaces() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(Choice::Auto);
    settings.docker_host = Some(format!("unix://{}/no.sock", folder.path().display()));
    let Some(backend) = backend(&settings).await else { return };
    assert!(matches!(backend, Backend::Namespace(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_takes_an_engine_with_the_image_and_never_pulls() {
    let Some(_) = backend(&settings(Choice::Container)).await else { return };
    let Some(found) = backend(&settings(Choice::Auto)).await else { return };
    assert!(matches!(found, Backend::Container(_)));

    let mut other = settings(Choice::Container);
    other.image = Some("patchwright.invalid/no-such-image:1".into());
    let (reason, remedy) = refusal(&other).await;
    assert!(reason.contains("not on this machine"), "{reason}");
    assert!(remedy.contains("docker pull patchwright.invalid/no-such-image:1"), "{remedy}");

    other.image = None;
    assert!(refusal(&other).await.0.contains("no image is configured"));
    other.choice = Choice::Auto;
    let Some(found) = backend(&other).await else { return };
    assert!(matches!(found, Backend::Namespace(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_spares_the_living() {
    let Some(backend) = backend(&settings(Choice::Container)).await else { return };
    let tree = tempfile::tempdir().unwrap();
    let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
    backend.sweep().await.unwrap();
    assert_eq!(text(&sandbox.run(&command("echo here")).await.unwrap()), "here\n");
    sandbox.close().await.unwrap();
    assert!(sandbox.run(&command("true")).await.is_err());
}

/// The containers of `owner`, running or not, that the engine knows.
async fn containers_of(owner: &str) -> usize {
    let host = settings(Choice::Container).docker_host;
    let socket = host.as_deref().and_then(|host| host.strip_prefix("unix://")).unwrap_or("/var/run/docker.sock");
    let docker = bollard::Docker::connect_with_unix(socket, 30, bollard::API_DEFAULT_VERSION).unwrap();
    let filters = std::collections::HashMap::from([("label", vec![format!("patchwright.owner={owner}")])]);
    let options = bollard::query_parameters::ListContainersOptionsBuilder::default().all(true).filters(&filters);
    docker.list_containers(Some(options.build())).await.unwrap().len()
}

/// An interrupt comes when it likes: just after the order, or when the container starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_box_whose_opening_was_dropped_is_gone_when_all_are_closed() {
    for moment in ["ordered", "made"] {
        let mut settings = settings(Choice::Container);
        settings.owner = format!("patchwright-dropped-{}-{moment}", std::process::id());
        let Some(backend) = backend(&settings).await else { return };
        let tree = tempfile::tempdir().unwrap();
        {
            let surroundings = Surroundings::of(tree.path());
            let opening = backend.open(&surroundings);
            tokio::pin!(opening);
            tokio::select! {
                biased;
                _ = &mut opening => panic!("it opened too soon"),
                () = async {
                    tokio::task::yield_now().await;
                    while moment == "made" && containers_of(&settings.owner).await == 0 {}
                } => {}
            }
        }
        backend.close_all(Duration::from_secs(20)).await;
        assert_eq!(containers_of(&settings.owner).await, 0, "{moment}");
        assert!(
            matches!(backend.open(&Surroundings::of(tree.path())).await, Err(SandboxError::Broken(_))),
            "it is closed"
        );
        assert_eq!(backend.sweep().await.unwrap(), 0);
    }
}

/// The probe opens a box too, and an interrupt then finds no backend.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_probe_leaves_no_box() {
    let mut settings = settings(Choice::Container);
    settings.owner = format!("patchwright-probe-{}", std::process::id());
    let Some(_) = backend(&settings).await else { return };
    {
        let probe = Backend::probe(&settings);
        tokio::pin!(probe);
        tokio::select! {
            _ = &mut probe => panic!("it was done too soon"),
            () = async { while containers_of(&settings.owner).await == 0 {} } => {}
        }
    }
    patchwright::sandbox::await_removals(Duration::from_secs(20)).await;
    assert_eq!(containers_of(&settings.owner).await, 0);
}
