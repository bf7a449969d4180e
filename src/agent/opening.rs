//! How a run begins: what the model is shown before its first reply, and which tools it gets.

use tokio::runtime::{Handle, RuntimeFlavor};

use super::failing::{self, Failing};
use super::instructions::{self, Instruction};
use super::interest::{Interest, Paths};
use super::map::{self, Index, Map};
use super::profile::{Allowance, Profile};
use super::prompt::{Prompts, top_folders};
use super::protocol::{Protocol, schema};
use super::tokens::weigh;
use super::whole_file::WholeFile;
use super::{AgentError, Brief, tools};
use crate::model::{Message, Model, ToolSpec};
use crate::outcome::TestEnding;
use crate::workspace::{Files, Walk};

/// What the frame of a tool weighs in a request.
const TOOL_FRAME: u64 = 14;

/// The beginning of a run.
pub(super) struct Opening {
    pub(super) profile: Profile,
    pub(super) prompts: Prompts,
    pub(super) messages: Vec<Message>,
    pub(super) tools: Vec<ToolSpec>,
    /// What the server is to hold each reply to.
    pub(super) schema: Option<serde_json::Value>,
    pub(super) tool_weight: u64,
    /// The most that an observation may weigh; `None`: it is never cut.
    pub(super) most_observed: Option<u64>,
    /// `None`: the model acts by calls.
    pub(super) whole_file: Option<WholeFile>,
}

/// What is known of the repository in the light of the task.
#[derive(Debug)]
pub(super) struct View {
    pub(super) interest: Interest,
    pub(super) map: Map,
    pub(super) failing: Failing,
    pub(super) instructions: Vec<Instruction>,
    pub(super) allowance: Allowance,
}

/// Looks at the repository, and writes the first two messages.
pub(super) fn begin(
    files: &Files,
    walk: &Walk,
    brief: &Brief,
    model: &dyn Model,
    protocol: Protocol,
) -> Result<Opening, AgentError> {
    let card = model.card();
    let window = card.window;
    let profile = brief.profile.of(card);
    let prompts = Prompts::load(brief.prompts.as_deref(), profile, protocol)?;
    let view = look(files, walk, brief, profile.allowance(window));
    let conversation = |system: String| -> Result<[Message; 2], AgentError> {
        Ok([Message::System { content: system }, Message::User { content: prompts.task(brief, &view)? }])
    };
    let offered = || offered(tools::specifications(), profile);
    let (messages, tools, schema, whole_file) = match protocol {
        Protocol::Native => (conversation(prompts.system()?)?, offered(), None, None),
        Protocol::Schema => {
            let tools = offered();
            let system = prompts.schema_system(&schema::in_words(&tools))?;
            (conversation(system)?, Vec::new(), Some(schema::of_one_action(&tools)), None)
        }
        Protocol::Fenced => (conversation(prompts.fenced_system()?)?, Vec::new(), None, None),
        Protocol::WholeFile => {
            let (whole_file, messages) = WholeFile::begin(&prompts, files, walk, brief, &view)?;
            (messages, Vec::new(), None, Some(whole_file))
        }
    };
    Ok(Opening {
        profile,
        prompts,
        messages: messages.into(),
        tool_weight: weight_of(&tools),
        tools,
        schema,
        most_observed: whole_file.is_none().then(|| profile.observation(window)),
        whole_file,
    })
}

/// What a request's tools weigh.
pub(super) fn weight_of(tools: &[ToolSpec]) -> u64 {
    let weight = |tool: &ToolSpec| weigh(tool.name) + weigh(&tool.description) + weigh(&tool.parameters.to_string());
    tools.iter().map(|tool| weight(tool) + TOOL_FRAME).sum()
}

fn offered(tools: Vec<ToolSpec>, profile: Profile) -> Vec<ToolSpec> {
    tools
        .into_iter()
        .filter(|tool| tools::Tool::ALL.iter().any(|own| own.name() == tool.name && profile.offers(*own)))
        .collect()
}

/// Reads what the first message shows.
pub(super) fn look(files: &Files, walk: &Walk, brief: &Brief, allowance: Allowance) -> View {
    off_the_runtime(|| look_at(files, walk, brief, allowance))
}

fn look_at(files: &Files, walk: &Walk, brief: &Brief, allowance: Allowance) -> View {
    let failing = brief.baseline.as_ref().filter(|run| run.ending != TestEnding::Passed);
    let task = format!("{}\n{}", brief.title, brief.instruction);
    let interest = Interest::of(&task, failing.map(|run| run.excerpt.as_str()));
    let paths = Paths::of(walk);
    let index = Index::read(files, walk, &paths, &interest);
    let map = map::render(&top_folders(files), walk, &paths, &index, &interest, allowance.map);
    let failing = failing::code(files, walk, &paths, &index, &interest.mentions, allowance.code);
    let instructions = match &brief.base {
        Some(base) => instructions::collect(base, walk, &paths, &interest, allowance.instructions),
        None => Vec::new(),
    };
    View { map, failing, instructions, interest, allowance }
}

/// Runs what blocks for up to seconds where it holds nobody else up.
fn off_the_runtime<T>(work: impl FnOnce() -> T) -> T {
    let is_shared = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if is_shared { tokio::task::block_in_place(work) } else { work() }
}
