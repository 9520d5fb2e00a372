//! What can happen in the lease model, as traces show it.

use std::fmt;

#[derive(Clone, Copy)]
pub(crate) enum Event {
    Tick,
    SlowTick,
    SendRenewal,
    GiveUp { age: u8 },
    ReceiveRenewal { leader: u8, age: u8 },
    QuorumConfirms { leader: u8 },
    Acknowledge { leader: u8, age: u8 },
    TakeAcknowledgement { age: u8 },
    FlagIsSet,
    BeginTurn,
    BeginPoll,
    Write { refused: bool },
    EndPoll,
    EndTurn,
    OthersWrite,
    Rejoin,
    HearsItJoined,
    AnotherJoinsInItsPlace,
    ProcessEnds,
    SocketCloses,
    Restarts,
    LateWrite { refused: bool },
    CertificateLost,
    HearOfDeath { leader: u8 },
    DecideEviction { leader: u8 },
    EvictionLogged { leader: u8 },
    EvictionApplied { meant: bool, heard: bool },
    EvictionComesToNothing,
    Election { leader: u8 },
    HearOfSuccessor { leader: u8 },
    Stopped { leader: u8 },
    GoesOn { leader: u8 },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Tick => write!(f, "a tick passes"),
            Self::SlowTick => write!(f, "a tick passes that the node's clock misses"),
            Self::SendRenewal => write!(f, "the node sends a renewal"),
            Self::GiveUp { age } => write!(f, "the renewal sent {age} ago, or its answer, is lost"),
            Self::ReceiveRenewal { leader, age } => write!(f, "leader {leader} receives the renewal sent {age} ago"),
            Self::QuorumConfirms { leader } => write!(f, "a quorum confirms that {leader} leads"),
            Self::Acknowledge { leader, age } => write!(f, "leader {leader} acknowledges the renewal sent {age} ago"),
            Self::TakeAcknowledgement { age } => write!(f, "the node hears that its renewal of {age} ago counts"),
            Self::FlagIsSet => write!(f, "the node's thread sets its flag: the lease is over"),
            Self::BeginTurn => write!(f, "the node begins a turn"),
            Self::BeginPoll => write!(f, "the node begins a poll"),
            Self::Write { refused: false } => write!(f, "the node writes to the store"),
            Self::Write { refused: true } => write!(f, "the node writes to the store and is refused"),
            Self::EndPoll => write!(f, "the poll ends"),
            Self::EndTurn => write!(f, "the turn ends"),
            Self::OthersWrite => write!(f, "another node activates the grain and writes to the store"),
            Self::Rejoin => write!(f, "the node joins anew"),
            Self::HearsItJoined => write!(f, "the node hears that it has joined"),
            Self::AnotherJoinsInItsPlace => write!(f, "another process joins in the node's place"),
            Self::ProcessEnds => write!(f, "the node's process ends"),
            Self::SocketCloses => write!(f, "the node closes the socket to its watchdog, and goes on"),
            Self::Restarts => write!(f, "the node is started again, as another process, and joins"),
            Self::LateWrite { refused: false } => write!(f, "what the process wrote before its end reaches the store"),
            Self::LateWrite { refused: true } => write!(f, "what the process wrote before its end is refused"),
            Self::CertificateLost => write!(f, "the certificate of its death is lost"),
            Self::HearOfDeath { leader } => write!(f, "leader {leader} hears of the death, and decides to evict"),
            Self::DecideEviction { leader } => write!(f, "leader {leader} decides to evict the node"),
            Self::EvictionLogged { leader } => write!(f, "the eviction is in the log of leader {leader}"),
            Self::EvictionApplied { meant, heard } => {
                let what = if meant { "is applied" } else { "names an earlier incarnation and does nothing" };
                write!(
                    f,
                    "the eviction {what}{}",
                    if heard { "" } else { "; its leader does not hear of it and repeats it" }
                )
            }
            Self::EvictionComesToNothing => write!(f, "the eviction comes to nothing"),
            Self::Election { leader } => write!(f, "{leader} is elected"),
            Self::HearOfSuccessor { leader } => write!(f, "{leader} hears that it does not lead any more"),
            Self::Stopped { leader } => write!(f, "{leader} is stopped"),
            Self::GoesOn { leader } => write!(f, "{leader} goes on"),
        }
    }
}
