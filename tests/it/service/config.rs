//! What the service is told by file, environment and flags.

use std::time::Duration;

use clap::Parser;
use patchwright::config::environment::Environment;
use patchwright::config::flags::{Command, Flags};
use patchwright::config::serve::{ServeConfig, resolve_serve};
use patchwright::outcome::{CostLimit, Price};
use patchwright::store::Settings;
use secrecy::ExposeSecret;

fn resolve(arguments: &[&str], variables: &[(&str, &str)], file: &str) -> anyhow::Result<ServeConfig> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("patchwright.toml");
    std::fs::write(&path, file)?;
    let path = path.display().to_string();
    let line = ["patchwright", "serve", "--config", &path].into_iter().chain(arguments.iter().copied());
    let flags = Flags::try_parse_from(line)?;
    let usual = [("HOME", "/home/user"), ("PATH", "/usr/local/bin:/usr/bin:/bin"), ("GITHUB_TOKEN", "t")];
    let all = usual.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let Command::Serve(serve) = &flags.command else { anyhow::bail!("this is not `serve`") };
    resolve_serve(&flags, serve, &Environment::of(all))
}

#[track_caller]
fn refusal(arguments: &[&str], variables: &[(&str, &str)], file: &str) -> String {
    match resolve(arguments, variables, file) {
        Ok(_) => panic!("{arguments:?} {variables:?} {file} was accepted"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn the_reference_runners_environment_is_taken_as_it_is() {
    let variables = [
        ("DISPATCH_REPO", "acme/dispatch"),
        ("TARGET_REPO", "acme/widgets"),
        ("DISPATCH_LABEL", "my-agent"),
        ("POLL_INTERVAL_SECONDS", "30"),
        ("AGENT_NAME", "Robot"),
        ("MAX_CONCURRENT_TASKS", "2"),
        ("TASK_TIMEOUT_SECONDS", "3600"),
        ("MAX_TASK_RETRIES", "0"),
        ("RETRY_DELAY_SECONDS", "5"),
        ("COMMENT_ON_FAILURE", "true"),
        ("CLOSE_ISSUES_ON_SUCCESS", "false"),
        ("LLM_PROVIDER", "openai"),
        ("LLM_API_KEY", "key"),
        ("LLM_MODEL", "gpt"),
        ("WORKSPACE_DIR", "/workspace"),
        ("CLEANUP_WORKSPACE", "true"),
        ("MAX_WORKSPACE_SIZE_MB", "1024"),
        ("ENABLE_METRICS", "false"),
        ("METRICS_PORT", "9090"),
        ("ENABLE_HEALTH_CHECK", "true"),
        ("HEALTH_CHECK_PORT", "8081"),
    ];
    let config = resolve(&[], &variables, "").unwrap();
    assert_eq!(config.dispatch.iter().map(ToString::to_string).collect::<Vec<_>>(), ["acme/dispatch"]);
    assert_eq!(config.target_repository.unwrap().to_string(), "acme/widgets");
    assert_eq!(config.label, "my-agent");
    assert_eq!(config.poll, Some(Duration::from_secs(30)));
    assert_eq!(config.pipeline.agent_name, "Robot");
    assert_eq!((config.queue.workers, config.queue.attempts, config.queue.retry.as_secs()), (2, 1, 5));
    assert_eq!(config.pipeline.limits.task.as_secs(), 3600);
    assert_eq!(config.model.endpoints[0].endpoint.as_ref().unwrap().as_str(), "https://api.openai.com/v1");
    assert_eq!(config.workspace_limit, Some(1024 << 20));
    assert_eq!((config.http.metrics, config.http.health), (false, true));
    assert_eq!((config.http.metrics_port, config.http.health_port), (Some(9090), Some(8081)));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert!(config.http.webhook_secret.is_none());
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let file =
        "[service]\ndispatch = [\"a/file\"]\npoll_seconds = 1\nworkers = 1\nretries = 1\nlisten = \"127.0.0.1:1\"\n";
    let names = |config: &ServeConfig| config.dispatch.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let config = resolve(&[], &[], file).unwrap();
    assert_eq!((names(&config).as_str(), config.poll.unwrap().as_secs(), config.queue.workers), ("a/file", 1, 1));
    assert_eq!((config.queue.attempts, config.http.listen.port()), (2, 1));
    let variables = [
        ("HANDSFREE_AGENT_DISPATCH_REPO", "b/one, b/two,b/ONE"),
        ("POLL_INTERVAL", "2"),
        ("MAX_CONCURRENT_TASKS", "2"),
        ("PATCHWRIGHT_LISTEN", "127.0.0.1:2"),
    ];
    let config = resolve(&[], &variables, file).unwrap();
    assert_eq!((names(&config).as_str(), config.poll.unwrap().as_secs(), config.queue.workers), ("b/one b/two", 2, 2));
    assert_eq!(config.http.listen.port(), 2);
    let flags = [
        "--dispatch",
        "c/flag",
        "--poll-interval",
        "3s",
        "--workers",
        "3",
        "--listen",
        "127.0.0.1:3",
        "--timeout",
        "9s",
    ];
    let config = resolve(&flags, &variables, file).unwrap();
    assert_eq!((names(&config).as_str(), config.poll.unwrap().as_secs(), config.queue.workers), ("c/flag", 3, 3));
    assert_eq!((config.http.listen.port(), config.pipeline.limits.task.as_secs()), (3, 9));
}

#[test]
fn what_cannot_be_used_is_refused_with_its_name() {
    let dispatch = ("DISPATCH_REPO", "acme/dispatch");
    for (variables, file, part) in [
        (vec![], "", "DISPATCH_REPO"),
        (vec![("DISPATCH_REPO", "nonsense")], "", "`nonsense` is not OWNER/REPO"),
        (vec![dispatch, ("CLEANUP_WORKSPACE", "maybe")], "", "CLEANUP_WORKSPACE"),
        (vec![dispatch, ("MAX_WORKSPACE_SIZE_MB", "much")], "", "MAX_WORKSPACE_SIZE_MB"),
        (vec![dispatch, ("MAX_CONCURRENT_TASKS", "0")], "", "workers"),
        (vec![dispatch, ("MAX_TASK_RETRIES", "-1")], "", "MAX_TASK_RETRIES"),
        (vec![dispatch, ("METRICS_PORT", "70000")], "", "METRICS_PORT"),
        (vec![dispatch, ("LLM_PROVIDER", "psychic")], "", "LLM_PROVIDER=`psychic`"),
        (vec![dispatch, ("PATCHWRIGHT_LISTEN", "localhost")], "", "`localhost` is no address"),
        (vec![dispatch, ("POLL_INTERVAL_SECONDS", "0")], "", "POLL_INTERVAL_SECONDS"),
        (vec![dispatch], "[service]\npolling = false\n", "GITHUB_WEBHOOK_SECRET"),
        (vec![dispatch], "[service]\npoll_second = 3\n", "poll_second"),
        (vec![dispatch], "[budget]\ncost_a_day = 5.0\n", "model.price"),
        (vec![dispatch], "[budget]\ncost_a_task = 5.0\n", "model.price"),
        (
            vec![dispatch],
            "[budget]\ncost_a_task = 0.0\n[model]\nprice = { in = 1.0, out = 1.0 }\n",
            "cost_a_task is zero",
        ),
        (vec![dispatch], "[model]\nprice = { in = 5.0 }\n", "missing field `out`"),
        (vec![dispatch], "[limits]\nstage_seconds = 600\n", "more than limits.test_seconds (600)"),
        (vec![dispatch], "[limits]\nstage_seconds = 30\ntest_seconds = 40\n", "more than limits.test_seconds (40)"),
        (vec![dispatch], "[model]\nprice = { in = -1.0, out = 1.0 }\n", "model.price.in = -1 is no amount of money"),
        (vec![dispatch], "[service]\nstall_seconds = 0\n", "stall_seconds"),
    ] {
        let refused = refusal(&[], &variables, file);
        assert!(refused.contains(part), "{refused} lacks {part}");
    }
}

#[test]
fn what_the_reference_runner_bears_stops_no_start() {
    let variables = [
        ("DISPATCH_REPO", "acme/dispatch"),
        ("CLEANUP_WORKSPACE", "false"),
        ("LLM_PROVIDER", "psychic"),
        ("LLM_API_ENDPOINT", "http://127.0.0.1:1/v1"),
    ];
    let config = resolve(&[], &variables, "").unwrap();
    assert_eq!(config.model.endpoints[0].endpoint.as_ref().unwrap().as_str(), "http://127.0.0.1:1/v1");
    let config = resolve(&[], &variables[..3], "[model]\nendpoint = \"http://127.0.0.1:2/v1\"\n").unwrap();
    assert_eq!(config.model.endpoints[0].endpoint.as_ref().unwrap().as_str(), "http://127.0.0.1:2/v1");
}

#[test]
fn a_stage_has_the_limit_that_is_asked_for() {
    let dispatch = [("DISPATCH_REPO", "acme/dispatch")];
    let stage = |file: &str| resolve(&[], &dispatch, file).unwrap().pipeline.limits.stage;
    assert_eq!(stage(""), None);
    assert_eq!(stage("[limits]\nstage_seconds = 601\n"), Some(Duration::from_secs(601)));
}

#[test]
fn budgets_are_in_millionths() {
    let file =
        "[budget]\ntokens_a_day = 7\ncost_a_day = 2.5\ncost_a_task = 0.5\n[model]\nprice = { in = 0.15, out = 0.6 }\n";
    let config = resolve(&[], &[("DISPATCH_REPO", "acme/dispatch")], file).unwrap();
    assert_eq!(config.budget.tokens, Some(7));
    assert_eq!(config.budget.micros, Some(2_500_000));
    let price = Price { input: 150_000, output: 600_000, cached: None };
    assert_eq!(config.budget.price, Some(price));
    assert_eq!(config.pipeline.limits.cost, Some(CostLimit { micros: 500_000, price }));
}

#[test]
fn webhooks_alone_are_enough() {
    let variables = [("DISPATCH_REPO", "acme/dispatch"), ("GITHUB_WEBHOOK_SECRET", "secret")];
    let config = resolve(&[], &variables, "[service]\npolling = false\n").unwrap();
    assert_eq!(config.poll, None);
    // A single pass is a poll, whatever the file says.
    assert!(resolve(&["--once"], &variables, "[service]\npolling = false\n").unwrap().poll.is_some());
}

#[test]
fn a_database_is_taken_instead_of_the_file() {
    let address = |store: &Settings| match store {
        Settings::Sqlite { path } => path.display().to_string(),
        Settings::Postgres { address } => address.expose_secret().to_owned(),
    };
    let usual = [("DISPATCH_REPO", "acme/dispatch")];
    let file = "database = \"postgres://file:hunter2@db/patchwright\"\n";
    assert_eq!(address(&resolve(&[], &usual, "").unwrap().store), "/home/user/.local/state/patchwright/patchwright.db");
    let config = resolve(&[], &usual, file).unwrap();
    assert_eq!(address(&config.store), "postgres://file:hunter2@db/patchwright");
    assert!(!format!("{:?}", config.store).contains("hunter2"));
    let variables = [usual[0], ("DATABASE_URL", "postgresql://user@db/patchwright")];
    assert_eq!(address(&resolve(&[], &variables, file).unwrap().store), "postgresql://user@db/patchwright");
    let address = "postgres://user:one%2Fpassword%261@db/patchwright?password=another-password-2";
    let variables = [usual[0], ("DATABASE_URL", address), ("PGPASSWORD", "third-password-3")];
    resolve(&[], &variables, "").unwrap();
    let told = "one/password&1 one%2Fpassword%261 another-password-2 third-password-3 a-name-of-a-host";
    let shown = patchwright::logging::redacted(told);
    let left: Vec<&str> = told.split(' ').filter(|word| shown.contains(word)).collect();
    assert_eq!(left, ["a-name-of-a-host"], "{shown}");
    for wrong in ["mysql://user:hunter2@db/patchwright", "patchwright.db"] {
        let words = refusal(&[], &[usual[0], ("DATABASE_URL", wrong)], "");
        assert!(words.contains("DATABASE_URL") && words.contains("postgres://USER"), "{words}");
        assert!(!words.contains("hunter2"), "{words}");
    }
}
