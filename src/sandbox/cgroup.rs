//! Control groups, version 1 and 2, where we may write one: memory and processes of a whole command.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Numbers the groups of this process.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Folders in which groups for commands can be made.
#[derive(Debug, Clone)]
pub struct Controllers {
    memory: Hierarchy,
    /// Version 1 has one hierarchy for each controller; `None` where the memory hierarchy has `pids` too, or none has.
    processes: Option<PathBuf>,
}

#[derive(Debug, Clone)]
enum Hierarchy {
    One(PathBuf),
    Two(PathBuf),
}

/// The group of one command. Dropping it kills what is left in it and removes it.
#[derive(Debug)]
pub struct Group {
    memory: PathBuf,
    processes: Option<PathBuf>,
    version_two: bool,
}

impl Controllers {
    /// Finds a place for groups by making one and setting its limits; `None` where we may not.
    pub fn find() -> Option<Self> {
        let places =
            places(&fs::read_to_string("/proc/self/cgroup").ok()?, &fs::read_to_string("/proc/self/mountinfo").ok()?);
        for memory in places.memory {
            let processes = places.processes.clone().filter(|_| matches!(memory, Hierarchy::One(_)));
            for processes in [processes, None] {
                let controllers = Self { memory: memory.clone(), processes };
                if controllers.create(64 << 20, 64).is_ok() {
                    return Some(controllers);
                }
            }
        }
        None
    }

    /// What the groups limit, for people.
    pub fn description(&self) -> &'static str {
        match (&self.memory, &self.processes) {
            (Hierarchy::Two(_), _) => "memory and processes by cgroup v2",
            (Hierarchy::One(_), Some(_)) => "memory and processes by cgroup v1",
            (Hierarchy::One(_), None) => "memory by cgroup v1",
        }
    }

    /// Whether the groups limit the number of processes too.
    pub fn limit_processes(&self) -> bool {
        matches!(self.memory, Hierarchy::Two(_)) || self.processes.is_some()
    }

    /// Makes an empty group with these limits.
    pub fn create(&self, memory_bytes: u64, processes: u64) -> io::Result<Group> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{}-{number}", prefix(), std::process::id());
        let (parent, version_two) = match &self.memory {
            Hierarchy::One(path) => (path, false),
            Hierarchy::Two(path) => (path, true),
        };
        let memory = parent.join(&name);
        fs::create_dir(&memory)?;
        let mut group = Group { memory: memory.clone(), processes: None, version_two };
        if version_two {
            fs::write(memory.join("memory.max"), memory_bytes.to_string())?;
            write_if_there(&memory.join("memory.swap.max"), "0")?;
            write_if_there(&memory.join("memory.oom.group"), "1")?;
            fs::write(memory.join("pids.max"), processes.to_string())?;
        } else {
            fs::write(memory.join("memory.limit_in_bytes"), memory_bytes.to_string())?;
            write_if_there(&memory.join("memory.memsw.limit_in_bytes"), &memory_bytes.to_string())?;
        }
        if let Some(parent) = &self.processes {
            let path = parent.join(&name);
            fs::create_dir(&path)?;
            group.processes = Some(path.clone());
            fs::write(path.join("pids.max"), processes.to_string())?;
        }
        Ok(group)
    }

    /// Removes groups of processes that are gone. Returns how many.
    pub fn sweep(&self) -> usize {
        let (Hierarchy::One(memory) | Hierarchy::Two(memory)) = &self.memory;
        let prefix = prefix();
        let mut removed = 0;
        for folder in [Some(memory), self.processes.as_ref()].into_iter().flatten() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let Some(owner) = name.strip_prefix(&prefix).and_then(|rest| rest.split('-').next()) else {
                    continue;
                };
                let alive = owner.parse::<u32>().is_ok_and(|pid| Path::new("/proc").join(pid.to_string()).exists());
                if !alive && fs::remove_dir(entry.path()).is_ok() {
                    removed += 1;
                }
            }
        }
        removed
    }
}

impl Group {
    /// Moves a process, and with it all that it will start, into the group.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        for folder in self.folders() {
            fs::write(folder.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// Whether the kernel killed a process of the group for its memory limit.
    pub fn ran_out_of_memory(&self) -> bool {
        memory_kills(&self.memory, self.version_two) > 0
    }

    /// Kills every process of the group and waits until none is left, up to `limit`. Returns whether none is.
    pub fn kill(&self, limit: Duration) -> bool {
        let deadline = std::time::Instant::now() + limit;
        loop {
            let processes = self.members();
            if processes.is_empty() {
                return true;
            }
            if self.version_two {
                // Older kernels have no such file: there the loop below does it.
                let _ = fs::write(self.memory.join("cgroup.kill"), "1");
            }
            for pid in processes {
                let _ = kill_process(pid, Signal::KILL);
            }
            if std::time::Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether nothing lives in the group.
    pub fn is_empty(&self) -> bool {
        self.members().is_empty()
    }

    fn members(&self) -> Vec<Pid> {
        fs::read_to_string(self.memory.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
            .filter_map(|line| Pid::from_raw(line.trim().parse().ok()?))
            .collect()
    }

    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        [Some(&self.memory), self.processes.as_ref()].into_iter().flatten()
    }

    fn remove(&self) -> bool {
        self.folders().fold(true, |gone, folder| {
            let removed = match fs::remove_dir(folder) {
                Ok(()) => true,
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
            gone && removed
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.remove() {
            return;
        }
        // Something still dies in it: whoever drops it must not wait for that.
        let rest =
            Group { memory: self.memory.clone(), processes: self.processes.take(), version_two: self.version_two };
        let rest = std::mem::ManuallyDrop::new(rest);
        std::thread::spawn(move || {
            rest.kill(Duration::from_secs(5));
            for _ in 0..500 {
                if rest.remove() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
    }
}

struct Places {
    memory: Vec<Hierarchy>,
    processes: Option<PathBuf>,
}

/// Where groups could be made, from the text of `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn places(membership: &str, mountinfo: &str) -> Places {
    let mut places = Places { memory: Vec::new(), processes: None };
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if controllers.is_empty() {
            if let Some(own) = mounted(mountinfo, "cgroup2", "", path) {
                places.memory.extend(version_two_places(&own));
            }
        } else if controllers.split(',').any(|name| name == "memory") {
            places.memory.extend(mounted(mountinfo, "cgroup", "memory", path).map(Hierarchy::One));
        } else if controllers.split(',').any(|name| name == "pids") {
            places.processes = mounted(mountinfo, "cgroup", "pids", path);
        }
    }
    places
}

/// In version 2 a group with processes cannot have children with controllers: so beside our own group, or in it after
/// we moved into a leaf, which a group that was delegated to us alone allows.
fn version_two_places(own: &Path) -> Vec<Hierarchy> {
    let has_controllers = |folder: &Path| {
        fs::read_to_string(folder.join("cgroup.subtree_control")).is_ok_and(|text| {
            ["memory", "pids"].iter().all(|wanted| text.split_whitespace().any(|name| name == *wanted))
        })
    };
    let mut found = Vec::new();
    if has_controllers(own) {
        found.push(Hierarchy::Two(own.to_path_buf()));
    } else if own.file_name().is_some_and(|name| name == "patchwright-main") {
        // Moved by an earlier probe: the parent is ours.
    } else if own.join("cgroup.controllers").exists() && only_we_live_in(own) {
        let leaf = own.join("patchwright-main");
        let moved = (fs::create_dir(&leaf).is_ok() || leaf.exists())
            && fs::write(leaf.join("cgroup.procs"), std::process::id().to_string()).is_ok()
            && fs::write(own.join("cgroup.subtree_control"), "+memory +pids").is_ok();
        if moved && has_controllers(own) {
            found.push(Hierarchy::Two(own.to_path_buf()));
        }
    }
    if let Some(parent) = own.parent().filter(|parent| has_controllers(parent)) {
        found.push(Hierarchy::Two(parent.to_path_buf()));
    }
    found
}

fn only_we_live_in(group: &Path) -> bool {
    fs::read_to_string(group.join("cgroup.procs"))
        .is_ok_and(|text| text.lines().all(|line| line.trim() == std::process::id().to_string()))
}

/// Where the group `path` of a hierarchy is found in the file system.
fn mounted(mountinfo: &str, kind: &str, controller: &str, path: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (found, options) = (right.next()?, right.nth(1)?);
        if found != kind || !(controller.is_empty() || options.split(',').any(|option| option == controller)) {
            return None;
        }
        let below = if root == "/" { path } else { path.strip_prefix(root)? };
        Some(Path::new(point).join(below.trim_start_matches('/')))
    })
}

/// What the names of groups of our process namespace start with: elsewhere the same number is another process.
fn prefix() -> String {
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let number: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    format!("patchwright-{number}-")
}

fn write_if_there(file: &Path, text: &str) -> io::Result<()> {
    if file.exists() { fs::write(file, text) } else { Ok(()) }
}

/// The group of a process that another program made, for looking only.
#[derive(Debug, Clone)]
pub struct Observed {
    memory: PathBuf,
    version_two: bool,
}

impl Observed {
    /// The group of process `pid`, if its path has `name` in it: the number may be of another namespace than ours.
    pub fn of(pid: u32, name: &str) -> Option<Self> {
        let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
        membership.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let version_two = controllers.is_empty();
            let folder = match version_two {
                true => mounted(&mountinfo, "cgroup2", "", path)?,
                false if controllers.split(',').any(|name| name == "memory") => {
                    mounted(&mountinfo, "cgroup", "memory", path)?
                }
                false => return None,
            };
            let file = if version_two { "memory.events" } else { "memory.oom_control" };
            (path.contains(name) && folder.join(file).exists()).then_some(Self { memory: folder, version_two })
        })
    }

    /// The group that we are in ourselves, as a container shows it.
    pub fn inside() -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let places = [(root.to_owned(), true, "memory.events"), (root.join("memory"), false, "memory.oom_control")];
        let found = places.into_iter().find(|(folder, _, file)| folder.join(file).exists());
        found.map(|(memory, version_two, _)| Self { memory, version_two })
    }

    /// How many processes the kernel killed in it for its memory limit.
    pub fn memory_kills(&self) -> u64 {
        memory_kills(&self.memory, self.version_two)
    }

    /// How many processes live in it.
    pub fn processes(&self) -> usize {
        self.members().len()
    }

    /// The processes that live in it.
    pub fn members(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.memory.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }
}

fn memory_kills(folder: &Path, version_two: bool) -> u64 {
    let file = if version_two { "memory.events" } else { "memory.oom_control" };
    fs::read_to_string(folder.join(file))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
        .sum()
}
