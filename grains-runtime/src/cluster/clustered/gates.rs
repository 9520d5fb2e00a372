//! What a gateway asks of its node: whether a client's call may be made, and which other gateways there are.

use std::sync::Arc;

use grains_core::{CallError, Failure, GrainId, KEY_BYTES_MAX, MethodId, Outcome};

use super::{Clustered, table::Standing};
use crate::{
    activation::lock,
    cluster::{gateway::forbidden, grain::intern, member::MemberState},
    node::NodeInner,
    tenure::Tenure,
};

/// What is needed to make a client's call.
pub(crate) struct ClientCall {
    pub(crate) clustered: Arc<Clustered>,
    pub(crate) node: Arc<NodeInner>,
    pub(crate) grain: GrainId,
    /// Under which it is taken.
    pub(crate) tenure: Arc<Tenure>,
    /// The grain type is hosted here, so the name of the method is known to be one.
    pub(crate) is_hosted: bool,
}

impl Clustered {
    /// The addresses of all gateways, this node's first; none while it may not act or is leaving.
    pub(crate) fn gateways(&self) -> Option<Vec<String>> {
        let mut table = lock(&self.table);
        let standing = table.acting().ok()?;
        let active = |state| matches!(state, MemberState::Active);
        let mine = standing.view.member(standing.me).filter(|member| active(member.state))?.joiner.clients.clone()?;
        let others = standing.view.members.values().filter(|member| member.id != standing.me && active(member.state));
        let others = others.filter_map(|member| member.joiner.clients.clone());
        Some([mine].into_iter().chain(others).collect())
    }

    /// Whether a client may call this method of this grain as far as this node knows. Whoever hosts the grain type asks
    /// [`open_to_clients`](NodeInner::open_to_clients) before there is an activation.
    pub(crate) fn client_call(&self, grain_type: &str, key: &str, method: &str) -> Result<ClientCall, Failure> {
        let stopped = || CallError::Stopped { outcome: Outcome::NotExecuted };
        let (node, clustered) = (self.node().ok_or_else(stopped)?, self.weak().upgrade().ok_or_else(stopped)?);
        let (known, tenure) = {
            let mut table = lock(&self.table);
            let standing = table.acting()?;
            (known(&node, standing, grain_type), standing.tenure.clone())
        };
        // Not before: what is interned stays for ever, and a client may say anything.
        let Some(grain_type) = known else {
            let grain_type = grain_type.chars().take(100).collect::<String>().into();
            return Err(CallError::NotHosted { grain_type });
        };
        if key.len() > KEY_BYTES_MAX {
            let why = format!("its key has {} bytes, the limit is {KEY_BYTES_MAX}", key.len()).into();
            return Err(CallError::BadReference { grain: grain_type.into(), why });
        }
        let grain = GrainId::new(grain_type, key);
        node.open_to_clients(&grain, MethodId::of(method), Some(method))?;
        let is_hosted = node.hosted_name(grain_type).is_some();
        Ok(ClientCall { clustered, node, grain, tenure, is_hosted })
    }
}

/// The name of a grain type that this node or another member hosts.
fn known(node: &NodeInner, standing: &Standing, grain_type: &str) -> Option<&'static str> {
    if let Some(known) = node.hosted_name(grain_type) {
        return Some(known);
    }
    let mut joiners = standing.view.members.values().map(|member| &member.joiner);
    let hosted = joiners.any(|joiner| joiner.hosts_one(grain_type) || joiner.workers.contains(grain_type));
    hosted.then(|| intern(grain_type).ok()).flatten()
}

impl NodeInner {
    /// Whether clients may call this method. Who does not host the grain type does not know; who does is asked. What the client has
    /// called it has to be its name, and not only to have the same hash: that name is what the authorization was asked about.
    pub(crate) fn open_to_clients(
        &self,
        grain: &GrainId,
        method: MethodId,
        named: Option<&str>,
    ) -> Result<(), Failure> {
        let Some(about) = self.about(grain.grain_type(), method) else { return Ok(()) };
        match about.filter(|about| named.is_none_or(|named| named == about.method.name)) {
            None => {
                let method = named.map_or_else(|| format!("with id {:08x}", method.0), str::to_owned).into();
                Err(CallError::UnknownMethod { grain: grain.to_string().into(), method })
            }
            Some(about) if about.for_clients => Ok(()),
            Some(about) => {
                let fix = format!(
                    "trait `{0}` is not for clients: mark it with `#[rpc_trait(client)]`, if they are to call it",
                    about.interface
                );
                Err(forbidden(grain, about.method.name, &fix))
            }
        }
    }
}
