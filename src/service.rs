//! `patchwright serve`: watches dispatch repositories and works their tasks.
