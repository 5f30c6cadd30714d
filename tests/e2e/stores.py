"""Real S3 servers, each a process on loopback: what the sidecars are told of it, and a boto3 client for the tests."""

import json
import os
import pathlib
import secrets
import subprocess
import urllib.request

import boto3
import botocore.config

from processes import Process, free_port, wait_until

# Short: s3s-fs keeps each object's metadata in a file whose name holds bucket and key in base64, 255 bytes at most.
BUCKET = "e2e"
REGION = "us-east-1"


class Server:
    """An S3 server. `settings` are the variables of a sidecar that is to use it."""

    name = "?"

    def __init__(self, base):
        self.base = base
        self.port = free_port()
        self.access_key = "GK" + secrets.token_hex(12)
        self.secret_key = secrets.token_hex(32)
        self.process = None

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self):
        return {
            "OBJECT_STORE_BACKEND": "s3",
            "S3_BUCKET": BUCKET,
            "S3_REGION": REGION,
            "S3_ENDPOINT": self.endpoint,
            "S3_ACCESS_KEY": self.access_key,
            "S3_SECRET_KEY": self.secret_key,
            "S3_PATH_STYLE": "true",
            "S3_DISABLE_SSL": "true",
            "S3_PREFIX": "snapshots/",
        }

    def client(self):
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=botocore.config.Config(
                s3={"addressing_style": "path"},
                connect_timeout=5,
                read_timeout=30,
                retries={"max_attempts": 3},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def start(self):
        raise NotImplementedError

    def stop(self):
        self.process.kill()

    def _run(self, command, env=None):
        self.process = Process(self.name, command, self.base / "logs" / f"{self.name}.log", env)
        self.process.start()

    def _wait_for_answers(self):
        client = self.client()

        def listed():
            self.process.check()
            try:
                client.list_objects_v2(Bucket=BUCKET)
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
                raise AssertionError(error) from error
            return True

        wait_until(f"answers of {self.name}", listed, 30, self.process.tail)


class S3sFs(Server):
    """s3s-fs behind the project's own `s3-server`: checks signatures and checksums."""

    name = "s3s-fs"

    def __init__(self, base, binaries):
        super().__init__(base)
        self.binaries = binaries

    def start(self):
        self._run(
            [
                self.binaries / "s3-server",
                f"--dir={self.base / 's3s-fs'}",
                f"--bucket={BUCKET}",
                f"--listen=127.0.0.1:{self.port}",
                f"--access-key={self.access_key}",
                f"--secret-key={self.secret_key}",
            ]
        )
        self._wait_for_answers()


class Moto(Server):
    """moto: conditional writes are atomic, nothing is verified."""

    name = "moto"

    def __init__(self, base, scripts):
        super().__init__(base)
        self.scripts = scripts

    def start(self):
        self._run([self.scripts / "moto_server", "-H", "127.0.0.1", "-p", self.port])

        def up():
            self.process.check()
            return urllib.request.urlopen(self.endpoint, timeout=2).status

        wait_until("moto's port", up, 60, self.process.tail)
        self.client().create_bucket(Bucket=BUCKET)
        self._wait_for_answers()


class Garage(Server):
    """Garage: durable and distributed; ignores conditions."""

    name = "garage"

    def __init__(self, base):
        super().__init__(base)
        self.program = os.environ.get("GARAGE", "garage")
        self.rpc_port = free_port()
        self.admin_port = free_port()
        self.config = pathlib.Path(base) / "garage.toml"

    def start(self):
        self.config.write_text(
            f"""
metadata_dir = {json.dumps(str(self.base / "garage" / "meta"))}
data_dir = {json.dumps(str(self.base / "garage" / "data"))}
db_engine = "lmdb"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{self.rpc_port}"
rpc_public_addr = "127.0.0.1:{self.rpc_port}"
rpc_secret = "{secrets.token_hex(32)}"
[s3_api]
s3_region = "{REGION}"
api_bind_addr = "127.0.0.1:{self.port}"
[admin]
api_bind_addr = "127.0.0.1:{self.admin_port}"
"""
        )
        self._run([self.program, "-c", self.config, "server"])
        node = wait_until("garage's node id", self._node_id, 30, self.process.tail)
        assign = ("layout", "assign", "-z", "here", "-c", "10G", node)
        wait_until("garage's own answers", lambda: self._garage(*assign) or True, 30, self.process.tail)
        self._garage("layout", "apply", "--version", "1")
        self._garage("key", "import", "--yes", self.access_key, self.secret_key)
        self._garage("bucket", "create", BUCKET)
        self._garage("bucket", "allow", "--read", "--write", "--owner", BUCKET, "--key", self.access_key)
        self._wait_for_answers()

    def _node_id(self):
        self.process.check()
        return self._garage("node", "id", "-q").split("@")[0]

    def _garage(self, *words):
        command = [self.program, "-c", str(self.config), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"garage {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()
