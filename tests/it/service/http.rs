//! What the service answers: signatures, health, metrics.

use std::io::{Read, Write};
use std::net::TcpStream;

use hmac::{Hmac, Mac};
use patchwright::service::webhook::is_signed;
use sha2::Sha256;

use super::world::{LIMIT, MAINTAINER, SECRET, World, patch_task, request};

fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[test]
fn githubs_own_example_of_a_signature() {
    // From GitHub's "Validating webhook deliveries".
    let (secret, body) = (b"It's a Secret to Everybody", b"Hello, World!");
    let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert!(is_signed(secret, body, right));
    for (what, secret, body, signature) in [
        ("another secret", &b"It's no Secret"[..], &body[..], right),
        ("another body", &secret[..], &b"Hello, World"[..], right),
        ("nothing", secret, body, ""),
        ("no scheme", secret, body, &right[7..]),
        ("another scheme", secret, body, &right.replace("sha256", "sha1")),
        ("a part of it", secret, body, &right[..right.len() - 2]),
        ("more than it", secret, body, &format!("{right}00")),
        ("no hexadecimal", secret, body, &right.replace('7', "g")),
    ] {
        assert!(!is_signed(secret, body, signature), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_signed_is_not_heard() {
    let mut world = World::new("[service]\npolling = false\nwebhook_kib = 64\n").await;
    world.place.set("GITHUB_WEBHOOK_SECRET", SECRET);
    let running = world.serve(&[]);
    let address = running.address();
    let body = br#"{"zen": "Keep it logically awesome."}"#;
    let (right, wrong) = (signature(SECRET, body), signature("another", body));
    let json = ("content-type", "application/json");
    let id = ("x-github-delivery", "1");
    let large = vec![b' '; 100_000];
    let of_large = signature(SECRET, &large);
    for (what, headers, body, status) in [
        ("a ping", vec![json, id, ("x-github-event", "ping"), ("x-hub-signature-256", &right)], &body[..], 200),
        ("a wrong one", vec![json, id, ("x-github-event", "ping"), ("x-hub-signature-256", &wrong)], body, 401),
        ("none", vec![json, id, ("x-github-event", "ping")], body, 401),
        ("no event", vec![json, id, ("x-hub-signature-256", &right)], body, 400),
        ("no id", vec![json, ("x-github-event", "issues"), ("x-hub-signature-256", &right)], body, 400),
        ("no JSON", vec![id, ("x-github-event", "issues"), ("x-hub-signature-256", &right)], body, 415),
        ("another event", vec![json, id, ("x-github-event", "star"), ("x-hub-signature-256", &right)], body, 202),
        ("nonsense", vec![json, id, ("x-github-event", "issues"), ("x-hub-signature-256", &right)], body, 202),
        ("too large", vec![json, id, ("x-github-event", "issues"), ("x-hub-signature-256", &of_large)], &large, 413),
    ] {
        let answer = request(&address, "POST", "/webhook", &headers, body);
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(answer.status != 401 || answer.body.is_empty(), "{what}: {answer:?}");
    }
    assert_eq!(running.get("/webhook").status, 405);
    assert_eq!(running.get("/tasks").status, 404);
    // A payload about a repository that is not ours, properly signed.
    let foreign = br#"{"action":"opened","repository":{"full_name":"evil/corp"},"issue":{"number":1,"title":"t","body":"b","state":"open"}}"#;
    let headers = [json, ("x-github-delivery", "2"), ("x-github-event", "issues")];
    let signed = signature(SECRET, foreign);
    let headers: Vec<_> = headers.into_iter().chain([("x-hub-signature-256", signed.as_str())]).collect();
    assert_eq!(request(&address, "POST", "/webhook", &headers, foreign).status, 202);
    let metrics = running.get("/metrics").body;
    assert!(metrics.contains("patchwright_deliveries_total{result=\"unsigned\"} 2"), "{metrics}");
    let log = running.stop();
    assert!(world.lab.github.exchanges().iter().all(|exchange| !exchange.path.contains("evil")), "{log}");
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_secret_there_are_no_webhooks() {
    let world = World::new("").await;
    let running = world.poll();
    let headers = [("x-github-event", "ping"), ("x-github-delivery", "1")];
    assert_eq!(request(&running.address(), "POST", "/webhook", &headers, b"{}").status, 404);
    world.assert_well(&[running.stop()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_what_is_down() {
    let mut world = World::new("").await;
    let script = lab::Script::parse(r#"{"content": "never asked", "optional": true}"#).unwrap();
    let model = world.lab.model(script).await.unwrap();
    world.place.set("LLM_API_ENDPOINT", model.endpoint());
    let running = world.poll();
    assert_eq!(running.get("/healthz").body, "ok\n");
    world.until(&running, "the first poll is done", |world| !world.lab.github.exchanges().is_empty());
    world.until(&running, "all is well", |_| running.get("/readyz").status == 200);
    let answer = running.get("/readyz");
    for part in ["store", "github", "model", "sandbox", "disk"] {
        assert!(answer.body.contains(&format!("\"{part}\":{{\"state\":\"ok\"}}")), "{part}: {answer:?}");
    }
    drop(model);
    world.until(&running, "the model is missed", |_| {
        let answer = running.get("/readyz");
        answer.status == 503 && answer.body.contains("\"model\":{\"state\":\"down\"")
    });
    world.lab.github.revoke_token(world.lab.github.token());
    world.until(&running, "the forge is missed", |_| {
        running.get("/readyz").body.contains("\"github\":{\"state\":\"down\",\"reason\":\"acme/widgets: ")
    });
    assert_eq!(running.get("/healthz").status, 200);
    running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_polling_the_forge_is_still_asked_whether_it_is_well() {
    let mut world = World::new("[service]\npolling = false\n").await;
    world.place.set("GITHUB_WEBHOOK_SECRET", SECRET);
    let running = world.serve(&[]);
    world.until(&running, "the forge is well", |_| {
        running.get("/readyz").body.contains("\"github\":{\"state\":\"ok\"}")
    });
    world.until(&running, "the pass at the start is done", |world| {
        world.lab.github.exchanges().iter().any(|one| one.path.ends_with("/issues/comments") && one.status.is_some())
    });
    world.lab.github.revoke_token(world.lab.github.token());
    world.until(&running, "the forge is missed", |_| {
        running.get("/readyz").body.contains("\"github\":{\"state\":\"down\",\"reason\":\"the forge refused")
    });
    running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_say_nothing_more_are_hung_up_on() {
    let mut world = World::new("[service]\npolling = false\n").await;
    world.place.set("GITHUB_WEBHOOK_SECRET", SECRET);
    let running = world.serve(&[]);
    let address = running.address();
    let says = |text: &'static str| {
        let address = address.clone();
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            let mut answer = String::new();
            // The end, or a reset: not the end of our patience.
            if let Err(error) = stream.read_to_string(&mut answer) {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{text}");
            }
            answer
        })
    };
    let silent = [says(""), says("POST /webhook HTTP/1.1\r\nhost: x\r\n")];
    let without_body = says("POST /webhook HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{");
    for silent in silent {
        let answer = silent.join().unwrap();
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    assert!(without_body.join().unwrap().starts_with("HTTP/1.1 408"));
    assert_eq!(running.get("/healthz").status, 200);
    world.assert_well(&[running.stop()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_of_tasks_and_of_nobody() {
    let world = World::new("").await;
    let issue = world.dispatch(MAINTAINER, &patch_task("seen-0001"));
    let running = world.poll();
    world.until(&running, "it is counted", |_| {
        running.get("/metrics").body.contains("patchwright_tasks{state=\"completed\"} 1")
    });
    let metrics = running.get("/metrics").body;
    for part in [
        "patchwright_tasks_ended_total{outcome=\"verified\"} 1",
        "patchwright_dispatch_to_pull_request_seconds_count 1",
        "patchwright_stage_seconds_count{stage=\"checkout\"} 1",
        "patchwright_queue_depth 0",
        "patchwright_tasks_overdue 0",
        "patchwright_polls_total{result=\"ok\"}",
        "patchwright_github_requests_total",
        "patchwright_test_runs_total 2",
    ] {
        assert!(metrics.contains(part), "{part} is missing in\n{metrics}");
    }
    for private in ["acme", "widgets", "seen-0001", MAINTAINER] {
        assert!(!metrics.contains(private), "{private} stands in\n{metrics}");
    }
    let log = running.stop();
    world.comments(issue);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switches_and_ports_of_the_reference_runner() {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut world = World::new("").await;
    let (health, metrics) = (free(), free());
    world.place.set("HEALTH_CHECK_PORT", health.to_string());
    world.place.set("METRICS_PORT", metrics.to_string());
    let running = world.poll();
    running.until_logged("watching acme/widgets");
    assert_eq!(request(&format!("127.0.0.1:{health}"), "GET", "/healthz", &[], b"").status, 200);
    assert_eq!(request(&format!("127.0.0.1:{health}"), "GET", "/metrics", &[], b"").status, 404);
    assert_eq!(request(&format!("127.0.0.1:{metrics}"), "GET", "/metrics", &[], b"").status, 200);
    assert_eq!(request(&format!("127.0.0.1:{metrics}"), "GET", "/healthz", &[], b"").status, 404);
    running.stop();
    world.place.set("ENABLE_METRICS", "false");
    world.place.set("ENABLE_HEALTH_CHECK", "false");
    let running = world.poll();
    assert_eq!(running.get("/metrics").status, 404);
    assert_eq!(running.get("/healthz").status, 404);
    world.assert_well(&[running.stop()]);
}
