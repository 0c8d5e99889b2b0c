"""Tables of what `kinema bench --json` measured."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kinema.benchmarks.exports import ExportRow, export_table
from kinema.benchmarks.stream_speed import stream_tables
from kinema.sweeps.report import insert_results

SPEED_BEGIN, SPEED_END = "<!-- speed: written by a command, not by hand -->", "<!-- end of speed -->"


def write_speed(folder: Path, files: Sequence[Path], *, command: str) -> None:
    """Put the tables of some benchmark files between the marks for speed in an experiment's README.

    Args:
        folder: Folder of the experiment.
        files: What `kinema bench ... --json FILE` wrote.
        command: The command that writes this again.
    """
    tables = [speed_table(json.loads(file.read_text(encoding="utf-8"))) for file in files]
    text = "\n\n".join([*tables, f"```bash\n{command}\n```"])
    insert_results(folder / "README.md", text, marks=(SPEED_BEGIN, SPEED_END))


def speed_table(results: dict[str, Any]) -> str:
    """The rows of one benchmark file as Markdown, with its command, commit and machine."""
    parts = [_networks(results, mode) for mode in ("forward", "forward_backward") if mode in results]
    if "layers" in results:
        if results.get("kind") == "operators":
            parts += [_operators(size, measured, results["threads"]) for size, measured in results["layers"].items()]
        else:
            table = _forms if results.get("kind") == "depthwise" else _layers
            parts += [table(results, mode) for mode in ("forward", "forward_backward")]
    for name, measured in results.items():
        if isinstance(measured, dict) and "loaders" in measured:
            parts.append(_contenders(f"{name}: clips/s relative to pytorchvideo, more is better", measured["loaders"]))
            parts.append(_contenders(f"{name}: CPU time of decoding, less is better", measured["decoders"]))
        if isinstance(measured, dict) and "ways" in measured:
            parts.append(_contenders(f"{name}: clips/s relative to clip by clip, more is better", measured["ways"]))
    if "streams" in results:
        parts.append(stream_tables(results))
    if "sweep" in results:
        parts.append(_workers(results["sweep"]))
    if "sources" in results:
        parts.append(_sources(results["sources"]))
    if "augmentation" in results:
        parts.append(_augmentation(results["augmentation"]))
    if "preparation" in results:
        parts.append(_preparation(results["preparation"]))
    if "matching" in results:
        parts.append(_matching(results["matching"], results["threads"]))
    if "loops" in results:
        parts.append(_loops(results["loops"]))
    if "exports" in results:
        parts.append(export_table([ExportRow(**row) for row in results["exports"]]))
    if "memory" in results:
        memory = results["memory"]
        parts.append(
            f"Memory over {memory['clips'][-1]} clips: {memory['growth_mib']:+.1f} MiB of {memory['resident_mib'][-1]:.0f} MiB."
        )
    return "\n\n".join([*parts, origin(results)])


def origin(results: dict[str, Any]) -> str:
    """Command, commit and machine of a benchmark file, in one line."""
    changes = " with changes" if results["uncommitted_changes"] else ""
    commit = f"commit `{results['commit'][:10]}`{changes}"
    return (
        f"`{results['command']}`; {commit}; {results['machine']}, {results['cores']} cores; torch {results['torch']}."
    )


def _networks(results: dict[str, Any], mode: str) -> str:
    shape = " x ".join(map(str, results["clip_shape"]))
    rows = [
        f"| {row['name']} | {row['median_ms']:.0f} | {row['ratio']:.3f} | {row['ratio_low']:.3f} to {row['ratio_high']:.3f} "
        f"| {row['peak_memory_mib']:.0f} |"
        for row in results[mode]
    ]
    title = f"{mode.replace('_', ' + ')}, clip {shape}, {results['threads']} threads{_form(results)}"
    return "\n".join([f"| {title} | ms | ratio | quartiles | peak MiB |", "|---|---|---|---|---|", *rows])


def _form(results: dict[str, Any]) -> str:
    """What is not the default of the benchmark."""
    parts = ["compiled"] if results.get("compile") else []
    parts += ["memory kept"] if results.get("keep_memory") else []
    parts += ["channels last"] if results.get("channels_last") else []
    parts += [results["dtype"]] if results.get("dtype", "float32") != "float32" else []
    return "".join(f", {part}" for part in parts)


def _layers(results: dict[str, Any], mode: str) -> str:
    """One row a layer: the grouped form, kinema's and how many times faster it is, and the convolution alone."""
    rows = []
    for size, measured in results["layers"].items():
        if mode not in measured:
            continue
        grouped, ours, plain = measured[mode]
        shape = " x ".join(map(str, measured["clip_shape"]))
        rows.append(
            f"| {size.replace('x', ' channels at ')} ({shape}) | {grouped['median_ms']:.1f} | {ours['median_ms']:.1f} "
            f"| {1 / ours['ratio']:.2f} | {1 / ours['ratio_high']:.2f} to {1 / ours['ratio_low']:.2f} "
            f"| {ours['peak_memory_mib'] / grouped['peak_memory_mib']:.2f} | {plain['median_ms']:.1f} |"
        )
    title = f"{mode.replace('_', ' + ')} of one layer, {results['threads']} threads"
    return "\n".join(
        [
            f"| {title} | grouped ms | kinema ms | times faster | quartiles | memory | convolution alone ms |",
            "|---|---|---|---|---|---|---|",
            *rows,
        ]
    )


def _forms(results: dict[str, Any], mode: str) -> str:
    """One row a layer, one column a form of it: milliseconds, and how many times faster the last form is than the others."""
    rows, names = [], []
    for size, measured in results["layers"].items():
        if mode not in measured:
            continue
        names = [form["name"] for form in measured[mode]]
        times = [form["median_ms"] for form in measured[mode]]
        channels, side, kernel = size.split("x")
        faster = ", ".join(f"{time / times[-1]:.1f}" for time in times[:-1])
        cells = " | ".join(f"{time:.1f}" for time in times)
        rows.append(f"| {channels} channels at {side}, kernel {kernel} | {cells} | {faster} |")
    title = f"{mode.replace('_', ' + ')} of one layer, ms, {results['threads']} threads"
    head = f"| {title} | {' | '.join(names)} | {names[-1]} faster, times |" if names else ""
    return "\n".join([head, "|---|" + "---|" * (len(names) + 1), *rows]) if rows else ""


def _operators(size: str, measured: dict[str, Any], threads: int) -> str:
    """One layer, one row an operator: what it holds and computes, how long it takes and by how much longer than the first."""
    modes = [mode for mode in ("forward", "forward_backward") if mode in measured]
    shape = " x ".join(map(str, measured["clip_shape"]))
    titles = [f"{size.replace('x', ' channels at ')} ({shape}), {threads} threads", "parameters", "MMACs"]
    for mode in modes:
        titles += [f"{mode.replace('_', ' + ')} ms", "ratio (quartiles)", "peak MiB"]
    lines = []
    for place, name in enumerate(row["name"] for row in measured[modes[0]]):
        cost = measured["cost"][name]
        cells = [name, f"{cost['params']:,}", f"{cost['macs'] / 1e6:,.0f}"]
        for row in (measured[mode][place] for mode in modes):
            cells.append(f"{row['median_ms']:.1f}")
            cells.append(f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})")
            cells.append(f"{row['peak_memory_mib']:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", *lines])


def _workers(measured: Sequence[dict[str, Any]]) -> str:
    rows = [
        f"| {row['workers']} | {row['wall_s']:.0f} | {row['training_s']:.0f} | {row['beside_s']:.1f} | {row['faster']:.2f} |"
        for row in measured
    ]
    head = f"| workers of one thread, {measured[0]['runs']} runs | s | training, s in all | s a run beside it | times as fast |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def _preparation(measured: Sequence[dict[str, Any]]) -> str:
    rows = [
        f"| {row['name']}, {row['videos']} videos | {row['workers']} | {row['wall_s']:.1f} | {row['faster']:.2f} "
        f"| {row['faster_low']:.2f} to {row['faster_high']:.2f} |"
        for row in measured
    ]
    return "\n".join(["| preparation | workers | s | times as fast | quartiles |", "|---|---|---|---|---|", *rows])


def _matching(measured: dict[str, Any], threads: int) -> str:
    shape = " x ".join(map(str, measured["features"]))
    rows = [
        f"| {row['name']} | {row['median_ms']:.0f} | {row['ratio']:.2f} | {row['ratio_low']:.2f} to {row['ratio_high']:.2f} "
        f"| {row['memory_mib']:.0f} | {row['memory_ratio']:.2f} |"
        for row in measured["rows"]
    ]
    title = f"boundary matching, {measured['mode'].replace('_', ' + ')}, features {shape}, {threads} threads"
    return "\n".join([f"| {title} | ms | ratio | quartiles | MiB | ratio |", "|---|---|---|---|---|---|", *rows])


def _loops(measured: dict[str, Any]) -> str:
    rows = [
        f"| {row['name']} | {row['median_s']:.2f} | {row['faster']:.1f} | {row['average_map']:.4f} |"
        for row in measured["rows"]
    ]
    sizes = f"{measured['videos']} videos x {measured['proposals']} proposals x {measured['classes']} classes"
    title = f"Soft-NMS and evaluation of {sizes}"
    return "\n".join([f"| {title} | s | times as fast | average mAP |", "|---|---|---|---|", *rows])


def _contenders(title: str, measured: Sequence[dict[str, Any]]) -> str:
    rows = [
        f"| {row['name']} | {row['clips_per_s']:.1f} | {row['cpu_ms_per_clip']:.1f} | {row['ratio']:.2f} "
        f"| {row['ratio_low']:.2f} to {row['ratio_high']:.2f} |"
        for row in measured
    ]
    return "\n".join([f"| {title} | clips/s | CPU ms/clip | ratio | quartiles |", "|---|---|---|---|---|", *rows])


def _sources(measured: Sequence[dict[str, Any]]) -> str:
    """One row a setting, one column a source: clips per second, how many times those of files, and processor time of a clip."""
    names = [row["name"] for row in measured[0]["rows"]]
    lines = []
    for setting in measured:
        cells = []
        for row in setting["rows"]:
            times = "" if row["name"] == "files" else f" ({row['ratio']:.2f})"
            cells.append(f"{row['clips_per_s']:.1f}{times}, {row['cpu_ms_per_clip']:.1f} ms")
        where = [setting["scheme"], setting["size"].replace("x", " x "), str(setting["gop"]), str(setting["workers"])]
        lines.append(f"| {' | '.join([*where, *cells])} |")
    titles = ["clips/s (times those of files), CPU time of a clip", "pixels", "keyframe every", "workers", *names]
    return "\n".join([f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", *lines])


def _augmentation(measured: Sequence[dict[str, Any]]) -> str:
    rows = [
        f"| {row['name']} | {row['cpu_ms']:.1f} | {row['ratio']:.2f} | {row['ratio_low']:.2f} to {row['ratio_high']:.2f} |"
        for row in measured
    ]
    head = "| RandAugment, 16 x 224 x 224, two operations at level 9 | CPU ms/clip | ratio to torchvision | quartiles |"
    return "\n".join([head, "|---|---|---|---|", *rows])
