//! Which lines of a part's output tell why it failed.
//!
//! rpm's scripts run under `set -ex`: what a command says follows its trace, `+ make -j2`, and the command that
//! failed is the last one. So what was said after the last trace counts first; what was said before it belongs to
//! commands that succeeded, or whose failure the spec ignores.

use std::borrow::Cow;

use super::marks::{self, Follow, Worth};
use super::text::{self, distinct};

/// How many lines are shown of an output that has no mark.
const LAST_WORDS: usize = 3;

/// The lines that tell why a part of a spec failed, the most telling first; empty where nothing was said.
pub fn lines(tail: &str, part: Option<&str>) -> Vec<String> {
    let output = Output::of(tail, part);
    let commands = Commands::of(&output);
    let trace = commands.last.into_iter().chain(commands.exit).map(|at| text::clean(&output.lines[at]));
    let said = output.after(commands.last);
    let told = said.best(Worth::Cause);
    // `Segmentation fault`: whose?
    let bare = told.len() == 1 && !told[0].contains(':') && said.having(Worth::Test).is_empty();
    if !told.is_empty() {
        return distinct(told.into_iter().chain(trace.filter(|_| bare)));
    }
    // `exit $failed`: what failed was said before.
    let earlier = output.best(Worth::Cause);
    if commands.exited && !earlier.is_empty() {
        return earlier;
    }
    let told = said.best(Worth::Echo);
    if !told.is_empty() {
        return told;
    }
    let words = said.last_words(said.lines.len());
    let told = if words.is_empty() { earlier } else { words };
    distinct(told.into_iter().chain(trace))
}

/// The last command of a part that sends signals.
pub fn killer(tail: &str, part: Option<&str>) -> Option<String> {
    let mut last = text::lines(text::part_of(tail, part)).rev();
    last.find(|line| is_trace(line) && line.split([' ', '/']).any(|word| word.contains("kill")))
        .map(|line| text::clean(&line))
}

/// A part's output, or the end of it.
struct Output<'a> {
    lines: Vec<Cow<'a, str>>,
    /// Where that end begins.
    from: usize,
    /// In the order of the log.
    found: Vec<Found>,
}

/// A line with a mark.
#[derive(Debug, Clone, Copy)]
struct Found {
    line: usize,
    worth: Worth,
    /// Where in the line the mark is.
    at: usize,
    follow: Follow,
}

impl<'a> Output<'a> {
    fn of(tail: &'a str, part: Option<&str>) -> Output<'a> {
        let lines: Vec<_> = text::lines(text::part_of(tail, part)).collect();
        let mut found: Vec<Found> = Vec::new();
        for (line, text) in lines.iter().enumerate().filter(|(_, text)| !is_trace(text)) {
            match marks::weigh(text, part == Some("check")) {
                Some((Worth::TakesBack, ..)) => drop(found.pop()),
                Some((worth, at, follow)) => found.push(Found { line, worth, at, follow }),
                None => {}
            }
        }
        Output { lines, from: 0, found }
    }

    /// What comes after a line.
    fn after(&self, line: Option<usize>) -> Output<'_> {
        let from = line.map_or(0, |line| line + 1);
        let lines = self.lines.iter().map(|line| Cow::Borrowed(line.as_ref())).collect();
        Output { lines, from, found: self.found.iter().filter(|found| found.line >= from).copied().collect() }
    }

    /// The best lines, if there are some that are worth `least`.
    fn best(&self, least: Worth) -> Vec<String> {
        let best = self.found.iter().map(|found| found.worth).max().filter(|best| *best >= least);
        match best {
            Some(Worth::Test) => {
                let causes = self.having(Worth::Cause);
                self.show(self.having(Worth::Test).into_iter().chain(causes))
            }
            Some(Worth::Cause) => self.show(self.causes().into_iter()),
            Some(Worth::Hint) => self.show(self.hints().into_iter()),
            Some(Worth::Echo) => self.echoes(),
            Some(Worth::Nothing | Worth::TakesBack) | None => Vec::new(),
        }
    }

    fn having(&self, worth: Worth) -> Vec<&Found> {
        self.found.iter().filter(|found| found.worth == worth).collect()
    }

    /// The errors, before all others those of the files that make then says it could not make.
    fn causes(&self) -> Vec<&Found> {
        let echoes = self.having(Worth::Echo);
        let targets: Vec<&str> =
            echoes.iter().filter_map(|found| marks::failed_target(&self.lines[found.line])).collect();
        let about = |found: &&Found| {
            targets.iter().any(|stem| {
                let line = &self.lines[found.line];
                line.match_indices(&format!("{stem}.")).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-')
                })
            })
        };
        let (mut causes, others): (Vec<&Found>, Vec<&Found>) =
            self.having(Worth::Cause).into_iter().partition(about);
        causes.extend(others);
        causes
    }

    /// The last hints on end before make, or whatever ran the command, says that it failed.
    fn hints(&self) -> Vec<&Found> {
        let failed = self.having(Worth::Echo).first().map_or(usize::MAX, |found| found.line);
        let mut hints: Vec<&Found> = self.having(Worth::Hint);
        if hints.iter().any(|found| found.line < failed) {
            hints.retain(|found| found.line < failed);
        }
        let mut block: Vec<&Found> = Vec::new();
        for found in hints.into_iter().rev() {
            if block.last().is_some_and(|next| next.line != found.line + 1) {
                break;
            }
            block.push(found);
        }
        block.reverse();
        block
    }

    /// What make says, and what was said before it.
    fn echoes(&self) -> Vec<String> {
        let echoes = self.having(Worth::Echo);
        let first = echoes.first().map_or(0, |found| found.line);
        let follows = self.show(echoes.into_iter().take(1));
        let words = if follows.len() > 1 { Vec::new() } else { self.last_words(first) };
        distinct(follows.into_iter().chain(words))
    }

    /// The last lines before `end` that say something.
    fn last_words(&self, end: usize) -> Vec<String> {
        let said = self.lines[self.from..end].iter().rev().filter(|line| !line.is_empty() && !is_noise(line));
        let mut words: Vec<String> = said.take(LAST_WORDS).map(|line| text::fit(line, 0)).collect();
        words.reverse();
        words
    }

    fn show<'b>(&self, found: impl Iterator<Item = &'b Found>) -> Vec<String> {
        distinct(found.flat_map(|found| {
            let line = text::fit(self.lines[found.line].trim_start(), found.at);
            std::iter::once(line).chain(self.belonging(found))
        }))
    }

    fn belonging(&self, found: &Found) -> Vec<String> {
        let after = &self.lines[found.line + 1..];
        let take = |lines: &mut dyn Iterator<Item = &Cow<'a, str>>, most: usize| -> Vec<String> {
            lines.take(most).map(|line| text::fit(line.trim_end(), 0)).collect()
        };
        let said = |line: &&Cow<'a, str>| !line.is_empty() && !is_trace(line);
        match found.follow {
            Follow::None => Vec::new(),
            Follow::Next(most) => {
                take(&mut after.iter().skip_while(|line| line.is_empty()).take_while(said), most)
            }
            Follow::Indented(most) => {
                take(&mut after.iter().take_while(|line| line.starts_with(' ')).filter(said), most)
            }
            Follow::Output(most) => {
                let own = |line: &&Cow<'a, str>| said(line) && !line.starts_with(['[', 'n']);
                take(&mut after.iter().skip(1).take_while(own), most)
            }
            Follow::Before(words, most) => {
                let before = self.lines[..found.line].iter().rev().take(most);
                take(&mut before.filter(|line| line.contains(words)), 1)
            }
        }
    }
}

/// The commands of a script.
struct Commands {
    /// The line of the last command.
    last: Option<usize>,
    /// The script ended itself, after it.
    exited: bool,
    /// The line of its own `exit`, which rpm's scripts have none of.
    exit: Option<usize>,
}

impl Commands {
    fn of(output: &Output<'_>) -> Commands {
        let traces = output.lines.iter().enumerate().rev().filter(|(_, line)| is_trace(line));
        let (mut exited, mut exit, mut only) = (false, None, None);
        for (at, line) in traces {
            only = only.or(Some(at));
            if !is_ending(line) {
                return Commands { last: Some(at), exited, exit };
            }
            exited = true;
            exit = exit.or_else(|| line.contains(" exit").then_some(at));
        }
        Commands { last: only, exited, exit: None }
    }
}

fn is_trace(line: &str) -> bool {
    line.starts_with("+ ") || line.starts_with("++ ")
}

/// `exit 1`, and what rpm has after every script.
fn is_ending(trace: &str) -> bool {
    let command = trace.trim_start_matches('+').trim_start();
    ["exit", "RPM_EC=", "jobs -p"].iter().any(|ending| command.starts_with(ending))
}

fn is_noise(line: &str) -> bool {
    is_trace(line)
        || text::epilogue(line)
        || line.starts_with("Executing(")
        || line.starts_with("warning: ")
        || line.starts_with("Building target platforms")
        || line.starts_with("Building for target")
        || line.starts_with("setting SOURCE_DATE_EPOCH")
}
