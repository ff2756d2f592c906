"""The files that a graph names: ONNX keeps large tensors outside of itself, in files named by the graph.

Only as much of the format is read as leads to these names (onnx.proto: ModelProto, GraphProto, NodeProto,
AttributeProto, TensorProto, FunctionProto), so that no package is needed.
"""

from collections.abc import Iterator

# Message -> field number -> message in it. Everything else is skipped.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_DEPTH = 100  # levels of messages


def named_files(model: bytes) -> set[str]:
    """Return the names (`location`) of the files outside of an ONNX model that it reads.

    Raises ValueError where the bytes are no ONNX model.
    """
    return set(_locations(memoryview(model), "model", 0))


def _locations(data: memoryview, message: str, depth: int) -> Iterator[str]:
    if depth > _DEPTH:
        raise ValueError(f"graphs are nested deeper than {_DEPTH} levels")
    if message == "entry":
        fields = {number: bytes(value) for number, value in _fields(data) if value is not None}
        if fields.get(1) == b"location":
            yield fields.get(2, b"").decode("utf-8")
        return
    inside = _INSIDE[message]
    for number, value in _fields(data):
        if number in inside:
            if value is None:
                raise ValueError(f"field {number} of {message} is no message")
            yield from _locations(value, inside[number], depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """Yield (number, content) of the fields of a message; content is None for plain numbers."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            size, (_, at) = 0, _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} is no part of ONNX")
        if at + size > len(data):
            raise ValueError("it ends early")
        yield number, data[at : at + size] if kind == 2 else None
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it ends early")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of more than ten bytes")
