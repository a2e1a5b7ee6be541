"""One model with several adapters, which take turns."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedumm.backends.protocol import AnswersQuestions, DrawsImages
from fedumm.errors import FedummError
from fedumm.tasks import I2T
from fedumm.texts import plain_lines
from fedumm.training.generation_eval import drawn

if TYPE_CHECKING:
    from PIL.Image import Image

    from fedumm.adapters import AdapterState
    from fedumm.training.backbone import Backbone

UNTRAINED = "untrained"


@dataclass(frozen=True)
class Role:
    """An adapter that can be put onto the model.

    Attributes:
        name: unique; one line.
        state: its tensors.
        note: what there is to say of it.
    """

    name: str
    state: AdapterState
    note: str = ""


class Cast:
    """The model, on which one adapter at a time works: requests wait for each other.

    Args:
        backbone: with the untrained adapter.
        task: what the adapters have learnt; of ``i2t`` a picture needs no question.

    Raises:
        FedummError: an adapter does not fit the model, or the model neither answers nor draws.
    """

    def __init__(self, backbone: Backbone, roles: list[Role], task: str) -> None:
        self.backbone, self.task = backbone, task
        self.roles: Mapping[str, Role] = {role.name: role for role in [Role(UNTRAINED, backbone.adapter()), *roles]}
        self.answers = isinstance(backbone.backend, AnswersQuestions)
        self.draws = isinstance(backbone.backend, DrawsImages)
        self._lock = threading.Lock()
        if not self.answers and not self.draws:
            raise FedummError("The backend of this model neither answers nor draws: it has no such method.")
        for role in self.roles.values():
            self._put(role.name)

    @property
    def needs_question(self) -> bool:
        """Whether a picture alone asks nothing."""
        return self.task != I2T.name

    def _put(self, name: str) -> None:
        if name not in self.roles:
            raise FedummError("There is no such adapter.")
        try:
            self.backbone.put(self.roles[name].state)
        except ValueError as error:
            raise FedummError(f"The adapter {name!r} does not fit the model: {error}") from error

    def answer(self, name: str, picture: Image, question: str) -> str:
        """What the model with the adapter ``name`` says.

        Raises:
            FedummError: there is no such adapter, or no question, or the model can't answer.
        """
        backbone, backend = self.backbone, self.backbone.backend
        if not isinstance(backend, AnswersQuestions):
            raise FedummError("This model can't answer.")
        if self.needs_question and not question.strip():
            raise FedummError("Which question?")
        with self._lock:
            self._put(name)
            said = backend.answer(backbone.model, backbone.processor, picture, question, backbone.device)
        return plain_lines(said)

    def draw(self, name: str, caption: str, seed: int) -> Image:
        """What the model with the adapter ``name`` draws; the same for equal seeds.

        Raises:
            FedummError: there is no such adapter, or no caption, or the model can't draw.
        """
        if not self.draws:
            raise FedummError("This model can't draw.")
        if not caption.strip():
            raise FedummError("What should be drawn?")
        with self._lock:
            self._put(name)
            (picture,) = drawn(self.backbone, [caption], [seed])
        return picture
