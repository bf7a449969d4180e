//! Bombs on the host's disk: bytes, files, and files without a name.

use patchwright::folders::{self, Access, Usage};
use patchwright::sandbox::disk::Bound;

use super::*;

const BYTES: &str = "i=0; while :; do dd if=/dev/zero of=bomb$i bs=1M count=8 2>/dev/null; i=$((i+1)); done";
const FILES: &str = "exec python3 -c \"
import os
os.mkdir('bomb')
i = 0
while True:
    open('bomb/%d' % i, 'w').close()
    i += 1\"";
const NAMELESS: &str = "exec python3 -c \"
import os
held = []
while True:
    held.append(os.open('bomb', os.O_CREAT | os.O_RDWR))
    os.unlink('bomb')
    for _ in range(8):
        os.write(held[-1], bytes(1 << 20))\"";

/// In a folder that is not to be listed.
const CLOSED: &str = "mkdir bomb && chmod 0311 bomb && cd bomb; i=0; while :; do dd if=/dev/zero of=f$i bs=1M count=8 2>/dev/null; i=$((i+1)); done";
/// Below a path that is longer than any that the host can name.
const DEEP: &str = "exec python3 -c \"
import os
for _ in range(20):
    name = 'bomb' + 'x' * 240
    os.mkdir(name)
    os.chdir(name)
i = 0
while True:
    with open('f%d' % i, 'wb') as file:
        file.write(bytes(8 << 20))
    i += 1\"";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_box_holds_on_disk_is_bounded() {
    let small = |settings: &mut Settings| {
        settings.limits.disk_bytes = 96 << 20;
        settings.limits.disk_files = 3_000;
    };
    for (choice, backend) in all_backends_with(small).await {
        for (name, bomb) in
            [("bytes", BYTES), ("files", FILES), ("nameless", NAMELESS), ("closed", CLOSED), ("deep", DEEP)]
        {
            let tree = tempfile::tempdir().unwrap();
            let files_are_counted = rustix::fs::statvfs(tree.path()).unwrap().f_files > 0;
            if name == "files" && !files_are_counted {
                eprintln!("not tried, since this file system does not count files");
                continue;
            }
            let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
            let output = sandbox.run(&command(bomb)).await.unwrap();
            assert_eq!(output.ending, Ending::OutOfDisk, "{choice:?}: {name}: {}", text(&output));
            // It can be cleaned up, and work goes on.
            let output = sandbox
                .run(&command("chmod -R u+rwx bomb* 2>/dev/null; rm -rf bomb*; echo clean > x; cat x"))
                .await
                .unwrap();
            assert_eq!((output.ending, text(&output)), (Ending::Exited(0), "clean\n".into()), "{choice:?}: {name}");
            sandbox.close().await.unwrap();
        }
    }
}

/// What others give back while a box writes is not the box's to take.
#[tokio::test(flavor = "multi_thread")]
async fn room_that_others_leave_meanwhile_does_not_widen_the_bound() {
    const BALLAST: u64 = 600 << 20;
    let small = |settings: &mut Settings| settings.limits.disk_bytes = 96 << 20;
    for (choice, backend) in all_backends_with(small).await {
        let (tree, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ballast = std::fs::File::create(other.path().join("ballast")).unwrap();
        if far::is_far(&backend)
            || rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, BALLAST).is_err()
        {
            continue;
        }
        let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
        drop(ballast);
        std::fs::remove_file(other.path().join("ballast")).unwrap();
        let output = sandbox.run(&command(BYTES)).await.unwrap();
        assert_eq!(output.ending, Ending::OutOfDisk, "{choice:?}: {}", text(&output));
        let held = folders::size(tree.path(), Access::Keep);
        assert!(held < BALLAST, "{choice:?}: {held} bytes");
        sandbox.close().await.unwrap();
    }
}

#[test]
fn after_a_command_was_ended_what_there_is_may_stay_and_no_more() {
    let usage = |megabytes: u64| Usage { bytes: megabytes << 20, files: 10 };
    let limits = Limits { disk_bytes: 100 << 20, ..settings(Choice::Namespace).limits };
    let bound = || Bound::new(&limits, [Usage { bytes: 1 << 40, files: 1 << 30 }], Usage::default()).0;
    for ended_by in [Some(usage(300)), None] {
        let mut bound = bound();
        assert_eq!(bound.judge(Some(usage(99))), (false, usage(16).at_least(Usage { bytes: 0, files: 99_990 })));
        assert!(bound.judge(ended_by).0, "{ended_by:?}");
        // It is measured once more when nothing runs, or when the next command writes.
        assert!(!bound.judge(Some(usage(310))).0, "{ended_by:?}");
        assert!(!bound.judge(Some(usage(320))).0, "{ended_by:?}: it may be used to clean up");
        assert!(bound.judge(Some(usage(330))).0, "{ended_by:?}: but not to go on");
        assert!(!bound.judge(Some(usage(120))).0, "{ended_by:?}");
        assert!(bound.judge(Some(usage(140))).0, "{ended_by:?}: what was cleaned up is not given back");
    }
}
