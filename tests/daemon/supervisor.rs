//! What systemd hears from the daemon.

use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::{
            fs::PermissionsExt as _,
            net::{UnixDatagram, UnixListener, UnixStream},
        },
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{
    daemon::{Daemon, PATIENCE, Setup},
    scripted_broker::ScriptedBroker,
};

/// The supervisor's end.
struct Supervisor(UnixDatagram);

impl Supervisor {
    fn listen(dir: &Path) -> Self {
        let socket = UnixDatagram::bind(dir.join("notify.sock")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut buffer = [0; 512];
        let length = self.0.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn wait_for(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.next().lines().any(|found| found == line) {
            assert!(Instant::now() < deadline, "no {line}");
        }
    }
}

/// With a watchdog of 600 ms.
fn watched(dir: &Path, broker: SocketAddr) -> Daemon {
    let socket = dir.join("notify.sock");
    Daemon::start(&Setup {
        broker,
        dir,
        env: &[
            ("NOTIFY_SOCKET", socket.to_str().unwrap()),
            ("WATCHDOG_USEC", "600000"),
        ],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_supervisor_hears_ready_then_signs_of_life_then_the_end() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let supervisor = Supervisor::listen(dir.path());
    let daemon = watched(dir.path(), broker.address);
    // The loop runs already when the process says that it is ready.
    supervisor.wait_for("READY=1");
    for _ in 0..5 {
        supervisor.wait_for("WATCHDOG=1");
    }
    daemon.signal("TERM");
    supervisor.wait_for("STOPPING=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_what_is_logged_and_names_what_needs_a_restart() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let file = dir.path().join("daemon.toml");
    let configure = |text: &str| std::fs::write(&file, text).unwrap();
    configure("log = \"warn\"\n");
    let supervisor = Supervisor::listen(dir.path());
    let socket = dir.path().join("notify.sock");
    let daemon = Daemon::start(&Setup {
        broker: broker.address,
        dir: dir.path(),
        env: &[
            ("NOTIFY_SOCKET", socket.to_str().unwrap()),
            ("CHRONIK_SNAPSHOT_CONFIG", file.to_str().unwrap()),
        ],
    });
    supervisor.wait_for("READY=1");
    assert_eq!(daemon.log(), "");

    configure("log = \"nonsense=nothing\"\n");
    daemon.signal("HUP");
    supervisor.wait_for("RELOADING=1");
    supervisor.wait_for("READY=1");
    daemon.wait_log("the configuration is wrong now, so everything stays as it is");

    configure("log = \"info\"\nretention_count = 7\n");
    daemon.signal("HUP");
    supervisor.wait_for("RELOADING=1");
    supervisor.wait_for("READY=1");
    daemon.wait_log("configuration read again needs_restart=[\"RETENTION_COUNT\"]");
    broker.grow(100);
    daemon.wait_log("taking a snapshot");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_never_answers_does_not_make_the_loop_look_dead() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::listen(dir.path());
    // Takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _daemon = watched(dir.path(), silent.local_addr().unwrap());
    supervisor.wait_for("READY=1");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        supervisor.wait_for("WATCHDOG=1");
    }
}

/// A socket that the supervisor listens on; in the environment of the process it is descriptor 0.
fn hand_over(command: &mut Command, socket: &UnixListener) {
    command
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDS_FIRST_FD", "0")
        .stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
}

fn ask(path: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /status HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    stream
}

fn wait_answer(mut stream: UnixStream) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_a_socket_that_was_handed_over_wait_while_the_daemon_is_away() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("sidecar.sock");
    let socket = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
    let listen = format!("unix:{}", path.display());
    let setup = Setup {
        broker: broker.address,
        dir: dir.path(),
        env: &[("CHRONIK_SNAPSHOT_LISTEN", &listen)],
    };
    let early = ask(&path);
    for _ in 0..2 {
        let daemon = Daemon::start_as(&setup, |command| hand_over(command, &socket));
        wait_answer(ask(&path));
        drop(daemon);
    }
    // In the backlog since before the first start.
    wait_answer(early);
    let late = ask(&path);
    let _daemon = Daemon::start_as(&setup, |command| hand_over(command, &socket));
    wait_answer(late);
}

#[test]
fn a_socket_that_is_not_listen_or_is_for_everybody_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sidecar.sock");
    let socket = UnixListener::bind(&path).unwrap();
    let (meant, other) = (
        format!("unix:{}", path.display()),
        format!("unix:{}/other.sock", dir.path().display()),
    );
    let refused = |listen: &str, mode: u32| {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chronik-snapshotd"));
        command
            .arg("run")
            .env("CHRONIK_SNAPSHOT_LISTEN", listen)
            .env("CHRONIK_SNAPSHOT_METRICS_LISTEN", "127.0.0.1:0")
            .env("OBJECT_STORE_BACKEND", "local")
            .env("LOCAL_STORAGE_PATH", dir.path());
        hand_over(&mut command, &socket);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(78), "{ended:?}");
        String::from_utf8(ended.stderr).unwrap()
    };
    let text = refused(&other, 0o660);
    assert!(text.contains("make them the same"), "{text}");
    let text = refused(&meant, 0o666);
    assert!(text.contains("SocketMode=0660"), "{text}");
}
