//! Partitions, whole and partial.

/// Which links are cut. Servers are positions.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Messages from one server to another.
    OneWay {
        /// The sender.
        from: usize,
        /// The receiver.
        to: usize,
    },
    /// The link of two servers.
    TwoWay {
        /// One end.
        a: usize,
        /// The other end.
        b: usize,
    },
    /// All links of one server.
    Isolated(usize),
    /// All messages to one server.
    Deaf(usize),
    /// All messages from one server.
    Mute(usize),
    /// No link; but promises to one server which bear some of the log are lost, as where they are more than
    /// the network carries.
    Unpromised(usize),
    /// No link; but the Prepares of one server are lost, except to another.
    Unprepared {
        /// The sender.
        from: usize,
        /// The server that gets them.
        but: usize,
    },
    /// All links between two groups; a server belongs to the one its bit names.
    Halves(u64),
    /// All links but those of one server (quorum loss).
    Star(usize),
    /// A star, and another server without any link (constrained election).
    Constrained {
        /// The one that has links.
        centre: usize,
        /// The one that has none.
        lost: usize,
    },
    /// All links but those between neighbours, in an order that begins at some server.
    Chain(usize),
    /// A chain of which the ends are neighbours too. Nothing is cut among three or fewer.
    Ring,
    /// All links but these.
    FewLinks {
        /// A set of [`Shape::link`]s.
        open: u64,
    },
}

impl Shape {
    /// The link of two different servers, in a set of such.
    pub fn link(a: usize, b: usize) -> u64 {
        1 << (8 * a.min(b) + a.max(b))
    }

    /// The directed links that are cut among `size` servers.
    pub fn cuts(self, size: usize) -> Vec<(usize, usize)> {
        let all = (0..size).flat_map(|from| (0..size).map(move |to| (from, to)));
        all.filter(|(from, to)| from != to && self.is_cut(*from, *to, size)).collect()
    }

    /// Whether it concerns one server or link, and not all servers of a configuration. Then
    /// it cuts the links of observers, too.
    pub fn is_of_any(self) -> bool {
        match self {
            Shape::OneWay { .. }
            | Shape::TwoWay { .. }
            | Shape::Isolated(_)
            | Shape::Deaf(_)
            | Shape::Mute(_)
            | Shape::Unpromised(_)
            | Shape::Unprepared { .. } => true,
            Shape::Halves(_)
            | Shape::Star(_)
            | Shape::Constrained { .. }
            | Shape::Chain(_)
            | Shape::Ring
            | Shape::FewLinks { .. } => false,
        }
    }

    fn is_cut(self, from: usize, to: usize, size: usize) -> bool {
        let side = |groups: u64, server: usize| groups >> server & 1;
        match self {
            Shape::OneWay { from: f, to: t } => (from, to) == (f, t),
            Shape::TwoWay { a, b } => (from, to) == (a, b) || (from, to) == (b, a),
            Shape::Isolated(server) => from == server || to == server,
            Shape::Deaf(server) => to == server,
            Shape::Mute(server) => from == server,
            Shape::Unpromised(_) | Shape::Unprepared { .. } => false,
            Shape::Halves(groups) => side(groups, from) != side(groups, to),
            Shape::Star(centre) => from != centre && to != centre,
            Shape::Constrained { centre, lost } => {
                from == lost || to == lost || (from != centre && to != centre)
            }
            Shape::Chain(first) => {
                let place = |server: usize| (server + size - first % size) % size;
                place(from).abs_diff(place(to)) > 1
            }
            Shape::Ring => {
                let apart = from.abs_diff(to);
                apart > 1 && apart + 1 < size
            }
            Shape::FewLinks { open } => open & Self::link(from, to) == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Shape;

    #[test]
    fn shapes_cut_what_they_say() {
        let open = |shape: Shape, size: usize| {
            let cuts = shape.cuts(size);
            let all = (0..size).flat_map(|a| (0..size).map(move |b| (a, b)));
            all.filter(|link| link.0 < link.1 && !cuts.contains(link)).collect::<Vec<_>>()
        };
        assert_eq!(open(Shape::Star(1), 4), [(0, 1), (1, 2), (1, 3)]);
        assert_eq!(open(Shape::Constrained { centre: 1, lost: 3 }, 4), [(0, 1), (1, 2)]);
        assert_eq!(open(Shape::Chain(0), 4), [(0, 1), (1, 2), (2, 3)]);
        assert_eq!(open(Shape::Chain(2), 4), [(0, 1), (0, 3), (2, 3)]);
        assert_eq!(open(Shape::Ring, 5), [(0, 1), (0, 4), (1, 2), (2, 3), (3, 4)]);
        assert_eq!(open(Shape::Ring, 3), [(0, 1), (0, 2), (1, 2)]);
        let links = Shape::link(0, 1) | Shape::link(3, 2) | Shape::link(6, 1);
        assert_eq!(open(Shape::FewLinks { open: links }, 7), [(0, 1), (1, 6), (2, 3)]);
        assert_eq!(open(Shape::Halves(0b0011), 4), [(0, 1), (2, 3)]);
        assert_eq!(open(Shape::Isolated(0), 3), [(1, 2)]);
        assert_eq!(Shape::OneWay { from: 0, to: 1 }.cuts(3), [(0, 1)]);
        assert_eq!(Shape::Deaf(1).cuts(3), [(0, 1), (2, 1)]);
        assert_eq!(Shape::Mute(1).cuts(3), [(1, 0), (1, 2)]);
    }
}
