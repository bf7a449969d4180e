//! What all attempts at one task have spent together: they have one budget.

use std::sync::{Arc, Mutex, PoisonError};

use crate::outcome::Usage;

/// Shared by the attempts at one task. Cheap to clone; a clone is the same purse.
#[derive(Debug, Clone, Default)]
pub struct Purse(Arc<Mutex<Spendings>>);

/// The sums over all requests of all attempts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spendings {
    /// Requests to the model.
    pub(super) steps: u32,
    /// As the server reported it; unknown is not zero.
    pub(super) usage: Usage,
    /// Tokens of prompts and of answers as reported, or estimated where the server does not tell: what the budgets are
    /// measured by.
    pub(super) read: u64,
    pub(super) written: u64,
}

impl Purse {
    /// Requests and tokens so far.
    pub fn spent(&self) -> (u32, Usage) {
        let spendings = self.look();
        (spendings.steps, spendings.usage)
    }

    pub(super) fn look(&self) -> Spendings {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one request.
    pub(super) fn pay(&self, usage: Usage, read: u64, written: u64) {
        let mut spendings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spendings.steps += 1;
        spendings.usage.add(usage);
        spendings.read += read;
        spendings.written += written;
    }
}
