//! How far a sandbox can be trusted: defences, each of which was tried, and the level that they come to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Levels, the weakest first. Each is defined by the defences that it [needs](Level::needs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// What runs inside sees neither the host's files and processes nor a network, and is bounded.
    Basic,
    /// Besides, it has no power inside, and reaches a part of the kernel only.
    Confined,
    /// Besides, a second wall stands behind each: landlock, a user namespace, control groups, an ordinary user.
    Hardened,
    /// It has a kernel of its own.
    Virtual,
}

/// What a sandbox can keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Defence {
    /// The host's files are not seen.
    Files,
    /// The host's processes are not seen.
    Processes,
    /// Neither the host's loopback nor a network is reached.
    Network,
    /// Memory is bounded.
    Memory,
    /// The number of processes is bounded.
    ProcessCount,
    /// Not root, no capabilities, and no way to gain any.
    NoPrivileges,
    /// Nothing of the system can be written.
    ReadOnlyRoot,
    /// System calls that builds do not need are refused.
    Seccomp,
    /// Writing is restricted by landlock too.
    Landlock,
    /// Users inside are others than outside.
    UserNamespace,
    /// Outside it is an ordinary user.
    NotRootOutside,
    /// Limits are kept by a control group, for all of a command together.
    Cgroup,
    /// Another kernel than the host's answers.
    OwnKernel,
}

/// What came of trying a defence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub defence: Defence,
    pub holds: bool,
    /// How it is kept, or why it is not; may be empty.
    pub detail: String,
}

/// All that was found of a backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    pub findings: Vec<Finding>,
}

impl Level {
    /// All levels, the strongest first.
    pub const ALL: [Self; 4] = [Self::Virtual, Self::Hardened, Self::Confined, Self::Basic];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Confined => "confined",
            Self::Hardened => "hardened",
            Self::Virtual => "virtual",
        }
    }

    /// What must hold for it.
    pub fn needs(self) -> &'static [Defence] {
        use Defence::{
            Cgroup, Files, Landlock, Memory, Network, NoPrivileges, NotRootOutside, OwnKernel, ProcessCount, Processes,
            ReadOnlyRoot, Seccomp, UserNamespace,
        };
        match self {
            Self::Basic => &[Files, Processes, Network, Memory, ProcessCount],
            Self::Confined => &[Files, Processes, Network, Memory, ProcessCount, NoPrivileges, ReadOnlyRoot, Seccomp],
            Self::Hardened => &[
                Files,
                Processes,
                Network,
                Memory,
                ProcessCount,
                NoPrivileges,
                ReadOnlyRoot,
                Seccomp,
                Landlock,
                UserNamespace,
                NotRootOutside,
                Cgroup,
            ],
            // The host's kernel is out of reach of system calls, so no filter of them is asked for.
            Self::Virtual => {
                &[Files, Processes, Network, Memory, ProcessCount, NoPrivileges, ReadOnlyRoot, Cgroup, OwnKernel]
            }
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Defence {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Processes => "processes",
            Self::Network => "network",
            Self::Memory => "memory limit",
            Self::ProcessCount => "process limit",
            Self::NoPrivileges => "no privileges",
            Self::ReadOnlyRoot => "read-only root",
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
            Self::UserNamespace => "user namespace",
            Self::NotRootOutside => "not root outside",
            Self::Cgroup => "cgroup",
            Self::OwnKernel => "own kernel",
        }
    }
}

impl Standing {
    /// The strongest level whose needs all hold; `None`: not even the weakest.
    pub fn level(&self) -> Option<Level> {
        Level::ALL.into_iter().find(|level| self.lacks(*level).is_empty())
    }

    /// What `level` needs and does not hold.
    pub fn lacks(&self, level: Level) -> Vec<Defence> {
        level.needs().iter().copied().filter(|defence| !self.holds(*defence)).collect()
    }

    /// Whether a defence holds; one that was not tried does not.
    pub fn holds(&self, defence: Defence) -> bool {
        self.finding(defence).is_some_and(|finding| finding.holds)
    }

    /// What is missing for `level`, and why: `seccomp (the kernel has no seccomp filters), cgroup`.
    pub fn explain(&self, level: Level) -> String {
        let lacking = self.lacks(level).into_iter().map(|defence| {
            let detail = self.finding(defence).map_or("not tried", |finding| &finding.detail);
            if detail.is_empty() { defence.name().to_owned() } else { format!("{} ({detail})", defence.name()) }
        });
        lacking.collect::<Vec<_>>().join(", ")
    }

    /// `, level confined`, to stand behind a backend's name; nothing before it was tried.
    pub fn level_in_words(&self) -> String {
        self.level().map(|level| format!(", level {level}")).unwrap_or_default()
    }

    /// `seccomp; landlock; `, to stand before who keeps the limits.
    pub fn walls_in_words(&self) -> String {
        let walls = [Defence::Seccomp, Defence::Landlock, Defence::OwnKernel].into_iter();
        walls.filter(|defence| self.holds(*defence)).map(|defence| format!("{}; ", defence.name())).collect()
    }

    fn finding(&self, defence: Defence) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.defence == defence)
    }
}
