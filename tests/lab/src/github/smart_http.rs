//! Git over smart HTTP: `git http-backend` does the work, as a CGI program.

use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_util::io::ReaderStream;

use super::state::{Permission, Token};
use super::{Shared, pulls};
use crate::git;
use crate::http::{Body, Response, decode, full};

/// `/{owner}/{name}.git/{rest}`, split; `None` for any other path.
pub(super) fn parse(path: &str) -> Option<(String, String)> {
    let (repository, rest) = path.strip_prefix('/')?.split_once(".git/")?;
    let rest_fits = matches!(rest, "info/refs" | "git-upload-pack" | "git-receive-pack");
    (rest_fits && repository.split('/').count() == 2).then(|| (decode(repository), rest.to_owned()))
}

/// Serves one request for a repository.
pub(super) async fn serve(
    shared: &Shared,
    name: &str,
    rest: &str,
    request: hyper::Request<Incoming>,
) -> anyhow::Result<Response> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let pushes = rest == "git-receive-pack" || query.contains("service=git-receive-pack");
    let given = password(request.headers());
    let (path, login) = {
        let state = shared.state();
        let token = given.as_ref().and_then(|token| state.token(token));
        if given.is_some() && token.is_none() {
            return unauthorized("Invalid username or token.");
        }
        let Some(repository) = state.repository(name) else {
            return if given.is_some() { plain(404, "Repository not found.") } else { unauthorized("Not found.") };
        };
        let permission = state.permission(repository, token);
        match (permission, pushes, token) {
            (Permission::None, _, None) | (_, true, None) => return unauthorized("Authentication required."),
            (Permission::None, _, Some(_)) => return plain(404, "Repository not found."),
            (Permission::Read | Permission::Triage, true, Some(token)) => {
                return plain(403, &format!("Permission to {name}.git denied to {}.", token.login));
            }
            (_, _, Some(Token { login, grant: Some(grant), .. })) => {
                let held = grant.permissions.get("contents").map(String::as_str);
                if (pushes && held != Some("write")) || (repository.private && held.is_none()) {
                    return plain(403, &format!("Permission to {name}.git denied to {login}."));
                }
            }
            _ if pushes && repository.archived => {
                return plain(403, "This repository was archived so it is read-only.");
            }
            _ => {}
        }
        (repository.path.clone(), token.map(|token| token.login.clone()).unwrap_or_default())
    };
    let header = |name: hyper::header::HeaderName| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let mut command = git::command(&path);
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", path.parent().unwrap_or(&path))
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", format!("/{}/{rest}", path.file_name().unwrap_or_default().to_string_lossy()))
        .env("REQUEST_METHOD", request.method().as_str())
        .env("QUERY_STRING", &query)
        .env("CONTENT_TYPE", header(CONTENT_TYPE))
        .env("HTTP_CONTENT_ENCODING", header(CONTENT_ENCODING))
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("REMOTE_USER", &login)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(protocol) = request.headers().get("git-protocol").and_then(|value| value.to_str().ok()) {
        command.env("GIT_PROTOCOL", protocol);
    }
    if let Some(length) = request.headers().get("content-length").and_then(|value| value.to_str().ok()) {
        command.env("CONTENT_LENGTH", length);
    }
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().ok_or_else(|| anyhow::anyhow!("git has no standard input"))?;
    let mut stdout = BufReader::new(child.stdout.take().ok_or_else(|| anyhow::anyhow!("git has no standard output"))?);
    let feed = tokio::spawn(async move {
        let mut body = request.into_body().into_data_stream();
        while let Ok(Some(bytes)) = body.try_next().await {
            if stdin.write_all(&bytes).await.is_err() {
                break;
            }
        }
    });
    let mut answer = hyper::Response::builder().header("x-github-request-id", shared.request_id());
    let mut status = 200;
    loop {
        let mut line = String::new();
        if stdout.read_line(&mut line).await? == 0 || line.trim_end().is_empty() {
            break;
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else { continue };
        if name.eq_ignore_ascii_case("status") {
            status = value.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or(500);
        } else {
            answer = answer.header(name, value);
        }
    }
    let answer = answer.status(status);
    if rest == "git-receive-pack" {
        // Read to the end, so that pull requests have followed before the client knows of the push.
        let mut report = Vec::new();
        stdout.read_to_end(&mut report).await?;
        child.wait().await?;
        feed.abort();
        pulls::follow_heads(shared, name).await;
        return Ok(answer.body(full(report))?);
    }
    let stream = futures_util::stream::try_unfold(
        (ReaderStream::new(stdout), child, feed),
        |(mut reader, child, feed)| async move {
            Ok(reader.try_next().await?.map(|bytes: Bytes| (Frame::data(bytes), (reader, child, feed))))
        },
    );
    let body: Body = StreamBody::new(Box::pin(stream)).boxed_unsync();
    Ok(answer.body(body)?)
}

/// The token in a Basic or Bearer header, whatever the user name.
pub(super) fn password(headers: &hyper::HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Some(rest.trim().to_owned());
    }
    let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    // A token may also stand in the place of the user.
    Some(if password.is_empty() || password == "x-oauth-basic" { user.to_owned() } else { password.to_owned() })
}

fn unauthorized(message: &str) -> anyhow::Result<Response> {
    Ok(hyper::Response::builder()
        .status(401)
        .header("www-authenticate", "Basic realm=\"GitHub\"")
        .header("content-type", "text/plain")
        .body(full(message.to_owned()))?)
}

fn plain(status: u16, message: &str) -> anyhow::Result<Response> {
    let answer = hyper::Response::builder().status(status).header("content-type", "text/plain");
    Ok(answer.body(full(message.to_owned()))?)
}
