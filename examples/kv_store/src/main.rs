//! A replicated key-value store over TCP.

fn main() {}
