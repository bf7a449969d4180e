//! Make, Ruby and Elixir.

use super::{Found, Project};

pub(super) fn make(project: &Project<'_>) -> Option<Found> {
    let file = project.first_of(&["GNUmakefile", "makefile", "Makefile"])?;
    let text = project.text(file)?;
    let target = ["test", "check"].into_iter().find(|target| has_target(&text, target))?;
    Found::new(format!("make {target}"), format!("`{file}` has a target `{target}`"))
}

/// Whether a rule's left side names `target`; `test := x` is a variable and `.PHONY: test` no rule for it.
fn has_target(makefile: &str, target: &str) -> bool {
    makefile.lines().filter(|line| !line.starts_with(['\t', '#', ' '])).any(|line| {
        let Some((left, right)) = line.split_once(':') else { return false };
        !right.starts_with('=') && !right.starts_with(":=") && left.split_whitespace().any(|name| name == target)
    })
}

pub(super) fn ruby(project: &Project<'_>) -> Option<Found> {
    let bundled = project.has("Gemfile");
    let prefix = if bundled { "bundle exec " } else { "" };
    if project.paths().any(|path| path.starts_with("spec/") && path.ends_with("_spec.rb")) {
        return Found::new(format!("{prefix}rspec"), "`spec` holds files `*_spec.rb`");
    }
    let file = project.first_of(&["Rakefile", "rakefile", "Rakefile.rb"])?;
    let text = project.text(file)?;
    let tested = ["Rake::TestTask", "Minitest::TestTask", "task :test", "task test:", "task \"test\""];
    tested
        .iter()
        .any(|sign| text.contains(sign))
        .then(|| Found::new(format!("{prefix}rake test"), format!("`{file}` has a task `test`")))?
}

pub(super) fn mix(project: &Project<'_>) -> Option<Found> {
    let tested = project.has("mix.exs") && project.paths().any(|path| path.ends_with("_test.exs"));
    tested.then(|| Found::new("mix test", "`mix.exs` stands there, with files `*_test.exs`"))?
}
