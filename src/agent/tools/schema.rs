//! The arguments as a model is told of them, and as it is answered when they do not fit.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Tool;

pub(super) fn fit<T: DeserializeOwned + JsonSchema>(tool: Tool, arguments: Value) -> Result<T, String> {
    serde_json::from_value(arguments).map_err(|error| {
        let schema = schema::<T>();
        let listed = |field: &str| match schema.get(field) {
            Some(Value::Object(map)) => map.keys().cloned().collect::<Vec<_>>().join(", "),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            Some(_) | None => String::new(),
        };
        let required = match listed("required") {
            required if required.is_empty() => String::new(),
            required => format!(" (needed: {required})"),
        };
        format!("{} takes {}{required}, but: {error}. Make the call again.", tool.name(), listed("properties"))
    })
}

/// The schema of `T` without references, without what no model needs.
pub(super) fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut value = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(object) = value.as_object_mut() {
        for noise in ["title", "additionalProperties"] {
            object.remove(noise);
        }
        let properties = object.get_mut("properties").and_then(Value::as_object_mut);
        for property in properties.into_iter().flat_map(|properties| properties.values_mut()) {
            simplify(property);
        }
    }
    value
}

/// `["integer", "null"]` with format and bounds says no more to a model than `integer`.
fn simplify(property: &mut Value) {
    let Some(object) = property.as_object_mut() else { return };
    for noise in ["format", "minimum", "maximum", "default"] {
        object.remove(noise);
    }
    if let Some(Value::Array(types)) = object.get("type")
        && let Some(first) = types.first().cloned()
    {
        object.insert("type".into(), first);
    }
}
