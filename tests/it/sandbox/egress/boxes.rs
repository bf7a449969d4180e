//! What a program in a real box reaches: the proxy, and through it what is allowed; and nothing besides.

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use patchwright::config::environment::Environment;
use patchwright::config::file::ConfigFile;
use patchwright::config::network;
use patchwright::event::{Event, Events};
use patchwright::sandbox::egress::{Access, Allowlist, Passage, Phase, Reason, Resolver, Rule};
use patchwright::sandbox::{Backend, Choice, Ending, Network, Sandbox, SandboxError, Surroundings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::{alive, all_backends, all_backends_with, child_process, command, settings, skipped, text, until};
use super::stage::{LOOPBACK, OK, Origin};

/// Tries everything and prints one line for each: its name, and what came of it.
const PROBE: &str = r#"
import http.client, os, socket, ssl, struct, sys, urllib.request
plain, tls, service, socket_path, other_path = sys.argv[1:]
plain, tls, service = int(plain), int(tls), int(service)

def attempt(name, function):
    try:
        print(name, '=>', function(), flush=True)
    except BaseException as error:
        print(name, '=> failed', type(error).__name__, str(error), flush=True)

def ask(request):
    with socket.create_connection(('127.0.0.1', 3128), 10) as client:
        client.sendall(request.encode())
        answer = b''
        while True:
            part = client.recv(65536)
            answer += part
            if not part or b'\r\n\r\n' in answer:
                return answer.decode().replace('\r\n', ' ')

def connect(target):
    return ask(f'CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n')

def get(host, port):
    return ask(f'GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n')

def begin_tls(target, name):
    client = socket.create_connection(('127.0.0.1', 3128), 10)
    client.sendall(f'CONNECT {target} HTTP/1.1\r\n\r\n'.encode())
    assert b' 200 ' in client.recv(4096)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(client, server_hostname=name).version()

def send_plainly(target):
    with socket.create_connection(('127.0.0.1', 3128), 10) as client:
        client.sendall(f'CONNECT {target} HTTP/1.1\r\n\r\n'.encode())
        assert b' 200 ' in client.recv(4096)
        client.sendall(b'SSH-2.0-OpenSSH_9\r\n')
        return client.recv(4096).hex()

def reach(family, kind, address):
    with socket.socket(family, kind) as client:
        client.settimeout(5)
        client.connect(address)
        client.send(b'x')
        return 'CANARY: reached'

def unix(path):
    return reach(socket.AF_UNIX, socket.SOCK_STREAM, path)

inet, inet6, stream, datagram = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
# What programs do by themselves, led by variables alone.
attempt('plain', lambda: urllib.request.urlopen(f'http://allowed.test:{plain}/', timeout=10).status)
attempt('tls', lambda: urllib.request.urlopen(f'https://allowed.test:{tls}/', timeout=10).read())
# Around the proxy.
attempt('loopback of the host', lambda: reach(inet, stream, ('127.0.0.1', service)))
attempt('loopback of the host, IPv6', lambda: reach(inet6, stream, ('::1', service)))
attempt('all addresses', lambda: reach(inet, stream, ('0.0.0.0', service)))
attempt('metadata', lambda: reach(inet, stream, ('169.254.169.254', 80)))
attempt('outside', lambda: reach(inet, stream, ('192.0.2.1', 443)))
attempt('outside, IPv6', lambda: reach(inet6, stream, ('2001:db8::1', 443)))
attempt('name server', lambda: reach(inet, datagram, ('192.0.2.53', 53)))
attempt('name server, IPv6', lambda: reach(inet6, datagram, ('2001:db8::53', 53)))
attempt('names', lambda: socket.getaddrinfo('allowed.test', 80))
attempt('raw', lambda: socket.socket(inet, socket.SOCK_RAW, socket.IPPROTO_ICMP).fileno())
attempt('packets', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300).fileno())
attempt('abstract socket', lambda: unix('\0' + os.path.basename(other_path)))
attempt('another socket', lambda: unix(other_path))
attempt('the proxy by its path on the host', lambda: unix(socket_path))
# Through the proxy.
attempt('another host', lambda: get('other.test', plain))
attempt('another port', lambda: get('allowed.test', service))
attempt('another port, tunnel', lambda: connect('allowed.test:22'))
attempt('an address', lambda: connect(f'127.0.0.1:{service}'))
attempt('localhost', lambda: connect(f'localhost:{service}'))
attempt('metadata by address', lambda: get('169.254.169.254', 80))
attempt('metadata by name', lambda: connect(f'metadata.test:{plain}'))
attempt('private by name', lambda: connect(f'private.test:{plain}'))
attempt('loopback by name', lambda: connect(f'loop.test:{service}'))
attempt('mapped by name', lambda: connect(f'mapped.test:{service}'))
attempt('rebinding, first', lambda: connect(f'rebind.test:{service}'))
attempt('rebinding, second', lambda: connect(f'rebind.test:{service}'))
attempt('its own name', lambda: begin_tls(f'allowed.test:{tls}', 'allowed.test'))
attempt('another name', lambda: begin_tls(f'allowed.test:{tls}', 'other.test'))
attempt('no name', lambda: begin_tls(f'allowed.test:{tls}', None))
attempt('no TLS', lambda: send_plainly(f'allowed.test:{tls}'))
attempt('the relay among the processes', lambda: [
    entry for entry in os.listdir('/proc') if entry.isdigit() and open(f'/proc/{entry}/cmdline').read().count('relay')])
"#;

/// What each line must hold.
const EXPECTED: [(&str, &str); 33] = [
    ("plain", "200"),
    ("tls", "b'secret of the host'"),
    ("loopback of the host", "ConnectionRefusedError"),
    ("loopback of the host, IPv6", "failed"),
    ("all addresses", "ConnectionRefusedError"),
    ("metadata", "Network is unreachable"),
    ("outside", "Network is unreachable"),
    ("outside, IPv6", "failed"),
    ("name server", "Network is unreachable"),
    ("name server, IPv6", "failed"),
    ("names", "gaierror"),
    ("raw", "PermissionError"),
    ("packets", "PermissionError"),
    ("abstract socket", "ConnectionRefusedError"),
    ("another socket", "FileNotFoundError"),
    ("the proxy by its path on the host", "FileNotFoundError"),
    ("another host", "403 patchwright refused: the host is not on the list"),
    ("another port", "403 patchwright refused: the host is not on the list"),
    ("another port, tunnel", "403 patchwright refused: the host is not on the list"),
    ("an address", "403 patchwright refused: the host is not on the list"),
    ("localhost", "403 patchwright refused: the host is not on the list"),
    ("metadata by address", "403 patchwright refused: the host is not on the list"),
    ("metadata by name", "which is a cloud metadata address"),
    ("private by name", "which is a private address"),
    ("loopback by name", "which is a loopback address"),
    ("mapped by name", "which is a loopback address"),
    ("rebinding, first", "502"),
    ("rebinding, second", "which is a loopback address"),
    ("its own name", "TLSv1"),
    ("another name", "failed SSL"),
    ("no name", "failed SSL"),
    ("no TLS", "15030300020231"),
    ("the relay among the processes", ""),
];

/// Rules with the networks that are opened for them, and names with their addresses.
fn access(rules: &[(&str, &[&str])], names: &[(&str, &[&str])]) -> Access {
    let names: BTreeMap<String, Vec<IpAddr>> = names
        .iter()
        .map(|(name, found)| ((*name).to_owned(), found.iter().map(|address| address.parse().unwrap()).collect()))
        .collect();
    let lookups = AtomicUsize::new(0);
    let find = move |name: &str| match name {
        // Another address each time it is asked for; the first is opened, and nobody is there.
        "rebind.test" if lookups.fetch_add(1, Ordering::SeqCst) == 0 => vec!["127.99.99.99".parse().unwrap()],
        "rebind.test" => vec![LOOPBACK],
        name => names.get(name).cloned().unwrap_or_default(),
    };
    Access {
        setup: rules.iter().map(|(rule, at)| Rule::parse_private(rule, at).unwrap()).collect::<Allowlist>(),
        resolver: Resolver::Function(Arc::new(find)),
        temporary: std::env::temp_dir(),
        ..Access::none()
    }
}

/// A host that speaks TLS, with a certificate of its own authority; and that authority, as PEM.
async fn tls_origin() -> (u16, String, tokio::task::JoinHandle<()>) {
    let certified = rcgen::generate_simple_self_signed(["allowed.test".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = tokio::net::TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.read(&mut [0u8; 4096]).await;
                let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 18\r\n\r\nsecret of the host";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (port, certified.cert.pem(), task)
}

fn notes() -> (Events, Arc<Mutex<Vec<String>>>) {
    let kept: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = kept.clone();
    let events = Events::new(move |event| {
        if let Event::Note { text } = event {
            sink.lock().unwrap().push(text.clone());
        }
    });
    (events, kept)
}

/// The setup phase's way out, which must be had.
fn open(access: &Access, backend: &Backend, events: &Events) -> Passage {
    access.open(Phase::Setup, backend, events).unwrap().expect("the backend reaches no proxy")
}

async fn boxed(backend: &Backend, tree: &Path, passage: &Passage) -> Box<dyn Sandbox> {
    backend.open(&Surroundings { network: passage.network(), ..Surroundings::of(tree) }).await.unwrap()
}

fn socket_of(passage: &Passage) -> String {
    match passage.network() {
        Network::Proxy(path) => path.to_str().unwrap().to_owned(),
        Network::Off => unreachable!(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_reach_what_is_allowed_and_nothing_else() {
    for (choice, backend) in all_backends().await {
        let origin = Origin::start(OK).await;
        let (tls, authority, served) = tls_origin().await;
        let folder = tempfile::tempdir().unwrap();
        let service = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let port = service.local_addr().unwrap().port();
        let other = folder.path().join(format!("other-{}", std::process::id()));
        let _other = UnixListener::bind(&other).unwrap();
        let rules =
            ["allowed.test", "metadata.test", "private.test"].map(|name| format!("{name}:{}", origin.port)).to_vec();
        let more = [format!("allowed.test:{tls}"), format!("rebind.test:{port}")];
        let loops = ["loop.test", "mapped.test"].map(|name| format!("{name}:{port}"));
        let mut access = access(
            &[
                (rules[0].as_str(), &["127.0.0.1"]),
                (&rules[1], &["169.254.0.0/16"]),
                (&rules[2], &[]),
                (&more[0], &["127.0.0.1"]),
                (&more[1], &["127.99.99.99"]),
                (&loops[0], &[]),
                (&loops[1], &[]),
            ],
            &[
                ("allowed.test", &["127.0.0.1"]),
                ("other.test", &["127.0.0.1"]),
                ("localhost", &["127.0.0.1"]),
                ("metadata.test", &["169.254.169.254"]),
                ("private.test", &["10.9.8.7"]),
                ("loop.test", &["127.0.0.1"]),
                ("mapped.test", &["::ffff:127.0.0.1"]),
            ],
        );
        access.certificates = vec![folder.path().join("authority.pem")];
        std::fs::write(&access.certificates[0], authority).unwrap();
        let (events, noted) = notes();
        let passage = open(&access, &backend, &events);
        let tree = folder.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("probe.py"), PROBE).unwrap();
        let sandbox = boxed(&backend, &tree, &passage).await;
        let line = format!("python3 probe.py {} {tls} {port} {} {}", origin.port, socket_of(&passage), other.display());
        let printed = text(&sandbox.run(&command(&line)).await.unwrap());
        sandbox.close().await.unwrap();

        let lines: BTreeMap<&str, &str> = printed.lines().filter_map(|line| line.split_once(" =>")).collect();
        let wrong: Vec<&str> = EXPECTED
            .iter()
            .filter(|(name, expected)| !lines.get(name).is_some_and(|line| line.contains(expected)))
            .map(|(name, _)| *name)
            .collect();
        assert!(wrong.is_empty() && !printed.contains("CANARY"), "{choice:?}: {wrong:?}\n{printed}");
        if choice == Choice::Namespace {
            assert_eq!(lines["the relay among the processes"].trim(), "[]");
        }
        assert!(service.set_nonblocking(true).is_ok() && service.accept().is_err(), "{choice:?}: it was reached");

        let refused = passage.close().await;
        let other = refused.iter().find(|host| host.host == "other.test").unwrap();
        assert_eq!(other.reason, Reason::NotListed);
        let line = format!("network.allow = [\"other.test:{}\"]", origin.port);
        assert_eq!(other.remedy.as_deref(), Some(line.as_str()));
        assert!(noted.lock().unwrap().iter().any(|note| note.starts_with("refused ")), "{noted:?}");
        served.abort();
    }
}

const FETCH: &str = "python3 -c \"
import sys, urllib.request
print('answer', urllib.request.urlopen(sys.argv[1], timeout=10).status)\"";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_inside_ends_the_relay() {
    for (choice, backend) in all_backends().await {
        let origin = Origin::start(OK).await;
        let rule = format!("allowed.test:{}", origin.port);
        let passage =
            open(&access(&[(&rule, &["127.0.0.1"])], &[("allowed.test", &["127.0.0.1"])]), &backend, &Events::none());
        let tree = tempfile::tempdir().unwrap();
        let sandbox = boxed(&backend, tree.path(), &passage).await;
        let fetch = format!("{FETCH} http://allowed.test:{}/", origin.port);
        let kill = "kill -9 -1; for p in /proc/[0-9]*; do p=${p#/proc/}; test $p = $$ || kill -9 $p; done 2>/dev/null";
        let printed = text(&sandbox.run(&command(&format!("{kill}; {fetch}"))).await.unwrap());
        if choice == Choice::Namespace {
            assert!(printed.contains("answer 200"), "{printed}");
        }
        let output = sandbox.run(&command(&fetch)).await.unwrap();
        assert!(text(&output).contains("answer 200"), "{choice:?}: {}", text(&output));
        sandbox.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_boxes_have_two_ways_out() {
    for (choice, backend) in all_backends().await {
        let origin = Origin::start(OK).await;
        let tree = tempfile::tempdir().unwrap();
        let names: &[(&str, &[&str])] = &[("one.test", &["127.0.0.1"]), ("two.test", &["127.0.0.1"])];
        let way = |name: &str| {
            let rule = format!("{name}:{}", origin.port);
            open(&access(&[(&rule, &["127.0.0.1"])], names), &backend, &Events::none())
        };
        let ways = [way("one.test"), way("two.test")];
        let line = ["one", "two"].map(|name| format!("{FETCH} http://{name}.test:{}/ 2>&1 | tail -n 1", origin.port));
        let line = command(&line.join("; "));
        let boxes = [boxed(&backend, tree.path(), &ways[0]).await, boxed(&backend, tree.path(), &ways[1]).await];
        let (first, second) = tokio::join!(boxes[0].run(&line), boxes[1].run(&line));
        let (first, second) = (text(&first.unwrap()), text(&second.unwrap()));
        assert!(first.starts_with("answer 200") && first.contains("403"), "{choice:?}: {first}");
        assert!(second.ends_with("answer 200\n") && second.contains("403"), "{choice:?}: {second}");
        for sandbox in boxes {
            sandbox.close().await.unwrap();
        }
    }
}

/// The helpers of boxes among the descendants of a process; a box's relay is in its helper.
fn helpers_below(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().map(|child| child.parse::<u32>().unwrap()));
        }
    }
    let helpers = alive("sandbox-helper");
    found.retain(|pid| helpers.contains(pid));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_relay_outlives_its_box() {
    let Some(backend) = super::super::backend(&settings(Choice::Namespace)).await else { return };
    let passage = open(&access(&[("allowed.test", &[])], &[]), &backend, &Events::none());
    let socket = socket_of(&passage);
    for kill in [true, false] {
        let tree = tempfile::tempdir().unwrap();
        let (started, go_on) = (tree.path().join("started"), tree.path().join("go on"));
        let line = "touch started; while ! test -e 'go on'; do sleep 0.01; done";
        let variables = [("PATCHWRIGHT_TEST_CHILD_PROXY", socket.as_str())];
        let mut process = child_process(Choice::Namespace, tree.path(), line, &variables).spawn().unwrap();
        until("the command runs", || started.exists()).await;
        let helpers = helpers_below(process.id().unwrap());
        if !std::path::Path::new("/proc/self/task").join(std::process::id().to_string()).join("children").exists() {
            return skipped("the kernel does not tell a process's children");
        }
        assert!(!helpers.is_empty());
        if kill {
            process.start_kill().unwrap();
        } else {
            std::fs::write(&go_on, "").unwrap();
        }
        let status = process.wait().await.unwrap();
        assert_eq!(status.success(), !kill);
        until("the relay is gone", || !alive("sandbox-helper").iter().any(|pid| helpers.contains(pid))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_are_told_whether_there_is_a_network() {
    for (choice, backend) in all_backends().await {
        let tree = tempfile::tempdir().unwrap();
        let (events, noted) = notes();
        // Nothing is allowed: no way out is opened.
        assert!(Access::none().open(Phase::Setup, &backend, &events).unwrap().is_none());
        let mut access = access(&[("allowed.test", &[])], &[]);
        assert!(access.open(Phase::Agent, &backend, &events).unwrap().is_none());
        assert!(noted.lock().unwrap().is_empty());
        let authorities = tempfile::tempdir().unwrap();
        access.certificates = vec![authorities.path().join("system.pem"), authorities.path().join("own.pem")];
        let block = |text: &str| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        std::fs::write(
            &access.certificates[0],
            [b"# Autorit\xe9\n", block("first").as_bytes(), block("second").as_bytes()].concat(),
        )
        .unwrap();
        let key = "-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----\n";
        std::fs::write(&access.certificates[1], format!("CANARY\n{}{key}{}", block("second"), block("third"))).unwrap();
        let passage = open(&access, &backend, &events);
        let offline = ["CARGO_NET_OFFLINE=true", "GOPROXY=off", "npm_config_offline=true", "PIP_RETRIES=0"];
        let online = [
            "HTTPS_PROXY=http://127.0.0.1:3128",
            "http_proxy=http://127.0.0.1:3128",
            "NO_PROXY=localhost,127.0.0.1,::1",
            "NODE_USE_ENV_PROXY=1",
            "-Dhttps.proxyPort=3128",
            "SSL_CERT_FILE=/.patchwright/egress/certificates.pem",
            "NODE_EXTRA_CA_CERTS=",
            "GOPROXY=https://proxy.golang.org",
        ];
        for (network, told, untold) in
            [(passage.network(), &online[..], &offline[..]), (Network::Off, &offline[..], &online[..])]
        {
            let is_on = network != Network::Off;
            let surroundings = Surroundings { network, ..Surroundings::of(tree.path()) };
            let sandbox = backend.open(&surroundings).await.unwrap();
            let output = sandbox.run(&command("env; cat \"$SSL_CERT_FILE\"; echo")).await.unwrap();
            let printed = text(&output);
            assert!(told.iter().all(|variable| printed.contains(variable)), "{choice:?}: {printed}");
            assert!(!untold.iter().any(|variable| printed.contains(variable)), "{choice:?}: {printed}");
            let shown = ["first", "second", "third"].map(|text| printed.matches(&block(text)).count());
            assert_eq!(shown, [usize::from(is_on); 3], "{choice:?}: {printed}");
            assert!(!printed.contains("CANARY"), "{choice:?}: {printed}");
            assert_eq!(output.ending, Ending::Exited(0));
            // What is shown of the passage is read-only.
            let output = sandbox.run(&command("echo x > /.patchwright/egress/x; echo x > \"$SSL_CERT_FILE\"")).await;
            assert_ne!(output.unwrap().ending, Ending::Exited(0), "{choice:?}");
            sandbox.close().await.unwrap();
        }
        assert_eq!(passage.bytes(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_runs_in_an_image_with_a_shell_alone() {
    let mut settings = settings(Choice::Container);
    settings.image = Some("patchwright-bare:latest".into());
    let Some(backend) = super::super::backend(&settings).await else { return };
    assert_eq!(backend.why_no_network(), None);
    let origin = Origin::start(OK).await;
    let rule = format!("allowed.test:{}", origin.port);
    let access = access(&[(&rule, &["127.0.0.1"])], &[("allowed.test", &["127.0.0.1"])]);
    let passage = open(&access, &backend, &Events::none());
    let tree = tempfile::tempdir().unwrap();
    let sandbox = boxed(&backend, tree.path(), &passage).await;
    let line = format!("wget -q -O - http://allowed.test:{}/", origin.port);
    let output = sandbox.run(&command(&line)).await.unwrap();
    assert_eq!((output.ending, text(&output).as_str()), (Ending::Exited(0), "ok"));
    sandbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_relay_runs_the_network_stays_off_and_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/bin/sh\n".repeat(20)).unwrap();
    for (helper, reason) in
        [(which::which("true").unwrap(), "the relay to the egress proxy does not run in it"), (script, "no 64-bit")]
    {
        let mut settings = settings(Choice::Container);
        settings.helper = helper;
        let Some(backend) = super::super::backend(&settings).await else { return };
        let (events, noted) = notes();
        let access = access(&[("allowed.test", &[])], &[]);
        assert!(access.open(Phase::Setup, &backend, &events).unwrap().is_none());
        let said = noted.lock().unwrap().join("\n");
        assert!(said.starts_with("the network stays off: ") && said.contains(reason), "{said}");
        let network = Network::Proxy(folder.path().join("proxy"));
        let opened = backend.open(&Surroundings { network, ..Surroundings::of(folder.path()) }).await;
        assert!(matches!(opened, Err(SandboxError::Unavailable { .. })));
        // The rest works.
        let sandbox = backend.open(&Surroundings::of(folder.path())).await.unwrap();
        assert_eq!(text(&sandbox.run(&command("echo works")).await.unwrap()), "works\n");
        sandbox.close().await.unwrap();
    }
}

/// Asks the package registries that the operator's machine reaches, with the access of an empty configuration:
/// `cargo test --test it registries_are_reached -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks package registries"]
async fn registries_are_reached() {
    let environment = Environment::read();
    let sources = network::package_sources(&ConfigFile::default(), &environment);
    let config = network::resolve(&ConfigFile::default(), &environment, &sources, std::env::temp_dir()).unwrap();
    let access = config.access(None).unwrap();
    let ask = |url: &str| {
        ("python3", format!("python3 -c \"import urllib.request as u; print(u.urlopen('{url}', timeout=60).status)\""))
    };
    let lines = [
        ask("https://index.crates.io/it/oa/itoa"),
        ask("https://pypi.org/simple/six/"),
        ask("https://registry.npmjs.org/is-number"),
        ask("https://example.org/"),
        ("cargo", "cd c && CARGO_HOME=/tmp/c cargo fetch".into()),
        ("npm", "cd n && npm install --package-lock-only && npm ci --cache /tmp/n && ls node_modules".into()),
        ("pip", "pip download --no-cache-dir -d /tmp/p six".into()),
    ];
    for (choice, backend) in all_backends_with(|settings| {
        settings.limits.memory_bytes = 1 << 30;
        settings.limits.file_size_bytes = 1 << 30;
        settings.sources = sources.clone();
    })
    .await
    {
        let passage = open(&access, &backend, &Events::new(|event| println!("{event:?}")));
        let tree = tempfile::tempdir().unwrap();
        for (path, contents) in [
            ("c/Cargo.toml", "[package]\nname = \"a\"\nversion = \"0.1.0\"\n[dependencies]\nitoa = \"1\"\n"),
            ("c/src/lib.rs", ""),
            ("n/package.json", "{\"dependencies\": {\"is-number\": \"7.0.0\"}}"),
        ] {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, contents).unwrap();
        }
        let sandbox = boxed(&backend, tree.path(), &passage).await;
        for (program, line) in &lines {
            let line = format!("command -v {program} >/dev/null || {{ echo 'not there'; exit 0; }}; {line}");
            let output = sandbox.run(&command(&line)).await.unwrap();
            println!("{choice:?} {program}: {:?} in {:?}\n{}", output.ending, output.duration, text(&output));
        }
        sandbox.close().await.unwrap();
        println!("{} bytes; {:?}", passage.bytes(), passage.close().await);
    }
}
