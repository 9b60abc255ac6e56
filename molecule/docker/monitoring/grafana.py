#!/usr/bin/python3
"""Reads what Grafana reads at its start, writes where it writes, and answers as it does."""

from __future__ import annotations

import base64
import configparser
import json
import os
import re
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def read(name: str) -> str:
    """A value of a setting: itself, or what is in the file that it names."""
    return re.sub(r"\$__file\{(.*)\}", lambda found: Path(found[1]).read_text(), name)


settings = configparser.ConfigParser(interpolation=None)
with Path(os.environ["GF_PATHS_CONFIG"]).open() as file:
    settings.read_file(file)
security, server = settings["security"], settings["server"]
login = f"{security['admin_user']}:{read(security['admin_password'])}"
allowed = "Basic " + base64.b64encode(login.encode()).decode()

# Dashboards are where the provider says, which is YAML: a line of it is enough to find them.
provisioning = Path(os.environ["GF_PATHS_PROVISIONING"])  # which wins over the settings
source = (provisioning / "datasources/pickbox.yml").read_text()
provider = (provisioning / "dashboards/pickbox.yml").read_text()
(directory,) = re.findall(r'path: "(.+)"', provider)
dashboards = [json.loads(path.read_text()) for path in Path(directory).glob("*.json")]
Path(os.environ["GF_PATHS_DATA"], "grafana.db").touch()


class Handler(BaseHTTPRequestHandler):
    """What the role asks, and the titles of the dashboards that were found."""

    def do_GET(self) -> None:
        status = {"/api/health": 200}.get(self.path, 404)
        if self.path in {"/api/user", "/api/search"}:
            status = 200 if self.headers.get("Authorization") == allowed else 401
        self.send_response(status)
        self.end_headers()
        if status == 200:
            self.wfile.write(json.dumps([{"title": one["title"]} for one in dashboards]).encode())


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
assert "prometheus" in source
ThreadingHTTPServer((server["http_addr"], int(server["http_port"])), Handler).serve_forever()
