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

    def verify(self, topic, partition, snapshot_id):
        """Checks one snapshot byte by byte, without a line of the program. Returns its manifest."""
        folder = f"{topic}/{partition}/"
        manifest = checked_json(self.get(f"{folder}{snapshot_id}.manifest.json"))
        proof = checked_json(self.get(f"{folder}{snapshot_id}.verified.json"))
        assert manifest["format_version"] == 1
        assert manifest["partition"] == {"topic": topic, "partition": partition}
        assert manifest["references"] == [f"{snapshot_id}.snap"]
        index, term = (int(number) for number in snapshot_id.split("-")[:2])
        assert manifest["last_included"] == {"index": index, "term": term}
        assert proof["snapshot_id"] == snapshot_id
        written = self.get(f"{folder}{snapshot_id}.manifest.json")
        assert proof["manifest_digest"] == xxhash.xxh3_128_hexdigest(written)
        stored = self.get(f"{folder}{snapshot_id}.snap")
        assert self.list(folder)[f"{folder}{snapshot_id}.snap"] == len(stored)

        raw = stored
        if manifest["codec"] in DECODERS:
            decoded = subprocess.run(DECODERS[manifest["codec"]], input=stored, capture_output=True, check=True)
            raw = decoded.stdout
        at = 0
        for part in manifest["parts"]:
            digest = part["digest"]
            data = raw[at : at + digest["size_bytes"]]
            assert digest == {
                "size_bytes": len(data),
                "crc32": f"{zlib.crc32(data):08x}",
                "xxh3_128": xxhash.xxh3_128_hexdigest(data),
            }, part["part_id"]
            for block in part["blocks"]:
                begin = block["offset_bytes"]
                piece = stored[begin : begin + block["stored_len_bytes"]]
                assert f"{zlib.crc32(piece):08x}" == block["crc32"], part["part_id"]
            at += len(data)
        assert at == len(raw), "bytes that no part names"
        return manifest
