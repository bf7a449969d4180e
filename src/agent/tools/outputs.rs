//! What commands printed, kept for `read` with a path of `output:1` and so on.

use std::collections::VecDeque;

use super::{Answer, ReadArguments, look};

/// The most bytes of all kept outputs.
const MOST_BYTES: usize = 4 << 20;
/// The most outputs that are kept.
const MOST_OUTPUTS: usize = 20;
/// What the names of outputs begin with.
const PREFIX: &str = "output:";

/// The last outputs, within bounds; older ones are dropped.
#[derive(Debug, Default)]
pub struct Outputs {
    kept: VecDeque<(usize, String)>,
    last: usize,
}

impl Outputs {
    /// Keeps an output, and answers the name to read it by.
    pub fn keep(&mut self, text: String) -> String {
        self.last += 1;
        self.kept.push_back((self.last, text));
        let bytes = |kept: &VecDeque<(usize, String)>| kept.iter().map(|(_, text)| text.len()).sum::<usize>();
        while self.kept.len() > MOST_OUTPUTS || self.kept.len() > 1 && bytes(&self.kept) > MOST_BYTES {
            self.kept.pop_front();
        }
        format!("{PREFIX}{}", self.last)
    }

    /// The answer to a `read` of an output, of at most `page` tokens; `None`: a file is meant.
    pub fn read(&self, arguments: &ReadArguments, page: u64) -> Option<Answer> {
        let name = arguments.path.trim();
        let number = name.strip_prefix(PREFIX)?.trim().parse::<usize>().ok();
        Some(match self.kept.iter().find(|(kept, _)| Some(*kept) == number) {
            Some((_, text)) => look::lines(name, text, arguments, page),
            None => {
                let names: Vec<String> = self.kept.iter().map(|(number, _)| format!("{PREFIX}{number}")).collect();
                let there = if names.is_empty() { "nothing".into() } else { names.join(", ") };
                Answer::error(format!("`{name}` is not kept. Kept is {there}; run the command again for another one"))
            }
        })
    }
}
