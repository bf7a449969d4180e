/// The middle of a sorted slice; the mean of both where there are two.
pub fn median(sorted: &[i64]) -> Option<i64> {
    let middle = sorted.len() / 2;
    sorted.get(middle).copied()
}
