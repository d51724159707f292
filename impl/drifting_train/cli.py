"""The command line ``drifting-train``."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import torch
from rich.console import Console

from drifting_train import configurations
from drifting_train.commands import COMMANDS, task_of
from drifting_train.errors import TrainError, nearest
from drifting_train.latents import cache_latents
from drifting_train.loading import loaded
from drifting_train.loop import Run
from drifting_train.options import Parser, add_flags, read_config, settings_of
from drifting_train.settings import device_of

FAILED = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it did what it was asked, 2 with one line about what was wrong."""
    try:
        return _dispatch(list(sys.argv[1:] if arguments is None else arguments))
    except TrainError as problem:
        print(f"drifting-train: {problem}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def run() -> NoReturn:
    """The console script."""
    sys.exit(main())


def _dispatch(arguments: list[str]) -> int:
    parser = Parser(
        prog="drifting-train",
        description="Train drifting models: generators that sample in one step.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        _add_training(commands, name, command.text)
    _add_reading(commands)
    _add_figures(commands)
    _add_latents(commands)
    name = arguments[0] if arguments else ""
    if name and not name.startswith("-") and name not in commands.choices:
        raise TrainError(
            f"unknown command {name!r}, expected one of {', '.join(commands.choices)}"
            f"{nearest(name, commands.choices)}"
        )
    if name in COMMANDS:
        # Not before it is asked for: settings live beside what they set.
        add_flags(commands.choices[name], COMMANDS[name].settings_type())
    options, rest = parser.parse_known_args(arguments)
    if rest:
        known = [each for held in commands.choices[name]._actions for each in held.option_strings]
        word = rest[0].partition("=")[0]
        raise TrainError(f"{name}: unknown argument {rest[0]!r}{nearest(word, known)}")
    values = vars(options)
    if values.pop("command") in COMMANDS:
        return _train(name, values)
    if name == "latents":
        device = device_of(values["device"])
        for path, count in cache_latents(
            values["folder"], values["encoder"], values["save"], device
        ):
            print(f"{path}: {count}")
        return 0
    if name == "figures":
        # Not before it is asked for: it needs the extra.
        draw = loaded("drifting_train.figures").draw_figures
        for path in draw(values["save"], values["steps"], values["seed"], values["gif"]):
            print(path)
        return 0
    return _read(name, values)


def _add_training(commands: Any, name: str, text: str) -> None:
    parser = commands.add_parser(name, help=f"train: {text}", description=text, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file, or ablation …")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint in the folder of --out"
    )


def _add_reading(commands: Any) -> None:
    texts = {
        "evaluate": "say how good the samples of a run are",
        "sample": "draw samples of a run into a .npy file",
        "plot": "draw pictures of a run",
    }
    for name, text in texts.items():
        parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        parser.add_argument("run", type=Path, metavar="RUN", help="folder or checkpoint of a run")
        parser.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda or auto")
        if name != "plot":
            parser.add_argument(
                "--alpha", type=_alpha, metavar="X", help="guidance scale, at least 1 (default: 1)"
            )
        if name == "sample":
            parser.add_argument("--count", type=_count, default=1000, metavar="N", help="how many")
            parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the noise")
            parser.add_argument(
                "--save", type=Path, required=True, metavar="FILE", help="the .npy file to write"
            )


def _add_figures(commands: Any) -> None:
    text = "redraw figures 3 and 4 of the paper: toys while they learn"
    parser = commands.add_parser("figures", help=text, description=text, allow_abbrev=False)
    parser.add_argument("--save", type=Path, required=True, metavar="FOLDER", help="where to")
    parser.add_argument("--steps", type=_count, default=1000, metavar="N", help="of each training")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="of each training")
    parser.add_argument("--gif", action="store_true", help="draw an animation of each as well")


def _add_latents(commands: Any) -> None:
    text = "encode class folders once, into arrays that images trains on"
    parser = commands.add_parser("latents", help=text, description=text, allow_abbrev=False)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of class folders")
    parser.add_argument(
        "--encoder", required=True, metavar="python:MODULE:NAME", help="images → latents, batched"
    )
    parser.add_argument("--save", type=Path, required=True, metavar="FOLDER", help="where to")
    parser.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda or auto")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise TrainError(f"a count is {text!r}, expected a whole number of at least 1")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise TrainError(f"--seed is {text!r}, expected a whole number of at least 0")
    return int(text)


def _alpha(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value < math.inf:
        raise TrainError(f"--alpha is {text!r}, expected a number of at least 1")
    return value


def _train(name: str, values: dict[str, Any]) -> int:
    config, resume = values.pop("config"), values.pop("resume")
    command = COMMANDS[name]
    kind = command.settings_type()
    merged: dict[str, object] = {}
    if config is not None:
        config = configurations.resolved(config)
        merged = read_config(config)
        settings_of(kind, merged, origin=str(config))  # its own mistakes, under its own name
    given = {item.name: values[item.name] for item in fields(kind) if item.name in values}
    settings = settings_of(kind, merged | given)
    with _processes(settings.device):
        run = Run(name, command.build(settings), settings, Console())
        run.prepare(resume)
        run.train()
        drawn = hasattr(run.task, "pictures")
        more = f"; drifting-train plot {settings.out} draws it" if drawn else ""
        run.console.print(
            f"{settings.out}: step {run.step}{more}", highlight=False, soft_wrap=True, markup=False
        )
    return 0


@contextmanager
def _processes(device: str) -> Generator[None]:
    """Join the processes that torchrun started, if it did."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    cuda = device_of(device).type == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def _read(name: str, values: dict[str, Any]) -> int:
    # Not before it is asked for: it needs the extra.
    from drifting_train import reading

    command, step, task = task_of(values["run"], values["device"])
    if values.get("alpha") is not None:
        if not hasattr(task, "alpha"):
            raise TrainError(f"--alpha: {command} is without guidance")
        task.alpha = values["alpha"]  # pyright: ignore[reportAttributeAccessIssue]
    if name == "evaluate":
        reading.print_evaluation(command, step, task, Console())
    elif name == "sample":
        reading.save_samples(task, values["count"], values["seed"], values["save"])
    else:
        reading.draw(values["run"], task, Console())
    return 0
