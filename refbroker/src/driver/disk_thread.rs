//! The thread that waits for the disk in the driver's place.

use std::sync::mpsc::Receiver;

use tracing::warn;

use super::{
    input::{DriverHandle, Input},
    run::{CheckpointTask, DiskTask},
};
use crate::{disk, raftlog::engine::LogEngine, state::checkpoint};

/// Tasks that wait for the disk thread.
pub const DISK_QUEUE: usize = 64;

/// Works until the driver is gone.
pub fn run(tasks: &Receiver<DiskTask>, log: &LogEngine, driver: &DriverHandle) {
    while let Ok(task) = tasks.recv() {
        let task = match task {
            DiskTask::Checkpoint(task) => task,
            DiskTask::Purge => {
                if let Err(error) = log.purge() {
                    warn!(%error, "obsolete log files stay for now");
                }
                continue;
            }
            DiskTask::Discard(dir) => {
                if let Err(error) = disk::remove_dir(&dir) {
                    warn!(%error, dir = %dir.display(), "state that nobody needs stays until the next start");
                }
                continue;
            }
        };
        let CheckpointTask {
            group_id,
            epoch,
            conf_state,
            job,
        } = *task;
        let result = checkpoint::write(&job);
        if result.is_err() && !job.dir.exists() {
            // The replica was removed, or its state replaced, meanwhile.
            continue;
        }
        let done = Input::CheckpointDone {
            group_id,
            epoch,
            applied: job.applied,
            conf_state: Box::new(conf_state),
            result,
        };
        if !driver.blocking_send(done) {
            break;
        }
    }
}
