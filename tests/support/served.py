"""Model repositories of miniature networks, and plans that only their sidecars know of."""

from dataclasses import replace

from support.fake_gpu import engine_record
from support.tiny import copied, exported

from dpt_deploy.artifact.store import open_artifact, payload_of, write_sidecar
from dpt_deploy.core.profile import Profile

APART = (
    Profile((1, 64, 64), (1, 64, 64), (1, 64, 64)),
    Profile((2, 64, 64), (4, 64, 64), (4, 64, 64)),
    Profile((1, 64, 96), (1, 64, 96), (1, 64, 96)),
    Profile((2, 64, 96), (4, 64, 96), (4, 64, 96)),
)


def plan_artifact(folder, profiles=APART, *, library="tensorrt", version="10.13.2", size=None, name="engine"):
    """An artefact that says it is a plan with ``profiles``, or with those of one ``size``; its file holds no engine."""
    source = copied(exported("tiny-vit"), folder)
    if size:
        profiles = [Profile((low, *size), (high, *size), (high, *size)) for low, high in ((1, 1), (2, 4))]
    path = source.path.with_name(f"{name}.plan")
    path.write_bytes(b"a plan")
    golden = payload_of(source.golden_path)
    record = engine_record(profiles=tuple(profiles), library=library, version=version)
    payloads = (payload_of(path), golden)
    write_sidecar(path, replace(source.sidecar, kind="plan", payloads=payloads, engine=record))
    return open_artifact(path)
