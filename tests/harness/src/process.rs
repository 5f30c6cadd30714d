//! One child process: its command, its log file, signals.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::time::Instant;

use crate::{error::HarnessError, guardian};

/// Bytes of a log that are shown when something fails.
const TAIL_BYTES: u64 = 4096;
/// Time between two looks at a process that is to end.
const EXIT_POLL: Duration = Duration::from_millis(20);

/// A process that can be started again with the same command.
#[derive(Debug)]
pub struct Process {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<String, String>,
    log: PathBuf,
    child: Option<Child>,
    /// How it ended by itself, for everybody who asks until it is started again.
    ended: Option<ExitStatus>,
}

impl Process {
    /// A process that does not run yet. Its output is appended to `log`.
    pub fn new(name: impl Into<String>, program: &Path, log: &Path) -> Self {
        Self {
            name: name.into(),
            program: program.to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            log: log.to_owned(),
            child: None,
            ended: None,
        }
    }

    /// Sets the arguments of the next start.
    pub fn set_args<I, S>(&mut self, args: I)
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        self.args = args.into_iter().map(Into::into).collect();
    }

    /// Sets a variable of the next start.
    pub fn set_env(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.env.insert(name.into(), value.into());
    }

    /// Takes a variable of [`Process::set_env`] back.
    pub fn unset_env(&mut self, name: &str) {
        self.env.remove(name);
    }

    /// Its name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its output goes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Process id while it runs (or is a zombie).
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it, in a process group of its own.
    pub fn start(&mut self) -> Result<(), HarnessError> {
        if self.child.is_some() {
            return Err(self.wrong("runs already"));
        }
        let log = open_log(&self.log)?;
        let errors = log.try_clone();
        let errors = errors.map_err(HarnessError::file("opening", &self.log))?;
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        for inherited in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
            if configures_a_sidecar(&inherited) {
                command.env_remove(inherited);
            }
        }
        let mut child = command
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|source| self.spawn_failed(source))?;
        if let Err(source) = guardian::watch(child.id()) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(self.spawn_failed(source));
        }
        self.child = Some(child);
        self.ended = None;
        Ok(())
    }

    /// Fails with the end of the log if it has ended by itself.
    pub fn check(&mut self) -> Result<(), HarnessError> {
        match self.try_wait()? {
            Some(status) => Err(HarnessError::Died {
                name: self.name.clone(),
                status,
                log: self.log_tail(),
            }),
            None => Ok(()),
        }
    }

    /// Does it run?
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && matches!(self.try_wait(), Ok(None))
    }

    /// SIGKILL, and waits until it is gone. Nothing happens if it does not run.
    pub fn kill(&mut self) -> Result<(), HarnessError> {
        if self.child.is_none() {
            return Ok(());
        }
        self.signal(Signal::SIGKILL)?;
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let waited = child.wait();
        let forgotten = guardian::forget(child.id());
        waited.map_err(|source| self.signal_failed(source))?;
        forgotten.map_err(|source| self.signal_failed(source))
    }

    /// SIGTERM, then waits for the end; SIGKILL and an error if it takes longer than `within`.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus, HarnessError> {
        if self.child.is_none() {
            return Err(self.wrong("does not run"));
        }
        self.signal(Signal::SIGTERM)?;
        self.ended(within).await
    }

    /// Waits for the end; SIGKILL and an error if it takes longer than `within`.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus, HarnessError> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                self.kill()?;
                return Err(HarnessError::Deadline {
                    what: format!("the end of {}", self.name),
                    within,
                    seen: "it was still running".to_owned(),
                    logs: self.log_tail(),
                });
            }
            tokio::time::sleep(EXIT_POLL).await;
        }
    }

    /// SIGSTOP: it freezes and keeps its sockets.
    pub fn pause(&self) -> Result<(), HarnessError> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<(), HarnessError> {
        self.signal(Signal::SIGCONT)
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let tail = read_tail(&self.log).unwrap_or_else(|error| format!("(no log: {error})"));
        format!(
            "--- {} ({})\n{}",
            self.name,
            self.log.display(),
            tail.trim_end()
        )
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>, HarnessError> {
        let Some(child) = self.child.as_mut() else {
            let ended = self.ended.map(Some);
            return ended.ok_or_else(|| self.wrong("does not run"));
        };
        let ended = child.try_wait();
        let group = child.id();
        let status = ended.map_err(|source| self.signal_failed(source))?;
        if status.is_some() {
            self.child = None;
            self.ended = status;
            guardian::forget(group).map_err(|source| self.signal_failed(source))?;
        }
        Ok(status)
    }

    fn signal(&self, signal: Signal) -> Result<(), HarnessError> {
        let pid = self.pid().ok_or_else(|| self.wrong("does not run"))?;
        let group = Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX));
        match killpg(group, signal) {
            // Already a zombie: the end that was asked for.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(self.signal_failed(errno.into())),
        }
    }

    fn wrong(&self, state: &'static str) -> HarnessError {
        HarnessError::WrongState {
            name: self.name.clone(),
            state,
        }
    }

    fn spawn_failed(&self, source: io::Error) -> HarnessError {
        HarnessError::Spawn {
            name: self.name.clone(),
            source,
        }
    }

    fn signal_failed(&self, source: io::Error) -> HarnessError {
        HarnessError::Signal {
            name: self.name.clone(),
            source,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Variables that would reach into a child's configuration from the shell of whoever runs the harness.
fn configures_a_sidecar(variable: &str) -> bool {
    let prefixes = [
        "CHRONIK_SNAPSHOT_",
        "S3_",
        "OBJECT_STORE_",
        "LOCAL_STORAGE_",
    ];
    prefixes.iter().any(|prefix| variable.starts_with(prefix))
}

fn open_log(path: &Path) -> Result<File, HarnessError> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(HarnessError::file("creating", dir))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(HarnessError::file("opening", path))
}

fn read_tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok(String::from_utf8_lossy(&tail).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(dir: &Path, script: &str) -> Process {
        let mut process = Process::new("shell", Path::new("/bin/sh"), &dir.join("shell.log"));
        process.set_args(["-c", script]);
        process
    }

    fn is_alive(pid: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }

    #[test]
    fn a_dropped_process_is_gone_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell(dir.path(), "sleep 100 & echo $!; wait");
        process.start().unwrap();
        let child = loop {
            let log = fs::read_to_string(dir.path().join("shell.log")).unwrap();
            if let Ok(pid) = log.trim().parse::<u32>() {
                break pid;
            }
            std::thread::sleep(EXIT_POLL);
        };
        assert!(is_alive(child));
        drop(process);
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while is_alive(child) {
            assert!(
                std::time::Instant::now() < deadline,
                "child {child} outlived its group"
            );
            std::thread::sleep(EXIT_POLL);
        }
    }

    #[test]
    fn a_process_that_ends_is_told_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell(dir.path(), "echo last words; exit 3");
        process.start().unwrap();
        let error = loop {
            if let Err(error) = process.check() {
                break error.to_string();
            }
            std::thread::sleep(EXIT_POLL);
        };
        assert!(
            error.contains("last words") && error.contains('3'),
            "{error}"
        );
        process.start().unwrap();
    }

    #[tokio::test]
    async fn sigterm_ends_it_and_deafness_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell(
            dir.path(),
            "trap 'exit 7' TERM; while :; do sleep 0.05; done",
        );
        process.start().unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let status = process.terminate(Duration::from_secs(5)).await.unwrap();
        assert_eq!(status.code(), Some(7));
        let mut deaf = shell(dir.path(), "trap '' TERM; while :; do sleep 0.05; done");
        deaf.start().unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        deaf.terminate(Duration::from_millis(300))
            .await
            .unwrap_err();
        assert!(!deaf.is_running());
    }
}
