"""``dpt-deploy web``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path

import click

from dpt_deploy.cli.shared.options import PATH
from dpt_deploy.cli.shared.output import print_path


@click.command()
@click.argument("artifacts", metavar="ARTIFACT...", nargs=-1, type=PATH)
@click.option("-o", "--out", type=PATH, required=True, help="Folder of the page.")
@click.option(
    "--onnxruntime-web",
    "runtime",
    metavar="FOLDER",
    type=PATH,
    help="Unpacked npm package onnxruntime-web.  [default: npm fetches it]",
)
@click.option("--force", is_flag=True, help="Replace a page that this command has written.")
@click.option("--serve", is_flag=True, help="Serve the page on 127.0.0.1 until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port of --serve.")
def command(artifacts: tuple[Path, ...], out: Path, runtime: Path | None, force: bool, serve: bool, port: int) -> None:
    """Write a static page that runs exported models in the browser.

    \b
    dpt-deploy web out/tiny-fp32.onnx -o site/
    dpt-deploy web out/tiny-fp32.onnx out/tiny-int8-cpu.onnx -o site/ --serve
    """
    from dpt_deploy.jobs.web.server import HOST, make_server
    from dpt_deploy.jobs.web.site import write_site

    print_path(write_site(artifacts, out, runtime=runtime, force=force))
    if serve:
        with make_server(out, port) as server:
            click.echo(f"http://{HOST}:{server.server_port}/")
            server.serve_forever()
