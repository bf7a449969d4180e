//! Whatever a server sends: no panic, and a reply that can be sent back in a history.

use std::collections::BTreeSet;

use patchwright::model::{Message, Model, Request};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Answer, Server, end, one_model};

/// The names of fields that are read.
const NAMES: &[&str] = &[
    "choices",
    "delta",
    "message",
    "content",
    "reasoning",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "id",
    "index",
    "finish_reason",
    "usage",
    "prompt_tokens",
    "timings",
    "text",
];

/// JSON with the names that are read, in all the wrong places.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..300).prop_map(Value::from),
        prop_oneof!["[a-z{}\" <>`/\\n]{0,12}", Just("tool_calls".to_owned()), Just("a".to_owned())]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(NAMES), inner, 0..4).prop_map(|fields| Value::Object(
                fields.into_iter().map(|(name, value)| (name.into(), value)).collect()
            )),
        ]
    })
}

/// A piece of a stream in which at least the outer shape is right.
fn piece() -> impl Strategy<Value = Value> {
    let call = (value(), value(), value(), value()).prop_map(|(id, name, arguments, index)| {
        json!({ "id": id, "index": index, "function": { "name": name, "arguments": arguments } })
    });
    let calls = prop::collection::vec(call, 0..4);
    prop_oneof![
        value(),
        (value(), calls, value()).prop_map(|(content, calls, reason)| {
            json!({ "choices": [{ "delta": { "content": content, "tool_calls": calls }, "finish_reason": reason }] })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn anything_becomes_a_reply_or_an_error(pieces in prop::collection::vec(piece(), 0..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let events: Vec<String> = pieces.iter().map(Value::to_string).chain([end("stop")]).collect();
            let server = Server::start(one_model(), vec![Answer::Stream(events)]).await;
            let messages = [Message::User { content: "u".into() }];
            let reply = server.model().await.complete(&Request::new(&messages, 10)).await;
            if let Ok(reply) = reply {
                assert!(!reply.finish_reason.is_empty());
                let ids: BTreeSet<&str> = reply.calls.iter().map(|call| call.id.as_str()).collect();
                assert_eq!(ids.len(), reply.calls.len(), "{:?}", reply.calls);
                assert!(reply.calls.iter().all(|call| !call.id.is_empty() && !call.name.is_empty()));
            }
        });
    }
}
