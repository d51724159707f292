"""Judged code that would rather not be judged: none of it conforms, none of it stops the judge."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from hostile_adapters import SCREEN
from numpy.typing import NDArray

from drifting_parity.adapters.base import Adapter, ImplementationError
from drifting_parity.adapters.loading import AdapterError, load_adapter
from drifting_parity.adapters.process import judged_process
from drifting_parity.adapters.process.isolated import MOST_ENDED, MOST_UNANSWERED
from drifting_parity.adapters.process.judged_process import Limits
from drifting_parity.adapters.process.state import State
from drifting_parity.adapters.process.wire import Unfit, message, packer, receive, unpacker
from drifting_parity.adapters.reference_adapter import ReferenceAdapter
from drifting_parity.adapters.torch_adapter import TorchAdapter
from drifting_parity.cases import Array, FieldCase, LossCase, LossObservation, Manifest, Setting
from drifting_parity.checks import CHECKS
from drifting_parity.checks.core import Check, Context
from drifting_parity.cli import main
from drifting_parity.explanation import search
from drifting_parity.explanation.data import Explanation
from drifting_parity.explanation.probes import field_probes, loss_probes
from drifting_parity.explanation.vectors import vector_probes
from drifting_parity.judging import axes
from drifting_parity.judging.verdicts import Request, judge, run_check
from drifting_parity.measure import within
from drifting_parity.plain import LONGEST, plain
from drifting_parity.report.terminal import terminal
from drifting_spec import PAPER
from drifting_spec.registry import load

GIB = 2**30
CASE = LossCase(Manifest("small"), *(np.ones((1, 3, 1, 2)) * n for n in (1.0, 2.0)))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """No explanation, which is not what is tested here."""
    unexplained = Explanation("x", PAPER, PAPER, explained=False)
    monkeypatch.setattr(axes, "fingerprint", lambda *_, **__: unexplained)


@pytest.fixture
def loaded() -> Iterator[Callable[..., Adapter]]:
    """Adapters of ``hostile_adapters``, ended after the test."""
    adapters: list[Adapter] = []

    def get(name: str, seconds: float = 60.0, memory: int = 0) -> Adapter:
        adapters.append(load_adapter(f"python:hostile_adapters:{name}", Limits(seconds, memory)))
        return adapters[-1]

    yield get
    for adapter in adapters:
        adapter.close()


def ask(adapter: Adapter) -> str:
    """What is raised in place of a loss."""
    with pytest.raises(ImplementationError) as raised:
        adapter.loss(CASE, PAPER, Setting())
    return str(raised.value)


RAISES: dict[str, str] = {
    # It ends the process, or tries to.
    "Exits": "tried to leave the process: SystemExit: 0 (hostile_adapters.py",
    "ExitsAtOnce": "ended the process (exit status 0) in loss of case",
    "ExitsWithThree": "ended the process (exit status 3) in loss of case",
    "ExitsFromAThread": "ended the process (exit status 0) in loss of case",
    "Crashes": "ended the process (SIGSEGV) in loss of case",
    "Aborts": "ended the process (SIGABRT) in loss of case",
    "KillsItself": "ended the process (SIGKILL) in loss of case",
    "KillsItsGroup": "ended the process (SIGTERM) in loss of case",
    "KillsItsParent": "ended the process that guards it in loss of case",
    "Interrupts": "tried to leave the process: KeyboardInterrupt (hostile_adapters.py",
    "RaisesAtTheRoot": "tried to leave the process: Escape: past every except Exception",
    "CannotBeShown": "Shy: its message cannot be shown: __str__ raised SystemExit",
    "RunsOutOfStack": "RecursionError: maximum recursion depth exceeded",
    # It takes time or memory.
    "StopsItself": "did not answer within 0.7 s (--timeout) in loss of case",
    "Hangs": "did not answer within 0.7 s (--timeout) in loss of case",
    "Spins": "did not answer within 0.7 s (--timeout) in loss of case",
    "TakesFiveSeconds": "did not answer within 0.7 s (--timeout) in loss of case",
    "PrintsWithoutEnd": "did not answer within 0.7 s (--timeout) in loss of case",
    "Allocates": "GiB of memory, allowed are 0.25 (--memory) in loss of case",
    "AllocatesInAChild": "GiB of memory, allowed are 0.25 (--memory) in loss of case",
    # It meddles with its connection to the judge.
    "ClosesEverything": "closed its connection to the judge in loss of case",
    "WritesNonsense": "sent an answer that is none: a header of",
    "AnswersNothing": "sent an answer that is none: no answer in loss of case",
    # It changes what it is judged by.
    "ZeroesItsInputs": "changed its input generated in place in loss of case",
    "RightButZeroes": "changed its input generated in place in loss of case",
    # What it says is not fit for a terminal; what it returns is no answer.
    "SaysTooMuch": r"ValueError: \x1b[2J\x1b]0;owned\x07\u202e\ud800\x9b31mxxx",
    "ReturnsComplexNumbers": "what loss returned: .gradient is an array of dtype complex128",
    "ReturnsATuple": "loss returned tuple, expected LossObservation",
    "ReturnsAFloat": "loss returned float, expected LossObservation",
    "ReturnsNone": "loss returned None, expected LossObservation",
    "ReturnsText": "loss returned str, expected LossObservation",
    "ReturnsALiveObject": "ended the process (exit status 0) in loss of case",
}
DEVIATES = (
    *("ExitsAtTheEnd", "Forks", "LeavesADaemon", "PatchesTheJudge", "CallsItselfTheReference"),
    *("ChangesGlobalState", "PrintsAReport", "ReturnsNan", "ReturnsInfinity"),
    *("ReturnsAnotherShape", "KeepsState", "RemembersTheFirst"),
)
TABLE: dict[str, tuple[int, str, str]] = {
    **{name: (1, "raises", said) for name, said in RAISES.items()},
    **dict.fromkeys(DEVIATES, (1, "deviates", "")),
    "RefusesRudely": (3, "not observable", r"\x1b[2J\x1b]0;owned\x07\u202e\ud800\x9b31mxxx"),
}
SLOW = {name for name, said in RAISES.items() if "(--timeout)" in said}


def arguments(name: str, *more: str) -> list[str]:
    return [
        *("report", "--implementation", f"python:hostile_adapters:{name}"),
        *("--quick", "--clause", "EQ-20", "--memory", "0.25"),
        *("--timeout", "0.7" if name in SLOW else "60", *more),
    ]


@pytest.mark.parametrize("name", TABLE)
def test_nothing_hostile_conforms(
    name: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DAEMONS", str(tmp_path))
    before = (Path.cwd(), dict(os.environ), signal.getsignal(signal.SIGTERM))
    status, verdict, said = TABLE[name]
    if name not in DEVIATES:
        request.getfixturevalue("short")
    monkeypatch.setattr(search, "BUDGET", 50)  # gradients of all ones are not explained anyway
    # Where no call gives an answer at all, nothing was judged.
    answers = name != "ReturnsAnotherShape"
    assert main(arguments(name, "--format", "json")) == (status if answers else 3)
    shown = capfd.readouterr()
    assert shown.err == ""
    assert before == (Path.cwd(), dict(os.environ), signal.getsignal(signal.SIGTERM))
    document = json.loads(shown.out)
    if name in DEVIATES:  # one clause may be right; what is computed is not
        assert not document["explanation"]["explained"] or document["explanation"]["deviations"]
    else:
        (clause,) = document["clauses"]
        assert clause["verdict"] == verdict
        assert said in clause["detail"]
        assert document["summary"]["conforms"] == document["summary"]["by_definition"] == 0
    for item in tmp_path.iterdir():
        assert ended(int(item.name)), "a process outlived the judge"


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.usefixtures("short")
def test_the_same_without_tricks_conforms(capfd: pytest.CaptureFixture[str]) -> None:
    """The table would prove nothing if the harness of it failed whatever it is given."""
    assert main(arguments("NearlyRight", "--format", "json")) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["summary"]["conforms"] == 1
    assert document["conduct"] == []


# What is told.


@pytest.mark.usefixtures("short")
def test_conduct_is_told_by_name(capfd: pytest.CaptureFixture[str]) -> None:
    main(arguments("ChangesGlobalState", "--format", "json"))
    conduct = json.loads(capfd.readouterr().out)["conduct"]
    told = {item["what"].partition(" from {")[0]: item for item in conduct}
    for what in (
        f"changed working directory from {Path.cwd()} to /",
        "changed environment variables: DRIFTING",
        "changed signal handlers: SIGTERM",
        "changed warnings filters",
        "changed sys.stdout or sys.stderr",
        "changed numpy.seterr",
        f"changed recursion limit from {sys.getrecursionlimit()} to 5000",
        "drew from random's stream",
        "drew from numpy.random's stream",
    ):
        assert what in told
        assert not told[what]["breaks_parity"]
        assert told[what]["where"].startswith("loss of case ")
    # It is put back after each call, so that each call is told of.
    assert told["changed environment variables: DRIFTING"]["count"] > 5


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("form", ["terminal", "markdown", "json"])
@pytest.mark.parametrize("name", ["SaysTooMuch", "RefusesRudely", "PrintsAReport"])
def test_what_it_says_is_escaped_and_cut(
    name: str, form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    main(arguments(name, "--format", form))
    shown = capfd.readouterr()
    assert shown.err == ""
    text = shown.out
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert "x" * (LONGEST + 1) not in text.replace("\n", "")
    assert len(text) < 20_000
    assert "\nparity holds" not in text
    assert "x1b[2J" in text


def test_plain_text_is_one_printable_line() -> None:
    assert plain("a\n b\tc\x85d\u2028e") == "a b c d e"
    assert plain(SCREEN) == r"\x1b[2J\x1b]0;owned\x07\u202e\ud800\x9b31m"
    assert plain("λ·√C ✓ 中") == "λ·√C ✓ 中"
    assert plain("x" * 300) == "x" * 300
    assert plain("x" * 301) == "x" * 299 + "…"


# How often it may fail.


@pytest.mark.parametrize(("name", "most"), [("Hangs", MOST_UNANSWERED), ("Crashes", MOST_ENDED)])
def test_what_fails_too_often_is_not_called_again(
    name: str, most: int, loaded: Callable[..., Adapter]
) -> None:
    adapter = loaded(name, 0.3)
    texts = [ask(adapter) for _ in range(most + 2)]
    assert len(set(texts[:most])) == len(set(texts[most:])) == 1
    assert texts[-1] == f"loss is not called any more: it {texts[0]}"
    told = {item.kind: item.count for item in adapter.close()}
    assert told["not called"] == 2
    assert sum(told.values()) == most + 2


def test_a_refusal_that_is_wanted_is_not_an_end_of_the_process() -> None:
    """A check that expects an exception must not take a dead process for one."""

    def run(context: Context) -> Iterator[Any]:
        try:
            context.loss(CASE)
        except Exception:  # as the checks of the queue do
            yield within("EQ-20", "refused", "all", 0.0, 1.0)

    check = Check("wants a refusal", "", ("EQ-20",), "property", run)
    for name in ("ExitsAtOnce", "Exits", "ClosesEverything"):
        adapter = load_adapter(f"python:hostile_adapters:{name}", Limits())
        outcome = run_check(check, Context(adapter, PAPER, Setting(), load()))
        adapter.close()
        assert outcome.error
        assert not outcome.passed


# Loading.


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit(0)", "did not load: SystemExit: 0 (unloadable.py, line 1"),
        ("import os; os._exit(0)", "ended the process (exit status 0) while it was loaded"),
        ("print('why'); import os; os._exit(4)", "while it was loaded; it printed why"),
        ("import time; time.sleep(60)", "did not load in time"),
        ("1 / 0", "did not load: ZeroDivisionError: division by zero (/"),
        ("raise ValueError('\\x1b[2J')", r"ValueError: \x1b[2J"),
        ("class adapter(Adapter): dtypes = ()", "its dtypes are (), expected some of float64"),
        ("class adapter(Adapter): dtypes = ('int3',)", "its dtypes are (int3), expected some of"),
        ("class adapter(Adapter): devices = None", "did not load: TypeError"),
        ("adapter = Adapter", None),
    ],
)  # fmt: skip
def test_what_does_not_load_is_3(
    program: str,
    said: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    text = f"{program}\n" if "Adapter" not in program else (
        f"from drifting_parity import Adapter\n{program}\n"
    )  # fmt: skip
    (tmp_path / "unloadable.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    if "sleep" in program:
        monkeypatch.setattr(judged_process, "LOADING_AT_LEAST", 1.0)
    target = "python:unloadable:adapter"
    chosen = ("report", "--implementation", target, "--clause", "EQ-20", "--timeout", "0.25")
    assert main(chosen) == 3
    error = capfd.readouterr().err
    if said is None:  # it loads, and offers nothing
        assert error == ""
    else:
        assert said in error
        assert error.startswith("error: --implementation: ")
        assert error.count("\n") == 1


def test_judged_code_finds_what_its_caller_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numbers.py").write_text("raise RuntimeError('not the one that is meant')\n")
    (tmp_path / "there.py").write_text("from drifting_parity import Adapter as adapter\n")
    monkeypatch.syspath_prepend(str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    load_adapter("python:there:adapter").close()
    with pytest.raises(AdapterError, match="ModuleNotFoundError"):
        load_adapter("python:not_there:adapter")


# Answers are those of the same code in this process.


def loss_of(context: Context, case: LossCase) -> dict[str, Any]:
    shown = context.loss(case)
    return {"loss": np.asarray(shown.loss), "gradient": shown.gradient}


def asked() -> Iterator[Callable[[Context], Mapping[str, Any]]]:
    """Every probe of the explanation as a question to an adapter."""
    for probe in (*loss_probes(), *field_probes()):
        case = probe.case
        if isinstance(case, FieldCase):
            yield lambda context, case=case: {"field": context.field(case)}
        else:
            yield lambda context, case=case: loss_of(context, case)
    for item in vector_probes():
        yield lambda context, item=item: item.ask(
            context.adapter, context.readings, context.setting
        )


def test_answers_arrive_as_they_were_given() -> None:
    here = ReferenceAdapter()
    there = load_adapter("python:drifting_parity.adapters.reference_adapter:ReferenceAdapter")
    names = [name for name in METHODS if there.offers(name)]
    assert names == [name for name in METHODS if here.offers(name)]
    assert (there.name, there.configurable, there.dtypes) == (here.name, True, ("float64",))
    # Judged code does not choose its own standard.
    assert not there.by_definition
    one, two = (Context(adapter, PAPER, Setting(), load()) for adapter in (there, here))
    compared = 0
    for ask in asked():
        try:
            wanted = ask(two)
        except ValueError as problem:
            said = re.escape(f"ValueError: {problem}")
            with pytest.raises(ImplementationError, match=said):
                ask(one)
            continue
        got = ask(one)
        assert got.keys() == wanted.keys()
        for key, array in wanted.items():
            np.testing.assert_array_equal(got[key], array)
            compared += 1
    there.close()
    assert compared > 30


def test_queues_and_steps_can_be_asked_from_outside() -> None:
    target = "python:drifting_parity.adapters.drifting_torch_adapter:DriftingTorchAdapter"
    adapter = load_adapter(target)
    context = Context(adapter, PAPER, Setting(), load(), quick=True)
    wanted = {"A8-queue-128", "A9-1", "T8-clip", "T8-ema", "A7-alpha-dist", "A3-mask"}
    checks = [c for c in CHECKS if set(c.clauses) & wanted and c.kind != "real data"]
    for check in checks:
        outcome = run_check(check, context)
        assert outcome.passed, f"{check.id}: {outcome.error or outcome.not_observable}"
    assert not [item for item in adapter.close() if item.failing]
    assert len(checks) > 5


def test_arrays_and_numbers_are_not_rounded() -> None:
    hint = get_type_hints(Everything)
    value = Everything(
        array=np.array([[np.nan, np.inf, -0.0], [5e-324, 0.1, -1e308]]).T,
        empty=np.zeros((0, 3)),
        single=np.array(0.1),
        truths=np.array([True, False]),
        counts=np.array([-(2**63), 2**63 - 1]),
        number=0.1 + 0.2,
        infinite=-float("inf"),
        mapping={"λ √C": (1, 2), "": (-1, 0)},
        listed=(0.02, 1e-300),
        nothing=None,
    )
    arrays: list[Any] = []
    tree = packer(Everything)(value, arrays)
    one, two = socket.socketpair()
    with one, two:
        one.sendall(message(tree, arrays))
        body, got = receive(two)
    back = unpacker(Everything)(body, got)
    for name in hint:
        given, arrived = getattr(value, name), getattr(back, name)
        if isinstance(given, np.ndarray):
            assert (arrived.shape, arrived.dtype) == (given.shape, given.dtype)
            assert arrived.tobytes() == given.tobytes()
            assert arrived.flags.writeable
        else:
            assert arrived == given


@dataclass(frozen=True)
class Everything:
    array: Array
    empty: Array
    single: Array
    truths: NDArray[np.bool_]
    counts: NDArray[np.int64]
    number: float
    infinite: float
    mapping: Mapping[str, tuple[int, int]]
    listed: Sequence[float]
    nothing: str | None


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"loss": True}, "the answer lacks 'gradient' of LossObservation"),
        ([1], "list, expected LossObservation"),
        ("gradient", ".gradient is str, expected an array"),
        ({"array": 7}, ".gradient is dict, expected an array"),
        ({"array": True}, ".gradient is dict, expected an array"),
        ({"array": 1}, ".gradient is an array of dtype bool, expected float64"),
    ],
)
def test_what_is_no_observation_is_refused(tree: Any, said: str) -> None:
    arrays: list[Any] = []
    whole = packer(LossObservation)(LossObservation(1.0, np.zeros(2)), arrays)
    arrays.append(np.zeros(2, np.bool_))
    if said.startswith("."):
        whole["gradient"] = tree
        tree = whole
    with pytest.raises(Unfit, match=re.escape(said)):
        unpacker(LossObservation)(tree, arrays)


@pytest.mark.parametrize("key", ["\x1b[2J", "x" * 1000, 3])
def test_keys_are_short_and_printable(key: Any) -> None:
    with pytest.raises(Unfit, match="expected a short printable text"):
        packer(Mapping[str, float])({key: 1.0}, [])


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack("<Q", 2**60),
        struct.pack("<Q", 3) + b"{{{",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        message({}).replace(b'"arrays"', b'"arroys"'),
        struct.pack("<Q", 52) + b'{"arrays": [["<f8", [1000000, 1000000]]], "body": 1} ',
        struct.pack("<Q", 40) + b'{"arrays": [["|O", [1]]], "body": 1}    ',
        struct.pack("<Q", 40) + b'{"arrays": [["<f8", [-1]]], "body": 1}  ',
    ],
)
def test_what_is_no_message_is_refused(sent: bytes) -> None:
    one, two = socket.socketpair()
    with one, two:
        writer = threading.Thread(target=one.sendall, args=(sent,))
        writer.start()
        with pytest.raises(Unfit):
            receive(two, time.monotonic() + 30)
        writer.join()


METHODS = ("field", "loss", "feature_loss", "vectorize", "sample_queue", "masks", "clipped")


# PyTorch in this process.


def one(generated: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    return torch.ones(())


def detached(generated: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    return (generated - positive).square().sum().detach()


def zeroing(generated: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    value = (generated - positive).square().sum()
    with torch.no_grad():
        positive.zero_()
    return value


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (
            lambda generated, positive: (generated.sum(),),
            "returned tuple, expected a scalar tensor",
        ),
        (lambda generated, positive: 1.0, "returned float, expected a scalar tensor"),
        (lambda generated, positive: None, "returned NoneType, expected a scalar tensor"),
        (zeroing, "changed its input positive in place"),
    ],
)
def test_a_torch_function_that_is_no_loss_raises(loss: Any, said: str) -> None:
    assert said in put_to_torch(loss).error


@pytest.mark.parametrize("loss", [one, detached])
def test_a_torch_function_without_a_gradient_deviates(loss: Any) -> None:
    outcome = put_to_torch(loss)
    assert not outcome.error
    (measured,) = outcome.measurements
    assert not measured.passed


def put_to_torch(loss: Any) -> Any:
    def run(context: Context) -> Iterator[Any]:
        seen = context.loss(CASE)
        yield within("EQ-20", "no gradient", "small", float(not seen.gradient.any()), 0.5)

    check = Check("a gradient", "", ("EQ-20",), "property", run)
    return run_check(check, Context(TorchAdapter("mine", loss), PAPER, Setting(), load()))


def test_torch_state_is_compared_and_put_back() -> None:
    state = State()
    threads = torch.get_num_threads()
    assert state.changes() == []
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_num_threads(threads + 1)
    torch.set_default_device("meta")
    torch.use_deterministic_algorithms(True)
    torch.rand((), device="cpu")
    # The first use of some of them sets variables of the environment.
    told = [what for _, what in state.changes() if "torch" in what]
    assert told == [
        "changed torch default dtype from torch.float32 to torch.float64",
        "changed torch default device from cpu to meta",
        "changed torch grad mode from True to False",
        f"changed torch number of threads from {threads} to {threads + 1}",
        "changed torch deterministic algorithms from False to True",
        "drew from torch's random stream",
    ]
    assert state.changes() == []
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()
    assert torch.empty(()).device.type == "cpu"


# Interrupts.


@pytest.mark.usefixtures("short")
def test_an_interrupt_shows_what_was_measured() -> None:
    done = 0

    def progress(what: str, position: int, total: int) -> None:
        nonlocal done
        done = position
        if position == 3:
            raise KeyboardInterrupt

    request = Request("builtin:x", ReferenceAdapter(), PAPER, quick=True, clause_glob="EQ-2*")
    report = judge(request, progress)
    assert done == 3
    assert len(report.outcomes) <= 2
    assert report.interrupted.startswith("after 2 of ")
    assert not report.complete
    left = {name for item in CHECKS for name in item.clauses} & {c.id for c in report.clauses}
    assert {c.verdict for c in report.clauses if c.id in left} <= {"not observable", "conforms"}
    unseen = [c for c in report.clauses if c.verdict == "not observable"]
    assert unseen
    assert {c.detail for c in unseen} == {"interrupted before all of its checks ran"}
    last = terminal(report).splitlines()[-1]
    assert last.startswith("interrupted after 2 of ")
    assert "incomplete" in last


def test_an_interrupted_call_ends_its_process_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(
        "import os, pathlib, time\n"
        "from drifting_parity.adapters.base import Adapter\n"
        "class adapter(Adapter):\n"
        "    def loss(self, *_):\n"
        "        pathlib.Path('part').write_text(str(os.getpid()))\n"
        "        pathlib.Path('part').rename('ready')\n"
        "        time.sleep(600)\n"
    )
    command = [sys.executable, "-m", "drifting_parity.cli", "report", "--format", "json"]
    with subprocess.Popen(
        [*command, "--implementation", "python:waits:adapter", "--clause", "EQ-20"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert err == ""
    document = json.loads(out)
    assert document["interrupted"].startswith("after 0 of ")
    assert document["complete"] is False
    assert ended(int((tmp_path / "ready").read_text()))


def test_the_judge_killed_takes_judged_code_with_it(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from drifting_parity.adapters.loading import load_adapter\n"
        "from drifting_parity.adapters.process.judged_process import Limits\n"
        "adapter = load_adapter('python:hostile_adapters:Wrong', Limits())\n"
        "print(adapter.session._process._worker, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    limit = time.monotonic() + 30
    while not ended(int(done.stdout)):
        assert time.monotonic() < limit
        time.sleep(0.01)


# Output that could not be written, and files that are none.


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f'd() {{ "{sys.executable}" -m drifting_parity.cli "$@"; }}; {line}'],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=120,
    )


@pytest.mark.parametrize(
    "line",
    [
        "d list clauses > /dev/full",
        "d explain EQ-11 > /dev/full",
        "d --help > /dev/full",
        "d --version > /dev/full",
        "d report --implementation builtin:drifting_reference --clause EQ-3 > /dev/full",
        "d list clauses >&-",
        "d --version >&-",
        "d report --implementation builtin:drifting_reference --clause EQ-3 >&-",
    ],
)
def test_output_that_was_not_written_is_2(line: str, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output was not written: ")
    assert done.stderr.count("\n") == 1


def test_a_closed_stderr_keeps_errors_out_of_the_output(tmp_path: Path) -> None:
    done = shell("d explain nothing-of-the-kind 2>&-", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")


def test_output_goes_where_it_was_meant_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The path is resolved, and refused, before anything is loaded."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    for name, said in (
        ("pipe", "is a pipe that nobody reads"),
        (".", "is a folder"),
        ("none/x", "does not exist"),
    ):
        target = ("report", "--implementation", "python:not_there:x", "--output", name)
        assert main(target) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "nested", "unbounded", "half"])
def test_files_of_expectations_that_are_none_are_2(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file.toml"
    head = 'schema = 2\nimplementation = "builtin:drifting_reference"\nreadings = "paper"\n'
    band = (
        '[[exception]]\nclauses = ["EQ-25"]\nverdict = "deviates"\n'
        'low = {}\nhigh = {}\nreason = "any"\n'
    )
    said = "expected a file, not a folder, a pipe or a device"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "nested":
        path.write_text(f"x = {'[' * 300_000}")
        said = "is nested too deeply to be read"
    elif kind == "unbounded":
        path.write_text(head + band.format("-inf", "inf"))
        said = "the band -inf to inf has no end, expected two finite numbers"
    else:
        path.write_text(head + band.format("0.5", "inf"))
        said = "the band 0.5 to inf has no end"
    assert main(["gate", "--expectations", str(path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("short")
def test_the_gate_fails_on_judged_code_that_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from drifting_parity.judging import verdicts

    monkeypatch.setattr(verdicts, "CHECKS", [c for c in CHECKS if "EQ-20" in c.clauses])
    monkeypatch.setattr(verdicts, "measure", lambda: ())
    path = tmp_path / "e.toml"
    path.write_text(
        'schema = 2\nimplementation = "python:hostile_adapters:ExitsAtOnce"\nreadings = "paper"\n'
    )
    assert main(["gate", "--expectations", str(path), "--quick"]) == 1
    shown = capfd.readouterr()
    assert "✗ undeclared: exception EQ-20: raises" in shown.out
    assert "ended the process (exit status 0)" in shown.out


def test_warnings_are_the_judges_own_business(loaded: Callable[..., Adapter]) -> None:
    """NaN from judged code is measured; that NumPy warns of it is nobody's error."""
    context = Context(loaded("ReturnsNan"), PAPER, Setting(), load(), quick=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcomes = [run_check(c, context) for c in CHECKS if "EQ-20" in c.clauses]
    assert not [item.error for item in outcomes if "Warning" in item.error]
