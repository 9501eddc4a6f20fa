//! What a command prints, and how it looks: tables, colours, durations.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;
use std::time::Duration;

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use console::Term;
use serde::Serialize;

use crate::model::text::{is_plain, plain};
use crate::model::{Failure, Status};

/// Prints a line of a command's result.
macro_rules! say {
    () => { $crate::cli::ui::say!("") };
    ($($line:tt)*) => { $crate::cli::ui::line_out(format_args!($($line)*)) };
}
/// Prints a line about what goes on, or what is wrong.
macro_rules! tell {
    ($($line:tt)*) => { $crate::cli::ui::line_err(format_args!($($line)*)) };
}
pub(super) use {say, tell};

/// Why the first line that could not be printed could not.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// See [`say`]. Where printing fails, the command still ends as it should, and [`lost`] tells.
pub fn line_out(line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout().lock(), "{line}") {
        let _ = LOST.set(error);
    }
}

/// Prints bytes as they are.
pub fn bytes_out(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        let _ = LOST.set(error);
    }
}

/// Whether nobody gets what is printed any more.
pub fn is_over() -> bool {
    LOST.get().is_some()
}

/// See [`tell`]. Whoever closed or filled stderr wants to know nothing.
pub fn line_err(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Why not everything was printed; nothing where whoever read it had read enough.
pub fn lost() -> Option<&'static io::Error> {
    LOST.get().filter(|error| error.kind() != ErrorKind::BrokenPipe)
}

/// A table with the given headings, as wide as the terminal, or 80 columns where there is none.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let width = if Term::stdout().is_term() { Term::stdout().size().1 } else { 80 };
    table.set_width(width.max(40));
    table.set_header(headings.iter().map(|heading| {
        let cell = Cell::new(heading.to_uppercase());
        if console::colors_enabled() { cell.fg(Color::DarkGrey) } else { cell }
    }));
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    table
}

/// Prints a table without the blanks that fill its last column.
pub fn print(table: &Table) {
    say!("{}", table.trim_fmt());
}

pub fn print_json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("what is printed serializes");
    // Within strings only: what JSON leaves as it is, a terminal may not.
    let escape = |c: char| {
        if c == '\n' || is_plain(c) { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) }
    };
    let escaped: String = text.chars().map(escape).collect();
    say!("{escaped}");
}

/// A status in its colour.
pub fn status(status: Status) -> Cell {
    let cell = Cell::new(status);
    if !console::colors_enabled() {
        return cell;
    }
    match status {
        Status::Success => cell.fg(Color::Green),
        Status::Failed => cell.fg(Color::Red),
        Status::Building => cell.fg(Color::Yellow),
        Status::Done | Status::Override => cell.fg(Color::DarkGrey),
    }
}

/// `4.2 s`, `3 min 12 s`, `2 h 5 min`.
pub fn duration(duration: Duration) -> String {
    let whole = duration.as_secs();
    match whole {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `20261123204406` as `2026-11-23 20:44`, UTC.
pub fn time(timestamp: crate::model::Timestamp) -> String {
    let text = timestamp.to_string();
    let part = |range: std::ops::Range<usize>| &text[range];
    format!("{}-{}-{} {}:{}", part(0..4), part(4..6), part(6..8), part(8..10), part(10..12))
}

/// What failed and why: class, phase, the telling lines, and where the log is.
pub fn failure(build: &str, failure: &Failure, log: Option<&std::path::Path>) {
    let red = console::Style::new().red().bold();
    let dim = console::Style::new().dim();
    say!("{} {build}", red.apply_to("FAILED"));
    say!("  {} {}, in {}", dim.apply_to("class"), failure.class, plain(&failure.phase));
    for line in &failure.lines {
        say!("  {} {}", dim.apply_to("│"), plain(line));
    }
    if let Some(log) = log {
        say!("  {}   {}", dim.apply_to("log"), log.display());
    }
}

/// The path as it is read best: relative to where we are, if it is below.
pub fn short(path: &std::path::Path) -> std::path::PathBuf {
    std::env::current_dir()
        .ok()
        .and_then(|here| path.strip_prefix(here).ok().map(std::path::Path::to_owned))
        .unwrap_or_else(|| path.to_owned())
}
