//! An engine that sees nothing of this machine's files: a second one of the tests' own, with folders of its own mounted
//! over the temporary one. It is reached by TCP with TLS, by plain TCP, by its socket, and by a real `sshd`.

mod connect;
mod hostile;
mod processes;
mod same;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::LazyLock;

use patchwright::sandbox::{EngineFiles, EngineSettings};

use super::*;

/// Hides the temporary folder (`$2`) from itself but for its own (`$1`), starts an engine there, brings it the images of
/// the engine `$3`, and says when it is ready. It ends, and all of it goes, when nobody holds its input any more.
const SCRIPT: &str = r#"
set -eu
for image in patchwright-test:latest patchwright-bare:latest; do
    DOCKER_HOST=$3 docker save "$image" >"$1/image-${image%:*}" || rm -f "$1/image-${image%:*}"
done
mount --bind "$1" /mnt
mount -t tmpfs tmpfs "$2"
mkdir -p "$1"
mount --move /mnt "$1"
cd "$1"
dockerd --host "unix://$1/docker.sock" --host "tcp://127.0.0.1:$4" --data-root "$1/data" --exec-root "$1/exec" \
    --pidfile "$1/docker.pid" --iptables=false --ip6tables=false --bridge=none \
    --tlsverify --tlscacert "$1/server/ca.pem" --tlscert "$1/server/cert.pem" --tlskey "$1/server/key.pem" \
    >"$1/dockerd.log" 2>&1 &
engine=$!
export DOCKER_HOST="unix://$1/docker.sock"
unset DOCKER_TLS_VERIFY DOCKER_CERT_PATH
tries=0
until docker version >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -gt 300 ]; then tail -n 20 "$1/dockerd.log"; exit 1; fi
    sleep 0.1
done
for image in image-*; do docker load <"$image" >/dev/null; rm "$image"; done
echo ready
cat >/dev/null
docker ps -aq | xargs -r docker rm -f -v >/dev/null 2>&1 || true
kill $engine
wait $engine 2>/dev/null || true
cd /
for point in $(grep " $1/" /proc/mounts | cut -d ' ' -f 2 | sort -r); do umount "$point" 2>/dev/null || true; done
rm -rf "$1"/*
"#;

/// The engine. It ends with this process, since the kernel closes its input then.
pub struct Far {
    pub folder: PathBuf,
    pub port: u16,
    _script: std::process::Child,
}

static FAR: LazyLock<Result<Far, String>> = LazyLock::new(Far::start);

impl Far {
    fn start() -> Result<Self, String> {
        let near = std::env::var("PATCHWRIGHT_TEST_DOCKER_HOST").map_err(|_| "there is no engine of the tests' own")?;
        if !rustix::process::getuid().is_root() {
            return Err("an engine with folders of its own needs root".into());
        }
        for program in ["dockerd", "docker", "unshare"] {
            which::which(program).map_err(|_| format!("{program} is not installed"))?;
        }
        let temporary = std::env::temp_dir();
        let folder = tempfile::Builder::new().prefix("far-").tempdir_in(&temporary).unwrap().keep();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        certify(&folder);
        let mut script = std::process::Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--", "sh", "-c", SCRIPT, "sh"])
            .args([&folder, &temporary])
            .args([near, port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut output = BufReader::new(script.stdout.take().unwrap());
        while said != "ready\n" {
            said.clear();
            if output.read_line(&mut said).unwrap() == 0 {
                script.wait().unwrap();
                return Err(format!("the engine did not start; see {}", folder.join("dockerd.log").display()));
            }
        }
        Ok(Self { folder, port, _script: script })
    }

    /// The engine, or that it cannot be had.
    pub fn get() -> Option<&'static Self> {
        match &*FAR {
            Ok(far) => Some(far),
            Err(reason) => {
                skipped(&format!("an engine elsewhere: {reason}"));
                None
            }
        }
    }

    /// Whose certificates the engine takes.
    pub fn certificates(&self) -> PathBuf {
        self.folder.join("client")
    }

    pub fn settings(&self) -> Settings {
        let engine = EngineSettings { certificates: Some(self.certificates()), ..EngineSettings::default() };
        Settings { docker_host: Some(format!("tcp://127.0.0.1:{}", self.port)), engine, ..settings(Choice::Container) }
    }
}

/// Whether a backend is one whose files are sent.
pub fn is_far(backend: &Backend) -> bool {
    backend.description().contains("files are sent to it")
}

/// Makes an authority, a server's folder, a client's, and one of a stranger.
fn certify(folder: &Path) {
    let authority = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap().pem();
        (certificate, rcgen::Issuer::new(parameters, key))
    };
    let write = |place: &str, name: &str, text: &str| {
        let place = folder.join(place);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join(name), text).unwrap();
    };
    let (ours, issuer) = authority("ours");
    let (theirs, stranger) = authority("theirs");
    let leaves = [
        ("server", &ours, &issuer, rcgen::ExtendedKeyUsagePurpose::ServerAuth),
        ("client", &ours, &issuer, rcgen::ExtendedKeyUsagePurpose::ClientAuth),
        ("stranger", &ours, &stranger, rcgen::ExtendedKeyUsagePurpose::ClientAuth),
    ];
    for (place, trusted, issuer, purpose) in leaves {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters =
            rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        parameters.extended_key_usages = vec![purpose];
        write(place, "ca.pem", trusted);
        write(place, "cert.pem", &parameters.signed_by(&key, issuer).unwrap().pem());
        write(place, "key.pem", &key.serialize_pem());
    }
    write("untrusting", "ca.pem", &theirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_on_an_engine_elsewhere() {
    let Some(far) = Far::get() else { return };
    let Some(backend) = backend(&far.settings()).await else { return };
    assert!(is_far(&backend), "{}", backend.description());
    cases::check(&backend, Choice::Container).await;
}

/// Patchwright in a container that was given the engine's socket: the socket is here, and the engine's folders are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_here_is_not_taken_for_folders_here() {
    let Some(far) = Far::get() else { return };
    let mut settings = far.settings();
    settings.docker_host = Some(format!("unix://{}/docker.sock", far.folder.display()));
    let Some(backend) = backend(&settings).await else { return };
    assert!(is_far(&backend), "{}", backend.description());
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join("given"), "given\n").unwrap();
    let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
    assert_eq!(text(&sandbox.run(&command("cat given; echo made > made")).await.unwrap()), "given\n");
    assert_eq!(std::fs::read_to_string(tree.path().join("made")).unwrap(), "made\n");
    sandbox.close().await.unwrap();

    settings.engine.files = EngineFiles::Shared;
    match Backend::probe(&settings).await {
        Err(SandboxError::Unavailable { reason, remedy }) => {
            assert!(reason.contains("does not see this machine's files"), "{reason}");
            assert!(remedy.contains("engine_files"), "{remedy}");
        }
        Err(error) => panic!("{error}"),
        Ok(backend) => panic!("taken: {}", backend.description()),
    }
}

/// An engine that shows our folders can be told to get copies.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_sent_where_the_operator_says_so() {
    let mut settings = settings(Choice::Container);
    let Some(near) = backend(&settings).await else { return };
    assert!(!is_far(&near), "{}", near.description());
    settings.engine.files = EngineFiles::Sent;
    let Some(backend) = backend(&settings).await else { return };
    assert!(is_far(&backend), "{}", backend.description());
    assert_eq!(backend.standing().level(), near.standing().level());
    assert_eq!(backend.fingerprint().await, near.fingerprint().await);
}
