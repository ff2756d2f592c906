"""What every process of the service does first: take the plan from the supervisor, and end when that ends."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

from medlike.errors import MedlikeError
from medlike.imaging import channel
from medlike.service.plan import ServicePlan
from medlike.types import JsonObject

_ENDED = 3


class Lifeline:
    """The connection of a process to its supervisor. It breaks when either of them ends, however that happens."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def take(self) -> JsonObject:
        """Return the supervisor's first message; from then on, this process ends as soon as the supervisor does."""
        message = channel.receive(self._socket)
        if message is None:
            sys.exit(_ENDED)
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()
        return message

    def ready(self) -> None:
        """Tell the supervisor that this process works."""
        channel.send(self._socket, {"ready": True})

    def failed(self, sentence: str) -> None:
        """Tell the supervisor why this process cannot start."""
        channel.send(self._socket, {"failed": sentence})

    def _watch(self) -> None:
        try:
            channel.receive(self._socket)
        finally:
            os._exit(_ENDED)


def run(serve: Callable[[ServicePlan, JsonObject, Lifeline], None]) -> None:
    """Serve as the supervisor's message says; an archive that cannot be used is reported to the supervisor.

    Args:
        serve: Gets the plan, the facts meant for this process alone, and the lifeline to report readiness.
    """
    # The supervisor decides when a process ends: Ctrl-C on the terminal reaches it alone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lifeline = Lifeline(int(sys.argv[1]))
    message = lifeline.take()
    try:
        serve(ServicePlan.from_dict(message["plan"]), message["own"], lifeline)
    except MedlikeError as error:
        lifeline.failed(str(error))
        sys.exit(1)
