//! The repository to measure on: made up, the same every time, fed to `git fast-import`.

use std::fmt::Write;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use lab::{Lab, git};
use tokio::io::AsyncWriteExt;

pub const COMMITS: usize = 5_000;
pub const FILES: usize = 3_000;
/// Of one file: the tree has about 20 MB.
const FILE_BYTES: usize = 6_700;

/// The name of the repository with [`COMMITS`] and [`FILES`].
pub const LARGE: &str = "acme/large";

/// Makes the large repository on the lab's GitHub, packed as a server packs.
pub async fn create_large(lab: &Lab) -> anyhow::Result<()> {
    let folder = lab.github.repository(LARGE).create().await?;
    let mut command = git::command(&folder);
    command.args(["fast-import", "--quiet", "--force"]).stdin(Stdio::piped());
    let mut child = command.spawn().context("cannot start git")?;
    let mut input = child.stdin.take().context("git has no standard input")?;
    let mut random = Random(1);
    let mut files: Vec<String> = (0..FILES).map(|number| file(number, &mut random)).collect();
    for commit in 0..COMMITS {
        let mut changed: Vec<usize> = Vec::new();
        if commit == 0 {
            changed.extend(0..FILES);
        } else {
            let number = random.below(FILES);
            let line = format!("// Change {commit}: {}\n", random.words(6));
            files[number].insert_str(0, &line);
            changed.push(number);
        }
        let mut order = format!(
            "commit refs/heads/main\ncommitter Ada Example <ada@example.org> {} +0000\ndata 9\nChange {commit:02}\n",
            git::FIRST_COMMIT + commit as u64 * 60,
            commit = commit % 100,
        );
        for number in changed {
            let text = &files[number];
            let _ = write!(order, "M 100644 inline {}\ndata {}\n{text}\n", path(number), text.len());
        }
        input.write_all(order.as_bytes()).await?;
    }
    drop(input);
    let status = child.wait().await?;
    anyhow::ensure!(status.success(), "git fast-import failed ({status})");
    git::bytes(&folder, &["repack", "-a", "-d", "--quiet", "--write-bitmap-index"]).await?;
    Ok(())
}

/// Checks that the repository is what the figures say of it.
pub async fn check_large(folder: &Path) -> anyhow::Result<()> {
    let commits = git::text(folder, &["rev-list", "--count", "main"]).await?;
    let files = git::text(folder, &["ls-tree", "-r", "--name-only", "main"]).await?.lines().count();
    anyhow::ensure!(commits == COMMITS.to_string() && files == FILES, "it has {commits} commits and {files} files");
    Ok(())
}

fn path(number: usize) -> String {
    format!("source/part_{:02}/module_{:02}/file_{number:04}.txt", number / 250, number / 50)
}

fn file(number: usize, random: &mut Random) -> String {
    let mut text = format!("File {number}\n");
    while text.len() < FILE_BYTES {
        let length = 6 + random.below(9);
        let words = random.words(length);
        text.push_str(&words);
        text.push('\n');
    }
    text
}

/// Numbers that look random and are the same every time: the multiplier and increment of Knuth's MMIX generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    /// Words out of syllables: text that compresses about as source code does.
    fn words(&mut self, count: usize) -> String {
        const SYLLABLES: [&str; 24] = [
            "re", "quest", "tok", "en", "pa", "th", "line", "er", "ror", "buf", "fer", "in", "dex", "load", "val",
            "ue", "name", "co", "unt", "self", "let", "fn", "str", "ing",
        ];
        let mut text = String::new();
        for word in 0..count {
            if word > 0 {
                text.push(' ');
            }
            for _ in 0..=self.below(3) {
                text.push_str(SYLLABLES[self.below(SYLLABLES.len())]);
            }
        }
        text
    }
}
