//! What is no secret though it looks like one.

/// Words that real tokens do not hold and examples do.
const PLACEHOLDERS: [&str; 30] = [
    "example",
    "placeholder",
    "changeme",
    "change_me",
    "change-me",
    "your",
    "xxxx",
    "dummy",
    "fake",
    "sample",
    "redacted",
    "insert",
    "replace",
    "secret_here",
    "notreal",
    "not-real",
    "not_a_",
    "0123456789",
    "1234567890",
    "abcdefgh",
    "todo",
    "foobar",
    "lorem",
    "****",
    "....",
    "____",
    "----",
    "deadbeef",
    "mysecret",
    "my_secret",
];

/// Values that are passwords of examples and of containers on the own machine.
const COMMON_PASSWORDS: [&str; 27] = [
    "pass",
    "passwd",
    "password",
    "password1",
    "password123",
    "pwd",
    "secret",
    "token",
    "admin",
    "root",
    "user",
    "guest",
    "test",
    "testing",
    "tests",
    "postgres",
    "mysql",
    "rabbitmq",
    "redis",
    "mongo",
    "minio",
    "minioadmin",
    "hunter2",
    "letmein",
    "qwerty",
    "123456",
    "12345678",
];

/// The fewest different characters of what was drawn at random, for texts of 16 and more.
const FEWEST_DIFFERENT: usize = 7;

/// Whether a token's body was plainly not drawn at random.
pub(super) fn is_placeholder(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_ascii_lowercase();
    PLACEHOLDERS.iter().any(|word| text.contains(word))
        || (body.len() >= 16 && different(body) < FEWEST_DIFFERENT)
        || has_long_sequence(body)
}

/// Whether a password is a word of examples.
pub(super) fn is_common_password(password: &[u8]) -> bool {
    let text = String::from_utf8_lossy(password).to_ascii_lowercase();
    COMMON_PASSWORDS.contains(&text.as_str())
        || text.contains(['$', '{', '}', '<', '>', '*', '(', '['])
        || text.starts_with('%')
        || is_placeholder(password)
}

/// Whether a path is that of a lock file or a list of hashes, where random values are the contents.
pub(super) fn is_lock_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let exact = [
        "package-lock.json",
        "npm-shrinkwrap.json",
        "yarn.lock",
        "pnpm-lock.yaml",
        "bun.lock",
        "go.sum",
        "go.work.sum",
        "packages.lock.json",
        "gradle.lockfile",
        "verification-metadata.xml",
        "package.resolved",
        "sha256sums",
        "checksums.txt",
    ];
    exact.contains(&name.as_str()) || [".lock", ".lockb", ".sum", ".sha256"].iter().any(|end| name.ends_with(end))
}

/// Eight groups of hexadecimal digits as in `123e4567-e89b-12d3-a456-426614174000`.
pub(super) fn is_uuid(value: &[u8]) -> bool {
    let value = value.strip_prefix(b"urn:uuid:").unwrap_or(value);
    value.len() == 36
        && value.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Shannon's entropy of the bytes, in bits for each.
pub(super) fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let length = bytes.len().max(1) as f64;
    let share = |count: &u32| f64::from(*count) / length;
    counts.iter().filter(|count| **count > 0).map(|count| -share(count) * share(count).log2()).sum()
}

fn different(bytes: &[u8]) -> usize {
    let mut seen = [false; 256];
    for byte in bytes {
        seen[usize::from(*byte)] = true;
    }
    seen.iter().filter(|seen| **seen).count()
}

/// `23456789`, `ghijklmn`, `aaaaaaaa`: eight in a row that follow or repeat each other.
fn has_long_sequence(bytes: &[u8]) -> bool {
    let (mut rising, mut same) = (1, 1);
    for pair in bytes.windows(2) {
        rising = if pair[1] == pair[0].wrapping_add(1) { rising + 1 } else { 1 };
        same = if pair[1] == pair[0] { same + 1 } else { 1 };
        if rising >= 8 || same >= 8 {
            return true;
        }
    }
    false
}
