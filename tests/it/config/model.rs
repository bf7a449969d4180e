//! `[model]`: endpoints, what is sent besides, and prices.

use std::time::Duration;

use patchwright::model::openai::Settings;
use patchwright::model::{ProbeMode, Provider};
use patchwright::outcome::Price;
use secrecy::ExposeSecret;
use serde_json::json;

use super::{REMOTE, refusal, resolve};

const FILE: &str = r#"
[model]
endpoint = "https://team.example.org/v1"
name = "large"
provider = "vllm"
context_window = 32768
silence_seconds = 60
probe = "off"
price = { in = 0.15, out = 0.6, cached = 0.03 }
[model.headers]
x-team = "widgets"
X-Gateway = { env = "GATEWAY_KEY" }
[model.body]
top_p = 0.9
chat_template_kwargs = { enable_thinking = false }
[[model.fallback]]
endpoint = "http://127.0.0.1:8080/v1"
provider = "llama.cpp"
key_env = "SPARE_KEY"
"#;

/// What stands plainly in the file is a secret all the same, and a team's name is none.
#[test]
fn secrets_that_are_no_keys_are_kept_out_of_texts() {
    let file = r#"
[model]
endpoint = "https://team.example.org/v1?api-version=2024-10-21&subscription-key=query%2Fsecret-1"
[model.headers]
X-Gateway-Token = "plain-secret-2"
Authorization = "Bearer plain-secret-3"
X-Place = "q7x2mm0d4k9zt5w8b3vj"
X-Team = "the-widgets-team"
[[model.fallback]]
endpoint = "http://127.0.0.1:8080/v1?code=query-secret-4"
"#;
    resolve(REMOTE, &[], Some(file)).unwrap();
    let text =
        "2024-10-21 query/secret-1 plain-secret-2 plain-secret-3 q7x2mm0d4k9zt5w8b3vj the-widgets-team query-secret-4";
    let told = patchwright::logging::redacted(text);
    let left: Vec<&str> = text.split(' ').filter(|word| told.contains(word)).collect();
    assert_eq!(left, ["2024-10-21", "the-widgets-team"], "{told}");
}

#[test]
fn everything_that_the_file_says_reaches_the_endpoints() {
    let variables = [("GATEWAY_KEY", "gateway-4711"), ("SPARE_KEY", "spare-4711"), ("LLM_API_KEY", "key-4711")];
    let config = resolve(REMOTE, &variables, Some(FILE)).unwrap().model;
    let [first, spare] = &config.endpoints[..] else { panic!("{config:?}") };
    let secret = |settings: &Settings| settings.key.as_ref().unwrap().expose_secret().to_owned();
    assert_eq!(first.endpoint.as_ref().unwrap().as_str(), "https://team.example.org/v1");
    assert_eq!(
        (first.provider, first.model.as_deref(), first.window),
        (Some(Provider::Vllm), Some("large"), Some(32768))
    );
    assert_eq!((secret(first), secret(spare)), ("key-4711".into(), "spare-4711".into()));
    assert_eq!(first.silence_timeout, Duration::from_secs(60));
    assert_eq!(first.price, Some(Price { input: 150_000, output: 600_000, cached: Some(30_000) }));
    let headers: Vec<(&str, &str)> =
        first.headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    assert_eq!(headers, [("X-Gateway", "gateway-4711"), ("x-team", "widgets")]);
    let body = json!({ "top_p": 0.9, "chat_template_kwargs": { "enable_thinking": false } });
    assert_eq!(Some(&first.body), body.as_object());
    assert_eq!(first.cache.as_ref().unwrap().to_str(), Some("/home/user/.cache/patchwright/models"));
    assert_eq!(
        (spare.provider, spare.price, spare.silence_timeout),
        (Some(Provider::LlamaCpp), None, first.silence_timeout)
    );
    assert!(spare.headers.is_empty() && spare.body.is_empty());
    assert_eq!(config.probe, ProbeMode::Off);
    let printed = format!("{config:?}");
    assert!(!printed.contains("-4711"), "{printed}");

    let flags = [REMOTE, &["--probe", "always"]].concat();
    assert_eq!(resolve(&flags, &variables, Some(FILE)).unwrap().model.probe, ProbeMode::Always);
    assert_eq!(resolve(REMOTE, &[], None).unwrap().model.probe, ProbeMode::Auto);
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place() {
    let file = |text: &str| refusal(REMOTE, &[], Some(&format!("[model]\n{text}\n")));
    let provider = file("provider = \"psychic\"");
    assert!(provider.contains("unknown variant `psychic`") && provider.contains("`lmstudio`"), "{provider}");
    insta::assert_snapshot!(file("headers = { x = { env = \"NO_SUCH\" } }"), @"model.headers is to come from the variable NO_SUCH, which is not set");
    insta::assert_snapshot!(file("headers = { x = 3 }").lines().last().unwrap(), @r#"expected a text, or { env = "NAME" } for a secret"#);
    insta::assert_snapshot!(file("body = { messages = [] }"), @"model.body: `messages` is set by Patchwright itself. Take it out");
    insta::assert_snapshot!(file("[[model.fallback]]\nendpoint = \"http://127.0.0.1:1\""), @"model.fallback stands in for an endpoint, and none is named. Set model.endpoint");
    insta::assert_snapshot!(file("endpoint = \"http://127.0.0.1:1\"\n[[model.fallback]]\nname = \"x\""), @"model.fallback number 1 has no endpoint");
    insta::assert_snapshot!(file("endpoint = \"http://127.0.0.1:1\"\n[[model.fallback]]\nendpoint = \"ftp://x\""), @"model.fallback number 1 cannot be used: the address must begin with https:// (or http://)");
    insta::assert_snapshot!(file("price = { in = 1.0 }").lines().last().unwrap(), @"missing field `out`");
}
