//! The `dethrone` binary.

fn main() {}
