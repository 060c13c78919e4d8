"""The command line: one file per verb, each of which parses, calls one function, and prints.

stdout carries the result (a path, a table or JSON), stderr everything else. Exit codes: 0 done, 1 expected failure,
2 misuse, 3 everything ran but a gate failed.
"""

from __future__ import annotations

import click

from star_edge import __version__
from star_edge.cli.common import StarEdgeGroup
from star_edge.cli.data import data
from star_edge.cli.distill import distill
from star_edge.cli.doctor import doctor
from star_edge.cli.evaluate import evaluate
from star_edge.cli.export import export
from star_edge.cli.parity import parity
from star_edge.cli.publish import publish
from star_edge.cli.recipes import recipes
from star_edge.cli.report import report
from star_edge.cli.results import results
from star_edge.cli.reward import reward
from star_edge.cli.score import score
from star_edge.cli.validate import validate


@click.group(cls=StarEdgeGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="star-edge")
def main() -> None:
    """Distil a super-tiny function-calling model, export it, and prove it on the device.

    Start here:

    \b
      star-edge distill quickstart        # the whole chain on a CPU, under an hour
      star-edge recipes list              # other places to start from
      star-edge doctor                    # what is installed and what is missing
    """


for command in (
    distill,
    export,
    validate,
    parity,
    report,
    evaluate,
    score,
    results,
    publish,
    recipes,
    data,
    reward,
    doctor,
):
    main.add_command(command)
