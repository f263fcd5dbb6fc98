"""The command line: crossbar-sim demo | sweep | info | presets | explain | calibrate."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crossbar_sim.cli_calibrate import calibrate
from crossbar_sim.cli_values import typed_value
from crossbar_sim.spec import ChipSpec
from crossbar_sim.spec.device_file import device_from_yaml
from device_models.errors import CrossbarError, UsageError

if TYPE_CHECKING:
    from crossbar_sim.bridge.rules import Rules
    from crossbar_sim.study.metrics import AbstractMetric
    from crossbar_sim.study.sweep import SweepResult

app = typer.Typer(
    help="Large language models on simulated analog in-memory-computing chips.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(calibrate)

Model = Annotated[str, typer.Option(help='Hugging Face id, local folder, GGUF file, or "smollm2" (packaged)')]
ChipName = Annotated[str, typer.Option(help="Preset name or YAML file of a chip")]
RuleList = Annotated[
    list[str] | None, typer.Option("--rule", help="LAYER=digital or LAYER=preset; LAYER may be a pattern; repeatable")
]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a chip field, e.g. dac.bits=6; repeatable")]
TextFile = Annotated[Path | None, typer.Option(help="UTF-8 text to score; default: CPython's help topics")]


@app.command()
def demo(
    model: Model = "smollm2",
    text: TextFile = None,
    out: Annotated[Path, typer.Option(help="Folder for table and picture; an interrupted run continues")] = Path(
        "demo"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Chips of each kind")] = 2,
    windows: Annotated[int, typer.Option(min=1, help="Windows of 512 tokens to score")] = 1,
) -> None:
    """SmolLM2 on PCM chips from a second to a year after programming: table, picture, a sentence before and after."""
    from crossbar_sim.study.demo import PROMPT, run_demo
    from crossbar_sim.study.texts import default_text, read_text

    done = run_demo(model, read_text(text) if text else default_text(), out, seeds, windows)
    _show(done.result)
    print(f'\nGreedy continuation of "{PROMPT}":')
    for sentence in done.sentences:
        print(f"  {sentence.model + ':':22} {sentence.text}")
    print(f"\nThe chip that wrote the last one:\n{done.summary}")
    print(f"\npicture: {done.plot}\ntable:   {done.table}")


@app.command()
def sweep(
    chip: Annotated[list[str], typer.Option(help="Preset name or YAML file of a chip; repeatable")],
    model: Model = "smollm2",
    time: Annotated[str, typer.Option(help="Times after programming, comma-separated")] = "1s,1h,1d,30d,1y",
    seeds: Annotated[str, typer.Option(help="Seeds, comma-separated; each is another chip")] = "0,1,2",
    text: TextFile = None,
    window: Annotated[int, typer.Option(help="Tokens per window")] = 512,
    max_windows: Annotated[int | None, typer.Option(help="Score only the first windows")] = 4,
    windows_at_once: Annotated[int, typer.Option(help="Windows that go through the model together")] = 1,
    multiple_choice: Annotated[
        list[Path] | None, typer.Option(help="JSONL file of multiple-choice items; repeatable")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first items of each JSONL file")] = None,
    calibration_text: Annotated[Path | None, typer.Option(help="Text for calibrated input ranges")] = None,
    rule: RuleList = None,
    change: Changes = None,
    device: Annotated[Path | None, typer.Option(help="YAML file of a device in place of each chip's own")] = None,
    backend: Annotated[str, typer.Option(help="auto, numba or torch")] = "auto",
    state: Annotated[
        Literal["kept", "regenerated"], typer.Option(help="kept in memory, or regenerated for every read of a layer")
    ] = "kept",
    dtype: Annotated[
        str, typer.Option(help="Type of the digital model: auto, float32, bfloat16 or float16")
    ] = "float32",
    offload: Annotated[Path | None, typer.Option(help="Folder for weights that are read layer by layer")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for table and picture; continues what is there")] = (None),
) -> None:
    """Perplexity, next-token accuracy and KL divergence of a model on chips against time, and multiple choice."""
    from crossbar_sim.bridge.hf import load_model
    from crossbar_sim.study.metrics import KLToDigital, MultipleChoice, NextTokenAccuracy, Perplexity, token_windows
    from crossbar_sim.study.sweep import sweep as run_sweep
    from crossbar_sim.study.texts import default_text, read_text

    chips = [_chip(name, change) for name in chip]
    if device is not None:
        fitted = device_from_yaml(device)
        chips = [spec.evolve(device=fitted) for spec in chips]
    rules = _rules(rule)
    scored = read_text(text) if text else default_text()
    metrics: list[AbstractMetric] = [
        kind(scored, window, max_windows, windows_at_once) for kind in (Perplexity, NextTokenAccuracy, KLToDigital)
    ]
    metrics += [MultipleChoice(path, limit) for path in multiple_choice or []]
    loaded, tokenizer = load_model(model, dtype=dtype, offload=offload)
    calibration = None
    if calibration_text is not None:
        calibration = token_windows(read_text(calibration_text), tokenizer, window, max_windows)
    result = run_sweep(
        loaded,
        chips,
        [part.strip() for part in time.split(",")],
        [_whole(part, "--seeds") for part in seeds.split(",")],
        metrics,
        out=out,
        rules=rules,
        calibration_data=calibration,
        tokenizer=tokenizer,
        backend=backend,
        state=state,
    )
    _show(result)
    if out is not None:
        print(f"\npicture: {result.plot(out / 'accuracy_vs_drift.png')}\ntable:   {out / 'results.csv'}")


@app.command()
def info(chip: ChipName = "pcm_1m", model: Model = "smollm2", rule: RuleList = None, change: Changes = None) -> None:
    """How a model would lie on a chip: layers, tiles, devices, utilisation."""
    from crossbar_sim.bridge.convert import plan_model
    from crossbar_sim.bridge.hf import load_model

    spec, rules = _chip(chip, change), _rules(rule)
    loaded, _ = load_model(model)
    print(plan_model(loaded, spec, rules))


@app.command()
def presets() -> None:
    """The published chips that come with the package."""
    names = ChipSpec.presets()
    width = max(len(name) for name in names)
    for name in names:
        print(f"{name.ljust(width)}  {ChipSpec.preset(name).source}")


@app.command()
def explain(
    chip: Annotated[str, typer.Argument(help="Preset name or YAML file of a chip")], change: Changes = None
) -> None:
    """Every field of a chip with its value, unit, meaning and source."""
    print(_chip(chip, change).explain())


def main() -> None:
    """Run the command line; an error on purpose is one line and exit code 2."""
    # before torch starts its threads: those that spin while they wait take the cores of whatever runs beside them, and
    # one busy neighbour then slows a forward several times; a choice of the user's own stands
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except CrossbarError as error:
        print(f"crossbar-sim: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _show(result: SweepResult) -> None:
    print(result.header())
    table = result.table()
    for metric in dict.fromkeys(table.index.get_level_values("metric")):
        print(f"\n{metric}")
        print(table.loc[metric].rename_axis(None).to_string())


def _chip(name: str, changes: list[str] | None) -> ChipSpec:
    is_file = name.endswith((".yaml", ".yml", ".json"))
    spec = ChipSpec.from_yaml(name) if is_file else ChipSpec.preset(name)
    for change in changes or []:
        path, equals, value = change.partition("=")
        if not equals:
            raise UsageError(f"--set {change}: must be FIELD=VALUE, e.g. dac.bits=6")
        spec = spec.evolve(**{path: typed_value(value)})
    return spec


def _rules(texts: list[str] | None) -> Rules | None:
    rules: dict[str | None, ChipSpec | str] = {}
    for text in texts or []:
        layer, equals, value = text.rpartition("=")
        if not equals:
            raise UsageError(f"--rule {text}: must be LAYER=digital or LAYER=preset")
        rules[layer] = value if value == "digital" else _chip(value, None)
    return rules or None


def _whole(text: str, option: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{option}: {text!r} is not a whole number") from None
