//! How a node of a cluster keeps its connections from others, by its configuration. Called when it starts, and by its
//! watchdog when it has ended.

use grains_core::world::World;

use super::StartError;
use crate::{
    cluster::{Chosen, ClusterConfig, NodeName},
    wire::{Reach, Security},
};

/// What the wire is told.
pub(crate) async fn security(
    world: &World,
    config: &ClusterConfig,
    cluster: &NodeName,
    name: &NodeName,
) -> Result<(Reach, Security), StartError> {
    let refuse = |why: &str| StartError::Cluster { why: why.to_owned() };
    let chosen = config.tls.chosen().map_err(refuse)?;
    match (chosen, config.plaintext_on_any_network) {
        (Chosen::Nothing, false) => Ok((Reach::Loopback, Security::Plain)),
        (Chosen::Nothing, true) => Ok((Reach::Anywhere, Security::Plain)),
        (_, true) => {
            Err(refuse("`plaintext_on_any_network` is for nodes without certificates: leave it out, or `tls`"))
        }
        (chosen, false) => Ok((Reach::Anywhere, secure(world, chosen, cluster, name).await?)),
    }
}

#[cfg(not(feature = "tls"))]
async fn secure(_: &World, _: Chosen, _: &NodeName, _: &NodeName) -> Result<Security, StartError> {
    Err(StartError::Cluster {
        why: "`tls` is set, and the program was built without the feature `tls` of grains".to_owned(),
    })
}

#[cfg(feature = "tls")]
async fn secure(world: &World, chosen: Chosen, cluster: &NodeName, name: &NodeName) -> Result<Security, StartError> {
    let (cluster, name) = (cluster.clone(), name.clone());
    let made = world.off_thread(move || tls(chosen, &cluster, &name)).await;
    let why = match made {
        Some(Ok(tls)) => return Ok(Security::Tls(tls.into())),
        Some(Err(why)) => why,
        None => "the runtime has ended".to_owned(),
    };
    Err(StartError::Certificates { why })
}

#[cfg(feature = "tls")]
fn tls(chosen: Chosen, cluster: &NodeName, name: &NodeName) -> Result<crate::tls::Tls, String> {
    use crate::tls::{Files, Tls, Whose};

    let whose = Whose::Node(name.clone());
    let made = match chosen {
        Chosen::Files { certificate, key, roots } => Tls::of_files(Files { certificate, key, roots }, cluster, whose),
        #[cfg(feature = "ca")]
        Chosen::Development(folder) => {
            let issued = crate::ca::development(&folder, cluster, name);
            Tls::of_pem(issued.map_err(|why| why.to_string())?, cluster, whose)
        }
        #[cfg(not(feature = "ca"))]
        Chosen::Development(_) => {
            return Err(
                "`tls.development` is set, and the program was built without the feature `ca` of grains".to_owned()
            );
        }
        Chosen::Nothing => return Err("there are no certificates".to_owned()),
    };
    made.map_err(|why| why.to_string())
}
