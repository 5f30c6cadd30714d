//! The broker beside a sidecar, behind the daemon's own trait. It checks a compaction as a real broker does: lineage,
//! boot, applied index, term, holds.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use chronik_snapshotd::{
    broker::{
        Broker, BrokerError, BrokerInfo, CompactRequest, Compacted, ExportHeader, ExportMessage,
        ExportRequest, ExportStream, ExportTrailer, PartHeader, Refusal, Replica, SentDigest,
    },
    format::PartHasher,
    policy::{ReplicaFacts, Role},
    raft::{ConfState, Lineage, TopicPartition},
};
use futures::{StreamExt as _, stream};
use tokio::time::sleep;

use crate::{
    group::Part,
    rng::mix,
    world::{CLUSTER, Shared, State},
};

pub(crate) const STATE_CODEC: &str = "fold/1";

pub(crate) struct SimBroker {
    pub(crate) world: Shared,
    pub(crate) number: usize,
}

pub(crate) fn unreachable(call: &'static str) -> BrokerError {
    BrokerError::Unreachable {
        call,
        source: Box::new(tonic::Status::unavailable("simulated")),
    }
}

fn refused(call: &'static str, refusal: Refusal) -> BrokerError {
    BrokerError::Refused {
        call,
        refusal,
        message: "simulated".to_owned(),
    }
}

impl SimBroker {
    fn who(&self) -> &'static str {
        ["b0", "b1", "b2"][self.number]
    }

    /// Runs one call; a broker that is down answers nothing.
    async fn call<T: Send + 'static>(
        &self,
        call: &'static str,
        outlives: bool,
        work: impl FnOnce(&mut State) -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let (before, after, fails_before, fails_after) = {
            let mut state = self.world.state();
            let rate = state.profile.broker_fails;
            let fates = (state.strikes(rate), state.strikes(rate));
            (state.latency(), state.latency(), fates.0, fates.1)
        };
        if fails_before {
            sleep(before).await;
            return Err(unreachable(call));
        }
        let (world, number) = (self.world.clone(), self.number);
        let work = async move {
            sleep(before).await;
            world.step(|state| {
                state.in_flight -= u64::from(outlives);
                if state.brokers[number].up {
                    work(state)
                } else {
                    Err(unreachable(call))
                }
            })
        };
        let result = if outlives {
            self.world.state().in_flight += 1;
            tokio::spawn(work).await.unwrap()
        } else {
            work.await
        };
        sleep(after).await;
        if fails_after {
            return Err(unreachable(call));
        }
        result
    }
}

impl State {
    /// The replicas that run on a broker.
    fn replicas_of(&self, broker: usize, only: Option<&TopicPartition>) -> Vec<Replica> {
        let wanted = self.groups.iter().filter(|group| {
            !group.replicas[broker].lost && only.is_none_or(|only| group.partition == *only)
        });
        wanted
            .map(|group| {
                let replica = group.replicas[broker];
                let leads = group.leader == broker;
                Replica {
                    partition: group.partition.clone(),
                    topic_id: group.life().lineage.topic_id.clone(),
                    term: group.term,
                    facts: ReplicaFacts {
                        role: if leads { Role::Leader } else { Role::Follower },
                        applied_index: replica.applied,
                        first_log_index: replica.first,
                        last_log_index: replica.last,
                        hold_index: if leads { group.hold } else { 0 },
                        rank: u32::try_from(broker).unwrap(),
                    },
                    log_size_bytes: 100,
                    state_size_bytes: 400,
                    hold_reason: String::new(),
                }
            })
            .collect()
    }

    /// The running replica that a request is about.
    fn hosted(
        &self,
        broker: usize,
        call: &'static str,
        partition: &TopicPartition,
        lineage: &Lineage,
    ) -> Result<usize, BrokerError> {
        let group = self.group_of(partition);
        let group = group.ok_or_else(|| refused(call, Refusal::NotHosted))?;
        if self.groups[group].life().lineage != *lineage {
            return Err(refused(call, Refusal::LineageMismatch));
        }
        if self.groups[group].replicas[broker].lost {
            return Err(refused(call, Refusal::NotHosted));
        }
        Ok(group)
    }

    fn compact(
        &mut self,
        broker: usize,
        request: &CompactRequest,
    ) -> Result<Compacted, BrokerError> {
        let call = "CompactLog";
        let group = self.hosted(broker, call, &request.partition, &request.lineage)?;
        if self.boot_id(broker) != request.boot_id {
            return Err(refused(call, Refusal::BootIdMismatch));
        }
        let trusts = self.profile.brokers_trust;
        let base = request.snapshot_last_included;
        if self.refuses_term(broker, request) {
            return Err(refused(call, Refusal::TermMismatch));
        }
        let hold = if self.groups[group].leader == broker {
            self.groups[group].hold
        } else {
            0
        };
        let life = self.groups[group].life();
        let replica = self.groups[group].replicas[broker];
        // A broker that trusts is one whose own checks are of no use: the sidecar's must be enough.
        let through = if trusts {
            request.through_index.min(life.last())
        } else {
            if base.index > replica.applied {
                return Err(refused(call, Refusal::NotApplied));
            }
            if base.index + 1 >= replica.first && life.at(base.index) != base {
                return Err(refused(call, Refusal::TermMismatch));
            }
            request.through_index.min(base.index)
        };
        if hold != 0 && through >= hold {
            return Err(refused(call, Refusal::Held));
        }
        let freed_bytes = (through + 1).saturating_sub(replica.first);
        let group = &mut self.groups[group];
        if freed_bytes > 0 {
            let replica = &mut group.replicas[broker];
            replica.first = through + 1;
            replica.compacted = through;
            replica.last = replica.last.max(through);
            let life = group.lives.last_mut().unwrap();
            life.truncated = life.truncated.max(through);
            self.any_log_compacted = true;
            self.counts.compactions += 1;
        }
        let first_log_index = group.replicas[broker].first;
        let who = ["b0", "b1", "b2"][broker];
        self.note(
            who,
            format_args!(
                "COMPACT {} on {base}: first is {first_log_index}",
                request.partition
            ),
        );
        Ok(Compacted {
            first_log_index,
            freed_bytes,
        })
    }

    /// Some brokers have another term at the end of some snapshots, and always the same ones. Whoever was told so
    /// once does not ask again about the same snapshot.
    fn refuses_term(&mut self, broker: usize, request: &CompactRequest) -> bool {
        let id = &request.snapshot_id;
        let seed = id
            .bytes()
            .fold(broker as u64, |hash, byte| mix(hash ^ u64::from(byte)));
        let rate = u64::from(self.profile.refuses_terms);
        if self.healed || seed % 10_000 >= rate {
            return false;
        }
        if self.refused[broker].as_ref() == Some(id) {
            self.violate(format!(
                "broker {broker} is asked about the refused {id} again"
            ));
        }
        true
    }

    /// The messages of an export, all of one moment.
    fn export(
        &mut self,
        group: usize,
        broker: usize,
        have_parts: &BTreeSet<String>,
    ) -> Vec<ExportMessage> {
        let replica = self.groups[group].replicas[broker];
        let life = self.groups[group].life();
        let last_included = life.at(replica.applied);
        let parts = life.parts(replica.applied).unwrap();
        let seals = self.profile.seals;
        let omitted = |part: &Part| seals && part.sealed && have_parts.contains(&part.id);
        let header = ExportHeader {
            lineage: life.lineage.clone(),
            partition: self.groups[group].partition.clone(),
            last_included,
            conf_state: ConfState {
                voters: vec![1, 2, 3],
                ..ConfState::default()
            },
            state_codec: STATE_CODEC.to_owned(),
            parts: parts
                .iter()
                .map(|part| PartHeader {
                    part_id: part.id.clone(),
                    size_bytes: part.bytes.len() as u64,
                    sealed: seals && part.sealed,
                    omitted: omitted(part),
                })
                .collect(),
        };
        let mut messages = vec![ExportMessage::Header(header)];
        let mut digests = Vec::new();
        let mut total_size_bytes = 0;
        for (part, sent) in (0..).zip(&parts).filter(|(_, part)| !omitted(part)) {
            let bytes = Bytes::copy_from_slice(&sent.bytes);
            total_size_bytes += bytes.len() as u64;
            let mut hasher = PartHasher::new();
            hasher.update(&bytes);
            let digest = hasher.finish();
            digests.push(SentDigest {
                part,
                size_bytes: digest.size_bytes,
                crc32: digest.crc32,
                xxh3_128: digest.xxh3_128,
            });
            for data in bytes.chunks(100) {
                let mut data = bytes.slice_ref(data);
                if self.strikes(self.profile.bad_export) {
                    let mut copy = data.to_vec();
                    let at = self.rng.index(copy.len());
                    copy[at] ^= 1;
                    data = Bytes::from(copy);
                }
                messages.push(ExportMessage::Chunk { part, data });
            }
        }
        messages.push(ExportMessage::Trailer(ExportTrailer {
            last_included,
            total_size_bytes,
            digests,
        }));
        messages
    }
}

#[async_trait]
impl Broker for SimBroker {
    async fn describe(&self) -> Result<BrokerInfo, BrokerError> {
        let number = self.number;
        self.call("DescribeBroker", false, move |state| {
            Ok(BrokerInfo {
                cluster_id: CLUSTER.to_owned(),
                incarnation: state.incarnation,
                broker_id: i32::try_from(number).unwrap(),
                boot_id: state.boot_id(number),
                version: "simulated".to_owned(),
                protocol: 1..=1,
                accepted_state_codecs: vec![STATE_CODEC.to_owned()],
                any_log_compacted: state.any_log_compacted,
                produce_p99: None,
            })
        })
        .await
    }

    async fn list_replicas(
        &self,
        only: Option<&TopicPartition>,
    ) -> Result<Vec<Replica>, BrokerError> {
        let (number, only) = (self.number, only.cloned());
        self.call("ListReplicas", false, move |state| {
            Ok(state.replicas_of(number, only.as_ref()))
        })
        .await
    }

    async fn export(&self, request: &ExportRequest) -> Result<ExportStream, BrokerError> {
        let (number, request) = (self.number, request.clone());
        let call = "ExportSnapshot";
        let who = self.who();
        let (messages, boot) = self
            .call(call, false, move |state| {
                let group = state.hosted(number, call, &request.partition, &request.lineage)?;
                let applied = state.groups[group].replicas[number].applied;
                if applied <= request.newer_than_index {
                    return Err(refused(call, Refusal::NothingNewer));
                }
                state.note(
                    who,
                    format_args!("EXPORT {} at {applied}", request.partition),
                );
                Ok((
                    state.export(group, number, &request.have_parts),
                    state.brokers[number].booted.clone(),
                ))
            })
            .await?;
        let world = Arc::clone(&self.world);
        let stream = stream::iter(messages).then(move |message| {
            let (world, boot) = (world.clone(), boot.clone());
            async move {
                let (wait, breaks): (Duration, bool) = {
                    let mut state = world.state();
                    let rate = state.profile.broker_fails / 4;
                    (state.latency(), state.strikes(rate))
                };
                sleep(wait).await;
                if breaks || boot.is_cancelled() {
                    return Err(unreachable(call));
                }
                Ok(message)
            }
        });
        Ok(stream.boxed())
    }

    async fn compact(&self, request: &CompactRequest) -> Result<Compacted, BrokerError> {
        let (number, request) = (self.number, request.clone());
        let outlives = {
            let mut state = self.world.state();
            let rate = state.profile.outlives;
            !state.healed && state.rng.chance(rate)
        };
        let id = request.snapshot_id.clone();
        let compact = move |state: &mut State| state.compact(number, &request);
        let answer = self.call("CompactLog", outlives, compact).await;
        if let Err(error) = &answer
            && error.refusal() == Some(Refusal::TermMismatch)
        {
            self.world.state().refused[number] = Some(id);
        }
        answer
    }
}
