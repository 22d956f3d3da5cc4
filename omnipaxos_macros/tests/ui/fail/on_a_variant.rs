use omnipaxos::macros::Entry;

#[derive(Clone, Debug, Entry)]
enum Command {
    #[snapshot(State)]
    Put(u64),
}

fn main() {}
