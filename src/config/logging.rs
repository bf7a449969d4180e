//! `LOG_LEVEL`, `LOG_FORMAT`, `LOG_OUTPUT`, `LOG_FILE_PATH` and the section `[log]` become the settings of logging.

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::environment::Environment;
use super::flags::{Command, Flags};
use crate::logging::{FileSettings, Format, Settings, Stream};

const MIB: u64 = 1024 * 1024;

/// Logs. The environment wins.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSection {
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`. Default: `info` for the service, else `warn`.
    pub level: Option<String>,
    /// `text` or `json`. Default: `text`.
    pub format: Option<String>,
    /// `stderr`, `stdout`, `file`, or `both` for standard error and the file. Default: `both` if there is a file, else
    /// `stderr`.
    pub output: Option<String>,
    /// Default: none.
    pub file: Option<PathBuf>,
    /// A new file begins when this one would become larger. Default: 50.
    pub rotate_mib: Option<u64>,
    /// A new file begins after so many days. Default: 1.
    pub rotate_days: Option<u32>,
    /// How many old files are kept. Default: 7.
    pub keep_files: Option<u32>,
}

/// Resolves logging for a command. Only what logging needs is read, so that other mistakes are told by their own parts.
pub fn resolve(flags: &Flags, environment: &Environment) -> anyhow::Result<Settings> {
    let section = super::read_config_file(flags.config.as_deref(), environment)?.log;
    let usual_level = match flags.command {
        Command::Serve(_) => "info",
        Command::Run(_)
        | Command::Eval(_)
        | Command::Replay(_)
        | Command::Tasks(_)
        | Command::Health(_)
        | Command::Doctor(_) => "warn",
    };
    of(&section, environment, flags.verbose, usual_level)
}

/// The same, from a section that was read. `usual_level` is that of the command.
pub fn of(section: &LogSection, environment: &Environment, verbose: u8, usual_level: &str) -> anyhow::Result<Settings> {
    let take = |variable: &'static str, key: &'static str, in_file: &Option<String>| match environment.get(variable) {
        Some(text) => (variable, Some(text.to_ascii_lowercase())),
        None => (key, in_file.as_ref().map(|text| text.to_ascii_lowercase())),
    };
    let level = match (verbose, take("LOG_LEVEL", "log.level", &section.level)) {
        (0, (source, Some(text))) => parse_level(source, &text)?,
        (0, (_, None)) => usual_level,
        (1, _) => "info",
        (_, _) => "debug",
    };
    let format = match take("LOG_FORMAT", "log.format", &section.format) {
        (source, Some(text)) => parse_format(source, &text)?,
        (_, None) => Format::Text,
    };
    let path = environment.get("LOG_FILE_PATH").map(PathBuf::from).or(section.file.clone());
    let (stream, to_file) = match take("LOG_OUTPUT", "log.output", &section.output) {
        (source, Some(text)) => parse_output(source, &text)?,
        (_, None) => (Some(Stream::Error), path.is_some()),
    };
    let file = match (to_file, path) {
        (true, Some(path)) => Some(file_settings(section, path)?),
        (true, None) => bail!("LOG_OUTPUT asks for a file, and none is named. Set LOG_FILE_PATH (or log.file)"),
        (false, _) => None,
    };
    Ok(Settings { level: level.to_owned(), format, stream, file })
}

fn parse_level(source: &str, text: &str) -> anyhow::Result<&'static str> {
    match text {
        "error" | "critical" | "fatal" => Ok("error"),
        "warn" | "warning" => Ok("warn"),
        "info" => Ok("info"),
        "debug" => Ok("debug"),
        "trace" => Ok("trace"),
        "off" => Ok("off"),
        other => bail!("{source}=`{other}` is not one of error, warn, info, debug, trace, off"),
    }
}

fn parse_format(source: &str, text: &str) -> anyhow::Result<Format> {
    match text {
        "text" | "plain" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        other => bail!("{source}=`{other}` is neither text nor json"),
    }
}

/// The stream, and whether the file is written too.
fn parse_output(source: &str, text: &str) -> anyhow::Result<(Option<Stream>, bool)> {
    match text {
        "stderr" | "console" => Ok((Some(Stream::Error), false)),
        "stdout" => Ok((Some(Stream::Output), false)),
        "file" => Ok((None, true)),
        "both" => Ok((Some(Stream::Error), true)),
        other => bail!("{source}=`{other}` is not one of stderr (or console), stdout, file, both"),
    }
}

fn file_settings(section: &LogSection, path: PathBuf) -> anyhow::Result<FileSettings> {
    let path = std::path::absolute(&path).with_context(|| format!("LOG_FILE_PATH=`{}` is no path", path.display()))?;
    if path.is_dir() {
        bail!("LOG_FILE_PATH=`{}` is a folder. Name a file in it", path.display());
    }
    let (mib, days) = (section.rotate_mib.unwrap_or(50), section.rotate_days.unwrap_or(1));
    if mib == 0 || days == 0 {
        bail!("log.rotate_mib and log.rotate_days are above zero. Leave them out for 50 MiB and 1 day");
    }
    Ok(FileSettings { path, most_bytes: mib.saturating_mul(MIB), days, kept: section.keep_files.unwrap_or(7) })
}
