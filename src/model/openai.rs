//! async-openai.
