"""Translates BasicSR's datasets to PairedImages and Clips, their files to layouts."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from srtoolbox.config.yaml import Tree
from srtoolbox.engine.basicsr.keys import OTHER_PHASE, Section, shown

_PAIRED = "PairedImageDataset"
_TRAIN_CLIPS = (
    "REDSDataset",
    "Vimeo90KDataset",
    "REDSRecurrentDataset",
    "Vimeo90KRecurrentDataset",
)
_TEST_CLIPS = ("VideoTestDataset", "VideoTestVimeo90KDataset", "VideoRecurrentTestDataset")
_VIMEO_LENGTH = 7


def _is_lmdb(section: Section) -> bool:
    backend = section.tree.get("io_backend")
    return isinstance(backend, dict) and backend.get("type") == "lmdb"


class DatasetTranslator:
    """Translates the ``datasets`` of a file.

    Args:
        scale: The file's scale.
        num_gpu: Number of GPUs that BasicSR trains on; None: not known.

    Attributes:
        clips: Whether the first dataset for evaluation has clips; None: there is no such dataset.
        padding: Section of the first dataset of clips, and its rule for missing frames.
        unequal: Whether clips for evaluation may have different numbers of frames.
    """

    def __init__(self, scale: int, num_gpu: int | None) -> None:
        self.scale, self.num_gpu = scale, num_gpu
        self.clips: bool | None = None
        self.padding: tuple[Section, str] | None = None
        self.unequal = False

    def translate(self, datasets: Section, out: Tree, train: Tree) -> None:
        """Fills ``out`` with the datasets; ``train`` gets the options of the data loader."""
        for key in list(datasets.left):
            phase = key.split("_")[0]
            section = datasets.take_section(key)
            if section is None:
                datasets.note("unneeded", key, "not set")
            elif phase == "train":
                if "train" in out:
                    datasets.fault(key, "a second training set; srtoolbox trains on one")
                out.put("train", self._dataset(section, True, train), datasets.place(key))
            elif phase in ("val", "test"):
                name = self._dataset_name(section, key)
                if phase not in out:
                    out.put(phase, Tree(datasets.place(key)), datasets.place(key))
                if name in out[phase]:
                    section.fault("name", f"a second dataset {shown(name)}; give it another name")
                out[phase].put(name, self._dataset(section, False, train), datasets.place(key))
            else:
                datasets.fault(key, "is none of train, val, test (as in test_1)")

    def _dataset_name(self, section: Section, key: str) -> str:
        """Returns the name of a test set, which becomes a part of file names."""
        name = section.take("name", key)
        safe = isinstance(name, str) and name.isprintable() and not set(name) & set("/\\")
        if not safe or not name.strip(". "):
            section.fault("name", f"{shown(name)} cannot be a part of a file name")
        return name

    def _dataset(self, section: Section, training: bool, train: Tree) -> Tree:
        kinds = (_PAIRED, *_TRAIN_CLIPS) if training else (_PAIRED, *_TEST_CLIPS)
        advice = f"only {', '.join(kinds)} can be translated; see `srtoolbox list datasets`"
        kind = section.take_type("dataset", kinds, advice)
        images, out = kind == _PAIRED, Tree(section.tree.where)
        out.put("type", "PairedImages" if images else "Clips", section.place("type"))
        if images:
            self._image_files(section, out)
        else:
            self._clip_files(section, out, kind)
        self._backend(section, out)
        reasons: dict[str, str] = {}
        if training:
            section.move("gt_size", out, integer=True)
            self._augmentation(section, out)
            if not images:
                if "Vimeo90K" in kind:
                    reasons["interval_list"] = "BasicSR does not read it for this dataset"
                else:
                    section.move("interval_list", out)
                section.move("random_reverse", out)
            self._loader(section, train)
            reasons["name"] = "the training set has no name here"
        else:
            if self.clips is None:
                self.clips = not images
            elif self.clips == images:
                section.note(
                    "differs", "type", "val.protocol is chosen for the first set, of another kind"
                )
            unused = ("gt_size", "use_hflip", "use_flip", "use_rot", "num_worker_per_gpu")
            reasons |= dict.fromkeys((*unused, "batch_size_per_gpu"), OTHER_PHASE)
        section.finish(reasons)
        return out

    def _image_files(self, section: Section, out: Tree) -> None:
        for key in ("dataroot_gt", "dataroot_lq"):
            section.move(key, out)
        if section.tree.get("filename_tmpl") == "{}":
            section.take("filename_tmpl")
            section.note("unneeded", "filename_tmpl", "'{}' is the default")
        else:
            section.move("filename_tmpl", out)
        if not _is_lmdb(section):
            section.move("meta_info_file", out)
        elif section.take("meta_info_file") is not None:
            text = "meta_info.txt in the LMDB folder names the images, also in BasicSR"
            section.note("unneeded", "meta_info_file", text)
        if "color" in section and str(section.tree["color"]) in ("n", "rgb"):
            section.take("color")
            section.note("unneeded", "color", "images are RGB here")

    def _clip_files(self, section: Section, out: Tree, kind: str) -> None:
        """Chooses layout, split and folders of a dataset of clips."""
        gt, lq = section.take("dataroot_gt"), section.take("dataroot_lq")
        for key, value in (("dataroot_gt", gt), ("dataroot_lq", lq)):
            if not isinstance(value, str) or not value:
                section.fault(key, f"expected a folder, got {shown(value)}")
        root = PurePosixPath(gt)
        partition = section.take("val_partition")
        listing = section.take("meta_info_file")
        listed = PurePosixPath(listing).name if isinstance(listing, str) else ""
        test, name = kind in _TEST_CLIPS, str(section.tree.get("name", "")).lower()
        layout, split, parent, lmdb = "clips", None, False, root.suffix == ".lmdb"
        if "Vimeo90K" in kind and lmdb:
            out.put("recursive", True, section.place("type"))  # clips have names of two parts
        elif "Vimeo90K" in kind:
            layout, split, parent = "vimeo90k", "test" if test else "train", True
            if root.name != "sequences":
                parent = False
                text = f"let datasets.….dataroot be the folder that contains sequences, not {gt}"
                section.note("lost", "dataroot_gt", text)
        elif (root.name == "train_sharp" or (lmdb and "train_sharp" in root.name)) and (
            self.scale == 4 and (not test or "REDS4" in listed)
        ):
            layout, split, parent = "reds", "test" if test else "train", not lmdb
        elif test and name == "vid4" and root.name == "GT":
            layout, split, parent = "vid4", "test", True
        mark = section.place("dataroot_gt")
        if layout != "clips":
            out.put("layout", layout, section.place("type"))
        out.put("dataroot", str(root.parent if parent else root), mark)
        if split is not None and layout != "vid4":
            out.put("split", split, section.place("type"))
        out.put("dataroot_lq", lq, section.place("dataroot_lq"))
        self._clip_frames(section, out, kind)
        self._clip_selection(section, out, layout, partition, listing, listed)
        if test:
            self._clip_windows(section, layout, kind)
        elif kind == "Vimeo90KDataset" and out.get("num_frame", 7) < 7:
            text = "BasicSR's windows have im4 in the centre; here any frame that has neighbours"
            section.note("differs", "num_frame", text)

    def _clip_frames(self, section: Section, out: Tree, kind: str) -> None:
        """Chooses the frames of a sample, and those that have a ground truth."""
        place = section.place("num_frame")
        if "Recurrent" not in kind:
            section.move("num_frame", out, integer=True)
            if kind == "VideoTestVimeo90KDataset":  # BasicSR scores im4 alone
                out.put("skip_frames", _VIMEO_LENGTH // 2, section.place("type"))
            return
        if kind == "REDSRecurrentDataset":
            section.move("num_frame", out, integer=True)
            if section.tree.get("interval_list", [1]) != [1]:
                text = "BasicSR's clips are shorter at larger intervals; here all have num_frame"
                section.note("differs", "interval_list", text)
        else:
            given = section.take_integer("num_frame")
            whole = kind == "VideoRecurrentTestDataset"
            out.put("num_frame", None if whole else _VIMEO_LENGTH, place)
            if given is not None:
                text = "whole clips are tested" if whole else "BasicSR reads all seven frames"
                section.note("unneeded", "num_frame", text)
        out.put("target", "all", section.place("type"))
        if kind == "Vimeo90KRecurrentDataset":
            section.move("flip_sequence", out, "mirror_sequence")

    def _clip_selection(
        self,
        section: Section,
        out: Tree,
        layout: str,
        partition: Any,
        listing: Any,
        listed: str,
    ) -> None:
        """Compares the clips that BasicSR and the layout use."""
        if partition is not None:
            leaves_out = {
                "REDS4": "REDS4 (266 of 270 clips)",
                "official": "clips 240 to 269 (240 of 270 clips, with REDS4)",
            }.get(str(partition), shown(partition))
            here = {
                "reds": "here layout reds leaves out REDS4 and 240 to 269 (236 clips)",
                "clips": "here all clips of dataroot are used; give a folder without those",
            }.get(layout)
            if here:
                text = f"BasicSR leaves out {leaves_out}; {here}"
                section.note("differs" if layout == "reds" else "lost", "val_partition", text)
            else:
                section.note("unneeded", "val_partition", "REDS alone has partitions")
        if listing is None:
            return
        same = {
            "reds": ("meta_info_REDS_GT.txt", "meta_info_REDS4_test_GT.txt"),
            "vimeo90k": ("meta_info_Vimeo90K_train_GT.txt", "meta_info_Vimeo90K_test_GT.txt"),
        }.get(layout, ())
        if listed in same:
            text = f"layout {layout} knows the clips of each split"
            section.note("unneeded", "meta_info_file", text)
        elif listed == "meta_info_REDS_GT.txt":
            section.note("unneeded", "meta_info_file", "it lists all clips of REDS")
        else:
            out.put("meta_info_file", listing, section.place("meta_info_file"))

    def _clip_windows(self, section: Section, layout: str, kind: str) -> None:
        padding = section.take("padding")
        if padding is not None and kind != "VideoTestDataset":
            section.note("unneeded", "padding", "BasicSR does not read it for this dataset")
        elif padding is not None and self.padding is None:
            self.padding = section, str(padding)
        elif padding is not None and self.padding is not None and padding != self.padding[1]:
            section.note("lost", "padding", "val.protocol has one rule for all test sets")
        reds = str(section.tree.get("name")).lower() in ("reds4", "redsofficial")
        self.unequal |= not reds and layout not in ("reds", "vimeo90k")

    def _backend(self, section: Section, out: Tree) -> None:
        """Translates ``io_backend``: a path says whether it is a folder or an LMDB folder here."""
        backend = section.take_section("io_backend")
        if backend is None:
            return
        kind = backend.take("type")
        if kind == "disk":
            backend.note("unneeded", "type", "files are read from folders")
        elif kind == "lmdb":
            roots = {key: str(out[key]) for key in out if key.startswith("dataroot")}
            others = [key for key, root in roots.items() if not root.rstrip("/").endswith(".lmdb")]
            if others:
                text = f"let {' and '.join(others)} name a folder that ends in .lmdb"
                backend.note("lost", "type", text)
            else:
                text = (
                    'folders that end in .lmdb are read as such (pip install "srtoolbox[lmdb]"); '
                    "cache: FOLDER decodes them once"
                )
                backend.note("unneeded", "type", text)
        else:
            text = f"{shown(kind)} is not read; files are read from folders and LMDB folders"
            backend.note("lost", "type", text)
        backend.finish(dict.fromkeys(backend.left, "it belongs to the backend"))

    def _augmentation(self, section: Section, out: Tree) -> None:
        section.move("use_hflip", out)
        section.move("use_rot", out)
        if out.get("use_rot") is True and out.get("use_hflip") is False:
            text = (
                "without use_hflip, BasicSR draws vertical flips and transpositions, here "
                "rotations by multiples of 90° are drawn"
            )
            section.note("differs", "use_rot", text)

    def _loader(self, section: Section, train: Tree) -> None:
        """Translates batch size and workers, which belong to ``train`` here."""
        if "batch_size_per_gpu" in section:
            place = section.place("batch_size_per_gpu")
            size = section.take_integer("batch_size_per_gpu")
            if size is None or size < 1:
                section.fault("batch_size_per_gpu", f"expected at least 1, got {shown(size)}")
            train.put("batch_size", size * (self.num_gpu or 1), place)
            if self.num_gpu is None:
                text = "num_gpu is auto: train.batch_size is that of one GPU; multiply it by the "
                section.note("differs", "batch_size_per_gpu", text + "number of GPUs")
        else:  # files of 2020 have the size of the whole batch
            section.move("batch_size", train, integer=True)
        key = "num_worker_per_gpu" if "num_worker_per_gpu" in section else "num_worker"
        section.move(key, train, "num_worker", integer=True)
