//! State: loaded once, read from memory, changed through drafts that are stored before memory shows them.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    codec,
    ctx::{AfterLoss, Anchor, StateHome},
    error::StateError,
    id::Version,
    reference::with_route,
    route::Route,
    store::{CommitError, LoadError, Write, WriteSet},
    switches::{Mechanism, on},
};

/// A value of a grain that is kept in the store.
///
/// Read it like the value itself. To change it, take a draft with [`edit`](Self::edit) and [`commit`](Draft::commit) it:
/// memory changes when the store has the change, not before.
///
/// A state is written whole at every commit, `state_bytes_max` at most (1 MiB unless configured).
pub struct State<T> {
    value: T,
    version: Version,
    name: Box<str>,
    /// `None` for a state that lives in memory only.
    home: Option<StateHome>,
}

impl<T> State<T> {
    /// A state with no store behind it, for building grains in unit tests: its commits always succeed.
    pub fn in_memory(value: T) -> Self {
        Self { value, version: Version::default(), name: "".into(), home: None }
    }

    /// How many times this state was committed.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Begins a change: a copy of the value to work on. Dropping it without a commit changes nothing.
    pub fn edit(&mut self) -> Draft<'_, T>
    where
        T: Clone,
    {
        Draft { value: self.value.clone(), state: self }
    }
}

impl<T: Serialize + DeserializeOwned + Default + Send> State<T> {
    pub(crate) async fn load(home: StateHome, route: &Arc<dyn Route>, name: &str) -> Result<Self, StateError> {
        let anchor = home.anchor()?;
        let store = anchor.store();
        let mut loaded = None;
        anchor.within_store_timeout(Box::pin(async { loaded = Some(store.load(&home.grain, name).await) })).await;
        let no_answer = || LoadError::Unavailable { why: "it did not answer in time".into() };
        let stored = loaded.ok_or_else(no_answer)??;
        let (value, version) = match stored {
            None => (T::default(), Version::default()),
            Some(stored) => match stored.value {
                None => (T::default(), stored.version),
                Some(bytes) => {
                    let value = with_route(route, || codec::decode(&bytes)).map_err(|e| StateError::Decode {
                        grain: home.grain.to_string(),
                        name: name.to_owned(),
                        why: e.why,
                    })?;
                    (value, stored.version)
                }
            },
        };
        Ok(Self { value, version, name: name.into(), home: Some(home) })
    }
}

impl<T> Deref for State<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({:?}, {})", self.value, self.version)
    }
}

/// A change that is not stored yet. Dropping it forgets the change.
#[must_use = "dropping a draft discards the change: call `.commit().await`"]
pub struct Draft<'s, T> {
    value: T,
    state: &'s mut State<T>,
}

impl<T: Serialize + Send + Sync> Draft<'_, T> {
    /// Stores the change and then shows it in the state.
    ///
    /// `Ok` means that the store has it: an answer that leaves after that is safe. Errors that reach the grain
    /// ([`CommitError::NotStored`], [`CommitError::TooLarge`]) mean that neither store nor memory have changed. In all
    /// other cases (conflict, fenced, no answer, or this future dropped before its answer) memory may differ from the
    /// store: the turn ends there, its caller gets [`CallError::Lost`](crate::CallError::Lost), and the next call finds a new activation that
    /// reads the truth. In unit tests, where nobody can end the turn, those errors are returned too.
    pub async fn commit(self) -> Result<(), CommitError> {
        commit(self).await
    }
}

impl<T> Deref for Draft<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Draft<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Draft<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draft({:?})", self.value)
    }
}

mod sealed {
    pub trait Sealed {}
}

/// Drafts that [`commit`] stores together: one draft, or a tuple of up to six of one grain.
pub trait Drafts: sealed::Sealed + Send {
    /// Adds what is to be written.
    #[doc(hidden)]
    fn collect(&self, set: &mut Collected<'_>) -> Result<(), CommitError>;
    /// Calls `visit` with the home of each draft that has one.
    #[doc(hidden)]
    fn home(&self) -> Option<Home<'_>>;
    /// Shows the changes in memory.
    #[doc(hidden)]
    fn apply(self);
}

#[doc(hidden)]
pub struct Home<'h>(&'h StateHome);

#[doc(hidden)]
pub struct Collected<'h> {
    writes: Vec<Write>,
    home: &'h StateHome,
    bytes_max: usize,
}

impl<T> sealed::Sealed for Draft<'_, T> {}

impl<T: Serialize + Send + Sync> Drafts for Draft<'_, T> {
    fn collect(&self, set: &mut Collected<'_>) -> Result<(), CommitError> {
        let Some(home) = &self.state.home else { return Ok(()) };
        let refuse = |why: String| Err(CommitError::NotStored { why });
        if (&home.grain, home.life) != (&set.home.grain, set.home.life) {
            return refuse(format!(
                "drafts of two grains ({} and {}) cannot be committed together: call the other grain instead",
                set.home.grain, home.grain
            ));
        }
        if set.writes.iter().any(|write| *write.name == *self.state.name) {
            return refuse(format!("state `{}` is in this commit twice", self.state.name));
        }
        let value = match codec::encode(&self.value) {
            Ok(value) => value,
            Err(e) => return refuse(format!("state `{}` cannot be encoded: {e}", self.state.name)),
        };
        if value.len() > set.bytes_max {
            let (bytes, bytes_max) = (value.len(), set.bytes_max);
            return Err(CommitError::TooLarge { name: self.state.name.to_string(), bytes, bytes_max });
        }
        set.writes.push(Write { name: self.state.name.to_string(), expected: self.state.version, value: Some(value) });
        Ok(())
    }

    fn home(&self) -> Option<Home<'_>> {
        self.state.home.as_ref().map(Home)
    }

    fn apply(self) {
        self.state.value = self.value;
        self.state.version = self.state.version.next();
    }
}

macro_rules! drafts {
    ($($name:ident)+) => {
        impl<$($name: Drafts),+> sealed::Sealed for ($($name,)+) {}
        #[allow(non_snake_case, reason = "the type parameters name the variables too")]
        impl<$($name: Drafts),+> Drafts for ($($name,)+) {
            fn collect(&self, set: &mut Collected<'_>) -> Result<(), CommitError> {
                let ($($name,)+) = self;
                $( $name.collect(set)?; )+
                Ok(())
            }
            fn home(&self) -> Option<Home<'_>> {
                let ($($name,)+) = self;
                None $( .or_else(|| $name.home()) )+
            }
            fn apply(self) {
                let ($($name,)+) = self;
                $( $name.apply(); )+
            }
        }
    };
}
drafts!(A B);
drafts!(A B C);
drafts!(A B C D);
drafts!(A B C D E);
drafts!(A B C D E F);

/// Stores several changes of one grain together: all or none. See [`Draft::commit`] for how it can end.
///
/// ```
/// # use grains_core::{State, commit};
/// # async fn transfer(from: &mut State<u64>, to: &mut State<u64>) -> Result<(), grains_core::store::CommitError> {
/// let (mut a, mut b) = (from.edit(), to.edit());
/// *a -= 10;
/// *b += 10;
/// commit((a, b)).await?;
/// # Ok(())
/// # }
/// ```
pub async fn commit(drafts: impl Drafts) -> Result<(), CommitError> {
    let stored = match drafts.home() {
        Some(Home(home)) => store(&drafts, home).await,
        None => Ok(()),
    };
    stored.map(|()| drafts.apply())
}

async fn store(drafts: &impl Drafts, home: &StateHome) -> Result<(), CommitError> {
    let anchor = home.anchor().map_err(|gone| CommitError::NotStored { why: gone.to_string() })?;
    let mut set = Collected { writes: Vec::new(), home, bytes_max: anchor.state_bytes_max() };
    drafts.collect(&mut set)?;
    let writes = WriteSet { grain: home.grain.clone(), token: home.life.into(), writes: set.writes };

    if !on(Mechanism::ReplyAfterCommit) {
        let store = anchor.store();
        let storing = async move { drop(store.commit(writes).await) };
        return anchor
            .spawn(home.life, Box::pin(storing))
            .map_err(|why| CommitError::NotStored { why: why.to_string() });
    }
    // From here until the store has answered, being dropped leaves open whether it has the change.
    let open = OpenCommit { anchor: &*anchor, home };
    let store = anchor.store();
    let mut ended = None;
    anchor.within_store_timeout(Box::pin(async { ended = Some(store.commit(writes).await) })).await;
    std::mem::forget(open);

    match ended.unwrap_or_else(|| Err(CommitError::Unknown { why: "no answer in time".into() })) {
        Ok(()) => Ok(()),
        Err(error @ (CommitError::NotStored { .. } | CommitError::TooLarge { .. })) => Err(error),
        Err(error) if !on(Mechanism::OpenCommitEndsLife) => Err(error),
        Err(error) => match anchor.lose(home.life, &error.to_string()) {
            AfterLoss::TurnEnds => std::future::pending().await,
            AfterLoss::TurnGoesOn => Err(error),
        },
    }
}

/// A commit whose answer is not known yet. Dropping it ends the activation.
struct OpenCommit<'a> {
    anchor: &'a dyn Anchor,
    home: &'a StateHome,
}

impl Drop for OpenCommit<'_> {
    fn drop(&mut self) {
        if !on(Mechanism::OpenCommitEndsLife) {
            return;
        }
        self.anchor.lose(self.home.life, "a commit was dropped before the store had answered");
    }
}
