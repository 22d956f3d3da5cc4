use omnipaxos::macros::Entry;

#[derive(Clone, Debug, Entry)]
#[entry(crate = "op")]
struct Number(u64);

fn main() {}
