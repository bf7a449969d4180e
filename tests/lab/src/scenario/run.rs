//! Runs a scenario: a lab of its own, the real binary as a child process, and a look at everything afterwards.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{Scenario, Serve, Stdout};
use crate::github::{Comment, Exchange, Issue, local};
use crate::http::hex;
use crate::{Lab, Model, git};

/// What became of one path between the base and the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Deleted,
    /// Added or modified. `mode` as in git: `100644`, `100755`, `120000`, `160000`.
    Present {
        mode: String,
        bytes: Vec<u8>,
    },
}

/// Everything that can be seen after a run.
#[derive(Debug, Default)]
pub struct Report {
    /// `None`: killed, by us at the time limit or by a signal.
    pub exit: Option<i32>,
    pub timed_out: bool,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub elapsed: Duration,
    /// The pull requests of the target.
    pub pulls: Vec<Issue>,
    pub pull_urls: Vec<String>,
    /// The issue, if there is one.
    pub issue: Option<Issue>,
    pub comments: Vec<Comment>,
    /// The branches of the target, or of the local repository.
    pub branches: Vec<String>,
    /// The changes that were published or printed, by path (lossy UTF-8); `None` if there is no result.
    pub changes: Option<BTreeMap<String, Change>>,
    /// Why the printed diff does not apply.
    pub diff_error: Option<String>,
    /// What went wrong on the wire.
    pub violations: Vec<String>,
    /// What the run left behind: temporary files, worktrees, processes, secrets.
    pub leftovers: Vec<String>,
    /// The local repository is not what it was.
    pub touched: bool,
    pub exchanges: Vec<Exchange>,
    pub model_requests: Vec<Value>,
    /// Texts that differ from run to run, and what stands for them in a transcript.
    pub(super) names: Vec<(String, &'static str)>,
}

/// The places of one run.
struct Places {
    root: tempfile::TempDir,
    scratch: PathBuf,
    local: PathBuf,
}

/// Runs `scenario` with the binary at `binary`.
pub async fn run(binary: &Path, scenario: &Scenario) -> anyhow::Result<Report> {
    let lab = Lab::start().await?;
    let root = tempfile::Builder::new().prefix("patchwright-run-").tempdir()?;
    let base = root.path().canonicalize()?;
    let places = Places { scratch: base.join("tmp"), local: base.join("repository"), root };
    environment(&base)?;
    scenario.settings.secrets.iter().for_each(|secret| lab.github.add_secret(secret));
    let issue = seed(&lab, scenario, &places).await?;
    let model = match &scenario.script {
        Some(script) => {
            let model = lab.model(script.clone()).await?;
            if !scenario.settings.model_knows {
                lab.github.secrets().iter().for_each(|secret| model.add_secret(secret));
            }
            Some(model)
        }
        None => None,
    };
    for fault in &scenario.settings.faults {
        lab.github.add_fault(fault.rule()?);
    }
    let before = fingerprint(&places.local)?;
    let branches_before = branches(&lab, scenario, &places).await;
    let mut report = Report::default();
    for _ in 0..scenario.settings.runs {
        run_once(binary, scenario, &lab, model.as_ref(), issue, &places, &mut report).await?;
    }
    report.touched = fingerprint(&places.local)? != before;
    look(&lab, scenario, issue, &places, &mut report).await?;
    // A branch that was there before is no result.
    report.branches.retain(|branch| !branches_before.contains(branch));
    if let Some(model) = &model {
        report.violations.extend(model.finish());
        report.model_requests = model.requests();
        let port = model.endpoint().replace("/v1", "").replace("http://", "");
        report.names.push((port, "MODEL"));
    }
    report.names.push((lab.github.web_url().replace("http://", ""), "GITHUB"));
    report.names.push((base.to_string_lossy().into_owned(), "$RUN"));
    Ok(report)
}

/// Makes the repositories and the issue; the issue's number.
async fn seed(lab: &Lab, scenario: &Scenario, places: &Places) -> anyhow::Result<Option<u64>> {
    let settings = &scenario.settings;
    let source = scenario.folder.join("repo");
    let script = Some(scenario.folder.join("setup.sh")).filter(|script| script.exists());
    if settings.serve == Serve::Local {
        local(&places.local, &settings.branch, &source, script.as_deref()).await?;
        let dirty = scenario.folder.join("dirty.sh");
        if dirty.exists() {
            let status = Command::new("sh").arg("-eu").arg(&dirty).current_dir(&places.local).status().await?;
            anyhow::ensure!(status.success(), "dirty.sh failed");
        }
        return Ok(None);
    }
    let mut repository = lab.github.repository(&settings.target);
    repository = repository.default_branch(&settings.branch).bot(settings.permission);
    if settings.private {
        repository = repository.private();
    }
    if settings.without_filter {
        repository = repository.without_filter();
    }
    if !settings.empty {
        repository = repository.folder(&source);
    }
    if let Some(script) = script {
        repository = repository.script(&script);
    }
    repository.create().await?;
    if scenario.dispatch() != settings.target {
        let dispatch = lab.github.repository(scenario.dispatch());
        dispatch.commit("One", &[("README.md", "# Dispatch\n")]).create().await?;
    }
    let labels: Vec<&str> = settings.labels.iter().map(String::as_str).collect();
    let body = (!settings.no_body).then(|| scenario.text.trim_end_matches('\n'));
    let owner = scenario.dispatch().split('/').next().unwrap_or_default();
    Ok(Some(lab.github.create_issue(scenario.dispatch(), owner, &settings.title, body, &labels)))
}

async fn run_once(
    binary: &Path,
    scenario: &Scenario,
    lab: &Lab,
    model: Option<&Model>,
    issue: Option<u64>,
    places: &Places,
    report: &mut Report,
) -> anyhow::Result<()> {
    let fill = |text: &str| {
        text.replace("{issue}", &format!("{}#{}", scenario.dispatch(), issue.unwrap_or_default()))
            .replace("{task}", scenario.text.trim_end_matches('\n'))
            .replace("{repository}", &places.local.to_string_lossy())
            .replace("{target}", &scenario.settings.target)
            .replace("{folder}", &scenario.folder.to_string_lossy())
            .replace("{run}", &places.root.path().to_string_lossy())
            .replace("{endpoint}", &model.map(Model::endpoint).unwrap_or_default())
    };
    let mut command = Command::new(binary);
    command
        .args(scenario.settings.args.iter().map(|argument| fill(argument)))
        .env_clear()
        .envs(environment(places.root.path())?)
        .env("GITHUB_API_URL", lab.github.api_url())
        .env("GITHUB_SERVER_URL", lab.github.web_url())
        .env("GITHUB_TOKEN", lab.github.token())
        .current_dir(places.root.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(model) = model {
        command.env("LLM_API_ENDPOINT", model.endpoint()).env("LLM_MODEL", model.name());
    }
    command.envs(scenario.settings.env.iter().map(|(name, value)| (name, fill(value))));
    let started = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
    let limit = Duration::from_secs(scenario.settings.timeout);
    match tokio::time::timeout(limit, child.wait_with_output()).await {
        Ok(output) => {
            let output = output?;
            report.exit = output.status.code();
            report.stdout = output.stdout;
            report.stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        }
        Err(_) => {
            report.exit = None;
            report.timed_out = true;
        }
    }
    report.elapsed = started.elapsed();
    Ok(())
}

/// Where toolchains live below a home folder, and the variables that say so where they live elsewhere.
const TOOLCHAINS: [(&str, Option<&str>); 6] = [
    (".cargo", Some("CARGO_HOME")),
    (".rustup", Some("RUSTUP_HOME")),
    (".pyenv", Some("PYENV_ROOT")),
    (".nvm", Some("NVM_DIR")),
    (".sdkman", None),
    ("go", Some("GOPATH")),
];

/// Makes the folders of a clean machine below `root`, and returns the environment that goes with them: a home with
/// nothing in it but links to the toolchains, a cache, a temporary folder (`tmp`), and the PATH.
pub fn environment(root: &Path) -> anyhow::Result<Vec<(String, OsString)>> {
    for folder in ["home", "cache", "tmp"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    let mut environment: Vec<(String, OsString)> = vec![
        ("HOME".into(), root.join("home").into()),
        ("XDG_CACHE_HOME".into(), root.join("cache").into()),
        ("TMPDIR".into(), root.join("tmp").into()),
        ("LANG".into(), "C.UTF-8".into()),
        // A setup may ask the registries of the world; a scenario that is about it turns it on.
        ("PATCHWRIGHT_SETUP".into(), "off".into()),
        ("PATH".into(), std::env::var_os("PATH").unwrap_or_default()),
    ];
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    for (usual, variable) in TOOLCHAINS {
        let told = variable.and_then(std::env::var_os).map(PathBuf::from);
        let folder = told.unwrap_or_else(|| home.join(usual));
        let link = root.join("home").join(usual);
        // A folder that this user may not enter is as good as absent.
        if std::fs::read_dir(&folder).is_err() {
            continue;
        }
        if !link.is_symlink() {
            std::os::unix::fs::symlink(&folder, &link)?;
        }
        if let Some(variable) = variable.filter(|name| *name != "GOPATH") {
            environment.push((variable.into(), folder.into()));
        }
    }
    for name in ["GOROOT", "JAVA_HOME", "SSL_CERT_FILE", "DOCKER_HOST"] {
        if let Some(value) = std::env::var_os(name) {
            environment.push((name.into(), value));
        }
    }
    Ok(environment)
}

async fn look(
    lab: &Lab,
    scenario: &Scenario,
    issue: Option<u64>,
    places: &Places,
    report: &mut Report,
) -> anyhow::Result<()> {
    let target = &scenario.settings.target;
    report.pulls = lab.github.pulls(target);
    report.pull_urls =
        report.pulls.iter().map(|pull| format!("{}/{target}/pull/{}", lab.github.web_url(), pull.number)).collect();
    if let Some(number) = issue {
        report.issue = lab.github.issue(scenario.dispatch(), number);
        report.comments = lab.github.comments(scenario.dispatch(), number);
    }
    report.branches = branches(lab, scenario, places).await;
    report.changes = changes(lab, scenario, places, report).await?;
    report.violations = lab.finish();
    report.exchanges = lab.github.exchanges();
    leftovers(lab, places, report).await?;
    Ok(())
}

async fn branches(lab: &Lab, scenario: &Scenario, places: &Places) -> Vec<String> {
    let folder = repository(lab, scenario, places);
    let listed = git::text(&folder, &["for-each-ref", "--format=%(refname:short)", "refs/heads/"]).await;
    listed.unwrap_or_default().lines().map(str::to_owned).collect()
}

fn repository(lab: &Lab, scenario: &Scenario, places: &Places) -> PathBuf {
    match lab.github.repository_state(&scenario.settings.target) {
        Some(repository) => repository.path,
        None => places.local.clone(),
    }
}

/// The changes between the base and the result, wherever the result stands.
async fn changes(
    lab: &Lab,
    scenario: &Scenario,
    places: &Places,
    report: &mut Report,
) -> anyhow::Result<Option<BTreeMap<String, Change>>> {
    let settings = &scenario.settings;
    let folder = repository(lab, scenario, places);
    let pulled = report.pulls.last().and_then(|pull| Some(pull.pull.as_ref()?.head.clone()));
    let result = settings.expect.branch.clone().or(pulled).filter(|branch| report.branches.contains(branch));
    if let Some(branch) = result {
        let base = settings.base.as_ref().unwrap_or(&settings.branch);
        return between(&folder, base, &branch).await.map(Some);
    }
    let diff = match settings.expect.stdout {
        Stdout::Diff => report.stdout.clone(),
        Stdout::Json => serde_json::from_slice::<Value>(&report.stdout)
            .ok()
            .and_then(|outcome| outcome["diff"].as_str().map(|diff| diff.as_bytes().to_vec()))
            .unwrap_or_default(),
        Stdout::Any | Stdout::Empty | Stdout::PullRequest => Vec::new(),
    };
    if diff.is_empty() {
        return Ok(None);
    }
    let applied = places.root.path().join("applied");
    let source = folder.to_string_lossy().into_owned();
    let target = applied.to_string_lossy().into_owned();
    git::bytes(places.root.path(), &["clone", "--quiet", "--no-hardlinks", &source, &target]).await?;
    if let Err(error) = apply(&applied, &diff).await {
        report.diff_error = Some(format!("{error:#}"));
        return Ok(None);
    }
    let tree = git::text(&applied, &["write-tree"]).await?;
    between(&applied, "HEAD", &tree).await.map(Some)
}

async fn apply(folder: &Path, diff: &[u8]) -> anyhow::Result<()> {
    let mut command = git::command(folder);
    command.args(["apply", "--index", "--binary", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(diff).await?;
    }
    let output = child.wait_with_output().await?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

async fn between(folder: &Path, base: &str, result: &str) -> anyhow::Result<BTreeMap<String, Change>> {
    let raw = git::bytes(folder, &["diff", "--raw", "-z", "--no-renames", "--no-abbrev", base, result]).await?;
    let mut changes = BTreeMap::new();
    let mut fields = raw.split(|byte| *byte == 0);
    while let (Some(head), Some(path)) = (fields.next(), fields.next()) {
        let head = String::from_utf8_lossy(head).into_owned();
        let parts: Vec<&str> = head.trim_start_matches(':').split(' ').collect();
        let [_, mode, _, object, status] = parts.as_slice() else { anyhow::bail!("git said `{head}`") };
        let change = match (*status, *mode) {
            ("D", _) => Change::Deleted,
            (_, "160000") => Change::Present { mode: (*mode).into(), bytes: object.as_bytes().to_vec() },
            _ => {
                let bytes = git::bytes(folder, &["cat-file", "blob", object]).await?;
                Change::Present { mode: (*mode).into(), bytes }
            }
        };
        changes.insert(String::from_utf8_lossy(path).into_owned(), change);
    }
    Ok(changes)
}

/// What should not be there any more.
async fn leftovers(lab: &Lab, places: &Places, report: &mut Report) -> anyhow::Result<()> {
    let root = places.root.path();
    for entry in std::fs::read_dir(&places.scratch)? {
        report.leftovers.push(format!("TMPDIR holds {}", entry?.file_name().to_string_lossy()));
    }
    let mut files = Vec::new();
    walk(root, &mut |path| files.push(path.to_owned()))?;
    for path in &files {
        if path.parent().and_then(Path::file_name).is_some_and(|name| name == "worktrees") {
            report.leftovers.push(format!("a worktree is registered: {}", path.display()));
        }
    }
    let secrets = lab.github.secrets();
    let holds =
        |bytes: &[u8]| secrets.iter().any(|secret| bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
    for path in files.iter().filter(|path| path.is_file() && !path.is_symlink()) {
        if std::fs::metadata(path)?.len() < 1 << 20 && std::fs::read(path).is_ok_and(|bytes| holds(&bytes)) {
            report.leftovers.push(format!("a secret stands in {}", path.display()));
        }
    }
    if holds(&report.stdout) || holds(report.stderr.as_bytes()) {
        report.leftovers.push("a secret was printed".into());
    }
    for repository in std::fs::read_dir(lab.folder().join("repositories"))?.flatten() {
        let path = repository.path();
        if path.extension().is_some_and(|extension| extension == "git") {
            let log = git::bytes(&path, &["log", "--all", "--patch", "--no-color", "--no-textconv"]).await;
            if log.is_ok_and(|log| holds(&log)) {
                report.leftovers.push(format!("a secret was pushed to {}", repository.file_name().to_string_lossy()));
            }
        }
    }
    // Killed processes need a moment to be reaped.
    let limit = Instant::now() + Duration::from_secs(2);
    let mut alive = processes_in(root);
    while !alive.is_empty() && Instant::now() < limit {
        tokio::time::sleep(Duration::from_millis(20)).await;
        alive = processes_in(root);
    }
    for (process, arguments) in alive {
        report.leftovers.push(format!("a process lives on: {arguments}"));
        // It belongs to this run alone, and nothing of a run may outlive it.
        Command::new("kill").args(["-KILL", &process]).status().await?;
    }
    Ok(())
}

/// The processes that know of `folder`, in their environment, arguments or working folder: id and arguments.
fn processes_in(folder: &Path) -> Vec<(String, String)> {
    let wanted = folder.to_string_lossy().into_owned();
    let knows = |bytes: &[u8]| bytes.windows(wanted.len()).any(|part| part == wanted.as_bytes());
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let own = std::process::id().to_string();
    let living = processes.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.bytes().all(|byte| byte.is_ascii_digit()) && name != own
    });
    living
        .filter_map(|path| {
            let arguments = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let environment = std::fs::read(path.join("environ")).unwrap_or_default();
            let working = std::fs::read_link(path.join("cwd")).unwrap_or_default();
            let found = knows(&arguments) || knows(&environment) || working.starts_with(folder);
            let process = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.then(|| (process, String::from_utf8_lossy(&arguments).replace('\0', " ")))
        })
        .collect()
}

/// A hash over every path, mode, link and byte below `folder`; of nothing, if it is not there.
fn fingerprint(folder: &Path) -> anyhow::Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let mut hash = Sha256::new();
    if folder.is_dir() {
        let mut entries = Vec::new();
        walk(folder, &mut |path| entries.push(path.to_owned()))?;
        entries.sort();
        for path in entries {
            let metadata = std::fs::symlink_metadata(&path)?;
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update(metadata.permissions().mode().to_be_bytes());
            if metadata.is_symlink() {
                hash.update(std::fs::read_link(&path)?.as_os_str().as_encoded_bytes());
            } else if metadata.is_file() {
                hash.update(std::fs::read(&path)?);
            }
        }
    }
    Ok(hex(&hash.finalize()))
}

/// Every path below `folder`, links not followed.
fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        visit(&path);
        if path.is_dir() && !path.is_symlink() {
            walk(&path, visit)?;
        }
    }
    Ok(())
}
