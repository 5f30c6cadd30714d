//! The layering of docs/ARCHITECTURE.md: modules import only downward, rows do not import their neighbours, and some
//! things have one home.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Top to bottom.
const ROWS: &[&[&str]] = &[
    &["main"],
    &["app", "fuzzing"],
    &["scheduler", "server", "cli"],
    &["tools"],
    &["pipeline"],
    &["catalog"],
    &["admin", "broker", "store"],
    &["board", "control", "config", "telemetry"],
    &["format", "policy", "retry"],
    &[
        "raft",
        "error",
        "clock",
        "channel",
        "proto",
        "mutation",
        "supervisor",
    ],
];

/// Imports between neighbours that are meant: from, to, why.
const NEIGHBOURS: &[(&str, &str, &str)] = &[
    (
        "raft",
        "error",
        "names are checked where they are defined, and a bad one is an error of the domain",
    ),
    (
        "proto",
        "raft",
        "a partition's name on the wire, which three modules write",
    ),
    (
        "format",
        "policy",
        "a proof records the level at which it was checked, in the words of the policy",
    ),
];

/// Something that only some files may name.
struct Home {
    /// What is looked for.
    what: What,
    /// Files, or folders ending in `/`, below src/.
    allowed: &'static [&'static str],
    reason: &'static str,
}

enum What {
    /// An external crate.
    Crate(&'static str),
    /// A module of this crate.
    Module(&'static str),
    /// A function that starts a task nobody owns. Methods (`tracker.spawn(..)`) are fine.
    FreeFunction(&'static str),
    /// Two path segments one after the other.
    Path(&'static str, &'static str),
}

const HOMES: &[Home] = &[
    Home {
        what: What::Crate("object_store"),
        allowed: &["store/", "config/"],
        reason: "the store's contract is ours; config has a module of the same name",
    },
    Home {
        what: What::Crate("prometheus"),
        allowed: &["telemetry/"],
        reason: "metrics are typed methods; the library may change",
    },
    Home {
        what: What::Crate("opentelemetry"),
        allowed: &["telemetry/traces/"],
        reason: "the rest of the program knows the spans of `tracing` only, in every build",
    },
    Home {
        what: What::Crate("opentelemetry_otlp"),
        allowed: &["telemetry/traces/"],
        reason: "see opentelemetry",
    },
    Home {
        what: What::Crate("opentelemetry_sdk"),
        allowed: &["telemetry/traces/"],
        reason: "see opentelemetry",
    },
    Home {
        what: What::Crate("tracing_opentelemetry"),
        allowed: &["telemetry/traces/"],
        reason: "see opentelemetry",
    },
    Home {
        what: What::Crate("x509_parser"),
        allowed: &["channel/"],
        reason: "certificates are read in one place; others ask for names and times",
    },
    Home {
        what: What::Module("proto"),
        allowed: &["admin/", "broker/", "server/"],
        reason: "generated types end where the wire ends",
    },
    Home {
        what: What::FreeFunction("spawn"),
        allowed: &[
            "app.rs",
            "pipeline/plane/ahead.rs",
            "pipeline/plane/workers.rs",
        ],
        reason: "app.rs owns every task; others are handed a JoinSet or TaskTracker (reads ahead die with the \
                 handle that their reader drops; a worker of a simulation does one bounded piece of work)",
    },
    Home {
        what: What::FreeFunction("spawn_local"),
        allowed: &["app.rs"],
        reason: "app.rs owns every task",
    },
    Home {
        what: What::Path("process", "exit"),
        allowed: &[],
        reason: "the process ends by returning from main, so that everything is dropped",
    },
    Home {
        what: What::Path("env", "var"),
        allowed: &[],
        reason: "configuration has one reader, which is handed the environment",
    },
    Home {
        what: What::Path("env", "vars_os"),
        allowed: &["main.rs", "store/open.rs"],
        reason: "main hands the environment to the configuration; AWS_* belongs to the store's library",
    },
];

struct Source {
    /// Below src/, with `/`.
    name: String,
    /// Top-level module.
    module: String,
    /// Modules between the crate's root and this file, the file's own included.
    depth: usize,
    tokens: Vec<String>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let sources: Vec<Source> = files.iter().map(|file| source(&root, file)).collect();
    assert!(sources.len() > 10, "src/ was not found");
    sources
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn source(root: &Path, file: &Path) -> Source {
    let relative = file.strip_prefix(root).unwrap();
    let parts: Vec<&str> = relative.iter().map(|part| part.to_str().unwrap()).collect();
    let last = parts.last().unwrap().trim_end_matches(".rs");
    let depth = parts.len() - usize::from(last == "mod");
    Source {
        name: parts.join("/"),
        module: parts[0].trim_end_matches(".rs").to_owned(),
        depth,
        tokens: tokens(&fs::read_to_string(file).unwrap()),
    }
}

/// Identifiers and punctuation, `::` as one; without comments, strings and characters.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = at(i);
        if c == '/' && at(i + 1) == '/' {
            i = skip_until(&chars, i, &['\n']);
        } else if c == '/' && at(i + 1) == '*' {
            i = skip_until(&chars, i + 2, &['*', '/']);
        } else if c == 'r'
            && (at(i + 1) == '"' || (at(i + 1) == '#' && matches!(at(i + 2), '#' | '"')))
        {
            let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
            let mut end = vec!['"'];
            end.extend(std::iter::repeat_n('#', hashes));
            i = skip_until(&chars, i + 2 + hashes, &end);
        } else if c == '"' {
            i += 1;
            while i < chars.len() && at(i) != '"' {
                i += 1 + usize::from(at(i) == '\\');
            }
            i += 1;
        } else if c == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            i = skip_until(&chars, i + 2 + usize::from(at(i + 1) == '\\'), &['\'']);
        } else if is_word(c) {
            let start = i;
            while is_word(at(i)) {
                i += 1;
            }
            found.push(chars[start..i].iter().collect());
        } else if c == ':' && at(i + 1) == ':' {
            found.push("::".into());
            i += 2;
        } else {
            if !c.is_whitespace() {
                found.push(c.to_string());
            }
            i += 1;
        }
    }
    found
}

/// The position after the next `end`.
fn skip_until(chars: &[char], from: usize, end: &[char]) -> usize {
    let rest = chars.get(from..).unwrap_or_default();
    let found = rest.windows(end.len()).position(|window| window == end);
    found.map_or(chars.len(), |position| from + position + end.len())
}

/// Top-level modules that a file names as `crate::x` or `crate::{x, y::z}`; in main.rs also `chronik_snapshotd::x`.
fn imports(tokens: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (i, token) in tokens.iter().enumerate() {
        let is_root = token == "crate" || token == "chronik_snapshotd";
        if !is_root || tokens.get(i + 1).is_none_or(|next| next != "::") {
            continue;
        }
        match tokens.get(i + 2).map(String::as_str) {
            Some("{") => found.extend(heads_of_group(&tokens[i + 3..])),
            Some(head) => {
                found.insert(head.to_owned());
            }
            None => {}
        }
    }
    found
}

/// First segments of the items of a group, up to its closing brace.
fn heads_of_group(tokens: &[String]) -> Vec<String> {
    let (mut heads, mut depth, mut at_head) = (Vec::new(), 0, true);
    for token in tokens {
        match token.as_str() {
            "{" => depth += 1,
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            "," if depth == 0 => at_head = true,
            head if depth == 0 && at_head => {
                heads.push(head.to_owned());
                at_head = false;
            }
            _ => {}
        }
    }
    heads
}

fn row_of(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

#[test]
fn every_module_has_a_row() {
    for source in sources().iter().filter(|source| source.module != "lib") {
        let row = row_of(&source.module);
        assert!(
            row.is_some(),
            "{} has no row: give it one here and in docs/ARCHITECTURE.md",
            source.name
        );
    }
}

#[test]
fn modules_import_only_downward() {
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources().iter().filter(|source| source.module != "lib") {
        for target in imports(&source.tokens) {
            let (Some(from), Some(to)) = (row_of(&source.module), row_of(&target)) else {
                continue;
            };
            if source.module == target || from < to {
                continue;
            }
            let meant = |(a, b, _): &&(&str, &str, &str)| *a == source.module && *b == target;
            match NEIGHBOURS.iter().find(meant) {
                Some(exception) => {
                    used.insert(exception);
                }
                None if from == to => {
                    faults.push(format!("{} imports its neighbour {target}", source.name));
                }
                None => faults.push(format!(
                    "{} imports {target}, which is above it",
                    source.name
                )),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for exception in NEIGHBOURS {
        assert!(
            used.contains(exception),
            "{exception:?} is not needed any more"
        );
    }
}

/// `super` that reaches the crate's root would hide an import from the test above.
#[test]
fn nothing_climbs_to_the_root_by_super() {
    for source in sources()
        .iter()
        .filter(|source| source.module != "lib" && source.module != "main")
    {
        let mut chain = 0;
        let mut in_tests = false;
        for token in &source.tokens {
            match token.as_str() {
                "super" => chain += 1,
                "::" => {}
                _ => chain = 0,
            }
            in_tests = in_tests || token == "tests";
            let limit = source.depth - usize::from(!in_tests);
            assert!(
                chain <= limit,
                "{} climbs to the root by super",
                source.name
            );
        }
    }
}

fn names(what: &What, tokens: &[String]) -> bool {
    let token = |i: usize| tokens.get(i).map_or("", String::as_str);
    let before = |i: usize| i.checked_sub(1).map_or("", token);
    (0..tokens.len()).any(|i| match what {
        What::Crate(name) => token(i) == *name && token(i + 1) == "::" && before(i) != "::",
        What::Module(name) => {
            token(i) == "crate" && imports(&tokens[i..tokens.len().min(i + 200)]).contains(*name)
        }
        What::FreeFunction(name) => {
            let is_declared = matches!(before(i), "." | "fn");
            token(i) == *name && !is_declared && token(i + 1) != ":"
        }
        What::Path(a, b) => token(i) == *a && token(i + 1) == "::" && token(i + 2) == *b,
    })
}

fn label(what: &What) -> String {
    match what {
        What::Crate(name) => format!("the crate {name}"),
        What::Module(name) => format!("the module {name}"),
        What::FreeFunction(name) => format!("{name}()"),
        What::Path(a, b) => format!("{a}::{b}"),
    }
}

#[test]
fn what_has_one_home_is_named_nowhere_else() {
    let mut faults = Vec::new();
    for source in &sources() {
        for home in HOMES {
            let at_home = home.allowed.iter().any(|allowed| {
                source.name == *allowed
                    || (allowed.ends_with('/') && source.name.starts_with(allowed))
            });
            let is_itself = matches!(home.what, What::Module(name) if source.module == name);
            if !at_home && !is_itself && source.module != "lib" && names(&home.what, &source.tokens)
            {
                let what = label(&home.what);
                faults.push(format!("{} names {what}: {}", source.name, home.reason));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

mod the_test_itself {
    use super::*;

    fn imported(text: &str) -> Vec<String> {
        imports(&tokens(text)).into_iter().collect()
    }

    #[test]
    fn sees_imports_in_every_form() {
        assert_eq!(imported("use crate::app::run;"), ["app"]);
        assert_eq!(
            imported("use crate::{app::{a, b}, cli, raft::X as Y};"),
            ["app", "cli", "raft"]
        );
        assert_eq!(imported("let x: crate::store::Store = y;"), ["store"]);
        assert_eq!(imported("pub(crate) fn f() {} // crate::app"), [""; 0]);
        assert_eq!(
            imported("let s = \"crate::app\"; let r = r#\"crate::cli\"#;"),
            [""; 0]
        );
        assert_eq!(
            imported("/* crate::app */ let c = '\"'; use crate::cli;"),
            ["cli"]
        );
    }

    #[test]
    fn sees_free_functions_but_not_methods() {
        let spawns = |text| names(&What::FreeFunction("spawn"), &tokens(text));
        assert!(spawns("tokio::spawn(f())") && spawns("use tokio::{spawn, select};"));
        assert!(spawns("std::thread::spawn(f)"));
        assert!(!spawns("tracker.spawn(f())") && !spawns("fn spawn(x: u8) {}"));
    }

    #[test]
    fn sees_crates_but_not_modules_of_their_name() {
        let named = |text| names(&What::Crate("object_store"), &tokens(text));
        assert!(named("use object_store::path::Path;") && named("fn f(e: object_store::Error)"));
        assert!(!named("use crate::config::object_store::Backend;"));
    }
}
