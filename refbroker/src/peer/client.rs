//! Channels to other brokers, opened when needed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tonic::transport::{Channel, Endpoint};

use super::{
    CONNECT_TIMEOUT, CONNECTION_WINDOW_BYTES, MAX_FRAME_BYTES, MAX_MESSAGE_BYTES,
    STREAM_WINDOW_BYTES,
};
use crate::{driver::shared::Shared, proto::peer::peer_service_client::PeerServiceClient};

/// Client of one broker.
pub type Client = PeerServiceClient<Channel>;

/// Where brokers are, and channels to them.
pub struct Clients {
    configured: BTreeMap<i32, String>,
    shared: Arc<Shared>,
    channels: Mutex<HashMap<i32, (String, Channel)>>,
}

impl Clients {
    /// With the addresses of the configuration; `__meta` knows the ones of brokers that joined later.
    pub fn new(configured: BTreeMap<i32, String>, shared: Arc<Shared>) -> Self {
        Self {
            configured,
            shared,
            channels: Mutex::default(),
        }
    }

    /// Ids of the configured brokers.
    pub fn configured(&self) -> impl Iterator<Item = i32> {
        self.configured.keys().copied()
    }

    fn address(&self, broker: i32) -> Option<String> {
        let configured = self.configured.get(&broker).cloned();
        configured.or_else(|| {
            let meta = self.shared.meta();
            Some(meta.brokers.get(&broker)?.peer_addr.clone())
        })
    }

    /// A client; `None` if the broker's address is unknown. Does not connect.
    pub fn get(&self, broker: i32) -> Option<Client> {
        let address = self.address(broker)?;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(&broker) {
            Some((known, channel)) if *known == address => channel.clone(),
            _ => {
                let channel = endpoint(&address)?.connect_lazy();
                channels.insert(broker, (address, channel.clone()));
                channel
            }
        };
        let client = PeerServiceClient::new(channel);
        Some(
            client
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
    }
}

fn endpoint(address: &str) -> Option<Endpoint> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    Some(
        endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(MAX_FRAME_BYTES)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true),
    )
}
