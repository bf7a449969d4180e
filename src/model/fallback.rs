//! Several endpoints, one behind the other: where one is down, the next one answers.
//!
//! An endpoint is connected when it is first needed. Once one had to stand in, it goes on for a while, so that its
//! prefix cache is of use and the first one is not waited for at each request. Only what may pass by itself makes the
//! next one answer; a key that is refused, or a prompt that is too long, is an error at once.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::openai::{self, OpenAi, Settings};
use super::probe::{self, Found, ProbeMode};
use super::{Model, ModelCard, ModelError, Provider, Reply, Request};

/// How long an endpoint that stands in goes on before those ahead of it are asked again.
const STAND_IN: Duration = Duration::from_secs(300);

/// A model behind one or more endpoints.
#[derive(Debug)]
pub struct Endpoints {
    places: Vec<Place>,
    mode: ProbeMode,
    /// The place that was connected at the start: the card is its own.
    first: usize,
    card: ModelCard,
    found: Found,
    /// Who stands in, and since when.
    standing_in: Mutex<Option<(usize, Instant)>>,
}

#[derive(Debug)]
struct Place {
    settings: Settings,
    model: OnceCell<OpenAi>,
}

impl Endpoints {
    /// Connects the first endpoint that answers, in their order, and probes its model. Besides, lines for the user.
    pub async fn connect(all: Vec<Settings>, mode: ProbeMode) -> Result<(Self, Vec<String>), ModelError> {
        let mut notes = Vec::new();
        let mut failure = None;
        let places: Vec<Place> = all.into_iter().map(|settings| Place { settings, model: OnceCell::new() }).collect();
        let mut connected = None;
        for (at, place) in places.iter().enumerate() {
            match openai::connect(&place.settings).await {
                Ok((model, said)) => {
                    notes.extend(said);
                    connected = Some((at, model));
                    break;
                }
                Err(error) if error.is_transient() => {
                    notes.push(format!("{error}; the next endpoint is tried"));
                    failure.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        let Some((first, mut model)) = connected else {
            // Without any endpoint there is not even one to be missed.
            return Err(failure.unwrap_or(ModelError::Unreachable {
                endpoint: "the model's address".into(),
                reason: "no endpoint is set".into(),
            }));
        };
        let found = probe::probe(&mut model, mode).await;
        let card = model.card().clone();
        if let Some(place) = places.get(first) {
            let _ = place.model.set(model);
        }
        let standing_in = Mutex::new((first > 0).then(|| (first, Instant::now())));
        Ok((Self { places, mode, first, card, found, standing_in }, notes))
    }

    /// The address of the model of the card, without credentials.
    pub fn endpoint(&self) -> &str {
        self.places.get(self.first).and_then(|place| place.model.get()).map(OpenAi::endpoint).unwrap_or_default()
    }

    /// Which kind of server that is.
    pub fn provider(&self) -> Provider {
        let model = self.places.get(self.first).and_then(|place| place.model.get());
        model.map(OpenAi::provider).unwrap_or_default()
    }

    /// Where the card's abilities come from.
    pub fn found(&self) -> Found {
        self.found
    }

    /// The place to ask first.
    fn start(&self) -> usize {
        let mut standing_in = self.standing_in.lock().unwrap_or_else(PoisonError::into_inner);
        match *standing_in {
            Some((at, since)) if since.elapsed() < STAND_IN => at,
            Some(_) | None => {
                *standing_in = None;
                0
            }
        }
    }

    async fn ask(&self, place: &Place, request: &Request<'_>) -> Result<Reply, ModelError> {
        let connect = || async {
            let (mut model, _) = openai::connect(&place.settings).await?;
            probe::probe(&mut model, self.mode).await;
            Ok(model)
        };
        let model = place.model.get_or_try_init(connect).await?;
        let reply = model.complete(request).await?;
        let name = &model.card().name;
        let model = (*name != self.card.name).then(|| name.clone());
        Ok(Reply { model, ..reply })
    }
}

#[async_trait]
impl Model for Endpoints {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    async fn complete(&self, request: &Request<'_>) -> Result<Reply, ModelError> {
        let start = self.start();
        let mut failure = None;
        for at in (start..self.places.len()).chain(0..start) {
            let Some(place) = self.places.get(at) else { continue };
            match self.ask(place, request).await {
                Ok(reply) => {
                    if at != start {
                        let mut standing_in = self.standing_in.lock().unwrap_or_else(PoisonError::into_inner);
                        *standing_in = (at > 0).then(|| (at, Instant::now()));
                    }
                    return Ok(reply);
                }
                Err(error) if error.is_transient() && self.places.len() > 1 => {
                    tracing::warn!("{error}; the next endpoint is asked");
                    failure.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or(ModelError::Unreachable {
            endpoint: "the model's address".into(),
            reason: "no endpoint is set".into(),
        }))
    }
}
