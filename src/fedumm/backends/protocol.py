"""What a backend must offer, and what it may offer on top.

A class with the methods of :class:`Backend` is enough to train, federate and
evaluate a model. The smaller protocols below are optional: the training code asks
for them with ``isinstance`` and does without where they are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from fedumm.features.table import FeatureTable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class Backend(Protocol):
    """A model family."""

    def build_model_and_processor(
        self, model_name_or_path: str, lora_r: int, lora_alpha: int, lora_dropout: float, device: torch.device
    ) -> tuple[torch.nn.Module, Any]:
        """Load a frozen model with trainable LoRA layers on ``device``, and its processor.

        Whatever ``requires_grad`` afterwards is the adapter: only that is trained and exchanged.
        """
        ...

    def build_dataset(self, hf_ds: Any, processor: Any, max_q_len: int, max_a_len: int) -> Any:
        """A ``torch.utils.data.Dataset`` over the Hugging Face data set ``hf_ds``: an item a row, in order."""
        ...

    def collate_fn(self, batch: list[Any]) -> Any:
        """A list of its items, as one batch."""
        ...

    def train_step(self, model: torch.nn.Module, batch: Any, device: torch.device) -> torch.Tensor:
        """Forward pass; the scalar loss, not yet differentiated.

        Called, as ``evaluate`` is, under ``torch.autocast`` where ``--precision`` says so.
        """
        ...

    def evaluate(self, model: torch.nn.Module, dataloader: Any, processor: Any, device: torch.device) -> float:
        """The score of ``model`` on the batches of ``dataloader``: a mean over samples, higher is better."""
        ...

    def hf_dataset_name(self) -> str:
        """Default data source or Hub id."""
        ...

    def hf_train_split(self) -> str:
        """Split to train on."""
        ...

    def hf_eval_split(self) -> str:
        """Split to evaluate on."""
        ...

    def keep_columns(self) -> list[str]:
        """Columns that ``build_dataset`` reads."""
        ...


REQUIRED_METHODS = tuple(name for name in vars(Backend) if not name.startswith("_"))


@dataclass(frozen=True)
class FrozenStage:
    """The part of a model that turns an image into features, with weights that never change.

    Attributes:
        name: for people.
        module: holds the weights; features of other weights are never taken for these.
        encode: ``(batch, ...)`` what :meth:`FeatureDataset.pixels` gives -> ``(batch, ...)`` features.
        settings: whatever else features depend on, such as the image processor's options.
    """

    name: str
    module: torch.nn.Module
    encode: Callable[[torch.Tensor], torch.Tensor]
    settings: str


class FeatureDataset(Protocol):
    """A data set over ``rows`` with a column ``image``, which can do with features instead."""

    rows: Any
    features: FeatureTable | None

    def pixels(self, rows: Sequence[int]) -> torch.Tensor:
        """What the frozen stage takes, ``(len(rows), ...)``."""
        ...

    def subset(self, rows: Sequence[int]) -> Any:
        """Some of the rows, in this order, with nothing computed again."""
        ...


@runtime_checkable
class HasFrozenStage(Protocol):
    """A backend whose frozen stage can be run once per image instead of once per sample and epoch.

    Its ``build_dataset`` returns a :class:`FeatureDataset`.
    """

    def frozen_stage(self, model: torch.nn.Module, processor: Any) -> FrozenStage:
        """The stage of ``model``."""
        ...


@runtime_checkable
class MergesBatches(Protocol):
    """A backend whose loss is a mean over samples, so that batches may be merged or cut at will."""

    loss_is_sample_mean: bool


@runtime_checkable
class ScoresSamples(Protocol):
    """A backend that can score each sample by itself: then scores by answer type or the like are reported."""

    def score_samples(
        self, model: torch.nn.Module, dataloader: Any, processor: Any, device: torch.device
    ) -> list[tuple[float, str]]:
        """Score (0..1) of each sample in the order of ``dataloader``, and the subset it belongs to, or ""."""
        ...


@runtime_checkable
class AnswersQuestions(Protocol):
    """A backend that ``fedumm ask`` can use."""

    def answer(
        self, model: torch.nn.Module, processor: Any, image: Image.Image, question: str, device: torch.device
    ) -> str:
        """The model's answer to ``question`` about ``image``."""
        ...
