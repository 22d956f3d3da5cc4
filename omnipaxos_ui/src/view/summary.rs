//! The state of the replica in two lines.

use crate::{
    app::App,
    widgets::{bordered, grouped},
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

/// The smallest width of an area with two items in a line.
const TWO_IN_A_LINE: u16 = 60;

/// Draws the summary with its border.
pub(super) fn draw(app: &App, area: Rect, buf: &mut Buffer) {
    let begins = app.epoch_idx().filter(|idx| *idx > 0);
    let begins = begins.map(|idx| format!(" from {}", grouped(idx))).unwrap_or_default();
    let configuration = app.configuration_id();
    let title =
        format!(" server {} of configuration {configuration}{begins}{} ", app.pid(), part(app));
    let inside = bordered(title, area, buf);
    if area.width < TWO_IN_A_LINE {
        return draw_small(app, inside, buf);
    }
    let [leader, quorum, decided, rate] = sentences(app);
    let separated = |a: Span<'static>, b: Span<'static>| {
        Line::from(vec![Span::raw(" "), a, Span::raw("   "), b])
    };
    let lines = [separated(leader, decided), separated(quorum, rate)];
    put(&lines, inside, buf);
}

/// Draws the summary into a small area.
pub(super) fn draw_small(app: &App, area: Rect, buf: &mut Buffer) {
    let leader = match (app.leader(), app.leads()) {
        (Some(_), true) => format!("{} leads", app.pid()),
        (Some(leader), false) => format!("{}: leader {leader}", app.pid()),
        (None, _) => format!("{}: no leader", app.pid()),
    };
    let quorum = if app.is_quorum_connected() { "quorum" } else { "no quorum" };
    let reached = format!("{quorum}, {} of {} reached", app.reached(), app.members());
    let lines = [
        Line::raw(leader),
        Line::styled(reached, quorum_style(app)),
        Line::raw(decided(app)),
        Line::raw(rate(app)),
    ];
    put(&lines, area, buf);
}

/// Returns what the server is if it is not simply a member.
fn part(app: &App) -> &'static str {
    match (app.may_stop(), app.members()) {
        (Some(true), _) => " · removed, may stop",
        (Some(false), _) => " · removed, still needed",
        (None, 0) => " · does not know the members yet",
        (None, _) => "",
    }
}

fn put(lines: &[Line<'_>], area: Rect, buf: &mut Buffer) {
    let area = area.intersection(buf.area);
    for (y, line) in (area.y..area.bottom()).zip(lines) {
        buf.set_line(area.x, y, line, area.width);
    }
}

/// Returns the leader, the quorum, the decided index and the rate.
fn sentences(app: &App) -> [Span<'static>; 4] {
    let ballot = app.leader_ballot();
    let in_ballot = ballot.map(|ballot| format!(" in ballot {}", ballot.n)).unwrap_or_default();
    let leader = match (app.leader(), app.leads()) {
        (Some(_), true) => Span::styled(format!("leads{in_ballot}"), Style::new().green().bold()),
        (Some(pid), false) => Span::raw(format!("leader {pid}{in_ballot}")),
        (None, _) if app.is_fed() => Span::styled("no leader known", Style::new().red().bold()),
        (None, _) => Span::raw("no report from the replica yet"),
    };
    let connected = if app.is_quorum_connected() { "quorum-connected" } else { "NO QUORUM" };
    let reached = format!(
        "{connected}: {} of {} reached, {} needed",
        app.reached(),
        app.members(),
        app.read_quorum()
    );
    let quorum = Span::styled(reached, quorum_style(app));
    [leader, quorum, Span::raw(decided(app)), Span::raw(rate(app))]
}

fn quorum_style(app: &App) -> Style {
    if app.is_quorum_connected() {
        Style::new()
    } else {
        Style::new().red().bold()
    }
}

fn decided(app: &App) -> String {
    app.decided_idx().map(|idx| format!("decided {}", grouped(idx))).unwrap_or_default()
}

fn rate(app: &App) -> String {
    app.rates()
        .latest()
        .map_or("rate not known yet".to_owned(), |rate| format!("{} entries/s", grouped(rate)))
}
