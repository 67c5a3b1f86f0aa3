"""Write out a study in full: every run with its resolved specification and code fingerprint.

    python workflow/scripts/resolve_study.py --definition JSON --out results/quickstart/study.json

The definition is {"study": name, "definition": {as in config.yaml}}. What the study's other
commands work on is listed here, so that none of them reads config.yaml. `definition_digest` is that
in the name of the study's .definition file: by it a study.json of an earlier definition is known.
"""

import json
from pathlib import Path

from normres.command_line import make_parser
from normres.config import read_config
from normres.errors import InputError, run_command
from normres.files import digest, write_json


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--definition", required=True, help="the study as JSON")
    parser.add_argument("--out", type=Path, required=True, help="the study.json to write")
    arguments = parser.parse_args(argv)
    try:
        given = json.loads(arguments.definition)
        name, definition = given["study"], given["definition"]
    except (ValueError, KeyError, TypeError):
        raise InputError("--definition: needs the keys `study` and `definition`") from None
    config = read_config({"study": name, "studies": {name: definition}})
    study = config.studies[0]
    made_from = {"definition_digest": digest(arguments.definition.encode())}
    write_json(arguments.out, study.describe() | made_from)
    print(f"wrote {arguments.out}: {len(study.runs)} runs")


if __name__ == "__main__":
    run_command(main)
