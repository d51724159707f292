"""The protocol of ``command:``: the peer may be broken in any way, the judge never is."""

from __future__ import annotations

import ast
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drifting_parity import forms
from drifting_parity.adapters.base import ImplementationError, NotObservable
from drifting_parity.adapters.loading import AdapterError, load_adapter
from drifting_parity.adapters.process import wire
from drifting_parity.adapters.process.judged_process import Limits
from drifting_parity.adapters.process.wire import Unfit, message, receive, unpacker
from drifting_parity.adapters.reference_adapter import ReferenceAdapter
from drifting_parity.cases import LossCase, LossObservation, Manifest, Setting
from drifting_parity.cli import main
from drifting_parity.forms import bundle
from drifting_spec import PAPER

FORMS = Path(forms.__file__).parent
CASE = LossCase(
    Manifest("small"),
    *(np.random.default_rng(n).normal(size=(1, n, 1, 3)) for n in (4, 5)),
    temperatures=(0.2,),
)
GOOD = message(
    {"id": 1, "result": {"loss": 1.0, "gradient": {"array": 0}}}, [np.zeros((1, 4, 1, 3))]
)


def read(raw: bytes, deadline: float = 5.0) -> Any:
    """What the judge makes of bytes after which the peer is gone."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=_send, args=(theirs, raw))
        sender.start()
        try:
            return receive(ours, time.monotonic() + deadline)
        finally:
            ours.close()
            sender.join()


def _send(theirs: socket.socket, raw: bytes) -> None:
    try:
        theirs.sendall(raw)
        theirs.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def header(text: bytes | str, rest: bytes = b"") -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw + rest


def test_the_message_is_read() -> None:
    body, arrays = read(GOOD)
    assert body["id"] == 1
    assert arrays[0].shape == (1, 4, 1, 3)
    observed = unpacker(LossObservation)(body["result"], arrays)
    assert observed.per_label is None


@pytest.mark.parametrize(
    "shape",
    [
        "[1099511627776]", "[46341, 46341]", "[0, 1099511627776]", "[4294967296, 4294967296]",
        "[-1]", "[true]", "[1.5]", '["3"]', "[null]", "3", "null", '"12"', "{}",
        str([1] * 17), str([2] * 31), "[" + "9" * 4000 + "]",
    ],
)  # fmt: skip
def test_an_absurd_shape_is_refused_before_room_is_made(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = 0
    exactly = wire._exactly

    def watched(source: Any, count: int, *others: Any) -> bytearray:
        nonlocal largest
        largest = max(largest, count)
        return exactly(source, count, *others)

    monkeypatch.setattr(wire, "_exactly", watched)
    with pytest.raises(Unfit):
        read(header(f'{{"arrays": [["<f8", {shape}]], "body": 1}}', bytes(64)))
    assert largest < 1 << 14


def test_room_is_made_as_the_bytes_arrive() -> None:
    """A header that promises 2 GB and sends none costs nothing."""
    raw = header('{"arrays": [["|b1", [2147483648]]], "body": 1}', bytes(10))
    before = _resident()
    with pytest.raises(EOFError):
        read(raw)
    assert _resident() - before < 64 << 20


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def broken(random: np.random.Generator) -> bytes:
    """A message with a fault: bits turned, bytes cut or added, parts of the header exchanged."""
    raw = bytearray(GOOD)
    kind = random.integers(6)
    if kind == 0:
        for _ in range(random.integers(1, 8)):
            raw[random.integers(len(raw))] ^= 1 << random.integers(8)
    elif kind == 1:
        del raw[random.integers(len(raw)) :]
    elif kind == 2:
        place = random.integers(len(raw))
        raw[place:place] = random.bytes(int(random.integers(1, 40)))
    elif kind == 3:
        raw = bytearray(random.bytes(int(random.integers(0, 200))))
    elif kind == 4:
        values = ["null", "[]", "{}", "1e999", "NaN", '"x"', "true", "-1", "[[[[]]]]", "2" * 50]
        parts = [values[random.integers(len(values))] for _ in range(2)]
        raw = bytearray(header(f'{{"arrays": {parts[0]}, "body": {parts[1]}}}'))
    else:
        body: Any = {"id": 1, "result": {"loss": 1.0, "gradient": {"array": 0}}}
        values = [None, [], {}, 1e308, float("nan"), "x", True, -1, {"array": 9}, {"array": True}]
        place = ("id", "result", "loss", "gradient")[random.integers(4)]
        owner = body if place in body else body["result"]
        owner[place] = values[random.integers(len(values))]
        raw = bytearray(message(body, [np.zeros((1, 4, 1, 3))]))
    return bytes(raw)


def test_a_thousand_malformed_messages() -> None:
    """Each is refused by one of the three exceptions that the judge expects, or is an answer."""
    random = np.random.default_rng(0)
    outcomes: dict[str, int] = {}
    for _ in range(1000):
        raw = broken(random)
        try:
            body, arrays = read(raw)
            answer = body.get("result") if isinstance(body, dict) else None
            unpacker(LossObservation)(answer, arrays)
            outcome = "answer"
        except (EOFError, TimeoutError, Unfit) as refused:
            outcome = type(refused).__name__
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert outcomes["Unfit"] > 200
    assert outcomes["EOFError"] > 100
    assert sum(outcomes.values()) == 1000


def test_deep_headers_are_refused() -> None:
    with pytest.raises(Unfit):
        read(header("[" * 100_000))


# Peers.

PEER = """
import json, os, socket, struct, sys, time
judge = socket.socket(fileno=int(os.environ["DRIFTING_PARITY_FD"]))
def get():
    raw = b""
    while len(raw) < 8: raw += judge.recv(8 - len(raw))
    size, = struct.unpack("<Q", raw)
    raw = b""
    while len(raw) < size: raw += judge.recv(size - len(raw))
    head = json.loads(raw)
    left = sum(8 * eval("*".join(map(str, [1, *shape]))) for _, shape in head["arrays"])
    while left: left -= len(judge.recv(left))
    return head["body"]
def put(body, arrays=(), raw=b""):
    text = json.dumps({"arrays": arrays, "body": body}).encode()
    judge.sendall(struct.pack("<Q", len(text)) + text + raw)
hello = dict(id=0, protocol=1, name="peer", configurable=False, dtypes=["float64"],
             devices=["cpu"], offers=["loss"])
"""
ANSWER = (
    'dict(id=body["id"], result=dict(loss=2.0, gradient=dict(array=0))), [["<f8", [1, 4, 1, 3]]]'
)


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Loads a program made of the lines given, in a language without anything of this project."""
    adapters: list[Any] = []

    def load(lines: str, seconds: float = 20.0) -> Any:
        file = tmp_path / "peer.py"
        file.write_text(PEER + lines)
        adapter = load_adapter(f"command:{sys.executable} -I {file}", Limits(seconds))
        adapters.append(adapter)
        return adapter

    yield load
    for adapter in adapters:
        adapter.close()


def test_a_program_without_this_project_answers(peer: Callable[..., Any]) -> None:
    adapter = peer(f"get(); put(hello)\nwhile True:\n body = get(); put({ANSWER}, bytes(96))")
    assert (adapter.name, adapter.offers("loss"), adapter.offers("field")) == ("peer", True, False)
    assert adapter.loss(CASE, PAPER, Setting()).loss == 2.0


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("get(); put(hello); body = get(); put({answer}, bytes(50)); sys.exit(0)", "exit status 0"),
        ("get(); put(hello); body = get(); put({answer}, bytes(50)); time.sleep(99)", "within 1 s"),
        ("get(); put(hello); get(); judge.sendall(bytes(3)); judge.close(); time.sleep(99)",
         "closed its connection"),
        ("get(); put(hello); get(); judge.sendall(bytes(8)); time.sleep(99)", "no message"),
        ("get(); put(hello); get(); put([1, 2])", "an answer that is none"),
        ("get(); put(hello)\nget()\nwhile True: put(dict(id=99))", "within 1 s"),
        ("get(); put(hello); body = get(); put(dict(id=body['id'], result=5)); time.sleep(9)",
         "int, expected LossObservation"),
        ("get(); put(hello); body = get(); put(dict(id=body['id'], result=dict(loss=1.0)))",
         "lacks 'gradient'"),
    ],
)  # fmt: skip
def test_a_peer_that_stops_or_talks_nonsense(
    peer: Callable[..., Any], lines: str, said: str
) -> None:
    started = time.monotonic()
    adapter = peer(lines.replace("{answer}", ANSWER), 1.0)
    with pytest.raises(ImplementationError, match=said):
        adapter.loss(CASE, PAPER, Setting())
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("sys.exit(4)", r"ended the process \(exit status 4\) while it was loaded"),
        ("get(); put(dict(hello, protocol=2))", "speaks protocol 2, expected 1"),
        ("get(); put(dict(id=0, problem='no licence'))", "no licence"),
        ("get(); put(dict(id=0, protocol=1))", "introduced itself wrongly"),
        ("get(); put(dict(hello, offers=5))", "introduced itself wrongly"),
        ("get(); put(dict(hello, dtypes=['int8']))", "expected some of float64"),
        ("get(); judge.sendall(b'HTTP/1.1 200 OK\\r\\n')", "a header of"),
        ("raise ValueError('why')", "why"),
    ],
)
def test_a_program_that_does_not_begin(peer: Callable[..., Any], lines: str, said: str) -> None:
    with pytest.raises(AdapterError, match=said) as raised:
        peer(lines)
    assert not raised.value.usage


@pytest.mark.parametrize(
    ("target", "usage", "said"),
    [
        ("command:", True, "names no program"),
        ("command:'unclosed", True, "is not understood"),
        ("command:no-such-program-at-all", False, "there is no program 'no-such-program-at-all'"),
    ],
)
def test_commands_that_cannot_be_run(target: str, usage: bool, said: str) -> None:
    with pytest.raises(AdapterError, match=said) as raised:
        load_adapter(target)
    assert raised.value.usage is usage


# The other side in Python.


def test_the_served_file_is_what_its_modules_say() -> None:
    text = bundle.SHIPPED.read_text(encoding="utf-8")
    assert text == bundle.bundled(), "run `python -m drifting_parity.forms.bundle`"
    tree = ast.parse(text, feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            # Unions of types are objects from 3.10 on.
            assert not any(isinstance(item, ast.BinOp) for item in node.args), ast.unparse(node)
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert len(names) == len(set(names))


def serve_file(folder: Path, lines: str) -> str:
    (folder / "drifting_parity_serve.py").write_text(bundle.bundled())
    (folder / "call_styles.py").write_text(
        Path(__file__).with_name("call_styles.py").read_text(encoding="utf-8")
    )
    file = folder / "serve_mine.py"
    file.write_text(f"import drifting_parity_serve as parity\nimport call_styles as c\n{lines}\n")
    return f"command:{sys.executable} {file}"


def test_the_same_code_by_command_and_in_a_file(tmp_path: Path) -> None:
    """Five lines on the other side; bit for bit what the form answers here."""
    import call_styles

    options = {"layout": "(label vector) sample channel"}
    target = serve_file(
        tmp_path,
        f"parity.serve(parity.loss(c.drift_loss, **{options}), parity.field(c.compute_V))",
    )
    adapter = load_adapter(target)
    try:
        assert adapter.offers("field")
        got = adapter.loss(CASE, PAPER, Setting("float32", upstream=3.0))
        here = forms.loss(call_styles.drift_loss, **options).loss(
            CASE, PAPER, Setting("float32", upstream=3.0)
        )
        assert got.loss == here.loss
        np.testing.assert_array_equal(got.gradient, here.gradient)
        single = CASE.changed(generated_weight=np.full((1, 4), 2.0))
        with pytest.raises(NotObservable, match="takes no generated_weight"):
            adapter.loss(single, PAPER, Setting())
    finally:
        adapter.close()


def test_a_form_that_does_not_fit_is_said_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = serve_file(tmp_path, "parity.serve(parity.loss(c.flat_loss, layout='label channel'))")
    assert main(["report", "--quick", "--implementation", target]) == 3
    said = capsys.readouterr().err
    assert "lacks the axis sample" in said
    assert said.count("\n") == 1


def test_it_says_how_it_is_run(tmp_path: Path) -> None:
    target = serve_file(tmp_path, "parity.serve(parity.field(c.compute_V))")
    words = target.removeprefix("command:").split()
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "this is run by the judge" in ended.stderr


def test_every_answer_is_json(tmp_path: Path) -> None:
    """A refusal is one sentence in the report, whatever the code raised."""
    target = serve_file(
        tmp_path,
        "def f(case, readings, setting): raise SystemExit('no\\x1b[2J')\n"
        "parity.serve(loss=f, name='quits')",
    )
    adapter = load_adapter(target)
    with pytest.raises(ImplementationError, match=r"tried to leave the process: SystemExit"):
        adapter.loss(CASE, PAPER, Setting())
    assert adapter.close()[0].kind == "left"
    assert json.dumps(adapter.name) == '"quits"'


def test_the_snippet_of_the_readme_is_judged(tmp_path: Path) -> None:
    """As it stands, beside a ``mine.py`` that has a loss of batches."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    _, _, rest = readme.partition("<!-- snippet: serve -->\n```python\n")
    target = serve_file(tmp_path, "")
    (tmp_path / "serve_mine.py").write_text(rest.partition("```")[0], encoding="utf-8")
    (tmp_path / "mine.py").write_text(
        "import call_styles\n\n\ndef drifting_loss(gen, pos):\n"
        "    return call_styles.drift_loss(gen, pos)[0]\n",
        encoding="utf-8",
    )
    adapter = load_adapter(target)
    try:
        case = CASE.changed(temperatures=(0.02, 0.05, 0.2))
        reference = ReferenceAdapter().loss(case, PAPER, Setting())
        got = adapter.loss(case, PAPER, Setting())
        assert got.loss == pytest.approx(reference.loss, rel=1e-9)
        np.testing.assert_allclose(got.gradient, reference.gradient, rtol=1e-8)
    finally:
        adapter.close()
