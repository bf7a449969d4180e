//! Probes: what is found of models of all kinds, and what is kept of it.

use std::path::Path;

use lab::model::{Model as LabModel, Probed, Script};
use patchwright::model::openai::Settings;
use patchwright::model::probe::Found;
use patchwright::model::{Ability, Endpoints, Model, ProbeMode, Provider};

async fn lab(probed: Probed) -> LabModel {
    LabModel::start(Script { probed, ..Script::new(Vec::new()) }).await.unwrap()
}

fn settings(lab: &LabModel, cache: Option<&Path>) -> Settings {
    Settings {
        endpoint: Some(lab.endpoint().parse().unwrap()),
        cache: cache.map(Path::to_owned),
        ..Settings::default()
    }
}

async fn connect(settings: Settings, mode: ProbeMode) -> Endpoints {
    Endpoints::connect(vec![settings], mode).await.unwrap().0
}

/// What a probe finds, on one line, with how it came to it.
async fn found(probed: Probed) -> String {
    let lab = lab(probed).await;
    let model = connect(settings(&lab, None), ProbeMode::Auto).await;
    assert_eq!(lab.finish(), Vec::<String>::new());
    assert!(lab.requests().is_empty());
    format!("{:?}, {} requests: {}", model.found(), lab.probes().len(), model.card().abilities.unwrap())
}

#[tokio::test]
async fn models_of_all_kinds_are_found_out() {
    insta::assert_snapshot!(found(Probed::Able).await, @"Tried, 3 requests: native calls: yes, calls as text: no, several calls at once: yes, schema: yes, system role: yes, stop reasons: yes, usage: yes, reasoning apart: unknown");
    insta::assert_snapshot!(found(Probed::Small).await, @"Tried, 3 requests: native calls: no, calls as text: yes, several calls at once: yes, schema: no, system role: yes, stop reasons: unknown, usage: no, reasoning apart: unknown");
    insta::assert_snapshot!(found(Probed::Refusing).await, @"Tried, 5 requests: native calls: no, calls as text: unknown, several calls at once: unknown, schema: no, system role: no, stop reasons: yes, usage: yes, reasoning apart: unknown");
    insta::assert_snapshot!(found(Probed::Thinking).await, @"Tried, 3 requests: native calls: yes, calls as text: no, several calls at once: no, schema: yes, system role: yes, stop reasons: yes, usage: yes, reasoning apart: yes");
    insta::assert_snapshot!(found(Probed::Broken).await, @"TriedInPart, 1 requests: native calls: unknown, calls as text: unknown, several calls at once: unknown, schema: unknown, system role: unknown, stop reasons: unknown, usage: unknown, reasoning apart: unknown");
}

#[tokio::test]
async fn a_call_as_text_ends_the_answer_of_the_probe() {
    let lab = lab(Probed::Small).await;
    connect(settings(&lab, None), ProbeMode::Always).await;
    let asked = lab.probes();
    assert!(asked.iter().all(|request| request["max_tokens"].as_u64().unwrap() <= 96), "{asked:#?}");
    assert!(asked.iter().all(|request| request["tool_choice"].is_null()), "{asked:#?}");
}

#[tokio::test]
async fn what_was_found_is_kept_for_a_week_unless_it_is_damaged() {
    let lab = lab(Probed::Able).await;
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("models");
    let again = |mode| connect(settings(&lab, Some(&cache)), mode);
    assert_eq!(again(ProbeMode::Auto).await.found(), Found::Tried);
    let model = again(ProbeMode::Auto).await;
    assert_eq!((model.found(), lab.probes().len()), (Found::Kept, 3));
    assert_eq!(model.card().abilities.unwrap().native_calls, Ability::Yes);
    assert_eq!(again(ProbeMode::Always).await.found(), Found::Tried);
    assert_eq!(again(ProbeMode::Off).await.card().abilities, None);

    let files: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let good = std::fs::read_to_string(file).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&good).unwrap();
    let changed = |field: &str, value: serde_json::Value| {
        let mut kept = kept.clone();
        kept[field] = value;
        kept.to_string()
    };
    let at = kept["at"].as_u64().unwrap();
    for damaged in [
        String::new(),
        good[..good.len() / 2].to_owned(),
        changed("format", 0.into()),
        changed("server", "another version".into()),
        changed("model", "another".into()),
        changed("at", (at - 8 * 24 * 3600).into()),
        changed("at", (at + 3600).into()),
        changed("at", (at - 2 * 24 * 3600).into()).replace("\"whole\":true", "\"whole\":false"),
    ] {
        std::fs::write(file, &damaged).unwrap();
        assert_eq!(again(ProbeMode::Auto).await.found(), Found::Tried, "{damaged}");
        assert_eq!(again(ProbeMode::Auto).await.found(), Found::Kept);
    }
}

#[tokio::test]
async fn a_probe_that_fails_is_not_kept_and_stops_nothing() {
    let lab = lab(Probed::Broken).await;
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let model = connect(settings(&lab, Some(folder.path())), ProbeMode::Auto).await;
        assert_eq!(model.found(), Found::TriedInPart);
    }
    // Nor is a folder that cannot be written to.
    let lab = self::lab(Probed::Able).await;
    let model = connect(settings(&lab, Some(Path::new("/proc/no/folder"))), ProbeMode::Auto).await;
    assert_eq!(model.found(), Found::Tried);
}

#[tokio::test]
async fn nobody_pays_for_what_is_documented() {
    let lab = lab(Probed::Broken).await;
    let hosted = Settings { provider: Some(Provider::OpenAi), ..settings(&lab, None) };
    let model = connect(hosted, ProbeMode::Auto).await;
    assert_eq!((model.found(), lab.probes().len()), (Found::Documented, 0));
    assert_eq!(model.card().abilities.unwrap().schema, Ability::Yes);
}
