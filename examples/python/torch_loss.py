"""keras-yolo3's loss in PyTorch operations, as somebody might have it already: what the library is compared with.

    python3 torch_loss.py OUT [--layout nchw|nhwc] [--reduction mean|sum|objects] [--ignore-scope layer|image]

writes a small problem, and what this loss makes of it, for `yololoss verify OUT --spec OUT/spec.json --against OUT/theirs`:
feats_<l>.npy, boxes.npy, spec.json; theirs/expected.json with the total, theirs/grad_<l>.npy.
"""
import argparse
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F


def ignored(xy, wh, truths, thresh):
    """Which predictions (.., 2) have an IoU of at least thresh with one of truths (T, 4)."""
    if not len(truths):
        return torch.zeros(xy.shape[:-1], dtype=torch.bool)
    xy, wh = xy.unsqueeze(-2), wh.unsqueeze(-2)
    low = torch.maximum(xy - wh / 2, truths[:, :2] - truths[:, 2:] / 2)
    high = torch.minimum(xy + wh / 2, truths[:, :2] + truths[:, 2:] / 2)
    both = (high - low).clamp(min=0).prod(-1)
    return (both / (wh.prod(-1) + truths[:, 2:].prod(-1) - both)).amax(-1) >= thresh


def yolo_loss(feats, y_true, anchors, anchor_mask, input_shape, ignore_thresh=0.5, reduction="mean", ignore_scope="layer"):
    """feats[l] (B, H, W, A*(5+C)) with autograd, y_true[l] (B, H, W, A, 5+C); reduction mean: over the batch."""
    size = torch.tensor(input_shape[::-1], dtype=feats[0].dtype)
    batch = feats[0].shape[0]
    objects = [[y[b][..., :4][y[b][..., 4] != 0] for y in y_true] for b in range(batch)]
    total = 0
    for l, (f, y) in enumerate(zip(feats, y_true)):
        h, w = y.shape[1:3]
        f, y = f.reshape(y.shape), y.to(f.dtype)
        prior = torch.tensor([anchors[n] for n in anchor_mask[l]], dtype=f.dtype)
        row, column = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        grid = torch.stack([column, row], -1).to(f.dtype)[:, :, None]
        cells = torch.tensor([w, h], dtype=f.dtype)
        mask = y[..., 4:5]
        raw_xy = y[..., :2] * cells - grid
        raw_wh = torch.where(mask != 0, y[..., 2:4] * size / prior, 1).log()
        scale = 2 - y[..., 2:3] * y[..., 3:4]
        with torch.no_grad():
            xy, wh = (f[..., :2].sigmoid() + grid) / cells, f[..., 2:4].exp() * prior / size
            keep = torch.stack([~ignored(xy[b], wh[b], torch.cat(objects[b]).to(f.dtype) if ignore_scope == "image"
                                         else objects[b][l].to(f.dtype), ignore_thresh) for b in range(batch)])
        entropy = F.binary_cross_entropy_with_logits
        total = total + (mask * scale * entropy(f[..., :2], raw_xy, reduction="none")).sum() \
            + (mask * scale * (raw_wh - f[..., 2:4]).square() / 2).sum() \
            + ((mask + (1 - mask) * keep[..., None]) * entropy(f[..., 4:5], mask, reduction="none")).sum() \
            + (mask * entropy(f[..., 5:], y[..., 5:], reduction="none")).sum()
    return total / {"mean": batch, "sum": 1, "objects": max(1, sum(int((y[..., 4] != 0).sum()) for y in y_true))}[reduction]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--layout", choices=["nhwc", "nchw"], default="nhwc")
    parser.add_argument("--reduction", choices=["mean", "sum", "objects"], default="mean")
    parser.add_argument("--ignore-scope", choices=["layer", "image"], default="layer")
    options = parser.parse_args()
    import golden
    case = golden.Case("e_empty_and_crowded")
    spec = {key: case.expected[key] for key in ("anchors", "anchor_mask", "num_classes", "ignore_thresh", "input_shape")}
    feats = [torch.tensor(f, dtype=torch.float64, requires_grad=True) for f in case.feats]
    total = yolo_loss(feats, [torch.from_numpy(y) for y in case.y_true], spec["anchors"], spec["anchor_mask"],
                      spec["input_shape"], spec["ignore_thresh"], options.reduction, options.ignore_scope)
    total.backward()

    def save(path, tensor):
        array = tensor.detach().numpy().astype(np.float32)
        np.save(path, np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if options.layout == "nchw" else array)

    theirs = options.out / "theirs"
    theirs.mkdir(parents=True, exist_ok=True)
    (options.out / "spec.json").write_text(json.dumps(spec))
    (theirs / "expected.json").write_text(json.dumps({"total": total.item()}))
    np.save(options.out / "boxes.npy", case.boxes)
    for l, f in enumerate(feats):
        save(options.out / f"feats_{l}.npy", f)
        save(theirs / f"grad_{l}.npy", f.grad)


if __name__ == "__main__":
    main()
