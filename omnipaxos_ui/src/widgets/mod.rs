//! The widgets of dashboards: a table, a chart and a log. They draw into an area of any size.

mod chart;
mod log_pane;
mod table;

pub use chart::RateChart;
pub use log_pane::LogPane;
pub use table::{Column, FittingTable};

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::Line,
    widgets::{Block, Widget},
};

/// Formats a number with its digits in groups of three.
///
/// ```
/// use omnipaxos_ui::widgets::grouped;
///
/// assert_eq!(grouped(999), "999");
/// assert_eq!(grouped(1_234_567), "1,234,567");
/// ```
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Draws a border with a title, and returns the area inside.
pub fn bordered<'a>(title: impl Into<Line<'a>>, area: Rect, buf: &mut Buffer) -> Rect {
    let block = Block::bordered().title(title).border_style(Style::new().dark_gray());
    let inside = block.inner(area);
    block.render(area, buf);
    inside
}
