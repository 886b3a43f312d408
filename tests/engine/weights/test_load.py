"""Tests reading, loading and writing weight files, and their messages."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

import srtoolbox
from srtoolbox.archs.dstcsrnet import DSTCSRNet
from srtoolbox.archs.edsr import EDSR
from srtoolbox.engine.weights.convert import convert
from srtoolbox.engine.weights.load import (
    load,
    load_weights,
    read_weights,
    save_weights,
    weights_hash,
)
from srtoolbox.errors import UserError

CPU = torch.device("cpu")
ARCH = {"type": "EDSR", "num_feat": 4, "num_block": 1, "scale": 2}


def net(seed: int = 0) -> EDSR:
    torch.manual_seed(seed)
    return EDSR(scale=2, num_feat=4, num_block=1)


class TestWeights:
    def test_round_trip(self, tmp_path: Path) -> None:
        path = tmp_path / "weights" / "net.pth"
        arch = {"type": "EDSR", "num_feat": 4}
        name = save_weights(path, arch, net(0))
        other = net(1)
        assert weights_hash(other) != name
        line = load_weights(other, path)
        assert weights_hash(other) == name == weights_hash(net(0))
        count = len(other.state_dict())
        assert line == f"{path}: {count} of {count} tensors loaded from params"
        assert read_weights(path).arch == arch

    def test_the_average_is_preferred(self, tmp_path: Path) -> None:
        name = save_weights(tmp_path / "net.pth", {}, net(0), net(1))
        assert name == weights_hash(net(1))
        loaded = net(2)
        assert "params_ema" in load_weights(loaded, tmp_path / "net.pth")
        assert weights_hash(loaded) == name

    @pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
    @pytest.mark.parametrize("entry", [None, "params", "params_ema", "state_dict"])
    def test_other_peoples_files(self, tmp_path: Path, prefix: str, entry: str | None) -> None:
        state = {prefix + key: value for key, value in net(0).state_dict().items()}
        torch.save({entry: state} if entry else state, tmp_path / "net.pth")
        loaded = net(1)
        line = load_weights(loaded, tmp_path / "net.pth")
        assert (entry or "a plain file") in line
        assert weights_hash(loaded) == weights_hash(net(0))

    def test_differences_are_named(self, tmp_path: Path) -> None:
        state = net(0).state_dict()
        state["conv_1st.weight"] = state.pop("conv_first.weight")
        state["conv_last.bias"] = torch.zeros(7)
        torch.save(state, tmp_path / "net.pth")
        loaded = net(1)
        with pytest.raises(UserError, match=r"net\.pth: does not fit EDSR: \d+ of \d+") as caught:
            load_weights(loaded, tmp_path / "net.pth")
        for word in ("conv_first.weight", "conv_1st.weight", "conv_last.bias", "strict_load_g"):
            assert word in str(caught.value)
        assert weights_hash(loaded) == weights_hash(net(1))  # nothing was loaded
        count = len(state)
        line = load_weights(loaded, tmp_path / "net.pth", strict=False)
        assert f"{count - 2} of {count} tensors" in line
        assert torch.equal(loaded.conv_first.weight, net(1).conv_first.weight)
        assert torch.equal(loaded.conv_last.weight, net(0).conv_last.weight)

    def test_nothing_fits(self, tmp_path: Path) -> None:
        torch.save({"other": torch.zeros(1)}, tmp_path / "net.pth")
        with pytest.raises(
            UserError, match=r"does not fit EDSR: 0 of \d+ tensors match; not found"
        ):
            load_weights(net(), tmp_path / "net.pth", strict=False)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ([torch.zeros(1)], "contains a list, not a dict of tensors"),
            ({"params": torch.zeros(1)}, "'params' has no named tensors"),
            ({0: torch.zeros(1)}, "its top level has no named tensors"),
            ({"state_dict": {"w": torch.zeros(1)}, "epoch": 3}, "does not fit EDSR: 0 of"),
            (
                {"g": {"w": torch.zeros(1)}, "epoch": 3},
                "top level has no .*; set --key or path.param_key_g to one of these entries: 'g'",
            ),
        ],
    )
    def test_foreign_files(self, tmp_path: Path, content: object, words: str) -> None:
        torch.save(content, tmp_path / "net.pth")
        with pytest.raises(UserError, match=rf"net\.pth.*{words}"):
            load_weights(net(), tmp_path / "net.pth")

    @pytest.mark.parametrize("content", [b"PK", b"\x89PNG\r\n\x1a\n", b"text\n"])
    def test_no_weight_file(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "net.pth").write_bytes(content)
        with pytest.raises(UserError, match=r"net\.pth: is .*, not a weight file"):
            load_weights(net(), tmp_path / "net.pth")

    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"none\.pth: no such weight file"):
            load_weights(net(), tmp_path / "none.pth")
        with pytest.raises(UserError, match=str(tmp_path)):
            load_weights(net(), tmp_path)

    def test_nothing_in_a_file_is_executed(self, tmp_path: Path) -> None:
        path, trace = tmp_path / "net.pth", tmp_path / "executed"

        class Evil:
            def __reduce__(self) -> tuple:
                return Path.touch, (trace,)

        for save in (torch.save, lambda value, file: file.write_bytes(pickle.dumps(value, 2))):
            save({"params": Evil()}, path)
            with pytest.raises(UserError, match=r"net\.pth: holds pickled Python objects"):
                load_weights(net(), path)
        assert not trace.exists()


class TestWeightsHash:
    def test_depends_on_every_value(self) -> None:
        one, two = net(), net()
        assert weights_hash(one) == weights_hash(two)
        with torch.no_grad():
            two.conv_last.bias[0].add_(1e-6)
        assert weights_hash(one) != weights_hash(two)

    def test_is_independent_of_memory_format(self) -> None:
        assert weights_hash(net().to(memory_format=torch.channels_last)) == weights_hash(net())

    def test_scalars_and_other_types(self) -> None:
        norm = nn.BatchNorm2d(2).bfloat16()
        before = weights_hash(norm)
        norm.num_batches_tracked += 1
        assert weights_hash(norm) != before
        assert len(before) == 12


class TestEntries:
    def test_a_key_takes_another_entry(self, tmp_path: Path) -> None:
        path = tmp_path / "net.pth"
        save_weights(path, ARCH, net(0), net(1))
        loaded = net(2)
        assert load_weights(loaded, path, key="params").endswith("loaded from params")
        assert weights_hash(loaded) == weights_hash(net(0))
        with pytest.raises(UserError, match=r"no entry 'g'; it has 'params', 'params_ema'"):
            read_weights(path, "g")

    def test_entries_of_other_names(self, tmp_path: Path) -> None:
        path = tmp_path / "net.pth"
        torch.save({"generator": net(0).state_dict(), "epoch": 3}, path)
        loaded = net(1)
        load_weights(loaded, path, key="generator")
        assert weights_hash(loaded) == weights_hash(net(0))

    def test_an_averaged_model(self, tmp_path: Path) -> None:
        torch.save(AveragedModel(net(0)).state_dict(), tmp_path / "net.pth")
        loaded = net(1)
        load_weights(loaded, tmp_path / "net.pth")
        assert weights_hash(loaded) == weights_hash(net(0))

    def test_a_part_that_is_called_module_stays(self, tmp_path: Path) -> None:
        wrapper = nn.Module()
        wrapper.module = nn.Linear(2, 2)
        torch.save(wrapper.state_dict(), tmp_path / "net.pth")
        assert "2 of 2" in load_weights(wrapper, tmp_path / "net.pth")


class TestOlderVersions:
    """DSTCSRNetPlus had other parts once, and was called DSTCSRNet."""

    @pytest.mark.parametrize("name", ["DSTCSRNet", "DSTCSRNetPlus"])
    def test_a_weight_file(self, tmp_path: Path, name: str) -> None:
        state = {"head.0.weight": torch.zeros(8, 3, 3, 3)}
        arch = {"type": name, "num_feat": 8, "num_level": 2}
        torch.save({"params": state, "arch": arch}, tmp_path / "old.pth")
        with pytest.raises(UserError, match=r"old\.pth: weights of the first version"):
            read_weights(tmp_path / "old.pth")

    def test_options_that_the_network_does_not_have(self, tmp_path: Path) -> None:
        arch = {"type": "DSTCSRNet", "num_feat": 8, "num_level": 2}
        save_weights(tmp_path / "old.pth", arch, DSTCSRNet(num_feat=8))
        with pytest.raises(UserError, match=r"old\.pth.*num_level"):
            load(tmp_path / "old.pth")

    def test_an_option_file(self, tmp_path: Path) -> None:
        save_weights(tmp_path / "net.pth", {}, DSTCSRNet(num_feat=8))
        words = (
            "network_g.num_block: unknown; DSTCSRNetPlus has this option; did you mean "
            "type: DSTCSRNetPlus?"
        )
        with pytest.raises(UserError, match=re.escape(words)):
            convert(tmp_path / "net.pth", tmp_path / "new.pth", "DSTCSRNet", ["num_block=1"])


class TestSafetensors:
    def test_round_trip(self, tmp_path: Path) -> None:
        path = tmp_path / "net.safetensors"
        name = save_weights(path, ARCH, net(0).to(memory_format=torch.channels_last), net(1))
        with safe_open(path, "pt") as file:
            assert file.metadata()["format"] == "pt"
            assert json.loads(file.metadata()["arch"]) == ARCH
        built, arch = srtoolbox.load(str(path))
        assert arch == ARCH and not built.training
        assert weights_hash(built) == weights_hash(net(1)) == name

    def test_other_peoples_files_under_any_name(self, tmp_path: Path) -> None:
        save_file(net(0).state_dict(), tmp_path / "net.pth", {"arch": "edsr, large"})
        loaded = net(1)
        load_weights(loaded, tmp_path / "net.pth")
        assert weights_hash(loaded) == weights_hash(net(0))
        assert read_weights(tmp_path / "net.pth").arch is None

    def test_tied_tensors(self, tmp_path: Path) -> None:
        tied = nn.Sequential(*[nn.Linear(2, 2)] * 2)
        name = save_weights(tmp_path / "net.safetensors", {}, tied)
        load_weights(tied, tmp_path / "net.safetensors")
        assert weights_hash(tied) == name


class TestAdvice:
    def test_another_arch(self, tmp_path: Path) -> None:
        torch.save(nn.DataParallel(net()).state_dict(), tmp_path / "net.pth")
        with pytest.raises(
            UserError, match=r"does not fit Linear.*its tensors have the names of EDSR"
        ):
            load_weights(nn.Linear(2, 2), tmp_path / "net.pth")
        with pytest.raises(
            UserError,
            match=r"not contain the name of its arch \(its tensors have the names of EDSR\); give",
        ):
            load(tmp_path / "net.pth", CPU)

    def test_another_size(self, tmp_path: Path) -> None:
        torch.save(EDSR(scale=2, num_feat=8, num_block=2).state_dict(), tmp_path / "net.pth")
        with pytest.raises(UserError) as caught:
            load_weights(net(), tmp_path / "net.pth")
        for words in (
            "not used: body.1.conv1.weight, body.1.conv1.bias, body.1.conv2.weight and 1 more",
            "of another shape: conv_first.weight (8, 3, 3, 3) instead of (4, 3, 3, 3)",
            "it seems to be EDSR with other options",
        ):
            assert words in str(caught.value)

    def test_no_arch(self, tmp_path: Path) -> None:
        torch.save({"w": torch.zeros(1)}, tmp_path / "net.pth")
        with pytest.raises(
            UserError, match=r"net\.pth: does not contain the name of its arch; give"
        ):
            load(tmp_path / "net.pth", CPU)
        with pytest.raises(UserError, match="its tensors have the names of no registered arch"):
            load_weights(net(), tmp_path / "net.pth")
