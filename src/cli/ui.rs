//! How output looks: tables, colours, durations.

use std::time::Duration;

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use console::Term;
use serde::Serialize;

use crate::model::{Failure, Status};

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
    println!("{}", table.trim_fmt());
}

pub fn print_json(value: &impl Serialize) {
    println!("{}", serde_json::to_string_pretty(value).expect("what is printed serializes"));
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
    println!("{} {build}", red.apply_to("FAILED"));
    println!("  {} {}, in {}", dim.apply_to("class"), failure.class, failure.phase);
    for line in &failure.lines {
        println!("  {} {}", dim.apply_to("│"), console::strip_ansi_codes(line));
    }
    if let Some(log) = log {
        println!("  {}   {}", dim.apply_to("log"), log.display());
    }
}

/// The path as it is read best: relative to where we are, if it is below.
pub fn short(path: &std::path::Path) -> std::path::PathBuf {
    std::env::current_dir()
        .ok()
        .and_then(|here| path.strip_prefix(here).ok().map(std::path::Path::to_owned))
        .unwrap_or_else(|| path.to_owned())
}
