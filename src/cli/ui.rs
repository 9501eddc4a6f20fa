//! What a command prints, and how it looks: colours, tables, times, and what is said at all.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;
use std::time::Duration;

use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Row, Table, presets};
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

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Colours {
    Auto,
    Always,
    Never,
}

/// What was said on the command line of all output, once.
static MANNER: OnceLock<Manner> = OnceLock::new();

#[derive(Debug)]
struct Manner {
    quiet: bool,
    /// How we are called by who sees the same site: `reimzul --root demo`.
    us: String,
}

/// Sets how the process talks. Colours follow the command line, then the environment: a `NO_COLOR` that is not
/// empty (https://no-color.org), `CLICOLOR_FORCE` and `CLICOLOR` (https://bixense.com/clicolors).
pub fn talk(quiet: bool, colours: Colours, root: Option<&std::path::Path>) {
    let us = root.map_or_else(|| "reimzul".to_owned(), |root| format!("reimzul --root {}", root.display()));
    let _ = MANNER.set(Manner { quiet, us });
    let is_set = |name| std::env::var_os(name).is_some_and(|value: std::ffi::OsString| !value.is_empty());
    let is_forced =
        is_set("CLICOLOR_FORCE") && std::env::var_os("CLICOLOR_FORCE").as_deref() != Some(OsStr::new("0"));
    let is_declined = std::env::var_os("CLICOLOR").as_deref() == Some(OsStr::new("0"));
    let wanted = |terminal: &Term| match colours {
        Colours::Always => true,
        Colours::Never => false,
        Colours::Auto if is_set("NO_COLOR") => false,
        Colours::Auto if is_forced => true,
        Colours::Auto => {
            !is_declined
                && terminal.is_term()
                && std::env::var_os("TERM").as_deref() != Some(OsStr::new("dumb"))
        }
    };
    console::set_colors_enabled(wanted(&Term::stdout()));
    console::set_colors_enabled_stderr(wanted(&Term::stderr()));
}

/// Whether nothing but results and errors is wanted.
pub fn is_quiet() -> bool {
    MANNER.get().is_some_and(|manner| manner.quiet)
}

/// Says that something was done.
pub fn done(text: &str) {
    if !is_quiet() {
        say!("{text}");
    }
}

/// Says on stderr what helps a person and is no result.
pub fn note(text: &str) {
    if !is_quiet() {
        tell!("{text}");
    }
}

/// One of our commands as it is typed for this site: `reimzul --root demo logs -f hello`.
pub fn ours(arguments: &str) -> String {
    format!("{} {arguments}", MANNER.get().map_or("reimzul", |manner| &manner.us))
}

/// A table with the given headings.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if console::colors_enabled() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(headings.iter().map(|heading| {
        let cell = Cell::new(heading.to_uppercase());
        if console::colors_enabled() { cell.fg(Color::DarkGrey) } else { cell }
    }));
    table
}

/// Prints a table, numbers to the right, without the blanks that fill its last column. It fits the terminal: what
/// is too long is cut in the middle. In a pipe, where nothing wraps, it is whole, unless `COLUMNS` is set.
pub fn print(table: &Table) {
    let mut table = width().map_or_else(|| table.clone(), |width| cut(table, width));
    let columns = table.column_iter().len();
    for index in 0..columns {
        let is_numeric = table.column_cells_iter(index).flatten().all(|cell| is_number(&cell.content()));
        let column = table.column_mut(index).expect("the column was counted");
        column.set_padding((0, u16::from(index + 1 < columns)));
        if is_numeric {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    say!("{}", table.trim_fmt());
}

/// How wide a table may be; none where it does not matter.
fn width() -> Option<usize> {
    let terminal = Term::stdout();
    if terminal.is_term() {
        return Some(usize::from(terminal.size().1).max(40));
    }
    std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns >= 40)
}

/// A number, or one with a unit of ours. What is too long to be one is a name.
fn is_number(text: &str) -> bool {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    text.is_empty()
        || (number.len() < 14
            && number.parse::<f64>().is_ok()
            && ["", "s", "B", "KiB", "MiB", "GiB", "TiB"].contains(&unit))
}

/// The same table, its widest columns so narrow that it fits.
fn cut(table: &Table, width: usize) -> Table {
    let natural: Vec<usize> = table.column_max_content_widths().into_iter().map(usize::from).collect();
    let mut widths = natural.clone();
    // A blank after each but the last.
    while widths.iter().sum::<usize>() + widths.len() > width + 1 {
        match widths.iter_mut().max() {
            Some(widest) if *widest > 8 => *widest -= 1,
            _ => break,
        }
    }
    let mut fitted = table.clone();
    for row in fitted.row_iter_mut() {
        let cells = row.cell_iter().enumerate().map(|(index, cell)| {
            if widths[index] < natural[index] {
                Cell::new(middle(&cell.content(), widths[index]))
            } else {
                cell.clone()
            }
        });
        *row = Row::from(cells.collect::<Vec<Cell>>());
    }
    fitted
}

/// At most so many characters of it: its beginning, `…`, and its end, which tells versions apart.
pub fn middle(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let (head, tail) = ((most - 1) / 2, most / 2);
    let head: String = text.chars().take(head).collect();
    let tail: String = text.chars().skip(length - tail).collect();
    format!("{head}…{tail}")
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

/// `1 job`, `2 jobs`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// `20 s`, `3 min`, `5 h`, `2 days`: about as long as that.
pub fn about(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `20 s ago`, `3 min ago`, `5 h ago`, `2 days ago`, then the date.
pub fn ago(timestamp: crate::model::Timestamp) -> String {
    const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
    let age = timestamp.age();
    if age < MONTH {
        return format!("{} ago", about(age));
    }
    let text = timestamp.to_string();
    format!("{}-{}-{}", &text[0..4], &text[4..6], &text[6..8])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_in_the_middle() {
        assert_eq!(middle("kernel-3.10.0-1160.el7.x86_64", 15), "kernel-….x86_64");
        assert_eq!(middle("short", 5), "short");
        assert_eq!(middle("ärgerlich", 4), "ä…ch");
    }

    #[test]
    fn the_widest_columns_give_way_and_the_others_stay() {
        let mut table = table(&["status", "package", "why"]);
        table.add_row(["Success", &"x".repeat(90), &"y".repeat(50)]);
        let cut = cut(&table, 60);
        let widths: Vec<usize> =
            cut.row(0).unwrap().cell_iter().map(|cell| cell.content().chars().count()).collect();
        assert_eq!(widths[0], 7);
        assert!(widths.iter().sum::<usize>() + 2 <= 60, "{widths:?}");
        assert!(widths[1].abs_diff(widths[2]) <= 1, "{widths:?}");
    }

    #[test]
    fn numbers_are_told_from_words() {
        for number in ["12", "0.4 s", "10.62 KiB", ""] {
            assert!(is_number(number), "{number}");
        }
        for word in ["x86_64", "3 min", "1.0-1", "20261123204406"] {
            assert!(!is_number(word), "{word}");
        }
    }
}
