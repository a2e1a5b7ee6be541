"""A program that was told to end, ends: once, and with nothing left behind."""

from __future__ import annotations

import os
import signal
import time
import weakref
from pathlib import Path

import pytest

from fedumm import temporary
from fedumm.stopping import SIGNALS, StoppedError, exit_status, like_ctrl_c, undisturbed


@pytest.fixture(autouse=True)
def _handlers() -> object:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_disturbs_no_end_that_has_begun(number: signal.Signals) -> None:
    cleared = []
    with pytest.raises(StoppedError), like_ctrl_c():  # noqa: PT012
        try:
            os.kill(os.getpid(), number)
        finally:
            for again in SIGNALS:
                os.kill(os.getpid(), again)
            with undisturbed():
                os.kill(os.getpid(), number)
            cleared.append(True)
    os.kill(os.getpid(), number)  # while Python runs what was registered for its end
    assert cleared == [True]
    with pytest.raises(StoppedError), like_ctrl_c():  # the next command of a program that goes on all the same
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, *SIGNALS])
def test_a_signal_where_python_drops_exceptions_is_not_lost(
    number: signal.Signals, request: pytest.FixtureRequest
) -> None:
    """A weak reference's callback: PyTorch has many of these, and a study went on after Ctrl-C."""

    class Thing:
        pass

    def called(_: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(0.001)

    # A shell that starts something in the background lets it ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    thing = Thing()
    watched = weakref.ref(thing, called)
    with pytest.raises(KeyboardInterrupt) as stop, like_ctrl_c():  # noqa: PT012
        del thing
        assert watched() is None
        time.sleep(5)
        pytest.fail("it was lost")
    assert exit_status(stop.value) == 128 + number


def test_without_a_signal_all_is_as_before() -> None:
    with like_ctrl_c(), undisturbed():
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_DFL] * len(SIGNALS)


@pytest.mark.parametrize("late", [False, True])
def test_a_temporary_folder_goes_whenever_the_signal_comes(
    late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after it was made, too, before anybody knows that it is there."""
    monkeypatch.setattr(temporary, "base_for_sockets", lambda: str(tmp_path))
    mkdir = os.mkdir

    def stopped(path: str, mode: int = 0o777) -> None:
        mkdir(path, mode)
        if not late:
            raise StoppedError(signal.SIGTERM)

    monkeypatch.setattr(os, "mkdir", stopped)
    with pytest.raises(StoppedError), temporary.folder_for_sockets() as folder:  # noqa: PT012
        assert Path(folder).parent == tmp_path
        assert Path(folder).stat().st_mode & 0o777 == 0o700
        raise StoppedError(signal.SIGTERM)
    assert not list(tmp_path.iterdir())
