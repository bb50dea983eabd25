"""Runs recipes on the real checkpoints and keeps what was measured: ``python -m benchmarks.run [NAME...]``.

Writes ``NAME.json`` for each recipe into ``benchmarks/results``, or with ``--kind`` into a folder there for another kind of machine, and
the tables in ``benchmarks/README.md`` from all results, one a kind.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
START, END = "<!-- results -->", "<!-- end of results -->"
HEAD = """| model | metric (N) | runtime | precision | accuracy | change [95 %] | p50 ms | x float | x PyTorch | kB | verdict |
| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"""


def main() -> None:
    """Run the named recipes, or all of them, and write the table."""
    import edgekit
    from edgekit.cli import _progress

    known = sorted(path.stem for path in (HERE / "recipes").glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=known, help=f"recipes: {', '.join(known)}")
    parser.add_argument("--out", type=Path, default=Path("edgekit-out"), help="where the run folders go")
    parser.add_argument("--kind", default="", help="kind of machine whose results these are: a folder below results")
    parser.add_argument("--table", action="store_true", help="write the table from the stored results and measure nothing")
    arguments = parser.parse_args()
    for name in [] if arguments.table else arguments.names:
        with _progress.listener() as progress:
            report = edgekit.compress(HERE / "recipes" / f"{name}.yaml", out=arguments.out / name, progress=progress)
        content = json.loads(report.to_json())
        command = f"python -m benchmarks.run {name}" + (f" --kind {arguments.kind}" if arguments.kind else "")
        folder = RESULTS / arguments.kind
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(trimmed(content, command), indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {report.status}: {report.summary}")
    write_tables([RESULTS, *sorted(path for path in RESULTS.iterdir() if path.is_dir())])


def trimmed(report: dict[str, Any], command: str) -> dict[str, Any]:
    """A report without single latencies and per-class figures, and without paths of this machine; the command stands beside it."""
    for model in report["models"]:
        (model["latency"] or {}).pop("samples_ms", None)
        (model["accuracy"] or {}).pop("per_class", None)
    report["provenance"]["source"] = {k: v for k, v in report["provenance"]["source"].items() if k in ("plugin", "digest", "class")}
    return {"command": command, **report}


def write_tables(folders: list[Path]) -> None:
    """Put the tables of all results into the README."""
    lines = [line for folder in folders for line in table(folder)]
    path = HERE / "README.md"
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(START)
    path.write_text(f"{before}{START}" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}", encoding="utf-8")


def table(folder: Path) -> list[str]:
    """The results of one kind of machine, headed by its CPU."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    runs = [report for report in reports if "models" in report]
    machine = runs[0]["provenance"]["machine"]
    return ["", f"{machine['cpu']} ({', '.join(machine['features'])}):", "", HEAD, *(row for report in runs for row in rows(report))]


def rows(report: dict[str, Any]) -> list[str]:
    """One line a model; the delivered one is bold."""
    chosen = {target["chosen"] for target in report["targets"]}
    found = []
    for model in report["models"]:
        accuracy, latency = model["accuracy"], model["latency"] or {}
        change = accuracy["change"]
        mark = "**" if model["id"] in chosen else ""
        cells = [
            report["name"],
            f"{accuracy['primary']} ({accuracy['samples']})",
            f"{mark}{model['runtime']}{mark}",
            f"{mark}{model['precision']}{mark}",
            f"{accuracy['metrics'][accuracy['primary']]:.1f}",
            f"{change['value']:+.1f} [{change['low']:+.1f}, {change['high']:+.1f}]" if model["role"] != "original" else "",
            f"{latency['p50']['value']:.3f}" if latency.get("p50") else "",
            times(latency.get("speedup_runtime")),
            times(latency.get("speedup_original")) if model["role"] != "original" else "",
            f"{model['size']['raw'] / 1000:.0f}",
            model["status"] or "",
        ]
        found.append("| " + " | ".join(cells) + " |")
    return found


def times(ratio: dict[str, float] | None) -> str:
    """A ratio, or nothing."""
    return f"{ratio['value']:.2f}" if ratio else ""


if __name__ == "__main__":
    main()
