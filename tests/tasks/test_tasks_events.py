"""Event cameras, sounds and generated tasks: decoded by hand, split as promised, damage told in one line."""

import http.client
import sys
import types
import wave
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from scnas import tasks
from scnas.randomness import rng
from scnas.settings import compose
from scnas.tasks import OPTIONAL, Task, download, fsdd, generated, heidelberg, nmnist

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def load(*overrides: str) -> Task:
    return tasks.load(compose.load(overrides).task)


def real(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"../shared/data/{name} is not here")
    return DATA / name


def refused(message: str, *overrides: str, starts: object = "") -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        load(*overrides)
    assert str(refusal.value).startswith(str(starts)) and "\n" not in str(refusal.value)


# -- settings that only some families read ----------------------------------------------------------------


def test_a_setting_that_a_family_does_not_read_is_refused():
    refused("task.steps must be null for task=digits, which reads none of these, got 4", "task.steps=4")
    refused(
        "task.crop must be null for task=fsdd, which reads split, steps, channels", "task=fsdd", "task.crop=2"
    )
    refused("task.pool must be set for task=nmnist, got null", "task=nmnist", "task.pool=null")
    refused("task.download can be true for mnist, .*; task=fsdd is not", "task=fsdd", "task.download=true")
    refused("task.split must be one of official, speakers, got 'mine'", "task=fsdd", "task.split=mine")
    refused("task.steps must be a whole number from 1 to 4096, got 0", "task=nmnist", "task.steps=0")


@pytest.mark.parametrize("name", tasks.FAMILIES)
def test_every_task_file_sets_what_its_family_reads(name):
    settings = compose.load([f"task={name}"]).task
    assert {o for o in OPTIONAL if getattr(settings, o) is not None} == set(tasks.FAMILIES[name].reads)


@pytest.mark.parametrize("name", ["mnist", "kmnist", "nmnist", "shd", "ssc", "fsdd"])
def test_a_missing_folder_says_which_files_to_put_where(name, tmp_path):
    path = tmp_path / "nowhere"
    refused(
        f"task.path must name a folder with .*, got {path}: no such folder",
        f"task={name}",
        f"task.path={path}",
    )
    refused(
        f"task.path must name a folder with .* for task={name}, got null", f"task={name}", "task.path=null"
    )


# -- nmnist -----------------------------------------------------------------------------------------------


def event(x: int, y: int, polarity: int, time: int) -> bytes:
    return bytes((x, y)) + (polarity << 23 | time).to_bytes(3, "big")


def write_nmnist(folder: Path, train: int = 5, test: int = 2) -> None:
    """Recording k of a digit has k + 1 events at (digit, 0), a millisecond apart."""
    for part, count in (("Train", train), ("Test", test)):
        for digit in range(10):
            (folder / part / str(digit)).mkdir(parents=True)
            for k in range(count):
                data = b"".join(event(digit, 0, 1, 1000 * i) for i in range(k + 1))
                (folder / part / str(digit) / f"{k:05d}.bin").write_bytes(data)


def test_events_by_hand(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(
        event(3, 33, 1, 0x012345) + event(33, 0, 0, 2**23 - 1) + event(0, 240, 0, 5) + event(7, 8, 0, 6)
    )
    assert nmnist.read_bin(path).tolist() == [
        [3, 33, 1, 0x012345],
        [33, 0, 0, 2**23 - 1],
        [7, 8, 0, 6 + 8192],
    ]


def test_windows_and_pixels_by_hand():
    events = np.array(
        [[0, 0, 0, 0], [1, 1, 0, 77_499], [33, 33, 1, 77_500], [4, 2, 1, 309_999], [5, 5, 0, 310_000]]
    )
    seen = nmnist.spikes(events, steps=4, pool=2)
    assert seen.shape == (4, 578) and seen.dtype == np.uint8
    assert np.argwhere(seen).tolist() == [[0, 0], [1, 577], [3, 289 + 17 * 1 + 2]]
    assert nmnist.spikes(events, 4, 1).shape == (4, 2312) and nmnist.spikes(events, 4, 3).shape == (
        4,
        2 * 12 * 12,
    )


def test_nmnist_keeps_the_official_test_recordings(tmp_path):
    write_nmnist(tmp_path)
    task = load("task=nmnist", f"task.path={tmp_path}", "task.steps=310", "task.pool=1")
    assert (task.name, task.encoder, task.n_inputs, task.n_classes, task.timesteps) == (
        "nmnist",
        "events",
        2312,
        10,
        310,
    )
    parts = (task.train, task.validation, task.open_test())
    assert [len(part.y) for part in parts] == [40, 10, 20]
    for x, y in parts:  # the label is where the events are
        assert all(
            set(np.argwhere(sample)[:, 1]) == {1156 + label} for sample, label in zip(x, y, strict=True)
        )
    counts = [Counter(part.x.sum((1, 2)).tolist()) for part in parts]
    assert counts[2] == {1: 10, 2: 10} and counts[0] + counts[1] == dict.fromkeys(range(1, 6), 10)


@pytest.mark.parametrize(
    "content, message",
    [
        (event(1, 2, 0, 3)[:-1], "must hold events of 5 bytes each, got 4 bytes"),
        (b"", "must hold events of 5 bytes each, got 0 bytes"),
        (event(1, 2, 0, 3) * (2**20 + 1), "must be a recording of at most 5242880 bytes"),
        (event(34, 2, 0, 3), "x and y of an event must lie in 0..33, got 34"),
        (event(1, 2, 0, 3) * 2 + event(1, 2, 0, 3)[1:] + b"\xff" * 6, "must lie in 0..33, got 255"),
    ],
)
def test_a_damaged_recording_is_refused(content, message, tmp_path):
    write_nmnist(tmp_path)
    path = tmp_path / "Test" / "7" / "00001.bin"
    path.write_bytes(content)
    refused(message, "task=nmnist", f"task.path={tmp_path}", starts=path)


def test_a_missing_digit_is_refused(tmp_path):
    write_nmnist(tmp_path)
    for path in (tmp_path / "Train" / "4").glob("*"):
        path.unlink()
    refused(r"Train/4: must hold two or more .bin recordings, got 0", "task=nmnist", f"task.path={tmp_path}")


def test_real_recordings_decode_as_the_format_says():
    folder = real("nmnist")
    for path in sorted((folder / "Test").glob("*/*.bin"))[::25]:
        data = path.read_bytes()
        slow = []
        for i in range(0, len(data), 5):
            last = int.from_bytes(data[i + 2 : i + 5], "big")
            slow.append([data[i], data[i + 1], last >> 23, last % 2**23])
        events = nmnist.read_bin(path)
        assert events.tolist() == slow and (np.diff(events[:, 3]) >= 0).all() and events[:, 3].max() < 340_000
    task = load("task=nmnist", f"task.path={folder}", "task.steps=8")
    assert [len(part.y) for part in (task.train, task.validation, task.open_test())] == [
        801,
        199,
        100,
    ]  # a fifth of every digit
    assert 0.02 < task.train.x.mean() < 0.4


# -- fsdd -------------------------------------------------------------------------------------------------


def write_wav(path: Path, samples: np.ndarray, rate: int = 8000, channels: int = 1, width: int = 2) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels), file.setsampwidth(width), file.setframerate(rate)
        file.writeframes((samples * 2**15).astype("<i2").tobytes())


def tone(hz: float, seconds: float = 0.4) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(int(8000 * seconds)) / 8000)


SPEAKERS = {"ann": 7, "bob": 8, "cyd": 9, "dan": 6}  # and how many recordings of every digit


def write_fsdd(folder: Path) -> Path:
    (folder / "recordings").mkdir()
    for speaker, count in SPEAKERS.items():
        for digit in range(10):
            for n in range(count):
                write_wav(folder / "recordings" / f"{digit}_{speaker}_{n}.wav", tone(200 + 150 * digit, 0.1))
    return folder


def test_filters_by_their_laws():
    bank = fsdd.filters(20, 1024)
    hz = np.arange(513) * 8000 / 1024
    assert bank.shape == (20, 513) and bank.min() == 0 and bank.max() <= 1
    centres = hz[bank.argmax(1)]
    inside = (hz >= centres[0] + 8) & (hz <= centres[-1] - 8)
    assert np.allclose(bank[:, inside].sum(0), 1)  # neighbours cross at one half
    assert not bank[:, (hz < 100) | (hz > 3800)].any() and (np.diff(centres) > 0).all()
    mel = 2595 * np.log10(1 + centres / 700)
    assert np.ptp(np.diff(mel)) < 25  # evenly spaced, as far as the bins of 8 Hz can tell


@pytest.mark.parametrize("hz", [300, 1000, 3000])
def test_a_tone_is_heard_where_and_while_it_sounds(hz):
    level = fsdd.levels(tone(hz), 32, 20)
    centres = 700 * (
        10 ** (np.linspace(*(2595 * np.log10(1 + np.array([100, 3800]) / 700)), 22)[1:-1] / 2595) - 1
    )
    assert level.shape == (32, 20) and level[5].argmax() == np.abs(centres - hz).argmin()
    assert level[:14].max(1).min() > 0.9 and level[17:].max() == 0  # 0.4 of 0.8 s
    seen = fsdd.spikes(tone(hz), 32, 40)
    assert np.array_equal(seen[:, :20], level > 0.35) and np.array_equal(seen[:, 20:], level > 0.7)


def test_a_recording_is_cut_or_padded_and_its_volume_does_not_matter():
    long = np.concatenate([tone(500, 0.8), tone(2000, 0.5)])
    assert np.array_equal(fsdd.spikes(long, 16, 8)[:-1], fsdd.spikes(tone(500, 0.8), 16, 8)[:-1])
    assert np.array_equal(fsdd.spikes(tone(500) / 100, 16, 8), fsdd.spikes(tone(500), 16, 8))


def test_the_official_split(tmp_path):
    task = load("task=fsdd", f"task.path={write_fsdd(tmp_path)}")
    parts = (task.train, task.validation, task.open_test())
    assert (task.n_inputs, task.timesteps, task.n_classes) == (40, 32, 10)
    assert np.bincount(parts[2].y).tolist() == [5 * len(SPEAKERS)] * 10
    rest = sum(SPEAKERS.values()) - 5 * len(SPEAKERS)
    assert (
        np.bincount(parts[0].y).tolist() == [rest - 2] * 10 and np.bincount(parts[1].y).tolist() == [2] * 10
    )


def test_no_speaker_is_on_two_sides(tmp_path):
    task = load("task=fsdd", f"task.path={write_fsdd(tmp_path)}", "task.split=speakers")
    sizes = [len(part.y) // 10 for part in (task.train, task.validation, task.open_test())]
    # every speaker has another number of recordings, so the sizes name the speakers
    assert sizes[1] in SPEAKERS.values() and sizes[2] in SPEAKERS.values() and sizes[1] != sizes[2]
    assert sum(sizes) == sum(SPEAKERS.values())
    speakers = rng(0, "who").choice(list("abcdefg"), 300)
    settings = compose.load(["task=fsdd", "task.test=0.3"]).task
    for seed in range(20):
        parts = fsdd.by_speaker(tmp_path, speakers, replace(settings, seed=seed))
        assert sorted(np.concatenate(parts)) == list(range(300))
        names = [set(speakers[part]) for part in parts]
        assert [len(n) for n in names] == [4, 1, 2] and len(set.union(*names)) == 7


def bad_wav(**changes):
    return lambda path: write_wav(path, tone(500), **changes)


def cut(at: int):
    return lambda path: path.write_bytes(path.read_bytes()[:at])


@pytest.mark.parametrize(
    "name, spoil, message",
    [
        ("3_ann_0.wav", bad_wav(rate=16000), "8000 samples a second, 1 channel, 16 bit, got 16000, 1 and 16"),
        ("3_ann_0.wav", bad_wav(channels=2), "1 channel, 16 bit, got 8000, 2 and 16"),
        ("3_ann_0.wav", bad_wav(width=1), "16 bit, got 8000, 1 and 8"),
        ("3_ann_0.wav", cut(-9), "promises 800 samples, the file holds 79"),
        ("3_ann_0.wav", cut(30), "cannot be read"),
        ("3_ann_0.wav", lambda path: path.write_bytes(b"no sound"), "cannot be read"),
        ("3_ann_0.wav", lambda path: write_wav(path, tone(500, 61)), "must be at most 60 s long, got 61 s"),
        ("three.wav", bad_wav(), "must be named <digit>_<speaker>_<n>.wav"),
        ("3_ann_0.wav", lambda path: write_wav(path, tone(1)[:0]), "promises 0 samples"),
    ],
)  # fmt: skip
def test_a_damaged_sound_is_refused(name, spoil, message, tmp_path):
    path = write_fsdd(tmp_path) / "recordings" / name
    spoil(path)
    refused(message, "task=fsdd", f"task.path={tmp_path}", starts=path)


def test_a_folder_without_what_is_needed_is_refused(tmp_path):
    at = ("task=fsdd", f"task.path={tmp_path}")
    refused("got no .wav file", *at)
    write_fsdd(tmp_path)
    refused("task.channels must be even", *at, "task.channels=7")
    refused("task.steps must be at most 3200 for fsdd", *at, "task.steps=4000")
    refused("task.steps and task.channels must stay within", *at, "task.steps=3200", "task.channels=65536")
    for path in (tmp_path / "recordings").glob("*_[bcd]*_*.wav"):
        path.unlink()
    refused("task.split=speakers needs 3 speakers, got 1", *at, "task.split=speakers")
    for path in (tmp_path / "recordings").glob("4_*"):
        path.unlink()
    refused("recordings of all ten digits, got none of 4", *at)


def test_real_recordings_are_split_as_their_makers_say():
    task = load("task=fsdd", f"task.path={real('fsdd')}")
    assert [len(part.y) for part in (task.train, task.validation, task.open_test())] == [2160, 540, 300]
    assert 0.1 < task.train.x.mean() < 0.25


# -- shd and ssc ------------------------------------------------------------------------------------------


def write_h5(path: Path, labels, speakers=None, lists=None) -> None:
    """Recording i: units 10 i and 699 at 0.1 s and 1.39 s, unless `lists` says otherwise."""
    lists = lists or [([0.1, 1.39], [10 * i % 700, 699]) for i in range(len(labels))]
    with h5py.File(path, "w") as file:
        for name, kind, at in (("times", np.float16, 0), ("units", np.uint16, 1)):
            data = file.create_dataset(f"spikes/{name}", (len(lists),), dtype=h5py.vlen_dtype(kind))
            for i, pair in enumerate(lists):
                data[i] = np.array(pair[at], kind)
        file["labels"] = np.array(labels, np.uint16)
        if speakers is not None:
            file["extra/speaker"] = np.array(speakers, np.uint16)


def write_shd(folder: Path) -> list[int]:
    speakers = [0] * 10 + [1] * 20 + [2] * 10 + [3] * 20
    write_h5(folder / "shd_train.h5", [i % 5 for i in range(60)], speakers)
    write_h5(folder / "shd_test.h5", [4, 0, 2], [4, 4, 5])
    return speakers


def test_spikes_of_a_cochlea_by_hand(tmp_path):
    write_shd(tmp_path)
    task = load("task=shd", f"task.path={tmp_path}", "task.steps=14", "task.pool=5")
    assert (task.encoder, task.n_inputs, task.n_classes, task.timesteps) == ("events", 140, 5, 14)
    test = task.open_test()
    assert test.y.tolist() == [4, 0, 2] and test.x.dtype == np.uint8
    # 0.1 s lies in the second window of 0.1 s only if float16 has not rounded it down
    first = int(float(np.float16(0.1)) * 10)
    assert [np.argwhere(x).tolist() for x in test.x] == [[[first, 2 * i], [13, 139]] for i in range(3)]
    assert load("task=shd", f"task.path={tmp_path}", "task.pool=3").n_inputs == 234


def test_what_comes_after_the_last_window_is_left_out(tmp_path):
    write_shd(tmp_path)
    write_h5(tmp_path / "shd_test.h5", [0, 1], [4, 5], [([1.5, 0.0], [3, 4]), ([], [])])
    x = load("task=shd", f"task.path={tmp_path}", "task.pool=1").open_test().x
    assert np.argwhere(x).tolist() == [[0, 0, 4]]


@pytest.mark.parametrize("seed", range(6))
def test_validation_is_spoken_by_others(seed, tmp_path):
    speakers = write_shd(tmp_path)
    path = tmp_path / "shd_train.h5"
    held_out = heidelberg.speakers_for(path, np.array(speakers), 0.2, seed)
    task = load("task=shd", f"task.path={tmp_path}", f"task.seed={seed}", "task.pool=1")
    assert len(task.validation.y) == sum(s in held_out for s in speakers) >= 12
    assert len(task.train.y) + len(task.validation.y) == 60
    whose = {10 * i % 700: s for i, s in enumerate(speakers)}  # the unit of a recording tells who spoke
    heard = {whose[np.flatnonzero(x[:, :699].any(0))[0]] for x in task.validation.x}
    assert heard == set(held_out.tolist()) and len(heard) < 4


def test_ssc_has_its_own_three_files(tmp_path):
    for part, n in (("train", 12), ("valid", 4), ("test", 5)):
        write_h5(tmp_path / f"ssc_{part}.h5", [i % 3 for i in range(n)])
    task = load("task=ssc", f"task.path={tmp_path}", "task.steps=10")
    assert [len(part.y) for part in (task.train, task.validation, task.open_test())] == [12, 4, 5]
    assert not task.train.x[:, :, 139].any()  # 1.39 s is beyond the second that ssc takes


def rewrite(change):
    def spoil(folder):
        with h5py.File(folder / "shd_train.h5", "r+") as file:
            change(file)

    return spoil


def truncate(folder):
    data = (folder / "shd_train.h5").read_bytes()
    (folder / "shd_train.h5").write_bytes(data[: len(data) // 2])


def put(key, where, value):
    return rewrite(lambda file: file[key].__setitem__(where, np.array(value, np.uint16)))


def replace_labels(labels):
    def change(file):
        del file["labels"]
        file["labels"] = np.array(labels)

    return rewrite(change)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: (folder / "shd_train.h5").unlink(), "is missing$"),
        (
            lambda folder: (folder / "shd_train.h5").rename(folder / "shd_train.h5.gz"),
            "is missing; shd_train.h5.gz is there and needs unpacking",
        ),
        (lambda folder: (folder / "shd_train.h5").write_bytes(b"no hdf5"), "cannot be read"),
        (truncate, "cannot be read"),
        (rewrite(lambda file: file.pop("labels")), "labels is missing; it holds extra, spikes"),
        (rewrite(lambda file: file.pop("spikes")), "spikes/times is missing; it holds extra, labels"),
        (rewrite(lambda file: file.pop("extra")), "extra/speaker is missing, without which"),
        (replace_labels(range(59)), r"times must hold one list for each of 59 labels, got shape \[60\]"),
        (replace_labels(np.ones(60)), "labels must be whole numbers, got float64"),
        (replace_labels([0, 2] * 30), "must be 0..K-1 without gaps"),
        (put("spikes/units", 3, [1, 700]), "recording 3 must have finite times and units in 0..699"),
        (put("spikes/units", 3, [1]), "recording 3 must have one whole-numbered unit for each time"),
        (put("extra/speaker", slice(None), 1), "must name two speakers or more, got 1"),
    ],
)  # fmt: skip
def test_a_damaged_h5_is_refused(spoil, message, tmp_path):
    write_shd(tmp_path)
    spoil(tmp_path)
    refused(message, "task=shd", f"task.path={tmp_path}", starts=tmp_path)


# -- generated --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["randman", "delay_detection"])
def test_a_generated_task_depends_on_its_seed_alone(name):
    a, b = load(f"task={name}"), load(f"task={name}", "search.seed=5")
    other = load(f"task={name}", "task.seed=1")
    for part in ("train", "validation"):
        mine, again, theirs = (getattr(t, part) for t in (a, b, other))
        assert np.array_equal(mine.x, again.x) and np.array_equal(mine.y, again.y)
        assert not np.array_equal(mine.x, theirs.x)
    assert [len(part.y) for part in (a.train, a.validation, a.open_test())] == [2400, 800, 800]
    refused("task.samples must be at least", f"task={name}", "task.samples=20")
    refused(f"task.path must be null for {name}, got x", f"task={name}", "task.path=x")


def test_only_the_delay_tells_the_classes_apart():
    task = load("task=delay_detection", "task.samples=16000")
    x, y = task.train
    for label in range(8):
        mine = x[y == label].astype(float)
        # copy(t) = source(t - label): sources at t - lag against copies at t
        matches = [(mine[:, 8 - lag : 32 - lag, :8] * mine[:, 8:, 8:]).mean() for lag in range(9)]
        assert np.argmax(matches) == label and matches[label] > 5 * np.median(matches)
    rates = np.array([x[y == label].mean(0) for label in range(8)])  # [classes, steps, inputs]
    assert abs(rates - 0.1).max() < 0.045 and np.ptp(rates.mean((1, 2))) < 0.004


def test_every_input_of_a_manifold_spikes_once_and_neighbours_are_alike():
    x, y = load("task=randman").train
    assert (x.sum(1) == 1).all()
    times = x.argmax(1)
    assert times.min() == 0 and times.max() == 31
    within = np.mean([np.ptp(times[y == label], 0).mean() for label in range(10)])
    assert within > 20  # every input uses the duration: no class is a constant pattern
    # on a curve the nearest neighbour is much nearer than a random sample of the same inputs
    mine = times[y == 0]
    distances = np.abs(mine[:, None] - mine[None]).mean(2) + 99 * np.eye(len(mine))
    shuffled = np.stack([rng(0, "s", i).permutation(column) for i, column in enumerate(mine.T)], 1)
    control = np.abs(shuffled[:, None] - shuffled[None]).mean(2) + 99 * np.eye(len(mine))
    assert distances.min(1).mean() < 0.03 * control.min(1).mean()  # 0.04 were the terms to fall as 1 / k


def test_settings_that_leave_no_delay_task_are_refused():
    refused("task.channels must be even for delay_detection", "task=delay_detection", "task.channels=5")
    refused("task.classes must be at most task.steps = 4", "task=delay_detection", "task.steps=4")
    assert generated.LOST < 0.5


@pytest.mark.parametrize("name", ["randman", "delay_detection"])
def test_what_fits_no_memory_is_not_generated(name):
    words = "task.samples, task.steps and task.channels must stay within 2147483648 entries in all"
    refused(words, f"task={name}", "task.samples=4000000", "task.steps=1000", "task.channels=64")


# -- downloads --------------------------------------------------------------------------------------------


def test_openml_images_become_an_idx_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "OPENML_TRAIN", 600)
    x, y = rng(0, "openml").integers(0, 256, (630, 784)), np.arange(630) % 10
    asked = []

    def fetch(name, **settings):
        asked.append(name)
        return x.astype(float), y.astype(str)

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    at = ("task=kmnist", f"task.path={tmp_path / 'new' / 'kmnist'}", "task.download=true")
    task = load(*at, "task.crop=2", "task.train_limit=50")
    assert asked == ["Kuzushiji-MNIST"] and task.n_inputs == 576 and task.name == "kmnist"
    test = task.open_test()
    inner = x[600:].reshape(-1, 28, 28)[:, 2:26, 2:26].reshape(30, 576)
    assert np.array_equal(test.x, (inner / 255).astype(np.float32)) and test.y.tolist() == y[600:].tolist()
    load(*at)
    assert len(asked) == 1  # what is there is not fetched again
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["kmnist"]


@pytest.mark.parametrize(
    "error, words",
    [
        (OSError("no route to host"), "no route to host"),
        (ValueError("no data set\nof that name"), "no data set of that name"),
        (http.client.IncompleteRead(b"half"), "IncompleteRead.4 bytes read."),
        (zipfile.BadZipFile("File is not a zip file"), "File is not a zip file"),
        (EOFError(), "EOFError"),
    ],
)
def test_a_download_that_fails_leaves_nothing(error, words, tmp_path, monkeypatch):
    def fetch(*_, **__):
        raise error

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    path = tmp_path / "mnist"
    refused(
        f"task=mnist cannot be downloaded .{words}.; put its files into {path} by hand",
        "task=mnist", f"task.path={path}", "task.download=true",
    )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_tonic_fetches_into_the_official_layout(tmp_path, monkeypatch):
    def write(save_to, train):
        folder = Path(save_to) / "NMNIST"
        if train:
            write_nmnist(folder)
        (folder / "train.zip").write_bytes(b"packed")

    library = types.ModuleType("tonic")
    library.datasets = types.SimpleNamespace(NMNIST=write)
    monkeypatch.setitem(sys.modules, "tonic", library)
    path = tmp_path / "nmnist"
    task = load("task=nmnist", f"task.path={path}", "task.download=true")
    assert len(task.train.y) == 40 and sorted(p.name for p in path.iterdir()) == ["Test", "Train"]
    monkeypatch.setitem(sys.modules, "tonic", None)
    refused(
        "task.download=true for task=shd needs tonic: pip install 'scnas\\[datasets\\]'",
        "task=shd", f"task.path={tmp_path / 'shd'}", "task.download=true",
    )  # fmt: skip
    assert not (tmp_path / "shd").exists()


def test_an_idx_file_is_read_back(tmp_path):
    array = rng(0, "idx").integers(0, 256, (3, 4, 5)).astype(np.uint8)
    (tmp_path / "a").write_bytes(download.idx(array))
    assert np.array_equal(tasks.mnist.read_idx(tmp_path / "a", 3), array)


# -- images -----------------------------------------------------------------------------------------------


def test_a_border_is_cut(tmp_path):
    images = np.arange(12 * 5 * 6).reshape(12, 5, 6) % 251
    for prefix in ("train", "t10k"):
        for what, array in (("images", images), ("labels", np.arange(12) % 3)):
            (tmp_path / f"{prefix}-{what}-idx{array.ndim}-ubyte").write_bytes(
                download.idx(array.astype(np.uint8))
            )
    at = ("task=mnist", f"task.path={tmp_path}")
    test = load(*at, "task.crop=1").open_test()
    assert np.array_equal(test.x, (images[:, 1:4, 1:5].reshape(12, 12) / 255).astype(np.float32))
    refused("task.crop must be at most 2 for 5 x 6 pixels, got 3", *at, "task.crop=3")


def test_moved_copies_join_the_training_images_and_nothing_else(tmp_path):
    images = rng(0, "moved").integers(1, 256, (12, 5, 6)).astype(np.uint8)
    for prefix in ("train", "t10k"):
        for what, array in (("images", images), ("labels", np.arange(12) % 3)):
            name = f"{prefix}-{what}-idx{array.ndim}-ubyte"
            (tmp_path / name).write_bytes(download.idx(array.astype(np.uint8)))
    at = ("task=mnist", f"task.path={tmp_path}")
    plain, moved = load(*at), load(*at, "task.shift=1")
    n = len(plain.train.y)
    assert len(moved.train.y) == 5 * n and np.array_equal(moved.train.y, np.tile(plain.train.y, 5))
    for a, b in ((plain.validation, moved.validation), (plain.open_test(), moved.open_test())):
        assert np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)
    before, up, down, left, right = moved.train.x.reshape(5, n, 5, 6)
    assert np.array_equal(before, plain.train.x.reshape(n, 5, 6))
    assert np.array_equal(up[:, :-1], before[:, 1:]) and not up[:, -1].any()
    assert np.array_equal(down[:, 1:], before[:, :-1]) and not down[:, 0].any()
    assert np.array_equal(left[:, :, :-1], before[:, :, 1:]) and not left[:, :, -1].any()
    assert np.array_equal(right[:, :, 1:], before[:, :, :-1]) and not right[:, :, 0].any()
    inner = load(*at, "task.shift=1", "task.crop=1").train.x.reshape(5, n, 3, 4)
    assert np.array_equal(inner[3], before[:, 1:4, 2:6])  # moved first, cut then: the border comes in
    assert len(load(*at, "task.shift=2").train.y) == 9 * n
