//! Tables in Markdown: printed, and written to a file.

use std::{fs, io, path::Path};

/// Where the tables go, beside what Cargo builds.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/performance");

/// Makes the folder of the reports, and returns it.
///
/// # Errors
/// It cannot be made.
pub fn folder() -> io::Result<&'static Path> {
    fs::create_dir_all(FOLDER)?;
    Ok(Path::new(FOLDER))
}

/// A table that is printed row by row.
#[derive(Debug)]
pub struct Report {
    name: &'static str,
    text: String,
}

impl Report {
    /// A report that goes to `target/performance/<name>.md`.
    pub fn new(name: &'static str) -> Self {
        Self { name, text: String::new() }
    }

    /// Adds a paragraph.
    pub fn paragraph(&mut self, text: &str) {
        self.line("");
        self.line(text);
        self.line("");
    }

    /// Begins a table.
    pub fn head(&mut self, columns: &[&str]) {
        self.row(columns.iter().map(ToString::to_string));
        self.row(columns.iter().enumerate().map(|(at, _)| match at {
            0 => "---".to_string(),
            _ => "---:".to_string(),
        }));
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        self.line(&format!("| {} |", cells.join(" | ")));
    }

    fn line(&mut self, text: &str) {
        println!("{text}");
        self.text += text;
        self.text += "\n";
    }

    /// Writes all to the file.
    ///
    /// # Errors
    /// That of the file system.
    pub fn write(self) -> io::Result<()> {
        let path = Path::new(FOLDER).join(self.name).with_extension("md");
        fs::write(&path, self.text.trim_start())?;
        println!("\nwritten to {}", fs::canonicalize(path)?.display());
        Ok(())
    }
}

/// A number with as many digits as matter.
pub fn number(value: f64) -> String {
    match value {
        large if large >= 100.0 => format!("{large:.0}"),
        middle if middle >= 10.0 => format!("{middle:.1}"),
        small => format!("{small:.2}"),
    }
}

/// A number of something that was not measured.
pub const NONE: &str = "–";
