//! The end of the faults but for some links: what servers do all the same.

use super::ending::{Partly, Place, DECIDES_WITHIN, ELECTIONS_END_WITHIN, LIVE_WITHIN};
use crate::{
    checker::{violated, Check, Violation},
    cluster::Cluster,
    coverage::Kind,
    plan::{Links, Notify, Partial, Service, Shape},
    value::SimEntry,
};

/// A proposal gets to the leader from a server with a link to it, and from one with a link to such
/// a server.
const FORWARDED_OVER: u64 = 2;

/// The number of rounds for which a leader waits for promises, where earlier ones of it waited in vain.
const MOST_PREPARE_ROUNDS: u64 = 64;

/// The most leaders that may follow each other before proposals are decided.
const MOST_ELECTIONS: u32 = 3;

impl<T: SimEntry> Cluster<T> {
    /// Leaves some links cut, and waits until what is promised then has come about.
    ///
    /// # Errors
    /// It does not come about in time, or something else does not hold.
    pub(super) fn end_partly(&mut self, partial: Partial) -> Result<Partly, Violation> {
        self.count(Kind::PartialHeal);
        self.set_conditions(Notify::Nobody)?;
        self.cut(partial.shape);
        self.allow_a_lengthened_round();
        if let Shape::Unpromised(_) = partial.shape {
            self.allow_rounds(MOST_PREPARE_ROUNDS);
        }
        let links = Links::under(partial.shape, self.size());
        let mut partly = Partly::default();
        match partial.service {
            Service::Follows => {
                let middle = links.middle();
                let reach = links.reach(middle);
                partly.live = self.become_live(&reach, "to be partly live")?;
                self.decide_one_more(middle, &reach)?;
                self.read_at_each(&reach)?;
            }
            Service::Decides => {
                self.let_elections_end()?;
                partly.live = self.elect_in(&links)?;
            }
            Service::Learns => {
                self.count(Kind::NoQuorum);
                self.let_elections_end()?;
            }
        }
        for component in links.components() {
            partly.learned = partly.learned.max(self.catch_up(&links, &component)?);
        }
        self.let_observers_learn()?;
        match partial.service {
            Service::Follows | Service::Decides => partly.decides = self.decide_afar(&links)?,
            Service::Learns => {}
        }
        Ok(partly)
    }

    fn let_elections_end(&mut self) -> Result<(), Violation> {
        for _ in 0..ELECTIONS_END_WITHIN * self.election_timeout() {
            self.pass_tick()?;
        }
        Ok(())
    }

    /// There must be a leader that has decided all, with all its peers.
    fn elect_in(&mut self, links: &Links) -> Result<f64, Violation> {
        let component = links.component(links.middle());
        let has_leader = |cluster: &Self, component: &[usize]| {
            let leader = cluster.leader_in(links, component);
            leader.is_some_and(|leader| cluster.agree(&links.reach(leader)))
        };
        self.wait_for(&component, LIVE_WITHIN, "to elect a leader with some links cut", has_leader)
    }

    /// All in a component must decide what one of them has decided. Also where there is no quorum:
    /// the longest decided log among them is what they can learn, and it may get longer only while
    /// there is a leader. Undecided entries may differ.
    ///
    /// A server asks one peer a round for more, in turn, so word takes as many rounds over a link
    /// as a server has peers. Then it comes in chunks, one a round trip.
    fn catch_up(&mut self, links: &Links, component: &[usize]) -> Result<f64, Violation> {
        let timeouts = LIVE_WITHIN + links.rounds_to_spread();
        let all_have = |cluster: &Self, component: &[usize]| {
            let decided = |at: &usize| cluster.decided_idx(*at);
            component
                .iter()
                .all(|at| decided(at).is_some() && decided(at) == decided(&component[0]))
        };
        let what = format!("for {component:?} to learn what one of them has decided");
        match self.wait_for(component, timeouts, &what, all_have) {
            Err(Violation { check: Check::Progress, what }) => violated(Check::LearnsAll, what),
            other => other,
        }
    }

    /// What is proposed where it can reach the leader is decided, and learned by all that have
    /// a way to the leader.
    ///
    /// It can reach the leader from a server that knows the leader and has a link to it, or to
    /// another server that has: a proposal is passed on once, to a peer which answers that it is
    /// happy with that leader. Not promised from farther away. Not promised at a server that knows
    /// nobody who leads (its peers are not happy, so they do not report their leader), nor at one
    /// that takes itself for the leader and has no quorum: it holds what it is given, and cannot
    /// tell that another was elected in a lower ballot than its own. Nor where the log ends with a
    /// stop sign that is not decided, though its leader may be overtaken: there, proposals are
    /// refused until something is decided in its place.
    ///
    /// Where links are cut, elections may last longer than the run waits. If another
    /// server leads meanwhile, which may be farther away, it begins again. If a write quorum is smaller than a
    /// read quorum, it waits for the end of an election, too: a server that reaches only the former leads until
    /// one that reaches both takes over.
    ///
    /// Nothing is asked of servers that all have the whole of a log that has ended: it needs no leader.
    fn decide_afar(&mut self, links: &Links) -> Result<f64, Violation> {
        let component = links.component(links.middle());
        if self.checker().is_stopped() && self.agree(&component) {
            return Ok(0.0);
        }
        let mut elections = 0;
        loop {
            elections += 1;
            let Some(leader) = self.leader_in(links, &component) else {
                if elections >= MOST_ELECTIONS || !self.has_smaller_write_quorum() {
                    let servers = self.describe();
                    let what = format!("the leader was lost at rest: {servers}");
                    return violated(Check::Progress, what);
                }
                self.elect_in(links)?;
                continue;
            };
            let decided = self.decide_under(leader, links, &component);
            match decided {
                Err(Violation { check: Check::Progress, .. })
                    if elections < MOST_ELECTIONS
                        && self.leader_in(links, &component).is_some_and(|now| now != leader) => {}
                other => return other,
            }
        }
    }

    /// As [`decide_afar`](Self::decide_afar), while `leader` leads.
    fn decide_under(
        &mut self,
        leader: usize,
        links: &Links,
        component: &[usize],
    ) -> Result<f64, Violation> {
        let middle = links.middle();
        let hops = |at: usize| links.hops(leader, at).unwrap_or(u64::MAX);
        let knows = |at: usize| self.follows(at) == self.follows(leader);
        let refuses = |at: usize| !self.checker().is_stopped() && self.ends_with_stop_sign(at);
        let can_tell = |at: &usize| hops(*at) <= FORWARDED_OVER && knows(*at) && !refuses(*at);
        let farthest = component.iter().copied().filter(can_tell).max_by_key(|at| hops(*at));
        let mut slowest: f64 = 0.0;
        for at in Some(middle).filter(can_tell).into_iter().chain(farthest) {
            let place = if hops(at) == FORWARDED_OVER { Place::Afar } else { Place::Near };
            if place == Place::Afar {
                self.count(Kind::FarProposal);
            }
            let has = |cluster: &Self, id: u64| {
                let len = cluster.checker().decided_len();
                cluster.is_decided_or_stopped(id)
                    && component.iter().all(|at| cluster.decided_idx(*at) == Some(len))
            };
            // A hop takes a round at most.
            let timeouts = DECIDES_WITHIN + hops(at) + links.rounds_to_spread();
            let what = format!("to decide one more in {component:?} from server {at}");
            match self.decide_from(at, place, timeouts, &what, has)? {
                Some(took) => slowest = slowest.max(took),
                None => break,
            }
        }
        Ok(slowest)
    }
}
