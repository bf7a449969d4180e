//! Logging: text or JSON lines, to standard error, standard output, a file, or a stream and a file.
//!
//! Everything that is written goes through [`redact`] first, panics too. Each line inside a task names its id and attempt,
//! and its stage: fields of the spans that [`task_span`] and [`stage_span`] make.

pub mod file;
pub mod json;
mod kept;
pub mod redact;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Span;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

pub use file::{FileSettings, RotatingFile};
pub use kept::{keep_passing_secret, keep_secret, redacted, scanner, screened};

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`.
    pub level: String,
    pub format: Format,
    /// The stream, unless only the file is written.
    pub stream: Option<Stream>,
    pub file: Option<FileSettings>,
}

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// A stream of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Error,
    Output,
}

/// Starts logging for the whole process, and logs panics from now on.
///
/// # Errors
///
/// A file that cannot be opened, a level that is none, or a second call.
pub fn start(settings: &Settings) -> anyhow::Result<()> {
    let writer = Writer {
        stream: settings.stream,
        file: settings.file.clone().map(RotatingFile::open).transpose()?.map(|file| Arc::new(Mutex::new(file))),
    };
    let quiet = if matches!(settings.level.as_str(), "debug" | "trace") { settings.level.as_str() } else { "off" };
    // The libraries below log a failed request as an error; whether it is one is ours to say.
    let level = &settings.level;
    let filter = EnvFilter::try_new(format!("{level},octocrab={quiet},hyper_util=off,h2=off,reqwest={quiet}"))?;
    let colours = settings.file.is_none()
        && match settings.stream {
            Some(Stream::Error) => io::stderr().is_terminal(),
            Some(Stream::Output) => io::stdout().is_terminal(),
            None => false,
        };
    let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(colours).with_env_filter(filter);
    let started = match settings.format {
        Format::Text => subscriber.try_init(),
        Format::Json => {
            let fields = tracing_subscriber::fmt::format::JsonFields::new();
            subscriber.fmt_fields(fields).event_format(json::Lines).try_init()
        }
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// The span of a task; it is open at every level, so that errors have it too.
pub fn task_span(id: &str, attempt: u64) -> Span {
    tracing::error_span!("task", task = id, attempt)
}

/// The span of a stage, inside of the task's.
pub fn stage_span(stage: &str) -> Span {
    tracing::error_span!("stage", stage)
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a value that is no text");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let trace = std::backtrace::Backtrace::capture();
    if tracing::enabled!(tracing::Level::ERROR) {
        match trace.status() {
            std::backtrace::BacktraceStatus::Captured => tracing::error!(place, %trace, "panic: {message}"),
            _ => tracing::error!(place, "panic: {message}"),
        }
    } else {
        // A panic is told even where nothing is logged. Standard error may be closed.
        drop(writeln!(io::stderr(), "{}", redacted(&format!("panic at {place}: {message}"))));
    }
}

/// Makes the writer of one line.
struct Writer {
    stream: Option<Stream>,
    file: Option<Arc<Mutex<RotatingFile>>>,
}

/// Writes one line without its secrets to wherever lines go.
struct Line<'a>(&'a Writer);

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

impl Write for Line<'_> {
    /// Takes the whole of `bytes`; the formatter hands over a line at a time.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        // One event, one line: text of others cannot look like a line of its own.
        let line = line.strip_suffix('\n').unwrap_or(&line).replace('\r', "\\r");
        let clean = redacted(&line).replace('\n', "\\n") + "\n";
        let to_stream = match self.0.stream {
            Some(Stream::Error) => io::stderr().lock().write_all(clean.as_bytes()),
            Some(Stream::Output) => io::stdout().lock().write_all(clean.as_bytes()),
            None => Ok(()),
        };
        let to_file = match &self.0.file {
            Some(file) => file.lock().unwrap_or_else(PoisonError::into_inner).write_line(clean.as_bytes()),
            None => Ok(()),
        };
        // A full disk or a closed stream must stop neither the other nor the work.
        to_stream.or(to_file).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
