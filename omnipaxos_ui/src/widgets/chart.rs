//! The history of a rate.

use super::{bordered, grouped};
use crate::rates::Rates;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    widgets::{RenderDirection, Sparkline, Widget},
};

/// Bars of the rates of the last seconds, the newest at the right.
#[derive(Copy, Clone, Debug)]
pub struct RateChart<'a> {
    rates: &'a Rates,
}

impl<'a> RateChart<'a> {
    /// Creates a chart of these rates.
    pub fn new(rates: &'a Rates) -> Self {
        Self { rates }
    }
}

impl Widget for RateChart<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let columns = usize::from(area.width.saturating_sub(2));
        let shown: Vec<u64> = self.rates.history().take(columns).collect();
        let title = match shown.iter().max() {
            Some(most) => format!(
                " decided entries a second, last {} s, at most {} ",
                shown.len(),
                grouped(*most)
            ),
            None => " decided entries a second: nothing measured yet ".to_owned(),
        };
        let inside = bordered(title, area, buf);
        Sparkline::default()
            .data(shown)
            .direction(RenderDirection::RightToLeft)
            .style(Style::new().green())
            .render(inside, buf);
    }
}
