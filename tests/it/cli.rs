//! The real binary with bad input: each gets an error that names cause and remedy, and leaves nothing behind.
