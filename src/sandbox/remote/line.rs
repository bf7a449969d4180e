//! A process of ours in the box, and the two pipes to it, over the engine's connection.

use std::future::ready;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::super::SandboxError;
use super::super::engine::{self, ANSWER_LIMIT, ask};
use super::super::namespace::HELPER_ARGUMENT;
use super::super::portable::Portable;

/// How much of what a process says of its errors is kept.
const MOST_COMPLAINT: usize = 2000;

/// Where processes of ours run.
#[derive(Debug, Clone)]
pub struct Site {
    pub docker: Docker,
    pub container: String,
    /// What starts our binary there.
    pub program: Vec<String>,
}

/// The pipes to a process. Dropped: they are closed.
pub struct Line {
    pub from: Pin<Box<dyn AsyncRead + Send>>,
    pub to: Pin<Box<dyn AsyncWrite + Send>>,
    pub complaint: Complaint,
    /// Counts what comes.
    progress: Arc<AtomicU64>,
}

/// What a process says on its standard error.
#[derive(Debug, Clone, Default)]
pub struct Complaint(Arc<Mutex<String>>);

/// One of the pipes for code that blocks; each use is counted, and there is none after the deadline.
pub struct Counted<T> {
    pipe: T,
    progress: Arc<AtomicU64>,
    deadline: Instant,
}

impl Site {
    pub fn new(docker: &Docker, container: &str, portable: &Portable) -> Self {
        Self { docker: docker.clone(), container: container.to_owned(), program: portable.line.clone() }
    }

    /// Starts our binary as `user` (`UID:GID`).
    ///
    /// # Errors
    /// The engine does not start it.
    pub async fn start(&self, user: &str, arguments: &[&str]) -> Result<Line, SandboxError> {
        let arguments = [HELPER_ARGUMENT].iter().chain(arguments).map(|argument| (*argument).to_owned());
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            user: Some(user.to_owned()),
            working_dir: Some("/".to_owned()),
            cmd: Some(self.program.iter().cloned().chain(arguments).collect()),
            ..CreateExecOptions::default()
        };
        let exec = ask("prepare a process of ours", ANSWER_LIMIT, self.docker.create_exec(&self.container, options));
        let exec = exec.await?.id;
        let started = ask("start a process of ours", ANSWER_LIMIT, self.docker.start_exec(&exec, None)).await?;
        let StartExecResults::Attached { output, input } = started else {
            return Err(SandboxError::Broken("the engine does not connect us with what it starts".into()));
        };
        let (complaint, progress) = (Complaint::default(), Arc::new(AtomicU64::new(0)));
        let (said, counted) = (complaint.clone(), progress.clone());
        let bytes = output.filter_map(move |part| {
            counted.fetch_add(1, Ordering::Relaxed);
            ready(match part {
                Ok(LogOutput::StdOut { message }) => Some(Ok::<Bytes, io::Error>(message)),
                Ok(LogOutput::StdErr { message }) => {
                    said.add(&message);
                    None
                }
                Ok(LogOutput::StdIn { .. } | LogOutput::Console { .. }) => None,
                Err(error) => Some(Err(io::Error::other(engine::explain(&error)))),
            })
        });
        Ok(Line { from: Box::pin(StreamReader::new(Box::pin(bytes))), to: input, complaint, progress })
    }
}

impl Line {
    /// Pipes to a process, however they were made.
    pub fn of(from: impl AsyncRead + Send + 'static, to: impl AsyncWrite + Send + 'static) -> Self {
        Self { from: Box::pin(from), to: Box::pin(to), complaint: Complaint::default(), progress: Arc::default() }
    }

    /// The pipes for code that blocks, which must run in a thread of its own; and what tells whether they are used.
    pub fn for_blocking(self, deadline: Instant) -> (impl Read + Send, impl Write + Send, Complaint, Arc<AtomicU64>) {
        let Self { from, to, complaint, progress } = self;
        let from = Counted::new(SyncIoBridge::new(from), &progress, deadline);
        let to = Counted::new(SyncIoBridge::new(to), &progress, deadline);
        (io::BufReader::with_capacity(1 << 16, from), io::BufWriter::with_capacity(1 << 16, to), complaint, progress)
    }
}

impl Complaint {
    fn add(&self, text: &[u8]) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < MOST_COMPLAINT {
            said.push_str(&String::from_utf8_lossy(text));
        }
    }

    /// An error with what was said besides.
    pub fn explain(&self, what: &str, error: impl std::fmt::Display) -> SandboxError {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said: String = said.trim().chars().filter(|character| !character.is_control()).collect();
        let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
        SandboxError::Broken(format!("{what}: {error}{said}"))
    }
}

impl<T> Counted<T> {
    pub fn new(pipe: T, progress: &Arc<AtomicU64>, deadline: Instant) -> Self {
        Self { pipe, progress: progress.clone(), deadline }
    }

    fn in_time(&mut self) -> io::Result<&mut T> {
        if Instant::now() > self.deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it takes too long"));
        }
        Ok(&mut self.pipe)
    }
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.in_time()?.read(buffer)
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.progress.fetch_add(1, Ordering::Relaxed);
        self.in_time()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.in_time()?.flush()
    }
}
