//! What a program in the sandbox tries in order to reach what it must not.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use patchwright::sandbox::egress::{Reason, Resolver, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stage::{LOOPBACK, OK, Origin, Stage, hello, read_answer, settings};

/// Requests that must be refused before anything is connected to. `PORT` is the origin's port. The second is the
/// status, the third what the reason says.
const REFUSED: &[(&str, &str, &str)] = &[
    ("CONNECT other.test:PORT HTTP/1.1\r\nHost: other.test\r\n\r\n", "403", "not on the list"),
    ("CONNECT allowed.test:22 HTTP/1.1\r\nHost: allowed.test\r\n\r\n", "403", "not on the list"),
    ("CONNECT 127.0.0.1:PORT HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "403", "not on the list"),
    ("CONNECT [::1]:PORT HTTP/1.1\r\nHost: [::1]\r\n\r\n", "403", "not on the list"),
    ("CONNECT [::ffff:127.0.0.1]:PORT HTTP/1.1\r\n\r\n", "403", "not on the list"),
    ("CONNECT 2130706433:PORT HTTP/1.1\r\n\r\n", "400", "is a number"),
    ("CONNECT 0177.0.0.1:PORT HTTP/1.1\r\n\r\n", "400", "is a number"),
    ("CONNECT 0x7f.1:PORT HTTP/1.1\r\n\r\n", "400", "is a number"),
    ("CONNECT 127.1:PORT HTTP/1.1\r\n\r\n", "400", "is a number"),
    ("CONNECT allowed.test HTTP/1.1\r\nHost: allowed.test\r\n\r\n", "400", "no port"),
    ("CONNECT allowed.test@other.test:PORT HTTP/1.1\r\n\r\n", "400", ""),
    ("CONNECT allowed.test:x@other.test:PORT HTTP/1.1\r\n\r\n", "400", ""),
    ("CONNECT allowed.test:PORT HTTP/1.1\r\nHost: other.test:PORT\r\n\r\n", "400", "another host"),
    ("CONNECT allowed.test:PORT HTTP/1.1\r\nHost: allowed.test\r\nHost: other.test\r\n\r\n", "400", "more than one"),
    ("CONNECT allowed.test:PORT HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde", "400", "without a body"),
    ("CONNECT allowed.test:PORT HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", "without a body"),
    ("CONNECT /etc/passwd HTTP/1.1\r\n\r\n", "400", ""),
    ("CONNECT http://allowed.test:PORT/ HTTP/1.1\r\n\r\n", "400", "host and port alone"),
    ("GET http://other.test:PORT/ HTTP/1.1\r\nHost: other.test:PORT\r\n\r\n", "403", "not on the list"),
    ("GET http://allowed.test:PORT/ HTTP/1.1\r\nHost: other.test:PORT\r\n\r\n", "400", "another host"),
    ("GET http://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:1\r\n\r\n", "400", "another host"),
    ("GET http://allowed.test:PORT/ HTTP/1.1\r\nHost: \u{e9}\r\n\r\n", "400", "another host"),
    (
        "GET http://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nHost: other.test\r\n\r\n",
        "400",
        "more than one",
    ),
    ("GET http://user@allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\n\r\n", "400", ""),
    ("GET http://allowed.test:PORT@other.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\n\r\n", "400", ""),
    ("GET http://other.test:PORT#@allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\n\r\n", "400", ""),
    ("GET http://allowed.test%2eother.test:PORT/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n", "400", ""),
    ("GET http://allowed.test\\@other.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\n\r\n", "400", ""),
    ("GET https://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\n\r\n", "400", "through a tunnel"),
    ("GET ftp://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\n\r\n", "400", "only http"),
    ("GET file:///etc/passwd HTTP/1.1\r\nHost: allowed.test:PORT\r\n\r\n", "400", ""),
    ("GET / HTTP/1.1\r\nHost: allowed.test:PORT\r\n\r\n", "400", "whole address"),
    ("OPTIONS * HTTP/1.1\r\nHost: allowed.test:PORT\r\n\r\n", "400", "whole address"),
    ("GET http://allowed.test:PORT/ HTTP/1.1\nHost : allowed.test:PORT\n\n", "400", ""),
    ("GET http://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\n X: folded\r\n\r\n", "400", ""),
    ("GET http://allowed.test:PORT/ HTTP/1.1\r\nA: b\0c\r\n\r\n", "400", ""),
    ("GET http://allowed.test:PORT/ HTTP/1.1\r\nA: b\rHost: other.test\r\n\r\n", "400", ""),
    ("GET http://allowed.test:PORT/a b HTTP/1.1\r\nHost: allowed.test:PORT\r\n\r\n", "400", ""),
    ("POST http://allowed.test:PORT/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400", ""),
    ("POST http://allowed.test:PORT/ HTTP/1.1\r\nContent-Length: +1\r\n\r\na", "400", ""),
    ("POST http://allowed.test:PORT/ HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", "400", ""),
    ("POST http://allowed.test:PORT/ HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n", "400", ""),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", ""),
    ("\x16\x03\x01\x02\x00\x01\x00\x01", "", ""),
    ("SSH-2.0-OpenSSH_9\r\n\r\n", "", ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_are_refused_before_anything_is_connected_to() {
    let origin = Origin::start(OK).await;
    let stage = Stage::around(&origin).await;
    for (request, status, says) in REFUSED {
        let bytes = request.replace("PORT", &origin.port.to_string());
        let answer = stage.ask(&bytes).await;
        let expected = format!("HTTP/1.1 {status}");
        let first = answer.lines().next().unwrap_or_default();
        let fits = if status.is_empty() {
            !first.contains(" 200") && !first.contains(" 502")
        } else {
            first.starts_with(&expected) && answer.contains(says)
        };
        assert!(fits, "{request:?}\n{answer}");
        assert_eq!(origin.connections(), 0, "{request:?} reached the host");
    }
}

/// A hello in which `extra` follows the name in its list, if `in_list`, or the extension; with all lengths right.
fn lengthened(extra: &[u8], in_list: bool) -> Vec<u8> {
    let mut hello = hello(Some("allowed.test"));
    let name = hello.windows(12).position(|window| window == b"allowed.test").unwrap();
    hello.splice(name + 12..name + 12, extra.iter().copied());
    let add = |hello: &mut Vec<u8>, at: usize| {
        let length = u16::from_be_bytes([hello[at], hello[at + 1]]) + extra.len() as u16;
        hello[at..at + 2].copy_from_slice(&length.to_be_bytes());
    };
    // Record, message (its low bytes), all extensions; then the extension and the list.
    let session = 5 + 4 + 34;
    let suites = session + 1 + usize::from(hello[session]);
    let compressions = suites + 2 + usize::from(u16::from_be_bytes([hello[suites], hello[suites + 1]]));
    let extensions = compressions + 1 + usize::from(hello[compressions]);
    for at in [3, 7, extensions] {
        add(&mut hello, at);
    }
    if in_list {
        add(&mut hello, name - 7);
        add(&mut hello, name - 5);
    }
    hello
}

fn two_names() -> Vec<u8> {
    lengthened(b"\0\0\x0aother.test", true)
}

fn twice_named() -> Vec<u8> {
    lengthened(b"\0\0\0\x0f\0\x0d\0\0\x0aother.test", false)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_for_another_server_does_not_pass() {
    let origin = Origin::start(OK).await;
    let stage = Stage::around(&origin).await;
    let authority = format!("allowed.test:{}", origin.port);
    let place = |hello: &[u8]| hello.windows(12).position(|window| window == b"allowed.test").unwrap();
    let changed = |offset: usize, bytes: &[u8]| {
        let mut hello = hello(Some("allowed.test"));
        let at = place(&hello) - 5 + offset;
        hello[at..at + bytes.len()].copy_from_slice(bytes);
        hello
    };
    let cases: Vec<(&str, Vec<u8>, Option<Reason>)> = vec![
        ("the same", hello(Some("allowed.test")), None),
        ("in capitals", changed(5, b"ALLOWED"), None),
        ("with a name of an unknown kind", changed(2, &[255]), Some(Reason::NotTls)),
        ("with a name that ends early", changed(3, &[0, 5]), Some(Reason::NotTls)),
        ("and for a second one", two_names(), Some(Reason::NotTls)),
        ("and says it twice", twice_named(), Some(Reason::NotTls)),
        ("with a zero in the name", changed(12, &[0]), Some(Reason::NotTls)),
        ("another", hello(Some("other.test")), Some(Reason::ServerName(Some("other.test".into())))),
        (
            "a longer one",
            hello(Some("allowed.test.evil.test")),
            Some(Reason::ServerName(Some("allowed.test.evil.test".into()))),
        ),
        ("none", hello(None), Some(Reason::ServerName(None))),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n".to_vec(), Some(Reason::NotTls)),
        ("SSH", b"SSH-2.0-x\r\n".to_vec(), Some(Reason::NotTls)),
        ("TLS's type and nonsense", b"\x16\x03\x01\x00\x04nope".to_vec(), Some(Reason::NotTls)),
        ("a record of another type", b"\x17\x03\x03\x00\x01x".to_vec(), Some(Reason::NotTls)),
    ];
    for (number, (what, bytes, reason)) in cases.into_iter().enumerate() {
        origin.received.lock().unwrap().clear();
        let mut client = stage.tunnel(&authority).await;
        client.write_all(&bytes).await.unwrap();
        let mut answer = [0u8; 7];
        let expected = if reason.is_none() { 4 } else { 7 };
        client.read_exact(&mut answer[..expected]).await.unwrap();
        drop(client);
        let verdict = stage.verdicts(number + 1).await.pop().unwrap();
        match reason {
            None => {
                assert_eq!(&answer[..4], b"echo", "{what}");
                assert_eq!(verdict, Verdict::Allowed, "{what}");
                assert_eq!(*origin.received.lock().unwrap(), bytes, "{what}");
            }
            Some(reason) => {
                assert_eq!(verdict, Verdict::Refused { reason }, "{what}");
                assert_eq!(answer, [21, 3, 3, 0, 2, 2, 49], "{what}");
                assert!(origin.received.lock().unwrap().is_empty(), "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_in_many_pieces_is_read_whole() {
    let origin = Origin::start(OK).await;
    let stage = Stage::around(&origin).await;
    let authority = format!("allowed.test:{}", origin.port);
    // Byte by byte; and one handshake message over many records.
    let plain = hello(Some("allowed.test"));
    let records = |hello: &[u8]| -> Vec<u8> {
        hello[5..].chunks(7).flat_map(|part| [&[22, 3, 1, 0, part.len() as u8], part].concat()).collect()
    };
    let (fragmented, other) = (records(&plain), records(&hello(Some("other.test"))));
    for (bytes, passes) in [(plain, true), (fragmented, true), (other, false)] {
        origin.received.lock().unwrap().clear();
        let mut client = stage.tunnel(&authority).await;
        for byte in &bytes {
            client.write_all(&[*byte]).await.unwrap();
        }
        let mut answer = [0u8; 4];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer == b"echo", passes);
        let received = origin.received.lock().unwrap().clone();
        assert!(if passes { bytes.starts_with(&received) && !received.is_empty() } else { received.is_empty() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_is_checked_like_the_first() {
    let origin = Origin::start(OK).await;
    let stage = Stage::around(&origin).await;
    let port = origin.port;
    let get =
        |host: &str, path: &str| format!("GET http://{host}:{port}/{path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    let answer = stage.ask(get("allowed.test", "1") + &get("other.test", "2") + &get("allowed.test", "3")).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 403").count(), 1, "{answer}");
    assert_eq!(origin.connections(), 1);
    assert!(origin.text().starts_with("GET /1 HTTP/1.1\r\n") && !origin.text().contains("/2"), "{}", origin.text());
    let decisions = stage.decisions(2).await;
    let hosts: Vec<(&str, bool)> =
        decisions.iter().map(|each| (each.host.as_str(), each.verdict == Verdict::Allowed)).collect();
    assert_eq!(hosts, [("allowed.test", true), ("other.test", false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn smuggled_requests_stay_bodies() {
    let origin = Origin::start(OK).await;
    let stage = Stage::around(&origin).await;
    let port = origin.port;
    let inner = "GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n";
    let head = format!("POST http://allowed.test:{port}/ HTTP/1.1\r\nHost: allowed.test:{port}\r\n");
    // Both lengths: refused, or one of them gone; never two requests.
    let both =
        stage.ask(format!("{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}")).await;
    assert_eq!(both.matches("HTTP/1.1 200").count() + both.matches("HTTP/1.1 400").count(), 1, "{both}");
    let text = origin.text();
    assert!(!text.to_ascii_lowercase().contains("content-length: 4"), "{text}");
    assert!(!text.contains("other.test"), "{text}");
    // A body that looks like a request is one, framed anew.
    origin.received.lock().unwrap().clear();
    let body = stage.ask(format!("{head}Content-Length: {}\r\n\r\n{inner}", inner.len())).await;
    assert_eq!(body.matches("HTTP/1.1").count(), 1, "{body}");
    assert!(origin.text().contains(&format!("content-length: {}", inner.len())), "{}", origin.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_hop_do_not_pass() {
    let origin = Origin::start(OK).await;
    let stage = Stage::around(&origin).await;
    let port = origin.port;
    let answer = stage
        .ask(format!(
            "GET http://allowed.test:{port}/x HTTP/1.1\r\nhost: Allowed.Test.:{port}\r\nConnection: keep-alive, X-Secret, Upgrade\r\n\
             X-Secret: 1\r\nProxy-Authorization: Basic c2VjcmV0\r\nProxy-Connection: keep-alive\r\nKeep-Alive: 5\r\nTE: trailers\r\n\
             Upgrade: websocket\r\nExpect: 100-continue\r\nAccept: a/b\r\n\r\n"
        ))
        .await;
    assert!(answer.contains("200 OK") && answer.ends_with("\r\n\r\nok"), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("keep-alive:"), "{answer}");
    assert_eq!(
        origin.text().to_ascii_lowercase(),
        format!("get /x http/1.1\r\nhost: allowed.test:{port}\r\naccept: a/b\r\n\r\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_cannot_upgrade_a_plain_connection() {
    let origin =
        Origin::start("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\nraw").await;
    let stage = Stage::around(&origin).await;
    let port = origin.port;
    let answer = stage
        .ask(format!(
            "GET http://allowed.test:{port}/ HTTP/1.1\r\nHost: allowed.test:{port}\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n"
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 502") && !answer.contains("raw"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_judged_by_their_addresses() {
    let origin = Origin::start(OK).await;
    let rule = |name: &str| format!("{name}.test:{}", origin.port);
    let rules: Vec<String> = ["loop", "mapped", "nat64", "metadata", "private", "mixed", "none"].map(rule).to_vec();
    let rules: Vec<(&str, &[&str])> = rules.iter().map(|rule| (rule.as_str(), &[] as &[&str])).collect();
    let stage = Stage::start(settings(
        &rules,
        &[
            ("loop.test", &["127.0.0.1"]),
            ("mapped.test", &["::ffff:127.0.0.1"]),
            ("nat64.test", &["64:ff9b::7f00:1"]),
            ("metadata.test", &["169.254.169.254"]),
            ("private.test", &["10.9.8.7"]),
            ("mixed.test", &["127.0.0.1", "::1", "0.0.0.0"]),
        ],
    ))
    .await;
    for name in ["loop", "mapped", "nat64", "metadata", "private", "mixed"] {
        let answer = stage.ask(format!("CONNECT {name}.test:{} HTTP/1.1\r\n\r\n", origin.port)).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("the host is at"), "{name}: {answer}");
    }
    let answer = stage.ask(format!("CONNECT none.test:{} HTTP/1.1\r\n\r\n", origin.port)).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("no address"), "{answer}");
    assert_eq!(origin.connections(), 0);
    let refused = stage.egress.refused();
    let remedies: Vec<(&str, Option<&str>)> =
        refused.iter().map(|host| (host.host.as_str(), host.remedy.as_deref())).collect();
    let private = format!("network.allow = [{{ host = \"private.test:{}\", at = [\"10.9.8.7\"] }}]", origin.port);
    assert_eq!(
        remedies,
        [
            ("loop.test", None),
            ("mapped.test", None),
            ("metadata.test", None),
            ("mixed.test", None),
            ("nat64.test", None),
            ("private.test", Some(private.as_str())),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_resolved_once_for_a_connection() {
    let origin = Origin::start(OK).await;
    let asked = Arc::new(AtomicUsize::new(0));
    // Opened at 127.0.0.1 alone; every second answer is another loopback address, at which the origin's port is too.
    let listener = tokio::net::TcpListener::bind(("127.0.0.9", origin.port)).await.unwrap();
    let mut settings = settings(&[(&format!("rebind.test:{}", origin.port), &["127.0.0.1"])], &[]);
    let count = asked.clone();
    settings.resolver = Resolver::Function(Arc::new(move |_| {
        let second = count.fetch_add(1, Ordering::SeqCst) % 2 == 1;
        vec![if second { IpAddr::from([127, 0, 0, 9]) } else { LOOPBACK }]
    }));
    let stage = Stage::start(settings).await;
    let request = format!("GET http://rebind.test:{}/ HTTP/1.1\r\n\r\n", origin.port);
    let (first, second) = (stage.ask(&request).await, stage.ask(&request).await);
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    assert!(second.starts_with("HTTP/1.1 403") && second.contains("127.0.0.9"), "{second}");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    let reached = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(reached.is_err(), "the other address was reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_cut_off() {
    let origin = Origin::start(OK).await;
    let stage = Stage::around(&origin).await;
    // A head that never ends, byte by byte.
    let mut slow = stage.client().await;
    let started = Instant::now();
    let mut dripped = 0;
    while slow.write_all(b"G").await.is_ok() && started.elapsed() < Duration::from_secs(10) {
        dripped += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(dripped > 0 && started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    // A hello that never ends.
    let mut tunnel = stage.tunnel(&format!("allowed.test:{}", origin.port)).await;
    let bytes = hello(Some("allowed.test"));
    let started = Instant::now();
    for byte in bytes.iter().cycle().take(50) {
        if tunnel.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    read_answer(&mut tunnel).await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    let verdict = stage.verdicts(1).await.pop().unwrap();
    assert_eq!(verdict, Verdict::Refused { reason: Reason::BadRequest("TLS was not begun in time") });
    // A connection that says nothing at all.
    let mut silent = stage.client().await;
    let mut buffer = [0u8; 512];
    let ended = tokio::time::timeout(Duration::from_secs(10), silent.read(&mut buffer)).await;
    assert!(ended.is_ok(), "a silent connection stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_heads_are_refused() {
    let origin = Origin::start(OK).await;
    let stage = Stage::around(&origin).await;
    let head = format!("GET http://allowed.test:{}/ HTTP/1.1\r\n", origin.port);
    for huge in [
        format!("{head}A: {}\r\n\r\n", "a".repeat(1 << 20)),
        format!("{head}{}\r\n", "A: b\r\n".repeat(20_000)),
        format!("GET http://allowed.test:{}/{} HTTP/1.1\r\n\r\n", origin.port, "a".repeat(1 << 20)),
        format!("CONNECT {}:{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 17), origin.port),
    ] {
        let mut client = stage.client().await;
        let (mut read, mut write) = client.split();
        // The proxy closes before all is sent.
        let (_, answer) = tokio::join!(write.write_all(huge.as_bytes()), async {
            let mut answer = Vec::new();
            let _ = read.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        });
        assert!(!answer.contains(" 200 "), "{answer}");
        assert_eq!(origin.connections(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_names_are_escaped_and_few_are_kept() {
    let origin = Origin::start(OK).await;
    let stage = Stage::around(&origin).await;
    for number in 0..230 {
        stage.ask(format!("CONNECT h{number}.test:443 HTTP/1.1\r\n\r\n")).await;
    }
    stage.ask("CONNECT a'b!$&(x):443 HTTP/1.1\r\n\r\n").await;
    stage.ask("CONNECT h0.test:443 HTTP/1.1\r\n\r\n").await;
    let refused = stage.egress.refused();
    assert_eq!(refused.len(), 200);
    let twice = refused.iter().find(|host| host.host == "h0.test").unwrap();
    assert_eq!((twice.times, twice.remedy.as_deref()), (2, Some("network.allow = [\"h0.test\"]")));
    let hosts = stage.decisions(232).await;
    assert!(hosts.iter().all(|each| {
        each.host.chars().all(|character| character.is_ascii_alphanumeric() || "-._:[]/\\{} ".contains(character))
    }));
}
