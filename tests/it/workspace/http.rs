//! A remote over HTTP with a token, served by `git http-backend`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use patchwright::workspace::{PushError, PushExpectation, Remote, Settings, Workspace, WorkspaceError};
use secrecy::SecretString;
use url::Url;

use super::support::{Ground, author, path, snapshot};

const TOKEN: &str = "ghs_VerySecretTokenOfThisTest";
/// `x-access-token:TOKEN` in base64.
const BASIC: &str = "Basic eC1hY2Nlc3MtdG9rZW46Z2hzX1ZlcnlTZWNyZXRUb2tlbk9mVGhpc1Rlc3Q=";

/// What a server does with a request that has the right token.
#[derive(Clone)]
enum Answer {
    Repositories(PathBuf),
    Redirect(String),
}

/// A server on loopback. Its thread ends with the test process; each connection serves one request.
struct Server {
    address: String,
    /// The `Authorization` header of each request, empty if there was none.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, log) = (answer.clone(), Arc::clone(&log));
                std::thread::spawn(move || serve(stream.unwrap(), &answer, &log));
            }
        });
        Self { address, seen }
    }

    fn remote(&self, name: &str, token: Option<&str>) -> Remote {
        let url = Url::parse(&format!("{}/{name}", self.address)).unwrap();
        Remote::Url { url, token: token.map(|token| SecretString::from(token.to_owned())) }
    }
}

fn serve(mut stream: TcpStream, answer: &Answer, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut parts = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (parts.next(), parts.next()) else { return };
    let mut headers = std::collections::BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    log.lock().unwrap().push(header("authorization"));
    if header("authorization") != BASIC {
        let head =
            "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return stream.write_all(head.as_bytes()).unwrap();
    }
    let root = match answer {
        Answer::Redirect(place) => {
            let head = "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\nConnection: close\r\nLocation: ";
            return stream.write_all(format!("{head}{place}{target}\r\n\r\n").as_bytes()).unwrap();
        }
        Answer::Repositories(root) => root,
    };
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "test")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = backend.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || input.write_all(&body));
    let output = backend.wait_with_output().unwrap().stdout;
    let _ = feeder.join().unwrap();
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(output[..end].to_vec()).unwrap();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    let length = output.len() - end - 4;
    let head = format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&output[end + 4..]));
}

fn assert_holds_no_token(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_type().unwrap().is_dir() {
            assert_holds_no_token(&entry.path());
        } else if entry.file_type().unwrap().is_file() {
            let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
            let secrets = [TOKEN, BASIC.trim_start_matches("Basic ")];
            assert!(secrets.iter().all(|secret| !text.contains(secret)), "{}", entry.path().display());
        }
    }
}

#[tokio::test]
async fn a_token_reaches_the_server_and_nothing_else() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.write("a.txt", "1\n");
    source.commit("first");
    let remote = ground.bare(&source, "served/owner/name.git");
    let server = Server::start(Answer::Repositories(ground.path("served")));
    let wrapper = ground.path("git");
    let log = ground.path("arguments.log");
    let real = which::which("git").unwrap();
    let script = format!("#!/bin/sh\necho \"$@\" >> '{}'\nexec '{}' \"$@\"\n", log.display(), real.display());
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let workspace = Workspace::new(Settings {
        git: wrapper,
        cache: ground.path("cache"),
        temporary: ground.path("temporary"),
        git_timeout: Duration::from_secs(60),
        environment: vec![("http_proxy".into(), String::new())],
    })
    .unwrap();

    let checkout = workspace.checkout(&server.remote("owner/name.git", Some(TOKEN)), None).await.unwrap();
    assert_eq!(checkout.files().read(&path("a.txt"), 9).unwrap(), b"1\n");
    checkout.files().write(&path("a.txt"), b"2\n").unwrap();
    let taken = snapshot(&checkout).await;
    let commit = checkout.commit(&taken, "message", &author(), None).await.unwrap();
    checkout.push(&commit, "result", &PushExpectation::Absent).await.unwrap();
    assert_eq!(checkout.remote_branch("result").await.unwrap(), Some(commit.clone()));
    assert_eq!(remote.git(&["rev-parse", "result^{tree}"]), taken.tree().as_str());

    assert!(fs::read_to_string(&log).unwrap().contains("ls-remote"), "the wrapper was not used");
    assert_holds_no_token(ground.folder.path());
    assert!(!format!("{checkout:?} {workspace:?}").contains(TOKEN));
    assert!(server.seen.lock().unwrap().iter().all(|header| header == BASIC), "sent at once, without being asked");

    let before = fs::read_to_string(&log).unwrap().lines().count();
    drop(workspace.checkout(&server.remote("owner/name.git", Some(TOKEN)), None).await.unwrap());
    let calls = fs::read_to_string(&log).unwrap().lines().skip(before).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(calls.len(), 2, "a warm checkout is one ls-remote and one read-tree: {calls:#?}");
}

#[tokio::test]
async fn a_wrong_token_or_name_is_told_without_the_token() {
    let ground = Ground::new();
    ground.repository("served/owner/name").commit("first");
    let server = Server::start(Answer::Repositories(ground.path("served")));
    let try_it = async |name: &str, token: Option<&str>| {
        let error = ground.checkout(&server.remote(name, token), None).await.unwrap_err();
        let text = format!("{error} {error:?} {}", error.remedy());
        assert!(!text.contains("hunter2") && !text.contains(TOKEN), "{text}");
        error
    };
    for token in [Some("hunter2"), None] {
        let error = try_it("owner/name/.git", token).await;
        assert!(matches!(error, WorkspaceError::AccessDenied { .. }), "{error}");
    }
    let error = try_it("owner/missing.git", Some(TOKEN)).await;
    assert!(matches!(error, WorkspaceError::RepositoryNotFound { .. }), "{error}");
    assert!(ground.task_folders().is_empty());
}

#[tokio::test]
async fn a_token_is_not_taken_along_to_another_server() {
    let ground = Ground::new();
    ground.repository("served/owner/name").commit("first");
    let other = Server::start(Answer::Repositories(ground.path("served")));
    let server = Server::start(Answer::Redirect(other.address.clone()));
    let error = ground.checkout(&server.remote("owner/name/.git", Some(TOKEN)), None).await.unwrap_err();
    assert!(matches!(error, WorkspaceError::Moved { .. }), "{error}");
    assert!(other.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_token_that_may_not_push_is_told_so() {
    let ground = Ground::new();
    let source = ground.repository("source");
    source.commit("first");
    let remote = ground.bare(&source, "served/owner/name.git");
    remote.git(&["config", "http.receivepack", "false"]);
    let server = Server::start(Answer::Repositories(ground.path("served")));
    let checkout = ground.checkout(&server.remote("owner/name.git", Some(TOKEN)), None).await.unwrap();
    checkout.files().write(&path("a.txt"), b"2\n").unwrap();
    let commit = checkout.commit(&snapshot(&checkout).await, "message", &author(), None).await.unwrap();
    let error = checkout.push(&commit, "result", &PushExpectation::Absent).await.unwrap_err();
    assert!(matches!(error, PushError::Workspace(WorkspaceError::AccessDenied { .. })), "{error}");
}
