//! State becomes the JSON that GitHub sends.

use serde_json::{Map, Value, json};

use super::state::{Comment, Issue, Label, Permission, Pull, Repository, State, Status, User};
use crate::clock::iso;

/// The bases of the addresses in answers.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    pub(super) api: String,
    pub(super) web: String,
}

impl Addresses {
    pub(super) fn user(&self, user: Option<&User>) -> Value {
        let (id, login, kind) =
            user.map_or((10_137, "ghost", "User"), |user| (user.id, user.login.as_str(), user.kind));
        let api = format!("{}/users/{login}", self.api);
        json!({
            "login": login, "id": id, "node_id": node("U", id), "avatar_url": format!("{}/avatars/{id}", self.web),
            "gravatar_id": "", "url": api, "html_url": format!("{}/{login}", self.web),
            "followers_url": format!("{api}/followers"), "following_url": format!("{api}/following{{/other_user}}"),
            "gists_url": format!("{api}/gists{{/gist_id}}"), "starred_url": format!("{api}/starred{{/owner}}{{/repo}}"),
            "subscriptions_url": format!("{api}/subscriptions"), "organizations_url": format!("{api}/orgs"),
            "repos_url": format!("{api}/repos"), "events_url": format!("{api}/events{{/privacy}}"),
            "received_events_url": format!("{api}/received_events"), "type": kind, "user_view_type": "public",
            "site_admin": false,
        })
    }

    /// `/user`: the public part of an account.
    pub(super) fn account(&self, user: &User) -> Value {
        let mut account = self.user(Some(user));
        merge(
            &mut account,
            json!({
                "name": user.login, "company": null, "blog": "", "location": null, "email": null, "hireable": null,
                "bio": null, "twitter_username": null, "public_repos": 0, "public_gists": 0, "followers": 0,
                "following": 0, "created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z",
            }),
        );
        account
    }

    pub(super) fn repository(&self, state: &State, repository: &Repository, permission: Permission) -> Value {
        let name = repository.full_name();
        let api = format!("{}/repos/{name}", self.api);
        let html = format!("{}/{name}", self.web);
        let open = repository.issues.values().filter(|issue| issue.open && !issue.gone).count();
        let mut result = json!({
            "id": repository.id, "node_id": node("R", repository.id), "name": repository.name, "full_name": name,
            "private": repository.private, "owner": self.user(state.users.get(&repository.owner)), "html_url": html,
            "description": null, "fork": false, "url": api,
        });
        const TEMPLATES: [(&str, &str); 36] = [
            ("archive_url", "/{archive_format}{/ref}"),
            ("assignees_url", "/assignees{/user}"),
            ("blobs_url", "/git/blobs{/sha}"),
            ("branches_url", "/branches{/branch}"),
            ("collaborators_url", "/collaborators{/collaborator}"),
            ("comments_url", "/comments{/number}"),
            ("commits_url", "/commits{/sha}"),
            ("compare_url", "/compare/{base}...{head}"),
            ("contents_url", "/contents/{+path}"),
            ("contributors_url", "/contributors"),
            ("deployments_url", "/deployments"),
            ("downloads_url", "/downloads"),
            ("events_url", "/events"),
            ("forks_url", "/forks"),
            ("git_commits_url", "/git/commits{/sha}"),
            ("git_refs_url", "/git/refs{/sha}"),
            ("git_tags_url", "/git/tags{/sha}"),
            ("hooks_url", "/hooks"),
            ("issue_comment_url", "/issues/comments{/number}"),
            ("issue_events_url", "/issues/events{/number}"),
            ("issues_url", "/issues{/number}"),
            ("keys_url", "/keys{/key_id}"),
            ("labels_url", "/labels{/name}"),
            ("languages_url", "/languages"),
            ("merges_url", "/merges"),
            ("milestones_url", "/milestones{/number}"),
            ("notifications_url", "/notifications{?since,all,participating}"),
            ("pulls_url", "/pulls{/number}"),
            ("releases_url", "/releases{/id}"),
            ("stargazers_url", "/stargazers"),
            ("statuses_url", "/statuses/{sha}"),
            ("subscribers_url", "/subscribers"),
            ("subscription_url", "/subscription"),
            ("tags_url", "/tags"),
            ("teams_url", "/teams"),
            ("trees_url", "/git/trees{/sha}"),
        ];
        for (field, template) in TEMPLATES {
            result[field] = json!(format!("{api}{template}"));
        }
        let authority = self.web.trim_start_matches("http://");
        merge(
            &mut result,
            json!({
                "git_url": format!("git://{authority}/{name}.git"), "ssh_url": format!("git@{authority}:{name}.git"),
                "clone_url": format!("{html}.git"), "svn_url": html, "mirror_url": null, "homepage": null,
                "language": null, "forks_count": 0, "forks": 0, "stargazers_count": 0, "watchers_count": 0, "watchers": 0,
                "size": 1, "default_branch": repository.default_branch, "open_issues_count": open, "open_issues": open,
                "is_template": false, "topics": [], "has_issues": true, "has_projects": false, "has_wiki": false,
                "has_pages": false, "has_downloads": false, "has_discussions": false, "archived": repository.archived,
                "disabled": false, "visibility": if repository.private { "private" } else { "public" },
                "pushed_at": iso(repository.pushed), "created_at": iso(repository.created),
                "updated_at": iso(repository.pushed), "license": null, "network_count": 0, "subscribers_count": 0,
                "allow_forking": true, "web_commit_signoff_required": false,
                "permissions": {
                    "admin": permission >= Permission::Admin, "maintain": permission >= Permission::Maintain,
                    "push": permission >= Permission::Write, "triage": permission >= Permission::Triage,
                    "pull": permission >= Permission::Read,
                },
            }),
        );
        result
    }

    pub(super) fn label(&self, repository: &Repository, label: &Label) -> Value {
        let name = percent_encoding::utf8_percent_encode(&label.name, percent_encoding::NON_ALPHANUMERIC);
        json!({
            "id": label.id, "node_id": node("LA", label.id), "name": label.name, "color": label.color, "default": false,
            "url": format!("{}/repos/{}/labels/{name}", self.api, repository.full_name()),
            "description": label.description,
        })
    }

    /// The label of that name; one that is gone is shown as it was.
    pub(super) fn named_label(&self, repository: &Repository, name: &str) -> Value {
        match repository.labels.iter().find(|label| label.name.eq_ignore_ascii_case(name)) {
            Some(label) => self.label(repository, label),
            None => json!({ "name": name, "color": "ededed" }),
        }
    }

    /// Of a pull request, GitHub's description does not let a label's own be `null`.
    fn labels_of_pull(&self, repository: &Repository, issue: &Issue) -> Value {
        let mut labels = self.labels(repository, issue);
        for label in labels.as_array_mut().into_iter().flatten().filter(|label| label["description"].is_null()) {
            label["description"] = "".into();
        }
        labels
    }

    pub(super) fn labels(&self, repository: &Repository, issue: &Issue) -> Value {
        let find = |name: &String| repository.labels.iter().find(|label| label.name.eq_ignore_ascii_case(name));
        issue.labels.iter().filter_map(find).map(|label| self.label(repository, label)).collect()
    }

    pub(super) fn comment(&self, state: &State, repository: &Repository, comment: &Comment) -> Value {
        let name = repository.full_name();
        json!({
            "url": format!("{}/repos/{name}/issues/comments/{}", self.api, comment.id),
            "html_url": format!("{}/{name}/issues/{}#issuecomment-{}", self.web, comment.issue, comment.id),
            "issue_url": format!("{}/repos/{name}/issues/{}", self.api, comment.issue),
            "id": comment.id, "node_id": node("IC", comment.id), "user": self.user(state.users.get(&comment.author)),
            "created_at": iso(comment.created), "updated_at": iso(comment.updated), "body": comment.body,
            "author_association": association(state, repository, &comment.author),
            "performed_via_github_app": null,
        })
    }

    pub(super) fn issue(&self, state: &State, repository: &Repository, issue: &Issue) -> Value {
        let name = repository.full_name();
        let api = format!("{}/repos/{name}/issues/{}", self.api, issue.number);
        let kind = if issue.pull.is_some() { "pull" } else { "issues" };
        let html = format!("{}/{name}/{kind}/{}", self.web, issue.number);
        let mut result = json!({
            "url": api, "repository_url": format!("{}/repos/{name}", self.api),
            "labels_url": format!("{api}/labels{{/name}}"), "comments_url": format!("{api}/comments"),
            "events_url": format!("{api}/events"), "html_url": html, "id": issue.id, "node_id": node("I", issue.id),
            "number": issue.number, "title": issue.title, "user": self.user(state.users.get(&issue.author)),
            "labels": self.labels(repository, issue), "state": if issue.open { "open" } else { "closed" },
            "locked": false, "assignee": null, "assignees": [], "milestone": null,
            "comments": repository.comments.values().filter(|comment| comment.issue == issue.number).count(),
            "created_at": iso(issue.created), "updated_at": iso(issue.updated), "closed_at": issue.closed.map(iso),
            "author_association": association(state, repository, &issue.author), "active_lock_reason": null,
            "body": issue.body, "closed_by": null, "performed_via_github_app": null,
            "state_reason": issue.state_reason, "timeline_url": format!("{api}/timeline"),
        });
        if let Some(pull) = &issue.pull {
            result["draft"] = json!(pull.draft);
            result["pull_request"] = json!({
                "url": format!("{}/repos/{name}/pulls/{}", self.api, issue.number), "html_url": html,
                "diff_url": format!("{html}.diff"), "patch_url": format!("{html}.patch"), "merged_at": null,
            });
        }
        result
    }

    /// A pull request; `full` as a single one is sent, else as in a list.
    pub(super) fn pull(&self, state: &State, repository: &Repository, issue: &Issue, pull: &Pull, full: bool) -> Value {
        let name = repository.full_name();
        let api = format!("{}/repos/{name}/pulls/{}", self.api, issue.number);
        let issue_api = format!("{}/repos/{name}/issues/{}", self.api, issue.number);
        let html = format!("{}/{name}/pull/{}", self.web, issue.number);
        let statuses = format!("{}/repos/{name}/statuses/{}", self.api, pull.head_commit);
        let side = |branch: &str, commit: &str| {
            json!({
                "label": format!("{}:{branch}", repository.owner), "ref": branch, "sha": commit,
                "user": self.user(state.users.get(&repository.owner)),
                "repo": self.repository(state, repository, Permission::Read),
            })
        };
        let href = |address: &str| json!({ "href": address });
        let mut result = json!({
            "url": api, "id": pull.id, "node_id": node("PR", pull.id), "html_url": html,
            "diff_url": format!("{html}.diff"), "patch_url": format!("{html}.patch"), "issue_url": issue_api,
            "number": issue.number, "state": if issue.open { "open" } else { "closed" }, "locked": false,
            "title": issue.title, "user": self.user(state.users.get(&issue.author)), "body": issue.body,
            "created_at": iso(issue.created), "updated_at": iso(issue.updated), "closed_at": issue.closed.map(iso),
            "merged_at": null, "merge_commit_sha": null, "assignee": null, "assignees": [],
            "requested_reviewers": [], "requested_teams": [], "labels": self.labels_of_pull(repository, issue),
            "milestone": null, "draft": pull.draft, "commits_url": format!("{api}/commits"),
            "review_comments_url": format!("{api}/comments"),
            "review_comment_url": format!("{}/repos/{name}/pulls/comments{{/number}}", self.api),
            "comments_url": format!("{issue_api}/comments"), "statuses_url": statuses,
            "head": side(&pull.head, &pull.head_commit), "base": side(&pull.base, &pull.base_commit),
            "_links": {
                "self": href(&api), "html": href(&html), "issue": href(&issue_api),
                "comments": href(&format!("{issue_api}/comments")), "review_comments": href(&format!("{api}/comments")),
                "review_comment": href(&format!("{}/repos/{name}/pulls/comments{{/number}}", self.api)),
                "commits": href(&format!("{api}/commits")), "statuses": href(&statuses),
            },
            "author_association": association(state, repository, &issue.author), "auto_merge": null,
            "active_lock_reason": null,
        });
        if full {
            merge(
                &mut result,
                json!({
                    "merged": false, "mergeable": null, "rebaseable": null, "mergeable_state": "unknown",
                    "merged_by": null, "review_comments": 0, "maintainer_can_modify": pull.maintainer_can_modify,
                    "comments": repository.comments.values().filter(|comment| comment.issue == issue.number).count(),
                    "commits": pull.commits, "additions": pull.additions, "deletions": pull.deletions,
                    "changed_files": pull.changed_files,
                }),
            );
        }
        result
    }

    pub(super) fn status(&self, state: &State, repository: &Repository, status: &Status) -> Value {
        let name = repository.full_name();
        json!({
            "url": format!("{}/repos/{name}/statuses/{}", self.api, status.commit),
            "avatar_url": format!("{}/avatars/{}", self.web, status.creator), "id": status.id,
            "node_id": node("SC", status.id), "state": status.state, "description": status.description,
            "target_url": status.target_url, "context": status.context, "created_at": iso(status.created),
            "updated_at": iso(status.created), "creator": self.user(state.users.get(&status.creator)),
        })
    }
}

/// Puts the fields of `more` into `value`.
pub(super) fn merge(value: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (value, more) {
        fields.extend(more.into_iter().collect::<Map<_, _>>());
    }
}

fn node(kind: &str, id: u64) -> String {
    format!("{kind}_lab{id}")
}

fn association(state: &State, repository: &Repository, login: &str) -> &'static str {
    match state.role(repository, Some(login)) {
        Permission::Admin => "OWNER",
        Permission::Maintain | Permission::Write | Permission::Triage => "COLLABORATOR",
        Permission::Read if repository.collaborators.contains_key(login) => "COLLABORATOR",
        Permission::Read | Permission::None => "NONE",
    }
}
