"""A worker process: it answers requests on the socket that the supervisor listens on. It reads, and never writes."""

import gc
import resource
import socket
import sys
import threading
from types import FrameType

import uvicorn

from medlike.service.access import Access
from medlike.service.app import create_app
from medlike.service.child import Lifeline, run
from medlike.service.collections import Collections
from medlike.service.context import Service
from medlike.service.limits import Limits
from medlike.service.logs import log_to_stderr
from medlike.service.plan import ServicePlan
from medlike.service.protocol import protocol
from medlike.types import JsonObject

#: Connections that the kernel holds until a worker takes them.
BACKLOG = 2048
#: Connections that a worker takes at once: few, so that another worker gets its share of a burst.
TAKEN = 4
#: Seconds for which a thread computes in Python while others wait: a request comes in between two steps of a search.
SWITCH = 0.0005
#: Seconds in which requests may end after the service was told to stop.
GRACE = 10


class WorkerServer(uvicorn.Server):
    """A uvicorn server that reports its readiness to the supervisor, and then loads what searches need."""

    def __init__(self, config: uvicorn.Config, lifeline: Lifeline, service: Service) -> None:
        super().__init__(config)
        self._lifeline, self._service = lifeline, service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take connections."""
        await super().startup(sockets)
        for each in sockets or []:
            each.listen(BACKLOG)
        self._lifeline.ready()
        threading.Thread(target=self._service.collections.warm, name="warming", daemon=True).start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop: requests that wait for something end now, others may end."""
        self._service.stopping.set()
        super().handle_exit(sig, frame)


def serve(plan: ServicePlan, own: JsonObject, lifeline: Lifeline) -> None:
    """Answer requests until the supervisor ends this process.

    Args:
        plan: What the service is to do.
        own: `socket`, the descriptor of the listening socket, and `name`, what the log calls this process.
        lifeline: The connection to the supervisor.
    """
    log_to_stderr(own["name"])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sys.setswitchinterval(SWITCH)
    limits = Limits()
    collections = Collections(plan.collections)
    access = Access(plan.owner, plan.peer, plan.port, plan.loopback, plan.scheme)
    app = create_app(collections, access, limits)
    config = uvicorn.Config(
        app,
        http=protocol(limits), ws="none", loop="asyncio", lifespan="off",
        log_config=None, access_log=False, server_header=False, proxy_headers=False,
        h11_max_incomplete_event_size=limits.head + limits.address, backlog=TAKEN, timeout_graceful_shutdown=GRACE,
        ssl_certfile=plan.certificate, ssl_keyfile=plan.key,
    )  # fmt: skip
    gc.freeze()
    try:
        WorkerServer(config, lifeline, app.state.service).run([socket.socket(fileno=own["socket"])])
    finally:
        collections.close()


if __name__ == "__main__":
    run(serve)
