//! The repository's own tests: which command, and what it says.

pub(super) mod detect;
mod excerpt;
mod names;
mod shell;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::agent::tools::digest;
use crate::outcome::{TestCommand, TestEnding, TestRun};
use crate::sandbox::{Command, Ending, Output, Sandbox, SandboxError};

use crate::weak::{self, Defence};
pub use detect::{Listing, detect};
pub use excerpt::excerpt;
pub use names::failing;

/// How long it may take to look whether the test runner is there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);
/// How much longer than on the base the tests of a sample may take.
const TIMES_BASE: u64 = 10;
const BEYOND_BASE: Duration = Duration::from_secs(10);

/// Runs the tests in `sandbox` and says how they ended.
///
/// 1. The command runs at the repository's root, with `CI=true`, so that no runner waits for a person.
/// 2. Its exit code decides, never what it printed.
/// 3. A failing code does not tell failing tests from a runner that is missing; a second command looks for the runner.
/// 4. What it printed is shortened for people, and read for the first failure: this is the only place that does so.
pub async fn run_tests(
    sandbox: &dyn Sandbox,
    command: &TestCommand,
    timeout: Duration,
) -> Result<TestRun, SandboxError> {
    let output = sandbox.run(&shell_line(command.command.clone(), timeout)).await?;
    let ending = match output.ending {
        Ending::Exited(0) => TestEnding::Passed,
        Ending::Exited(_) if weak::is_off(Defence::ExitCodes) && text_of(&output).contains("passed") => {
            TestEnding::Passed
        }
        Ending::Exited(exit_code) => failing_exit(sandbox, &command.command, exit_code).await?,
        Ending::Signalled(signal) => TestEnding::Killed { signal },
        Ending::TimedOut => TestEnding::TimedOut { seconds: timeout.as_secs() },
        Ending::OutOfMemory => TestEnding::OutOfMemory,
        Ending::OutOfDisk => TestEnding::OutOfDisk,
    };
    let printed = excerpt::printed(&output.head, &output.tail, output.omitted_bytes);
    let is_red = matches!(ending, TestEnding::Failed { .. }) && output.omitted_bytes == 0;
    Ok(TestRun {
        command: command.command.clone(),
        failing: if is_red { failing(&printed) } else { None },
        milliseconds: u64::try_from(output.duration.as_millis()).unwrap_or(u64::MAX),
        excerpt: excerpt::excerpt_of(&printed),
        // Of the whole: an excerpt may begin behind the first failure's own beginning.
        digest: if ending == TestEnding::Passed { None } else { digest(&printed) },
        ending,
    })
}

/// The longest that the tests may take on one sample of many: one that hangs must not cost the operator's limit each time.
/// The base is the measure, if its tests ran to their counts.
pub fn longest_of_sample(baseline: Option<&TestRun>, limit: Duration) -> Duration {
    let has_run = |run: &&TestRun| {
        run.ending == TestEnding::Passed || run.digest.as_ref().is_some_and(|digest| digest.failed.is_some())
    };
    let of_base = |run: &TestRun| Duration::from_millis(run.milliseconds.saturating_mul(TIMES_BASE)) + BEYOND_BASE;
    baseline.filter(has_run).map_or(limit, |run| of_base(run).min(limit))
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.head).into_owned()
}

/// What an exit code other than 0 means for this command.
async fn failing_exit(sandbox: &dyn Sandbox, line: &str, exit_code: i32) -> Result<TestEnding, SandboxError> {
    if shell::nothing_to_run_code(line) == Some(exit_code) {
        return Ok(TestEnding::NothingToRun { exit_code });
    }
    if matches!(exit_code, 126 | 127) && shell::hands_on_shell_codes(line) {
        return Ok(TestEnding::NotFound { exit_code });
    }
    let Some(probe) = shell::runner_probe(line, exit_code) else {
        return Ok(TestEnding::Failed { exit_code });
    };
    Ok(match sandbox.run(&shell_line(probe, PROBE_TIMEOUT)).await?.ending {
        Ending::Exited(shell::RUNNER_IS_MISSING) => TestEnding::NotFound { exit_code },
        Ending::Exited(_) | Ending::Signalled(_) | Ending::TimedOut | Ending::OutOfMemory | Ending::OutOfDisk => {
            TestEnding::Failed { exit_code }
        }
    })
}

fn shell_line(line: String, timeout: Duration) -> Command {
    let environment = BTreeMap::from([("CI".to_owned(), "true".to_owned())]);
    Command { line, directory: PathBuf::new(), environment, timeout }
}
