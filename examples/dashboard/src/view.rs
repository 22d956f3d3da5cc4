//! The whole cluster on one screen.

use crate::{
    board::{Board, Presence, Server},
    links::Link,
    members::Part,
};
use omnipaxos::{
    status::{Role, Status},
    util::NodeId,
};
use omnipaxos_ui::{
    ratatui::{
        buffer::Buffer,
        layout::{Constraint, Layout, Rect},
        style::{Color, Style, Stylize},
        text::{Line, Span},
        widgets::Widget,
    },
    widgets::{bordered, grouped, Column, FittingTable, LogPane, RateChart},
    Link as Heard,
};

/// Always shown, also where nothing else is.
const HELP: [&str; 3] = [
    "up/down select  1-9 cut or heal the link to that server  i isolate  h heal all",
    "k kill  r restart  d remove  n a new server joins  p one joins in its place",
    "a appends on/off  Enter its own view, and back  q quit",
];

/// What is shown.
pub(crate) struct View<'a> {
    pub(crate) board: &'a Board,
    pub(crate) selected: NodeId,
    /// Only the selected server, as its own dashboard would show it.
    pub(crate) is_close: bool,
}

impl Widget for View<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(buf.area);
        let help_lines = u16::try_from(HELP.len()).unwrap_or(0);
        let [shown, help] =
            Layout::vertical([Constraint::Fill(1), Constraint::Length(help_lines)]).areas(area);
        for (y, text) in (help.y..help.bottom()).zip(HELP) {
            buf.set_stringn(help.x, y, text, usize::from(help.width), Style::new().cyan());
        }
        let server = self.board.servers().get(&self.selected);
        match server.filter(|_| self.is_close) {
            Some(server) => self.render_server(server, shown, buf),
            None => self.render_cluster(shown, buf),
        }
    }
}

impl View<'_> {
    /// What the server showed last, and whether it still reports.
    fn render_server(&self, server: &Server, area: Rect, buf: &mut Buffer) {
        let why_not = match self.board.presence(self.selected) {
            Presence::Reports => None,
            Presence::Killed => Some("is killed"),
            Presence::Silent => Some("is silent"),
        };
        let [line, shown] = Layout::vertical([
            Constraint::Length(u16::from(why_not.is_some())),
            Constraint::Fill(1),
        ])
        .areas(area);
        if let Some(why_not) = why_not {
            let text = format!("server {} {why_not}: this is what it showed last", self.selected);
            buf.set_stringn(line.x, line.y, text, usize::from(line.width), Style::new().red());
        }
        server.app.render(shown, buf);
    }

    fn render_cluster(&self, area: Rect, buf: &mut Buffer) {
        let servers = u16::try_from(self.board.servers().len()).unwrap_or(u16::MAX);
        let [table, rates, log] = Layout::vertical([
            Constraint::Length(servers.saturating_add(3)),
            Constraint::Max(5),
            Constraint::Fill(1),
        ])
        .areas(area);
        self.render_servers(table, buf);
        for (panel, is_log) in [(rates, false), (log, true)] {
            match (panel.height < 3, is_log) {
                (true, _) => {}
                (false, false) => RateChart::new(self.board.rates()).render(panel, buf),
                (false, true) => LogPane::new(self.board.log()).render(panel, buf),
            }
        }
    }

    fn render_servers(&self, area: Rect, buf: &mut Buffer) {
        let board = self.board;
        let leader = board.leader().map_or("no leader".to_owned(), |pid| format!("leader {pid}"));
        let rate = board.rates().latest().map_or("-".to_owned(), grouped);
        let decided = grouped(board.decided_idx());
        let (id, first_idx) = (board.members().configuration_id(), board.members().first_idx());
        let begins = match first_idx {
            0 => String::new(),
            idx => format!(" from {}", grouped(idx)),
        };
        let title = Line::from(format!(
            " {leader} · decided {decided} · {rate} entries/s · configuration {id}{begins} "
        ));
        let legend = Line::from(" links: + answers  . silent  x cut ").right_aligned();
        let inside = bordered(title, area, buf);
        if inside.height > 0 {
            let edge = Rect { y: inside.bottom(), height: 1, x: inside.x, width: inside.width };
            legend.render(edge.intersection(buf.area), buf);
        }
        let selected = board.servers().keys().position(|pid| *pid == self.selected);
        FittingTable::new(self.columns()).select(selected.unwrap_or(0)).render(inside, buf);
    }

    fn columns(&self) -> Vec<Column> {
        let servers = self.board.servers();
        let cells = |cell: &dyn Fn(NodeId, &Server) -> Span<'static>| {
            servers.iter().map(|(pid, server)| cell(*pid, server)).collect()
        };
        let told = |cell: &dyn Fn(&Status) -> String| {
            cells(&|_, server| {
                let report = server.report.as_ref();
                Span::raw(report.map_or("-".to_owned(), |(report, _)| cell(&report.status)))
            })
        };
        let decided = self.board.decided_idx();
        let mut columns = vec![
            Column::text(" server", cells(&|pid, _| Span::raw(format!(" {pid}")))),
            Column::text("state", cells(&|pid, server| self.state(pid, server))),
        ];
        columns.extend(servers.keys().map(|to| {
            Column::text(to.to_string(), cells(&|from, server| self.link(from, *to, server)))
        }));
        columns.extend([
            Column::numbers("decided", told(&|status| grouped(status.decided_idx))),
            Column::numbers(
                "behind",
                told(&|status| grouped(decided.saturating_sub(status.decided_idx))),
            ),
            Column::numbers("ballot", told(&|status| status.promise.n.to_string())),
            Column::numbers(
                "follows",
                told(&|status| status.leader.map_or("-".to_owned(), |pid| pid.to_string())),
            ),
            Column::numbers(
                "waiting",
                told(&|status| {
                    grouped(status.waiting.entries.saturating_add(status.pending.entries))
                }),
            ),
        ]);
        columns
    }

    fn state(&self, pid: NodeId, server: &Server) -> Span<'static> {
        let part = self.board.members().part(pid);
        match (self.board.presence(pid), &server.report, part) {
            (Presence::Killed, _, _) => Span::styled("killed", Color::Red),
            (Presence::Silent, _, _) | (_, None, _) => Span::styled("silent", Color::Yellow),
            (Presence::Reports, Some((report, _)), Part::Member | Part::Observer) => {
                role(report.status.role)
            }
            (Presence::Reports, Some(_), Part::Leaver) => Span::styled("leaves", Color::Yellow),
            (Presence::Reports, Some(_), Part::Joiner) => Span::styled("joins", Color::Yellow),
            (Presence::Reports, Some((report, _)), Part::Removed | Part::Dropped) => {
                match report.status.may_stop {
                    Some(true) => Span::raw("may stop"),
                    Some(false) | None => Span::styled("removed", Color::Yellow),
                }
            }
        }
    }

    fn link(&self, from: NodeId, to: NodeId, server: &Server) -> Span<'static> {
        let known = server.app.servers();
        let heard = known.iter().find(|other| other.pid == to).map(|other| other.link);
        match heard {
            _ if self.board.cut().contains(&Link::between(from, to)) => {
                Span::styled("x", Color::Red)
            }
            _ if from == to => Span::raw("-"),
            _ if server.report.is_none() => Span::raw(" "),
            Some(Heard::Answers) => Span::styled("+", Color::Green),
            Some(Heard::Silent) => Span::styled(".", Color::Yellow),
            // They exchange no heartbeats: one of them is no member.
            _ => Span::raw(" "),
        }
    }
}

fn role(role: Role) -> Span<'static> {
    let name = Span::raw(role.to_string());
    match role {
        Role::Leading => name.fg(Color::Green),
        Role::Following => name,
        Role::Halted => name.fg(Color::Red),
        _ => name.fg(Color::Yellow),
    }
}

#[cfg(test)]
mod tests {
    use super::{View, HELP};
    use crate::{
        board::{self, Board, Presence},
        links::Link,
        protocol::{Change, Number, Refusal, Report},
    };
    use omnipaxos_storage::memory_storage::MemoryStorage;
    use omnipaxos_ui::ratatui::{buffer::Buffer, layout::Rect, widgets::Widget};
    use std::time::Duration;

    /// What a server of the first configuration reports.
    fn report(pid: u64, servers: u64) -> Report {
        let replica = board::config(pid, servers, &[]).build(MemoryStorage::<Number>::default());
        let mut status = replica.unwrap().status();
        status.decided_idx = 1_000 * pid;
        Report { status, digest: 0, log: Vec::new(), refusal: None }
    }

    /// Servers of which one is killed and one silent, and a link that is cut.
    fn board(servers: u64) -> Board {
        let mut board = Board::new(servers);
        for pid in 1..=servers {
            board.add(pid, board::config(pid, servers, &[]));
            board.set_running(pid, true);
            board.hear(pid, report(pid, servers), Duration::from_secs(pid.min(3)));
        }
        board.set_running(servers, false);
        board.set_cut(Link::between(1, 3), true);
        board.note("the link 1-3 is cut".to_owned(), Duration::from_secs(3));
        board.look(Duration::from_secs(3));
        board
    }

    /// Server 4 joins. Then server 1 leaves, and later it may stop.
    fn board_that_changes() -> Board {
        let mut board = board(3);
        board.set_running(3, true);
        board.add(4, board::config(4, 3, &[1, 2, 3]));
        board.set_running(4, true);
        board.members_mut().want(4);
        for pid in 1..=4 {
            let mut report = report(pid, 4);
            report.status.decided_idx = 3_000;
            if pid == 4 {
                (report.status.nodes, report.status.epoch_idx) = (Vec::new(), None);
                (report.status.configuration_id, report.status.decided_idx) = (0, 1_234);
            }
            board.hear(pid, report, Duration::from_secs(4));
        }
        board.look(Duration::from_secs(4));
        board
    }

    /// All servers report this configuration.
    fn begin(board: &mut Board, configuration_id: u32, nodes: &[u64], at: Duration) {
        for pid in 1..=4 {
            let mut report = report(pid, 4);
            report.status.configuration_id = configuration_id;
            report.status.nodes = nodes.to_vec();
            report.status.epoch_idx = Some(3_000);
            report.status.may_stop = (!nodes.contains(&pid)).then_some(at.as_secs() > 5);
            board.hear(pid, report, at);
        }
        board.look(at);
    }

    fn drawn(board: &Board, is_close: bool, width: u16, height: u16) -> Vec<String> {
        let area = Rect::new(0, 0, width, height);
        let mut buf = Buffer::empty(area);
        View { board, selected: 2, is_close }.render(area, &mut buf);
        (0..height)
            .map(|y| (0..width).map(|x| buf[(x, y)].symbol()).collect::<String>())
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    #[test]
    fn the_cluster_and_the_keys_fit_into_80_by_24() {
        let lines = drawn(&board(5), false, 80, 24);
        let expected = [
            "┌ no leader · decided 4,000 · - entries/s · configuration 1 ───────────────────┐",
            "│ server  state       1  2  3  4  5  decided  behind  ballot  follows  waiting │",
            "│ 1       silent      -  .  x  .  .    1,000   3,000       0        -        0 │",
            "│ 2       recovering  .  -  .  .  .    2,000   2,000       0        -        0 │",
            "│ 3       recovering  x  .  -  .  .    3,000   1,000       0        -        0 │",
            "│ 4       recovering  .  .  .  -  .    4,000       0       0        -        0 │",
            "│ 5       killed                  -        -       -       -        -        - │",
            "└─────────────────────────────────────────── links: + answers  . silent  x cut ┘",
        ];
        assert_eq!(lines[..8], expected, "{}", lines.join("\n"));
        assert!(lines.iter().any(|line| line.contains("3.0s WARN the link 1-3 is cut")));
        assert_eq!(lines[21..], HELP);
    }

    #[test]
    fn a_close_view_is_that_of_the_server_and_has_the_keys() {
        let lines = drawn(&board(5), true, 80, 24);
        assert!(lines[0].starts_with("┌ server 2 of configuration 1 "), "{}", lines.join("\n"));
        assert_eq!(lines[21..], HELP);
    }

    #[test]
    fn a_close_view_of_a_killed_server_says_so() {
        let mut board = board(5);
        let decided_idx = board.decided_idx();
        for pid in 1..=5 {
            board.set_running(pid, false);
        }
        board.look(Duration::from_secs(9));
        let lines = drawn(&board, true, 80, 24);
        assert_eq!(lines[0].trim_end(), "server 2 is killed: this is what it showed last");
        assert!(lines[1].starts_with("┌ server 2 of configuration 1 "), "{}", lines.join("\n"));
        // Nothing that was decided is decided again when they come back.
        assert_eq!(board.decided_idx(), decided_idx);
        assert!(decided_idx > 0);
    }

    /// The lines of the servers, without their links.
    fn states(board: &Board) -> Vec<String> {
        let lines = drawn(board, false, 80, 24).into_iter().skip(2).take(4);
        let cells = |line: String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let is_link = |cell: &String| ["+", ".", "x", "-", "│"].contains(&cell.as_str());
        let lines = lines.map(cells).map(|mut line| {
            line.retain(|cell| !is_link(cell));
            line[..line.len().min(5)].join(" ")
        });
        lines.collect()
    }

    #[test]
    fn servers_that_join_and_leave_are_shown() {
        let mut board = board_that_changes();
        assert_eq!(
            board.change(),
            Some((1, Change { configuration_id: 2, nodes: vec![1, 2, 3, 4] }))
        );
        assert_eq!(states(&board)[3], "4 joins 1,234 1,766 0");
        begin(&mut board, 2, &[1, 2, 3, 4], Duration::from_secs(5));
        let lines = drawn(&board, false, 80, 24);
        assert!(lines[0].contains(" configuration 2 from 3,000 "), "{}", lines[0]);
        assert!(lines.iter().any(|line| line.contains("configuration 2 begins")), "{lines:?}");
        assert_eq!((states(&board)[3].as_str(), board.change()), ("4 recovering 4,000 0 0", None));
        assert!(board.members_mut().want_without(1));
        assert_eq!(states(&board)[0], "1 leaves 1,000 3,000 0");
        begin(&mut board, 3, &[2, 3, 4], Duration::from_secs(5));
        assert_eq!(
            (states(&board)[0].as_str(), board.dismissed()),
            ("1 removed 1,000 3,000 0", vec![])
        );
        begin(&mut board, 3, &[2, 3, 4], Duration::from_secs(6));
        assert_eq!(states(&board)[0], "1 may stop 1,000 3,000");
        assert_eq!(board.dismissed(), [], "it is shown for a while");
        begin(&mut board, 3, &[2, 3, 4], Duration::from_secs(8));
        assert_eq!(board.dismissed(), [(1, Presence::Reports)]);
        board.forget(1);
        assert_eq!((board.servers().len(), board.cut().len()), (3, 0));
    }

    #[test]
    fn a_change_waits_until_its_joiner_reports_or_is_killed() {
        let mut board = board_that_changes();
        board.set_running(4, true);
        assert_eq!(board.change(), None, "it starts");
        board.set_running(4, false);
        assert!(board.change().is_some());
        let (_, change) = board.change().unwrap();
        let refusal = Some(Refusal { change, why: "servers [4] did not catch up".to_owned() });
        board.hear(1, Report { refusal, ..report(1, 4) }, Duration::from_secs(5));
        assert_eq!(board.change(), None);
        let lines = drawn(&board, false, 80, 24).join("\n");
        assert!(lines.contains("stay as they are: servers [4] did not catch up"), "{lines}");
    }

    #[test]
    fn it_is_drawn_in_every_size() {
        for board in [board(3), board(9), board_that_changes()] {
            for height in (0..20).chain([24, 50]) {
                for width in (0..30).step_by(3).chain([1, 2, 79, 80, 200]) {
                    drawn(&board, false, width, height);
                    drawn(&board, true, width, height);
                }
            }
        }
    }
}
