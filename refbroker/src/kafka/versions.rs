//! Which APIs and versions are served, and the `ApiVersions` answer.

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{ApiKey, ApiVersionsResponse, api_versions_response::ApiVersion},
};

use super::{
    dispatch::encode,
    error::{ConnectionError, NONE},
};

/// One API.
pub(super) struct Served {
    /// Which.
    pub key: ApiKey,
    /// Lowest version that is answered.
    pub min: i16,
    /// Highest version that is answered (inclusive).
    pub max: i16,
    /// Lowest version that is announced.
    announced_min: i16,
}

const fn served(key: ApiKey, min: i16, max: i16) -> Served {
    Served {
        key,
        min,
        max,
        announced_min: min,
    }
}

/// Everything that is served. Fetch stops before topic ids replace names (13), Produce before tagged leader hints.
const SERVED: [Served; 9] = [
    // Versions 0 to 2 are announced but refused, as Apache Kafka 4 does: older librdkafka takes a minimum above 0
    // for a broker without compression.
    Served {
        key: ApiKey::Produce,
        min: 3,
        max: 9,
        announced_min: 0,
    },
    served(ApiKey::Fetch, 4, 12),
    served(ApiKey::ListOffsets, 1, 6),
    served(ApiKey::Metadata, 0, 12),
    served(ApiKey::FindCoordinator, 0, 4),
    served(ApiKey::ApiVersions, 0, 3),
    served(ApiKey::CreateTopics, 2, 7),
    served(ApiKey::DeleteTopics, 1, 6),
    served(ApiKey::InitProducerId, 0, 4),
];

/// The API of a key, if that version of it is served.
pub(super) fn find(key: i16, version: i16) -> Option<ApiKey> {
    SERVED
        .iter()
        .find(|api| api.key as i16 == key && (api.min..=api.max).contains(&version))
        .map(|api| api.key)
}

/// The answer to `ApiVersions`. A version that is not served is answered in version 0 with `UNSUPPORTED_VERSION` and
/// the whole list, so that the client can ask again.
pub(super) fn answer(correlation_id: i32, version: i16) -> Result<Bytes, ConnectionError> {
    let known = find(ApiKey::ApiVersions as i16, version).is_some();
    let error_code = if known {
        NONE
    } else {
        ResponseError::UnsupportedVersion.code()
    };
    let api_keys = SERVED
        .iter()
        .map(|api| {
            ApiVersion::default()
                .with_api_key(api.key as i16)
                .with_min_version(api.announced_min)
                .with_max_version(api.max)
        })
        .collect();
    let response = ApiVersionsResponse::default()
        .with_error_code(error_code)
        .with_api_keys(api_keys);
    encode(
        ApiKey::ApiVersions,
        correlation_id,
        if known { version } else { 0 },
        &response,
    )
}
