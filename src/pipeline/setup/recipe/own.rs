//! `.patchwright.toml`: what a repository says of itself.
//!
//! ```toml
//! [setup]
//! run = ["npm ci", "make fixtures"]    # each for `sh -c` at the root; an empty list: there is nothing to do
//! environment = { NODE_ENV = "test" }  # for these commands
//! inputs = ["scripts/fixtures.sh"]     # files, besides lock files, whose change makes what was kept stale
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Given, Listing, Notes, RecipeError, Step, complaint, refused, shown, step_of, text_of};

pub(super) const FILE: &str = ".patchwright.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnFile {
    setup: Option<Setup>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setup {
    run: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    inputs: Vec<String>,
}

pub(super) fn read(listing: &Listing<'_>, notes: &mut Notes) -> Result<Option<Given>, RecipeError> {
    let Some(text) = text_of(listing, FILE)? else { return Ok(None) };
    if deepest(&text) > 32 {
        return refused(FILE, "it is nested too deeply".into());
    }
    let file: OwnFile = match toml::from_str(&text) {
        Ok(file) => file,
        Err(error) => return refused(FILE, complaint(error.message())),
    };
    let Some(setup) = file.setup else { return Ok(Some(given(None, BTreeSet::new()))) };
    let mut inputs = BTreeSet::new();
    for path in setup.inputs {
        match listing.paths.contains(&path) {
            true => drop(inputs.insert(path)),
            false => notes.add(format!("`{FILE}` names the input `{}`, which is not in the repository", shown(&path))),
        }
    }
    let steps = setup.run.iter().map(|line| Step { environment: setup.environment.clone(), ..step_of(line) });
    Ok(Some(given(Some(steps.collect()), inputs)))
}

fn given(steps: Option<Vec<Step>>, inputs: BTreeSet<String>) -> Given {
    Given { file: FILE.into(), steps, image: None, inputs }
}

/// How deeply brackets stand in each other: parsers recurse.
pub(super) fn deepest(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}
