//! Ctrl-C, SIGTERM and SIGKILL in the middle of a run.

use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lab::{Fault, FaultRule, Lab, Permission, Script};

use super::harness::{PATCH, Place, Ran, kill, until, wait};

/// From the signal to the end. It is 2 s that are promised; a busy machine gets some more.
const QUICK: Duration = Duration::from_secs(3);

/// Starts a run, interrupts it when `ready`, and checks how it ended.
fn interrupt(place: &Place, arguments: &[&str], signal: &str, what: &str, ready: impl Fn() -> bool) {
    let begun = Instant::now();
    let child = place.command(arguments).spawn().unwrap();
    until(what, ready);
    let ran = end(child, begun, signal);
    assert_eq!(ran.code, Some(130), "{what}, {signal}: {ran:#?}");
    assert!(ran.stdout.is_empty(), "{ran:#?}");
    assert!(!ran.stderr.contains("panicked") && ran.stderr.contains("interrupted"), "{what}, {signal}: {ran:#?}");
    place.assert_clean();
}

/// Sends the signal and waits for the end, which must come soon. Whoever holds the output open holds it up too.
fn end(child: Child, begun: Instant, signal: &str) -> Ran {
    let sent = Instant::now();
    kill(child.id(), signal);
    let ran = wait(child, begun);
    println!("MEASURED: {signal} to the end: {} ms", sent.elapsed().as_millis());
    assert!(sent.elapsed() < QUICK, "it took {:?}: {ran:#?}", sent.elapsed());
    ran
}

/// A command that sleeps, and can be told apart from all others.
fn sleep_of(place: &Place) -> String {
    let digits: String = place.path("").to_str().unwrap().bytes().map(|byte| (byte % 10).to_string()).collect();
    format!("sleep 1000.{}", &digits[digits.len() - 12..])
}

fn runs(line: &str) -> bool {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default()).any(|arguments| {
        let arguments = String::from_utf8_lossy(&arguments).trim_end_matches('\0').replace('\0', " ");
        arguments == line
    })
}

#[test]
fn signals_end_a_baseline_test() {
    let place = Place::new();
    let repository = place.repository("repository");
    let sleep = sleep_of(&place);
    let test = format!("trap '' INT TERM HUP; {sleep} & {sleep}; {sleep}");
    for signal in ["INT", "TERM"] {
        let run = ["run", "--repo", &repository, "--task", PATCH, "--test-command", &test];
        interrupt(&place, &run, signal, "the baseline test sleeps", || runs(&sleep));
        assert!(!runs(&sleep), "a process of the sandbox is alive");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_end_a_checkout() {
    let lab = Lab::start().await.unwrap();
    let files = [("README", "Hello\n")];
    lab.github.repository("acme/widgets").bot(Permission::Write).commit("One", &files).create().await.unwrap();
    let place = Place::at(&lab);
    let run = ["run", "--repo", "acme/widgets", "--task", PATCH, "--dry-run", "--test-command", "true"];
    for signal in ["INT", "TERM"] {
        let slow = Fault::Slow(Duration::from_secs(600));
        lab.github.add_fault(FaultRule::new("*", "/acme/widgets.git/git-upload-pack", slow));
        let seen = lab.github.exchanges().len();
        let fetches =
            || lab.github.exchanges()[seen..].iter().any(|exchange| exchange.path.ends_with("git-upload-pack"));
        interrupt(&place, &run, signal, "the checkout waits for the server", fetches);
    }
    // The mirror that was cut off in its making does no harm.
    let ran = place.run(&run);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    place.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_end_a_request_to_the_model() {
    let lab = Lab::start().await.unwrap();
    let stall = r#"{"content": "I am thinking about it.", "quirks": ["stall"], "times": 2, "new_conversation": true}"#;
    let model = Arc::new(lab.model(Script::parse(stall).unwrap()).await.unwrap());
    let place = Place::new();
    let repository = place.repository("repository");
    let endpoint = model.endpoint();
    let run = ["run", "--repo", &repository, "--task", "Greet.", "--endpoint", &endpoint, "--test-command", "true"];
    for (number, signal) in ["INT", "TERM"].into_iter().enumerate() {
        interrupt(&place, &run, signal, "the model is asked", || model.requests().len() > number);
    }
    assert_eq!(model.finish(), Vec::<String>::new());
}

#[test]
fn signals_end_a_run_before_its_first_stage() {
    // A server that takes the connection and says nothing.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1", server.local_addr().unwrap());
    let (place, taken) = (Place::new(), Arc::new(Mutex::new(Vec::new())));
    let held = taken.clone();
    std::thread::spawn(move || server.incoming().for_each(|stream| held.lock().unwrap().push(stream)));
    let repository = place.repository("repository");
    let run = ["run", "--repo", &repository, "--task", "Greet.", "--endpoint", &endpoint];
    interrupt(&place, &run, "INT", "the server is asked for its models", || !taken.lock().unwrap().is_empty());
}

#[test]
fn a_run_that_was_killed_is_swept_by_the_next_one() {
    let place = Place::new();
    let repository = place.repository("repository");
    let sleep = sleep_of(&place);
    let run = ["run", "--repo", &repository, "--task", PATCH, "--test-command", &sleep];
    let begun = Instant::now();
    let child = place.command(&run).spawn().unwrap();
    until("the baseline test sleeps", || runs(&sleep));
    let ran = end(child, begun, "KILL");
    assert_eq!(ran.signal, Some(9), "{ran:#?}");
    until("no process of the sandbox is alive", || !runs(&sleep));
    let left = std::fs::read_dir(place.path("tmp")).unwrap().count();
    assert!(left > 0, "there is nothing to sweep");
    let next = place.run(&["run", "--repo", &repository, "--task", PATCH, "--test-command", "true"]);
    assert_eq!(next.code, Some(0), "{next:#?}");
    next.says(&["leftovers of runs that were killed"]);
    place.assert_clean();
}
