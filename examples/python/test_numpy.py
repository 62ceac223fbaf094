"""NumPy arrays through the module: the golden cases, in every form that DLPack gives, and what is refused."""
import ctypes
import json
import pathlib
import re
import unittest
from ctypes import c_int64

import numpy as np

import golden
import yololoss

PARTS = ("xy", "wh", "confidence", "class_")
CUDA = yololoss.DEVICES["cuda"]


def check_gradient(got, case):
    for mine, want in zip(got, case.grads):
        np.testing.assert_allclose(mine.reshape(want.shape), want, rtol=0, atol=1e-6 + 1e-5 * np.abs(want).max())


class OnDevice:
    """A copy of an array in device memory of the library's own allocation, since NumPy has none."""

    def __init__(self, array):
        self.memory = ctypes.c_void_p()
        yololoss.check(yololoss.lib.yl_device_malloc(CUDA, 0, c_int64(array.nbytes), ctypes.byref(self.memory)))
        self.host = np.array(array, order="C")
        self.copy(self.memory, self.host.ctypes.data_as(ctypes.c_void_p))

    def copy(self, to, start):
        yololoss.check(yololoss.lib.yl_device_copy(CUDA, 0, to, start, c_int64(self.host.nbytes)))

    def fetch(self):
        self.copy(self.host.ctypes.data_as(ctypes.c_void_p), self.memory)
        return self.host

    def __dlpack__(self, **_):
        capsule = self.host.__dlpack__()
        tensor = yololoss.dltensor_of(capsule)[0]
        tensor.contents.data, tensor.contents.device_type = self.memory.value, 2
        return capsule

    def __del__(self):
        yololoss.lib.yl_device_free(CUDA, self.memory)


class DocumentTest(unittest.TestCase):
    def test_blocks_of_python_compile(self):
        """Those of the pages; test_torch runs the ones for PyTorch. TensorFlow is not here, so Keras's are only compiled."""
        pages = sorted((pathlib.Path(__file__).resolve().parents[2] / "docs").glob("*.md"))
        blocks = [(page.name, block) for page in pages for block in re.findall("```python\n(.*?)```", page.read_text(), re.DOTALL)]
        self.assertGreaterEqual(len(blocks), 3)
        for name, block in blocks:
            compile(block, name, "exec")


class NumpyTest(unittest.TestCase):
    def test_golden_cases(self):
        self.assertGreaterEqual(len(golden.CASES), 8)
        for name in golden.CASES:
            case = golden.Case(name)
            for device in ("cpu", "reference"):
                with self.subTest(name=name, device=device), yololoss.Loss(**case.spec, device=device) as loss:
                    grads = [np.full_like(f, np.nan) for f in case.feats]
                    result = loss(case.feats, y_true=case.y_true, grads=grads)
                    self.assertAlmostEqual(result.total, case.expected["total"], delta=1e-5 * abs(case.expected["total"]) + 1e-6)
                    for mine, want in zip(result.layers, case.expected["layers"]):
                        for part in PARTS:
                            value = want[part.rstrip("_")]
                            self.assertAlmostEqual(getattr(mine, part), value, delta=1e-5 * abs(value) + 1e-6)
                        self.assertEqual((mine.objects, mine.ignored), (want["object_count"], want["ignore_count"]))
                    check_gradient(grads, case)
                    if case.boxes is not None:
                        again = [np.empty_like(f) for f in case.feats]
                        self.assertEqual(loss(case.feats, boxes=case.boxes, grads=again).total, result.total)
                        for a, b in zip(again, grads):
                            np.testing.assert_array_equal(a, b)

    def test_views_are_not_copied(self):
        case = golden.Case("a_small_3scale")
        loss = yololoss.Loss(**case.spec, layout="nchw")
        planes = [np.ascontiguousarray(f.transpose(0, 3, 1, 2)) for f in case.feats]
        grads = [np.zeros_like(p) for p in planes]
        loss(planes, boxes=case.boxes, grads=[g.transpose(0, 2, 3, 1) for g in grads])  # views of the same memory
        check_gradient([g.transpose(0, 2, 3, 1) for g in grads], case)
        self.assertTrue(all(g.any() for g in grads))

    def test_types(self):
        case = golden.Case("c_tiny_2scale")
        for dtype, tolerance in (("float16", 2e-3), ("float64", 1e-9)):
            loss = yololoss.Loss(**case.spec, dtype=dtype)
            feats = [f.astype(dtype) for f in case.feats]
            grads = [np.empty_like(f) for f in feats]
            result = loss(feats, y_true=case.y_true, grads=grads)
            self.assertAlmostEqual(result.total / case.expected["total"], 1, delta=tolerance)
            self.assertEqual(grads[0].dtype, np.dtype(dtype))

    def test_options(self):
        case = golden.Case("a_small_3scale")
        loss = yololoss.Loss(**case.spec)
        total = loss(case.feats, boxes=case.boxes).total
        self.assertAlmostEqual(loss(case.feats, boxes=case.boxes, normaliser="none").total, 2 * total)
        self.assertAlmostEqual(loss(case.feats, boxes=case.boxes, normaliser=8).total, total / 4)
        doubled = [np.empty_like(f) for f in case.feats]
        loss(case.feats, boxes=case.boxes, grads=doubled, grad_scale=2)
        check_gradient([g / 2 for g in doubled], case)
        loss(case.feats, boxes=case.boxes, grads=doubled, grad_mode="accumulate")
        check_gradient([g / 3 for g in doubled], case)
        lighter = yololoss.Loss(**case.spec, weights={"class_": 0}, class_weights=[1, 1, 1])
        self.assertEqual(sum(part.class_ for part in lighter(case.feats, boxes=case.boxes).layers), 0)
        bad = case.boxes.copy()
        bad[0, 0, 4] = 99
        self.assertEqual(loss(case.feats, boxes=bad, bad_boxes="skip").boxes.skipped, 1)

    def test_log_line(self):
        case = golden.Case("a_small_3scale")
        loss = yololoss.Loss(**case.spec)
        result = loss(case.feats, boxes=case.boxes)
        line = json.loads(result.log_line(7, learning_rate=0.1))
        self.assertEqual((line["step"], line["total"], line["learning_rate"]), (7, result.total, 0.1))
        self.assertEqual(line["layers"][2]["class"], result.layers[2].class_)
        case.feats[0][0, 0, 0, 4] = np.nan  # objectness
        line = loss(case.feats, boxes=case.boxes).log_line(8)
        self.assertEqual(json.loads(line, parse_constant=self.fail)["total"], "NaN")
        self.assertTrue(line.endswith("}\n"))

    def test_refusals(self):
        case = golden.Case("a_small_3scale")
        loss = yololoss.Loss(**case.spec)
        feats, boxes = case.feats, case.boxes
        read_only = [np.empty_like(f) for f in feats]
        read_only[1].flags.writeable = False
        bad = boxes.copy()
        bad[0, 0, 4] = 99
        for words, status, call in (
                ("feats has 2 arrays, 3 layers", "YL_INVALID_ARGUMENT", lambda: loss(feats[:2], boxes=boxes)),
                ("feats[1] is float64, float32 is expected", "YL_INVALID_ARGUMENT",
                 lambda: loss([feats[0], feats[1].astype("f8"), feats[2]], boxes=boxes)),
                ("which leaves gaps", "YL_INVALID_ARGUMENT",
                 lambda: loss([np.repeat(f, 2, 3)[..., ::2] for f in feats], boxes=boxes)),
                ("is YL_NCHW; this plan has YL_NHWC", "YL_INVALID_ARGUMENT",
                 lambda: loss([np.ascontiguousarray(f.transpose(0, 3, 1, 2)) for f in feats], boxes=boxes)),
                ("neither y_true nor boxes", "YL_INVALID_ARGUMENT", lambda: loss(feats)),
                ("an array of grads is read-only", "YL_INVALID_ARGUMENT", lambda: loss(feats, boxes=boxes, grads=read_only)),
                ("row 0", "YL_INVALID_BOXES", lambda: loss(feats, boxes=bad)),
                ("num_classes is 0", "YL_INVALID_ARGUMENT", lambda: yololoss.Loss(**{**case.spec, "num_classes": 0}))):
            with self.subTest(words), self.assertRaises(yololoss.YoloLossError) as caught:
                call()
            self.assertIn(words, str(caught.exception))
            self.assertEqual(status, caught.exception.status)
        loss.close()
        loss.close()
        with self.assertRaisesRegex(yololoss.YoloLossError, "closed"):
            loss(feats, boxes=boxes)

    def test_structs_are_those_of_the_library(self):
        for struct in yololoss.abi.STRUCTS:
            name = struct.__name__.encode()
            self.assertEqual(yololoss.lib.yl_offset_of(name, None), ctypes.sizeof(struct), name)
            for field, _ in struct._fields_:
                self.assertEqual(yololoss.lib.yl_offset_of(name, field.encode()), getattr(struct, field).offset, field)


@unittest.skipIf(yololoss.lib.yl_device_check(CUDA, 0), "no CUDA device")
class DeviceTest(unittest.TestCase):
    """Arrays in device memory, as PyTorch's CUDA tensors come: by DLPack, on a stream."""

    def setUp(self):
        self.case = golden.Case("a_small_3scale")
        self.loss = yololoss.Loss(**self.case.spec, device="cuda:0", memory="device")
        self.feats, self.boxes = [OnDevice(f) for f in self.case.feats], OnDevice(self.case.boxes)
        self.grads = [OnDevice(np.zeros_like(f)) for f in self.case.feats]
        self.summary = OnDevice(np.full(ctypes.sizeof(yololoss.abi.yl_summary) // 8, np.nan))

    def enqueue(self, stream, **more):
        """Returns the total, NaN if no kernel wrote it."""
        self.loss.enqueue(self.feats, stream, self.summary.memory.value, boxes=self.boxes, grads=self.grads, **more)
        yololoss.check(yololoss.lib.yl_stream_synchronize(CUDA, 0, ctypes.c_void_p(stream)))
        return self.summary.fetch()[0]

    def fetch(self):
        return [g.fetch() for g in self.grads]

    def test_a_stream(self):
        stream = ctypes.c_void_p()
        yololoss.check(yololoss.lib.yl_stream_create(CUDA, 0, ctypes.byref(stream)))
        self.assertAlmostEqual(self.enqueue(stream.value), self.case.expected["total"], delta=1e-3)
        yololoss.check(yololoss.lib.yl_stream_destroy(CUDA, 0, stream))
        check_gradient(self.fetch(), self.case)

    def test_the_default_stream(self):
        """torch.cuda.current_stream().cuda_stream is 0 unless a program chooses another stream."""
        self.assertAlmostEqual(self.enqueue(0), self.case.expected["total"], delta=1e-3)
        check_gradient(self.fetch(), self.case)
        self.enqueue(0, grad_mode="accumulate", grad_scale=2)
        check_gradient([g / 3 for g in self.fetch()], self.case)

    def test_a_call_that_waits(self):
        result = self.loss(self.feats, boxes=self.boxes, grads=self.grads)
        self.assertAlmostEqual(result.total, self.case.expected["total"], delta=1e-3)
        check_gradient(self.fetch(), self.case)
        y_true = [OnDevice(y) for y in self.case.y_true]
        self.assertEqual(self.loss(self.feats, y_true=y_true).total, result.total)

    def test_refused_boxes_leave_the_total(self):
        """loss.torch makes total and gradient NaN by this: it fills the summary with NaN before the call."""
        bad = self.case.boxes.copy()
        bad[0, 0, 4] = 99
        self.boxes = OnDevice(bad)
        self.assertTrue(np.isnan(self.enqueue(0)))
        self.assertFalse(any(g.any() for g in self.fetch()))
        self.assertTrue(np.isfinite(self.enqueue(0, bad_boxes="skip")))

    def test_refusals(self):
        with self.assertRaisesRegex(yololoss.YoloLossError, "feats\\[0\\] is on the CPU, this plan takes memory of cuda:0"):
            self.loss(self.case.feats, boxes=self.boxes)
        on_host = yololoss.Loss(**self.case.spec)
        with self.assertRaisesRegex(yololoss.YoloLossError, "feats\\[0\\] is"):
            on_host(self.feats, boxes=self.case.boxes)


if __name__ == "__main__":
    unittest.main()
