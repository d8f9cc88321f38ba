"""Data sets: splits that are fixed before anything is scored, and every damage told in one line."""

import gzip
import pickle
import zipfile
from collections import Counter

import numpy as np
import pytest
import torch

from scnas import tasks
from scnas.randomness import rng
from scnas.settings import compose
from scnas.snn.samples import ENCODED, Samples
from scnas.tasks import Split, Task, mnist
from scnas.tasks.mnist import read_idx, warped
from scnas.tasks.task import limited, set_aside


def load(*overrides: str) -> Task:
    return tasks.load(compose.load(overrides).task)


def same(a: Split, b: Split) -> bool:
    return np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)


def rows(*splits: Split) -> Counter:
    """Every sample with its label, as often as it occurs."""
    return Counter((x.tobytes(), int(y)) for split in splits for x, y in zip(split.x, split.y, strict=True))


# -- digits -----------------------------------------------------------------------------------------------


def test_digits_are_split_in_proportion_and_lose_no_sample():
    from sklearn.datasets import load_digits

    task = load()
    test = task.open_test()
    assert (task.name, task.encoder, task.n_inputs, task.n_classes) == ("digits", "rate", 64, 10)
    assert task.timesteps is None and task.train.x.dtype == np.float32
    assert [len(s.y) for s in (task.train, task.validation, test)] == [1079, 359, 359]
    pixels, labels = load_digits(return_X_y=True)
    everything = Split((pixels / 16).astype(np.float32), labels)
    assert rows(task.train, task.validation, test) == rows(everything)
    for split in (task.train, task.validation, test):
        assert np.ptp(np.bincount(split.y) / np.bincount(labels)) < 0.03


def test_splits_depend_on_their_seed_alone():
    a, b, other = load(), load("search.seed=9"), load("task.seed=1")
    assert same(a.train, b.train) and same(a.validation, b.validation)
    assert not same(a.validation, other.validation)
    assert same(a.open_test(), tasks.digits.digits().open_test())


def test_a_limit_thins_the_training_samples_and_nothing_else():
    full, thin = load(), load("task.train_limit=100")
    assert np.bincount(thin.train.y).tolist() == [10] * 10
    assert rows(thin.train) <= rows(full.train)
    assert same(thin.validation, full.validation) and same(thin.open_test(), full.open_test())


def test_digits_take_no_path():
    with pytest.raises(
        ValueError, match="task.path must be null for digits, got my.npz; arrays are task=npz"
    ):
        load("task.path=my.npz")


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="task.name must be one of digits, mnist, .*, npz, .*, got 'cifar'"):
        load("task.name=cifar")


# -- a task -----------------------------------------------------------------------------------------------


def test_the_test_split_is_behind_a_door_that_counts():
    task = load()
    assert not hasattr(task, "test") or task.test is None
    assert task.test_opened == 0
    task.open_test(), task.open_test()
    assert task.test_opened == 2
    assert same(pickle.loads(pickle.dumps(task)).open_test(), task.open_test())  # worker processes get one


GOOD = Split(np.array([[0, 1], [1, 0.5]], np.float32), np.array([0, 1]))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"encoder": "phase"}, "encoder must be one of rate, events"),
        ({"n_inputs": 3}, r"train.x must be float32 \(2, 3\), got float32 \(2, 2\)"),
        ({"n_classes": 1}, "n_classes must be a whole number from 2"),
        ({"timesteps": 4}, "timesteps must be None for the rate encoder, got 4"),
        ({"encoder": "events", "timesteps": 4}, r"train.x must be uint8 \(2, 4, 2\)"),
        ({"train": GOOD._replace(x=GOOD.x * 2)}, r"train.x must lie in 0..1, got 0.0..2.0"),
        ({"validation": GOOD._replace(x=GOOD.x * np.nan)}, "validation.x must lie in 0..1, got nan"),
        ({"test": GOOD._replace(y=GOOD.y + 1)}, "test.y must lie in 0..1, got 1..2"),
        ({"test": GOOD._replace(y=GOOD.y.astype(float))}, r"test.y must be int64"),
        ({"test": Split(GOOD.x[:0], GOOD.y[:0])}, "test must hold at least one sample"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(change, message):
    fitting = {"name": "t", "encoder": "rate", "n_inputs": 2, "n_classes": 2, "timesteps": None}
    fitting |= {"train": GOOD, "validation": GOOD, "test": GOOD}
    Task(**fitting)
    with pytest.raises(ValueError, match=message):
        Task(**fitting | change)


@pytest.mark.parametrize("seed", range(20))
def test_setting_aside_by_its_laws(seed):
    dice = rng(seed, "labels")
    y = np.concatenate([np.full(int(dice.integers(2, 40)), label) for label in range(5)])
    share = float(dice.uniform(0.05, 0.5))
    kept, aside = set_aside(y, share, seed, "test")
    assert sorted([*kept, *aside]) == list(range(len(y)))
    for label in range(5):
        n, n_aside = (y == label).sum(), (y[aside] == label).sum()
        assert 1 <= n_aside < n and abs(n_aside - share * n) <= 1


@pytest.mark.parametrize("limit", [3, 4, 10, 29])
def test_a_limit_keeps_every_class_in_proportion(limit):
    y = np.array([0] * 20 + [1] * 9 + [2])
    chosen = limited(y, limit, seed=0)
    counts = np.bincount(y[chosen], minlength=3)
    assert len(chosen) == limit and counts.min() >= 1 and (np.diff(chosen) > 0).all()
    assert abs(counts[0] - limit * 20 / 30) <= 2


def test_a_limit_below_the_number_of_classes_is_refused():
    with pytest.raises(ValueError, match="task.train_limit must be at least 3, one per class, got 2"):
        limited(np.array([0, 1, 2]), 2, seed=0)


# -- npz --------------------------------------------------------------------------------------------------


def values(n=40, features=6, classes=4, seed=0):
    dice = rng(seed, "values")
    return {"x": dice.random((n, features)), "y": np.arange(n) % classes}


def events(n=40, steps=5, features=6, classes=4, seed=0):
    return {"x": rng(seed, "e").integers(0, 2, (n, steps, features)), "y": np.arange(n) % classes}


def split_by_hand(seed=0):
    parts = {"train": values(24, seed=1), "valid": values(8, seed=2), "test": values(12, seed=3)}
    return {f"{a}_{part}": array for part, arrays in parts.items() for a, array in arrays.items()}


def npz(tmp_path, arrays, *overrides):
    path = tmp_path / "my.npz"
    np.savez(path, **arrays)
    return load("task=npz", f"task.path={path}", *overrides)


def test_values_without_splits(tmp_path):
    arrays = values()
    task = npz(tmp_path, arrays)
    assert (task.name, task.encoder, task.n_inputs, task.n_classes, task.timesteps) == (
        "my",
        "rate",
        6,
        4,
        None,
    )
    assert [len(s.y) for s in (task.train, task.validation, task.open_test())] == [24, 8, 8]
    everything = Split(arrays["x"].astype(np.float32), arrays["y"])
    assert rows(task.train, task.validation, task.open_test()) == rows(everything)


def test_splits_of_your_own_are_kept(tmp_path):
    arrays = split_by_hand()
    task = npz(tmp_path, arrays)
    for split, part in ((task.train, "train"), (task.validation, "valid"), (task.open_test(), "test")):
        assert np.array_equal(split.x, arrays[f"x_{part}"].astype(np.float32))
        assert np.array_equal(split.y, arrays[f"y_{part}"])


def test_validation_comes_from_training_samples_only(tmp_path):
    arrays = {k: v for k, v in split_by_hand().items() if "valid" not in k}
    task = npz(tmp_path, arrays)
    given = Split(arrays["x_train"].astype(np.float32), arrays["y_train"])
    assert rows(task.train, task.validation) == rows(given)
    assert np.array_equal(task.open_test().x, arrays["x_test"].astype(np.float32))


def test_events_bring_their_steps(tmp_path):
    task = npz(tmp_path, events())
    assert (task.encoder, task.timesteps, task.n_inputs) == ("events", 5, 6)
    assert task.train.x.dtype == np.uint8 and task.train.x.shape == (24, 5, 6)


def test_values_are_scaled_when_asked_to(tmp_path):
    arrays = values()
    arrays["x"] = np.tile(np.array([0, 51, 102, 153, 204, 255], np.uint8), (40, 1))
    task = npz(tmp_path, arrays, "task.high=255")
    assert np.allclose(task.train.x, [0, 0.2, 0.4, 0.6, 0.8, 1], atol=1e-7)
    arrays["x"] = arrays["x"] / 255 * 2 - 1
    assert np.allclose(npz(tmp_path, arrays, "task.low=-1").train.x, [0, 0.2, 0.4, 0.6, 0.8, 1], atol=1e-7)


def changed(key, change):
    def make():
        arrays = values()
        arrays[key] = change(arrays[key].copy())
        return arrays

    return make


def put(array, where, value):
    array[where] = value
    return array


def without(*names):
    return lambda: {k: v for k, v in split_by_hand().items() if k not in names}


def by_hand(key, change):
    return lambda: split_by_hand() | {key: change(split_by_hand()[key])}


DAMAGE = {
    "no labels": (lambda: {"x": values()["x"]}, "must hold either x and y, or x_train.* it holds x$"),
    "nothing": (lambda: {}, "it holds nothing"),
    "both layouts": (lambda: values() | split_by_hand(), "must hold either x and y, or x_train"),
    "no test labels": (without("y_test"), "must hold either x and y, or x_train"),
    "half a validation": (without("y_valid"), "must hold either x and y, or x_train"),
    "NaN": (changed("x", lambda x: put(x, (3, 2), np.nan)), "x must be finite, got nan"),
    "infinite": (changed("x", lambda x: put(x, (3, 2), -np.inf)), "x must be finite, got -inf"),
    "too large": (changed("x", lambda x: x * 255), r"x must lie in 0..1 \(task.low..task.high\), got"),
    "negative": (changed("x", lambda x: x - 1), r"x must lie in 0..1 \(task.low..task.high\), got -"),
    "texts": (changed("x", lambda x: x.astype(str)), "x must be numbers, got <U"),
    "complex": (changed("x", lambda x: x + 0j), "x must be numbers, got complex128"),
    "pickled objects": (
        changed("x", lambda x: x.astype(object)),
        "array x cannot be read .*allow_pickle=False",
    ),
    "images": (
        changed("x", lambda x: x.reshape(-1, 2, 3)),
        r"x of shape \[N, T, n\] must hold events, 0 or 1, got .*; values are \[N, n\]",
    ),
    "one axis": (
        changed("x", lambda x: x[:, 0]),
        r"x must have shape \[N, n\] .* or \[N, T, n\] .*, got \[40\]",
    ),
    "four axes": (
        changed("x", lambda x: x.reshape(40, 1, 2, 3)),
        r"x must have shape .*, got \[40, 1, 2, 3\]",
    ),
    "no features": (changed("x", lambda x: x[:, :0]), "x must have at least one feature"),
    "no samples": (lambda: {"x": np.zeros((0, 3)), "y": np.zeros(0, int)}, "y must hold at least one sample"),
    "fractional labels": (changed("y", lambda y: y + 0.5), "y must be whole numbers, got float64"),
    "one-hot labels": (
        changed("y", lambda y: np.eye(4, dtype=int)[y]),
        r"y must have shape \[40\], .*got \[40, 4\]",
    ),
    "too few labels": (
        changed("y", lambda y: y[:-1]),
        r"y must have shape \[40\], one per sample, got \[39\]",
    ),
    "negative labels": (changed("y", lambda y: y - 1), "y must be 0 or more, got -1"),
    "huge labels": (changed("y", lambda y: put(y, 0, 10**9)), "y must be below 65536, got 1000000000"),
    "one class": (changed("y", lambda y: y * 0), "y must hold at least 2 classes, got 1"),
    "a gap": (changed("y", lambda y: y * 2), "y must be 0..K-1 without gaps, got 6 but never 1"),
    "a rare class": (
        changed("y", lambda y: put(y, 0, 4)),
        "y must hold at least 3 samples of every class, got 1 of class 4",
    ),
    "empty test": (
        lambda: split_by_hand() | {"x_test": np.zeros((0, 6)), "y_test": np.zeros(0, int)},
        "x_test must hold at least one sample, got none",
    ),
    "another width": (
        by_hand("x_test", lambda x: x[:, :5]),
        r"x_test must have samples of shape \[6\] like x_train",
    ),
    "a new class": (by_hand("y_test", lambda y: y + 1), "y_test must be 0..3 like y_train, got 4"),
    "NaN in test": (by_hand("x_test", lambda x: x * np.nan), "x_test must be finite"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_arrays_are_refused_in_one_line(name, tmp_path):
    make, message = DAMAGE[name]
    with pytest.raises(ValueError, match=message) as refusal:
        npz(tmp_path, make())
    assert str(refusal.value).startswith(f"{tmp_path / 'my.npz'}: ") and "\n" not in str(refusal.value)


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    path = tmp_path / "my.npz"
    for content, message in ((b"", "not an .npz file"), (b"x,y\n1,2\n", "not an .npz file")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load("task=npz", f"task.path={path}")
    np.save(tmp_path / "x.npy", np.zeros(3))
    for missing in ("nowhere.npz", "", "x.npy"):
        with pytest.raises(ValueError, match="no such file|not an .npz file"):
            load("task=npz", f"task.path={tmp_path / missing}")
    with pytest.raises(ValueError, match="task.path must name an .npz file for task=npz, got null"):
        load("task=npz")


def test_a_member_that_is_no_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "my.npz", "w") as file:
        file.writestr("x", b"plain text")
        file.writestr("y.npy", b"\x93NUMPY\x01\x00\x10\x00{'shape': (10**99}")
    with pytest.raises(ValueError, match="my.npz: "):
        load("task=npz", f"task.path={tmp_path / 'my.npz'}")


@pytest.mark.parametrize("seed", range(5))
def test_no_damage_to_the_bytes_of_a_file_gets_through_as_anything_but_a_line(seed, tmp_path):
    path = tmp_path / "my.npz"
    np.savez_compressed(path, **values())
    good, dice, refused = path.read_bytes(), rng(seed, "damage"), 0
    settings = compose.load(["task=npz", f"task.path={path}"]).task
    for _ in range(40):
        bad = bytearray(good[: int(dice.integers(1, len(good) + 1))] if dice.random() < 0.3 else good)
        for _ in range(int(dice.integers(1, 4))):
            bad[int(dice.integers(len(bad)))] = int(dice.integers(256))
        path.write_bytes(bytes(bad))
        try:
            tasks.load(settings)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert refused > 20


# -- mnist ------------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def write_mnist(folder, pack=lambda b: b, end=""):
    """30 + 12 images of 4 x 5 pixels, 3 classes."""
    folder.mkdir(exist_ok=True)
    dice, arrays = rng(0, "mnist"), {}
    for prefix, n in (("train", 30), ("t10k", 12)):
        arrays[prefix] = (dice.integers(0, 256, (n, 4, 5)), np.arange(n) % 3)
        for what, array in zip(("images-idx3", "labels-idx1"), arrays[prefix], strict=True):
            (folder / f"{prefix}-{what}-ubyte{end}").write_bytes(pack(idx(array)))
    return arrays


@pytest.mark.parametrize("pack, end", [(lambda b: b, ""), (gzip.compress, ".gz")], ids=["plain", "gzip"])
def test_any_idx_folder_is_a_task(pack, end, tmp_path):
    arrays = write_mnist(tmp_path / "fashion", pack, end)
    task = load("task=mnist", f"task.path={tmp_path / 'fashion'}")
    assert (task.name, task.encoder, task.n_inputs, task.n_classes) == ("fashion", "rate", 20, 3)
    assert [len(s.y) for s in (task.train, task.validation, task.open_test())] == [24, 6, 12]
    pixels, labels = arrays["t10k"]
    assert np.array_equal(task.open_test().x, (pixels.reshape(12, 20) / 255).astype(np.float32))
    assert np.array_equal(task.open_test().y, labels)
    pixels, labels = arrays["train"]
    everything = Split((pixels.reshape(30, 20) / 255).astype(np.float32), labels)
    assert rows(task.train, task.validation) == rows(everything)


def spoil(name, change):
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda folder: (folder / "t10k-labels-idx1-ubyte").unlink(), "t10k-labels-idx1-ubyte .* is missing"),
        (
            spoil("train-images-idx3-ubyte", lambda b: b[:-1]),
            "promises 600 bytes of data, the file holds 599",
        ),
        (
            spoil("train-images-idx3-ubyte", lambda b: b + b"x"),
            "promises 600 bytes of data, the file holds more",
        ),
        (spoil("train-images-idx3-ubyte", lambda b: b[:9]), "not an IDX file of bytes with 3 axes"),
        (spoil("train-images-idx3-ubyte", lambda b: b"\1" + b[1:]), "not an IDX file of bytes with 3 axes"),
        (
            spoil("train-images-idx3-ubyte", lambda b: b[:4] + b"\xff" * 12 + b[16:]),
            "at most 17179869184 are read",
        ),
        (
            spoil("train-labels-idx1-ubyte", lambda b: idx(np.arange(29) % 3)),
            r"must have shape \[30\].*got \[29\]",
        ),
        (
            spoil("t10k-labels-idx1-ubyte", lambda b: idx(np.arange(12))),
            "t10k labels must be 0..2 as in train, got 11",
        ),
        (
            spoil("t10k-images-idx3-ubyte", lambda b: idx(np.zeros((12, 5, 5)))),
            "must have one size, got 20 and 25",
        ),
        (spoil("t10k-images-idx3-ubyte", lambda b: idx(np.zeros((0, 4, 5)))), "must hold at least one image"),
    ],
)
def test_a_damaged_idx_folder_is_refused_in_one_line(change, message, tmp_path):
    folder = tmp_path / "mnist"
    write_mnist(folder)
    change(folder)
    with pytest.raises(ValueError, match=message) as refusal:
        load("task=mnist", f"task.path={folder}")
    assert str(refusal.value).startswith(str(folder)) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("cut", [5, 30, -1])
def test_a_damaged_gzip_is_refused(cut, tmp_path):
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.arange(200) % 7))[:cut])
    with pytest.raises(ValueError, match="cannot be read|not an IDX file"):
        read_idx(path, 1)


def test_a_folder_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="task.path must name a folder with train-images.*got data/nowhere"):
        load("task=mnist", "task.path=data/nowhere")


# -- warped copies ----------------------------------------------------------------------------------------


class Always:
    """Dice that show: `evenly` of what is drawn evenly (turn, height, width, shear), `moves` of whole pixels
    (down, right) and `bend` everywhere."""

    def __init__(self, evenly=(0, 0, 0, 0), moves=(0, 0), bend=0.0):
        self.evenly, self.moves, self.bend = evenly, moves, bend

    def uniform(self, low, high, shape):
        assert (low, high) == (-1, 1)
        return np.broadcast_to(np.reshape(self.evenly, (4, 1, 1, 1)), shape)

    def integers(self, low, high, shape):
        assert all(low <= move < high for move in self.moves)
        return np.broadcast_to(np.reshape(self.moves, (2, 1, 1, 1)), shape)

    def standard_normal(self, shape):
        return np.full(shape, self.bend)


def noise(*shape: int) -> np.ndarray:
    return rng(0, "noise", *shape).integers(0, 256, shape).astype(np.uint8)


def test_a_warp_of_nothing_is_the_image():
    images = noise(3, 5, 6)
    assert np.array_equal(warped(images, 0, 0, Always()), images)


def test_one_move_after_the_other_by_hand(monkeypatch):
    images = noise(3, 5, 5)
    down = warped(images, 2, 0, Always(moves=(2, 0)))
    assert np.array_equal(down[:, 2:], images[:, :3]) and not down[:, :2].any()
    left = warped(images, 1, 0, Always(moves=(0, -1)))
    assert np.array_equal(left[:, :, :4], images[:, :, 1:]) and not left[:, :, 4].any()
    monkeypatch.setattr(mnist, "TURN", 90.0)
    assert np.array_equal(warped(images, 0, 0, Always((1, 0, 0, 0))), np.rot90(images, 1, (1, 2)))
    assert np.array_equal(warped(images, 0, 0, Always((-1, 0, 0, 0))), np.rot90(images, -1, (1, 2)))
    monkeypatch.setattr(
        mnist, "STRETCH", 1.0
    )  # every second row or column is seen, the outer ones are outside
    squeezed = warped(images, 0, 0, Always((0, 1, 0, 0)))
    assert np.array_equal(squeezed[:, 1:4], images[:, ::2]) and not squeezed[:, [0, 4]].any()
    squeezed = warped(images, 0, 0, Always((0, 0, 1, 0)))
    assert np.array_equal(squeezed[:, :, 1:4], images[:, :, ::2]) and not squeezed[:, :, [0, 4]].any()
    monkeypatch.setattr(mnist, "SHEAR", 1.0)
    sheared = warped(images, 0, 0, Always((0, 0, 0, 1)))
    for row in range(5):  # the middle row stays, the next goes left by one, and so on
        by = row - 2
        whole = np.pad(images[:, row], ((0, 0), (2, 2)))
        assert np.array_equal(sheared[:, row], whole[:, 2 + by : 7 + by])
    monkeypatch.setattr(mnist, "BEND", 0.5)
    bent = warped(images, 0, 0, Always(bend=1.0))  # the same everywhere: the mean of four neighbours
    more = np.pad(images, ((0, 0), (0, 1), (0, 1))).astype(float)
    mean = (more[:, :-1, :-1] + more[:, :-1, 1:] + more[:, 1:, :-1] + more[:, 1:, 1:]) / 4
    assert np.array_equal(bent, np.rint(mean))


def slowly_warped(image: np.ndarray, turn, tall, broad, shear, move, bend) -> np.ndarray:
    """One image [h, w], pixel by pixel: where it comes from, and the pixels there by their nearness."""
    (high, wide), knots = image.shape, len(bend[0])
    result = np.zeros(image.shape)

    def near(place: float, size: int) -> np.ndarray:
        return np.clip(1 - np.abs(place - np.arange(size)), 0, None)

    for r in range(high):
        for c in range(wide):
            y, x = r - (high - 1) / 2, c - (wide - 1) / 2
            at = near(r / (high - 1) * (knots - 1), knots), near(c / (wide - 1) * (knots - 1), knots)
            row = np.cos(turn) * tall * y + np.sin(turn) * broad * x - move[0] + at[0] @ bend[0] @ at[1]
            column = (
                np.cos(turn) * broad * x
                - np.sin(turn) * tall * y
                + shear * y
                - move[1]
                + at[0] @ bend[1] @ at[1]
            )
            result[r, c] = near(row + (high - 1) / 2, high) @ image @ near(column + (wide - 1) / 2, wide)
    return result


@pytest.mark.parametrize("high, wide", [(28, 28), (9, 14)])
def test_a_warp_by_definition(high, wide):
    images = noise(6, high, wide)
    fast, dice = warped(images, 2, 0, rng(3, "warp")), rng(3, "warp")
    turn, tall, broad, shear = dice.uniform(-1, 1, (4, 6))
    move, bend = dice.integers(-2, 3, (2, 6)), 0.8 * dice.standard_normal((2, 6, 6, 6))
    for n in range(6):
        how = np.deg2rad(8 * turn[n]), 1 + 0.08 * tall[n], 1 + 0.08 * broad[n], 0.06 * shear[n]
        slow = slowly_warped(images[n], *how, move[:, n], bend[:, n])
        assert np.abs(fast[n] - slow).max() < 0.51  # float32 places, and half a grey level of rounding


def test_warping_in_parts_and_less_a_border_changes_nothing(monkeypatch):
    images = noise(20, 12, 10)
    whole = warped(images, 1, 0, rng(0, "w"))
    assert np.array_equal(warped(images, 1, 3, rng(0, "w")), whole[:, 3:9, 3:7])
    monkeypatch.setattr(mnist, "AT_ONCE", 7)
    assert np.array_equal(warped(images, 1, 0, rng(0, "w")), whole)


def test_a_warped_digit_keeps_about_its_mass_and_its_place():
    y, x = np.mgrid[:28, :28] - 13.5
    angles = np.linspace(0, np.pi, 300)[:, None, None]
    along, across = y * np.sin(angles) + x * np.cos(angles), y * np.cos(angles) - x * np.sin(angles)
    bars = np.exp(-(along**2) / 32 - across**2 / 8)
    images = np.rint(255 * bars).astype(np.uint8)
    copies = warped(images, 1, 0, rng(0, "bars"))
    mass = copies.sum((1, 2)) / images.sum((1, 2))
    assert 2 / 3 < mass.min() and mass.max() < 3 / 2 and abs(mass.mean() - 1) < 0.05
    offsets = np.array([(copies * axis).sum((1, 2)) / copies.sum((1, 2)) for axis in (y, x)])
    assert np.abs(offsets).max() < 3 and np.abs(offsets.mean(1)).max() < 0.2
    assert offsets.std(1).min() > 0.5  # they do move
    assert len(np.unique(copies.reshape(300, -1), axis=0)) == 300
    assert (copies != images).any((1, 2)).all()


def test_warped_copies_join_the_training_images_and_nothing_else(tmp_path):
    write_mnist(tmp_path)
    at = ("task=mnist", f"task.path={tmp_path}", "task.shift=1", "task.train_limit=12")
    none, two, again = load(*at), load(*at, "task.warp=2"), load(*at, "task.warp=2")
    one, other = load(*at, "task.warp=1"), load(*at, "task.warp=2", "task.seed=1")
    n = len(none.train.y)
    assert n == 5 * 12 and len(two.train.y) == 7 * 12
    assert same(two.train, again.train)
    assert same(none.train, Split(two.train.x[:n], two.train.y[:n]))
    assert same(one.train, Split(two.train.x[: n + 12], two.train.y[: n + 12]))
    assert np.array_equal(two.train.y, np.tile(none.train.y[:12], 7))
    for task in (two, one):
        assert same(task.validation, none.validation) and same(task.open_test(), none.open_test())
    before, first, second = none.train.x[:12], two.train.x[n : n + 12], two.train.x[n + 12 :]
    for a, b in ((before, first), (before, second), (first, second)):
        assert (a != b).any(1).all()
    pixels = two.train.x[n:] * 255
    assert (
        two.train.x.min() >= 0 and two.train.x.max() <= 1 and np.allclose(pixels, np.rint(pixels), atol=1e-4)
    )
    # Of another seed the splits differ; of the same images so do the copies.
    assert not same(two.train, other.train)
    images = noise(4, 9, 9)
    copies = [warped(images, 0, 0, rng(*place)) for place in ((0, "warp", 0), (0, "warp", 1), (1, "warp", 0))]
    assert (copies[0] != copies[1]).any() and (copies[0] != copies[2]).any()
    inner = load(*at, "task.warp=2", "task.crop=1").train
    assert np.array_equal(inner.x.reshape(-1, 2, 3), two.train.x.reshape(-1, 4, 5)[:, 1:3, 1:4])


@pytest.mark.parametrize(
    "overrides, message",
    [
        (("task=mnist", "task.warp=-1"), "task.warp must be a whole number from 0 to 64, got -1"),
        (("task=kmnist", "task.warp=65"), "task.warp must be a whole number from 0 to 64, got 65"),
        (("task=mnist", "task.warp=null"), "task.warp must be set for task=mnist, got null"),
        (("task.warp=1",), "task.warp must be null for task=digits, which reads none of these, got 1"),
    ],
)
def test_a_number_of_warped_copies_that_cannot_be_is_refused(overrides, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        load(*overrides)


# -- samples as a training takes them ---------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, ENCODED, 2 * ENCODED + 5])
def test_samples_are_encoded_in_parts_as_they_are_at_once(n):
    x = rng(n, "x").random((n, 3)).astype(np.float32)
    split = Split(x, np.zeros(n, np.int64))
    levels, _ = Samples(split, "rate", 8, torch.device("cpu")).batch(slice(None))
    assert levels.dtype == np.uint8 and levels.flags.c_contiguous
    assert np.array_equal(levels, np.rint(x.astype(np.float64) * 8)[:, None])
