//! Credentials in the configuration, and the networks that the program finds itself in.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use lab::Lab;
use patchwright::config::environment::Environment;
use patchwright::config::flags::{Command, Flags};
use patchwright::config::resolve_run;
use patchwright::forge::Credentials;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::{KEY, WIDGETS, widgets};

fn resolve(variables: &[(&str, &str)], file: &str) -> Result<Credentials, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("patchwright.toml");
    std::fs::write(&path, file).unwrap();
    let config = path.to_str().unwrap();
    let flags = Flags::try_parse_from(["patchwright", "run", "--repo", WIDGETS, "--task", "x", "--config", config]);
    let flags = flags.unwrap();
    let usual = [("HOME", "/home/user"), ("PATH", "/usr/local/bin:/usr/bin:/bin")];
    let all = usual.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let Command::Run(run) = &flags.command else { panic!("not a run") };
    match resolve_run(&flags, run, &Environment::of(all)) {
        Ok(config) => Ok(config.forge.credentials),
        Err(error) => Err(format!("{error:#} {error:?}")),
    }
}

#[test]
fn an_app_is_set_whole_or_not_at_all_and_not_beside_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    std::fs::write(&key, KEY).unwrap();
    let key = key.to_str().unwrap();
    let whole = [("GITHUB_APP_ID", "7"), ("GITHUB_APP_PRIVATE_KEY_PATH", key), ("GITHUB_APP_INSTALLATION_ID", "70")];
    assert!(matches!(resolve(&[], ""), Ok(Credentials::None)));
    assert!(matches!(resolve(&[("GITHUB_TOKEN", "ghp_x")], ""), Ok(Credentials::Token(_))));
    assert!(matches!(resolve(&whole, ""), Ok(Credentials::App { id: 7, installation: 70, .. })));
    let file = format!("[github]\napp_id = 8\napp_key_file = \"{key}\"\napp_installation = 80\n");
    assert!(matches!(resolve(&[], &file), Ok(Credentials::App { id: 8, installation: 80, .. })));
    assert!(matches!(resolve(&whole, &file), Ok(Credentials::App { id: 7, installation: 70, .. })));

    let both = [&whole[..], &[("GITHUB_TOKEN", "ghp_x")]].concat();
    let refused = resolve(&both, "").unwrap_err();
    assert!(refused.contains("both a token (GITHUB_TOKEN") && refused.contains("GITHUB_APP_"), "{refused}");
    for (left_out, name) in whole.iter().map(|(name, _)| *name).enumerate() {
        let mut part = whole.to_vec();
        part.remove(left_out);
        let refused = resolve(&part, "").unwrap_err();
        assert!(refused.contains(name) && refused.contains("Set all three, or none"), "{refused}");
        let others = whole.iter().filter(|(other, _)| *other != name);
        assert!(others.into_iter().all(|(other, _)| !refused.contains(other)), "{refused}");
    }
    let bad = folder.path().join("bad.pem");
    std::fs::write(&bad, KEY.replace('A', "!")).unwrap();
    let mut broken = whole.to_vec();
    broken[1].1 = bad.to_str().unwrap();
    let refused = resolve(&broken, "").unwrap_err();
    assert!(refused.contains("Make a new one in the App's settings") && !refused.contains("!"), "{refused}");
    let refused = resolve(&[("GITHUB_TOKEN", "ghp_ü")], "").unwrap_err();
    assert!(refused.contains("holds characters that no token has") && !refused.contains("ghp_ü"), "{refused}");
}

/// Runs the program on issue 1 of [`WIDGETS`], as far as it comes; its standard error.
async fn run(folder: &Path, variables: &[(&str, &str)]) -> String {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_patchwright"));
    command.args(["run", "--issue", &format!("{WIDGETS}#1"), "--dry-run"]);
    command.env_clear().env("HOME", folder).env("TMPDIR", folder).env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.envs(variables.iter().copied()).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A TLS front for the lab's GitHub, with a certificate that no public authority signed; its port and the authority.
async fn tls_front(lab: &Lab) -> (u16, String) {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = parameters.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::from_params(&parameters, &authority);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = builder.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = lab.github.web_url().replace("http://", "");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut secured) = acceptor.accept(stream).await else { continue };
            let mut plain = TcpStream::connect(&behind).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut secured, &mut plain).await.ok() });
        }
    });
    (port, root.pem())
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_ssl_cert_file_names_it() {
    let lab = widgets().await;
    lab.github.create_issue(WIDGETS, "ada", "Title", Some("nothing to do"), &[]);
    let (port, authority) = tls_front(&lab).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, authority).unwrap();
    let api = format!("https://localhost:{port}/api/v3");
    let usual = [("GITHUB_API_URL", api.as_str()), ("GITHUB_TOKEN", lab.github.token())];
    let refused = run(folder.path(), &usual).await;
    assert!(refused.contains("could not be reached") && refused.contains("certificate"), "{refused}");
    assert_eq!(lab.github.exchanges().len(), 0);
    let trusting = [&usual[..], &[("SSL_CERT_FILE", file.to_str().unwrap())]].concat();
    let told = run(folder.path(), &trusting).await;
    let first = lab.github.exchanges().first().map(|asked| asked.path.clone());
    assert_eq!(first.as_deref(), Some("/repos/acme/widgets/issues/1"), "{told}");
}

#[tokio::test]
async fn a_proxy_is_used_when_the_environment_names_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4_096];
        let length = stream.read(&mut request).await.unwrap();
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
        stream.write_all(answer).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let folder = tempfile::tempdir().unwrap();
    let api = ("GITHUB_API_URL", "http://ghe.example.invalid/api/v3");
    let told = run(folder.path(), &[api, ("GITHUB_TOKEN", "ghp_x"), ("HTTP_PROXY", &proxy)]).await;
    assert!(told.contains("was not found"), "{told}");
    let heard = heard.await.unwrap();
    let line = "GET http://ghe.example.invalid/api/v3/repos/acme/widgets/issues/1 HTTP/1.1";
    assert!(heard.starts_with(line), "{heard}");
}
