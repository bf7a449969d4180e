//! Figures: samples with their medians, the aims they are held against, as a table and as JSON.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

/// All that one run of the benchmark measured.
#[derive(Debug, Serialize)]
pub struct Figures {
    machine: Machine,
    rounds: u32,
    rows: Vec<Row>,
}

/// What it was measured on.
#[derive(Debug, Serialize)]
pub struct Machine {
    processors: usize,
    memory_gib: u64,
    kernel: String,
    git: String,
    /// One minute's load before and after: above zero before, something else was running.
    load_before: f64,
    load_after: f64,
}

/// One thing that was measured.
#[derive(Debug, Serialize)]
pub struct Row {
    pub group: &'static str,
    pub name: String,
    pub unit: Unit,
    pub median: Option<f64>,
    pub least: Option<f64>,
    pub most: Option<f64>,
    /// The median is to be at most this.
    pub at_most: Option<f64>,
    /// The median is to be at least this.
    pub at_least: Option<f64>,
    pub reached: Option<bool>,
    /// Why there are no samples.
    pub not_run: Option<String>,
    pub samples: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Milliseconds,
    Mebibytes,
    /// How many times one median is of another.
    Times,
    Count,
    Percent,
}

impl Figures {
    pub fn new(machine: Machine, rounds: u32) -> Self {
        Self { machine, rounds, rows: Vec::new() }
    }

    /// Timed runs of each thing.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Adds a row and returns its median.
    pub fn add(&mut self, group: &'static str, name: &str, unit: Unit, samples: Vec<f64>, at_most: Option<f64>) -> f64 {
        let median = median(&samples);
        self.rows.push(Row {
            group,
            name: name.to_owned(),
            unit,
            median: Some(median),
            least: samples.iter().copied().reduce(f64::min),
            most: samples.iter().copied().reduce(f64::max),
            at_most,
            at_least: None,
            reached: at_most.map(|limit| median <= limit),
            not_run: None,
            samples,
        });
        eprintln!("  {}", self.rows.last().map(Row::line).unwrap_or_default());
        median
    }

    /// Adds a row whose median is to be at least `limit`.
    pub fn add_at_least(&mut self, group: &'static str, name: &str, unit: Unit, samples: Vec<f64>, limit: f64) {
        let median = self.add(group, name, unit, samples, None);
        if let Some(row) = self.rows.last_mut() {
            row.at_least = Some(limit);
            row.reached = Some(median >= limit);
        }
    }

    /// Adds how many times `number` is of `of`, both medians of the same rounds.
    pub fn add_ratio(&mut self, group: &'static str, name: &str, ratio: f64, aim: Aim) {
        let (at_most, at_least) = match aim {
            Aim::None => (None, None),
            Aim::AtMost(limit) => (Some(limit), None),
            Aim::AtLeast(limit) => (None, Some(limit)),
        };
        self.add(group, name, Unit::Times, vec![ratio], at_most);
        if let (Some(limit), Some(row)) = (at_least, self.rows.last_mut()) {
            row.at_least = Some(limit);
            row.reached = Some(ratio >= limit);
        }
    }

    /// Adds a row for something that cannot be measured here.
    pub fn leave_out(&mut self, group: &'static str, name: &str, reason: &str, at_most: Option<f64>) {
        let row = Row {
            group,
            name: name.to_owned(),
            unit: Unit::Milliseconds,
            median: None,
            least: None,
            most: None,
            at_most,
            at_least: None,
            reached: None,
            not_run: Some(reason.to_owned()),
            samples: Vec::new(),
        };
        eprintln!("  {}", row.line());
        self.rows.push(row);
    }

    /// Looks at the machine again.
    pub fn finish(&mut self) {
        self.machine.load_after = load();
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "\n{} processors, {} GiB, Linux {}, {}; load {:.1} before, {:.1} after; {} rounds\n",
            machine.processors,
            machine.memory_gib,
            machine.kernel,
            machine.git,
            machine.load_before,
            machine.load_after,
            self.rounds
        );
        let mut group = "";
        for row in &self.rows {
            if row.group != group {
                group = row.group;
                let _ = writeln!(text, "\n{group:<58}{:>10} {:>10} {:>10}  {:<12}", "median", "least", "most", "aim");
            }
            let _ = writeln!(text, "{}", row.line());
        }
        text
    }
}

/// What a ratio is to be.
#[derive(Debug, Clone, Copy)]
pub enum Aim {
    None,
    AtMost(f64),
    AtLeast(f64),
}

impl Row {
    fn line(&self) -> String {
        let aim = match (self.at_most, self.at_least) {
            (Some(limit), _) => format!("<= {limit}"),
            (None, Some(limit)) => format!(">= {limit}"),
            (None, None) => String::new(),
        };
        let verdict = match self.reached {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None => "",
        };
        let name = &self.name;
        match (self.median, self.least, self.most, &self.not_run) {
            (Some(median), Some(least), Some(most), _) => {
                let unit = self.unit.short();
                format!("{name:<54}{unit:>4}{median:>10.1} {least:>10.1} {most:>10.1}  {aim:<10} {verdict}")
            }
            (_, _, _, reason) => {
                format!("{name:<58}not run: {}  {aim}", reason.as_deref().unwrap_or("unknown"))
            }
        }
        .trim_end()
        .to_owned()
    }
}

impl Unit {
    fn short(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Mebibytes => "MiB",
            Unit::Times => "x",
            Unit::Count => "",
            Unit::Percent => "%",
        }
    }
}

impl Machine {
    pub fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let total = read("/proc/meminfo")
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        let git = std::process::Command::new("git").arg("version").output();
        Self {
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: total.unwrap_or(0).div_ceil(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            git: git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default(),
            load_before: load(),
            load_after: 0.0,
        }
    }
}

/// Milliseconds, as samples are kept.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|one| one.parse().ok()).unwrap_or(0.0)
}

/// The middle sample; of an even number, the mean of the two in the middle.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (length, middle) if length % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        (_, middle) => sorted[middle],
    }
}
