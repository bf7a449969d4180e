//! Many rows as few figures. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::results::{Row, Status};
use super::statistics::{Interval, mean, wilson};

/// What one model with one profile has come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    pub model: String,
    pub profile: String,
    pub settings: String,
    /// Rows that count ([`Row::counts`]).
    pub count: usize,
    pub resolved: usize,
    /// The hidden tests pass, and a person has to look first: not among `resolved`.
    pub for_review: usize,
    /// All errors, those that count too.
    pub errors: usize,
    /// Of resolved ones among those that count; `None`: there are none.
    pub rate: Option<f64>,
    pub interval: Interval,
    /// Sums over the rows that count; `None`: unknown for one of them.
    pub prompt_tokens: Option<u64>,
    pub cached_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    pub cost_micros: Option<u64>,
    pub seconds: f64,
    pub mean_seconds: Option<f64>,
    pub mean_steps: Option<f64>,
    pub stops: BTreeMap<String, usize>,
    pub languages: BTreeMap<String, Share>,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    pub resolved: usize,
    pub count: usize,
}

impl Group {
    /// What names it among others.
    pub fn label(&self) -> String {
        label(&self.model, &self.profile, &self.settings)
    }

    /// Whether a row is one of it.
    pub fn holds(&self, row: &Row) -> bool {
        (&row.model, &row.profile, &row.settings) == (&self.model, &self.profile, &self.settings)
    }
}

/// `MODEL@PROFILE@SETTINGS`, the last as far as they are told.
pub fn label(model: &str, profile: &str, settings: &str) -> String {
    let settings = if settings.is_empty() { String::new() } else { format!("@{settings}") };
    format!("{model}@{profile}{settings}")
}

/// The rows by model, profile and settings, in the order in which they came.
pub fn groups(rows: &[Row]) -> Vec<Group> {
    let mut labels: Vec<[&str; 3]> = Vec::new();
    for row in rows {
        let label = [row.model.as_str(), row.profile.as_str(), row.settings.as_str()];
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let of = |label: [&str; 3]| {
        let own: Vec<&Row> = rows.iter().filter(|row| [&row.model, &row.profile, &row.settings] == label).collect();
        group(label, &own)
    };
    labels.into_iter().map(of).collect()
}

fn group([model, profile, settings]: [&str; 3], rows: &[&Row]) -> Group {
    let done: Vec<&&Row> = rows.iter().filter(|row| row.counts()).collect();
    let resolved = done.iter().filter(|row| row.status == Status::Resolved).count();
    let mut stops: BTreeMap<String, usize> = BTreeMap::new();
    let mut languages: BTreeMap<String, Share> = BTreeMap::new();
    for row in &done {
        let stop = if row.stop.is_empty() { "not told" } else { &row.stop };
        *stops.entry(stop.to_owned()).or_default() += 1;
        if let Some(language) = &row.language {
            let share = languages.entry(language.clone()).or_default();
            share.count += 1;
            share.resolved += usize::from(row.status == Status::Resolved);
        }
    }
    // What was never asked has cost nothing.
    let sum = |of: fn(&Row) -> Option<u64>| -> Option<u64> {
        done.iter().map(|row| of(row).or((row.steps == 0 && row.stop.is_empty()).then_some(0))).sum()
    };
    let seconds: Vec<f64> = done.iter().map(|row| row.seconds).collect();
    let steps: Vec<f64> = done.iter().map(|row| f64::from(row.steps)).collect();
    Group {
        model: model.to_owned(),
        profile: profile.to_owned(),
        settings: settings.to_owned(),
        count: done.len(),
        resolved,
        for_review: done.iter().filter(|row| row.status == Status::ForReview).count(),
        errors: rows.iter().filter(|row| row.status == Status::Error).count(),
        rate: (!done.is_empty()).then(|| resolved as f64 / done.len() as f64),
        interval: wilson(resolved, done.len()),
        prompt_tokens: sum(|row| row.usage.prompt_tokens),
        cached_tokens: sum(|row| row.usage.cached_tokens),
        completion_tokens: sum(|row| row.usage.completion_tokens),
        cost_micros: sum(|row| row.cost_micros),
        seconds: seconds.iter().sum(),
        mean_seconds: mean(&seconds),
        mean_steps: mean(&steps),
        stops,
        languages,
    }
}
