"""`doctor` against each S3 server of `STORE`: what it says is what that server is known to do."""

import json
import subprocess

from stores import BUCKET

# Conditional writes: a second writer is refused, or replaces the object without a word.
CONDITIONS_HONOURED = {"s3s-fs": True, "moto": True, "garage": False}
# Where a bucket that does not exist is one that a write makes.
BUCKETS_APPEAR = {"s3s-fs"}


def doctor(world, exit_code, **settings):
    """Its findings by check."""
    sidecar = world.cluster.nodes[0].sidecar_process
    done = subprocess.run(
        [sidecar.command[0], "doctor", "--output", "json"],
        env=sidecar.environment | settings,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == exit_code, done
    findings = json.loads(done.stdout)["findings"]
    for finding in findings:
        if finding["level"] != "ok":
            assert finding["consequence"] and finding["fix"], finding
    return {finding["check"]: finding for finding in findings}


def test_doctor_knows_what_the_server_does(world):
    findings = doctor(world, 0)
    # Nobody may have claimed it yet.
    assert findings["identity"]["level"] in ("ok", "warning"), findings["identity"]
    for check in ("reachable", "protocol", "put", "get", "range", "head", "list", "clock", "delete"):
        assert findings[check]["level"] == "ok", findings[check]
    for check in ("multipart", "multipart abort", "content checksum"):
        assert findings[check]["level"] == "ok", findings[check]
    create = findings["conditional create"]
    if CONDITIONS_HONOURED[world.server.name]:
        assert (create["level"], create["detail"].split(":")[0]) == ("ok", "honoured"), create
    else:
        assert (create["level"], create["detail"].split(":")[0]) == ("warning", "silently ignored"), create
    assert world.bucket.list("@doctor/") == {}


def test_doctor_reads_what_the_bucket_does_by_itself(world):
    settings = world.bucket.s3
    if world.server.name != "moto":
        # They tell neither.
        findings = doctor(world, 0)
        assert findings["versioning"]["level"] in ("ok", "unknown"), findings["versioning"]
        assert findings["lifecycle"]["level"] in ("unknown", "warning"), findings["lifecycle"]
        return
    findings = doctor(world, 0)
    assert (findings["versioning"]["level"], findings["lifecycle"]["level"]) == ("ok", "warning"), findings
    settings.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    rule = {"ID": "ours", "Status": "Enabled", "Filter": {"Prefix": ""}}
    abort = rule | {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}}
    try:
        settings.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": [abort]})
        findings = doctor(world, 0)
        assert (findings["versioning"]["level"], findings["lifecycle"]["level"]) == ("warning", "ok"), findings
        rules = [abort | {"NoncurrentVersionExpiration": {"NoncurrentDays": 3}}, rule | {"ID": "old", "Expiration": {"Days": 30}}]
        settings.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": rules})
        findings = doctor(world, 1)
        assert (findings["versioning"]["level"], findings["lifecycle"]["level"]) == ("ok", "error"), findings
        assert '"old"' in findings["lifecycle"]["detail"], findings
    finally:
        settings.delete_bucket_lifecycle(Bucket=BUCKET)
        settings.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})


def test_doctor_names_a_bucket_that_is_not_there(world):
    findings = doctor(world, 1, S3_BUCKET=f"{BUCKET}-missing")
    assert findings["identity"]["level"] == "error", findings["identity"]
    if world.server.name not in BUCKETS_APPEAR:
        assert findings["put"]["level"] == "error", findings["put"]
        assert "create the bucket" in findings["put"]["fix"], findings["put"]
        # Nothing is said of a bucket that is not there.
        for check in ("versioning", "lifecycle"):
            assert findings[check]["level"] == "unknown", findings[check]


def test_doctor_names_keys_that_are_not_accepted(world):
    if world.server.name == "moto":
        # It verifies no signatures.
        assert doctor(world, 0, S3_SECRET_KEY="another")["put"]["level"] == "ok"
        return
    findings = doctor(world, 1, S3_SECRET_KEY="another")
    for check, permission in (("put", "s3:PutObject"), ("list", "s3:ListBucket"), ("delete", "s3:DeleteObject")):
        assert findings[check]["level"] == "error", findings[check]
        assert permission in findings[check]["fix"], findings[check]
