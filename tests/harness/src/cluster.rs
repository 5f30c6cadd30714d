//! A cluster of processes.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use refbroker::{client::Client, proto::v1::ReplicaStatus};

use crate::{
    error::HarnessError,
    fault::{LinkState, TcpProxy},
    node::Node,
    options::{Beginning, ClusterOptions, Store},
    process::Process,
    wait::{Poll, wait_until},
};

/// Longest time for a new cluster to know all its brokers.
const FORM_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time for a process to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A cluster. Dropping it kills every process.
#[derive(Debug)]
pub struct Cluster {
    options: ClusterOptions,
    nodes: Vec<Node>,
    client: Arc<Client>,
    /// What broker `.0` reaches broker `.1` through, if the cluster has links.
    links: BTreeMap<(i32, i32), TcpProxy>,
}

impl Cluster {
    /// Starts every process of a new cluster and waits until each broker knows all others.
    pub async fn start(options: ClusterOptions) -> Result<Self, HarnessError> {
        let mut cluster = Self::prepare(options)?;
        cluster.connect_links().await?;
        for node in &mut cluster.nodes {
            node.broker.start()?;
            if let Some(sidecar) = node.sidecar.as_mut() {
                sidecar.start()?;
            }
        }
        cluster.wait_formed().await?;
        Ok(cluster)
    }

    /// A cluster of which nothing runs yet.
    pub fn prepare(options: ClusterOptions) -> Result<Self, HarnessError> {
        options.binaries.check(options.sidecars)?;
        let base = &options.base_dir;
        fs::create_dir_all(base).map_err(HarnessError::file("creating", base))?;
        if let Store::Local(dir) = &options.store {
            fs::create_dir_all(dir).map_err(HarnessError::file("creating", dir))?;
        }
        let nodes: Result<Vec<_>, _> = (1..=options.brokers)
            .map(|id| Node::new(id, &options))
            .collect();
        let nodes = nodes?;
        let client = Arc::new(Client::new(nodes.iter().map(Node::kafka_address)));
        let mut cluster = Self {
            options,
            nodes,
            client,
            links: BTreeMap::new(),
        };
        cluster.prepare_nodes(&Beginning::Found);
        Ok(cluster)
    }

    /// What brokers without state do when they are started the next time.
    pub fn begin_with(&mut self, beginning: &Beginning) {
        self.prepare_nodes(beginning);
    }

    fn prepare_nodes(&mut self, beginning: &Beginning) {
        let peers: Vec<_> = self
            .nodes
            .iter()
            .map(|node| self.peers_of(node.id()))
            .collect();
        for (node, peers) in self.nodes.iter_mut().zip(peers) {
            node.prepare(&self.options, &peers, beginning);
        }
    }

    /// Where a broker finds all of them, itself included.
    fn peers_of(&self, id: i32) -> String {
        let address = |node: &Node| match self.links.get(&(id, node.id())) {
            Some(link) => link.address(),
            None => node.peer_address(),
        };
        let peers: Vec<_> = self
            .nodes
            .iter()
            .map(|node| format!("{}={}", node.id(), address(node)))
            .collect();
        peers.join(",")
    }

    async fn connect_links(&mut self) -> Result<(), HarnessError> {
        if !self.options.links {
            return Ok(());
        }
        for from in &self.nodes {
            for to in self.nodes.iter().filter(|to| to.id() != from.id()) {
                let link = TcpProxy::start(&to.peer_address()).await?;
                self.links.insert((from.id(), to.id()), link);
            }
        }
        self.prepare_nodes(&Beginning::Found);
        Ok(())
    }

    /// Changes every link from and to a broker. Does nothing in a cluster without links.
    pub fn set_links_of(&self, id: i32, state: LinkState) {
        let touching = |(from, to): &(i32, i32)| *from == id || *to == id;
        for (_, link) in self.links.iter().filter(|(ends, _)| touching(ends)) {
            link.set(state);
        }
    }

    /// Changes the link that one broker reaches another one through.
    pub fn set_link(&self, from: i32, to: i32, state: LinkState) {
        if let Some(link) = self.links.get(&(from, to)) {
            link.set(state);
        }
    }

    /// Waits until each broker knows all others. From then on nobody may create a cluster: a broker that lost its
    /// disk must find the one that there is.
    pub async fn wait_formed(&mut self) -> Result<(), HarnessError> {
        let wanted = self.nodes.len();
        for index in 0..wanted {
            let address = self.nodes[index].kafka_address();
            let what = format!(
                "broker {} knowing all {wanted} brokers",
                self.nodes[index].id()
            );
            let look = async || {
                let view = Client::new([address.as_str()]).refresh().await?;
                let known = view.brokers.len();
                Ok(match view.controller {
                    Some(_) if known == wanted => Poll::Done(()),
                    controller => {
                        Poll::NotYet(format!("{known} brokers, controller {controller:?}"))
                    }
                })
            };
            self.wait_until(&what, FORM_TIMEOUT, look).await?;
        }
        self.prepare_nodes(&Beginning::Join);
        self.check()
    }

    /// Fails with the log of the first process that has ended by itself.
    pub fn check(&mut self) -> Result<(), HarnessError> {
        for node in &mut self.nodes {
            let sidecar = node.sidecar.as_mut();
            for process in std::iter::once(&mut node.broker).chain(sidecar) {
                if process.pid().is_some() {
                    process.check()?;
                }
            }
        }
        Ok(())
    }

    /// A client for the whole cluster.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// How it was asked to be.
    pub fn options(&self) -> &ClusterOptions {
        &self.options
    }

    /// All nodes, ordered by id.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node.
    pub fn node(&self, id: i32) -> Result<&Node, HarnessError> {
        let found = self.nodes.iter().find(|node| node.id() == id);
        found.ok_or(HarnessError::NoSuchNode(id))
    }

    /// A node, to signal its processes.
    pub fn node_mut(&mut self, id: i32) -> Result<&mut Node, HarnessError> {
        let found = self.nodes.iter_mut().find(|node| node.id() == id);
        found.ok_or(HarnessError::NoSuchNode(id))
    }

    /// SIGKILL for a broker.
    pub fn kill_broker(&mut self, id: i32) -> Result<(), HarnessError> {
        self.node_mut(id)?.broker.kill()
    }

    /// Starts a broker that does not run, with the same flags except those that may create a cluster.
    pub fn start_broker(&mut self, id: i32) -> Result<(), HarnessError> {
        self.node_mut(id)?.broker.start()
    }

    /// SIGKILL for a sidecar.
    pub fn kill_sidecar(&mut self, id: i32) -> Result<(), HarnessError> {
        self.sidecar_mut(id)?.kill()
    }

    /// Starts a sidecar that does not run.
    pub fn start_sidecar(&mut self, id: i32) -> Result<(), HarnessError> {
        self.sidecar_mut(id)?.start()
    }

    /// A sidecar's process.
    pub fn sidecar_mut(&mut self, id: i32) -> Result<&mut Process, HarnessError> {
        let sidecar = self.node_mut(id)?.sidecar.as_mut();
        sidecar.ok_or(HarnessError::NoSuchNode(id))
    }

    /// Deletes everything that a broker keeps. It must not run.
    pub fn wipe_broker(&mut self, id: i32) -> Result<(), HarnessError> {
        let node = self.node_mut(id)?;
        if node.broker.is_running() {
            return Err(HarnessError::WrongState {
                name: node.broker.name().to_owned(),
                state: "runs: its directory cannot be wiped",
            });
        }
        let dir = node.data_dir();
        fs::remove_dir_all(dir).map_err(HarnessError::file("deleting", dir))
    }

    /// The replicas of a topic on every broker that runs and answers, as (broker id, replica).
    pub async fn replicas_of(&mut self, topic: &str) -> Vec<(i32, ReplicaStatus)> {
        let mut found = Vec::new();
        for node in &mut self.nodes {
            if !node.broker.is_running() {
                continue;
            }
            let replicas = node.replicas().await.unwrap_or_default();
            let of_topic = replicas.into_iter().filter(|replica| {
                let name = replica.partition.as_ref();
                name.is_some_and(|name| name.topic == topic)
            });
            found.extend(of_topic.map(|replica| (node.id(), replica)));
        }
        found
    }

    /// Waits as [`wait_until`] does; a failure shows the ends of all logs.
    pub async fn wait_until<T>(
        &self,
        what: &str,
        within: Duration,
        look: impl AsyncFnMut() -> Result<Poll<T>, HarnessError>,
    ) -> Result<T, HarnessError> {
        wait_until(what, within, look, || self.log_tails()).await
    }

    /// The ends of all logs.
    pub fn log_tails(&self) -> String {
        let tails: Vec<_> = self
            .nodes
            .iter()
            .flat_map(|node| std::iter::once(&node.broker).chain(&node.sidecar))
            .map(Process::log_tail)
            .collect();
        tails.join("\n")
    }

    /// SIGTERM for everything that runs, sidecars first; an error names what did not end or ended badly.
    pub async fn stop(&mut self) -> Result<(), HarnessError> {
        for node in &mut self.nodes {
            if let Some(sidecar) = node.sidecar.as_mut() {
                stop(sidecar).await?;
            }
        }
        for node in &mut self.nodes {
            stop(&mut node.broker).await?;
        }
        Ok(())
    }
}

async fn stop(process: &mut Process) -> Result<(), HarnessError> {
    if !process.is_running() {
        return Ok(());
    }
    let status = process.terminate(STOP_TIMEOUT).await?;
    if status.success() {
        return Ok(());
    }
    Err(HarnessError::Died {
        name: process.name().to_owned(),
        status,
        log: process.log_tail(),
    })
}
