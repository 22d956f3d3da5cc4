use omnipaxos::macros::Entry;

#[derive(Clone, Debug, Entry)]
#[snapshot = "A"]
struct Command(u64);

fn main() {}
