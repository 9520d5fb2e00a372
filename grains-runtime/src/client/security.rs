//! How a client keeps its connections from others, by its configuration.

use grains_core::world::World;

use super::ConnectError;
use crate::{
    cluster::{Chosen, NodeName, TlsConfig},
    wire::Security,
};

/// What it dials with.
pub(super) async fn security(world: &World, tls: &TlsConfig, cluster: &NodeName) -> Result<Security, ConnectError> {
    match tls.chosen().map_err(|why| ConnectError::Config { why: why.to_owned() })? {
        Chosen::Nothing => Ok(Security::Plain),
        chosen => secure(world, chosen, cluster).await,
    }
}

#[cfg(not(feature = "tls"))]
async fn secure(_: &World, _: Chosen, _: &NodeName) -> Result<Security, ConnectError> {
    let why = "`tls` is set, and the program was built without the feature `tls` of grains".to_owned();
    Err(ConnectError::Config { why })
}

#[cfg(feature = "tls")]
async fn secure(world: &World, chosen: Chosen, cluster: &NodeName) -> Result<Security, ConnectError> {
    use crate::tls::{Files, Tls, Whose};

    let Chosen::Files { certificate, key, roots } = chosen else {
        let why = "`tls.development` is for nodes: have the same authority issue the client a certificate, by `grains ca issue FOLDER \
                   --client NAME`"
            .to_owned();
        return Err(ConnectError::Config { why });
    };
    let cluster = cluster.clone();
    let made =
        world.off_thread(move || Tls::of_files(Files { certificate, key, roots }, &cluster, Whose::AClient)).await;
    match made {
        Some(Ok(tls)) => Ok(Security::Tls(tls.into())),
        Some(Err(why)) => Err(ConnectError::Certificates { why: why.to_string() }),
        None => Err(ConnectError::Certificates { why: "the runtime has ended".to_owned() }),
    }
}
