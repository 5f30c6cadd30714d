//! What a user would pipe together instead, as a shell command.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use chronik_harness::S3Settings;

/// The tools, and where they find the bucket.
pub struct Peers {
    env: BTreeMap<&'static str, String>,
    dir: PathBuf,
    bucket: String,
}

impl Peers {
    /// Tools that work in `dir` and reach the bucket of `settings`. `python` is the environment that has awscli and s5cmd.
    pub fn new(dir: &Path, settings: &S3Settings, python: &Path) -> Self {
        let setting = |name: &str| settings.variables[name].clone();
        let path = std::env::var("PATH").unwrap_or_default();
        let (access_key, secret_key) = (setting("S3_ACCESS_KEY"), setting("S3_SECRET_KEY"));
        let (endpoint, region) = (setting("S3_ENDPOINT"), setting("S3_REGION"));
        let env = BTreeMap::from([
            ("PATH", format!("{}:{path}", python.display())),
            ("RCLONE_CONFIG", "/dev/null".to_owned()),
            ("RCLONE_CONFIG_STORE_TYPE", "s3".to_owned()),
            ("RCLONE_CONFIG_STORE_PROVIDER", "Other".to_owned()),
            ("RCLONE_CONFIG_STORE_ENDPOINT", endpoint.clone()),
            ("RCLONE_CONFIG_STORE_REGION", region.clone()),
            ("RCLONE_CONFIG_STORE_ACCESS_KEY_ID", access_key.clone()),
            ("RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY", secret_key.clone()),
            ("RCLONE_S3_NO_CHECK_BUCKET", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", access_key),
            ("AWS_SECRET_ACCESS_KEY", secret_key),
            ("AWS_DEFAULT_REGION", region),
            ("AWS_ENDPOINT_URL", endpoint.clone()),
            ("S3_ENDPOINT_URL", endpoint),
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
        ]);
        Self {
            env,
            dir: dir.to_owned(),
            bucket: setting("S3_BUCKET"),
        }
    }

    /// The name of an object for rclone.
    pub fn rclone(&self, key: &str) -> String {
        format!("store:{}/{key}", self.bucket)
    }

    /// The name of an object for aws and s5cmd.
    pub fn aws(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    /// Runs a pipeline, in which every command must succeed; the seconds that it took.
    pub fn run(&self, pipeline: &str) -> f64 {
        let begun = Instant::now();
        let status = Command::new("bash")
            .args(["-c", &format!("set -euo pipefail; {pipeline}")])
            .env_clear()
            .envs(&self.env)
            .current_dir(&self.dir)
            .status();
        assert!(status.unwrap().success(), "{pipeline}");
        begun.elapsed().as_secs_f64()
    }
}
