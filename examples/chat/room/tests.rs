//! The room without a node.
