"""Training that is stopped, killed, resumed, or has nowhere to write."""

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import current_process

import pytest
import torch

from posgan_edge.errors import BadInput
from posgan_edge.training import trainer as trainer_module
from posgan_edge.training.datasets import EpochBatches, PackMaps
from posgan_edge.training.recipe import Adversarial, Optimizer, Recipe
from posgan_edge.training.run_folder import check_unused
from posgan_edge.training.trainer import Trainer
from tests.helpers.data import write_pack
from tests.helpers.there import there

TINY = {"name": "edge", "modes": 13, "map_size": 16, "stem": [8, 8], "neck": 4, "hidden": 16,
        "stages": [[1, 8, 2, 1, True], [1, 8, 2, 1, False], [1, 8, 2, 1, False]]}  # fmt: skip


def tiny_recipe(**changes):
    values = {
        "name": "tiny", "generator": TINY, "epochs": 2, "batch_size": 4, "workers": 0,
        "adversarial": Adversarial(enabled=True, ngf=2, pretrain_epochs=1), **changes,
    }  # fmt: skip
    return Recipe(**values)


@pytest.fixture
def pack(tmp_path):
    return PackMaps(write_pack(tmp_path / "pack"))


def weights(trainer):
    return torch.cat([v.flatten().float() for v in trainer.average.state_dict().values()])


class Watched(PackMaps):
    """A pack that notes which samples are drawn, and asks to stop after so many."""

    def __init__(self, folder):
        super().__init__(folder)
        self.drawn, self.stop_after, self.trainer = [], None, None

    def image(self, index):
        self.drawn.append(index)
        if len(self.drawn) == self.stop_after:
            there(self.trainer).request_stop(signal.SIGTERM)
        return super().image(index)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stop_after", [9, 24, 31, 44, 48])
def test_a_run_that_is_stopped_anywhere_goes_on_exactly(tmp_path, pack, stop_after, workers):
    """24 faces, batches of 4: stopped in pre-training, at its end, and inside and at the end of
    an epoch."""
    recipe = tiny_recipe(optimizer=Optimizer("muon"))
    straight = Watched(pack.folder)
    whole = Trainer(recipe, straight, None)
    while not whole.done:
        whole.train()
    assert len(straight.drawn) == 72

    first = Watched(pack.folder)
    first.stop_after = stop_after
    stopped = Trainer(recipe, first, None)
    first.trainer = stopped
    while not stopped.done and not stopped.stopped_by:
        stopped.train()
    assert stopped.stopped_by == signal.SIGTERM
    stopped.save(tmp_path / "last.pth")

    second = Watched(pack.folder)
    torch.manual_seed(99)
    resumed = Trainer(tiny_recipe(optimizer=Optimizer("muon"), workers=workers), second, None)
    resumed.resume(tmp_path / "last.pth")
    assert not resumed.done
    while not resumed.done:
        resumed.train()
    if not workers:
        assert first.drawn + second.drawn == straight.drawn
    assert torch.equal(weights(whole), weights(resumed))
    assert whole.began.k == resumed.began.k
    assert (whole.samples, whole.step) == (resumed.samples, resumed.step)
    for one, other in zip(whole.history, resumed.history, strict=True):
        assert {**one, "minutes": 0} == {**other, "minutes": 0}


def test_a_network_with_dropout_goes_on_exactly(tmp_path, pack):
    """Dropout draws from the generator that the checkpoint keeps, also inside an epoch."""
    generator = {"name": "unet", "ngf": 1, "layout": "ict"}
    recipe = tiny_recipe(generator=generator, epochs=1, batch_size=12, adversarial=Adversarial())
    whole = Trainer(recipe, pack, None)
    whole.train()
    stopped = Trainer(recipe, pack, None)
    stopped.request_stop(2)
    stopped._run_pass("", lambda *_: None, None, pretrain=False)
    assert stopped.position == 1
    stopped.save(tmp_path / "last.pth")
    torch.manual_seed(99)
    resumed = Trainer(recipe, pack, None)
    torch.rand(7)
    resumed.resume(tmp_path / "last.pth")
    resumed.train()
    assert torch.equal(weights(whole), weights(resumed))


def test_a_stop_in_the_validation_keeps_the_epoch_open(tmp_path, pack, monkeypatch):
    recipe = tiny_recipe(epochs=1, adversarial=Adversarial())
    validation = PackMaps(pack.folder, "val")
    trainer = Trainer(recipe, pack, validation)
    decode = validation.image
    monkeypatch.setattr(
        validation,
        "image",
        lambda i: trainer.request_stop(signal.SIGINT) or decode(i),  # type: ignore[func-returns-value]
    )
    assert trainer.train() is None
    assert (trainer.epoch, trainer.position, trainer.history) == (0, 6, [])
    trainer.save(tmp_path / "last.pth")
    monkeypatch.undo()
    resumed = Trainer(recipe, pack, validation)
    resumed.resume(tmp_path / "last.pth")
    assert there(resumed.train()) == there(resumed.history[0]["val_nme"]) > 0
    assert (resumed.done, resumed.step) == (True, 6)


def test_a_long_epoch_is_saved_on_the_way(tmp_path, pack, monkeypatch):
    assert trainer_module.SAVE_SECONDS <= 300
    now = iter(range(0, 10**6, 100))  # every look at the clock is 100 s later
    monkeypatch.setattr(trainer_module.time, "monotonic", lambda: next(now))  # type: ignore[attr-defined]
    trainer = Trainer(tiny_recipe(adversarial=Adversarial()), pack, None)
    saved = []
    monkeypatch.setattr(
        trainer, "save",
        lambda path: (saved.append(trainer.position), setattr(trainer, "_saved", next(now))),  # type: ignore[func-returns-value]
    )  # fmt: skip
    trainer.train(last=tmp_path / "last.pth")
    assert saved == [2, 5]


def test_batches_from_the_middle():
    sampler = EpochBatches(50, 4, seed=3)
    every = list(sampler)
    for sampler.start in (0, 5, 12):
        assert list(sampler) == every[sampler.start :]


@pytest.mark.parametrize("name", ["last.pth", "checkpoint-003.pth", "history.json"])
def test_a_used_folder_is_refused(tmp_path, run, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"precious")
    with pytest.raises(BadInput, match=f"holds a training run already .{name}"):
        check_unused(tmp_path / "out")
    data = write_pack(tmp_path / "pack")
    code, _, err = run("train", "edge", "--data", data, "--output", tmp_path / "out")
    assert (code, len(err.splitlines())) == (4, 1)
    assert [f.name for f in (tmp_path / "out").iterdir()] == [name]
    assert (tmp_path / "out" / name).read_bytes() == b"precious"


def _of(**changes):
    """A checkpoint with some of its content changed; None leaves a key out."""

    def make(path, trainer):
        trainer.save(path)
        content = torch.load(path, weights_only=True)
        for key, value in changes.items():
            if value is None:
                del content[key]
            else:
                content[key] = value(content[key]) if callable(value) else value
        torch.save(content, path)

    return make


def _other_network(path, trainer):
    recipe = tiny_recipe(generator={**TINY, "hidden": 24})
    Trainer(recipe, trainer.data, None).save(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path, _: None, "no such checkpoint file"),
        (lambda path, _: path.mkdir(), "no such checkpoint file"),
        (lambda path, _: path.write_bytes(b""), "is empty"),
        (lambda path, _: path.write_bytes(b"PK\x03\x04" * 99), "truncated or not a PyTorch file"),
        (lambda path, _: torch.save([1], path), "holds a list"),
        (lambda path, _: torch.save({"Generator": {}}, path), "not a training checkpoint"),
        (_other_network, "weights of another shape"),
        (_of(rng=None), "key 'rng' is missing"),
        (_of(rng=torch.zeros(3)), "another optimiser or network"),
        (_of(epoch=-1), "epoch: expected int >= 0"),
        (_of(epoch="3"), "epoch: expected int, got str"),
        (_of(elapsed=float("nan")), "elapsed: nan is not a finite number"),
        (_of(history={}), "history: expected a list, got a mapping"),
        (_of(optimizers=[]), "another optimiser or network"),
        (_of(optimizers=lambda o: [{}]), "another optimiser or network"),
        (_of(optimizers=lambda o: [{**o[0], "param_groups": []}]), "another optimiser or network"),
        (_of(optimizers=[3]), "optimizers.*expected a mapping, got int"),
        (_of(began={"k": 0.5}), "another optimiser or network"),
        (_of(position=2, batches=7), "inside an epoch of 7 batches, this recipe and data make 6"),
    ],
)  # fmt: skip
def test_what_cannot_be_resumed_gets_one_line(tmp_path, pack, make, message):
    trainer = Trainer(tiny_recipe(), pack, None)
    trainer.train()
    path = tmp_path / "last.pth"
    make(path, trainer)
    with pytest.raises(BadInput, match=message) as error:
        Trainer(tiny_recipe(), pack, None).resume(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_an_optimiser_state_of_another_shape_is_refused(tmp_path, pack):
    trainer = Trainer(tiny_recipe(), pack, None)
    trainer.train()
    trainer.save(tmp_path / "last.pth")
    content = torch.load(tmp_path / "last.pth", weights_only=True)
    content["optimizers"][0]["state"][0]["exp_avg"] = torch.zeros(5)
    torch.save(content, tmp_path / "last.pth")
    with pytest.raises(BadInput, match=r"exp_avg of shape \(5,\)"):
        Trainer(tiny_recipe(), pack, None).resume(tmp_path / "last.pth")


def test_checkpoints_of_version_0_1_resume(tmp_path, pack):
    whole = Trainer(tiny_recipe(), pack, None)
    whole.train()
    _of(position=None, batches=None, pretrained=None, sums=None)(tmp_path / "last.pth", whole)
    whole.train()
    resumed = Trainer(tiny_recipe(), pack, None)
    resumed.resume(tmp_path / "last.pth")
    resumed.train()
    assert resumed.done
    assert torch.equal(weights(whole), weights(resumed))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path, pack, monkeypatch):
    trainer = Trainer(tiny_recipe(), pack, None)
    path = tmp_path / "last.pth"
    path.write_bytes(b"old")
    real = torch.save
    monkeypatch.setattr(torch, "save", lambda state, _: real(state, "/dev/full"))
    with pytest.raises(BadInput, match="cannot be written") as error:
        trainer.save(path)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == b"old"
    assert [f.name for f in tmp_path.iterdir() if "part" in f.name] == []


def test_a_folder_for_temporary_files_that_takes_no_sockets(tmp_path, pack, monkeypatch):
    """The name of a socket may have 107 characters."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.delitem(vars(current_process())["_config"], "tempdir", raising=False)
    message = r"^TMPDIR /.*x: no socket can be made there \(AF_UNIX path too long\): set TMPDIR to"
    with pytest.raises(BadInput, match=message):
        Trainer(tiny_recipe(workers=1), pack, None)
    Trainer(tiny_recipe(workers=0), pack, None)


def _started(tmp_path, processes, workers=0):
    """A run of 10,000 epochs under way, once it has taken some steps."""
    recipe = {"name": "tiny", "generator": TINY, "batch_size": 2, "workers": workers,
              "epochs": 10000, "checkpoint_every": 100000}  # fmt: skip
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [
        sys.executable, *(launcher if processes > 1 else []), "-m", "posgan_edge", "train",
        str(tmp_path / "r.yaml"), "--data", str(write_pack(tmp_path / "pack")),
        "--output", str(tmp_path / "out"),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while not (tmp_path / "out" / "history.json").exists():
        assert process.poll() is None, there(process.stderr).read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return command, process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "processes", "code"),
    [(signal.SIGINT, 1, 130), (signal.SIGTERM, 1, 143), (signal.SIGTERM, 2, None)],
)
def test_signals_save_what_there_is(tmp_path, number, processes, code):
    command, process = _started(tmp_path, processes, workers=1)
    (tmp_path / "out" / "last.pth").unlink()
    process.send_signal(number)
    err = process.communicate(timeout=120)[1]
    if code is not None:
        assert process.returncode == code, err
        assert "Traceback" not in err
    assert process.returncode != 0
    assert f"--resume continues {tmp_path / 'out' / 'last.pth'}" in err
    state = torch.load(tmp_path / "out" / "last.pth", weights_only=True)
    assert state["step"] > 0
    again = subprocess.run(
        [*command, "--resume", "--set", f"epochs={state['epoch'] + 1}"],
        capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == list(range(1, state["epoch"] + 2))
    assert all(entry["samples"] == 24 * entry["epoch"] for entry in history)
