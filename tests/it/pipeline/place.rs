//! One dispatch repository, one target, one task in patch mode, and a store; and ways to cut a run off.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use lab::github::Comment;
use lab::{Lab, git};
use patchwright::event::{Event, Events};
use patchwright::forge::{self, Credentials, Forge};
use patchwright::outcome::{Stage, TestCommand};
use patchwright::pipeline::setup::recipe::RepositoryCommands;
use patchwright::pipeline::setup::repository::ShowRepository;
use patchwright::pipeline::setup::{self, Wishes};
use patchwright::pipeline::{
    Delivery, Ending, Guard, Limits, Order, PatchMode, ProfileChoice, ProtocolChoice, Publish, ReviewPolicy, Services,
    Settings, UnverifiedPolicy, run_task,
};
use patchwright::policy::Rules;
use patchwright::sandbox::egress::Access;
use patchwright::sandbox::{self, Backend, Choice, SandboxError};
use patchwright::secrets::Allow;
use patchwright::store::{self, Claim, ClaimRules, Entry, NewTask, Priority, Store};
use patchwright::task::{IssueReference, RepositoryName, Task, parse_issue};
use patchwright::workspace::{Author, Remote, Workspace};

pub const DISPATCH: &str = "acme/dispatch";
pub const TARGET: &str = "acme/widgets";
pub const ID: &str = "550e8400-e29b-41d4-a716-446655440000";
pub const BRANCH: &str = "agent-task-550e8400";
/// For whatever a test waits for.
pub const LIMIT: Duration = Duration::from_secs(60);

const TITLE: &str = "Repair the state";
const FIX: &str = "```diff\n--- a/state.txt\n+++ b/state.txt\n@@ -1 +1 @@\n-broken\n+fixed\n```";

/// A lab with a task in it, and everything that works it.
pub struct Place {
    pub lab: Lab,
    pub issue: IssueReference,
    pub task: Task,
    pub store: Store,
    pub services: Services,
    body: String,
    stages: Arc<Mutex<Vec<Stage>>>,
    claims: std::cell::Cell<u32>,
    folder: tempfile::TempDir,
}

impl Place {
    /// `None`: no sandbox works here.
    pub async fn new() -> Option<Self> {
        Self::with(FIX).await
    }

    pub async fn with(instruction: &str) -> Option<Self> {
        let backend = match Backend::probe(&sandbox_settings()).await {
            Ok(backend) => backend,
            Err(SandboxError::Unavailable { reason, remedy }) => {
                eprintln!("SKIPPED: {reason}. {remedy}");
                assert!(std::env::var_os("PATCHWRIGHT_TEST_REQUIRE_ALL").is_none(), "cannot run here: {reason}");
                return None;
            }
            Err(error @ SandboxError::Broken(_)) => panic!("{error}"),
        };
        let lab = Lab::start().await.unwrap();
        lab.github.repository(DISPATCH).commit("One", &[("README.md", "# Tasks\n")]).create().await.unwrap();
        lab.github.repository(TARGET).commit("One", &[("state.txt", "broken\n")]).create().await.unwrap();
        let body = format!(
            "<!-- agent_task_metadata {{\"task_id\": \"{ID}\", \"target_repo\": \"{TARGET}\"}} -->\n\n\
             ## Instructions\n\n{instruction}\n"
        );
        let number = lab.github.create_issue(DISPATCH, "acme", TITLE, Some(&body), &["copilot-agent"]);
        let issue = IssueReference { repository: RepositoryName::parse(DISPATCH).unwrap(), number };
        let task = parse_issue(TITLE, Some(&body), issue.clone()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&store::Settings::Sqlite { path: folder.path().join("store.sqlite") }).await.unwrap();
        let forge = forge_at(&lab, lab.github.token());
        let stages = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&stages);
        let services = Services {
            workspace: Workspace::new(patchwright::workspace::Settings {
                git: which::which("git").unwrap(),
                cache: folder.path().join("cache"),
                temporary: folder.path().join("temporary"),
                git_timeout: LIMIT,
                environment: Vec::new(),
            })
            .unwrap(),
            backend: Arc::new(backend),
            model: None,
            dispatch: forge.clone(),
            forge,
            events: Events::new(move |event| {
                if let Event::StageStarted { stage } = event {
                    seen.lock().unwrap().push(*stage);
                }
            }),
            settings: settings(),
        };
        let claims = std::cell::Cell::new(0);
        Some(Self { lab, issue, task, store, services, body, stages, claims, folder })
    }

    /// Takes the task into a store.
    pub async fn admit(&self, store: &Store) {
        let new = NewTask {
            issue: self.issue.clone(),
            id: self.task.id.clone(),
            title: TITLE.into(),
            body: self.body.clone(),
            author: "acme".into(),
            target: RepositoryName::parse(TARGET).unwrap(),
            priority: Priority::Normal,
            created_at: 0,
            revision: "one".into(),
        };
        store.admit(&new).await.unwrap();
    }

    /// An empty store.
    pub async fn other_store(&self) -> Store {
        let path = self.folder.path().join("other.sqlite");
        Store::open(&store::Settings::Sqlite { path }).await.unwrap()
    }

    /// Claims the task. The lease is over at once, so anybody may take the task away.
    pub async fn claim(&self) -> Claim {
        self.claim_within(99).await
    }

    pub async fn claim_within(&self, attempts: u32) -> Claim {
        self.claim_at(&self.store, attempts).await
    }

    /// Claims it through a connection of its own: a run that is not polled may hold the store's only one for writing.
    pub async fn claim_elsewhere(&self) -> Claim {
        let path = self.folder.path().join("store.sqlite");
        self.claim_at(&Store::open(&store::Settings::Sqlite { path }).await.unwrap(), 99).await
    }

    async fn claim_at(&self, store: &Store, attempts: u32) -> Claim {
        self.claims.set(self.claims.get() + 1);
        let rules = ClaimRules {
            owner: format!("worker {}", self.claims.get()),
            lease: Duration::ZERO,
            attempts,
            per_repository: 9,
            closed: Vec::new(),
            reports_only: false,
        };
        store.claim(&rules).await.unwrap().expect("there is a task to claim")
    }

    pub fn order(&self, claim: Option<Claim>) -> Order {
        let repository = RepositoryName::parse(TARGET).unwrap();
        Order {
            task: self.task.clone(),
            remote: Remote::Url { url: self.services.forge.clone_url(&repository), token: None },
            repository: Some(repository.clone()),
            base: None,
            delivery: Delivery::PullRequest(repository),
            setup: Wishes::default(),
            access: Access::none(),
            test_command: Some(TestCommand { command: "grep -q fixed state.txt".into(), reason: "told".into() }),
            started: Instant::now(),
            deadline: Instant::now() + LIMIT,
            claim,
            again_after: None,
        }
    }

    /// Another identity at the same forge.
    pub fn forge_with(&self, token: &str) -> Forge {
        forge_at(&self.lab, token)
    }

    pub async fn run(&self, order: &Order) -> Ending {
        tokio::time::timeout(LIMIT, run_task(&self.services, order)).await.expect("the task ends")
    }

    /// Runs until the journal has `entries`, and not an instant longer. `Err`: the run ended before.
    pub async fn run_until<'a>(&'a self, order: &'a Order, entries: usize) -> Result<CutOff<'a>, Ending> {
        self.run_until_told(order, |journal| journal.len() >= entries).await
    }

    async fn run_until_told<'a>(
        &'a self,
        order: &'a Order,
        told: impl Fn(&[Entry]) -> bool,
    ) -> Result<CutOff<'a>, Ending> {
        let claim = order.claim.as_ref().expect("only a claim has a journal");
        let mut run: CutOff<'a> = Box::pin(run_task(&self.services, order));
        let cut = async {
            loop {
                // A write of its own waits for the one that is on its way, so that the journal says all. A run that holds
                // the connection itself is given the time that its last command takes.
                let _ = tokio::time::timeout(Duration::from_millis(25), self.store.check()).await;
                if told(&claim.journal().await.unwrap()) {
                    return Ok(run);
                }
                if let Some(ending) = poll_fn(|context| Poll::Ready(poll_once(&mut run, context))).await {
                    return Err(ending);
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, cut).await.expect("the journal grows")
    }

    /// Runs until the journal has an entry of this kind, and not an instant longer.
    pub async fn cut_off_at(&self, order: &Order, kind: &str) {
        let cut = self.run_until_told(order, |journal| kinds(journal).iter().any(|told| told == kind)).await;
        assert!(cut.is_ok(), "the run ended without `{kind}`");
    }

    /// The stages that were begun since the last time that somebody asked.
    pub fn stages(&self) -> Vec<Stage> {
        std::mem::take(&mut self.stages.lock().unwrap())
    }

    pub fn comments(&self) -> Vec<Comment> {
        self.lab.github.comments(DISPATCH, self.issue.number)
    }

    pub fn labels(&self) -> Vec<String> {
        let mut labels = self.lab.github.issue(DISPATCH, self.issue.number).unwrap().labels;
        labels.sort();
        labels
    }

    pub fn requests(&self) -> usize {
        self.lab.github.exchanges().len()
    }

    /// How often a comment with this marker stands on the issue.
    pub fn count(&self, kind: &str) -> usize {
        let marker = format!("<!-- patchwright:{kind} task={ID} -->");
        self.comments().iter().filter(|comment| comment.body.contains(&marker)).count()
    }

    /// The tree of the published branch, and the number of its commits.
    pub async fn published(&self) -> (String, String) {
        let path = self.lab.github.repository_state(TARGET).unwrap().path;
        let tree = git::text(&path, &["rev-parse", &format!("{BRANCH}^{{tree}}")]).await.unwrap();
        (tree, git::text(&path, &["rev-list", "--count", BRANCH]).await.unwrap())
    }

    /// One pull request with the one commit of the task, one of each comment, and the labels of a good end.
    pub async fn assert_told_once(&self, context: &str) {
        assert_eq!(self.lab.github.pulls(TARGET).len(), 1, "{context}");
        assert_eq!(self.published().await.1, "2", "{context}");
        let counts = ["started", "completed", "failed", "status"].map(|kind| self.count(kind));
        assert_eq!(counts, [1, 1, 0, 1], "{context}");
        assert_eq!(self.comments().len(), 3, "{context}");
        assert_eq!(self.labels(), ["copilot-agent", "processed"], "{context}");
        assert_eq!(self.lab.finish(), Vec::<String>::new(), "{context}");
    }
}

/// A run that is not polled.
pub type CutOff<'a> = Pin<Box<dyn Future<Output = Ending> + 'a>>;

fn poll_once(run: &mut CutOff<'_>, context: &mut std::task::Context<'_>) -> Option<Ending> {
    match run.as_mut().poll(context) {
        Poll::Ready(ending) => Some(ending),
        Poll::Pending => None,
    }
}

/// The entries in order, by kind.
pub fn kinds(journal: &[Entry]) -> Vec<String> {
    let kind = |entry: &Entry| match entry {
        Entry::StageDone { stage } => format!("done {}", stage.name()),
        Entry::Intent { effect, .. } => format!("intent {effect:?}"),
        Entry::Had { effect, .. } => format!("had {effect:?}"),
        Entry::Solved { .. } => "solved".into(),
        Entry::Concluded { .. } => "concluded".into(),
    };
    journal.iter().map(kind).collect()
}

fn forge_at(lab: &Lab, token: &str) -> Forge {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = forge::Settings {
        api_url: lab.github.api_url().parse().unwrap(),
        server_url: lab.github.web_url().parse().unwrap(),
        credentials: Credentials::Token(token.to_owned().into()),
        timeout: Duration::from_secs(20),
        longest_wait: Duration::ZERO,
        write_spacing: Duration::ZERO,
    };
    Forge::new(&settings).unwrap()
}

fn settings() -> Settings {
    Settings {
        agent_name: "Patchwright".into(),
        setup: setup::Settings {
            enabled: true,
            repository_commands: RepositoryCommands::Run,
            repository: ShowRepository::Auto,
            limit: LIMIT,
            keep_bytes: 1 << 30,
        },
        author: Author { name: "Patchwright".into(), email: "patchwright@localhost".into() },
        limits: Limits {
            task: LIMIT,
            stage: Some(LIMIT),
            tests: LIMIT,
            command: LIMIT,
            steps: 10,
            tokens: 100_000,
            cost: None,
            verify_rounds: 1,
            attempts: 1,
        },
        patch_mode: PatchMode::Only,
        publish: Publish {
            unverified: UnverifiedPolicy::Draft,
            comments: true,
            status_comment: true,
            status_interval: Duration::ZERO,
            commit_status: true,
            comment_on_failure: true,
            close_issues: false,
            trace_file: false,
            review: ReviewPolicy::Off,
        },
        guard: Arc::new(Guard::new(Rules::default(), Default::default(), &Allow::default()).unwrap()),
        prompts: None,
        max_output_tokens: 1_000,
        temperature: None,
        winner: None,
        profile: ProfileChoice::Auto,
        protocol: ProtocolChoice::Auto,
    }
}

fn sandbox_settings() -> sandbox::Settings {
    sandbox::Settings {
        choice: Choice::Namespace,
        limits: sandbox::Limits {
            memory_bytes: 1 << 30,
            processes: 64,
            file_size_bytes: 1 << 20,
            disk_bytes: 1 << 30,
            disk_files: 100_000,
            output_bytes: 16 << 10,
        },
        image: None,
        helper: PathBuf::from(env!("CARGO_BIN_EXE_patchwright")),
        path: std::env::var_os("PATH"),
        home: None,
        tool_homes: Default::default(),
        docker_host: None,
        engine: Default::default(),
        runtime: None,
        minimum_level: sandbox::level::Level::Basic,
        sources: Default::default(),
        owner: "patchwright-tests".into(),
    }
}
