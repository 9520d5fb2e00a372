//! What makes a struct a grain, and the two ends of its life.

use std::future::Future;

use crate::{ctx::Ctx, error::Result, interface::InterfaceSet, key::GrainKey, workers::Workers};

/// A struct whose values are activations of a grain type. `#[grain(Foo)]` implements it.
///
/// Grains are `Send + Sync`: their turns move between threads, and `&self` turns run beside each other.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a grain",
    label = "not a grain",
    note = "add `#[grain(Trait)]` to the struct, with the `#[rpc_trait]` traits it answers"
)]
pub trait Grain: Send + Sync + Sized + 'static {
    /// The type of its key.
    type Key: GrainKey;
    /// The interfaces it answers: a tuple of references, `(RoomRef, RoomAdminRef)`.
    type Interfaces: InterfaceSet<Self>;
    /// Its grain type.
    const GRAIN_TYPE: &'static str;
    /// How many activations one grain may have beside each other on each node, if it is served by workers; see [`Workers`].
    /// `#[grain(Foo, workers = 8)]` sets it. `None`, unless said otherwise: one activation in the whole cluster.
    const WORKERS: Option<Workers> = None;
}

/// How an activation begins and ends.
///
/// `#[grain(Foo, default)]` writes it for structs that derive `Default`.
#[diagnostic::on_unimplemented(
    message = "the runtime does not know how to activate `{Self}`",
    label = "no `Lifecycle`",
    note = "write `impl Lifecycle for {Self}`, or derive `Default` and say `#[grain(.., default)]`"
)]
pub trait Lifecycle: Grain {
    /// Makes the activation, on the first call of the grain. Calls wait until it has ended; an error is given to each of
    /// them and leaves nothing behind. It may take as long as the node's `activate_timeout`.
    fn activate(ctx: Ctx<Self>) -> impl Future<Output = Result<Self>> + Send;

    /// Runs after the last turn, alone, before the activation is dropped. Calls that arrive meanwhile wait for the next
    /// activation. It may take as long as the node's `deactivate_timeout`; an error is logged.
    ///
    /// It does not run after a panic or a lost state, nor when the process is killed: what must survive is committed.
    fn deactivate(&mut self, reason: DeactivationReason) -> impl Future<Output = Result<()>> + Send {
        let _ = reason;
        std::future::ready(Ok(()))
    }
}

/// Why an activation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeactivationReason {
    /// It had no call for its type's `idle_timeout`.
    Idle,
    /// It asked for it with [`Ctx::deactivate_on_idle`].
    Requested,
    /// Its node is stopping, or in a cluster its grain has to live elsewhere.
    Stopping,
    /// Its node had more activations than `activations_max`, and it was among those that had no call for longest.
    MadeRoom,
}
