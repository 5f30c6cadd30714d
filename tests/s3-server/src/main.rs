//! An S3 server for tests: buckets are directories below one directory.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser;
use tokio::net::TcpListener;

/// Serve S3 from a directory. Every directory below it is a bucket.
#[derive(Debug, Parser)]
struct Args {
    /// Where the buckets lie. Created if missing.
    #[arg(long)]
    dir: PathBuf,
    /// A bucket to create.
    #[arg(long)]
    bucket: String,
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// The only access key that is let in.
    #[arg(long)]
    access_key: String,
    /// Its secret.
    #[arg(long)]
    secret_key: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("s3-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> std::io::Result<()> {
    std::fs::create_dir_all(args.dir.join(&args.bucket))?;
    let listener = TcpListener::bind(args.listen).await?;
    chronik_s3_server::serve(listener, &args.dir, &args.access_key, &args.secret_key).await
}
