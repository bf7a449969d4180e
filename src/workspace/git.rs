//! The only place that starts the `git` binary: for what crosses the network, for filling trees, for `git apply`.
//!
//! Every call has an empty environment but for what stands here, an empty home, no system or global configuration, no
//! hooks, no prompts, no protocol but the one it needs, a time limit, and a process group that dies with the future.
//! The token travels in the environment alone, as a header for the one host.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::process::{Pid, Signal};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::OnceCell;
use url::Url;

use super::error::WorkspaceError;
use crate::weak::{self, Defence};

/// How much of standard output and of standard error is kept, in bytes.
pub(super) const LONGEST_OUTPUT: usize = 1 << 20;
/// The first version that takes configuration from `GIT_CONFIG_COUNT`, without which nothing here would be safe.
const OLDEST_VERSION: (u32, u32) = (2, 31);
/// How often a call is tried that a server breaks off.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(300);

/// The git binary and the empty home it is given.
#[derive(Debug)]
pub(super) struct Git {
    program: PathBuf,
    home: PathBuf,
    environment: Vec<(String, String)>,
    timeout: Duration,
    version_checked: OnceCell<()>,
}

/// A remote repository that a call may talk to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access<'a> {
    pub url: &'a Url,
    pub token: Option<&'a SecretString>,
}

/// One call of git.
pub(super) struct Call<'a> {
    /// What it is for, to stand after "cannot".
    pub action: &'static str,
    pub arguments: Vec<OsString>,
    /// `GIT_INDEX_FILE`.
    pub index: Option<&'a Path>,
    /// Without it no protocol is allowed, and missing objects are not fetched.
    pub access: Option<Access<'a>>,
}

/// How a call ended. The texts are lossy UTF-8 without the token.
#[derive(Debug)]
pub(super) struct Finished {
    pub success: bool,
    pub output: String,
    pub errors: String,
}

impl Git {
    /// `home` is an existing empty folder of ours; the files that git wants are made in it.
    pub(super) fn new(
        program: PathBuf,
        home: PathBuf,
        environment: Vec<(String, String)>,
        timeout: Duration,
    ) -> Result<Self, WorkspaceError> {
        for folder in ["hooks", "template"] {
            let path = home.join(folder);
            std::fs::create_dir(&path).map_err(WorkspaceError::io("create the folder", &path))?;
        }
        let path = home.join("config");
        std::fs::write(&path, "").map_err(WorkspaceError::io("create the file", &path))?;
        Ok(Self { program, home, environment, timeout, version_checked: OnceCell::new() })
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// An empty folder for `--template`.
    pub(super) fn template(&self) -> PathBuf {
        self.home.join("template")
    }

    /// Runs a call and takes every exit code but 0 for an error.
    pub(super) async fn check(&self, call: Call<'_>) -> Result<String, WorkspaceError> {
        let (action, access) = (call.action, call.access);
        let finished = self.run(call).await?;
        if finished.success { Ok(finished.output) } else { Err(explain(action, access, &finished.errors)) }
    }

    /// Runs a call to its end, whatever its exit code. What a server breaks off is tried again: all calls can be.
    pub(super) async fn run(&self, call: Call<'_>) -> Result<Finished, WorkspaceError> {
        self.check_version_once().await?;
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            let finished = self.execute(&call).await?;
            if finished.success || call.access.is_none() || !is_transient(&finished.errors) {
                return Ok(finished);
            }
            tracing::debug!(action = call.action, errors = finished.errors, "the server broke off; trying again");
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.execute(&call).await
    }

    /// Refuses a git that is too old; one that was found to do is not asked again.
    pub(super) async fn check_version_once(&self) -> Result<(), WorkspaceError> {
        self.version_checked.get_or_try_init(|| self.check_version()).await.copied()
    }

    async fn check_version(&self) -> Result<(), WorkspaceError> {
        let action = "find out git's version";
        let call = Call { action, arguments: vec!["version".into()], index: None, access: None };
        let output = self.execute(&call).await?.output;
        let mut numbers = output.trim_start_matches("git version ").split('.').map(|part| part.parse::<u32>().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(major), Some(minor)) if (major, minor) >= OLDEST_VERSION => Ok(()),
            _ => {
                let (major, minor) = OLDEST_VERSION;
                let reason = format!("`{}` is too old; git {major}.{minor} or newer is needed", output.trim());
                Err(WorkspaceError::Git { action, reason })
            }
        }
    }

    async fn execute(&self, call: &Call<'_>) -> Result<Finished, WorkspaceError> {
        let action = call.action;
        let start = |source| WorkspaceError::Io { action: "start", path: self.program.display().to_string(), source };
        let mut command = tokio::process::Command::new(&self.program);
        if !weak::is_off(Defence::GitConfiguration) {
            command.env_clear();
        }
        command
            .args(&call.arguments)
            .envs(self.variables(call))
            .current_dir(&self.home)
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(start)?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let whole = async { tokio::join!(capped(output), capped(errors), child.wait()) };
        let Ok((output, errors, status)) = tokio::time::timeout(self.timeout, whole).await else {
            return Err(WorkspaceError::TimedOut { action, seconds: self.timeout.as_secs() });
        };
        group.0 = None;
        let token = call.access.and_then(|access| access.token);
        let clean = |bytes: Vec<u8>| scrub(String::from_utf8_lossy(&bytes).into_owned(), token);
        Ok(Finished { success: status.map_err(start)?.success(), output: clean(output), errors: clean(errors) })
    }

    fn variables(&self, call: &Call<'_>) -> Vec<(OsString, OsString)> {
        let mut variables: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: &str, value: &OsStr| variables.push((name.into(), value.to_owned()));
        for (name, value) in &self.environment {
            set(name, value.as_ref());
        }
        let mut path = self.program.parent().unwrap_or(Path::new("/")).as_os_str().to_owned();
        path.push(":/usr/local/bin:/usr/bin:/bin");
        set("PATH", &path);
        if !weak::is_off(Defence::GitConfiguration) {
            for name in ["HOME", "XDG_CONFIG_HOME", "TMPDIR"] {
                set(name, self.home.as_os_str());
            }
            set("GIT_CONFIG_GLOBAL", self.home.join("config").as_os_str());
        }
        for (name, value) in [
            ("LC_ALL", "C"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", ""),
            ("SSH_ASKPASS", ""),
            ("GIT_SSH_COMMAND", "false"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_PAGER", "cat"),
            ("GIT_EDITOR", "false"),
        ] {
            set(name, value.as_ref());
        }
        if call.access.is_none() {
            set("GIT_NO_LAZY_FETCH", "1".as_ref());
        }
        if let Some(index) = call.index {
            set("GIT_INDEX_FILE", index.as_os_str());
        }
        let settings = self.configuration(call.access);
        set("GIT_CONFIG_COUNT", settings.len().to_string().as_ref());
        for (number, (key, value)) in settings.iter().enumerate() {
            set(&format!("GIT_CONFIG_KEY_{number}"), key.as_ref());
            set(&format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        variables
    }

    fn configuration(&self, access: Option<Access<'_>>) -> Vec<(String, OsString)> {
        let empty_file = self.home.join("config").into_os_string();
        let mut settings: Vec<(String, OsString)> = vec![
            ("core.hooksPath".into(), self.home.join("hooks").into_os_string()),
            ("core.attributesFile".into(), empty_file.clone()),
            ("core.excludesFile".into(), empty_file),
        ];
        let fixed = [
            ("core.fsmonitor", "false"),
            ("core.untrackedCache", "false"),
            ("core.autocrlf", "false"),
            ("core.symlinks", "true"),
            ("core.fileMode", "true"),
            ("core.protectHFS", "true"),
            ("core.protectNTFS", "true"),
            ("core.askPass", ""),
            ("credential.helper", ""),
            ("submodule.recurse", "false"),
            ("fetch.recurseSubmodules", "false"),
            ("push.recurseSubmodules", "no"),
            // A common ancestor is agreed on before a push, else history that a blobless mirror lacks would be read.
            ("push.negotiate", "true"),
            ("push.gpgSign", "false"),
            ("filter.lfs.smudge", ""),
            ("filter.lfs.clean", ""),
            ("filter.lfs.process", ""),
            ("filter.lfs.required", "false"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            // What is fetched appears as one pack, whole or not at all.
            ("transfer.unpackLimit", "1"),
            ("fetch.unpackLimit", "1"),
            ("index.version", "2"),
            // Trees of a hundred files and more are written by as many processes as there are processors.
            ("checkout.workers", "0"),
            ("http.lowSpeedLimit", "1"),
            ("http.lowSpeedTime", "60"),
            ("protocol.allow", "never"),
        ];
        settings.extend(fixed.map(|(key, value)| (key.to_owned(), value.into())));
        if let Some(Access { url, token }) = access {
            settings.push((format!("protocol.{}.allow", url.scheme()), "always".into()));
            // git goes on to use the address that it was redirected to, with the header for the first one.
            let follow = if token.is_some() { "false" } else { "initial" };
            settings.push(("http.followRedirects".into(), follow.into()));
            if let Some(token) = token {
                let header = format!("Authorization: Basic {}", encoded(token));
                settings.push((format!("http.{}/.extraHeader", url.origin().ascii_serialization()), header.into()));
            }
        }
        settings
    }
}

/// Kills the process group on drop, unless its leader was waited for.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may be gone by itself.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads to the end and keeps the first [`LONGEST_OUTPUT`] bytes.
async fn capped(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return kept };
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let room = LONGEST_OUTPUT.saturating_sub(kept.len()).min(length);
        kept.extend_from_slice(&buffer[..room]);
    }
    kept
}

/// What goes behind `Authorization: Basic`, as GitHub wants it for every kind of token.
fn encoded(token: &SecretString) -> String {
    BASE64_STANDARD.encode(format!("x-access-token:{}", token.expose_secret()))
}

fn scrub(text: String, token: Option<&SecretString>) -> String {
    match token {
        Some(token) if !token.expose_secret().is_empty() => {
            text.replace(token.expose_secret(), "[token]").replace(&encoded(token), "[token]")
        }
        Some(_) | None => text,
    }
}

/// Whether git tells of a server that answered with a 5xx or broke off, which the next attempt may get past.
fn is_transient(errors: &str) -> bool {
    let signs = ["returned error: 50", "HTTP 50", "hung up unexpectedly", "early EOF", "Connection reset"];
    signs.iter().any(|sign| errors.contains(sign))
}

/// The error behind what git wrote, in the C locale.
pub(super) fn explain(action: &'static str, access: Option<Access<'_>>, errors: &str) -> WorkspaceError {
    let says = |parts: &[&str]| parts.iter().any(|part| errors.contains(part));
    let reason = errors
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with("hint:"))
        .take(6)
        .map(|line| line.trim_start_matches("fatal: ").trim_start_matches("error: ").trim())
        .collect::<Vec<_>>()
        .join("; ");
    if says(&["No space left on device", "Disk quota exceeded"]) {
        return WorkspaceError::DiskFull { path: reason };
    }
    let Some(Access { url, .. }) = access else { return WorkspaceError::Git { action, reason } };
    let remote = url.to_string();
    if says(&["Authentication failed", "could not read Username", "error: 401", "error: 403", "Access denied"]) {
        WorkspaceError::AccessDenied { remote, reason }
    } else if says(&["' not found", "does not appear to be a git repository", "error: 404"]) {
        WorkspaceError::RepositoryNotFound { remote }
    } else if says(&["error: 30", "update url base from redirection"]) {
        WorkspaceError::Moved { remote }
    } else if says(&[
        "Could not resolve",
        "Failed to connect",
        "Could not connect",
        "unable to access",
        "Connection re",
        "timed out",
        "early EOF",
        "hung up unexpectedly",
        "RPC failed",
    ]) {
        WorkspaceError::Unreachable { remote, reason }
    } else {
        WorkspaceError::Git { action, reason }
    }
}
