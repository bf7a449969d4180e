//! How many tokens a text has, for a model whose tokeniser is not here. Pure.
//!
//! A text is weighed by what tokenisers of code models do with it, whatever their vocabulary: a short word with the space
//! before it is one token, a long or capital one several, a digit one, punctuation one for two, and what is no ASCII one
//! for three bytes. So a log of hexadecimal numbers weighs twice what prose of the same length does. [`Estimator`] then
//! corrects the scale by what the server has counted.

/// Letters of a word that are one token.
const LETTERS: u64 = 6;
/// Of a word in capitals.
const CAPITALS: u64 = 3;
/// Spaces that are one token: indentation.
const SPACES: u64 = 8;
/// Tokens for a unit of weight, until the server has counted: code and prose have between 0.7 and 0.9. (`docs/agent.md`)
const USUAL: f64 = 0.85;
/// How much of a new measurement goes into the correction.
const SHARE: f64 = 0.3;
/// What one correction may come to: beyond that, the server counted something else.
const BOUNDS: (f64, f64) = (0.4, 2.5);

/// The weight of a text: about its tokens.
pub fn weigh(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut weight = 0;
    let mut at = 0;
    while let Some(&first) = bytes.get(at) {
        let run = |is: fn(u8) -> bool| bytes[at..].iter().take_while(|byte| is(**byte)).count();
        let (length, tokens) = match first {
            b'a'..=b'z' => {
                let length = run(|byte| byte.is_ascii_lowercase());
                (length, (length as u64).div_ceil(LETTERS))
            }
            b'A'..=b'Z' => {
                let capitals = run(|byte| byte.is_ascii_uppercase());
                let lower = bytes[at + capitals..].iter().take_while(|byte| byte.is_ascii_lowercase()).count();
                // One capital belongs to the word behind it.
                match (capitals, lower) {
                    (1, lower) => (1 + lower, (1 + lower as u64).div_ceil(LETTERS)),
                    (capitals, _) => (capitals, (capitals as u64).div_ceil(CAPITALS)),
                }
            }
            b'0'..=b'9' => (1, 1),
            b' ' | b'\t' => {
                let length = run(|byte| matches!(byte, b' ' | b'\t'));
                // A single space belongs to the word behind it, but not to a number.
                let is_part = length == 1 && !bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
                (length, if is_part { 0 } else { (length as u64).div_ceil(SPACES) })
            }
            b'\n' | b'\r' => (run(|byte| matches!(byte, b'\n' | b'\r')), 1),
            0x80.. => {
                let length = run(|byte| !byte.is_ascii());
                (length, (length as u64).div_ceil(3))
            }
            _ => {
                let length = run(|byte| byte.is_ascii_punctuation()).max(1);
                (length, (length as u64).div_ceil(2))
            }
        };
        at += length;
        weight += tokens;
    }
    weight
}

/// What a weight is in the tokens of one model.
#[derive(Debug, Clone)]
pub(super) struct Estimator {
    /// Tokens for a unit of weight.
    scale: f64,
    /// The last prompt that the server counted: weight and tokens.
    anchor: Option<(u64, u64)>,
    /// The scale is the server's.
    is_measured: bool,
}

impl Default for Estimator {
    fn default() -> Self {
        Self { scale: USUAL, anchor: None, is_measured: false }
    }
}

impl Estimator {
    /// The tokens of a prompt of this weight: where it is the last one and more, that one's count and the rest.
    pub(super) fn prompt(&self, weight: u64) -> u64 {
        match self.anchor {
            Some((then, tokens)) if weight >= then => tokens + self.tokens(weight - then),
            Some(_) | None => self.tokens(weight),
        }
    }

    /// The most tokens that a prompt of this weight has, with room for what the estimate does not know.
    pub(super) fn at_most(&self, weight: u64) -> u64 {
        match self.anchor {
            Some((then, tokens)) if weight >= then => {
                let more = self.tokens(weight - then);
                tokens + more + more / 3 + 16
            }
            Some(_) | None => {
                let tokens = self.tokens(weight);
                tokens + tokens / self.margin()
            }
        }
    }

    /// The weight of a prompt of so many tokens, with the same room as [`Estimator::at_most`].
    pub(super) fn weight_within(&self, tokens: u64) -> u64 {
        match self.anchor {
            Some((then, counted)) if tokens > counted + 16 => {
                then + ((tokens - counted - 16) as f64 * 0.75 / self.scale) as u64
            }
            Some(_) | None => ((tokens - tokens / (self.margin() + 1)) as f64 / self.scale) as u64,
        }
    }

    /// Forgets the last prompt, which is no beginning of the next one any more; the scale stays.
    pub(super) fn forget(&mut self) {
        self.anchor = None;
    }

    /// A part of this is added where nothing was counted: less where the scale is the server's.
    fn margin(&self) -> u64 {
        if self.is_measured { 8 } else { 4 }
    }

    /// The tokens of a part.
    pub(super) fn tokens(&self, weight: u64) -> u64 {
        // Weights are far below what a float holds exactly, and no scale is negative.
        (weight as f64 * self.scale).ceil() as u64
    }

    /// Takes in what the server counted for a prompt of this weight.
    pub(super) fn correct(&mut self, weight: u64, tokens: u64) {
        if weight == 0 || tokens == 0 {
            return;
        }
        let measured = (tokens as f64 / weight as f64).clamp(BOUNDS.0, BOUNDS.1);
        self.scale = if self.is_measured { self.scale + SHARE * (measured - self.scale) } else { measured };
        self.is_measured = true;
        self.anchor = Some((weight, tokens));
    }

    /// The last prompt that the server counted: weight and tokens.
    pub(super) fn anchor(&self) -> Option<(u64, u64)> {
        self.anchor
    }
}
