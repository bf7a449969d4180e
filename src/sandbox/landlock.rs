//! Landlock: a second wall around files, which holds even where a mount is writable that should not be.

use anyhow::{Context, Result, bail};
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope, path_beneath_rules,
};

use super::plan::{HOME, WORKSPACE};

/// The newest interface whose rights are handled. The next one (9) would also guard sockets in folders.
const NEWEST: ABI = ABI::V8;

/// Where files may be made and changed; whether one is really writable is up to the mounts. `/var/tmp` is `/tmp`.
const FOLDERS: [&str; 4] = [WORKSPACE, HOME, "/tmp", "/dev/shm"];

/// The version of the kernel's interface; `None`: it has none, or it is off.
pub fn version() -> Option<u32> {
    let handles = |access: AccessFs| {
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(access);
        ruleset.is_ok_and(|ruleset| ruleset.create().is_ok())
    };
    let scopes = || {
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).scope(Scope::Signal);
        ruleset.is_ok_and(|ruleset| ruleset.create().is_ok())
    };
    if scopes() {
        return Some(6);
    }
    let versions = [(5, AccessFs::IoctlDev), (3, AccessFs::Truncate), (2, AccessFs::Refer), (1, AccessFs::WriteFile)];
    versions.into_iter().find(|(_, access)| handles(*access)).map(|(version, _)| version)
}

/// From now on this thread, and all that it starts, changes files below [`FOLDERS`] alone, and writes to devices; it
/// makes no device nodes. From version 6 on it also signals no process outside, and connects to no abstract socket there.
pub fn restrict() -> Result<()> {
    let writing: BitFlags<AccessFs> = AccessFs::from_write(NEWEST);
    let nodes = AccessFs::MakeChar | AccessFs::MakeBlock;
    let devices = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writing)
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(FOLDERS, writing & !nodes)))
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(["/dev"], devices)))
        .and_then(|ruleset| ruleset.restrict_self())
        .context("cannot restrict writing by landlock")?;
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => bail!("landlock is gone since the start"),
    }
}
