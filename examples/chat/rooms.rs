//! The list of rooms: one grain that every room tells of its first line.

use std::collections::BTreeSet;

use grains::{CommitError, prelude::*};
use serde::{Deserialize, Serialize};

use crate::words::RoomName;

/// How many rooms there can be. All of them are in one state, at most 160 bytes each.
pub const ROOMS_MAX: usize = 1000;

/// The rooms in which something was said.
#[rpc_trait(key = ())]
pub trait Rooms {
    /// Adds a room; once is enough.
    #[rpc(idempotent)]
    async fn add(&mut self, room: RoomName) -> Result<(), RoomsError>;
    /// All rooms, in the order of their names.
    #[rpc(idempotent)]
    async fn list(&self) -> Result<Vec<RoomName>>;
}

/// Why a room was not added. It is not in the list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum RoomsError {
    /// Use one of those there are.
    #[error("there are {ROOMS_MAX} rooms already, and no more are made: use one of them")]
    Full,
    /// The store did not take it; it may later.
    #[error(transparent)]
    NotStored(#[from] CommitError),
}

/// The grain behind [`Rooms`].
#[grain(Rooms)]
pub struct RoomsGrain {
    names: State<BTreeSet<RoomName>>,
}

impl Lifecycle for RoomsGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { names: ctx.state("names").await? })
    }
}

impl Rooms for RoomsGrain {
    async fn add(&mut self, room: RoomName) -> Result<(), RoomsError> {
        if self.names.contains(&room) {
            return Ok(());
        }
        if self.names.len() >= ROOMS_MAX {
            return Err(RoomsError::Full);
        }
        let mut names = self.names.edit();
        names.insert(room);
        Ok(names.commit().await?)
    }

    async fn list(&self) -> Result<Vec<RoomName>> {
        Ok(self.names.iter().cloned().collect())
    }
}
