//! Unix sockets: permissions, leftovers, users.

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
        process::CommandExt as _,
    },
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::{
    rig::{assert_denied, bootstrap, pause, status},
    support::{
        cli::{command, run},
        daemon::{Daemon, Setup},
        scripted_broker::ScriptedBroker,
        tls::told,
    },
};
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};

struct Rig {
    daemon: Daemon,
    _broker: ScriptedBroker,
    dir: tempfile::TempDir,
}

const SOCKET: &str = "s.sock";

impl Rig {
    async fn start(env: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), env).await
    }

    async fn start_in(dir: tempfile::TempDir, env: &[(&str, &str)]) -> Self {
        let broker = ScriptedBroker::start().await;
        let endpoint = endpoint(dir.path());
        let mut all = vec![("CHRONIK_SNAPSHOT_LISTEN", endpoint.as_str())];
        all.extend_from_slice(env);
        let daemon = Daemon::start(&Setup {
            broker: broker.address,
            dir: dir.path(),
            env: &all,
        });
        let tick = "chronik_snapshot_loop_last_tick_timestamp_seconds";
        daemon.wait("a tick", |daemon| daemon.metric(tick) > 0.5);
        Self {
            daemon,
            _broker: broker,
            dir,
        }
    }

    async fn channel(&self) -> Channel {
        let path = self.dir.path().join(SOCKET);
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move {
                tokio::net::UnixStream::connect(path)
                    .await
                    .map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let connected = endpoint.connect_with_connector(connector).await;
        connected.map_err(|error| told(&error)).unwrap()
    }
}

fn endpoint(dir: &Path) -> String {
    format!("unix:{}", dir.join(SOCKET).display())
}

/// The user that runs the test.
fn me(dir: &Path) -> u32 {
    fs::metadata(dir).unwrap().uid()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_owner_and_group_may_connect() {
    let rig = Rig::start(&[]).await;
    let socket = fs::metadata(rig.dir.path().join(SOCKET)).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
    let channel = rig.channel().await;
    pause(channel.clone()).await.unwrap();
    bootstrap(channel).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_of_a_dead_process_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(dir.path().join(SOCKET)).unwrap());
    let rig = Rig::start_in(dir, &[]).await;
    status(rig.channel().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_of_a_living_process_and_files_are_left_alone() {
    let rig = Rig::start(&[]).await;
    let listen = endpoint(rig.dir.path());
    let store = rig.dir.path().join("other-store");
    let refused = |listen: &str| {
        let environment = [
            ("CHRONIK_SNAPSHOT_LISTEN", listen),
            ("CHRONIK_SNAPSHOT_METRICS_LISTEN", "127.0.0.1:0"),
            ("OBJECT_STORE_BACKEND", "local"),
            ("LOCAL_STORAGE_PATH", store.to_str().unwrap()),
        ];
        let mut second = command(&["run"], &environment);
        let mut second = second.stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while second.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        // One that was not refused would run for ever.
        second.kill().unwrap();
        let ended = second.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        String::from_utf8(ended.stderr).unwrap()
    };
    let said = refused(&listen);
    assert!(said.contains("another process listens on unix:"), "{said}");
    status(rig.channel().await).await.unwrap();

    let file = rig.dir.path().join("precious");
    fs::write(&file, "bytes").unwrap();
    let said = refused(&format!("unix:{}", file.display()));
    assert!(said.contains("is not a socket"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (me, other) = (me(dir.path()), me(dir.path()) + 1);
    let (mine, others) = (format!("{other},{me}"), other.to_string());
    let lists = [
        ("CHRONIK_SNAPSHOT_ADMIN_UIDS", mine.as_str()),
        ("CHRONIK_SNAPSHOT_BOOTSTRAP_UIDS", others.as_str()),
    ];
    let rig = Rig::start_in(dir, &lists).await;
    let channel = rig.channel().await;
    status(channel.clone()).await.unwrap();
    pause(channel.clone()).await.unwrap();
    let denied = bootstrap(channel).await.unwrap_err();
    assert_denied(&denied, &[&format!("user id {me}:"), "BOOTSTRAP_UIDS"]);
    rig.daemon.wait_log("call denied");

    let lists = [("CHRONIK_SNAPSHOT_ADMIN_UIDS", others.as_str())];
    let rig = Rig::start(&lists).await;
    let channel = rig.channel().await;
    let denied = pause(channel.clone()).await.unwrap_err();
    assert_denied(&denied, &[&format!("user id {me}:"), "ADMIN_UIDS"]);
    bootstrap(channel).await.unwrap();
    // The command says the same.
    run(
        &["pause", "orders/0", "--endpoint", &endpoint(rig.dir.path())],
        &[],
    )
    .ends_with(1)
    .tells(&["PausePartition is not allowed for", "ADMIN_UIDS"]);
}

/// Runs the program as another user, with these groups and no other.
fn as_user(uid: u32, gid: u32, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chronik-snapshotd"))
        .args(arguments)
        .env_clear()
        .uid(uid)
        .gid(gid)
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_needs_the_group_and_is_known_by_his_number() {
    let dir = tempfile::tempdir().unwrap();
    if me(dir.path()) != 0 {
        println!("IGNORED: needs root (processes of other users)");
        return;
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let rig = Rig::start_in(dir, &[("CHRONIK_SNAPSHOT_ADMIN_UIDS", "4242")]).await;
    let listen = endpoint(rig.dir.path());
    let pause = ["pause", "orders/0", "--endpoint", &listen];
    let text = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    let stranger = as_user(4242, 4242, &pause);
    assert_eq!(stranger.status.code(), Some(69), "{}", text(&stranger));
    assert!(
        text(&stranger).contains("Permission denied"),
        "{}",
        text(&stranger)
    );
    let of_group = as_user(4242, 0, &pause);
    assert_eq!(of_group.status.code(), Some(0), "{}", text(&of_group));
    let unnamed = as_user(4243, 0, &pause);
    assert_eq!(unnamed.status.code(), Some(1));
    assert!(
        text(&unnamed).contains("user id 4243: ADMIN_UIDS"),
        "{}",
        text(&unnamed)
    );
    // Root is not named.
    let root = run(&pause, &[]);
    root.ends_with(1).tells(&["user id 0: ADMIN_UIDS"]);
}

/// From the moment at which it is there the socket is closed to others, however often one looks.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_never_open_to_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SOCKET);
    let watched = path.clone();
    let watcher = std::thread::spawn(move || {
        while UnixStream::connect(&watched).is_err() {
            std::thread::yield_now();
        }
        // Whoever could connect at this moment is told by the mode at this moment.
        let socket = fs::metadata(&watched).unwrap();
        socket.permissions().mode() & 0o777
    });
    let _rig = Rig::start_in(dir, &[]).await;
    assert_eq!(watcher.join().unwrap(), 0o660);
}
