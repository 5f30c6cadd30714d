"""The bucket as a stranger sees it: names, sizes, checksums, contents read with stock tools and docs/FORMAT.md."""

import json
import re
import subprocess
import zlib

import xxhash

SNAPSHOT_ID = r"(?P<index>\d{20})-(?P<term>\d{20})-(?P<lineage>[0-9a-f]{8})-(?P<uuid>[0-9a-f-]{36})"
OBJECT = re.compile(
    rf"(?P<id>{SNAPSHOT_ID})\.(?P<kind>snap|\d+\.snap|manifest\.json|verified\.json|quarantined\.json"
    rf"|(\d+\.)?snap\.deleting-[0-9a-f-]{{36}})"
)
DECODERS = {"gzip": ["gunzip", "-c"], "zstd": ["zstd", "-dc"]}


def checked_json(data):
    """The content of a manifest, proof, identity or mark, after its checksum line was compared."""
    content, checksum, rest = data.split(b"\n")
    assert rest == b"", "bytes after the checksum line"
    checksum = json.loads(checksum)
    assert checksum == {"crc32": f"{zlib.crc32(content):08x}", "len_bytes": len(content)}
    return json.loads(content)


def decode(codec, stored):
    """What the codec's own tool makes of it."""
    if codec not in DECODERS:
        return stored
    return subprocess.run(DECODERS[codec], input=stored, capture_output=True, check=True).stdout


class Bucket:
    def __init__(self, server, bucket, prefix="snapshots/"):
        self.server = server
        self.s3 = server.client()
        self.bucket = bucket
        self.prefix = prefix

    def list(self, under=""):
        """Sizes of all objects by their names below the prefix."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + under)
        return {
            found["Key"].removeprefix(self.prefix): found["Size"]
            for page in pages
            for found in page.get("Contents", [])
        }

    def get(self, name):
        return self.s3.get_object(Bucket=self.bucket, Key=self.prefix + name)["Body"].read()

    def put(self, name, data):
        self.s3.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=data)

    def folder(self, topic, partition):
        """Names by snapshot id and kind; fails on a name that docs/FORMAT.md does not know."""
        folder = f"{topic}/{partition}/"
        snapshots = {}
        for name in self.list(folder):
            match = OBJECT.fullmatch(name.removeprefix(folder))
            assert match, f"a stranger in {folder}: {name}"
            snapshots.setdefault(match["id"], {})[match["kind"]] = name
        return snapshots

    def proven(self, topic, partition):
        """Ids of committed and proven snapshots, newest last."""
        return sorted(
            each
            for each, kinds in self.folder(topic, partition).items()
            if {"snap", "manifest.json", "verified.json"} <= set(kinds) and "quarantined.json" not in kinds
        )

    def manifest(self, topic, partition, snapshot_id):
        return checked_json(self.get(f"{topic}/{partition}/{snapshot_id}.manifest.json"))

    def verify(self, topic, partition, snapshot_id):
        """Checks one snapshot byte by byte, without a line of the program. Returns its manifest."""
        folder = f"{topic}/{partition}/"
        manifest = self.manifest(topic, partition, snapshot_id)
        proof = checked_json(self.get(f"{folder}{snapshot_id}.verified.json"))
        assert manifest["format_version"] == 1
        assert manifest["partition"] == {"topic": topic, "partition": partition}
        own = f"{snapshot_id}.snap"
        assert manifest["references"][0] == own
        assert (manifest["references"] == [own]) == (manifest["increment"] == 0)
        index, term = (int(number) for number in snapshot_id.split("-")[:2])
        assert manifest["last_included"] == {"index": index, "term": term}
        assert proof["snapshot_id"] == snapshot_id
        written = self.get(f"{folder}{snapshot_id}.manifest.json")
        assert proof["manifest_digest"] == xxhash.xxh3_128_hexdigest(written)
        sizes = self.list(folder)
        files = [self.get(folder + name) for name in manifest["references"]]
        assert [sizes[folder + name] for name in manifest["references"]] == [len(data) for data in files]
        proven = {each["name"]: each["size_bytes"] for each in proof["objects"]}
        assert proven == {name: len(data) for name, data in zip(manifest["references"], files)}

        whole = b""
        for part in manifest["parts"]:
            digest = part["digest"]
            pieces = []
            for block in part["blocks"]:
                begin = block["offset_bytes"]
                pieces.append(files[block["file"]][begin : begin + block["stored_len_bytes"]])
                assert f"{zlib.crc32(pieces[-1]):08x}" == block["crc32"], part["part_id"]
            # Blocks one after another are a file that the stock tools read.
            data = decode(manifest["codec"], b"".join(pieces))
            assert digest == {
                "size_bytes": len(data),
                "crc32": f"{zlib.crc32(data):08x}",
                "xxh3_128": xxhash.xxh3_128_hexdigest(data),
            }, part["part_id"]
            whole += data
        if manifest["increment"] == 0:
            assert decode(manifest["codec"], files[0]) == whole
        return manifest
