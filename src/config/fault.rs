//! What can be wrong with a configuration. All faults are collected and told at once.

use std::{fmt, path::PathBuf};

use thiserror::Error;

use super::options::{self, OptionSpec};
use crate::{channel::TlsError, error::Kind};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Kind of source.
    pub layer: Layer,
    /// The exact name there: a flag, a variable, a key of the file. Empty for defaults.
    pub name: String,
}

/// Kinds of source, weakest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// The table of options.
    Default,
    /// A file that systemd hands over.
    Credential,
    /// The configuration file.
    File(PathBuf),
    /// Environment.
    Environment,
    /// Command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.layer {
            Layer::Default => f.write_str("default"),
            Layer::Credential => write!(f, "credential {}", self.name),
            Layer::File(path) => write!(f, "{} in {}", self.name, path.display()),
            Layer::Environment => write!(f, "environment variable {}", self.name),
            Layer::Flag => write!(f, "flag {}", self.name),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Key of the option, or the name that is no option.
    pub key: String,
    /// The offending value; never that of a secret.
    pub value: Option<String>,
    /// Where it was set.
    pub source: Option<Source>,
    /// What is wrong.
    pub problem: Problem,
}

impl Fault {
    /// A fault of an option; hides the value of a secret.
    pub fn of(
        spec: &OptionSpec,
        value: Option<String>,
        source: Option<Source>,
        problem: Problem,
    ) -> Self {
        Self {
            key: spec.key.to_owned(),
            value: value.filter(|_| !spec.is_secret()),
            source,
            problem,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        if let Some(source) = &self.source {
            write!(f, " ({source})")?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// What is wrong with a value or a source.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// No option has this name.
    #[error("there is no such option")]
    Unknown {
        /// The option that looks most like it, spelt as this source spells it.
        nearest: String,
    },
    /// The file cannot be read.
    #[error("the file cannot be read: {reason}")]
    Unreadable {
        /// What the operating system says.
        reason: String,
    },
    /// The file is not TOML.
    #[error("the file is not valid TOML: {reason}")]
    Syntax {
        /// Place and reason, without the text of the line.
        reason: String,
    },
    /// A table, date or nested list where a plain value belongs.
    #[error("{found} cannot be the value of an option")]
    WrongType {
        /// What was found.
        found: &'static str,
    },
    /// The variable's bytes are not UTF-8.
    #[error("the value is not UTF-8")]
    NotUnicode,
    /// Not `true` or `false`.
    #[error("neither true nor false")]
    NotASwitch,
    /// Not a whole number.
    #[error("not a whole number")]
    NotANumber {
        /// Least legal value.
        min: u64,
    },
    /// A whole number out of limits.
    #[error("out of range: it must be {}", range(*.min, *.max))]
    OutOfRange {
        /// Least legal value.
        min: u64,
        /// Greatest legal value.
        max: u64,
    },
    /// Not one of the words.
    #[error("not one of {}", .choices.join(", "))]
    NotAChoice {
        /// The words.
        choices: &'static [&'static str],
    },
    /// A bad topic pattern.
    #[error("{pattern:?} is not a topic name, nor the beginning of one followed by *")]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// Not an endpoint.
    #[error("not an endpoint: {reason}")]
    Endpoint {
        /// Why.
        reason: super::EndpointError,
    },
    /// Not an address.
    #[error("not an IP address with a port")]
    Address,
    /// Not a URL, or one of another scheme.
    #[error("not an http or https URL with a host")]
    Url,
    /// A URL that carries a user name or password.
    #[error("a URL must not carry credentials")]
    UrlWithCredentials,
    /// A relative path.
    #[error("not an absolute path")]
    RelativePath,
    /// An option of a part that this program lacks.
    #[error("this program was built without the cargo feature {feature}")]
    NotBuiltIn {
        /// The feature.
        feature: &'static str,
    },
    /// An encrypted endpoint where only plain ones are spoken.
    #[error("encrypted connections to a collector are not supported")]
    PlainOnly,
    /// Other hosts can reach the address.
    #[error("other hosts can reach this address, and connections are not encrypted")]
    Exposed,
    /// Other hosts can reach the address, and nobody is asked who he is.
    #[error(
        "other hosts can reach this address, and no certificate is asked of them: whoever connects can read snapshots"
    )]
    Unauthenticated,
    /// Certificates or keys that cannot be used.
    #[error("{error}")]
    Tls {
        /// Why.
        error: TlsError,
    },
    /// An option that does nothing as the others are.
    #[error("it has no effect without {needs}")]
    WithoutEffect {
        /// What is missing.
        needs: &'static str,
    },
    /// Not a list of certificates' names.
    #[error("not a list of names that client certificates can have")]
    CertificateName,
    /// Not a list of user ids.
    #[error("not a list of user ids")]
    Uid,
    /// Not the name of a server.
    #[error("neither a DNS name nor an IP address")]
    ServerName,
    /// Listening by name.
    #[error("an address to listen on must be an IP address or localhost")]
    ListenByName,
    /// Two listeners on one address.
    #[error("METRICS_LISTEN is the same address")]
    SameAddress,
    /// The prefix would not be used as it is.
    #[error("not usable as the beginning of a key: {reason}")]
    Prefix {
        /// Why.
        reason: PrefixFault,
    },
    /// A bucket or container name with illegal characters.
    #[error("not a bucket or container name")]
    BucketName,
    /// A level that the method lacks.
    #[error("{codec} takes levels {min} to {max}")]
    LevelOutOfRange {
        /// The method.
        codec: &'static str,
        /// Least level.
        min: i32,
        /// Greatest level.
        max: i32,
    },
    /// A level without a method.
    #[error("COMPRESSION=none has no level")]
    LevelWithoutCompression,
    /// An option that another one makes necessary.
    #[error("not set, but {because} needs it")]
    Missing {
        /// The other one.
        because: &'static str,
    },
    /// An http endpoint without permission.
    #[error("the connection would not be encrypted")]
    PlainHttp,
    /// A secret given on the command line.
    #[error("a secret on the command line can be seen by every user of the host")]
    SecretOnCommandLine,
    /// A secret given both ways.
    #[error("set both directly and as a file ({file_source})")]
    SecretTwice {
        /// Where the file form was set.
        file_source: Source,
    },
    /// The secret's file is empty.
    #[error("the file {path:?} is empty")]
    SecretEmpty {
        /// The file.
        path: PathBuf,
    },
    /// Not a log filter.
    #[error("not a log filter: {reason}")]
    LogFilter {
        /// What the parser says.
        reason: String,
    },
}

/// Why a prefix is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PrefixFault {
    /// No `/` at the end.
    #[error("it does not end in /")]
    NoSlashAtEnd,
    /// `/` at the beginning.
    #[error("it begins with /")]
    SlashAtBeginning,
    /// `//`, `.` or `..` inside.
    #[error("it has an empty, . or .. part")]
    BadPart,
    /// Characters that stores treat differently.
    #[error("it has characters other than A-Z a-z 0-9 / . _ - = @")]
    BadCharacter,
}

impl Problem {
    /// What the operator can do.
    pub fn fix(&self) -> String {
        match self {
            Self::Unknown { nearest } => format!("did you mean {nearest}?"),
            Self::Unreadable { .. } => {
                "check the path, and that the user of this process may read it".into()
            }
            Self::Syntax { .. } => "write one `key = value` per line".into(),
            Self::WrongType { .. } => "write text, a whole number, true or false; topics may be a list of texts".into(),
            Self::NotUnicode => "write it as UTF-8".into(),
            Self::NotASwitch => "write true or false".into(),
            Self::NotANumber { min } => {
                format!("write digits only, without unit, at least {min}")
            }
            Self::OutOfRange { min, max } => format!("write a number {}", range(*min, *max)),
            Self::NotAChoice { choices } => format!("write {}", choices.join(" or ")),
            Self::Pattern { .. } => "write names of letters, digits, . _ and -, separated by commas; only the last character may be *".into(),
            Self::Endpoint { .. } => "write host:port, http://host:port, https://host:port or unix:/path".into(),
            Self::Address => "write ip:port, for example 0.0.0.0:9090 or [::]:9090".into(),
            Self::Url => "write, for example, https://s3.example.com".into(),
            Self::UrlWithCredentials => "use S3_ACCESS_KEY and S3_SECRET_KEY, or their _FILE forms".into(),
            Self::RelativePath => "write a path that begins with /".into(),
            Self::NotBuiltIn { feature } => {
                format!("build it with `cargo build --release --features {feature}`, or remove the option")
            }
            Self::PlainOnly => "use http:// or unix:/path: a collector on this host that sends spans on can encrypt".into(),
            Self::Exposed => "set TLS_CERT and TLS_KEY, and TLS_CLIENT_CA; or listen on 127.0.0.1, on [::1] or on unix:/path; or accept the risk with INSECURE=true".into(),
            Self::Unauthenticated => "set TLS_CLIENT_CA; or listen on 127.0.0.1, on [::1] or on unix:/path; or accept the risk with INSECURE=true".into(),
            Self::Tls { .. } => "write certificates and the key that belongs to them as PEM, readable for the user of this process".into(),
            Self::WithoutEffect { needs } => format!("remove it, or set {needs}"),
            Self::CertificateName => "write DNS or URI names, separated by commas, each in full".into(),
            Self::Uid => "write numbers, separated by commas, for example 998,1001".into(),
            Self::ServerName => "write the name as it stands in the certificate".into(),
            Self::ListenByName => "write 127.0.0.1:9191, [::1]:9191, localhost:9191 or unix:/path".into(),
            Self::SameAddress => "give them different ports".into(),
            Self::Prefix { reason } => match reason {
                PrefixFault::NoSlashAtEnd => "add a / at the end".into(),
                PrefixFault::SlashAtBeginning => {
                    "remove the / at the beginning; a lone / means no prefix".into()
                }
                PrefixFault::BadPart | PrefixFault::BadCharacter => {
                    "write, for example, snapshots/ or team-a/snapshots/".into()
                }
            },
            Self::BucketName => "write the bare name; what follows a / belongs into S3_PREFIX".into(),
            Self::LevelOutOfRange { .. } => "write a level of that range, or leave it out".into(),
            Self::LevelWithoutCompression => "remove COMPRESSION_LEVEL, or choose gzip or zstd".into(),
            Self::Missing { .. } => "set it".into(),
            Self::PlainHttp => "use https, or accept it with S3_DISABLE_SSL=true".into(),
            Self::SecretOnCommandLine => "use the environment, or a file named by <KEY>_FILE".into(),
            Self::SecretTwice { .. } => "remove one of the two".into(),
            Self::SecretEmpty { .. } => "write the secret into it, or remove the option".into(),
            Self::LogFilter { .. } => "write error, warn, info, debug, trace, or directives such as info,h2=warn".into(),
        }
    }
}

fn range(min: u64, max: u64) -> String {
    if max == u64::MAX {
        format!("at least {min}")
    } else {
        format!("from {min} to {max}")
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// In the order in which they were found: sources first, then options in the order of the table.
    pub faults: Vec<Fault>,
}

impl ConfigError {
    /// A configuration is never mended by repeating.
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        let noun = if count == 1 { "fault" } else { "faults" };
        write!(f, "the configuration has {count} {noun}")?;
        for fault in &self.faults {
            write!(f, "\n  {fault}\n    fix: {}", fault.problem.fix())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Legal, but worth a word at start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Warning {
    /// A restore may lose the data it reads.
    #[error(
        "DELETE_GRACE_SECS is {secs}: a restore that takes longer may find its data deleted and start over"
    )]
    ShortDeleteGrace {
        /// The value.
        secs: u64,
    },
    /// Nothing survives.
    #[error("OBJECT_STORE_BACKEND is memory: every snapshot is lost when this process ends")]
    MemoryStore,
    /// No protection.
    #[error(
        "LISTEN is {listen} and INSECURE is true: whoever reaches this address can read snapshots"
    )]
    Exposed {
        /// The address.
        listen: String,
    },
    /// No authentication.
    #[error(
        "LISTEN is {listen}, TLS_CLIENT_CA is not set and INSECURE is true: whoever reaches this address can read snapshots"
    )]
    Unauthenticated {
        /// The address.
        listen: String,
    },
    /// Nothing protects what goes over the network.
    #[error(
        "BROKER_ENDPOINT is {endpoint}, which is not encrypted: whoever is between can read and change every record"
    )]
    PlainBroker {
        /// The address.
        endpoint: String,
    },
    /// Log truncation rests on a store that forgets.
    #[error(
        "OBJECT_STORE_BACKEND is memory and COMPACT is true: log entries will be dropped that no durable snapshot covers"
    )]
    CompactionOnMemoryStore,
}

/// The suggestion for an unknown key, spelt with `spell`.
pub(super) fn unknown(key: &str, spell: impl Fn(&str) -> String) -> Problem {
    Problem::Unknown {
        nearest: spell(&options::nearest(key)),
    }
}
