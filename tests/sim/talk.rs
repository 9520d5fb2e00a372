//! The rooms of the chat in a cluster where things fail: numbers go on without gap or repeat, whatever was acknowledged is
//! there, and whoever listens hears all of it in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use grains::{
    prelude::*,
    sim::{Caller, Faults, Workload, Worlds},
};
use tokio::time::timeout;

use crate::{
    leaf::LeafGrain,
    log::Wanted,
    online::OnlineGrain,
    room::{Event, RoomGrain, RoomRef, Watch},
    rooms::RoomsGrain,
    said::SayId,
    user::UserGrain,
    words::{LineText, UserName},
};

const ROOMS: [&str; 2] = ["lobby", "garden"];
const CALL_MAX: Duration = Duration::from_secs(3);
/// Impatient people: whoever repeats often finds out whether a line is known again.
const SAY_MAX: Duration = Duration::from_millis(200);

/// A room, and the number of a line there.
type Place = (&'static str, u64);

/// All lines of all rooms, by their texts. No number is missing and none is there twice.
async fn history(caller: &Caller) -> Result<BTreeMap<String, Place>> {
    let mut history = BTreeMap::new();
    for at in ROOMS {
        let wanted = Wanted { after: Some(0), before: None, limit: u64::MAX };
        let excerpt = caller.get::<RoomRef>(at).excerpt(wanted).timeout(CALL_MAX).retry(3).await?;
        assert!(excerpt.older.is_empty(), "so much was said in {at} that leaves would have to be asked");
        for (position, line) in excerpt.lines.into_iter().enumerate() {
            assert_eq!(line.number, position as u64 + 1, "a number of {at} is missing or there twice");
            let before = history.insert(line.text.clone(), (at, line.number));
            assert_eq!(before, None, "{:?} is there twice", line.text);
        }
    }
    Ok(history)
}

/// People say one line after the other, each in one of the rooms, and repeat it until they know its number.
#[derive(Default)]
struct Talking {
    begun: Mutex<BTreeSet<String>>,
    acknowledged: Mutex<BTreeMap<String, Place>>,
}

impl Workload for Talking {
    async fn run(&self, caller: Caller) {
        let caller = caller.pace(Duration::from_millis(10)..=Duration::from_millis(150));
        let who: UserName = format!("user-{}", caller.number()).parse().unwrap();
        let mut id = SayId { client: caller.sim().random() >> 11, serial: 0 };
        while caller.goes_on().await {
            id = id.next();
            let at = ROOMS[caller.sim().below(2) as usize];
            let text = format!("line {} of {who}", id.serial);
            self.begun.lock().unwrap().insert(text.clone());
            let line: LineText = text.parse().unwrap();
            let number = loop {
                let said = caller.get::<RoomRef>(at).say(id, who.clone(), line.clone()).timeout(SAY_MAX).await;
                match said {
                    Ok(number) => break number,
                    Err(_) if caller.goes_on().await => {}
                    Err(_) => return,
                }
            };
            self.acknowledged.lock().unwrap().insert(text, (at, number));
        }
    }

    async fn check(&self, caller: Caller) -> Result<()> {
        let history = history(&caller).await?;
        let (begun, acknowledged) = (self.begun.lock().unwrap(), self.acknowledged.lock().unwrap());
        assert!(acknowledged.len() > 20, "too little was said: {}", acknowledged.len());
        for (text, place) in &*acknowledged {
            assert_eq!(history.get(text), Some(place), "{text:?} was acknowledged");
        }
        let strange: Vec<_> = history.keys().filter(|text| !begun.contains(*text)).collect();
        assert!(strange.is_empty(), "nobody said {strange:?}");
        Ok(())
    }
}

/// Somebody listens in one room after the other.
#[derive(Default)]
struct Listening(Mutex<BTreeMap<Place, String>>);

impl Listening {
    /// Hears what is said from now on, until the room or its node ends.
    async fn listen(&self, caller: &Caller, at: &'static str, mut watch: Watch) {
        let mut last = watch.said;
        while caller.goes_on().await {
            let Ok(event) = timeout(CALL_MAX, watch.events.next()).await else { continue };
            match event {
                Some(Ok(Event::Said(line))) => {
                    assert_eq!(line.number, last + 1, "what was heard in {at} after line {last}");
                    last = line.number;
                    self.0.lock().unwrap().insert((at, last), line.text);
                }
                Some(Ok(Event::Joined(_) | Event::Left(_))) => {}
                Some(Err(_)) | None => return,
            }
        }
    }
}

impl Workload for Listening {
    async fn run(&self, caller: Caller) {
        while caller.goes_on().await {
            let at = ROOMS[caller.sim().below(2) as usize];
            if let Ok(watch) = caller.get::<RoomRef>(at).watch(None).timeout(CALL_MAX).await {
                self.listen(&caller, at, watch).await;
            }
        }
    }

    async fn check(&self, caller: Caller) -> Result<()> {
        let history = history(&caller).await?;
        let heard = self.0.lock().unwrap();
        assert!(heard.len() > 10, "too little was heard: {}", heard.len());
        for (place, text) in &*heard {
            assert_eq!(history.get(text), Some(place), "{text:?} was heard");
        }
        Ok(())
    }
}

#[test]
fn rooms_lose_and_repeat_nothing_while_nodes_and_networks_fail() {
    let describe = |machine: &grains::sim::Machine| {
        let node = machine.node().host::<RoomGrain>().host::<LeafGrain>().host::<RoomsGrain>();
        node.host::<OnlineGrain>().host::<UserGrain>()
    };
    let pause = Duration::from_millis(50)..=Duration::from_millis(500);
    Worlds::new(3, describe)
        .workload(1, Talking::default)
        .workload(1, Listening::default)
        .faults(Faults::all().pause(pause))
        .lasts(Duration::from_secs(3))
        .run(3);
}
