//! Patchwright itself in a container: what the namespace sandbox needs there, and what is said where it is missing.

use std::process::Stdio;

use serde_json::Value;

use super::*;

/// The flags that docs/sandbox.md names. The last one is no flag of engines without AppArmor, but harmless there.
const FLAGS: [&str; 3] = ["seccomp=unconfined", "systempaths=unconfined", "apparmor=unconfined"];

/// What `doctor` says of the namespace sandbox, in a container of an ordinary user without capabilities.
async fn doctor_in_a_container(flags: &[&str]) -> Option<Value> {
    let settings = settings(Choice::Container);
    let program = tempfile::tempdir().unwrap();
    std::fs::copy(&settings.helper, program.path().join("patchwright")).unwrap();
    std::os::unix::fs::chown(program.path(), Some(10_001), Some(10_001)).ok()?;
    let mut docker = tokio::process::Command::new("docker");
    docker
        .args(["run", "--rm", "--network", "none", "--user", "10001:10001", "--cap-drop", "ALL"])
        .args(["--volume", "/usr:/usr:ro", "--tmpfs", "/home/agent:mode=1777,exec", "--env", "HOME=/home/agent"])
        .args(["--volume", &format!("{}:/patchwright:ro", program.path().display())])
        .args(flags.iter().flat_map(|flag| ["--security-opt", flag]))
        .args([settings.image.as_deref().unwrap(), "/patchwright/patchwright", "doctor", "--json"])
        .env("DOCKER_HOST", settings.docker_host.unwrap())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), docker.output()).await.unwrap().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let checks = report["checks"].as_array().unwrap().clone();
    checks.into_iter().find(|check| check["name"] == "sandbox namespace")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_namespace_sandbox_in_a_container_needs_what_is_documented() {
    if settings(Choice::Container).docker_host.is_none() || backend(&settings(Choice::Container)).await.is_none() {
        return skipped("there is no engine of the tests' own");
    }
    if which::which("docker").is_err() || !rustix::process::getuid().is_root() {
        return skipped("docker's command line is not installed, or we are not root");
    }
    for flags in [&[][..], &FLAGS[..1], &FLAGS[1..2]] {
        let check = doctor_in_a_container(flags).await.unwrap();
        assert_eq!(check["state"], "fail", "{flags:?}: {check:#}");
        let remedy = check["remedy"].as_str().unwrap();
        assert!(FLAGS.iter().all(|flag| remedy.contains(flag)), "{remedy}");
    }
    let check = doctor_in_a_container(&FLAGS).await.unwrap();
    assert_eq!(check["state"], "ok", "{check:#}");
    assert!(["confined", "hardened"].contains(&check["level"].as_str().unwrap()), "{check:#}");
}
