use super::Clustered;
use crate::cluster::names::MemberId;
impl Clustered {
    pub(super) fn with_incoming(&self, _from: MemberId, _call: u64, decode: impl FnOnce()) {
        if let Some(node) = self.node() {
            node.with_streams(decode)
        }
    }
    pub(super) fn stream_frame(&self, _from: MemberId, _body: &[u8]) {}
    pub(super) fn streams_gone(&self, _member: MemberId) {}
}
