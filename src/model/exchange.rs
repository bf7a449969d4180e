//! One request and its streamed answer.

use std::time::Duration;

use async_openai::Client;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::mpsc;

use super::link::{Failure, Fault, Link, transport};
use super::wire::{Assembly, Chunk};
use super::{ModelError, Reply, Request, refusal};

/// How long to wait for usage figures once the answer is complete.
const TAIL_GRACE: Duration = Duration::from_secs(2);
/// How long to wait until a connection that is not needed any more is closed.
const CLOSING_GRACE: Duration = Duration::from_secs(1);

/// Sends `body`, which is `request` on the wire, and reads the answer to its end, or until it suffices.
pub(super) async fn exchange(link: &Link, model: &str, request: &Request<'_>, body: Value) -> Result<Reply, Failure> {
    let fault = Fault::default();
    let (alive, mut closed) = mpsc::channel(1);
    let service = {
        let (link, fault, model) = (link.clone(), fault.clone(), model.to_owned());
        tower::service_fn(move |factory: HttpRequestFactory| {
            transport(link.clone(), fault.clone(), model.clone(), alive.clone(), factory)
        })
    };
    let client = Client::build(link.http.clone(), link.clone()).with_http_service(service);
    let cut = |assembly: &Assembly| {
        Failure::soon(ModelError::Cut(format!("the stream ended after {} bytes", assembly.received_bytes())))
    };
    // Tokens of more than 32 bytes on average do not exist: a server beyond that does not keep the limit.
    let most_bytes = (request.max_tokens as usize).saturating_mul(32).max(64 << 10);
    let mut assembly = Assembly::new(request.messages.len(), most_bytes);
    let prompt_bytes = body.get("messages").map_or(0, |messages| messages.to_string().len());

    let mut stream = match client.chat().create_stream_byot::<_, Value>(body).await {
        Ok(stream) => stream,
        Err(error) => return Err(fault.take().unwrap_or_else(|| link.server_failure(None, &error.to_string()))),
    };
    loop {
        let next = if assembly.is_complete() {
            tokio::time::timeout(TAIL_GRACE, stream.next()).await.unwrap_or(None)
        } else {
            stream.next().await
        };
        match next {
            Some(Ok(value)) => {
                let chunk: Chunk = serde_json::from_value(value)
                    .map_err(|error| link.server_failure(None, &format!("an unreadable chunk: {error}")))?;
                if let Some(error) = &chunk.error {
                    return Err(link.failure_of(refusal::of_stream_error(error, model), None));
                }
                let length = assembly.content().len();
                if !assembly.take(chunk) {
                    break;
                }
                let has_grown = assembly.content().len() > length;
                if has_grown && request.enough.is_some_and(|is_enough| is_enough(assembly.content())) {
                    drop((stream, client));
                    // The next request must not reach the server before it has seen that this one is given up.
                    let _ = tokio::time::timeout(CLOSING_GRACE, closed.recv()).await;
                    return Ok(assembly.finish_early(prompt_bytes));
                }
            }
            Some(Err(_)) if assembly.is_complete() => break,
            Some(Err(OpenAIError::JSONDeserialize(error, _))) => {
                return Err(link.server_failure(None, &format!("an unreadable chunk: {error}")));
            }
            Some(Err(_)) => return Err(fault.take().unwrap_or_else(|| cut(&assembly))),
            None => break,
        }
    }
    let failure = cut(&assembly);
    assembly.finish().ok_or(failure)
}
