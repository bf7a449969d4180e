//! Several attempts at one task at once: the first verified one wins, and where none is, the best counts.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use patchwright::model::{Model, ModelCard, ModelError, Reply, Request};
use patchwright::outcome::{Conclusion, Outcome, TestCommand, Usage};
use patchwright::pipeline::{Ending, Order, ProtocolChoice};

use super::place::{Place, TARGET};
use lab::git;

/// Answers each attempt by its temperature, in tenths; `None`: it never answers.
struct ByTemperature {
    card: ModelCard,
    answers: Vec<(u32, Option<&'static str>)>,
    asked: Mutex<Vec<u32>>,
}

#[async_trait]
impl Model for ByTemperature {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    async fn complete(&self, request: &Request<'_>) -> Result<Reply, ModelError> {
        let tenths = (request.temperature.unwrap_or_default() * 10.0).round() as u32;
        self.asked.lock().unwrap().push(tenths);
        let (_, answer) = self.answers.iter().find(|(of, _)| *of == tenths).expect("a temperature that is known");
        let Some(answer) = answer else { return std::future::pending().await };
        Ok(Reply {
            content: format!("state.txt\n```\n{answer}\n```\n"),
            reasoning: String::new(),
            calls: Vec::new(),
            finish_reason: "stop".into(),
            usage: Some(Usage { prompt_tokens: Some(100), completion_tokens: Some(10), ..Usage::default() }),
            model: None,
        })
    }
}

async fn work(answers: &[(u32, Option<&'static str>)], command: &str) -> Option<(Place, Outcome, Vec<u32>)> {
    let mut place = Place::with("Do what the plan says.").await?;
    let model = Arc::new(ByTemperature {
        card: ModelCard::named("by-temperature"),
        answers: answers.to_vec(),
        asked: Mutex::default(),
    });
    place.services.model = Some(model.clone());
    place.services.settings.protocol = ProtocolChoice::WholeFile;
    place.services.settings.limits.attempts = answers.len() as u32;
    place.services.settings.limits.verify_rounds = 0;
    let order = place.order(None);
    let order = Order { test_command: Some(TestCommand { command: command.into(), reason: "told".into() }), ..order };
    let Ending::Reported(outcome) = place.run(&order).await else { panic!("an end") };
    let mut asked = model.asked.lock().unwrap().clone();
    asked.sort_unstable();
    Some((place, outcome, asked))
}

async fn published(place: &Place) -> String {
    let path = place.lab.github.repository_state(TARGET).unwrap().path;
    git::text(&path, &["show", "agent-task-550e8400:state.txt"]).await.unwrap()
}

#[tokio::test]
async fn the_first_verified_change_wins_and_stops_the_others() {
    let answers = [(1, None), (5, Some("wrong")), (8, Some("fixed"))];
    let Some((place, outcome, asked)) = work(&answers, "grep -q fixed state.txt").await else { return };
    assert_eq!(outcome.conclusion, Conclusion::Verified);
    assert_eq!(published(&place).await.trim(), "fixed");
    assert_eq!(asked, [1, 5, 8], "each of its own temperature");
    assert!(outcome.steps >= 1 && outcome.usage.prompt_tokens >= Some(100), "the usage of all: {:?}", outcome.usage);
    assert_eq!(place.lab.github.pulls(TARGET).len(), 1);
}

#[tokio::test]
async fn without_a_verified_one_the_fewest_failing_tests_count() {
    let counted = ["3 failed in 0.1s", "1 failed in 0.1s", "2 failed in 0.1s"];
    let answers = [(1, Some(counted[0])), (5, Some(counted[1])), (8, Some(counted[2]))];
    let Some((place, outcome, _)) = work(&answers, "cat state.txt; grep -q fixed state.txt").await else { return };
    assert_eq!(outcome.conclusion, Conclusion::Unverified);
    assert_eq!(published(&place).await.trim(), counted[1]);
    assert_eq!((outcome.steps, outcome.usage.prompt_tokens), (3, Some(300)), "one budget for all");
}
