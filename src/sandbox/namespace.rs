//! Linux namespaces.
/// The first argument that makes our binary a sandbox helper.
pub const HELPER_ARGUMENT: &str = "sandbox-helper";
pub struct Launcher;
