"""Counts visits in Redis: the talk's application."""
import os
import socket
import time

from flask import Flask
from redis import Redis
from redis.exceptions import ConnectionError, TimeoutError

app = Flask(__name__)
redis = Redis(host=os.environ.get("REDIS_HOST", "redis"), port=6379, socket_connect_timeout=1, socket_timeout=2)


def count_visit(deadline_s=5.0):
    """Adds a visit; waits a moment for a Redis that is just starting or being replaced. None if it stays away."""
    give_up = time.monotonic() + deadline_s
    while True:
        try:
            return redis.incr("hits")
        except (ConnectionError, TimeoutError):
            if time.monotonic() > give_up:
                return None
            time.sleep(0.1)


@app.route("/")
def hello():
    hits = count_visit()
    if hits is None:
        return "Redis cannot be reached at the moment.\n", 503
    return f"Hello World! I have been seen {hits} times. (served by {socket.gethostname()})\n"


@app.route("/health")
def health():
    return "ok\n"


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=5000, threaded=True)
