"""A writer beside a test: it commits uploads and removes images at once, and does no job."""

import threading
from contextlib import contextmanager

from medlike.service.writer import Writer

LOOK = 0.01  # seconds between two looks


@contextmanager
def draining(archive):
    """Do the short writes of an archive in a thread until the block ends; jobs that are submitted are cancelled.

    Made-up jobs could read or write any folder of the machine.
    """
    writer, stop = Writer(archive), threading.Event()

    def work():
        while not stop.wait(LOOK):
            writer.write()
            for job in writer.queue.jobs(100, 0)[0]:
                if job.state == "queued":
                    writer.queue.cancel(job.id)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield writer
    finally:
        stop.set()
        thread.join()
        writer.close()
