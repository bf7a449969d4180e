//! Bombs on the host's disk: bytes, files, and files without a name.

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
