//! What `check-config` says of an engine: whether this machine and user can build with it.

use std::ffi::OsStr;

/// One thing that was looked at, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub ok: bool,
    pub text: String,
}

pub fn good(text: impl Into<String>) -> Finding {
    Finding { ok: true, text: text.into() }
}

pub fn bad(text: impl Into<String>) -> Finding {
    Finding { ok: false, text: text.into() }
}

/// Whether a program is there: by its name, or where a path says.
pub fn on_path(program: impl AsRef<OsStr>) -> bool {
    let program = program.as_ref();
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()))
}
