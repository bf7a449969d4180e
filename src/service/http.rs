//! What the service answers over HTTP: webhooks, health, metrics, and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;

use super::{Service, listener, webhook};
use crate::store::Delivery;

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// GitHub's delivery ids are UUIDs.
const LONGEST_HEADER: usize = 200;

/// Takes the addresses; the futures serve them.
pub(super) async fn bind(service: &Arc<Service>) -> anyhow::Result<Vec<impl Future<Output = ()> + Send + use<>>> {
    let config = &service.config.http;
    let mut main = Router::new();
    let health = || Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready));
    let metrics = || Router::new().route("/metrics", get(metrics));
    if config.health {
        main = main.merge(health());
    }
    if config.metrics {
        main = main.merge(metrics());
    }
    if config.webhook_secret.is_some() {
        main = main.route("/webhook", post(receive).layer(DefaultBodyLimit::max(config.webhook_bytes)));
    }
    let mut listeners = vec![(config.listen, main)];
    let mut beside = |enabled: bool, port: Option<u16>, router: Router<Arc<Service>>| {
        if let Some(port) = port.filter(|_| enabled) {
            let address = SocketAddr::new(config.listen.ip(), port);
            match listeners.iter_mut().find(|(taken, _)| *taken == address) {
                // The main listener answers it already.
                Some((_, _)) if address == config.listen => {}
                Some((_, known)) => *known = std::mem::take(known).merge(router),
                None => listeners.push((address, router)),
            }
        }
    };
    beside(config.health, config.health_port, health());
    beside(config.metrics, config.metrics_port, metrics());
    let mut serving = Vec::new();
    for (address, router) in listeners {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}. Give another address with --listen"))?;
        tracing::info!("listening on {}", listener.local_addr()?);
        let router = router.with_state(service.clone());
        serving.push(listener::serve(listener, router));
    }
    Ok(serving)
}

async fn ready(State(service): State<Arc<Service>>) -> Response {
    let report = service.health.report(&service).await;
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(report)).into_response()
}

async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let text = service.metrics.render(&service).await;
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

/// A webhook: its signature is checked over the raw bytes before anything else is looked at; it is stored, and answered
/// before it is worked.
async fn receive(State(service): State<Arc<Service>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let status = take_in(&service, &headers, &body).await;
    service.metrics.delivered(status);
    status
}

async fn take_in(service: &Service, headers: &HeaderMap, body: &Bytes) -> StatusCode {
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.filter(|value| !value.is_empty() && value.len() <= LONGEST_HEADER)
    };
    let Some(secret) = &service.config.http.webhook_secret else { return StatusCode::NOT_FOUND };
    let signature = text("x-hub-signature-256").unwrap_or_default();
    if !webhook::is_signed(secret.expose_secret().as_bytes(), body, signature) {
        return StatusCode::UNAUTHORIZED;
    }
    let (Some(id), Some(event)) = (text("x-github-delivery"), text("x-github-event")) else {
        return StatusCode::BAD_REQUEST;
    };
    if event == "ping" {
        return StatusCode::OK;
    }
    if !text("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    if !webhook::EVENTS.contains(&event) {
        return StatusCode::ACCEPTED;
    }
    let delivery = Delivery { id: id.to_owned(), event: event.to_owned(), payload: body.to_vec() };
    match service.store.receive(&delivery).await {
        Ok(new) => {
            if new {
                service.received.notify_one();
            }
            StatusCode::ACCEPTED
        }
        Err(error) => {
            tracing::error!("a webhook cannot be stored: {error}");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}
