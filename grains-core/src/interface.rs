//! What may be asked of a grain, as types: one `FooRef` per interface, and the set of them that one grain answers.

use crate::{
    id::MethodId,
    key::GrainKey,
    method::{MethodInfo, Turns},
    reference::RawRef,
};

/// An interface, seen from the caller: implemented by the `FooRef` that `#[rpc_trait]` writes for `trait Foo`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a reference to a grain",
    label = "not a reference type",
    note = "`#[rpc_trait] trait Foo` makes the reference type `FooRef`: use that"
)]
pub trait Interface: Clone + Send + Sync + Sized + 'static {
    /// The grain type, the first half of the address.
    const GRAIN_TYPE: &'static str;
    /// The name of the trait, for messages.
    const NAME: &'static str;
    /// All methods, in the order of the trait.
    const METHODS: &'static [MethodInfo];
    /// Whether clients from outside of the cluster may call it, as `#[rpc_trait(client)]` says. Grains may always.
    const FOR_CLIENTS: bool = false;
    /// The type of the key.
    type Key: GrainKey;
    /// Makes the typed reference from an untyped one.
    fn from_raw(raw: RawRef) -> Self;
    /// The untyped reference inside.
    fn as_raw(&self) -> &RawRef;
}

/// `FooRef: Answers<G>` when the struct `G` implements `trait Foo`.
#[diagnostic::on_unimplemented(
    message = "`{G}` does not answer the interface of `{Self}`",
    note = "implement the trait that `{Self}` was made from for `{G}`"
)]
pub trait Answers<G>: Interface {
    /// Finds the type of `method` and hands it to `turns`; gives `turns` back if this interface has no such method.
    fn dispatch<T: Turns<G>>(method: MethodId, turns: T) -> Result<T::Output, T>;
}

/// What is known of a method of a grain type before its type is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The name of its trait, for messages.
    pub interface: &'static str,
    /// Whether clients may call it.
    pub for_clients: bool,
    /// The method.
    pub method: &'static MethodInfo,
}

/// The method of this id in one interface.
fn about<C: Interface>(method: MethodId) -> Option<About> {
    let method = C::METHODS.iter().find(|known| known.id == method)?;
    Some(About { interface: C::NAME, for_clients: C::FOR_CLIENTS, method })
}

/// The interfaces one grain answers: a tuple of up to eight `FooRef`s.
pub trait InterfaceSet<G> {
    /// What is known of the method of this id, if one of them has it.
    fn about(method: MethodId) -> Option<About>;
    /// Finds the method in one of the interfaces, as [`Answers::dispatch`] does.
    fn dispatch<T: Turns<G>>(method: MethodId, turns: T) -> Result<T::Output, T>;
}

macro_rules! interface_set {
    ($($name:ident)+) => {
        impl<G, $($name: Answers<G>),+> InterfaceSet<G> for ($($name,)+) {
            fn about(method: MethodId) -> Option<About> {
                None$(.or_else(|| about::<$name>(method)))+
            }
            fn dispatch<T: Turns<G>>(method: MethodId, turns: T) -> Result<T::Output, T> {
                $( let turns = match $name::dispatch(method, turns) { Ok(out) => return Ok(out), Err(turns) => turns }; )+
                Err(turns)
            }
        }
    };
}
interface_set!(A);
interface_set!(A B);
interface_set!(A B C);
interface_set!(A B C D);
interface_set!(A B C D E);
interface_set!(A B C D E F);
interface_set!(A B C D E F H);
interface_set!(A B C D E F H I);

/// Stops the build when two interfaces of one grain disagree: called in a `const` that `#[grain]` writes.
#[doc(hidden)]
#[track_caller]
pub const fn check_pair<A: Interface, B: Interface<Key = A::Key>>() {
    if !same(A::GRAIN_TYPE, B::GRAIN_TYPE) {
        let parts = [
            "the interfaces of one grain must have the same grain type, but `",
            A::NAME,
            "` says \"",
            A::GRAIN_TYPE,
            "\" and `",
            B::NAME,
            "` says \"",
            B::GRAIN_TYPE,
            "\": give both the same `#[rpc_trait(grain_type = \"..\")]`",
        ];
        panic!("{}", Message::of(&parts).text());
    }
    let mut i = 0;
    while i < A::METHODS.len() {
        let mut j = 0;
        while j < B::METHODS.len() {
            let (a, b) = (&A::METHODS[i], &B::METHODS[j]);
            if a.id.0 == b.id.0 {
                let parts = if same(a.name, b.name) {
                    [
                        "method `",
                        a.name,
                        "` is in both `",
                        A::NAME,
                        "` and `",
                        B::NAME,
                        "`: rename one, or give it another address with `#[rpc(name = \"..\")]`",
                        "",
                        "",
                    ]
                } else {
                    [
                        "methods `",
                        a.name,
                        "` of `",
                        A::NAME,
                        "` and `",
                        b.name,
                        "` of `",
                        B::NAME,
                        "` have the same id: give one another address with `#[rpc(name = \"..\")]`",
                    ]
                };
                panic!("{}", Message::of(&parts).text());
            }
            j += 1;
        }
        i += 1;
    }
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Text put together at compile time: const panics take one `&str` and cannot format.
struct Message {
    bytes: [u8; 512],
    len: usize,
}

impl Message {
    const fn of(parts: &[&str]) -> Self {
        let mut message = Self { bytes: [0; 512], len: 0 };
        let mut p = 0;
        while p < parts.len() {
            let part = parts[p].as_bytes();
            let mut i = 0;
            while i < part.len() && message.len < message.bytes.len() {
                message.bytes[message.len] = part[i];
                message.len += 1;
                i += 1;
            }
            p += 1;
        }
        message
    }

    const fn text(&self) -> &str {
        match std::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => "two interfaces of one grain clash",
        }
    }
}
