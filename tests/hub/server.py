"""A model hub and a file server on loopback, which answer what huggingface_hub and datasets ask.

Repositories are folders: `models/ORG/NAME`, `datasets/ORG/NAME`, and `models/ORG/NAME@v1` for another
revision of it. Plain files are below `files/`, found as GitHub's `raw` addresses are, by a redirect. The
server is its own proxy too: a request whose line holds a whole address is answered as that host would.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

USER, TOKEN = "tester", "hf_loopback"
LARGE = (".safetensors", ".parquet", ".bin")
POINTER_BYTES = 134
REPOSITORY = r"(?P<id>[\w-][\w.-]*/[\w-][\w.-]*?)"
KIND = r"(?P<kind>model|dataset)s"
REVISION = r"(?P<revision>[^/]+)"


@dataclass(frozen=True)
class Asked:
    """One request: `path` is without host and query, `host` the one it was meant for."""

    method: str
    path: str
    host: str
    proxied: bool
    token: str | None


@dataclass
class Hub:
    """The server, its content and what it was asked.

    `gated` repositories need the token; `private` are those that were made so. `faults` maps the end of a
    path to what goes wrong there: an HTTP status, `truncated`, or `a web page`.
    """

    root: Path
    endpoint: str = ""
    gated: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    faults: dict[str, HTTPStatus | str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def repository(self, kind: str, repository: str, revision: str = "main") -> Path | None:
        """The folder of a revision, named by branch, tag or commit; None where there is none."""
        folder = self.root / f"{kind}s" / repository
        others = [folder, *folder.parent.glob(f"{folder.name}@*")]
        for candidate in filter(Path.is_dir, others):
            _, _, name = candidate.name.partition("@")
            if revision in (name or "main", commit(candidate)):
                return candidate
        return None

    def downloaded(self) -> list[str]:
        """The paths of the files that were sent, not merely looked at."""
        return [
            asked.path
            for asked in self.asked
            if asked.method == "GET" and ("/resolve/" in asked.path or asked.path.startswith("/media/"))
        ]


@contextmanager
def serve(root: Path) -> Iterator[Hub]:
    """A hub of what is below `root`, on a free port of loopback, until the block ends."""
    hub = Hub(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def commit(folder: Path) -> str:
    """A folder's commit: a hash of its content."""
    digest = hashlib.sha1()
    for path in contents(folder):
        digest.update(f"{path}\0{blob_id((folder / path).read_bytes())}\n".encode())
    return digest.hexdigest()


def contents(folder: Path) -> list[str]:
    """The paths of the files below `folder`, sorted."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def blob_id(data: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest()


def tree_entry(folder: Path, path: str) -> dict[str, Any]:
    """What the hub says of a file or a folder."""
    if (folder / path).is_dir():
        return {"type": "directory", "path": path, "oid": blob_id(path.encode())}
    data = (folder / path).read_bytes()
    entry: dict[str, Any] = {"type": "file", "path": path, "oid": blob_id(data), "size": len(data)}
    if path.endswith(LARGE):
        oid = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": oid, "size": len(data), "pointerSize": POINTER_BYTES}
    return entry


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: HTTPStatus, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Handler(BaseHTTPRequestHandler):
    """One request. `hub` is set by `serve`."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing on stderr: `Hub.asked` is the log."""

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def answer(self) -> None:
        """Note the request, and send what the first matching route gives."""
        address = urlsplit(self.path)
        self.query, self.body = parse_qs(address.query), self.read_body()
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        host = address.netloc or self.headers.get("Host", "")
        asked = Asked(self.command, unquote(address.path), host, bool(address.netloc), token)
        self.token = token
        self.hub.asked.append(asked)
        try:
            for method, pattern, route in ROUTES:
                match = re.fullmatch(pattern, address.path)
                if match and self.command in method.split():
                    fault = self.fault()
                    if isinstance(fault, HTTPStatus):
                        raise Refused(fault, fault.phrase)
                    route(self, **{name: unquote(value or "") for name, value in match.groupdict().items()})
                    return
            raise Refused(HTTPStatus.NOT_FOUND, f"no such address: {asked.path}")
        except Refused as error:
            named = {"X-Error-Code": error.code} if error.code else {}
            headers = {"X-Error-Message": str(error), **named}
            self.send(json.dumps({"error": str(error)}).encode(), headers, error.status)

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def fault(self) -> HTTPStatus | str | None:
        """What is to go wrong with this request."""
        path = unquote(urlsplit(self.path).path)
        return next((fault for end, fault in self.hub.faults.items() if path.endswith(end)), None)

    def send(
        self, data: bytes, headers: dict[str, str] | None = None, status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.fault() == "truncated" and status == HTTPStatus.OK:
            data, self.close_connection = data[: len(data) // 2], True
        if self.command != "HEAD":
            self.wfile.write(data)

    def send_json(self, content: Any) -> None:
        self.send(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def send_file(self, data: bytes, headers: dict[str, str]) -> None:
        """The file, or the part of it that the `Range` header asks for."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None:
            self.send(data, {"Accept-Ranges": "bytes", **headers})
            return
        first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
        place = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        self.send(data[first : last + 1], {**place, **headers}, HTTPStatus.PARTIAL_CONTENT)

    def opened(self, kind: str, repository: str, revision: str) -> Path:
        """The folder of a revision that this request may read."""
        if self.hub.repository(kind, repository) is None:
            raise Refused(HTTPStatus.NOT_FOUND, "Repository not found", "RepoNotFound")
        if repository in self.hub.gated and self.token != TOKEN:
            status = HTTPStatus.FORBIDDEN if self.token else HTTPStatus.UNAUTHORIZED
            raise Refused(status, f"Access to {kind} {repository} is restricted.", "GatedRepo")
        folder = self.hub.repository(kind, repository, revision)
        if folder is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"Invalid rev id: {revision}", "RevisionNotFound")
        return folder

    def writable(self, kind: str, repository: str) -> Path:
        """The folder that this request may write to."""
        self.check_token()
        return self.opened(kind, repository, "main")

    def check_token(self) -> None:
        if self.token != TOKEN:
            raise Refused(HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header")

    def information(self, kind: str, id: str, revision: str = "main") -> None:  # noqa: A002
        folder = self.opened(kind, id, revision or "main")
        files = [{"rfilename": path} for path in contents(folder)]
        gated = "manual" if id in self.hub.gated else False
        sha = commit(folder)
        self.send_json({"id": id, "sha": sha, "siblings": files, "gated": gated, "private": False})

    def tree(self, kind: str, id: str, revision: str, path: str) -> None:  # noqa: A002
        folder = self.opened(kind, id, revision)
        inside = folder / path
        if not inside.is_dir():
            raise Refused(HTTPStatus.NOT_FOUND, f"{path} does not exist", "EntryNotFound")
        deep = self.query.get("recursive", ["false"])[0].lower() == "true"
        found = sorted(inside.rglob("*") if deep else inside.iterdir())
        self.send_json([tree_entry(folder, str(item.relative_to(folder))) for item in found])

    def paths_info(self, kind: str, id: str, revision: str) -> None:  # noqa: A002
        folder = self.opened(kind, id, revision)
        paths = parse_qs(self.body.decode()).get("paths", [])
        self.send_json([tree_entry(folder, path) for path in paths if (folder / path).exists()])

    def resolve(self, kind: str, id: str, revision: str, path: str) -> None:  # noqa: A002
        folder = self.opened(kind.removesuffix("s/") or "model", id, revision)
        if not (folder / path).is_file():
            raise Refused(HTTPStatus.NOT_FOUND, "Entry not found", "EntryNotFound")
        entry = tree_entry(folder, path)
        headers = {"X-Repo-Commit": commit(folder), "ETag": f'"{entry["oid"]}"'}
        if "lfs" in entry:
            headers |= {"X-Linked-ETag": f'"{entry["lfs"]["oid"]}"', "X-Linked-Size": str(entry["size"])}
        self.send_file((folder / path).read_bytes(), headers)

    def raw(self, owner: str, name: str, path: str) -> None:
        self.send(b"", {"Location": f"/media/{owner}/{name}/{path}"}, HTTPStatus.FOUND)

    def media(self, path: str) -> None:
        file = self.hub.root / "files" / path
        if not file.is_file():
            raise Refused(HTTPStatus.NOT_FOUND, "Not Found")
        kind = "html" if self.fault() == "a web page" else "plain"
        self.send_file(file.read_bytes(), {"Content-Type": f"text/{kind}; charset=utf-8"})

    def whoami(self) -> None:
        self.check_token()
        self.send_json({"type": "user", "name": USER, "orgs": [], "auth": {"type": "access_token"}})

    def create(self) -> None:
        self.check_token()
        asked = json.loads(self.body)
        repository = f"{asked.get('organization') or USER}/{asked['name']}"
        kind = asked.get("type") or "model"
        prefix = "datasets/" if kind == "dataset" else ""
        content = json.dumps({"url": f"{self.hub.endpoint}/{prefix}{repository}", "name": repository})
        exists = self.hub.repository(kind, repository) is not None
        if asked.get("visibility") == "private":
            self.hub.private.add(repository)
        (self.hub.root / f"{kind}s" / repository).mkdir(parents=True, exist_ok=True)
        self.send(content.encode(), status=HTTPStatus.CONFLICT if exists else HTTPStatus.OK)

    def validate_yaml(self) -> None:
        self.send_json({"errors": [], "warnings": []})

    def preupload(self, kind: str, id: str, revision: str) -> None:  # noqa: A002
        self.writable(kind, id)
        paths = [file["path"] for file in json.loads(self.body)["files"]]
        modes = {path: "lfs" if path.endswith(LARGE) else "regular" for path in paths}
        self.send_json({"files": [{"path": p, "uploadMode": modes[p], "shouldIgnore": False} for p in paths]})

    def lfs_batch(self, kind: str, id: str) -> None:  # noqa: A002
        self.writable(kind.removesuffix("s/") or "model", id)
        objects = [
            {**wanted, "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{wanted['oid']}"}}}
            for wanted in json.loads(self.body)["objects"]
        ]
        self.send_json({"transfer": "basic", "objects": objects})

    def lfs_upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refused(HTTPStatus.BAD_REQUEST, "not what was announced")
        store = self.hub.root / "lfs"
        store.mkdir(exist_ok=True)
        (store / oid).write_bytes(self.body)
        self.send(b"")

    def commit(self, kind: str, id: str, revision: str) -> None:  # noqa: A002
        folder = self.writable(kind, id)
        for line in self.body.splitlines():
            step = json.loads(line)
            value = step["value"]
            if step["key"] == "header":
                continue
            file = folder / value["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            if step["key"] == "file":
                file.write_bytes(base64.b64decode(value["content"]))
            elif step["key"] == "lfsFile":
                file.write_bytes((self.hub.root / "lfs" / value["oid"]).read_bytes())
            elif step["key"] == "deletedFile":
                file.unlink()
            else:
                raise Refused(HTTPStatus.BAD_REQUEST, f"unknown operation {step['key']}")
        oid = commit(folder)
        url = f"{self.hub.endpoint}/{'datasets/' if kind == 'dataset' else ''}{id}/commit/{oid}"
        self.send_json({"commitUrl": url, "commitOid": oid, "pullRequestUrl": None, "success": True})


PREFIX = r"(?P<kind>datasets/)?"
ROUTES: tuple[tuple[str, str, Callable[..., None]], ...] = (
    ("GET", rf"/api/{KIND}/{REPOSITORY}(?:/revision/{REVISION})?", Handler.information),
    ("GET", rf"/api/{KIND}/{REPOSITORY}/tree/{REVISION}/?(?P<path>.*)", Handler.tree),
    ("POST", rf"/api/{KIND}/{REPOSITORY}/paths-info/{REVISION}", Handler.paths_info),
    ("GET HEAD", rf"/{PREFIX}{REPOSITORY}/resolve/{REVISION}/(?P<path>.+)", Handler.resolve),
    ("GET", r"/(?P<owner>[^/]+)/(?P<name>[^/]+)/raw/(?P<path>.+)", Handler.raw),
    ("GET", r"/media/(?P<path>.+)", Handler.media),
    ("GET", r"/api/whoami-v2", Handler.whoami),
    ("POST", r"/api/repos/create", Handler.create),
    ("POST", r"/api/validate-yaml", Handler.validate_yaml),
    ("POST", rf"/api/{KIND}/{REPOSITORY}/preupload/{REVISION}", Handler.preupload),
    ("POST", rf"/{PREFIX}{REPOSITORY}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", Handler.lfs_upload),
    ("POST", rf"/api/{KIND}/{REPOSITORY}/commit/{REVISION}", Handler.commit),
)
