"""What the untrained and the best adapter say of some evaluation samples, kept in the run's folder.

=====================  ================================================================
``samples.jsonl``      an :class:`Example` a line
``samples/*.jpg``      small pictures
``samples/*.png``      drawn images, ``000-before.png`` and ``000-after.png``
``samples/made.json``  from what they were made, so that they are not made again
=====================  ================================================================
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.adapters.folder import WEIGHTS, read_folder
from fedumm.backends.protocol import DrawsImages, Progress
from fedumm.config import EXECUTION, CentralConfig, FederateConfig, RunConfig, option_fields
from fedumm.errors import FedummError
from fedumm.files import replacing, write_atomically
from fedumm.report.run_folder import CLIENTS
from fedumm.run_options import to_mapping
from fedumm.seeds import derive
from fedumm.tasks import T2I
from fedumm.texts import one_line

if TYPE_CHECKING:
    from fedumm.training.backbone import Backbone
    from fedumm.training.predictions import Prediction

SAMPLES, PICTURES, MADE = "samples.jsonl", "samples", "made.json"
DEFAULT = 24
MOST = 1000
MOST_DRAWN = 6
"""Captions, each drawn by both adapters: an image takes as long as many answers."""

_PIXELS = 256
_LONGEST = 2000
_MOST_REFERENCES = 10
_LOOKED_AT = 20
"""Times as many rows of a kind are looked at for one of another image."""


@dataclass(frozen=True)
class Example:
    """One evaluation sample before and after the training.

    Attributes:
        task: see :mod:`fedumm.tasks`.
        question: or the caption of an image to draw; empty where a text is to be written.
        references: what people answered or wrote.
        before, after: what the untrained and the best adapter say; None of an image to draw.
        score_before, score_after: 0..1; of an image to draw the share of the surprise of guessing that is spared.
        loss_before, loss_after: in nats a token, where there is one.
        type: of the answer; of a caption its category.
        image_id: equal for samples with the same image.
        source_row: the number of its row in the data, from 0.
        image: a small picture of its image, below the run's folder; empty without one.
        drawn_before, drawn_after: the images that the two adapters drew, from the same random numbers.
    """

    task: str
    question: str
    references: tuple[str, ...]
    before: str | None
    after: str | None
    score_before: float
    score_after: float
    loss_before: float | None = None
    loss_after: float | None = None
    type: str = ""
    image_id: str = ""
    source_row: int = 0
    image: str = ""
    drawn_before: str = ""
    drawn_after: str = ""

    @property
    def change(self) -> float:
        """What the training gained."""
        return self.score_after - self.score_before


def read_examples(folder: Path) -> list[Example]:
    """Those that were made; none if there are none, or they can't be read."""
    try:
        lines = (folder / SAMPLES).read_text(encoding="utf-8").splitlines()
        return [_example(json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError, KeyError, RecursionError, AttributeError):
        return []


def _example(values: dict[str, Any]) -> Example:
    known = {f.name for f in fields(Example)}
    own = Example(**{name: value for name, value in values.items() if name in known})
    scores = own.score_before, own.score_after
    if not all(isinstance(score, int | float) for score in scores) or not isinstance(own.references, list):
        raise ValueError("no example")
    return replace(own, references=tuple(map(str, own.references)))


def made_of(folder: Path, config: RunConfig, count: int) -> str:
    """Digest of what ``count`` examples depend on: the best adapter, and the options that change a result."""
    found = hashlib.sha256((_adapter(folder) / WEIGHTS).read_bytes())
    where = {f.name for f in option_fields(type(config)) if f.metadata["group"] == EXECUTION}
    options = {name: value for name, value in to_mapping(config).items() if name not in where}
    found.update(json.dumps([options, count], sort_keys=True, default=str).encode())
    return found.hexdigest()


def are_made(folder: Path, digest: str) -> bool:
    """Whether the examples there are those of this digest."""
    try:
        made = json.loads((folder / PICTURES / MADE).read_bytes())
        return bool(made["digest"] == digest) and (folder / SAMPLES).is_file()
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def remove_examples(folder: Path) -> None:
    """Leave nothing of them."""
    (folder / SAMPLES).unlink(missing_ok=True)
    if (folder / PICTURES).is_dir() and not (folder / PICTURES).is_symlink():
        shutil.rmtree(folder / PICTURES)


def make_examples(folder: Path, config: RunConfig, count: int, progress: Progress) -> bool:
    """Ask the untrained and the best adapter about ``count`` evaluation samples, unless that was done before.

    The samples are the first of each answer type in turn: they are not chosen by what comes of them. Nothing is
    fetched from anywhere.

    Returns:
        Whether they had to be made.

    Raises:
        FedummError: the data or the model is not on this machine, or each client has an adapter of its own.
    """
    if any((folder / CLIENTS).glob("*/adapter")):
        raise FedummError("each client has an adapter of its own")
    if not (_adapter(folder) / WEIGHTS).is_file():
        raise FedummError("the run has saved no adapter")
    digest = made_of(folder, config, count)
    if are_made(folder, digest):
        return False
    from fedumm.data.hub_access import nothing_fetched

    if "://" in config.dataset:
        raise FedummError(f"the data are at {one_line(config.dataset, 100)}, and nothing is fetched")
    with nothing_fetched():
        examples, pictures = _ask(folder, replace(config, allow_remote_images=False), count, progress)
    remove_examples(folder)
    (folder / PICTURES).mkdir()
    for name, picture in pictures.items():
        with replacing(folder / name) as draft:
            picture.save(draft, "PNG" if name.endswith(".png") else "JPEG", quality=85)
    lines = "".join(json.dumps(asdict(example)) + "\n" for example in examples)
    write_atomically(folder / SAMPLES, lines)
    write_atomically(folder / PICTURES / MADE, json.dumps({"digest": digest, "count": count}) + "\n")
    return True


def _adapter(folder: Path) -> Path:
    """Of a central run, the one that it has."""
    best = folder / "adapter" / "best"
    return best if best.is_dir() else folder / "adapter"


def _ask(
    folder: Path, config: RunConfig, count: int, progress: Progress
) -> tuple[list[Example], dict[str, Any]]:  # fmt: skip
    """The examples, and by name their pictures."""
    import torch

    from fedumm.federation.assignment import names_of
    from fedumm.training.backbone import load_backbone
    from fedumm.training.candidates import training_answers
    from fedumm.training.data import load_splits, references
    from fedumm.training.device import pick_device
    from fedumm.training.predictions import predict
    from fedumm.training.threads import thread_count

    torch.set_num_threads(thread_count(config))
    state, peft = read_folder(_adapter(folder))
    if isinstance(config, FederateConfig) and config.client_data:
        config = config.of_client(names_of(config)[0])
    config = _at_rank(config, peft)
    splits = load_splits(config)
    rows = splits.eval.select(spread_rows(splits.eval, count))
    candidates = training_answers(config, splits.train)
    backbone = load_backbone(config, pick_device(config.gpu), candidates, references(config, splits.eval))
    before = predict(backbone, rows, config, progress)
    drawing = _captions(backbone, before)
    drawn_before = _drawn(backbone, config, before, drawing)
    try:
        backbone.put(state)
    except ValueError as error:
        raise FedummError(f"the adapter does not fit the model: {one_line(error)}") from error
    after = predict(backbone, rows, config, progress)
    pictures = _pictures(rows)
    examples = [_joined(old, new) for old, new in zip(before, after, strict=True)]
    for place, name in enumerate(pictures):
        examples[place] = replace(examples[place], image=name if pictures[name] else "")
    found = {name: picture for name, picture in pictures.items() if picture}
    for place, old, new in zip(drawing, drawn_before, _drawn(backbone, config, after, drawing), strict=True):
        names = [f"{PICTURES}/{place:03}-{when}.png" for when in ("before", "after")]
        examples[place] = replace(examples[place], drawn_before=names[0], drawn_after=names[1])
        found |= dict(zip(names, (old, new), strict=True))
    return examples, found


def _at_rank(config: RunConfig, peft: dict[str, Any]) -> RunConfig:
    """With the rank that the adapter was saved at: where the backbone grew, that is not the run's."""
    rank, alpha = peft.get("r"), peft.get("lora_alpha")
    if not (isinstance(rank, int) and isinstance(alpha, int) and 0 < rank < 10**5):
        return config
    return replace(config, lora_r=rank, lora_alpha=alpha)


def spread_rows(rows: Any, count: int) -> list[int]:
    """The first ``count`` of ``rows``, of each task and answer type in turn, of other images where there are some."""
    columns = [list(rows[name][:]) for name in ("task", "answer_type") if name in rows.column_names]
    images = list(rows["image_id"][:]) if "image_id" in rows.column_names else list(range(len(rows)))
    kinds: dict[tuple[Any, ...], list[int]] = {}
    for place in range(len(rows)):
        own = kinds.setdefault(tuple(column[place] for column in columns), [])
        if len(own) < _LOOKED_AT * count:
            own.append(place)
    chosen: list[int] = []
    shown = set[Any]()
    while len(chosen) < count and any(kinds.values()):
        for own in filter(None, kinds.values()):
            place = next((place for place in own if images[place] not in shown), own[0])
            own.remove(place)
            shown.add(images[place])
            chosen.append(place)
    return sorted(chosen[:count])


def _joined(before: Prediction, after: Prediction) -> Example:
    return Example(
        task=before.task,
        question=before.question[:_LONGEST],
        references=tuple(text[:_LONGEST] for text in before.references[:_MOST_REFERENCES]),
        before=before.answer if before.answer is None else before.answer[:_LONGEST],
        after=after.answer if after.answer is None else after.answer[:_LONGEST],
        score_before=before.score,
        score_after=after.score,
        loss_before=before.loss,
        loss_after=after.loss,
        type=before.answer_type,
        image_id=before.image_id,
        source_row=before.source_row,
    )


def _pictures(rows: Any) -> dict[str, Any]:
    """By the name of its file, a small picture of each row's images, side by side; None where there is none."""
    from fedumm.data.each_picture import each_picture
    from fedumm.data.picture import BadImageError, read_image

    found: dict[str, Any] = {f"{PICTURES}/{place:03}.jpg": None for place in range(len(rows))}
    if "image" not in rows.column_names:
        return found
    pictures = each_picture(rows)
    for name, numbers in zip(found, pictures.of_rows(), strict=True):
        try:
            found[name] = _side_by_side([read_image(pictures.rows, number) for number in numbers])
        except BadImageError:
            continue
    return found


def _side_by_side(pictures: Sequence[Any]) -> Any:
    """One small picture of several, with a gap between."""
    from PIL import Image

    for picture in pictures:
        picture.thumbnail((_PIXELS // len(pictures), _PIXELS))
    if len(pictures) == 1:
        return pictures[0]
    gap = 4
    size = sum(one.width for one in pictures) + gap * (len(pictures) - 1), max(one.height for one in pictures)
    whole, left = Image.new("RGB", size, "white"), 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width + gap
    return whole


def _captions(backbone: Backbone, predictions: Sequence[Prediction]) -> list[int]:
    """Places of the captions to draw, each once."""
    if not isinstance(backbone.backend, DrawsImages):
        return []
    by_caption: dict[str, int] = {}
    for place, one in enumerate(predictions):
        if one.task == T2I.name:
            by_caption.setdefault(one.question, place)
    return list(by_caption.values())[:MOST_DRAWN]


def _drawn(backbone: Backbone, config: RunConfig, predictions: Sequence[Prediction], places: Sequence[int]) -> Any:
    from fedumm.training.generation_eval import drawn

    if not places:
        return []
    seeds = [derive(config.seed, "report", place) for place in places]
    return list(drawn(backbone, [predictions[place].question for place in places], seeds))


def read_options(folder: Path, options: dict[str, Any]) -> FederateConfig | CentralConfig:
    """The run's options, of either kind.

    Raises:
        FedummError: one is not known, for instance the backend of a plugin.
    """
    from fedumm.run_options import from_mapping

    if "num_epochs" in options:
        return from_mapping(CentralConfig, options, str(folder))
    return from_mapping(FederateConfig, options, str(folder))
