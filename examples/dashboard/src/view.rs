//! The whole cluster on one screen.

use crate::{
    board::{Board, Member, Presence},
    links::Link,
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
const HELP: [&str; 2] = [
    "up/down select  1-9 cut or heal the link to that server  i isolate  h heal all",
    "k kill  r restart  a appends on/off  Enter its own view, and back  q quit",
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
        let member = self.board.members().get(&self.selected);
        match member.filter(|_| self.is_close) {
            Some(member) => member.app.render(shown, buf),
            None => self.render_cluster(shown, buf),
        }
    }
}

impl View<'_> {
    fn render_cluster(&self, area: Rect, buf: &mut Buffer) {
        let servers = u16::try_from(self.board.members().len()).unwrap_or(u16::MAX);
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
        let title = Line::from(format!(" {leader} · decided {decided} · {rate} entries/s "));
        let legend = Line::from(" links: + answers  . silent  x cut ").right_aligned();
        let inside = bordered(title, area, buf);
        if inside.height > 0 {
            let edge = Rect { y: inside.bottom(), height: 1, x: inside.x, width: inside.width };
            legend.render(edge.intersection(buf.area), buf);
        }
        let selected = board.members().keys().position(|pid| *pid == self.selected);
        FittingTable::new(self.columns()).select(selected.unwrap_or(0)).render(inside, buf);
    }

    fn columns(&self) -> Vec<Column> {
        let members = self.board.members();
        let cells = |cell: &dyn Fn(NodeId, &Member) -> Span<'static>| {
            members.iter().map(|(pid, member)| cell(*pid, member)).collect()
        };
        let told = |cell: &dyn Fn(&Status) -> String| {
            cells(&|_, member| {
                let report = member.report.as_ref();
                Span::raw(report.map_or("-".to_owned(), |(report, _)| cell(&report.status)))
            })
        };
        let decided = self.board.decided_idx();
        let mut columns = vec![
            Column::text(" server", cells(&|pid, _| Span::raw(format!(" {pid}")))),
            Column::text("state", cells(&|pid, member| self.state(pid, member))),
        ];
        columns.extend(members.keys().map(|to| {
            Column::text(to.to_string(), cells(&|from, member| self.link(from, *to, member)))
        }));
        columns.extend([
            Column::numbers("ballot", told(&|status| status.promise.n.to_string())),
            Column::numbers(
                "follows",
                told(&|status| status.leader.map_or("-".to_owned(), |pid| pid.to_string())),
            ),
            Column::numbers("decided", told(&|status| grouped(status.decided_idx))),
            Column::numbers(
                "behind",
                told(&|status| grouped(decided.saturating_sub(status.decided_idx))),
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

    fn state(&self, pid: NodeId, member: &Member) -> Span<'static> {
        match (self.board.presence(pid), &member.report) {
            (Presence::Killed, _) => Span::styled("killed", Color::Red),
            (Presence::Silent, _) | (_, None) => Span::styled("silent", Color::Yellow),
            (Presence::Reports, Some((report, _))) => role(report.status.role),
        }
    }

    fn link(&self, from: NodeId, to: NodeId, member: &Member) -> Span<'static> {
        let servers = member.app.servers();
        let heard = servers.iter().find(|server| server.pid == to).map(|server| server.link);
        match heard {
            _ if self.board.cut().contains(&Link::between(from, to)) => {
                Span::styled("x", Color::Red)
            }
            Some(Heard::Own) => Span::raw("-"),
            _ if member.report.is_none() => Span::raw(" "),
            Some(Heard::Answers) => Span::styled("+", Color::Green),
            _ => Span::styled(".", Color::Yellow),
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
        board::Board,
        links::Link,
        protocol::{Number, Report},
    };
    use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};
    use omnipaxos_storage::memory_storage::MemoryStorage;
    use omnipaxos_ui::ratatui::{buffer::Buffer, layout::Rect, widgets::Widget};
    use std::time::Duration;

    /// Servers of which one is killed and one silent, and a link that is cut.
    fn board(servers: u64) -> Board {
        let nodes: Vec<_> = (1..=servers).collect();
        let mut board = Board::new(servers, 0);
        for pid in nodes.iter().copied() {
            board.set_running(pid, true);
            let cluster_config =
                ClusterConfig { configuration_id: 1, nodes: nodes.clone(), ..Default::default() };
            let server_config = ServerConfig { pid, ..Default::default() };
            let config = OmniPaxosConfig { cluster_config, server_config };
            let replica = config.build(MemoryStorage::<Number>::default()).unwrap();
            let mut status = replica.status();
            status.decided_idx = 1_000 * pid;
            let log = Vec::new();
            board.hear(pid, Report { status, digest: 0, log }, Duration::from_secs(pid.min(3)));
        }
        board.set_running(servers, false);
        board.set_cut(Link::between(1, 3), true);
        board.note("the link 1-3 is cut".to_owned(), Duration::from_secs(3));
        board.look(Duration::from_secs(3));
        board
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
            "┌ no leader · decided 4,000 · - entries/s ─────────────────────────────────────┐",
            "│ server  state       1  2  3  4  5  ballot  follows  decided  behind  waiting │",
            "│ 1       silent      -  .  x  .  .       0        -    1,000   3,000        0 │",
            "│ 2       recovering  .  -  .  .  .       0        -    2,000   2,000        0 │",
            "│ 3       recovering  x  .  -  .  .       0        -    3,000   1,000        0 │",
            "│ 4       recovering  .  .  .  -  .       0        -    4,000       0        0 │",
            "│ 5       killed                  -       -        -        -       -        - │",
            "└─────────────────────────────────────────── links: + answers  . silent  x cut ┘",
        ];
        assert_eq!(lines[..8], expected, "{}", lines.join("\n"));
        assert!(lines.iter().any(|line| line.contains("3.0s WARN the link 1-3 is cut")));
        assert_eq!(lines[22..], HELP);
    }

    #[test]
    fn a_close_view_is_that_of_the_server_and_has_the_keys() {
        let lines = drawn(&board(5), true, 80, 24);
        assert!(lines[0].starts_with("┌ server 2 of configuration 1 "), "{}", lines.join("\n"));
        assert_eq!(lines[22..], HELP);
    }

    #[test]
    fn it_is_drawn_in_every_size() {
        for board in [board(3), board(9)] {
            for height in (0..20).chain([24, 50]) {
                for width in (0..30).step_by(3).chain([1, 2, 79, 80, 200]) {
                    drawn(&board, false, width, height);
                    drawn(&board, true, width, height);
                }
            }
        }
    }
}
