"""A small Hub on loopback that answers huggingface_hub's real client as the Hub does, and fails as it is told to."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_for_these_tests"


@dataclass
class Repository:
    """Files by name, at one commit that is main's. access: "public", "private" or "gated".

    commits: main's and all before, which have the same files here. keeps_moving: main moves whenever it was asked for.
    """

    files: dict[str, bytes]
    access: str = "public"
    commit: str = ""
    commits: set[str] = field(default_factory=set)
    keeps_moving: bool = False

    def __post_init__(self) -> None:
        self.move()

    def commit_of(self, revision: str | None) -> str:
        """A commit is itself; any other revision is main's commit."""
        return revision if revision and revision in self.commits else self.commit

    def move(self) -> None:
        """main is now at the commit of these files."""
        digest = hashlib.sha1()
        for name, content in sorted(self.files.items()):
            digest.update(name.encode() + b"\0" + content)
        self.commit = digest.hexdigest()
        self.commits.add(self.commit)


@dataclass
class Hub:
    """The server's state. requests: what was asked, as "METHOD path" and the Range header, if any."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    cuts: dict[str, int] = field(default_factory=dict)  # how many downloads of a file to cut in the middle
    delays: dict[str, float] = field(default_factory=dict)  # seconds before a file's first bytes, once
    cards: list[str] = field(default_factory=list)  # the cards that were checked before an upload
    before_commit: Callable[[], None] | None = None  # runs when a commit arrives, before it is applied
    uploaded: dict[str, bytes] = field(default_factory=dict)  # large files by SHA-256, until a commit names them
    endpoint: str = ""
    content: str = ""  # where files are, which to a client must be another host than the endpoint

    def add_folder(self, name: str, folder: Path, access: str = "public") -> Repository:
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.repositories[name] = Repository(files, access)
        return self.repositories[name]

    def downloads(self) -> list[str]:
        """The names of the files whose content was asked for, each as often as it was."""
        found = (re.fullmatch(r"GET /cdn/[^/]+/[^/]+/[^/]+/(.+)", line) for line, _ in self.requests)
        return [match[1] for match in found if match]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        content = self._read()
        self.hub.requests.append((f"POST {path}", None))
        if path == "/api/validate-yaml":
            self._check_card(json.loads(content)["content"])
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._fail(401, None)
        elif path == "/api/repos/create":
            self._create(json.loads(content))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", path):
            large = (".onnx", ".data", ".npy")
            names = [file["path"] for file in json.loads(content)["files"]]
            modes = [
                {"path": name, "uploadMode": "lfs" if name.endswith(large) else "regular", "shouldIgnore": False}
                for name in names
            ]
            self._send_json({"files": modes}, body=True)
        elif re.fullmatch(r"/[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{each['oid']}"}}}
                for each in json.loads(content)["objects"]
            ]
            self._send_json({"transfer": "basic", "objects": objects}, body=True)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", path):
            self._commit(match[1], [json.loads(line) for line in content.splitlines()])
        else:
            self._fail(404, None)

    def do_PUT(self) -> None:
        content = self._read()
        self.hub.uploaded[self.path.rpartition("/")[2]] = content
        self._send_json({}, body=True)

    def _read(self) -> bytes:
        """The body of the request, whole or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _check_card(self, card: str) -> None:
        """As the Hub, which refuses a card whose front matter is not YAML or has values of other kinds."""
        self.hub.cards.append(card)
        try:
            front = yaml.safe_load(card.split("---")[1])
            kinds = {"license": str, "library_name": str, "pipeline_tag": str, "tags": list}
            wrong = [key for key, kind in kinds.items() if not isinstance(front.get(key), kind)]
        except (yaml.YAMLError, IndexError, AttributeError):
            wrong = ["front matter"]
        errors = [{"message": f"{key} is not valid"} for key in wrong]
        self._send_json({"errors": errors, "warnings": []}, body=True)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        if name in self.hub.repositories:
            self._fail(409, None)
            return
        private = asked.get("private") or asked.get("visibility") == "private"  # before huggingface_hub 1, and since
        access = "private" if private else "public"
        self.hub.repositories[name] = Repository({".gitattributes": b"*.onnx filter=lfs"}, access=access)
        self._send_json({"url": f"{self.hub.endpoint}/{name}", "name": name, "id": "0"}, body=True)

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        if self.hub.before_commit:
            self.hub.before_commit()
        repository = self.hub.repositories[name]
        parent = lines[0]["value"].get("parentCommit")
        if parent not in (None, repository.commit):
            self._fail(412, None)
            return
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.uploaded.pop(value["oid"])
            else:
                assert line["key"] == "deletedFile"
                del repository.files[value["path"]]
        repository.move()
        url = f"{self.hub.endpoint}/{name}/commit/{repository.commit}"
        self._send_json({"success": True, "commitOid": repository.commit, "commitUrl": url}, body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((f"{self.command} {path}", self.headers.get("Range")))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/(.+))?", path):
            if repository := self._repository(match[1], match[2]):
                self._send_json(self._information(match[1], repository, match[2]), body=body)
                if repository.keeps_moving:
                    repository.files["README.md"] = repository.commit.encode()
                    repository.move()
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(?:/.*)?", path):
            if repository := self._repository(match[1], match[2]):
                entries = [
                    {"type": "file", "path": name, "size": len(content), "oid": _etag(content)}
                    for name, content in repository.files.items()
                ]
                self._send_json(entries, body=body)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*match.groups(), body=body)
        elif match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            self._send_content(match[1], match[3], body=body)
        else:
            self._fail(404, None, body=body)

    def _repository(self, name: str, revision: str | None) -> Repository | None:
        repository = self.hub.repositories.get(name)
        signed_in = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.access == "private" and not signed_in):
            # The Hub does not tell strangers apart what is private and what does not exist.
            self._fail(401 if not signed_in else 404, "RepoNotFound")
        elif revision not in (None, "main", *repository.commits):
            self._fail(404, "RevisionNotFound")
        else:
            return repository
        return None

    def _information(self, name: str, repository: Repository, revision: str | None) -> dict[str, object]:
        return {
            "_id": "0",
            "id": name,
            "modelId": name,
            "sha": repository.commit_of(revision),
            "private": repository.access == "private",
            "gated": "auto" if repository.access == "gated" else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": file} for file in repository.files],
        }

    def _resolve(self, name: str, revision: str, file: str, *, body: bool) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        if repository.access == "gated" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._fail(401, "GatedRepo", body=body)
        elif file not in repository.files:
            self._fail(404, "EntryNotFound", body=body, commit=repository.commit_of(revision))
        else:
            content, commit = repository.files[file], repository.commit_of(revision)
            self.send_response(302)
            self.send_header("Location", f"{self.hub.content}/cdn/{name}/{commit}/{file}")
            self.send_header("X-Repo-Commit", commit)
            self.send_header("X-Linked-Etag", f'"{_etag(content)}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("ETag", f'"{_etag(content)}"')
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send_content(self, name: str, file: str, *, body: bool) -> None:
        content = self.hub.repositories[name].files[file]
        time.sleep(self.hub.delays.pop(file, 0))
        start = 0
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start = int(match[1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{_etag(content)}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if not body:
            return
        if self.hub.cuts.get(file, 0):
            self.hub.cuts[file] -= 1
            self.wfile.write(content[start : start + (len(content) - start) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(content[start:])

    def _send_json(self, value: object, *, body: bool) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _fail(self, status: int, code: str | None, *, body: bool = True, commit: str | None = None) -> None:
        content = json.dumps({"error": code or "not found"}).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(content)


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is not worth a line."""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serves the hub on a free port, in a thread."""
    with _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub})) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        hub.content = f"http://localhost:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()
