use omnipaxos::macros::Entry;

#[derive(Clone, Debug, Entry)]
enum Command {
    Put(#[snapshot(State)] u64),
}

fn main() {}
