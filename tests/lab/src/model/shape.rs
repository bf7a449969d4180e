//! The shapes in which models write calls as text where no server takes them out.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::script::Call;

/// How a reply's calls are written into its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// An object a line.
    Bare,
    /// One list of objects.
    List,
    /// ```` ```json ````
    Fenced,
    /// ```` ```json ````, and no end of the last fence.
    HalfFenced,
    /// ```` ```tool_code ```` with Python.
    ToolCode,
    /// `<tool_call>` with JSON.
    Hermes,
    /// `<tools>`.
    QwenTools,
    /// `<function=name><parameter=key>`.
    QwenXml,
    /// The same, without the tag around it, and without the last end.
    QwenXmlHalf,
    /// `<tool_call>name<arg_key>`.
    Glm,
    /// `<|python_tag|>` with `parameters`.
    Llama,
    /// `[read(path="a")]`
    Pythonic,
    /// `[TOOL_CALLS][...]`
    Mistral,
    /// `[TOOL_CALLS]name[ARGS]{...}`
    MistralArgs,
    /// `<invoke name="...">`
    Invoke,
    /// `<｜tool▁calls▁begin｜>` with a fence inside.
    Deepseek,
    /// `<|tool_calls_section_begin|>`
    Kimi,
    /// `to=functions.name`
    Harmony,
    /// `<read><path>`
    ToolTags,
    /// `arguments` as a text.
    TextArguments,
    /// `arguments` as a text within a text.
    DoubleText,
    /// `arguments` as a list of one.
    ListArguments,
    /// `{"tool": ..., "path": ...}`
    Flat,
    /// `{"thought": ..., "action": {...}}`
    Action,
}

/// The calls as text.
pub(super) fn write(shape: Shape, calls: &[Call]) -> String {
    let each = |form: &dyn Fn(&Call) -> String| calls.iter().map(form).collect::<Vec<_>>();
    let object = |call: &Call| json!({ "name": call.name, "arguments": call.arguments });
    let lines = |form: &dyn Fn(&Call) -> String| each(form).join("\n");
    match shape {
        Shape::Bare => lines(&|call| object(call).to_string()),
        Shape::List => Value::Array(calls.iter().map(object).collect()).to_string(),
        Shape::Fenced => lines(&|call| format!("```json\n{}\n```", object(call))),
        Shape::HalfFenced => lines(&|call| format!("```json\n{}\n", object(call))),
        Shape::ToolCode => format!("```tool_code\n{}\n```", lines(&python)),
        Shape::Hermes => lines(&|call| format!("<tool_call>\n{}\n</tool_call>", object(call))),
        Shape::QwenTools => lines(&|call| format!("<tools>\n{}\n</tools>", object(call))),
        Shape::QwenXml => lines(&|call| format!("<tool_call>\n{}\n</tool_call>", function(call))),
        Shape::QwenXmlHalf => lines(&|call| function(call).trim_end_matches("</function>").to_owned()),
        Shape::Glm => lines(&|call| {
            let pairs =
                texts(call, &|key, value| format!("<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n"));
            format!("<tool_call>{}\n{pairs}</tool_call>", call.name)
        }),
        Shape::Llama => {
            let calls = each(&|call| json!({ "name": call.name, "parameters": call.arguments }).to_string());
            format!("<|python_tag|>{}", calls.join("; "))
        }
        Shape::Pythonic => format!("[{}]", each(&python).join(", ")),
        Shape::Mistral => format!("[TOOL_CALLS]{}", Value::Array(calls.iter().map(object).collect())),
        Shape::MistralArgs => each(&|call| format!("[TOOL_CALLS]{}[ARGS]{}", call.name, call.arguments)).concat(),
        Shape::Invoke => {
            let calls = lines(&|call| {
                let parameters = texts(call, &|key, value| format!("<parameter name=\"{key}\">{value}</parameter>\n"));
                format!("<invoke name=\"{}\">\n{parameters}</invoke>", call.name)
            });
            format!("<function_calls>\n{calls}\n</function_calls>")
        }
        Shape::Deepseek => {
            let calls = lines(&|call| {
                let (name, arguments) = (&call.name, &call.arguments);
                format!(
                    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>"
                )
            });
            format!("<｜tool▁calls▁begin｜>{calls}<｜tool▁calls▁end｜>")
        }
        Shape::Kimi => {
            let calls = calls.iter().enumerate().map(|(at, call)| {
                let (name, arguments) = (&call.name, &call.arguments);
                format!(
                    "<|tool_call_begin|>functions.{name}:{at}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>"
                )
            });
            format!("<|tool_calls_section_begin|>{}<|tool_calls_section_end|>", calls.collect::<String>())
        }
        Shape::Harmony => lines(&|call| {
            let (name, arguments) = (&call.name, &call.arguments);
            format!("<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{arguments}<|call|>")
        }),
        Shape::ToolTags => lines(&|call| {
            format!("<{0}>\n{1}</{0}>", call.name, texts(call, &|key, value| format!("<{key}>{value}</{key}>\n")))
        }),
        Shape::TextArguments => {
            lines(&|call| json!({ "name": call.name, "arguments": call.arguments.to_string() }).to_string())
        }
        Shape::DoubleText => lines(&|call| {
            let text = Value::String(call.arguments.to_string()).to_string();
            json!({ "name": call.name, "arguments": text }).to_string()
        }),
        Shape::ListArguments => lines(&|call| json!({ "name": call.name, "arguments": [call.arguments] }).to_string()),
        Shape::Flat => lines(&|call| {
            let mut flat = Map::from_iter([("tool".to_owned(), Value::String(call.name.clone()))]);
            flat.extend(call.arguments.as_object().cloned().unwrap_or_default());
            Value::Object(flat).to_string()
        }),
        Shape::Action => lines(&|call| json!({ "thought": "I act.", "action": object(call) }).to_string()),
    }
}

fn function(call: &Call) -> String {
    let parameters = texts(call, &|key, value| format!("<parameter={key}>\n{value}\n</parameter>\n"));
    format!("<function={}>\n{parameters}</function>", call.name)
}

/// Each argument as text.
fn texts(call: &Call, form: &dyn Fn(&str, &str) -> String) -> String {
    let arguments = call.arguments.as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    arguments.map(|(key, value)| form(key, &text(value))).collect()
}

fn python(call: &Call) -> String {
    let arguments = call.arguments.as_object().into_iter().flatten();
    // JSON's texts are Python's, as long as they hold no surrogates.
    let literal = |value: &Value| match value {
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Null => "None".to_owned(),
        other => other.to_string(),
    };
    let pairs: Vec<String> = arguments.map(|(key, value)| format!("{key}={}", literal(value))).collect();
    format!("{}({})", call.name, pairs.join(", "))
}
