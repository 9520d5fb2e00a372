//! What a view changes takes its time, and meanwhile another task hears of the next one, and a frame arrives.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use grains_core::{Failure, GrainId, Instant, MethodId, RequestContext, cancel::Cancellation, route::ReplySink};
use tokio::runtime::Runtime;

use super::Turned;
use crate::{
    activation::lock,
    cluster::{
        ClusterConfig,
        clustered::{
            Clustered,
            envelope::{HEARD, Target, write_round},
            pending::{Call, Sent},
        },
        directory::testing::{member, member_id, view},
        names::{Incarnation, MemberId, NodeId, NodeName},
        view::View,
    },
    tenure::Tenure,
    world::tokio_world,
};

/// Where a call is told that it failed: that takes until the test says so.
struct Slow {
    failing: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

impl ReplySink for Slow {
    fn begin(&self) -> bool {
        true
    }

    fn is_withdrawn(&self) -> bool {
        false
    }

    fn watch(&self) -> Arc<Cancellation> {
        Arc::default()
    }

    fn answer(self: Box<Self>, _: &mut dyn FnMut() -> Result<Vec<u8>, String>) {}

    fn answered(self: Box<Self>, _: &[u8]) {}

    fn failed(self: Box<Self>, _: Failure) {
        self.failing.send(()).unwrap();
        self.go_on.recv().unwrap();
    }
}

const LATER: MemberId = MemberId { node: NodeId(3), incarnation: Incarnation(6) };

/// Node 1, and what it does in the midst of the view 2: that has lost node 2 and has got node 3.
struct Scene {
    clustered: Arc<Clustered>,
    failing: mpsc::Receiver<()>,
    go_on: mpsc::Sender<()>,
    _runtime: Runtime,
}

impl Scene {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let world = runtime.block_on(async { tokio_world() }).unwrap();
        let name = NodeName::new("a").unwrap();
        let clustered = Clustered::new(world, ClusterConfig::new("c"), name, NodeId(1), Default::default());
        let world = &clustered.world;
        let far = world.clock.now() + Duration::from_secs(3600);
        clustered.begin(member_id(1), Tenure::until(world, far));
        assert_eq!(clustered.turn_to(5, &view(1, &[1, 2], &[])), Turned::Member);
        let ((failing, is_failing), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel());
        let call = call(Slow { failing, go_on: goes_on }, far);
        let (to, sequence, target) = (member_id(2), crate::wire::Sent::Short(1), Target::Whoever);
        lock(&clustered.pending).sent(Sent { number: 1, call, to, link: 1, sequence, target });
        Self { clustered, failing: is_failing, go_on, _runtime: runtime }
    }

    /// Does this in the midst of the view. It has to wait for the end of it.
    fn in_the_midst(&self, then: impl FnOnce(&Clustered) + Send) {
        let clustered = &self.clustered;
        let (done, is_done) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| clustered.turn_to(6, &with_later(view(2, &[1], &[]))));
            self.failing.recv().unwrap();
            scope.spawn(move || {
                then(clustered);
                done.send(()).unwrap();
            });
            // Nothing depends on how long this is, but whether a fault is found.
            let soon = is_done.recv_timeout(Duration::from_millis(100));
            self.go_on.send(()).unwrap();
            assert!(soon.is_err(), "it did not wait");
            is_done.recv().unwrap();
        });
    }

    /// What the later member has said last.
    fn heard(&self) -> Option<u64> {
        lock(&self.clustered.table).standing.as_ref().and_then(|standing| standing.heard.get(&LATER).copied())
    }
}

fn later_says(clustered: &Clustered, round: u64) {
    let mut body = Vec::new();
    write_round(&mut body, round);
    clustered.arrived(LATER, 1, HEARD, &body, &mut 0).unwrap();
}

fn call(sink: Slow, deadline: Instant) -> Call {
    Call {
        grain: GrainId::new("g", String::new()),
        hash: 0,
        method: MethodId(0),
        args: Arc::default(),
        sink: Some(Box::new(sink)),
        request: RequestContext::default(),
        caller: None,
        deadline,
        timeout: Duration::from_secs(3600),
        void: None,
        tries: 0,
        of_client: false,
    }
}

fn with_later(mut view: Arc<View>) -> Arc<View> {
    Arc::make_mut(&mut view).members.insert(LATER.node, Arc::new(member(LATER)));
    view
}

#[test]
fn a_view_waits_until_all_is_done_of_the_one_before() {
    let scene = Scene::new();
    scene.in_the_midst(|clustered| assert_eq!(clustered.turn_to(7, &with_later(view(3, &[1], &[]))), Turned::Member));
    assert_eq!(scene.clustered.view_version().0, 3);
}

#[test]
fn a_frame_waits_until_those_are_heard_that_came_before_its_sender_was_known() {
    let scene = Scene::new();
    later_says(&scene.clustered, 1);
    assert_eq!(scene.heard(), None, "nobody knows it yet");
    scene.in_the_midst(|clustered| later_says(clustered, 2));
    assert_eq!(scene.heard(), Some(2));
}
