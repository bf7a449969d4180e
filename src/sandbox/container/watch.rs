//! Looking at what lives in a container: by its control group, where that is on this machine; by our attendant in it; else
//! by the engine's word.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::super::cgroup::Observed;
use super::super::egress::CERTIFICATES;
use super::super::engine::{ANSWER_LIMIT, ask};
use super::super::remote::attendant::Attendant;
use super::super::remote::measure::RemoteDisk;
use super::super::remote::passage::Bridge;
use super::super::{Ending, Network, SandboxError};
use super::{ContainerSandbox, KEEPERS, State};

/// How a container is looked at.
#[derive(Debug)]
pub enum Watched {
    Group(Observed),
    Attendant(Attendant),
    Engine,
}

impl Watched {
    /// How often the kernel killed for the memory limit; `None`: it cannot be seen.
    pub async fn memory_kills(&self) -> Result<Option<u64>, SandboxError> {
        match self {
            Self::Group(observed) => Ok(Some(observed.memory_kills())),
            Self::Attendant(attendant) => Ok(attendant.ask().await?.memory_kills),
            Self::Engine => Ok(None),
        }
    }
}

impl ContainerSandbox {
    /// Finds out how the container can be looked at, and waits until the keeper is complete.
    pub(super) async fn look(&self, state: &mut State) -> Result<(), SandboxError> {
        let details =
            ask("describe the container", ANSWER_LIMIT, self.engine.docker.inspect_container(&self.container, None))
                .await?;
        let found = details.state.unwrap_or_default();
        if found.running != Some(true) {
            return Err(SandboxError::Broken(format!(
                "the container ended at once: {}",
                found.error.filter(|error| !error.is_empty()).unwrap_or_else(|| self.likely_reason().into())
            )));
        }
        if self.site.is_some() {
            return self.attend(state).await;
        }
        let pid = found.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let observed = pid.and_then(|pid| Observed::of(pid, &self.container));
        self.await_keepers(observed.as_ref()).await?;
        state.watched = observed.map_or(Watched::Engine, Watched::Group);
        Ok(())
    }

    /// Starts our processes in the container.
    async fn attend(&self, state: &mut State) -> Result<(), SandboxError> {
        let Some(site) = &self.site else { return Ok(()) };
        let mut certificates = Vec::new();
        if let Network::Proxy(socket) = &self.surroundings.network {
            certificates = tokio::fs::read(socket.with_file_name(CERTIFICATES)).await.unwrap_or_default();
        }
        let attendant = Attendant::start(site, &certificates).await?;
        if state.remote_disk.is_none() {
            state.remote_disk = Some(RemoteDisk::new(&self.engine.limits, &attendant.ask().await?, self.room.copied()));
        }
        state.watched = Watched::Attendant(attendant);
        state._bridge = match &self.surroundings.network {
            Network::Off => None,
            Network::Proxy(socket) => Some(Bridge::start(site, socket).await?),
        };
        Ok(())
    }

    /// Waits a while until the keeper is complete; one that has no relay where it should is no keeper.
    async fn await_keepers(&self, observed: Option<&Observed>) -> Result<(), SandboxError> {
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
    fn likely_reason(&self) -> &'static str {
        if self.keepers > KEEPERS { "the relay to the egress proxy does not run in it" } else { "no reason is known" }
    }

    /// Waits until nothing of a command lives, up to `limit`.
    pub(super) async fn is_quiet(&self, state: &State, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let is_quiet = match &state.watched {
                Watched::Group(observed) => observed.processes() <= self.keepers,
                Watched::Attendant(attendant) => attendant.ask().await.is_ok_and(|status| status.processes == 0),
                Watched::Engine => self.count_by_engine().await.is_some_and(|processes| processes <= self.keepers),
            };
            if is_quiet {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn count_by_engine(&self) -> Option<usize> {
        let options = bollard::query_parameters::TopOptionsBuilder::default().build();
        let top = self.engine.docker.top_processes(&self.container, Some(options));
        let top = ask("list processes", ANSWER_LIMIT, top).await.ok()?;
        top.processes.map(|processes| processes.len())
    }

    pub(super) async fn ran_out_of_memory(&self, state: &State, before: u64) -> bool {
        match state.watched.memory_kills().await {
            Ok(Some(kills)) => kills > before,
            Ok(None) | Err(_) => {
                ask("describe the container", ANSWER_LIMIT, self.engine.docker.inspect_container(&self.container, None))
                    .await
                    .is_ok_and(|details| details.state.and_then(|state| state.oom_killed) == Some(true))
            }
        }
    }

    /// How often the kernel has killed before a command. Where our process in the box is gone, since what is in memory
    /// there was too much for it too, the container is started anew.
    pub(super) async fn count_memory_kills(&self, state: &mut State) -> Result<u64, SandboxError> {
        let mut kills = state.watched.memory_kills().await;
        if let Err(error) = &kills {
            tracing::info!(%error, "the container is started anew");
            self.kill_tree(state).await?;
            kills = state.watched.memory_kills().await;
        }
        Ok(kills?.unwrap_or(0))
    }

    /// After a command was ended for what the box holds on disk.
    pub(super) async fn settle(&self, state: &mut State) -> Result<(), SandboxError> {
        if let (Watched::Attendant(attendant), Some(disk), Some(site)) =
            (&state.watched, &mut state.remote_disk, &self.site)
        {
            disk.settle(&attendant.ask().await?, site, &self.user.in_words()).await;
            return Ok(());
        }
        let disk = self.disk.clone();
        let settled =
            tokio::task::spawn_blocking(move || disk.lock().unwrap_or_else(PoisonError::into_inner).settle()).await;
        settled.map_err(|error| SandboxError::Broken(format!("cannot measure the box: {error}")))
    }

    /// How a running command is to be ended, if it is.
    pub(super) async fn passes_a_limit(&self, state: &mut State, kills: u64) -> Result<Option<Ending>, SandboxError> {
        let observed = match &state.watched {
            Watched::Group(observed) => Some(observed.clone()),
            Watched::Engine => None,
            Watched::Attendant(attendant) => {
                let status = match attendant.ask().await {
                    Ok(status) => status,
                    // Commands cannot end it; the kernel does where files in memory leave nothing else to be ended.
                    Err(error) => {
                        tracing::info!(%error, "taken for a lack of memory");
                        return Ok(Some(Ending::OutOfMemory));
                    }
                };
                if status.memory_kills.is_some_and(|now| now > kills) {
                    return Ok(Some(Ending::OutOfMemory));
                }
                let (Some(disk), Some(site)) = (&mut state.remote_disk, &self.site) else { return Ok(None) };
                let is_exceeded = disk.is_exceeded(&status, site, &self.user.in_words()).await;
                return Ok(is_exceeded.then_some(Ending::OutOfDisk));
            }
        };
        if observed.as_ref().is_some_and(|observed| observed.memory_kills() > kills) {
            return Ok(Some(Ending::OutOfMemory));
        }
        let disk = self.disk.clone();
        let look = move || {
            let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
            disk.is_exceeded(|| observed.map(|observed| observed.members()).unwrap_or_default())
        };
        let is_exceeded = tokio::task::spawn_blocking(look).await.unwrap_or(false);
        Ok(is_exceeded.then_some(Ending::OutOfDisk))
    }
}
