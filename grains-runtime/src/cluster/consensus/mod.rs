//! Raft, by openraft: the only room that knows it.
