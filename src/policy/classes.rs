//! The classes of protected paths, and which of them a path is in.

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use super::names::folded;
use super::suite::is_test_path;
use super::{Action, Override, Rules, RulesError};

/// What a path is protected as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathClass {
    /// Runs on the forge or a CI system when the branch is pushed.
    Ci,
    /// Steers the forge: owners, templates, bots.
    Forge,
    /// Steers agents.
    Agents,
    /// Runs on developers' machines without being asked.
    Hooks,
    /// Git's list of submodules.
    Submodules,
    /// Pins dependencies.
    Locks,
    /// Names dependencies and scripts.
    Manifests,
    /// Runs when the project is built.
    Build,
    /// Tests and their configuration.
    Tests,
    /// Named by an override of the operator alone.
    Other,
}

impl PathClass {
    /// The key of the config that decides, unless an override does.
    pub(super) fn rule(self) -> &'static str {
        match self {
            PathClass::Ci => "policy.ci",
            PathClass::Forge => "policy.forge",
            PathClass::Agents => "policy.agents",
            PathClass::Hooks => "policy.hooks",
            PathClass::Submodules => "policy.submodules",
            PathClass::Locks => "policy.locks",
            PathClass::Manifests => "policy.manifests",
            PathClass::Build => "policy.build",
            PathClass::Tests => "policy.tests",
            PathClass::Other => "policy.overrides",
        }
    }

    /// The class in words.
    pub fn describe(self) -> &'static str {
        match self {
            PathClass::Ci => "it runs in CI, with what CI may do",
            PathClass::Forge => "it steers how the forge treats the repository",
            PathClass::Agents => "it instructs agents",
            PathClass::Hooks => "it runs on developers' machines without being asked",
            PathClass::Submodules => "it names other repositories to be fetched",
            PathClass::Locks => "it pins dependencies",
            PathClass::Manifests => "it names dependencies or scripts",
            PathClass::Build => "it runs when the project is built",
            PathClass::Tests => "it is a test, or configures tests",
            PathClass::Other => "the operator protects this path",
        }
    }
}

/// Globs in small letters; the first class that fits is the path's.
const BUILT_IN: [(PathClass, &[&str]); 9] = [
    (
        PathClass::Ci,
        &[
            "**/.github/workflows/**",
            "**/.github/actions/**",
            "**/action.yml",
            "**/action.yaml",
            "**/.gitlab-ci.yml",
            "**/.gitlab-ci.yaml",
            "**/*.gitlab-ci.yml",
            "**/.gitlab/ci/**",
            "**/jenkinsfile*",
            "**/*.jenkinsfile",
            "**/.circleci/**",
            "**/azure-pipelines*.yml",
            "**/azure-pipelines*.yaml",
            "**/.azure-pipelines/**",
            "**/.azuredevops/**",
            "**/.buildkite/**",
            "**/.travis.yml",
            "**/.appveyor.yml",
            "**/appveyor.yml",
            "**/.drone.yml",
            "**/.drone.jsonnet",
            "**/.woodpecker.yml",
            "**/.woodpecker.yaml",
            "**/.woodpecker/**",
            "**/.forgejo/**",
            "**/.gitea/**",
            "**/bitbucket-pipelines.yml",
            "**/.teamcity/**",
            "**/.semaphore/**",
            "**/.cirrus.yml",
            "**/.cirrus.star",
            "**/wercker.yml",
            "**/buildspec*.yml",
            "**/cloudbuild*.yaml",
            "**/cloudbuild*.yml",
            "**/.tekton/**",
            "**/.builds/**",
            "**/.build.yml",
            "**/codefresh.yml",
            "**/.harness/**",
            "**/.dagger/**",
            "**/.zuul.yaml",
            "**/zuul.d/**",
            "**/screwdriver.yaml",
            "**/.netlify/**",
            "**/netlify.toml",
            "**/vercel.json",
            "**/.readthedocs.y*ml",
            "**/.ci/**",
            "**/concourse/**",
        ],
    ),
    (
        PathClass::Agents,
        &[
            "**/agents.md",
            "**/agents.override.md",
            "**/agent.md",
            "**/claude.md",
            "**/claude.local.md",
            "**/gemini.md",
            "**/.cursorrules",
            "**/.cursor/**",
            "**/.windsurfrules",
            "**/.windsurf/**",
            "**/.clinerules",
            "**/.clinerules/**",
            "**/.roorules*",
            "**/.roo/**",
            "**/copilot-instructions.md",
            "**/.github/instructions/**",
            "**/.github/prompts/**",
            "**/.github/chatmodes/**",
            "**/.github/agents/**",
            "**/*.instructions.md",
            "**/.claude/**",
            "**/.codex/**",
            "**/.gemini/**",
            "**/.aider*",
            "**/.continue/**",
            "**/.continuerules",
            "**/.goosehints",
            "**/.junie/**",
            "**/.kiro/**",
            "**/.amazonq/**",
            "**/.openhands/**",
            "**/conventions.md",
            "**/skill.md",
            "**/.mcp.json",
            "**/mcp.json",
            "**/.patchwright.toml",
            "**/.patchwright/**",
        ],
    ),
    (
        PathClass::Forge,
        &[
            "**/.github/**",
            "**/.gitlab/**",
            "**/codeowners",
            "**/renovate.json*",
            "**/.renovaterc*",
            "**/.mergify.yml",
            "**/dependabot.y*ml",
        ],
    ),
    (PathClass::Submodules, &["**/.gitmodules"]),
    (
        PathClass::Hooks,
        &[
            "**/.husky/**",
            "**/.githooks/**",
            "**/githooks/**",
            "**/.pre-commit-config.y*ml",
            "**/.pre-commit-hooks.y*ml",
            "**/lefthook.y*ml",
            "**/.lefthook.y*ml",
            "**/.lefthook/**",
            "**/.overcommit.yml",
            "**/.vscode/**",
            "**/.idea/**",
            "**/.zed/**",
            "**/.vim/**",
            "**/.nvim*",
            "**/.exrc",
            "**/.vimrc",
            "**/.dir-locals.el",
            "**/*.code-workspace",
            "**/.envrc",
            "**/.env",
            "**/.env.*",
            "**/.tool-versions",
            "**/mise.toml",
            "**/.mise.toml",
            "**/.mise/**",
            "**/.gitattributes",
            "**/.gitconfig",
            "**/.lfsconfig",
            "**/.devcontainer/**",
            "**/.devcontainer.json",
            "**/devcontainer.json",
            "**/.gitpod.yml",
            "**/.npmrc",
            "**/.yarnrc*",
            "**/.yarn/**",
            "**/.pnpmfile.cjs",
            "**/pip.conf",
            "**/.pypirc",
            "**/.cargo/**",
            "**/.bazelrc",
            "**/.mvn/**",
            "**/nuget.config",
            "**/.bundle/**",
            "**/.bash_profile",
            "**/.bashrc",
            "**/.profile",
            "**/.zshrc",
            "**/sitecustomize.py",
            "**/usercustomize.py",
            "**/*.pth",
            "**/flake.nix",
            "**/shell.nix",
            "**/desktop.ini",
            "**/autorun.inf",
            "**/.git-blame-ignore-revs",
        ],
    ),
    (
        PathClass::Locks,
        &[
            "**/package-lock.json",
            "**/npm-shrinkwrap.json",
            "**/yarn.lock",
            "**/pnpm-lock.yaml",
            "**/bun.lock",
            "**/bun.lockb",
            "**/deno.lock",
            "**/cargo.lock",
            "**/poetry.lock",
            "**/pipfile.lock",
            "**/pdm.lock",
            "**/uv.lock",
            "**/pylock*.toml",
            "**/go.sum",
            "**/go.work.sum",
            "**/gemfile.lock",
            "**/composer.lock",
            "**/packages.lock.json",
            "**/gradle.lockfile",
            "**/verification-metadata.xml",
            "**/mix.lock",
            "**/pubspec.lock",
            "**/podfile.lock",
            "**/package.resolved",
            "**/flake.lock",
            "**/conan.lock",
            "**/conda-lock.yml",
        ],
    ),
    (
        PathClass::Manifests,
        &[
            "**/package.json",
            "**/pnpm-workspace.yaml",
            "**/deno.json*",
            "**/cargo.toml",
            "**/pyproject.toml",
            "**/setup.cfg",
            "**/requirements*.txt",
            "**/requirements*.in",
            "**/requirements/*.txt",
            "**/constraints*.txt",
            "**/pipfile",
            "**/environment.y*ml",
            "**/go.mod",
            "**/go.work",
            "**/pom.xml",
            "**/libs.versions.toml",
            "**/gemfile",
            "**/gems.rb",
            "**/*.gemspec",
            "**/composer.json",
            "**/*.csproj",
            "**/*.fsproj",
            "**/*.vbproj",
            "**/directory.packages.props",
            "**/packages.config",
            "**/global.json",
            "**/mix.exs",
            "**/pubspec.yaml",
            "**/podfile",
            "**/package.swift",
            "**/conanfile.*",
            "**/vcpkg.json",
            "**/rust-toolchain*",
            "**/.nvmrc",
            "**/.python-version",
            "**/.ruby-version",
        ],
    ),
    (
        PathClass::Build,
        &[
            "**/makefile",
            "**/gnumakefile",
            "**/*.mk",
            "**/justfile",
            "**/.justfile",
            "**/taskfile.y*ml",
            "**/setup.py",
            "**/build.rs",
            "**/build.zig",
            "**/cmakelists.txt",
            "**/*.cmake",
            "**/configure",
            "**/configure.ac",
            "**/meson.build",
            "**/build",
            "**/build.bazel",
            "**/workspace",
            "**/workspace.bazel",
            "**/module.bazel",
            "**/*.bzl",
            "**/build.gradle*",
            "**/settings.gradle*",
            "**/gradle.properties",
            "**/gradlew*",
            "**/gradle/wrapper/**",
            "**/mvnw*",
            "**/build.sbt",
            "**/rakefile",
            "**/*.rake",
            "**/dockerfile*",
            "**/*.dockerfile",
            "**/containerfile*",
            "**/docker-compose*.y*ml",
            "**/compose*.y*ml",
            "**/vagrantfile",
            "**/procfile",
            "**/noxfile.py",
            "**/tox.ini",
            "**/tasks.py",
            "**/fabfile.py",
            "**/dodo.py",
            "**/gulpfile.*",
            "**/gruntfile.*",
            "**/webpack.config.*",
            "**/vite.config.*",
            "**/rollup.config.*",
            "**/babel.config.*",
            "**/.babelrc*",
            "**/eslint.config.*",
            "**/.eslintrc*",
            "**/next.config.*",
            "**/directory.build.props",
            "**/directory.build.targets",
            "**/*.targets",
            "**/*.props",
            "**/extconf.rb",
            "**/binding.gyp",
            "**/install.sh",
            "**/bootstrap.sh",
        ],
    ),
    (
        PathClass::Tests,
        &[
            "**/conftest.py",
            "**/pytest.ini",
            "**/.pytest.ini",
            "**/jest.config.*",
            "**/vitest.config.*",
            "**/.mocharc*",
            "**/karma.conf.*",
            "**/playwright.config.*",
            "**/cypress.config.*",
            "**/ava.config.*",
            "**/phpunit.xml*",
            "**/.rspec",
            "**/spec_helper.rb",
            "**/*.runsettings",
            "**/nextest.toml",
            "**/.coveragerc",
            "**/codecov.yml",
            "**/ctestcustom.cmake",
            "**/ctesttestfile.cmake",
        ],
    ),
];

/// The compiled globs.
#[derive(Debug)]
pub(super) struct Classes {
    built_in: GlobSet,
    /// The class of each glob in `built_in`.
    classes: Vec<PathClass>,
    overrides: Vec<CompiledOverride>,
}

/// An override that fits paths as they are, and one that fits every spelling of them.
#[derive(Debug)]
struct CompiledOverride {
    exact: GlobMatcher,
    folded: GlobMatcher,
    action: Action,
}

impl Classes {
    /// Compiles the built-in globs and those of the operator.
    pub(super) fn new(overrides: &[Override]) -> Result<Self, RulesError> {
        let (mut set, mut classes) = (GlobSetBuilder::new(), Vec::new());
        for (class, globs) in BUILT_IN {
            for text in globs {
                set.add(glob(text)?);
                classes.push(class);
            }
        }
        let compile = |rule: &Override| {
            let folded = glob(&folded(rule.glob.as_bytes()))?.compile_matcher();
            Ok(CompiledOverride { exact: glob(&rule.glob)?.compile_matcher(), folded, action: rule.action })
        };
        let overrides = overrides.iter().map(compile).collect::<Result<Vec<_>, RulesError>>()?;
        let built_in = set.build().map_err(|cause| error("", &cause))?;
        Ok(Self { built_in, classes, overrides })
    }

    /// The class of a path and what becomes of it; `None` if it is in none and no override names it.
    pub(super) fn action(&self, path: &[u8], rules: &Rules) -> Option<(PathClass, Action)> {
        let folded = folded(path);
        let class = self.class(&folded);
        let usual = rules.of(class);
        let exact = std::str::from_utf8(path).ok();
        for rule in &self.overrides {
            let fits_as_it_is = exact.is_some_and(|path| rule.exact.is_match(path));
            if fits_as_it_is || (rule.action >= usual && rule.folded.is_match(&folded)) {
                return Some((class, rule.action));
            }
        }
        (class != PathClass::Other).then_some((class, usual))
    }

    fn class(&self, folded: &str) -> PathClass {
        match self.built_in.matches(folded).into_iter().min() {
            Some(index) => self.classes[index],
            None if is_test_path(folded) => PathClass::Tests,
            None => PathClass::Other,
        }
    }
}

fn glob(text: &str) -> Result<Glob, RulesError> {
    GlobBuilder::new(text).literal_separator(true).build().map_err(|cause| error(text, &cause))
}

fn error(glob: &str, cause: &globset::Error) -> RulesError {
    RulesError::Glob { glob: glob.into(), cause: cause.to_string() }
}
