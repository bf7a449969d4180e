//! What a container is made with: mounts, limits, and nothing it could gain power by.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, ResourcesUlimits};

use super::attach::KEEPER_LINE;
use super::engine::{self, OWNER_LABEL, PROCESS_LABEL};
use super::ownership::User;
use super::plan::{HOME, WORKSPACE};
use super::room::Room;
use super::{Limits, SandboxError};

/// The user of process 1: nobody's.
pub const KEEPER: &str = "65533:65533";

/// Processes and threads of ours in a box of a remote engine, with what starts a command.
const REMOTE_KEEPERS: u64 = 16;

/// Sixteenths of the memory limit for files in memory. Together they leave room for processes: a box whose memory is full
/// of files could start none, and ours would be ended there.
const TEMPORARY: u64 = 8;
const IN_HOME: u64 = 3;
const SHARED: u64 = 1;

/// More than that no program wants of the folder for shared memory.
const MOST_SHARED: u64 = 256 << 20;

/// One file for so many bytes: an empty one takes memory too.
const BYTES_PER_FILE: u64 = 16 << 10;

/// What differs between installations.
pub struct Shape<'a> {
    pub image: &'a str,
    pub owner: &'a str,
    pub limits: &'a Limits,
    /// Podman without root maps our user to itself only if asked.
    pub keep_user: bool,
    /// The filter of system calls as the engine takes it; `None`: the engine's own.
    pub seccomp: Option<&'a str>,
    /// `None`: the engine's usual one.
    pub runtime: Option<&'a str>,
    /// The box's folders are volumes of its own, and processes of ours are in it.
    pub is_remote: bool,
}

/// The order for a container around `room` whose commands run as `user`.
pub fn body(shape: &Shape<'_>, room: &Room, user: User) -> Result<ContainerCreateBody, SandboxError> {
    let (mounts, mut memory_folders) = if shape.is_remote { (volumes(room), HashMap::new()) } else { folders(room)? };
    // Owned by the user: runc gives the folder the mode that it has in the image, whatever is asked for here.
    let owned = |share| {
        let bounds = bounds_in_memory(part_of_memory(shape.limits, share));
        format!("rw,nosuid,nodev,exec,{bounds},uid={},gid={},mode=755", user.uid, user.gid)
    };
    memory_folders.insert("/tmp".into(), owned(TEMPORARY));
    if room.home().is_none() {
        memory_folders.insert(HOME.into(), owned(IN_HOME));
    }
    let bounds = bounds_in_memory(part_of_memory(shape.limits, SHARED).min(MOST_SHARED));
    memory_folders.insert("/dev/shm".into(), format!("rw,nosuid,nodev,noexec,{bounds},mode=1777"));
    Ok(ContainerCreateBody {
        image: Some(shape.image.to_owned()),
        entrypoint: Some(vec!["/bin/sh".into(), "-c".into(), KEEPER_LINE.into()]),
        cmd: Some(Vec::new()),
        user: Some(KEEPER.into()),
        working_dir: Some("/".into()),
        hostname: Some("sandbox".into()),
        env: Some(
            ["USER=agent", "LOGNAME=agent", "LANG=C.UTF-8", "TERM=dumb", "TMPDIR=/tmp"]
                .into_iter()
                .chain(["PIP_DISABLE_PIP_VERSION_CHECK=1", "PYTHONDONTWRITEBYTECODE=1"])
                .chain(["npm_config_update_notifier=false"])
                .map(str::to_owned)
                .chain([format!("HOME={HOME}")])
                .collect(),
        ),
        labels: Some(HashMap::from([
            (OWNER_LABEL.to_owned(), shape.owner.to_owned()),
            (PROCESS_LABEL.to_owned(), engine::own_process()),
        ])),
        host_config: Some(host_config(shape, mounts, memory_folders)),
        ..ContainerCreateBody::default()
    })
}

fn bind(source: &Path, target: &str, read_only: bool) -> Result<Mount, SandboxError> {
    let text = source.to_str();
    let text = text.ok_or_else(|| SandboxError::Broken(format!("the path {} is not UTF-8", source.display())))?;
    Ok(Mount {
        typ: Some(MountType::BIND),
        source: Some(text.to_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    })
}

/// The folders of this machine that are shown, and what covers one of them.
fn folders(room: &Room) -> Result<(Vec<Mount>, HashMap<String, String>), SandboxError> {
    let mut memory_folders = HashMap::new();
    let mut mounts = vec![bind(room.tree(), WORKSPACE, false)?];
    if let Some(home) = room.home() {
        mounts.push(bind(home, HOME, false)?);
    }
    let standing = std::fs::symlink_metadata(room.tree().join(".git")).ok().map(|metadata| metadata.file_type());
    let target = format!("{WORKSPACE}/.git");
    match (room.repository(), standing) {
        (Some(repository), kind) if kind.is_none_or(|kind| kind.is_dir()) => {
            mounts.push(bind(repository, &target, false)?);
        }
        (None, Some(kind)) if kind.is_dir() => {
            memory_folders.insert(target, "ro,nosuid,nodev,noexec,size=4k".to_owned());
        }
        (_, Some(kind)) if kind.is_file() => mounts.push(bind(Path::new("/dev/null"), &target, true)?),
        (_, _) => {}
    }
    Ok((mounts, memory_folders))
}

/// The same where the engine does not see this machine: volumes without a name, which go with the container.
fn volumes(room: &Room) -> Vec<Mount> {
    let volume =
        |target: &str| Mount { typ: Some(MountType::VOLUME), target: Some(target.to_owned()), ..Mount::default() };
    [WORKSPACE].into_iter().chain(room.home().map(|_| HOME)).map(volume).collect()
}

/// What keeps it small and without power.
fn host_config(shape: &Shape<'_>, mounts: Vec<Mount>, memory_folders: HashMap<String, String>) -> HostConfig {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let ulimit = |name: &str, value: u64| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(number(value)),
        hard: Some(number(value)),
    };
    HostConfig {
        mounts: Some(mounts),
        tmpfs: Some(memory_folders),
        network_mode: Some("none".into()),
        memory: Some(number(shape.limits.memory_bytes)),
        memory_swap: Some(number(shape.limits.memory_bytes)),
        pids_limit: Some(number(shape.limits.processes.saturating_add(if shape.is_remote {
            REMOTE_KEEPERS
        } else {
            6
        }))),
        // Only limits that lower the engine's own: raising one needs a capability that nothing here has.
        ulimits: Some(vec![ulimit("core", 0), ulimit("fsize", shape.limits.file_size_bytes)]),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(
            ["no-new-privileges".to_owned()]
                .into_iter()
                .chain(shape.seccomp.map(|profile| format!("seccomp={profile}")))
                .collect(),
        ),
        runtime: shape.runtime.map(str::to_owned),
        ipc_mode: Some("private".into()),
        userns_mode: shape.keep_user.then(|| "keep-id".to_owned()),
        auto_remove: Some(true),
        ..HostConfig::default()
    }
}

fn part_of_memory(limits: &Limits, sixteenths: u64) -> u64 {
    (limits.memory_bytes / 16).max(2 << 20).saturating_mul(sixteenths)
}

fn bounds_in_memory(bytes: u64) -> String {
    format!("size={bytes},nr_inodes={}", bytes / BYTES_PER_FILE)
}
