//! Options of encryption and of who may do what.

use super::{DefaultValue, Group, OptionSpec, ValueKind};

/// See [`OptionSpec::effect`].
pub static TLS_CERT: OptionSpec = OptionSpec {
    key: "TLS_CERT",
    group: Group::Security,
    kind: ValueKind::Path,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Certificate of LISTEN, in PEM form, followed by those that link it to its authority. With it, connections to LISTEN are encrypted (TLS 1.2 or 1.3).",
    interaction: "Set together with TLS_KEY. Looked at every few seconds: a new pair is taken up without a restart, a broken one is not. With a Unix socket in LISTEN it is refused: it would protect nothing.",
};

/// See [`OptionSpec::effect`].
pub static TLS_KEY: OptionSpec = OptionSpec {
    key: "TLS_KEY",
    group: Group::Security,
    kind: ValueKind::Path,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Private key of TLS_CERT, in PEM form.",
    interaction: "Readable for this process only.",
};

/// See [`OptionSpec::effect`].
pub static TLS_CLIENT_CA: OptionSpec = OptionSpec {
    key: "TLS_CLIENT_CA",
    group: Group::Security,
    kind: ValueKind::Path,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Authorities, in PEM form, one of which every client of LISTEN must have a certificate from. Without it, connections are encrypted and anybody may make them.",
    interaction: "Needs TLS_CERT. Without it, LISTEN must not be an address that other hosts can reach, unless INSECURE=true. Health, reflection and `/status` then need a certificate, too. METRICS_LISTEN stays open: probes have no certificates.",
};

/// See [`OptionSpec::effect`].
pub static ADMIN_CLIENTS: OptionSpec = OptionSpec {
    key: "ADMIN_CLIENTS",
    group: Group::Security,
    kind: ValueKind::Names,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Certificates whose holders may use what changes something in the admin service (a snapshot now, pause, resume): one of their DNS or URI alternative names, or the common name of a certificate that has neither. Others get PERMISSION_DENIED.",
    interaction: "Needs TLS_CLIENT_CA. Not set = every certificate that TLS_CLIENT_CA accepts. The status is open to whoever may connect.",
};

/// See [`OptionSpec::effect`].
pub static ADMIN_UIDS: OptionSpec = OptionSpec {
    key: "ADMIN_UIDS",
    group: Group::Security,
    kind: ValueKind::Uids,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Users who may do so over the Unix socket; root and this process count only if they are named.",
    interaction: "Needs a Unix socket in LISTEN. Not set = everybody whom the permissions of the socket let in.",
};

/// See [`OptionSpec::effect`].
pub static BOOTSTRAP_CLIENTS: OptionSpec = OptionSpec {
    key: "BOOTSTRAP_CLIENTS",
    group: Group::Security,
    kind: ValueKind::Names,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Certificates whose holders may use Bootstrap, which hands out whole snapshots. The broker is the one that needs it.",
    interaction: "As ADMIN_CLIENTS.",
};

/// See [`OptionSpec::effect`].
pub static BOOTSTRAP_UIDS: OptionSpec = OptionSpec {
    key: "BOOTSTRAP_UIDS",
    group: Group::Security,
    kind: ValueKind::Uids,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Users who may use Bootstrap over the Unix socket.",
    interaction: "As ADMIN_UIDS.",
};

/// See [`OptionSpec::effect`].
pub static MAX_CONNECTIONS: OptionSpec = OptionSpec {
    key: "MAX_CONNECTIONS",
    group: Group::Security,
    kind: ValueKind::Whole {
        min: 4,
        max: 65_536,
    },
    default: DefaultValue::Value("256"),
    unit: "connections",
    effect: "Connections that are open at one time, at LISTEN and at METRICS_LISTEN each. Further ones are closed at once and counted.",
    interaction: "A connection has 10 s for its handshake and its first byte, and 2 minutes between two bytes.",
};

/// See [`OptionSpec::effect`].
pub static BROKER_TLS_CA: OptionSpec = OptionSpec {
    key: "BROKER_TLS_CA",
    group: Group::Security,
    kind: ValueKind::Path,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Authorities, in PEM form, that the broker's certificate must come from. Those of the operating system are not used.",
    interaction: "Required with https:// in BROKER_ENDPOINT, refused without. Looked at as TLS_CERT is.",
};

/// See [`OptionSpec::effect`].
pub static BROKER_TLS_CERT: OptionSpec = OptionSpec {
    key: "BROKER_TLS_CERT",
    group: Group::Security,
    kind: ValueKind::Path,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Certificate that is shown to the broker, in PEM form.",
    interaction: "Set together with BROKER_TLS_KEY. As BROKER_TLS_CA.",
};

/// See [`OptionSpec::effect`].
pub static BROKER_TLS_KEY: OptionSpec = OptionSpec {
    key: "BROKER_TLS_KEY",
    group: Group::Security,
    kind: ValueKind::Path,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Private key of BROKER_TLS_CERT, in PEM form.",
    interaction: "As BROKER_TLS_CERT.",
};

/// See [`OptionSpec::effect`].
pub static BROKER_TLS_NAME: OptionSpec = OptionSpec {
    key: "BROKER_TLS_NAME",
    group: Group::Security,
    kind: ValueKind::Text,
    default: DefaultValue::Computed("the host of BROKER_ENDPOINT"),
    unit: "",
    effect: "DNS name or IP address that the broker's certificate must be made out to.",
    interaction: "As BROKER_TLS_CA.",
};

/// See [`OptionSpec::effect`].
pub static BROKER_UIDS: OptionSpec = OptionSpec {
    key: "BROKER_UIDS",
    group: Group::Security,
    kind: ValueKind::Uids,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Users who may serve the broker's Unix socket: what another one serves is not talked to.",
    interaction: "Needs a Unix socket in BROKER_ENDPOINT. Not set = whoever listens there.",
};

/// See [`OptionSpec::effect`].
pub static ADMIN_TLS_CA: OptionSpec = OptionSpec {
    key: "ADMIN_TLS_CA",
    group: Group::Security,
    kind: ValueKind::Path,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Authorities, in PEM form, that the daemon's certificate must come from: for the commands that call it, not for the daemon.",
    interaction: "Required where they call a daemon over TLS. Their flag is `--tls-ca`.",
};

/// See [`OptionSpec::effect`].
pub static ADMIN_TLS_CERT: OptionSpec = OptionSpec {
    key: "ADMIN_TLS_CERT",
    group: Group::Security,
    kind: ValueKind::Path,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Certificate that these commands show to the daemon, in PEM form.",
    interaction: "Set together with ADMIN_TLS_KEY. Flag `--tls-cert`.",
};

/// See [`OptionSpec::effect`].
pub static ADMIN_TLS_KEY: OptionSpec = OptionSpec {
    key: "ADMIN_TLS_KEY",
    group: Group::Security,
    kind: ValueKind::Path,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Private key of ADMIN_TLS_CERT, in PEM form.",
    interaction: "Flag `--tls-key`.",
};

/// See [`OptionSpec::effect`].
pub static ADMIN_TLS_NAME: OptionSpec = OptionSpec {
    key: "ADMIN_TLS_NAME",
    group: Group::Security,
    kind: ValueKind::Text,
    default: DefaultValue::Computed("the host that is called"),
    unit: "",
    effect: "DNS name or IP address that the daemon's certificate must be made out to.",
    interaction: "Flag `--tls-name`.",
};

/// Options that keep somebody out. Set and empty, as by a template without its value, they must not mean "everybody".
pub static GUARDS: [&OptionSpec; 6] = [
    &TLS_CLIENT_CA,
    &ADMIN_CLIENTS,
    &ADMIN_UIDS,
    &BOOTSTRAP_CLIENTS,
    &BOOTSTRAP_UIDS,
    &BROKER_UIDS,
];
