//! The list of all settings: which name stands for which field. It is read, printed and searched through `Settings::each`.
//!
//! No pattern here has a `..`: who adds a field is told by the compiler to give it a name here.

#[cfg(feature = "cluster")]
use super::value::InFile;
use super::{
    GrainSettings, Name, Settings,
    value::{Bytes, NotEmpty, Value},
};
#[cfg(feature = "cluster")]
use crate::cluster::{ClientsConfig, ClusterConfig, TlsConfig};
use crate::config::NodeConfig;
#[cfg(feature = "cluster")]
use crate::store::ReplicatedConfig;

impl Settings {
    /// Shows every setting, table by table.
    pub(super) fn each(&mut self, see: &mut dyn FnMut(Name, &mut dyn Value)) {
        let Self {
            node,
            #[cfg(feature = "redb")]
            data_dir,
            #[cfg(feature = "cluster")]
            cluster,
            grains,
            origins: _,
        } = self;
        of_node(
            node,
            #[cfg(feature = "redb")]
            data_dir,
            &mut |word, value| see(Name::top(word), value),
        );
        #[cfg(feature = "cluster")]
        if let Some(cluster) = cluster {
            of_cluster(cluster, see);
        }
        for (grain_type, grain) in grains {
            of_grain(grain, &mut |word, value| see(Name::of_grain(grain_type, word), value));
        }
    }

    /// The names of all settings there could be, with those of one grain type.
    pub(super) fn known(grain_type: &str) -> Vec<Name> {
        let mut full = Self::default();
        #[cfg(feature = "cluster")]
        full.make_room_for(&Name::top(Name::CLUSTER));
        full.make_room_for(&Name::of(Name::GRAIN, grain_type));
        let mut names = Vec::new();
        full.each(&mut |name, _| names.push(name));
        names
    }
}

type See<'t> = &'t mut dyn FnMut(&str, &mut dyn Value);

fn of_node(config: &mut NodeConfig, #[cfg(feature = "redb")] data_dir: &mut dyn Value, see: See<'_>) {
    let NodeConfig {
        name,
        store,
        call_timeout,
        activate_timeout,
        deactivate_timeout,
        store_timeout,
        mailbox_len_max,
        waiting_calls_max,
        waiting_bytes_max,
        idle_timeout,
        activations_max,
        state_bytes_max,
        stop_timeout,
        slow_turn,
        blocked_turn,
        encode_local_calls,
    } = config;
    see("name", &mut NotEmpty(name));
    #[cfg(feature = "redb")]
    see("data_dir", data_dir);
    see("store", store);
    see("call_timeout", call_timeout);
    see("activate_timeout", activate_timeout);
    see("deactivate_timeout", deactivate_timeout);
    see("store_timeout", store_timeout);
    see("mailbox_len_max", mailbox_len_max);
    see("waiting_calls_max", waiting_calls_max);
    see("waiting_bytes_max", &mut Bytes(waiting_bytes_max));
    see("idle_timeout", idle_timeout);
    see("activations_max", activations_max);
    see("state_bytes_max", &mut Bytes(state_bytes_max));
    see("stop_timeout", stop_timeout);
    see("slow_turn", slow_turn);
    see("blocked_turn", blocked_turn);
    see("encode_local_calls", encode_local_calls);
}

#[cfg(feature = "cluster")]
fn of_cluster(config: &mut ClusterConfig, see_all: &mut dyn FnMut(Name, &mut dyn Value)) {
    let ClusterConfig {
        name,
        listen,
        advertise,
        join,
        roles,
        capacity,
        voters,
        voter_replace_after,
        partitions,
        lease,
        heartbeat,
        election,
        join_timeout,
        calls_max,
        places_max,
        plaintext_on_any_network,
        death_certificates,
        tls,
        clients,
        states,
    } = config;
    let mut see = |word: &str, value: &mut dyn Value| see_all(Name::of(Name::CLUSTER, word), value);
    see("name", name);
    see("listen", listen);
    see("advertise", advertise);
    see("join", join);
    see("roles", roles);
    see("capacity", capacity);
    see("voters", voters);
    see("voter_replace_after", voter_replace_after);
    see("partitions", partitions);
    see("lease", lease);
    see("heartbeat", heartbeat);
    see("election", election);
    see("join_timeout", join_timeout);
    see("calls_max", calls_max);
    see("places_max", places_max);
    see("plaintext_on_any_network", plaintext_on_any_network);
    see("death_certificates", death_certificates);
    of_tls(tls, &mut |word, value| see_all(Name::of_tls(word), value));
    of_clients(clients, &mut |word, value| see_all(Name::of_clients(word), value));
    of_states(states, &mut |word, value| see_all(Name::of_states(word), value));
}

#[cfg(feature = "cluster")]
fn of_tls(config: &mut TlsConfig, see: See<'_>) {
    let TlsConfig { certificate, key, roots, development } = config;
    see("certificate", &mut InFile(certificate));
    see("key", &mut InFile(key));
    see("roots", &mut InFile(roots));
    see("development", development);
}

#[cfg(feature = "cluster")]
fn of_clients(config: &mut ClientsConfig, see: See<'_>) {
    let ClientsConfig {
        enabled,
        listen,
        advertise,
        connections_max,
        connections_per_principal_max,
        calls_max,
        call_bytes_max,
        frame_bytes_max,
        answer_bytes_max,
        calls_per_second,
        burst,
    } = config;
    see("enabled", enabled);
    see("listen", listen);
    see("advertise", advertise);
    see("connections_max", connections_max);
    see("connections_per_principal_max", connections_per_principal_max);
    see("calls_max", calls_max);
    see("call_bytes_max", &mut Bytes(call_bytes_max));
    see("frame_bytes_max", &mut Bytes(frame_bytes_max));
    see("answer_bytes_max", &mut Bytes(answer_bytes_max));
    see("calls_per_second", calls_per_second);
    see("burst", burst);
}

#[cfg(feature = "cluster")]
fn of_states(config: &mut ReplicatedConfig, see: See<'_>) {
    let ReplicatedConfig { commits_max, commit_bytes_max, batch_len_max, batch_bytes_max, loads_max, patience } =
        config;
    see("commits_max", commits_max);
    see("commit_bytes_max", &mut Bytes(commit_bytes_max));
    see("batch_len_max", batch_len_max);
    see("batch_bytes_max", &mut Bytes(batch_bytes_max));
    see("loads_max", loads_max);
    see("patience", patience);
}

fn of_grain(grain: &mut GrainSettings, see: See<'_>) {
    let GrainSettings {
        idle_timeout,
        keep_active,
        mailbox_len_max,
        abandon_after,
        store,
        #[cfg(feature = "cluster")]
        placement,
        #[cfg(feature = "cluster")]
        role,
    } = grain;
    see("idle_timeout", idle_timeout);
    see("keep_active", keep_active);
    see("mailbox_len_max", mailbox_len_max);
    see("abandon_after", abandon_after);
    see("store", store);
    #[cfg(feature = "cluster")]
    see("placement", placement);
    #[cfg(feature = "cluster")]
    see("role", role);
}
