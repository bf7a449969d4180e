//! Raw settings become resolved ones: who wins, and what is refused with which words.

mod model;

use std::path::Path;

use clap::Parser;
use patchwright::config::environment::Environment;
use patchwright::config::flags::{Command, Flags, parse_duration};
use patchwright::config::{Destination, RepositoryArgument, RunConfig, resolve_run};
use patchwright::sandbox::egress::{Phase, Target};

/// Resolves `patchwright ARGUMENTS` with `variables` and, if given, a config file.
fn resolve(arguments: &[&str], variables: &[(&str, &str)], file: Option<&str>) -> anyhow::Result<RunConfig> {
    let folder = tempfile::tempdir()?;
    let mut line = vec!["patchwright".to_owned()];
    line.extend(arguments.iter().map(|argument| argument.to_string()));
    if let Some(text) = file {
        let path = folder.path().join("patchwright.toml");
        std::fs::write(&path, text)?;
        line.extend(["--config".into(), path.display().to_string()]);
    }
    let flags = Flags::try_parse_from(line)?;
    let mut all = vec![("HOME", "/home/user"), ("PATH", "/usr/local/bin:/usr/bin:/bin")];
    all.extend_from_slice(variables);
    let environment = Environment::of(all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    let Command::Run(run) = &flags.command else { panic!("not a run") };
    resolve_run(&flags, run, &environment)
}

fn refusal(arguments: &[&str], variables: &[(&str, &str)], file: Option<&str>) -> String {
    match resolve(arguments, variables, file) {
        Ok(_) => panic!("{arguments:?} was accepted"),
        Err(error) => format!("{error:#}"),
    }
}

const REMOTE: &[&str] = &["run", "--repo", "acme/widgets", "--task", "x"];

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let file = "[model]\nname = \"from-file\"\n[limits]\ntask_seconds = 10\nsteps = 7\n";
    let resolved = resolve(REMOTE, &[], Some(file)).unwrap();
    assert_eq!(resolved.model.endpoints[0].model.as_deref(), Some("from-file"));
    assert_eq!((resolved.pipeline.limits.task.as_secs(), resolved.pipeline.limits.steps), (10, 7));

    let variables = [("LLM_MODEL", "from-environment"), ("TASK_TIMEOUT_SECONDS", "20")];
    let resolved = resolve(REMOTE, &variables, Some(file)).unwrap();
    assert_eq!(resolved.model.endpoints[0].model.as_deref(), Some("from-environment"));
    assert_eq!(resolved.pipeline.limits.task.as_secs(), 20);

    let mut arguments = REMOTE.to_vec();
    arguments.extend(["--model", "from-flag", "--timeout", "2m", "--max-steps", "3"]);
    let resolved = resolve(&arguments, &variables, Some(file)).unwrap();
    assert_eq!(resolved.model.endpoints[0].model.as_deref(), Some("from-flag"));
    assert_eq!((resolved.pipeline.limits.task.as_secs(), resolved.pipeline.limits.steps), (120, 3));
}

#[test]
fn what_repo_means() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let repository = |text: &str| {
        let resolved = resolve(&["run", "--repo", text, "--task", "x", "--dry-run"], &[], None).unwrap();
        resolved.repository.unwrap()
    };
    assert_eq!(repository(path), RepositoryArgument::Local(Path::new(path).canonicalize().unwrap()));
    assert_eq!(repository("acme/widgets").to_string(), "acme/widgets");
    for on_forge in
        ["https://github.com/acme/widgets", "https://github.com/acme/widgets.git", "https://github.com/acme/widgets/"]
    {
        assert!(matches!(repository(on_forge), RepositoryArgument::Forge(_)), "{on_forge}");
    }
    for elsewhere in ["https://git.example.org/acme/widgets.git", "https://github.com/acme", "file:///srv/git/x.git"] {
        assert!(matches!(repository(elsewhere), RepositoryArgument::Url(_)), "{elsewhere}");
    }
}

#[test]
fn a_local_folder_without_an_issue_implies_a_dry_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let destination = |arguments: &[&str]| resolve(arguments, &[], None).unwrap().destination;
    assert_eq!(destination(&["run", "--repo", path, "--task", "x"]), Destination::Diff);
    assert_eq!(
        destination(&["run", "--repo", path, "--task", "x", "--branch", "b"]),
        Destination::LocalBranch("b".into())
    );
    assert_eq!(destination(REMOTE), Destination::PullRequest);
    assert_eq!(destination(&["run", "--issue", "acme/dispatch#7"]), Destination::PullRequest);
    assert_eq!(destination(&["run", "--issue", "acme/dispatch#7", "--dry-run"]), Destination::Diff);
}

#[test]
fn each_refusal_names_its_cause() {
    let cases: &[(&[&str], &[(&str, &str)], Option<&str>, &str)] = &[
        (REMOTE, &[], Some("colour = 1"), "unknown field `colour`"),
        (REMOTE, &[], Some("[limits]\nstep = 1"), "unknown field `step`"),
        (REMOTE, &[], Some("[limits]\nsteps = 0"), "a limit is zero"),
        (
            REMOTE,
            &[("TASK_TIMEOUT_SECONDS", "soon")],
            None,
            "TASK_TIMEOUT_SECONDS=`soon` is not a whole number above zero",
        ),
        (REMOTE, &[("CLOSE_ISSUES_ON_SUCCESS", "perhaps")], None, "is neither true nor false"),
        (REMOTE, &[("GITHUB_API_URL", "ftp://x")], None, "the address must begin with https://"),
        (REMOTE, &[("GITHUB_API_URL", "https://user:pass@host")], None, "no user name and no password"),
        (REMOTE, &[("LLM_API_ENDPOINT", "localhost:8000")], None, "the model endpoint cannot be used"),
        (&["run", "--repo", "acme/widgets", "--task", ""], &[], None, "--task is empty"),
        (&["run", "--repo", "./missing", "--task", "x"], &[], None, "there is no such folder"),
        (&["run", "--repo", "git@host:a/b.git", "--task", "x"], &[], None, "ssh addresses are not supported"),
        (&["run", "--repo", "ssh://host/a/b", "--task", "x"], &[], None, "ssh:// addresses are not supported"),
        (&["run", "--repo", "https://u:secret@host/a", "--task", "x"], &[], None, "no user name and no password"),
        (&["run", "--repo", "https://elsewhere.example/a/b", "--task", "x"], &[], None, "Add --dry-run"),
        (
            &["run", "--repo", "acme/widgets", "--task", "x", "--branch", "b"],
            &[],
            None,
            "--branch needs a local folder",
        ),
        (&["run", "--issue", "acme/widgets"], &[], None, "is not OWNER/REPO#N"),
        (&["run", "--repo", "acme/widgets", "--task", "x", "--task-id", "a b"], &[], None, "4 to 64 of"),
        (&["run", "--repo", "acme/widgets"], &[], None, "required arguments were not provided"),
        (&["run", "--task", "x"], &[], None, "--repo"),
    ];
    for (arguments, variables, file, expected) in cases {
        let text = refusal(arguments, variables, *file);
        assert!(text.contains(expected), "{arguments:?}: {text}");
        assert!(!text.contains("secret@"), "a password in {text}");
    }
}

#[test]
fn times_have_units() {
    let seconds = |text| parse_duration(text).map(|time| time.as_secs());
    assert_eq!(seconds("90"), Ok(90));
    assert_eq!(seconds("90s"), Ok(90));
    assert_eq!(seconds("30m"), Ok(1800));
    assert_eq!(seconds("2h"), Ok(7200));
    for wrong in ["", "m", "0", "-1", "1.5h", "1d", "99999999999999999999", "9999999h"] {
        assert!(parse_duration(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn policy_and_secrets_are_checked_when_the_config_is_read() {
    let refused = |text: &str| refusal(REMOTE, &[], Some(text));
    assert!(refused("[policy]\nci = \"maybe\"").contains("does not fit"));
    assert!(refused("[policy]\ntypo = \"allow\"").contains("typo"));
    assert!(refused("[policy.limits]\nfile = 1").contains("file"));
    assert!(refused("[[policy.overrides]]\nglob = \"a[\"\naction = \"block\"").contains("no valid glob"));
    assert!(refused("[secrets]\nallow = [\"a[\"]").contains("no valid glob"));
    assert!(refused("[repositories.\"a/b\".policy]\ntypo = 1").contains("[repositories.\"a/b\".policy] does not fit"));
    let whole = "[policy]\nci = \"review\"\n[policy.limits]\nlines = 5\n[secrets]\nallow = [\"fixtures/**\"]\n\
                 [repositories.\"a/b\".policy]\nlocks = \"allow\"\n[repositories.\"a/b\".policy.limits]\nfiles = 3\n";
    resolve(REMOTE, &[], Some(whole)).unwrap();
}

/// What a task on `repository` may reach, by phase: hosts with their ports.
fn reaches(resolved: &RunConfig, repository: Option<&str>, phase: Phase, target: &str) -> bool {
    let access = resolved.network.access(repository.map(|name| &resolved.repositories[name])).unwrap();
    let list = match phase {
        Phase::Setup => access.setup,
        Phase::Agent => access.agent,
    };
    list.find(&Target::parse(target, None).unwrap()).is_some()
}

#[test]
fn the_network_is_open_for_registries_during_setup_and_for_what_is_named() {
    let registry = "registry.npmjs.org:443";
    let resolved = resolve(REMOTE, &[], None).unwrap();
    assert!(reaches(&resolved, None, Phase::Setup, registry));
    assert!(!reaches(&resolved, None, Phase::Setup, "example.org:443"));
    assert!(!reaches(&resolved, None, Phase::Agent, registry));

    let file = "[network]\nregistries = false\nallow = [\"a.example\", { host = \"b.example:8081\", at = [\"10.0.0.0/8\"] }]\n\
                agent_allow = [\"*.c.example\"]\n[repositories.\"Acme/Widgets\"]\nnetwork_allow = [\"d.example\"]\n\
                network_agent_allow = [\"e.example:8443\"]\n";
    let resolved = resolve(REMOTE, &[], Some(file)).unwrap();
    for (repository, phase, target, expected) in [
        (None, Phase::Setup, registry, false),
        (None, Phase::Setup, "a.example:443", true),
        (None, Phase::Setup, "b.example:8081", true),
        (None, Phase::Setup, "b.example:443", false),
        (None, Phase::Setup, "x.c.example:443", false),
        (None, Phase::Agent, "x.c.example:443", true),
        (None, Phase::Agent, "a.example:443", false),
        (None, Phase::Setup, "d.example:443", false),
        (Some("acme/widgets"), Phase::Setup, "d.example:443", true),
        (Some("acme/widgets"), Phase::Setup, "a.example:443", true),
        (Some("acme/widgets"), Phase::Setup, "e.example:8443", false),
        (Some("acme/widgets"), Phase::Agent, "e.example:8443", true),
    ] {
        assert_eq!(reaches(&resolved, repository, phase, target), expected, "{repository:?} {phase:?} {target}");
    }
}

#[test]
fn registries_come_from_a_file_and_from_the_operators_package_managers() {
    let home = tempfile::tempdir().unwrap();
    let list = home.path().join("registries.toml");
    std::fs::write(&list, "[own]\nhosts = [\"own.example\"]\n").unwrap();
    std::fs::write(home.path().join(".npmrc"), "registry = https://mirror.example:8443/npm/\n").unwrap();
    let variables = [("HOME", home.path().to_str().unwrap())];
    let file = |more: &str| format!("[network]\nregistries_file = \"{}\"\n{more}", list.display());
    let resolved = resolve(REMOTE, &variables, Some(&file(""))).unwrap();
    assert!(reaches(&resolved, None, Phase::Setup, "own.example:443"));
    assert!(reaches(&resolved, None, Phase::Setup, "mirror.example:8443"));
    assert!(!reaches(&resolved, None, Phase::Setup, "registry.npmjs.org:443"));
    assert_eq!(resolved.sandbox.sources.environment["npm_config_registry"], "https://mirror.example:8443/npm/");

    let resolved = resolve(REMOTE, &variables, Some(&file("package_sources = false\n"))).unwrap();
    assert!(!reaches(&resolved, None, Phase::Setup, "mirror.example:8443"));
    assert!(resolved.sandbox.sources.environment.is_empty());
}

#[test]
fn authorities_are_handed_on_and_keys_and_logins_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let block = |text: &str| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----");
    let key = "-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----\n";
    std::fs::write(path("own.pem"), format!("CANARY\n{}\n{key}{}\n", block("first"), block("second"))).unwrap();
    std::fs::write(path("named.pem"), format!("{}\n{}\n", block("third"), block("first"))).unwrap();
    std::fs::write(path("none.pem"), key).unwrap();
    let named = path("named.pem");
    let variables = [("SSL_CERT_FILE", named.as_str()), ("HTTPS_PROXY", "http://me:CANARY@proxy.example:3128")];
    let file = format!("[network]\nca_file = \"{}\"\n", path("own.pem"));
    let resolved = resolve(REMOTE, &variables, Some(&file)).unwrap();
    let access = resolved.network.access(None).unwrap();
    assert!(access.certificates.ends_with(&[path("named.pem").into(), path("own.pem").into()]));
    assert!(access.upstream.as_ref().is_some_and(|upstream| upstream.target.to_string() == "proxy.example:3128"));
    assert!(!format!("{:?}{:?}", resolved.network, resolved.sandbox).contains("CANARY"));

    for (file, variables, expected) in [
        (format!("ca_file = \"{}\"", path("none.pem")), ("A", "b"), "holds no certificate in PEM form"),
        (format!("ca_file = \"{}\"", path("absent.pem")), ("A", "b"), "network.ca_file"),
        (String::new(), ("SSL_CERT_FILE", "/absent.pem"), "SSL_CERT_FILE /absent.pem cannot be read"),
        (String::new(), ("HTTPS_PROXY", "socks5://me:CANARY@proxy.example"), "only http:// is known"),
        ("allow = [\"https://a.example\"]".into(), ("A", "b"), "without a scheme or a path"),
        ("allow = [{ host = \"a.example\" }]".into(), ("A", "b"), "expected a host such as"),
        ("agent_allow = [{ host = \"a.example\", at = [\"10.0.0.0/33\"] }]".into(), ("A", "b"), "it is no network"),
        ("registries_file = \"/absent\"".into(), ("A", "b"), "network.registries_file /absent cannot be read"),
        ("open = true".into(), ("A", "b"), "unknown field `open`"),
        ("[repositories.\"a/b\"]\nnetwork_allow = [\"*\"]".into(), ("A", "b"), "[repositories.\"a/b\"] cannot be used"),
    ] {
        let text = refusal(REMOTE, &[variables], Some(&format!("[network]\n{file}")));
        assert!(text.contains(expected) && !text.contains("CANARY"), "{file}: {text}");
    }
}
