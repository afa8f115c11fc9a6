"""``dpt-deploy gimp``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path

import click

from dpt_deploy.cli.shared.options import PATH
from dpt_deploy.cli.shared.output import print_facts, print_path
from dpt_deploy.core.errors import DptError, UsageError


@click.command()
@click.option("--install", is_flag=True, help="Install the plug-in in the user's folder of each GIMP that is found.")
@click.option("--uninstall", is_flag=True, help="Remove it again.")
@click.option("--to", "folder", type=PATH, help="Folder of plug-ins of another GIMP; --for names its version.")
@click.option(
    "--for", "series", metavar="VERSION", help="Version of GIMP: only that one.  [default: each that is found]"
)
@click.option(
    "--library", type=PATH, help="The C++ library libdpt.so.  [default: this checkout's build, or the system's]"
)
def command(install: bool, uninstall: bool, folder: Path | None, series: str | None, library: Path | None) -> None:
    """Install the plug-in for GIMP, which adds the depth of a layer as a new layer.

    \b
    dpt-deploy gimp                 # shows what was found
    dpt-deploy gimp --install
    dpt-deploy gimp --uninstall
    """
    from dpt_deploy.jobs.gimp.plug_in import install_plug_in, remove_plug_ins
    from dpt_deploy.jobs.gimp.programs import chosen_gimps, state_of

    if install and uninstall:
        raise UsageError("--install and --uninstall exclude each other", hint="give one of them")
    gimps = chosen_gimps(folder, series)
    failed: DptError | None = None
    if uninstall:
        remove_plug_ins(gimps)
    elif install:
        for gimp in gimps:
            try:
                print_path(install_plug_in(gimp, library=library))
            except DptError as exc:  # another version may need no compiler
                failed = failed or exc
    print_facts("plug-in of GIMP", [(gimp.series, state_of(gimp)[1]) for gimp in gimps])
    if failed is not None:
        raise failed
