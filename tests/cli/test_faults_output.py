"""Images in and pictures out: bad inputs, outputs that cannot be, full disks, readers that leave, narrow screens."""

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support.disks import full_disk
from support.faults.calling import checked, complaint, environment, fine, finished, process
from support.faults.handmade import listing
from support.tiny import copied, exported

from dpt_deploy.imaging import files as images

MODEL = "tiny-vit-fp32"


@pytest.fixture
def artifact(tmp_path):
    return copied(exported("tiny-vit"), tmp_path / "model").path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos["  # with a file "x].png" in it, the path holds "[/x]": markup to rich
    folder.mkdir()
    return folder


def picture(path, height=40, width=56, dtype=np.uint8, channels=3):
    rng = np.random.default_rng(0)
    shape = (height, width, channels) if channels > 1 else (height, width)
    cv2.imwrite(str(path), rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype))
    return path


# --- inputs -----------------------------------------------------------------------------------------------------------

BAD = {
    "missing": (lambda path: None, "does not exist"),
    "zero size": (lambda path: path.touch(), "is empty"),
    "text": (lambda path: path.write_text("hello"), "is not an image"),
    "truncated": (lambda path: (picture(path), os.truncate(path, path.stat().st_size // 2)), "cannot be decoded"),
    "empty folder": (lambda path: path.mkdir(), "holds no image"),
    "pipe": (os.mkfifo, "is not a regular file"),
    "dangling link": (lambda path: path.symlink_to("nowhere"), "does not exist"),
    "link to itself": (lambda path: path.symlink_to(path.name), "does not exist"),
}


@pytest.mark.parametrize(("make", "said"), BAD.values(), ids=BAD)
def test_a_bad_image_exits_4_and_nothing_is_written(make, said, artifact, photos, capsys):
    make(photos / "in.png")
    assert said in complaint(capsys, 4, "run", artifact, photos / "in.png", "-o", photos / "new" / "out.png")
    assert [path.name for path in photos.iterdir()] in ([], ["in.png"])


def rotated(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (56, 40), "teal").save(path, exif=exif)


ODD = {
    "1x1.png": (lambda path: picture(path, 1, 1), (1, 1)),
    "1x300.png": (lambda path: picture(path, 1, 300), (1, 300)),
    "300x1.png": (lambda path: picture(path, 300, 1), (300, 1)),
    "grey.png": (lambda path: picture(path, channels=1), (40, 56)),
    "rgba.png": (lambda path: picture(path, channels=4), (40, 56)),
    "16 bit.png": (lambda path: picture(path, dtype=np.uint16), (40, 56)),
    "rotated.jpg": (rotated, (56, 40)),
    "UPPER.PNG": (picture, (40, 56)),
    "[red]a].png": (picture, (40, 56)),
    "dots.in.name.png": (picture, (40, 56)),
    "ümläut 深度.png": (lambda path: picture(path.with_name("p.png")).rename(path), (40, 56)),
}


@pytest.mark.parametrize(("name", "make", "size"), [(n, *rest) for n, rest in ODD.items()], ids=ODD)
def test_an_odd_image_just_works(name, make, size, artifact, photos, capsys):
    make(photos / name)
    out = fine(capsys, "run", artifact, photos / name)
    stem = photos / f"{Path(name).stem}-out"
    assert out.splitlines() == [f"{stem}.png", f"{stem}.pfm", f"{stem}-color.png"]
    assert images.read_pfm(Path(f"{stem}.pfm")).shape == size


def test_a_name_cannot_command_the_terminal(capsys):
    said = complaint(capsys, 4, "inspect", "\x1b]0;title\x07\u202e.onnx")
    assert "\\x1b]0;title\\x07\\u202e.onnx does not exist" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("name", ["ümläut", "bad\udcff"])
def test_a_name_that_the_encoding_does_not_have_is_no_failure(name, artifact, photos, tmp_path):
    picture(photos / "a.png")
    (photos / "a.png").rename(photos / f"{name}.png")  # OpenCV crashes on a name that is no UTF-8
    argv = ["run", artifact, photos, "-o", tmp_path / name, "--format", "color"]
    code, out, err = finished(["dpt_deploy", *argv], env=environment(PYTHONIOENCODING="ascii"))
    assert code == 0, err
    assert len(out.splitlines()) == len(list((tmp_path / name).iterdir()))


def test_a_folder_is_done_but_for_its_bad_images(artifact, photos, capsys):
    for name in ("a.png", "c].png"):
        picture(photos / name)
    (photos / "b].png").touch()
    (photos / ".tmp-0123.png").touch()
    (photos / "folder.png").mkdir()
    argv = ["run", artifact, photos, "-o", photos / "out", "--format", "color"]
    code, out, err = finished(["dpt_deploy", *argv])
    said = checked(code, 4, err)
    assert "1 of 3 files could not be processed" in said
    assert f"skipped: {photos}/b].png is empty" in err
    assert out.splitlines() == [f"{photos}/out/a-color.png", f"{photos}/out/c]-color.png"]


# --- outputs ----------------------------------------------------------------------------------------------------------

OUTPUTS = {
    "suffix": (lambda folder: folder / "x.jpg", 2, "does not fit the format 'png'; expected the suffix .png"),
    "the input": (lambda folder: folder / "in.png", 2, "is an input; it would be overwritten"),
    "in a file": (lambda folder: folder / "in.png" / "x.png", 2, "is a file; expected a folder"),
    "below a file": (lambda folder: folder / "in.png" / "a" / "x.png", 7, "Not a directory"),
    "no such file system": (lambda folder: "/proc/out/x.png", 7, "cannot write /proc/out"),
    "long": (lambda folder: folder / ("n" * 300 + ".png"), 2, "the name is too long for the file system"),
}


@pytest.mark.parametrize(("where", "code", "said"), OUTPUTS.values(), ids=OUTPUTS)
def test_an_output_that_cannot_be_is_refused(where, code, said, artifact, photos, capsys):
    picture(photos / "in.png")
    before = listing(photos)
    assert said in complaint(capsys, code, "run", artifact, photos / "in.png", "-o", where(photos))
    assert listing(photos) == before


WRITTEN = {
    "file": (["-o", "x.png"], ["x.png"]),
    "pfm": (["-o", "x.pfm"], ["x.pfm"]),
    "folder": (["-o", "new/deep"], ["new/deep/in.png", "new/deep/in.pfm", "new/deep/in-color.png"]),
    "formats": (["-o", "x.png", "--format", "pfm", "--format", "color"], ["x.pfm", "x-color.png"]),
    "twice": (["-o", "x.png", "--format", "png", "--format", "png"], ["x.png"]),
    "next to the input": ([], ["in-out.png", "in-out.pfm", "in-out-color.png"]),
}


@pytest.mark.parametrize(("options", "names"), WRITTEN.values(), ids=WRITTEN)
def test_an_output_goes_where_the_option_says(options, names, artifact, photos, monkeypatch, capsys):
    picture(photos / "in.png")
    monkeypatch.chdir(photos)
    assert fine(capsys, "run", artifact, "in.png", *options).splitlines() == names
    assert sorted(listing(photos)) == sorted(["in.png", *names])


def test_a_folder_named_like_a_file_is_a_folder(artifact, photos, capsys):
    picture(photos / "in.png")
    (photos / "out.v1").mkdir()
    out = fine(capsys, "run", artifact, photos / "in.png", "-o", photos / "out.v1")
    assert out.splitlines() == [f"{photos}/out.v1/in{end}" for end in (".png", ".pfm", "-color.png")]


def test_a_folder_written_into_itself_is_refused(artifact, photos, capsys):
    picture(photos / "a.png")
    before = listing(photos)
    assert "would be overwritten" in complaint(capsys, 2, "run", artifact, photos, "-o", photos)
    assert listing(photos) == before
    fine(capsys, "run", artifact, photos, "-o", photos, "--format", "color")


def test_a_folder_without_output_gets_one_next_to_it_again_and_again(artifact, photos, monkeypatch, capsys):
    picture(photos / "a.png")
    first = fine(capsys, "run", artifact, photos)
    assert first.splitlines() == [f"{photos}-out/a.png", f"{photos}-out/a.pfm"]
    monkeypatch.chdir(photos)
    assert fine(capsys, "run", artifact, ".") == first
    assert sorted(listing(photos)) == ["a.png"]


def test_two_images_of_one_stem_do_not_overwrite_each_other(artifact, photos, capsys):
    for name in ("a.png", "a.bmp", "b.png"):
        picture(photos / name)
    out = fine(capsys, "run", artifact, photos, "-o", photos / "out", "--format", "png").splitlines()
    assert [Path(line).name for line in out] == ["a.bmp.png", "a.png.png", "b.png"]


def test_a_file_where_a_folder_is_needed_is_refused(artifact, photos, capsys):
    picture(photos / "a.png")
    (photos / "out").touch()
    assert "is a file; expected a folder" in complaint(capsys, 2, "run", artifact, photos, "-o", photos / "out")


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.png", "x.pfm", "x-color.png"])
def test_a_disk_that_fills_while_a_picture_is_written(name, artifact, photos, capsys):
    picture(photos / "in.png")
    (photos / name).write_bytes(b"old")
    before = listing(photos)
    form = "color" if "color" in name else name[2:]
    argv = ["run", artifact, photos / "in.png", "-o", photos / name, "--format", form]
    with full_disk():
        assert "File too large" in complaint(capsys, 7, *argv)
    assert listing(photos) == before
    fine(capsys, *argv)


def test_a_disk_that_fills_while_numbers_are_recorded(artifact, capsys):
    before = listing(artifact.parent)
    argv = ["verify", artifact, "--res", "32", "--batch", "1"]
    with full_disk():
        assert "File too large" in complaint(capsys, 7, *argv)
    assert listing(artifact.parent) == before
    fine(capsys, *argv)


def test_without_any_output_results_go_nowhere(artifact):
    command = f"exec {sys.executable} -m dpt_deploy inspect {artifact} >&-"
    done = subprocess.run(["sh", "-c", command], env=environment(), stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_messages_that_cannot_be_written_change_no_exit_code(artifact):
    folder = artifact.parent
    for code, argv in ((0, ["inspect", artifact]), (4, ["inspect", folder / "no.onnx"]), (2, ["inspect"])):
        with Path("/dev/full").open("w") as full:
            found, out, _ = finished(["dpt_deploy", *argv], stderr=full)
        assert (found, bool(out)) == (code, code == 0)


def test_a_name_that_is_too_long_to_be_read_is_the_users_mistake(artifact, photos, capsys):
    assert "too long" in complaint(capsys, 2, "run", artifact, photos / ("n" * 300 + ".png"))


# --- readers and screens ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["table", "json"])
def test_a_reader_that_leaves_is_no_error(options, artifact):
    with process(["dpt_deploy", "inspect", artifact, *options]) as started:
        started.stdout.close()
        err = started.stderr.read()
    assert started.returncode == 141
    assert err == ""


def test_results_that_cannot_be_written_are_an_error(artifact):
    with Path("/dev/full").open("w") as full:
        code, _, err = finished(["dpt_deploy", "inspect", artifact], stdout=full)
    assert "No space left on device" in checked(code, 7, err)


def on_screen(argv, **changes):
    """Return the output of ``dpt-deploy ARGV…`` on a terminal."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "dpt_deploy", *map(str, argv)]
    shown = b""
    with subprocess.Popen(command, stdout=slave, stderr=slave, env=environment(TERM="xterm", **changes)) as started:
        os.close(slave)
        with suppress(OSError):  # the end of a terminal
            while part := os.read(master, 1 << 16):
                shown += part
    os.close(master)
    assert started.returncode == 0, shown
    return shown.decode().replace("\r\n", "\n")


COLOUR = re.compile(r"\x1b\[[\d;]*3[0-7]m")
ESCAPE = re.compile(r"\x1b\[[\d;]*m")


def test_a_narrow_screen_shows_every_number(artifact):
    plain = ESCAPE.sub("", on_screen(["inspect", artifact], COLUMNS="40", NO_COLOR="1"))
    title, *table = plain.splitlines()
    assert title == str(artifact)
    assert max(map(len, table)) <= 40
    assert "pass" in plain
    assert "hashes match" in " ".join(plain.split())


def test_colour_is_for_those_who_want_it(artifact):
    assert COLOUR.search(on_screen(["inspect", artifact], COLUMNS="100"))
    assert not COLOUR.search(on_screen(["inspect", artifact], COLUMNS="100", NO_COLOR="1"))


def test_in_a_pipe_nothing_is_coloured_or_folded(artifact):
    _, out, _ = finished(["dpt_deploy", "inspect", artifact], env=environment(COLUMNS="40"))
    assert "\x1b" not in out
    assert any(f"{MODEL}.onnx, {MODEL}.onnx.golden.npz" in line and "hashes match" in line for line in out.splitlines())
