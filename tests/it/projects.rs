//! Real projects with packages of the world's registries: set up once, then built and tested without a network. They need
//! the registries, so they run only if they are asked for:
//!
//! ```sh
//! cargo test --test it projects:: -- --ignored --nocapture
//! ```

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A project whose only test fails, and the file to mend.
struct Project {
    name: &'static str,
    program: &'static str,
    files: &'static [(&'static str, &'static str)],
    /// Writes the lock file.
    lock: &'static str,
    file: &'static str,
    wrong: &'static str,
    right: &'static str,
}

const PROJECTS: [Project; 3] = [
    Project {
        name: "Rust with dependencies",
        program: "cargo",
        files: &[
            (
                "Cargo.toml",
                "[package]\nname = \"sums\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nitoa = \"1\"\nsemver = \"1\"\n",
            ),
            (
                "src/lib.rs",
                "pub fn sum(a: i64, b: i64) -> String {\n    itoa::Buffer::new().format(a - b).to_owned()\n}\n\n#[test]\nfn sums() {\n    assert_eq!(sum(1, 2), \"3\");\n    assert!(semver::Version::parse(\"1.2.3\").is_ok());\n}\n",
            ),
            (".gitignore", "target\n"),
        ],
        lock: "cargo generate-lockfile --quiet",
        file: "src/lib.rs",
        wrong: "a - b",
        right: "a + b",
    },
    Project {
        name: "npm",
        program: "npm",
        files: &[
            (
                "package.json",
                "{\"name\": \"sums\", \"version\": \"1.0.0\", \"scripts\": {\"test\": \"node test.js\"}, \"dependencies\": {\"is-odd\": \"3.0.1\"}}\n",
            ),
            ("index.js", "const isOdd = require('is-odd');\n\nmodule.exports = (a) => isOdd(a + 1);\n"),
            ("test.js", "require('assert')(require('./index.js')(3));\n"),
            (".gitignore", "node_modules\n"),
        ],
        lock: "npm install --package-lock-only --silent",
        file: "index.js",
        wrong: "a + 1",
        right: "a",
    },
    Project {
        name: "Python with a wheel that is built",
        program: "python3",
        files: &[
            (
                "pyproject.toml",
                "[build-system]\nrequires = [\"setuptools>=61\"]\nbuild-backend = \"setuptools.build_meta\"\n[project]\nname = \"sums\"\nversion = \"0.1.0\"\ndependencies = [\"idna==3.7\"]\n[tool.setuptools]\npackages = [\"sums\"]\n",
            ),
            ("requirements.txt", "idna==3.7\n"),
            ("sums/__init__.py", "import idna\n\n\ndef total(a, b):\n    return a - b\n"),
            (
                "tests/test_sums.py",
                "import unittest\nimport sums\n\n\nclass Sums(unittest.TestCase):\n    def test_total(self):\n        self.assertEqual(sums.total(1, 2), 3)\n",
            ),
            (".gitignore", ".venv\nbuild\n*.egg-info\n"),
        ],
        lock: "true",
        file: "sums/__init__.py",
        wrong: "a - b",
        right: "a + b",
    },
];

#[test]
#[ignore = "needs the registries of packages"]
fn real_projects_are_set_up_once_and_tested_without_a_network() {
    let place = tempfile::tempdir().unwrap();
    let backend = std::env::var("PATCHWRIGHT_TEST_BACKEND").unwrap_or_else(|_| "namespace".into());
    for project in PROJECTS {
        if which::which(project.program).is_err() {
            eprintln!("SKIPPED: {} is not here", project.program);
            continue;
        }
        let folder = place.path().join(project.program);
        for (name, text) in project.files {
            std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
            std::fs::write(folder.join(name), text).unwrap();
        }
        sh(&folder, project.lock);
        sh(&folder, "git init -q -b main && git add -A && git -c user.name=a -c user.email=a@b commit -qm One");
        let path = folder.join(project.file);
        let mended = std::fs::read_to_string(&path).unwrap().replace(project.wrong, project.right);
        std::fs::write(&path, mended).unwrap();
        let diff = sh(&folder, "git diff && git checkout -q .");
        let times: Vec<u64> = [false, true].map(|reused| work(place.path(), &folder, &backend, &diff, reused)).into();
        println!(
            "{}: set up in {} ms, by the second task in {} ms, {} times faster",
            project.name,
            times[0],
            times[1],
            times[0] / times[1].max(1)
        );
    }
}

/// Works a task with the real program and caches of its own; how long its setup took.
fn work(place: &Path, folder: &Path, backend: &str, diff: &str, reused: bool) -> u64 {
    let home = place.join("home");
    std::fs::create_dir_all(home.join(".cargo")).unwrap();
    let usual = std::env::var_os("HOME").map(std::path::PathBuf::from).unwrap_or_default();
    let rustup = std::env::var_os("RUSTUP_HOME").map_or_else(|| usual.join(".rustup"), std::path::PathBuf::from);
    let task = format!("Apply this:\n\n```diff\n{diff}```\n");
    let output = Command::new(env!("CARGO_BIN_EXE_patchwright"))
        .args(["run", "--json", "--sandbox", backend, "--task", &task, "--repo"])
        .arg(folder)
        .env("HOME", &home)
        .env("CARGO_HOME", home.join(".cargo"))
        .env("RUSTUP_HOME", rustup)
        .env("XDG_CACHE_HOME", place.join("cache"))
        .env("XDG_CONFIG_HOME", place.join("config"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcome["conclusion"], "verified", "{told}");
    let setup = &outcome["setup"];
    assert!(setup["steps"].as_array().is_some_and(|steps| !steps.is_empty()), "{setup}");
    for step in setup["steps"].as_array().unwrap() {
        assert_eq!(step["ending"], "done", "{setup}");
    }
    assert_eq!((&setup["reused"], &setup["refused"]), (&Value::from(reused), &Value::Array(Vec::new())), "{setup}");
    setup["milliseconds"].as_u64().unwrap()
}

fn sh(folder: &Path, line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
