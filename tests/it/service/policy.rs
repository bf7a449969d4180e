//! Retries, budgets, costs.

use std::time::Duration;

use patchwright::config::serve::{Budget, QueueConfig};
use patchwright::outcome::{Price, Usage};
use patchwright::service::command::{Request, parse};
use patchwright::service::policy::{closed, paused, poll_delay, retry_delay, spread};
use patchwright::store::Spent;
use patchwright::task::RepositoryName;

fn queue(retry: u64) -> QueueConfig {
    let retry = Duration::from_secs(retry);
    let stall = Duration::from_secs(900);
    QueueConfig { workers: 3, per_repository: 3, attempts: 4, retry, stall, drain: Duration::ZERO }
}

#[test]
fn retries_wait_twice_as_long_each_time_and_never_over_an_hour() {
    for (retry, attempt, seconds) in [
        (60, 1, 60),
        (60, 2, 120),
        (60, 3, 240),
        (60, 7, 3600),
        (60, 40, 3600),
        (60, u32::MAX, 3600),
        (0, 5, 0),
        (7200, 1, 3600),
        (10, 0, 10),
    ] {
        let delay = retry_delay(&queue(retry), attempt, 0.5);
        assert_eq!(delay.as_secs_f64().round() as u64, seconds, "{retry} s, attempt {attempt}");
    }
}

#[test]
fn what_is_spread_stays_within_ten_per_cent() {
    let time = Duration::from_secs(100);
    for (dice, seconds) in [(0.0, 90.0), (0.5, 100.0), (1.0, 110.0), (7.0, 110.0), (-1.0, 90.0)] {
        assert!((spread(time, dice).as_secs_f64() - seconds).abs() < 0.001, "{dice}");
    }
}

#[test]
fn a_poller_backs_off_and_waits_for_a_limit() {
    let minute = Duration::from_secs(60);
    for (failures, limit, seconds) in
        [(0, None, 60), (1, None, 120), (2, None, 240), (9, None, 900), (1, Some(5), 120), (1, Some(3600), 3600)]
    {
        let delay = poll_delay(minute, failures, limit.map(Duration::from_secs), 0.5);
        assert_eq!(delay.as_secs_f64().round() as u64, seconds, "{failures} failures, limit {limit:?}");
    }
    // A slow poller is not made faster.
    assert_eq!(poll_delay(minute * 60, 3, None, 0.5).as_secs(), 3600);
}

#[test]
fn budgets_close_what_they_are_for() {
    let target = RepositoryName::parse("acme/widgets").unwrap();
    let tokens = |tokens| Spent { tokens, micros: 0, unpriced: true };
    let money = |micros| Spent { tokens: 1, micros, unpriced: false };
    let at_least = |micros| Spent { unpriced: true, ..money(micros) };
    let day = Budget { tokens: Some(1000), ..Budget::default() };
    let repository = Budget { repository_tokens: Some(10), ..Budget::default() };
    let coins = Budget { micros: Some(2_500_000), repository_micros: Some(1_000_000), ..Budget::default() };
    for (budget, spent, is_paused, is_closed) in [
        (Budget::default(), tokens(u64::MAX), false, false),
        (day, tokens(999), false, false),
        (day, tokens(1000), true, false),
        (repository, tokens(9), false, false),
        (repository, tokens(10), false, true),
        (coins, money(999_999), false, false),
        (coins, money(1_000_000), false, true),
        (coins, money(2_500_000), true, true),
        // An unknown cost is no reason; what is known besides it still is one.
        (coins, tokens(1_000_000), false, false),
        (coins, at_least(999_999), false, false),
        (coins, at_least(1_000_000), false, true),
        (coins, at_least(2_500_000), true, true),
    ] {
        assert_eq!(paused(&budget, &spent).is_some(), is_paused, "{budget:?} {spent:?}");
        assert_eq!(closed(&budget, &target, &spent).is_some(), is_closed, "{budget:?} {spent:?}");
    }
    assert_eq!(
        closed(&coins, &target, &money(1_200_000)).unwrap(),
        "the budget of the day for acme/widgets is spent: 1.20 of 1.00. It is renewed at midnight UTC"
    );
    assert!(closed(&coins, &target, &at_least(1_200_000)).unwrap().contains("spent: at least 1.20 of 1.00"));
}

#[test]
fn a_cost_is_known_or_unknown_but_never_guessed() {
    let price = Price { input: 3_000_000, output: 15_000_000, cached: None };
    let cheaper = Price { cached: Some(300_000), ..price };
    let usage = |prompt, completion| Usage { prompt_tokens: prompt, completion_tokens: completion, ..Usage::default() };
    for (price, usage, wanted) in [
        (price, usage(Some(1_000_000), Some(0)), Some(3_000_000)),
        (price, usage(Some(1000), Some(100)), Some(4_500)),
        (price, usage(Some(1), Some(0)), Some(3)),
        (price, usage(Some(0), Some(0)), Some(0)),
        (price, usage(None, Some(100)), None),
        (price, usage(Some(100), None), None),
        (price, usage(Some(u64::MAX), Some(u64::MAX)), Some(u64::MAX)),
        (price, Usage { cached_tokens: Some(900), ..usage(Some(1000), Some(100)) }, Some(4_500)),
        (cheaper, Usage { cached_tokens: Some(900), ..usage(Some(1000), Some(100)) }, Some(2_070)),
        // More than there was to read is no discount.
        (cheaper, Usage { cached_tokens: Some(9_000), ..usage(Some(1000), Some(0)) }, Some(300)),
    ] {
        assert_eq!(price.of_usage(&usage), wanted, "{price:?} {usage:?}");
    }
}

#[test]
fn requests_stand_first_in_the_first_line() {
    for (body, wanted) in [
        ("/stop", Some(Request::Stop)),
        ("/retry please", Some(Request::Retry)),
        ("  /stop  \r\nit is wrong", Some(Request::Stop)),
        ("please /stop", None),
        ("\n/stop", None),
        ("/stopping", None),
        ("/STOP", None),
        ("> /retry", None),
        ("", None),
        ("`/stop`", None),
    ] {
        assert_eq!(parse(body), wanted, "{body:?}");
    }
}
