"""A real HTTP server in a thread that answers like vLLM, or misbehaves as a test says."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXT = '{"objects": []}'


def completion(text=TEXT, **choice):
    """A chat completion as vLLM writes it: one token per character, id = code point."""
    ids = [ord(character) for character in text] + [3]
    message = {"role": "assistant", "content": text}
    steps = [
        {"token": f"token_id:{token}", "logprob": -0.25, "bytes": [], "top_logprobs": []}
        for token in ids
    ]
    body = {
        "index": 0,
        "message": message,
        "logprobs": {"content": steps},
        "finish_reason": "stop",
        "stop_reason": None,
        "token_ids": ids,
    }
    return {
        "id": "x",
        "model": "tiny",
        "choices": [body | choice],
        "usage": {"prompt_tokens": 7},
        "prompt_token_ids": [1, 2, 3, 4, 5, 6, 7],
    }


def chunks(text, *, finish="stop"):
    """The stream of a completion: one chunk per character, ids as in `completion`."""
    yield {
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}],
        "prompt_token_ids": [1, 2, 3],
    }
    for character in text:
        token = ord(character)
        step = {"token": f"token_id:{token}", "logprob": -0.5, "top_logprobs": []}
        yield {
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": character},
                    "logprobs": {"content": [step]},
                    "finish_reason": None,
                    "token_ids": [token],
                }
            ]
        }
    step = {"token": "token_id:3", "logprob": -0.5, "top_logprobs": []}
    yield {
        "choices": [
            {
                "index": 0,
                "delta": {"content": ""},
                "logprobs": {"content": [step]},
                "finish_reason": finish,
                "token_ids": [3],
            }
        ]
    }


class Handler(BaseHTTPRequestHandler):
    """What one connection is answered; also the tools to misbehave with."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else head and body stay 40 ms apart

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.double.paths.append(self.path)
        self.server.double.headers.append(dict(self.headers))
        if self.server.double.refuse_models is not None:
            self.server.double.refuse_models(self)
        elif self.path.endswith("/models"):
            self.send(json.dumps({"object": "list", "data": self.server.double.models}))
        elif self.path.endswith("/version"):
            self.send('{"version": "0.32.0"}')
        else:
            self.send("{}", 404)

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.double._lock:
            number = len(self.server.double.bodies)
            self.server.double.bodies.append(json.loads(raw))
            self.server.double.headers.append(dict(self.headers))
            self.server.double.paths.append(self.path)
            self.server.double.busy += 1
            self.server.double.most_busy = max(
                self.server.double.busy, self.server.double.most_busy
            )
        try:
            document = self.server.double.reply(self, self.server.double.bodies[number], number)
            if document is not None:
                self.send(json.dumps(document))
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self.server.double._lock:
                self.server.double.busy -= 1

    def send(self, text, status=200, **headers):
        raw = text if isinstance(text, bytes) else text.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def stream(self, documents, *, done=True):
        """Write events one by one; returns how many were written before the client left."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        written = 0
        try:
            for document in documents:
                self.wfile.write(b"data: " + json.dumps(document).encode() + b"\n\n")
                self.wfile.flush()
                written += 1
            if done:
                self.wfile.write(b"data: [DONE]\n\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        return written

    def reset(self):
        """Break the connection with a TCP reset."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def hang(self):
        """Say nothing until the test is over."""
        self.close_connection = True
        self.server.double.released.wait(30)


class Quiet(ThreadingHTTPServer):
    """One thread per connection; a client that leaves is no news."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass


class ServerDouble:
    """`reply(handler, body, number)` answers chat completion `number` (from 0, in all).

    It may return a document (sent as JSON with status 200), or write by itself and return None.
    """

    def __init__(self, reply=None):
        self.reply = reply or (lambda handler, body, number: completion())
        self.bodies, self.headers, self.paths = [], [], []
        self.models = [{"id": "tiny", "root": "/models/tiny", "parent": None}]
        self.refuse_models = None
        self.busy = self.most_busy = 0
        self._lock = threading.Lock()
        self.released = threading.Event()
        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._server.double = self
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        """Stop listening: connections are refused from now on."""
        self.released.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def dead_url():
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def wait_until(condition, seconds=10.0):
    """Poll a condition; it must become true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.01)
