"""Sets with 68 human points: both forms, what is refused, and drawing some of the faces."""

import cv2
import numpy as np
import pytest

from posgan_edge.errors import BadInput
from posgan_edge.evaluation.aflw2000 import turned
from posgan_edge.evaluation.datasets import open_faces, sampled
from posgan_edge.evaluation.human68 import BadLabels, load_human_npz, load_pts_folder, read_pts
from tests.helpers.data import real_data, write_aflw2000, write_human_npz, write_pts_folder

POINTS = np.column_stack([np.linspace(20, 150, 68), 40 + np.arange(68) % 7]).astype(np.float32)
ROWS = "\n".join(f"{x} {y}" for x, y in POINTS)


@pytest.mark.parametrize(
    "text",
    [
        f"version: 1\nn_points: 68\n{{\n{ROWS}\n}}\n",
        f"version: 1\r\nn_points:  68 \r\n{{\r\n{ROWS}\r\n}}".replace("\n", "\r\n"),
        f"n_points: 68\n{{\n{ROWS}\n\n}}\n\n",
    ],
)
def test_pts_counts_pixel_centres_from_one(tmp_path, text):
    """The file's (1, 1), the centre of the first pixel, is (0.5, 0.5)."""
    path = tmp_path / "a.pts"
    path.write_bytes(text.encode())
    found = read_pts(path)
    assert found.dtype == np.float32
    assert found.shape == (68, 2)
    assert found == pytest.approx(POINTS - 0.5)


def test_a_marked_pixel_lies_where_the_file_says(tmp_path):
    """Column 31 and row 12, counted from 1, in both the file and the picture."""
    picture = np.zeros((60, 200, 3), np.uint8)
    picture[12 - 1, 31 - 1] = 255
    points = POINTS.copy()
    points[8] = (31, 12)
    rows = "\n".join(f"{x} {y}" for x, y in points)
    (tmp_path / "a.pts").write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}")
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    (face,) = load_pts_folder(tmp_path)
    row, column, _ = np.argwhere(face.image() > 0)[0]
    assert face.original[8].tolist() == [column + 0.5, row + 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a .pts file"),
        ("version: 1\nn_points: 68\n", "not a .pts file of 300-W: no { points }"),
        (f"version: 1\nn_points: 68\n{{\n{ROWS}\n", "no { points }"),
        ("n_points: 68\n{\n1 2\n3 4\n}", "says n_points 68, and holds 2"),
        ("n_points: 2\n{\n1 2\n3 4\n}", "2 points, not 68"),
        ("n_points: 0\n{\n}", "0 points, not 68"),
        (f"n_points: 68\n{{\n{ROWS.replace(' ', ' 7 ', 1)}\n}}", "a point of 3 numbers"),
        (f"n_points: 68\n{{\n{ROWS.replace('20.0', 'nan', 1)}\n}}", "point 0 is not a number"),
        (f"n_points: 68\n{{\n{ROWS.replace('20.0', '1e300', 1)}\n}}", "point 0 is more than 1e"),
        (f"n_points: 68\n{{\n{ROWS.replace('20.0', 'inf', 1)}\n}}", "point 0 is not a number"),
        (f"n_points: 68\n{{\n{ROWS.replace('20.0', 'x', 1)}\n}}", "not a .pts file"),
        (f"n_points: x\n{{\n{ROWS}\n}}", "not a .pts file"),
        ("{\n" + "5 5\n" * 68 + "}", "the face has no size"),
    ],
)
def test_other_pts_files_are_refused(tmp_path, text, message):
    path = tmp_path / "a.pts"
    path.write_text(text)
    with pytest.raises(BadInput, match=message) as error:
        read_pts(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_reading_a_folder_with_folders_in_it(tmp_path):
    points = write_pts_folder(tmp_path / "indoor", 2)
    write_pts_folder(tmp_path / "outdoor", 1, suffix=".JPG")
    with open_faces(tmp_path) as faces:
        assert [f.name for f in faces] == ["indoor/a0", "indoor/a1", "outdoor/a0"]
        assert faces[0].original == pytest.approx(points[0], abs=1e-3)
        assert faces[0].labels("human") is faces[0].original
        assert faces[2].image().shape == (512, 512, 3)
        assert faces[0].angles is None
        assert faces[0].reannotated is None


def test_reading_an_npz(tmp_path):
    points = write_human_npz(tmp_path / "set.npz", 3)
    with open_faces(tmp_path / "set.npz") as faces:
        assert [f.name for f in faces] == ["face0", "face1", "face2"]
        assert [f.image().shape for f in faces] == [(512, 512, 3)] * 3
        np.testing.assert_array_equal([f.original for f in faces], points)


def change(**changes):
    """An npz with other arrays, or without those that are None."""

    def make(path):
        if not path.exists():
            write_human_npz(path, 3)
        with np.load(path) as data:
            arrays = dict(data)
        for name, value in changes.items():
            new = value(arrays[name]) if callable(value) else value
            arrays.pop(name) if new is None else arrays.update({name: new})
        np.savez(path, **arrays)

    return make


def with_value(index, value):
    def replaced(points):
        points[index] = value
        return points

    return replaced


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes(b"x"), "not a set with human points"),
        (lambda p: p.write_bytes(b""), "not a set with human points"),
        (lambda p: p.write_bytes(b"PK\3\4 and no more"), "not a set with human points"),
        (lambda p: np.savez(p, name=["a"]), "needs jpeg, offsets, pts68, name"),
        (change(name=None), "name"),
        (change(pts68=lambda p: p[:, :, :67]), r"pts68 is \(3, 2, 67\), not \(n, 2, 68\)"),
        (change(pts68=lambda p: p.transpose(0, 2, 1)), r"pts68 is \(3, 68, 2\)"),
        (change(pts68=with_value((1, 0, 5), np.nan)), "face face1: point 5 is not a number"),
        (change(pts68=with_value((2, 1, 67), -np.inf)), "face face2: point 67 is not a number"),
        (change(pts68=with_value((0, 1), 7)), "face face0: all points lie on one line"),
        (change(pts68=lambda p: p.astype(str)), r"pts68 is <U\d+ \(3, 2, 68\)"),
        (change(pts68=lambda p: p * 1e30), "pixels away"),
        (change(offsets=lambda o: o * 1.0), "offsets is float64"),
        (change(name=lambda n: np.arange(3)), "name int64"),
        (change(offsets=lambda o: o[:-1]), r"offsets is \(3,\)"),
        (change(offsets=lambda o: o + 10), "offsets do not rise within"),
        (change(offsets=lambda o: o[::-1]), "offsets do not rise within"),
        (change(name=lambda n: n[:2]), r"name \(2,\)"),
        (change(name=np.array(["a", "b", "a"])), "face a is there twice"),
        (change(jpeg=lambda j: j.astype(float)), "jpeg is float64"),
    ],
)
def test_other_npz_files_are_refused(tmp_path, make, message):
    path = tmp_path / "set.npz"
    make(path)
    with pytest.raises(BadInput, match=message) as error:
        load_human_npz(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("point", "refused"),
    [
        ((512, 512), False),  # on the border
        ((-5, 100), False),  # a little out of it: a face that the border cuts off
        ((-60, 100), True),
        ((100, 560), True),
        ((5000, 100), True),
    ],
)
@pytest.mark.parametrize("form", ["npz", "pts"])
def test_points_out_of_the_picture_are_told_when_it_is_decoded(tmp_path, form, point, refused):
    points = write_human_npz(tmp_path / "set.npz", 1)
    points[0, 33] = point
    if form == "npz":
        change(pts68=points.transpose(0, 2, 1))(tmp_path / "set.npz")
        (face,) = load_human_npz(tmp_path / "set.npz")
    else:
        write_pts_folder(tmp_path, 1, points=points)
        (face,) = load_pts_folder(tmp_path)
    if refused:
        what = rf"face \w+: point 33 \({point[0]}, {point[1]}\) lies out of the picture \(512x512\)"
        with pytest.raises(BadLabels, match=what):
            face.image()
    else:
        assert face.image().shape == (512, 512, 3)


def test_a_broken_photo_is_named(tmp_path):
    path = tmp_path / "set.npz"
    write_human_npz(path, 2)
    change(jpeg=lambda j: np.zeros_like(j))(path)
    with pytest.raises(BadInput, match=r"set\.npz: face face1: is not a picture"):
        load_human_npz(path)[1].image()


def test_pts_without_a_photo(tmp_path):
    write_pts_folder(tmp_path, 1)
    (tmp_path / "a0.jpg").unlink()
    with pytest.raises(BadInput, match=r"a0\.pts: no photo beside it: a0\.jpg or \.png"):
        load_pts_folder(tmp_path)


def test_aflw2000_is_still_told_apart(tmp_path):
    write_aflw2000(tmp_path, 2)
    with open_faces(tmp_path) as faces:
        assert [f.name for f in faces] == ["image00000", "image00001"]
        assert faces[0].angles is not None


def test_a_re_annotation_beside_human_points(tmp_path):
    write_human_npz(tmp_path / "set.npz", 1)
    with (
        pytest.raises(BadInput, match="a re-annotation belongs to AFLW2000-3D"),
        open_faces(tmp_path / "set.npz", tmp_path),
    ):
        pass


def test_turned_photos_carry_human_points(tmp_path):
    write_human_npz(tmp_path / "set.npz", 1)
    (face,) = load_human_npz(tmp_path / "set.npz")
    again = turned(face, 90)
    assert again.image().shape == (512, 512, 3)
    # A quarter turn clockwise: the left border comes to lie on top.
    x, y = face.original.T
    assert again.original == pytest.approx(np.column_stack([512 - y, x]), abs=1e-3)
    assert again.angles is None


def test_drawing_faces(tmp_path):
    write_human_npz(tmp_path / "set.npz", 12)
    faces = load_human_npz(tmp_path / "set.npz")
    names = [[f.name for f in sampled(faces, 5, seed)] for seed in (0, 0, 1)]
    order = [f.name for f in faces]
    assert names[0] == names[1] != names[2]
    assert len(set(names[0])) == 5
    assert names[0] == sorted(names[0], key=order.index)
    assert names[0] != order[:5]
    assert sampled(faces, 12, 3) == faces
    with pytest.raises(BadInput, match="cannot draw 13 faces: the set has 12"):
        sampled(faces, 13, 0)


def test_the_set_at_hand():
    faces = load_human_npz(real_data("helen-faces/helen-faces.npz"))
    assert len(faces) == 870
    assert faces[0].image().shape == (256, 256, 3)
    # All faces of the set have been cut out alike.
    assert np.ptp(faces[0].original, axis=0).max() == pytest.approx(120.68, abs=0.01)
