"""Write REPORT.md from results/*.json, and the pictures on it; a test fails while the page is older than the results.

Usage: python benchmarks/report.py [--redraw]        (--redraw: also pictures that exist already)
"""

import sys
from pathlib import Path

from dpt_deploy.report.benchmark_page import write_benchmark_page

here = Path(__file__).parent
for path in write_benchmark_page(here / "results", here / "REPORT.md", redraw="--redraw" in sys.argv):
    print(path)
