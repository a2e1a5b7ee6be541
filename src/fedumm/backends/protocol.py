"""What a backend must offer, and what it may offer on top.

A class with the methods of :class:`Backend` is enough to train, federate and
evaluate a model. The smaller protocols below are optional: the training code asks
for them with ``isinstance`` and does without where they are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from fedumm.metrics.text_metric import TextMetric

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from fedumm.backends.answers import AnswerOptions
    from fedumm.backends.feature_table import FeatureTable
    from fedumm.backends.spelling import Speller
    from fedumm.backends.weights import WeightOptions
    from fedumm.metrics.registry import AnswerMetric

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


@runtime_checkable
class HasTasks(Protocol):
    """A backend that can do more than answer, or can put LoRA on more than attention.

    Its ``build_dataset`` is given rows with a column ``task``, and returns a :class:`TaskDataset`.
    """

    def for_tasks(self, tasks: Sequence[str], lora_targets: str) -> Backend:
        """The backend for ``vqa``, ``t2i``, both of these or ``i2t``, and LoRA on ``attention`` or ``all`` layers.

        Raises:
            FedummError: it can't do that.
        """
        ...


@runtime_checkable
class TakesWeights(Protocol):
    """A backend that can load its weights in another type than float32, in four bits, or over several GPUs."""

    def for_weights(self, options: WeightOptions) -> Backend:
        """The backend that loads its model as ``options`` say; :mod:`fedumm.backends.weights` has the arguments.

        Raises:
            FedummError: it can't do that.
        """
        ...


@runtime_checkable
class TakesMetric(Protocol):
    """A backend whose answers may be scored by another metric than the VQA v2 accuracy (see :func:`scored`)."""

    def for_metric(self, metric: AnswerMetric) -> Backend:
        """The backend that scores each answer by ``metric``."""
        ...


@runtime_checkable
class TakesPrompt(Protocol):
    """A backend that can put other words around a question than its own."""

    def for_prompt(self, prompt: str) -> Backend:
        """The backend that asks with ``prompt``, which is not empty, as :func:`fedumm.backends.prompting.asked` does.

        ``--max_q_len`` counts the question's own text only.
        """
        ...


@runtime_checkable
class TakesAnswers(Protocol):
    """A backend that can train on all answers of a question, or rank given answers instead of generating one."""

    def for_answers(self, options: AnswerOptions) -> Backend:
        """The backend that trains on and chooses answers as ``options`` say.

        Raises:
            FedummError: it can't do that.
        """
        ...


@runtime_checkable
class SpellsAnswers(Protocol):
    """A backend whose tokenizer can be asked what it can say, before any model is loaded."""

    def load_processor(self, model_name_or_path: str) -> Any:
        """Tokenizer and image processor, without weights.

        Raises:
            FedummError: there are none.
        """
        ...

    def speller(self, processor: Any) -> Speller:
        """Texts as tokens, and tokens as the answers that they stand for."""
        ...


@runtime_checkable
class TellsFindings(Protocol):
    """A backend that finds out about a model what its user should know, a line each; ``processor`` as it was built."""

    def findings(self, processor: Any) -> list[str]:
        """Before a training: about the model alone and never about data, since a site tells them to the server."""
        ...

    def warnings(self, processor: Any) -> list[str]:
        """Those of the findings that make answers worse; told to whoever asks the model, too."""
        ...


class TaskDataset(Protocol):
    """A data set with samples of several tasks. A batch holds samples of one task.

    ``tasks`` and ``lengths`` (all tokens that the model sees, image tokens included) go by position.
    """

    tasks: Sequence[str]
    lengths: Sequence[int]


@dataclass(frozen=True)
class FrozenStage:
    """The part of a model that turns an image into features, with weights that never change.

    Attributes:
        name: what it makes, for people; unique within the backend.
        module: holds the weights; features of other weights are never taken for these.
        encode: ``(batch, ...)`` what :meth:`FeatureDataset.pixels` gives -> ``(batch, ...)`` features. With
            ``one_by_one``, what it gives for one row, as it is and not moved to the device -> a pair: features
            ``(n, width)``, where n may differ between images, and whole numbers that go with them, int64 ``(m,)``,
            which are kept exactly.
        settings: whatever else features depend on, such as the image processor's options.
        dtype: type of the features, if they are not rounded numbers that ``--feature_dtype`` may choose for.
        one_by_one: each image goes through the stage alone.
    """

    name: str
    module: torch.nn.Module
    encode: Callable[[Any], Any]
    settings: str
    dtype: torch.dtype | None = None
    one_by_one: bool = False


class FeatureDataset(Protocol):
    """Data over ``rows`` with a column ``image``, which can do with features instead."""

    rows: Any
    features: FeatureTable | None

    def pixels(self, rows: Sequence[int]) -> Any:
        """What the frozen stage takes: a tensor ``(len(rows), ...)``, or with ``one_by_one`` anything for one row."""
        ...


class StagedDataset(Protocol):
    """A data set of which parts can do with features."""

    cached: bool
    """Whether all of them have their features by now."""

    def part(self, stage: str) -> FeatureDataset | None:
        """What takes the features of the stage of that name; None if no sample does."""
        ...

    def subset(self, rows: Sequence[int]) -> Any:
        """Some of the samples, in this order, with nothing computed again."""
        ...


@runtime_checkable
class HasFrozenStages(Protocol):
    """A backend with stages that can be run once per image instead of once per sample and epoch.

    Its ``build_dataset`` returns a :class:`StagedDataset`.
    """

    def frozen_stages(self, model: torch.nn.Module, processor: Any) -> list[FrozenStage]:
        """The stages of ``model``."""
        ...


@runtime_checkable
class MergesBatches(Protocol):
    """A backend whose loss is a mean over samples, so that batches may be merged or cut at will."""

    loss_is_sample_mean: bool


@runtime_checkable
class ReadsSeveralImages(Protocol):
    """A backend that reads all images of a row, which :mod:`fedumm.data.each_picture` finds, not ``image`` alone."""

    reads_several_images: bool


class SampleScore(NamedTuple):
    """How one sample fared: its score (0..1), the subset that it belongs to, its loss in nats where there is one,
    other scores by name (:attr:`fedumm.tasks.Task.others`), which all samples of a task have alike, and what was said,
    where something was.

    Of an image to draw, the score is the part of the surprise of guessing that the model is spared:
    1 - (nats a token) / ln(size of the codebook).
    """

    score: float
    part: str = ""
    loss: float | None = None
    others: Mapping[str, float] = MappingProxyType({})
    said: str | None = None


def scored(metric: AnswerMetric, said: str, references: Sequence[str], part: str = "") -> SampleScore:
    """How an answer, or a text, fares by ``metric``."""
    others = metric.others(said, references) if isinstance(metric, TextMetric) else {}
    return SampleScore(metric(said, references), part, others=others, said=said)


@runtime_checkable
class ScoresSamples(Protocol):
    """A backend that can score each sample by itself: then scores by answer type or the like are reported."""

    def score_batch(
        self, model: torch.nn.Module, batch: Any, processor: Any, device: torch.device
    ) -> list[SampleScore]:
        """The score of each sample of ``batch``, in order."""
        ...


@runtime_checkable
class HasKeyValueCache(Protocol):
    """A backend whose model keeps keys and values of every token while it answers or draws.

    They limit how many samples are scored at a time, where its data sets have ``lengths``
    (see :class:`TaskDataset`), and how many are drawn, where it has ``drawn_tokens`` (:class:`DrawsTokens`).
    """

    def token_bytes(self, model: torch.nn.Module) -> int:
        """Bytes of keys and values a token: 2 x layers x width of the keys x bytes a number."""
        ...


@runtime_checkable
class AnswersQuestions(Protocol):
    """A backend that ``fedumm ask`` can use."""

    def answer(self, model: torch.nn.Module, processor: Any, image: Any, question: str, device: torch.device) -> str:
        """The answer to ``question`` about a ``PIL.Image``; :class:`ReadsSeveralImages` may be given a list of them."""
        ...


@runtime_checkable
class DrawsImages(Protocol):
    """A backend whose model turns captions into images."""

    def draw(
        self,
        model: torch.nn.Module,
        processor: Any,
        captions: Sequence[str],
        seeds: Sequence[int],
        device: torch.device,
        *,
        guidance: float | None = None,
        temperature: float = 1.0,
    ) -> list[Image.Image]:
        """An image a caption; the k-th depends on ``captions[k]`` and ``seeds[k]`` only (to rounding).

        Args:
            guidance: of classifier-free guidance; 1: none; None: what suits the model.
            temperature: below 1, tokens are nearer to the likeliest ones.
        """
        ...


@runtime_checkable
class DrawsTokens(Protocol):
    """A backend that draws images token by token."""

    def drawn_tokens(
        self, model: torch.nn.Module, processor: Any, captions: Sequence[str], guidance: float | None
    ) -> list[int]:
        """Tokens that are in memory when each caption's image is finished; guidance reads everything twice."""
        ...
