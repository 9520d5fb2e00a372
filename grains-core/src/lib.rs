//! The words and promises of grains: identity, interfaces, calls, state, and the seams to the world.
//!
//! Nothing here runs by itself: no threads, no clock, no sockets, no files. `grains-runtime` brings those. Users name the
//! facade crate `grains` instead.
//!
//! Reading order: [`GrainId`] and [`GrainKey`] (who), [`Method`] and [`Interface`] (what may be asked), [`Call`] and
//! [`Route`](route::Route) (how it is asked), [`Lifecycle`] and [`Ctx`] (who answers), [`State`] and
//! [`Store`](store::Store) (what stays), [`world`] (the seams).
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests race on real threads"))]

mod call;
pub mod cancel;
mod catch;
pub mod codec;
mod ctx;
mod detached;
mod error;
mod grain;
mod id;
mod interface;
mod key;
mod method;
#[doc(hidden)]
pub mod names;
mod reference;
pub mod reply;
mod request;
pub mod route;
mod state;
pub mod store;
pub mod stream;
#[doc(hidden)]
pub mod switches;
pub mod tasks;
mod time;
pub mod timeout;
mod workers;
pub mod world;

pub use call::{Call, Retry, StoredCall, decode_args, encode_args, through_bytes, timed_out};
pub use cancel::Cancelled;
pub use catch::{CatchUnwind, catch_unwind};
pub use ctx::{AfterLoss, Anchor, Ctx, Host, SPAWNED_MAX, ScheduleError, SharedTick, StoredTimer, TIMERS_MAX, Tick};
pub use detached::{Detached, Fakes};
pub use error::{CallError, Error, Failure, Gone, NoAnswer, Outcome, Result, StateError};
pub use grain::{DeactivationReason, Grain, Lifecycle};
pub use id::{ActivationId, FencingToken, GrainId, KEY_BYTES_MAX, MethodId, Version};
pub use interface::{About, Answers, Interface, InterfaceSet, check_pair};
pub use key::{GrainKey, KeyError, KeyFrom, KeyOf, KeyReader, KeyWriter, SingletonKey};
pub use method::{
    Access, AccessKind, AnsweredBy, Argument, Exclusive, Method, MethodInfo, Reply, Shared, Turns, Wire, argument,
    heap_bytes,
};
pub use reference::{RawRef, deserialize_ref, serialize_ref, with_route};
pub use request::{PRINCIPAL, REQUEST_CONTEXT_BYTES_MAX, RequestContext, RequestContextFull};
pub use state::{Draft, Drafts, State, commit};
pub use store::CommitError;
pub use time::Instant;
pub use workers::Workers;
