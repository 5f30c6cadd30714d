//! Snapshots and restores beside the pipelines that a user would write instead.

use crate::{
    bed::{Bed, STATE_BYTES, TOPIC},
    broker::SyntheticBroker,
    contest::Contest,
    daemon::{Daemon, Taken},
    report::Row,
    state::{Content, dense},
};

#[expect(clippy::cast_precision_loss, reason = "a round number")]
const GIGABYTES: f64 = STATE_BYTES as f64 / 1e9;

pub async fn run(bed: &Bed) -> Vec<Row> {
    let json = Content::once(bed.json.clone());
    json.write_to(&bed.path("raw"));
    let broker = Bed::broker(json);
    let mut rows = zstd(bed, &broker).await;
    rows.extend(gzip(bed, &broker).await);
    rows.extend(raw(bed, &broker).await);
    rows.extend(local(bed, &broker).await);
    rows.extend(incompressible(bed).await);
    rows
}

async fn zstd(bed: &Bed, broker: &SyntheticBroker) -> Vec<Row> {
    let object = bed.peers.rclone("raw.zst");
    let daemon = bed
        .daemon("zstd", broker, &bed.s3(), &[("COMPRESSION", "zstd")])
        .await;
    let upload = format!("zstd -q -T2 -1 -c raw | rclone -q rcat {object}");
    let (forward, taken) = forward(bed, broker, &daemon, &[upload]).await;
    let downloads = [
        format!("rclone -q cat {object} | zstd -q -dc > back"),
        format!(
            "s5cmd --log error cat {} | zstd -q -dc > back",
            bed.peers.aws("raw.zst")
        ),
    ];
    let reverse = reverse(bed, &daemon, &downloads).await;
    let ratio = GIGABYTES * 1e9 / taken[0].stored_bytes;
    vec![
        forward
            .ratio(
                "forward_zstd_vs_rclone",
                0,
                "into S3, against `zstd -T2 -1`, `rclone rcat`",
            )
            .at_least(1.2),
        forward.megabytes_per_sec("forward_zstd_mb_s", "raw state until it is committed"),
        forward
            .cpu_secs_per_gb("cpu_s_per_gb_zstd", "CPU of the daemon, the proof included")
            .at_most(5.0),
        Row::one("zstd_ratio", "raw bytes for each stored one", "x", ratio),
        Row::median(
            "proof_zstd_s",
            "to read 256 MiB back for the proof",
            "s",
            proofs(&taken),
        ),
        reverse
            .ratio(
                "reverse_zstd_vs_rclone",
                0,
                "out of S3, against `rclone cat`, `zstd -d`",
            )
            .at_least(1.15),
        reverse
            .ratio(
                "reverse_zstd_vs_s5cmd",
                1,
                "out of S3, against `s5cmd cat`, `zstd -d`",
            )
            .at_least(1.0),
        reverse.megabytes_per_sec("reverse_zstd_mb_s", "raw state into a file"),
        reverse
            .cpu_secs_per_gb("restore_cpu_s_per_gb_zstd", "CPU of the daemon")
            .at_most(2.5),
    ]
}

async fn gzip(bed: &Bed, broker: &SyntheticBroker) -> Vec<Row> {
    let daemon = bed
        .daemon("gzip", broker, &bed.s3(), &[("COMPRESSION", "gzip")])
        .await;
    let upload = format!(
        "pigz -6 -p2 -c raw | aws s3 cp --quiet - {}",
        bed.peers.aws("raw.gz")
    );
    let (forward, taken) = forward(bed, broker, &daemon, &[upload]).await;
    let download = format!(
        "rclone -q cat {} | pigz -dc > back",
        bed.peers.rclone("raw.gz")
    );
    let reverse = reverse(bed, &daemon, &[download]).await;
    let ratio = GIGABYTES * 1e9 / taken[0].stored_bytes;
    vec![
        forward
            .ratio(
                "forward_gzip_vs_aws",
                0,
                "into S3, against `pigz -6 -p2`, `aws s3 cp`",
            )
            .at_least(1.7),
        forward.megabytes_per_sec("forward_gzip_mb_s", "raw state until it is committed"),
        forward
            .cpu_secs_per_gb("cpu_s_per_gb_gzip", "CPU of the daemon, the proof included")
            .at_most(16.0),
        Row::one("gzip_ratio", "raw bytes for each stored one", "x", ratio).at_least(4.3),
        Row::median(
            "proof_gzip_s",
            "to read 256 MiB back for the proof",
            "s",
            proofs(&taken),
        ),
        reverse
            .ratio(
                "reverse_gzip_vs_rclone",
                0,
                "out of S3, against `rclone cat`, `pigz -d`",
            )
            .at_least(1.8),
        reverse.megabytes_per_sec("reverse_gzip_mb_s", "raw state into a file"),
        reverse
            .cpu_secs_per_gb("restore_cpu_s_per_gb_gzip", "CPU of the daemon")
            .at_most(2.5),
    ]
}

/// Without compression: what the server takes, mostly.
async fn raw(bed: &Bed, broker: &SyntheticBroker) -> Vec<Row> {
    let object = bed.peers.rclone("raw.raw");
    let daemon = bed
        .daemon("none", broker, &bed.s3(), &[("COMPRESSION", "none")])
        .await;
    let upload = format!("rclone -q rcat {object} < raw");
    let (forward, _) = forward(bed, broker, &daemon, &[upload]).await;
    let download = format!("rclone -q cat {object} > back");
    let reverse = reverse(bed, &daemon, &[download]).await;
    vec![
        forward.ratio(
            "forward_none_vs_rclone",
            0,
            "into S3, against `rclone rcat`",
        ),
        reverse.ratio(
            "reverse_none_vs_rclone",
            0,
            "out of S3, against `rclone cat`",
        ),
    ]
}

async fn local(bed: &Bed, broker: &SyntheticBroker) -> Vec<Row> {
    let env = [("COMPRESSION", "zstd")];
    let daemon = bed.daemon("local", broker, &bed.local(), &env).await;
    // Ours flushes what it writes to disk.
    let write = "zstd -q -f -T2 -1 raw -o raw.zst && sync raw.zst".to_owned();
    let (forward, _) = forward(bed, broker, &daemon, &[write]).await;
    vec![
        forward
            .ratio(
                "forward_local_vs_zstd",
                0,
                "into a directory, against `zstd -T2 -1`, `sync`",
            )
            .at_least(0.95),
    ]
}

async fn incompressible(bed: &Bed) -> Vec<Row> {
    let content = Content::once(dense(2, STATE_BYTES));
    content.write_to(&bed.path("raw"));
    let broker = Bed::broker(content);
    let daemon = bed
        .daemon("dense", &broker, &bed.s3(), &[("COMPRESSION", "zstd")])
        .await;
    let upload = format!(
        "zstd -q -T2 -1 -c raw | rclone -q rcat {}",
        bed.peers.rclone("dense.zst")
    );
    let (forward, _) = forward(bed, &broker, &daemon, &[upload]).await;
    vec![forward.ratio(
        "forward_dense_vs_rclone",
        0,
        "the same with records that hardly compress",
    )]
}

async fn forward(
    bed: &Bed,
    broker: &SyntheticBroker,
    daemon: &Daemon,
    pipelines: &[String],
) -> (Contest, Vec<Taken>) {
    let mut all = Vec::new();
    let ours = async || {
        broker.grow(TOPIC, 0, |_| ());
        let taken = daemon.snapshot(TOPIC, 0).await;
        all.push(taken);
        taken.forward
    };
    let contest = Contest::hold(bed.pairs, GIGABYTES, ours, &bed.peers, pipelines).await;
    (contest, all)
}

async fn reverse(bed: &Bed, daemon: &Daemon, pipelines: &[String]) -> Contest {
    let ours = async || daemon.seed(TOPIC, 0, &bed.path("back")).await;
    Contest::hold(bed.pairs, GIGABYTES, ours, &bed.peers, pipelines).await
}

/// Of the rounds that count.
fn proofs(taken: &[Taken]) -> Vec<f64> {
    taken[1..].iter().map(|taken| taken.proof_seconds).collect()
}
