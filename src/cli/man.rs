//! `reimzul man`: manual pages, one for each command, from the same text as `--help`.

use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use clap_mangen::roff::{Roff, roman};

use super::{Arguments, Done, exit, ui};
use crate::sys::fs;

/// Write the manual pages
#[derive(Debug, Args)]
#[command(after_help = "\
One page for each command: reimzul.1, reimzul-submit.1 and so on. `make install`
puts them where man looks for them.

Example:
  reimzul man --out /usr/local/share/man/man1")]
pub struct Man {
    /// The folder to write them into; it is made if need be
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Man {
    pub fn run(&self) -> Done {
        fs::make_dir(&self.out)?;
        let mut command = Arguments::command();
        command.build();
        let all = command.get_subcommands().filter(|command| !internal(command)).cloned();
        let all: Vec<Command> = std::iter::once(command.clone()).chain(all).collect();
        for command in &all {
            let page = Page::of(command);
            fs::write_whole(&self.out.join(&page.file), &page.text)?;
        }
        ui::note(&format!("{} pages are in {}", all.len(), self.out.display()));
        Ok(exit::OK)
    }
}

/// What no one types has no page: clap's own `help`, and the subcommands that only we start.
fn internal(command: &Command) -> bool {
    command.is_hide_set() || command.get_name() == "help"
}

/// One page. man-pages(7) has the order of the sections.
struct Page {
    file: String,
    text: Vec<u8>,
}

impl Page {
    fn of(command: &Command) -> Page {
        // `reimzul-submit`, in usage lines `reimzul submit`.
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        let is_top = command.get_subcommands().next().is_some();
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let page = clap_mangen::Man::new(command.clone())
            .manual("Reimzul")
            .source(concat!("reimzul ", env!("CARGO_PKG_VERSION")));
        let mut text = Vec::new();
        let mut write = || -> std::io::Result<()> {
            page.render_title(&mut text)?;
            page.render_name_section(&mut text)?;
            synopsis(command).to_writer(&mut text)?;
            page.render_description_section(&mut text)?;
            notes(&after).to_writer(&mut text)?;
            page.render_options_section(&mut text)?;
            if is_top {
                page.render_subcommands_section(&mut text)?;
            }
            sections(&after).to_writer(&mut text)?;
            see_also(&name).to_writer(&mut text)
        };
        write().expect("memory can be written to");
        Page { file: format!("{name}.1"), text }
    }
}

/// As in the help: options that every command has would hide its own.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]).control("nf", []);
    for line in usage.trim_start_matches("Usage:").lines() {
        roff.text([roman(line.trim())]);
    }
    roff.control("fi", []);
    roff
}

/// The paragraphs of the help's end that are prose.
fn notes(after: &str) -> Roff {
    let mut roff = Roff::new();
    for paragraph in after.split("\n\n").filter(|paragraph| heading(paragraph).is_none()) {
        roff.control("PP", []).text([roman(paragraph)]);
    }
    roff
}

/// Those with a heading, which are lists and stay as they stand.
fn sections(after: &str) -> Roff {
    let mut roff = Roff::new();
    for paragraph in after.split("\n\n") {
        let Some((heading, rest)) = heading(paragraph) else { continue };
        // man-pages(7) calls them so.
        let heading = if heading == "Exit codes" { "EXIT STATUS".into() } else { heading.to_uppercase() };
        roff.control("SH", [heading.as_str()]).control("nf", []);
        for line in rest.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff
}

/// `Examples:` and what is below it.
fn heading(paragraph: &str) -> Option<(&str, &str)> {
    let (first, rest) = paragraph.split_once('\n')?;
    let heading = first.strip_suffix(':')?;
    rest.starts_with("  ").then_some((heading, rest))
}

fn see_also(name: &str) -> Roff {
    let mut roff = Roff::new();
    let others = if name == "reimzul" { "mock(1), createrepo_c(8), rpmbuild(8)" } else { "reimzul(1)" };
    roff.control("SH", ["SEE ALSO"]).text([roman(others)]);
    roff
}
