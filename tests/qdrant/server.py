"""server.py STORE [API_KEY]: a substitute for a Qdrant server, on a loopback port that it prints.

A real server cannot be had where the tests run: nothing that PyPI, Debian or crates.io has is one. So this answers the
requests that a reader sends from a local store, by the real qdrant-client's own models of requests and answers; and the
real `QdrantClient(url=...)` takes it for a server, which a test checks. What it cannot show is how a real server
behaves beyond those models.

It is told on standard input, a line of JSON each, what to do wrong, and answers each line with one:
  {"faults": [...]}   the next requests go wrong, each by one of these (see `fail`)
  {"repeat": true}    paging comes back to where it began
  {"take": true}      answers with the requests since the last time, without the values of credentials
"""

import json
import os
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from qdrant_client import QdrantClient
from qdrant_client.http import models

store = QdrantClient(path=sys.argv[1], force_disable_check_same_thread=True)
key = sys.argv[2] if len(sys.argv) > 2 else None
lock = threading.Lock()
state = {"faults": [], "repeat": False, "seen": []}


def as_json(model):
    return json.loads(model.model_dump_json())


class Refusal(Exception):
    def __init__(self, status, error):
        super().__init__(error)
        self.status, self.error = status, error


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.handle_request("GET", None)

    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        self.handle_request("POST", json.loads(self.rfile.read(length) or b"{}"))

    def handle_request(self, method, body):
        path = unquote(urlsplit(self.path).path)
        authenticated = key is None or self.headers.get("api-key") == key
        seen = {
            "method": method,
            "path": path,
            "body": body,
            "has_key": "api-key" in self.headers,
            "agent": self.headers.get("user-agent"),
            "encoding": self.headers.get("accept-encoding"),
        }
        with lock:
            state["seen"].append(seen)
            fault = state["faults"].pop(0) if state["faults"] else None
        if fault is not None and self.fail(fault):
            return
        if not authenticated:
            # As careless as a server could be: what it was sent is in what it says.
            self.send(401, f"Must provide an API key, not {self.headers.get('api-key')}".encode())
            return
        try:
            with lock:
                result = answer(method, path, body)
        except Refusal as refusal:
            self.send_json(refusal.status, {"status": {"error": refusal.error}, "time": 0.0})
            return
        self.send_json(200, {"result": result, "status": "ok", "time": 0.0, "usage": None})

    def send_json(self, status, told):
        self.send(status, json.dumps(told, ensure_ascii=False).encode())

    def send(self, status, body, headers=None):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if headers is None or "transfer-encoding" not in headers:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def fail(self, fault):
        """Goes wrong; false if the request is to be answered nevertheless."""
        kind = fault["kind"]
        if kind == "none":
            return False
        if kind == "status":
            self.send(fault["status"], fault.get("body", "").encode(), fault.get("headers", {}))
        elif kind == "raw":
            self.send(200, fault["body"].encode(), fault.get("headers"))
        elif kind == "late":
            time.sleep(fault["seconds"])
            return False
        elif kind == "silent":
            # Says nothing, until the client has gone.
            self.gone()
        elif kind == "half":
            # The beginning of an answer, and then nothing.
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"result\":")
            self.wfile.flush()
            self.gone()
        elif kind == "trickle":
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            try:
                for _ in range(100000):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.02)
            except OSError:
                pass
        elif kind == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"result\":")
            self.wfile.flush()
        elif kind == "drop":
            pass
        elif kind == "huge":
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                for _ in range(fault["megabytes"]):
                    self.wfile.write(b"100000\r\n" + b" " * 0x100000 + b"\r\n")
            except OSError:
                pass
        elif kind == "header":
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1000000 + b"\r\n\r\n")
            except OSError:
                pass
        else:
            raise ValueError(kind)
        if kind not in ("status", "raw"):
            self.close_connection = True
        return True

    def gone(self):
        self.connection.settimeout(60)
        try:
            self.connection.recv(1)
        except OSError:
            pass

    def finish(self):
        try:
            super().finish()
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def answer(method, path, body):
    if (method, path) == ("GET", "/"):
        return {"title": "a substitute for qdrant", "version": "1.15.0"}
    if (method, path) == ("GET", "/collections"):
        return as_json(store.get_collections())
    match = re.fullmatch(r"/collections/([^/]+)(/.*)?", path)
    if not match:
        raise Refusal(404, "Not found")
    collection, rest = match[1], match[2]
    if not store.collection_exists(collection):
        raise Refusal(404, f"Not found: Collection `{collection}` doesn't exist!")
    if (method, rest) == ("GET", None):
        return as_json(store.get_collection(collection))
    if (method, rest) == ("POST", "/points/count"):
        return as_json(store.count(collection))
    if (method, rest) == ("POST", "/points/scroll"):
        request = models.ScrollRequest(**body)
        if request.limit is not None and request.limit < 1:
            raise Refusal(422, "limit: value 0 invalid, must be 1 or larger")
        points, following = store.scroll(
            collection,
            limit=10 if request.limit is None else request.limit,
            offset=request.offset,
            with_payload=True if request.with_payload is None else request.with_payload,
            with_vectors=request.with_vector or False,
        )
        if state["repeat"] and points:
            following = points[0].id
        return {"points": [record(point) for point in points], "next_page_offset": following}
    if (method, rest) == ("POST", "/points"):
        request = models.PointRequest(**body)
        points = store.retrieve(
            collection,
            ids=request.ids,
            with_payload=True if request.with_payload is None else request.with_payload,
            with_vectors=request.with_vector or False,
        )
        return [record(point) for point in points]
    raise Refusal(404, "Not found")


def record(point):
    # With a member that no reader has heard of.
    return {**as_json(point), "member_of_tomorrow": {"a": 1}}


def obey():
    for line in sys.stdin:
        command = json.loads(line)
        with lock:
            seen = state["seen"]
            if command.get("take"):
                state["seen"] = []
            for name in ("faults", "repeat"):
                if name in command:
                    state[name] = command[name]
        print(json.dumps({"seen": seen if command.get("take") else len(seen)}), flush=True)
    os._exit(0)  # standard input ends with the test


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        # That clients go is what tests are about.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
obey()
