"""An HTTP proxy between a client and the local cloud that stops answering when told to: the service or network is gone."""

import threading
from http import HTTPStatus
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_HEADERS = frozenset({"expect", "connection", "transfer-encoding"})


class OutageProxy:
    """``outage_after``: how many more requests get through; ``None`` for all. ``seen``: the ones that did.

    A request in an outage has its connection closed without an answer.
    """

    def __init__(self, upstream: str) -> None:
        self.outage_after: int | None = None
        self.seen: list[str] = []
        self._lock = threading.Lock()
        self._server = _Server(upstream, self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def admits(self, line: str) -> bool:
        with self._lock:
            if self.outage_after is not None:
                if self.outage_after <= 0:
                    return False
                self.outage_after -= 1
            self.seen.append(line)
            return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: str, proxy: OutageProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.upstream = urlsplit(upstream)
        self.proxy = proxy


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_expect_100(self) -> bool:
        return True  # answered below, once the request is admitted

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        self.close_connection = True
        if self.server.proxy.admits(self.requestline):
            self._forward()
        return False  # everything is done: look for no do_GET

    def _forward(self) -> None:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        upstream = HTTPConnection(self.server.upstream.hostname or "", self.server.upstream.port, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in HOP_HEADERS:
                upstream.putheader(name, value)
        upstream.endheaders(body)
        self._answer(upstream.getresponse())
        upstream.close()

    def _answer(self, answer: HTTPResponse) -> None:
        content = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_HEADERS:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
