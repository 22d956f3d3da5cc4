use omnipaxos::macros::Entry;

#[derive(Clone, Debug, Entry)]
#[snapshot]
#[snapshot(B)]
struct Command(u64);

fn main() {}
