//! The end of a log.

use super::{bordered, grouped};
use crate::log::{Log, LogItem, LogLine};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Style},
    text::{Line, Span},
    widgets::Widget,
};
use slog::Level;

/// The last lines of a log that fit, the newest at the bottom.
#[derive(Copy, Clone, Debug)]
pub struct LogPane<'a> {
    log: &'a Log,
}

impl<'a> LogPane<'a> {
    /// Creates a pane of this log.
    pub fn new(log: &'a Log) -> Self {
        Self { log }
    }
}

impl Widget for LogPane<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let (kept, dropped) = (self.log.items().len(), self.log.dropped());
        let room = usize::from(area.height.saturating_sub(2));
        let mut title = match kept {
            0 => " log ".to_owned(),
            kept => format!(" log, the last {} of {kept} lines ", kept.min(room)),
        };
        if dropped > 0 {
            title.push_str(&format!("· {} dropped ", grouped(dropped)));
        }
        let inside = bordered(title, area, buf).intersection(buf.area);
        let shown = self.log.items().rev().take(room).collect::<Vec<_>>();
        for (y, item) in (inside.y..inside.bottom()).zip(shown.into_iter().rev()) {
            buf.set_line(inside.x, y, &line(item), inside.width);
        }
    }
}

fn line(item: &LogItem) -> Line<'_> {
    match item {
        LogItem::Line(LogLine { at, level, text }) => Line::from(vec![
            Span::styled(format!("{:>8.1}s ", at.as_secs_f64()), Style::new().dark_gray()),
            Span::styled(format!("{:<4} ", level.as_short_str()), colour(*level)),
            Span::raw(text),
        ]),
        LogItem::Dropped(lines) => Line::styled(
            format!("{} lines were dropped here: more came than had room", grouped(*lines)),
            Color::Red,
        ),
    }
}

fn colour(level: Level) -> Color {
    match level {
        Level::Critical | Level::Error => Color::Red,
        Level::Warning => Color::Yellow,
        Level::Info => Color::Green,
        Level::Debug | Level::Trace => Color::DarkGray,
    }
}
