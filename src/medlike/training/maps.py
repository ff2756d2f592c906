"""The stem's maps of augmented views, computed once: the protocol `frozen`.

A frozen stem gives the same maps in every epoch, so they are kept: the first view is the picture itself,
the others are augmented. What trains on top of them then costs a tenth of the whole network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medlike.bundle import runtime
from medlike.files import drafted_folder
from medlike.models.acir import ImageNetwork
from medlike.training.augmentation import Augmentation, augment
from medlike.training.pictures import Pictures
from medlike.types import F32, I16, I64, U8, Progress

BATCH = 64
FEW = 400
PARTS = ("shallow", "deep", "pooled")


@dataclass(frozen=True)
class Maps:
    """Views of N pictures: each part a list over views of float16 [N,C,h,w], or [N,P] for pooled."""

    shallow: list[npt.NDArray[np.float16]]
    deep: list[npt.NDArray[np.float16]]
    pooled: list[npt.NDArray[np.float16]]

    @property
    def views(self) -> int:
        """Number of views of each picture."""
        return len(self.pooled)

    def batch(self, views: I64, rows: I64, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return shallow and deep maps and pooled means, float32, of one view of each row."""
        parts = []
        for part in (self.shallow, self.deep, self.pooled):
            picked = np.stack([part[view][row] for view, row in zip(views, rows, strict=True)])
            parts.append(torch.from_numpy(picked).to(device).float())
        return parts[0], parts[1], parts[2]


def stem_maps(
    network: ImageNetwork,
    pictures: Pictures,
    cache: str | Path,
    views: int,
    settings: Augmentation,
    seed: int = 0,
    say: Progress[str] = lambda line: None,
) -> Maps:
    """Return maps of `views` views of every picture: view 0 as it is, the others augmented; kept under `cache`.

    A view that is there is read, so an interrupted run goes on with the next view.

    Args:
        network: An image network in evaluation mode; only its stem and pooling run.
        pictures: The pictures.
        cache: Folder that keeps the maps.
        views: Number of views of each picture.
        settings: How views but the first are augmented.
        seed: Fixes the views.
        say: Takes lines of progress.
    """
    key = hashlib.sha256(
        f"{pictures.digest} {stem_digest(network.stem)} {network.shallow_index} {network.deep_index} "
        f"{sorted(asdict(settings).items())} {seed}".encode()
    ).hexdigest()[:16]
    views_by_part: dict[str, list[npt.NDArray[np.float16]]] = {part: [] for part in PARTS}
    run = None
    for view in range(views):
        folder = Path(cache) / f"maps-{key}-{view}"
        if not folder.is_dir():
            run = run or runner(_Tapped(network), PARTS, views * len(pictures))
            shown = partial(_augmented, settings=settings, generator=view_generator(seed, view)) if view else None
            write_view(run, PARTS, pictures, folder, shown, f"view {view}", say)
        for part in PARTS:
            views_by_part[part].append(np.load(folder / f"{part}.npy", mmap_mode="r"))
    return Maps(views_by_part["shallow"], views_by_part["deep"], views_by_part["pooled"])


def view_generator(seed: int, view: int) -> torch.Generator:
    """Return the generator that a view of the pictures is drawn with."""
    return torch.Generator().manual_seed(1_000_003 * seed + view)


def write_view(
    run: Callable[[U8], list[F32]],
    names: Sequence[str],
    pictures: Pictures,
    folder: Path,
    shown: Callable[[U8], U8] | None,
    title: str,
    say: Progress[str],
    beside: Mapping[str, list[I16]] | None = None,
) -> None:
    """Write what `run` says of every picture as float16 [N,...], a file a name; the folder appears when all is there.

    shown: changes a batch uint8 [n,224,224] before it is run. beside: parts that `shown` fills batch by batch; each
    list is joined and written too.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with drafted_folder(folder) as draft:
        files: list[npt.NDArray[np.float16]] = []
        for start in range(0, len(pictures), BATCH):
            pixels = pictures.pixels[start : start + BATCH]
            parts = run(shown(pixels) if shown else pixels)
            if not files:
                files = [
                    np.lib.format.open_memmap(draft / f"{name}.npy", "w+", np.float16, (len(pictures), *part.shape[1:]))
                    for name, part in zip(names, parts, strict=True)
                ]
            for file, part in zip(files, parts, strict=True):
                file[start : start + len(pixels)] = part
            if start % (16 * BATCH) == 0:
                say(f"{title}: {start} of {len(pictures)} pictures through the stem")
        for file in files:
            file.flush()  # type: ignore[attr-defined]
        for name, batches in (beside or {}).items():
            np.save(draft / f"{name}.npy", np.concatenate(batches))


def to_pixels(images: Tensor) -> U8:
    """Return images float [n,1,H,W] in [0,1] as uint8 [n,H,W]."""
    return (images.squeeze(1) * 255).round().to(torch.uint8).numpy()


def _augmented(pixels: U8, settings: Augmentation, generator: torch.Generator) -> U8:
    return to_pixels(augment(torch.from_numpy(pixels).float().unsqueeze(1) / 255, settings, generator))


class _Tapped(nn.Module):
    """The stem, its two maps and the means of every depth."""

    def __init__(self, network: ImageNetwork) -> None:
        super().__init__()
        self.stem, self.pooling = network.stem, network.pooling
        self.shallow, self.deep = network.shallow_index, network.deep_index

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.stem(images)
        return {"shallow": maps[self.shallow], "deep": maps[self.deep], "pooled": self.pooling(maps)}


def runner(tapped: nn.Module, names: Sequence[str], count: int) -> Callable[[U8], list[F32]]:
    """Return a function from uint8 [n,224,224] to the named outputs, float32.

    It runs torch on a GPU, and the runtime on a CPU, where that is 3 times faster.

    tapped: images float [n,3,224,224] in [0,1] -> a dictionary. count: pictures to come; for a few, making the
    runtime's graph would take longer than it saves.
    """
    tapped = tapped.eval()
    device = next(tapped.parameters()).device
    if device.type != "cpu" or count < FEW:
        return lambda pixels: _run_torch(tapped, names, pixels, device)

    from medlike.models.export import trace

    onnxruntime = runtime.onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(trace(tapped, names).SerializeToString(), options)
    pool = ThreadPoolExecutor(torch.get_num_threads())

    def run(pixels: U8) -> list[F32]:
        each = list(pool.map(lambda one: session.run(None, {"image": one[None]}), pixels))
        return [np.concatenate(part) for part in zip(*each, strict=True)]

    return run


@torch.inference_mode()
def _run_torch(tapped: nn.Module, names: Sequence[str], pixels: U8, device: torch.device) -> list[F32]:
    images = torch.from_numpy(pixels).to(device).float().unsqueeze(1).expand(-1, 3, -1, -1) / 255
    outputs = tapped(images.contiguous(memory_format=torch.channels_last))
    return [outputs[name].float().cpu().numpy() for name in names]


def stem_digest(stem: nn.Module) -> str:
    """Return the sha256 over the weights of a stem."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(stem.state_dict().items()):
        hashed.update(name.encode())
        hashed.update(tensor.detach().cpu().numpy().tobytes())
    return hashed.hexdigest()
