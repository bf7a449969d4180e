//! Durations as people write them: `1h30m`, `45s`, `2d`.

/// Why a text is no duration.
#[derive(Debug, PartialEq, Eq)]
pub enum ParseError {
    Empty,
    MissingUnit,
    UnknownUnit(char),
}

/// Parses `1h30m` into seconds. Units: `d`, `h`, `m`, `s`.
pub fn parse(text: &str) -> Result<u64, ParseError> {
    if text.is_empty() {
        return Err(ParseError::Empty);
    }
    let mut total = 0;
    let mut number = 0;
    let mut digits = false;
    for letter in text.chars() {
        if let Some(digit) = letter.to_digit(10) {
            number = number * 10 + u64::from(digit);
            digits = true;
            continue;
        }
        let unit = match letter {
            'd' => 86_400,
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            other => return Err(ParseError::UnknownUnit(other)),
        };
        total = number * unit;
        number = 0;
        digits = false;
    }
    if digits {
        return Err(ParseError::MissingUnit);
    }
    Ok(total)
}
