//! Whose texts are worked.

use patchwright::service::trust::{Judgement, LABEL_SLACK, Sighting, judge};
use proptest::prelude::*;

fn unknown() -> Sighting {
    Sighting { updated_at: 1_000_000, ..Sighting::default() }
}

#[test]
fn the_policy() {
    let at = unknown().updated_at;
    let admit = Judgement::Admit;
    for (what, sighting, wanted) in [
        ("a trusted author", Sighting { author_trusted: true, ..unknown() }, Some(admit)),
        ("a trusted author's edit", Sighting { author_trusted: true, edited: true, ..unknown() }, Some(admit)),
        ("a stranger", unknown(), None),
        ("a stranger, labelled now by somebody trusted", Sighting { labelled_now: true, ..unknown() }, Some(admit)),
        ("a stranger, labelled since", Sighting { labelled_at: Some(at), ..unknown() }, Some(admit)),
        ("labelled later than changed", Sighting { labelled_at: Some(at + 60_000), ..unknown() }, Some(admit)),
        ("stamped apart", Sighting { labelled_at: Some(at - LABEL_SLACK), ..unknown() }, Some(admit)),
        ("changed after the label", Sighting { labelled_at: Some(at - LABEL_SLACK - 1), ..unknown() }, None),
        ("an unreadable time", Sighting { labelled_at: Some(at), updated_at: i64::MAX, ..unknown() }, None),
        ("a text that was admitted", Sighting { admitted_before: true, ..unknown() }, Some(admit)),
        ("a stranger's edit", Sighting { edited: true, ..unknown() }, Some(Judgement::Ignore)),
        (
            "a stranger's edit after the label",
            Sighting { edited: true, labelled_at: Some(at - 3_600_000), ..unknown() },
            Some(Judgement::Ignore),
        ),
        (
            "a stranger's edit, labelled again",
            Sighting { edited: true, labelled_at: Some(at + 1), ..unknown() },
            Some(admit),
        ),
        ("a stranger's edit, labelled now", Sighting { edited: true, labelled_now: true, ..unknown() }, Some(admit)),
    ] {
        match (judge(&sighting), wanted) {
            (Judgement::Refuse(reason), None) => assert!(reason.contains("label"), "{what}: {reason}"),
            (judgement, wanted) => assert_eq!(Some(judgement), wanted, "{what}"),
        }
    }
}

proptest! {
    #[test]
    fn nobody_is_admitted_without_somebody_trusted(edited: bool, labelled_at: Option<i64>, updated_at: i64) {
        let sighting = Sighting { edited, labelled_at, updated_at, ..Sighting::default() };
        if judge(&sighting) == Judgement::Admit {
            let labelled = labelled_at.expect("a label of somebody trusted");
            prop_assert!(updated_at <= labelled.saturating_add(LABEL_SLACK));
        }
    }
}
