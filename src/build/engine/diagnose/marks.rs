//! What tools say when something goes wrong: the marks by which a line of a log is known. The first that fits counts,
//! so the exceptions come first.

/// What a line with a mark is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// Looks like an error and is none.
    Nothing,
    /// The error just before was none.
    TakesBack,
    /// Repeats that something went wrong, and not what.
    Echo,
    /// May be the reason if nothing better is found: scripts complain of much that they then do without.
    Hint,
    /// An error with its reason.
    Cause,
    /// A test that failed, by its name. Only %check's.
    Test,
}

/// Which lines near one with a mark belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    None,
    /// So many that are not empty, up to an empty one; empty ones before them are skipped.
    Next(usize),
    /// So many that are indented.
    Indented(usize),
    /// So many that a command of ninja's printed, without the command itself.
    Output(usize),
    /// And one before it: the last that has these words, among so many.
    Before(&'static str, usize),
}

/// Where in a line a mark's words stand. A program's folder does not count as its beginning.
#[derive(Debug, Clone, Copy)]
enum Place {
    Start,
    Within,
    End,
    /// Anywhere after the second's words have come.
    StartAnd(&'static str),
}

/// Words by which a line is known.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    place: Place,
    words: &'static str,
    pub follow: Follow,
}

const fn start(words: &'static str) -> Mark {
    Mark { place: Place::Start, words, follow: Follow::None }
}

const fn within(words: &'static str) -> Mark {
    Mark { place: Place::Within, words, follow: Follow::None }
}

const fn end(words: &'static str) -> Mark {
    Mark { place: Place::End, words, follow: Follow::None }
}

impl Mark {
    const fn and(self, words: &'static str) -> Mark {
        Mark { place: Place::StartAnd(words), ..self }
    }

    const fn then(self, follow: Follow) -> Mark {
        Mark { follow, ..self }
    }

    /// Where in the line the words are.
    fn find(&self, line: &str) -> Option<usize> {
        let start = line.len() - without_folder(line).len();
        match self.place {
            Place::Start => line[start..].starts_with(self.words).then_some(start),
            Place::Within => line.find(self.words),
            Place::End => line.ends_with(self.words).then(|| line.len() - self.words.len()),
            Place::StartAnd(more) => {
                line[start..].strip_prefix(self.words).filter(|rest| rest.contains(more)).map(|_| start)
            }
        }
    }
}

/// `tar: x` of `/usr/bin/tar: x`.
fn without_folder(line: &str) -> &str {
    let line = line.trim_start();
    let program = line.split(' ').next().unwrap_or_default();
    match program.rfind('/') {
        Some(at) if program.starts_with('/') && program.ends_with(':') => &line[at + 1..],
        _ => line,
    }
}

const NOTHING: &[Mark] = &[
    start("error: Bad exit status from "),
    start("Bad exit status from "),
    start("checking "),
    start("| "),
    // What configure tries is meant to fail now and then.
    within("conftest."),
    start("configure: error: in `"),
    start("not ok ").and("# TODO"),
    start("not ok ").and("# SKIP"),
    start("not ok ").and("# skip"),
    start("XFAIL"),
    within(": warning: "),
    within(": note: "),
    start("warning: "),
    within(": no error"),
    start("FAILED ("),
];

const TAKES_BACK: &[Mark] = &[
    // make, of a command that is allowed to fail; Python, of an exception that was caught.
    end("(ignored)"),
    start("During handling of the above exception, another"),
];

const ECHO: &[Mark] = &[
    start("collect2: error: "),
    end(": final link failed"),
    start("compilation terminated."),
    start("error: could not compile "),
    start("error: test failed, to rerun"),
    start("autoreconf: error: ").and(" failed with exit status"),
    start("ninja: build stopped"),
    start("FAILED: ").then(Follow::Output(3)),
    start("Errors while running CTest"),
    start("tar: Child returned status"),
    start("tar: Error is not recoverable"),
    start("tar: Exiting with failure"),
    start("BEGIN failed--"),
    start("msgfmt: found "),
    start("subprocess.CalledProcessError"),
    start("[ERROR] COMPILATION ERROR"),
    start("[ERROR] Failed to execute goal"),
    start("[ERROR] Tests run:"),
    start("[ERROR] Failures:"),
    start("[ERROR] -> [Help"),
    start("[ERROR] [Help"),
    start("[ERROR] To see the full stack"),
    start("[ERROR] Re-run Maven"),
    start("[ERROR] For more information"),
    start("[ERROR] [ERROR] Some problems"),
    start("npm ERR! A complete log"),
    start("npm ERR! code"),
    start("npm ERR! errno"),
    start("npm ERR! syscall"),
];

const TEST: &[Mark] = &[
    // automake, DejaGnu, Python's unittest
    start("FAIL: "),
    start("ERROR: "),
    start("XPASS: "),
    // TAP, GLib, Perl
    start("not ok "),
    start("Bail out!"),
    start("#   Failed test").then(Follow::Next(1)),
    // pytest, Go, CTest, Rust, Maven
    start("FAILED "),
    start("--- FAIL").then(Follow::Indented(1)),
    start("FAIL "),
    within("***Failed"),
    within("***Timeout"),
    within("***Exception"),
    within("***Not Run"),
    end("... FAILED"),
    within("' panicked at ").then(Follow::Next(1)),
    end("<<< FAILURE!").then(Follow::Next(1)),
    end("<<< ERROR!").then(Follow::Next(1)),
];

const CAUSE: &[Mark] = &[
    // compilers
    start("libtool:").and("error: "),
    within(": error: ").then(Follow::Before("required from here", 3)),
    within(": fatal error: "),
    within(": internal compiler error: "),
    within(": Fehler: "),
    within(": erreur: "),
    within(" erreur : "),
    within(": errore: "),
    within(": ошибка: "),
    within(": błąd: "),
    within(": エラー: "),
    within(": 错误："),
    start("error[").then(Follow::Indented(1)),
    start("error: ").then(Follow::Indented(1)),
    start("[ERROR] "),
    // linkers and loaders
    within(": undefined reference to"),
    within(": cannot find -l"),
    within(": multiple definition of"),
    within(": relocation R_"),
    within(": error while loading shared libraries: "),
    within(": undefined symbol: "),
    // configuring
    start("configure: error: Package requirements").then(Follow::Next(2)),
    within("configure: error: "),
    start("CMake Error").then(Follow::Indented(2)),
    within(": ERROR: "),
    start("No package '"),
    start("Package ").and("was not found in the pkg-config search path"),
    end(" is missing on your system."),
    start("Setup: Encountered missing").then(Follow::Next(1)),
    // unpacking and patching
    within(" hunk FAILED -- saving rejects to file ").then(Follow::Before(".patch", 1000)),
    within(" hunks FAILED -- saving rejects to file ").then(Follow::Before(".patch", 1000)),
    start("can't find file to patch").then(Follow::Next(4)),
    start("patch: **** "),
    start("gzip: "),
    start("bzip2: "),
    start("xz: "),
    start("unzip: "),
    start("tar: ").and("Unexpected EOF"),
    start("tar: ").and("does not look like a tar archive"),
    // interpreters
    start("Can't locate ").and(" in @INC"),
    start("Undefined subroutine "),
    start("panic: "),
    start("Exception in thread "),
    start("Caused by: "),
    within(": syntax error"),
    within(": Syntax error: "),
    within(": unbound variable"),
    within(": unexpected EOF while looking for"),
    // the network, which there is none of
    within("Could not resolve host"),
    within("Temporary failure in name resolution"),
    within("getaddrinfo ENOTFOUND"),
    within("Network is unreachable"),
    start("I/O error : Attempt to load network entity"),
    start("npm ERR! "),
    start("npm error "),
    // crashes
    within(": Assertion `"),
    start("terminate called after throwing").then(Follow::Indented(1)),
    within("Segmentation fault"),
    within("Bus error"),
    within("Illegal instruction"),
    within("Floating point exception"),
    within("*** stack smashing detected"),
    within("*** buffer overflow detected"),
    start("double free or corruption"),
    start("free(): invalid"),
    start("malloc(): "),
    within("Cannot allocate memory"),
    within("virtual memory exhausted"),
    // rpm's own checks of what was installed
    end(" in installed files; aborting").then(Follow::Before("/BUILDROOT/", 3)),
    start("*** ERROR: "),
    start("ERROR  "),
    // any program
    start("ERROR: "),
    start("Error: "),
    start("E   "),
];

const HINT: &[Mark] = &[
    end(": command not found"),
    end(": Command not found"),
    end(": not found"),
    end(": No such file or directory"),
    end(": Permission denied"),
    end(": No space left on device"),
    end(": Read-only file system"),
    end(": Is a directory"),
    end(": Not a directory"),
    end(": File exists"),
    end(": Operation not permitted"),
    end(": bad interpreter: No such file or directory"),
    within(": can't cd to "),
    within(": cannot stat "),
    within(": unrecognized option "),
    within(": invalid option "),
    start("fatal: "),
    start("go: "),
    start("Aborted"),
    start("Terminated"),
    start("Killed"),
];

/// What a line is worth, where in it the words for that are, and what follows it.
pub fn weigh(line: &str, in_check: bool) -> Option<(Worth, usize, Follow)> {
    let look = |marks: &[Mark], worth: Worth| {
        marks.iter().find_map(|mark| mark.find(line).map(|at| (worth, at, mark.follow)))
    };
    let simple = |worth: Worth| (worth, 0, Follow::None);
    look(NOTHING, Worth::Nothing)
        .or_else(|| look(TAKES_BACK, Worth::TakesBack))
        .or_else(|| make(line).map(simple))
        .or_else(|| look(ECHO, Worth::Echo))
        .or_else(|| in_check.then(|| look(TEST, Worth::Test)).flatten())
        .or_else(|| (in_check && meson_test(line)).then(|| simple(Worth::Test)))
        .or_else(|| look(CAUSE, Worth::Cause))
        .or_else(|| python_error(line).then(|| simple(Worth::Cause)))
        .or_else(|| position(line).map(simple))
        .or_else(|| look(HINT, Worth::Hint))
        .filter(|(worth, ..)| *worth != Worth::Nothing)
}

/// make's own errors: `make: *** [Makefile:2: all] Error 1`, `Makefile:2: *** missing separator.  Stop.`
fn make(line: &str) -> Option<Worth> {
    let (_, said) = line.split_once(": *** ")?;
    if said.starts_with('[') {
        // Whatever language its `Error` is in. A signal's name says more.
        return Some(if line.ends_with(|c: char| c.is_ascii_digit()) { Worth::Echo } else { Worth::Cause });
    }
    said.ends_with("Stop.").then_some(Worth::Cause)
}

/// `ModuleNotFoundError: No module named 'x'`, a traceback's last line; Java's exceptions look like that, too.
fn python_error(line: &str) -> bool {
    let (name, _) = line.split_once(": ").unwrap_or_default();
    (name.ends_with("Error") || name.ends_with("Exception"))
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_')
        && !matches!(name, "Error" | "Exception")
}

/// `main.go:12:9: undefined: x`: a place in a file, and something about it.
fn position(line: &str) -> Option<Worth> {
    let (file, rest) = line.split_once(':')?;
    let (number, rest) = rest.split_once(": ").unwrap_or_default();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let place = !file.contains(' ') && file.contains('.') && number.split(':').all(digits);
    let harmless = ["warning", "Warning", "note", "info", "remark", "required from", "In "];
    if !place || harmless.iter().any(|word| rest.starts_with(word)) {
        return None;
    }
    let known = matches!(file.rsplit_once('.'), Some((_, "go" | "po")));
    Some(if known { Worth::Cause } else { Worth::Hint })
}

/// `2/3 tool:unit / map       FAIL            0.02s   exit status 1`
fn meson_test(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let count = words.next().is_some_and(|word| {
        word.split_once('/').is_some_and(|(one, all)| [one, all].iter().all(|n| n.parse::<u32>().is_ok()))
    });
    count && words.any(|word| matches!(word, "FAIL" | "ERROR" | "TIMEOUT"))
}

/// The file that make could not make, without its folder and ending: `a` of `make: *** [Makefile:3: src/a.o] Error 1`.
pub fn failed_target(line: &str) -> Option<&str> {
    let (_, target) = line.split_once(": *** [")?;
    let target = target.split_once(']')?.0.rsplit(": ").next()?;
    let name = target.rsplit('/').next()?;
    let (stem, ending) = name.split_once('.')?;
    (!stem.is_empty() && !ending.is_empty()).then_some(stem)
}
