//! A warm checkout against a clone and against copying the tree.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use lab::{Lab, git};
use patchwright::workspace::{Checkout, Remote, Settings, Workspace};
use tokio::process::Command;
use url::Url;

use crate::figures::{Aim, Figures, Unit, milliseconds};
use crate::repository;

const GROUP: &str = "checkout";
/// Clones take seconds, so there are fewer of them.
const MOST_CLONES: u32 = 7;

/// Checks out the large repository in each way, one after the other, round by round: a load that changes meanwhile
/// hits all alike. What is removed afterwards is removed outside the measured time.
pub async fn measure(figures: &mut Figures) -> anyhow::Result<()> {
    eprintln!("making a repository of {} commits and {} files ...", repository::COMMITS, repository::FILES);
    let lab = Lab::start().await?;
    repository::create_large(&lab).await?;
    let folder = lab.folder().to_owned();
    let url = Url::parse(&format!("{}/{}.git", lab.github.web_url(), repository::LARGE))?;
    let local = folder.join("local");
    git::bytes(&folder, &["clone", "--quiet", url.as_str(), &text(&local)]).await?;
    repository::check_large(&local).await?;
    let workspace = Workspace::new(Settings {
        git: which::which("git").context("cannot find git")?,
        cache: folder.join("cache"),
        temporary: folder.join("temporary"),
        git_timeout: Duration::from_secs(300),
        environment: Vec::new(),
    })?;
    let (remote, here) = (Remote::Url { url: url.clone(), token: None }, Remote::Local(local.clone()));

    let started = Instant::now();
    let first = workspace.checkout(&remote, None).await?;
    let cold = milliseconds(started.elapsed());
    let tree = folder.join("tree");
    copy(&first.tree_path(), &tree).await?;
    drop(first);

    let mut samples = Samples::default();
    for round in 0..=figures.rounds() {
        let copied = timed(copy(&tree, &folder.join("copy"))).await?;
        remove(&folder.join("copy"))?;
        let warm = timed(check_out(&workspace, &remote)).await?;
        let from_local = timed(check_out(&workspace, &here)).await?;
        if round == 0 {
            continue;
        }
        samples.copy.push(copied);
        samples.warm.push(warm);
        samples.local.push(from_local);
        if round <= MOST_CLONES {
            samples.clone.push(clone(&folder, &[url.as_str()]).await?);
            samples.shallow.push(clone(&folder, &["--depth=1", url.as_str()]).await?);
            samples.local_clone.push(clone(&folder, &[&text(&local)]).await?);
        }
    }
    let wire = lab.finish();
    anyhow::ensure!(wire.is_empty(), "{}", wire.join("\n"));
    samples.tell(figures, cold);
    Ok(())
}

#[derive(Default)]
struct Samples {
    copy: Vec<f64>,
    warm: Vec<f64>,
    local: Vec<f64>,
    clone: Vec<f64>,
    shallow: Vec<f64>,
    local_clone: Vec<f64>,
}

impl Samples {
    fn tell(self, figures: &mut Figures, cold: f64) {
        let mut add = |name: &str, samples| figures.add(GROUP, name, Unit::Milliseconds, samples, None);
        let copy = add("cp -a of the tree", self.copy);
        add("first checkout over HTTP (makes the mirror)", vec![cold]);
        let warm = add("warm checkout over HTTP", self.warm);
        let local = add("checkout of a local repository", self.local);
        let clone = add("git clone over HTTP", self.clone);
        add("git clone --depth=1 over HTTP", self.shallow);
        let local_clone = add("git clone of the local repository (hard links)", self.local_clone);
        figures.add_ratio(GROUP, "warm checkout over HTTP / cp -a", warm / copy, Aim::AtMost(1.5));
        figures.add_ratio(GROUP, "git clone / warm checkout over HTTP", clone / warm, Aim::AtLeast(10.0));
        figures.add_ratio(GROUP, "checkout of a local repository / cp -a", local / copy, Aim::AtMost(1.5));
        figures.add_ratio(GROUP, "local git clone / checkout of it", local_clone / local, Aim::None);
    }
}

async fn check_out(workspace: &Workspace, remote: &Remote) -> anyhow::Result<Checkout> {
    Ok(workspace.checkout(remote, None).await?)
}

/// How long `work` takes, in milliseconds; what it returns is dropped after the clock is stopped.
async fn timed<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<f64> {
    let started = Instant::now();
    let result = work.await?;
    let elapsed = started.elapsed();
    drop(result);
    Ok(milliseconds(elapsed))
}

async fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().await?;
    anyhow::ensure!(status.success(), "cp failed ({status})");
    Ok(())
}

async fn clone(folder: &Path, arguments: &[&str]) -> anyhow::Result<f64> {
    let place: PathBuf = folder.join("clone");
    let target = text(&place);
    let all: Vec<&str> = ["clone", "--quiet"].iter().chain(arguments).copied().chain([target.as_str()]).collect();
    let elapsed = timed(git::bytes(folder, &all)).await?;
    remove(&place)?;
    Ok(elapsed)
}

fn remove(path: &Path) -> anyhow::Result<()> {
    std::fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
