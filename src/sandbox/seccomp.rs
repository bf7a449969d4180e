//! The filter of system calls: `sandbox/seccomp.json`, in the form that container engines read (the OCI runtime
//! specification's `linux.seccomp`, with Docker's `archMap` and `comment`). Engines get its text; for namespaces it is
//! compiled here.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};
use serde::Deserialize;

/// The profile's text.
pub const PROFILE: &str = include_str!("../../sandbox/seccomp.json");

/// Programs for a kernel that has them, in the order in which they are installed.
pub type Programs = Vec<BpfProgram>;

/// What a call is answered with that the kernel does not have.
const ENOSYS: u32 = 38;

/// Bit of a call's number that asks for the x32 interface on x86-64.
const X32: u32 = 0x4000_0000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    default_action: Action,
    default_errno_ret: u32,
    arch_map: Vec<Architecture>,
    syscalls: Vec<Group>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Architecture {
    architecture: String,
    /// Interfaces besides the machine's own; none, so calls of 32 bits kill the process.
    sub_architectures: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Group {
    #[serde(default, rename = "comment")]
    _comment: String,
    names: Vec<String>,
    action: Action,
    errno_ret: Option<u32>,
    /// All of them hold.
    #[serde(default)]
    args: Vec<Argument>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Action {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Argument {
    index: u8,
    /// The mask. Arguments that the kernel takes for 32 bits wide are masked to them: it never looks at the rest.
    value: u64,
    /// What the masked argument equals.
    value_two: u64,
    #[serde(rename = "op")]
    _operator: Comparison,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Comparison {
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// Calls by number, each with the rules of which one must hold; none: it always holds.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Why the kernel or machine has no filter; `None`: it has.
pub fn missing() -> Option<String> {
    static MISSING: LazyLock<Option<String>> = LazyLock::new(|| {
        if !Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
            return Some("the kernel has no seccomp filters".into());
        }
        compile(std::env::consts::ARCH).err().map(|error| format!("{error:#}"))
    });
    MISSING.clone()
}

/// Installs the profile for this thread and all that it starts.
pub fn install() -> Result<()> {
    for program in compile(std::env::consts::ARCH)? {
        seccompiler::apply_filter(&program).context("cannot install the filter of system calls")?;
    }
    Ok(())
}

/// Compiles the profile for `x86_64` or `aarch64`.
///
/// A program has one answer besides "allow", so there is one for each answer; the kernel takes the strictest, and of two
/// errors the one of the program that was installed last. A call that the profile cannot know yet, for it is newer than
/// all that it names, is answered as by an older kernel, which programs are prepared for; engines do the same.
pub fn compile(architecture: &str) -> Result<Programs> {
    let target = TargetArch::try_from(architecture)
        .ok()
        .filter(|target| number(*target, "read").is_some())
        .with_context(|| format!("there is no filter of system calls for {architecture}"))?;
    let profile: Profile = serde_json::from_str(PROFILE).context("cannot read seccomp.json")?;
    let engine_name = format!("SCMP_ARCH_{}", architecture.to_ascii_uppercase());
    let alone = |map: &Architecture| map.architecture == engine_name && map.sub_architectures.is_empty();
    if profile.default_action != Action::Errno || !profile.arch_map.iter().any(alone) {
        bail!("seccomp.json does not refuse by default, or not on {architecture}");
    }
    let mut allowed = Rules::new();
    let mut refused: BTreeMap<u32, Rules> = BTreeMap::new();
    for group in &profile.syscalls {
        for number in group.names.iter().filter_map(|name| number(target, name)) {
            match (group.action, group.errno_ret) {
                (Action::Allow, None) => add(&mut allowed, number, &group.args)?,
                (Action::Errno, Some(errno)) if group.args.is_empty() => {
                    add(&mut allowed, number, &[])?;
                    add(refused.entry(errno).or_default(), number, &[])?;
                }
                (Action::Allow | Action::Errno, _) => bail!("seccomp.json: {:?} has a strange action", group.names),
            }
        }
    }
    let newest = allowed.keys().next_back().copied().unwrap_or_default();
    let refusal = SeccompAction::Errno(profile.default_errno_ret);
    let mut programs = vec![assemble(allowed, refusal, SeccompAction::Allow, target)?];
    for (errno, rules) in refused {
        programs.push(assemble(rules, SeccompAction::Allow, SeccompAction::Errno(errno), target)?);
    }
    programs.push(newer(u32::try_from(newest)?));
    Ok(programs)
}

fn assemble(rules: Rules, otherwise: SeccompAction, matched: SeccompAction, target: TargetArch) -> Result<BpfProgram> {
    let filter = SeccompFilter::new(rules, otherwise, matched, target)?;
    Ok(filter.try_into()?)
}

/// Adds what a call may look like. One that is allowed in any case and also under a condition would be ambiguous.
fn add(rules: &mut Rules, number: i64, arguments: &[Argument]) -> Result<()> {
    let mut conditions = Vec::new();
    for argument in arguments {
        let operator = SeccompCmpOp::MaskedEq(argument.value);
        conditions.push(SeccompCondition::new(argument.index, SeccompCmpArgLen::Qword, operator, argument.value_two)?);
    }
    match (rules.get_mut(&number), conditions.is_empty()) {
        (None, true) => drop(rules.insert(number, Vec::new())),
        (None, false) => drop(rules.insert(number, vec![SeccompRule::new(conditions)?])),
        (Some(known), false) if !known.is_empty() => known.push(SeccompRule::new(conditions)?),
        (Some(_), _) => bail!("seccomp.json names the call {number} twice"),
    }
    Ok(())
}

/// Answers numbers above `newest` with "no such call". The main program judges the rest, and the interface.
fn newer(newest: u32) -> BpfProgram {
    // Classic BPF, as in linux/filter.h and linux/seccomp.h: load the number; jump; return.
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const JUMP_IF_ABOVE: u16 = 0x25;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    vec![
        step(LOAD_WORD, 0, 0, 0),
        step(JUMP_IF_AT_LEAST, 1, 0, X32),
        step(JUMP_IF_ABOVE, 1, 0, newest),
        step(RETURN, 0, 0, ALLOW),
        step(RETURN, 0, 0, ERRNO | ENOSYS),
    ]
}

/// The number of a call on this machine.
pub fn number_here(name: &str) -> Option<i64> {
    number(TargetArch::try_from(std::env::consts::ARCH).ok()?, name)
}

/// The number of a call on a machine; `None`: it has no such call, as engines take it too.
fn number(target: TargetArch, name: &str) -> Option<i64> {
    let number = match target {
        TargetArch::x86_64 => syscalls::x86_64::Sysno::from_str(name).ok()?.id(),
        TargetArch::aarch64 => syscalls::aarch64::Sysno::from_str(name).ok()?.id(),
        TargetArch::riscv64 => return None,
    };
    Some(i64::from(number))
}
