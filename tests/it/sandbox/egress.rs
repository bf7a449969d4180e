//! The egress proxy: over real sockets on loopback, its tables, and through real boxes.

mod behave;
mod boxes;
mod hostile;
mod stage;
mod tables;
mod upstream;
