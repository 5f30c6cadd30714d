"""Every check is tried on something that is wrong. Run by scripts/check-docs.py before the checks themselves."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from . import book, commands, links, names, texts
from .markdown import Page, heading_slug, table_cells

ROOT = Path(__file__).resolve().parent.parent.parent
CLI = """
#[derive(Debug, Subcommand)]
enum Command {
    /// Runs { and more }.
    Run {
        #[command(flatten)]
        config: ConfigArgs,
    },
    RestoreCluster {
        #[arg(long, value_name = "CODE", value_parser = ["a", "b"])]
        #[allow(unused)]
        confirm: Option<String>,
    },
    #[command(name = "cat")]
    Print,
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    Snapshot(SnapshotCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    Check {
        #[arg(long = "only-this")]
        only: bool,
        #[arg(short)]
        quiet: bool,
    },
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum SnapshotCommand {
    List,
}
"""
RUST = r'''
//! Not "a text of a comment at all".
#[error(
    "the store {key:?} has {found_bytes} bytes; \
     look at it"
)]
const QUOTE: char = '"';
const RAW: &str = r#"raw "text" of the program"#;
fn f<'a>() { warn!("visit failed"); g("held") }
#[cfg(test)]
mod tests {
    const T: &str = "only a test says this";
}
'''


class Scratch(unittest.TestCase):
    """Tests that need files."""

    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.root = Path(holder.name).resolve()

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


class Links(Scratch):
    def faults(self, text, name="page.md"):
        return list(links.check(self.root, [self.write(name, text)]))

    def test_what_is_there_is_found(self):
        self.write("other.md", "# A `b` *c*, d_e!\n\n## Twice\n\n## Twice\n\n<a id=\"by-hand\"></a>\n")
        self.write("folder/file.txt", "")
        good = "[a](other.md) [b](other.md#a-b-c-d_e) [c](other.md#twice-1) [d](folder) [e](folder/file.txt)\n"
        good += "[f](#here) [g](other.md#by-hand) [h](https://example.com/x) `[no](link.md)`\n\n# Here\n\n"
        good += "```\n[no](link.md)\n```\n"
        self.assertEqual(self.faults(good), [])

    def test_what_is_not_there_is_told(self):
        self.write("other.md", "# One\n\n```\n# No heading\n```\n")
        bad = ["[a](gone.md)", "[a](other.md#two)", "[a](other.md#no-heading)", "[a](#nowhere)", "![a](gone.png)",
               "[a]: gone.md", "[a](../outside.md)", "[a [b]](gone.md)", "<a href=\"gone.md\">a</a>", "[`a`](gone.md)",
               "[a](Other.md)"]
        for text in bad:
            self.assertEqual(len(self.faults(text)), 1, text)

    def test_no_page_at_all_is_told(self):
        self.assertNotEqual(list(links.check(self.root, [])), [])


class Book(Scratch):
    def test_a_page_that_is_not_listed_or_twice_is_told(self):
        self.write("docs/SUMMARY.md", "- [A](A.md)\n- [A](A.md)\n")
        self.write("docs/A.md", "")
        self.write("docs/adr/B.md", "")
        self.assertEqual(len(list(book.summary(self.root))), 2)

    def test_dead_links_in_pages_are_told(self):
        good = '<h1 id="x">a</h1><a href="b.html">b</a><a href="#x">x</a><a href="https://a.b">c</a>'
        self.write("book/index.html", good)
        self.write("book/b.html", "<p>b</p>")
        self.assertEqual(list(book.dead_links(self.root / "book")), [])
        for bad in ("gone.html", "b.html#y", "#y", "../out.html", "gone.png"):
            self.write("book/index.html", f'<a href="{bad}">a</a>')
            self.assertEqual(len(list(book.dead_links(self.root / "book"))), 1, bad)
        self.assertNotEqual(list(book.dead_links(self.root / "nothing")), [])

    def test_a_link_that_the_book_has_lost_is_told(self):
        self.write("docs/SUMMARY.md", "[A](../README.md)\n\n- [B](B.md)\n")
        self.write("docs/B.md", "[up](../README.md#a) [out](../src/x.rs)\n")
        self.write("README.md", "# A\n\n[b](docs/B.md)\n")
        self.write("book/index.html", '<a href="B.html">b</a>')
        self.write("book/B.html", '<a href="index.html#a">up</a>')
        self.assertEqual(list(book.lost_links(self.root, self.root / "book")), [])
        self.write("book/index.html", "b (docs/B.md)")
        self.assertEqual(len(list(book.lost_links(self.root, self.root / "book"))), 1)

    def test_a_book_that_does_not_build_is_told(self):
        for code, said in ((1, ""), (0, " WARN something"), (0, "2026 [ERROR] something")):
            tool = self.write("mdbook", f"#!/bin/sh\necho '{said}'\nexit {code}\n")
            tool.chmod(0o755)
            self.assertEqual(len(list(book.build(self.root, tool))), 1, said)


class Names(Scratch):
    CONFIGURATION = "| Key | Values |\n|---|---|\n| `LOG_THRESHOLD` | number |\n| `S3_BUCKET` | text |\n"
    CONFIGURATION += "| `S3_SECRET_KEY` | secret |\n"
    METRICS = "| Name | Type |\n|---|---|\n| `up` | gauge |\n| `wait_seconds` | histogram |\n| `up` | `label` |\n"

    def faults(self, text):
        self.write("docs/CONFIGURATION.md", self.CONFIGURATION)
        self.write("docs/METRICS.md", self.METRICS)
        proto = "service Admin {\n  rpc Get(A) returns (B);\n}\nenum MyReason {\n  MY_REASON_BAD_LUCK = 0;\n}\n"
        self.write("proto/a.proto", proto)
        return list(names.check(self.root, [self.write("docs/PAGE.md", text)]))

    def test_known_names_are_found(self):
        good = "CHRONIK_SNAPSHOT_LOG_THRESHOLD, S3_BUCKET, S3_SECRET_KEY_FILE, `S3_*`, `CHRONIK_SNAPSHOT_*`, "
        good += "`LOG_THRESHOLD=5`, `BAD_LUCK`, `AWS_REGION`, chronik_snapshot_up, chronik_snapshotd, "
        good += "chronik_snapshot_wait_seconds_bucket, chronik.snapshot.v1.Admin/Get\n"
        self.assertEqual(self.faults(good), [])

    def test_unknown_names_are_told(self):
        bad = ["CHRONIK_SNAPSHOT_LOG_TRESHOLD", "S3_BUKET", "S3_BUCKET_FILE", "`LOG_TRESHOLD`", "`LOG_TRESHOLD=5`",
               "chronik_snapshot_down", "chronik_snapshot_up_bucket", "chronik.snapshot.v1.Admin/Put",
               "```\nCHRONIK_SNAPSHOT_NOPE=1\n```"]
        for text in bad:
            self.assertEqual(len(self.faults(text)), 1, text)

    def test_a_reference_without_a_table_is_told(self):
        self.assertRaises(ValueError, names.options, "nothing")
        self.assertRaises(ValueError, names.metrics, "nothing")
        self.assertRaises(ValueError, names.protocol, self.root)


class Texts(Scratch):
    def faults(self, cell, header="Text"):
        self.write("src/a.rs", RUST)
        self.write("src/tests.rs", 'const X: &str = "said by a file of tests";')
        page = self.write("docs/T.md", f"| {header} | Means |\n|---|---|\n| {cell} | x |\n")
        return list(texts.check(self.root, page))

    def test_texts_of_the_program_are_found(self):
        good = ['`the store "{key}" has {n} bytes; look at it`', "`has {n} bytes; look at it`",
                '`raw "text" of the program`', "`visit failed`", "`held`"]
        for cell in [*good, ", ".join(good)]:
            self.assertEqual(self.faults(cell), [], cell)

    def test_other_texts_are_told(self):
        bad = ["`the store {key} had {n} bytes`", "`eld`", "`visit`", "`a text of a comment at all`",
               "`only a test says this`",
               "`said by a file of tests`", "no quotation", "`the store {key} has 5 bytes; look at it`"]
        for cell in bad:
            self.assertEqual(len(self.faults(cell)), 1, cell)

    def test_a_page_that_quotes_nothing_is_told(self):
        self.assertEqual(len(self.faults("`nonsense`", header="Message")), 1)

    def test_lines_of_a_marked_fence_are_quotations(self):
        self.write("src/a.rs", RUST)
        page = self.write("docs/T.md", "```text error\nvisit failed\nvisit succeeded\n```\n")
        self.assertEqual(len(list(texts.check(self.root, page))), 1)

    def test_what_is_not_quoted_is_listed(self):
        self.write("src/a.rs", RUST)
        page = self.write("docs/T.md", "| Text |\n|---|\n| `visit failed` |\n")
        self.assertEqual(len(list(texts.unquoted(self.root, page))), 1)


class Commands(Scratch):
    def faults(self, text, language="sh"):
        self.write("src/cli/mod.rs", CLI)
        self.write("Makefile", "all: x\n\tfalse\ndocs-check:\n")
        return list(commands.check(self.root, [self.write("page.md", f"```{language}\n{text}\n```\n")]))

    def test_commands_that_exist_are_found(self):
        good = ["chronik-snapshotd run", "chronik-snapshotd config check --only-this",
                "A=b sudo chronik-snapshotd cat | head",
                "target/release/chronik-snapshotd restore-cluster \\\n  --confirm x", "chronik-snapshotd --version",
                "cargo test -p chronik-snapshotd", "make docs-check X=1", "systemctl restart chronik-snapshotd",
                "chronik-snapshotd snapshot list", "curl -s 'http://a/b?c=d&e' # chronik-snapshotd nope"]
        for text in good:
            self.assertEqual(self.faults(text), [], text)

    def test_commands_that_do_not_exist_are_told(self):
        bad = ["chronik-snapshotd nope", "chronik-snapshotd config", "chronik-snapshotd config nope",
               "chronik-snapshotd print", "chronik-snapshotd run --nope", "true && chronik-snapshotd nope",
               "X=1 chronik-snapshotd nope", "chronik-snapshotd", "chronik-snapshotd restore-cluster \\\n  --confrm x",
               "chronik-snapshotd run --quiet", "make nope",
               "chronik-snapshotd snapshot nope"]
        for text in bad:
            self.assertEqual(len(self.faults(text)), 1, text)

    def test_no_fence_at_all_is_told(self):
        self.assertEqual(len(self.faults("chronik-snapshotd run", language="text")), 1)

    def test_sources_without_subcommands_are_told(self):
        self.assertRaises(ValueError, commands.Cli, ["fn main() {}"])


class Markdown(unittest.TestCase):
    def test_the_parts_of_a_page(self):
        page = Page("p", "`a` ``b ` c``\n\n~~~ sh\n`no`\n~~~\n| H | x |\n|---|---|\n| `c|`| y |\n")
        self.assertEqual([text for text, _ in page.code_spans()][:2], ["a", "b ` c"])
        self.assertEqual(page.fences, [("sh", "`no`", 4)])
        self.assertEqual(table_cells("| a \\| b | c |"), ["a | b", "c"])
        self.assertEqual(heading_slug("`a_b` [link](x.md), **c** -- d"), "a_b-link-c----d")

    def test_a_fence_without_an_end_is_told(self):
        self.assertRaises(ValueError, Page, "p", "```\n")


class Reference(unittest.TestCase):
    def test_the_reference_is_checked_against_the_files(self):
        original = ROOT / "scripts/proto-reference.py"
        with tempfile.TemporaryDirectory() as holder:
            copy = Path(holder)
            for name in ("proto", "docs", "scripts"):
                (copy / name).mkdir()
            folder = copy / "proto/chronik/snapshot/v1"
            folder.mkdir(parents=True)
            for path in (ROOT / "proto/chronik/snapshot/v1").glob("*.proto"):
                (folder / path.name).write_bytes(path.read_bytes())
            (copy / "scripts/proto-reference.py").write_bytes(original.read_bytes())

            def run(*arguments):
                program = [sys.executable, str(copy / "scripts/proto-reference.py"), *arguments]
                return subprocess.run(program, capture_output=True, check=False).returncode

            self.assertEqual(run("--check"), 1, "no page")
            self.assertEqual((run(), run("--check")), (0, 0))
            admin = folder / "admin.proto"
            text = admin.read_text(encoding="utf-8")
            broken = {
                "another comment": text.replace("// The process.", "// A process.", 1),
                "no comment": text.replace("  // The process.\n", "", 1),
                "an unknown type": text.replace("uint32 page_size", "uint33 page_size", 1),
                "a line that is not understood": text.replace("uint32 page_size", "map<int32, int32> page_size", 1),
                "no end": text.rstrip().removesuffix("}"),
            }
            for name, change in broken.items():
                self.assertNotEqual(change, text, name)
                admin.write_text(change, encoding="utf-8")
                self.assertEqual(run("--check"), 1, name)
            admin.write_text(text, encoding="utf-8")
            self.assertEqual(run("--check"), 0)
            (folder / "new.proto").write_text('syntax = "proto3";\n', encoding="utf-8")
            self.assertEqual(run("--check"), 1, "a file that the page does not have")
