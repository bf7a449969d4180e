//! What can be told of a shell line by its words. Lines that are more than simple commands are not understood, on purpose.

/// A probe's exit code: the runner is not there. Chosen apart from the shell's own codes.
pub(super) const RUNNER_IS_MISSING: i32 = 86;

/// One simple command: its words without assignments before them.
type Words<'a> = Vec<&'a str>;

/// The exit code by which this line's runner says that it found no tests.
///
/// pytest: 5 (`ExitCode.NO_TESTS_COLLECTED`). unittest: 5 since Python 3.12; before, it exits with 0.
pub(super) fn nothing_to_run_code(line: &str) -> Option<i32> {
    let commands = simple_commands(line)?;
    let tests = match commands.as_slice() {
        [tests] => tests,
        [change_directory, tests] if change_directory.first() == Some(&"cd") => tests,
        _ => return None,
    };
    let words = match tests.as_slice() {
        ["poetry" | "uv" | "pipenv" | "pdm" | "hatch" | "rye", "run", rest @ ..] => rest,
        all => all,
    };
    match words {
        ["pytest" | "py.test", ..] => Some(5),
        [python, "-m", "pytest" | "unittest", ..] if is_python(python) => Some(5),
        _ => None,
    }
}

/// Whether the line's last command hands on the code of a shell of its own: package managers run scripts with `sh -c`.
pub(super) fn hands_on_shell_codes(line: &str) -> bool {
    simple_commands(line).is_some_and(|commands| {
        commands
            .last()
            .and_then(|words| words.first())
            .is_some_and(|program| matches!(*program, "npm" | "pnpm" | "yarn" | "bun"))
    })
}

/// A line that exits with [`RUNNER_IS_MISSING`] if a program or Python module of `line` is not there.
/// `None` if nothing can be missing, or if the line is not understood.
pub(super) fn runner_probe(line: &str, exit_code: i32) -> Option<String> {
    let commands = simple_commands(line)?;
    let mut probe = String::new();
    for words in &commands {
        match words.as_slice() {
            ["cd", directory] => probe.push_str(&format!("cd {directory} && ")),
            [python, "-m", module, ..] if is_python(python) && is_module(module) && exit_code == 1 => {
                probe.push_str(&format!("{{ {python} -c 'import {module}' || exit {RUNNER_IS_MISSING}; }} && "));
            }
            [program, ..] if matches!(exit_code, 126 | 127) => {
                probe.push_str(&format!(
                    "{{ found=$(command -v {program}) || exit {RUNNER_IS_MISSING}; case $found in /*|./*|../*) test -x \
                     \"$found\" || exit {RUNNER_IS_MISSING};; esac; }} && "
                ));
            }
            _ => {}
        }
    }
    probe.contains("exit").then(|| format!("{probe}true"))
}

/// The simple commands that `&&` joins. `None` as soon as a word needs the shell to be understood.
fn simple_commands(line: &str) -> Option<Vec<Words<'_>>> {
    let is_plain = |word: &str| {
        word.chars().all(|character| character.is_ascii_alphanumeric() || "_-./=:,+@%".contains(character))
    };
    line.trim()
        .split("&&")
        .map(|part| {
            let words: Words<'_> = part.split_whitespace().skip_while(|word| is_assignment(word)).collect();
            let program_is_plain = words.first().is_some_and(|word| is_plain(word));
            let rest_is_quoted_at_most = words.iter().all(|word| is_plain(word.trim_matches(['\'', '"', '*'])));
            (program_is_plain && rest_is_quoted_at_most && !part.contains('\n')).then_some(words)
        })
        .collect()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
    })
}

fn is_python(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program);
    name.strip_prefix("python")
        .is_some_and(|version| version.chars().all(|character| character.is_ascii_digit() || character == '.'))
}

fn is_module(name: &str) -> bool {
    name.chars().all(|character| character.is_ascii_alphanumeric() || matches!(character, '_' | '.'))
}
