use median::median;

#[test]
fn of_three() {
    assert_eq!(median(&[1, 2, 9]), Some(2));
}

#[test]
fn of_two() {
    assert_eq!(median(&[1, 3]), Some(2));
    assert_eq!(median(&[]), None);
}
