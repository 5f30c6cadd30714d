//! A broker with ten thousand replicas, for the browser's tests: some are due, one cannot be exported, and one has a
//! name that means something to a browser. Prints where it serves; ends when its standard input does.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]
#![allow(missing_docs, dead_code, reason = "shared with the benchmarks")]

#[path = "../../benches/cost/broker.rs"]
mod broker;
#[path = "../support/records.rs"]
mod records;
#[path = "../../benches/cost/state.rs"]
mod state;
#[path = "../support/wire.rs"]
mod wire;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use broker::{Replica, SyntheticBroker};
use state::Content;

const TOPICS: i32 = 100;
const EACH: i32 = 100;
/// The daemon's `LOG_THRESHOLD` in these tests.
const THRESHOLD: u64 = 1000;
const HOSTILE_TOPIC: &str = "<img src=x onerror=\"document.title='taken over'\">";
const HOSTILE_ERROR: &str =
    "<script>document.title='taken over'</script><a href=\"javascript:alert(1)\">retry</a>";

fn replica(entries: u64) -> Replica {
    let state = Bytes::from(records::json_records(entries, 4 << 10));
    let mut replica = Replica::of(Content::once(state));
    replica.applied_index = entries;
    replica.log_size_bytes = entries * 700;
    replica
}

#[tokio::main]
async fn main() {
    let broker = SyntheticBroker::start();
    for topic in 0..TOPICS {
        for number in 0..EACH {
            // Nearly all are below the threshold; every twentieth topic has some that are due.
            let some = u64::try_from(topic * 31 + number * 17).unwrap() % (THRESHOLD - 100);
            let due = topic % 20 == 0 && number < 5;
            let entries = some + 1 + if due { THRESHOLD } else { 0 };
            broker.put(&format!("topic-{topic:03}"), number, replica(entries));
        }
    }
    broker.put(HOSTILE_TOPIC, 0, replica(7));
    let mut failing = replica(2 * THRESHOLD);
    HOSTILE_ERROR.clone_into(&mut failing.refusal);
    broker.put("failing", 0, failing);
    println!("{}", broker.socket.display());
    let mut until_closed = Vec::new();
    tokio::io::stdin()
        .read_to_end(&mut until_closed)
        .await
        .unwrap();
}
