//! A GitHub on loopback: state in memory, repositories on disk, the wire as GitHub's own.
//!
//! A test seeds it through [`GitHub`], lets the program under test talk to [`GitHub::api_url`] and
//! [`GitHub::web_url`], and asks it afterwards. Whatever comes over the wire is recorded, and checked against
//! GitHub's own description of its interface; [`GitHub::finish`] tells what did not fit.

mod api;
mod apps;
mod contract;
mod fault;
mod graphql;
mod people;
mod pulls;
mod references;
mod render;
mod reply;
mod repository;
mod smart_http;
mod state;
mod webhook;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

pub use apps::{App, Grant};
pub use fault::{Chaos, Fault, FaultRule, Mischief};
pub(crate) use repository::copy;
pub use repository::{RepositoryBuilder, local};
pub use state::{Comment, Hook, Issue, IssueEvent, Permission, Pull, Repository, Status, Token};
pub use webhook::Delivery;

use crate::clock::now;
use crate::http::{Server, hex};
use fault::Chance;
use render::Addresses;
use state::State;

/// The login that owns [`GitHub::token`].
pub const BOT: &str = "patchwright-bot";

/// One request that came in. `path` has no API prefix.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    /// Lower-case names; credentials are hidden.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// `None` until it is answered.
    pub status: Option<u16>,
}

impl Exchange {
    /// The body as JSON; `Null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// Requests to the REST interface by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Against the rate limit.
    pub counted: usize,
    /// 304, which costs nothing.
    pub unchanged: usize,
    /// A 5xx, or no answer at all.
    pub failed: usize,
}

/// The handle on a running GitHub; it ends when the last clone of the handle is dropped.
#[derive(Clone)]
pub struct GitHub {
    shared: Arc<Shared>,
    _server: Arc<Server>,
    token: String,
}

/// What handlers and handle share.
struct Shared {
    addresses: Addresses,
    folder: PathBuf,
    state: Mutex<State>,
    book: Mutex<Book>,
    requests: AtomicU64,
    /// Changes with every recorded event, for those who wait.
    changed: watch::Sender<u64>,
}

/// What happened on the wire.
#[derive(Default)]
struct Book {
    exchanges: Vec<Exchange>,
    /// How many came before the first one that is kept.
    forgotten: usize,
    faults: Vec<FaultRule>,
    violations: Vec<String>,
    deliveries: Vec<Delivery>,
    /// And how many requests it has seen.
    chaos: Option<(Chaos, u64)>,
    mischief: Option<Mischief>,
    /// Texts that no address and no body may hold.
    secrets: BTreeSet<String>,
}

impl GitHub {
    /// Starts on a free port; bare repositories go below `folder`.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (slot, receiver) = watch::channel(None::<Arc<Shared>>);
        let server = Server::start(move |request| {
            let shared = receiver.borrow().clone();
            async move {
                match shared {
                    Some(shared) => wire::serve(&shared, request).await,
                    None => Err(crate::http::Hangup),
                }
            }
        })
        .await?;
        let web = format!("http://{}", server.address);
        let shared = Arc::new(Shared {
            addresses: Addresses { api: format!("{web}{}", wire::PREFIX), web },
            folder: folder.to_owned(),
            state: Mutex::new(State::default()),
            book: Mutex::new(Book::default()),
            requests: AtomicU64::new(0),
            changed: watch::channel(0).0,
        });
        slot.send_replace(Some(shared.clone()));
        let mut github = Self { shared, _server: Arc::new(server), token: String::new() };
        github.token = github.add_token(BOT, &["repo"]);
        Ok(github)
    }

    /// For `GITHUB_API_URL`.
    pub fn api_url(&self) -> String {
        self.shared.addresses.api.clone()
    }

    /// For `GITHUB_SERVER_URL`: the base of clone addresses.
    pub fn web_url(&self) -> String {
        self.shared.addresses.web.clone()
    }

    /// A token of [`BOT`] with the scope `repo`; every repository takes [`BOT`] as a collaborator with write access.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Makes a token for `login`, who is made too if need be.
    pub fn add_token(&self, login: &str, scopes: &[&str]) -> String {
        let mut state = self.shared.state();
        let kind = if login.ends_with("[bot]") { "Bot" } else { "User" };
        state.user(login, kind);
        drop(state);
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let token = self.shared.new_token("ghp_", Token { scopes, ..Token::new(login) });
        self.add_secret(&token);
        token
    }

    /// From now on, `token` is no credential.
    pub fn revoke_token(&self, token: &str) {
        self.shared.state().tokens.remove(token);
    }

    /// A token that was revoked is one of [`BOT`] again.
    pub fn restore_token(&self, token: &str) {
        let restored = Token { scopes: vec!["repo".to_owned()], ..Token::new(BOT) };
        self.shared.state().tokens.insert(token.to_owned(), restored);
    }

    /// From now on, `secret` in a request's address or body is a violation.
    pub fn add_secret(&self, secret: &str) {
        self.shared.book().secrets.insert(secret.to_owned());
    }

    /// Every text that counts as a secret.
    pub fn secrets(&self) -> Vec<String> {
        self.shared.book().secrets.iter().cloned().collect()
    }

    /// Leaves `token` with `remaining` requests of its primary limit, until `seconds` from now; more than the limit raise it.
    pub fn set_limit(&self, token: &str, remaining: u64, seconds: u64) {
        if let Some(token) = self.shared.state().tokens.get_mut(token) {
            token.limit = token.limit.max(remaining);
            token.used = token.limit.saturating_sub(remaining);
            token.reset = now() + seconds;
        }
    }

    /// The token as GitHub counts it.
    pub fn token_state(&self, token: &str) -> Option<Token> {
        self.shared.state().tokens.get(token).cloned()
    }

    /// Begins a repository, `owner/name`.
    pub fn repository(&self, full_name: &str) -> RepositoryBuilder {
        RepositoryBuilder::new(self.shared.clone(), full_name)
    }

    /// The repository as it stands.
    pub fn repository_state(&self, full_name: &str) -> Option<Repository> {
        self.shared.state().repository(full_name).cloned()
    }

    /// Asks something of a repository as it stands, without a copy of it; `None`: there is none.
    pub fn look<T>(&self, full_name: &str, ask: impl FnOnce(&Repository) -> T) -> Option<T> {
        self.shared.state().repository(full_name).map(ask)
    }

    /// Removes a repository: 404 from now on.
    pub fn remove_repository(&self, full_name: &str) {
        self.shared.state().repositories.remove(&full_name.to_ascii_lowercase());
    }

    /// Changes anything about a repository.
    pub fn change(&self, full_name: &str, change: impl FnOnce(&mut Repository)) {
        if let Some(repository) = self.shared.state().repository_mut(full_name) {
            change(repository);
        }
    }

    /// Sets what `login` may do in a repository.
    pub fn set_permission(&self, full_name: &str, login: &str, permission: Permission) {
        let mut state = self.shared.state();
        state.user(login, "User");
        if let Some(repository) = state.repository_mut(full_name) {
            repository.collaborators.insert(login.to_owned(), permission);
        }
    }

    /// The issue or pull request.
    pub fn issue(&self, full_name: &str, number: u64) -> Option<Issue> {
        self.shared.state().repository(full_name)?.issues.get(&number).cloned()
    }

    /// Deletes an issue: 410 from now on.
    pub fn remove_issue(&self, full_name: &str, number: u64) {
        if let Some(issue) =
            self.shared.state().repository_mut(full_name).and_then(|found| found.issues.get_mut(&number))
        {
            issue.gone = true;
        }
    }

    /// The pull requests, oldest first.
    pub fn pulls(&self, full_name: &str) -> Vec<Issue> {
        let state = self.shared.state();
        let issues = state.repository(full_name).into_iter().flat_map(|repository| repository.issues.values());
        issues.filter(|issue| issue.pull.is_some()).cloned().collect()
    }

    /// The comments on an issue, oldest first; they count as read from now on.
    pub fn comments(&self, full_name: &str, issue: u64) -> Vec<Comment> {
        let mut state = self.shared.state();
        let Some(repository) = state.repository_mut(full_name) else { return Vec::new() };
        let of_issue = repository.comments.values_mut().filter(|comment| comment.issue == issue);
        of_issue
            .map(|comment| {
                comment.read = true;
                comment.clone()
            })
            .collect()
    }

    /// Sends `events` (all if empty) to `url` from now on, signed with `secret`.
    pub fn add_webhook(&self, url: &str, secret: &str, events: &[&str]) {
        let events = events.iter().map(|event| (*event).to_owned()).collect();
        let hook = Hook { url: url.to_owned(), secret: secret.to_owned(), events };
        self.shared.state().hooks.push(hook);
    }

    /// The webhooks that went out so far.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.book().deliveries.clone()
    }

    /// Sends a delivery again, under the same id, and returns the receiver's status.
    pub async fn redeliver(&self, delivery: &Delivery) -> anyhow::Result<u16> {
        delivery.send().await
    }

    /// Lets something go wrong.
    pub fn add_fault(&self, rule: FaultRule) {
        self.shared.book().faults.push(rule);
    }

    /// From now on things go wrong by chance; `None`: no longer.
    pub fn set_chaos(&self, chaos: Option<Chaos>) {
        self.shared.book().chaos = chaos.map(|chaos| (chaos, 0));
    }

    /// From now on webhooks are doubled and reordered by chance; `None`: no longer.
    pub fn set_mischief(&self, mischief: Option<Mischief>) {
        self.shared.book().mischief = mischief;
    }

    /// How many requests of each kind came in so far; git is another matter.
    pub fn counts(&self) -> Counts {
        let book = self.shared.book();
        let mut counts = Counts::default();
        for exchange in book.exchanges.iter().filter(|exchange| !exchange.path.contains(".git/")) {
            match exchange.status {
                Some(304) => counts.unchanged += 1,
                None | Some(500..) => counts.failed += 1,
                Some(_) if exchange.path == "/rate_limit" => {}
                Some(_) => counts.counted += 1,
            }
        }
        counts
    }

    /// Forgets the requests so far, for runs that make very many.
    pub fn forget_exchanges(&self) {
        let mut book = self.shared.book();
        book.forgotten += book.exchanges.len();
        book.exchanges.clear();
    }

    /// Every request so far.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.book().exchanges.clone()
    }

    /// Waits until `done` holds, looking again after each request and delivery; an error after `limit`.
    pub async fn until(&self, limit: Duration, done: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let mut changes = self.shared.changed.subscribe();
        let wait = async {
            while !done(self) {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::time::timeout(limit, wait).await.map_err(|_| anyhow::anyhow!("not within {} s", limit.as_secs()))
    }

    /// What went wrong on the wire so far; asking again tells it again.
    pub fn finish(&self) -> Vec<String> {
        let book = self.shared.book();
        let mut wrong = book.violations.clone();
        for rule in book.faults.iter().filter(|rule| rule.times > 0) {
            wrong.push(format!("a fault was never met: {} {} {:?}", rule.method, rule.path, rule.fault));
        }
        for exchange in &book.exchanges {
            let mut address = exchange.path.clone();
            address.extend(exchange.query.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
            for secret in &book.secrets {
                if address.contains(secret.as_str()) || exchange.body.contains(secret.as_str()) {
                    wrong.push(format!("{} {}: a secret in the address or the body", exchange.method, exchange.path));
                }
            }
        }
        drop(book);
        for repository in self.shared.state().repositories.values() {
            let unread = repository.comments.values().filter(|comment| comment.from_wire && !comment.read);
            wrong.extend(unread.map(|comment| {
                let first = comment.body.lines().next().unwrap_or_default();
                format!("nobody read the comment on {}#{}: {first}", repository.full_name(), comment.issue)
            }));
        }
        wrong
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("ABCD:{number:06X}:LAB")
    }

    fn record(&self, exchange: Exchange) -> usize {
        let mut book = self.book();
        book.exchanges.push(exchange);
        book.forgotten + book.exchanges.len() - 1
    }

    /// Keeps a token under a new name.
    fn new_token(&self, prefix: &str, token: Token) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let seed = format!("{}{}{number}{:?}", self.addresses.web, token.login, std::time::Instant::now());
        let name = format!("{prefix}{}", &hex(&Sha256::digest(seed))[..36]);
        self.state().tokens.insert(name.clone(), token);
        name
    }

    /// Changes an issue, which is newer then.
    fn change_issue(&self, full_name: &str, number: u64, change: impl FnOnce(&mut Issue)) {
        let mut state = self.state();
        if let Some(issue) = state.repository_mut(full_name).and_then(|found| found.issues.get_mut(&number)) {
            change(issue);
            issue.updated = now();
        }
    }

    fn answered(&self, exchange: usize, status: u16) {
        let mut book = self.book();
        let place = exchange.checked_sub(book.forgotten);
        if let Some(exchange) = place.and_then(|place| book.exchanges.get_mut(place)) {
            exchange.status = Some(status);
        }
        drop(book);
        self.changed.send_modify(|count| *count += 1);
    }

    fn violation(&self, text: String) {
        self.book().violations.push(text);
    }

    /// Sends an event to every hook that wants it, beside the answer, as GitHub does.
    fn deliver(self: &Arc<Self>, event: &str, payload: &Value) {
        let hooks = self.state().hooks.clone();
        let wanted = |hook: &&Hook| hook.events.is_empty() || hook.events.contains(event);
        for hook in hooks.iter().filter(wanted) {
            let id = format!("{}-{}", self.request_id().replace(':', "-"), event);
            let delivery = Delivery {
                id: id.clone(),
                event: event.to_owned(),
                url: hook.url.clone(),
                secret: hook.secret.clone(),
                body: payload.to_string(),
                status: None,
                answered_in: None,
                error: None,
            };
            let shared = self.clone();
            let (twice, delay) = {
                let mut book = self.book();
                book.deliveries.push(delivery.clone());
                let number = book.deliveries.len() as u64 * 2;
                let chance = |which, share| move |seed| Chance::new(seed, number + which).happens(share);
                book.mischief.as_ref().map_or((false, None), |mischief| {
                    let late = chance(1, mischief.delayed)(mischief.seed);
                    (chance(0, mischief.duplicated)(mischief.seed), late.then_some(mischief.delay))
                })
            };
            tokio::spawn(async move {
                tokio::time::sleep(delay.unwrap_or_default()).await;
                let begun = std::time::Instant::now();
                let mut sent = delivery.send().await;
                let answered_in = begun.elapsed();
                if twice {
                    sent = delivery.send().await;
                }
                if let Some(kept) =
                    shared.book().deliveries.iter_mut().find(|kept| kept.id == id && kept.url == delivery.url)
                {
                    match sent {
                        Ok(status) => {
                            kept.status = Some(status);
                            kept.answered_in = Some(answered_in);
                        }
                        Err(error) => kept.error = Some(format!("{error:#}")),
                    }
                }
                shared.changed.send_modify(|count| *count += 1);
            });
        }
    }
}
