"""deploy/s3: the policy allows what is needed and nothing else, and no rule of the bucket can expire a snapshot."""

import json
import re
from pathlib import Path

import jsonschema

from .common import Collected, Faults, text_of

ACTIONS = {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListBucket"}

STATEMENT = {
    "type": "object",
    "required": ["Sid", "Effect", "Action", "Resource"],
    "additionalProperties": False,
    "properties": {
        "Sid": {"type": "string", "pattern": "^[A-Za-z0-9]+$"},
        "Effect": {"const": "Allow"},
        "Action": {"anyOf": [{"enum": sorted(ACTIONS)}, {"type": "array", "minItems": 1, "items": {"enum": sorted(ACTIONS)}}]},
        "Resource": {"type": "string", "pattern": r"^arn:aws:s3:::[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9/_.-]+/\*)?$"},
        "Condition": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {
                "StringLikeIfExists": {
                    "type": "object",
                    "required": ["s3:prefix"],
                    "additionalProperties": False,
                    "properties": {"s3:prefix": {"type": "string", "pattern": r"/\*$"}},
                }
            },
        },
    },
}
POLICY = {
    "type": "object",
    "required": ["Version", "Statement"],
    "additionalProperties": False,
    "properties": {
        "Version": {"const": "2012-10-17"},
        "Statement": {"type": "array", "minItems": 2, "maxItems": 2, "items": STATEMENT},
    },
}
# Neither Expiration nor Transition has a place here.
LIFECYCLE = {
    "type": "object",
    "required": ["Rules"],
    "additionalProperties": False,
    "properties": {
        "Rules": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["ID", "Status", "Filter", "AbortIncompleteMultipartUpload"],
                "additionalProperties": False,
                "properties": {
                    "ID": {"type": "string", "minLength": 1, "maxLength": 255},
                    "Status": {"const": "Enabled"},
                    "Filter": {
                        "type": "object",
                        "required": ["Prefix"],
                        "additionalProperties": False,
                        "properties": {"Prefix": {"type": "string", "pattern": "/$"}},
                    },
                    "AbortIncompleteMultipartUpload": {
                        "type": "object",
                        "required": ["DaysAfterInitiation"],
                        "additionalProperties": False,
                        "properties": {"DaysAfterInitiation": {"type": "integer", "minimum": 1}},
                    },
                },
            },
        }
    },
}


def load(found, path, schema):
    try:
        document = json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise Faults([f"{path.name}: {error}"]) from error
    for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
        found.add(f"{path.name}: {'/'.join(map(str, error.absolute_path))}: {error.message[:200]}")
    found.done()
    return document


def actions_of(statement):
    actions = statement["Action"]
    return {actions} if isinstance(actions, str) else set(actions)


def check(root):
    source = Path(root, "deploy/s3")
    found = Collected()
    policy = load(found, source / "iam-policy.json", POLICY)
    lifecycle = load(found, source / "lifecycle.json", LIFECYCLE)
    by_resource = {"/" in statement["Resource"]: statement for statement in policy["Statement"]}
    if set(by_resource) != {True, False}:
        raise Faults(["iam-policy.json: one statement is for the bucket, one for the objects below the prefix"])
    objects, bucket = by_resource[True], by_resource[False]
    found.expect(actions_of(objects) == ACTIONS - {"s3:ListBucket"}, "iam-policy.json: the objects' actions are not the four")
    found.expect(actions_of(bucket) == {"s3:ListBucket"}, "iam-policy.json: the bucket's action is s3:ListBucket alone")
    found.expect("Condition" not in objects, "iam-policy.json: s3:prefix is not known to requests for objects")
    prefix = objects["Resource"].removeprefix(bucket["Resource"] + "/")
    listed = bucket.get("Condition", {}).get("StringLikeIfExists", {}).get("s3:prefix")
    found.expect(listed == prefix, f"iam-policy.json: listings are allowed below {listed}, objects below {prefix}")
    aborted = lifecycle["Rules"][0]["Filter"]["Prefix"] + "*"
    found.expect(aborted == prefix, f"lifecycle.json: the rule is for {aborted}, the objects are below {prefix}")
    default = re.search(r"\| `S3_PREFIX` \| \S+ \|  \| `([^`]+)` \|", text_of(Path(root, "docs/CONFIGURATION.md")))
    found.expect(default and default[1] + "*" == prefix, "deploy/s3: the prefix is not the default of S3_PREFIX")
    readme = text_of(source / "README.md")
    for action in sorted(ACTIONS):
        found.expect(f"| `{action}` |" in readme, f"README.md: {action} is not explained")
    found.done()
    return f"policy with {len(ACTIONS)} actions below {prefix}, and one rule for uploads that were never completed"
