//! A model that gives the answers of a record again, and tells where it is asked something else.
//!
//! An answer is found by the request's hash; where no request of the record has it, the next answer that was not given
//! yet is taken, and what is different is kept for the report. Of several attempts, each gets its own answers only.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde::Serialize;

use super::record::{Record, RecordedRequest, hash};
use super::{Message, Model, ModelCard, ModelError, Reply, Request};

/// Characters of a text in a report.
const MOST_CHARACTERS: usize = 200;
/// Characters of it before the place where it differs.
const BEFORE: usize = 60;

/// The recorded model. It answers at once.
#[derive(Debug)]
pub struct Replay {
    card: ModelCard,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Each with whether it was given.
    requests: Vec<(RecordedRequest, bool)>,
    asked: u32,
    differences: Vec<Difference>,
}

/// A request that is not the recorded one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Which request of the new run it is, from 1.
    pub request: u32,
    /// The first message that differs, from 0; `None`: all are the same, but not the settings.
    pub message: Option<usize>,
    /// What it said in the record, around the first difference; empty where there was no such message.
    pub recorded: String,
    /// What it says now.
    pub now: String,
    /// What the model was told is the same but for numbers, such as times and addresses.
    pub only_numbers: bool,
}

impl Replay {
    pub fn new(record: &Record) -> Self {
        let card = record.begun.model.clone().and_then(|card| serde_json::from_value(card).ok());
        let requests = record.requests.iter().map(|request| (request.clone(), false)).collect();
        Self {
            card: card.unwrap_or_else(|| ModelCard::named("recorded")),
            state: Mutex::new(State { requests, asked: 0, differences: Vec::new() }),
        }
    }

    /// Where the run differs from the recorded one so far.
    pub fn differences(&self) -> Vec<Difference> {
        self.state().differences.clone()
    }

    /// How many answers of the record nobody asked for; of several attempts, of this one.
    pub fn left_over(&self, attempt: Option<u32>) -> usize {
        let is_of = |request: &RecordedRequest| attempt.is_none() || request.attempt == attempt;
        self.state().requests.iter().filter(|(request, given)| !given && is_of(request)).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Model for Replay {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    async fn complete(&self, request: &Request<'_>) -> Result<Reply, ModelError> {
        let mut state = self.state();
        state.asked += 1;
        let (asked, wanted) = (state.asked, hash(request));
        let is_open = |recorded: &RecordedRequest, given: bool| !given && recorded.attempt == request.attempt;
        let position = |fits: &dyn Fn(&RecordedRequest) -> bool| {
            state.requests.iter().position(|(recorded, given)| is_open(recorded, *given) && fits(recorded))
        };
        let same = position(&|recorded| recorded.hash == wanted);
        let next = || position(&|_| true);
        let Some(at) = same.or_else(next) else { return Err(ModelError::NotRecorded { request: asked }) };
        let Some((recorded, given)) = state.requests.get_mut(at) else {
            return Err(ModelError::NotRecorded { request: asked });
        };
        *given = true;
        let answer = recorded.answer.clone();
        let difference = same.is_none().then(|| differ(asked, recorded, request));
        state.differences.extend(difference);
        answer
    }
}

/// What is different between a recorded request and the one now.
fn differ(asked: u32, recorded: &RecordedRequest, now: &Request<'_>) -> Difference {
    let longest = recorded.messages.len().max(now.messages.len());
    // What the model itself said does not change by chance.
    let is_told = |at: usize| match now.messages.get(at) {
        Some(Message::System { .. } | Message::User { .. } | Message::Tool { .. }) => true,
        Some(Message::Assistant { .. }) | None => false,
    };
    let plain = |messages: &[Message], at: usize| messages.get(at).map(|message| without_numbers(&text_of(message)));
    let in_numbers = |at: usize| is_told(at) && plain(&recorded.messages, at) == plain(now.messages, at);
    let differing = || (0..longest).filter(|at| recorded.messages.get(*at) != now.messages.get(*at));
    // A time in an earlier message does not hide what really differs.
    let first = differing().find(|at| !in_numbers(*at)).or_else(|| differing().next());
    let only_numbers = first.is_some_and(in_numbers);
    let (then, now) = match first {
        Some(at) => (recorded.messages.get(at).map(text_of), now.messages.get(at).map(text_of)),
        None => (
            Some(settings_of(recorded.max_tokens, recorded.temperature, recorded.tools.iter().map(String::as_str))),
            Some(settings_of(now.max_tokens, now.temperature, now.tools.iter().map(|tool| tool.name))),
        ),
    };
    let (then, now) = (then.unwrap_or_default(), now.unwrap_or_default());
    let common = then.chars().zip(now.chars()).take_while(|(then, now)| then == now).count();
    let around = |text: &str| text.chars().skip(common.saturating_sub(BEFORE)).take(MOST_CHARACTERS).collect();
    Difference { request: asked, message: first, only_numbers, recorded: around(&then), now: around(&now) }
}

fn settings_of<'a>(max_tokens: u32, temperature: Option<f32>, tools: impl Iterator<Item = &'a str>) -> String {
    let temperature = temperature.map_or_else(|| "the server's".into(), |temperature| temperature.to_string());
    let tools: Vec<&str> = tools.collect();
    format!("at most {max_tokens} tokens, temperature {temperature}, tools [{}]", tools.join(", "))
}

/// The role and all texts of a message.
fn text_of(message: &Message) -> String {
    match message {
        Message::System { content } => format!("system: {content}"),
        Message::User { content } => format!("user: {content}"),
        Message::Assistant { content, calls } => {
            let calls: Vec<String> = calls.iter().map(|call| format!("\n{}({})", call.name, call.arguments)).collect();
            format!("assistant: {content}{}", calls.concat())
        }
        Message::Tool { content, .. } => format!("tool: {content}"),
    }
}

/// Each run of digits becomes one sign; so does a number in hexadecimal digits behind `0x`.
fn without_numbers(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if !letter.is_ascii_digit() {
            plain.push(letter);
            continue;
        }
        plain.push('#');
        let is_hexadecimal = letter == '0' && letters.next_if_eq(&'x').is_some();
        let belongs = |next: &char| next.is_ascii_digit() || (is_hexadecimal && next.is_ascii_hexdigit());
        while letters.next_if(|next| belongs(next)).is_some() {}
    }
    plain
}
