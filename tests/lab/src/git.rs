//! The git that the lab itself uses: the command line, with a fixed identity and clock and no configuration of the host.

use std::path::Path;

use anyhow::Context;
use tokio::process::Command;

/// The time of the first commit in every repository of the lab: 2026-01-01T00:00:00Z.
pub const FIRST_COMMIT: u64 = 1_767_225_600;

/// A git command that reads neither the user's nor the system's configuration.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).kill_on_drop(true).stdin(std::process::Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", folder.join(".no-such-config"))
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "Ada Example")
        .env("GIT_AUTHOR_EMAIL", "ada@example.org")
        .env("GIT_COMMITTER_NAME", "Ada Example")
        .env("GIT_COMMITTER_EMAIL", "ada@example.org")
        .args(["-c", "safe.directory=*", "-c", "core.autocrlf=false", "-c", "protocol.file.allow=always"]);
    command
}

/// Runs git in `folder` and returns its standard output as it is.
pub async fn bytes(folder: &Path, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    run(command(folder), folder, arguments).await
}

/// Runs git in `folder` and returns its standard output as text, without the last line end.
pub async fn text(folder: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = bytes(folder, arguments).await?;
    Ok(String::from_utf8_lossy(&output).trim_end_matches('\n').to_owned())
}

/// Commits everything in `folder`, ignored files too, `hours` after [`FIRST_COMMIT`].
pub async fn commit_all(folder: &Path, message: &str, hours: u64) -> anyhow::Result<String> {
    let date = format!("{} +0000", FIRST_COMMIT + hours * 3_600);
    bytes(folder, &["add", "--all", "--force"]).await?;
    let mut commit = command(folder);
    commit.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
    run(commit, folder, &["commit", "--quiet", "--allow-empty", "--no-gpg-sign", "--message", message]).await?;
    text(folder, &["rev-parse", "HEAD"]).await
}

async fn run(mut command: Command, folder: &Path, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = command.args(arguments).output().await.context("cannot start git")?;
    anyhow::ensure!(
        output.status.success(),
        "git {} in {} failed ({}): {}",
        arguments.join(" "),
        folder.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}
