"""What the service accepts at most."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bound what one request may ask for.

    Attributes:
        body: Largest body of an upload or of a query's image, bytes.
        json: Largest JSON body, bytes.
        k: Most hits of one search.
        page: Most images of one page of a listing.
        body_seconds: Longest time in which a body must arrive, or an answer be taken; the clock runs again with each
            megabyte.
        header_seconds: Longest time in which the head of a request must arrive.
        searches: Most searches that one worker computes at once; others wait.
        renderings: Most pictures that one worker decodes and draws at once; others wait.
        thumbnails: Memory that one worker keeps thumbnails in, bytes.
        requests: Most requests that one worker holds at once; others are answered 503.
        connections: Most connections that one worker holds at once; others are answered 503.
        address: Longest address of a request with its query, bytes.
        head: Most bytes of all headers.
    """

    body: int = 512 << 20
    json: int = 4 << 20
    k: int = 1000
    page: int = 1000
    body_seconds: float = 60.0
    header_seconds: float = 20.0
    searches: int = 2
    renderings: int = 4
    thumbnails: int = 32 << 20
    requests: int = 1024
    connections: int = 4096
    address: int = 8192
    head: int = 32768
