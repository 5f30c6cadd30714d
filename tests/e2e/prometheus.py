"""A real Prometheus that scrapes the sidecars."""

import json
import urllib.parse
import urllib.request

from processes import Process, free_port, wait_until

CONFIG = """
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: chronik-snapshotd
    static_configs:
      - targets: [{targets}]
"""


class Prometheus:
    def __init__(self, base, targets):
        self.port = free_port()
        config = base / "prometheus.yml"
        config.write_text(CONFIG.format(targets=", ".join(f'"{target}"' for target in targets)))
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={base / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        self.process = Process("prometheus", command, base / "logs" / "prometheus.log")

    def start(self):
        self.process.start()

        def ready():
            self.process.check()
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2).status == 200

        wait_until("prometheus", ready, 60, self.process.tail)

    def query(self, expression):
        """An instant query; a list of (labels, value)."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(url, timeout=10) as answer:
            told = json.load(answer)
        assert told["status"] == "success", told
        return [(row["metric"], float(row["value"][1])) for row in told["data"]["result"]]

    def value(self, expression):
        """The only value of an expression without labels; None where there is nothing yet."""
        rows = self.query(expression)
        assert len(rows) <= 1, rows
        return rows[0][1] if rows else None

    def stop(self):
        self.process.kill()
