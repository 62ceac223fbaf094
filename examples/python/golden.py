"""The golden cases of the repository, for the tests."""
import json
import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "src/test/resources/golden"
CASES = sorted(path.parent.name for path in FOLDER.glob("*/expected.json"))


class Case:
    def __init__(self, name):
        folder = FOLDER / name
        self.expected = e = json.loads((folder / "expected.json").read_text())
        layers = range(len(e["anchor_mask"]))
        self.feats = [np.load(folder / f"feats_{l}.npy") for l in layers]
        self.y_true = [np.load(folder / f"y_true_{l}.npy") for l in layers]
        self.grads = [np.load(folder / f"grad_{l}.npy") for l in layers]
        self.boxes = np.load(folder / "boxes.npy") if (folder / "boxes.npy").exists() else None
        self.spec = dict(anchors=e["anchors"], anchor_mask=e["anchor_mask"], num_classes=e["num_classes"],
                         input_shape=e["input_shape"], ignore_thresh=e["ignore_thresh"], max_batch=e["batch"])
