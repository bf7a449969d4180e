//! `run`: a shell command in the sandbox.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::super::budget::Budgets;
use super::super::text::{elide, plain};
use super::{Answer, Outputs, RunArguments, digest};
use crate::sandbox::{Command, Ending, Output, Sandbox, SandboxError};

/// The most bytes of output that the model reads, half from the head and half from the tail.
const MOST_OUTPUT_BYTES: usize = 8_000;
/// What tests print beyond this is shortened to the first failure and the counts.
const LEAST_DIGESTED_BYTES: usize = 1_500;

const NEVER_ENDED: &str = "The command did not end within";

/// Whether this answer says of a command that it was killed at its time limit.
pub fn never_ended(answer: &Answer) -> bool {
    !answer.ok && answer.text.starts_with(NEVER_ENDED)
}

/// Runs the command within the timeout that the model asks for, the operator's and the run's. What is not shown of its
/// output is kept in `outputs`. The error is fatal.
pub async fn run(
    sandbox: &dyn Sandbox,
    arguments: &RunArguments,
    budgets: &Budgets,
    outputs: &mut Outputs,
) -> Result<Answer, SandboxError> {
    let line = arguments.command.trim();
    if line.is_empty() {
        return Ok(Answer::error("the command is empty; give a shell command"));
    }
    let asked = arguments.timeout.map_or(budgets.command, |seconds| Duration::from_secs(seconds.max(1).into()));
    let left = budgets.deadline.saturating_duration_since(Instant::now());
    let timeout = asked.min(budgets.command).min(left);
    let command = Command { line: line.to_owned(), directory: PathBuf::new(), environment: BTreeMap::new(), timeout };
    let output = sandbox.run(&command).await?;
    let shown = render(&output, outputs);
    let (ok, ending) = match output.ending {
        Ending::Exited(0) => (true, "The command succeeded (exit code 0).".to_owned()),
        Ending::Exited(code @ (126 | 127)) => (false, format!("The command could not be started (exit code {code}).")),
        Ending::Exited(code) => (false, format!("The command failed (exit code {code}).")),
        Ending::Signalled(signal) => (false, format!("The command was killed by signal {signal}.")),
        Ending::TimedOut => {
            let seconds = timeout.as_secs();
            (false, format!("{NEVER_ENDED} {seconds} s and was killed. Run less, or without waiting."))
        }
        Ending::OutOfMemory => (false, "The command ran out of memory and was killed. Run less at once.".to_owned()),
        Ending::OutOfDisk => {
            (false, "The command wrote more to disk than it may and was killed. Remove what it wrote.".to_owned())
        }
    };
    let text = match shown.is_empty() {
        true => format!("{ending} It printed nothing."),
        false => format!("{ending}\n{shown}"),
    };
    Ok(Answer { ok, text, changed: false })
}

/// What the model reads of an output: all of it, or what its tests come to, or its head and tail; and where the rest is.
fn render(output: &Output, outputs: &mut Outputs) -> String {
    let head = plain(&String::from_utf8_lossy(&output.head));
    let tail = plain(&String::from_utf8_lossy(&output.tail));
    let whole = match output.omitted_bytes {
        0 => format!("{head}{tail}"),
        omitted => format!("{head}\n[... {omitted} bytes left out ...]\n{tail}"),
    };
    let whole = whole.trim_end();
    if whole.len() <= LEAST_DIGESTED_BYTES {
        return whole.to_owned();
    }
    let shown = match digest(whole).and_then(|digest| digest.shown()) {
        Some(digest) if digest.len() < whole.len() => digest,
        Some(_) | None if whole.len() <= MOST_OUTPUT_BYTES => return whole.to_owned(),
        Some(_) | None => elide(whole, MOST_OUTPUT_BYTES),
    };
    let lines = whole.lines().count();
    let name = outputs.keep(whole.to_owned());
    format!("{shown}\n[shortened; all {lines} lines: read with path {name}]")
}
