//! Who reaches whom under a partition.

use super::Shape;
use std::collections::VecDeque;

/// The links that are open in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// The peers of each server, in order.
    peers: Vec<Vec<usize>>,
}

impl Links {
    /// What a shape leaves open among `size` servers.
    pub fn under(shape: Shape, size: usize) -> Self {
        let cuts = shape.cuts(size);
        let is_open =
            |a: usize, b: usize| a != b && !cuts.contains(&(a, b)) && !cuts.contains(&(b, a));
        let peers_of = |at| (0..size).filter(|peer| is_open(at, *peer)).collect();
        Self { peers: (0..size).map(peers_of).collect() }
    }

    /// The server with most links.
    pub fn middle(&self) -> usize {
        (0..self.peers.len()).max_by_key(|at| self.peers[*at].len()).unwrap_or_default()
    }

    /// A server and its peers, in order.
    pub fn reach(&self, at: usize) -> Vec<usize> {
        let mut reach = self.peers[at].clone();
        reach.push(at);
        reach.sort_unstable();
        reach
    }

    /// The servers with a way to one, in order; itself included.
    pub fn component(&self, at: usize) -> Vec<usize> {
        (0..self.peers.len()).filter(|to| self.hops(at, *to).is_some()).collect()
    }

    /// The servers in groups with ways among them.
    pub fn components(&self) -> Vec<Vec<usize>> {
        let all = (0..self.peers.len()).map(|at| (at, self.component(at)));
        all.filter(|(at, component)| component.first() == Some(at)).map(|(_, c)| c).collect()
    }

    /// The number of links from one server to another, if there is a way.
    pub fn hops(&self, from: usize, to: usize) -> Option<u64> {
        let mut hops = vec![None; self.peers.len()];
        let mut next = VecDeque::from([(from, 0)]);
        while let Some((at, so_far)) = next.pop_front() {
            if hops[at].is_none() {
                hops[at] = Some(so_far);
                next.extend(self.peers[at].iter().map(|peer| (*peer, so_far + 1)));
            }
        }
        hops[to]
    }

    /// Rounds in which word gets from each server to each of its component, where each server asks
    /// one peer a round, in turn.
    pub fn rounds_to_spread(&self) -> u64 {
        let all = || 0..self.peers.len();
        let hops = all().flat_map(|from| all().filter_map(move |to| self.hops(from, to)));
        hops.max().unwrap_or_default() * self.reach(self.middle()).len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::{Links, Shape};

    #[test]
    fn ways_lead_over_open_links() {
        let chain = Links::under(Shape::Chain(2), 4);
        assert_eq!(chain.reach(3), [0, 2, 3]);
        assert_eq!(chain.hops(2, 1), Some(3));
        assert_eq!(chain.component(2), [0, 1, 2, 3]);
        let one_way = Links::under(Shape::OneWay { from: 0, to: 1 }, 2);
        assert_eq!(one_way.hops(0, 1), None);
        assert_eq!(one_way.components(), [[0], [1]]);
        let star = Links::under(Shape::Constrained { centre: 1, lost: 3 }, 4);
        assert_eq!(star.middle(), 1);
        assert_eq!(star.components(), [vec![0, 1, 2], vec![3]]);
    }

    #[test]
    fn word_spreads_hop_by_hop() {
        assert_eq!(Links::under(Shape::Ring, 7).rounds_to_spread(), 3 * 3);
        assert_eq!(Links::under(Shape::Chain(0), 5).rounds_to_spread(), 4 * 3);
        assert_eq!(Links::under(Shape::Star(0), 5).rounds_to_spread(), 2 * 5);
        assert_eq!(Links::under(Shape::Ring, 1).rounds_to_spread(), 0);
    }
}
