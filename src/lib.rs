#![doc = include_str!("guide.md")]
#![forbid(unsafe_code)]

pub use grains_core::{
    ActivationId, Answers, Call, CallError, Cancelled, CommitError, Ctx, DeactivationReason, Draft, Drafts, Error,
    Failure, FencingToken, Gone, Grain, GrainId, GrainKey, Instant, Interface, KEY_BYTES_MAX, KeyError, KeyFrom, KeyOf,
    KeyReader, KeyWriter, Lifecycle, MethodInfo, NoAnswer, Outcome, PRINCIPAL, REQUEST_CONTEXT_BYTES_MAX, RawRef,
    RequestContext, RequestContextFull, Result, Retry, SPAWNED_MAX, ScheduleError, SingletonKey, State, StateError,
    StoredCall, StoredTimer, TIMERS_MAX, Tick, Version, Wire, Workers, commit,
};
pub use grains_core::{
    Detached, Fakes,
    stream::{Fanout, FanoutFull, FanoutLimits, StreamError, StreamSink, Streaming},
};
pub use grains_macros::{GrainKey, grain, main, rpc_trait};

#[cfg(feature = "ca")]
pub use grains_runtime::ca;
#[cfg(all(feature = "client", not(feature = "cluster")))]
pub use grains_runtime::{BadName, TlsConfig};
#[cfg(feature = "client")]
pub use grains_runtime::{Client, ClientConfig, ConnectError};
#[cfg(feature = "cluster")]
pub use grains_runtime::{
    ClientsConfig, ClusterConfig, ClusterStatus, Leader, Leadership, LinkStatus, MemberStatus, Principal, StatesStatus,
    TlsConfig, cluster,
};
#[cfg(feature = "runtime")]
pub use grains_runtime::{GrainOptions, Node, NodeBuilder, NodeConfig, StartError, Stopped, init};

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

#[cfg(feature = "switches")]
#[doc(hidden)]
pub use grains_core::switches;
/// Your grains on a whole cluster in one thread, in virtual time, from one seed.
///
/// A test of what survives when nodes and connections fail. It fails with the seed that shows it and the command that replays it:
///
/// ```
/// use std::{sync::atomic::{AtomicU64, Ordering::SeqCst}, time::Duration};
///
/// use grains::{prelude::*, sim::{Caller, Faults, Workload, Worlds}};
///
/// #[rpc_trait]
/// pub trait Counter {
///     async fn add(&mut self, n: u64) -> Result<u64>;
/// }
///
/// #[grain(Counter)]
/// pub struct CounterGrain { sum: State<u64> }
///
/// impl Lifecycle for CounterGrain {
///     async fn activate(ctx: Ctx<Self>) -> Result<Self> {
///         Ok(Self { sum: ctx.state("sum").await? })
///     }
/// }
///
/// impl Counter for CounterGrain {
///     async fn add(&mut self, n: u64) -> Result<u64> {
///         let mut sum = self.sum.edit();
///         *sum += n;
///         sum.commit().await?;
///         Ok(*self.sum)
///     }
/// }
///
/// #[derive(Default)]
/// struct Counting { begun: AtomicU64, answered: AtomicU64 }
///
/// impl Workload for Counting {
///     async fn run(&self, caller: Caller) {
///         while caller.goes_on().await {
///             self.begun.fetch_add(1, SeqCst); // before the call: its node may end at any await
///             if caller.get::<CounterRef>("apples").add(1).await.is_ok() {
///                 self.answered.fetch_add(1, SeqCst);
///             }
///         }
///     }
///
///     async fn check(&self, caller: Caller) -> Result<()> {
///         let sum = caller.get::<CounterRef>("apples").add(0).await?;
///         let (answered, begun) = (self.answered.load(SeqCst), self.begun.load(SeqCst));
///         assert!((answered..=begun).contains(&sum) && sum > 0, "{answered} to {begun} were added, {sum} are there");
///         Ok(())
///     }
/// }
///
/// // #[test]
/// fn what_was_counted_stays() {
///     // Two seeds; `GRAINS_SEEDS=300` runs more, and `GRAINS_SEED=7` one of them again.
///     Worlds::new(3, |machine| machine.node().host::<CounterGrain>())
///         .workload(1, Counting::default)
///         .faults(Faults::all())
///         .lasts(Duration::from_secs(2))
///         .run(2);
/// }
/// # what_was_counted_stays();
/// ```
///
/// `docs/TESTING.md` goes through such a test step by step, and replays and fixes what it finds. For one certain order of events
/// without any of that, write it down: [`sim::run`] has machines, their network, and time.
#[cfg(feature = "sim")]
pub use grains_runtime::sim;

/// What reads bytes from outside, for the tests of grains itself.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use grains_runtime::fuzzing;

/// What macros write and what few write by hand.
#[doc(hidden)]
pub mod __private {
    pub use core::{
        clone::Clone, cmp::Eq, cmp::PartialEq, default::Default, fmt::Debug, future::Future, hash::Hash, marker::Send,
        option::Option, result::Result,
    };
    pub use std::string::String;

    pub use grains_core::{
        AccessKind, AnsweredBy, Answers, Call, Ctx, Error, Exclusive, Grain, GrainKey, Interface, KeyError, KeyFrom,
        KeyReader, KeyWriter, Lifecycle, Method, MethodId, MethodInfo, RawRef, Shared, Turns, Workers, argument,
        check_pair,
        codec::{ArgsReader, ArgsWriter, CodecError, Weigher},
        deserialize_ref, serialize_ref,
    };
    #[cfg(feature = "runtime")]
    pub use grains_runtime::{init_with_args, run_main};
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
