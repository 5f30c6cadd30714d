//! `refbroker consume`.

use std::io::{BufWriter, Write, stdout};

use clap::Args;

use super::{CliError, Cluster};
use crate::client::{ClientError, Consumed};

/// Prints the records of a topic from an offset to where each partition ends now.
#[derive(Debug, Clone, Args)]
pub struct Consume {
    #[command(flatten)]
    cluster: Cluster,
    /// Name of the topic.
    topic: String,
    /// Only this partition.
    #[arg(long, short)]
    partition: Option<i32>,
    /// First offset.
    #[arg(long, default_value = "0")]
    from: i64,
    /// Prints only how many records there are.
    #[arg(long)]
    count: bool,
}

impl Consume {
    /// Runs the command.
    pub async fn run(self) -> Result<(), CliError> {
        let client = self.cluster.client();
        let view = client.view().await?;
        let known = view.topics.get(&self.topic).ok_or(ClientError::Refused {
            what: "consume",
            code: kafka_protocol::ResponseError::UnknownTopicOrPartition,
        })?;
        let mut out = BufWriter::new(stdout().lock());
        let mut total = 0_u64;
        let wanted = |number: i32| self.partition.is_none_or(|only| only == number);
        for partition in known.partitions.iter().filter(|each| wanted(each.number)) {
            let mut written = Ok(());
            let print = |record: Consumed| {
                total += 1;
                if !self.count && written.is_ok() {
                    written = print(&mut out, &record);
                }
            };
            let timeout = self.cluster.timeout();
            let consumed = client.consume(&self.topic, partition.number, self.from, timeout, print);
            consumed.await?;
            written?;
        }
        if self.count {
            writeln!(out, "{total}")?;
        }
        out.flush()?;
        Ok(())
    }
}

fn print(out: &mut impl Write, record: &Consumed) -> std::io::Result<()> {
    write!(out, "{}\t{}\t", record.partition, record.offset)?;
    out.write_all(record.key.as_deref().unwrap_or_default())?;
    out.write_all(b"\t")?;
    out.write_all(record.value.as_deref().unwrap_or_default())?;
    out.write_all(b"\n")
}
