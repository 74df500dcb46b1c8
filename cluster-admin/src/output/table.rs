//! Tables that fit the terminal.

use std::io::IsTerminal;

/// Columns are cut down to this width at least.
const MIN_COLUMN: usize = 6;
const GAP: &str = "  ";

/// Rows under a header; the widest columns are cut when the terminal is narrow.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            rows: vec![headings.iter().map(|h| (*h).to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The text for the terminal at hand (not cut when it goes to a file).
    pub fn render(&self) -> String {
        self.render_within(terminal_width())
    }

    /// The text, no line wider than `width` as far as the columns allow.
    pub fn render_within(&self, width: usize) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        for row in &self.rows {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, &width)| fit(cell, width));
            text.push_str(cells.collect::<Vec<_>>().join(GAP).trim_end());
            text.push('\n');
        }
        text
    }

    fn widths(&self, limit: usize) -> Vec<usize> {
        let columns = self.rows[0].len();
        let widest = |c: usize| {
            self.rows
                .iter()
                .map(|r| r[c].chars().count())
                .max()
                .unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..columns).map(widest).collect();
        let total = |w: &[usize]| w.iter().sum::<usize>() + GAP.len() * (columns - 1);
        while total(&widths) > limit {
            match widths.iter_mut().max().filter(|w| **w > MIN_COLUMN) {
                Some(widest) => *widest -= 1,
                None => break,
            }
        }
        widths
    }
}

fn fit(cell: &str, width: usize) -> String {
    match cell.chars().count() <= width {
        true => format!("{cell:width$}"),
        false => cell
            .chars()
            .take(width.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

fn terminal_width() -> usize {
    if !std::io::stdout().is_terminal() {
        return usize::MAX;
    }
    // SAFETY: TIOCGWINSZ writes one `winsize`, for which there is room; an
    // all-zero `winsize` is valid.
    let (answer, size) = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (
            libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size),
            size,
        )
    };
    if answer == 0 && size.ws_col > 0 {
        usize::from(size.ws_col)
    } else {
        80
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["ID", "MESSAGE", "STATE"]);
        table.row([
            "1".into(),
            "a long text that tells what happens".into(),
            "up".into(),
        ]);
        table.row(["22".into(), "short".into(), "down".into()]);
        table
    }

    #[test]
    fn columns_line_up() {
        assert_eq!(
            table().render_within(200),
            "ID  MESSAGE                              STATE\n\
             1   a long text that tells what happens  up\n\
             22  short                                down\n"
        );
    }

    #[test]
    fn a_narrow_terminal_cuts_the_widest_column_only() {
        let text = table().render_within(30);
        assert!(text.lines().all(|l| l.chars().count() <= 30), "{text}");
        assert!(text.contains("a long text that t…  up"), "{text}");
    }
}
