//! The schema of one action, for servers that hold a reply to a schema (`response_format: json_schema`). Pure.
//!
//! It is made from the tools' own schemas, with what the makers of grammars behind such servers (llama.cpp, xgrammar) all
//! know: objects with every property named, `anyOf` over a constant name, no references. The thought comes first, so that
//! the model may think before it decides; what it writes then is read like any call in JSON.

use serde_json::{Value, json};

use crate::model::ToolSpec;

/// The schema of a reply that holds one call of one of `tools`.
pub fn of_one_action(tools: &[ToolSpec]) -> Value {
    let actions: Vec<Value> = tools
        .iter()
        .map(|tool| {
            let mut arguments = tool.parameters.clone();
            closed(&mut arguments);
            json!({
                "type": "object",
                "properties": { "name": { "type": "string", "const": tool.name }, "arguments": arguments },
                "required": ["name", "arguments"],
                "additionalProperties": false,
            })
        })
        .collect();
    json!({
        "type": "object",
        "properties": { "thought": { "type": "string" }, "action": { "anyOf": actions } },
        "required": ["thought", "action"],
        "additionalProperties": false,
    })
}

/// The tools in words, a line each: servers do not show the schema to the model.
pub fn in_words(tools: &[ToolSpec]) -> String {
    let lines = tools.iter().map(|tool| {
        let needed = |name: &str| {
            let required = tool.parameters.get("required").and_then(Value::as_array);
            required.is_some_and(|names| names.iter().any(|needed| needed == name))
        };
        let properties = tool.parameters.get("properties").and_then(Value::as_object);
        let arguments = properties.into_iter().flatten().map(|(name, property)| {
            let optional = if needed(name) { "" } else { ", optional" };
            let described = property.get("description").and_then(Value::as_str);
            let described = described.map(|text| format!(": {text}")).unwrap_or_default();
            format!("{name} ({}{optional}{described})", kind_of(property))
        });
        let arguments: Vec<String> = arguments.collect();
        format!("- {}: {} Arguments: {}", tool.name, tool.description, arguments.join("; "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn kind_of(property: &Value) -> &str {
    property.get("type").and_then(Value::as_str).unwrap_or("value")
}

fn closed(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("type").is_some_and(|kind| kind == "object") {
        object.insert("additionalProperties".into(), false.into());
        object.entry("required").or_insert_with(|| json!([]));
        object.entry("properties").or_insert_with(|| json!({}));
    }
    let inner = object.get_mut("properties").and_then(Value::as_object_mut);
    inner.into_iter().flat_map(|properties| properties.values_mut()).for_each(closed);
    object.get_mut("items").into_iter().for_each(closed);
}
