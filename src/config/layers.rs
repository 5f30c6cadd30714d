//! The four kinds of source, each read into raw text. What the text means is decided later, in one place.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use figment::{
    Metadata, Profile, Provider,
    providers::{Format as _, Toml},
    value::{Dict, Map, Value},
};

use super::{
    fault::{self, Fault, Layer, Problem, Source},
    options::{self, DefaultValue, PREFIX, SECRET_FILE_SUFFIX, TABLE, ValueKind},
};

/// Longest configuration or secret file that is read, in bytes.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// Longest value that a fault quotes, in characters.
const QUOTE_MAX_CHARS: usize = 80;

/// One value given on the command line.
#[derive(Debug, Clone)]
pub struct FlagValue {
    /// Key of the option, as given.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The flag, for messages: `--listen`, `--set LISTEN`.
    pub flag: String,
}

/// What a process was given.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config`.
    pub config_file: Option<PathBuf>,
    /// Other flags; of two with one key the later wins.
    pub flags: Vec<FlagValue>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Read if nothing names a file and this one exists.
    pub default_file: Option<PathBuf>,
}

/// Raw text of one source. Keys are those of the table, or the `_FILE` form of a secret.
#[derive(Debug)]
pub(super) struct RawLayer {
    layer: Layer,
    values: BTreeMap<String, RawValue>,
}

#[derive(Debug)]
struct RawValue {
    text: String,
    /// How this source spells the key.
    name: String,
}

impl RawLayer {
    fn new(layer: Layer) -> Self {
        Self {
            layer,
            values: BTreeMap::new(),
        }
    }

    /// An empty value is the same as none, in every source; but not where none would let everybody in.
    fn set(&mut self, key: &str, text: String, name: String) {
        if !text.is_empty() || options::GUARDS.iter().any(|guard| guard.key == key) {
            self.values.insert(key.to_owned(), RawValue { text, name });
        }
    }
}

const DEFAULT: &str = "default";
const FILE: &str = "file";
const ENVIRONMENT: &str = "environment";
const FLAG: &str = "flag";
const CREDENTIAL: &str = "credential";

/// Where systemd puts the credentials of a service.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

impl Provider for RawLayer {
    fn metadata(&self) -> Metadata {
        let names: BTreeMap<String, String> = self
            .values
            .iter()
            .map(|(key, value)| (key.clone(), value.name.clone()))
            .collect();
        let metadata = match &self.layer {
            Layer::Default => Metadata::named(DEFAULT),
            Layer::Credential => Metadata::named(CREDENTIAL),
            Layer::File(path) => Metadata::from(FILE, path.as_path()),
            Layer::Environment => Metadata::named(ENVIRONMENT),
            Layer::Flag => Metadata::named(FLAG),
        };
        metadata.interpolater(move |_, keys| {
            let key = keys.last().copied().unwrap_or_default();
            names.get(key).cloned().unwrap_or_default()
        })
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = self
            .values
            .iter()
            .map(|(key, value)| (key.clone(), Value::from(value.text.as_str())))
            .collect();
        Ok(Profile::Default.collect(dict))
    }
}

/// The source that `metadata` was made for.
pub(super) fn source_of(metadata: &Metadata, key: &str) -> Source {
    let path = || {
        let file = metadata.source.as_ref().and_then(|s| s.file_path());
        file.map(Path::to_path_buf).unwrap_or_default()
    };
    let layer = match metadata.name.as_ref() {
        FILE => Layer::File(path()),
        ENVIRONMENT => Layer::Environment,
        FLAG => Layer::Flag,
        CREDENTIAL => Layer::Credential,
        _ => Layer::Default,
    };
    let name = match layer {
        Layer::Default => String::new(),
        _ => metadata.interpolate(&Profile::Default, &[key]),
    };
    Source { layer, name }
}

/// Every source as a layer, weakest first, and what is wrong with the sources themselves.
pub(super) fn read(sources: &Sources) -> (Vec<RawLayer>, Vec<Fault>) {
    let mut faults = Vec::new();
    let (bare, prefixed, named_file) = environment(&sources.environment, &mut faults);
    let flags = flags(&sources.flags, &mut faults);
    let file = match (&sources.config_file, named_file) {
        (Some(path), _) => file(path, "--config", &mut faults),
        (None, Some(path)) => file(&path, options::CONFIG_FILE_VARIABLE, &mut faults),
        (None, None) => match &sources.default_file {
            // A file that exists but cannot be looked at must not be skipped in silence.
            Some(path) if path.try_exists().unwrap_or(true) => {
                file(path, "configuration file", &mut faults)
            }
            _ => None,
        },
    };
    let layers = [defaults(), credentials(&sources.environment)]
        .into_iter()
        .chain(file)
        .chain([bare, prefixed, flags])
        .collect();
    (layers, faults)
}

fn defaults() -> RawLayer {
    let mut layer = RawLayer::new(Layer::Default);
    for spec in TABLE {
        if let DefaultValue::Value(text) = spec.default {
            layer.set(spec.key, text.to_owned(), String::new());
        }
    }
    layer
}

/// The secrets that systemd hands over (`LoadCredential=s3-secret-key:...`), as if their `_FILE` forms named them.
fn credentials(environment: &[(OsString, OsString)]) -> RawLayer {
    let mut layer = RawLayer::new(Layer::Credential);
    let given = environment
        .iter()
        .find(|(name, _)| name == CREDENTIALS_VARIABLE);
    let Some(dir) = given.map(|(_, dir)| Path::new(dir)) else {
        return layer;
    };
    for spec in TABLE.iter().filter(|spec| spec.is_secret()) {
        let name = spec.credential();
        let path = dir.join(&name);
        // One that is there but cannot be read must not be skipped in silence.
        let is_there = dir.is_absolute() && path.try_exists().unwrap_or(true);
        if let Some(path) = path.to_str().filter(|_| is_there) {
            let key = format!("{}{SECRET_FILE_SUFFIX}", spec.key);
            layer.set(&key, path.to_owned(), name);
        }
    }
    layer
}

fn flags(flags: &[FlagValue], faults: &mut Vec<Fault>) -> RawLayer {
    let mut layer = RawLayer::new(Layer::Flag);
    for given in flags {
        let source = || Source {
            layer: Layer::Flag,
            name: given.flag.clone(),
        };
        if !options::is_known(&given.key) {
            faults.push(Fault {
                key: given.key.clone(),
                value: None,
                source: Some(source()),
                problem: fault::unknown(&given.key.to_ascii_uppercase(), str::to_owned),
            });
            continue;
        }
        let secret = TABLE.iter().find(|s| s.key == given.key && s.is_secret());
        if let Some(spec) = secret {
            let problem = Problem::SecretOnCommandLine;
            faults.push(Fault::of(spec, None, Some(source()), problem));
            continue;
        }
        layer.set(&given.key, given.value.clone(), given.flag.clone());
    }
    layer
}

/// The names that Chronik uses too, the prefixed names, and the file that the environment names.
fn environment(
    variables: &[(OsString, OsString)],
    faults: &mut Vec<Fault>,
) -> (RawLayer, RawLayer, Option<PathBuf>) {
    let mut bare = RawLayer::new(Layer::Environment);
    let mut prefixed = RawLayer::new(Layer::Environment);
    let mut named_file = None;
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        if name == options::CONFIG_FILE_VARIABLE {
            named_file = (!value.is_empty()).then(|| PathBuf::from(value));
            continue;
        }
        let suffix = name.strip_prefix(PREFIX);
        let is_bare = suffix.is_none() && is_bare_variable(name);
        if suffix.is_none() && !is_bare {
            continue;
        }
        let key = suffix.unwrap_or(name);
        let source = Source {
            layer: Layer::Environment,
            name: name.to_owned(),
        };
        let text = value.to_str();
        if !options::is_known(key) {
            if !is_injected_by_kubernetes(key, text.unwrap_or_default()) {
                faults.push(unknown_variable(key, name));
            }
            continue;
        }
        let Some(text) = text else {
            faults.push(Fault {
                key: key.to_owned(),
                value: None,
                source: Some(source),
                problem: Problem::NotUnicode,
            });
            continue;
        };
        let layer = if is_bare { &mut bare } else { &mut prefixed };
        layer.set(key, text.to_owned(), source.name);
    }
    (bare, prefixed, named_file)
}

fn is_bare_variable(name: &str) -> bool {
    let of_table = TABLE.iter().any(|spec| spec.bare_variable() == Some(name));
    of_table || options::secret_of_file_key(name).is_some()
}

/// The value is left out: a misspelt name may well hold a secret.
fn unknown_variable(key: &str, variable: &str) -> Fault {
    Fault {
        key: variable.to_owned(),
        value: None,
        source: None,
        problem: fault::unknown(key, |nearest| format!("{PREFIX}{nearest}")),
    }
}

/// A Service whose name begins with `chronik-snapshot` makes Kubernetes set names like
/// `CHRONIK_SNAPSHOT_SERVICE_HOST`, `CHRONIK_SNAPSHOT_PORT` (with a URL) and `CHRONIK_SNAPSHOT_PORT_9191_TCP_ADDR`.
fn is_injected_by_kubernetes(key: &str, value: &str) -> bool {
    let words: Vec<&str> = key.split('_').collect();
    let service = words
        .windows(2)
        .any(|pair| pair[0] == "SERVICE" && matches!(pair[1], "HOST" | "PORT"));
    let url = words.last() == Some(&"PORT") && value.contains("://");
    let port = words.windows(3).any(|w| {
        let is_number = !w[1].is_empty() && w[1].bytes().all(|b| b.is_ascii_digit());
        w[0] == "PORT" && is_number && matches!(w[2], "TCP" | "UDP" | "SCTP")
    });
    service || url || port
}

fn file(path: &Path, named_by: &str, faults: &mut Vec<Fault>) -> Option<RawLayer> {
    let mut push = |problem| {
        faults.push(Fault {
            key: named_by.to_owned(),
            value: Some(path.display().to_string()),
            source: None,
            problem,
        });
    };
    let text = match read_text(path) {
        Ok(text) => text,
        Err(reason) => {
            push(Problem::Unreadable { reason });
            return None;
        }
    };
    let dict = match Toml::string(&text).data() {
        Ok(mut profiles) => profiles.remove(&Profile::Default).unwrap_or_default(),
        Err(error) => {
            let reason = without_quoted_lines(&error.to_string());
            push(Problem::Syntax { reason });
            return None;
        }
    };
    Some(file_layer(path, dict, faults))
}

fn file_layer(path: &Path, dict: Dict, faults: &mut Vec<Fault>) -> RawLayer {
    let mut layer = RawLayer::new(Layer::File(path.to_owned()));
    for (name, value) in dict {
        let source = Source {
            layer: Layer::File(path.to_owned()),
            name: name.clone(),
        };
        let key = name.to_ascii_uppercase();
        let misspelt = name.chars().any(|c| c.is_ascii_uppercase());
        let problem = if misspelt || !options::is_known(&key) {
            Err(fault::unknown(&key, str::to_ascii_lowercase))
        } else {
            raw_text(&key, value)
        };
        match problem {
            Ok(text) => layer.set(&key, text, name),
            Err(problem) => faults.push(Fault {
                key: name,
                value: None,
                source: Some(source),
                problem,
            }),
        }
    }
    layer
}

/// The value as an operator would write it in the environment.
fn raw_text(key: &str, value: Value) -> Result<String, Problem> {
    let is_list = TABLE.iter().any(|spec| {
        let listed = matches!(
            spec.kind,
            ValueKind::Topics | ValueKind::Names | ValueKind::Uids
        );
        spec.key == key && listed
    });
    match value {
        Value::String(_, text) => Ok(text),
        Value::Char(_, c) => Ok(c.to_string()),
        Value::Bool(_, switch) => Ok(switch.to_string()),
        Value::Num(_, num) => match (num.to_u128(), num.to_i128()) {
            (Some(n), _) => Ok(n.to_string()),
            (None, Some(n)) => Ok(n.to_string()),
            (None, None) => Err(Problem::WrongType {
                found: "a number with a fraction",
            }),
        },
        Value::Array(_, items) if is_list => {
            let text = |item: Value| match item {
                Value::Num(_, number) => {
                    let signed = number.to_i128().map(|number| number.to_string());
                    signed.or_else(|| number.to_u128().map(|number| number.to_string()))
                }
                item => item.into_string(),
            };
            let texts: Option<Vec<String>> = items.into_iter().map(text).collect();
            let list = texts.map(|texts| texts.join(","));
            list.ok_or(Problem::WrongType {
                found: "a list of other things than texts or numbers",
            })
        }
        Value::Array(..) => Err(Problem::WrongType { found: "a list" }),
        Value::Dict(..) => Err(Problem::WrongType { found: "a table" }),
        Value::Empty(..) => Ok(String::new()),
    }
}

/// The parser's message quotes the line at fault, which may hold a secret.
fn without_quoted_lines(message: &str) -> String {
    let is_quote = |line: &str| {
        let after_number = line
            .trim_start()
            .trim_start_matches(|c: char| c.is_ascii_digit());
        after_number.trim_start().starts_with('|')
    };
    message
        .lines()
        .filter(|line| !line.is_empty() && !is_quote(line))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The text of a file of bounded size, or why not.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > FILE_MAX_BYTES) {
        return Err("it is larger than 1 MiB".into());
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".into())
}

/// A value cut to what a message can show.
pub(super) fn quoted(text: &str) -> String {
    text.chars().take(QUOTE_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kubernetes_injects_are_no_options() {
        let injected = |key, value| is_injected_by_kubernetes(key, value);
        assert!(injected("SERVICE_HOST", "10.0.0.1"));
        assert!(injected("SERVICE_PORT_GRPC", "9191"));
        assert!(injected("PORT", "tcp://10.0.0.1:9191"));
        assert!(injected("PORT_9191_TCP_ADDR", "10.0.0.1"));
        assert!(injected("METRICS_SERVICE_PORT", "9090"));
        assert!(!injected("PORT", "9191"));
        assert!(!injected("METRICS_PORT", "9090"));
        assert!(!injected("LOG_TRESHOLD", "5"));
    }

    #[test]
    fn a_syntax_error_never_quotes_the_line() {
        let error = Toml::string("a = 1\ns3_secret_key = \"hunter2\nb = 2\n").data();
        let message = without_quoted_lines(&error.unwrap_err().to_string());
        assert!(message.contains("line 2"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}
