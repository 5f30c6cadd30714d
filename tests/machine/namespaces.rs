//! Hosts on networks of their own: network namespaces, and bridges that their cables can be pulled from.

use std::{fs, path::Path, thread};

use nix::sched::{CloneFlags, setns};

use crate::root;

/// Where `ip netns` keeps namespaces.
const NAMESPACES_DIR: &str = "/run/netns";
/// Namespaces of this program begin so; the number of the process follows.
const PREFIX: &str = "snapshotd-test";

/// The networks. Each is a bridge; a host has one interface on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Between brokers and their clients.
    Clients = 1,
    /// Between brokers.
    Peers = 2,
    /// Between sidecars and the store.
    Store = 3,
}

impl Network {
    pub const ALL: [Self; 3] = [Self::Clients, Self::Peers, Self::Store];

    fn bridge(self) -> String {
        format!("br{}", self as u8)
    }

    /// The interface of a host, as the host calls it.
    fn interface(self) -> String {
        format!("eth{}", self as u8)
    }

    /// Its other end.
    fn port(self, host: u8) -> String {
        format!("p{}h{host}", self as u8)
    }

    /// The address of a host.
    pub fn address(self, host: u8) -> String {
        format!("10.213.{}.{host}", self as u8)
    }
}

/// Hosts 1 to `hosts`, all on every network, each in a namespace of its own, and the bridges in one more. Nothing of it
/// is seen from outside. Dropping it removes everything.
pub struct Hosts {
    hosts: u8,
    /// Begins every name.
    tag: String,
}

impl Hosts {
    pub fn start(hosts: u8) -> Self {
        remove_leftovers();
        // Exists from here on: what fails below is removed.
        let made = Self {
            hosts,
            tag: format!("{PREFIX}-{}", std::process::id()),
        };
        let switch = made.switch();
        ip(&["netns", "add", &switch]);
        for network in Network::ALL {
            let bridge = network.bridge();
            ip(&["-n", &switch, "link", "add", &bridge, "type", "bridge"]);
            ip(&["-n", &switch, "link", "set", &bridge, "up"]);
        }
        for host in 1..=hosts {
            let name = made.name(host);
            ip(&["netns", "add", &name]);
            ip(&["-n", &name, "link", "set", "lo", "up"]);
            for network in Network::ALL {
                made.connect(host, network);
            }
        }
        made
    }

    fn connect(&self, host: u8, network: Network) {
        let (switch, name) = (self.switch(), self.name(host));
        let (port, interface) = (network.port(host), network.interface());
        let address = format!("{}/24", network.address(host));
        ip(&[
            "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", &interface,
            "netns", &name,
        ]);
        ip(&["-n", &name, "addr", "add", &address, "dev", &interface]);
        ip(&["-n", &name, "link", "set", &interface, "up"]);
        ip(&["-n", &switch, "link", "set", &port, "up"]);
        self.plug(host, network);
    }

    /// Pulls a host's cable out of a bridge: packets are lost, and nobody is told.
    pub fn unplug(&self, host: u8, network: Network) {
        ip(&[
            "-n",
            &self.switch(),
            "link",
            "set",
            &network.port(host),
            "nomaster",
        ]);
    }

    /// Puts it back.
    pub fn plug(&self, host: u8, network: Network) {
        let (port, bridge) = (network.port(host), network.bridge());
        ip(&[
            "-n",
            &self.switch(),
            "link",
            "set",
            &port,
            "master",
            &bridge,
        ]);
    }

    /// The command that runs a program on a host.
    pub fn command(&self, host: u8, program: &Path) -> [String; 4] {
        let program = program.to_str().unwrap().to_owned();
        [
            "netns".to_owned(),
            "exec".to_owned(),
            self.name(host),
            program,
        ]
    }

    /// Runs `work` on a host, in this process: every socket that it opens is one of that host.
    pub fn run_on<T: Send>(&self, host: u8, work: impl AsyncFnOnce() -> T + Send) -> T {
        let path = Path::new(NAMESPACES_DIR).join(self.name(host));
        let inside = move || {
            let namespace = fs::File::open(path).unwrap();
            // Of this thread alone, which the runtime does not leave.
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(work())
        };
        let ended = thread::scope(|scope| scope.spawn(inside).join());
        match ended {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn name(&self, host: u8) -> String {
        format!("{}-{host}", self.tag)
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.tag)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let hosts = (1..=self.hosts).map(|host| self.name(host));
        for name in hosts.chain([self.switch()]) {
            remove(&name);
        }
    }
}

fn ip(arguments: &[&str]) {
    let command: Vec<_> = std::iter::once("ip")
        .chain(arguments.iter().copied())
        .collect();
    root::run(&command).unwrap();
}

/// A namespace goes with its interfaces, and those with their other ends.
fn remove(name: &str) {
    if !Path::new(NAMESPACES_DIR).join(name).exists() {
        return;
    }
    if let Err(error) = root::run(&["ip", "netns", "del", name]) {
        eprintln!("{error}");
    }
}

/// Removes what processes left that were killed and are gone.
fn remove_leftovers() {
    let Ok(entries) = fs::read_dir(NAMESPACES_DIR) else {
        return;
    };
    for entry in entries {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').nth(1));
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}
