//! Walks over a request before it is decoded: the decoder of kafka-protocol reserves memory for as many elements as
//! an array claims to have, before it looks whether they are there.
//!
//! Only what has arrays is walked. Fields are skipped as the versions in [`super::versions`] lay them out.

use kafka_protocol::messages::ApiKey;

/// Elements of all arrays of one request. An element takes about 100 bytes in memory.
pub(super) const MAX_ELEMENTS: usize = 100_000;

/// Why a request is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ShapeError {
    /// A length goes beyond the frame.
    #[error("a length goes beyond the request")]
    TooShort,
    /// Arrays claim too much.
    #[error("more than {MAX_ELEMENTS} elements")]
    TooMany,
    /// A length is not a number.
    #[error("a length is malformed")]
    Length,
}

type Walked = Result<(), ShapeError>;

/// Refuses a body whose arrays claim more than there is.
pub(super) fn check(key: ApiKey, version: i16, body: &[u8]) -> Walked {
    let mut walker = Walker {
        rest: body,
        flexible: version >= first_flexible(key),
        version,
        elements: MAX_ELEMENTS,
    };
    match key {
        ApiKey::Produce => walker.produce(),
        ApiKey::Fetch => walker.fetch(),
        ApiKey::ListOffsets => walker.list_offsets(),
        ApiKey::Metadata => walker.metadata(),
        ApiKey::FindCoordinator => walker.find_coordinator(),
        ApiKey::CreateTopics => walker.create_topics(),
        ApiKey::DeleteTopics => walker.delete_topics(),
        _ => Ok(()),
    }
}

/// First version with compact lengths and tagged fields.
fn first_flexible(key: ApiKey) -> i16 {
    match key {
        ApiKey::Produce | ApiKey::Metadata => 9,
        ApiKey::Fetch => 12,
        ApiKey::ListOffsets => 6,
        ApiKey::FindCoordinator => 3,
        ApiKey::CreateTopics => 5,
        ApiKey::DeleteTopics => 4,
        _ => i16::MAX,
    }
}

struct Walker<'a> {
    rest: &'a [u8],
    flexible: bool,
    version: i16,
    elements: usize,
}

impl Walker<'_> {
    fn skip(&mut self, bytes: usize) -> Walked {
        self.rest = self.rest.get(bytes..).ok_or(ShapeError::TooShort)?;
        Ok(())
    }

    /// Skips a field that versions have from `first` on.
    fn since(&mut self, first: i16, bytes: usize) -> Walked {
        if self.version >= first {
            self.skip(bytes)?;
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ShapeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(ShapeError::TooShort)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn varint(&mut self) -> Result<usize, ShapeError> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value).map_err(|_| ShapeError::Length);
            }
        }
        Err(ShapeError::Length)
    }

    /// A compact length is one more than the length; 0 and -1 mean that nothing is there.
    fn compact(&mut self) -> Result<usize, ShapeError> {
        Ok(self.varint()?.saturating_sub(1))
    }

    fn length32(&mut self) -> Result<usize, ShapeError> {
        if self.flexible {
            return self.compact();
        }
        match i32::from_be_bytes(self.take()?) {
            -1 => Ok(0),
            length => usize::try_from(length).map_err(|_| ShapeError::Length),
        }
    }

    fn string(&mut self) -> Walked {
        let length = if self.flexible {
            self.compact()?
        } else {
            match i16::from_be_bytes(self.take()?) {
                -1 => 0,
                length => usize::try_from(length).map_err(|_| ShapeError::Length)?,
            }
        };
        self.skip(length)
    }

    fn bytes(&mut self) -> Walked {
        let length = self.length32()?;
        self.skip(length)
    }

    fn array(&mut self, element: impl Fn(&mut Self) -> Walked) -> Walked {
        let count = self.length32()?;
        self.elements = self
            .elements
            .checked_sub(count)
            .ok_or(ShapeError::TooMany)?;
        for _ in 0..count {
            element(self)?;
        }
        Ok(())
    }

    /// An array of structures, which end with tagged fields.
    fn structs(&mut self, fields: impl Fn(&mut Self) -> Walked) -> Walked {
        self.array(|walker| {
            fields(walker)?;
            walker.tags()
        })
    }

    fn tags(&mut self) -> Walked {
        if !self.flexible {
            return Ok(());
        }
        let count = self.varint()?;
        for _ in 0..count {
            self.varint()?;
            let length = self.varint()?;
            self.skip(length)?;
        }
        Ok(())
    }

    fn produce(&mut self) -> Walked {
        self.string()?;
        self.skip(2 + 4)?;
        self.structs(|topic| {
            topic.string()?;
            topic.structs(|partition| {
                partition.skip(4)?;
                partition.bytes()
            })
        })
    }

    fn fetch(&mut self) -> Walked {
        self.skip(4 + 4 + 4 + 4 + 1)?;
        self.since(7, 4 + 4)?;
        self.structs(|topic| {
            topic.string()?;
            topic.structs(|partition| {
                partition.skip(4)?;
                partition.since(9, 4)?;
                partition.skip(8)?;
                partition.since(12, 4)?;
                partition.since(5, 8)?;
                partition.skip(4)
            })
        })?;
        if self.version >= 7 {
            self.structs(|forgotten| {
                forgotten.string()?;
                forgotten.array(|partition| partition.skip(4))
            })?;
        }
        Ok(())
    }

    fn list_offsets(&mut self) -> Walked {
        self.skip(4)?;
        self.since(2, 1)?;
        self.structs(|topic| {
            topic.string()?;
            topic.structs(|partition| {
                partition.skip(4)?;
                partition.since(4, 4)?;
                partition.skip(8)
            })
        })
    }

    fn metadata(&mut self) -> Walked {
        self.structs(|topic| {
            topic.since(10, 16)?;
            topic.string()
        })
    }

    fn find_coordinator(&mut self) -> Walked {
        if self.version < 4 {
            return Ok(());
        }
        self.skip(1)?;
        self.array(Self::string)
    }

    fn create_topics(&mut self) -> Walked {
        self.structs(|topic| {
            topic.string()?;
            topic.skip(4 + 2)?;
            topic.structs(|assignment| {
                assignment.skip(4)?;
                assignment.array(|broker| broker.skip(4))
            })?;
            topic.structs(|config| {
                config.string()?;
                config.string()
            })
        })
    }

    fn delete_topics(&mut self) -> Walked {
        if self.version >= 6 {
            return self.structs(|topic| {
                topic.string()?;
                topic.skip(16)
            });
        }
        self.array(Self::string)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::{
        messages::{
            BrokerId, CreateTopicsRequest, DeleteTopicsRequest, FetchRequest,
            FindCoordinatorRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest, TopicName,
            create_topics_request::{
                CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
            },
            delete_topics_request::DeleteTopicState,
            fetch_request::{FetchPartition, FetchTopic, ForgottenTopic},
            list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
            metadata_request::MetadataRequestTopic,
            produce_request::{PartitionProduceData, TopicProduceData},
        },
        protocol::{Decodable, Encodable, StrBytes},
    };

    use super::*;

    fn name() -> TopicName {
        TopicName(StrBytes::from_static_str("orders"))
    }

    /// Encodes in every served version, and does with each body, and with each body with a lie in it, what a
    /// broker would do. A decoder that believes the lie ends the process.
    fn lie<T: Encodable + Decodable>(key: ApiKey, versions: &[i16], request: impl Fn(i16) -> T) {
        for &version in versions {
            let mut body = BytesMut::new();
            request(version).encode(&mut body, version).unwrap();
            assert_eq!(check(key, version, &body), Ok(()), "{key:?} {version}");
            let mut refused = 0;
            for lie in [
                &[0x7f, 0xff, 0xff, 0xff][..],
                &[0xff, 0xff, 0xff, 0xff, 0x0f],
            ] {
                for at in 0..body.len() {
                    let mut bytes = body.to_vec();
                    let rest = bytes.split_off(at);
                    bytes.extend_from_slice(lie);
                    bytes.extend_from_slice(rest.get(lie.len()..).unwrap_or_default());
                    if check(key, version, &bytes).is_err() {
                        refused += 1;
                        continue;
                    }
                    let _ = T::decode(&mut Bytes::from(bytes), version);
                }
            }
            assert!(refused > 0, "{key:?} {version}: no lie was found out");
        }
    }

    #[test]
    fn no_array_is_believed_before_its_elements_are_there() {
        lie(ApiKey::Produce, &[3, 8, 9], |_| {
            let partition =
                PartitionProduceData::default().with_records(Some(Bytes::from_static(b"records")));
            let topic = TopicProduceData::default()
                .with_name(name())
                .with_partition_data(vec![partition.clone(), partition]);
            ProduceRequest::default().with_topic_data(vec![topic])
        });
        lie(ApiKey::Fetch, &[4, 5, 7, 9, 11, 12], |version| {
            let topic = FetchTopic::default()
                .with_topic(name())
                .with_partitions(vec![FetchPartition::default(); 2]);
            let request = FetchRequest::default().with_topics(vec![topic]);
            if version < 7 {
                return request;
            }
            let forgotten = ForgottenTopic::default()
                .with_topic(name())
                .with_partitions(vec![1, 2]);
            request.with_forgotten_topics_data(vec![forgotten])
        });
        lie(ApiKey::ListOffsets, &[1, 2, 4, 6], |_| {
            let topic = ListOffsetsTopic::default()
                .with_name(name())
                .with_partitions(vec![ListOffsetsPartition::default(); 2]);
            ListOffsetsRequest::default().with_topics(vec![topic])
        });
        lie(ApiKey::Metadata, &[0, 1, 4, 8, 9, 10, 12], |_| {
            let topic = MetadataRequestTopic::default().with_name(Some(name()));
            MetadataRequest::default().with_topics(Some(vec![topic.clone(), topic]))
        });
        lie(ApiKey::FindCoordinator, &[4], |_| {
            FindCoordinatorRequest::default().with_coordinator_keys(vec!["g".to_owned().into(); 2])
        });
        lie(ApiKey::CreateTopics, &[2, 4, 5, 7], |_| {
            let assignment = CreatableReplicaAssignment::default()
                .with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
            let config = CreatableTopicConfig::default()
                .with_name(StrBytes::from_static_str("a"))
                .with_value(Some(StrBytes::from_static_str("b")));
            let topic = CreatableTopic::default()
                .with_name(name())
                .with_assignments(vec![assignment])
                .with_configs(vec![config]);
            CreateTopicsRequest::default().with_topics(vec![topic.clone(), topic])
        });
        lie(ApiKey::DeleteTopics, &[1, 3, 4, 5, 6], |version| {
            if version < 6 {
                return DeleteTopicsRequest::default().with_topic_names(vec![name(), name()]);
            }
            let topic = DeleteTopicState::default().with_name(Some(name()));
            DeleteTopicsRequest::default().with_topics(vec![topic.clone(), topic])
        });
    }

    #[test]
    fn a_request_has_a_limited_number_of_elements() {
        let most = u32::try_from(MAX_ELEMENTS).unwrap();
        let mut body = (most + 1).to_be_bytes().to_vec();
        body.resize(4 + 2 * (MAX_ELEMENTS + 1), 0);
        assert_eq!(check(ApiKey::Metadata, 1, &body), Err(ShapeError::TooMany));
        body[..4].copy_from_slice(&most.to_be_bytes());
        assert_eq!(check(ApiKey::Metadata, 1, &body), Ok(()));
    }
}
