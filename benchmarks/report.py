"""REPORT.md from results/*.json, and the pictures it shows; a test fails while the page is older than the results.

Usage: python benchmarks/report.py [--redraw]        (--redraw: also pictures that are there already)
"""

import sys
from pathlib import Path

import dpt_deploy

here = Path(__file__).parent
for path in dpt_deploy.write_benchmark_report(here / "results", here / "REPORT.md", redraw="--redraw" in sys.argv):
    print(path)
