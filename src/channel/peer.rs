//! Who is at the other end of an incoming connection.

use std::{fmt, sync::Arc};

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Whoever reached the address.
    Anyone,
    /// The holder of a certificate that was verified.
    Certificate(Arc<CertificateNames>),
    /// A process of this user, on the same host.
    User(u32),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("a client without a certificate"),
            Self::Certificate(names) => write!(f, "the client certificate of {names}"),
            Self::User(uid) => write!(f, "user id {uid}"),
        }
    }
}

/// What a certificate calls its holder: its alternative names of kind DNS and URI, or, if it has none, the common name of
/// its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateNames {
    dns: Vec<String>,
    uris: Vec<String>,
    common_name: Option<String>,
}

impl CertificateNames {
    /// The names in a certificate (DER). One that cannot be read has none.
    pub fn read(der: &[u8]) -> Self {
        let mut names = Self {
            dns: Vec::new(),
            uris: Vec::new(),
            common_name: None,
        };
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return names;
        };
        if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
            for name in &alternatives.value.general_names {
                match name {
                    GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
                    GeneralName::URI(name) => names.uris.push((*name).to_owned()),
                    _ => {}
                }
            }
        }
        if names.dns.is_empty() && names.uris.is_empty() {
            let subject = certificate.subject();
            let mut common = subject.iter_common_name().filter_map(|it| it.as_str().ok());
            names.common_name = common.next().map(str::to_owned);
        }
        names
    }

    /// Is `name` one of them? Written out in full: no pattern is followed, on either side.
    pub fn contain(&self, name: &str) -> bool {
        let dns = self.dns.iter().any(|own| own.eq_ignore_ascii_case(name));
        let mut others = self.uris.iter().chain(&self.common_name);
        dns || others.any(|own| own == name)
    }
}

/// Quoted: a name may hold anything.
impl fmt::Display for CertificateNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [("DNS", &self.dns), ("URI", &self.uris)];
        let alternatives = kinds
            .into_iter()
            .flat_map(|(kind, names)| names.iter().map(move |name| format!("{kind} {name:?}")));
        let common = self.common_name.iter().map(|name| format!("CN {name:?}"));
        let all: Vec<String> = alternatives.chain(common).collect();
        if all.is_empty() {
            return f.write_str("nobody: it has no name");
        }
        f.write_str(&all.join(", "))
    }
}

/// When a certificate (DER) ends, in seconds since the Unix epoch.
pub(super) fn expiry(der: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn names(dns: &[&str], uri: Option<&str>, common_name: &str) -> CertificateNames {
        let dns: Vec<String> = dns.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(dns).unwrap();
        if let Some(uri) = uri {
            let uri = uri.try_into().unwrap();
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        CertificateNames::read(params.self_signed(&key).unwrap().der())
    }

    #[test]
    fn alternative_names_count_and_the_common_name_only_without_them() {
        let both = names(&["broker-1.example"], Some("spiffe://kafka/broker"), "ops");
        assert!(both.contain("broker-1.EXAMPLE") && both.contain("spiffe://kafka/broker"));
        assert!(!both.contain("ops") && !both.contain("broker-1") && !both.contain("*"));
        assert_eq!(
            both.to_string(),
            r#"DNS "broker-1.example", URI "spiffe://kafka/broker""#
        );
        let common = names(&[], None, "ops");
        assert!(common.contain("ops") && !common.contain("OPS") && !common.contain(""));
        assert_eq!(common.to_string(), r#"CN "ops""#);
    }

    #[test]
    fn wildcards_are_not_followed() {
        let wildcard = names(&["*.example"], None, "ops");
        assert!(!wildcard.contain("broker-1.example") && wildcard.contain("*.example"));
    }

    #[test]
    fn what_is_no_certificate_has_no_name() {
        let none = CertificateNames::read(b"nonsense");
        assert!(!none.contain("") && !none.contain("nonsense"));
        assert_eq!(expiry(b"nonsense"), None);
    }
}
