//! Pure types: what a job, a build, an event and a build record are, and how they are spelled on the wire.
//!
//! Nothing here does I/O. Every string that comes from outside becomes one of [`name`]'s newtypes before
//! it can reach a path or an argument list.

pub mod answer;
pub mod arch;
pub mod build;
pub mod builder;
pub mod event;
pub mod failure;
pub mod job;
pub mod layout;
pub mod limits;
pub mod name;
pub mod record;
pub mod request;
pub mod status;
pub mod text;
pub mod unreadable;

pub use arch::Arch;
pub use build::{Attempt, BuildId, BuildPath, Timestamp};
pub use builder::Builder;
pub use event::Event;
pub use failure::{Blame, Class, Failure};
pub use job::BuildJob;
pub use layout::Layout;
pub use limits::{Limits, Resources, Size};
pub use name::{
    Disttag, GitRef, Nonce, PkgName, RpmName, SourcesDir, SrpmName, Submitter, Target, VersionRelease,
};
pub use record::BuildRecord;
pub use status::Status;
