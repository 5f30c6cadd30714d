//! The program's commands as processes, and what they print.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    daemon::{Daemon, Setup, stored},
    scripted_broker::{ScriptedBroker, sample_state},
};

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Asserts the exit code, and shows everything if it is another one.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Asserts that standard error has all of these.
    #[track_caller]
    pub fn tells(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is missing: {self:#?}");
        }
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A command that sees nothing of the test's environment.
pub fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chronik-snapshotd"));
    command
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    command
}

pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let output = output(arguments, environment);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said {
        code: output.status.code().unwrap(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

pub fn output(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command(arguments, environment).output().unwrap()
}

/// A directory with snapshots of orders/0 that a real daemon took of a scripted broker, and the broker.
pub struct Lab {
    pub dir: tempfile::TempDir,
    pub broker: ScriptedBroker,
    pub sealed: Bytes,
    pub state: Bytes,
}

impl Lab {
    /// `snapshots` proven snapshots, 100 entries apart; all but the first point into the first one's file.
    pub async fn with_snapshots(snapshots: u64) -> Self {
        let lab = Self {
            dir: tempfile::tempdir().unwrap(),
            broker: ScriptedBroker::start().await,
            sealed: sample_state(300_000),
            state: sample_state(100_000),
        };
        lab.broker.script().sealed = lab.sealed.clone();
        let mut daemon = lab.daemon(&[("CHRONIK_SNAPSHOT_RETENTION", "false")]);
        for _ in 0..snapshots {
            let end = lab.broker.grow(100);
            daemon.wait_proven(end);
        }
        daemon.wait_ticks(2);
        daemon.signal("TERM");
        assert_eq!(daemon.exit_code(), Some(0));
        lab
    }

    pub fn daemon(&self, env: &[(&str, &str)]) -> Daemon {
        Daemon::start(&Setup {
            broker: self.broker.address,
            dir: self.dir.path(),
            env,
        })
    }

    /// Runs a command on this store, with these variables besides.
    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
        let broker = format!("http://{}", self.broker.address);
        let store = self.dir.path().join("store");
        let mut all = vec![
            ("CHRONIK_SNAPSHOT_BROKER_ENDPOINT", broker.as_str()),
            ("CHRONIK_SNAPSHOT_TRAILING_ENTRIES", "10"),
            ("OBJECT_STORE_BACKEND", "local"),
            ("LOCAL_STORAGE_PATH", store.to_str().unwrap()),
        ];
        all.extend_from_slice(environment);
        run(arguments, &all)
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, &[])
    }

    /// Ids, oldest first.
    pub fn ids(&self) -> Vec<String> {
        let ids = self.stored(".manifest.json").into_iter().map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name[..87].to_owned()
        });
        ids.collect()
    }

    pub fn stored(&self, ending: &str) -> Vec<PathBuf> {
        stored(self.dir.path(), ending)
    }

    /// All raw bytes of every snapshot.
    pub fn raw(&self) -> Vec<u8> {
        [self.sealed.as_ref(), self.state.as_ref()].concat()
    }
}

/// Flips one byte in the middle of a file.
pub fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples/cli")
}

/// With `UPDATE_DOCS=1` keeps what a command said as `tests/examples/cli/{name}.txt`, which docs/CLI.md shows.
pub fn keep(name: &str, command_line: &str, said: &Said) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let text = format!(
            "$ chronik-snapshotd {command_line}\n{}{}",
            said.stdout, said.stderr
        );
        std::fs::create_dir_all(examples()).unwrap();
        std::fs::write(examples().join(format!("{name}.txt")), text).unwrap();
    }
}

/// A document's fields and the types of their values; of a list, those of its first element.
pub fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.clone(), shape(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.first().map(shape).into_iter().collect()),
        Value::String(_) => json!("string"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("bool"),
        Value::Null => Value::Null,
    }
}

/// Compares a document's shape with that of the committed example `tests/examples/cli/{name}.json`;
/// `UPDATE_DOCS=1` writes the example anew.
#[track_caller]
pub fn assert_shape(name: &str, said: &Said) {
    let document = said.json();
    let path = examples().join(format!("{name}.json"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(examples()).unwrap();
        std::fs::write(&path, &said.stdout).unwrap();
    }
    let example = std::fs::read_to_string(&path).unwrap();
    let example: Value = serde_json::from_str(&example).unwrap();
    assert_eq!(shape(&document), shape(&example), "{name}");
    assert_eq!(document["schema_version"], 1);
}
