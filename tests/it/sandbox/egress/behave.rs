//! What a well-behaved program gets.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use patchwright::sandbox::egress::{Egress, EgressError, Reason, Resolver, Verdict, relay};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::stage::{LOOPBACK, OK, Origin, Stage, hello, read_answer, read_head, settings};

#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_are_answered_on_a_kept_connection() {
    let origin = Origin::start(OK).await;
    let stage = Stage::around(&origin).await;
    let mut client = stage.client().await;
    for _ in 0..3 {
        let request =
            format!("GET http://allowed.test:{0}/a?b=c HTTP/1.1\r\nHost: allowed.test:{0}\r\n\r\n", origin.port);
        client.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut body = [0u8; 2];
        client.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"ok");
    }
    assert_eq!(origin.connections(), 3);
    let decisions = stage.decisions(3).await;
    assert!(decisions.iter().all(|each| each.bytes == 2 && each.verdict == Verdict::Allowed), "{decisions:?}");
    assert!(stage.egress.refused().is_empty() && stage.egress.bytes() > 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_every_length_pass() {
    for (answer, body) in [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", ""),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
    ] {
        let origin = Origin::start(answer).await;
        let stage = Stage::around(&origin).await;
        let port = origin.port;
        let got =
            stage.ask(format!("GET http://allowed.test:{port}/ HTTP/1.1\r\nHost: allowed.test:{port}\r\n\r\n")).await;
        assert!(got.split_once("\r\n\r\n").unwrap().1.contains(body), "{answer:?}: {got}");
        assert!(got.starts_with(&answer[..12]), "{got}");
    }
    let origin = Origin::start("HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n").await;
    let stage = Stage::around(&origin).await;
    let port = origin.port;
    let head =
        stage.ask(format!("HEAD http://allowed.test:{port}/ HTTP/1.1\r\nHost: allowed.test:{port}\r\n\r\n")).await;
    assert!(head.to_ascii_lowercase().contains("content-length: 70000"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_asks_for_tunnels_in_its_own_way() {
    let origin = Origin::start(OK).await;
    let stage = Stage::around(&origin).await;
    let mut client = stage.client().await;
    client.write_all(format!("CONNECT allowed.test:{} HTTP/1.0\r\n\r\n", origin.port).as_bytes()).await.unwrap();
    let head = read_head(&mut client).await;
    assert!(head.contains(" 200 "), "{head}");
    client.write_all(&hello(Some("allowed.test"))).await.unwrap();
    let mut answer = [0u8; 4];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"echo");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_tls_passes_also_when_begun_at_once() {
    let certified = rcgen::generate_simple_self_signed(["allowed.test".to_owned()]).unwrap();
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let served = tokio::spawn(async move {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let mut bytes = vec![0u8; 1 << 20];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let rule = format!("*.test:{port}");
    let stage = Stage::start(settings(&[(&rule, &["127.0.0.1"])], &[("allowed.test", &["127.0.0.1"])])).await;
    let tunnel = stage.tunnel(&format!("allowed.test:{port}")).await;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let mut stream = connector.connect("allowed.test".try_into().unwrap(), tunnel).await.unwrap();
    let sent: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_le_bytes).collect();
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let mut got = vec![0u8; sent.len()];
    // What is written may wait in the session until it is flushed.
    let write = async {
        write.write_all(&sent).await?;
        write.flush().await
    };
    let (wrote, came) = tokio::join!(write, read.read_exact(&mut got));
    wrote.unwrap();
    came.unwrap();
    assert!(got == sent);
    drop(stream);
    served.await.unwrap();
    let decision = stage.decisions(1).await.pop().unwrap();
    assert_eq!((decision.verdict, decision.port), (Verdict::Allowed, port));
    assert!(decision.bytes > 2 << 20, "{}", decision.bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_may_come_with_the_request() {
    let origin = Origin::start(OK).await;
    let stage = Stage::around(&origin).await;
    for (name, passes) in [("allowed.test", true), ("other.test", false)] {
        let mut client = stage.client().await;
        let head = format!("CONNECT allowed.test:{} HTTP/1.1\r\n\r\n", origin.port);
        client.write_all(&[head.as_bytes(), &hello(Some(name))].concat()).await.unwrap();
        assert!(read_head(&mut client).await.contains(" 200 "));
        let mut answer = [0u8; 4];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer == b"echo", passes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_early_was_not_refused() {
    let origin = Origin::start(OK).await;
    let stage = Stage::around(&origin).await;
    for sent in [0, 20] {
        let mut tunnel = stage.tunnel(&format!("allowed.test:{}", origin.port)).await;
        tunnel.write_all(&hello(Some("allowed.test"))[..sent]).await.unwrap();
    }
    assert_eq!(stage.verdicts(2).await, [Verdict::Allowed, Verdict::Allowed]);
    assert!(stage.egress.refused().is_empty() && origin.text().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_passes_whole() {
    let body = "0123456789abcdef".repeat(1 << 18);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let origin = Origin::start(Box::leak(answer.into_boxed_str())).await;
    let stage = Stage::around(&origin).await;
    let got = stage.ask(format!("GET http://allowed.test:{}/ HTTP/1.1\r\n\r\n", origin.port)).await;
    assert!(got.split_once("\r\n\r\n").unwrap().1 == body);
    assert_eq!(stage.decisions(1).await[0].bytes, body.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_systems_names_are_judged_too() {
    let origin = Origin::start(OK).await;
    let rule = format!("localhost:{}", origin.port);
    for (networks, status) in [(&[][..], "403"), (&["127.0.0.1"][..], "200")] {
        let mut settings = settings(&[(&rule, networks)], &[]);
        settings.resolver = Resolver::System;
        let stage = Stage::start(settings).await;
        let answer = stage.ask(format!("GET http://{rule}/ HTTP/1.1\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_rule_lets_any_protocol_pass() {
    let origin = Origin::start(OK).await;
    let rule = format!("tcp://127.0.0.1:{}", origin.port);
    let stage = Stage::start(settings(&[(&rule, &["127.0.0.1"])], &[])).await;
    let mut tunnel = stage.tunnel(&format!("127.0.0.1:{}", origin.port)).await;
    tunnel.write_all(b"ssh").await.unwrap();
    let mut answer = [0u8; 4];
    tunnel.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"echo");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_named_literally_needs_no_server_name() {
    let origin = Origin::start(OK).await;
    let rule = format!("127.0.0.1:{}", origin.port);
    let stage = Stage::start(settings(&[(&rule, &["127.0.0.1"])], &[])).await;
    for (bytes, passes) in [(hello(None), true), (hello(Some("other.test")), false)] {
        let mut tunnel = stage.tunnel(&rule).await;
        tunnel.write_all(&bytes).await.unwrap();
        let mut answer = [0u8; 4];
        tunnel.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer == b"echo", passes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_has_so_many_bytes() {
    let origin = Origin::start(OK).await;
    let mut settings = Stage::usual(&origin);
    settings.limits.task_bytes = 20_000;
    let stage = Stage::start(settings).await;
    let mut tunnel = stage.tunnel(&format!("allowed.test:{}", origin.port)).await;
    tunnel.write_all(&hello(Some("allowed.test"))).await.unwrap();
    let mut written = 0;
    while tunnel.write_all(&[23u8; 1000]).await.is_ok() && written < 10_000_000 {
        written += 1000;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(written < 10_000_000);
    assert_eq!(stage.verdicts(1).await, [Verdict::Refused { reason: Reason::Spent }]);
    assert!(origin.received.lock().unwrap().len() <= 20_000);
    let mut client = stage.client().await;
    let _ = client.write_all(b"CONNECT allowed.test:1 HTTP/1.1\r\n\r\n").await;
    let mut answer = String::new();
    let _ = client.read_to_string(&mut answer).await;
    assert!(!answer.contains("200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_tunnel_ends() {
    let origin = Origin::start(OK).await;
    let mut settings = Stage::usual(&origin);
    settings.limits.idle_timeout = Duration::from_millis(400);
    let stage = Stage::start(settings).await;
    let mut tunnel = stage.tunnel(&format!("allowed.test:{}", origin.port)).await;
    tunnel.write_all(&hello(Some("allowed.test"))).await.unwrap();
    let started = Instant::now();
    read_answer(&mut tunnel).await;
    let mut rest = Vec::new();
    let _ = tunnel.read_to_end(&mut rest).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(stage.verdicts(1).await, [Verdict::Allowed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_allowed_wait() {
    let origin = Origin::start(OK).await;
    let mut settings = Stage::usual(&origin);
    settings.limits.connections = 1;
    let stage = Stage::start(settings).await;
    let first = stage.tunnel(&format!("allowed.test:{}", origin.port)).await;
    let mut second = stage.client().await;
    let request = format!("GET http://allowed.test:{}/ HTTP/1.1\r\n\r\n", origin.port);
    second.write_all(request.as_bytes()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), second.readable()).await.is_err());
    drop(first);
    assert!(read_answer(&mut second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_leads_from_loopback_to_the_socket() {
    let origin = Origin::start(OK).await;
    let stage = Stage::around(&origin).await;
    let path = stage.socket.clone();
    let inside = std::net::TcpListener::bind((LOOPBACK, 0)).unwrap();
    let address = inside.local_addr().unwrap();
    let socket = path.clone();
    let relay = tokio::spawn(async move { relay::relay(inside, &socket).await });
    let request = format!("GET http://allowed.test:{0}/ HTTP/1.1\r\nHost: allowed.test:{0}\r\n\r\n", origin.port);
    for _ in 0..3 {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        assert!(read_answer(&mut client).await.starts_with("HTTP/1.1 200"));
    }
    // With the proxy gone, connections close and the relay lives.
    drop(stage);
    assert!(!path.exists());
    let mut client = TcpStream::connect(address).await.unwrap();
    assert_eq!(client.read(&mut [0u8; 1]).await.unwrap_or(0), 0);
    relay.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_proxy() {
    use std::os::unix::fs::PermissionsExt;
    let origin = Origin::start(OK).await;
    for close in [true, false] {
        let stage = Stage::around(&origin).await;
        assert_eq!(std::fs::metadata(&stage.socket).unwrap().permissions().mode() & 0o777, 0o600);
        let mut tunnel = stage.tunnel(&format!("allowed.test:{}", origin.port)).await;
        tunnel.write_all(&hello(Some("allowed.test"))).await.unwrap();
        let mut answer = [0u8; 4];
        tunnel.read_exact(&mut answer).await.unwrap();
        let Stage { egress, socket: path, decisions, folder: _folder } = stage;
        if close {
            egress.close().await;
            assert_eq!(decisions.lock().unwrap().len(), 1, "the open tunnel was not told");
        } else {
            drop(egress);
        }
        let ended = tokio::time::timeout(Duration::from_secs(5), tunnel.read(&mut answer)).await.unwrap();
        assert_eq!(ended.unwrap_or(0), 0);
        assert!(!path.exists());
        assert!(UnixStream::connect(&path).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_already_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("taken");
    std::fs::write(&path, "mine").unwrap();
    let mut taken = settings(&[], &[]);
    taken.socket.clone_from(&path);
    assert!(matches!(Egress::start(taken), Err(EgressError::Socket { .. })));
    assert_eq!(std::fs::read(Path::new(&path)).unwrap(), b"mine");
}
