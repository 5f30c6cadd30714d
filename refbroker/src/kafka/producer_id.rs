//! `InitProducerId` for idempotent producers, and `FindCoordinator`, which finds none: there are no groups and no
//! transactions.

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest,
        InitProducerIdResponse, ProducerId, find_coordinator_response::Coordinator,
    },
    protocol::StrBytes,
};

use super::{
    MAX_REQUEST_TIMEOUT,
    dispatch::Request,
    error::{ConnectionError, code},
};
use crate::api::{ApiError, Node};

/// First version of `FindCoordinator` that asks for several keys.
const FIND_COORDINATOR_BATCHED: i16 = 4;
const NO_GROUPS: &str = "this broker has neither consumer groups nor transactions";

/// Gives out a new producer id with epoch 0, whatever id the client had before.
pub(super) async fn init(node: &dyn Node, request: &Request) -> Result<Bytes, ConnectionError> {
    let asked: InitProducerIdRequest = request.decode()?;
    let response = InitProducerIdResponse::default()
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    if asked.transactional_id.is_some() {
        let refused = ResponseError::TransactionalIdAuthorizationFailed.code();
        return request.encode(&response.with_error_code(refused));
    }
    let response = match node.allocate_producer_id(MAX_REQUEST_TIMEOUT / 2).await {
        Ok(id) => response
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(0),
        // The one code that every client takes for "try again" here.
        Err(ApiError::NoController | ApiError::TimedOut) => {
            response.with_error_code(ResponseError::CoordinatorNotAvailable.code())
        }
        Err(error) => response.with_error_code(code(&error)),
    };
    request.encode(&response)
}

/// Says that no coordinator is available: clients that assign partitions themselves go on without one.
pub(super) fn find_coordinator(request: &Request) -> Result<Bytes, ConnectionError> {
    let asked: FindCoordinatorRequest = request.decode()?;
    let error_code = ResponseError::CoordinatorNotAvailable.code();
    let message = StrBytes::from_static_str(NO_GROUPS);
    if request.version >= FIND_COORDINATOR_BATCHED {
        let coordinators = asked
            .coordinator_keys
            .into_iter()
            .map(|key| {
                Coordinator::default()
                    .with_key(key)
                    .with_node_id(BrokerId(-1))
                    .with_port(-1)
                    .with_error_code(error_code)
                    .with_error_message(Some(message.clone()))
            })
            .collect();
        return request.encode(&FindCoordinatorResponse::default().with_coordinators(coordinators));
    }
    let response = FindCoordinatorResponse::default()
        .with_error_code(error_code)
        .with_node_id(BrokerId(-1))
        .with_port(-1);
    request.encode(&if request.version >= 1 {
        response.with_error_message(Some(message))
    } else {
        response
    })
}
