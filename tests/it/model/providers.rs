//! What each kind of server is told on the wire, and what is read of its own pages.

use patchwright::model::openai::{OpenAi, Settings, connect};
use patchwright::model::{Message, Model, Provider, Request};
use patchwright::outcome::{Price, Usage};
use serde_json::{Value, json};

use super::{Answer, Seen, Server, ask, delta, done, end, hello, one_model};

/// Connects with these settings, asks once, and gives the model, the notes, and what the server has seen.
async fn asked(
    pages: Value,
    answers: Vec<Answer>,
    change: impl Fn(Settings) -> Settings,
) -> (OpenAi, Vec<String>, Vec<Seen>) {
    let server = Server::start(pages, answers).await;
    let (model, notes) = connect(&change(server.settings())).await.unwrap();
    ask(&model).await.unwrap();
    server.assert_all_answers_used();
    let seen = server.seen.lock().unwrap().clone();
    (model, notes, seen)
}

fn chat(seen: &[Seen]) -> &Seen {
    seen.iter().find(|seen| super::is_chat(&seen.path)).unwrap()
}

#[tokio::test]
async fn llama_cpp_counts_in_each_piece_and_keeps_its_prefix() {
    let pages = json!({ "list": { "data": [{ "id": "m", "meta": { "n_params": 1_500_000_000_u64, "n_ctx_train": 131072 } }] },
        "/props": { "default_generation_settings": { "n_ctx": 16384 }, "build_info": "b1" } });
    let (model, _, seen) = asked(pages, vec![hello()], |settings| settings).await;
    assert_eq!(model.provider(), Provider::LlamaCpp);
    assert_eq!((model.card().window, model.card().parameters), (Some(16384), Some(1_500_000_000)));
    let body = &chat(&seen).body;
    assert_eq!((&body["cache_prompt"], &body["timings_per_token"]), (&json!(true), &json!(true)));
}

#[tokio::test]
async fn vllm_counts_in_each_piece() {
    let pages = json!({ "list": { "data": [{ "id": "m", "owned_by": "vllm", "max_model_len": 32768 }] },
        "/version": { "version": "0.11.0" } });
    let (model, _, seen) = asked(pages, vec![hello()], |settings| settings).await;
    assert_eq!((model.provider(), model.card().window), (Provider::Vllm, Some(32768)));
    let options = &chat(&seen).body["stream_options"];
    assert_eq!(*options, json!({ "include_usage": true, "continuous_usage_stats": true }));
}

#[tokio::test]
async fn lm_studio_tells_the_window_of_a_loaded_model() {
    let pages = json!({ "list": { "data": [{ "id": "m" }] },
        "/api/v0/models": { "data": [{ "id": "m", "state": "loaded", "max_context_length": 131072, "loaded_context_length": 4096 }] } });
    let (model, _, _) = asked(pages, vec![hello()], |settings| settings).await;
    assert_eq!((model.provider(), model.card().window), (Provider::LmStudio, Some(4096)));
    let pages = json!({ "list": { "data": [{ "id": "m" }] },
        "/api/v0/models": { "data": [{ "id": "m", "state": "not-loaded", "max_context_length": 131072 }] } });
    let (model, _, _) = asked(pages, vec![hello()], |settings| settings).await;
    assert_eq!((model.provider(), model.card().window), (Provider::LmStudio, None));
}

fn ollama(name: &str) -> Value {
    json!({ "list": { "data": [{ "id": name, "owned_by": "library" }] }, "/api/version": { "version": "0.12.0" },
        "/api/ps": { "models": [{ "name": name, "context_length": 4096 }] } })
}

#[tokio::test]
async fn ollama_runs_with_the_window_of_the_operator() {
    let mut pages = ollama("qwen2.5-coder:14b");
    pages["/api/create"] = json!({ "status": "success" });
    let wanted = |settings: Settings| Settings { window: Some(32768), ..settings };
    let (model, notes, seen) = asked(pages.clone(), vec![hello()], wanted).await;
    assert_eq!(model.provider(), Provider::Ollama);
    assert_eq!((model.card().name.as_str(), model.card().window), ("qwen2.5-coder:14b-ctx32768", Some(32768)));
    let create = seen.iter().find(|seen| seen.path == "/api/create").unwrap();
    insta::assert_snapshot!(create.body, @r#"{"model":"qwen2.5-coder:14b-ctx32768","from":"qwen2.5-coder:14b","parameters":{"num_ctx":32768},"stream":false}"#);
    assert_eq!(chat(&seen).body["model"], "qwen2.5-coder:14b-ctx32768");
    insta::assert_snapshot!(notes.join("\n"), @r"
    the model is `qwen2.5-coder:14b`
    Ollama runs `qwen2.5-coder:14b` with 32768 tokens under the name `qwen2.5-coder:14b-ctx32768`
    ");

    // It is written down once, and then taken.
    pages["list"]["data"] = json!([{ "id": "qwen2.5-coder:14b" }, { "id": "qwen2.5-coder:14b-ctx32768" }]);
    let (model, _, seen) = asked(pages.clone(), vec![hello()], wanted).await;
    assert_eq!(model.card().name, "qwen2.5-coder:14b-ctx32768");
    assert!(!seen.iter().any(|seen| seen.path == "/api/create"));

    // Nothing is written down where the window is right already.
    let same = |settings: Settings| Settings { window: Some(4096), ..settings };
    let (model, _, seen) = asked(pages, vec![hello()], same).await;
    assert_eq!((model.card().name.as_str(), model.card().window), ("qwen2.5-coder:14b", Some(4096)));
    assert!(!seen.iter().any(|seen| seen.path == "/api/create"));
}

#[tokio::test]
async fn what_ollama_refuses_is_told_with_what_to_do() {
    let wanted = |settings: Settings| Settings { window: Some(32768), ..settings };
    let (model, notes, seen) = asked(ollama("qwen"), vec![hello()], wanted).await;
    assert_eq!((model.card().name.as_str(), model.card().window), ("qwen", Some(4096)));
    assert_eq!(seen.iter().find(|seen| seen.path == "/api/create").unwrap().body["model"], "qwen:ctx32768");
    insta::assert_snapshot!(notes.join("\n"), @r"
    the model is `qwen`
    Ollama runs `qwen` with 4096 tokens, not with the 32768 tokens of model.context_window: the model server answered with an error (HTTP 404): no such page. Start it with OLLAMA_CONTEXT_LENGTH=32768
    ");
}

#[tokio::test]
async fn openai_gets_the_newer_limit_and_its_reasoning_models_no_temperature() {
    for (name, temperature) in [("gpt-4.1", json!(0.5)), ("gpt-5-mini", Value::Null), ("o3", Value::Null)] {
        let pages = json!({ "list": { "data": [{ "id": name }] }, "/props": { "default_generation_settings": {} } });
        let hosted = |settings: Settings| Settings { provider: Some(Provider::OpenAi), ..settings };
        let (_, _, seen) = asked(pages, vec![hello()], hosted).await;
        let body = &chat(&seen).body;
        assert_eq!((&body["max_completion_tokens"], &body["max_tokens"]), (&json!(100), &Value::Null), "{name}");
        assert_eq!(body["temperature"], temperature, "{name}");
        let paths: Vec<&str> = seen.iter().map(|seen| seen.path.as_str()).collect();
        assert_eq!(paths, ["/v1/models", "/v1/chat/completions"], "the pages of local servers are not asked for");
    }
}

#[tokio::test]
async fn azure_gets_its_version_its_header_and_the_name_of_the_deployment() {
    let server = Server::start(json!({}), vec![hello(), hello()]).await;
    let endpoint = format!("http://127.0.0.1:{}/openai/deployments/coder?api-version=2024-10-21", server.port);
    let settings = Settings {
        endpoint: Some(endpoint.parse().unwrap()),
        provider: Some(Provider::Azure),
        key: Some("azure-key-0123".to_owned().into()),
        model: Some("coder".into()),
        ..server.settings()
    };
    let (model, _) = connect(&settings).await.unwrap();
    ask(&model).await.unwrap();
    let chats = server.chats();
    let last = chats.last().unwrap();
    assert_eq!(last.path, "/openai/deployments/coder/chat/completions?api-version=2024-10-21");
    assert_eq!((last.headers["api-key"].as_str(), last.headers.get("authorization")), ("azure-key-0123", None));
    assert!(last.body["max_completion_tokens"].is_u64());
    assert!(!model.endpoint().contains("api-version"), "{}", model.endpoint());
    server.assert_all_answers_used();
}

#[tokio::test]
async fn openrouter_says_what_an_answer_costs_and_a_price_of_the_operator_wins() {
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 1000, "completion_tokens": 100, "cost": 0.0042,
        "prompt_tokens_details": { "cached_tokens": 400 } } });
    let answer = || Answer::Stream(vec![delta(json!({ "content": "x" })), end("stop"), usage.to_string(), done()]);
    let server = Server::start(one_model(), vec![answer(), answer()]).await;
    let settings = Settings { provider: Some(Provider::OpenRouter), ..server.settings() };
    let (model, _) = connect(&settings).await.unwrap();
    assert_eq!(ask(&model).await.unwrap().usage.unwrap().micros, Some(4200));
    let headers = server.chats()[0].headers.clone();
    assert!(headers["x-title"] == "Patchwright" && headers["http-referer"].starts_with("https://"), "{headers:?}");
    let price = Price { input: 1_000_000, output: 10_000_000, cached: Some(500_000) };
    let (model, _) = connect(&Settings { price: Some(price), ..settings }).await.unwrap();
    assert_eq!(ask(&model).await.unwrap().usage.unwrap().micros, Some(600 + 200 + 1000));
}

#[tokio::test]
async fn anthropic_lets_its_models_be_listed() {
    let keyed = |settings: Settings| Settings {
        provider: Some(Provider::Anthropic),
        key: Some("sk-ant-0123".to_owned().into()),
        ..settings
    };
    let (_, _, seen) = asked(one_model(), vec![hello()], keyed).await;
    for seen in &seen {
        assert_eq!(
            (seen.headers["x-api-key"].as_str(), seen.headers["anthropic-version"].as_str()),
            ("sk-ant-0123", "2023-06-01")
        );
        assert_eq!(seen.headers["authorization"], "Bearer sk-ant-0123");
    }
}

#[tokio::test]
async fn headers_and_fields_of_the_operator_are_sent_and_secrets_are_not_told() {
    let secret = "gateway-secret-4711";
    let own = |settings: Settings| Settings {
        headers: vec![("X-Gateway".into(), secret.to_owned().into()), ("x-team".into(), "widgets".to_owned().into())],
        body:
            json!({ "top_p": 0.9, "stream_options": { "x": 1 }, "chat_template_kwargs": { "enable_thinking": false } })
                .as_object()
                .unwrap()
                .clone(),
        ..settings
    };
    let (_, _, seen) = asked(one_model(), vec![hello()], own).await;
    assert!(seen.iter().all(|seen| seen.headers["x-gateway"] == secret && seen.headers["x-team"] == "widgets"));
    let body = &chat(&seen).body;
    assert_eq!((&body["top_p"], &body["chat_template_kwargs"]["enable_thinking"]), (&json!(0.9), &json!(false)));
    assert_eq!(body["stream_options"], json!({ "include_usage": true, "x": 1 }));

    let echo = json!({ "error": { "message": format!("no access with {secret} and a key&4711, a%20key%264711") } });
    let echo = echo.to_string();
    let server = Server::start(one_model(), vec![Answer::Whole(400, "", echo)]).await;
    let mut settings = own(server.settings());
    settings.endpoint.as_mut().unwrap().set_query(Some("code=a%20key%264711"));
    let (model, _) = connect(&settings).await.unwrap();
    let error = ask(&model).await.unwrap_err();
    for text in [format!("{error:?}"), format!("{error}"), format!("{model:?}")] {
        for secret in [secret, "a key&4711", "a%20key%264711"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert!(!format!("{settings:?}").contains(secret));
}

#[tokio::test]
async fn a_provider_is_known_by_its_address() {
    // Nobody is asked: connecting fails before, or the address alone decides.
    for (address, provider) in [
        ("https://api.openai.com/v1", Some("openai")),
        ("https://team.openai.azure.com/openai/v1", Some("azure")),
        ("https://openrouter.ai/api/v1", Some("openrouter")),
        ("https://api.anthropic.com/v1", Some("anthropic")),
        ("https://openrouter.ai.example.org/v1", None),
        ("http://127.0.0.1:8080/v1", None),
    ] {
        let wanted = provider.map(|name| serde_json::from_value::<Provider>(json!(name)).unwrap());
        assert_eq!(Provider::of_address(&address.parse().unwrap()), wanted, "{address}");
    }
}

#[tokio::test]
async fn cached_tokens_are_read_however_they_are_called() {
    let deep_seek = json!({ "choices": [], "usage": {
        "prompt_tokens": 100, "completion_tokens": 2, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36 } });
    let llama_cpp = json!({ "choices": [], "usage": { "prompt_tokens": 100, "completion_tokens": 2 },
        "timings": { "cache_n": 64, "prompt_n": 36, "predicted_n": 2 } });
    let only_timings = json!({ "choices": [], "timings": { "cache_n": 64, "prompt_n": 36, "predicted_n": 2 } });
    for told in [deep_seek, llama_cpp, only_timings] {
        let server = Server::start(
            one_model(),
            vec![Answer::Stream(vec![delta(json!({ "content": "x" })), end("stop"), told.to_string(), done()])],
        )
        .await;
        let messages = [Message::User { content: "u".into() }];
        let reply = server.model().await.complete(&Request::new(&messages, 10)).await.unwrap();
        let wanted =
            Usage { prompt_tokens: Some(100), completion_tokens: Some(2), cached_tokens: Some(64), ..Usage::default() };
        assert_eq!(reply.usage, Some(wanted), "{told}");
    }
}
