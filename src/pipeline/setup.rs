//! Setup: what the tests of a repository need is made ready, before anything is changed.

pub mod recipe;

use std::path::Path;

use crate::sandbox::{Home, Network, Surroundings};
use crate::workspace::{Artefacts, Layer, Prepared};

/// What boxes show besides a tree: what the setup has made, and what the tests made on the base. Nobody writes to it.
#[derive(Debug, Default)]
pub(super) struct Environment {
    prepared: Option<Prepared>,
    /// The youngest first.
    layers: Vec<Layer>,
}

impl Environment {
    /// A box around `tree` in this environment.
    pub(super) fn around(&self, tree: &Path) -> Surroundings {
        let layers = self.layers.iter().map(|layer| layer.path().to_owned());
        Surroundings {
            tree: tree.to_owned(),
            layers: layers.chain(self.prepared.iter().map(Prepared::layer_path)).collect(),
            home: self.prepared.as_ref().map_or(Home::Empty, |prepared| Home::Frozen(prepared.home_path())),
            repository: None,
            network: Network::Off,
        }
    }

    /// What is in it and never part of a change, unless the agent wrote it through the host.
    pub(super) fn artefacts(&self) -> Artefacts {
        let prepared = self.prepared.iter().map(Prepared::artefacts);
        let all = self.layers.iter().map(Layer::artefacts).chain(prepared);
        all.fold(Artefacts::default(), Artefacts::and)
    }

    /// Freezes what a run has made: boxes that are opened from here on show it.
    pub(super) fn add(&mut self, layer: Layer) {
        self.layers.insert(0, layer);
    }
}
