//! How what the tests of a repository need was made ready.

use serde::{Deserialize, Serialize};

/// What the setup was, and how it went; of a reused one, how it went when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Where the commands come from, in words.
    pub origin: String,
    pub steps: Vec<SetupStep>,
    /// An earlier task has made it.
    pub reused: bool,
    /// Hosts that it wanted to reach and may not, each with what to set to allow it.
    pub refused: Vec<String>,
    /// What was left out and why.
    pub notes: Vec<String>,
    /// Of the whole stage, now.
    pub milliseconds: u64,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupStep {
    /// One line.
    pub name: String,
    #[serde(flatten)]
    pub ending: StepEnding,
    pub milliseconds: u64,
    /// What it printed, in part; empty if it went well.
    pub excerpt: String,
}

/// How one command of the setup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "snake_case")]
pub enum StepEnding {
    Done,
    Failed {
        exit_code: i32,
    },
    /// The program that it needs is not there; nobody asked for it by name.
    Left,
    Killed {
        signal: i32,
    },
    TimedOut,
    OutOfMemory,
    OutOfDisk,
}

impl Setup {
    /// Whether each command did what it was to do.
    pub fn is_whole(&self) -> bool {
        self.steps.iter().all(|step| matches!(step.ending, StepEnding::Done | StepEnding::Left))
    }
}

impl StepEnding {
    /// The ending in words, after a command.
    pub fn describe(self) -> String {
        match self {
            StepEnding::Done => "done".into(),
            StepEnding::Failed { exit_code } => format!("failed with exit code {exit_code}"),
            StepEnding::Left => "left out: its program is not there".into(),
            StepEnding::Killed { signal } => format!("was killed by signal {signal}"),
            StepEnding::TimedOut => "ran into the time limit of the setup".into(),
            StepEnding::OutOfMemory => "ran out of memory".into(),
            StepEnding::OutOfDisk => "wrote more to the disk than a box may".into(),
        }
    }
}
