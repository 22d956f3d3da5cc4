//! The servers, as the replica knows them.

use crate::{
    app::{App, Lag, Link, Server},
    widgets::{bordered, grouped, Column, FittingTable},
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Style},
    text::Span,
    widgets::Widget,
};

/// Draws the table with its border.
pub(super) fn draw(app: &App, area: Rect, buf: &mut Buffer) {
    let servers = app.servers();
    let shown = usize::from(area.height.saturating_sub(3)).min(servers.len());
    let count = match shown == servers.len() {
        true => format!("{shown} servers"),
        false => format!("{shown} of {} servers", servers.len()),
    };
    let knows = servers.iter().any(|server| server.lag.is_some());
    let lag = match (knows, app.leader()) {
        (true, _) => "lag in entries".to_owned(),
        (false, Some(leader)) if !app.leads() => format!("lag: only the leader, {leader}, knows"),
        (false, _) => "lag: only a leader in its accept phase knows".to_owned(),
    };
    let inside = bordered(format!(" {count} · {lag} "), area, buf);
    FittingTable::new(columns(app, &servers, knows)).render(inside, buf);
}

fn columns(app: &App, servers: &[Server], with_lag: bool) -> Vec<Column> {
    let cells = |cell: &dyn Fn(&Server) -> Span<'static>| servers.iter().map(cell).collect();
    let mut columns = vec![
        Column::text(" server", cells(&|server| name(app, server))),
        Column::text("link", cells(&|server| link(server.link))),
    ];
    if with_lag {
        columns.push(Column::numbers("lag", cells(&|server| lag(server.lag))));
        columns.push(Column::numbers("accepted", cells(&|server| number(server.accepted_idx))));
    }
    columns.extend([
        Column::numbers(
            "ballot",
            cells(&|server| number(server.ballot.map(|ballot| u64::from(ballot.n)))),
        ),
        Column::numbers("follows", cells(&|server| pid(server.follows))),
        Column::text("happy", cells(&|server| happy(server.is_happy))),
    ]);
    columns
}

fn name(app: &App, server: &Server) -> Span<'static> {
    let mut name = format!(" {}", server.pid);
    if server.link == Link::Own {
        name.push_str(" this");
    }
    if app.leader() == Some(server.pid) {
        name.push_str(" leader");
        return Span::styled(name, Style::new().bold());
    }
    Span::raw(name)
}

fn link(link: Link) -> Span<'static> {
    match link {
        Link::Own => Span::raw("-"),
        Link::Answers => Span::styled("answers", Color::Green),
        Link::Silent => Span::styled("no answer", Color::Red),
        Link::Observes => Span::raw("observes"),
        Link::Joins => Span::styled("joins", Color::Yellow),
    }
}

fn lag(lag: Option<Lag>) -> Span<'static> {
    match lag {
        Some(Lag::Exactly(0)) => Span::raw("0"),
        Some(Lag::Exactly(lag)) => Span::styled(grouped(lag), Color::Yellow),
        Some(Lag::AtLeast(lag)) => Span::styled(format!(">={}", grouped(lag)), Color::Yellow),
        None => Span::raw("?"),
    }
}

fn number(number: Option<u64>) -> Span<'static> {
    Span::raw(number.map_or("?".to_owned(), grouped))
}

fn pid(pid: Option<u64>) -> Span<'static> {
    Span::raw(pid.map_or("-".to_owned(), |pid| pid.to_string()))
}

fn happy(is_happy: Option<bool>) -> Span<'static> {
    match is_happy {
        Some(true) => Span::raw("yes"),
        Some(false) => Span::styled("no", Color::Yellow),
        None => Span::raw("?"),
    }
}
