//! Whether an engine's containers do what they are to do, and whether one is complete: found out by trying.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::attach;
use super::super::cgroup::Observed;
use super::super::engine::ANSWER_LIMIT;
use super::super::level::Standing;
use super::super::ownership;
use super::super::probe::{self, Known};
use super::super::{Command, Ending, Network, Output, Sandbox, SandboxError, Surroundings};
use super::{ContainerSandbox, Engine, Inner, KEEPERS};

impl Engine {
    /// Tries it with the relay to a proxy and, if that fails, without.
    pub(super) async fn try_ways(
        tried: &mut Inner,
        filter: &str,
        trial: &attach::Trial,
    ) -> Result<Standing, SandboxError> {
        tried.no_network = None;
        let engine = Self { inner: Arc::new(tried.clone()) };
        match engine.try_commands(filter, trial.network()).await {
            Ok(standing) => return Ok(standing),
            Err(SandboxError::Unavailable { reason, .. } | SandboxError::Broken(reason)) => {
                tried.no_network = Some(reason);
            }
        }
        engine.try_commands(filter, Network::Off).await
    }

    /// Tries it with real commands, which its small limits bound.
    async fn try_commands(&self, filter: &str, network: Network) -> Result<Standing, SandboxError> {
        let folder = tempfile::tempdir()
            .map_err(|error| SandboxError::Broken(format!("cannot create a temporary folder: {error}")))?;
        let sandbox = self.open(&Surroundings { network, ..Surroundings::of(folder.path()) }).await?;
        let tried = self.try_in(sandbox.as_ref(), folder.path(), filter).await;
        sandbox.close().await?;
        tried
    }

    async fn try_in(&self, sandbox: &dyn Sandbox, folder: &Path, filter: &str) -> Result<Standing, SandboxError> {
        let command = Command {
            line: "test -w . && test -w /tmp && test -w \"$HOME\" && : > probe".into(),
            directory: PathBuf::new(),
            environment: BTreeMap::new(),
            timeout: ANSWER_LIMIT,
        };
        let reason = match sandbox.run(&command).await {
            Ok(Output { ending: Ending::Exited(0), .. }) if folder.join("probe").exists() => {
                let known = Known {
                    cgroup: Some("by the engine".into()),
                    landlock: "engines have no setting for it, and no program of ours is in the image".into(),
                    seccomp: filter.into(),
                    user: ownership::user_for(folder).map_or(0, |user| user.uid),
                    runtime: self.inner.runtime.clone(),
                };
                return probe::examine(sandbox, folder, &known).await;
            }
            Ok(Output { ending: Ending::Exited(0), .. }) => "the engine does not share this machine's files".into(),
            Ok(output) => format!(
                "a test command in {} ended with {:?} {}",
                self.inner.image,
                output.ending,
                String::from_utf8_lossy(&output.head).trim()
            ),
            Err(error) => error.to_string(),
        };
        Err(SandboxError::Unavailable {
            reason,
            remedy:
                "The image needs /bin/sh and sleep, and the engine must see this machine's temporary folder at the \
                     same path; or use `--sandbox namespace`"
                    .into(),
        })
    }
}

impl ContainerSandbox {
    /// Waits a while until the keeper is complete; one that has no relay where it should is no keeper.
    pub(super) async fn await_keepers(&self, observed: Option<&Observed>) -> Result<(), SandboxError> {
        let needed = self.keepers > KEEPERS;
        let deadline = Instant::now() + Duration::from_secs(if needed { 10 } else { 2 });
        loop {
            let processes = match observed {
                Some(observed) => observed.processes(),
                None if needed => self.count_by_engine().await.unwrap_or(0),
                None => return Ok(()),
            };
            if processes >= self.keepers {
                return Ok(());
            }
            if processes == 0 || Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if needed { Err(SandboxError::Broken(self.likely_reason().into())) } else { Ok(()) }
    }

    /// Why the keeper is not there.
    pub(super) fn likely_reason(&self) -> &'static str {
        if self.keepers > KEEPERS { "the relay to the egress proxy does not run in it" } else { "no reason is known" }
    }
}
