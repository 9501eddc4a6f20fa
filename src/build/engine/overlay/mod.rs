//! The overlay engine.

use super::{Outcome, Request};
use crate::model::record::EngineName;
use tokio_util::sync::CancellationToken;

/// See the module.
#[derive(Debug)]
pub struct Overlay;

impl Overlay {
    pub async fn build(&self, _request: Request<'_>, _cancel: &CancellationToken) -> Outcome {
        todo!()
    }
    pub async fn sweep(&self) {}
    pub fn new(_layout: crate::model::Layout) -> Overlay {
        Overlay
    }
    pub fn name(&self) -> EngineName {
        todo!()
    }
}
#[derive(Debug)]
pub struct Check {
    pub good: bool,
    pub said: String,
}
impl Overlay {
    pub async fn check(&self) -> Vec<Check> {
        Vec::new()
    }
    pub async fn make_srpm(
        &self,
        _spec: &std::path::Path,
        _sources: &std::path::Path,
        _t: &crate::model::Target,
        _a: crate::model::Arch,
        _d: &crate::model::Disttag,
        _o: &std::path::Path,
    ) -> Result<std::path::PathBuf, crate::model::Failure> {
        todo!()
    }
    pub async fn check_install(
        &self,
        _t: &crate::model::Target,
        _a: crate::model::Arch,
        _p: &[String],
    ) -> Result<(), crate::model::Failure> {
        todo!()
    }
}
