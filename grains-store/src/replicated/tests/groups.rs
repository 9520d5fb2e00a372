//! Nodes that die, come back, come late and are cut off.

use super::*;
use crate::consensus::ProposeError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_reads_what_any_has_written() {
    let (_wires, _places, stores) = three().await;
    for (i, store) in stores.iter().enumerate() {
        store.commit(set(&format!("k{i}"), 0, b"v")).await.unwrap();
    }
    for store in &stores {
        for i in 0..3 {
            assert_eq!(value(store, &format!("k{i}")).await, Some((1, b"v".to_vec())));
        }
        assert_eq!(store.list("t", None, 9).await.unwrap(), ["k0", "k1", "k2"]);
    }
    let epochs = [stores[0].next_epoch().await.unwrap(), stores[2].next_epoch().await.unwrap()];
    assert_eq!(epochs, [1, 2], "one count for all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_not_open_says_so_and_one_that_opens_answers_who_waits() {
    let place = Place::new(&Wires::default(), "a");
    let config = ReplicatedConfig { patience: Duration::from_millis(50), ..ReplicatedConfig::default() };
    let early = ReplicatedStore::new(&world_with(&place.disk), config);
    let error = early.commit(set("k", 0, b"v")).await.unwrap_err();
    assert!(matches!(&error, CommitError::NotStored { why } if why.contains("not there yet")), "{error}");
    assert!(early.load(&grain("k"), "s").await.is_err());
    let store = ReplicatedStore::new(&world_with(&place.disk), ReplicatedConfig::default());
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.commit(set("k", 0, b"v")).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let opening = Opening {
        folder: None,
        name: NodeName::new("a").unwrap(),
        node: NodeId(1),
        group: GROUP,
        timing: Timing::default(),
        peers: Arc::new(End { address: "a".into(), wires: Wires::default() }),
    };
    store.open(opening).await.unwrap();
    store.consensus().unwrap().found("a").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished(), "it was answered before all nodes have agreed on the group");
    store.serve();
    soon("for the commit", waiting).await.unwrap().unwrap();
    assert_eq!(value(&store, "k").await, Some((1, b"v".to_vec())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_each_leader_in_turn() {
    let (_wires, places, stores) = three().await;
    let mut nodes: Vec<_> = places.into_iter().zip(stores).collect();
    for round in 0..4_u64 {
        let mut writers = tokio::task::JoinSet::new();
        for (i, (_, store)) in nodes.iter().enumerate() {
            for key in 0..8 {
                let store = store.clone();
                writers.spawn(async move {
                    let key = format!("{i}-{key}");
                    for _ in 0..5 {
                        let found = store.load(&grain(&key), "s").await;
                        let Ok(found) = found else { continue };
                        let expected = found.map_or(0, |stored| stored.version.0);
                        if store.commit(set(&key, expected, &(expected + 1).to_le_bytes())).await.is_ok() {
                            return Some((key, expected + 1));
                        }
                    }
                    None
                });
            }
        }
        // In the middle of it.
        tokio::time::sleep(Duration::from_millis(5 * round)).await;
        let leader = soon("for a leader", async {
            loop {
                let leads = |store: &ReplicatedStore| store.consensus().unwrap().leadership().borrow().is_me;
                if let Some(at) = nodes.iter().position(|(_, store)| leads(store)) {
                    return at;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let leader = leader.await;
        let (place, store) = nodes.remove(leader);
        let killed = place.kill(store).await;
        let mut acknowledged = Vec::new();
        while let Some(written) = soon("for the writers", writers.join_next()).await {
            acknowledged.extend(written.unwrap());
        }
        for (key, version) in acknowledged {
            let (found, _) = value(&nodes[0].1, &key).await.unwrap();
            assert!(found >= version, "round {round}: {key} was acknowledged at {version} and is at {found}");
        }
        let store = killed.start().await;
        nodes.push((killed, store));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_comes_late_gets_everything_and_has_it_durably() {
    let (wires, places, stores) = three().await;
    // So much that the log does not have it any more: it keeps 16 MiB, and 8 more until the state is made durable again.
    for i in 0..40 {
        write(&stores[0], &format!("k{i:02}"), &vec![i; 900_000]).await;
    }
    log_is_short(&stores[0]).await;
    let late = Place::new(&wires, "d");
    let fourth = late.start().await;
    let bulk = wires.0.lock().unwrap().bulk;
    vote(&[(&places[0], &stores[0]), (&places[1], &stores[1]), (&late, &fourth)]).await;
    assert!(wires.0.lock().unwrap().bulk > bulk + 10, "it came in parts");
    // Alone with one of the others it knows all.
    let mut stores = stores.into_iter();
    let (first, second, third) = (stores.next().unwrap(), stores.next().unwrap(), stores.next().unwrap());
    let late = late.kill(fourth).await;
    let fourth = late.start().await;
    let mut places = places.into_iter();
    let _first = places.next().unwrap().kill(first).await;
    third.close().await;
    for i in (0..40).step_by(7) {
        assert_eq!(value(&fourth, &format!("k{i:02}")).await, Some((1, vec![i; 900_000])));
        assert_eq!(value(&second, &format!("k{i:02}")).await, Some((1, vec![i; 900_000])));
    }
}

async fn log_is_short(store: &ReplicatedStore) {
    let consensus = store.consensus().unwrap();
    soon("for the log to be short", async {
        while !consensus.is_log_short(25 * 1024 * 1024) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_short_while_a_voter_is_dead_and_it_comes_back_while_commits_go_on() {
    let (wires, mut places, mut stores) = three().await;
    leads(&stores[0]).await;
    let (place, store) = (places.pop().unwrap(), stores.pop().unwrap());
    let dead = place.kill(store).await;
    let mut written = 0_u64;
    let mut write_more = async |megabytes: u64, pause| {
        for _ in 0..2 * megabytes {
            write(
                &stores[0],
                &format!("k{}", written % 8),
                &[vec![7; 500_000], written.to_le_bytes().to_vec()].concat(),
            )
            .await;
            written += 1;
            tokio::time::sleep(pause).await;
        }
    };
    // So much that the dead one would need the whole state, and then slowly: between two attempts to send it, little comes.
    write_more(36, Duration::ZERO).await;
    write_more(16, Duration::from_millis(60)).await;
    log_is_short(&stores[0]).await;

    let bulk = wires.0.lock().unwrap().bulk;
    let behind = stores[0].metrics().progress.applied;
    let back = dead.start().await;
    soon("for it to have what was written meanwhile", async {
        while back.metrics().progress.applied <= behind {
            write_more(1, Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(wires.0.lock().unwrap().bulk > bulk, "it got the state, not the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_wait_go_together_and_are_counted() {
    let (_wires, _places, stores) = three().await;
    leads(&stores[0]).await;
    write(&stores[1], "first", b"v").await;
    let before = stores[1].metrics().commits;
    let committing = (0..64).map(|i| {
        let store = stores[1].clone();
        tokio::spawn(async move { store.commit(set(&format!("k{i}"), 0, b"v")).await })
    });
    for one in committing.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    let after = stores[1].metrics().commits;
    assert_eq!((after.answered - before.answered, after.waiting), (64, 0));
    assert!(after.batches - before.batches < 32, "64 commits in {} batches", after.batches - before.batches);
    assert!(after.time > before.time);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_says_how_far_a_voter_is_behind() {
    let (_wires, mut places, mut stores) = three().await;
    leads(&stores[0]).await;
    let (place, store) = (places.pop().unwrap(), stores.pop().unwrap());
    let (node, dead) = (place.node, place.kill(store).await);
    let lag = || stores.iter().find_map(|store| store.metrics().progress.lag.get(&node).copied());
    for i in 0..20 {
        write(&stores[0], &format!("k{i}"), b"v").await;
    }
    soon("for it to be behind", async {
        while lag().is_none_or(|lag| lag < 20) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let _back = dead.start().await;
    soon("for it to catch up", async {
        while lag() != Some(0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_voter_may_take_long_for_a_large_state() {
    let election_max = Duration::from_millis(200);
    let timing = Timing { heartbeat: election_max / 4, election_min: election_max / 2, election_max };
    let (wires, places, stores) = three_of(|place| Place { timing, ..place }).await;
    leads(&stores[0]).await;
    for i in 0..40 {
        write(&stores[0], &format!("k{i:02}"), &vec![i; 900_000]).await;
    }
    log_is_short(&stores[0]).await;
    // Twice as long as a new voter that gets no further is waited for, which is twenty of the longest elections.
    wires.0.lock().unwrap().bulk_takes = election_max * 40 / 36;
    let late = Place { timing, ..Place::new(&wires, "d") };
    let fourth = late.start().await;
    let voters = [(&places[0], &stores[0]), (&places[1], &stores[1]), (&late, &fourth)];
    let voters: litemap::LiteMap<_, _> = voters.iter().map(|(place, _)| (place.node, place.address.clone())).collect();
    // On a busy machine so short an election may bring another leader.
    let ask_each = async {
        for part in stores.iter().cycle().map(|store| store.consensus().unwrap()) {
            match part.set_voters(voters.clone()).await {
                Err(ProposeError::NotLeader { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
                changed => return changed,
            }
        }
        unreachable!("it goes round and round")
    };
    soon("for the fourth", ask_each).await.unwrap();
    assert!(fourth.consensus().unwrap().voters().contains_key(&late.node));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_nobody_can_read_is_refused_and_harms_nobody() {
    let (_wires, places, stores) = three().await;
    leads(&stores[0]).await;
    for junk in [&b"\xc1"[..], b"", b"\x93\x01\x02\x91\xa7Unknown"] {
        let ask = super::super::words::Ask::Apply(junk.to_vec());
        let ask = codec::encode(&super::super::words::Envelope { group: GROUP, ask }).unwrap();
        let answer = stores[0].handle(ask).await;
        let answer: super::super::words::Answer = codec::decode(&answer).unwrap();
        assert!(matches!(&answer, super::super::words::Answer::Refused(why) if why.contains("version")), "{answer:?}");
    }
    stores[1].commit(set("k", 0, b"v")).await.unwrap();
    let (place, store) = (places.into_iter().nth(2).unwrap(), stores.into_iter().nth(2).unwrap());
    let killed = place.kill(store).await;
    assert_eq!(value(&killed.start().await, "k").await, Some((1, b"v".to_vec())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_its_grain_has_given_up_is_not_sent_later() {
    let (wires, _places, stores) = three().await;
    leads(&stores[0]).await;
    let cut = |is_cut: bool| {
        let mut nodes = wires.0.lock().unwrap();
        for other in ["a", "b"] {
            for pair in [("c".to_owned(), other.to_owned()), (other.to_owned(), "c".to_owned())] {
                if is_cut {
                    nodes.cut.insert(pair)
                } else {
                    nodes.cut.remove(&pair)
                };
            }
        }
    };
    cut(true);
    // The first is on its way, the second waits behind it.
    let first = stores[2].commit(set("first", 0, b"v"));
    soon("for the first to be under way", async {
        while stores[2].metrics().commits.waiting > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let given_up = timeout(Duration::from_millis(50), stores[2].commit(set("k", 0, b"late"))).await;
    assert!(given_up.is_err());
    cut(false);
    let _ = soon("for the first", first).await;
    stores[2].commit(set("other", 0, b"v")).await.unwrap();
    assert_eq!(value(&stores[0], "k").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_tells_nothing_old() {
    let (wires, _places, stores) = three().await;
    leads(&stores[0]).await;
    stores[0].commit(set("k", 0, b"old")).await.unwrap();
    {
        let mut nodes = wires.0.lock().unwrap();
        for other in ["b", "c"] {
            nodes.cut.insert(("a".into(), other.into()));
            nodes.cut.insert((other.into(), "a".into()));
        }
    }
    let reader = stores[0].clone();
    let reads = tokio::spawn(async move { reader.load(&grain("k"), "s").await });
    write(&stores[1], "k", b"new").await;
    let read = soon("for the end of a read", reads).await.unwrap();
    assert!(read.is_err(), "a deposed leader told {read:?}");
    wires.0.lock().unwrap().cut.clear();
    assert_eq!(value(&stores[0], "k").await.unwrap().1, b"new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_whose_answer_is_lost_is_applied_once() {
    let (wires, _places, stores) = three().await;
    leads(&stores[0]).await;
    wires.0.lock().unwrap().deaf.insert("a".into());
    let store = stores[1].clone();
    let commit = tokio::spawn(async move { store.commit(set("k", 0, b"v")).await });
    // It is applied, and nobody hears of it.
    soon("for it to be applied", async {
        while value(&stores[0], "k").await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    wires.0.lock().unwrap().deaf.clear();
    assert_eq!(soon("for its answer", commit).await.unwrap(), Ok(()));
    assert_eq!(value(&stores[2], "k").await, Some((1, b"v".to_vec())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_is_too_large_is_named_and_the_largest_that_fits_goes_through() {
    let (_wires, _places, stores) = three().await;
    let error = stores[1].commit(set("k", 0, &vec![1; super::super::SET_BYTES_MAX])).await.unwrap_err();
    assert!(matches!(&error, CommitError::TooLarge { name, .. } if name == "s"), "{error}");
    let large = vec![2; super::super::SET_BYTES_MAX - 1024];
    stores[1].commit(set("k", 0, &large)).await.unwrap();
    assert_eq!(value(&stores[2], "k").await, Some((1, large)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_for_another_group_is_refused() {
    let (wires, _places, stores) = three().await;
    let ask = super::super::words::Envelope { group: GROUP + 1, ask: super::super::words::Ask::Load(Vec::new()) };
    let answer = stores[0].handle(codec::encode(&ask).unwrap()).await;
    let answer: super::super::words::Answer = codec::decode(&answer).unwrap();
    assert!(matches!(answer, super::super::words::Answer::Refused(_)), "{answer:?}");
    let answer = stores[0].handle(b"\xc1garbage".to_vec()).await;
    assert!(matches!(codec::decode(&answer), Ok(super::super::words::Answer::Refused(_))));
    drop(wires);
}
