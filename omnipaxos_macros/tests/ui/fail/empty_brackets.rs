use omnipaxos::macros::Entry;

#[derive(Clone, Debug, Entry)]
#[snapshot()]
struct Command(u64);

fn main() {}
