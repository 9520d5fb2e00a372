//! What clients may not: each refusal says that nothing ran, why, and what would have to change.

use grains::{CallError, Outcome, PRINCIPAL, RequestContext, prelude::*};

use crate::{
    cluster::{alone, client, three, until},
    desk::{ChairRef, DeskAdminRef, DeskRef, ForgerRef, VaultRef, seen},
};

#[rpc_trait(client)]
pub trait Nowhere {
    async fn ask(&self) -> Result<()>;
}

fn why<T: std::fmt::Debug>(answer: Result<T, CallError>) -> String {
    match answer.unwrap_err() {
        error @ CallError::Forbidden { .. } => {
            assert_eq!(error.outcome(), Outcome::NotExecuted);
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_traits_that_are_marked_can_be_called_whichever_node_has_the_grain() {
    let nodes = three(false).await;
    // Node a hosts the vaults and knows at once; c does not, so whoever does is asked.
    for (gateway, key) in [(&nodes[0], "known"), (&nodes[2], "unknown")] {
        let client = client(&[gateway]).await;
        until("it is where it is meant to be", || client.gateways().contains(&gateway.client_address().unwrap())).await;
        for n in 0..20 {
            let key = format!("{key}-{n}");
            let told = why(client.get::<VaultRef>(key.as_str()).open().await);
            assert!(told.contains("trait `Vault`") && told.contains("`#[rpc_trait(client)]`"), "{told}");
            client.get::<VaultRef>(key.as_str()).open().send().unwrap();
            // The same grain, by a trait that is marked, and one that is not.
            assert_eq!(client.get::<DeskRef>(key.as_str()).add(1).await.unwrap(), 1);
            let told = why(client.get::<DeskAdminRef>(key.as_str()).close_down().await);
            assert!(told.contains("trait `DeskAdmin`"), "{told}");
            let error = client.get::<ChairRef>(key.as_str()).sit().await.unwrap_err();
            assert!(matches!(error, CallError::UnknownMethod { .. }), "{error:?}");
            assert_eq!(seen(&format!("vault {key}")), 0, "not even activated");
            assert_eq!(seen(&format!("closed down {key}")), 0);
            // On behalf of the client, a grain may.
            assert_eq!(client.get::<DeskRef>(key.as_str()).vault_says().await.unwrap(), "gold of anonymous");
        }
        let error = client.get::<NowhereRef>("x").ask().await.unwrap_err();
        assert!(matches!(error, CallError::NotHosted { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_is_asked_about_each_call_and_a_panic_says_no() {
    let node = alone(
        |_| {},
        |builder| {
            builder.authorize_clients(|principal, grain, method| match (grain.key(), method) {
                ("private", _) => Err(format!("{principal} is not the owner of {grain}")),
                ("odd", _) => panic!("of the authorization"),
                (_, "note") => Err("nobody takes notes here".to_owned()),
                _ => Ok(()),
            })
        },
    )
    .await;
    let client = client(&[&node]).await;
    assert_eq!(client.get::<DeskRef>("public").add(1).await.unwrap(), 1);
    let told = why(client.get::<DeskRef>("private").add(1).await);
    assert!(told.contains("desk/private.add") && told.contains("anonymous is not the owner of desk/private"), "{told}");
    assert!(why(client.get::<DeskRef>("odd").add(1).await).contains("panicked"));
    assert!(why(client.get::<DeskRef>("public").note(1).await).contains("nobody takes notes here"));
    client.get::<DeskRef>("public").note(1).send().unwrap();
    assert_eq!(client.get::<DeskRef>("public").notes().await.unwrap(), [0_u64; 0]);
    assert_eq!((seen("active private"), seen("active odd")), (0, 0));
    // A refusal does not pass, so it is not repeated.
    let told = client.get::<DeskRef>("private").add(1).retry(50).await;
    assert!(why(told).contains("owner"));
    // Grains and nodes are not asked about.
    assert_eq!(node.get::<DeskRef>("private").add(1).await.unwrap(), 1);
}

/// What the authorization says of a method it says of its name. Methods travel as 32 bits of hash, for which anybody finds another
/// name within seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_is_called_by_its_own_name_and_by_none_with_the_same_hash() {
    use grains::__private::MethodId;
    assert_eq!(MethodId::of("bgwnipda"), MethodId::of("note"));
    let nodes = three(false).await;
    for (gateway, keys) in [(&nodes[0], "named-a"), (&nodes[2], "named-c")] {
        let client = client(&[gateway]).await;
        until("it is where it is meant to be", || client.gateways().contains(&gateway.client_address().unwrap())).await;
        for n in 0..8 {
            let key = format!("{keys}-{n}");
            let error = client.get::<ForgerRef>(key.as_str()).forged(1).await.unwrap_err();
            let CallError::UnknownMethod { method, .. } = &error else { panic!("{error:?}") };
            assert_eq!(&**method, "bgwnipda");
            client.get::<ForgerRef>(key.as_str()).forged(1).send().unwrap();
            client.get::<DeskRef>(key.as_str()).note(2).await.unwrap();
            assert_eq!(client.get::<DeskRef>(key.as_str()).notes().await.unwrap(), [2]);
        }
        // Nobody but the host is told of the name.
        let who = client.get::<DeskRef>(keys).who(Some(client.get("told"))).await.unwrap();
        assert!(!who.iter().any(|(name, _)| name == "grains.method"), "{who:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_can_say_who_it_is() {
    let nodes = three(false).await;
    let client = client(&[&nodes[2]]).await;
    let forged = RequestContext::new().with(PRINCIPAL, "spiffe://shop/client/root").unwrap();
    let forged = forged.with("grains.admin", "yes").unwrap().with("tenant", "acme").unwrap();
    for (key, other) in [("forged", None), ("forger", Some(client.get("through")))] {
        let who = client.get::<DeskRef>(key).who(other).context(forged.clone()).await.unwrap();
        let expected = [("grains.principal", "anonymous"), ("tenant", "acme"), ("principal", "anonymous")];
        assert_eq!(who, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_refused_by_name_and_its_source_ends() {
    let nodes = three(false).await;
    for (gateway, keys) in [(&nodes[0], "stream-a"), (&nodes[2], "stream-c")] {
        let client = client(&[gateway]).await;
        for n in 0..8 {
            let key = format!("{keys}-{n}");
            let error = client.get::<DeskRef>(key.as_str()).numbers().await.map(drop).unwrap_err();
            let CallError::Codec { why, outcome: Outcome::Executed } = &error else { panic!("{error:?}") };
            assert!(why.contains("a stream, which clients cannot be sent yet"), "{why}");
            until("its source ends", || seen(&format!("stream gone {key}")) == 1).await;
        }
    }
}
