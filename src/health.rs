//! `patchwright health`: asks a running service whether it is well, for containers and scripts without `curl`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Asks for `path` at `address` over HTTP, and gives what it answers.
///
/// # Errors
///
/// Nothing answers within five seconds, or not with 200.
pub fn ask(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let hint = || format!("no service answers at http://{address}{path}. Is `patchwright serve` running there?");
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).with_context(hint)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).with_context(hint)?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer).with_context(hint)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).unwrap_or("nothing");
    if status != "200" {
        bail!("http://{address}{path} answers {status}: {}", body.trim());
    }
    Ok(body.trim().to_owned())
}
