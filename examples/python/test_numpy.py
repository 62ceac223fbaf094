"""NumPy arrays through the module: the golden cases, in every form that DLPack gives, and what is refused."""
import ctypes
import json
import unittest
from ctypes import c_int64

import numpy as np

import golden
import yololoss

PARTS = ("xy", "wh", "confidence", "class_")


class NumpyTest(unittest.TestCase):
    def check_gradient(self, got, case):
        for mine, want in zip(got, case.grads):
            np.testing.assert_allclose(mine.reshape(want.shape), want, rtol=0, atol=1e-6 + 1e-5 * np.abs(want).max())

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
                    self.check_gradient(grads, case)
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
        self.check_gradient([g.transpose(0, 2, 3, 1) for g in grads], case)
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
        self.check_gradient([g / 2 for g in doubled], case)
        loss(case.feats, boxes=case.boxes, grads=doubled, grad_mode="accumulate")
        self.check_gradient([g / 3 for g in doubled], case)
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

    @unittest.skipIf(yololoss.lib.yl_device_check(yololoss.DEVICES["cuda"], 0), "no CUDA device")
    def test_device_memory(self):
        """Memory of the library's own allocation, since NumPy has none on a device: enqueued on a stream."""
        class OnDevice:
            def __init__(self, array):
                self.memory = ctypes.c_void_p()
                yololoss.check(yololoss.lib.yl_device_malloc(yololoss.DEVICES["cuda"], 0, c_int64(array.nbytes), ctypes.byref(self.memory)))
                self.shape, self.host = array.shape, np.ascontiguousarray(array)
                self.copy(self.memory, self.host.ctypes.data_as(ctypes.c_void_p))

            def copy(self, to, start):
                yololoss.check(yololoss.lib.yl_device_copy(yololoss.DEVICES["cuda"], 0, to, start, c_int64(self.host.nbytes)))

            def fetch(self):
                self.copy(self.host.ctypes.data_as(ctypes.c_void_p), self.memory)
                return self.host

            def __dlpack__(self, **_):
                capsule = self.host.__dlpack__()
                tensor = yololoss.dltensor_of(capsule)[0]
                tensor.contents.data, tensor.contents.device_type = self.memory.value, 2
                return capsule

            def __del__(self):
                yololoss.lib.yl_device_free(yololoss.DEVICES["cuda"], self.memory)

        case = golden.Case("a_small_3scale")
        loss = yololoss.Loss(**case.spec, device="cuda:0", memory="device")
        feats, boxes = [OnDevice(f) for f in case.feats], OnDevice(case.boxes)
        grads = [OnDevice(np.zeros_like(f)) for f in case.feats]
        summary = OnDevice(np.zeros(ctypes.sizeof(yololoss.abi.yl_summary) // 8))
        stream = ctypes.c_void_p()
        yololoss.check(yololoss.lib.yl_stream_create(yololoss.DEVICES["cuda"], 0, ctypes.byref(stream)))
        loss.enqueue(feats, stream.value, summary.memory.value, boxes=boxes, grads=grads)
        yololoss.check(yololoss.lib.yl_stream_synchronize(yololoss.DEVICES["cuda"], 0, stream))
        yololoss.check(yololoss.lib.yl_stream_destroy(yololoss.DEVICES["cuda"], 0, stream))
        self.assertAlmostEqual(summary.fetch()[0], case.expected["total"], delta=1e-3)
        self.check_gradient([g.fetch() for g in grads], case)
        with self.assertRaisesRegex(yololoss.YoloLossError, "feats\\[0\\] is on the CPU, this plan takes memory of cuda:0"):
            loss(case.feats, boxes=boxes)

    def test_structs_are_those_of_the_library(self):
        for struct in yololoss.abi.STRUCTS:
            name = struct.__name__.encode()
            self.assertEqual(yololoss.lib.yl_offset_of(name, None), ctypes.sizeof(struct), name)
            for field, _ in struct._fields_:
                self.assertEqual(yololoss.lib.yl_offset_of(name, field.encode()), getattr(struct, field).offset, field)


if __name__ == "__main__":
    unittest.main()
