//! How a run begins: what the model is shown before its first reply, and which tools it gets.

use super::prompt::{Prompts, listing};
use super::protocol::Protocol;
use super::whole_file::WholeFile;
use super::{AgentError, Brief, tools};
use crate::model::{Message, Model, ToolSpec};
use crate::workspace::{Files, Walk};

/// The beginning of a run.
pub(super) struct Opening {
    pub(super) messages: Vec<Message>,
    pub(super) tools: Vec<ToolSpec>,
    /// `None`: the model calls tools.
    pub(super) whole_file: Option<WholeFile>,
}

/// Writes the first two messages.
pub(super) fn begin(
    prompts: &Prompts,
    files: &Files,
    walk: &Walk,
    brief: &Brief,
    model: &dyn Model,
) -> Result<Opening, AgentError> {
    match brief.protocol.resolve(model.card()) {
        Protocol::Tools => Ok(Opening {
            messages: vec![
                Message::System { content: prompts.system()? },
                Message::User { content: prompts.task(brief, &listing(files, walk))? },
            ],
            tools: tools::specifications(),
            whole_file: None,
        }),
        Protocol::WholeFile => {
            let (whole_file, messages) = WholeFile::begin(prompts, files, walk, brief, model.card().window)?;
            Ok(Opening { messages: messages.into(), tools: Vec::new(), whole_file: Some(whole_file) })
        }
    }
}
