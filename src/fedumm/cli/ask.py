"""``fedumm ask``: one question about one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedumm.cli.options import Parser
from fedumm.errors import FedummError

DESCRIPTION = """Ask a question about an image.

  fedumm ask shape.png "what color is the shape?" --adapter runs/demo/adapter/best"""


def main(argv: list[str], prog: str) -> int:
    """Parse, load, answer."""
    parser = Parser(prog=prog, usage="%(prog)s IMAGE QUESTION [OPTIONS]", description=DESCRIPTION)
    parser.add_argument("image", help="image file")
    parser.add_argument("question", help="question, in quotes")
    parser.add_argument("--adapter", default="", help="adapter folder of a run (empty: the model without one)")
    parser.add_argument("--model_backend", default="", help="backend (default: the one the adapter was trained with)")
    parser.add_argument("--model_name_or_path", default="", help="model (default: the one the adapter was trained on)")
    parser.add_argument("--backend_file", default="", help="Python file that registers the backend")
    parser.add_argument("--gpu", default="", help="GPU id; cpu: none (default: the first, if there is one)")
    args = parser.parse_args(argv)
    if not Path(args.image).is_file():
        raise FedummError(f"Image not found: {args.image}")
    print(_answer(args))
    return 0


def _answer(args: object) -> str:
    given = vars(args)
    image_file, question, adapter = Path(given["image"]), given["question"], given["adapter"]

    from PIL import Image, UnidentifiedImageError

    from fedumm.adapters.folder import read_folder
    from fedumm.backends import load_backend_file
    from fedumm.backends.protocol import AnswersQuestions
    from fedumm.config import RunConfig
    from fedumm.training.backbone import load_backbone, pick_device

    try:
        image = Image.open(image_file).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise FedummError(f"{image_file} can't be read as an image: {error}") from error
    state, peft = read_folder(adapter) if adapter else ({}, {})
    options: dict[str, Any] = _run_options(Path(adapter)) if adapter else {}
    for name in ("model_backend", "model_name_or_path", "backend_file"):
        if given[name]:
            options[name] = given[name]
    if "model_backend" not in options:
        raise FedummError("Say which model to ask: --adapter FOLDER of a run, or --model_backend.")
    if peft:
        options |= {"lora_r": peft["r"], "lora_alpha": peft["lora_alpha"]}
    config = RunConfig(**options)
    if config.backend_file:
        load_backend_file(config.backend_file)
    backbone = load_backbone(config, pick_device(given["gpu"]))
    if not isinstance(backbone.backend, AnswersQuestions):
        raise FedummError(f"The backend {config.model_backend!r} has no method 'answer'.")
    if state:
        try:
            backbone.put(state)
        except ValueError as error:
            raise FedummError(
                f"{adapter} does not fit the model {config.model_name_or_path or 'default'!r}: {error}"
            ) from error
    return backbone.backend.answer(backbone.model, backbone.processor, image, question, backbone.device)


def _run_options(adapter: Path) -> dict[str, str]:
    """Model options from the ``config.yaml`` of the run (or output) folder that holds ``adapter``."""
    from fedumm.config import read_yaml

    for folder in list(adapter.resolve().parents)[:2]:
        if (folder / "config.yaml").is_file():
            values = read_yaml(folder / "config.yaml")
            wanted = ("model_backend", "model_name_or_path", "backend_file")
            return {name: values[name] for name in wanted if values.get(name)}
    return {}
