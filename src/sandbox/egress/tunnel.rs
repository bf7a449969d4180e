//! CONNECT: a tunnel to one host, in which only TLS for that host is begun.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::time::timeout;

use super::decision::{Entry, Reason, Verdict};
use super::dial::Stream;
use super::gate::{Admitted, Body, Gate, refuse, settle};
use super::hello::{self, Hello};
use super::meter::Meter;
use crate::weak::{self, Defence};

/// A tunnel that was granted and begins when the answer is out.
pub struct Tunnel {
    client: OnUpgrade,
    server: Stream,
    admitted: Admitted,
}

/// Answers a CONNECT. With the tunnel comes the answer 200, which must be sent before the tunnel is used.
pub async fn connect(
    mut request: Request<Incoming>,
    gate: &Gate,
    meter: &Arc<Meter>,
) -> (Response<Body>, Option<Tunnel>) {
    let authority = request.uri().authority().map_or("", |authority| authority.as_str());
    let wrong = if request.uri().scheme().is_some() {
        Some("a tunnel is asked for by host and port alone")
    } else if has_body(request.headers()) {
        Some("a tunnel is asked for without a body")
    } else {
        None
    };
    if let Some(reason) = wrong {
        let entry = Entry::unnamed(&gate.ledger, meter, authority);
        return (refuse(&entry, Reason::BadRequest(reason)), None);
    }
    let admitted = match gate.admit(authority, None, request.headers(), meter) {
        Ok(admitted) => admitted,
        Err(answer) => return (*answer, None),
    };
    match gate.dialer.tunnel(&admitted.target, &admitted.grant).await {
        Ok(server) => {
            let client = hyper::upgrade::on(&mut request);
            let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
            (Response::new(empty), Some(Tunnel { client, server, admitted }))
        }
        Err(verdict) => (settle(&admitted.entry, verdict), None),
    }
}

impl Tunnel {
    /// Lets the tunnel's bytes pass until both ends have closed or one breaks.
    pub async fn run(self, gate: &Gate) {
        let Self { client, mut server, mut admitted } = self;
        admitted.entry.count_all();
        let Ok(client) = client.await else { return };
        let mut client = TokioIo::new(client);
        if !admitted.grant.raw {
            match begin(&mut client, &mut server, &admitted, gate).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(verdict) => {
                    admitted.entry.settle(verdict);
                    let _ = client.write_all(&hello::ALERT).await;
                    let _ = client.shutdown().await;
                    return;
                }
            }
        }
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

/// Passes the ClientHello on, if it is one for the host; `false` if the client left before it was whole.
async fn begin(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    server: &mut Stream,
    admitted: &Admitted,
    gate: &Gate,
) -> Result<bool, Verdict> {
    let refused = |reason| Verdict::Refused { reason };
    match timeout(gate.limits.header_timeout, hello::read(client)).await {
        Err(_) => Err(refused(Reason::BadRequest("TLS was not begun in time"))),
        Ok(Err(_)) => Ok(false),
        Ok(Ok(Hello::NotTls)) => Err(refused(Reason::NotTls)),
        Ok(Ok(Hello::Tls { bytes, server_name })) => {
            if !weak::is_off(Defence::ServerNames) {
                hello::check(server_name.as_deref(), &admitted.target.host).map_err(refused)?;
            }
            let sent = server.write_all(&bytes).await.map(|()| true);
            sent.map_err(|error| Verdict::Unreachable { cause: format!("the host closed the connection: {error}") })
        }
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    let empty = HeaderValue::from_static("0");
    headers.contains_key(TRANSFER_ENCODING) || headers.get_all(CONTENT_LENGTH).iter().any(|length| *length != empty)
}
