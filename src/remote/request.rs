//! The client's side: a request is signed and published, and its answers are waited for.
//!
//! An old controller does not know a request that comes twice, and never answers. So it is published again only where
//! nothing else can be: after our connection to the broker was cut, whenever a bridge says that it has begun to listen,
//! and, once a bridge has shown that it is there, from time to time until it has answered.
