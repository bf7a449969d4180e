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
async fn an_engine_elsewhere_is_refused() {
    let mut settings = settings(Choice::Container);
    settings.docker_host = Some("tcp://10.0.0.1:2375".into());
    let (reason, remedy) = refusal(&settings).await;
    assert!(reason.contains("not on a socket of this machine"), "{reason}");
    assert!(remedy.contains("unix://"), "{remedy}");
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
    let sandbox = backend.open(tree.path()).await.unwrap();
    backend.sweep().await.unwrap();
    assert_eq!(text(&sandbox.run(&command("echo here")).await.unwrap()), "here\n");
    sandbox.close().await.unwrap();
    assert!(sandbox.run(&command("true")).await.is_err());
}
