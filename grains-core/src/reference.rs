//! References: values that can call one grain from anywhere. The typed `FooRef`s are thin shells around [`RawRef`].

use std::{cell::RefCell, fmt, hash, sync::Arc};

use serde::{Deserialize, Deserializer, Serializer};

use crate::{
    call::Call,
    id::{GrainId, KEY_BYTES_MAX},
    interface::Interface,
    key::{GrainKey, KeyOf, with_text},
    method::Method,
    route::Route,
};

/// A reference without its interface: the id of a grain and the way to it.
///
/// Cloning costs one atomic increment. Two references are equal when they name the same grain.
#[derive(Clone)]
pub struct RawRef(Arc<Inner>);

struct Inner {
    id: GrainId,
    hash: u64,
    route: Option<Arc<dyn Route>>,
}

impl RawRef {
    /// A reference to `id` whose calls go by `route`.
    pub fn bound(id: GrainId, route: Arc<dyn Route>) -> Self {
        let hash = route.hash(&id);
        Self(Arc::new(Inner { id, hash, route: Some(route) }))
    }

    /// A reference that names a grain but cannot call it.
    fn unbound(id: GrainId) -> Self {
        Self(Arc::new(Inner { id, hash: 0, route: None }))
    }

    /// The typed reference to the grain with this key, by `route`.
    pub fn get<C: Interface>(key: impl KeyOf<C>, route: Arc<dyn Route>) -> C {
        let id = with_text(&key.into_key(), |text| GrainId::new(C::GRAIN_TYPE, text));
        C::from_raw(Self::bound(id, route))
    }

    /// The grain it names.
    pub fn id(&self) -> &GrainId {
        &self.0.id
    }

    /// What [`Route::hash`] said of the id when the reference was made.
    pub fn lookup_hash(&self) -> u64 {
        self.0.hash
    }

    /// A call of `method`, not yet made.
    pub fn call<M: Method>(&self, method: M) -> Call<M> {
        Call::new(self.clone(), method)
    }

    /// The way to the grain, or why there is none.
    pub(crate) fn route(&self) -> Result<&Arc<dyn Route>, String> {
        if self.0.id.key().len() > KEY_BYTES_MAX {
            return Err(format!("its key has {} bytes, the limit is {KEY_BYTES_MAX}", self.0.id.key().len()));
        }
        self.0.route.as_ref().ok_or_else(|| {
            "the reference was read outside a node: get a new one with `node.get(..)` or read it inside a call"
                .to_owned()
        })
    }
}

impl PartialEq for RawRef {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}
impl Eq for RawRef {}
impl hash::Hash for RawRef {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}
impl fmt::Debug for RawRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.id.fmt(f)
    }
}

thread_local! {
    /// The way that references read on this thread are bound to: set while a node decodes.
    static ROUTE: RefCell<Option<Arc<dyn Route>>> = const { RefCell::new(None) };
}

/// Runs `decode` so that references it reads can be called by `route`.
pub fn with_route<R>(route: &Arc<dyn Route>, decode: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<dyn Route>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ROUTE.set(self.0.take());
        }
    }
    let _restore = Restore(ROUTE.replace(Some(route.clone())));
    decode()
}

/// What references read on this thread would be bound to.
pub(crate) fn current_route() -> Option<Arc<dyn Route>> {
    ROUTE.with_borrow(Option::clone)
}

/// Writes a reference as the text of its key: its type says the rest.
pub fn serialize_ref<C: Interface, S: Serializer>(reference: &C, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reference.as_raw().id().key())
}

/// Reads a reference that [`serialize_ref`] wrote.
pub fn deserialize_ref<'de, C: Interface, D: Deserializer<'de>>(deserializer: D) -> Result<C, D::Error> {
    let key = String::deserialize(deserializer)?;
    C::Key::from_text(&key).map_err(serde::de::Error::custom)?;
    let id = GrainId::new(C::GRAIN_TYPE, key);
    Ok(C::from_raw(match current_route() {
        Some(route) => RawRef::bound(id, route),
        None => RawRef::unbound(id),
    }))
}
