//! `patchwright doctor`: what it finds well, what it finds amiss with the remedy, and that it tells no secret.

use lab::{Lab, Script};
use serde_json::Value;

use super::harness::{Place, Ran};

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no `{name}` in {report:#}"))
}

fn assert_tells_no_secret(ran: &Ran, secrets: &[&str]) {
    let printed = format!("{}{}", String::from_utf8_lossy(&ran.stdout), ran.stderr);
    for secret in secrets {
        assert!(!printed.contains(secret), "{printed}");
    }
    assert!(!printed.contains('\u{1b}'), "{printed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_well_and_each_defence_is_told() {
    let lab = Lab::start().await.unwrap();
    let script = Script::parse(r#"{"content": "nobody asks", "optional": true}"#).unwrap();
    let model = lab.model(Script { context_window: Some(32_768), ..script }).await.unwrap();
    let mut place = Place::at(&lab);
    place.set("LLM_API_ENDPOINT", model.endpoint());
    place.set("LLM_API_KEY", "sk-canary-of-the-model-key-0123456789");
    place.set("HTTPS_PROXY", "http://user:canary-of-the-proxy@127.0.0.1:9");
    place.set("NO_PROXY", "127.0.0.1,localhost");
    place.set("DOCKER_HOST", format!("unix://{}/no.sock", place.path("").display()));
    let secrets = [lab.github.token(), "canary-of-the-model-key", "canary-of-the-proxy"];

    let ran = place.run(&["doctor", "--json"]);
    assert_tells_no_secret(&ran, &secrets);
    let report = ran.json();
    assert_eq!(ran.code, Some(0), "{report:#}");
    assert_eq!(report["well"], true);
    for name in ["config", "git", "model", "forge", "store", "disk", "proxy"] {
        assert!(check(&report, name)["state"] != "fail", "{report:#}");
    }
    let namespace = check(&report, "sandbox namespace");
    assert!(["confined", "hardened"].contains(&namespace["level"].as_str().unwrap()), "{namespace:#}");
    let findings = namespace["standing"]["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 13, "{namespace:#}");
    assert!(findings.iter().any(|finding| finding["defence"] == "seccomp" && finding["holds"] == true));
    let container = check(&report, "sandbox container");
    assert!(container["state"] == "warn" && container["remedy"].as_str().unwrap().contains("docker"), "{container:#}");
    assert!(check(&report, "forge")["detail"].as_str().unwrap().contains("http://127.0.0.1"));
    assert!(check(&report, "model")["detail"].as_str().unwrap().contains(model.name()));
    let abilities = check(&report, "model abilities")["detail"].as_str().unwrap();
    assert!(abilities.contains("native calls: yes") && abilities.contains("(tried now)"), "{abilities}");

    let ran = place.run(&["doctor"]);
    assert_tells_no_secret(&ran, &secrets);
    let printed = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(printed.contains("(tried by an earlier run)") && model.probes().len() == 3, "{printed}");
    assert!(printed.contains("ok    git") && printed.contains("+ seccomp") && printed.contains("All is well."));
    place.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_amiss_is_told_with_its_remedy() {
    let lab = Lab::start().await.unwrap();
    let mut place = Place::at(&lab);
    place.set("GITHUB_TOKEN", "ghp_thisTokenIsWrong000000000000000000000");
    place.set("LLM_API_ENDPOINT", "http://127.0.0.1:9/v1");
    place.set("SSL_CERT_FILE", place.path("no.pem"));
    place.set("DOCKER_HOST", format!("unix://{}/no.sock", place.path("").display()));
    let config =
        place.write("strict.toml", "[sandbox]\nminimum_level = \"virtual\"\n[service]\nfree_mib = 900000000\n");
    let ran = place.run(&["doctor", "--json", "--config", &config]);
    assert_tells_no_secret(&ran, &["ghp_thisTokenIsWrong"]);
    let report = ran.json();
    assert_eq!(ran.code, Some(1), "{report:#}");
    assert_eq!(report["well"], false);
    for name in ["sandbox namespace", "sandbox container", "model", "forge", "disk", "authorities"] {
        assert_eq!(check(&report, name)["state"], "fail", "{name}: {report:#}");
    }
    let namespace = check(&report, "sandbox namespace")["detail"].as_str().unwrap();
    assert!(namespace.contains("for `virtual` it lacks ") && namespace.contains("own kernel"), "{namespace}");
    assert!(check(&report, "model")["remedy"].as_str().unwrap().contains("Start the model server"));

    // Below the operator's minimum nothing runs.
    place.environment.retain(|(name, _)| name != "SSL_CERT_FILE");
    let repository = place.repository("here");
    let task = ["run", "--repo", &repository, "--task", super::harness::PATCH, "--config", &config];
    place.run(&task).refuses(2, &["no sandbox is available", "for `virtual` it lacks", "minimum_level"]);

    let broken = place.write("broken.toml", "[sandbox]\nminimum_level = \"high\"\n");
    let ran = place.run(&["doctor", "--json", "--config", &broken]);
    assert_eq!(ran.code, Some(1));
    let report = ran.json();
    let detail = check(&report, "config")["detail"].as_str().unwrap();
    assert!(detail.contains("minimum_level") && detail.contains("hardened"), "{detail}");
    place.assert_clean();
}
