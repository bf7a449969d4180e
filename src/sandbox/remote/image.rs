//! The operator's image with our own binary in it: what a box on an engine that does not see our files is made from.
//!
//! It is made once for each image and each version of ours, in one step that others see done or not at all, and named by
//! what is in it. Older ones of this installation go when it is made.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder, UploadToContainerOptionsBuilder,
};
use tokio_util::io::{ReaderStream, SyncIoBridge};

use super::super::SandboxError;
use super::super::engine::{ANSWER_LIMIT, OWNER_LABEL, PROCESS_LABEL, ask, own_process};
use super::super::ownership::OTHER_THAN_ROOT;
use super::super::plan::{HOME, WORKSPACE};
use super::super::portable::Portable;
use super::super::registry::{Registered, Registry};

/// The images' repository; the tag is the digest of what is in one.
const REPOSITORY: &str = "patchwright-box";

/// How long bringing our binary there may take.
const UPLOAD_LIMIT: Duration = Duration::from_secs(600);

/// Finds the image, or makes it. Gives its name.
///
/// # Errors
/// The image is for other machines than ours, or the engine does not make one from it.
pub async fn prepare(
    docker: &Docker,
    registry: &Arc<Registry>,
    base: &str,
    owner: &str,
    portable: &Portable,
) -> Result<String, SandboxError> {
    let found = ask("look at the image", ANSWER_LIMIT, docker.inspect_image(base)).await?;
    let architecture = found.architecture.unwrap_or_default();
    if ![std::env::consts::ARCH, usual_name()].contains(&architecture.as_str()) {
        return Err(SandboxError::Unavailable {
            reason: format!(
                "the image {base} is for {architecture}, and the part of Patchwright that runs in it is for {}",
                usual_name()
            ),
            remedy: "Use an engine and an image for the machine that Patchwright runs on, or run Patchwright there"
                .into(),
        });
    }
    let id = found.id.unwrap_or_default();
    let (of, files) = (id.clone(), files(portable));
    let digest = blocking(move || digest(&of, &files)).await?;
    let name = format!("{REPOSITORY}:{digest}");
    if ask_whether(docker, &name).await? {
        return Ok(name);
    }
    let body = ContainerCreateBody {
        // Not by its name, which may mean another by now.
        image: Some(id),
        // It is never started.
        entrypoint: Some(vec!["/bin/sh".into()]),
        labels: Some(HashMap::from([
            (OWNER_LABEL.to_owned(), owner.to_owned()),
            (PROCESS_LABEL.to_owned(), own_process()),
        ])),
        ..ContainerCreateBody::default()
    };
    let registered = Registered::new(registry, None);
    let container = registered.order(body).await?;
    upload(docker, &container, portable).await?;
    let options =
        CommitContainerOptionsBuilder::default().container(&container).repo(REPOSITORY).tag(&digest).pause(false);
    let labels = HashMap::from([(OWNER_LABEL.to_owned(), owner.to_owned()), (PROCESS_LABEL.to_owned(), String::new())]);
    let config = ContainerConfig { labels: Some(labels), ..ContainerConfig::default() };
    let slow = docker.clone().with_timeout(UPLOAD_LIMIT);
    ask("make an image", UPLOAD_LIMIT, slow.commit_container(options.build(), config)).await?;
    registered.remove().await?;
    remove_others(docker, owner, &name).await;
    Ok(name)
}

/// Docker's names for machines.
fn usual_name() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn ask_whether(docker: &Docker, image: &str) -> Result<bool, SandboxError> {
    let there = async {
        match docker.inspect_image(image).await {
            Ok(_) => Ok(true),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    };
    ask("look for an image", ANSWER_LIMIT, there).await
}

/// What is put into the image, and the permissions that it has there.
///
/// The file that is executed cannot be read by commands: the kernel lets nobody look into a process of such a file, from
/// its first instruction on.
fn files(portable: &Portable) -> Vec<(PathBuf, String, u32)> {
    let mode = |target: &String| if portable.line.first() == Some(target) { 0o711 } else { 0o755 };
    portable.files.iter().map(|(source, target)| (source.clone(), target.clone(), mode(target))).collect()
}

/// Of the base and of all that is put into it.
fn digest(base: &str, files: &[(PathBuf, String, u32)]) -> io::Result<String> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(base.as_bytes());
    let mut buffer = vec![0; 1 << 20];
    for (source, target, mode) in files {
        context.update(target.as_bytes());
        context.update(&[0]);
        context.update(&mode.to_le_bytes());
        let mut file = File::open(source)?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => context.update(buffer.get(..count).unwrap_or_default()),
            }
        }
    }
    Ok(hex::encode(context.finish()).get(..32).unwrap_or_default().to_owned())
}

/// Puts our files into a container, and makes the folders that volumes take their owner from.
async fn upload(docker: &Docker, container: &str, portable: &Portable) -> Result<(), SandboxError> {
    let (reading, writing) = tokio::io::duplex(1 << 18);
    let files = files(portable);
    let packed = tokio::task::spawn_blocking(move || pack(SyncIoBridge::new(writing), &files));
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    let body = bollard::body_try_stream(ReaderStream::with_capacity(reading, 1 << 17));
    let slow = docker.clone().with_timeout(UPLOAD_LIMIT);
    let uploaded = ask("take our files", UPLOAD_LIMIT, slow.upload_to_container(container, Some(options), body)).await;
    let packed = packed.await.map_err(|error| SandboxError::Broken(format!("our files were not packed: {error}")))?;
    uploaded?;
    packed.map_err(|error| SandboxError::Broken(format!("our files cannot be packed: {error}")))
}

fn pack(writer: SyncIoBridge<tokio::io::DuplexStream>, files: &[(PathBuf, String, u32)]) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(1 << 17, writer));
    let header = |kind, mode, user: u32, size| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(user.into());
        header.set_gid(user.into());
        header.set_mtime(0);
        header.set_size(size);
        header
    };
    for (folder, user) in [(WORKSPACE, OTHER_THAN_ROOT), (HOME, OTHER_THAN_ROOT), ("/.patchwright", 0)] {
        let mut header = header(tar::EntryType::Directory, 0o755, user, 0);
        archive.append_data(&mut header, format!("{}/", folder.trim_start_matches('/')), io::empty())?;
    }
    for (source, target, mode) in files {
        let file = File::open(source)?;
        let length = file.metadata()?.len();
        let mut header = header(tar::EntryType::Regular, *mode, 0, length);
        archive.append_data(&mut header, target.trim_start_matches('/'), file.take(length))?;
    }
    archive.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.shutdown()
}

/// Removes what earlier versions have left. What is in use stays, and goes another time.
async fn remove_others(docker: &Docker, owner: &str, current: &str) {
    let filters =
        HashMap::from([("label", vec![format!("{OWNER_LABEL}={owner}")]), ("reference", vec![REPOSITORY.into()])]);
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    let Ok(images) = ask("list images", ANSWER_LIMIT, docker.list_images(Some(options))).await else { return };
    let names = images.into_iter().flat_map(|image| image.repo_tags);
    for name in names.filter(|name| name.starts_with(&format!("{REPOSITORY}:")) && name != current) {
        let options = RemoveImageOptionsBuilder::default().build();
        if let Err(error) = ask("remove an image", ANSWER_LIMIT, docker.remove_image(&name, Some(options), None)).await
        {
            tracing::debug!(%error, name, "an older image of ours stays");
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, SandboxError> {
    let failed = |error: &dyn std::fmt::Display| SandboxError::Broken(format!("our own files cannot be read: {error}"));
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}
