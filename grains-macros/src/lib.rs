//! The attributes of `grains`: [`macro@rpc_trait`], [`macro@grain`], [`macro@GrainKey`], [`macro@main`]. Users name them
//! through the facade crate `grains`.
//!
//! Each macro reads its input into a model and adds every mistake to a report; then the model is expanded, which cannot
//! fail. What a mistake spoils is left out of the model, and the rest is expanded, so that one mistake gives one error.
//! Expansions hold no logic: they implement public traits of `grains-core`, as could be done by hand.
#![forbid(unsafe_code)]

mod args;
mod grain;
mod grain_key;
mod main_fn;
mod report;
mod rpc_trait;

use proc_macro::TokenStream;

/// Makes an interface of a trait: what may be asked of a grain.
///
/// ```
/// use grains::{Result, rpc_trait};
///
/// /// A chat room.
/// #[rpc_trait]
/// pub trait Room {
///     /// Adds a line and answers its number.
///     async fn say(&mut self, who: String, text: String) -> Result<u64>;
///     /// The last lines, newest last.
///     #[rpc(idempotent)]
///     async fn history(&self, last: u32) -> Result<Vec<String>>;
/// }
///
/// # async fn talk(room: RoomRef) -> Result<()> {
/// let number = room.say("ann".into(), "hi".into()).await?;
/// # Ok(())
/// # }
/// ```
///
/// The trait stays as written, except that its futures are `Send`; grains implement it with plain `async fn`. Beside it
/// appears the reference type, `RoomRef`, with the same visibility and a method for each method of the trait, which gives
/// a `Call`.
///
/// # Methods
/// - `async fn` without a body or type parameters, `&mut self` (runs alone) or `&self` (runs beside other `&self` calls).
/// - Arguments are owned, have plain names, and derive `serde::Serialize` and `serde::Deserialize`.
/// - They return a `Result` of two such types.
///
/// # Options of the trait
/// - `#[rpc_trait(grain_type = "room")]`: the first half of the address. Default: the name of the trait as `kebab-case`.
///   Give all interfaces of one grain the same.
/// - `#[rpc_trait(key = u64)]`: the type of the key. Default: `String`.
/// - `#[rpc_trait(client)]`: clients from outside of the cluster may call it, too. Without this, only grains and nodes may.
/// - `#[rpc_trait(crate = path::to::grains)]`: where the `grains` crate is, if it was renamed or re-exported.
///
/// # Options of a method
/// - `#[rpc(name = "say")]`: its name in the address, to keep it when the method is renamed. Default: its name.
/// - `#[rpc(idempotent)]`: running it twice is as good as running it once, so `.retry(n)` may do so.
#[proc_macro_attribute]
pub fn rpc_trait(args: TokenStream, item: TokenStream) -> TokenStream {
    rpc_trait::rpc_trait(args.into(), item.into()).into()
}

/// Makes a grain of a struct: names the interfaces it answers.
///
/// ```
/// use grains::{Result, grain, rpc_trait};
/// # #[rpc_trait]
/// # pub trait Counter { async fn add(&mut self, n: u64) -> Result<u64>; }
/// # #[rpc_trait(grain_type = "counter")]
/// # pub trait CounterAdmin { async fn clear(&mut self) -> Result<()>; }
///
/// #[grain(Counter, CounterAdmin, default)]
/// #[derive(Default)]
/// struct CounterGrain {
///     total: u64,
/// }
///
/// impl Counter for CounterGrain {
///     async fn add(&mut self, n: u64) -> Result<u64> {
///         self.total += n;
///         Ok(self.total)
///     }
/// }
/// # impl CounterAdmin for CounterGrain { async fn clear(&mut self) -> Result<()> { Ok(()) } }
/// ```
///
/// It takes one to eight [`macro@rpc_trait`] traits, as names or as paths (`chat::Room` has its reference in
/// `chat::RoomRef`, next to it: of a trait that is imported from another crate, import both). They have the same grain type and key, and no two methods of the same name: otherwise the build
/// stops.
///
/// # Options
/// - `default`: activate with `Default::default()`, in place of an `impl Lifecycle`.
/// - `workers = 8`: each node that hosts the grain has up to so many activations of it beside each other, 1 to 1,024. A call
///   runs on the node of its caller, if that hosts the grain, by whichever worker is idle. Such a grain has no state.
/// - `crate = path::to::grains`: where the `grains` crate is, if it was renamed or re-exported.
#[proc_macro_attribute]
pub fn grain(args: TokenStream, item: TokenStream) -> TokenStream {
    grain::grain(args.into(), item.into()).into()
}

/// Makes a key of a struct whose fields are keys.
///
/// ```
/// use grains::GrainKey;
///
/// #[derive(Clone, Debug, PartialEq, GrainKey)]
/// struct Seat {
///     hall: String,
///     row: u16,
/// }
///
/// assert_eq!(Seat { hall: "a/b".into(), row: 7 }.to_text(), "a%2Fb/7");
/// ```
///
/// The text of the key has the fields in their order: moving or changing them gives other grains. Type parameters must be
/// keys, too. `#[grain_key(crate = path::to::grains)]` says where the `grains` crate is, if it was renamed or re-exported.
#[proc_macro_derive(GrainKey, attributes(grain_key))]
pub fn grain_key(item: TokenStream) -> TokenStream {
    grain_key::grain_key(item.into()).into()
}

/// Runs an `async fn main` on a runtime of many threads.
///
/// ```ignore
/// #[grains::main]
/// async fn main() -> grains::Result<()> {
///     let node = grains::Node::builder().start().await?;
///     Ok(())
/// }
/// ```
///
/// # Options
/// - `worker_threads = 4`: how many threads run turns. Default: one for each core.
/// - `crate = path::to::grains`: where the `grains` crate is, if it was renamed or re-exported.
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    main_fn::main_fn(args.into(), item.into()).into()
}
