//! What model and server really do, found by three short requests, and kept for later runs.
//!
//! 1. *count*: an answer that its bound ends. Is the system message taken, does `length` stand there, are tokens counted?
//! 2. *call*: one tool, to be called twice. Does a call come in the server's form, or as text? Do both come at once?
//! 3. *schema*: a question whose prompt does not tell of the schema. Does the answer fit it?
//!
//! What a failure leaves open is [`Ability::Unknown`]; a probe never ends a run. Nothing is concluded from
//! `tool_choice: required`, which is not sent at all: some servers take it and make calls up.

mod cache;

use std::time::Duration;

use serde_json::{Value, json};

use super::link::Failure;
use super::openai::OpenAi;
use super::provider::Provider;
use super::{Abilities, Ability, Message, ModelError, Reply, Request, ToolSpec, discover};

/// For the three requests together; a model on a processor writes 20 tokens a second.
const LIMIT: Duration = Duration::from_secs(20);
/// Of the answer that is to be cut.
const SHORT: u32 = 12;
/// Of the other answers.
const ENOUGH_TOKENS: u32 = 96;
const TOOL: &str = "look";
const PATHS: [&str; 2] = ["a.txt", "b.txt"];

/// Whether a model is probed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeMode {
    /// Unless it was probed lately, or the provider's documentation tells.
    #[default]
    Auto,
    Off,
    Always,
}

/// Where the abilities of a card come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The probe is off.
    Nothing,
    Documented,
    /// By an earlier run.
    Kept,
    Tried,
    /// The time was over, or the server failed, before all was tried.
    TriedInPart,
}

impl Found {
    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Nothing => "not tried",
            Self::Documented => "as documented",
            Self::Kept => "tried by an earlier run",
            Self::Tried => "tried now",
            Self::TriedInPart => "tried in part: the server failed, or took too long",
        }
    }
}

/// What the operator can do where something is missing; one sentence.
pub fn advice(provider: Provider, abilities: &Abilities) -> Option<&'static str> {
    if !abilities.native_calls.is_no() {
        return None;
    }
    match provider {
        Provider::Vllm => Some("Start vLLM with --enable-auto-tool-choice and the --tool-call-parser of the model"),
        Provider::LlamaCpp => Some("Start llama-server with --jinja, and a model whose chat template knows tools"),
        Provider::Ollama | Provider::LmStudio => Some("Take a model that is listed with tools, if it is to call them"),
        Provider::Other | Provider::OpenAi | Provider::Azure | Provider::OpenRouter | Provider::Anthropic => None,
    }
}

/// Fills the abilities of a model's card in, and the window if it shows only now.
pub async fn probe(model: &mut OpenAi, mode: ProbeMode) -> Found {
    match mode {
        ProbeMode::Off => return Found::Nothing,
        ProbeMode::Auto => {
            if let Some(documented) = model.provider.documented() {
                model.card.abilities = Some(documented);
                return Found::Documented;
            }
            if let Some(kept) = cache::read(model) {
                model.card.abilities = Some(kept);
                return Found::Kept;
            }
        }
        ProbeMode::Always => {}
    }
    if model.provider == Provider::Ollama {
        // Loading takes its time, and would begin anew for whoever does not wait for it.
        if let Err(error) = discover::load(&model.link, &model.card.name, model.silence()).await {
            tracing::debug!(%error, "the model could not be loaded before the probe");
        }
        let window = discover::running_window(&model.link, &model.card.name).await;
        model.card.window = window.or(model.card.window);
    }
    let mut abilities = Abilities::default();
    let tried = tokio::time::timeout(LIMIT, try_all(model, &mut abilities)).await;
    model.card.abilities = Some(abilities);
    match tried {
        Ok(Ok(())) => {
            cache::write(model, &abilities, true);
            Found::Tried
        }
        Ok(Err(failure)) => {
            tracing::debug!(error = %failure.error, "the probe broke off");
            Found::TriedInPart
        }
        Err(_) => {
            // A machine that is so slow is so for the next run, too, which should not wait again.
            cache::write(model, &abilities, false);
            Found::TriedInPart
        }
    }
}

/// The three requests. An error ends them: the server fails, or is gone.
async fn try_all(model: &OpenAi, abilities: &mut Abilities) -> Result<(), Failure> {
    let system = Message::System { content: "You follow instructions exactly.".into() };
    let count = Message::User { content: "Count from 1 to 60 in digits, with a space between them.".into() };
    let with_system = [system.clone(), count.clone()];
    let reply = match said(model.attempt(&cold(&with_system, SHORT)).await)? {
        Ok(reply) => {
            abilities.system_role = Ability::Yes;
            Some(reply)
        }
        Err(_) => {
            let alone = said(model.attempt(&cold(&[count], SHORT)).await)?.ok();
            abilities.system_role = if alone.is_some() { Ability::No } else { Ability::Unknown };
            alone
        }
    };
    if let Some(reply) = &reply {
        read_count(reply, abilities);
    }

    let alone = abilities.system_role.is_no();
    let leading = |user: &str| {
        let user = Message::User { content: user.into() };
        if alone { vec![user] } else { vec![system.clone(), user] }
    };
    let [first, second] = PATHS;
    let messages = leading(&format!(
        "Look at {first} and at {second}: call the tool `{TOOL}` once for each of them, now. Write nothing else."
    ));
    let tools = [tool()];
    let request = Request { tools: &tools, enough: Some(&both_named), ..cold(&messages, ENOUGH_TOKENS) };
    match said(model.attempt(&request).await)? {
        Ok(reply) => read_calls(&reply, abilities),
        // Without tools it answers; with one it does not.
        Err(_) => abilities.native_calls = Ability::seen(false),
    }

    let messages = leading("What colour is the sky on a clear day? Answer in one short sentence.");
    let schema = json!({
        "type": "object",
        "properties": { "colour": { "type": "string", "enum": ["blue", "green"] } },
        "required": ["colour"],
        "additionalProperties": false,
    });
    let request = Request { schema: Some(&schema), ..cold(&messages, ENOUGH_TOKENS) };
    match said(model.attempt(&request).await)? {
        Ok(reply) if model.was_refused_a_schema() => {
            tracing::debug!(content = reply.content, "the schema was refused");
            abilities.schema = Ability::No;
        }
        Ok(reply) => read_schema(&reply, abilities),
        Err(_) => abilities.schema = Ability::No,
    }
    Ok(())
}

fn cold(messages: &[Message], max_tokens: u32) -> Request<'_> {
    Request { temperature: Some(0.0), ..Request::new(messages, max_tokens) }
}

fn tool() -> ToolSpec {
    ToolSpec {
        name: TOOL,
        description: "Shows a file.".into(),
        parameters: json!({
            "type": "object",
            "properties": { "path": { "type": "string" } },
            "required": ["path"],
        }),
    }
}

/// The inner error is the server's refusal of the request; the outer one is the end of the probe.
fn said(result: Result<Reply, Failure>) -> Result<Result<Reply, Failure>, Failure> {
    match result {
        // Templates that cannot take a request make some servers answer 500.
        Err(failure) if matches!(failure.error, ModelError::Server { status: Some(400..=500), .. }) => Ok(Err(failure)),
        Err(failure) => Err(failure),
        Ok(reply) => Ok(Ok(reply)),
    }
}

fn read_count(reply: &Reply, abilities: &mut Abilities) {
    let written = reply.usage.and_then(|usage| usage.completion_tokens);
    abilities.usage = Ability::seen(reply.usage.is_some_and(|usage| usage.prompt_tokens.is_some_and(|read| read > 0)));
    abilities.stop_reasons = match (reply.finish_reason.as_str(), written) {
        ("length", _) => Ability::Yes,
        (_, Some(written)) if written >= u64::from(SHORT) => Ability::No,
        // It may have stopped by itself.
        _ => Ability::Unknown,
    };
    if !reply.reasoning.trim().is_empty() {
        abilities.reasoning = Ability::Yes;
    } else if reply.content.contains("<think") {
        abilities.reasoning = Ability::No;
    }
}

/// A call as text is complete once it names both files and closes something.
fn both_named(content: &str) -> bool {
    PATHS.iter().all(|path| content.contains(path)) && content.trim_end().ends_with(['}', ']', '>', '`'])
}

fn read_calls(reply: &Reply, abilities: &mut Abilities) {
    let fits = |arguments: &str| {
        let arguments: Option<Value> = serde_json::from_str(arguments).ok();
        arguments.is_some_and(|arguments| arguments.get("path").is_some_and(Value::is_string))
    };
    if !reply.calls.is_empty() {
        let good = reply.calls.iter().filter(|call| call.name == TOOL && fits(&call.arguments)).count();
        abilities.native_calls = Ability::seen(good == reply.calls.len());
        abilities.text_calls = Ability::No;
        abilities.parallel_calls = Ability::seen(good >= PATHS.len());
        return;
    }
    let content = &reply.content;
    let as_text = content.contains(TOOL) && content.contains(PATHS[0]) && content.contains(['{', '<']);
    let was_cut = reply.finish_reason == "length" && !as_text;
    if was_cut {
        // It was still thinking.
        return;
    }
    abilities.native_calls = Ability::No;
    abilities.text_calls = Ability::seen(as_text);
    if as_text {
        abilities.parallel_calls = Ability::seen(content.contains(PATHS[1]));
    }
}

fn read_schema(reply: &Reply, abilities: &mut Abilities) {
    let object = serde_json::from_str::<Value>(reply.content.trim()).ok();
    let fits = object
        .as_ref()
        .and_then(Value::as_object)
        .is_some_and(|object| object.len() == 1 && object.get("colour").is_some_and(|colour| colour.is_string()));
    abilities.schema = match (fits, reply.content.trim().is_empty()) {
        (true, _) => Ability::Yes,
        // All of it was thinking.
        (false, true) => Ability::Unknown,
        (false, false) => Ability::No,
    };
}
