//! How much an assertion says.

use std::sync::LazyLock;

use super::language::Language;
use crate::pattern::Pattern;

/// Bytes of a line from the assertion on that are looked at.
const LONGEST: usize = 400;
/// Assertions of one line that are counted.
const MOST_OF_A_LINE: usize = 20;

/// What an assertion can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strength {
    /// It holds whatever the code does.
    Trivial,
    /// It holds for nearly every value.
    Weak,
    /// Anything else.
    Strong,
}

static TRIVIAL: Pattern = Pattern::new(
    r"^(?i)assert\s+(true|1|not\s+(false|none|0)|\(\s*true\s*\))\s*(,|;|#|$)|^[\w.$:>!-]*(true|that|ok|truthy|assert!?|assert_|check|require|expect_true|assert_true)\s*[({]\s*(t\s*,\s*)?(true|1|!\s*false|not\s+false)\s*[,)}]|^[\w.$:>!-]*(false)\s*\(\s*(false|0)\s*[,)]|\b(or\s+true|\|\|\s*true|\|\|\s*1)\b|^\[\[?\s+(1|true|-n\s+\S*x)\s+\]|^expect\s*\(\s*(true|1)\s*\)\.\w+(\(\)|\.be\.true|\.be\.ok)|^expect\.anything",
);

static WEAK: Pattern = Pattern::new(
    r"(?i)\.toBeDefined|\.toBeTruthy|\.not\.toBeNull|\.not\.toBeUndefined|\.not\.toThrow|\.to\.(exist|be\.ok)\b|expect\.anything|assertIsNotNone|is\s+not\s+none\s*(,|$)|assertNotNull|IsNotNull|NotNull\(|NotNil\(|\.is_some\(\)|\.is_ok\(\)|assertIsInstance|\bisinstance\(|\bhasattr\(|\bcallable\(|refute_nil|not_to\s+be_nil|be_truthy|NotEmpty\(|assertInstanceOf|is_a\?|respond_to|typeof\s|instanceof|>=\s*0\s*[,)]?\s*$|EXPECT_NO_THROW|ASSERT_NO_THROW|doesNotThrow|DoesNotThrow|assert_nothing_raised|NoError\(",
);

/// The assertions on one line: each one's strength.
///
/// `code` is the line with literals blanked out, `line` the line itself.
pub(super) fn assertions(language: Language, code: &str, line: &str) -> Vec<Strength> {
    let Some(regex) = regex_of(language) else { return Vec::new() };
    let found = regex.find_iter(code).take(MOST_OF_A_LINE);
    found.map(|found| strength(&shortened(code, found.start()), &shortened(line, found.start()))).collect()
}

fn shortened(line: &str, from: usize) -> String {
    let rest = line.get(from..).unwrap_or(line);
    rest.get(..rest.floor_char_boundary(LONGEST)).unwrap_or(rest).to_owned()
}

fn strength(code: &str, line: &str) -> Strength {
    match () {
        () if TRIVIAL.is_match(code) || compares_same(line) => Strength::Trivial,
        () if WEAK.is_match(code) => Strength::Weak,
        () => Strength::Strong,
    }
}

/// `assert x == x`, `assertEqual(1, 1)`, `expect(a).toBe(a)`.
fn compares_same(line: &str) -> bool {
    let line = line.trim_end().trim_end_matches(';');
    if let Some((left, right)) = line.split_once("==") {
        let left = left.rsplit_once(['(', ' ']).map_or(left, |(before, last)| {
            if last.trim().is_empty() { before.rsplit(['(', ' ']).next().unwrap_or(before) } else { last }
        });
        let right = right.trim_start_matches('=').split([',', ')', ';', '#']).next().unwrap_or_default();
        return !left.trim().is_empty() && left.trim() == right.trim();
    }
    let Some((name, arguments)) = line.split_once('(') else { return false };
    if let Some((left, rest)) = arguments.split_once(").") {
        let right = rest.split_once('(').map(|(matcher, right)| (matcher, right.trim_end_matches(')')));
        return right.is_some_and(|(matcher, right)| {
            !matcher.contains("not") && left.trim() == right.trim() && !left.trim().is_empty()
        });
    }
    // Go's assertions begin with the test itself.
    let mut parts = arguments.trim_end_matches(')').split(',').map(str::trim).filter(|part| *part != "t");
    let lower = name.to_ascii_lowercase();
    let compares = lower.contains("eq") || lower.contains("same") || lower.ends_with(".is");
    let denies = lower.contains("not") || lower.contains("_ne") || lower.contains("refute");
    compares
        && !denies
        && matches!((parts.next(), parts.next()), (Some(left), Some(right)) if left == right && !left.is_empty())
}

fn regex_of(language: Language) -> Option<&'static Pattern> {
    static REGEXES: LazyLock<Vec<(Language, Pattern)>> = LazyLock::new(|| {
        let sources = [
            (
                Language::Python,
                r"\bassert\b|\b(self|cls|tc)\.(assert|fail)\w*\(|\.assert_\w+\(|\bpytest\.(raises|warns|fail)\b|\bassert_\w+\(",
            ),
            (
                Language::JavaScript,
                r"\bexpect(\.\w+)?\s*\(|\bassert(\.\w+)*\s*\(|\bt\.(is|deepEqual|true|false|throws|not|ok|equal|same|regex|like|fail|assert|snapshot)\w*\(|\.should\b",
            ),
            (Language::Rust, r"\b(debug_|prop_)?assert\w*!|\bpanic!|\.unwrap_err\(|\.expect_err\(|\bunreachable!"),
            (
                Language::Go,
                r"\b[tb]\.(Error|Errorf|Fatal|Fatalf|Fail|FailNow)\(|\b(assert|require|is|qt|must)\.\w+\(|\bExpect\(",
            ),
            (
                Language::Java,
                r"\bAssert(ions?|J)?\.\w+\(|\b(assert\w*|fail|verify\w*|expect\w*|should\w*)\s*[({]|\bassert\s|\bshould\w*\s",
            ),
            (Language::CSharp, r"\b(Assert|CollectionAssert|StringAssert)\.\w+|\.Should\w*\(|\.Verify\w*\("),
            (Language::Ruby, r"\b(assert|refute|flunk)\w*|\bexpect\b|\b(must|wont)_\w+|\.should\b|\bis_expected\b"),
            (Language::Php, r"(\$this->|self::|static::|Assert::)(assert|expect|fail)\w*\(|\bexpect\(|\bassert\w*\("),
            (
                Language::C,
                r"\b(EXPECT|ASSERT|REQUIRE|CHECK|BOOST|FAIL|TEST_ASSERT|CU_ASSERT|ck_assert|cr_assert|g_assert)\w*|\bassert\w*\s*\(",
            ),
            (Language::Shell, r"\[\[?\s|\btest\s|\bassert\w*|\brefute\w*|\bgrep\b|\bdiff\b|\bcmp\b"),
        ];
        sources.into_iter().map(|(language, source)| (language, Pattern::new(source))).collect()
    });
    REGEXES.iter().find(|(known, _)| *known == language).map(|(_, pattern)| pattern)
}
