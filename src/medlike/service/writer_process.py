"""The writer process of an archive: it runs a `Writer` until the supervisor ends it."""

import signal
import threading
from pathlib import Path

from medlike.archive.archive import Archive
from medlike.service.child import Lifeline, run
from medlike.service.logs import log_to_stderr
from medlike.service.plan import ServicePlan
from medlike.service.wake import wake
from medlike.service.writer import Writer
from medlike.types import JsonObject


def serve(plan: ServicePlan, own: JsonObject, lifeline: Lifeline) -> None:
    """Write to an archive until the supervisor ends this process.

    Args:
        plan: What the service is to do.
        own: `path`, the folder of the archive, and `name`, what the log calls this process.
        lifeline: The connection to the supervisor.
    """
    log_to_stderr(own["name"])
    stopped = threading.Event()
    with Archive.open(Path(own["path"])) as archive:
        writer = Writer(archive)

        def stop(number: int, frame: object) -> None:
            stopped.set()
            wake(writer.queue.path.parent)

        signal.signal(signal.SIGTERM, stop)
        try:
            lifeline.ready()
            writer.run(stopped)
        finally:
            writer.close()


if __name__ == "__main__":
    run(serve)
