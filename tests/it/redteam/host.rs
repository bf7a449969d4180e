//! The host of one scene: an operator's home full of secrets, and traps that tell if anything of the sandbox's came out.

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::door::{self, Door};
use super::{Backend, binary};

pub struct Host {
    root: tempfile::TempDir,
    /// Twelve hexadecimal digits that all secrets of this scene hold.
    pub nonce: String,
    tcp: TcpListener,
    tcp6: Option<TcpListener>,
    udp: UdpSocket,
    sockets: Vec<UnixListener>,
    abstract_name: String,
    victim: Child,
    door: Door,
    outside: BTreeMap<PathBuf, Vec<u8>>,
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may be what the attack killed.
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

impl Host {
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("redteam-").tempdir().unwrap();
        let nonce = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let path = root.path().canonicalize().unwrap();
        for folder in ["home", "outside/empty", "scenario/repo", "outside/git"] {
            std::fs::create_dir_all(path.join(folder)).unwrap();
        }
        for name in ["", "outside", "outside/empty", "outside/git"] {
            std::fs::set_permissions(path.join(name), std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let abstract_name = format!("patchwright-redteam-{nonce}");
        let by_name = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let mut host = Self {
            nonce,
            tcp6: TcpListener::bind(("::1", port)).ok(),
            tcp,
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            sockets: vec![
                UnixListener::bind(path.join("outside/engine.sock")).unwrap(),
                UnixListener::bind_addr(&by_name).unwrap(),
            ],
            abstract_name,
            victim: Command::new("sleep").arg("100000").stdin(Stdio::null()).spawn().unwrap(),
            door: Door::open(),
            outside: BTreeMap::new(),
            root,
        };
        host.plant();
        host.outside = host.look_outside();
        host
    }

    /// Secrets in every place that tools keep them in.
    fn plant(&self) {
        let secret = |place: &str| self.canary(place);
        let outside = self.folder("outside");
        let ran = |name: &str| outside.join(name).display().to_string();
        let files = [
            ("home/.ssh/id_ed25519", format!("-----BEGIN OPENSSH KEY-----\n{}\n", secret("ssh"))),
            ("home/.netrc", format!("machine github.com login x password {}\n", secret("netrc"))),
            ("home/.git-credentials", format!("https://x:{}@github.com\n", secret("credentials"))),
            (
                "home/.gitconfig",
                format!(
                    "[trace2]\n\tnormalTarget = {}\n[core]\n\tfsmonitor = touch {}\n\thooksPath = {}\n[credential]\n\thelper = !touch {}\n[url \
                     \"http://x:{}@127.0.0.1/\"]\n\tinsteadOf = http://127.0.0.1/\n",
                    ran("ran-own-trace"),
                    ran("ran-own-fsmonitor"),
                    ran("git"),
                    ran("ran-own-helper"),
                    secret("gitconfig")
                ),
            ),
            ("home/.config/gh/hosts.yml", format!("github.com:\n  oauth_token: {}\n", secret("gh"))),
            ("home/.aws/credentials", format!("aws_secret_access_key = {}\n", secret("aws"))),
            ("home/.docker/config.json", format!("{{\"auths\": {{\"x\": {{\"auth\": \"{}\"}}}}}}", secret("docker"))),
            ("home/.npmrc", format!("//registry/:_authToken={}\n", secret("npm"))),
            ("home/.pypirc", format!("password = {}\n", secret("pypi"))),
            ("home/.kube/config", format!("token: {}\n", secret("kube"))),
            ("home/.bash_history", format!("export TOKEN={}\n", secret("history"))),
            ("home/.local/bin/.netrc", format!("password {}\n", secret("tools"))),
            ("home/.m2/settings.xml", format!("<password>{}</password>", secret("maven"))),
            ("home/.gradle/gradle.properties", format!("password={}\n", secret("gradle"))),
            ("outside/canary.txt", format!("{}\n", secret("outside"))),
        ];
        for (name, text) in files {
            let path = self.folder("").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        let program = self.folder("").join("runner");
        std::fs::write(&program, self.runner()).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Starts the real program as a careless operator's shell does: with a secret in the session's keyring, an open
    /// descriptor on another, and core dumps without a limit.
    fn runner(&self) -> String {
        let python = which::which("python3").unwrap();
        let numbers = if cfg!(target_arch = "x86_64") { (250, 248) } else { (219, 217) };
        format!(
            "#!{python}\nimport ctypes, os, resource, sys\nlibc = ctypes.CDLL(None)\nsecret = b'{secret}'\n\
             libc.syscall({keyctl}, 1, None)\nlibc.syscall({add_key}, b'user', b'patchwright-test', secret, \
             len(secret), ctypes.c_int(-3))\nresource.setrlimit(resource.RLIMIT_CORE, \
             (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)\nfile = os.open('{outside}/canary.txt', os.O_RDONLY)\n\
             os.dup2(file, 9)\nos.set_inheritable(9, True)\nif os.path.exists('{names}.so'):\n    \
             os.environ.update(LD_PRELOAD='{names}.so', REDTEAM_NAMES='{names}')\nos.execv('{binary}', ['{binary}'] + sys.argv[1:])\n",
            python = python.display(),
            secret = self.canary("keyring"),
            keyctl = numbers.0,
            add_key = numbers.1,
            outside = self.folder("outside").display(),
            names = self.folder("names").display(),
            binary = binary().display(),
        )
    }

    /// Has the machine's resolver answer for names: in turn, with spaces between the answers.
    pub fn teach(&self, names: &BTreeMap<String, String>) {
        door::teach(&self.folder(""), names);
    }

    /// The program to start: the real one, through [`Self::runner`].
    pub fn program(&self) -> PathBuf {
        self.folder("").join("runner")
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    fn canary(&self, place: &str) -> String {
        format!("pwcanary-{}-{place}", self.nonce)
    }

    /// The model's key: the one secret of the operator's that a scripted model can know.
    pub fn key(&self) -> String {
        self.canary("key")
    }

    /// What must be seen nowhere: what all secrets have in common, as it is and in disguise.
    pub fn secrets(&self) -> Vec<String> {
        let common = format!("pwcanary-{}", self.nonce);
        let mut found = vec![common.clone(), common.chars().rev().collect(), hex(&common), percent(&common)];
        found.push(hex(&common).to_uppercase());
        // However many bytes stand before it: the part of base64 that does not depend on its neighbours.
        for before in 0..3 {
            let encoded = STANDARD.encode(format!("{}{common}", "x".repeat(before)));
            let (from, to) = ((before * 8).div_ceil(6), encoded.trim_end_matches('=').len() - 2);
            found.push(encoded[from..to].to_owned());
        }
        found
    }

    pub fn fill(&self, text: &str) -> String {
        let key = self.key();
        let (first, second) = key.split_at(key.len() / 2);
        let values = [
            ("@OUTSIDE@", self.folder("outside").display().to_string()),
            ("@HOME@", self.folder("home").display().to_string()),
            ("@PORT@", self.tcp.local_addr().unwrap().port().to_string()),
            ("@DOOR@", self.door.port().to_string()),
            ("@UDP@", self.udp.local_addr().unwrap().port().to_string()),
            ("@ABSTRACT@", self.abstract_name.clone()),
            ("@VICTIM@", self.victim.id().to_string()),
            ("@SLEEP@", format!("1{:09}", self.victim.id())),
            ("@ENGINE@", std::env::var("PATCHWRIGHT_TEST_DOCKER_HOST").unwrap_or_default().replace("unix://", "")),
            ("@KEY@", key.clone()),
            ("@KEY_BASE64@", STANDARD.encode(&key)),
            ("@KEY_HEX@", hex(&key)),
            ("@KEY_URL@", percent(&key)),
            ("@KEY_FIRST@", first.to_owned()),
            ("@KEY_SECOND@", second.to_owned()),
            // Shapes of tokens, which must not stand in our own repository.
            ("@UPPER16@", ["Q7ZT5MKD", "W3XNA2LR"].concat()),
            ("@LETTERS36@", ["q7Zt5mKdW3xN", "a2LrV9bHc4Ge", "J8sPfY6uT1oX"].concat()),
            ("@WORD_KEY@", "KEY".to_owned()),
        ];
        values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// The operator's environment.
    pub fn environment(&self, backend: Backend) -> BTreeMap<String, String> {
        let port = self.tcp.local_addr().unwrap().port();
        let mut environment: BTreeMap<String, String> = [
            ("HOME", self.folder("home").display().to_string()),
            ("LLM_API_KEY", self.key()),
            ("AWS_SECRET_ACCESS_KEY", self.canary("environment")),
            ("NPM_TOKEN", self.canary("npm-token")),
            ("SSH_AUTH_SOCK", self.folder("outside/engine.sock").display().to_string()),
            ("HTTPS_PROXY", format!("http://operator:{}@127.0.0.1:{port}", self.canary("proxy"))),
            ("NO_PROXY", "127.0.0.1,localhost,.test".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if backend != Backend::Namespace {
            environment.insert("DOCKER_HOST".into(), std::env::var("PATCHWRIGHT_TEST_DOCKER_HOST").unwrap_or_default());
        }
        environment
    }

    /// Writes the operator's config; its path.
    pub fn config(&self, backend: Backend, more: &str) -> String {
        let mut table: toml::Table = more.parse().unwrap();
        let mut sandbox = match table.remove("sandbox") {
            Some(toml::Value::Table(sandbox)) => sandbox,
            _ => toml::Table::new(),
        };
        let image = std::env::var("PATCHWRIGHT_TEST_IMAGE").unwrap_or_else(|_| "patchwright-test:latest".into());
        match backend {
            Backend::Namespace => drop(sandbox.insert("backend".into(), "namespace".into())),
            Backend::Container | Backend::Remote => {
                if backend == Backend::Remote {
                    sandbox.insert("engine_files".into(), "sent".into());
                }
                sandbox.insert("backend".into(), "container".into());
                sandbox.insert("image".into(), image.into());
            }
        }
        let lines = |table: &toml::Table| -> String {
            table.iter().map(|(key, value)| format!("{key} = {}\n", in_one_line(value))).collect()
        };
        let mut text =
            format!("[sandbox]\n{}[model]\nprotocol = \"tools\"\n[github]\nwrite_spacing_ms = 0\n", lines(&sandbox));
        for (name, section) in &table {
            text.push_str(&format!("[{name}]\n{}", lines(section.as_table().unwrap())));
        }
        let path = self.folder("patchwright.toml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// What the traps caught.
    pub fn caught(&self) -> Vec<String> {
        let mut caught = Vec::new();
        for (name, listener) in [("127.0.0.1", Some(&self.tcp)), ("::1", self.tcp6.as_ref())] {
            let Some(listener) = listener else { continue };
            listener.set_nonblocking(true).unwrap();
            if listener.accept().is_ok() {
                caught.push(format!("something connected to the host's {name}"));
            }
        }
        let heard = self.door.heard();
        if let Some(at) = heard.windows(8).position(|window| window.eq_ignore_ascii_case(b"smuggled")) {
            let around = &heard[at.saturating_sub(200)..(at + 60).min(heard.len())];
            let around = String::from_utf8_lossy(around);
            caught.push(format!("the allowed host was sent a request that the proxy has not seen: {around:?}"));
        }
        self.udp.set_nonblocking(true).unwrap();
        if self.udp.recv(&mut [0; 64]).is_ok() {
            caught.push("something sent a datagram to the host".into());
        }
        for listener in &self.sockets {
            listener.set_nonblocking(true).unwrap();
            if listener.accept().is_ok() {
                caught.push(format!("something connected to {:?}", listener.local_addr().unwrap()));
            }
        }
        if std::fs::read_to_string(format!("/proc/{}/stat", self.victim.id())).is_ok_and(|stat| stat.contains(") Z"))
            || !Path::new(&format!("/proc/{}", self.victim.id())).exists()
        {
            caught.push("a process of the host was killed".into());
        }
        let now = self.look_outside();
        for path in now.keys().chain(self.outside.keys()) {
            if now.get(path) != self.outside.get(path) {
                caught.push(format!("{} was written", path.display()));
            }
        }
        caught
    }

    fn look_outside(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.folder("outside"), self.folder("home")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                match entry.file_type().unwrap() {
                    kind if kind.is_dir() => folders.push(entry.path()),
                    kind if kind.is_file() => {
                        drop(found.insert(entry.path(), std::fs::read(entry.path()).unwrap_or_default()))
                    }
                    _ => drop(found.insert(entry.path(), Vec::new())),
                }
            }
        }
        found
    }
}

/// A value as TOML. What JSON writes of plain ones, TOML reads.
fn in_one_line(value: &toml::Value) -> String {
    match value {
        toml::Value::Array(values) => format!("[{}]", values.iter().map(in_one_line).collect::<Vec<_>>().join(", ")),
        toml::Value::Table(table) => {
            let pairs = table.iter().map(|(key, value)| format!("{key} = {}", in_one_line(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        plain => serde_json::to_string(plain).unwrap(),
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Every byte as `%XX`.
fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
