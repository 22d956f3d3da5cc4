//! A table that omits what does not fit.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
    text::Span,
    widgets::Widget,
};

/// The number of blanks between two columns.
const GAP: u16 = 2;

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    title: String,
    cells: Vec<Span<'static>>,
    is_number: bool,
}

impl Column {
    /// Creates a column of text, one cell per row.
    pub fn text(title: impl Into<String>, cells: Vec<Span<'static>>) -> Self {
        Self { title: title.into(), cells, is_number: false }
    }

    /// Creates a column of numbers, aligned at the right.
    pub fn numbers(title: impl Into<String>, cells: Vec<Span<'static>>) -> Self {
        Self { title: title.into(), cells, is_number: true }
    }

    fn width(&self) -> u16 {
        let widest = self.cells.iter().map(Span::width).max().unwrap_or(0);
        let width = widest.max(Span::raw(&self.title).width());
        u16::try_from(width).unwrap_or(u16::MAX)
    }
}

/// A table that shows the columns and rows that fit.
///
/// The first columns have priority, and the selected row is always shown. The first column is cut
/// if it does not fit.
#[derive(Clone, Debug)]
pub struct FittingTable {
    columns: Vec<Column>,
    selected: Option<usize>,
}

impl FittingTable {
    /// Creates a table of these columns.
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, selected: None }
    }

    /// Selects a row.
    pub fn select(self, row: usize) -> Self {
        Self { selected: Some(row), ..self }
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.columns.iter().map(|column| column.cells.len()).max().unwrap_or(0)
    }

    /// Returns the first row that is shown in this number of lines.
    fn first_row(&self, lines: usize) -> usize {
        let last = self.selected.unwrap_or(0).min(self.rows().saturating_sub(1));
        (last + 1).saturating_sub(lines)
    }

    /// Returns the columns that fit, each with its position and width.
    fn places(&self, area: Rect) -> Vec<(&Column, u16, u16)> {
        let mut places = Vec::new();
        let mut x = area.x;
        for column in &self.columns {
            let left = area.right().saturating_sub(x);
            let width = column.width();
            if width > left {
                if places.is_empty() {
                    places.push((column, x, left));
                }
                break;
            }
            places.push((column, x, width));
            x = x.saturating_add(width).saturating_add(GAP);
        }
        places
    }
}

impl Widget for FittingTable {
    /// Draws one line of titles, then one line per row.
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(buf.area);
        if area.is_empty() {
            return;
        }
        let lines = usize::from(area.height) - 1;
        let first = self.first_row(lines);
        for (column, x, width) in self.places(area) {
            let put = |buf: &mut Buffer, y: u16, cell: &Span<'_>| {
                let room = usize::from(width).saturating_sub(cell.width());
                let indent = if column.is_number { room } else { 0 };
                let x = x.saturating_add(u16::try_from(indent).unwrap_or(0));
                buf.set_span(x, y, cell, width);
            };
            put(buf, area.y, &Span::styled(&column.title, Style::new().dark_gray()));
            let rows = (area.y + 1..area.bottom()).zip(column.cells.iter().skip(first));
            rows.for_each(|(y, cell)| put(buf, y, cell));
        }
        if let Some(line) = self.selected.and_then(|row| row.checked_sub(first)) {
            if line < lines.min(self.rows()) {
                let y = area.y + 1 + u16::try_from(line).unwrap_or(0);
                let row = Rect { y, height: 1, ..area };
                buf.set_style(row, Style::new().add_modifier(Modifier::REVERSED));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Column, FittingTable};
    use ratatui::{buffer::Buffer, layout::Rect, text::Span, widgets::Widget};

    fn drawn(table: FittingTable, width: u16, height: u16) -> Vec<String> {
        let area = Rect::new(0, 0, width, height);
        let mut buf = Buffer::empty(area);
        table.render(area, &mut buf);
        (0..height)
            .map(|y| (0..width).map(|x| buf[(x, y)].symbol().to_owned()).collect::<String>())
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    fn table() -> FittingTable {
        let cells = |texts: [&'static str; 3]| texts.into_iter().map(Span::raw).collect();
        FittingTable::new(vec![
            Column::text("server", cells(["a", "b", "c"])),
            Column::numbers("lag", cells(["1", "2000", ""])),
        ])
    }

    #[test]
    fn columns_that_do_not_fit_are_left_out_and_the_first_is_cut() {
        assert_eq!(drawn(table(), 12, 4), ["server   lag", "a          1", "b       2000", "c"]);
        assert_eq!(drawn(table(), 11, 2), ["server", "a"]);
        assert_eq!(drawn(table(), 3, 2), ["ser", "a"]);
        assert_eq!(drawn(table(), 0, 0), [""; 0]);
    }

    #[test]
    fn the_selected_row_is_shown() {
        assert_eq!(drawn(table().select(2), 6, 3), ["server", "b", "c"]);
        assert_eq!(drawn(table().select(0), 6, 3), ["server", "a", "b"]);
        assert_eq!(drawn(table().select(9), 6, 2), ["server", "c"]);
        assert_eq!(drawn(table().select(1), 6, 1), ["server"]);
    }
}
