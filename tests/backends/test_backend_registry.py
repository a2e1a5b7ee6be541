"""Backends by name: shipped, a user's own, from an installed package; what is wrong with one is said in words."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedumm.backends import available_backends, get_backend, register_backend
from fedumm.backends.protocol import REQUIRED_METHODS
from fedumm.backends.registry import BACKENDS, check_backend_name
from fedumm.errors import FedummError

# What the original program asked of a backend; a backend written for it must be accepted.
METHODS = [
    "build_model_and_processor",
    "build_dataset",
    "collate_fn",
    "train_step",
    "evaluate",
    "hf_dataset_name",
    "hf_train_split",
    "hf_eval_split",
    "keep_columns",
]
BACKEND_CLASS = "class Mine:\n" + "".join(f"    def {m}(self, *args): return {m!r}\n" for m in METHODS)
REGISTERS = f"from fedumm.backends import register_backend\n{BACKEND_CLASS}\n"


def backend(*without: str) -> SimpleNamespace:
    return SimpleNamespace(**{m: (lambda *_: None) for m in METHODS if m not in without})


@pytest.fixture(autouse=True)
def only_shipped_backends() -> Iterator[None]:
    """Forget what entry points of other tests have given, and afterwards what this one's have."""
    modules = set(sys.modules)
    yield
    BACKENDS._loaded.pop("acme", None)
    for name in set(sys.modules) - modules:
        if name.startswith("acme_"):
            del sys.modules[name]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Install a package ``acme_backend`` with one entry point."""

    def install(code: str, entry_point: str) -> None:
        site = tmp_path / "site"
        info = site / "acme_backend-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-backend\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[fedumm.backends]\n{entry_point}\n")
        (site / "acme_backend.py").write_text(code)
        monkeypatch.syspath_prepend(str(site))
        importlib.invalidate_caches()

    return install


def test_a_backend_needs_the_methods_of_the_original_program_and_no_more() -> None:
    assert sorted(REQUIRED_METHODS) == sorted(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_method_is_named(method: str) -> None:
    with pytest.raises(FedummError, match=rf"^Backend 'mine' lacks the method\(s\) {method}\.$"):
        register_backend("mine", backend(method))
    assert "mine" not in available_backends()


def test_all_missing_methods_are_named_at_once() -> None:
    with pytest.raises(FedummError) as refusal:
        register_backend("mine", object())
    assert all(method in str(refusal.value) for method in METHODS)


def test_an_attribute_that_is_no_method_counts_as_missing() -> None:
    mine = backend()
    mine.evaluate = 0.5
    with pytest.raises(FedummError, match=r"lacks the method\(s\) evaluate"):
        register_backend("mine", mine)


def test_a_class_may_be_decorated() -> None:
    @register_backend("mine")
    class Mine:
        vars().update({m: lambda self, *_: None for m in METHODS})

    assert isinstance(get_backend("mine"), Mine)


def test_a_later_registration_replaces_an_earlier_one() -> None:
    first, second = backend(), backend()
    register_backend("mine", first)
    register_backend("mine", second)
    assert get_backend("mine") is second
    assert available_backends() == ["blip_vqa", "hf_vlm", "januspro", "mine"]


@pytest.mark.parametrize(
    ("name", "nearest"), [("blip_vqq", "blip_vqa"), ("blip", "blip_vqa"), ("my_modle", "my_model"), ("zzz", None)]
)
def test_an_unknown_name_lists_what_is_there_and_the_nearest(name: str, nearest: str | None) -> None:
    register_backend("my_model", backend())
    with pytest.raises(FedummError) as refusal:
        get_backend(name)
    message = str(refusal.value)
    assert message.startswith(f"Unknown backend {name!r}. Available: blip_vqa, hf_vlm, januspro, my_model.")
    assert ("Did you mean" in message) == bool(nearest)
    assert not nearest or f"Did you mean {nearest!r}?" in message
    assert "--plugin" in message


class TestEntryPoint:
    def test_to_a_class_is_listed_without_importing_it_and_made_when_asked_for(
        self, installed: Callable[[str, str], None]
    ) -> None:
        installed(BACKEND_CLASS, "acme = acme_backend:Mine")
        assert available_backends() == ["acme", "blip_vqa", "hf_vlm", "januspro"]
        check_backend_name("acme")
        assert "acme_backend" not in sys.modules
        assert get_backend("acme").hf_train_split() == "hf_train_split"
        assert get_backend("acme") is get_backend("acme")

    def test_to_a_module_that_registers_itself_is_imported(self, installed: Callable[[str, str], None]) -> None:
        installed(REGISTERS + "register_backend('acme', Mine())", "acme = acme_backend")
        assert get_backend("acme").hf_eval_split() == "hf_eval_split"

    def test_to_a_module_that_registers_another_name_is_refused(self, installed: Callable[[str, str], None]) -> None:
        installed(REGISTERS + "register_backend('emca', Mine())", "acme = acme_backend")
        with pytest.raises(FedummError, match="'acme_backend' did not register a backend called 'acme'"):
            get_backend("acme")

    def test_to_an_incomplete_class_names_the_methods(self, installed: Callable[[str, str], None]) -> None:
        installed("class Mine: ...", "acme = acme_backend:Mine")
        with pytest.raises(FedummError, match="Backend 'acme' lacks the method"):
            get_backend("acme")

    @pytest.mark.parametrize(
        ("code", "point"),
        [("import no_such_library", "acme_backend"), ("", "acme_backend:Mine"), ("raise OSError('x')", "acme_backend")],
    )
    def test_that_cannot_be_loaded_is_named(self, code: str, point: str, installed: Callable[[str, str], None]) -> None:
        installed(code, f"acme = {point}")
        with pytest.raises(FedummError, match=f"The entry point '{point}' of the backend 'acme' failed: "):
            get_backend("acme")

    def test_does_not_replace_a_backend_registered_under_its_name(self, installed: Callable[[str, str], None]) -> None:
        installed(BACKEND_CLASS, "acme = acme_backend:Mine")
        mine = backend()
        register_backend("acme", mine)
        assert get_backend("acme") is mine
