//! What `check-config` says of an engine: whether this machine and user can build with it.

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
