/// The middle of a sorted slice; the mean of both where there are two.
pub fn median(sorted: &[i64]) -> Option<i64> {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        return sorted.get(middle).copied();
    }
    Some((sorted.get(middle.checked_sub(1)?)? + sorted.get(middle)?) / 2)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn of_three() {
        assert_eq!(median(&[1, 2, 9]), Some(2));
    }

    #[test]
    fn of_two() {
        assert_eq!(median(&[1, 3]), Some(2));
        assert_eq!(median(&[]), None);
    }
}
