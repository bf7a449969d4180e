//! Finding an engine, and trying what its containers hold.

use std::sync::Arc;

use tempfile::NamedTempFile;

use super::super::engine::{self, ANSWER_LIMIT, ask};
use super::super::level::Standing;
use super::super::open::Open;
use super::super::probe::{self, Kit, Known};
use super::super::registry::Registry;
use super::super::remote::image;
use super::super::{EngineFiles, Network, Sandbox, SandboxError, Settings, Surroundings};
use super::super::{attach, ownership, portable, seccomp};
use super::{Engine, Inner};

/// What is wrong with an engine that has other files than we.
const NOT_SEEN: &str = "the engine does not see this machine's files";

impl Engine {
    /// Finds an engine that answers and has the image, and tries it with a real command.
    pub async fn probe(settings: &Settings) -> Result<Self, SandboxError> {
        let (docker, address) = engine::connect(settings).await?;
        let image = settings.image.clone().ok_or_else(|| SandboxError::Unavailable {
            reason: "a container engine answers, but no image is configured".into(),
            remedy: "Name one with `--image`".into(),
        })?;
        match tokio::time::timeout(ANSWER_LIMIT, docker.inspect_image(&image)).await {
            Ok(Ok(_)) => {}
            Ok(Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })) => {
                let place = if address.is_local() { "this machine" } else { "the engine's machine" };
                return Err(SandboxError::Unavailable {
                    reason: format!("the image {image} is not on {place}, and images are never pulled unasked"),
                    remedy: format!("Run `docker pull {image}` (or `podman pull {image}`)"),
                });
            }
            Ok(Err(error)) => {
                return Err(SandboxError::Broken(format!(
                    "the engine cannot look at {image}: {}",
                    engine::explain(&error)
                )));
            }
            Err(_) => return Err(SandboxError::Broken(format!("the engine did not answer about {image}"))),
        }
        let version = ask("tell its version", ANSWER_LIMIT, docker.version()).await?;
        let podman = version.components.iter().flatten().any(|component| component.name.starts_with("Podman"));
        let info = ask("describe itself", ANSWER_LIMIT, docker.info()).await?;
        let rootless = info.security_options.iter().flatten().any(|option| option.contains("rootless"));
        let name = format!("{}{}", if rootless { "rootless " } else { "" }, if podman { "Podman" } else { "Docker" });
        if let Some(runtime) = &settings.runtime {
            engine::has_runtime(&info, runtime)?;
        }
        // Docker takes the filter's text, Podman a file.
        let profile = if podman { Some(Arc::new(profile_file()?)) } else { None };
        let mut tried = Inner {
            description: String::new(),
            image,
            limits: probe::limits(&settings.limits, probe::ROOMY),
            owner: settings.owner.clone(),
            keep_user: podman && rootless,
            filter: match &profile {
                Some(file) => file.path().to_str().map(str::to_owned),
                None => Some(seccomp::PROFILE.to_owned()),
            },
            _profile: profile,
            runtime: settings.runtime.clone(),
            sources: settings.sources.clone(),
            portable: portable::find(&settings.helper).await,
            no_network: None,
            standing: Standing::default(),
            open: Open::new(),
            registry: Registry::new(docker.clone()),
            docker,
            is_local: address.is_local(),
            remote_image: None,
            // A socket here may lead to another machine.
            kernel: info.kernel_version.unwrap_or_default().trim().to_owned(),
            folder: settings.engine.folder.clone(),
        };
        let files = settings.engine.files;
        let may_share = address.is_local() && files != EngineFiles::Sent;
        let shared = if may_share { Self::try_filters(&mut tried, settings).await } else { Err(unshared("")) };
        let standing = match shared {
            Ok(standing) => standing,
            Err(error) if files == EngineFiles::Shared || !sees_no_files(&error) => return Err(error),
            Err(_) => Self::try_sending(&mut tried, settings).await?,
        };
        let runtime = settings.runtime.as_ref().map(|runtime| format!(", runtime {runtime}")).unwrap_or_default();
        let place = if address.is_local() { String::new() } else { format!(" at {address}") };
        let sent = if tried.remote_image.is_some() { "files are sent to it; " } else { "" };
        let description = format!(
            "container{} ({name}{place}{runtime}, {}; {sent}{}memory and processes by the engine)",
            standing.level_in_words(),
            tried.image,
            standing.walls_in_words()
        );
        Ok(Self { inner: Arc::new(Inner { limits: settings.limits.clone(), standing, description, ..tried }) })
    }

    /// Tries it with our folders sent to it.
    async fn try_sending(tried: &mut Inner, settings: &Settings) -> Result<Standing, SandboxError> {
        let portable = tried.portable.clone().map_err(|reason| SandboxError::Unavailable {
            reason: format!("our own program cannot be brought to the engine: {reason}"),
            remedy: "Use an engine that sees this machine's files, or `--sandbox namespace`".into(),
        })?;
        let image = image::prepare(&tried.docker, &tried.registry, &tried.image, &tried.owner, &portable).await?;
        tried.remote_image = Some(image);
        // The box's user is its own.
        tried.keep_user = false;
        Self::try_filters(tried, settings).await
    }

    /// Tries it with our filter of system calls and, if that fails, with the engine's own.
    async fn try_filters(tried: &mut Inner, settings: &Settings) -> Result<Standing, SandboxError> {
        let trial = attach::Trial::new(tried.folder.as_deref())?;
        let ours = tried.filter.clone();
        match Self::try_ways(tried, "ours", &trial).await {
            Ok(standing) => Ok(standing),
            // An engine that cannot take a filter has one of its own, or none: it is tried like ours.
            Err(error) => {
                tried.filter = None;
                let standing = Self::try_ways(tried, "the engine's own", &trial).await;
                standing.map_err(|_| {
                    tried.filter = ours;
                    unstarted(error, settings.runtime.as_deref())
                })
            }
        }
    }

    /// Tries it with the relay to a proxy and, if that fails, without.
    async fn try_ways(tried: &mut Inner, filter: &str, trial: &attach::Trial) -> Result<Standing, SandboxError> {
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
        let kit = Kit::new(self.inner.folder.as_deref(), probe::ROOMY)?;
        let sandbox = match self.open(&Surroundings { network, ..Surroundings::of(kit.folder()) }).await {
            // It complains of the folder, whose name nobody else has.
            Err(SandboxError::Broken(reason)) if reason.contains(&*kit.folder().to_string_lossy()) => {
                return Err(unshared(&format!(": {reason}")));
            }
            opened => opened?,
        };
        let tried = self.try_in(sandbox.as_ref(), &kit, filter).await;
        sandbox.close().await?;
        tried
    }

    async fn try_in(&self, sandbox: &dyn Sandbox, kit: &Kit, filter: &str) -> Result<Standing, SandboxError> {
        let known = Known {
            cgroup: Some("by the engine".into()),
            landlock: "engines have no setting for it, and no program of ours is in the image".into(),
            seccomp: filter.into(),
            user: match self.inner.remote_image {
                Some(_) => ownership::OTHER_THAN_ROOT,
                None => ownership::user_for(kit.folder()).map_or(0, |user| user.uid),
            },
            runtime: self.inner.runtime.clone(),
            kernel: Some(self.inner.kernel.clone()),
        };
        let reason = match kit.examine(sandbox, sandbox, &known).await {
            Ok(standing) if kit.folder().join(probe::WRITTEN).exists() => return Ok(standing),
            Ok(_) => return Err(unshared("")),
            Err(SandboxError::Unavailable { reason, .. }) => format!("in {}, {reason}", self.inner.image),
            Err(error @ SandboxError::Broken(_)) => error.to_string(),
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

/// The engine was asked to show a folder of ours, and did not.
fn unshared(detail: &str) -> SandboxError {
    SandboxError::Unavailable {
        reason: format!("{NOT_SEEN}{detail}"),
        remedy: "It must see this machine's temporary folder at the same path; or have the files sent to it: \
                 sandbox.engine_files = \"auto\""
            .into(),
    }
}

fn sees_no_files(error: &SandboxError) -> bool {
    match error {
        SandboxError::Unavailable { reason, .. } => reason.starts_with(NOT_SEEN),
        SandboxError::Broken(_) => false,
    }
}

/// The filter of system calls as a file that the engine can read.
fn profile_file() -> Result<NamedTempFile, SandboxError> {
    let written = NamedTempFile::with_prefix("patchwright-seccomp-")
        .and_then(|mut file| std::io::Write::write_all(&mut file, seccomp::PROFILE.as_bytes()).map(|()| file));
    written.map_err(|error| SandboxError::Broken(format!("cannot write the filter of system calls: {error}")))
}

/// What a start that failed is to be blamed on.
fn unstarted(error: SandboxError, runtime: Option<&str>) -> SandboxError {
    match (error, runtime) {
        (SandboxError::Broken(reason), Some(runtime)) => {
            engine::no_runtime(format!("the runtime `{runtime}` does not start a container: {reason}"))
        }
        (error @ (SandboxError::Broken(_) | SandboxError::Unavailable { .. }), _) => error,
    }
}
