"""A small Hugging Face Hub: repositories in memory, with the endpoints that uploading and downloading need."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_secretOfTheTests"
ROUTE = r"(?:/api/models)?/([\w-]+/[\w-]+)(?:\.git/info/lfs/objects)?(?:/(\w[\w-]*)(?:/(.*))?)?"


@dataclass
class Repository:
    """Files by path at each commit, the newest last."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        newest = self.commits[[*self.commits][-1]] if self.commits else {}
        name = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[name] = newest | files
        return name

    def resolve(self, revision: str) -> str | None:
        if revision == "main":
            return [*self.commits][-1] if self.commits else "0" * 40
        return revision if revision in self.commits else None


@dataclass
class Hub:
    """What the server holds, and how it misbehaves.

    Attributes:
        requests: method and path of each.
        damaged: send other bytes of the same number in the place of weights.
        cuts: how many downloads of weights end after half of their bytes.
        refuses: answer uploads of weights with an error.
        status: answer everything with this status.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    damaged: bool = False
    cuts: int = 0
    refuses: bool = False
    status: int | None = None
    url: str = ""

    def downloads(self) -> set[str]:
        """The files that were downloaded, whatever their commit."""
        return {match[1] for request in self.requests if (match := re.fullmatch(r"GET .*/resolve/\w+/(.*)", request))}


def is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".jpg"))


def entry(path: str, data: bytes) -> dict[str, Any]:
    found = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
    if is_large(path):
        found["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return found


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, value: Any = None, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status: int, code: str = "") -> None:
        self.answer({"error": code}, status, {"X-Error-Code": code} if code else None)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def handle_any(self) -> None:
        body = self.body()
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.hub.status:
            return self.refuse(self.hub.status)
        if self.headers.get("Authorization") and not known:
            return self.answer({}, 401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(body), known)
        if path.startswith("/objects/"):
            return self.store(path.removeprefix("/objects/"), body)
        match = re.fullmatch(ROUTE, path)
        repository = self.hub.repositories.get(match[1]) if match else None
        if not match or not repository or (repository.private and not known):
            return self.refuse(404 if known else 401, "RepoNotFound")
        kind, rest = match[2] or "info", match[3] or ""
        revision, _, file = rest.partition("/")
        if kind in ("batch", "preupload", "commit") and not known:
            return self.refuse(403)
        if kind == "batch":
            return self.batch(json.loads(body))
        commit = repository.resolve(revision or "main")
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        files = repository.commits.get(commit, {})
        match kind:
            case "revision" | "info":
                siblings = [{"rfilename": name} for name in files]
                return self.answer({"id": match[1], "sha": commit, "private": repository.private, "siblings": siblings})
            case "tree":
                return self.answer([entry(name, data) for name, data in files.items()])
            case "paths-info":
                wanted = parse_qs(body.decode())["paths"]
                return self.answer([entry(name, files[name]) for name in wanted if name in files])
            case "resolve":
                return self.resolve(commit, file, files)
            case "preupload":
                asked = json.loads(body)["files"]
                modes = [
                    {
                        "path": one["path"],
                        "uploadMode": "lfs" if is_large(one["path"]) else "regular",
                        "shouldIgnore": False,
                    }
                    for one in asked
                ]
                return self.answer({"files": modes})
            case "commit":
                return self.commit(match[1], repository, body)
        return self.refuse(404)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def create(self, asked: dict[str, Any], known: bool) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if not known:
            return self.refuse(401)
        if asked["organization"] != "owner":
            return self.refuse(403)
        if name in self.hub.repositories:
            return self.refuse(409)
        private = asked.get("private", False) or asked.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private)
        return self.answer({"url": f"{self.hub.url}/{name}"})

    def batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.url}/objects/{one['oid']}"}}} for one in asked["objects"]
        ]
        self.answer({"transfer": "basic", "objects": objects})

    def store(self, oid: str, body: bytes) -> None:
        if self.hub.refuses or hashlib.sha256(body).hexdigest() != oid:
            return self.refuse(400)
        self.hub.objects[oid] = body
        return self.answer({})

    def commit(self, name: str, repository: Repository, body: bytes) -> None:
        files = {}
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        commit = repository.commit(files)
        self.answer({"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/{name}/commit/{commit}"})

    def resolve(self, commit: str, path: str, files: dict[str, bytes]) -> None:
        if path not in files:
            return self.refuse(404, "EntryNotFound")
        data = files[path]
        found = entry(path, data)
        etag = found.get("lfs", found)["oid"]
        if self.hub.damaged and is_large(path):
            data = bytes(len(data))
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if "lfs" in found:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        start = 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        status = 206 if start else 200
        if self.command == "GET" and is_large(path) and self.hub.cuts:
            self.hub.cuts -= 1
            self.send_response(status)
            for key, text in {"Content-Length": str(len(data) - start), **headers}.items():
                self.send_header(key, text)
            self.end_headers()
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.close_connection = True
            return None
        return self.answer(data[start:], status, headers)


@contextmanager
def serving_hub() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
