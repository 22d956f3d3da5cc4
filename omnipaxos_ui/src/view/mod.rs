//! Draws an [`App`]: a pure function of it and of the area.

mod servers;
mod summary;

use crate::{
    app::App,
    widgets::{LogPane, RateChart},
};
use ratatui::{buffer::Buffer, layout::Rect, widgets::Widget};

/// The smallest area with borders and panels. A smaller one has plain lines.
const SMALLEST_WIDTH: u16 = 24;
const SMALLEST_HEIGHT: u16 = 9;

/// Lines of the summary, including its border.
const SUMMARY: u16 = 4;

/// The smallest number of lines of a panel: one inside its border.
const PANEL: u16 = 3;

impl Widget for &App {
    /// Draws into an area of any size. In a small one the most important part comes first.
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(buf.area);
        if area.width < SMALLEST_WIDTH || area.height < SMALLEST_HEIGHT {
            return summary::draw_small(self, area, buf);
        }
        let [summary, servers, rates, log] = panels(area, self.servers().len());
        summary::draw(self, summary, buf);
        servers::draw(self, servers, buf);
        if !rates.is_empty() {
            RateChart::new(self.rates()).render(rates, buf);
        }
        if !log.is_empty() {
            LogPane::new(self.log()).render(log, buf);
        }
    }
}

/// Distributes the lines to the panels. The servers come first, then the log, then the rates.
fn panels(area: Rect, servers: usize) -> [Rect; 4] {
    let left = area.height.saturating_sub(SUMMARY);
    let wanted = u16::try_from(servers).unwrap_or(u16::MAX).saturating_add(PANEL);
    // If there are many servers, the log and the rates keep a few lines.
    let most = left.saturating_sub(2 * PANEL + 1).max(left.min(2 * PANEL));
    let servers = wanted.min(most);
    let left = left - servers;
    let (servers, left) = if left < PANEL { (servers + left, 0) } else { (servers, left) };
    let rates = if left < 2 * PANEL { 0 } else { (left / 3).clamp(PANEL, 3 * PANEL) };
    let mut y = area.y;
    [SUMMARY, servers, rates, left - rates].map(|height| {
        let panel = Rect { y, height, ..area };
        y += height;
        panel
    })
}

#[cfg(test)]
mod tests {
    use super::{panels, Rect, SMALLEST_HEIGHT};

    #[test]
    fn every_line_belongs_to_a_panel() {
        for height in SMALLEST_HEIGHT..200 {
            for servers in [0, 1, 3, 5, 15, 1000, usize::MAX] {
                let panels = panels(Rect::new(0, 7, 80, height), servers);
                let mut y = 7;
                for panel in panels {
                    assert_eq!(panel.y, y, "{panels:?}");
                    assert_ne!(panel.height, 1, "{panels:?}");
                    y += panel.height;
                }
                assert_eq!(y, 7 + height, "{panels:?}");
            }
        }
    }
}
