//! The whole cluster on one screen.

use crate::{
    cluster::{Cluster, Member, Presence},
    links::Link,
};
use omnipaxos::{status::Role, util::NodeId};
use omnipaxos_ui::{
    ratatui::{
        buffer::Buffer,
        layout::{Constraint, Layout, Rect},
        style::{Color, Style},
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
    pub(crate) cluster: &'a Cluster,
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
        let member = self.cluster.members().get(&self.selected);
        match member.filter(|_| self.is_close) {
            Some(member) => member.app.render(shown, buf),
            None => self.render_cluster(shown, buf),
        }
    }
}

impl View<'_> {
    fn render_cluster(&self, area: Rect, buf: &mut Buffer) {
        let servers = u16::try_from(self.cluster.members().len()).unwrap_or(u16::MAX);
        let [table, rates, log] = Layout::vertical([
            Constraint::Length(servers.saturating_add(3)),
            Constraint::Max(6),
            Constraint::Fill(1),
        ])
        .areas(area);
        self.render_servers(table, buf);
        for (panel, is_log) in [(rates, false), (log, true)] {
            match (panel.height < 3, is_log) {
                (true, _) => {}
                (false, false) => RateChart::new(self.cluster.rates()).render(panel, buf),
                (false, true) => LogPane::new(self.cluster.log()).render(panel, buf),
            }
        }
    }

    fn render_servers(&self, area: Rect, buf: &mut Buffer) {
        let cluster = self.cluster;
        let leader = cluster.leader().map_or("no leader".to_owned(), |pid| format!("leader {pid}"));
        let rate = cluster.rates().latest().map_or("-".to_owned(), grouped);
        let decided = grouped(cluster.decided_idx());
        let title = Line::from(format!(" {leader} · decided {decided} · {rate} entries/s "));
        let legend = Line::from(" links: + answers  . silent  x cut ").right_aligned();
        let inside = bordered(title, area, buf);
        if inside.height > 0 {
            let edge = Rect { y: inside.bottom(), height: 1, x: inside.x, width: inside.width };
            legend.render(edge.intersection(buf.area), buf);
        }
        let selected = cluster.members().keys().position(|pid| *pid == self.selected);
        FittingTable::new(self.columns()).select(selected.unwrap_or(0)).render(inside, buf);
    }

    fn columns(&self) -> Vec<Column> {
        let members = self.cluster.members();
        let cells = |cell: &dyn Fn(NodeId, &Member) -> Span<'static>| {
            members.iter().map(|(pid, member)| cell(*pid, member)).collect()
        };
        let told = |cell: &dyn Fn(&omnipaxos::status::Status) -> String| {
            cells(&|_, member| {
                let report = member.report.as_ref();
                Span::raw(report.map_or("-".to_owned(), |(report, _)| cell(&report.status)))
            })
        };
        let decided = self.cluster.decided_idx();
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
                told(&|status| grouped(status.waiting.entries.saturating_add(status.kept.entries))),
            ),
        ]);
        columns
    }

    fn state(&self, pid: NodeId, member: &Member) -> Span<'static> {
        match (self.cluster.presence(pid), &member.report) {
            (Presence::Killed, _) => Span::styled("killed", Color::Red),
            (Presence::Silent, _) | (_, None) => Span::styled("silent", Color::Yellow),
            (Presence::Reports, Some((report, _))) => role(report.status.role),
        }
    }

    fn link(&self, from: NodeId, to: NodeId, member: &Member) -> Span<'static> {
        let servers = member.app.servers();
        let heard = servers.iter().find(|server| server.pid == to).map(|server| server.link);
        match heard {
            _ if self.cluster.orders().is_cut(Link::between(from, to)) => {
                Span::styled("x", Color::Red)
            }
            Some(Heard::Own) => Span::raw("-"),
            _ if member.report.is_none() => Span::raw(" "),
            Some(Heard::Answers) => Span::styled("+", Color::Green),
            Some(Heard::Silent) | None => Span::styled(".", Color::Yellow),
        }
    }
}

fn role(role: Role) -> Span<'static> {
    match role {
        Role::Leading => Span::styled("leading", Color::Green),
        Role::Following => Span::raw("following"),
        Role::Preparing => Span::styled("preparing", Color::Yellow),
        Role::Promised => Span::styled("promised", Color::Yellow),
        Role::Recovering => Span::styled("recovering", Color::Yellow),
        Role::Halted => Span::styled("halted", Color::Red),
    }
}
