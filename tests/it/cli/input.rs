//! Bad arguments, folders, settings, models and sandboxes.

use std::path::Path;

use super::harness::{BINARY, PATCH, Place, finish, skip};

/// The arguments of a run that works: its repository is `repository`, and no model is needed.
fn patch_run(repository: &str) -> Vec<&str> {
    vec!["run", "--repo", repository, "--task", PATCH, "--test-command", "grep -q world README"]
}

#[test]
fn the_run_that_the_others_spoil_works() {
    let place = Place::new();
    let repository = place.repository("repository");
    let ran = place.run(&patch_run(&repository));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.starts_with(b"diff --git a/README b/README\n"), "{ran:#?}");
    place.assert_clean();
}

#[test]
fn a_repository_that_cannot_be_used_is_refused() {
    let place = Place::new();
    let repository = place.repository("repository");
    place.write("plain/file.txt", "no repository\n");
    let (file, plain) = (place.write("file.txt", "text\n"), place.path("plain"));
    let not_there = place.path("not-there");
    let cases: [(&str, i32, &[&str]); 7] = [
        (not_there.to_str().unwrap(), 2, &["not-there: there is no such folder", "OWNER/NAME or a clone address"]),
        (&file, 2, &["this is a file", "Name the repository's folder"]),
        (plain.to_str().unwrap(), 1, &["failed in stage `checkout`", "not in a git repository", "Run `git init`"]),
        ("git@github.com:acme/widgets.git", 2, &["ssh addresses are not supported", "https:// address with a token"]),
        ("ftp://example.org/widgets", 2, &["ftp:// addresses are not supported", "https:// address"]),
        ("https://ada:hunter2@example.org/a/b", 2, &["no user name and no password"]),
        ("http://127.0.0.1:9/widgets.git", 2, &["is not on the forge", "Add --dry-run"]),
    ];
    for (repository, code, parts) in cases {
        let ran = place.run(&patch_run(repository));
        ran.refuses(code, parts);
        assert!(!ran.stderr.contains("hunter2"), "{ran:#?}");
    }
    let unreachable = place.run(&[&patch_run("http://127.0.0.1:9/widgets.git")[..], &["--dry-run"]].concat());
    unreachable.refuses(1, &["failed in stage `checkout`", "cannot be reached", "Check the address, the network"]);
    let base = place.run(&[&patch_run(&repository)[..], &["--base", "no-such-branch"]].concat());
    base.refuses(1, &["`no-such-branch` names no branch, tag or commit", "Give a branch, a tag or a full commit id"]);
    let dashed = place.run(&[&patch_run(&repository)[..], &["--base=--upload-pack=touch x"]].concat());
    dashed.refuses(1, &["names no branch, tag or commit"]);
    let exists = place.run(&[&patch_run(&repository)[..], &["--branch", "main"]].concat());
    exists.refuses(1, &["failed in stage `checkout`", "the branch `main` exists already", "Give another branch name"]);
    let invalid = place.run(&[&patch_run(&repository)[..], &["--branch", "a..b"]].concat());
    invalid.refuses(1, &["failed in stage `checkout`", "`a..b` is no valid branch name", "git check-ref-format"]);
    place.assert_clean();
}

#[test]
fn bare_and_dirty_repositories_work() {
    let place = Place::new();
    let repository = place.repository("repository");
    super::harness::git(Path::new(&repository), &["clone", "--quiet", "--bare", ".", "../bare.git"], b"");
    let bare = place.path("bare.git");
    let ran = place.run(&patch_run(bare.to_str().unwrap()));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    place.write("repository/README", "Changed, not committed\n");
    place.write("repository/new.txt", "not committed\n");
    let ran = place.run(&patch_run(&repository));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    ran.says(&["uncommitted changes; they are not included", "Commit them first"]);
    assert!(!String::from_utf8_lossy(&ran.stdout).contains("new.txt"));
    place.assert_clean();
}

#[test]
fn wrong_usage_and_settings_are_refused() {
    let mut place = Place::new();
    let repository = place.repository("repository");
    let good = patch_run(&repository);
    let unknown_key = place.write("unknown.toml", "[limits]\nstepps = 3\n");
    let zero = place.write("zero.toml", "[limits]\nsteps = 0\n");
    let empty_secret = place.write("secret.toml", &format!("[model]\nkey_file = \"{}\"\n", place.write("key", "\n")));
    let record = place.write("record.jsonl", "kept\n");
    let cases: [(&[&str], &[&str]); 12] = [
        (&["--config", "no-such.toml"], &["cannot read the config file no-such.toml"]),
        (&["--config", &unknown_key], &["unknown.toml does not fit", "stepps"]),
        (&["--config", &zero], &["a limit is zero", "at least 1"]),
        (&["--config", &empty_secret], &["the secret's file", "is empty"]),
        (&["--record", &record], &["record.jsonl: the file exists already", "Name a new one"]),
        (&["--record", "no/such/folder/record"], &["--record no/such/folder/record: the file cannot be made"]),
        (&["--task-id", "../x"], &["--task-id `../x`", "4 to 64 of A-Z a-z 0-9 _ -"]),
        (&["--timeout", "soon"], &["`soon` is not a time such as 90s, 30m or 2h"]),
        (&["--timeout", "0"], &["`0` is not a time such as"]),
        (&["--max-steps", "0"], &["--max-steps"]),
        (&["--endpoint", "localhost"], &["the model endpoint cannot be used", "such as https://host/path"]),
        (&["--issue", "acme/widgets#1"], &["cannot be used with"]),
    ];
    for (arguments, parts) in cases {
        place.run(&[&good[..], arguments].concat()).refuses(2, parts);
    }
    assert_eq!(std::fs::read_to_string(record).unwrap(), "kept\n");
    place.run(&["run", "--repo", &repository, "--task", "  "]).refuses(2, &["--task is empty", "Say what"]);
    place.run(&["run", "--issue", "acme/widgets"]).refuses(2, &["`acme/widgets` is not OWNER/REPO#N"]);
    place.run(&["run", "--repo", &repository]).refuses(2, &["--task <TEXT>", "--issue <OWNER/REPO#N>"]);
    place.run(&["run", "--repo", "a/b", "--task", "x"]).refuses(2, &["GITHUB_TOKEN is not set", "--dry-run"]);
    let only_comment = ["run", "--repo", &repository, "--task", "<!-- nothing that shows -->"];
    place.run(&only_comment).refuses(2, &["The task has no instruction", "Say in one sentence"]);
    for (name, value, parts) in [
        ("LOG_LEVEL", "loud", &["LOG_LEVEL=`loud` is not one of", "debug"][..]),
        ("GITHUB_API_URL", "api", &["GITHUB_API_URL cannot be used", "such as https://host/path"]),
        ("LLM_API_ENDPOINT", "http://me:pass@h/v1", &["no user name and no password"]),
        ("TASK_TIMEOUT_SECONDS", "-3", &["TASK_TIMEOUT_SECONDS=`-3` is not a whole number above zero"]),
        ("COMMENT_ON_FAILURE", "maybe", &["COMMENT_ON_FAILURE=`maybe` is neither true nor false"]),
        ("TARGET_REPO", "widgets", &["TARGET_REPO=`widgets` is not OWNER/NAME"]),
        ("WORKSPACE_DIR", "/proc/nowhere", &["cannot create the folder /proc/nowhere"]),
        ("TMPDIR", "/proc/nowhere", &["cannot create the folder /proc/nowhere"]),
        ("PATH", "/nowhere", &["git was not found on the PATH", "Install git"]),
    ] {
        place.environment = vec![(name.to_owned(), value.into())];
        place.run(&good).refuses(2, parts);
    }
    place.environment.clear();
    place.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_cannot_be_had_is_refused() {
    let lab = lab::Lab::start().await.unwrap();
    let model = lab.model(lab::Script::parse("").unwrap()).await.unwrap();
    let place = Place::new();
    let repository = place.repository("repository");
    let run = ["run", "--repo", &repository, "--task", "Greet.", "--test-command", "true"];
    let endpoint = model.endpoint();
    let unknown = place.run(&[&run[..], &["--endpoint", &endpoint, "--model", "gpt-oss"]].concat());
    unknown.refuses(2, &["`gpt-oss`", "it knows `scripted-7b`"]);
    let closed = place.run(&[&run[..], &["--endpoint", "http://127.0.0.1:9/v1"]].concat());
    closed.refuses(2, &["http://127.0.0.1:9/v1", "refused"]);
    assert!(closed.time.as_secs() < 10, "{:?}", closed.time);
    let no_model = lab.github.web_url();
    let not_one = place.run(&[&run[..], &["--endpoint", &no_model]].concat());
    not_one.refuses(2, &[no_model.as_str(), "is it an OpenAI-compatible endpoint?"]);
    place.assert_clean();
    // In a network of its own, where nothing listens anywhere.
    let mut alone = vec!["--user", "--map-root-user", "--net", BINARY];
    alone.extend(run);
    let unshare = Path::new("/usr/bin/unshare");
    if !unshare.exists() {
        return skip("no model at the usual ports", "unshare is not installed");
    }
    let nothing = finish(place.command_of(unshare, &alone), b"");
    if nothing.stderr.contains("unshare failed") {
        return skip("no model at the usual ports", &nothing.stderr);
    }
    nothing.refuses(2, &["no local server answers", "Ollama", "11434", "1234", "start one or give its address"]);
    place.assert_clean();
}

#[test]
fn without_a_sandbox_nothing_runs() {
    let mut place = Place::new();
    let repository = place.repository("repository");
    place.set("DOCKER_HOST", format!("unix://{}", place.path("no-engine.sock").display()));
    let touched = place.path("touched");
    let test = format!("touch {}", touched.display());
    let run = ["run", "--repo", &repository, "--task", PATCH, "--test-command", &test];
    let container = [&run[..], &["--sandbox", "container", "--image", "debian"]].concat();
    place.run(&container).refuses(2, &["no sandbox is available", "no-engine.sock"]);
    // Namespaces may be made here, but none inside of the first.
    let script =
        "echo 0 > /proc/sys/user/max_user_namespaces && echo 0 > /proc/sys/user/max_mnt_namespaces && exec \"$@\"";
    for backend in ["namespace", "auto"] {
        let forbidden =
            [&["--user", "--map-root-user", "sh", "-c", script, "sh", BINARY][..], &run[..], &["--sandbox", backend]];
        let unshare = Path::new("/usr/bin/unshare");
        if !unshare.exists() {
            return skip("namespaces are forbidden", "unshare is not installed");
        }
        let ran = finish(place.command_of(unshare, &forbidden.concat()), b"");
        if ran.stderr.contains("unshare failed") || ran.stderr.contains("cannot create /proc/sys") {
            return skip("namespaces are forbidden", &ran.stderr);
        }
        ran.refuses(2, &["no sandbox is available", "Linux namespaces do not work"]);
    }
    assert!(!touched.exists(), "the tests ran on the host");
    place.assert_clean();
}

#[test]
fn a_test_command_that_is_not_there_is_inconclusive() {
    let place = Place::new();
    let repository = place.repository("repository");
    let run = ["run", "--repo", &repository, "--task", PATCH, "--test-command", "nosuchprogram --all", "--json"];
    let ran = place.run(&run);
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    let outcome = ran.json();
    assert_eq!(outcome["conclusion"], "unverified");
    assert_eq!(outcome["tests"]["verdict"], "inconclusive");
    let reason = outcome["tests"]["reason"].as_str().unwrap();
    assert!(reason.contains("could not be started (exit code 127)"), "{reason}");
    ran.says(&["not verified", "could not be started"]);
    place.assert_clean();
}
