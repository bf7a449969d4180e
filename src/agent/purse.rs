//! What all attempts at one task have spent together: they have one budget.
//!
//! A request is reserved before it is sent, so that attempts which ask at the same time do not overdraw the budget
//! together, and settled when its answer is there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::outcome::Usage;

/// Shared by the attempts at one task. Cheap to clone; a clone is the same purse.
#[derive(Debug, Clone, Default)]
pub struct Purse(Arc<Mutex<Books>>);

#[derive(Debug, Default)]
struct Books {
    settled: Spendings,
    /// Of requests that are under way, at the most.
    reserved: Spendings,
}

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

/// A request that may be sent. Dropped without an answer, as when another attempt wins, it counts by its estimate.
#[derive(Debug)]
pub(super) struct Reserved {
    purse: Purse,
    /// Tokens of the prompt, estimated.
    read: u64,
    answer_tokens: u32,
    is_open: bool,
}

impl Purse {
    /// Requests and tokens so far.
    pub fn spent(&self) -> (u32, Usage) {
        let spendings = self.books().settled;
        (spendings.steps, spendings.usage)
    }

    /// Sets a request of `read` tokens aside, with as long an answer as `clip` allows in view of all that is spent or
    /// reserved.
    pub(super) fn reserve<E>(&self, read: u64, clip: impl FnOnce(Spendings) -> Result<u32, E>) -> Result<Reserved, E> {
        let mut books = self.books();
        let Books { settled, reserved } = &*books;
        let answer_tokens = clip(Spendings {
            steps: settled.steps.saturating_add(reserved.steps),
            usage: settled.usage,
            read: settled.read.saturating_add(reserved.read),
            written: settled.written.saturating_add(reserved.written),
        })?;
        books.reserved.steps += 1;
        books.reserved.read += read;
        books.reserved.written += u64::from(answer_tokens);
        Ok(Reserved { purse: self.clone(), read, answer_tokens, is_open: true })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    /// The longest answer that is paid for.
    pub(super) fn answer_tokens(&self) -> u32 {
        self.answer_tokens
    }

    /// The server has answered: this is what counts instead.
    pub(super) fn settle(mut self, usage: Usage, read: u64, written: u64) {
        self.close(Some((usage, read, written)));
    }

    /// The server has refused it, or failed: it counts for nothing.
    pub(super) fn release(mut self) {
        self.close(None);
    }

    fn close(&mut self, paid: Option<(Usage, u64, u64)>) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let mut books = self.purse.books();
        let Books { settled, reserved } = &mut *books;
        reserved.steps -= 1;
        reserved.read -= self.read;
        reserved.written -= u64::from(self.answer_tokens);
        if let Some((usage, read, written)) = paid {
            settled.steps += 1;
            settled.usage.add(usage);
            settled.read += read;
            settled.written += written;
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // The server has read the prompt; nobody knows how much it has written.
        let usage = Usage { prompt_tokens: Some(self.read), estimated: true, ..Usage::default() };
        let (read, written) = (self.read, u64::from(self.answer_tokens));
        self.close(Some((usage, read, written)));
    }
}
