//! Where the operator's package managers get packages, as boxes are told of it.

use std::collections::BTreeMap;
use std::path::Path;

use patchwright::sandbox::Surroundings;
use patchwright::sandbox::sources::Sources;

use super::{all_backends_with, command, text};

fn find(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Sources {
    let home = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }
    // The machine's own files stay out of it.
    let nothing = home.path().join("nothing").display().to_string();
    let mut all = BTreeMap::from([("PIP_CONFIG_FILE".to_owned(), nothing)]);
    all.extend(variables.iter().map(|(name, value)| (name.to_string(), value.replace("HOME", &path(home.path())))));
    Sources::find(Some(home.path()), &BTreeMap::new(), &all)
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// Files and variables, and what is handed on: variables, then hosts, then what is left out.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)], &'a [&'a str], &'a [&'a str], &'a [&'a str]);

#[test]
fn addresses_are_handed_on_and_logins_are_not() {
    let cases: &[Case<'_>] = &[
        (&[], &[], &[], &[], &[]),
        (
            &[(".npmrc", "; mine\nregistry = https://npm.example/a/\n//npm.example/a/:_authToken=CANARY\n")],
            &[],
            &["YARN_NPM_REGISTRY_SERVER=https://npm.example/a/", "npm_config_registry=https://npm.example/a/"],
            &["npm.example:443"],
            &[],
        ),
        (
            &[(".npmrc", "registry=https://file.example/\n@own:registry=\"http://scope.example:4873/\"\n")],
            &[("npm_config_registry", "https://variable.example/")],
            &["YARN_NPM_REGISTRY_SERVER=https://variable.example/", "npm_config_registry=https://variable.example/"],
            &["scope.example:4873", "variable.example:443"],
            &[],
        ),
        (&[(".npmrc", "registry=https://me:CANARY@npm.example/\n")], &[], &[], &[], &["npm's registry"]),
        (&[(".npmrc", "registry=https://npm.example/?token=CANARY\n")], &[], &[], &[], &["npm's registry"]),
        (&[(".npmrc", "registry=https://${CANARY}.example/\n")], &[], &[], &[], &[]),
        (&[(".npmrc", "registry=file:///CANARY\n")], &[], &[], &[], &[]),
        (
            &[(
                ".config/pip/pip.conf",
                "[global]\nindex-url = https://pypi.example/simple\nextra-index-url =\n  https://one.example/simple\n  \
                 https://me:CANARY@two.example/simple\n",
            )],
            &[("PIP_CONFIG_FILE", "HOME/.config/pip/pip.conf")],
            &[
                "PIP_EXTRA_INDEX_URL=https://one.example/simple",
                "PIP_INDEX_URL=https://pypi.example/simple",
                "UV_DEFAULT_INDEX=https://pypi.example/simple",
            ],
            &["one.example:443", "pypi.example:443"],
            &["an extra index of pip's"],
        ),
        (
            &[(".config/go/env", "GOPROXY=https://file.example\n")],
            &[("GOPROXY", "https://go.example,https://other.example|direct"), ("GOSUMDB", "off")],
            &["GOPROXY=https://go.example,https://other.example|direct", "GOSUMDB=off"],
            &["go.example:443", "other.example:443"],
            &[],
        ),
        (&[], &[("GOPROXY", "https://me:CANARY@go.example,direct")], &[], &[], &["GOPROXY"]),
        (
            &[(
                ".cargo/config.toml",
                "[registry]\ntoken = \"CANARY\"\n[source.crates-io]\nreplace-with = \"mirror\"\n[source.mirror]\nregistry \
                 = \"sparse+https://crates.example:8443/index/\"\n[registries.own]\nindex = \
                 \"https://me:CANARY@own.example/\"\ntoken = \"CANARY\"\n",
            )],
            &[],
            &[],
            &["crates.example:8443"],
            &["a registry of cargo's"],
        ),
        // A service of this machine's loopback is not to be seen in a box.
        (&[(".npmrc", "registry=http://127.0.0.1:4873/\n")], &[], &[], &[], &["npm's registry"]),
        (&[], &[("PIP_INDEX_URL", "http://LocalHost.:3141/simple")], &[], &[], &["pip's index"]),
        (&[], &[("UV_DEFAULT_INDEX", "http://[::1]:3141/simple")], &[], &[], &["uv's index"]),
        (&[], &[("GOPROXY", "http://[::ffff:127.0.0.2]:3000,direct")], &[], &[], &["GOPROXY"]),
        (
            &[],
            &[("PIP_EXTRA_INDEX_URL", "https://near.localhost.example http://box.localhost http://0.0.0.0:80")],
            &["PIP_EXTRA_INDEX_URL=https://near.localhost.example"],
            &["near.localhost.example:443"],
            &["an extra index of pip's"],
        ),
        (
            &[(
                ".cargo/config.toml",
                "[source.crates-io]\nreplace-with = \"mirror\"\n[source.mirror]\nregistry = \
                 \"sparse+http://localhost:8000/index/\"\n",
            )],
            &[],
            &[],
            &[],
            &["a registry of cargo's"],
        ),
    ];
    for (files, variables, handed, hosts, left_out) in cases {
        let found = find(files, variables);
        let environment: Vec<String> =
            found.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(environment, *handed, "{files:?}");
        assert_eq!(found.hosts.iter().collect::<Vec<_>>(), *hosts, "{files:?}");
        assert_eq!(found.left_out.keys().collect::<Vec<_>>(), *left_out, "{files:?}");
        assert!(!format!("{found:?}").contains("CANARY"), "{found:?}");
        assert!(!found.cargo.as_deref().unwrap_or_default().contains("replace-with") || !hosts.is_empty(), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_are_told_of_them_with_and_without_a_network() {
    let sources = find(
        &[
            (
                ".cargo/config.toml",
                "[source.crates-io]\nreplace-with = \"it's\"\n[source.\"it's\"]\ndirectory = \"/a\"\n",
            ),
            (".npmrc", "registry=https://npm.example/\n"),
        ],
        &[],
    );
    for (choice, backend) in all_backends_with(|settings| settings.sources = sources.clone()).await {
        let tree = tempfile::tempdir().unwrap();
        let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
        let line =
            "cat /.cargo/config.toml; echo $npm_config_registry; touch /.cargo/x /.cargo/config.toml || echo fixed";
        let printed = text(&sandbox.run(&command(line)).await.unwrap());
        assert!(printed.contains("[source.\"it's\"]\ndirectory = \"/a\"\n"), "{choice:?}: {printed}");
        assert!(printed.contains("https://npm.example/\n") && printed.contains("fixed"), "{choice:?}: {printed}");
        sandbox.close().await.unwrap();
    }
}
