//! The rule that leads from the indentation a model wrote to the file's.
//!
//! The first of these that fits every line is taken; where several of one kind fit, they must agree on the new lines:
//!
//! 1. the same white space more, or less, in front of every line;
//! 2. another unit for the same depth (four spaces for a tab, two for four);
//! 3. another unit, and a depth that differs by the same number.

/// The units that files are indented by.
const UNITS: [&str; 5] = ["\t", "    ", "  ", "   ", "        "];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Deeper(String),
    Shallower(String),
    Units { from: &'static str, to: &'static str, shift: isize },
}

/// A line's white space at its beginning, and the rest.
pub(super) fn split(line: &str) -> (&str, &str) {
    line.split_at(line.len() - line.trim_start_matches([' ', '\t']).len())
}

/// The new lines, indented as the file is. `pairs`: the indentation of each old line, the model's and the file's.
///
/// `None`: no rule fits, or it is not clear which.
pub(super) fn follow(pairs: &[(&str, &str)], new: &[&str]) -> Option<Vec<String>> {
    if pairs.iter().all(|(model, file)| model == file) {
        return Some(new.iter().map(|line| (*line).to_owned()).collect());
    }
    let by = |rule: &Rule| new.iter().map(|line| rule.indent(line)).collect::<Option<Vec<String>>>();
    if let Some(rule) = shifted(pairs) {
        return by(&rule);
    }
    let rules: Vec<Rule> =
        UNITS.iter().flat_map(|from| UNITS.iter().filter_map(|to| in_units(pairs, from, to))).collect();
    let same_depth = |rule: &Rule| matches!(rule, Rule::Units { shift: 0, .. });
    let likely: Vec<&Rule> = match rules.iter().any(same_depth) {
        true => rules.iter().filter(|rule| same_depth(rule)).collect(),
        false => rules.iter().collect(),
    };
    let mut results = likely.into_iter().filter_map(by);
    let first = results.next()?;
    results.all(|other| other == first).then_some(first)
}

fn shifted(pairs: &[(&str, &str)]) -> Option<Rule> {
    let (model, file) = pairs.first()?;
    let rule = if let Some(more) = file.strip_suffix(model) {
        Rule::Deeper(more.to_owned())
    } else {
        Rule::Shallower(model.strip_suffix(file)?.to_owned())
    };
    pairs.iter().all(|(model, file)| rule.indent(&format!("{model}x")) == Some(format!("{file}x"))).then_some(rule)
}

fn in_units(pairs: &[(&str, &str)], from: &'static str, to: &'static str) -> Option<Rule> {
    let (model, file) = pairs.first()?;
    let shift = isize::try_from(depth(file, to)?).ok()? - isize::try_from(depth(model, from)?).ok()?;
    let rule = Rule::Units { from, to, shift };
    pairs.iter().all(|(model, file)| rule.indent(&format!("{model}x")) == Some(format!("{file}x"))).then_some(rule)
}

/// How many units an indentation is; `None`: it is no whole number of them.
fn depth(indentation: &str, unit: &str) -> Option<usize> {
    let depth = indentation.len() / unit.len();
    (unit.repeat(depth) == indentation).then_some(depth)
}

impl Rule {
    fn indent(&self, line: &str) -> Option<String> {
        if line.trim().is_empty() {
            return Some(line.to_owned());
        }
        match self {
            Rule::Deeper(space) => Some(format!("{space}{line}")),
            Rule::Shallower(space) => line.strip_prefix(space.as_str()).map(str::to_owned),
            Rule::Units { from, to, shift } => {
                let (space, rest) = split(line);
                // What is less than a unit is alignment, and stays.
                let (whole, part) = match depth(space, from) {
                    Some(whole) => (whole, ""),
                    None => {
                        let part = space.trim_start_matches(from);
                        (depth(&space[..space.len() - part.len()], from)?, part)
                    }
                };
                let depth = usize::try_from(isize::try_from(whole).ok()? + shift).ok()?;
                Some(format!("{}{part}{rest}", to.repeat(depth)))
            }
        }
    }
}
