//! Connections to an engine on another machine: TLS with the operator's certificates, or the `ssh` program.

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::{SandboxError, Settings};
use super::{ANSWER_LIMIT, Address};

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// How long a connection that nobody uses is kept for the next request, and how many.
const IDLE_LIMIT: Duration = Duration::from_secs(20);
const MOST_IDLE: usize = 4;

/// How much of ssh's own words is told.
const MOST_COMPLAINT: u64 = 1000;

/// What a connection is opened with.
#[derive(Clone)]
enum Way {
    Plain { host: String, port: u16 },
    Tls { host: String, port: u16, name: ServerName<'static>, config: Arc<ClientConfig> },
    Ssh { program: PathBuf, arguments: Vec<String>, environment: Vec<(&'static str, OsString)> },
}

/// An open connection.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Ssh(Box<Ssh>),
}

/// A child process whose pipes are the connection.
struct Ssh {
    pipes: tokio::io::Join<ChildStdout, ChildStdin>,
    has_answered: bool,
    complaint: JoinHandle<String>,
    _child: Child,
}

/// A client for an engine that is on no socket of this machine. Nothing is sent yet.
///
/// # Errors
/// Certificates cannot be read, or there is no `ssh`.
pub fn client(address: &Address, settings: &Settings) -> Result<Docker, SandboxError> {
    let way = way(address, settings)?;
    let connector = tower::service_fn(move |_: http::Uri| {
        let way = way.clone();
        Box::pin(async move {
            let opened = tokio::time::timeout(CONNECT_LIMIT, way.open()).await;
            opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(TokioIo::new)
        })
    });
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_LIMIT)
        .pool_max_idle_per_host(MOST_IDLE)
        .build(connector);
    let transport = move |request: BollardRequest| {
        let answer = client.request(request);
        async move { answer.await.map_err(bollard::errors::Error::from) }
    };
    let docker = Docker::connect_with_custom_transport(
        transport,
        Some("http://engine"),
        ANSWER_LIMIT.as_secs(),
        API_DEFAULT_VERSION,
    );
    docker.map_err(|error| SandboxError::Broken(format!("no client for the engine can be made: {error}")))
}

fn way(address: &Address, settings: &Settings) -> Result<Way, SandboxError> {
    match address {
        Address::Unix(path) => Err(SandboxError::Broken(format!("{} is a socket of this machine", path.display()))),
        Address::Tcp { host, port, certificates: None } => {
            Ok(Way::Plain { host: bare(&host.to_string()).to_owned(), port: *port })
        }
        Address::Tcp { host, port, certificates: Some(folder) } => {
            let host = bare(&host.to_string()).to_owned();
            let name = ServerName::try_from(host.clone());
            let name = name.map_err(|error| useless(folder, &format!("{host} is in no certificate: {error}")))?;
            Ok(Way::Tls { host, port: *port, name, config: Arc::new(tls(folder)?) })
        }
        Address::Ssh { user, host, port } => {
            let search = settings.path.clone().unwrap_or_default();
            let program = which::which_in("ssh", Some(&search), "/").map_err(|_| SandboxError::Unavailable {
                reason: "DOCKER_HOST wants ssh, which was not found on the PATH".into(),
                remedy: "Install OpenSSH's client".into(),
            })?;
            let engine = &settings.engine;
            let mut arguments: Vec<String> = vec!["-T".into()];
            if let Some(config) = &engine.ssh_config {
                arguments.extend(["-F".into(), config.display().to_string()]);
            }
            arguments.extend(SSH_OPTIONS.iter().flat_map(|option| ["-o".to_owned(), (*option).to_owned()]));
            arguments.extend(user.iter().flat_map(|user| ["-l".to_owned(), user.clone()]));
            arguments.extend(port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
            arguments.extend(["--", host, "docker", "system", "dial-stdio"].map(str::to_owned));
            // The agent is asked for keys here; it is not forwarded.
            let mut environment = vec![("PATH", search), ("LC_ALL", "C".into())];
            environment.extend(settings.home.iter().map(|home| ("HOME", home.clone().into_os_string())));
            environment.extend(engine.ssh_agent.iter().map(|agent| ("SSH_AUTH_SOCK", agent.clone())));
            Ok(Way::Ssh { program, arguments, environment })
        }
    }
}

/// Whatever the user's own configuration says: no questions, no forwarding, nothing run here, no unknown host.
const SSH_OPTIONS: [&str; 9] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
];

impl Way {
    async fn open(&self) -> io::Result<Stream> {
        match self {
            Self::Plain { host, port } => tcp(host, *port).await.map(Stream::Plain),
            Self::Tls { host, port, name, config } => {
                let connector = TlsConnector::from(config.clone());
                let stream = connector.connect(name.clone(), tcp(host, *port).await?).await?;
                Ok(Stream::Tls(Box::new(stream)))
            }
            Self::Ssh { program, arguments, environment } => {
                let mut child = Command::new(program)
                    .args(arguments)
                    .env_clear()
                    .envs(environment.iter().map(|(name, value)| (name, value)))
                    .current_dir("/")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .process_group(0)
                    .kill_on_drop(true)
                    .spawn()?;
                let missing = || io::Error::other("ssh has no pipes");
                let stdout = child.stdout.take().ok_or_else(missing)?;
                let stdin = child.stdin.take().ok_or_else(missing)?;
                let stderr = child.stderr.take().ok_or_else(missing)?;
                Ok(Stream::Ssh(Box::new(Ssh {
                    pipes: tokio::io::join(stdout, stdin),
                    has_answered: false,
                    complaint: listen(stderr),
                    _child: child,
                })))
            }
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Listens to the end: a pipe that nobody empties would stop ssh.
fn listen(mut stderr: ChildStderr) -> JoinHandle<String> {
    tokio::spawn(async move {
        let mut said = Vec::new();
        let _ = (&mut stderr).take(MOST_COMPLAINT).read_to_end(&mut said).await;
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

/// Trusts the folder's `ca.pem` and nothing else, and shows its `cert.pem` with `key.pem`, if they are there.
fn tls(folder: &Path) -> Result<ClientConfig, SandboxError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(folder, "ca.pem")? {
        roots.add(authority).map_err(|error| useless(folder, &format!("ca.pem: {error}")))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| useless(folder, &error.to_string()))?.with_root_certificates(roots);
    let (chain, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if !chain.exists() && !key.exists() {
        return Ok(config.with_no_client_auth());
    }
    let key = PrivateKeyDer::from_pem_file(&key).map_err(|error| useless(folder, &format!("key.pem: {error}")))?;
    let config = config.with_client_auth_cert(certificates(folder, "cert.pem")?, key);
    config.map_err(|error| useless(folder, &error.to_string()))
}

fn certificates(folder: &Path, name: &str) -> Result<Vec<CertificateDer<'static>>, SandboxError> {
    let read = CertificateDer::pem_file_iter(folder.join(name)).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(useless(folder, &format!("{name} holds no certificate"))),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(useless(folder, &format!("{name}: {error}"))),
    }
}

fn useless(folder: &Path, why: &str) -> SandboxError {
    SandboxError::Unavailable {
        reason: format!("the certificates for the engine in {} cannot be used: {why}", folder.display()),
        remedy: "DOCKER_CERT_PATH (or sandbox.engine_certificates) names a folder with ca.pem, cert.pem and key.pem"
            .into(),
    }
}

/// An IPv6 address without its brackets.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Ssh(ssh) => {
                let before = buffer.filled().len();
                ready!(Pin::new(&mut ssh.pipes).poll_read(context, buffer))?;
                if buffer.filled().len() > before {
                    ssh.has_answered = true;
                } else if !ssh.has_answered {
                    // It ended without a word of the engine: its own words say why.
                    let said = ready!(Pin::new(&mut ssh.complaint).poll(context)).unwrap_or_default();
                    ssh.has_answered = true;
                    return Poll::Ready(Err(io::Error::other(format!("ssh: {said}"))));
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Ssh(ssh) => Pin::new(&mut ssh.pipes).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Ssh(ssh) => Pin::new(&mut ssh.pipes).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Ssh(ssh) => Pin::new(&mut ssh.pipes).poll_shutdown(context),
        }
    }
}
