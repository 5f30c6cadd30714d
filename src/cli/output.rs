//! How results look: tables and JSON on standard output, everything else on standard error.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::ExitStatus;

/// Grows when a document changes in a way that its readers notice. docs/CLI.md describes this one.
const SCHEMA_VERSION: u32 = 1;

/// How to show a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Aligned columns, for people.
    Table,
    /// One document, for programs.
    Json,
}

#[derive(Serialize)]
struct Document<'a, T> {
    schema_version: u32,
    #[serde(flatten)]
    content: &'a T,
}

/// A result as one JSON document.
pub(super) fn print_json(content: &impl Serialize) -> ExitStatus {
    let document = Document {
        schema_version: SCHEMA_VERSION,
        content,
    };
    match serde_json::to_string_pretty(&document) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => {
            eprintln!("the result could not be written as JSON: {error}");
            ExitStatus::Failure
        }
    }
}

/// Writes a command's result. A reader that went away is a failure, not a panic.
pub(super) fn print(text: &str) -> ExitStatus {
    print_bytes(text.as_bytes())
}

/// The same of bytes.
pub(super) fn print_bytes(bytes: &[u8]) -> ExitStatus {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => ExitStatus::Ok,
        Err(_) => ExitStatus::Failure,
    }
}

/// Columns two spaces apart, without borders and trailing blanks: what is copied from it is clean.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header)
        .add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

/// What stands for nothing in a cell.
pub(super) fn dash() -> String {
    "-".to_owned()
}

/// Bytes in the unit that people read.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Two units are enough to judge by.
pub(super) fn age(age: Duration) -> String {
    let secs = age.as_secs();
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// A moment as `2026-11-29T02:08:45Z`.
pub(super) fn moment(unix_ms: i64) -> String {
    let secs = unix_ms.div_euclid(1000);
    let (days, of_day) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day since 1970-01-01, Gregorian. Years are counted from March, so leap days come last.
const fn civil(days: i64) -> (i64, i64, i64) {
    let since_era = days + 719_468;
    let (era, of_era) = (since_era.div_euclid(146_097), since_era.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_off_the_calendar() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(-1), "1969-12-31T23:59:59Z");
        assert_eq!(moment(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(moment(1_795_000_000_000), "2026-11-18T11:06:40Z");
        assert_eq!(moment(4_107_542_400_000), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn sizes_never_show_four_digits_of_a_unit() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size((1 << 20) - 1), "1.0 MiB");
        assert_eq!(size(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn tables_have_no_borders_and_no_trailing_blanks() {
        let rows = [
            ["a".to_owned(), dash()],
            ["long".to_owned(), "x y".to_owned()],
        ];
        assert_eq!(table(["A", "B"], rows), "A     B\na     -\nlong  x y\n");
    }
}
