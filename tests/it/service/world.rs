//! A lab, a place, and the service running between them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lab::{Lab, Permission};

use crate::cli::harness::{BINARY, Place, kill};

/// Whatever is waited for comes within this time.
pub const LIMIT: Duration = Duration::from_secs(60);
pub const SECRET: &str = "a-secret-of-the-webhooks";
pub const LABEL: &str = "copilot-agent";
/// May write.
pub const MAINTAINER: &str = "ada";
pub const STRANGER: &str = "mallory";

pub struct World {
    pub lab: Lab,
    pub place: Place,
}

/// The service as a process; it is killed when this is dropped.
pub struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
}

/// One answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl World {
    /// `acme/widgets` with a README, written by [`MAINTAINER`] and the bot; `file` is added to the operator's config.
    pub async fn new(file: &str) -> Self {
        let lab = Lab::start().await.unwrap();
        let mut place = Place::at(&lab);
        place.set("LOG_LEVEL", "info");
        place.set("DISPATCH_REPO", "acme/widgets");
        place.set("RETRY_DELAY_SECONDS", "1");
        place.set("LLM_API_ENDPOINT", "http://127.0.0.1:1/v1");
        let tests = "[github]\nwrite_spacing_ms = 0\n[repositories.\"acme/widgets\"]\ntest_command = \"true\"\n";
        let path = place.write("patchwright.toml", &format!("{file}\n{tests}"));
        place.set("PATCHWRIGHT_CONFIG", path);
        let world = Self { lab, place };
        world.repository("acme/widgets").await;
        world
    }

    pub async fn repository(&self, name: &str) {
        let files = [("README", "Hello\n")];
        self.lab.github.repository(name).bot(Permission::Write).commit("One", &files).create().await.unwrap();
        self.lab.github.set_permission(name, MAINTAINER, Permission::Write);
    }

    /// Opens an issue that is a task.
    pub fn dispatch(&self, author: &str, body: &str) -> u64 {
        self.lab.github.create_issue("acme/widgets", author, "Greet the world", Some(body), &[LABEL])
    }

    /// Starts `patchwright serve` on a free port.
    pub fn serve(&self, arguments: &[&str]) -> Running {
        self.serve_as(Path::new(BINARY), arguments)
    }

    /// The same, with the binary at another path.
    pub fn serve_as(&self, program: &Path, arguments: &[&str]) -> Running {
        let mut line = vec!["serve", "--listen", "127.0.0.1:0"];
        line.extend(arguments);
        let mut child =
            self.place.command_of(program, &line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (errors, kept) = (child.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                kept.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        Running { child, log }
    }

    /// The same, polling each second.
    pub fn poll(&self) -> Running {
        self.serve(&["--poll-interval", "1s"])
    }

    /// Waits until `done`.
    #[track_caller]
    pub fn until(&self, running: &Running, what: &str, done: impl Fn(&Self) -> bool) {
        self.until_within(LIMIT, running, what, done);
    }

    /// Waits until `done`, also for the lease of a service that was killed.
    #[track_caller]
    pub fn until_long(&self, running: &Running, what: &str, done: impl Fn(&Self) -> bool) {
        self.until_within(3 * LIMIT, running, what, done);
    }

    #[track_caller]
    fn until_within(&self, limit: Duration, running: &Running, what: &str, done: impl Fn(&Self) -> bool) {
        let limit = Instant::now() + limit;
        while !done(self) {
            assert!(Instant::now() < limit, "waited in vain until {what}. The log:\n{}", running.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn pulls(&self) -> usize {
        self.lab.github.pulls("acme/widgets").len()
    }

    pub fn labels(&self, issue: u64) -> Vec<String> {
        self.lab.github.issue("acme/widgets", issue).unwrap().labels
    }

    pub fn has_label(&self, issue: u64, label: &str) -> bool {
        self.labels(issue).iter().any(|held| held == label)
    }

    /// The bodies of the comments on an issue.
    pub fn comments(&self, issue: u64) -> Vec<String> {
        self.lab.github.comments("acme/widgets", issue).into_iter().map(|comment| comment.body).collect()
    }

    /// Asserts that nothing went wrong on the wire, and that no secret is in a log.
    #[track_caller]
    pub fn assert_well(&self, logs: &[String]) {
        for log in logs {
            for secret in self.lab.github.secrets().iter().chain([&SECRET.to_owned()]) {
                assert!(!log.contains(secret.as_str()), "a secret in the log:\n{log}");
            }
            assert!(!log.contains("panicked"), "{log}");
        }
        for pull in self.lab.github.pulls("acme/widgets") {
            self.comments(pull.number);
        }
        assert_eq!(self.lab.finish(), Vec::<String>::new(), "{}", logs.join("\n--\n"));
    }
}

impl Running {
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    #[track_caller]
    pub fn until_logged(&self, part: &str) {
        self.until_logged_within(LIMIT.as_secs(), part);
    }

    /// The same, where the promise is a number of seconds.
    #[track_caller]
    pub fn until_logged_within(&self, seconds: u64, part: &str) {
        let limit = Instant::now() + Duration::from_secs(seconds);
        while !self.log().contains(part) {
            assert!(Instant::now() < limit, "waited in vain for `{part}` in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where it listens; waits until it does.
    #[track_caller]
    pub fn address(&self) -> String {
        self.until_logged("listening on ");
        let log = self.log();
        let after = log.split_once("listening on ").unwrap().1;
        after.split_whitespace().next().unwrap().to_owned()
    }

    pub fn signal(&self, signal: &str) {
        kill(self.child.id(), signal);
    }

    /// Waits for the end; the exit code (`None`: by a signal) and the log.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let limit = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), self.log());
            }
            assert!(Instant::now() < limit, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it as an operator would; the log.
    pub fn stop(self) -> String {
        self.signal("TERM");
        let (code, log) = self.wait();
        assert_eq!(code, Some(0), "{log}");
        log
    }

    pub fn get(&self, path: &str) -> Answer {
        request(&self.address(), "GET", path, &[], b"")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One request over plain HTTP, by hand.
pub fn request(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).unwrap();
    // A server that has heard enough closes.
    drop(stream.write_all(body));
    let mut text = Vec::new();
    drop(stream.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, body: body.to_owned() }
}

/// The text of a task whose patch changes the README.
pub fn patch_task(id: &str) -> String {
    let patch = crate::cli::harness::PATCH;
    format!("<!-- agent_task_metadata {{\"task_id\": \"{id}\"}} -->\n\n## Instruction\n\n{patch}")
}

/// The text of a task for the model.
pub fn model_task(id: &str) -> String {
    format!("<!-- agent_task_metadata {{\"task_id\": \"{id}\"}} -->\n\n## Instruction\n\nGreet the world.\n")
}
