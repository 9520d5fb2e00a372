//! A node's process has ended: its watchdog tells the others. Over any world, so that the simulator has it, too.

use std::{sync::Arc, time::Duration};

use grains_core::{codec, tasks::TaskSet, world::World};
use tokio::sync::mpsc;

use super::ward::Ward;
use crate::{
    cluster::control::{Answer, Ask},
    node::security,
    timeout::timeout,
    wire::{Deaf, Lane, Limits, Reach, Wire, WireConfig},
};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The leader of Raft says that no member is of this process any more.
    Heard,
    /// There is nobody to tell.
    Nobody,
    /// Nobody who could do something about it has answered in time: the lease decides.
    Late,
    /// It cannot speak for its node; for people, why.
    Mute(String),
}

/// How long one member may take to answer. Nobody waits for it: each is told by itself.
const ANSWER_MAX: Duration = Duration::from_millis(700);
/// How long until a member that could do nothing about it is told again: there may be a leader by then.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Tells the members of `ward` that its process has ended, until one has seen to it or it is no news any more.
pub(crate) async fn tell(world: &World, ward: &Ward) -> Told {
    if ward.members.is_empty() {
        return Told::Nobody;
    }
    let (_, security) = match security(world, &ward.config(), &ward.cluster, &ward.name).await {
        Ok(security) => security,
        Err(why) => return Told::Mute(why.to_string()),
    };
    let config = WireConfig {
        cluster: ward.cluster.clone(),
        name: ward.name.clone(),
        node: ward.node,
        listen: String::new(),
        advertise: None,
        reach: Reach::Loopback,
        security,
        limits: Limits::default(),
    };
    let wire = Arc::new(Wire::asking(world, config, Arc::new(Deaf)));
    let ask = Ask::ProcessEnded { node: ward.node, process: ward.process };
    let ask = Arc::new(codec::encode(&ask).expect("numbers can be encoded"));
    let (done, mut is_done) = mpsc::channel(1);
    let telling = TaskSet::new(world.tasks.clone());
    for member in ward.members.clone() {
        let (world, wire, ask, done) = (world.clone(), wire.clone(), ask.clone(), done.clone());
        telling.spawn(async move {
            loop {
                let answer = wire.request(&member, Lane::Control, ask.clone(), ANSWER_MAX).await;
                if answer.is_ok_and(|answer| matches!(codec::decode(&answer.body), Ok(Answer::Gone))) {
                    // Another one may have said so before.
                    let _ = done.try_send(());
                    return;
                }
                world.clock.sleep_until(world.clock.now() + AGAIN_AFTER).await;
            }
        });
    }
    let news = Duration::from_millis(ward.news_ms);
    let heard = timeout(&world.clock, news, is_done.recv()).await;
    telling.close();
    wire.close().await;
    match heard {
        Some(_) => Told::Heard,
        None => Told::Late,
    }
}
