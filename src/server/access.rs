//! Who may use which service, of those who can connect.

use tonic::{Request, Status};

use crate::{
    channel::Peer,
    config::Allowed,
    telemetry::{Metrics, Service},
};

/// Decides about one service.
#[derive(Debug, Clone)]
pub struct Access {
    service: Service,
    allowed: Allowed,
    metrics: Option<Metrics>,
}

impl Access {
    /// Only those that the operator has named, if any.
    pub fn new(service: Service, allowed: Allowed, metrics: Metrics) -> Self {
        Self {
            service,
            allowed,
            metrics: Some(metrics),
        }
    }

    /// Everybody who can connect.
    pub fn open(service: Service) -> Self {
        Self {
            service,
            allowed: Allowed::default(),
            metrics: None,
        }
    }

    /// Refuses, and tells the caller and the log whom it saw and which option does not name it.
    pub fn check<T>(&self, call: &'static str, request: &Request<T>) -> Result<(), Status> {
        let peer = request.extensions().get::<Peer>().unwrap_or(&Peer::Anyone);
        if self.admits(peer) {
            return Ok(());
        }
        let option = self.option();
        tracing::warn!(call, %peer, option, "call denied");
        if let Some(metrics) = &self.metrics {
            metrics.security().denied(self.service);
        }
        Err(Status::permission_denied(format!(
            "{call} is not allowed for {peer}: {option} does not name it"
        )))
    }

    fn admits(&self, peer: &Peer) -> bool {
        let Allowed { clients, uids } = &self.allowed;
        match (clients, uids, peer) {
            (None, None, _) => true,
            (Some(clients), _, Peer::Certificate(names)) => {
                clients.iter().any(|client| names.contain(client))
            }
            (_, Some(uids), Peer::User(uid)) => uids.contains(uid),
            _ => false,
        }
    }

    fn option(&self) -> &'static str {
        match (self.service, self.allowed.clients.is_some()) {
            (Service::Admin, true) => "ADMIN_CLIENTS",
            (Service::Admin, false) => "ADMIN_UIDS",
            (Service::Bootstrap, true) => "BOOTSTRAP_CLIENTS",
            (Service::Bootstrap, false) => "BOOTSTRAP_UIDS",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(allowed: Allowed, peer: Option<Peer>) -> Result<(), String> {
        let metrics = Metrics::new().unwrap();
        let access = Access::new(Service::Admin, allowed, metrics.clone());
        let mut request = Request::new(());
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let checked = access.check("PausePartition", &request);
        let counted = "chronik_snapshot_denied_total{service=\"admin\"} 1";
        assert_eq!(metrics.render().1.contains(counted), checked.is_err());
        checked.map_err(|status| {
            assert_eq!(status.code(), tonic::Code::PermissionDenied);
            status.message().to_owned()
        })
    }

    #[test]
    fn without_a_list_everybody_may() {
        for peer in [None, Some(Peer::Anyone), Some(Peer::User(7))] {
            assert_eq!(asked(Allowed::default(), peer), Ok(()));
        }
    }

    #[test]
    fn a_list_of_users_lets_in_those_users_and_nobody_else() {
        let allowed = || Allowed {
            uids: Some(vec![7, 8]),
            clients: None,
        };
        assert_eq!(asked(allowed(), Some(Peer::User(8))), Ok(()));
        let refused = asked(allowed(), Some(Peer::User(0))).unwrap_err();
        assert_eq!(
            refused,
            "PausePartition is not allowed for user id 0: ADMIN_UIDS does not name it"
        );
        for peer in [None, Some(Peer::Anyone)] {
            assert!(asked(allowed(), peer).is_err());
        }
    }

    #[test]
    fn a_list_of_names_needs_a_certificate() {
        let allowed = || Allowed {
            clients: Some(vec!["ops".to_owned()]),
            uids: None,
        };
        for peer in [None, Some(Peer::Anyone), Some(Peer::User(0))] {
            let refused = asked(allowed(), peer).unwrap_err();
            assert!(refused.contains("ADMIN_CLIENTS"), "{refused}");
        }
    }
}
