//! Outcome -> text for people. Pure.
