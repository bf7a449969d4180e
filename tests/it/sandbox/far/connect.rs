//! Reaching an engine elsewhere: addresses, certificates, ssh.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use super::*;

async fn refusal(settings: &Settings) -> (String, String) {
    match Backend::probe(settings).await {
        Err(SandboxError::Unavailable { reason, remedy }) => (reason, remedy),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a sandbox was found"),
    }
}

#[tokio::test]
async fn addresses_that_cannot_be_used_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    for (address, wanted) in [
        ("tcp://10.0.0.1:2375", "without TLS"),
        ("tcp://engine.test", "without TLS"),
        ("tcp://user@127.0.0.1:1", "of another kind"),
        ("tcp://127.0.0.1:1/path", "more than a user"),
        ("tcp://", "of another kind"),
        ("https://127.0.0.1", "of another kind"),
        ("ssh://user:secret@host", "more than a user"),
        ("ssh://-oProxyCommand=id", "characters"),
        ("ssh://-l@host", "characters"),
        ("ssh://host/var/run/docker.sock", "more than a user"),
        ("127.0.0.1", "no address"),
        ("fd://", "of another kind"),
    ] {
        let mut settings = settings(Choice::Container);
        settings.docker_host = Some(address.into());
        let (reason, remedy) = refusal(&settings).await;
        assert!(reason.contains(wanted), "{address}: {reason}");
        assert!(remedy.contains("ssh://USER@HOST"), "{address}: {remedy}");
        assert!(!reason.contains("secret"), "{reason}");
    }
    // Certificates that are not there, and a plain engine that may be and is not there.
    let mut settings = settings(Choice::Container);
    settings.docker_host = Some("tcp://127.0.0.1:1".into());
    settings.engine.certificates = Some(folder.path().into());
    let (reason, remedy) = refusal(&settings).await;
    assert!(reason.contains("ca.pem") && remedy.contains("DOCKER_CERT_PATH"), "{reason}. {remedy}");
    settings.engine.certificates = None;
    assert!(refusal(&settings).await.0.contains("tcp://127.0.0.1:1: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_must_know_each_other() {
    let Some(far) = Far::get() else { return };
    for (folder, wanted) in [("stranger", ""), ("untrusting", "certificate")] {
        let mut settings = far.settings();
        settings.engine.certificates = Some(far.folder.join(folder));
        let (reason, _) = refusal(&settings).await;
        assert!(reason.contains("no container engine answers") && reason.contains(wanted), "{folder}: {reason}");
    }
    let mut settings = far.settings();
    settings.engine.certificates = None;
    let (reason, _) = refusal(&settings).await;
    assert!(reason.contains("HTTP request to an HTTPS server") || reason.contains("tcp://"), "{reason}");
}

/// TCP on the loopback without TLS, as a tunnel of the operator's own may offer it.
#[tokio::test(flavor = "multi_thread")]
async fn plain_tcp_on_the_loopback_works() {
    let Some(far) = Far::get() else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = far.folder.join("docker.sock");
    let tunnel = tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let mut there = tokio::net::UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut here, &mut there).await });
        }
    });
    let mut settings = far.settings();
    settings.docker_host = Some(format!("tcp://127.0.0.1:{port}"));
    settings.engine.certificates = None;
    if let Some(backend) = backend(&settings).await {
        assert!(is_far(&backend), "{}", backend.description());
        backend.check().await.unwrap();
    }
    tunnel.abort();
}

/// A real `sshd` on the loopback with keys of its own, which runs `docker` with the far engine's socket.
struct Sshd {
    folder: tempfile::TempDir,
    port: u16,
    _server: tokio::process::Child,
}

impl Sshd {
    async fn start(far: &Far) -> Option<Self> {
        let Some(sshd) = ["/usr/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|path| Path::new(path).exists()) else {
            skipped("openssh-server is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = |name: &str| folder.path().join(name).display().to_string();
        for name in ["host", "user", "unknown"] {
            let made = tokio::process::Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f", &path(name)])
                .output()
                .await
                .unwrap();
            assert!(made.status.success(), "{made:?}");
        }
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        let write = |name: &str, text: String| {
            std::fs::File::create(path(name)).unwrap().write_all(text.as_bytes()).unwrap();
            std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        write("authorized", read("user.pub"));
        write("known", format!("[127.0.0.1]:{port} {}", read("host.pub")));
        write("nobody", String::new());
        // What is asked for is seen, and runs with the far engine's socket.
        write(
            "forced",
            format!(
                "#!/bin/sh\necho \"$SSH_ORIGINAL_COMMAND agent=$SSH_AUTH_SOCK\" >> {}\n[ \"$SSH_ORIGINAL_COMMAND\" = 'docker system dial-stdio' ] || exit 9\n\
                 # More than a pipe holds.\nhead -c 200000 /dev/zero >&2\n\
                 DOCKER_HOST=unix://{}/docker.sock exec $SSH_ORIGINAL_COMMAND\n",
                path("asked"),
                far.folder.display()
            ),
        );
        std::fs::set_permissions(path("forced"), std::fs::Permissions::from_mode(0o755)).unwrap();
        write(
            "sshd_config",
            format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
                 UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
                 ForceCommand {}\nMaxStartups 100\n",
                path("host"),
                path("authorized"),
                path("forced")
            ),
        );
        let config = |known: &str, key: &str| {
            format!(
                "Host *\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  IdentityFile {}\n  \
                 IdentitiesOnly yes\n  ForwardAgent yes\n  PermitLocalCommand yes\n  LocalCommand touch {}\n  LogLevel ERROR\n",
                path(known),
                path(key),
                path("local")
            )
        };
        write("ssh_config", config("known", "user"));
        write("ssh_config_unknown_host", config("nobody", "user"));
        write("ssh_config_unknown_key", config("known", "unknown"));
        let _ = std::fs::create_dir_all("/run/sshd");
        let server = tokio::process::Command::new(sshd)
            .args(["-D", "-e", "-f", &path("sshd_config")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(path("sshd.log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = path("sshd.log");
        until("sshd listens", || std::fs::read_to_string(&log).unwrap_or_default().contains("Server listening")).await;
        Some(Self { folder, port, _server: server })
    }

    fn settings(&self, far: &Far, config: &str) -> Settings {
        let mut settings = far.settings();
        let user = std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "root".into());
        settings.docker_host = Some(format!("ssh://{user}@127.0.0.1:{}", self.port));
        settings.engine = EngineSettings {
            ssh_config: Some(self.folder.path().join(config)),
            ssh_agent: Some("/nonexistent/agent".into()),
            ..EngineSettings::default()
        };
        settings
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_reached_through_ssh() {
    let Some(far) = Far::get() else { return };
    let Some(sshd) = Sshd::start(far).await else { return };
    let Some(backend) = backend(&sshd.settings(far, "ssh_config")).await else { return };
    assert!(is_far(&backend), "{}", backend.description());
    assert!(backend.description().contains("at ssh://"), "{}", backend.description());
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join("given"), "given\n").unwrap();
    let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
    assert_eq!(text(&sandbox.run(&command("cat given; echo made > made")).await.unwrap()), "given\n");
    assert_eq!(std::fs::read_to_string(tree.path().join("made")).unwrap(), "made\n");
    sandbox.close().await.unwrap();
    let asked = std::fs::read_to_string(sshd.folder.path().join("asked")).unwrap();
    assert!(asked.lines().all(|line| line == "docker system dial-stdio agent="), "{asked}");
    assert!(!sshd.folder.path().join("local").exists(), "a command of the configuration ran here");
    drop(backend);

    for (config, wanted) in
        [("ssh_config_unknown_host", "Host key verification failed"), ("ssh_config_unknown_key", "Permission denied")]
    {
        let (reason, _) = refusal(&sshd.settings(far, config)).await;
        assert!(reason.contains(wanted), "{config}: {reason}");
    }
}
