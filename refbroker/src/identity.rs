//! Who this broker is, on its own disk.
//!
//! | file | when | what a crash leaves |
//! |---|---|---|
//! | `candidate.json` | before the first word to a peer | the same replica id is offered again |
//! | key in the log engine | before `identity.json` | the log belongs to that replica id; nothing was promised yet |
//! | `identity.json` | before the first group | the broker belongs to a cluster; without the key in the log it is LOST |

use std::{io, path::Path};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{disk, proto::peer};

/// Directory of the Raft log.
pub const LOG_DIR: &str = "log";
/// Directory of the groups' state.
pub const GROUPS_DIR: &str = "groups";
const CANDIDATE: &str = "candidate.json";
const IDENTITY: &str = "identity.json";
const SUPERSEDED: &str = "superseded";

/// Why an identity could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk failed.
    #[error("identity file")]
    Io(#[from] io::Error),
    /// The file is not what this program writes.
    #[error("identity file is damaged")]
    Malformed(#[from] serde_json::Error),
}

/// A broker as a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Kafka node id.
    pub broker_id: i32,
    /// Identity of its disk.
    pub replica_uuid: Uuid,
    /// Host of the Kafka listener.
    pub kafka_host: String,
    /// Port of the Kafka listener.
    pub kafka_port: u16,
    /// host:port of the peer listener.
    pub peer_addr: String,
}

impl Member {
    /// The wire form.
    pub fn to_proto(&self) -> peer::Member {
        peer::Member {
            broker_id: self.broker_id,
            replica_uuid: self.replica_uuid.to_string(),
            kafka_host: self.kafka_host.clone(),
            kafka_port: u32::from(self.kafka_port),
            peer_addr: self.peer_addr.clone(),
        }
    }

    /// From the wire; `None` if it is malformed.
    pub fn from_proto(member: peer::Member) -> Option<Self> {
        Some(Self {
            broker_id: member.broker_id,
            replica_uuid: member.replica_uuid.parse().ok()?,
            kafka_host: member.kafka_host,
            kafka_port: u16::try_from(member.kafka_port).ok()?,
            peer_addr: member.peer_addr,
        })
    }
}

/// What `identity.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Cluster.
    pub cluster_id: String,
    /// Life of the cluster.
    pub incarnation: u64,
    /// This broker.
    pub broker_id: i32,
    /// Identity of this disk.
    pub replica_uuid: Uuid,
    /// The members that the cluster was created with; empty when this broker came later or came back.
    pub initial_members: Vec<Member>,
    /// The restore that this life of the cluster began with, as far as known.
    #[serde(default)]
    pub restore_uuid: Option<Uuid>,
    /// A founder's sidecar looked into the store and saw that this life of the cluster had not lived before.
    #[serde(default)]
    pub looked: bool,
}

impl Identity {
    /// True = this broker has part in the creation of the cluster; false = it joins.
    pub fn is_founder(&self) -> bool {
        !self.initial_members.is_empty()
    }
}

#[derive(Serialize, Deserialize)]
struct Candidate {
    replica_uuid: Uuid,
}

/// The replica id that this disk offers as long as it belongs to no cluster; made and flushed at the first call.
pub fn candidate(data_dir: &Path) -> Result<Uuid, IdentityError> {
    let path = data_dir.join(CANDIDATE);
    if let Some(bytes) = disk::read_optional(&path)? {
        let candidate: Candidate = serde_json::from_slice(&bytes)?;
        return Ok(candidate.replica_uuid);
    }
    let replica_uuid = Uuid::new_v4();
    disk::write_atomic(&path, &serde_json::to_vec(&Candidate { replica_uuid })?)?;
    crate::crash::point("identity.candidate_written");
    Ok(replica_uuid)
}

/// Reads the identity.
pub fn load(data_dir: &Path) -> Result<Option<Identity>, IdentityError> {
    match disk::read_optional(&data_dir.join(IDENTITY))? {
        Some(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        None => Ok(None),
    }
}

/// Writes the identity and flushes it. The candidate goes: if the identity is ever lost, this disk must not offer
/// the same replica id again.
pub fn store(data_dir: &Path, identity: &Identity) -> Result<(), IdentityError> {
    let bytes = serde_json::to_vec_pretty(identity)?;
    disk::write_atomic(&data_dir.join(IDENTITY), &bytes)?;
    crate::crash::point("identity.written");
    retire_candidate(data_dir)
}

/// Removes the candidate of a disk that has an identity.
pub fn retire_candidate(data_dir: &Path) -> Result<(), IdentityError> {
    match std::fs::remove_file(data_dir.join(CANDIDATE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(disk::sync_dir(data_dir)?),
    }
}

/// Notes that the cluster knows this broker by another disk by now; the next start discards this one.
pub fn mark_superseded(data_dir: &Path) -> Result<(), IdentityError> {
    Ok(disk::write_atomic(&data_dir.join(SUPERSEDED), b"")?)
}

/// True = [`mark_superseded`] was called.
pub fn is_superseded(data_dir: &Path) -> bool {
    data_dir.join(SUPERSEDED).exists()
}

/// Moves everything a former life left into `discarded-{uuid}`, so that this disk starts anew.
pub fn discard(data_dir: &Path, replica_uuid: Uuid) -> Result<(), IdentityError> {
    let attic = data_dir.join(format!("discarded-{replica_uuid}-{}", Uuid::new_v4()));
    disk::create_dir(&attic)?;
    // The identity goes first: without it everything else is LOST anyway. The log goes after the mark: as long as it is
    // there, a start that finds no identity discards again, and the mark cannot outlive what it speaks of.
    for name in [IDENTITY, SUPERSEDED, CANDIDATE, LOG_DIR, GROUPS_DIR] {
        match std::fs::rename(data_dir.join(name), attic.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        disk::sync_dir(data_dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_is_offered_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let first = candidate(dir.path()).unwrap();
        assert_eq!(candidate(dir.path()).unwrap(), first);
        assert_eq!(load(dir.path()).unwrap(), None);
    }

    #[test]
    fn a_discarded_disk_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        let first = candidate(dir.path()).unwrap();
        let identity = Identity {
            cluster_id: "c".into(),
            incarnation: 1,
            broker_id: 1,
            replica_uuid: first,
            initial_members: Vec::new(),
            restore_uuid: None,
            looked: false,
        };
        store(dir.path(), &identity).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(identity));
        discard(dir.path(), first).unwrap();
        assert_eq!(load(dir.path()).unwrap(), None);
        assert_ne!(candidate(dir.path()).unwrap(), first);
    }
}
