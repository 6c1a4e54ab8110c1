"""A web server from Python's standard library, on the port that Config.toml names (as PORT)."""

import os
import platform
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(os.environ.get("PORT", "8000"))
GREETING = os.environ.get("GREETING", "Hello")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{GREETING} {platform.python_version()}, version 1\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        # flush: a container's output is a pipe, and Python would keep lines back until it is full.
        print(self.address_string(), format % args, flush=True)


def main() -> None:
    server = ThreadingHTTPServer(("0.0.0.0", PORT), Handler)
    # A keep-alive connection must not hold up the end of the process.
    server.daemon_threads = True

    def stop(signum: int, frame: object) -> None:
        # shutdown() waits for serve_forever(), which this signal has interrupted: not from here.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"listening on port {PORT}", flush=True)
    server.serve_forever(poll_interval=0.05)
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
