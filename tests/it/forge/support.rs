//! A client for the lab.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::github::App;
use lab::{GitHub, Lab};
use patchwright::forge::{Credentials, Forge, Settings};
use patchwright::task::{IssueReference, RepositoryName};

pub const WIDGETS: &str = "acme/widgets";
/// Made for these tests; it opens nothing.
pub const KEY: &str = include_str!("app_key.pem");
pub const PUBLIC_KEY: &str = include_str!("app_key.pub");
pub const OTHER_KEY: &str = include_str!("other_key.pem");
pub const SLUG: &str = "patchwright-app";

pub fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).unwrap()
}

pub fn issue(number: u64) -> IssueReference {
    IssueReference { repository: name(WIDGETS), number }
}

pub async fn widgets() -> Lab {
    let lab = Lab::start().await.unwrap();
    lab.github.repository(WIDGETS).commit("One", &[("README.md", "# Widgets\n")]).create().await.unwrap();
    lab
}

pub fn settings(github: &GitHub, credentials: Credentials) -> Settings {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Settings {
        api_url: github.api_url().parse().unwrap(),
        server_url: github.web_url().parse().unwrap(),
        credentials,
        timeout: Duration::from_secs(10),
        longest_wait: Duration::from_secs(30),
        write_spacing: Duration::ZERO,
    }
}

pub fn token(text: &str) -> Credentials {
    Credentials::Token(text.into())
}

/// As the lab's bot.
pub fn client(lab: &Lab) -> Forge {
    client_of(lab, token(lab.github.token()))
}

pub fn client_of(lab: &Lab, credentials: Credentials) -> Forge {
    Forge::new(&settings(&lab.github, credentials)).unwrap()
}

/// Waits for no limit.
pub fn impatient(lab: &Lab) -> Forge {
    let settings = settings(&lab.github, token(lab.github.token()));
    Forge::new(&Settings { longest_wait: Duration::ZERO, ..settings }).unwrap()
}

/// Registers the App, installed for `acme`, with what a task needs.
pub fn add_app(lab: &Lab, lifetime: u64) {
    add_app_with(lab, lifetime, &[]);
}

/// The same, with more permissions.
pub fn add_app_with(lab: &Lab, lifetime: u64, more: &[&str]) {
    let permissions = ["contents", "issues", "pull_requests", "statuses"].iter().chain(more);
    lab.github.add_app(App {
        id: 7,
        slug: SLUG.into(),
        public_key: PUBLIC_KEY.into(),
        installation: 70,
        account: "acme".into(),
        repositories: Vec::new(),
        permissions: permissions.map(|name| ((*name).to_owned(), "write".to_owned())).collect::<BTreeMap<_, _>>(),
        lifetime,
    });
}

pub fn app(key: &str) -> Credentials {
    Credentials::App { id: 7, key: key.into(), installation: 70 }
}

/// How often the lab was asked so.
pub fn asked(lab: &Lab, method: &str, end: &str) -> usize {
    lab.github.exchanges().iter().filter(|asked| asked.method == method && asked.path.ends_with(end)).count()
}

#[track_caller]
pub fn nothing_wrong(lab: &Lab) {
    assert_eq!(lab.finish(), Vec::<String>::new());
}
