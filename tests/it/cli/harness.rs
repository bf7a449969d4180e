//! One run of the binary in a place of its own, and what is left of it.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const BINARY: &str = env!("CARGO_BIN_EXE_patchwright");
/// Every run ends within this time; those that are to be quick assert less.
pub const LONGEST: Duration = Duration::from_secs(100);

/// What `PATCH` makes of `README` in [`Place::repository`].
pub const PATCH: &str = "Greet.\n\n```diff\n--- a/README\n+++ b/README\n@@ -1 +1 @@\n-Hello\n+Hello, world\n```\n";

/// Folders for one or more runs: home, temporary files, cache.
pub struct Place {
    root: tempfile::TempDir,
    /// Added to the environment of each run.
    pub environment: Vec<(String, OsString)>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub time: Duration,
}

impl Place {
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// A place in memory where there is one: for what would measure the disk instead of us.
    pub fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        let has_room = rustix::fs::statvfs(memory).is_ok_and(|disk| disk.f_bavail * disk.f_frsize > 2 << 30);
        let is_ours = has_room && tempfile::tempdir_in(memory).is_ok();
        if is_ours { Self::below(memory) } else { Self::new() }
    }

    fn below(folder: &Path) -> Self {
        let root = tempfile::Builder::new().prefix("patchwright-cli-").tempdir_in(folder).unwrap();
        Self { root, environment: Vec::new() }
    }

    /// A place whose runs talk to a lab's GitHub.
    pub fn at(lab: &lab::Lab) -> Self {
        let mut place = Self::new();
        place.set("GITHUB_API_URL", lab.github.api_url());
        place.set("GITHUB_SERVER_URL", lab.github.web_url());
        place.set("GITHUB_TOKEN", lab.github.token());
        place
    }

    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// The real path of a file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A repository with `README` (`Hello`), which [`PATCH`] changes, at `name`; its path.
    pub fn repository(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("README"), "Hello\n").unwrap();
        git(&path, &["init", "--quiet", "--initial-branch", "main"], b"");
        git(&path, &["add", "--all"], b"");
        git(&path, &["commit", "--quiet", "--no-gpg-sign", "--message", "One"], b"");
        path.to_str().unwrap().to_owned()
    }

    /// The binary with a clean environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(BINARY), arguments)
    }

    /// Another program, such as one that starts the binary, with the same environment.
    pub fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(lab::scenario::environment(&self.path("")).unwrap())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        finish(self.command(arguments), b"")
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        finish(self.command(arguments), input)
    }

    /// Asserts that no temporary file, half-made mirror or process is left of the runs so far.
    pub fn assert_clean(&self) {
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }

    pub fn leftovers(&self) -> Vec<String> {
        let names = |folder: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().display().to_string()).collect()
        };
        let mut left = names(&self.path("tmp"));
        for mirror in names(&self.path("cache/patchwright/mirrors")) {
            let half_made = names(Path::new(&mirror)).into_iter().filter(|name| {
                let name = name.rsplit('/').next().unwrap_or_default().to_owned();
                name.starts_with("tmp") || name == "worktrees"
            });
            left.extend(half_made);
        }
        let limit = Instant::now() + Duration::from_secs(2);
        // Killed processes need a moment to be reaped.
        while !self.processes().is_empty() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
        left.extend(self.processes());
        left
    }

    /// The processes that know of this place: in their arguments, environment or working folder.
    pub fn processes(&self) -> Vec<String> {
        let root = self.path("");
        let wanted = root.to_str().unwrap().trim_end_matches('/').as_bytes().to_owned();
        let knows = |bytes: &[u8]| bytes.windows(wanted.len()).any(|part| part == wanted);
        let own = std::process::id().to_string();
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let processes = entries.filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.bytes().all(|byte| byte.is_ascii_digit()) && name != own
        });
        let found = processes.filter_map(|entry| {
            let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let working = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            let is_ours = knows(&read("cmdline")) || knows(&read("environ")) || working.starts_with(&root);
            let shown = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            is_ours.then(|| format!("process {}: {shown}", entry.file_name().to_string_lossy()))
        });
        found.collect()
    }
}

impl Ran {
    /// Asserts the exit code, that standard output is empty, and that standard error holds each of `parts`.
    #[track_caller]
    pub fn refuses(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(self.stdout.is_empty(), "standard output is not empty: {self:#?}");
        self.says(parts);
        for internal in ["panicked", "RUST_BACKTRACE", "Os {", "Error {", "ErrorKind"] {
            assert!(!self.stderr.contains(internal), "`{internal}` in {}", self.stderr);
        }
    }

    #[track_caller]
    pub fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stderr.contains(part), "standard error lacks `{part}`: {self:#?}");
        }
    }

    /// Standard output as one JSON object.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let value: serde_json::Value = serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("standard output is no JSON: {error}: {self:#?}"));
        assert!(value.is_object(), "{value}");
        value
    }
}

/// Runs to the end; `input` is its standard input.
pub fn finish(mut command: Command, input: &[u8]) -> Ran {
    let begun = Instant::now();
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    let stdin = child.stdin.take();
    let id = child.id();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(mut stdin) = stdin {
                // A program that refuses its input early closes it.
                let _ = stdin.write_all(input);
            }
        });
        scope.spawn(move || {
            if ended.recv_timeout(LONGEST).is_err() {
                kill(id, "KILL");
            }
        });
        let output = child.wait_with_output().unwrap();
        let _ = done.send(());
        ran(output, begun)
    })
}

/// Waits for a child that was started before.
pub fn wait(child: Child, begun: Instant) -> Ran {
    ran(child.wait_with_output().unwrap(), begun)
}

fn ran(output: Output, begun: Instant) -> Ran {
    Ran {
        code: output.status.code(),
        signal: output.status.signal(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        time: begun.elapsed(),
    }
}

/// Sends a signal to one process.
pub fn kill(process: u32, signal: &str) {
    let status = Command::new("kill").args([format!("-{signal}"), process.to_string()]).status().unwrap();
    assert!(status.success(), "process {process} is not there");
}

/// Waits until `ready`, for at most 30 s.
#[track_caller]
pub fn until(what: &str, ready: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !ready() {
        assert!(Instant::now() < limit, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs git without the host's configuration.
pub fn git(folder: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "safe.directory=*"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let ran = finish(command, input);
    assert_eq!(ran.code, Some(0), "git {arguments:?}: {ran:#?}");
    ran.stdout
}

/// Says loudly that a test cannot run here, and fails where everything must.
pub fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED: {test}: {reason}");
    assert!(std::env::var_os("PATCHWRIGHT_TEST_REQUIRE_ALL").is_none(), "{test} was skipped: {reason}");
}
