//! Tries each defence of a box from inside: what must fail is attempted, and what came of it is judged here.
//!
//! Of the box's image nothing is needed but a shell: the rest is done by the programs of [`attempt`].

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::{NamedTempFile, TempDir};

use super::level::{Defence, Finding, Standing};
use super::{Command, Ending, Limits, Output, Sandbox, SandboxError, attempt};

/// Where a folder may stand that the mounts would let anybody write to, and landlock does not.
pub const TRIPWIRE: &str = "/.patchwright/tripwire";

/// A file that the attempts make in the folder.
pub const WRITTEN: &str = "written";

/// Processes that one attempt starts at most.
const MANY: u32 = 96;

/// How long one attempt may take.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(20);

/// Prints `NAME VALUE` lines about what the shell sees and can write, and ends by starting processes. Of the host it is
/// told a process and a file.
const QUESTIONS: &str = r#"
while read -r key value rest; do case $key in Uid:|NoNewPrivs:|CapEff:|CapPrm:) echo "$key $value";; esac; done </proc/self/status
while read -r inside outside count; do echo "map $inside $outside $count"; done </proc/self/uid_map
read -r version </proc/version && echo "version $version"
read -r boot </proc/sys/kernel/random/boot_id && echo "boot $boot"
read -r process 2>/dev/null <"/proc/$process_of_host/stat" && echo "process $process"
test -e "$file_of_host" && echo "file seen"
for folder in / /etc /usr /bin /proc/sys/kernel; do
    (: >"$folder/.patchwright-probe") 2>/dev/null && echo "wrote $folder"
done
(: >/tmp/.patchwright-probe && : >"$HOME/.patchwright-probe" && : >written) && echo "writable yes"
if test -d "$tripwire"; then echo "tripwire there"; (: >"$tripwire/x") 2>/dev/null && echo "tripped yes"; fi
./calls; echo "calls $?"
./connections; echo "connections $?"
exec ./processes
"#;

/// The memory limit in bytes of a box in which limits are tried, where control groups keep it: what is taken there costs most
/// of the trial's time.
pub const SMALL: u32 = 32 << 20;
/// The same where it is kept by watching, which counts our own program too, or where a container's runtime may need some.
pub const ROOMY: u32 = 64 << 20;

/// Of a box in which limits are tried.
pub fn limits(usual: &Limits, memory: u32) -> Limits {
    Limits { memory_bytes: u64::from(memory), processes: 48, ..usual.clone() }
}

/// What is taken in a box with this limit: less than twice as much, which is where allocations fail by themselves if a
/// limit is kept by watching.
fn taken(memory: u32) -> u32 {
    memory / 2 * 3
}

/// What a backend knows of itself, besides what is tried.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Who keeps the limits, if it is control groups.
    pub cgroup: Option<String>,
    /// The version of landlock, or why there is none.
    pub landlock: String,
    /// Whose filter of system calls it is, or why there is none.
    pub seccomp: String,
    /// The user outside.
    pub user: u32,
    /// The engine's runtime, if the operator named one.
    pub runtime: Option<String>,
    /// The version of the host's kernel, by the engine's word; empty: it does not tell. `None`: the host is this machine.
    pub kernel: Option<String>,
}

/// What a box is tried with: programs in a folder that it is put around, and on this machine a port and a file that it
/// must not reach.
pub struct Kit {
    folder: TempDir,
    memory: u32,
    secret: NamedTempFile,
    _listener: TcpListener,
}

impl Kit {
    /// Makes all of it, for any number of boxes with this memory limit; in `place`, if it is there.
    pub fn new(place: Option<&Path>, memory: u32) -> Result<Self, SandboxError> {
        let place = place.filter(|place| place.is_dir());
        let folder = place
            .map_or_else(tempfile::tempdir, tempfile::tempdir_in)
            .map_err(|error| broken("create a temporary folder", &error))?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| broken("listen on the loopback", &error))?;
        let port = listener.local_addr().map_err(|error| broken("listen on the loopback", &error))?.port();
        let programs = [
            ("calls", attempt::forbidden_calls()),
            ("connections", attempt::connections(port)),
            ("processes", attempt::processes(MANY)),
            ("memory", attempt::memory(taken(memory))),
        ];
        for (name, program) in programs {
            let program = program.ok_or_else(|| SandboxError::Unavailable {
                reason: format!("a sandbox cannot be tried on {}", std::env::consts::ARCH),
                remedy: "Use a machine with x86-64 or AArch64".into(),
            })?;
            let path = folder.path().join(name);
            std::fs::write(&path, program)
                .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)))
                .map_err(|error| broken("write the sandbox's probe", &error))?;
        }
        let secret = NamedTempFile::new().map_err(|error| broken("create a temporary file", &error))?;
        Ok(Self { folder, memory, secret, _listener: listener })
    }

    /// Of a box that it is meant for.
    pub fn limits(&self, usual: &Limits) -> Limits {
        limits(usual, self.memory)
    }

    /// The folder that a box is to be put around.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Tries everything around the folder, memory in a box of its own: two commands at the same time, where the two are
    /// not one that can do only one.
    pub async fn examine(
        &self,
        sandbox: &dyn Sandbox,
        filled: &dyn Sandbox,
        known: &Known,
    ) -> Result<Standing, SandboxError> {
        let environment = BTreeMap::from([
            ("process_of_host".to_owned(), std::process::id().to_string()),
            ("file_of_host".to_owned(), self.secret.path().display().to_string()),
            ("tripwire".to_owned(), TRIPWIRE.to_owned()),
        ]);
        let (asked, memory) =
            tokio::join!(run(sandbox, QUESTIONS, environment), run(filled, "exec ./memory", BTreeMap::new()));
        let asked = asked?;
        let answers = Answers::read(&asked)?;
        Ok(Standing { findings: judge(&answers, memory?.ending, asked.ending, known) })
    }
}

async fn run(sandbox: &dyn Sandbox, line: &str, environment: BTreeMap<String, String>) -> Result<Output, SandboxError> {
    let command = Command { line: line.into(), directory: PathBuf::new(), environment, timeout: ATTEMPT_LIMIT };
    sandbox.run(&command).await
}

/// What [`QUESTIONS`] printed.
struct Answers(Vec<(String, String)>);

impl Answers {
    fn read(output: &Output) -> Result<Self, SandboxError> {
        let text = String::from_utf8_lossy(&output.head).into_owned();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let answers = Self(lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect());
        match answers.get("writable") {
            Some(_) => Ok(answers),
            None => Err(SandboxError::Unavailable {
                reason: format!(
                    "the working tree, /tmp or the home cannot be written inside ({:?}: {})",
                    output.ending,
                    text.trim()
                ),
                remedy: "The image needs /bin/sh, and must have no volume at these places".into(),
            }),
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    /// The exit code of an attempt, or why it could not be made.
    fn attempt(&self, name: &str) -> Result<i32, String> {
        match self.get(name).and_then(|code| code.parse().ok()) {
            Some(code @ 0..100) => Ok(code),
            Some(code) => Err(format!("the attempt could not be made: exit code {code}")),
            None => Err("the attempt could not be made".into()),
        }
    }
}

fn judge(answers: &Answers, memory: Ending, processes: Ending, known: &Known) -> Vec<Finding> {
    let finding = |defence, holds, detail: String| Finding { defence, holds, detail };
    let wrote = answers.0.iter().filter(|(key, _)| key == "wrote").map(|(_, place)| place.as_str());
    let wrote: Vec<&str> = wrote.collect();
    let own_process = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let sees_us = answers.get("process").is_some_and(|seen| start_of(seen) == start_of(&own_process));
    let (by_group, memory_detail) = memory_kept(memory, known);
    let (privileges, privileges_detail) = privileges(answers);
    vec![
        finding(Defence::Files, answers.get("file").is_none(), String::new()),
        finding(Defence::Processes, !sees_us, String::new()),
        attempted(Defence::Network, answers.attempt("connections"), |code| match code {
            1 => "a route to the outside exists",
            _ => "the host's loopback is reached",
        }),
        finding(Defence::Memory, is_bounded(memory), memory_detail),
        finding(Defence::ProcessCount, kept_processes(processes), String::new()),
        finding(Defence::NoPrivileges, privileges, privileges_detail),
        finding(Defence::ReadOnlyRoot, wrote.is_empty(), wrote.join(" ")),
        match attempted(Defence::Seccomp, answers.attempt("calls"), |_| "a system call that must be refused is not") {
            refused if refused.holds => Finding { detail: known.seccomp.clone(), ..refused },
            open if known.seccomp.is_empty() => open,
            open => Finding { detail: format!("{}; {}", open.detail, known.seccomp), ..open },
        },
        finding(
            Defence::Landlock,
            answers.get("tripwire").is_some() && answers.get("tripped").is_none(),
            known.landlock.clone(),
        ),
        unless(
            Defence::UserNamespace,
            answers.get("map").is_some_and(|map| map.split_whitespace().ne(["0", "0", "4294967295"])),
            "its users are the host's",
        ),
        unless(Defence::NotRootOutside, known.user != 0, "run Patchwright as an ordinary user"),
        finding(Defence::Cgroup, by_group, known.cgroup.clone().unwrap_or_else(|| "none can be written".into())),
        own_kernel(answers, known),
    ]
}

/// A finding that needs words only where it does not hold.
fn unless(defence: Defence, holds: bool, otherwise: &str) -> Finding {
    Finding { defence, holds, detail: if holds { String::new() } else { otherwise.to_owned() } }
}

fn attempted(defence: Defence, code: Result<i32, String>, explain: impl Fn(i32) -> &'static str) -> Finding {
    let (holds, detail) = match code {
        Ok(attempt::ALL_REFUSED) => (true, String::new()),
        Ok(code) => (false, explain(code).to_owned()),
        Err(reason) => (false, reason),
    };
    Finding { defence, holds, detail }
}

/// Whether the attempt on memory did not get what it took.
fn is_bounded(ending: Ending) -> bool {
    match ending {
        Ending::OutOfMemory | Ending::Signalled(_) => true,
        Ending::Exited(code) => code == attempt::NO_ADDRESS,
        Ending::TimedOut | Ending::OutOfDisk => false,
    }
}

/// Whether a control group ended the attempt on memory, and who kept it.
fn memory_kept(ending: Ending, known: &Known) -> (bool, String) {
    match (ending, &known.cgroup) {
        (Ending::OutOfMemory, Some(keeper)) => (true, keeper.clone()),
        (Ending::OutOfMemory, None) => (false, "by watching".into()),
        (Ending::Exited(attempt::ALL_TAKEN) | Ending::TimedOut, _) => {
            (false, "a command took far more than its limit".into())
        }
        (Ending::Exited(attempt::NO_ADDRESS) | Ending::Signalled(_), _) => (false, "of each process alone".into()),
        (Ending::Exited(code), _) => (false, format!("the attempt could not be made: exit code {code}")),
        (Ending::OutOfDisk, _) => (false, "the attempt could not be made".into()),
    }
}

/// The attempt ends well if a process was refused; the whole may also have been killed for it.
fn kept_processes(ending: Ending) -> bool {
    match ending {
        Ending::Exited(code) => code == attempt::ALL_REFUSED,
        Ending::Signalled(_) => true,
        Ending::TimedOut | Ending::OutOfMemory | Ending::OutOfDisk => false,
    }
}

fn privileges(answers: &Answers) -> (bool, String) {
    let no_capabilities = |key| answers.get(key).is_some_and(|set| set.chars().all(|digit| digit == '0'));
    let missing: Vec<&str> = [
        (answers.get("Uid:").is_some_and(|user| user != "0"), "it is root"),
        (no_capabilities("CapEff:") && no_capabilities("CapPrm:"), "it has capabilities"),
        (answers.get("NoNewPrivs:") == Some("1"), "it can gain privileges"),
    ]
    .into_iter()
    .filter_map(|(holds, otherwise)| (!holds).then_some(otherwise))
    .collect();
    (missing.is_empty(), missing.join(", "))
}

fn own_kernel(answers: &Answers, known: &Known) -> Finding {
    let host = |file: &str| std::fs::read_to_string(file).unwrap_or_default().trim().to_owned();
    let other = |key: &str, file: &str| answers.get(key).is_none_or(|inside| inside != host(file));
    let holds = match &known.kernel {
        None => other("version", "/proc/version") && other("boot", "/proc/sys/kernel/random/boot_id"),
        Some(kernel) => {
            !kernel.is_empty() && answers.get("version").is_some_and(|inside| !inside.contains(kernel.as_str()))
        }
    };
    let detail = match &known.runtime {
        Some(runtime) if holds => format!("runtime {runtime}"),
        Some(runtime) => format!("the runtime {runtime} uses the host's"),
        None => "the host's".into(),
    };
    // Who asked for no other kernel has none: a strange answer is none.
    Finding { defence: Defence::OwnKernel, holds: holds && known.runtime.is_some(), detail }
}

/// When a process started, from the text of its `stat`: with its number, never used twice.
fn start_of(stat: &str) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)
}

fn broken(what: &str, error: &std::io::Error) -> SandboxError {
    SandboxError::Broken(format!("cannot {what}: {error}"))
}
