"""``drifting-parity slots``: the feature vectors of A.5 for a column of Table 8, counted.

Plain arithmetic of ``drifting_spec.inventory``: nothing is run, PyTorch is not loaded.
"""

from __future__ import annotations

from drifting_parity.errors import CommandError
from drifting_spec import ReadingsError, inventory, parse_readings


def slots(preset: str, readings: str) -> str:
    """One line per key with its vectors and channels, then the totals."""
    try:
        taken = parse_readings(readings)
    except ReadingsError as problem:
        raise CommandError(f"--readings: {problem}") from problem
    width, shape = inventory.PRESETS[preset]
    found = inventory.slot_inventory(width, shape, readings=taken)
    maps = inventory.tapped_maps(taps=taken.taps)
    edge = max(map(len, found))
    lines = [f"{'feature':{edge}}  vectors  channels"]
    lines += [f"{key:{edge}}  {each.vectors:7}  {each.channels:8}" for key, each in found.items()]
    of_maps = {key: each for key, each in found.items() if key.rpartition(".")[0] in maps}
    rest = inventory.total(found) - inventory.total(of_maps)
    lines += [
        "",
        f"{preset}: width {width}, input {shape.height}×{shape.width}×{shape.channels}, "
        f"readings {taken}",
        f"{len(found)} features, {inventory.total(found)} vectors: "
        f"{inventory.total(of_maps)} of {len(maps)} maps, {rest} of the input",
    ]
    return "\n".join(lines) + "\n"
