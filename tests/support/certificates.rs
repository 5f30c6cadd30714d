//! Authorities and certificates made for one test, in files of its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType,
};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

/// What a certificate says.
#[derive(Clone, Copy, Default)]
pub struct Holder<'a> {
    pub dns: &'a [&'a str],
    pub uri: Option<&'a str>,
    pub common_name: &'a str,
    /// It ended long ago.
    pub expired: bool,
    /// Last year of its validity; 0 = far away.
    pub until: i32,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named(name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub fn issue(&self, holder: Holder<'_>) -> Pair {
        let dns: Vec<String> = holder.dns.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(dns).unwrap();
        if let Some(uri) = holder.uri {
            let uri = SanType::URI(uri.try_into().unwrap());
            params.subject_alt_names.push(uri);
        }
        params.distinguished_name = named(holder.common_name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if holder.expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        if holder.until != 0 {
            params.not_after = rcgen::date_time_ymd(holder.until, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair {
            cert,
            key: key.serialize_pem(),
        }
    }

    /// A certificate of a server on this host.
    pub fn server(&self) -> Pair {
        self.issue(Holder {
            dns: &["localhost"],
            ..Holder::default()
        })
    }

    /// A certificate with a common name and nothing else.
    pub fn client(&self, common_name: &str) -> Pair {
        self.issue(Holder {
            common_name,
            ..Holder::default()
        })
    }
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if !common_name.is_empty() {
        name.push(DnType::CommonName, common_name);
    }
    name
}

/// Writes a file so that nobody sees half of it.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

/// Files with these names in a directory.
pub struct Files<'a>(pub &'a Path);

impl Files<'_> {
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// `NAME.pem` and `NAME-key.pem`, as a path each.
    pub fn pair(&self, name: &str, pair: &Pair) -> (String, String) {
        let (cert, key) = (format!("{name}.pem"), format!("{name}-key.pem"));
        replace(&self.path(&cert), &pair.cert);
        replace(&self.path(&key), &pair.key);
        (self.text(&cert), self.text(&key))
    }

    pub fn authority(&self, name: &str, authority: &Authority) -> String {
        let name = format!("{name}.pem");
        replace(&self.path(&name), &authority.pem);
        self.text(&name)
    }
}
