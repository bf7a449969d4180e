//! PostgreSQL for the tests: one server for the process, in a folder of its own that goes with the process, as another
//! user where this one is root; a database for each test.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;

/// Where Debian has them, a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
const LIMIT: Duration = Duration::from_secs(30);
/// For tests: nothing is waited for.
pub const FAST: [&str; 3] = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"];
/// Makes the cluster, runs the server until standard input ends, as it does with the process that has the other end, and
/// removes it all.
const LIFE: &str = r#"
"$1/initdb" -D "$2/data" -U patchwright --auth=trust --encoding=UTF8 --no-locale --no-sync >"$2/initdb.log" 2>&1 || exit 1
"$1/postgres" -D "$2/data" -p "$3" -k "$2" -c "$4" -c "$5" -c "$6" -c listen_addresses=127.0.0.1 -c max_connections=300 \
  -c ssl=on -c ssl_cert_file="$2/server.pem" -c ssl_key_file="$2/server.key" \
  -c shared_buffers=32MB -c log_line_prefix='%d %p ' \
  >"$2/log" 2>&1 &
server=$!
cat >/dev/null
kill -QUIT $server
wait $server
rm -rf "$2"
"#;

pub struct Server {
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
    process: Child,
}

static SERVER: OnceCell<Option<Server>> = OnceCell::const_new();

impl Server {
    /// The one of this process; `None`: it is not installed here.
    pub async fn get() -> Option<&'static Self> {
        let server = SERVER.get_or_init(|| Self::start(&FAST)).await.as_ref();
        if server.is_none() {
            eprintln!("SKIPPED: there is no initdb in {VERSIONS}/*/bin");
            assert!(std::env::var_os("PATCHWRIGHT_TEST_REQUIRE_ALL").is_none(), "PostgreSQL is not installed");
        }
        server
    }

    /// One that is the caller's own.
    pub async fn start(settings: &[&str; 3]) -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("patchwright-postgres-").tempdir().unwrap().keep();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        certify(&folder);
        let process = begin(&programs, &folder, port, settings);
        let mut server = Self { folder, port, databases: AtomicU32::new(0), process };
        let begun = Instant::now();
        while let Err(error) = server.connect("postgres").await {
            let may_come = matches!(error, sqlx::Error::Io(_) | sqlx::Error::Database(_));
            assert!(may_come && begun.elapsed() < LIMIT, "{error}\n{}", server.log());
            assert!(server.process.try_wait().unwrap().is_none(), "{}", server.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(server)
    }

    /// Makes an empty database.
    pub async fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::SeqCst));
        self.run("postgres", &format!("CREATE DATABASE {name}")).await;
        name
    }

    pub async fn remove(&self, database: &str) {
        self.run("postgres", &format!("DROP DATABASE {database} WITH (FORCE)")).await;
    }

    /// Statements of the test's own.
    pub async fn run(&self, database: &str, statements: &str) {
        let mut connection = self.connect(database).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    pub async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect(&self.address(database)).await
    }

    /// By the socket.
    pub fn address(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&port={}&user=patchwright", self.folder.display(), self.port)
    }

    /// By the network, on this machine.
    pub fn address_by(&self, host: &str, database: &str) -> String {
        format!("postgres://patchwright@{host}:{}/{database}", self.port)
    }

    /// Of whoever has signed its certificate, which is for `localhost` alone.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// What the server has written, and what is wrong with its folder.
    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        read("initdb.log") + &read("log")
    }
}

/// The folder of the newest version.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).ok()?;
    let folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    let mut folders: Vec<PathBuf> = folders.filter(|folder| folder.join("initdb").exists()).collect();
    folders.sort();
    folders.pop()
}

fn begin(programs: &Path, folder: &Path, port: u16, settings: &[&str; 3]) -> Child {
    let is_root = rustix::process::geteuid().is_root();
    let (user, group) = if is_root { other_user() } else { (0, 0) };
    let mut command = if is_root { Command::new("setpriv") } else { Command::new("sh") };
    if is_root {
        for entry in std::fs::read_dir(folder).unwrap() {
            chown(entry.unwrap().path(), Some(user), Some(group)).unwrap();
        }
        chown(folder, Some(user), Some(group)).unwrap();
        command.args([format!("--reuid={user}"), format!("--regid={group}")]).args(["--clear-groups", "sh"]);
    }
    command.args(["-c", LIFE, "postgres-for-tests"]).arg(programs).arg(folder).arg(port.to_string()).args(settings);
    command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// The server's own user, else nobody.
fn other_user() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |name: &str| {
        let fields: Vec<&str> = users.lines().map(str::trim).find(|line| line.starts_with(name))?.split(':').collect();
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    of("postgres:").or_else(|| of("nobody:")).unwrap_or((65_534, 65_534))
}

/// An authority, and the server's certificate by it.
fn certify(folder: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(folder.join("authority.pem"), parameters.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(parameters, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    std::fs::write(folder.join("server.pem"), parameters.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    let file = folder.join("server.key");
    std::fs::write(&file, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
}
