//! Plain statistics: how sure a rate is, and a difference. Pure, and the same for the same numbers.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The 97.5th percentile of the normal distribution: for intervals of 95 %.
const Z: f64 = 1.959_963_984_540_054;
/// Samples of a bootstrap.
const SAMPLES: usize = 10_000;

/// A lower and an upper bound, which hold with 95 %.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// The interval of a rate of `hits` in `count`, after Wilson (1927). Without any count it is all there is.
pub fn wilson(hits: usize, count: usize) -> Interval {
    if count == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (count, rate) = (count as f64, hits as f64 / count as f64);
    let divisor = 1.0 + Z * Z / count;
    let middle = (rate + Z * Z / (2.0 * count)) / divisor;
    let half = Z * (rate * (1.0 - rate) / count + Z * Z / (4.0 * count * count)).sqrt() / divisor;
    // The formula's own bounds at the ends, where a float misses them by a hair.
    let low = if rate == 0.0 { 0.0 } else { (middle - half).max(0.0) };
    let high = if rate == 1.0 { 1.0 } else { (middle + half).min(1.0) };
    Interval { low, high }
}

/// The exact test of McNemar (1947): of the pairs that differ, `first` speak for one side and `second` for the other.
/// How likely at least so uneven a split is, if neither side is better.
pub fn mcnemar(first: usize, second: usize) -> f64 {
    let count = first + second;
    let fewer = first.min(second);
    // Sums binomial coefficients over 2^count, each from the one before, in logarithms: 0.5^count gets too small.
    let mut logarithm = -(count as f64) * std::f64::consts::LN_2;
    let mut tail = logarithm.exp();
    for k in 1..=fewer {
        logarithm += ((count - k + 1) as f64).ln() - (k as f64).ln();
        tail += logarithm.exp();
    }
    (2.0 * tail).min(1.0)
}

/// The interval of the mean of `differences`, by drawing from them again and again (Efron 1979, percentiles).
/// `None`: there are none.
pub fn bootstrap(differences: &[f64]) -> Option<Interval> {
    if differences.is_empty() {
        return None;
    }
    let mut random = StdRng::seed_from_u64(0x9a7c_4e21);
    let mut means: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let drawn = (0..differences.len()).map(|_| differences[random.random_range(0..differences.len())]);
            drawn.sum::<f64>() / differences.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((SAMPLES - 1) as f64 * share).round() as usize];
    Some(Interval { low: at(0.025), high: at(0.975) })
}

/// `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
