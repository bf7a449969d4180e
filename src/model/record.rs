//! Records of runs: a model that tells of each request, and the reader of what it told.
//!
//! A record is JSON lines, one event each. Three kinds of them are for running it again: `begun` (the task, its base,
//! the settings), `exchange` (a request and what came of it) and `ended`. A request holds only the messages that no
//! earlier one has sent: `after` names that one, `kept` how many of its messages stand before the new ones.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Message, Model, ModelCard, ModelError, Reply, Request};
use crate::event::{Begun, Ended, Event, Events, Exchange, RECORD_FORMAT};

/// Answered requests that a new one is compared with: as many conversations may go on at a time.
const MOST_REMEMBERED: usize = 16;

/// A model each of whose requests is told to the events.
pub struct Recorded {
    inner: Arc<dyn Model>,
    events: Events,
    past: Mutex<Past>,
}

#[derive(Default)]
struct Past {
    number: u32,
    /// The latest that were answered, the newest last: number, and a hash of each message.
    answered: Vec<(u32, Vec<u64>)>,
}

impl Recorded {
    pub fn new(inner: Arc<dyn Model>, events: Events) -> Self {
        Self { inner, events, past: Mutex::default() }
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Model for Recorded {
    fn card(&self) -> &ModelCard {
        self.inner.card()
    }

    async fn complete(&self, request: &Request<'_>) -> Result<Reply, ModelError> {
        let begun = Instant::now();
        let (asked, hashes) = self.past().note(request);
        let number = asked.number;
        let result = self.inner.complete(request).await;
        let (reply, error) = match &result {
            Ok(reply) => (serde_json::to_value(reply).ok(), None),
            Err(error) => (None, serde_json::to_value(error).ok()),
        };
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let events = self.events.of_attempt(request.attempt);
        events.emit(Event::Exchange(Box::new(Exchange { reply, error, milliseconds, ..asked })));
        // Only now, so that what goes on from it stands behind it.
        self.past().add(number, hashes);
        result
    }
}

impl Past {
    /// The request as an exchange without an answer, and a hash of each of its messages.
    fn note(&mut self, request: &Request<'_>) -> (Exchange, Vec<u64>) {
        let messages = values_of(request.messages);
        let hashes: Vec<u64> = messages.iter().map(hash_of).collect();
        let shared = |earlier: &[u64]| earlier.iter().zip(&hashes).take_while(|(then, now)| then == now).count();
        let (kept, after) = self
            .answered
            .iter()
            .map(|(number, earlier)| (shared(earlier), *number))
            .max()
            .filter(|(kept, _)| *kept > 0)
            .map_or((0, None), |(kept, number)| (kept, Some(number)));
        self.number += 1;
        let exchange = Exchange {
            number: self.number,
            hash: hash(request),
            after,
            kept,
            messages: messages.into_iter().skip(kept).collect(),
            tools: request.tools.iter().map(|tool| tool.name.to_owned()).collect(),
            max_tokens: request.max_tokens,
            temperature: request.temperature,
            seed: request.seed,
            schema: request.schema.cloned(),
            ..Exchange::default()
        };
        (exchange, hashes)
    }

    fn add(&mut self, number: u32, hashes: Vec<u64>) {
        if self.answered.len() >= MOST_REMEMBERED {
            self.answered.remove(0);
        }
        self.answered.push((number, hashes));
    }
}

fn hash_of(message: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.to_string().hash(&mut hasher);
    hasher.finish()
}

/// A name for everything that the answer to a request depends on.
pub fn hash(request: &Request<'_>) -> String {
    let whole = json!({
        "messages": values_of(request.messages),
        "tools": request.tools,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "schema": request.schema,
    });
    hex::encode(Sha256::digest(whole.to_string().as_bytes())).chars().take(32).collect()
}

/// Messages are texts, and always serialise.
fn values_of(messages: &[Message]) -> Vec<Value> {
    messages.iter().map(|message| serde_json::to_value(message).unwrap_or_default()).collect()
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub begun: Begun,
    /// In the order of their numbers.
    pub requests: Vec<RecordedRequest>,
    /// `None`: the run was cut off.
    pub ended: Option<Ended>,
    /// What looked like a secret was taken out of some lines, so that a run from here may differ.
    pub secrets_left_out: bool,
}

/// A request of a record, with all of its messages.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedRequest {
    pub number: u32,
    /// Of several attempts, the one that asked.
    pub attempt: Option<u32>,
    pub hash: String,
    pub messages: Vec<Message>,
    pub tools: Vec<String>,
    pub max_tokens: u32,
    pub temperature: Option<f32>,
    pub answer: Result<Reply, ModelError>,
    pub milliseconds: u64,
}

/// Why a text is no record; the words are for whoever gave it.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the record {path} cannot be read: {error}")]
    Unreadable { path: String, error: std::io::Error },
    #[error("line {line} is none of a record: {reason}")]
    Malformed { line: usize, reason: String },
    #[error("the record has the format {found}, and this version reads {RECORD_FORMAT}. Use the version that wrote it")]
    OtherFormat { found: u64 },
    #[error("the record does not say what was to be done: it ended before the checkout, or is of an older version")]
    NotBegun,
}

impl Record {
    /// Reads a record from its file.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| RecordError::Unreadable { path: path.display().to_string(), error })?;
        Self::parse(&text)
    }

    /// Parses JSON lines. Other events are passed over, and so is a last line that was cut off.
    pub fn parse(text: &str) -> Result<Self, RecordError> {
        let (mut begun, mut ended, mut secrets_left_out) = (None, None, false);
        let mut requests: Vec<RecordedRequest> = Vec::new();
        let is_whole = text.ends_with('\n');
        let count = text.lines().count();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let malformed = |reason: String| RecordError::Malformed { line: at + 1, reason };
            let value: Value = match serde_json::from_str(line) {
                Ok(value) => value,
                Err(_) if at + 1 == count && !is_whole => break,
                Err(error) => return Err(malformed(error.to_string())),
            };
            secrets_left_out |= value.get("secrets_left_out") == Some(&Value::Bool(true));
            match value.get("event").and_then(Value::as_str) {
                Some("begun") => {
                    let found = value.get("format").and_then(Value::as_u64).unwrap_or(0);
                    if found != u64::from(RECORD_FORMAT) {
                        return Err(RecordError::OtherFormat { found });
                    }
                    begun = Some(Begun::deserialize(value).map_err(|error| malformed(error.to_string()))?);
                }
                Some("exchange") => {
                    let attempt =
                        value.get("attempt").and_then(Value::as_u64).and_then(|number| number.try_into().ok());
                    let exchange = Exchange::deserialize(value).map_err(|error| malformed(error.to_string()))?;
                    requests.push(whole(exchange, attempt, &requests).map_err(malformed)?);
                }
                Some("ended") => {
                    ended = Some(Ended::deserialize(value).map_err(|error| malformed(error.to_string()))?);
                }
                Some(_) => {}
                None => return Err(malformed("it has no `event`".into())),
            }
        }
        // Requests that went on at a time ended in another order.
        requests.sort_by_key(|request| request.number);
        Ok(Self { begun: begun.ok_or(RecordError::NotBegun)?, requests, ended, secrets_left_out })
    }
}

/// The exchange with the messages that an earlier one has.
fn whole(exchange: Exchange, attempt: Option<u32>, earlier: &[RecordedRequest]) -> Result<RecordedRequest, String> {
    let number = exchange.number;
    let mut messages = match exchange.after {
        None => Vec::new(),
        Some(after) => {
            let before = earlier.iter().find(|request| request.number == after);
            let before = before.ok_or_else(|| format!("request {number} goes on from {after}, which is not there"))?;
            let kept = before.messages.get(..exchange.kept);
            kept.ok_or_else(|| format!("request {after} has fewer than {} messages", exchange.kept))?.to_vec()
        }
    };
    for message in exchange.messages {
        messages.push(serde_json::from_value(message).map_err(|error| error.to_string())?);
    }
    let answer = match (exchange.reply, exchange.error) {
        (Some(reply), _) => Ok(serde_json::from_value(reply).map_err(|error| error.to_string())?),
        (None, Some(error)) => Err(serde_json::from_value(error).map_err(|error| error.to_string())?),
        (None, None) => return Err(format!("request {number} has no answer")),
    };
    Ok(RecordedRequest {
        number,
        attempt,
        hash: exchange.hash,
        messages,
        tools: exchange.tools,
        max_tokens: exchange.max_tokens,
        temperature: exchange.temperature,
        answer,
        milliseconds: exchange.milliseconds,
    })
}
