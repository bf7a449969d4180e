//! Two sides against each other, instance by instance.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;

use super::report::{interval, percent};
use super::results::{self, Row, Status};
use super::statistics::{Interval, bootstrap, mcnemar, mean};
use super::summary::{Group, groups, label};
use crate::outcome::printable;

/// What is known of two sides that have worked the same instances.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub left: Group,
    pub right: Group,
    /// Instances that both sides have a result of.
    pub pairs: usize,
    pub only_left: Vec<String>,
    pub only_right: Vec<String>,
    /// The right side's rate minus the left one's, over the pairs.
    pub difference: Option<f64>,
    pub interval: Option<Interval>,
    /// How likely so uneven a split is if neither is better.
    pub p: f64,
    /// Right minus left.
    pub seconds: Option<Difference>,
    /// Prompts and answers; `None`: unknown for a pair.
    pub tokens: Option<Difference>,
}

/// A mean difference of a pair.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Difference {
    pub mean: f64,
    pub interval: Interval,
}

/// Compares what `left` and `right` name, and prints it.
pub fn print(left: &str, right: &str, out: Option<&Path>, json: bool, output: &mut impl Write) -> anyhow::Result<()> {
    let (left, right) = (select(left, out)?, select(right, out)?);
    let comparison = compare(&left, &right)?;
    if json {
        serde_json::to_writer_pretty(&mut *output, &comparison)?;
        writeln!(output)?;
        return Ok(output.flush()?);
    }
    write_table(&comparison, output)
}

/// The rows that a selector names: `FOLDER`, `FOLDER#NAME`, or `NAME` in `out`.
pub fn select(selector: &str, out: Option<&Path>) -> anyhow::Result<Vec<Row>> {
    let (folder, name) = match (selector.rsplit_once('#'), out) {
        (Some((folder, name)), _) if Path::new(folder).is_dir() => (PathBuf::from(folder), Some(name)),
        _ if Path::new(selector).join(results::FILE).is_file() => (PathBuf::from(selector), None),
        (_, Some(out)) => (out.to_owned(), Some(selector)),
        (_, None) => {
            bail!("--compare {selector}: there is no such folder of results. For a name alone, give --out DIR")
        }
    };
    let mut rows = results::read(&folder)?;
    let labels: Vec<String> = groups(&rows).iter().map(|group| printable(&group.label())).collect();
    if let Some(name) = name {
        let names = |row: &Row| {
            let Row { model, profile, settings, .. } = row;
            [model, profile, settings].into_iter().any(|own| own == name)
                || [label(model, profile, ""), label(model, profile, settings)].iter().any(|own| own == name)
        };
        rows.retain(names);
    }
    match groups(&rows).len() {
        1 => Ok(rows),
        0 => bail!("--compare {selector}: nothing of that name is in {}: {}", folder.display(), labels.join(", ")),
        _ => bail!(
            "--compare {selector}: {} holds several: {}. Name one: {}#NAME",
            folder.display(),
            labels.join(", "),
            folder.display()
        ),
    }
}

/// What a side says of one instance: means over its runs.
struct Point {
    rate: f64,
    seconds: f64,
    tokens: Option<f64>,
}

/// Compares the rows of two sides; several runs of an instance count as one, by their mean.
pub fn compare(left: &[Row], right: &[Row]) -> anyhow::Result<Comparison> {
    let one = |rows: &[Row]| groups(rows).pop().context("a side has no results");
    let (left_group, right_group) = (one(left)?, one(right)?);
    let (left, mut right) = (points(left), points(right));
    let pairs: Vec<(String, Point, Point)> = left
        .into_iter()
        .filter_map(|(instance, left)| right.remove(&instance).map(|right| (instance, left, right)))
        .collect();
    let better = |first: fn(&Point, &Point) -> bool| -> Vec<String> {
        pairs.iter().filter(|(_, left, right)| first(left, right)).map(|(instance, ..)| instance.clone()).collect()
    };
    let only_left = better(|left, right| left.rate > right.rate);
    let only_right = better(|left, right| left.rate < right.rate);
    let rates: Vec<f64> = pairs.iter().map(|(_, left, right)| right.rate - left.rate).collect();
    let seconds: Vec<f64> = pairs.iter().map(|(_, left, right)| right.seconds - left.seconds).collect();
    let tokens: Option<Vec<f64>> = pairs.iter().map(|(_, left, right)| Some(right.tokens? - left.tokens?)).collect();
    Ok(Comparison {
        left: left_group,
        right: right_group,
        pairs: pairs.len(),
        p: mcnemar(only_left.len(), only_right.len()),
        only_left,
        only_right,
        difference: mean(&rates),
        interval: bootstrap(&rates),
        seconds: difference(&seconds),
        tokens: tokens.and_then(|tokens| difference(&tokens)),
    })
}

fn difference(values: &[f64]) -> Option<Difference> {
    Some(Difference { mean: mean(values)?, interval: bootstrap(values)? })
}

fn points(rows: &[Row]) -> BTreeMap<String, Point> {
    let mut by_instance: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.counts()) {
        by_instance.entry(row.instance_id.clone()).or_default().push(row);
    }
    let point = |rows: Vec<&Row>| {
        let of = |value: fn(&Row) -> f64| rows.iter().map(|row| value(row)).sum::<f64>() / rows.len() as f64;
        let tokens = |row: &&Row| Some((row.usage.prompt_tokens? + row.usage.completion_tokens?) as f64);
        let tokens: Option<f64> = rows.iter().map(tokens).sum();
        Point {
            rate: of(|row| f64::from(u8::from(row.status == Status::Resolved))),
            seconds: of(|row| row.seconds),
            tokens: tokens.map(|tokens| tokens / rows.len() as f64),
        }
    };
    by_instance.into_iter().map(|(instance, rows)| (instance, point(rows))).collect()
}

fn write_table(comparison: &Comparison, output: &mut impl Write) -> anyhow::Result<()> {
    for (side, group) in [("A", &comparison.left), ("B", &comparison.right)] {
        let rate = group.rate.map_or_else(|| "-".into(), percent);
        let (name, bounds) = (printable(&group.label()), interval(group.interval));
        writeln!(output, "{side}  {name}: {} of {} resolved, {rate} ({bounds})", group.resolved, group.count)?;
    }
    writeln!(output)?;
    writeln!(output, "{} instances have results of both sides:", comparison.pairs)?;
    if let (Some(difference), Some(bounds)) = (comparison.difference, comparison.interval) {
        let points = |value: f64| format!("{:+.1}", value * 100.0);
        let (low, high) = (points(bounds.low), points(bounds.high));
        writeln!(output, "  resolved, B - A: {} points (95 %: {low} to {high})", points(difference))?;
        let split = format!("better with A {}, with B {}", comparison.only_left.len(), comparison.only_right.len());
        writeln!(output, "  {split}; McNemar's exact test: p = {:.4}", comparison.p)?;
    }
    for (name, difference, unit) in [("time", comparison.seconds, "s"), ("tokens", comparison.tokens, "tokens")] {
        match difference {
            Some(Difference { mean, interval: Interval { low, high } }) => {
                let said = format!("{mean:+.1} {unit} an instance (95 %: {low:+.1} to {high:+.1})");
                writeln!(output, "  {name}, B - A: {said}")?;
            }
            None => writeln!(output, "  {name}, B - A: unknown")?,
        }
    }
    for (side, instances) in [("A", &comparison.only_left), ("B", &comparison.only_right)] {
        if !instances.is_empty() {
            writeln!(output, "  better with {side}: {}", printable(&instances.join(", ")))?;
        }
    }
    Ok(output.flush()?)
}
