//! Guards: which crate may know what. They read the manifests and the sources, and fail when a layer reaches past its own.
//!
//! A rule that must be broken somewhere is listed there with its reason (`Exception`); an exception that nothing needs
//! any more fails too.

mod crates;
mod errors;
mod items;
mod paths;
mod readme;
mod rooms;
mod scan;
mod source;
mod sources;
mod tokens;
