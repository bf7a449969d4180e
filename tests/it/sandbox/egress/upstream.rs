//! Behind a company's proxy.

use std::sync::{Arc, Mutex};

use patchwright::sandbox::egress::{Upstream, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::stage::{LOOPBACK, OK, Origin, Stage, hello, read_answer, read_head, settings};

const LOGIN: &str = "Basic dXNlcjpwQHNz";

/// A proxy that wants the login and leads all tunnels to one port on loopback.
async fn company_proxy(port: u16, answer: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = heads.clone();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let kept = kept.clone();
            tokio::spawn(async move {
                let head = read_head(&mut client).await;
                kept.lock().unwrap().push(head.clone());
                if !head.to_ascii_lowercase().contains(&format!("proxy-authorization: {}", LOGIN.to_ascii_lowercase()))
                {
                    client.write_all(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                } else if head.starts_with("CONNECT") {
                    client.write_all(answer.as_bytes()).await.unwrap();
                    let mut server = TcpStream::connect((LOOPBACK, port)).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                } else {
                    client.write_all(OK.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (own, heads)
}

async fn behind(address: &str, no_proxy: &str, rules: &[(&str, &[&str])]) -> Stage {
    let mut settings = settings(rules, &[("proxy.test", &["127.0.0.1"]), ("direct.test", &["127.0.0.1"])]);
    settings.upstream = Some(Upstream::parse(&address.to_owned().into(), no_proxy).unwrap());
    Stage::start(settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_are_chained_and_checked_all_the_same() {
    for answer in ["HTTP/1.1 200 Connection established\r\n\r\n", "HTTP/1.0 200 OK\r\nVia: x\r\n\r\n"] {
        let origin = Origin::start(OK).await;
        let (port, heads) = company_proxy(origin.port, answer).await;
        let stage = behind(&format!("http://user:p%40ss@proxy.test:{port}"), "", &[("registry.test", &[])]).await;
        let mut tunnel = stage.tunnel("registry.test:443").await;
        tunnel.write_all(&hello(Some("registry.test"))).await.unwrap();
        let mut echo = [0u8; 4];
        tunnel.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"echo");
        assert!(heads.lock().unwrap()[0].starts_with("CONNECT registry.test:443 HTTP/1.1\r\n"));
        origin.received.lock().unwrap().clear();
        let mut tunnel = stage.tunnel("registry.test:443").await;
        tunnel.write_all(&hello(Some("other.test"))).await.unwrap();
        read_answer(&mut tunnel).await;
        assert!(origin.received.lock().unwrap().is_empty());
        let refused = stage.ask("CONNECT other.test:443 HTTP/1.1\r\n\r\n").await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
        assert_eq!(heads.lock().unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_go_to_it_with_the_whole_address() {
    let (port, heads) = company_proxy(1, "").await;
    let stage = behind(&format!("http://user:p%40ss@proxy.test:{port}"), "", &[("registry.test", &[])]).await;
    let request =
        "GET http://registry.test/a HTTP/1.1\r\nHost: registry.test\r\nProxy-Authorization: Basic mine\r\n\r\n";
    let answer = stage.ask(request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let head = heads.lock().unwrap()[0].clone();
    assert!(head.starts_with("GET http://registry.test/a HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(LOGIN) && !head.contains("mine"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exceptions_go_directly() {
    let origin = Origin::start(OK).await;
    let (port, heads) = company_proxy(1, "").await;
    let rule = format!("direct.test:{}", origin.port);
    let stage = behind(&format!("proxy.test:{port}"), "direct.test", &[(&rule, &["127.0.0.1"])]).await;
    let answer = stage.ask(format!("GET http://{rule}/ HTTP/1.1\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(heads.lock().unwrap().is_empty());
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_refusal_is_told_without_the_login() {
    let (port, _heads) = company_proxy(1, "").await;
    let stage = behind(&format!("http://user:wrong@proxy.test:{port}"), "", &[("registry.test", &[])]).await;
    let answer = stage.ask("CONNECT registry.test:443 HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("407") && !answer.contains("wrong"), "{answer}");
    let verdicts = stage.verdicts(1).await;
    assert!(
        matches!(&verdicts[..], [Verdict::Unreachable { cause }] if cause.contains("wants a login")),
        "{verdicts:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_checked_before_it_is_asked() {
    let (port, heads) = company_proxy(1, "HTTP/1.1 200 OK\r\n\r\n").await;
    let rules: [(&str, &[&str]); 2] = [("10.0.0.1", &[]), ("169.254.169.254", &["169.254.0.0/16"])];
    let stage = behind(&format!("http://user:p%40ss@proxy.test:{port}"), "", &rules).await;
    for asked in ["10.0.0.1:443", "169.254.169.254:443"] {
        let answer = stage.ask(format!("CONNECT {asked} HTTP/1.1\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
    assert!(heads.lock().unwrap().is_empty());
}
