//! The first bytes of a tunnel: a TLS ClientHello, and the server that it names.
//!
//! The name is SNI's (RFC 6066), in the clear. With Encrypted Client Hello it is that of the outer hello.

use std::io;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::decision::Reason;
use super::host::{Host, shown};

/// The most bytes of a hello, with its records' headers.
const LONGEST_HELLO: usize = 64 * 1024;

/// The type of a TLS record that a hello comes in.
const HANDSHAKE: u8 = 22;

/// What a client that is refused in the middle of its hello is told: a fatal alert, `access_denied`.
pub const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// The first bytes of a tunnel, all of them.
#[derive(Debug)]
pub enum Hello {
    /// A whole ClientHello and what came with it. It names no server but this one.
    Tls {
        bytes: Vec<u8>,
        server_name: Option<String>,
    },
    NotTls,
}

/// Reads until there is a whole hello or it is sure that there will be none. The caller bounds the time.
pub async fn read(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Hello> {
    let mut acceptor = Acceptor::default();
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        let count = client.read(&mut buffer).await?;
        let Some(mut new) = buffer.get(..count).filter(|new| !new.is_empty()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        bytes.extend_from_slice(new);
        if bytes.first() != Some(&HANDSHAKE) || bytes.len() > LONGEST_HELLO {
            return Ok(Hello::NotTls);
        }
        while !new.is_empty() {
            if acceptor.read_tls(&mut new).is_err() {
                return Ok(Hello::NotTls);
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let server_name = accepted.client_hello().server_name().map(str::to_owned);
                    return Ok(match names_only(&message(&bytes), server_name.as_deref()) {
                        Some(true) => Hello::Tls { bytes, server_name },
                        Some(false) | None => Hello::NotTls,
                    });
                }
                Err(_) => return Ok(Hello::NotTls),
            }
        }
    }
}

/// Whether a hello names the host that the tunnel was asked for. An address has no name, and needs none.
pub fn check(server_name: Option<&str>, host: &Host) -> Result<(), Reason> {
    match (server_name, host) {
        (None, Host::Address(_)) => Ok(()),
        (Some(name), Host::Name(_)) if Host::parse(name).as_ref() == Ok(host) => Ok(()),
        (name, Host::Name(_) | Host::Address(_)) => Err(Reason::ServerName(name.map(shown))),
    }
}

/// The handshake's bytes without their records' headers, RFC 8446, 5.1. rustls has read them before.
fn message(records: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let mut reader = Reader(records);
    while let Some(part) = reader.take(3).and_then(|_| reader.field(2)) {
        message.extend_from_slice(part);
    }
    message
}

/// Whether a ClientHello (RFC 8446, 4.1.2) names `server_name` and nothing beside it, or has no such extension.
///
/// rustls takes the first of several names, and others may take another. `None`: it is cut.
fn names_only(message: &[u8], server_name: Option<&str>) -> Option<bool> {
    const SERVER_NAME: [u8; 2] = [0, 0];
    let mut reader = Reader(message);
    reader.take(1)?;
    let mut hello = Reader(reader.field(3)?);
    hello.take(2 + 32)?;
    for length in [1, 2, 1] {
        hello.field(length)?;
    }
    let mut extensions = Reader(if hello.0.is_empty() { &[] } else { hello.field(2)? });
    let mut found = None;
    while !extensions.0.is_empty() {
        let (kind, body) = (extensions.take(2)?, extensions.field(2)?);
        if kind == SERVER_NAME && found.replace(body).is_some() {
            return Some(false);
        }
    }
    let (extension, name) = match (found, server_name) {
        (None, None) => return Some(true),
        (Some(extension), Some(name)) => (extension, name),
        (None, Some(_)) | (Some(_), None) => return Some(false),
    };
    // One list of one name, of the kind 0: a host's.
    let length = u16::try_from(name.len()).ok()?;
    let head = [&length.checked_add(3)?.to_be_bytes()[..], &[0], &length.to_be_bytes()].concat();
    let written = extension.strip_prefix(head.as_slice());
    Some(written.is_some_and(|written| written.eq_ignore_ascii_case(name.as_bytes())))
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A field with its length, in so many bytes, before it. Nothing is taken if it is cut.
    fn field(&mut self, length_bytes: usize) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_at_checked(length_bytes)?;
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let (field, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }
}
