//! Measures a process and its descendants, for machines where no control group can be written.

use std::fs;
use std::path::Path;

/// What a process tree uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeUsage {
    /// Resident memory. Pages that processes share count once where that matters for `limit`, else for each.
    pub memory_bytes: u64,
    pub processes: u64,
}

/// Whether the kernel tells a process's children, without which no tree can be measured.
pub fn can_watch() -> bool {
    Path::new("/proc/self/task").join(std::process::id().to_string()).join("children").exists()
}

/// Measures the tree below `root`. The cheap sum counts shared pages for each process; only if it exceeds
/// `limit` are they counted exactly, which is slow.
pub fn tree_usage(root: u32, limit: u64) -> TreeUsage {
    let processes = tree(root);
    let cheap: u64 = processes.iter().map(|pid| resident_bytes(*pid)).sum();
    let memory_bytes = if cheap <= limit { cheap } else { processes.iter().map(|pid| proportional_bytes(*pid)).sum() };
    TreeUsage { memory_bytes, processes: processes.len() as u64 }
}

/// A process and its descendants.
pub fn tree(root: u32) -> Vec<u32> {
    let mut processes = vec![root];
    let mut next = 0;
    while let Some(pid) = processes.get(next).copied() {
        next += 1;
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            processes.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    processes
}

/// Resident bytes from `/proc/PID/statm`, whose second field is in pages.
fn resident_bytes(pid: u32) -> u64 {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm"))
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size() as u64)
}

/// The process's share of its resident memory from `/proc/PID/smaps_rollup` (in kB), else all of it.
fn proportional_bytes(pid: u32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        })
        .map_or_else(|| resident_bytes(pid), |kilobytes| kilobytes.saturating_mul(1024))
}
