//! The repository's own tests: which command, and what it says.
