//! The lab: what stands around Patchwright in its tests. It is the outside, so it does not know the crate it tests.
//!
//! - [`github`]: a stateful GitHub on loopback: the REST interface, webhooks, and git over smart HTTP.
//! - [`model`]: a scripted model server that speaks the OpenAI-compatible protocol as real servers do.
//! - [`scenario`]: folders of data that are run through the real binary, and the checks on what came out.
//! - [`bugs`]: small bugs with hidden tests, as repositories and a file of tasks.
//! - [`demo`]: one such run for people to watch.
//!
//! Everything here is strict: [`Lab::finish`] returns what went wrong on the wire though nobody asked.

pub mod bugs;
mod clock;
pub mod demo;
pub mod git;
pub mod github;
mod http;
pub mod model;
pub mod scenario;

use std::path::Path;

pub use github::{Fault, FaultRule, GitHub, Permission};
pub use model::{Model, Script};

/// A GitHub and a folder for its repositories. Everything ends when it is dropped.
pub struct Lab {
    pub github: GitHub,
    folder: tempfile::TempDir,
}

impl Lab {
    /// Starts a GitHub on a free port of the loopback interface.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("patchwright-lab-").tempdir()?;
        let github = GitHub::start(&folder.path().join("repositories")).await?;
        Ok(Self { github, folder })
    }

    /// The lab's temporary folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder where it is when the lab ends, and returns it.
    pub fn keep(mut self) -> std::path::PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }

    /// Starts a model server that plays `script`.
    pub async fn model(&self, script: Script) -> anyhow::Result<Model> {
        Model::start(script).await
    }

    /// What went wrong on the wire: requests out of GitHub's contract, tokens in addresses or bodies, faults that
    /// were not met, comments that nobody read. Empty when all is well.
    pub fn finish(&self) -> Vec<String> {
        self.github.finish()
    }
}
