//! Outcome -> text for people. Pure.
use crate::task::TaskId;
/// Line 1 of the pull request's body: what the dispatching system reads.
pub fn metadata_line(task: &TaskId) -> String {
    format!("<!-- agent_task_metadata {{\"task_id\": \"{task}\"}} -->")
}
