//! Names of messages.

use omnipaxos::{
    messages::{
        ballot_leader_election::HeartbeatMsg,
        sequence_paxos::{PaxosMessage, PaxosMsg},
        Message,
    },
    storage::Entry,
};

/// Names the kind of a message, as the paper does.
pub fn kind<T: Entry>(message: &Message<T>) -> &'static str {
    match message {
        Message::BLE(ble) => match ble.msg {
            HeartbeatMsg::Request(_) => "HeartbeatRequest",
            HeartbeatMsg::Reply(_) => "HeartbeatReply",
        },
        Message::SequencePaxos(PaxosMessage { msg, .. }) => match msg {
            PaxosMsg::PrepareReq(_) => "PrepareReq",
            PaxosMsg::Prepare(_) => "Prepare",
            PaxosMsg::Promise(_) => "Promise",
            PaxosMsg::AcceptSync(_) => "AcceptSync",
            PaxosMsg::AcceptDecide(_) => "AcceptDecide",
            PaxosMsg::AcceptStopSign(_) => "AcceptStopSign",
            PaxosMsg::Accepted(_) => "Accepted",
            PaxosMsg::NotAccepted(_) => "NotAccepted",
            PaxosMsg::Decide(_) => "Decide",
            PaxosMsg::CatchUpRedirect(_) => "CatchUpRedirect",
            PaxosMsg::CatchUpRequest(_) => "CatchUpRequest",
            PaxosMsg::CatchUpChunk(_) => "CatchUpChunk",
            PaxosMsg::ProposalForward(_) => "ProposalForward",
            PaxosMsg::ForwardedProposals(_) => "ForwardedProposals",
            PaxosMsg::ProposalRejection(_) => "ProposalRejection",
            PaxosMsg::ForwardStopSign(_) => "ForwardStopSign",
            PaxosMsg::Compaction(_) => "Compaction",
            PaxosMsg::ReadIndexRequest(_) => "ReadIndexRequest",
            PaxosMsg::ReadIndexResponse(_) => "ReadIndexResponse",
            PaxosMsg::LeadershipCheck(_) => "LeadershipCheck",
            PaxosMsg::LeadershipCheckAck(_) => "LeadershipCheckAck",
            PaxosMsg::TransferLeadership(_) => "TransferLeadership",
            PaxosMsg::Joining(_) => "Joining",
        },
    }
}
