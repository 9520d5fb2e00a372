//! Connections between nodes: one port, a handshake, a control and a data connection to each peer.
