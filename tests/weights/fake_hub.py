"""A Hugging Face hub in miniature, for tests without a network.

It knows just what downloads and uploads of `huggingface_hub` ask for. Files live in memory as
`repos[repo][revision][path]`; every request is noted in `requests`.
"""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


def commit_of(revision: str) -> str:
    """A made-up commit id, one per branch."""
    return hashlib.sha1(revision.encode()).hexdigest()


class FakeHub(ThreadingHTTPServer):
    """The server's state."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.gated: set[str] = set()
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, repo: str, files: dict[str, bytes], *, revision: str = "main") -> None:
        """Publish files on a branch; they are reachable by its commit too."""
        revisions = self.repos.setdefault(repo, {})
        revisions[revision] = revisions[commit_of(revision)] = files


class Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("length", str(len(body))))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, content: object) -> None:
        self.answer(200, json.dumps(content).encode(), Content_Type="application/json")

    def do_HEAD(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.requests.append(f"{self.command} {path}")
        repo, _, rest = path.partition("/resolve/")
        revision, _, name = rest.partition("/")
        revisions = self.server.repos.get(repo)
        if revisions is None:
            return self.answer(404, X_Error_Code="RepoNotFound")
        if repo in self.server.gated:
            return self.answer(403, X_Error_Code="GatedRepo")
        if revision not in revisions:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        commit = revision if len(revision) == 40 else commit_of(revision)
        if name not in revisions[revision]:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        body = revisions[revision][name]
        etag = f'"{hashlib.sha1(body).hexdigest()}"'
        return self.answer(200, body, ETag=etag, X_Repo_Commit=commit)

    def do_GET(self) -> None:
        self.do_HEAD()

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = path.split("/")
        if path == "api/repos/create":
            name = json.loads(body)["name"]
            repo = f"{json.loads(body).get('organization') or 'me'}/{name}"
            self.server.repos.setdefault(repo, {"main": {}})
            return self.answer_json({"url": f"{self.server.url}/{repo}", "name": repo})
        repo, action, revision = "/".join(parts[2:4]), parts[4], parts[5]
        if action == "branch":
            self.server.repos[repo].setdefault(revision, {})
            return self.answer_json({})
        if action == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [
                {"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names
            ]
            return self.answer_json({"files": files})
        assert action == "commit", path
        files_here = self.server.repos[repo].setdefault(revision, {})
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                value = entry["value"]
                files_here[value["path"]] = base64.b64decode(value["content"])
        commit = commit_of(revision)
        self.server.repos[repo][commit] = files_here
        return self.answer_json(
            {"commitUrl": f"{self.server.url}/{repo}/commit/{commit}", "commitOid": commit}
        )


@contextlib.contextmanager
def running_hub() -> Iterator[FakeHub]:
    """Serve in a thread for the time of the block."""
    hub = FakeHub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
