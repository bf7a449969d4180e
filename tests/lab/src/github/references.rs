//! Branches and references, as they stand in the bare repository on disk.

use std::path::Path;

use serde_json::{Value, json};

use super::api::Call;
use super::reply::Reply;
use super::state::Permission;
use crate::git;
use crate::http::decode;

/// Carries out a call below `branches` and `git`, on the real repository.
pub(super) async fn dispatch(call: &Call<'_>, name: &str, permission: Permission, rest: &[&str]) -> Reply {
    let path = call.shared.state().repository(name).map(|repository| repository.path.clone());
    let Some(path) = path else { return Reply::not_found() };
    let api = format!("{}/repos/{name}", call.shared.addresses.api);
    let rest: Vec<String> = rest.iter().map(|segment| decode(segment)).collect();
    let segments: Vec<&str> = rest.iter().map(String::as_str).collect();
    let commit_of = async |reference: String| {
        git::text(&path, &["rev-parse", "--verify", "--quiet", "--end-of-options", &reference]).await.ok()
    };
    let reference_json = |reference: &str, commit: &str| {
        json!({
            "ref": reference, "node_id": format!("REF_{commit}"), "url": format!("{api}/git/{reference}"),
            "object": { "sha": commit, "type": "commit", "url": format!("{api}/git/commits/{commit}") },
        })
    };
    let short = |branch: &str, commit: &str| {
        json!({
            "name": branch, "protected": false,
            "commit": { "sha": commit, "url": format!("{api}/commits/{commit}") },
        })
    };
    match (call.method, segments.as_slice()) {
        ("GET", ["branches"]) => {
            let listed = heads(&path, "refs/heads/").await;
            let list =
                listed.iter().map(|(reference, commit)| short(&reference["refs/heads/".len()..], commit)).collect();
            Reply::list(list, call.query)
        }
        ("GET", ["branches", branch @ ..]) => {
            let branch = branch.join("/");
            match commit_of(format!("refs/heads/{branch}^{{commit}}")).await {
                Some(commit) => Reply::ok(branch_json(call, name, &path, &branch, &commit).await),
                None => Reply::error(404, "Branch not found"),
            }
        }
        ("GET", ["git", "ref", reference @ ..]) => {
            let reference = format!("refs/{}", reference.join("/"));
            match commit_of(reference.clone()).await {
                Some(commit) => Reply::ok(reference_json(&reference, &commit)),
                None => Reply::not_found(),
            }
        }
        ("GET", ["git", "matching-refs", prefix @ ..]) => {
            let prefix = format!("refs/{}", prefix.join("/"));
            let all = heads(&path, "refs/").await;
            let matching = all.iter().filter(|(reference, _)| reference.starts_with(&prefix));
            Reply::ok(matching.map(|(reference, commit)| reference_json(reference, commit)).collect())
        }
        ("DELETE", ["git", "refs", reference @ ..]) => {
            if permission < Permission::Write {
                return Reply::forbidden();
            }
            let reference = format!("refs/{}", reference.join("/"));
            if commit_of(reference.clone()).await.is_none() {
                return Reply::error(422, "Reference does not exist");
            }
            match git::text(&path, &["update-ref", "-d", &reference]).await {
                Ok(_) => Reply::new(204, Value::Null),
                Err(_) => Reply::error(422, "Reference cannot be deleted"),
            }
        }
        _ => Reply::not_found(),
    }
}

async fn heads(path: &Path, prefix: &str) -> Vec<(String, String)> {
    let listed = git::text(path, &["for-each-ref", "--format=%(refname) %(objectname)", prefix]).await;
    let listed = listed.unwrap_or_default();
    let pairs = listed.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(reference, commit)| (reference.to_owned(), commit.to_owned())).collect()
}

/// A branch with its commit, as long as GitHub makes it.
async fn branch_json(call: &Call<'_>, name: &str, path: &Path, branch: &str, commit: &str) -> Value {
    let api = format!("{}/repos/{name}", call.shared.addresses.api);
    let html = format!("{}/{name}", call.shared.addresses.web);
    let format = "--format=%T%n%P%n%an%n%ae%n%aI%n%cn%n%ce%n%cI%n%B";
    let shown = git::text(path, &["show", "--no-patch", format, commit]).await.unwrap_or_default();
    let mut lines = shown.splitn(9, '\n');
    let mut next = || lines.next().unwrap_or_default().to_owned();
    let (tree, parents) = (next(), next());
    let author = json!({ "name": next(), "email": next(), "date": next() });
    let committer = json!({ "name": next(), "email": next(), "date": next() });
    let message = next();
    let parents: Vec<Value> = parents
        .split_whitespace()
        .map(|sha| {
            json!({ "sha": sha, "url": format!("{api}/commits/{sha}"), "html_url": format!("{html}/commit/{sha}") })
        })
        .collect();
    json!({
        "name": branch,
        "commit": {
            "sha": commit, "node_id": format!("C_{commit}"), "url": format!("{api}/commits/{commit}"),
            "html_url": format!("{html}/commit/{commit}"), "comments_url": format!("{api}/commits/{commit}/comments"),
            "author": null, "committer": null, "parents": parents,
            "commit": {
                "url": format!("{api}/git/commits/{commit}"), "author": author, "committer": committer,
                "message": message, "tree": { "sha": tree, "url": format!("{api}/git/trees/{tree}") },
                "comment_count": 0,
                "verification": { "verified": false, "reason": "unsigned", "payload": null, "signature": null,
                    "verified_at": null },
            },
        },
        "_links": { "html": format!("{html}/tree/{branch}"), "self": format!("{api}/branches/{branch}") },
        "protected": false, "protection": { "enabled": false },
        "protection_url": format!("{api}/branches/{branch}/protection"),
    })
}
