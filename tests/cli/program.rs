//! The program as operators and supervisors see it: output and exit codes.

use std::{
    fs,
    process::{Command, Output},
};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chronik-snapshotd"));
    command.env_clear();
    command
}

fn check() -> Command {
    let mut command = program();
    command.args(["config", "check"]);
    command
}

fn print(form: &str) -> Command {
    let mut command = program();
    command.args(["config", "print", "--output", form]);
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn contains_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn a_valid_configuration_is_told_so() {
    let (code, stdout, stderr) = run(check().env("S3_BUCKET", "b"));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout, "the configuration is valid\n");
}

#[test]
fn warnings_do_not_make_it_invalid() {
    let (code, _, stderr) = run(check().args(["--object-store-backend", "memory"]));
    assert_eq!(code, 0);
    contains_all(&stderr, &["warning: OBJECT_STORE_BACKEND is memory"]);
}

#[test]
fn mistakes_on_the_command_line_end_with_2() {
    for arguments in [
        &["fly"][..],
        &["config"],
        &["config", "check", "--set", "LOG_THRESHOLD"],
        &["config", "check", "--no-such-flag"],
        &["config", "print", "--output", "xml"],
        &[],
    ] {
        let (code, stdout, stderr) = run(program().args(arguments));
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(!stderr.is_empty());
    }
}

#[test]
fn help_and_version_are_answers() {
    let (code, stdout, _) = run(program().arg("--help"));
    assert_eq!(code, 0);
    contains_all(&stdout, &["run", "config"]);
    let (code, stdout, _) = run(program().arg("--version"));
    assert_eq!(code, 0);
    contains_all(&stdout, &[env!("CARGO_PKG_VERSION")]);
}

#[test]
fn every_fault_is_told_at_once_and_the_code_is_78() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    fs::write(&file, "log_treshold = 5\nmax_concurrent = \"two\"\n").unwrap();
    let (code, stdout, stderr) = run(check()
        .arg("--config")
        .arg(&file)
        .env("CHRONIK_SNAPSHOT_RETENTION_CUONT", "3")
        .env("CHRONIK_SNAPSHOT_LISTEN", "0.0.0.0:9191")
        .args(["--set", "verify=none"]));
    assert_eq!((code, stdout.as_str()), (78, ""));
    contains_all(
        &stderr,
        &[
            "the configuration has 6 faults",
            "did you mean CHRONIK_SNAPSHOT_RETENTION_COUNT?",
            "did you mean log_threshold?",
            "MAX_CONCURRENT = \"two\" (max_concurrent in ",
            "VERIFY = \"none\" (flag --set VERIFY)",
            "LISTEN = \"0.0.0.0:9191\" (environment variable CHRONIK_SNAPSHOT_LISTEN)",
            "INSECURE=true",
            "S3_BUCKET: not set, but OBJECT_STORE_BACKEND=s3 needs it",
        ],
    );
}

#[test]
fn an_unreadable_file_ends_with_78() {
    let dir = tempfile::tempdir().unwrap();
    // A directory cannot be read as a file, not even by root.
    let (code, _, stderr) = run(check()
        .arg("--config")
        .arg(dir.path())
        .env("S3_BUCKET", "b"));
    assert_eq!(code, 78);
    contains_all(&stderr, &["--config = ", "cannot be read", "fix: "]);
}

#[test]
fn a_wrong_type_in_the_file_ends_with_78() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    fs::write(&file, "[s3]\nbucket = \"b\"\n").unwrap();
    let (code, _, stderr) = run(check().arg("--config").arg(&file).env("S3_BUCKET", "b"));
    assert_eq!(code, 78);
    contains_all(&stderr, &["s3 (s3 in ", "there is no such option"]);
    fs::write(&file, "max_concurrent = 1.5\n").unwrap();
    let (code, _, stderr) = run(check().arg("--config").arg(&file).env("S3_BUCKET", "b"));
    assert_eq!(code, 78);
    contains_all(&stderr, &["a number with a fraction cannot be the value"]);
}

#[test]
fn running_with_a_wrong_configuration_ends_with_78() {
    let (code, _, stderr) = run(program().arg("run"));
    assert_eq!(code, 78);
    contains_all(&stderr, &["S3_BUCKET"]);
}

#[test]
fn print_shows_values_and_their_sources() {
    let (code, stdout, _) = run(print("table")
        .env("S3_BUCKET", "snapshots-eu")
        .env("CHRONIK_SNAPSHOT_LOG_THRESHOLD", "7")
        .args(["--listen", "unix:/run/s.sock"]));
    assert_eq!(code, 0);
    let line = |key: &str| {
        let line = stdout.lines().find(|line| line.starts_with(key));
        line.unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let environment = "environment variable";
    assert_eq!(
        line("LOG_THRESHOLD "),
        format!("LOG_THRESHOLD 7 {environment} CHRONIK_SNAPSHOT_LOG_THRESHOLD")
    );
    assert_eq!(
        line("S3_BUCKET "),
        format!("S3_BUCKET snapshots-eu {environment} S3_BUCKET")
    );
    assert_eq!(line("LISTEN "), "LISTEN unix:/run/s.sock flag --listen");
    assert_eq!(line("MAX_CONCURRENT "), "MAX_CONCURRENT 2 default");
}

#[test]
fn print_masks_secrets_in_both_forms() {
    for form in ["table", "json"] {
        let (code, stdout, stderr) = run(print(form)
            .env("S3_BUCKET", "b")
            .env("S3_ACCESS_KEY", "hunter2")
            .env("CHRONIK_SNAPSHOT_S3_SECRET_KEY", "hunter2"));
        assert_eq!(code, 0, "{stderr}");
        assert!(!stdout.contains("hunter2") && !stderr.contains("hunter2"));
        contains_all(&stdout, &["S3_SECRET_KEY", "********"]);
    }
}

#[test]
fn print_as_json_is_one_array_of_all_options() {
    let (code, stdout, _) = run(print("json").args(["--s3-bucket", "b"]));
    assert_eq!(code, 0);
    let settings: Vec<serde_json::Value> = serde_json::from_str(&stdout).unwrap();
    let bucket = settings.iter().find(|s| s["key"] == "S3_BUCKET").unwrap();
    assert_eq!(bucket["value"], "b");
    assert_eq!(bucket["source"]["kind"], "flag");
    assert_eq!(bucket["source"]["name"], "--s3-bucket");
    let unset = settings.iter().find(|s| s["key"] == "GCS_BUCKET").unwrap();
    assert!(unset["value"].is_null());
}

#[test]
fn print_shows_a_wrong_configuration_and_still_ends_with_78() {
    let (code, stdout, stderr) = run(print("table").env("CHRONIK_SNAPSHOT_LOG_THRESHOLD", "x"));
    assert_eq!(code, 78);
    contains_all(&stdout, &["LOG_THRESHOLD"]);
    contains_all(&stderr, &["not a whole number"]);
}

#[test]
fn a_secret_is_not_taken_from_the_command_line() {
    let (code, stdout, stderr) = run(print("table")
        .env("S3_BUCKET", "b")
        .args(["--set", "S3_SECRET_KEY=hunter2"]));
    assert_eq!(code, 78);
    contains_all(
        &stderr,
        &["S3_SECRET_KEY (flag --set S3_SECRET_KEY)", "_FILE"],
    );
    assert!(!stdout.contains("hunter2") && !stderr.contains("hunter2"));
}

#[test]
fn an_environment_file_has_every_option_and_changes_nothing() {
    let (code, stdout, stderr) = run(program().args(["config", "env"]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    contains_all(
        &stdout,
        &[
            "#CHRONIK_SNAPSHOT_LOG_THRESHOLD=10000\n",
            "#CHRONIK_SNAPSHOT_S3_BUCKET=\n",
            "#CHRONIK_SNAPSHOT_S3_SECRET_KEY_FILE=\n",
            "# Proven snapshots kept of each life of each partition.",
        ],
    );
    for line in stdout.lines() {
        assert!(line.is_empty() || line.starts_with('#'), "{line}");
    }
}

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, stdout, _) = run(program().args(["completions", shell]));
        assert_eq!(code, 0);
        contains_all(
            &stdout,
            &["chronik-snapshotd", "quarantine", "restore-cluster"],
        );
    }
    let (code, _, _) = run(program().args(["completions", "tcsh"]));
    assert_eq!(code, 2);
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man");
    let (code, stdout, stderr) = run(program().arg("man").arg(&pages));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", ""));
    for page in ["", "-run", "-status", "-list", "-doctor", "-config-print"] {
        let page = fs::read_to_string(pages.join(format!("chronik-snapshotd{page}.1"))).unwrap();
        contains_all(&page, &[".TH chronik-snapshotd", ".SH NAME"]);
    }
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let (code, _, stderr) = run(program().arg("man").arg(&file));
    assert_eq!(code, 1);
    contains_all(&stderr, &["choose a directory"]);
}
