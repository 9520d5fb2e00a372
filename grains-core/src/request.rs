//! What a call carries besides its arguments, and hands on to every call made on its behalf.

use std::{collections::BTreeMap, sync::Arc};

/// The most text a request context may hold, names and values together, in bytes.
///
/// It travels with every call of a chain: enough for trace headers, a tenant and a user id, too little for data.
pub const REQUEST_CONTEXT_BYTES_MAX: usize = 4096;

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

    /// All names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().flat_map(|entries| entries.iter()).map(|(name, value)| (&**name, &**value))
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.entries.is_none()
    }
}
