//! The parts of an eval that need no run: the file of tasks, the statistics, the results, the reports.

use patchwright::eval::results::{self, Key, Results, Row, Status};
use patchwright::eval::statistics::{Interval, bootstrap, mcnemar, mean, wilson};
use patchwright::eval::{compare, report, summary, tasks};
use serde_json::json;

pub fn row(instance: &str, status: &str) -> Row {
    let value = json!({
        "instance_id": instance, "model": "m", "profile": "small", "status": status, "stop": "finished",
        "usage": { "prompt_tokens": 1000, "completion_tokens": 100, "cached_tokens": 400 }, "steps": 3, "seconds": 2.0,
    });
    serde_json::from_value(value).unwrap()
}

fn near(interval: Interval, low: f64, high: f64) {
    assert!((interval.low - low).abs() < 1e-4 && (interval.high - high).abs() < 1e-4, "{interval:?}: {low}, {high}");
}

#[test]
fn wilson_gives_known_intervals() {
    // Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    near(wilson(81, 263), 0.2553, 0.3662);
    near(wilson(15, 148), 0.0624, 0.1605);
    near(wilson(0, 20), 0.0, 0.1611);
    near(wilson(1, 29), 0.0061, 0.1718);
    near(wilson(20, 20), 0.8389, 1.0);
    near(wilson(0, 0), 0.0, 1.0);
}

#[test]
fn mcnemar_is_exact() {
    let near = |p: f64, expected: f64| assert!((p - expected).abs() < 1e-9, "{p}, not {expected}");
    near(mcnemar(0, 0), 1.0);
    near(mcnemar(5, 5), 1.0);
    // 2 * (1 + 12 + 66) / 2^12
    near(mcnemar(10, 2), 158.0 / 4096.0);
    near(mcnemar(2, 10), 158.0 / 4096.0);
    near(mcnemar(6, 0), 2.0 / 64.0);
    // A plain product would be zero long before.
    assert!(mcnemar(3000, 0) < 1e-300 && (mcnemar(2000, 2000) - 1.0).abs() < 1e-6);
}

#[test]
fn a_bootstrap_is_the_same_each_time() {
    assert_eq!(bootstrap(&[]), None);
    near(bootstrap(&[0.5; 7]).unwrap(), 0.5, 0.5);
    // Of many draws of 0 or 1, the mean is normal: 0.5 +- 1.96 * 0.5 / sqrt(400).
    let coins: Vec<f64> = (0..400).map(|number| f64::from(number % 2)).collect();
    let interval = bootstrap(&coins).unwrap();
    assert!((interval.low - 0.451).abs() < 0.006 && (interval.high - 0.549).abs() < 0.006, "{interval:?}");
    assert_eq!(bootstrap(&coins), Some(interval));
    assert_eq!((mean(&[]), mean(&[1.0, 2.0])), (None, Some(1.5)));
}

fn line(changes: serde_json::Value) -> String {
    let mut line = json!({
        "instance_id": "a", "repo": "r", "base_commit": "main", "problem_statement": "p", "test_patch": "t",
    });
    for (key, value) in changes.as_object().unwrap() {
        line[key] = value.clone();
    }
    line.to_string()
}

#[test]
fn a_file_of_tasks_is_read_as_swe_bench_writes_it() {
    let extra = json!({
        "hints_text": "", "version": "4.1", "FAIL_TO_PASS": "[\"test_a\"]", "PASS_TO_PASS": ["test_b"],
        "setup": ["pip install -e .", "make"], "test_command": "pytest",
    });
    let text = format!("{}\n\n{}\n", line(extra), line(json!({ "instance_id": "b", "setup": "" })));
    let tasks = tasks::parse(&text).unwrap();
    assert_eq!(tasks.len(), 2);
    assert_eq!(tasks[0].setup.as_ref().unwrap().lines(), ["pip install -e .", "make"]);
    assert_eq!(tasks[0].fail_to_pass, Some(json!("[\"test_a\"]")));
    assert!(tasks[1].setup.as_ref().unwrap().lines().is_empty() && tasks[1].test_command.is_none());
}

#[test]
fn bad_lines_are_named_by_their_number() {
    let wrong = |text: &str| format!("{:#}", tasks::parse(text).unwrap_err());
    let text = [
        line(json!({})),
        "{\"instance_id\": ".into(),
        line(json!({ "instance_id": "b", "repo": 7 })),
        String::new(),
        line(json!({})),
        line(json!({ "instance_id": "c", "problem_statement": " " })),
        "{}".into(),
    ];
    let said = wrong(&text.join("\n"));
    for part in [
        "line 2: EOF",
        "line 3: invalid type",
        "line 5: the instance_id `a` was there before",
        "line 6: `problem_statement` is empty",
        "line 7: missing field `instance_id`",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("line 1:") && !said.contains("line 4:") && !said.contains("at line"), "{said}");
    assert!(wrong(&"x\n".repeat(30)).ends_with("and 20 more"));
    assert!(wrong("\n\n").contains("it holds no task"));
}

#[test]
fn results_go_on_after_a_line_that_was_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let key = |instance: &str| row(instance, "resolved").key();
    let mut results = Results::open(folder.path()).unwrap();
    results.append(row("a", "resolved")).unwrap();
    results.append(row("b", "error")).unwrap();
    assert!(format!("{:#}", Results::open(folder.path()).unwrap_err()).contains("another eval"));
    drop(results);
    let path = folder.path().join(results::FILE);
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}{{\"instance_id\": \"c\", \"mod")).unwrap();
    assert_eq!(results::read(folder.path()).unwrap().len(), 2);
    let mut results = Results::open(folder.path()).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    // An error is no result: it is done again, and the later line counts.
    assert!(results.holds(&key("a")) && !results.holds(&key("b")) && !results.holds(&key("c")));
    // Neither is a result of other settings or prompts, or of another version.
    assert!(!results.holds(&Key { settings: "0.2.0-5f1d36c2".into(), ..key("a") }));
    results.append(row("b", "unresolved")).unwrap();
    assert!(results.holds(&key("b")));
    let rows = results.rows();
    assert_eq!(rows.iter().map(|row| row.status).collect::<Vec<_>>(), [Status::Resolved, Status::Unresolved]);
    drop(results);
    std::fs::write(&path, format!("{whole}nonsense\n")).unwrap();
    assert!(format!("{:#}", Results::open(folder.path()).unwrap_err()).contains("line 3"));
}

#[test]
fn unknown_stays_unknown() {
    let mut rows = vec![row("a", "resolved"), row("b", "unresolved"), row("c", "error")];
    rows[2].steps = 0;
    let group = &summary::groups(&rows)[0];
    assert_eq!((group.count, group.resolved, group.errors, group.rate), (2, 1, 1, Some(0.5)));
    assert_eq!((group.prompt_tokens, group.cost_micros), (Some(2000), None));
    rows[0].cost_micros = Some(5);
    rows[1].usage.prompt_tokens = None;
    let group = &summary::groups(&rows)[0];
    assert_eq!((group.prompt_tokens, group.cached_tokens, group.cost_micros), (None, Some(800), None));
    rows[1].cost_micros = Some(7);
    assert_eq!(summary::groups(&rows)[0].cost_micros, Some(12));
    let table = report::table(&rows);
    assert!(table.contains("unknown") && table.contains("1/2") && table.contains("0.0000"), "{table}");
}

#[test]
fn what_may_be_the_models_doing_is_counted_against_it() {
    let mut rows = vec![row("a", "resolved"), row("b", "error"), row("c", "for_review"), row("d", "error")];
    rows[3].steps = 0;
    let group = &summary::groups(&rows)[0];
    assert_eq!((group.count, group.resolved, group.for_review, group.errors), (3, 1, 1, 2));
    assert_eq!(group.rate, Some(1.0 / 3.0));
    let table = report::table(&rows);
    assert!(table.contains("1/3") && table.contains("FOR REVIEW"), "{table}");
    let page = report::page(&rows).unwrap();
    assert!(page.contains("1 for review") && page.contains("2 not run"), "{page}");
    let compared = compare::compare(&rows, &rows).unwrap();
    assert_eq!((compared.pairs, compared.only_left.len()), (3, 0));
}

#[test]
fn rows_of_other_settings_are_another_group() {
    let mut rows = vec![row("a", "resolved"), row("a", "unresolved")];
    rows[1].settings = "0.2.0-5f1d36c2".into();
    let groups = summary::groups(&rows);
    let figures: Vec<_> = groups.iter().map(|group| (group.label(), group.count, group.resolved)).collect();
    assert_eq!(figures, [("m@small".to_owned(), 1, 1), ("m@small@0.2.0-5f1d36c2".to_owned(), 1, 0)]);
    let folder = tempfile::tempdir().unwrap();
    let mut results = Results::open(folder.path()).unwrap();
    rows.into_iter().for_each(|row| results.append(row).unwrap());
    drop(results);
    let select = |name: &str| compare::select(name, Some(folder.path()));
    assert_eq!(select("0.2.0-5f1d36c2").unwrap()[0].status, Status::Unresolved);
    assert_eq!(select("m@small@0.2.0-5f1d36c2").unwrap().len(), 1);
    assert!(format!("{:#}", select("m@small").unwrap_err()).contains("m@small, m@small@0.2.0-5f1d36c2"));
}

/// Names come from files that others may have written, and from servers.
#[test]
fn no_terminal_sequence_is_printed() {
    let evil = "\u{1b}[31mred\u{9b}2J\u{202e}";
    let rows: Vec<Row> = ["a", "b"]
        .into_iter()
        .map(|id| {
            let id = format!("{id}{evil}");
            let (model, profile, settings) = (evil.to_owned(), evil.to_owned(), evil.to_owned());
            Row { model, profile, settings, reason: evil.into(), stop: evil.into(), ..row(&id, "unresolved") }
        })
        .collect();
    let others: Vec<Row> = rows.iter().map(|row| Row { status: Status::Resolved, ..row.clone() }).collect();
    let clean = |text: &str| {
        let hidden = |letter: char| letter.is_control() && letter != '\n' || letter == '\u{202e}';
        assert!(text.contains("red") && !text.contains(hidden), "{text:?}");
    };
    clean(&report::table(&rows));
    let place = tempfile::tempdir().unwrap();
    let mut sides = Vec::new();
    for (name, rows) in [("left", &rows), ("right", &others)] {
        let folder = place.path().join(name);
        let mut results = Results::open(&folder).unwrap();
        rows.iter().for_each(|row| results.append(row.clone()).unwrap());
        sides.push(folder.to_str().unwrap().to_owned());
    }
    let mut printed = Vec::new();
    compare::print(&sides[0], &sides[1], None, false, &mut printed).unwrap();
    let printed = String::from_utf8(printed).unwrap();
    assert!(printed.contains("better with B"), "{printed}");
    clean(&printed);
    clean(&format!("{:#}", compare::select(&format!("{}#none", sides[0]), None).unwrap_err()));
}

#[test]
fn results_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = place.path().join("new/results");
    drop(Results::open(&folder).unwrap());
    report::write(&folder, &[row("a", "resolved")]).unwrap();
    assert_eq!(mode(&folder), 0o700);
    for name in [results::FILE, report::JSON, report::PAGE] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_page_escapes_whatever_it_shows() {
    let evil = "<script>alert(1)</script>\"'&";
    let mut hostile = row(evil, "unresolved");
    hostile.model = evil.into();
    hostile.profile = evil.into();
    hostile.settings = evil.into();
    hostile.reason = evil.into();
    hostile.stop = evil.into();
    hostile.excerpt = evil.into();
    hostile.changed_files = vec![evil.into()];
    hostile.language = Some(evil.into());
    hostile.diff = Some("javascript:alert(1)".into());
    hostile.record = Some("records/a\" onclick=\"x".into());
    let page = report::page(&[hostile, row("fine", "resolved")]).unwrap();
    assert!(!page.contains("<script") && !page.contains("javascript:") && !page.contains("\" onclick"), "{page}");
    assert!(page.matches("&lt;script&gt;").count() >= 7, "{page}");
    // It needs nothing from elsewhere.
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("@import"), "{page}");
}

#[test]
fn two_sides_are_compared_by_instance() {
    let side = |model: &str, resolved: &[&str]| -> Vec<Row> {
        let status = |id: &&str| if resolved.contains(id) { "resolved" } else { "unresolved" };
        let rows = ["a", "b", "c", "d", "e"].into_iter().map(|id| row(id, status(&id)));
        rows.map(|row| Row { model: model.into(), ..row }).collect()
    };
    let mut right = side("y", &["b", "c", "d"]);
    right.iter_mut().for_each(|row| row.seconds = 5.0);
    // Without a result on one side, an instance is no pair.
    right[4].status = Status::Error;
    right[4].steps = 0;
    let compared = compare::compare(&side("x", &["a", "b"]), &right).unwrap();
    assert_eq!((compared.pairs, compared.only_left.len(), compared.only_right.len()), (4, 1, 2));
    assert_eq!((compared.difference, compared.p), (Some(0.25), 1.0));
    assert_eq!(compared.seconds.unwrap().mean, 3.0);
    assert_eq!(compared.tokens.unwrap().mean, 0.0);
    let interval = compared.interval.unwrap();
    assert!(interval.low < 0.0 && interval.high > 0.25, "{interval:?}");
}

#[test]
fn sides_are_named_by_folder_and_label() {
    let folder = tempfile::tempdir().unwrap();
    let mut results = Results::open(folder.path()).unwrap();
    for (model, profile) in [("qwen:1.5b", "small"), ("qwen:1.5b", "large"), ("org/big", "large")] {
        let row = Row { model: model.into(), profile: profile.into(), ..row("a", "resolved") };
        results.append(row).unwrap();
    }
    drop(results);
    let path = folder.path().to_str().unwrap();
    let select = |selector: &str| compare::select(selector, None);
    assert_eq!(select(&format!("{path}#org/big")).unwrap().len(), 1);
    assert_eq!(select(&format!("{path}#qwen:1.5b@small")).unwrap()[0].profile, "small");
    assert_eq!(compare::select("small", Some(folder.path())).unwrap()[0].model, "qwen:1.5b");
    let wrong = |result: anyhow::Result<Vec<Row>>| format!("{:#}", result.unwrap_err());
    assert!(wrong(select(path)).contains("holds several: qwen:1.5b@small, qwen:1.5b@large, org/big@large"));
    assert!(wrong(select(&format!("{path}#none"))).contains("nothing of that name"));
    assert!(wrong(select("none")).contains("give --out DIR"));
}
