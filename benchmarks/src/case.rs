//! What is measured, with its unit; and the works that measure it, each in a process of its own.

use clap::ValueEnum;

/// One number that is reported for each subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Case {
    /// One caller, one callee, one call after the other.
    CallSeq,
    /// 64 callers that call each its own callee, in time per call.
    Call64x64,
    /// 64 callers that all call one callee, in time per call.
    Call64x1,
    /// One sender, one callee, until the last one has run, in time per call.
    OneWay,
    /// From a key to the first answer.
    ColdActivation,
    /// Resident memory that 200,000 idle callees take, each.
    IdleBytes200k,
    /// The same of a million.
    IdleBytes1m,
    /// One call under way between two processes: the median of how long they take.
    Remote1,
    /// 64 under way.
    Remote64,
    /// 64 under way, between nodes with certificates.
    Remote64Mtls,
    /// 512 under way.
    Remote512,
    /// Time that both processes compute for a call, with 64 under way.
    RemoteCpu,
    /// One sender, 64 callees in another process, until the last one has run, in time per call.
    RemoteOneWay,
}

pub(crate) const LOCAL: [Case; 5] =
    [Case::CallSeq, Case::Call64x64, Case::Call64x1, Case::OneWay, Case::ColdActivation];
pub(crate) const MEMORY: [Case; 2] = [Case::IdleBytes200k, Case::IdleBytes1m];
pub(crate) const REMOTE: [Case; 6] =
    [Case::Remote1, Case::Remote64, Case::Remote64Mtls, Case::Remote512, Case::RemoteCpu, Case::RemoteOneWay];

/// Whether more of it is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
}

impl Case {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CallSeq => "call_seq",
            Self::Call64x64 => "call_64x64",
            Self::Call64x1 => "call_64x1",
            Self::OneWay => "one_way",
            Self::ColdActivation => "cold_activation",
            Self::IdleBytes200k => "idle_bytes_200k",
            Self::IdleBytes1m => "idle_bytes_1m",
            Self::Remote1 => "remote_1",
            Self::Remote64 => "remote_64",
            Self::Remote64Mtls => "remote_64_mtls",
            Self::Remote512 => "remote_512",
            Self::RemoteCpu => "remote_cpu",
            Self::RemoteOneWay => "remote_one_way",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        LOCAL.into_iter().chain(MEMORY).chain(REMOTE).find(|case| case.name() == name)
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::CallSeq | Self::Call64x64 | Self::Call64x1 | Self::OneWay => "ns",
            Self::ColdActivation | Self::RemoteOneWay => "ns",
            Self::IdleBytes200k | Self::IdleBytes1m => "bytes",
            Self::Remote1 | Self::RemoteCpu => "us",
            Self::Remote64 | Self::Remote64Mtls | Self::Remote512 => "calls/s",
        }
    }

    pub(crate) fn better(self) -> Better {
        match self {
            Self::Remote64 | Self::Remote64Mtls | Self::Remote512 => Better::More,
            _ => Better::Less,
        }
    }

    pub(crate) fn work(self) -> Work {
        match self {
            Self::CallSeq => Work::CallSeq,
            Self::Call64x64 => Work::Call64x64,
            Self::Call64x1 => Work::Call64x1,
            Self::OneWay => Work::OneWay,
            Self::ColdActivation | Self::IdleBytes200k => Work::Activations200k,
            Self::IdleBytes1m => Work::Activations1m,
            Self::Remote1 => Work::Remote1,
            Self::Remote64 | Self::RemoteCpu => Work::Remote64,
            Self::Remote64Mtls => Work::Remote64Mtls,
            Self::Remote512 => Work::Remote512,
            Self::RemoteOneWay => Work::RemoteOneWay,
        }
    }
}

/// What one child process does. Some works give two cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    CallSeq,
    Call64x64,
    Call64x1,
    OneWay,
    Activations200k,
    Activations1m,
    Remote1,
    Remote64,
    Remote64Mtls,
    Remote512,
    RemoteOneWay,
}

impl Work {
    /// Whether it is done between two processes.
    pub(crate) fn is_remote(self) -> bool {
        matches!(self, Self::Remote1 | Self::Remote64 | Self::Remote64Mtls | Self::Remote512 | Self::RemoteOneWay)
    }

    /// Memory is the same each time, and a million callees take long.
    pub(crate) fn rounds_max(self) -> usize {
        match self {
            Self::Activations1m => 1,
            _ => usize::MAX,
        }
    }
}

/// What a child has measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Measured {
    pub(crate) case: Case,
    /// In the case's unit.
    pub(crate) value: f64,
    /// For each call, or each activation with its first call; of both processes if there are two.
    pub(crate) allocs: Option<f64>,
}
