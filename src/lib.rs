#![doc = include_str!("guide.md")]
#![forbid(unsafe_code)]

pub use grains_core::{
    ActivationId, Answers, Call, CallError, CommitError, Ctx, DeactivationReason, Draft, Drafts, Error, Failure,
    FencingToken, Gone, Grain, GrainId, GrainKey, Instant, Interface, IntoKey, KEY_BYTES_MAX, KeyError, KeyReader,
    KeyWriter, Lifecycle, MethodInfo, NoAnswer, Outcome, REQUEST_CONTEXT_BYTES_MAX, RawRef, RequestContext,
    RequestContextFull, Result, Retry, SPAWNED_MAX, ScheduleError, State, StateError, StoredCall, StoredTimer,
    TIMERS_MAX, Tick, Version, Wire, commit,
};
pub use grains_core::{
    Detached, Fakes,
    stream::{Fanout, FanoutFull, FanoutLimits, StreamError, StreamSink, Streaming},
};
pub use grains_macros::{GrainKey, grain, main, rpc_trait};

#[cfg(feature = "cluster")]
pub use grains_runtime::{ClusterConfig, ClusterStatus, Leader, Leadership, MemberStatus, StatesStatus, cluster};
#[cfg(feature = "runtime")]
pub use grains_runtime::{GrainOptions, Node, NodeBuilder, NodeConfig, StartError, Stopped};

/// Answers of many items over time.
pub mod stream {
    pub use grains_core::stream::{
        Fanout, FanoutFull, FanoutLimits, STREAM_CREDIT, SendError, Source, StreamError, StreamSink, Streaming,
        TrySendError,
    };
}

/// Where states are kept: the trait for stores, its errors, and the stores that come with grains.
pub mod store {
    pub use grains_core::store::{
        CommitError, LoadError, STATE_BYTES_MAX, Store, Stored, Write, WriteSet, memory::MemoryStore,
    };
    #[cfg(feature = "runtime")]
    pub use grains_runtime::store::StoreChoice;
    #[cfg(feature = "conformance")]
    pub use grains_runtime::store::{Fault, FaultyStore, conformance};
    #[cfg(feature = "cluster")]
    pub use grains_runtime::store::{MoveError, Moved, ReplicatedConfig, SET_BYTES_MAX};
    #[cfg(feature = "redb")]
    pub use grains_runtime::store::{OpenError, RedbConfig, RedbStore};
}

/// The seams through which a node touches the world: time, tasks, chance, disk, connections.
pub mod world {
    pub use grains_core::world::*;
    #[cfg(feature = "runtime")]
    pub use grains_runtime::world::{NoRuntime, tokio_world};
}

/// The settings of a node, from a TOML file, the environment and the command line: `docs/CONFIGURATION.md`.
#[cfg(feature = "config")]
pub mod config {
    pub use grains_runtime::settings::{GrainSettings, Mistake, Origin, Settings, SettingsError, Sources};
}

/// A whole cluster in one thread, in virtual time, from one seed.
#[cfg(feature = "sim")]
pub use grains_runtime::sim;

/// What macros write and what few write by hand.
#[doc(hidden)]
pub mod __private {
    pub use core::{
        clone::Clone, cmp::Eq, cmp::PartialEq, default::Default, fmt::Debug, future::Future, hash::Hash, marker::Send,
        option::Option, result::Result,
    };
    pub use std::string::String;

    pub use grains_core::{
        AccessKind, AnsweredBy, Answers, Call, Ctx, Error, Exclusive, Grain, GrainKey, Interface, IntoKey, KeyError,
        KeyReader, KeyWriter, Lifecycle, Method, MethodId, MethodInfo, RawRef, Shared, Turns, argument, check_pair,
        codec::{ArgsReader, ArgsWriter, CodecError},
        deserialize_ref, serialize_ref,
    };
    #[cfg(feature = "runtime")]
    pub use grains_runtime::run_main;
    pub use serde;
}

/// What nearly every grain needs: `use grains::prelude::*;`. Note that its `Result` has [`Error`] as default error.
pub mod prelude {
    #[cfg(feature = "runtime")]
    pub use crate::Node;
    pub use crate::{
        Call, CallError, CommitError, Ctx, DeactivationReason, Error, Fanout, GrainKey, Lifecycle, Result, State,
        Streaming, grain, rpc_trait,
    };
}

/// The README's code is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
