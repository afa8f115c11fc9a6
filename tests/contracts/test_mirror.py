"""Tests mirror the package: ``tests/a/test_b.py`` tests ``dpt_deploy/a/b.py``. The exceptions are listed here."""

import pytest
from support.paths import ROOT, TESTS

pytestmark = pytest.mark.fast

PACKAGE = ROOT / "dpt_deploy"
APART = {
    "contracts",
    "gpu",
    "online",
    "support",
    "tools",
    "benchmarks",
    "serving",
}  # folders of tests/ that mirror no room

# Modules without a test file of their own, after the test file whose tests reach them.
TESTED_IN = {
    "artifact/test_store.py": "artifact/external artifact/records artifact/sidecar artifact/staging",
    "cli/test_cli.py": "cli/shared/amount cli/shared/options cli/shared/output cli/demo cli/doctor cli/inspect "
    "jobs/demo jobs/doctor jobs/inspect",
    "cli/test_faults_export.py": "cli/export",
    "jobs/test_models.py": "cli/models",
    "cli/test_keys_option.py": "cli/convert jobs/export/convert",
    "cli/test_faults_output.py": "cli/shared/stderr",
    "core/encoders/test_base.py": "core/encoders/beit core/encoders/cnn core/encoders/dinov2 "
    "core/encoders/swin core/encoders/transformer",
    "core/test_spec.py": "core/decode core/documents core/limits core/names core/ranges core/size",
    "core/test_optional.py": "core/errors",
    "engine/test_profiles.py": "core/profile",
    "datasets/corruptions/test_flat.py": "datasets/corruptions/clean datasets/corruptions/filters",
    "datasets/test_depth.py": "datasets/diw datasets/eth3d datasets/folders datasets/kitti "
    "datasets/nyu datasets/sintel "
    "datasets/tum",
    "datasets/test_labels.py": "datasets/paper datasets/pictures datasets/segmentation",
    "datasets/test_registry.py": "datasets/base datasets/hdf5 datasets/paired datasets/protocols",
    "graph/analysis/test_opened.py": "graph/analysis/activations graph/analysis/describe graph/analysis/shapes",
    "graph/precision/test_attention.py": "graph/precision/insertion",
    "graph/precision/test_clipping.py": "graph/precision/histograms",
    "graph/precision/test_ranges.py": "graph/mark",
    "graph/test_exporter.py": "graph/axes runtime/ends runtime/onnxruntime runtime/pytorch",
    "imaging/test_files.py": "imaging/palette imaging/video",
    "imaging/test_rules.py": "imaging/encode imaging/resample",
    "jobs/bench/test_bench.py": "cli/shared/bench_tables cli/bench jobs/bench/cached jobs/bench/ceilings "
    "jobs/bench/peak_memory "
    "jobs/bench/plain_huggingface jobs/bench/request jobs/bench/result jobs/predict/photo",
    "jobs/bench/test_baseline.py": "jobs/common/recorded",
    "jobs/bench/test_engine_calls.py": "jobs/bench/candidates jobs/bench/data_path jobs/bench/torch_calls",
    "jobs/build/refit/test_refit.py": "cli/refit jobs/build/refit/refitter",
    "jobs/build/refit/test_refused.py": "jobs/build/refit/same_graph",
    "jobs/build/test_build.py": "cli/build engine/builder jobs/build/golden jobs/build/request jobs/common/targets",
    "jobs/batch/test_ray_engine.py": "cli/batch jobs/batch/batch jobs/batch/parquet jobs/batch/remote",
    "jobs/common/test_signature.py": "cli/sign",
    "jobs/export/test_assemble.py": "jobs/export/facts jobs/export/request",
    "jobs/export/test_quantised.py": "jobs/export/accuracy jobs/export/budget "
    "jobs/export/measurements jobs/export/payloads",
    "jobs/export/test_typed.py": "jobs/export/export runtime/emulated",
    "model/rewrites/test_tokens.py": "model/encoders/blocks",
    "jobs/predict/archive/test_archive.py": "cli/shared/archives jobs/predict/archive/worker",
    "jobs/predict/test_intrinsics.py": "cli/shared/points",
    "jobs/predict/test_steady.py": "cli/shared/video",
    "jobs/predict/live/test_live.py": "jobs/predict/live/window",
    "jobs/predict/test_files.py": "cli/run cli/shared/prediction jobs/common/limits jobs/predict/images "
    "jobs/predict/targets",
    "jobs/predict/ros/test_bag.py": "cli/shared/bags jobs/predict/ros/store",
    "runtime/test_served.py": "jobs/bench/served jobs/verify/served",
    "jobs/hub/test_repository.py": "artifact/folders jobs/hub/card jobs/hub/config jobs/hub/layout",
    "jobs/gimp/test_plug_in.py": "cli/pages/gimp",
    "jobs/web/test_site.py": "cli/pages/web jobs/web/server jobs/web/vendor",
    "jobs/repro/test_repro.py": "cli/defects/repro data/repro/check graph/pieces jobs/repro/engines jobs/repro/folder "
    "jobs/repro/search jobs/repro/texts",
    "jobs/serve/test_check.py": "cli/serve_repo jobs/serve/repository",
    "jobs/attack/test_attack.py": "cli/robustness/attack jobs/attack/pictures jobs/attack/request "
    "report/robustness/attack_files",
    "jobs/study/robustness/test_corrupted.py": "cli/robustness/corruptions jobs/study/robustness/findings "
    "jobs/study/robustness/outcome jobs/study/robustness/scoring "
    "report/robustness/files report/robustness/numbers report/robustness/page report/robustness/sections",
    "jobs/study/test_data.py": "jobs/study/images",
    "jobs/study/test_findings.py": "jobs/study/outcome measure/bootstrap",
    "jobs/study/test_study.py": "cli/study jobs/study/exported jobs/study/models "
    "jobs/study/scene_images jobs/study/scoring "
    "report/study_files",
    "jobs/study/test_sweep.py": "cli/sweep report/drawing report/figures/pareto_figure",
    "jobs/train/test_train.py": "cli/train jobs/train/validation",
    "jobs/train/test_start.py": "model/other_task",
    "jobs/verify/test_diagnose.py": "cli/diagnose jobs/verify/variants",
    "jobs/verify/test_engine_audit.py": "cli/shared/engine_tables engine/audit engine/inspection",
    "jobs/verify/test_type_loss.py": "jobs/common/reference",
    "jobs/verify/test_verify.py": "cli/verify jobs/common/inputs jobs/verify/base jobs/verify/cases "
    "jobs/verify/pytorch jobs/verify/result",
    "model/checkpoints/test_join.py": "model/branches model/pyramid",
    "model/checkpoints/test_fetch.py": "model/checkpoints/transfer",
    "measure/test_timing.py": "measure/ceiling",
    "model/checkpoints/test_read.py": "model/checkpoints/pickles",
    "model/checkpoints/test_published.py": "model/checkpoints/pins",
    "model/checkpoints/test_load.py": "model/families/dpt model/families/midas21 model/families/native "
    "model/families/registry model/families/shared",
    "model/test_backbone_oracle.py": "model/encoders/beit model/encoders/swin model/encoders/windows "
    "model/families/backbone_config model/families/huggingface_backbone model/rewrites/relative",
    "model/families/test_midas.py": "model/decoders model/enlarge model/families/levit model/families/nextvit",
    "model/rewrites/test_batch_norm.py": "model/encoders/norms",
    "model/test_dinov2_oracle.py": "model/encoders/dinov2 model/families/depth_anything model/families/dinov2_config "
    "model/rewrites/gains",
    "model/test_dpt_dinov2_oracle.py": "model/families/dpt_dinov2",
    "model/test_huggingface_oracle.py": "model/checkpoints/huggingface model/families/huggingface",
    "contracts/doors/test_new_encoder.py": "model/encoders/base model/encoders/registry",
    "contracts/doors/test_new_family.py": "model/families/family",
    "model/test_parts.py": "model/dpt model/encoders/cnn model/encoders/hybrid model/encoders/vit "
    "model/fusion model/heads "
    "model/initial model/random_weights model/reassemble",
    "model/test_state.py": "model/build",
    "report/test_benchmark_page.py": "report/sections report/training_sections",
    "report/figures/test_latency_figure.py": "report/figures/bench_plot",
    "report/test_study_page.py": "report/exhibits report/html report/figures/resolution_figure",
    "report/test_study_sections.py": "report/figures/training_figure",
    "report/test_cost_sections.py": "report/figures/cost_figure",
    "runtime/cuda/test_arrays.py": "runtime/cuda/driver",
    "runtime/native/test_runner.py": "runtime/native/library",
    "runtime/test_registry.py": "runtime/request",
    "runtime/tensorrt/test_predictor.py": "runtime/tensorrt/frames",
    "runtime/tensorrt/test_resizing.py": "runtime/tensorrt/kernels",
    "runtime/tensorrt/test_runner.py": "runtime/tensorrt/engine runtime/tensorrt/lane "
    "runtime/tensorrt/plan runtime/tensorrt/slots",
    "scenes/test_render.py": "scenes/layouts scenes/materials scenes/texture scenes/things",
}

# Test files that test no single module, with what they test instead.
WITHOUT_A_MODULE = {
    "jobs/build/test_several_outputs.py": "engines with two outputs, from build to run, verify and bench",
    "cli/test_cli.py": "every command's help, options and exit codes",
    "jobs/hub/test_optimum.py": "the hub's layout in another library",
    "jobs/web/test_imaging_js.py": "the arithmetic of the page, in JavaScript",
    "jobs/web/test_page.py": "the page in a browser: relief, points, camera, WebGPU",
    "jobs/web/test_points_js.py": "the page's points in space, in JavaScript",
    "cli/test_faults_arguments.py": "unusable arguments",
    "cli/test_faults_artifacts.py": "damaged artefacts",
    "cli/test_faults_export.py": "exports that fail",
    "cli/test_faults_kills.py": "kills at every rename and removal of five commands",
    "cli/test_faults_output.py": "outputs that cannot be written",
    "cli/test_keys_option.py": "--keys of two commands",
    "datasets/test_depth.py": "readers of depth datasets",
    "datasets/test_labels.py": "readers of labelled datasets",
    "imaging/test_against_cv2.py": "the image rules compared with OpenCV",
    "jobs/build/refit/test_refused.py": "refits that are refused",
    "jobs/build/test_full_size.py": "builds of full-size networks",
    "jobs/export/test_dinov2_heads.py": "metres, gated layers, exponential and sky, as files of every precision",
    "jobs/export/test_dinov2_networks.py": "DPT heads on DINOv2, as files of every precision",
    "jobs/export/test_typed_families.py": "files of two outputs, and of Swin, in every precision",
    "jobs/export/test_midas_networks.py": "MiDaS networks on encoders of their own, through the commands",
    "jobs/export/test_relative_positions.py": "files of BEiT and Swin V2 compared with transformers",
    "jobs/export/test_external.py": "weights in a file of their own",
    "jobs/study/test_control.py": "the planted defect of a study",
    "jobs/study/test_data.py": "studies on datasets",
    "jobs/train/test_start.py": "trainings that start from weights",
    "jobs/verify/test_engine_verify.py": "verification of engines",
    "measure/test_metrics_depth.py": "metrics of depth",
    "model/test_backbone_oracle.py": "BEiT, Swin and Swin V2 compared with transformers and timm",
    "model/families/test_focus_faults.py": "planted faults of FocusOnDepth",
    "model/families/test_midas.py": "MiDaS files on encoders of their own",
    "model/test_dinov2_oracle.py": "Depth Anything compared with transformers",
    "model/test_dpt_dinov2_oracle.py": "DPT heads on DINOv2 compared with transformers",
    "model/test_huggingface_oracle.py": "networks compared with transformers",
    "model/test_parts.py": "parts of the network compared with independent ones",
    "model/test_published_networks.py": "full-size published networks",
    "model/test_shipped.py": "the weights in the package",
    "model/test_state.py": "state dicts of every recipe",
    "runtime/native/test_backends.py": "back ends of the C++ library",
    "runtime/native/test_build.py": "the C++ build",
    "runtime/native/test_images.py": "the image files that C++ reads",
}


def modules(package):
    """Modules as ``room/name``."""
    named = (path.relative_to(package).with_suffix("") for path in package.rglob("*.py"))
    return {str(path) for path in named if not path.name.startswith("__")}


def mirror(module):
    """The test file of a module."""
    room, _, name = module.rpartition("/")
    return f"{room}/test_{name.lstrip('_')}.py"


def unmirrored(package, tests, tested_in, without_a_module):
    """Complaints about modules without tests, tests without a module, and stale or repeated entries."""
    found = modules(package)
    own = {module for module in found if (tests / mirror(module)).is_file()}
    listed = [module for text in tested_in.values() for module in text.split()]
    files = {str(path.relative_to(tests)) for path in tests.rglob("test_*.py")}
    homeless = {file for file in files if file.partition("/")[0] not in APART} - {mirror(module) for module in found}
    return [
        *(f"{module} has no test file: add tests/{mirror(module)}" for module in sorted(found - own - set(listed))),
        *(f"{module} is listed and has a test file" for module in sorted(own & set(listed))),
        *(f"{module} is listed and does not exist" for module in sorted(set(listed) - found)),
        *(f"{module} is listed twice" for module in sorted({each for each in listed if listed.count(each) > 1})),
        *(f"tests/{file} mirrors no module" for file in sorted(homeless - set(without_a_module))),
        *(f"tests/{file} is listed and mirrors a module" for file in sorted(set(without_a_module) - homeless)),
        *(f"tests/{file} does not exist" for file in sorted(set(tested_in) - files)),
    ]


def test_every_module_has_a_test_file_or_is_listed():
    assert unmirrored(PACKAGE, TESTS, TESTED_IN, WITHOUT_A_MODULE) == []


def written(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    ("package", "tests", "tested_in", "without", "complaint"),
    [
        (["a/b.py"], [], {}, [], "a/b has no test file: add tests/a/test_b.py"),
        (["a/_b.py"], ["a/test_b.py"], {"a/test_b.py": "a/_b"}, [], "a/_b is listed and has a test file"),
        ([], ["a/test_b.py"], {}, [], "tests/a/test_b.py mirrors no module"),
        (["a/b.py"], ["a/test_b.py"], {}, ["a/test_b.py"], "tests/a/test_b.py is listed and mirrors a module"),
        (["a/b.py"], ["a/test_b.py"], {"a/test_b.py": "a/c"}, [], "a/c is listed and does not exist"),
        (["a/b.py"], [], {"a/test_c.py": "a/b"}, [], "tests/a/test_c.py does not exist"),
        (["a/b.py"], ["gpu/test_c.py"], {"gpu/test_c.py": "a/b a/b"}, [], "a/b is listed twice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_differs_from_the_mirror_is_named(package, tests, tested_in, without, complaint, tmp_path):
    rooms, files = written(tmp_path / "p", *package), written(tmp_path / "t", *tests)
    assert unmirrored(rooms, files, tested_in, without) == [complaint]


def test_a_mirror_has_no_complaint(tmp_path):
    rooms = written(tmp_path / "p", "a/__init__.py", "a/b.py", "a/_c.py")
    files = written(tmp_path / "t", "a/test_b.py", "a/test_c.py", "gpu/test_x.py")
    assert unmirrored(rooms, files, {}, {}) == []
