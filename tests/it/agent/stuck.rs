//! Runs that run away: `agent::stuck`, as a table and by properties.

use patchwright::agent::stuck::{Advice, Deed, ENDLESS, Kind, Nothing, PATIENCE, Step, UNUSABLE, Watch};
use patchwright::outcome::Habit;
use proptest::prelude::*;

/// A step in a few letters: `r1` a read, `e1` an edit, `c1` a command, `f1` an endless one, `d` a "done" for nothing, `u1`
/// an unreadable reply, `m1` a monologue; `+2` behind it is the state of the files from then on; `,` joins calls of a reply.
fn step(text: &str, files: &mut u64) -> Step {
    let (calls, state) = text.split_once('+').map_or((text, None), |(calls, state)| (calls, Some(state)));
    if let Some(state) = state {
        *files = state.parse().unwrap();
    }
    let mut step = Step { deeds: Vec::new(), nothing: None, files: *files };
    for call in calls.split(',') {
        let (kind, number) = call.split_at(1);
        let number: u64 = number.parse().unwrap_or_default();
        let kind = match kind {
            "r" => Kind::Looks,
            "p" => Kind::Talks,
            "e" => Kind::Edits,
            "c" => Kind::Runs,
            "f" => Kind::RunsForEver,
            "d" => Kind::DoneForNothing,
            "u" | "m" => {
                step.nothing = Some(Nothing { reply: number, means_a_call: kind == "u" });
                continue;
            }
            other => panic!("there is no {other}"),
        };
        step.deeds.push(Deed { call: number * 10 + kind as u64, answer: 0, kind });
    }
    step
}

/// What is said of each step: `.` for nothing, then the habit's name with `?` for a nudge, `<` for a new beginning, `!` for
/// the end.
fn told(steps: &str) -> String {
    let mut watch = Watch::new(0, true);
    let mut files = 0;
    let advice = steps.split_whitespace().map(|text| match watch.observe(&step(text, &mut files)) {
        Advice::GoOn => ".".to_owned(),
        Advice::Nudge(habit) => format!("{}?", habit.name()),
        Advice::BeginAgain(habit) => format!("{}<", habit.name()),
        Advice::End(habit) => format!("{}!", habit.name()),
    });
    advice.collect::<Vec<_>>().join(" ")
}

#[test]
fn each_habit_is_seen_and_the_ladder_is_climbed() {
    for (steps, expected) in [
        ("r1 r2 r3 r4 e1+1 c1", ". . . . . ."),
        ("r1 r1 r2 r1 r1", ". . . . ."),
        ("r1 r1 r1", ". . same_call?"),
        ("r1 r1 r1 r1 r1 r1", ". . same_call? . . same_call<"),
        ("r1 r1 r1 r1 r1 r1 r1 r1 r1", ". . same_call? . . same_call< . . same_call!"),
        ("r1,r1,r1", "same_call?"),
        ("r1 r2 r1 r2", ". . . calls_in_turns?"),
        ("r1 r2 r3 r1 r2 r3", ". . . . . calls_in_turns?"),
        ("r1 r2 r3 r4 r1 r2 r3 r4", ". . . . . . . calls_in_turns?"),
        ("r1 r2 r3 r4 r5 r1 r2 r3 r4 r5", ". . . . . . . . . ."),
        // Progress takes it back to the foot of the ladder.
        ("r1 r1 r1 e1+1 r1 r1 r1 e2+2 r1 r1 r1", ". . same_call? . . . same_call? . . . same_call?"),
        // But there is one new beginning only.
        ("r1 r1 r1 r1 r1 r1 e1+1 r1 r1 r1 r1 r1 r1", ". . same_call? . . same_call< . . . same_call? . . same_call!"),
        // A state that was there before is no progress, nor is one that the very same call makes again and again.
        ("e1+1 e2+0 e1+1 e2+0", ". . . calls_in_turns?"),
        ("e1+1 e1+2 e1+3 e1+4 e1+5 e1+6", ". . same_call? . . same_call<"),
        ("f1 f2", ". endless_commands?"),
        ("f1 f2 f3 f4", ". endless_commands? endless_commands< ."),
        ("f1 e1+1 f2 e2+2 f3", ". . . . ."),
        ("d", "."),
        ("d d", ". done_without_change<"),
        ("d d d", ". done_without_change< done_without_change!"),
        ("d e1+1 d d", ". . . done_without_change<"),
        ("u1 u2 r1 u3 u4 r2", ". . . . . ."),
        ("u1 u2 m3", ". . unreadable<"),
        ("m1 m2 m3", ". . no_action<"),
        ("m1 m1", ". same_answer<"),
        ("m1 m2 m1", ". . no_action<"),
        ("m1 m1 u1 u2 u3", ". same_answer< . . unreadable!"),
        ("m1 m2 m3 e1+1 m1 m1", ". . no_action< . . same_answer!"),
    ] {
        assert_eq!(told(steps), expected, "{steps}");
    }
    let looking: Vec<String> = (0..PATIENCE).map(|at| format!("r{at}")).collect();
    assert!(told(&looking.join(" ")).ends_with(". only_looking?"));
    let working: Vec<String> = (0..PATIENCE).map(|at| format!("c{at}")).collect();
    assert!(told(&working.join(" ")).ends_with(". no_change?"));
    assert_eq!((ENDLESS, UNUSABLE), (2, 3));
}

#[test]
fn without_another_protocol_unreadable_replies_end_the_run() {
    let mut watch = Watch::new(0, false);
    let mut files = 0;
    let mut observe = |text: &str| watch.observe(&step(text, &mut files));
    assert_eq!([observe("u1"), observe("u2")], [Advice::GoOn; 2]);
    assert_eq!(observe("u3"), Advice::End(Habit::Unreadable));
}

fn any_step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec![
        Kind::Looks,
        Kind::Talks,
        Kind::Edits,
        Kind::Runs,
        Kind::RunsForEver,
        Kind::DoneForNothing,
    ]);
    let deed = (0..6u64, 0..2u64, kind).prop_map(|(call, answer, kind)| Deed { call, answer, kind });
    let nothing = prop::option::weighted(0.3, (0..4u64, any::<bool>()));
    (prop::collection::vec(deed, 0..4), nothing, 0..3u64).prop_map(|(deeds, nothing, files)| {
        let nothing = nothing.map(|(reply, means_a_call)| Nothing { reply, means_a_call });
        Step { deeds: if nothing.is_some() { Vec::new() } else { deeds }, nothing, files }
    })
}

proptest! {
    #[test]
    fn a_run_without_progress_ends(steps in prop::collection::vec(any_step(), 200)) {
        let mut watch = Watch::new(0, true);
        let ended = steps.iter().any(|step| matches!(watch.observe(step), Advice::End(_)));
        prop_assert!(ended);
    }

    /// Each number is how many useless steps lie between two that bring the files into a new state.
    #[test]
    fn a_run_that_makes_progress_goes_on(gaps in prop::collection::vec(0..=1usize, 1..100), useless in prop::collection::vec(any_step(), 100)) {
        let mut watch = Watch::new(0, true);
        let mut useless = useless.into_iter().cycle();
        for (files, gap) in (11..).zip(gaps) {
            let call = 1_000 + files;
            let progress = Step { deeds: vec![Deed { call, answer: 0, kind: Kind::Edits }], nothing: None, files };
            prop_assert!(!matches!(watch.observe(&progress), Advice::End(_)));
            for _ in 0..gap {
                // One call at a time: a reply with many may show a whole circle at once.
                let mut step = Step { files, ..useless.next().unwrap() };
                step.deeds.truncate(1);
                prop_assert!(!matches!(watch.observe(&step), Advice::End(_)));
            }
        }
    }

    #[test]
    fn each_new_beginning_comes_once(steps in prop::collection::vec(any_step(), 0..200)) {
        let mut watch = Watch::new(0, true);
        let mut begun = Vec::new();
        for step in &steps {
            match watch.observe(step) {
                Advice::BeginAgain(habit) => begun.push(habit.is_of_form()),
                Advice::End(_) => break,
                Advice::GoOn | Advice::Nudge(_) => {}
            }
        }
        prop_assert!(begun.iter().filter(|of_form| **of_form).count() <= 1);
        prop_assert!(begun.iter().filter(|of_form| !**of_form).count() <= 1);
    }
}
