//! What is looked for in which files. Paths are matched folded, so in small letters.

use crate::pattern::Pattern;

/// What is looked for in the lines of files whose path fits.
pub(super) struct Rule {
    path: Pattern,
    line: Pattern,
    /// What it means, for the finding.
    pub words: &'static str,
}

impl Rule {
    const fn new(path: &'static str, line: &'static str, words: &'static str) -> Self {
        Self { path: Pattern::new(path), line: Pattern::new(line), words }
    }

    /// Whether the rule is meant for a file.
    pub(super) fn fits_path(&self, path: &str) -> bool {
        self.path.is_match(path)
    }

    /// Whether a line of such a file is one of those.
    pub(super) fn fits_line(&self, line: &str) -> bool {
        self.line.is_match(line)
    }
}

/// Names of tests and of what runs them.
pub(super) static NAMES_TESTS: Pattern = Pattern::new(
    r"(?i)test|spec\b|\bcheck|verify|jest|mocha|tox\b|nox\b|phpunit|\bgo vet|clippy|lint|mypy|\bmvn|gradle|cypress|playwright|valgrind|coverage",
);

/// Exit codes that are lost.
pub(super) static SWALLOWED: Rule = Rule::new(
    r"\.(sh|bash|zsh|bats|mk|cmake|ya?ml|ps1|bat|cmd|toml|ini|cfg|rake|nix)$|(^|/)(gnu)?makefile|justfile$|package\.json$|dockerfile|jenkinsfile|rakefile$|tox\.ini$|composer\.json$|noxfile\.py$|tasks\.py$|procfile$",
    r"(?i)\|\|\s*(:|/bin/true|true|echo|exit\s+0|cd\b|printf|return\s+0|ver>)|[;&]\s*(true|:|exit\s+0)\s*(?:$|[\x22'])|\bset\s+\+e|^\t@?-@?\s*\w|continue-on-error:\s*true|allow_failure:\s*true|ignore_outcome\s*=\s*true|ignore_errors\s*=\s*true|--exit-zero|\btrap\b.*exit\s+0|\|\s*(tee|cat|tail|head)\b|success_codes|catcherror|returnstatus:\s*true|\bexit\s+/b\s+0",
    "the exit code of tests or checks is swallowed",
);

/// Commands whose failure says nothing of the tests, before what swallows it.
pub(super) static INNOCENT: Pattern = Pattern::new(
    r"^\s*@?-?\s*([\w]+=\$\()?([\w]+=\S*\s+)*(command\s+-v|which|type|rm|rmdir|mkdir|kill|umount|sleep|\[+)\s[^|;]*(\|\||$)",
);

/// Exit codes that tests make up.
pub(super) static MADE_UP: Rule = Rule::new(
    r"(^|/)(conftest\.py|sitecustomize\.py|(spec|test)_helper\.(rb|py)|setup-?tests?\.[cm]?[jt]sx?|(jest|vitest)[.-]?setup.*|bootstrap\.php)$",
    r"\b(sys\.exit|os\._exit|process\.exit|Deno\.exit|std::process::exit|process::exit|System\.exit|exitProcess|os\.Exit|Environment\.Exit|_exit|quick_exit|exit!?)\s*\(\s*0?\s*\)|\bprocess\.exitCode\s*=|\bsession\.exitstatus\s*=|\batexit\.register|\bat_exit\b|returncode\s*=\s*0\b|\bos\.kill\(|\braise\s+SystemExit(\(0?\))?\s*$|(^|[;&|{]|\b(then|do|else))\s*exit!?\s+0\b",
    "the exit code of tests is made up",
);

/// Scripts of a manifest that tests are started with.
pub(super) static TEST_SCRIPT: Rule = Rule::new(
    r"(^|/)(package\.json|composer\.json|deno\.jsonc?)$",
    r#"^\s*"(pre|post)?(test|check|verify)([:-][\w:-]+)?"\s*:\s*["\[]"#,
    "the command that runs the tests was changed",
);

/// A setting that keeps tests from being run.
const fn keeps(path: &'static str, line: &'static str) -> Rule {
    Rule::new(path, line, "the configuration keeps tests from being run, or from counting")
}

/// Those settings, by test runner.
pub(super) static CONFIGURATION: [Rule; 12] = [
    keeps(
        r"(^|/)(\.?pytest\.ini|tox\.ini|setup\.cfg|pyproject\.toml|noxfile\.py|\.coveragerc)$",
        r#"--ignore\b|--ignore-glob|--deselect|(^|[\s"'=])-k[\s=]|-m\s*["']?not\b|collect_ignore|norecursedirs|-p\s*no:|--co(llect-only)?\b|testpaths|python_(files|functions|classes)|xfail_strict\s*=\s*["']?false|fail_under|--no-cov|--exitfirst|--maxfail|--suppress-no-test-exit-code|--cov-fail-under|--reruns|filterwarnings"#,
    ),
    keeps(
        r"(^|/)(conftest|test_?helper|__init__)\.py$",
        r"collect_ignore|pytest_(ignore_collect|collection_modifyitems|runtest_\w+|pyfunc_call|sessionfinish|collect_file|deselected|report_teststatus|cmdline_main|configure|unconfigure|exception_interact)|exitstatus|\.outcome\s*=|testscollected|addopts|__test__\s*=\s*False|load_tests|pytest\.exit|unittest\.\w+\.\w+\s*=[^=]",
    ),
    keeps(
        r"(^|/)(package\.json|(jest|vitest|vite|karma|ava|playwright|cypress|wdio)[\w.-]*\.(config|conf)\.\w+|karma\.conf\.\w+|jest\.\w+\.js|\.mocharc\.\w+|\.mocharc|\.taprc|\.c8rc.*)$",
        r#"(testPathIgnorePatterns|modulePathIgnorePatterns|coverageThreshold|testMatch|testRegex|testNamePattern|testIgnore|passWithNoTests|pass-with-no-tests|dangerouslyIgnoreUnhandledErrors|forbidOnly|allowOnly|allow-empty|excludeSpecPattern|specPattern|grepInvert|--invert|retries|retryTimes|"?exclude"?\s*:|"?ignore"?\s*:|"?spec"?\s*:|"?grep"?\s*:|"?bail"?\s*:|testEnvironment|testRunner|globalSetup|setupFiles)"#,
    ),
    keeps(
        r"(^|/)(cargo\.toml|\.?nextest\.toml)$",
        r#"\b(autotests|test|doctest|harness|autobenches)\s*=\s*false|default-filter|\bretries\b|\[\[test\]\]|required-features|status-level"#,
    ),
    keeps(
        r"(^|/)(pom\.xml|build\.gradle(\.kts)?|gradle\.properties|build\.sbt|testng.*\.xml)$",
        r#"skipTests|maven\.test\.skip|testFailureIgnore|test\.failure\.ignore|skipITs|failIfNoTests|<exclude|<groups>|excludedGroups|<skip>\s*true|ignoreFailures|enabled\s*=\s*false|exclude(Tags|Categories|Test)|\bexclude\b|excludeTestsMatching|onlyIf|-x\s+test|test\.onlyIf|failOnNoMatchingTests|Test\s*/\s*(skip|test)\s*:="#,
    ),
    keeps(
        r"\.(csproj|fsproj|vbproj|runsettings|props|targets)$",
        r"(?i)istestproject>\s*false|compile\s+remove|testcasefilter|treatnotestsaserror>\s*false|vstest\w*filter|<exclude",
    ),
    keeps(r"(^|/)phpunit\.xml(\.dist)?$", r#"<exclude|<groups|stopOn|failOn\w+\s*=\s*"false"|<file>|suffix\s*="#),
    keeps(
        r"(^|/)(\.rspec|rakefile|\.?rspec.*|spec_helper\.rb|rails_helper\.rb|test_helper\.rb|[\w.-]+\.rake)$",
        r"--tag\s+~|--exclude-pattern|--pattern|--failure-exit-code\s*=?\s*0|filter_run|fail_if_no_examples|exclude_pattern|run_all_when_everything_filtered|fail_on_error\s*=\s*false|\.exclude\(",
    ),
    keeps(
        r"(^|/)(cmakelists\.txt|ctest\w*\.cmake|[\w.-]+\.cmake|meson\.build)$",
        r"(?i)will_fail|disabled\s+(true|on|1)|ctest_custom_tests_ignore|skip_return_code|--exclude-regex|\s-E\s|should_fail\s*:\s*true|skip_regular_expression|pass_regular_expression",
    ),
    keeps(
        r"(^|/)((gnu)?makefile|[\w.-]+\.mk|justfile|taskfile\.ya?ml|[\w.-]+\.sh|\.github/workflows/[\w.-]+)$",
        r"\bgo\s+test\b.*\s-(skip|run)\b|\bpytest\b.*(--deselect|--ignore|\s-k\s|--co\b)|\bcargo\s+(nextest|test)\b.*(--skip|--no-run|--exclude)|\bctest\b.*\s-E\s|--passWithNoTests|-DskipTests|-Dmaven\.test\.skip|\s-x\s+test\b|--filter\s+\S*!=",
    ),
    keeps(r"_test\.go$", r"^//go:build\s+(ignore|never)"),
    keeps(r"(^|/)(codecov\.ya?ml|\.codecov\.ya?ml)$", r"threshold|informational\s*:\s*true|ignore\s*:"),
];
