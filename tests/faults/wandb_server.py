"""As much of W&B's server as a run needs, on loopback; it can be switched off."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = {
    "id": "b",
    "name": "NAME",
    "displayName": "NAME",
    "description": "",
    "config": "{}",
    "sweepName": None,
    "historyLineCount": 0,
    "project": {"id": "p", "name": "neuro_ssl", "entity": {"id": "e", "name": "e"}},
}
ANSWERS = {  # by a word of the query
    "RunResumeStatus": {"model": {"id": "p", "name": "neuro_ssl", "entity": {"id": "e", "name": "e"}, "bucket": None}},
    "UpsertBucket": {"upsertBucket": {"bucket": BUCKET, "inserted": True}},
    "Viewer": {"viewer": {"id": "u", "entity": "e", "username": "u", "flags": "{}", "teams": {"edges": []}}},
    "ServerInfo": {"serverInfo": {"cliVersionInfo": {"max_cli_version": "0.99.0"}, "latestLocalVersionInfo": None}},
    "OrganizationCoreWeaveOrganizationID": {"entity": {"organization": {"coreWeaveOrganizationId": ""}}},
    "CreateArtifact (": {
        "createArtifact": {
            "artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": {"id": "s", "latestArtifact": None}}
        }
    },
    "UseArtifact (": {"useArtifact": {"artifact": {"id": "a"}}},
}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode(errors="replace")
        self.server.asked.append((self.path, body))
        if self.path.endswith("graphql"):
            name = json.loads(body).get("variables", {}).get("name", "")
            data = next((answer for word, answer in ANSWERS.items() if word in body), {})
            if "errors" in data:
                self.answer(data)
                return
            self.answer({"data": json.loads(json.dumps(data).replace("NAME", name))})
        else:
            self.answer({"limits": {}})

    def do_GET(self):
        self.server.asked.append((self.path, ""))
        self.answer({})

    def do_PUT(self):
        self.do_POST()

    def answer(self, content):
        content = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


class WandbServer:
    """Answers from its start to `off`."""

    def __init__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.asked = self.asked = []
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def off(self):
        """From now on connections are refused."""
        self._server.shutdown()
        self._server.server_close()
