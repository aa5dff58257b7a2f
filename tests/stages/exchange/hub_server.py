"""A small stand-in for the hub: its HTTP API for model repositories, as huggingface_hub asks it, in memory.

Files that end in .st or .parquet are stored as large files (git LFS), all others in the commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

TOKEN = "hf_of_the_tests"
LICENCES = ("mit", "apache-2.0")


@dataclass
class Repo:
    private: bool = False
    # the commits, oldest first: SHA-1 and the files
    history: list[tuple[str, dict[str, bytes]]] = field(default_factory=lambda: [("0" * 40, {})])
    messages: list[str] = field(default_factory=list)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.history[-1]
        return next((commit for commit in self.history if commit[0] == revision), None)

    def commit(self, files: dict[str, bytes], message: str = "") -> str:
        digest = hashlib.sha1(repr((len(self.history), sorted(files.items()))).encode()).hexdigest()
        self.history.append((digest, files))
        self.messages.append(message)
        return digest


@dataclass
class Hub:
    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    # method and path of every request
    asked: list[tuple[str, str]] = field(default_factory=list)
    # what every request is answered with, instead of an answer
    broken: int | None = None

    def add(self, name: str, files: dict[str, bytes]) -> str:
        """A repository with these files, or a commit to it that replaces all its files."""
        return self.repos.setdefault(name, Repo()).commit(files)

    def files(self, name: str) -> dict[str, bytes]:
        return self.repos[name].history[-1][1]


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def connected(cache: Path) -> Iterator[Hub]:
    """A stand-in that huggingface_hub asks in this process, logged in, with an empty cache; uploads are not split (xet)."""
    with serving() as hub, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}")
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
        patch.setenv("HF_TOKEN", TOKEN)
        patch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        yield hub


class _Answers(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        path, _, _ = self.path.partition("?")
        self.hub.asked.append((self.command, path))
        if self.hub.broken is not None:
            return self._send(self.hub.broken)
        for method, pattern, answer in (
            ("POST", r"/api/repos/create", self._create),
            ("POST", r"/api/validate-yaml", self._validate),
            ("POST", r"/api/models/(\S+/\S+)/preupload/(\S+)", self._preupload),
            ("POST", r"/api/models/(\S+/\S+)/commit/(\S+)", self._commit),
            ("POST", r"/(\S+/\S+)\.git/info/lfs/objects/batch", self._batch),
            ("PUT", r"/large/(\w+)", self._put),
            ("GET", r"/api/models/([^/]+/[^/]+)(?:/revision/(\S+))?", self._info),
            ("HEAD", r"/([^/]+/[^/]+)/resolve/([^/]+)/(\S+)", self._resolve),
            ("GET", r"/([^/]+/[^/]+)/resolve/([^/]+)/(\S+)", self._resolve),
        ):
            found = re.fullmatch(pattern, path)
            if method == self.command and found:
                may = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                if method == "POST" and answer != self._validate and not may:
                    return self._send(401, error="Invalid username or password.")
                return answer(body, *found.groups())
        return self._send(404)

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815

    def _chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, value: Any = None, error: str = "", data: bytes | None = None, **headers: str) -> None:
        data = json.dumps({"error": error} if value is None else value).encode() if data is None else data
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _repo(self, name: str) -> Repo | None:
        """The repository, if there is one that may be seen; else the answer is sent."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            self._send(404 if repo is None else 401, error="Repository not found", X_Error_Code="RepoNotFound")
            return None
        return repo

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repos:
            return self._send(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
        self.hub.repos[name] = Repo(asked.get("visibility") == "private" or bool(asked.get("private")))
        return self._send(200, {"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def _validate(self, body: bytes) -> None:
        licence = re.search(r"^license: (\S+)$", json.loads(body)["content"], flags=re.MULTILINE)
        if licence is None or licence[1] not in LICENCES:
            errors = [{"message": f'"license" must be one of {", ".join(LICENCES)}'}]
            return self._send(400, {"errors": errors, "warnings": []})
        return self._send(200, {"errors": [], "warnings": []})

    def _preupload(self, body: bytes, name: str, revision: str) -> None:
        if self._repo(name) is not None:
            names = [one["path"] for one in json.loads(body)["files"]]
            modes = ["lfs" if path.endswith((".st", ".parquet")) else "regular" for path in names]
            files = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in zip(names, modes, strict=True)]
            self._send(200, {"files": files})

    def _batch(self, body: bytes, name: str) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.url}/large/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def _put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self._send(400)
        self.hub.large[oid] = body
        return self._send(200)

    def _commit(self, body: bytes, name: str, revision: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        files, message = dict(repo.history[-1][1]), ""
        for line in body.splitlines():
            key, value = (json.loads(line)[part] for part in ("key", "value"))
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        oid = repo.commit(files, message)
        self._send(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})

    def _info(self, body: bytes, name: str, revision: str | None) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        found = repo.at(revision or "main")
        if found is None:
            self._send(404, error="Invalid rev id", X_Error_Code="RevisionNotFound")
            return
        siblings = [{"rfilename": path} for path in sorted(found[1])]
        self._send(200, {"id": name, "modelId": name, "sha": found[0], "private": repo.private, "siblings": siblings})

    def _resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        found = repo.at(revision)
        if found is None:
            self._send(404, error="Invalid rev id", X_Error_Code="RevisionNotFound")
        elif path not in found[1]:
            self._send(404, error="Entry not found", X_Error_Code="EntryNotFound", X_Repo_Commit=found[0])
        else:
            data = found[1][path]
            self._send(200, data=data, X_Repo_Commit=found[0], ETag=f'"{hashlib.sha256(data).hexdigest()}"')
