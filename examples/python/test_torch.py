"""PyTorch tensors through the module, against autograd of the same loss in PyTorch's own operations."""
import contextlib
import ctypes
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import numpy as np
import torch

import golden
import test_numpy
import torch_loss
import yololoss

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tensors(arrays, dtype=torch.float32, grad=True, device="cpu"):
    return [torch.tensor(a, dtype=dtype, device=device, requires_grad=grad) for a in arrays]


class TorchTest(unittest.TestCase):
    def test_against_autograd(self):
        for name in golden.CASES:
            case = golden.Case(name)
            for dtype, tolerance in ((torch.float32, 2e-5), (torch.float64, 1e-10)):
                with self.subTest(name=name, dtype=dtype):
                    loss = yololoss.Loss(**case.spec, dtype=str(dtype).split(".")[1])
                    mine, theirs = tensors(case.feats, dtype), tensors(case.feats, torch.float64)
                    y_true = tensors(case.y_true, grad=False)
                    total = loss.torch(mine, y_true=y_true)
                    (3 * total).backward()
                    want = torch_loss.yolo_loss(theirs, y_true, **{k: case.spec[k] for k in (
                        "anchors", "anchor_mask", "input_shape", "ignore_thresh")})
                    (3 * want).backward()
                    self.assertEqual(total.dtype, dtype)
                    self.assertAlmostEqual(total.item() / want.item(), 1, delta=tolerance)
                    for a, b in zip(mine, theirs):
                        largest = b.grad.abs().max().item()
                        self.assertLessEqual((a.grad.double() - b.grad).abs().max().item(), tolerance * largest)

    def test_gradcheck(self):
        """Finite differences in double; no prediction of the case is near the ignore threshold."""
        case = golden.Case("a_small_3scale")
        for layout in ("nhwc", "nchw"):
            loss = yololoss.Loss(**case.spec, dtype="float64", layout=layout)
            feats = tensors(case.feats, torch.float64)
            if layout == "nchw":
                feats = [f.detach().permute(0, 3, 1, 2).contiguous().requires_grad_() for f in feats]
            boxes = torch.from_numpy(case.boxes)
            self.assertTrue(torch.autograd.gradcheck(lambda *f: loss.torch(f, boxes=boxes), feats, atol=1e-6, rtol=1e-5))

    def test_memory_formats_and_types(self):
        case = golden.Case("c_tiny_2scale")
        boxes = torch.from_numpy(case.boxes)
        want = case.expected["total"]
        planes = [torch.from_numpy(f).permute(0, 3, 1, 2).contiguous() for f in case.feats]
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2), (torch.float16, 2e-3)):
            for layout, memory_format in (("nchw", torch.contiguous_format), ("nhwc", torch.channels_last)):
                with self.subTest(dtype=dtype, layout=layout):
                    loss = yololoss.Loss(**case.spec, dtype=str(dtype).split(".")[1], layout=layout)
                    feats = [p.clone().to(dtype).contiguous(memory_format=memory_format).requires_grad_() for p in planes]
                    total = loss.torch(feats, boxes=boxes)
                    total.backward()
                    self.assertEqual(total.dtype, torch.float32)
                    self.assertAlmostEqual(total.item() / want, 1, delta=tolerance)
                    for f, grad in zip(feats, case.grads):
                        mine = f.grad.float().permute(0, 2, 3, 1).numpy()
                        np.testing.assert_allclose(mine, grad, rtol=0, atol=10 * tolerance * np.abs(grad).max())

    def test_a_network_learns(self):
        torch.manual_seed(1)
        case = golden.Case("a_small_3scale")
        loss = yololoss.Loss(**case.spec, layout="nchw")
        network = torch.nn.ModuleList([torch.nn.Conv2d(3, f.shape[3], s, s) for f, s in zip(case.feats, (32, 16, 8))])
        images = torch.rand(2, 3, 64, 64)
        optimizer = torch.optim.Adam(network.parameters(), 0.01)
        totals = []
        for _ in range(60):
            total = loss.torch([scale(images) for scale in network], boxes=torch.from_numpy(case.boxes))
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            totals.append(total.item())
        self.assertLess(totals[-1], 0.5 * totals[0])

    @unittest.skipUnless(torch.cuda.is_available(), "no CUDA device")
    def test_cuda(self):
        case = golden.Case("c_tiny_2scale")
        loss = yololoss.Loss(**case.spec, device="cuda:0", memory="device")
        feats = tensors(case.feats, device="cuda")
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            total = loss.torch(feats, boxes=torch.from_numpy(case.boxes).cuda())
            total.backward()
        stream.synchronize()
        self.assertAlmostEqual(total.item() / case.expected["total"], 1, delta=1e-5)
        for f, grad in zip(feats, case.grads):
            np.testing.assert_allclose(f.grad.cpu().numpy(), grad, rtol=0, atol=1e-6 + 1e-5 * np.abs(grad).max())

    def test_verify_names_the_convention(self):
        """Dumps of torch_loss.py in other conventions: yololoss verify says which switches would agree."""
        for arguments, code, words in (
                ([], 0, ["all 4 agree"]),
                (["--reduction", "sum"], 1, ["--normaliser none"]),
                (["--reduction", "objects"], 1, ["--normaliser objects"]),
                (["--ignore-scope", "image"], 1, ["\"ignore_scope\": \"image\""]),
                (["--layout", "nchw"], 1, ["--layout nchw"]),
                (["--layout", "nchw", "--reduction", "sum", "--ignore-scope", "image"], 1,
                 ["--layout nchw", "--normaliser none", "\"ignore_scope\": \"image\""])):
            with self.subTest(arguments), tempfile.TemporaryDirectory() as folder:
                subprocess.run([sys.executable, str(pathlib.Path(__file__).with_name("torch_loss.py")), folder, *arguments], check=True)
                done = subprocess.run([str(ROOT / "bin/yololoss"), "verify", folder, "--spec", f"{folder}/spec.json",
                                       "--against", f"{folder}/theirs"], capture_output=True, text=True)
                self.assertEqual(done.returncode, code, done.stdout + done.stderr)
                for word in words:
                    self.assertIn(word, done.stdout)


class DocumentTest(unittest.TestCase):
    """The blocks "From PyTorch" of docs/coming-from.md run as they are printed."""

    def test_dump_and_replace(self):
        page = (ROOT / "docs/coming-from.md").read_text()
        section = page[page.index("### From PyTorch"):page.index("### From keras-yolo3")]
        dump, replace = re.findall("```python\n(.*?)```", section, re.DOTALL)
        case = golden.Case("c_tiny_2scale")
        names = dict(
            np=np, torch=torch, json=json, yololoss=yololoss, boxes=case.boxes, targets=case.y_true,
            feats=[torch.tensor(f).permute(0, 3, 1, 2).contiguous().requires_grad_() for f in case.feats],
            my_loss=lambda feats, y_true: torch_loss.yolo_loss(
                [f.permute(0, 2, 3, 1) for f in feats], [torch.tensor(y) for y in y_true],
                *(case.spec[k] for k in ("anchors", "anchor_mask", "input_shape", "ignore_thresh"))),
            **{k: case.spec[k] for k in ("anchors", "anchor_mask", "num_classes")})
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            os.makedirs("dump/theirs")
            exec(dump, names)
            total = json.loads(pathlib.Path("dump/theirs/expected.json").read_text())["total"]
            self.assertAlmostEqual(total / case.expected["total"], 1, delta=1e-5)
            for l, grad in enumerate(case.grads):
                theirs = np.load(f"dump/theirs/grad_{l}.npy").transpose(0, 2, 3, 1)
                np.testing.assert_allclose(theirs, grad, rtol=0, atol=1e-6 + 1e-5 * np.abs(grad).max())
                self.assertEqual(np.load(f"dump/feats_{l}.npy").shape[1], grad.shape[3])
            np.testing.assert_array_equal(np.load("dump/boxes.npy"), case.boxes)
        names["boxes"] = torch.from_numpy(case.boxes)
        exec(replace, names)
        for f, grad in zip(names["feats"], case.grads):
            np.testing.assert_allclose(
                f.grad.permute(0, 2, 3, 1).numpy(), grad, rtol=0, atol=1e-6 + 1e-5 * np.abs(grad).max())


    def test_the_quoted_verification(self):
        page = (ROOT / "docs/coming-from.md").read_text()
        quoted = re.search("```text\n(.*?)```", page, re.DOTALL)[1].splitlines()
        arguments = re.search(r"`examples/python/torch_loss.py DIR ([^`]*)`", page)[1].split()
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, str(pathlib.Path(__file__).with_name("torch_loss.py")), folder, *arguments], check=True)
            done = subprocess.run([str(ROOT / "bin/yololoss"), "verify", folder, "--spec", f"{folder}/spec.json",
                                   "--against", f"{folder}/theirs"], capture_output=True, text=True)
        printed = [line.split()[:4] for line in done.stdout.splitlines()]  # without the last digits of differences
        for line in quoted:
            if line != "...":
                self.assertIn(line.split()[:4], printed, done.stdout)


class OnDevice(torch.Tensor):
    """A tensor in device memory of the library whose kernels run on the host: like a CUDA tensor, but readable here."""
    is_cuda = True

    @staticmethod
    def of(tensor):
        copy = test_numpy.OnDevice(tensor.numpy())
        elements = (ctypes.c_char * copy.host.nbytes).from_address(copy.memory.value)
        elements.owner = copy  # which frees the memory, and lives as long as the tensor's storage
        array = np.frombuffer(elements, copy.host.dtype).reshape(copy.host.shape)
        return torch.from_numpy(array).as_subclass(OnDevice)

    def __dlpack__(self, **_):
        capsule = super().__dlpack__()
        yololoss.dltensor_of(capsule)[0].contents.device_type = 2
        return capsule


@unittest.skipUnless("simt" in os.environ.get("YOLOLOSS_LIBRARY", ""), "not the library whose kernels run on the host")
class DeviceTest(unittest.TestCase):
    """loss.torch with memory="device": only PyTorch's allocations and its current stream are replaced."""

    def setUp(self):
        self.case = golden.Case("c_tiny_2scale")
        self.loss = yololoss.Loss(**self.case.spec, device="cuda:0", memory="device")
        empty_like, full = torch.empty_like, torch.full
        for name, replaced in (
                ("torch.empty_like", lambda f: OnDevice.of(empty_like(f.as_subclass(torch.Tensor)).detach().fill_(7))),
                ("torch.full", lambda *a, **options: OnDevice.of(full(*a, **options))),
                ("torch.cuda.current_stream", mock.Mock(return_value=mock.Mock(cuda_stream=0)))):
            patch = mock.patch(name, replaced)
            self.current_stream = patch.start()
            self.addCleanup(patch.stop)

    def backward(self, boxes):
        """Returns the total and the gradients of three times the total."""
        feats = [OnDevice.of(torch.from_numpy(f)).requires_grad_() for f in self.case.feats]
        total = self.loss.torch(feats, boxes=OnDevice.of(torch.from_numpy(boxes)))
        (3 * total).backward()
        return total.item(), [f.grad.as_subclass(torch.Tensor).numpy() for f in feats]

    def test_the_current_stream_and_backward(self):
        stream = ctypes.c_void_p()
        yololoss.check(yololoss.lib.yl_stream_create(test_numpy.CUDA, 0, ctypes.byref(stream)))
        for handle in (0, stream.value):  # 0 is PyTorch's default
            self.current_stream.return_value.cuda_stream = handle
            total, grads = self.backward(self.case.boxes)
            self.assertAlmostEqual(total / self.case.expected["total"], 1, delta=1e-5)
            test_numpy.check_gradient([g / 3 for g in grads], self.case)
        self.assertEqual(2, self.current_stream.call_count)
        yololoss.check(yololoss.lib.yl_stream_destroy(test_numpy.CUDA, 0, stream))

    def test_refused_boxes_make_total_and_gradient_nan(self):
        bad = self.case.boxes.copy()
        bad[0, 0, 4] = 99
        total, grads = self.backward(bad)
        self.assertTrue(np.isnan(total))
        self.assertTrue(all(np.isnan(g).all() for g in grads))


if __name__ == "__main__":
    unittest.main()
