//! The operator's rules, as they stand in the config.

use serde::{Deserialize, Serialize};

use super::{Level, PathClass};

/// What becomes of a change that touches something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is only named.
    Allow,
    /// A draft with the label `needs-review`.
    Review,
    /// Nothing is published.
    Block,
}

impl Action {
    /// The level of a finding.
    pub fn level(self) -> Level {
        match self {
            Action::Allow => Level::Note,
            Action::Review => Level::Review,
            Action::Block => Level::Block,
        }
    }
}

/// What becomes of files below a path, before the built-in classes are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// From the root; `*` stays within a folder, `**` does not.
    pub glob: String,
    /// One that loosens a built-in class fits the path as it is written; one that tightens fits every spelling.
    pub action: Action,
}

/// Sizes of a whole change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Default: 200.
    pub files: usize,
    /// Added and removed together. Default: 10,000.
    pub lines: usize,
    /// New contents of binary files together. Default: 1,000,000.
    pub binary_bytes: usize,
    /// What becomes of a larger change. Default: block.
    pub exceeded: Action,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 200, lines: 10_000, binary_bytes: 1_000_000, exceeded: Action::Block }
    }
}

/// The whole policy. Everything that is left out has its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Asked in order before the built-in classes; the first that fits decides. Default: none.
    pub overrides: Vec<Override>,
    /// Workflows and actions of GitHub, and CI of other systems: they run when the branch is pushed. Default: block.
    pub ci: Action,
    /// The rest of `.github/**`, and CODEOWNERS. Default: review.
    pub forge: Action,
    /// What instructs agents: AGENTS.md and its kin, `.patchwright.toml`. Default: review.
    pub agents: Action,
    /// What runs on developers' machines without being asked: hooks, editor tasks, dev containers. Default: review.
    pub hooks: Action,
    /// Build scripts. Default: review.
    pub build: Action,
    /// Lock files. Default: review.
    pub locks: Action,
    /// Manifests. Default: review.
    pub manifests: Action,
    /// Tests and their configuration, whatever is done to them. Default: allow.
    pub tests: Action,
    /// Files that become executable. Default: block.
    pub executables: Action,
    /// Symbolic links that are new or lead elsewhere; such that leave the repository are reviewed at least. Default: block.
    pub symlinks: Action,
    /// Gitlinks and `.gitmodules`. Default: block.
    pub submodules: Action,
    /// Names with control, invisible or direction characters, backslashes, or trailing dots. Default: block.
    pub strange_names: Action,
    /// Direction and invisible characters in added lines. Default: review.
    pub hidden_characters: Action,
    /// Tests that are gone. Default: review.
    pub removed_tests: Action,
    /// Tests that were marked as skipped, ignored, expected to fail, or the only ones to run. Default: review.
    pub skipped_tests: Action,
    /// Tests that check less. Default: review.
    pub weakened_tests: Action,
    /// Exit codes of tests that are swallowed or made up. Default: review.
    pub exit_codes: Action,
    /// Configuration that keeps tests from being run. Default: review.
    pub test_configuration: Action,
    /// New files among what the setup or the tests had made on the base, such as installed packages. Default: review.
    pub covering: Action,
    /// Sizes.
    pub limits: Limits,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            overrides: Vec::new(),
            ci: Action::Block,
            forge: Action::Review,
            agents: Action::Review,
            hooks: Action::Review,
            build: Action::Review,
            locks: Action::Review,
            manifests: Action::Review,
            tests: Action::Allow,
            executables: Action::Block,
            symlinks: Action::Block,
            submodules: Action::Block,
            strange_names: Action::Block,
            hidden_characters: Action::Review,
            removed_tests: Action::Review,
            skipped_tests: Action::Review,
            weakened_tests: Action::Review,
            exit_codes: Action::Review,
            test_configuration: Action::Review,
            covering: Action::Review,
            limits: Limits::default(),
        }
    }
}

impl Rules {
    /// The action for a class of paths.
    pub fn of(&self, class: PathClass) -> Action {
        match class {
            PathClass::Ci => self.ci,
            PathClass::Forge => self.forge,
            PathClass::Agents => self.agents,
            PathClass::Hooks => self.hooks,
            PathClass::Build => self.build,
            PathClass::Locks => self.locks,
            PathClass::Manifests => self.manifests,
            PathClass::Tests => self.tests,
            PathClass::Submodules => self.submodules,
            // Without an override, a path of no class is nobody's business.
            PathClass::Other => Action::Allow,
        }
    }
}

/// Why rules cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A glob of an override.
    #[error("`{glob}` in the policy's overrides is no valid glob: {cause}. Correct it")]
    Glob {
        /// As it was written.
        glob: String,
        /// What the parser says.
        cause: String,
    },
}
