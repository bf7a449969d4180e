//! Whose texts are worked.

use patchwright::service::trust::{Judgement, Sighting, judge};
use proptest::prelude::*;

const AT: i64 = 1_000_000;

#[test]
fn the_policy() {
    let unknown = Sighting::default();
    let changed = Sighting { changed_at: Some(AT), ..unknown };
    let admit = Judgement::Admit;
    for (what, sighting, wanted) in [
        ("a trusted author", Sighting { author_trusted: true, ..unknown }, Some(admit)),
        ("a trusted author's edit", Sighting { author_trusted: true, edited: true, ..changed }, Some(admit)),
        ("a stranger", unknown, None),
        ("a stranger, labelled", Sighting { labelled_at: Some(AT), ..unknown }, Some(admit)),
        ("labelled after a change", Sighting { labelled_at: Some(AT + 1000), ..changed }, Some(admit)),
        ("changed in the second of the label", Sighting { labelled_at: Some(AT), ..changed }, None),
        ("changed after the label", Sighting { labelled_at: Some(AT - 1000), ..changed }, None),
        ("a stranger's edit", Sighting { edited: true, ..changed }, Some(Judgement::Ignore)),
        (
            "a stranger's edit after the label",
            Sighting { edited: true, labelled_at: Some(AT - 3_600_000), ..changed },
            Some(Judgement::Ignore),
        ),
        (
            "a stranger's edit, labelled again",
            Sighting { edited: true, labelled_at: Some(AT + 1000), ..changed },
            Some(admit),
        ),
    ] {
        match (judge(&sighting), wanted) {
            (Judgement::Refuse(reason), None) => assert!(reason.contains("label"), "{what}: {reason}"),
            (judgement, wanted) => assert_eq!(Some(judgement), wanted, "{what}"),
        }
    }
}

proptest! {
    #[test]
    fn nobody_is_admitted_without_somebody_trusted(
        edited: bool,
        labelled_at: Option<i64>,
        changed_at: Option<i64>,
    ) {
        let sighting = Sighting { edited, labelled_at, changed_at, author_trusted: false };
        if judge(&sighting) == Judgement::Admit {
            let labelled = labelled_at.expect("a label of somebody trusted");
            prop_assert!(changed_at.is_none_or(|changed| changed < labelled));
        }
    }
}
