//! Addresses of gRPC peers.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Longest path of a Unix socket, in bytes, on Linux (without the closing zero).
const UNIX_PATH_MAX_BYTES: usize = 107;

/// Where a gRPC peer is, or where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// TCP.
    Tcp {
        /// IP address (IPv6 without brackets) or host name.
        host: String,
        /// Port; 0 only for listening: any free one.
        port: u16,
        /// Encrypted.
        tls: bool,
    },
    /// A Unix socket; an absolute path of at most 107 bytes.
    Unix(PathBuf),
}

/// Why text is not an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// `host:port` without the port.
    #[error("the port is missing")]
    NoPort,
    /// Port not 0 to 65535.
    #[error("the port is not a number from 0 to 65535")]
    Port,
    /// Port 0 cannot be called.
    #[error("port 0 cannot be called")]
    PortZero,
    /// Host empty or with illegal characters.
    #[error("the host is not a name or an IP address")]
    Host,
    /// IPv6 without brackets.
    #[error("an IPv6 address needs brackets, as in [::1]:9190")]
    Brackets,
    /// Something after the port.
    #[error("nothing may follow the port")]
    Path,
    /// Another scheme.
    #[error("the scheme is none of http, https and unix")]
    Scheme,
    /// Relative or empty path.
    #[error("the path of a Unix socket must begin with /")]
    RelativePath,
    /// Too long.
    #[error("the path of a Unix socket may have at most 107 bytes")]
    LongPath,
}

impl Endpoint {
    /// Parses `host:port`, `http://host:port`, `https://host:port`, `unix:/path` or `unix:///path`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return parse_unix(path);
        }
        let (tls, authority) = match text.strip_prefix("https://") {
            Some(authority) => (true, authority),
            None => (false, text.strip_prefix("http://").unwrap_or(text)),
        };
        if authority.contains("://") {
            return Err(EndpointError::Scheme);
        }
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(EndpointError::Path);
        }
        parse_tcp(authority, tls)
    }

    /// The same with TLS; a Unix socket stays what it is.
    #[must_use]
    pub fn encrypted(self) -> Self {
        match self {
            Self::Tcp { host, port, .. } => Self::Tcp {
                host,
                port,
                tls: true,
            },
            unix @ Self::Unix(_) => unix,
        }
    }

    /// True for TLS.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }

    /// True when no other host can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }

    /// The address, if the host is an IP address.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp { host, port, .. } => Some(SocketAddr::new(host.parse().ok()?, *port)),
        }
    }

    /// The path, for Unix sockets.
    pub fn unix_path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Tcp { .. } => None,
        }
    }
}

/// As a URI that a gRPC client takes: `http://host:port`, `https://host:port` or `unix:///path`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port, tls } => {
                let scheme = if *tls { "https" } else { "http" };
                if host.contains(':') {
                    write!(f, "{scheme}://[{host}]:{port}")
                } else {
                    write!(f, "{scheme}://{host}:{port}")
                }
            }
        }
    }
}

fn parse_unix(path: &str) -> Result<Endpoint, EndpointError> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') || path.len() < 2 {
        return Err(EndpointError::RelativePath);
    }
    if path.len() > UNIX_PATH_MAX_BYTES {
        return Err(EndpointError::LongPath);
    }
    Ok(Endpoint::Unix(PathBuf::from(path)))
}

fn parse_tcp(authority: &str, tls: bool) -> Result<Endpoint, EndpointError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(EndpointError::Host)?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(EndpointError::Host);
            }
            (host, rest.strip_prefix(':').ok_or(EndpointError::NoPort)?)
        }
        None => authority.rsplit_once(':').ok_or(EndpointError::NoPort)?,
    };
    let bracketed = authority.starts_with('[');
    if host.contains(':') && !bracketed {
        return Err(EndpointError::Brackets);
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if host.is_empty() || (!bracketed && !host.bytes().all(legal)) {
        return Err(EndpointError::Host);
    }
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(EndpointError::Port);
    }
    Ok(Endpoint::Tcp {
        host: host.to_owned(),
        port: port.parse().map_err(|_| EndpointError::Port)?,
        tls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp {
            host: host.into(),
            port,
            tls: false,
        }
    }

    #[test]
    fn endpoints_are_read_in_every_documented_form() {
        let cases = [
            ("http://127.0.0.1:9190", tcp("127.0.0.1", 9190)),
            ("http://broker.svc:9190/", tcp("broker.svc", 9190)),
            ("127.0.0.1:9191", tcp("127.0.0.1", 9191)),
            ("https://broker:1", tcp("broker", 1).encrypted()),
            ("[::1]:9191", tcp("::1", 9191)),
            ("localhost:0", tcp("localhost", 0)),
            ("unix:/run/a.sock", Endpoint::Unix("/run/a.sock".into())),
            ("unix:///run/a.sock", Endpoint::Unix("/run/a.sock".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(Endpoint::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_text_is_refused_with_a_reason() {
        let long = format!("unix:/{}", "a".repeat(107));
        let cases = [
            ("https://broker", EndpointError::NoPort),
            ("tcp://broker:1", EndpointError::Scheme),
            ("broker", EndpointError::NoPort),
            ("broker:", EndpointError::Port),
            ("broker:+1", EndpointError::Port),
            ("broker:70000", EndpointError::Port),
            ("http://broker:1/path", EndpointError::Path),
            ("user@broker:1", EndpointError::Path),
            ("::1:9190", EndpointError::Brackets),
            ("[::1]", EndpointError::NoPort),
            ("[nope]:1", EndpointError::Host),
            (":1", EndpointError::Host),
            ("a b:1", EndpointError::Host),
            ("unix:run/a.sock", EndpointError::RelativePath),
            ("unix:", EndpointError::RelativePath),
            (long.as_str(), EndpointError::LongPath),
        ];
        for (text, expected) in cases {
            assert_eq!(Endpoint::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn display_gives_a_uri_that_parses_back() {
        for text in [
            "http://a:1",
            "https://a:1",
            "https://[::1]:1",
            "unix:///run/a.sock",
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn only_loopback_and_sockets_are_local() {
        let local = |text| Endpoint::parse(text).unwrap().is_local();
        assert!(local("127.0.0.1:1") && local("127.9.9.9:1") && local("[::1]:1"));
        assert!(local("localhost:1") && local("unix:/a"));
        assert!(
            !local("0.0.0.0:1") && !local("[::]:1") && !local("10.0.0.1:1") && !local("host:1")
        );
    }
}
