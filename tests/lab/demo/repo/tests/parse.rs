use durations::{parse, ParseError};

#[test]
fn one_unit() {
    assert_eq!(parse("45s"), Ok(45));
    assert_eq!(parse("2d"), Ok(172_800));
}

#[test]
fn several_units_add_up() {
    assert_eq!(parse("1h30m"), Ok(5_400));
    assert_eq!(parse("1d1h1m1s"), Ok(90_061));
}

#[test]
fn a_number_needs_a_unit() {
    assert_eq!(parse("90"), Err(ParseError::MissingUnit));
    assert_eq!(parse(""), Err(ParseError::Empty));
    assert_eq!(parse("3w"), Err(ParseError::UnknownUnit('w')));
}
