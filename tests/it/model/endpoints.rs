//! Endpoints that stand in for each other.

use patchwright::model::openai::Settings;
use patchwright::model::{Endpoints, Message, Model, ModelError, ProbeMode, Reply, Request};
use serde_json::json;

use super::{Answer, Server, hello};

async fn server(name: &str, answers: Vec<Answer>) -> Server {
    Server::start(json!({ "list": { "data": [{ "id": name }] } }), answers).await
}

async fn connect(all: Vec<Settings>) -> Result<(Endpoints, Vec<String>), ModelError> {
    Endpoints::connect(all, ProbeMode::Off).await
}

async fn ask(model: &Endpoints) -> Result<Reply, ModelError> {
    let messages = [Message::User { content: "u".into() }];
    model.complete(&Request::new(&messages, 10)).await
}

fn down() -> Answer {
    Answer::Whole(503, "", "down".into())
}

/// Nobody listens there.
async fn nobody() -> Settings {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1", listener.local_addr().unwrap());
    Settings { endpoint: Some(endpoint.parse().unwrap()), ..Settings::default() }
}

#[tokio::test]
async fn the_next_endpoint_answers_where_one_is_down_and_goes_on() {
    let first = server("large", vec![hello(), down(), down(), down(), down(), down()]).await;
    let second = server("spare", vec![hello(), hello()]).await;
    let (model, _) = connect(vec![first.settings(), second.settings()]).await.unwrap();
    assert_eq!(model.card().name, "large");
    assert_eq!(ask(&model).await.unwrap().model, None);
    assert_eq!(ask(&model).await.unwrap().model.as_deref(), Some("spare"));
    // It would have no answer for another request.
    assert_eq!(ask(&model).await.unwrap().model.as_deref(), Some("spare"));
    first.assert_all_answers_used();
    second.assert_all_answers_used();
}

#[tokio::test]
async fn an_endpoint_that_is_gone_at_the_start_is_told_and_passed_over() {
    let second = server("spare", vec![hello()]).await;
    let (model, notes) = connect(vec![nobody().await, second.settings()]).await.unwrap();
    assert_eq!(model.card().name, "spare");
    assert!(notes[0].contains("Connection refused") && notes[0].contains("next endpoint"), "{notes:?}");
    assert_eq!(ask(&model).await.unwrap().model, None);
    let error = connect(vec![nobody().await, nobody().await]).await.unwrap_err();
    assert!(matches!(error, ModelError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn what_does_not_pass_by_itself_is_an_error_at_once() {
    let refusing = || Answer::Whole(401, "", "no".into());
    let too_long = || Answer::Whole(400, "", r#"{"error": "maximum context length is 8 tokens"}"#.into());
    let first = server("large", vec![refusing(), too_long()]).await;
    let second = server("spare", Vec::new()).await;
    let (model, _) = connect(vec![first.settings(), second.settings()]).await.unwrap();
    assert_eq!(ask(&model).await, Err(ModelError::Unauthorized { status: 401 }));
    assert!(matches!(ask(&model).await, Err(ModelError::ContextOverflow(_))));
    assert!(second.seen.lock().unwrap().is_empty(), "the key of one is no matter of the other");
}

#[tokio::test]
async fn all_of_them_down_is_the_error_of_the_first() {
    let first = server("large", (0..5).map(|_| down()).collect()).await;
    let (model, _) = connect(vec![first.settings(), nobody().await]).await.unwrap();
    let error = ask(&model).await.unwrap_err();
    assert_eq!(error, ModelError::Server { status: Some(503), message: "down".into() });
}
