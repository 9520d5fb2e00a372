//! Works between two processes on one machine. `Remote` is what a subject has to offer for them; one file each has how it
//! does.

mod load;
mod one_way;
mod server;

#[cfg(feature = "peers")]
mod coerce;
mod echo;
mod grains;
#[cfg(feature = "peers")]
mod ractor;
#[cfg(feature = "peers")]
mod tarpc;
#[cfg(feature = "peers")]
mod tonic;

use std::process::ExitCode;

use crate::{
    case::{Measured, Work},
    child::Size,
    machine,
    subject::Subject,
};

/// A subject: 64 callees in the serving process that each answer a text with the same text.
///
/// Each process has a multi-thread tokio runtime with one worker for each core. Between them is one TCP connection, or
/// as many as the subject itself makes, without delay of small packets. Failures are bugs of the benchmark: they panic.
pub(crate) trait Remote: 'static {
    /// What calls of the calling process go through.
    type Callee: Clone + Send + Sync + 'static;

    /// In the serving process: gets everything ready, says where, and serves until the process is ended.
    fn serve(ready: impl FnOnce(String)) -> impl Future<Output = ()>;

    /// In the calling process: the callees that are served there.
    fn connect(address: String) -> impl Future<Output = Vec<Self::Callee>>;

    /// Answers `text`.
    fn echo(callee: &Self::Callee, text: String) -> impl Future<Output = String> + Send;
}

/// A subject that has one-way calls, too.
pub(crate) trait RemoteOneWay: Remote {
    /// Has the callee count a text, one-way.
    fn note(callee: &Self::Callee, text: String) -> impl Future<Output = ()> + Send;

    /// How many texts the callee has counted, and forgets them.
    fn noted(callee: &Self::Callee) -> impl Future<Output = u64> + Send;
}

/// How many callees are served.
pub(crate) const CALLEES: usize = 64;

/// What calls carry: 64 bytes. A `String`, because every codec has a short way for it.
pub(crate) fn payload() -> String {
    "0123456789abcdef".repeat(4)
}

/// An address that was free a moment ago, for those that cannot say which one they were given.
#[cfg(feature = "peers")]
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("a port is free").to_string()
}

/// Serves until the process that started this one is gone.
pub(crate) fn serve(work: Work, subject: Subject) -> ExitCode {
    let runtime = machine::runtime();
    match subject {
        Subject::Grains if work == Work::Remote64Mtls => runtime.block_on(grains::Secret::serve(server::ready)),
        Subject::Grains => runtime.block_on(grains::Grains::serve(server::ready)),
        Subject::Echo => runtime.block_on(echo::Echo::serve(server::ready)),
        #[cfg(feature = "peers")]
        Subject::Ractor => runtime.block_on(ractor::Ractor::serve(server::ready)),
        #[cfg(feature = "peers")]
        Subject::Coerce => runtime.block_on(coerce::Coerce::serve(server::ready)),
        #[cfg(feature = "peers")]
        Subject::Tarpc => runtime.block_on(tarpc::Tarpc::serve(server::ready)),
        #[cfg(feature = "peers")]
        Subject::Tonic => runtime.block_on(tonic::Tonic::serve(server::ready)),
        _ => unreachable!("{subject} has no remote calls"),
    }
    ExitCode::SUCCESS
}

/// Does this work with this subject.
pub(crate) fn measure(work: Work, subject: Subject, size: Size) -> Vec<Measured> {
    let server = server::Server::start(work, subject);
    let runtime = machine::runtime();
    let one_way = work == Work::RemoteOneWay;
    match subject {
        Subject::Grains if one_way => runtime.block_on(one_way::measure::<grains::Grains>(server, size)),
        Subject::Grains if work == Work::Remote64Mtls => {
            runtime.block_on(load::measure::<grains::Secret>(work, server, size))
        }
        Subject::Grains => runtime.block_on(load::measure::<grains::Grains>(work, server, size)),
        Subject::Echo if one_way => runtime.block_on(one_way::measure::<echo::Echo>(server, size)),
        Subject::Echo => runtime.block_on(load::measure::<echo::Echo>(work, server, size)),
        #[cfg(feature = "peers")]
        Subject::Ractor if one_way => runtime.block_on(one_way::measure::<ractor::Ractor>(server, size)),
        #[cfg(feature = "peers")]
        Subject::Ractor => runtime.block_on(load::measure::<ractor::Ractor>(work, server, size)),
        #[cfg(feature = "peers")]
        Subject::Coerce if one_way => runtime.block_on(one_way::measure::<coerce::Coerce>(server, size)),
        #[cfg(feature = "peers")]
        Subject::Coerce => runtime.block_on(load::measure::<coerce::Coerce>(work, server, size)),
        #[cfg(feature = "peers")]
        Subject::Tarpc => runtime.block_on(load::measure::<tarpc::Tarpc>(work, server, size)),
        #[cfg(feature = "peers")]
        Subject::Tonic => runtime.block_on(load::measure::<tonic::Tonic>(work, server, size)),
        _ => unreachable!("{subject} has no remote calls"),
    }
}
