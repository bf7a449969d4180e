//! A proxy between clients and hosts that are all on loopback.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use patchwright::sandbox::egress::{Allowlist, Decision, Egress, Limits, Resolver, Rule, Settings, Verdict};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Duration = Duration::from_secs(20);

/// A host on loopback that keeps what it is sent. It answers each whole HTTP head with `answer`, and anything else
/// with `echo`.
pub struct Origin {
    pub port: u16,
    pub connections: Arc<AtomicUsize>,
    pub received: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Origin {
    pub async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let received = Arc::new(Mutex::new(Vec::new()));
        let (count, kept) = (connections.clone(), received.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(Self::serve(stream, kept.clone(), answer));
            }
        });
        Self { port, connections, received, task }
    }

    async fn serve(mut stream: TcpStream, kept: Arc<Mutex<Vec<u8>>>, answer: &'static str) {
        let mut buffer = vec![0u8; 65536];
        let mut head = Vec::new();
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            kept.lock().unwrap().extend_from_slice(&buffer[..count]);
            head.extend_from_slice(&buffer[..count]);
            let is_http = head.first().is_some_and(u8::is_ascii_uppercase);
            if is_http && !head.windows(4).any(|window| window == b"\r\n\r\n") {
                continue;
            }
            head.clear();
            let text = if is_http { answer } else { "echo" };
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap()).into_owned()
    }
}

pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\n\r\nok";

/// A proxy and what it decided.
pub struct Stage {
    pub egress: Egress,
    pub socket: PathBuf,
    pub folder: tempfile::TempDir,
    pub decisions: Arc<Mutex<Vec<Decision>>>,
}

/// Rules: a host with its port, and the networks opened for it.
pub fn settings(rules: &[(&str, &[&str])], names: &[(&str, &[&str])]) -> Settings {
    let names: BTreeMap<String, Vec<IpAddr>> = names
        .iter()
        .map(|(name, addresses)| ((*name).to_owned(), addresses.iter().map(|text| text.parse().unwrap()).collect()))
        .collect();
    Settings {
        socket: PathBuf::new(),
        list: "network.allow",
        allow: rules.iter().map(|(rule, networks)| Rule::parse_private(rule, networks).unwrap()).collect::<Allowlist>(),
        upstream: None,
        resolver: Resolver::Function(Arc::new(move |name| names.get(name).cloned().unwrap_or_default())),
        limits: Limits {
            header_timeout: Duration::from_millis(600),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(5),
            ..Limits::default()
        },
        listener: None,
    }
}

impl Stage {
    pub async fn start(mut settings: Settings) -> Self {
        let decisions: Arc<Mutex<Vec<Decision>>> = Arc::default();
        let kept = decisions.clone();
        settings.listener = Some(Arc::new(move |decision| kept.lock().unwrap().push(decision.clone())));
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("proxy");
        settings.socket.clone_from(&socket);
        Self { egress: Egress::start(settings).unwrap(), socket, folder, decisions }
    }

    /// `allowed.test` with the origin's port is allowed and at 127.0.0.1; `other.test` is there too, and not allowed.
    pub async fn around(origin: &Origin) -> Self {
        Self::start(Self::usual(origin)).await
    }

    pub fn usual(origin: &Origin) -> Settings {
        let rule = format!("allowed.test:{}", origin.port);
        settings(&[(&rule, &["127.0.0.0/8"])], &[("allowed.test", &["127.0.0.1"]), ("other.test", &["127.0.0.1"])])
    }

    pub async fn client(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// Sends bytes and reads until the proxy closes or nothing has come for a while after an answer.
    pub async fn ask(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.client().await;
        client.write_all(bytes.as_ref()).await.unwrap();
        read_answer(&mut client).await
    }

    /// Opens a tunnel, which must be granted.
    pub async fn tunnel(&self, authority: &str) -> UnixStream {
        let mut client = self.client().await;
        client
            .write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let head = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{authority}: {head}");
        client
    }

    /// The verdicts, when there are at least `count`.
    pub async fn verdicts(&self, count: usize) -> Vec<Verdict> {
        self.decisions(count).await.into_iter().map(|decision| decision.verdict).collect()
    }

    pub async fn decisions(&self, count: usize) -> Vec<Decision> {
        let enough = async {
            while self.decisions.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = timeout(PATIENCE, enough).await;
        self.decisions.lock().unwrap().clone()
    }
}

pub async fn read_head(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match timeout(PATIENCE, client.read_u8()).await.expect("no answer") {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// All that comes until the end, or until it is silent after something came.
pub async fn read_answer(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let mut buffer = vec![0u8; 65536];
    loop {
        let patience = if answer.is_empty() { PATIENCE } else { Duration::from_millis(300) };
        match timeout(patience, client.read(&mut buffer)).await {
            Ok(Ok(count @ 1..)) => answer.extend_from_slice(&buffer[..count]),
            Ok(Ok(0) | Err(_)) => break,
            Err(_) if answer.is_empty() => panic!("the proxy neither answers nor closes"),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The first bytes of TLS for a server; `None`: without a name.
pub fn hello(name: Option<&str>) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    config.enable_sni = name.is_some();
    let name = name.unwrap_or("none.test").to_owned().try_into().unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}
