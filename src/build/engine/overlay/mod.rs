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
    pub fn name(&self) -> EngineName {
        todo!()
    }
}
