//! What a server has refused, so that it is not sent again.

use std::sync::atomic::{AtomicU8, Ordering};

use super::provider::Provider;
use super::wire::Shape;

/// A part of a request that servers are known to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The name `max_tokens`.
    OlderLimit,
    Temperature,
    Seed,
    Schema,
    StreamUsage,
}

impl Part {
    const ALL: [Self; 5] = [Self::OlderLimit, Self::Temperature, Self::Seed, Self::Schema, Self::StreamUsage];

    fn bit(self) -> u8 {
        match self {
            Self::OlderLimit => 1,
            Self::Temperature => 2,
            Self::Seed => 4,
            Self::Schema => 8,
            Self::StreamUsage => 16,
        }
    }

    /// How a refusal names it.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::OlderLimit => &["max_completion_tokens"],
            Self::Temperature => &["temperature"],
            Self::Seed => &["`seed`", "'seed'", "\"seed\""],
            Self::Schema => &["response_format", "json_schema"],
            Self::StreamUsage => &["stream_options", "include_usage", "continuous_usage_stats"],
        }
    }
}

/// What one model at one server refuses.
#[derive(Debug)]
pub(super) struct Habits(AtomicU8);

impl Habits {
    pub(super) fn of(provider: Provider, model: &str) -> Self {
        let habits = Self(AtomicU8::new(0));
        if provider.wants_newer_limit() {
            habits.add(Part::OlderLimit);
        }
        if !provider.takes_temperature(model) {
            habits.add(Part::Temperature);
        }
        habits
    }

    /// The shape that a request may have.
    pub(super) fn shape(&self) -> Shape {
        Shape {
            newer_limit: self.has(Part::OlderLimit),
            temperature: !self.has(Part::Temperature),
            seed: !self.has(Part::Seed),
            schema: !self.has(Part::Schema),
            stream_usage: !self.has(Part::StreamUsage),
        }
    }

    /// Learns from a refusal; the part that it is about, unless that was left out already.
    pub(super) fn learn(&self, refusal: &str) -> Option<Part> {
        let part = Part::ALL
            .into_iter()
            .find(|part| !self.has(*part) && part.names().iter().any(|name| refusal.contains(name)))?;
        self.add(part);
        Some(part)
    }

    fn has(&self, part: Part) -> bool {
        self.0.load(Ordering::Relaxed) & part.bit() != 0
    }

    fn add(&self, part: Part) {
        self.0.fetch_or(part.bit(), Ordering::Relaxed);
    }
}
