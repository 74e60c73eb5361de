"""A hub on loopback, in a thread: repositories with commits, buckets, files behind signed URLs, uploads as of git LFS.

It speaks what huggingface_hub 2.4 asks for, except for Xet, which tests turn off. It refuses what the hub refuses: no
token or a wrong one, unknown revisions, ranges past the end, a token sent to where files lie.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml

from tests.loopback_server import on_loopback

TOKEN = "hf_secret-token-of-the-tests"
#: What is in the URLs that it signs.
SIGNATURE = "0123-secret-signature"
#: Files of these kinds, and large ones, are kept as git LFS keeps them.
_LFS = (".parquet", ".bin", ".zst", ".gz")


@dataclass(frozen=True)
class Answer:
    """A response. body: bytes, or what becomes JSON."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """What the hub does not do."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.answer = Answer(status, b"", {"X-Error-Code": code, "X-Error-Message": message or code})


@dataclass
class Repository:
    """commits: files of each, by path; refs: the commit of each branch."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, changes: Mapping[str, bytes | None], branch: str = "main", message: str = "") -> str:
        """Add a commit to a branch and return its name."""
        files = {**self.commits.get(self.refs.get(branch, ""), {}), **changes}
        name = hashlib.sha1(f"{branch} {len(self.messages)} {message}".encode()).hexdigest()
        self.commits[name] = {path: content for path, content in files.items() if content is not None}
        self.refs[branch] = name
        self.messages.append(message)
        return name

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """The files of a revision."""
        commit = self.refs.get(revision, revision)
        if commit not in self.commits:
            raise RefusedError(404, "RevisionNotFound")
        return self.commits[commit]


@dataclass
class FakeHub:
    """What is on the hub, and what was asked of it.

    requests: `METHOD path`, without query; fault: what answers a request in place of the hub, if it does.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    buckets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    page: int = 3
    ranges: bool = True
    requests: list[str] = field(default_factory=list)
    fault: Callable[[str], Answer | None] = lambda request: None
    signature: int = 1
    uploaded: dict[str, bytes] = field(default_factory=dict)
    lock: Any = field(default_factory=Lock)

    def add(self, name: str, files: Mapping[str, bytes], **options: bool) -> Repository:
        """A repository, `datasets/OWNER/NAME` or `models/…`, with one commit."""
        self.repositories[name] = repository = Repository(**options)
        repository.commit({".gitattributes": b"*.parquet filter=lfs\n", **files}, message="first")
        return repository

    def expire_signatures(self) -> None:
        """Let URLs that were signed before lead nowhere."""
        self.signature += 1

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The response to a request."""
        parts = urlsplit(target)
        request = f"{method} {parts.path}"
        with self.lock:
            self.requests.append(request)
            fault = self.fault(request)
        if fault is not None:
            return fault
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        try:
            for pattern, handler in self._routes():
                if found := re.fullmatch(pattern, request, re.DOTALL):
                    given = {key: unquote(value or "") for key, value in found.groupdict().items()}
                    with self.lock:
                        answer: Answer = handler(self, query=query, headers=headers, body=body, **given)
                    return answer
        except RefusedError as refused:
            return refused.answer
        return Answer(501, f"the fake hub does not know {request}".encode())

    @staticmethod
    def _routes() -> list[tuple[str, Callable[..., Answer]]]:
        api, repo = r"/api/(?P<kind>datasets|models)/", r"(?P<name>[^/]+/[^/]+)"
        at = r"/(?P<prefix>datasets/)?(?P<name>[^/]+/[^/]+)"
        return [
            (f"GET {api}{repo}(?:/revision/(?P<revision>[^/]+))?", FakeHub._info),
            (f"GET {api}{repo}/auth-check", FakeHub._auth_check),
            (f"GET {api}{repo}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", FakeHub._tree),
            (f"POST {api}{repo}/preupload/(?P<revision>[^/]+)", FakeHub._preupload),
            (f"POST {api}{repo}/commit/(?P<revision>[^/]+)", FakeHub._commit),
            (f"POST {api}{repo}/branch/(?P<branch>[^/]+)", FakeHub._branch),
            ("POST /api/repos/create", FakeHub._create),
            ("POST /api/validate-yaml", FakeHub._validate),
            ("GET /api/whoami-v2", FakeHub._whoami),
            (f"GET /api/buckets/{repo}/tree(?:/(?P<path>.+))?", FakeHub._bucket_tree),
            (f"POST /api/buckets/{repo}/paths-info", FakeHub._bucket_paths),
            (f"(?P<method>HEAD|GET) /buckets/{repo}/resolve/(?P<path>.+)", FakeHub._bucket_file),
            (f"(?P<method>HEAD|GET) {at}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", FakeHub._file),
            (f"POST {at}.git/info/lfs/objects/batch", FakeHub._lfs_batch),
            ("GET /cdn/(?P<signature>[0-9]+)/(?P<oid>[0-9a-f]+)", FakeHub._bytes),
            ("PUT /lfs/(?P<oid>[0-9a-f]+)", FakeHub._lfs_put),
            ("POST /lfs/verify", FakeHub._lfs_verify),
        ]

    # Reading.

    def _known(self, headers: Mapping[str, str]) -> bool:
        """Whether a token was given; raises RefusedError for a wrong one."""
        given = headers.get("Authorization")
        if given is not None and given.removeprefix("Bearer ") not in self.tokens:
            raise RefusedError(401, "", "Invalid credentials in Authorization header")
        return given is not None

    def _repository(self, kind: str, name: str, headers: Mapping[str, str], write: bool = False) -> Repository:
        is_known, found = self._known(headers), self.repositories.get(f"{kind}/{name}")
        if found is None or (found.private and not is_known):
            raise RefusedError(404 if is_known else 401, "RepoNotFound")
        if write and not is_known:
            raise RefusedError(401, "", "Unauthorized")
        return found

    def _info(self, kind: str, name: str, revision: str, headers: Mapping[str, str], **_: Any) -> Answer:
        found = self._repository(kind, name, headers)
        found.files(revision or "main")
        sha = found.refs.get(revision or "main", revision)
        return Answer(body={"id": name, "sha": sha, "private": found.private, "gated": found.gated, "siblings": []})

    def _auth_check(self, kind: str, name: str, headers: Mapping[str, str], **_: Any) -> Answer:
        if self._repository(kind, name, headers).gated and not self._known(headers):
            raise RefusedError(401, "GatedRepo")
        return Answer()

    def _tree(
        self, kind: str, name: str, revision: str, path: str, query: Any, headers: Mapping[str, str], **_: Any
    ) -> Answer:
        files = self._repository(kind, name, headers).files(revision)
        inside = {file: content for file, content in files.items() if not path or file.startswith(f"{path}/")}
        if path and not inside:
            raise RefusedError(404, "EntryNotFound")
        folders = {"/".join(file.split("/")[:depth]) for file in inside for depth in range(1, file.count("/") + 1)}
        listed = [
            {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in folders if folder > path
        ]
        listed += [_described(file, content) for file, content in inside.items()]
        if query["recursive"].lower() != "true":
            listed = [each for each in listed if "/" not in each["path"][len(path) :].lstrip("/")]
        return self._page(f"/api/{kind}/{name}/tree/{revision.replace('/', '%2F')}/{path}".rstrip("/"), listed, query)

    def _page(self, path: str, listed: list[dict[str, Any]], query: Mapping[str, str]) -> Answer:
        start = int(query.get("cursor", 0))
        rest = sorted(listed, key=lambda each: str(each["path"]).encode())[start:]
        more = f'<{self.url}{path}?recursive={query["recursive"]}&cursor={start + self.page}>; rel="next"'
        return Answer(body=rest[: self.page], headers={"Link": more} if len(rest) > self.page else {})

    def _file(
        self, method: str, prefix: str, name: str, revision: str, path: str, headers: Mapping[str, str], **_: Any
    ) -> Answer:
        found = self._repository("datasets" if prefix else "models", name, headers)
        if found.gated and not self._known(headers):
            raise RefusedError(401, "GatedRepo")
        files = found.files(revision)
        if path not in files:
            raise RefusedError(404, "EntryNotFound")
        content, commit = files[path], found.refs.get(revision, revision)
        shown = {"X-Repo-Commit": commit, "ETag": f'"{_etag(path, content)}"'}
        if not _is_lfs(path, content):
            return _ranged(content, headers.get("Range") if self.ranges else None, shown, method == "HEAD")
        oid = hashlib.sha256(content).hexdigest()
        self.uploaded[oid] = content
        shown |= {
            "Location": f"{self.url.replace('127.0.0.1', 'localhost')}/cdn/{self.signature}/{oid}?Signature={SIGNATURE}"
        }
        return Answer(302, b"", {**shown, "X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{oid}"'})

    def _bytes(self, signature: str, oid: str, headers: Mapping[str, str], **_: Any) -> Answer:
        if "Authorization" in headers:
            raise RefusedError(400, "", "a token where none belongs")
        if int(signature) != self.signature:
            raise RefusedError(403, "", "the signature has expired")
        return _ranged(self.uploaded[oid], headers.get("Range") if self.ranges else None, {}, False)

    def _bucket(self, name: str, headers: Mapping[str, str]) -> dict[str, bytes]:
        self._known(headers)
        if name not in self.buckets:
            raise RefusedError(404, "RepoNotFound")
        return self.buckets[name]

    def _bucket_tree(self, name: str, path: str, query: Any, headers: Mapping[str, str], **_: Any) -> Answer:
        files = self._bucket(name, headers)
        listed = [_in_bucket(file, content) for file, content in files.items() if file.startswith(path)]
        return self._page(f"/api/buckets/{name}/tree/{path}".rstrip("/"), listed, query)

    def _bucket_paths(self, name: str, headers: Mapping[str, str], body: bytes, **_: Any) -> Answer:
        files = self._bucket(name, headers)
        return Answer(body=[_in_bucket(entry, files[entry]) for entry in json.loads(body)["paths"] if entry in files])

    def _bucket_file(self, method: str, name: str, path: str, headers: Mapping[str, str], **_: Any) -> Answer:
        files = self._bucket(name, headers)
        if path not in files:
            raise RefusedError(404, "EntryNotFound")
        return _ranged(files[path], headers.get("Range"), {"ETag": '"of a bucket"'}, method == "HEAD")

    # Writing.

    def _whoami(self, headers: Mapping[str, str], **_: Any) -> Answer:
        if not self._known(headers):
            raise RefusedError(401, "", "Unauthorized")
        return Answer(body={"name": "owner", "type": "user"})

    def _create(self, headers: Mapping[str, str], body: bytes, **_: Any) -> Answer:
        if not self._known(headers):
            raise RefusedError(401, "", "Unauthorized")
        given = json.loads(body)
        owner = given.get("organization") or "owner"
        kind, name = given.get("type", "model"), f"{owner}/{given['name']}"
        if owner not in ("owner", "team"):
            raise RefusedError(403, "", f"You don't have the rights to create a {kind} under the namespace {owner!r}")
        if f"{kind}s/{name}" in self.repositories:
            return Answer(409, {"error": "You already created this repo", "url": f"{self.url}/{kind}s/{name}"})
        private = bool(given.get("private")) or given.get("visibility") == "private"
        self.repositories[f"{kind}s/{name}"] = repository = Repository(private=private)
        repository.commit({".gitattributes": b"*.parquet filter=lfs\n"}, message="initial commit")
        return Answer(body={"url": f"{self.url}/{kind}s/{name}", "name": name, "id": "0"})

    def _branch(self, kind: str, name: str, branch: str, headers: Mapping[str, str], **_: Any) -> Answer:
        found = self._repository(kind, name, headers, write=True)
        if branch in found.refs:
            return Answer(409, {"error": "Reference already exists"})
        found.refs[branch] = found.refs["main"]
        return Answer(201, {})

    def _validate(self, body: bytes, **_: Any) -> Answer:
        front = json.loads(body)["content"].split("---\n")[1]
        known = yaml.safe_load(front)
        errors = [] if known.get("license") != "of-my-own" else [{"message": '"license" must be one of [...]'}]
        return Answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def _preupload(
        self, kind: str, name: str, revision: str, headers: Mapping[str, str], body: bytes, **_: Any
    ) -> Answer:
        files = self._repository(kind, name, headers, write=True).files(revision)
        given = json.loads(body)["files"]
        if len(given) > 256:
            raise RefusedError(413, "", "too many files")
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if _is_lfs(file["path"], b"x" * file["size"]) else "regular",
                "shouldIgnore": False,
                "oid": _etag(file["path"], files[file["path"]]) if file["path"] in files else None,
            }
            for file in given
        ]
        return Answer(body={"files": modes})

    def _lfs_batch(self, prefix: str, name: str, headers: Mapping[str, str], body: bytes, **_: Any) -> Answer:
        self._repository("datasets" if prefix else "models", name, headers, write=True)
        objects = []
        for entry in json.loads(body)["objects"]:
            upload = {"href": f"{self.url}/lfs/{entry['oid']}?X-Amz-Signature={SIGNATURE}", "header": {}}
            actions = {"upload": upload, "verify": {"href": f"{self.url}/lfs/verify", "header": {}}}
            objects.append({**entry, **({} if entry["oid"] in self.uploaded else {"actions": actions})})
        return Answer(body={"transfer": "basic", "objects": objects})

    def _lfs_put(self, oid: str, headers: Mapping[str, str], body: bytes, **_: Any) -> Answer:
        if "Authorization" in headers:
            raise RefusedError(400, "", "a token where none belongs")
        if hashlib.sha256(body).hexdigest() != oid:
            raise RefusedError(400, "", "another checksum")
        self.uploaded[oid] = body
        return Answer()

    def _lfs_verify(self, body: bytes, **_: Any) -> Answer:
        return Answer(200 if json.loads(body)["oid"] in self.uploaded else 404)

    def _commit(self, kind: str, name: str, revision: str, headers: Mapping[str, str], body: bytes, **_: Any) -> Answer:
        found = self._repository(kind, name, headers, write=True)
        found.files(revision)
        if revision not in found.refs:
            raise RefusedError(400, "", "not a branch")
        changes: dict[str, bytes | None] = {}
        message = ""
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit", found.refs[revision]) != found.refs[revision]:
                    raise RefusedError(412, "", "a commit has happened since")
            elif line["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                changes[value["path"]] = self.uploaded[value["oid"]]
            elif line["key"] == "deletedFile":
                changes[value["path"]] = None
            else:
                raise RefusedError(501, "", line["key"])
        commit = found.commit(changes, revision, message)
        return Answer(body={"commitUrl": f"{self.url}/{kind}/{name}/commit/{commit}", "commitOid": commit})


def _is_lfs(path: str, content: bytes) -> bool:
    return bool(content) and (path.endswith(_LFS) or len(content) > 10_000_000)


def _etag(path: str, content: bytes) -> str:
    if _is_lfs(path, content):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _described(path: str, content: bytes) -> dict[str, Any]:
    known = {"type": "file", "path": path, "size": len(content)}
    if _is_lfs(path, content):
        lfs = {"oid": _etag(path, content), "size": len(content), "pointerSize": 130}
        return {**known, "oid": hashlib.sha1(content).hexdigest(), "lfs": lfs}
    return {**known, "oid": _etag(path, content)}


def _in_bucket(path: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(content), "xetHash": hashlib.sha256(b"xet" + content).hexdigest()}


def _ranged(content: bytes, asked: str | None, headers: Mapping[str, str], is_head: bool) -> Answer:
    if is_head or asked is None:
        return Answer(200, content, headers)
    start, end = (int(number) for number in asked.removeprefix("bytes=").split("-"))
    if start >= len(content):
        return Answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
    part = content[start : end + 1]
    return Answer(206, part, {**headers, "Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(content)}"})


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Let a hub answer on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 1 << 16

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self._body()
            answer = hub.answer(self.command, self.path, self.headers, body)
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            with suppress(ConnectionError):  # of a client that did not wait
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else content)
                self.wfile.flush()

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with on_loopback(Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        yield hub


@contextmanager
def used(hub: FakeHub, patch: pytest.MonkeyPatch, token: str | None = TOKEN) -> Iterator[FakeHub]:
    """A hub that this process, and processes that it starts, take for the hub; no token of this machine is seen."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session  # type: ignore[attr-defined]

    with serving(hub):
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_TOKEN_PATH", "/nowhere/token")
        for name, value in {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN_PATH": "/nowhere/token",
        }.items():
            patch.setenv(name, value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_OIDC_RESOURCE"):
            patch.delenv(name, raising=False)
        if token:
            patch.setenv("HF_TOKEN", token)
        yield hub
        close_session()
