//! Operators' commands.

use super::{Scheduler, memory::Pause, need::Need};
use crate::{
    control::{Command, ControlError, Triggered},
    raft::TopicPartition,
};

/// Manual snapshots of one partition that may wait together.
const MAX_WAITERS: usize = 64;

impl Scheduler {
    pub(super) async fn command(&mut self, command: Command) {
        // A caller that hung up needs no answer.
        match command {
            Command::Trigger {
                partition,
                wait,
                reply,
            } => match self.trigger(&partition).await {
                Err(error) => drop(reply.send(Err(error))),
                Ok(()) if !wait => drop(reply.send(Ok(Triggered::Queued))),
                Ok(()) => match self.partitions.get_mut(&partition) {
                    Some(memory) if memory.waiters.len() < MAX_WAITERS => {
                        memory.waiters.push(reply);
                    }
                    _ => drop(reply.send(Err(ControlError::Unavailable))),
                },
            },
            Command::Pause {
                partition,
                ttl,
                reason,
                reply,
            } => {
                let now = self.pipeline.clock.now();
                let pause = Pause {
                    until: ttl.map(|ttl| now + ttl),
                };
                let paused = self.hosted(&partition).map(|memory| {
                    memory.pause = Some(pause.clone());
                });
                if paused.is_ok() {
                    self.pauses.insert(partition.clone(), pause);
                    tracing::info!(%partition, reason, ttl_secs = ttl.map(|ttl| ttl.as_secs()), "paused");
                    self.waiting.remove(&partition);
                    self.board
                        .partition(&partition, |status| status.paused = true);
                }
                drop(reply.send(paused));
            }
            Command::Resume { partition, reply } => {
                let now = self.pipeline.clock.now();
                let resumed = self.hosted(&partition).map(|memory| {
                    let was_paused = memory.paused(now);
                    memory.pause = None;
                    was_paused
                });
                self.pauses.remove(&partition);
                if resumed.is_ok() {
                    tracing::info!(%partition, "resumed");
                    self.board
                        .partition(&partition, |status| status.paused = false);
                    self.next_tick = now;
                }
                drop(reply.send(resumed));
            }
        }
    }

    fn hosted(&mut self, partition: &TopicPartition) -> Result<&mut super::Memory, ControlError> {
        let not_hosted = || ControlError::NotHosted(partition.clone());
        let memory = self.partitions.get_mut(partition);
        memory.map(AsMut::as_mut).ok_or_else(not_hosted)
    }

    async fn trigger(&mut self, partition: &TopicPartition) -> Result<(), ControlError> {
        if !self.options.enabled {
            return Err(ControlError::Disabled);
        }
        if !self.partitions.contains_key(partition) {
            // It may have been created since the last tick.
            self.tick().await;
        }
        let now = self.pipeline.clock.now();
        let memory = self.hosted(partition)?;
        if memory.paused(now) {
            return Err(ControlError::Paused(partition.clone()));
        }
        memory.manual = true;
        if !memory.running {
            let need = Need {
                heavy: true,
                may_delete: true,
                priority: u64::MAX,
            };
            self.waiting.insert(partition.clone(), need);
        }
        Ok(())
    }
}
