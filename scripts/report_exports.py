"""Write what `kinema bench export --json FILE` measured into the README of an experiment."""

import argparse
import json
import shlex
import sys
from pathlib import Path

from kinema.benchmarks.exports import ExportRow, export_summary, export_table, streaming_models
from kinema.benchmarks.tables import origin
from kinema.models import list_models
from kinema.sweeps.report import insert_results

BEGIN, END = "<!-- exports: written by a command, not by hand -->", "<!-- end of exports -->"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path, help="folder of the experiment")
    parser.add_argument(
        "files", type=Path, nargs="+", help="what kinema bench export wrote; of a row in several, the last"
    )
    options = parser.parse_args()
    measured = [json.loads(file.read_text(encoding="utf-8")) for file in options.files]
    found = [ExportRow(**row) for results in measured for row in results["exports"]]
    rows = list({row.key: row for row in found}.values())
    told = {row.key for row in rows}
    missing = [name for name in list_models() if not {(name, False, "clips"), (name, True, "clips")} & told]
    parts = [export_summary(rows), export_table(rows)]
    parts += [f"**Not run yet**: {', '.join(missing)}."] if missing else []
    steps = [name for name in streaming_models() if (name, True, "frames") not in told]
    parts += [f"**Not run yet as a step**: {', '.join(steps)}."] if steps else []
    parts += ["\n".join(f"{origin(results)} {results['threads']} threads." for results in measured)]
    parts += [f"```bash\npython {shlex.join(sys.argv)}\n```"]
    insert_results(options.experiment / "README.md", "\n\n".join(parts), marks=(BEGIN, END))
