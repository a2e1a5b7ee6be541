"""A job names parts of installed packages: a site imports those that its own file allows, and no other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedumm.aggregation.registry import aggregators
from fedumm.compression import registry
from fedumm.compression.registry import CODECS, codec_numbered
from fedumm.config import FederateConfig
from fedumm.data.partition.registry import PARTITIONERS
from fedumm.errors import PublicError
from fedumm.federation.client.host import Host
from fedumm.federation.runners.flare.admission import site_config
from fedumm.federation.runners.flare.site_policy import FILE
from fedumm.federation.server.server import Server
from fedumm.flare import HostExecutor
from fedumm.metrics.registry import METRICS

BUNDLED = {"model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "easy_vqa"}
NAMES = ("acme_parts", "acme_codec")
PACKAGE = """
from fedumm import register_aggregator
from fedumm.aggregation.methods.fedavg import FedAvg

@register_aggregator("acme")
class Acme(FedAvg): ...
"""


CODEC = """
from fedumm import register_codec
from fedumm.compression.codecs import Exact

@register_codec("acme")
class AcmeCodec(Exact):
    id = 200
"""


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with an entry point ``acme`` in every group."""
    site = tmp_path / "site-packages"
    info = site / "acme_parts-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_parts.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-parts\nVersion: 1.0\n")
    (site / "acme_codec.py").write_text(CODEC)
    groups = {kind.group: "acme_parts" for kind in (aggregators, PARTITIONERS, METRICS)} | {CODECS.group: "acme_codec"}
    (info / "entry_points.txt").write_text("".join(f"[{group}]\nacme = {file}\n" for group, file in groups.items()))
    monkeypatch.syspath_prepend(str(site))
    yield
    for name in NAMES:
        sys.modules.pop(name, None)
    for kind in (aggregators, CODECS):
        kind._loaded.pop("acme", None)


@pytest.mark.parametrize(
    "option",
    ["aggregator=acme", "wire=acme", "wire_up=acme", "wire_down=acme", "partition=acme", "partition=acme:3",
     "answer_metric=acme"],
)  # fmt: skip
def test_a_job_gets_no_code_imported_that_the_site_does_not_name(tmp_path: Path, option: str) -> None:
    name, _, value = option.partition("=")
    options = {**BUNDLED, name: value}
    HostExecutor(options)
    with pytest.raises(PublicError, match=rf"\(--{name}\).*local/{FILE}: parts: \[acme\]"):
        site_config(options, tmp_path)
    assert not set(NAMES) & set(sys.modules)


def test_what_the_site_names_is_there(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("parts: [acme]\n")
    assert site_config({**BUNDLED, "aggregator": "acme"}, tmp_path).aggregator == "acme"
    assert "acme_parts" in sys.modules


@pytest.mark.parametrize("option", ["partition=own", "partition=iid", "wire=nf4", "aggregator=krum", "wire_up="])
def test_what_is_shipped_needs_no_leave(tmp_path: Path, option: str) -> None:
    name, _, value = option.partition("=")
    assert getattr(site_config({**BUNDLED, name: value}, tmp_path), name) == value


@pytest.mark.parametrize("value", [["acme"], {"acme": 1}, None, 3, True, "acme\n", "fedavg:acme"])
def test_a_name_of_another_kind_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(PublicError):
        site_config({**BUNDLED, "aggregator": value}, tmp_path)
    assert "acme_parts" not in sys.modules


def test_a_number_on_the_wire_gets_no_code_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither that of a server's message nor that of a client's. A host and a server know their run's own codec."""
    monkeypatch.setattr(registry, "_CALLED", {})
    with pytest.raises(ValueError, match="no codec has the number 200"):
        codec_numbered(200)
    assert "acme_codec" not in sys.modules
    config = FederateConfig(**BUNDLED, wire_up="acme")
    Host("site-1", config, lambda *_: None, tmp_path)
    assert codec_numbered(200).name == "acme"
    monkeypatch.setattr(registry, "_CALLED", {})
    Server(config, {"site-1": ["site-1"], "site-2": ["site-2"]}, tmp_path / "state")
    assert codec_numbered(200).name == "acme"
