//! The table of attacks in `docs/SECURITY-TESTS.md` is made from the data: `UPDATE_SNAPSHOTS=1` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::root;
use super::scene::read_all;

const BEGIN: &str = "<!-- attacks -->\n";
const END: &str = "<!-- end of attacks -->";
/// The promise of the suite.
const FEWEST: usize = 80;

#[test]
fn the_table_of_attacks_is_as_the_suite_has_it() {
    let path = root().join("docs/SECURITY-TESTS.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let made = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, made).unwrap();
        return;
    }
    assert!(text == made, "docs/SECURITY-TESTS.md is not current; UPDATE_SNAPSHOTS=1 writes it");
}

#[test]
fn attacks_have_names_of_their_own() {
    let files = read_all();
    let attacks: Vec<&str> = files
        .iter()
        .flat_map(|file| &file.scene)
        .flat_map(|scene| &scene.attack)
        .map(|attack| attack.name.as_str())
        .collect();
    let names: BTreeSet<&str> = attacks.iter().copied().collect();
    assert_eq!(names.len(), attacks.len(), "two attacks have the same name");
    assert!(attacks.len() >= FEWEST, "{} attacks", attacks.len());
}

fn table() -> String {
    let mut text = String::new();
    let mut number = 0;
    for file in read_all() {
        let attacks = file.scene.iter().map(|scene| scene.attack.len()).sum::<usize>();
        writeln!(text, "\n### {} ({attacks})\n", file.theme).unwrap();
        writeln!(text, "| | attack | the attacker | what holds |\n|---|---|---|---|").unwrap();
        for attack in file.scene.iter().flat_map(|scene| &scene.attack) {
            number += 1;
            let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
            writeln!(text, "| {number} | {} | {} | {} |", cell(&attack.name), cell(&attack.tries), cell(&attack.holds))
                .unwrap();
        }
    }
    text.push('\n');
    text
}
