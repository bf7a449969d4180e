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
    /// Rows with a result; errors are none.
    pub count: usize,
    pub resolved: usize,
    pub errors: usize,
    /// Of resolved ones; `None`: there are no results.
    pub rate: Option<f64>,
    pub interval: Interval,
    /// Sums over the rows with a result; `None`: unknown for one of them.
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

/// The rows by model and profile, in the order in which they came.
pub fn groups(rows: &[Row]) -> Vec<Group> {
    let mut labels: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        let label = (row.model.as_str(), row.profile.as_str());
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let of = |(model, profile): (&str, &str)| {
        let own: Vec<&Row> = rows.iter().filter(|row| row.model == model && row.profile == profile).collect();
        group(model, profile, &own)
    };
    labels.into_iter().map(of).collect()
}

fn group(model: &str, profile: &str, rows: &[&Row]) -> Group {
    let done: Vec<&&Row> = rows.iter().filter(|row| row.status != Status::Error).collect();
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
        count: done.len(),
        resolved,
        errors: rows.len() - done.len(),
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
