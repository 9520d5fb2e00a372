//! Coerce's `remote`: two systems as a cluster; actors of the other one are found by their names.

use std::time::Duration;

use coerce::{
    actor::{
        Actor, ActorRef, IntoActorId as _,
        context::ActorContext,
        message::{Handler, Message, MessageUnwrapErr, MessageWrapErr},
        scheduler::ActorType::Tracked,
        system::ActorSystem,
    },
    remote::system::{NodeId, RemoteActorSystem},
};

use super::{CALLEES, Remote, RemoteOneWay, free_address};

pub(crate) struct Coerce;

pub(crate) struct Parrot {
    noted: u64,
}

impl Actor for Parrot {}

/// Answers with its text.
struct Echo(String);

impl Message for Echo {
    type Result = String;

    fn as_bytes(&self) -> Result<Vec<u8>, MessageWrapErr> {
        Ok(self.0.clone().into_bytes())
    }

    fn from_bytes(bytes: Vec<u8>) -> Result<Self, MessageUnwrapErr> {
        String::from_utf8(bytes).map(Self).map_err(|_| MessageUnwrapErr::DeserializationErr)
    }

    fn read_remote_result(bytes: Vec<u8>) -> Result<String, MessageUnwrapErr> {
        String::from_utf8(bytes).map_err(|_| MessageUnwrapErr::DeserializationErr)
    }

    fn write_remote_result(result: String) -> Result<Vec<u8>, MessageWrapErr> {
        Ok(result.into_bytes())
    }
}

#[async_trait::async_trait]
impl Handler<Echo> for Parrot {
    async fn handle(&mut self, echo: Echo, _ctx: &mut ActorContext) -> String {
        echo.0
    }
}

/// Counts a text.
struct Note(String);

impl Message for Note {
    type Result = ();

    fn as_bytes(&self) -> Result<Vec<u8>, MessageWrapErr> {
        Ok(self.0.clone().into_bytes())
    }

    fn from_bytes(bytes: Vec<u8>) -> Result<Self, MessageUnwrapErr> {
        String::from_utf8(bytes).map(Self).map_err(|_| MessageUnwrapErr::DeserializationErr)
    }

    fn write_remote_result(_result: ()) -> Result<Vec<u8>, MessageWrapErr> {
        Ok(Vec::new())
    }
}

#[async_trait::async_trait]
impl Handler<Note> for Parrot {
    async fn handle(&mut self, note: Note, _ctx: &mut ActorContext) {
        self.noted += u64::from(!note.0.is_empty());
    }
}

/// Answers how many were counted, and forgets them.
struct Noted;

impl Message for Noted {
    type Result = u64;

    fn as_bytes(&self) -> Result<Vec<u8>, MessageWrapErr> {
        Ok(Vec::new())
    }

    fn from_bytes(_bytes: Vec<u8>) -> Result<Self, MessageUnwrapErr> {
        Ok(Self)
    }

    fn read_remote_result(bytes: Vec<u8>) -> Result<u64, MessageUnwrapErr> {
        let bytes = bytes.try_into().map_err(|_| MessageUnwrapErr::DeserializationErr)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn write_remote_result(result: u64) -> Result<Vec<u8>, MessageWrapErr> {
        Ok(result.to_le_bytes().to_vec())
    }
}

#[async_trait::async_trait]
impl Handler<Noted> for Parrot {
    async fn handle(&mut self, _noted: Noted, _ctx: &mut ActorContext) -> u64 {
        std::mem::take(&mut self.noted)
    }
}

/// A system with what can be asked of it from outside.
async fn system(id: NodeId, tag: &str) -> RemoteActorSystem {
    let builder =
        RemoteActorSystem::builder().with_actor_system(ActorSystem::new()).with_id(id).with_tag(tag.to_owned());
    let builder = builder.with_handlers(|handlers| {
        let handlers = handlers.with_handler::<Parrot, Echo>("Parrot.Echo");
        handlers.with_handler::<Parrot, Note>("Parrot.Note").with_handler::<Parrot, Noted>("Parrot.Noted")
    });
    builder.build().await
}

fn name(n: usize) -> String {
    format!("parrot-{n}")
}

impl Remote for Coerce {
    type Callee = ActorRef<Parrot>;

    async fn serve(ready: impl FnOnce(String)) {
        let system = system(1, "serving").await;
        let address = free_address();
        system.clone().cluster_worker().listen_addr(address.clone()).start().await;
        let mut living = Vec::new();
        for n in 0..CALLEES {
            let parrot = system.actor_system().new_actor(name(n), Parrot { noted: 0 }, Tracked).await;
            living.push(parrot.expect("nobody has its name"));
        }
        ready(address);
        std::future::pending::<()>().await;
        drop(living);
    }

    async fn connect(address: String) -> Vec<Self::Callee> {
        let system = system(2, "calling").await;
        system.clone().cluster_worker().listen_addr(free_address()).with_seed_addr(address).start().await;
        let mut callees = Vec::new();
        while callees.len() < CALLEES {
            match system.actor_ref::<Parrot>(name(callees.len()).into_actor_id()).await {
                Some(callee) => callees.push(callee),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        assert!(callees.iter().all(ActorRef::is_remote), "all of them live in the other process");
        callees
    }

    async fn echo(callee: &Self::Callee, text: String) -> String {
        callee.send(Echo(text)).await.expect("it answers")
    }
}

impl RemoteOneWay for Coerce {
    async fn note(callee: &Self::Callee, text: String) {
        callee.notify(Note(text)).await.expect("it is connected");
    }

    async fn noted(callee: &Self::Callee) -> u64 {
        callee.send(Noted).await.expect("it answers")
    }
}
