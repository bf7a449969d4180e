//! How a run begins: what the model is shown before its first reply, and which tools it gets.

use super::protocol::{Protocol, schema};
use super::prompt::{Prompts, listing};
use super::whole_file::WholeFile;
use super::{AgentError, Brief, shown, tools};
use crate::model::{Message, Model, ToolSpec};
use crate::workspace::{Files, Walk};

/// The beginning of a run.
pub(super) struct Opening {
    pub(super) messages: Vec<Message>,
    pub(super) tools: Vec<ToolSpec>,
    /// What the server is to hold each reply to.
    pub(super) schema: Option<serde_json::Value>,
    /// `None`: the model acts by calls.
    pub(super) whole_file: Option<WholeFile>,
}

/// Writes the first two messages.
pub(super) fn begin(
    prompts: &Prompts,
    files: &Files,
    walk: &Walk,
    brief: &Brief,
    model: &dyn Model,
    protocol: Protocol,
) -> Result<Opening, AgentError> {
    let conversation = |system: String| -> Result<Vec<Message>, AgentError> {
        let first = prompts.task(brief, &listing(files, walk))?;
        Ok(vec![Message::System { content: system }, Message::User { content: first }])
    };
    let without = Opening { messages: Vec::new(), tools: Vec::new(), schema: None, whole_file: None };
    match protocol {
        Protocol::Native => {
            Ok(Opening { messages: conversation(prompts.system()?)?, tools: tools::specifications(), ..without })
        }
        Protocol::Schema => {
            let tools = tools::specifications();
            let system = prompts.schema_system(&schema::in_words(&tools))?;
            Ok(Opening { messages: conversation(system)?, schema: Some(schema::of_one_action(&tools)), ..without })
        }
        Protocol::Fenced => Ok(Opening { messages: conversation(prompts.fenced_system()?)?, ..without }),
        Protocol::WholeFile => {
            let shown = shown::select(files, walk, brief, model.card().window);
            let first = prompts.whole_task(brief, &shown)?;
            Ok(Opening {
                messages: vec![
                    Message::System { content: prompts.whole_system()? },
                    Message::User { content: first.clone() },
                ],
                whole_file: Some(WholeFile::new(brief, &shown, first)),
                ..without
            })
        }
    }
}
