#[derive(Debug, Clone)]
pub(super) struct Sqlite;
