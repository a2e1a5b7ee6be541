"""A saved adapter that can be asked, made to draw, and scored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from fedumm.api.evaluation import evaluate
from fedumm.api.given import plain
from fedumm.cli import adapted
from fedumm.cli.evaluate import MODEL, namespace
from fedumm.cli.plugins import load_for_run
from fedumm.errors import FedummError, did_you_mean
from fedumm.texts import one_line

if TYPE_CHECKING:
    from PIL.Image import Image

    from fedumm.report.evaluation_result import EvaluationResult
    from fedumm.training.backbone import Backbone

Picture: TypeAlias = "str | os.PathLike[str] | Image"


class Adapter(os.PathLike[str]):
    """The adapter in a folder, of a run or copied from one. Its model is loaded when it is first needed, once.

    Args:
        path: the folder.
        options: as of ``fedumm ask``: ``model_backend``, ``model_name_or_path``, ``plugin``, ``gpu``, where the folder
            does not say what is right here. Nothing is fetched, and no code is run, that only the folder names.

    Raises:
        FedummError: there is no such option or folder.

    Example:
        >>> adapter = fedumm.Adapter("runs/demo/adapter/best", gpu="cpu")  # doctest: +SKIP
        >>> adapter.answer("shape.png", "what color is the shape?")  # doctest: +SKIP
        'red'
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        known = [name for name in MODEL if name != "adapter"]
        if unknown := sorted(options.keys() - set(known)):
            raise FedummError(f"Unknown option {unknown[0]!r}.{did_you_mean(unknown[0], known)}")
        self.path = Path(path)
        if not self.path.is_dir():
            raise FedummError(f"Adapter folder not found: {one_line(self.path)}")
        self._options = plain(options)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Adapter({str(self.path)!r})"

    @cached_property
    def _backbone(self) -> Backbone:
        load_for_run(self._options)
        return adapted.load_adapted(namespace({**self._options, "adapter": str(self.path)}))

    def answer(self, image: Picture | Sequence[Picture], question: str = "") -> str:
        """The answer to ``question`` about ``image``: a file, an image of Pillow, or several of these.

        Without a question, what an adapter of ``task="i2t"`` writes of the image.

        Raises:
            FedummError: the model or an image can't be read, or the model can't do that.
        """
        from fedumm.backends.protocol import AnswersQuestions, ReadsSeveralImages
        from fedumm.tasks import I2T

        given: list[Any] = [*image] if isinstance(image, list | tuple) else [image]
        shown = [_picture(one) for one in given]
        if not shown:
            raise FedummError("There is no image to ask about.")
        backbone = self._backbone
        if not question.strip() and I2T.name not in self._tasks():
            raise FedummError("Which question? Without one, only an adapter of task i2t says something of an image.")
        if not isinstance(backbone.backend, AnswersQuestions):
            raise FedummError("The backend of this model can't answer: it has no method 'answer'.")
        if len(shown) > 1 and not isinstance(backbone.backend, ReadsSeveralImages):
            raise FedummError("The backend of this model reads one image.")
        asked = shown if len(shown) > 1 else shown[0]
        return backbone.backend.answer(backbone.model, backbone.processor, asked, question, backbone.device)

    def draw(self, caption: str, seed: int = 0, *, guidance: float | None = None, temperature: float = 1.0) -> Image:
        """The image that the model draws of ``caption``; the same for the same ``seed``.

        Args:
            guidance: of classifier-free guidance; 1: none; None: what suits the model.
            temperature: below 1: closer to what is likeliest.

        Raises:
            FedummError: the model can't be read, or can't draw.
        """
        from fedumm.backends.protocol import DrawsImages
        from fedumm.training.generation_eval import drawn

        if not caption.strip():
            raise FedummError("The caption is empty: say what to draw.")
        if not 0 < temperature < float("inf"):
            raise FedummError(f"temperature must be positive, not {temperature}.")
        if not isinstance(self._backbone.backend, DrawsImages):
            raise FedummError("The backend of this model can't draw: it has no method 'draw'.")
        (image,) = drawn(self._backbone, [caption], [seed], guidance=guidance, temperature=temperature)
        return image

    def evaluate(self, **options: Any) -> EvaluationResult:
        """As :func:`fedumm.evaluate` with this adapter: ``adapter.evaluate(dataset="easy_vqa")``."""
        return evaluate(**{**self._options, **options, "adapter": self})

    def _tasks(self) -> tuple[str, ...]:
        return adapted.adapted_config(namespace({**self._options, "adapter": str(self.path)}))[0].tasks


def _picture(given: Any) -> Image:
    from PIL import Image

    from fedumm.images import ImageError, open_image
    from fedumm.images.rgb import to_rgb

    if isinstance(given, Image.Image):
        return to_rgb(given)
    if not os.path.isfile(given):
        raise FedummError(f"Image not found: {one_line(given)}")
    try:
        return open_image(os.fspath(given))
    except ImageError as error:
        raise FedummError(f"{one_line(given)} can't be read as an image: {one_line(error)}") from error
