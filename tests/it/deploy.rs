//! The files of `deploy/` and the Dockerfile: they can be read, and they hold what keeps an installation safe.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use patchwright::config::file::ConfigFile;
use serde_json::{Value, json};

mod kubernetes;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The environment of the task format, as users of the reference runner have it in their `.env`.
const REFERENCE: &[&str] = &[
    "GITHUB_TOKEN",
    "GITHUB_APP_ID",
    "GITHUB_APP_PRIVATE_KEY_PATH",
    "GITHUB_APP_INSTALLATION_ID",
    "DISPATCH_REPO",
    "HANDSFREE_AGENT_DISPATCH_REPO",
    "TARGET_REPO",
    "DISPATCH_LABEL",
    "POLL_INTERVAL_SECONDS",
    "POLL_INTERVAL",
    "AGENT_NAME",
    "MAX_CONCURRENT_TASKS",
    "TASK_TIMEOUT_SECONDS",
    "MAX_TASK_RETRIES",
    "RETRY_DELAY_SECONDS",
    "COMMENT_ON_FAILURE",
    "CLOSE_ISSUES_ON_SUCCESS",
    "LLM_PROVIDER",
    "LLM_API_KEY",
    "LLM_MODEL",
    "LLM_API_ENDPOINT",
    "WORKSPACE_DIR",
    "CLEANUP_WORKSPACE",
    "MAX_WORKSPACE_SIZE_MB",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "LOG_OUTPUT",
    "LOG_FILE_PATH",
    "ENABLE_METRICS",
    "METRICS_PORT",
    "ENABLE_HEALTH_CHECK",
    "HEALTH_CHECK_PORT",
    "GITHUB_API_URL",
    "GITHUB_SERVER_URL",
];

#[test]
fn the_workflow_starts_as_wanted_and_never_shows_an_issues_text_to_a_shell() {
    let text = read("deploy/agent-runner.yml");
    let workflow = yaml("deploy/agent-runner.yml");
    assert_eq!(workflow["on"]["issues"]["types"], json!(["opened", "labeled"]));
    assert_eq!(workflow["on"]["workflow_dispatch"]["inputs"]["issue"]["type"], "number");
    let events: BTreeSet<&str> = workflow["on"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(events, BTreeSet::from(["issues", "workflow_dispatch"]));
    assert_eq!(
        workflow["permissions"],
        json!({"contents": "write", "issues": "write", "pull-requests": "write", "statuses": "write"})
    );
    let job = &workflow["jobs"]["run"];
    for word in ["copilot-agent", "author_association", "opened", "labeled", "workflow_dispatch"] {
        assert!(job["if"].as_str().unwrap().contains(word), "{word}");
    }
    for step in job["steps"].as_array().unwrap() {
        let script = step["run"].as_str().unwrap();
        assert!(!script.contains("${{"), "an expression in a script: {script}");
        assert!(script.contains("patchwright run --issue \"$ISSUE\""), "{script}");
    }
    let used = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    for line in used {
        for field in ["issue.title", "issue.body", "comment.body", "user.login", "toJSON(github"] {
            assert!(!line.contains(field), "{line}");
        }
        if let Some(action) = line.trim_start().trim_start_matches("- ").strip_prefix("uses:") {
            let commit = action.split('@').nth(1).unwrap_or_default().split_whitespace().next().unwrap_or_default();
            assert!(commit.len() == 40 && commit.chars().all(|digit| digit.is_ascii_hexdigit()), "not pinned: {line}");
        }
    }
}

#[test]
fn the_projects_own_workflow_has_no_rights_but_to_read() {
    let workflow = yaml(".github/workflows/ci.yml");
    assert_eq!(workflow["permissions"], json!({"contents": "read"}));
    assert!(workflow["on"].get("pull_request_target").is_none());
    for job in workflow["jobs"].as_object().unwrap().values() {
        assert!(job.get("permissions").is_none());
        for step in job["steps"].as_array().unwrap() {
            assert!(!step["run"].as_str().unwrap_or_default().contains("${{"), "{step}");
        }
    }
}

/// What GitHub takes of a workflow, as far as ours use it: the rules of actionlint that a table can hold.
fn lint_workflow(workflow: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut only = |place: &str, value: &Value, known: &[&str]| match value.as_object() {
        Some(fields) => {
            let unknown = fields.keys().filter(|name| !known.contains(&name.as_str()));
            complaints.extend(unknown.map(|name| format!("{place}: `{name}` is no key")));
        }
        None => complaints.push(format!("{place}: no mapping")),
    };
    let top = ["name", "run-name", "on", "permissions", "env", "defaults", "concurrency", "jobs"];
    only("workflow", workflow, &top);
    only("on", &workflow["on"], &["issues", "workflow_dispatch", "push", "pull_request"]);
    if workflow.get("concurrency").is_some() {
        only("concurrency", &workflow["concurrency"], &["group", "cancel-in-progress"]);
    }
    let scopes = ["contents", "issues", "pull-requests", "statuses", "actions", "checks", "id-token", "packages"];
    only("permissions", &workflow["permissions"], &scopes);
    let jobs = workflow["jobs"].as_object().cloned().unwrap_or_default();
    let mut more = Vec::new();
    for (name, job) in &jobs {
        let keys = ["name", "if", "needs", "runs-on", "timeout-minutes", "env", "steps", "strategy", "permissions"];
        only(name, job, &keys);
        let steps = job["steps"].as_array().cloned().unwrap_or_default();
        for step in &steps {
            let keys =
                ["id", "name", "if", "env", "run", "uses", "with", "shell", "working-directory", "timeout-minutes"];
            only(name, step, &keys);
            if step.get("run").is_some() == step.get("uses").is_some() {
                more.push(format!("{name}: a step has one of `run` and `uses`"));
            }
        }
        if steps.is_empty() || job.get("runs-on").is_none() {
            more.push(format!("{name}: no steps, or no `runs-on`"));
        }
        if job["if"].as_str().is_some_and(|text| text.contains("secrets.")) {
            more.push(format!("{name}: there are no secrets in a job's `if`"));
        }
        if job["needs"].as_str().is_some_and(|needed| !jobs.contains_key(needed)) {
            more.push(format!("{name}: needs a job that is not there"));
        }
    }
    if jobs.is_empty() {
        more.push("there is no job".into());
    }
    if let Some(levels) = workflow["permissions"].as_object() {
        let wrong =
            levels.iter().filter(|(_, level)| !["read", "write", "none"].contains(&level.as_str().unwrap_or("")));
        more.extend(wrong.map(|(scope, level)| format!("permissions: {scope} cannot be {level}")));
    }
    let issues = ["opened", "edited", "labeled", "unlabeled", "closed", "reopened", "deleted", "assigned"];
    for kind in workflow["on"]["issues"]["types"].as_array().into_iter().flatten() {
        if !issues.contains(&kind.as_str().unwrap_or("")) {
            more.push(format!("on.issues: {kind} is no type"));
        }
    }
    let contexts = ["github", "secrets", "vars", "inputs", "env", "needs", "steps", "runner", "matrix", "job"];
    let expression = regex::Regex::new(r"\$\{\{(.*?)\}\}").unwrap();
    let name = regex::Regex::new(r"'[^']*'|([A-Za-z_-]+)\.").unwrap();
    let text = workflow.to_string();
    for found in expression.captures_iter(&text) {
        for context in name.captures_iter(&found[1]).filter_map(|found| found.get(1)) {
            // What follows a point is a field of a context.
            let is_first = !found[1][..context.start()].ends_with(['.', '*']);
            if is_first && !contexts.contains(&context.as_str()) {
                more.push(format!("`{}` is no context", context.as_str()));
            }
        }
    }
    complaints.extend(more);
    complaints
}

#[test]
fn workflows_are_such_as_github_takes() {
    for name in ["deploy/agent-runner.yml", ".github/workflows/ci.yml"] {
        assert_eq!(lint_workflow(&yaml(name)), Vec::<String>::new(), "{name}");
    }
    let good = yaml("deploy/agent-runner.yml");
    let spoil: [(&str, fn(&mut Value)); 8] = [
        ("`colour` is no key", |workflow| workflow["colour"] = json!(1)),
        ("`issue` is no key", |workflow| workflow["on"]["issue"] = json!({})),
        ("`label` is no type", |workflow| workflow["on"]["issues"]["types"] = json!(["label"])),
        ("issues cannot be", |workflow| workflow["permissions"]["issues"] = json!("all")),
        ("no `runs-on`", |workflow| drop(workflow["jobs"]["run"].as_object_mut().unwrap().remove("runs-on"))),
        ("one of `run` and `uses`", |workflow| workflow["jobs"]["run"]["steps"][0]["uses"] = json!("a/b@c")),
        ("no secrets in a job's `if`", |workflow| workflow["jobs"]["run"]["if"] = json!("secrets.A != ''")),
        ("`secret` is no context", |workflow| {
            workflow["jobs"]["run"]["steps"][0]["env"]["A"] = json!("${{ secret.A }}")
        }),
    ];
    for (complaint, change) in spoil {
        let mut bad = good.clone();
        change(&mut bad);
        let complaints = lint_workflow(&bad).join("\n").replace('"', "`");
        assert!(complaints.contains(complaint), "{complaint} is not in: {complaints}");
    }
}

/// `docker compose`, or its predecessor.
#[test]
fn compose_understands_the_file_with_the_references_env() {
    let is_there = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    let plugin = is_there("docker", &["compose", "version"]);
    if !plugin && !is_there("docker-compose", &["version"]) {
        // Its schema is checked by hand elsewhere; CI's machine has it.
        eprintln!("SKIPPED: docker compose is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut file = read("deploy/docker-compose.yml");
    if !plugin {
        // The predecessor has no such form.
        file =
            file.replace("${GITHUB_APP_PRIVATE_KEY_PATH:+/run/secrets/github-app.pem}", "/run/secrets/github-app.pem");
    }
    let env: String = REFERENCE.iter().map(|name| format!("{name}={}\n", sample(name))).collect();
    std::fs::create_dir(folder.path().join("deploy")).unwrap();
    std::fs::write(folder.path().join("deploy/docker-compose.yml"), file).unwrap();
    std::fs::write(folder.path().join(".env"), env).unwrap();
    let mut command = if plugin { Command::new("docker") } else { Command::new("docker-compose") };
    if plugin {
        command.arg("compose");
    }
    command.args(["--file", "deploy/docker-compose.yml", "--env-file", ".env", "config"]).current_dir(folder.path());
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let resolved: Value = serde_saphyr::from_str(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let service = &resolved["services"]["patchwright"];
    let environment = &service["environment"];
    for (name, value) in [
        ("GITHUB_TOKEN", "sample"),
        ("DISPATCH_REPO", "sample"),
        ("MAX_CONCURRENT_TASKS", "3"),
        ("WORKSPACE_DIR", "/var/lib/patchwright"),
        ("LOG_FILE_PATH", ""),
        ("LOG_OUTPUT", "stdout"),
        ("HEALTH_CHECK_PORT", "8080"),
        ("GITHUB_APP_PRIVATE_KEY_PATH", "/run/secrets/github-app.pem"),
    ] {
        assert_eq!(environment[name], value, "{name} in {environment}");
    }
    let whole = service.to_string();
    assert!(whole.contains("9191") && whole.contains("8181") && whole.contains("/etc/app.pem"), "{whole}");
}

/// A value as it may stand in somebody's `.env`.
fn sample(name: &str) -> &'static str {
    match name {
        "METRICS_PORT" => "9191",
        "HEALTH_CHECK_PORT" => "8181",
        "MAX_CONCURRENT_TASKS" => "3",
        "GITHUB_APP_PRIVATE_KEY_PATH" => "/etc/app.pem",
        _ => "sample",
    }
}

#[test]
fn compose_hands_the_references_environment_over_and_keeps_the_container_small() {
    let text = read("deploy/docker-compose.yml");
    let service = &yaml("deploy/docker-compose.yml")["services"]["patchwright"];
    assert!(service["env_file"][0].as_str().unwrap().ends_with("../.env}"), "{service}");
    // Only what cannot be the host's in a container is set over the file's values.
    let set: BTreeSet<&str> = service["environment"].as_object().unwrap().keys().map(String::as_str).collect();
    let of_the_container = [
        "GITHUB_APP_PRIVATE_KEY_PATH",
        "HEALTH_CHECK_PORT",
        "LOG_FILE_PATH",
        "LOG_OUTPUT",
        "METRICS_PORT",
        "PATCHWRIGHT_LISTEN",
        "PATCHWRIGHT_STATE_DIR",
        "WORKSPACE_DIR",
    ];
    assert_eq!(set, BTreeSet::from(of_the_container));
    assert_eq!(service["cap_drop"], json!(["ALL"]));
    assert!(service.get("privileged").is_none() && service.get("cap_add").is_none());
    assert!(service.get("user").is_none(), "the image's user is not root");
    for volume in service["volumes"].as_array().unwrap() {
        assert!(!volume.as_str().unwrap().contains("docker.sock"), "{volume}");
    }
    for port in service["ports"].as_array().unwrap() {
        assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{port}");
    }
    for secret in ["GITHUB_TOKEN", "LLM_API_KEY", "GITHUB_WEBHOOK_SECRET:"] {
        assert!(!text.lines().any(|line| line.trim_start().starts_with(secret)), "{secret} belongs in .env");
    }
}

#[test]
fn the_configuration_guide_names_the_references_environment() {
    let guide = read("docs/configuration.md");
    let missing: Vec<_> = REFERENCE.iter().filter(|name| !guide.contains(**name)).collect();
    assert!(missing.is_empty(), "docs/configuration.md does not name {missing:?}");
}

#[test]
fn the_unit_is_hardened_as_far_as_the_sandbox_allows() {
    let unit = read("deploy/patchwright.service");
    let lines: BTreeSet<&str> = unit.lines().map(str::trim).collect();
    for line in [
        "Type=exec",
        "User=patchwright",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "ProtectSystem=strict",
        "ProtectHome=read-only",
        "PrivateTmp=yes",
        "ProtectKernelModules=yes",
        "LockPersonality=yes",
        "SystemCallArchitectures=native",
        "UMask=0077",
        "StateDirectory=patchwright",
        "StateDirectoryMode=0700",
        "CacheDirectory=patchwright",
        "KillMode=mixed",
        "OOMPolicy=continue",
    ] {
        assert!(lines.contains(line), "{line}");
    }
    assert!(lines.iter().any(|line| line.starts_with("LoadCredential=github-token:")));
    // These stop the namespace sandbox.
    for key in ["RestrictNamespaces=", "ProtectKernelTunables=", "ProtectProc=", "PrivateUsers=", "SystemCallFilter="] {
        assert!(!lines.iter().any(|line| line.starts_with(key)), "{key}");
    }
    for word in ["GITHUB_TOKEN=", "LLM_API_KEY=", "EnvironmentFile="] {
        assert!(!unit.contains(word), "secrets come as credentials, not as {word}");
    }
}

#[test]
fn systemd_understands_the_unit() {
    if which::which("systemd-analyze").is_err() {
        eprintln!("SKIPPED: systemd-analyze is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The program must exist for the check.
    let unit = read("deploy/patchwright.service").replace("/usr/local/bin/patchwright", "/bin/true");
    let path = folder.path().join("patchwright.service");
    std::fs::write(&path, unit).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("patchwright.service")).collect();
    assert!(about_ours.is_empty(), "{said}");
}

#[test]
fn the_image_is_not_roots_and_holds_no_secret() {
    let dockerfile = read("Dockerfile");
    let last = dockerfile.rsplit("\nFROM ").next().unwrap();
    assert!(last.lines().any(|line| line == "USER 10001:10001"), "{last}");
    assert!(last.contains("HEALTHCHECK") && last.contains(r#"CMD ["patchwright", "health"]"#), "{last}");
    assert!(last.contains("ca-certificates git"), "{last}");
    assert!(dockerfile.contains("--locked"));
    for word in ["curl", "wget", "ADD http", "ARG "] {
        assert!(!dockerfile.contains(word), "{word}");
    }
    for word in ["TOKEN", "API_KEY", "SECRET"] {
        assert!(!dockerfile.lines().any(|line| line.starts_with("ENV") && line.contains(word)), "{word}");
    }
    // What is copied is let through, and exists.
    let ignored = read(".dockerignore");
    for line in dockerfile.lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from")) {
        let names: Vec<&str> = line.split_whitespace().skip(1).collect();
        for name in &names[..names.len() - 1] {
            assert!(root().join(name).exists(), "{name}");
            assert!(ignored.lines().any(|known| known == format!("!{name}")), ".dockerignore keeps {name} out");
        }
    }
}

#[test]
fn the_example_configuration_has_every_key_and_each_is_right() {
    let example = read("deploy/patchwright.toml");
    let parse = |text: &str| toml::from_str::<ConfigFile>(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    parse(&example);
    let is_setting = |line: &str| {
        line.starts_with("# [")
            || line.split_once(" = ").is_some_and(|(name, _)| {
                name.strip_prefix("# ")
                    .is_some_and(|name| name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'))
            })
    };
    let uncommented: Vec<&str> =
        example.lines().map(|line| if is_setting(line) { line.trim_start_matches("# ") } else { line }).collect();
    parse(&uncommented.join("\n"));
    let there: BTreeSet<&str> =
        uncommented.iter().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name).collect();
    for source in ["src/config/file.rs", "src/config/logging.rs"] {
        for line in read(source).lines() {
            let Some((name, kind)) = line.trim().strip_prefix("pub ").and_then(|line| line.split_once(": ")) else {
                continue;
            };
            let is_key = kind.starts_with("Option<") || kind.starts_with("Vec<");
            assert!(!is_key || there.contains(name), "{source} has `{name}`, the example has not");
        }
    }
}

#[test]
fn alerts_name_metrics_that_there_are() {
    let known = read("src/service/metrics.rs");
    for group in yaml("deploy/prometheus-alerts.yml")["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let expression = rule["expr"].as_str().unwrap();
            assert!(rule["annotations"]["summary"].is_string() && rule["alert"].is_string(), "{rule}");
            for name in expression.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')) {
                let is_metric = name.starts_with("patchwright_");
                assert!(!is_metric || known.contains(&format!("\"{name}\"")), "{name} is no metric");
            }
        }
    }
}

#[test]
fn health_tells_whether_a_service_answers() {
    let ask = |address: &str| {
        Command::new(env!("CARGO_BIN_EXE_patchwright"))
            .args(["health", "--address", address])
            .env_clear()
            .output()
            .unwrap()
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = |status: &'static str| {
        let listener = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 3\r\n\r\nok\n").unwrap();
        })
    };
    let served = answer("200 OK");
    let well = ask(&address);
    served.join().unwrap();
    assert_eq!((well.status.code(), String::from_utf8_lossy(&well.stdout).trim()), (Some(0), "ok"), "{well:?}");
    let served = answer("503 Service Unavailable");
    let ill = ask(&address);
    served.join().unwrap();
    assert_eq!(ill.status.code(), Some(1), "{ill:?}");
    drop(listener);
    let gone = ask(&address);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("Is `patchwright serve` running"), "{gone:?}");
}

/// A container that is removed in the end.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        drop(docker(&["rm", "--force", "--volumes", &self.0]));
    }
}

fn docker(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new("docker");
    if let Some(host) = std::env::var_os("PATCHWRIGHT_TEST_DOCKER_HOST") {
        command.env("DOCKER_HOST", host);
    }
    command.args(arguments).output().unwrap()
}

fn docker_says(arguments: &[&str]) -> String {
    let output = docker(arguments);
    assert!(output.status.success(), "docker {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A program and the libraries that it needs, at the same paths below `folder`.
fn copy_program(program: &Path, to: &str, folder: &Path) {
    let copy = |from: &Path, to: &str| {
        let target = folder.join(to.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(from, target).unwrap();
    };
    copy(program, to);
    let output = Command::new("ldd").arg(program).output().unwrap();
    for word in String::from_utf8_lossy(&output.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
        // The image's /lib is a link into /usr.
        let to = if word.starts_with("/lib") { format!("/usr{word}") } else { word.to_owned() };
        copy(Path::new(word), &to);
    }
}

/// The built service in a container as the compose file would run it: not root, no capability, its security options and
/// environment. Its health check goes green, and its sandbox works in there.
#[test]
fn the_service_is_well_in_a_container_as_compose_runs_it() {
    let skip = |reason: &str| {
        eprintln!("SKIPPED: the service in a container: {reason}");
        assert!(std::env::var_os("PATCHWRIGHT_TEST_REQUIRE_ALL").is_none(), "cannot run here: {reason}");
    };
    if which::which("docker").is_err() || !docker(&["version"]).status.success() {
        return skip("no engine answers");
    }
    let image = std::env::var("PATCHWRIGHT_TEST_IMAGE").unwrap_or_else(|_| "patchwright-test:latest".into());
    if !docker(&["image", "inspect", &image]).status.success() {
        return skip("the engine has no image for tests");
    }
    let service = &yaml("deploy/docker-compose.yml")["services"]["patchwright"];
    let mut arguments: Vec<String> =
        ["create", "--init", "--network=none", "--user=10001:10001", "--cap-drop=ALL"].map(str::to_owned).to_vec();
    arguments.push("--tmpfs=/var/lib/patchwright:uid=10001,gid=10001,mode=0700,exec".into());
    arguments.extend(["--health-cmd=patchwright health", "--health-interval=1s"].map(str::to_owned));
    for option in service["security_opt"].as_array().unwrap() {
        arguments.push(format!("--security-opt={}", option.as_str().unwrap()));
    }
    // As the reference's `.env` has them; then what the compose file sets over it.
    for pair in ["GITHUB_TOKEN=ghp_0123456789", "DISPATCH_REPO=acme/tasks", "POLL_INTERVAL=60", "LLM_PROVIDER=openai"] {
        arguments.push(format!("--env={pair}"));
    }
    for pair in
        ["GITHUB_API_URL=http://127.0.0.1:9", "LLM_API_ENDPOINT=http://127.0.0.1:9/v1", "MAX_CONCURRENT_TASKS=2"]
    {
        arguments.push(format!("--env={pair}"));
    }
    for (name, value) in service["environment"].as_object().unwrap() {
        let value = value.as_str().unwrap();
        if !value.contains("${") {
            arguments.push(format!("--env={name}={value}"));
        }
    }
    arguments.push("--entrypoint=patchwright".into());
    arguments.push(image);
    arguments.extend(service["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()));
    let container = Container(docker_says(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
    let files = tempfile::tempdir().unwrap();
    copy_program(Path::new(env!("CARGO_BIN_EXE_patchwright")), "/usr/bin/patchwright", files.path());
    copy_program(&which::which("git").unwrap(), "/usr/bin/git", files.path());
    // What the Dockerfile installs besides.
    let roots = files.path().join("etc/ssl/certs");
    std::fs::create_dir_all(&roots).unwrap();
    std::fs::copy("/etc/ssl/certs/ca-certificates.crt", roots.join("ca-certificates.crt")).unwrap();
    docker_says(&["cp", &format!("{}/.", files.path().display()), &format!("{}:/", container.0)]);
    docker_says(&["start", &container.0]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let state = docker_says(&["inspect", "--format", "{{.State.Status}} {{.State.Health.Status}}", &container.0]);
        if state == "running healthy" {
            break;
        }
        let log = || format!("{:?}", docker(&["logs", &container.0]));
        assert!(!state.starts_with("exited"), "{}", log());
        assert!(std::time::Instant::now() < deadline, "{state}: {}", log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let ready = docker(&["exec", &container.0, "patchwright", "health", "--ready"]);
    let said = String::from_utf8_lossy(&ready.stderr).into_owned();
    let report: Value =
        serde_json::from_str(&said[said.find('{').unwrap_or_default()..]).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!(ready.status.code(), Some(1), "no model answers here: {said}");
    for part in ["store", "sandbox", "disk"] {
        assert_eq!(report[part]["state"], "ok", "{said}");
    }
    assert_eq!(report["model"]["state"], "down", "{said}");
    let logged = String::from_utf8(docker(&["logs", &container.0]).stdout).unwrap();
    assert!(!logged.is_empty() && !logged.contains("ghp_0123456789"), "{logged}");
}
