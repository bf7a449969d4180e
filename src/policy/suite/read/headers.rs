//! The lines on which tests begin, and those that keep them from counting.

use std::sync::LazyLock;

use super::super::language::Language;
use crate::pattern::Pattern;

/// How far a test's body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// While lines are indented.
    Indented,
    /// Until its braces are closed.
    Braces,
    /// Until the call is closed that it stands in.
    Call,
    /// The line alone.
    Line,
}

/// The beginning of a test.
#[derive(Debug)]
pub(super) struct Header {
    /// Index of the line.
    pub line: usize,
    /// Where in the line its brackets begin to be counted.
    pub bracket: usize,
    /// Where in the line the body may begin.
    pub end: usize,
    pub name: String,
    pub place: Place,
}

/// How tests begin in a language.
struct Form {
    language: Language,
    /// With a group `name`, or without one: then the first literal behind it is the name.
    header: Pattern,
    /// Stands above the header, on a line before it or on the same one.
    needs: Option<Pattern>,
    place: Place,
}

const fn form(language: Language, place: Place, header: &'static str, needs: Option<&'static str>) -> Form {
    let needs = match needs {
        Some(needs) => Some(Pattern::new(needs)),
        None => None,
    };
    Form { language, header: Pattern::new(header), needs, place }
}

static FORMS: LazyLock<Vec<Form>> = LazyLock::new(|| {
    let attribute = r"^\s*#\[\s*([\w:]+::)?(test|rstest|test_case|quickcheck|wasm_bindgen_test|test_log|apply|traced_test|googletest|gtest)\b";
    let annotation = r"@(Test|ParameterizedTest|RepeatedTest|TestFactory|TestTemplate|Property|Theory)\b";
    let bracketed =
        r"\[\s*(Fact|Theory|Test|TestMethod|TestCase|TestCaseSource|DataTestMethod|SkippableFact|InlineData)\b";
    vec![
        form(Language::Python, Place::Indented, r"^\s*(async\s+)?def\s+(?P<name>test\w*|runTest)\s*\(", None),
        form(
            Language::JavaScript,
            Place::Call,
            r"^\s*(await\s+)?([\w$]+\.)?\b(x|f)?(it|test|specify)(\.\w+)*\s*[(`]",
            None,
        ),
        form(Language::Rust, Place::Braces, r"\bfn\s+(?P<name>\w+)", Some(attribute)),
        form(Language::Rust, Place::Line, r"^\s*(pub\s+)?(?P<name>mod\s+\w*tests?\w*)\s*;", None),
        form(Language::Go, Place::Braces, r"^func\s+(\([^)]*\)\s*)?(?P<name>(Test|Fuzz|Example)\w*)\s*\(", None),
        form(Language::Java, Place::Braces, r"\b(void|fun|def|\w+[\w<>]*)\s+(?P<name>\w+)\s*\(", Some(annotation)),
        form(Language::Java, Place::Braces, r"\bfun\s+`", Some(annotation)),
        form(Language::Java, Place::Braces, r"^\s*public\s+void\s+(?P<name>test\w*)\s*\(", None),
        form(
            Language::CSharp,
            Place::Braces,
            r"\b(void|Task(<\w+>)?|ValueTask)\s+(?P<name>\w+)\s*(<\w+>)?\(",
            Some(bracketed),
        ),
        form(Language::Ruby, Place::Indented, r"^\s*def\s+(?P<name>test_\w+[?!]?)", None),
        form(Language::Ruby, Place::Indented, r"^\s*[xf]?(it|specify|test|scenario|example)\b\s*[\x22'({]", None),
        form(Language::Php, Place::Braces, r"\bfunction\s+(?P<name>test\w*)\s*\(", None),
        form(Language::Php, Place::Braces, r"\bfunction\s+(?P<name>\w+)\s*\(", Some(r"#\[.*\bTest\b")),
        form(Language::Php, Place::Call, r"^\s*(it|test)\s*\(", None),
        form(Language::C, Place::Braces, r"^\s*(TYPED_)?TEST(_F|_P)?\s*\(\s*(?P<name>\w+\s*,\s*\w+)", None),
        form(Language::C, Place::Braces, r"^\s*(TEST_CASE|SCENARIO|TEMPLATE_TEST_CASE|TEST_CASE_METHOD)\s*\(", None),
        form(
            Language::C,
            Place::Braces,
            r"^\s*(BOOST_AUTO_TEST_CASE|START_TEST|Test|TEST|CTEST|BOOST_FIXTURE_TEST_CASE)\s*\(\s*(?P<name>\w+)",
            None,
        ),
        form(Language::C, Place::Braces, r"^\s*(static\s+)?(void|int|bool)\s+(?P<name>test_\w+)\s*\([^;]*$", None),
        form(Language::Shell, Place::Braces, r"^\s*@test\s+[\x22']", None),
        form(Language::Shell, Place::Braces, r"^\s*(function\s+)?(?P<name>test_\w+)\s*\(\s*\)", None),
    ]
});

/// Lines that may stand between an attribute and its header.
const MOST_BETWEEN: usize = 30;

/// The headers in a file's blanked code, in order.
pub(super) fn headers(code: &[&str], lines: &[&str], language: Language) -> Vec<Header> {
    let forms: Vec<&Form> = FORMS.iter().filter(|form| form.language == language).collect();
    let mut seen: Vec<Option<usize>> = vec![None; forms.len()];
    let mut classes: Vec<(usize, String)> = Vec::new();
    let mut headers: Vec<Header> = Vec::new();
    for (at, line) in code.iter().enumerate() {
        if language == Language::Python {
            enter_class(&mut classes, line);
        }
        let mut used = false;
        for (form, seen) in forms.iter().zip(&mut seen) {
            if form.needs.as_ref().is_some_and(|needs| needs.is_match(line)) {
                *seen = Some(at);
            }
            let is_ready = form.needs.is_none() || seen.is_some_and(|seen| at - seen <= MOST_BETWEEN);
            let Some(found) = Some(&form.header).filter(|_| is_ready && !used).and_then(|header| header.captures(line))
            else {
                continue;
            };
            let Some(whole) = found.get(0) else { continue };
            let name = match found.name("name") {
                Some(name) => name.as_str().split_whitespace().collect::<Vec<_>>().join(" "),
                None => literal(code, lines, at, whole.end().saturating_sub(1)),
            };
            let name = classes.iter().fold(String::new(), |before, (_, class)| format!("{before}{class}.")) + &name;
            let bracket = whole.end().saturating_sub(usize::from(form.place == Place::Call));
            headers.push(Header { line: at, bracket, end: whole.end(), name, place: form.place });
            used = true;
        }
        if used {
            seen.fill(None);
        }
    }
    headers
}

/// Keeps the classes that a line of Python lies in, by indentation.
fn enter_class(classes: &mut Vec<(usize, String)>, line: &str) {
    let text = line.trim_start();
    if text.is_empty() || text.starts_with([')', ']', '}']) {
        return;
    }
    let indentation = line.len() - text.len();
    classes.retain(|(outer, _)| *outer < indentation);
    if let Some(rest) = text.strip_prefix("class ") {
        let name = rest.split(|character: char| !(character.is_alphanumeric() || character == '_')).next();
        classes.push((indentation, name.unwrap_or_default().to_owned()));
    }
}

/// The first literal at or behind a place, on its line or the next; else the line itself.
fn literal(code: &[&str], lines: &[&str], at: usize, from: usize) -> String {
    for (index, start) in [(at, from), (at + 1, 0)] {
        let (Some(code), Some(line)) =
            (code.get(index).and_then(|code| code.get(start..)), lines.get(index).and_then(|line| line.get(start..)))
        else {
            continue;
        };
        let Some(open) = code.find(['"', '\'', '`']) else { continue };
        let quote = &code[open..=open];
        let close = code[open + 1..].find(quote).map_or(code.len(), |close| open + 1 + close);
        return line.get(open + 1..close).unwrap_or_default().to_owned();
    }
    lines.get(at).map_or_else(String::new, |line| line.trim().to_owned())
}

static MARKERS: LazyLock<Vec<(Language, Pattern, &str)>> = LazyLock::new(|| {
    let (skipped, only, fails) = ("skipped", "marked as the only ones to run", "expected to fail");
    let table = [
        (
            Language::Python,
            r"@(unittest\.)?(skip|skipIf|skipUnless)\b|pytest\.mark\.skip(if)?\b|\bpytest\.(skip|importorskip)\(|\b(self\.)?skipTest\(|\bSkipTest\b|__test__\s*=\s*False|\bcollect_ignore",
            skipped,
        ),
        (Language::Python, r"expectedFailure|pytest\.mark\.xfail|\bpytest\.xfail\(", fails),
        (
            Language::JavaScript,
            r"\b(it|test|describe|context|suite|specify)(\.\w+)*\.(skip|todo|fixme|skipIf|runIf|concurrent\.skip)\b|\bx(it|test|describe|context|specify)\b\s*(\.each)?\(|\bthis\.skip\(|\bt\.skip\(|\bctx\.skip\(|\bpending\(|\bskip:\s*(true|`|\x22|')",
            skipped,
        ),
        (
            Language::JavaScript,
            r"\b(it|test|describe|context|suite|specify)(\.\w+)*\.only\b|\bf(it|describe)\(|\bonly:\s*true",
            only,
        ),
        (Language::JavaScript, r"\b(it|test)(\.\w+)*\.(fails|failing|fail)\b", fails),
        (
            Language::Rust,
            r"#!?\[\s*(cfg_attr\(.*)?\bignore\b|#!?\[\s*cfg\(\s*(any\(\s*\)|not\(\s*test|FALSE|false|feature)",
            skipped,
        ),
        (Language::Rust, r"#\[\s*should_panic", fails),
        (Language::Go, r"\b[tb]\.(Skip|Skipf|SkipNow)\(", skipped),
        (
            Language::Java,
            r"@(\w+\.)*(Ignore|Disabled\w*|EnabledIf\w*|EnabledOn\w*)\b|\bassume(True|False|That|Not\w*)?\(|\bAssumptions?\.\w+\(|enabled\s*=\s*false|\bSkipException\b",
            skipped,
        ),
        (Language::Java, r"expected\s*=\s*\w+\.class", fails),
        (
            Language::CSharp,
            r"\bSkip\s*=|\[\s*(Ignore|Explicit|Inconclusive)\b|\bAssert\.(Ignore|Inconclusive|Skip)\(|\bSkip\.If",
            skipped,
        ),
        (
            Language::Ruby,
            r"^\s*x(it|describe|context|specify|scenario|feature)\b|^\s*(skip|pending)\b|\b(skip|pending):\s*|\.(skip|pending)\b|,\s*:(skip|pending)\b",
            skipped,
        ),
        (Language::Ruby, r"^\s*f(it|describe|context|specify)\b|\bfocus:\s*true|,\s*:focus\b", only),
        (Language::Php, r"->(markTestSkipped|markTestIncomplete)\(|->(skip|todo)\(|#\[.*\bRequires\w*", skipped),
        (Language::Php, r"->only\(", only),
        (
            Language::C,
            r"\b(GTEST_SKIP|SKIP|TEST_IGNORE\w*|BOOST_TEST_DISABLED)\b|\bDISABLED_\w+|\bdisabled\s*\(|doctest::(skip|may_fail)|^\s*#\s*if\s+0\b",
            skipped,
        ),
        (Language::C, r"doctest::should_fail|\bEXPECT_NONFATAL_FAILURE\b", fails),
        (Language::Shell, r"^\s*skip\b", skipped),
    ];
    table.into_iter().map(|(language, regex, words)| (language, Pattern::new(regex), words)).collect()
});

/// What a line does to keep tests from counting, as the end of `the test is ...`.
pub(super) fn marker(language: Language, code: &str) -> Option<&'static str> {
    let marked = MARKERS.iter().find(|(known, pattern, _)| *known == language && pattern.is_match(code));
    marked.map(|(.., words)| *words)
}

/// Whether a statement has no effect: `pass`, brackets, nothing.
pub(super) fn does_nothing(code: &str, is_header: bool) -> bool {
    static HEADER: Pattern = Pattern::new(r"[;]|=>\s*[^{\s]|\{\s*[^}\s]|:\s*\S");
    if is_header {
        // What stands behind the name is arguments, unless it looks like statements.
        let mut rest = code.trim_end_matches(['{', '}', ')', ';', ' ', ':']).to_owned();
        rest.retain(|character| !matches!(character, '"' | '\'' | '`'));
        return rest.ends_with("pass") || !HEADER.is_match(&rest);
    }
    let is_filler = |character: char| character.is_whitespace() || "(){}[];,:.\"'`".contains(character);
    let rest = code.trim_matches(is_filler);
    matches!(
        rest,
        "" | "pass"
            | "end"
            | "return"
            | "return None"
            | "nil"
            | "null"
            | "true"
            | "self"
            | "return true"
            | "do"
            | "none"
            | "=>"
    ) || rest.starts_with("console.log(")
        || rest.starts_with("print(")
        || rest.starts_with("println!(")
}

/// Whether a line catches what would fail the test.
pub(super) fn swallows(code: &str) -> bool {
    static SWALLOWS: Pattern = Pattern::new(
        r"\bexcept\s*(\(?\s*(Base)?Exception|AssertionError)?[^:]*:\s*(pass|\.\.\.|return)?\s*$|\bsuppress\(|\bcatch\s*(\([^)]*\))?\s*\{\s*\}|\.catch\(\s*(\(\w*\)|\w+)\s*=>\s*(\{\s*\}|null|undefined|true)\s*\)|\bcatch_unwind\b|\brescue\b(\s+(Exception|StandardError|Minitest::Assertion|RSpec\S*))?[^:]*$|\brecover\(\)|\bcatch\s*\(\s*(AssertionError|Throwable|Error)\b",
    );
    SWALLOWS.is_match(code)
}
