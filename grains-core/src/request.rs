//! What a call carries besides its arguments, and hands on to every call made on its behalf.

use std::{collections::BTreeMap, sync::Arc};

/// The most text a request context may hold, names and values together, in bytes.
///
/// It travels with every call of a chain: enough for trace headers, a tenant and a user id, too little for data.
pub const REQUEST_CONTEXT_BYTES_MAX: usize = 4096;

/// The name under which a request context says which client began the chain: its certificate's name,
/// `spiffe://shop/client/web`, or `anonymous` on a plaintext connection. Only gateways set it: what a client says under it,
/// or under any name that begins with `grains.`, is dropped where it enters the cluster.
pub const PRINCIPAL: &str = "grains.principal";

/// The name under which a gateway that does not know the methods of a grain tells its host what a client has called one.
const METHOD: &str = "grains.method";

/// Names that begin with this are the framework's.
const RESERVED: &str = "grains.";

/// Names and values that follow a request through every grain it reaches: `traceparent`, a tenant, a user.
///
/// Set it on the outermost call with [`Call::context`](crate::Call::context); read it in any grain down the chain with
/// [`Ctx::request`](crate::Ctx::request).
///
/// ```
/// # use grains_core as grains;
/// use grains::RequestContext;
/// let request = RequestContext::new().with("tenant", "acme")?;
/// assert_eq!(request.get("tenant"), Some("acme"));
/// # Ok::<(), grains::RequestContextFull>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestContext {
    entries: Option<Arc<BTreeMap<Box<str>, Box<str>>>>,
}

/// The context would be longer than [`REQUEST_CONTEXT_BYTES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("request context would hold {bytes} bytes, the limit is {REQUEST_CONTEXT_BYTES_MAX}")]
pub struct RequestContextFull {
    /// How long it would have been.
    pub bytes: usize,
}

impl RequestContext {
    /// An empty context.
    pub const fn new() -> Self {
        Self { entries: None }
    }

    /// The same context with `name` set to `value`.
    pub fn with(self, name: &str, value: &str) -> Result<Self, RequestContextFull> {
        let mut entries = self.entries.map(Arc::unwrap_or_clone).unwrap_or_default();
        entries.insert(name.into(), value.into());
        let bytes = entries.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > REQUEST_CONTEXT_BYTES_MAX {
            return Err(RequestContextFull { bytes });
        }
        Ok(Self { entries: Some(Arc::new(entries)) })
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.as_ref()?.get(name).map(|value| &**value)
    }

    /// The client from outside of the cluster that began the chain, as its gateway has found out: see [`PRINCIPAL`]. `None` for
    /// what began on a node. It goes on through all calls made on the client's behalf, but for those that are given another
    /// context.
    pub fn principal(&self) -> Option<&str> {
        self.get(PRINCIPAL)
    }

    /// What a client sent, as its gateway hands it on: without names that are the framework's, and with who it is.
    #[doc(hidden)]
    pub fn of_client(self, principal: &str) -> Result<Self, RequestContextFull> {
        let mut entries = self.entries.map(Arc::unwrap_or_clone).unwrap_or_default();
        entries.retain(|name, _| !name.starts_with(RESERVED));
        Self { entries: Some(Arc::new(entries)) }.with(PRINCIPAL, principal)
    }

    /// The same, for whoever hosts the grain, with what the client has called the method. Methods travel as hashes of their names,
    /// of which somebody can find another one with the same hash.
    #[doc(hidden)]
    pub fn with_method_named(self, name: &str) -> Result<Self, RequestContextFull> {
        self.with(METHOD, name)
    }

    /// Takes that out: nobody else is told.
    #[doc(hidden)]
    pub fn take_method_named(&mut self) -> Option<Box<str>> {
        self.get(METHOD)?;
        Arc::make_mut(self.entries.as_mut()?).remove(METHOD)
    }

    /// All names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().flat_map(|entries| entries.iter()).map(|(name, value)| (&**name, &**value))
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.entries.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_who_its_gateway_says_and_not_who_it_says() {
        let said = RequestContext::new().with("tenant", "acme").unwrap();
        let said = said.with(PRINCIPAL, "spiffe://shop/client/root").unwrap().with("grains.other", "x").unwrap();
        let known = said.of_client("anonymous").unwrap();
        let entries: Vec<_> = known.iter().collect();
        assert_eq!(entries, [("grains.principal", "anonymous"), ("tenant", "acme")]);
        assert_eq!((known.principal(), RequestContext::new().principal()), (Some("anonymous"), None));
    }

    #[test]
    fn what_a_client_called_its_method_is_told_once() {
        let forged = RequestContext::new().with(METHOD, "add").unwrap().of_client("anonymous").unwrap();
        assert_eq!(forged.clone().take_method_named(), None);
        let mut named = forged.clone().with_method_named("say").unwrap();
        let kept = named.clone();
        assert_eq!(named.take_method_named().as_deref(), Some("say"));
        assert_eq!((named, kept.get(METHOD)), (forged, Some("say")));
    }
}
