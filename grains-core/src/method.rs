//! What the macros write about one method, and what the runtime needs of it to run a turn.

use std::{fmt, future::Future};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    codec::{ArgsReader, ArgsWriter, CodecError, Weigher},
    id::MethodId,
    stream::within_item,
};

/// How a turn may run beside others: decided by `&self` or `&mut self` in the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// `&self`: beside other shared turns of the same activation.
    Shared,
    /// `&mut self`: alone.
    Exclusive,
}

impl fmt::Display for AccessKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "shared",
            Self::Exclusive => "exclusive",
        })
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Shared {}
    impl Sealed for super::Exclusive {}
}

/// [`AccessKind`] as a type, so that a method that needs `&mut self` can only be given one.
pub trait Access: sealed::Sealed + 'static {
    /// The same as a value.
    const KIND: AccessKind;
    /// `&'g G` or `&'g mut G`.
    type Of<'g, G: 'g>;
    /// The kind of reference this access needs, from the only reference there is.
    fn of<'g, G: 'g>(grain: &'g mut G) -> Self::Of<'g, G>;
    /// The kind of reference this access needs, from whoever can give either.
    fn take<'g, G: 'g>(shared: impl FnOnce() -> &'g G, exclusive: impl FnOnce() -> &'g mut G) -> Self::Of<'g, G>;
}

/// The access of `&self` methods.
#[derive(Debug)]
pub enum Shared {}

/// The access of `&mut self` methods.
#[derive(Debug)]
pub enum Exclusive {}

impl Access for Shared {
    const KIND: AccessKind = AccessKind::Shared;
    type Of<'g, G: 'g> = &'g G;
    fn of<'g, G: 'g>(grain: &'g mut G) -> &'g G {
        grain
    }
    fn take<'g, G: 'g>(shared: impl FnOnce() -> &'g G, _: impl FnOnce() -> &'g mut G) -> &'g G {
        shared()
    }
}

impl Access for Exclusive {
    const KIND: AccessKind = AccessKind::Exclusive;
    type Of<'g, G: 'g> = &'g mut G;
    fn of<'g, G: 'g>(grain: &'g mut G) -> &'g mut G {
        grain
    }
    fn take<'g, G: 'g>(_: impl FnOnce() -> &'g G, exclusive: impl FnOnce() -> &'g mut G) -> &'g mut G {
        exclusive()
    }
}

/// What is known of a method without running it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MethodInfo {
    /// Its name on the wire: the Rust name, or the one given by `#[rpc(name = "..")]`.
    pub name: &'static str,
    /// The hash of the name.
    pub id: MethodId,
    /// Whether its turns run alone.
    pub access: AccessKind,
    /// Whether running it twice is the same as running it once, as `#[rpc(idempotent)]` says.
    pub idempotent: bool,
}

impl MethodInfo {
    /// Describes the method called `name`, not idempotent.
    pub const fn new(name: &'static str, access: AccessKind) -> Self {
        Self { name, id: MethodId::of(name), access, idempotent: false }
    }

    /// The same method, safe to run twice.
    pub const fn idempotent(self) -> Self {
        Self { idempotent: true, ..self }
    }
}

/// One method of an interface; the fields of the implementing type are its arguments.
///
/// `#[rpc_trait]` writes one such type per method.
pub trait Method: Sized + Send + 'static {
    /// Name, id, access.
    const INFO: MethodInfo;
    /// [`Shared`] for `&self`, [`Exclusive`] for `&mut self`.
    type Access: Access;
    /// The `Result` the method returns.
    type Reply: Reply<Ok: Wire, Err: Wire>;
    /// Writes the arguments, one element each.
    fn encode_args(&self, args: &mut ArgsWriter<'_>) -> Result<(), CodecError>;
    /// Reads the arguments. A missing trailing `Option` is `None`; elements beyond the last are skipped.
    fn decode_args(args: &mut ArgsReader<'_>) -> Result<Self, CodecError>;
    /// Adds up what the arguments hold beyond their own size. Asked of calls that wait, whose bytes are limited.
    fn weigh(&self, weigher: &mut Weigher) {
        let _ = weigher;
    }
}

/// `M: AnsweredBy<G>` when `G` implements the trait that `M` is a method of.
pub trait AnsweredBy<G>: Method {
    /// Calls the method on `grain`.
    fn answer<'g>(self, grain: <Self::Access as Access>::Of<'g, G>) -> impl Future<Output = Self::Reply> + Send + 'g
    where
        G: 'g;
}

/// What a runtime does with a method once its type is known: a visitor of [`Answers::dispatch`](crate::Answers::dispatch).
pub trait Turns<G> {
    /// What running gives back.
    type Output;
    /// Runs, queues or decodes method `M`.
    fn turn<M: AnsweredBy<G>>(self) -> Self::Output;
}

/// Values that may travel to a grain and back.
///
/// Implemented for everything that is `Serialize + DeserializeOwned + Send + 'static`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to a grain",
    label = "not an argument or reply a grain can be sent",
    note = "arguments and replies are owned, `Send`, and derive `serde::Serialize` and `serde::Deserialize`"
)]
pub trait Wire: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Wire for T {}

/// How an argument is written, read and weighed, as [`argument`] says.
#[derive(Clone, Copy, Debug)]
pub struct Argument<T> {
    /// Appends it to the list.
    pub write: fn(&mut ArgsWriter<'_>, &T) -> Result<(), CodecError>,
    /// Takes it from the list; the text is its name in errors.
    pub read: fn(&mut ArgsReader<'_>, &str) -> Result<T, CodecError>,
    /// Adds what it holds.
    pub weigh: fn(&mut Weigher, &T),
}

/// How arguments of type `T` are written, read and weighed.
///
/// The bound of this function is the only one that `#[rpc_trait]` needs of an argument: a type that cannot be sent is
/// reported once, where it is written.
pub const fn argument<T: Wire>() -> Argument<T> {
    Argument {
        write: |args, value| args.element(value),
        read: |args, name| args.element(name),
        weigh: |weigher, value| weigher.element(value),
    }
}

/// The memory that the arguments of a call hold beyond their own size. Runs users' `Serialize`, which may panic.
pub fn heap_bytes<M: Method>(args: &M) -> usize {
    if !std::mem::needs_drop::<M>() {
        return 0; // what holds memory gives it back when it is dropped
    }
    // Streams stay where they are.
    within_item(|| {
        let mut weigher = Weigher::default();
        args.weigh(&mut weigher);
        weigher.bytes()
    })
}

/// What an rpc method returns: a `Result` of two [`Wire`] types.
#[diagnostic::on_unimplemented(
    message = "rpc methods return `Result<T, E>`, not `{Self}`",
    label = "wrap this in `grains::Result<..>`",
    note = "a call can always fail on its way, and so can the grain: say so in the signature"
)]
pub trait Reply: Send + 'static {
    /// The answer.
    type Ok: Send + 'static;
    /// The grain's own error.
    type Err: Send + 'static;
    /// The value as the `Result` it is.
    fn into_result(self) -> Result<Self::Ok, Self::Err>;
}

// Not `T: Wire`: a reply that cannot travel is reported once, at its `Method`, and not again at each call.
impl<T: Send + 'static, E: Send + 'static> Reply for Result<T, E> {
    type Ok = T;
    type Err = E;
    fn into_result(self) -> Self {
        self
    }
}
