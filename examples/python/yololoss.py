"""The YOLOv3 loss and its gradient for NumPy and PyTorch: ctypes over libyololoss.so, arrays by DLPack, no copies.

    loss = yololoss.Loss(anchors, anchor_mask, num_classes=3, input_shape=(416, 416), max_batch=8)
    result = loss(feats, boxes=boxes, grads=grads)      # arrays of NumPy or tensors of PyTorch
    print(result.total, result.layers[0].xy)

    total = loss.torch(feats, boxes=boxes)              # a scalar with autograd; on CUDA without waiting
    total.backward()

feats and grads: a list with an array for each layer, (B, H, W, A*(5+C)), or (B, A*(5+C), H, W) with layout="nchw".
boxes: (B, T, 5) float32, x_min, y_min, x_max, y_max in input pixels, class; unused rows are zero. Instead of boxes:
y_true, a list of (B, H, W, A, 5+C) float32. Everything else is said in yololoss.h and yololoss_dlpack.h.
"""
import ctypes
import json
import os
import pathlib
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_uint8, c_uint16, c_uint32, \
    c_uint64, c_void_p

DTYPES = {"float32": 0, "float16": 1, "bfloat16": 2, "float64": 3}
LAYOUTS = {"nhwc": 0, "nchw": 1}
MEMORIES = {"host": 0, "device": 1}
SCOPES = {"layer": 0, "image": 1}
POLICIES = {"error": 0, "skip": 1, "clamp": 2}
DEVICES = {"auto": 0, "reference": 1, "cpu": 2, "cuda": 3}
GRAD_MODES = {"overwrite": 0, "refresh": 1, "accumulate": 2}


class YoloLossError(Exception):
    """What yl_last_error() says; status is the name of the yl_status."""

    def __init__(self, status, sentence):
        super().__init__(sentence)
        self.status = status


# ---- the structs of the headers; the tests compare every offset with the library's

class _Struct(ctypes.Structure):
    @classmethod
    def init(cls, **fields):
        struct = cls(**fields)
        struct.struct_size = ctypes.sizeof(cls)
        return struct


class yl_layer(_Struct):
    _fields_ = [("grid_height", c_int32), ("grid_width", c_int32), ("anchor_mask", POINTER(c_int32)),
                ("anchor_count", c_int32), ("reserved", c_int32)]


class yl_rules(_Struct):
    _fields_ = [("struct_size", c_size_t), ("class_weights", POINTER(c_float)), ("ignore_threshes", POINTER(c_float)),
                ("weight_xy", c_float), ("weight_wh", c_float), ("weight_object", c_float),
                ("weight_background", c_float), ("weight_class", c_float), ("label_smoothing", c_float),
                ("ignore_scope", c_int32), ("reserved", c_int32)]


class yl_config(_Struct):
    _fields_ = [("struct_size", c_size_t), ("layers", POINTER(yl_layer)), ("anchors", POINTER(c_float)),
                ("layer_count", c_int32), ("anchor_count", c_int32), ("input_height", c_int32), ("input_width", c_int32),
                ("num_classes", c_int32), ("ignore_thresh", c_float), ("max_batch", c_int32), ("device", c_int32),
                ("device_index", c_int32), ("memory", c_int32), ("dtype", c_int32), ("layout", c_int32),
                ("threads", c_int32), ("grad_dtype", c_int32), ("rules", POINTER(yl_rules))]


class DLTensor(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("device_type", c_int32), ("device_id", c_int32), ("ndim", c_int32),
                ("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16), ("shape", POINTER(c_int64)),
                ("strides", POINTER(c_int64)), ("byte_offset", c_uint64)]


class _Versioned(ctypes.Structure):  # DLManagedTensorVersioned
    _fields_ = [("major", c_uint32), ("minor", c_uint32), ("manager_ctx", c_void_p), ("deleter", c_void_p),
                ("flags", c_uint64), ("dl_tensor", DLTensor)]


class yl_tensors(_Struct):
    _fields_ = [("struct_size", c_size_t), ("feats", POINTER(POINTER(DLTensor))), ("grads", POINTER(POINTER(DLTensor))),
                ("y_true", POINTER(POINTER(DLTensor))), ("boxes", POINTER(DLTensor)), ("box_weights", POINTER(DLTensor)),
                ("boxes_policy", c_int32), ("reserved", c_int32)]


class yl_call(_Struct):
    _fields_ = [("struct_size", c_size_t), ("feats", c_void_p), ("y_true", c_void_p), ("boxes", c_void_p),
                ("grads", c_void_p), ("batch", c_int32), ("grad_mode", c_int32), ("normaliser", c_int32), ("scan", c_int32),
                ("normaliser_value", c_double), ("grad_scale", c_double), ("normaliser_at", c_void_p),
                ("grad_scale_at", c_void_p)]


class yl_parts(ctypes.Structure):
    """The parts of a layer; confidence is the sum of its two."""
    _fields_ = [("xy", c_double), ("wh", c_double), ("confidence_object", c_double), ("confidence_background", c_double),
                ("class_", c_double), ("objects", c_int64), ("ignored", c_int64), ("ignored_background", c_int64),
                ("non_finite", c_int64), ("found_inf", c_int64)]

    @property
    def confidence(self):
        return self.confidence_object + self.confidence_background


class yl_box_counts(ctypes.Structure):
    _fields_ = [(name, c_int64) for name in ("used", "skipped", "clamped", "dropped", "collided")]


class yl_summary(ctypes.Structure):
    _fields_ = [("total", c_double), ("normaliser", c_double), ("objects", c_int64), ("ignored", c_int64),
                ("ignored_background", c_int64), ("non_finite", c_int64), ("found_inf", c_int64), ("boxes", yl_box_counts)]


class yl_result(_Struct):
    _fields_ = [("struct_size", c_size_t), ("summary", c_void_p), ("layers", c_void_p), ("rows", c_void_p),
                ("completion", c_void_p), ("stats", c_void_p), ("offender", c_void_p), ("ignore_mask", c_void_p),
                ("best_iou", c_void_p), ("cell_loss", c_void_p)]


class Result:
    """total, normaliser, objects, ..., boxes as in yl_summary; layers: the parts of each, yl_parts."""

    def __init__(self, layers):
        self.layers = (yl_parts * layers)()
        self.summary = yl_summary()

    def __getattr__(self, name):
        return getattr(self.summary, name)

    def log_line(self, step, **more):
        """A line for a log of a training that `yololoss compare` reads: JSON, in which NaN and infinities are strings."""
        layers = [{"xy": p.xy, "wh": p.wh, "confidence_object": p.confidence_object,
                   "confidence_background": p.confidence_background, "class": p.class_, "object_count": p.objects,
                   "ignore_count_background": p.ignored_background, "non_finite": p.non_finite} for p in self.layers]
        line = {"step": step, "normaliser": self.normaliser, "total": self.total, "layers": layers, **more}
        return json.dumps(json.loads(json.dumps(line), parse_constant=str)) + "\n"


def _load():
    here = pathlib.Path(__file__).resolve().parents[2] / "target/native/libyololoss.so"
    path = os.environ.get("YOLOLOSS_LIBRARY") or (str(here) if here.exists() else "libyololoss.so.0")
    library = ctypes.CDLL(path)
    library.yl_last_error.restype = library.yl_status_name.restype = library.yl_version_string.restype = c_char_p
    library.yl_device_name.restype = library.yl_device_why.restype = c_char_p
    library.yl_device_name.argtypes = library.yl_device_why.argtypes = library.yl_plan_destroy.argtypes = [c_void_p]
    library.yl_plan_destroy.restype = None
    library.yl_offset_of.restype = c_int64
    library.yl_offset_of.argtypes = [c_char_p, c_char_p]
    library.yl_plan_create.argtypes = [POINTER(yl_config), POINTER(c_void_p)]
    library.yl_loss_dlpack.argtypes = [c_void_p, POINTER(yl_tensors), POINTER(yl_call), POINTER(yl_result)]
    library.yl_loss_dlpack_async.argtypes = [c_void_p, POINTER(yl_tensors), POINTER(yl_call), c_void_p, POINTER(yl_result)]
    if library.yl_abi_version() != 3:
        raise YoloLossError("YL_UNSUPPORTED", f"{path} has ABI version {library.yl_abi_version()}, this module needs 3")
    return library


lib = _load()


def check(status):
    """Raises what the library says, unless the status is 0."""
    if status:
        raise YoloLossError(lib.yl_status_name(status).decode(), lib.yl_last_error().decode())


# ---- arrays by DLPack

_capsule_name = ctypes.pythonapi.PyCapsule_GetName
_capsule_name.restype, _capsule_name.argtypes = c_char_p, [ctypes.py_object]
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype, _capsule_pointer.argtypes = c_void_p, [ctypes.py_object, c_char_p]


def dltensor_of(capsule):
    """Pointer to the DLTensor in a capsule of either form, and its flags (1: read-only, 2: a copy)."""
    name = _capsule_name(capsule)
    pointer = _capsule_pointer(capsule, name)
    if name != b"dltensor_versioned":  # DLManagedTensor begins with its DLTensor
        return ctypes.cast(pointer, POINTER(DLTensor)), 0
    managed = ctypes.cast(pointer, POINTER(_Versioned)).contents
    if managed.major != 1:
        raise YoloLossError("YL_UNSUPPORTED", f"an array came as DLPack {managed.major}.{managed.minor}, version 1 is expected")
    return ctypes.pointer(managed.dl_tensor), managed.flags


class _Tensors:
    """DLTensors of arrays. Capsules are not consumed: they free their structs when this object goes."""

    def __init__(self):
        self.held = []

    def one(self, array, written=False):
        if array is None:
            return None
        if getattr(array, "requires_grad", False):
            array = array.detach()
        options = {"stream": -1} if getattr(array, "is_cuda", False) else {}  # the call is on the caller's stream already
        try:
            capsule = array.__dlpack__(max_version=(1, 0), **options)
        except TypeError:  # libraries from before DLPack 1.0
            capsule = array.__dlpack__(**options)
        tensor, flags = dltensor_of(capsule)
        self.held.append((array, capsule))
        if flags & 2 or written and flags & 1:
            raise YoloLossError("YL_INVALID_ARGUMENT", "an array of grads is read-only; one that can be written is expected"
                                if written else "an array came as a copy; its own memory is expected")
        return tensor

    def many(self, arrays, layers, name, written=False):
        if arrays is None:
            return None
        if len(arrays) != layers:
            raise YoloLossError("YL_INVALID_ARGUMENT", f"{name} has {len(arrays)} arrays, {layers} layers are expected")
        return (POINTER(DLTensor) * layers)(*[self.one(array, written) for array in arrays])


def _floats(values):
    return (c_float * len(values))(*values)


class Loss:
    """A plan: made once, called often. anchors: pairs of width and height in input pixels; anchor_mask: for each layer,
    indices into them; input_shape: (height, width). Layers have the strides 32, 16, 8, ... unless strides says others.
    weights: a dict with any of xy, wh, object, background, class_."""

    def __init__(self, anchors, anchor_mask, num_classes, input_shape, *, strides=None, ignore_thresh=0.5, max_batch=1,
                 device="auto", memory="host", dtype="float32", layout="nhwc", threads=0, grad_float32=False,
                 weights=None, class_weights=None, label_smoothing=0.0, ignore_scope="layer"):
        strides = strides or [32 >> l for l in range(len(anchor_mask))]
        masks = [(c_int32 * len(mask))(*mask) for mask in anchor_mask]
        layers = (yl_layer * len(masks))(*[yl_layer(input_shape[0] // s, input_shape[1] // s, mask, len(mask), 0)
                                           for s, mask in zip(strides, masks)])
        weights = {"xy": 1, "wh": 1, "object": 1, "background": 1, "class_": 1, **(weights or {})}
        rules = yl_rules.init(weight_xy=weights["xy"], weight_wh=weights["wh"], weight_object=weights["object"],
                              weight_background=weights["background"], weight_class=weights["class_"],
                              label_smoothing=label_smoothing, ignore_scope=SCOPES[ignore_scope])
        if class_weights is not None:
            if len(class_weights) != num_classes:
                raise YoloLossError("YL_INVALID_ARGUMENT", f"class_weights has {len(class_weights)} entries for {num_classes} classes")
            rules.class_weights = _floats(class_weights)
        if isinstance(ignore_thresh, (list, tuple)):
            if len(ignore_thresh) != len(masks):
                raise YoloLossError("YL_INVALID_ARGUMENT", f"ignore_thresh has {len(ignore_thresh)} entries for {len(masks)} layers")
            rules.ignore_threshes = _floats(ignore_thresh)
            ignore_thresh = ignore_thresh[0]
        kind, _, index = device.partition(":")
        config = yl_config.init(
            layers=layers, anchors=_floats([side for anchor in anchors for side in anchor]), layer_count=len(masks),
            anchor_count=len(anchors), input_height=input_shape[0], input_width=input_shape[1], num_classes=num_classes,
            ignore_thresh=ignore_thresh, max_batch=max_batch, device=["auto", "reference", "cpu", "cuda"].index(kind),
            device_index=int(index or 0), memory=MEMORIES[memory], dtype=DTYPES[dtype], layout=LAYOUTS[layout],
            threads=threads, grad_dtype=int(grad_float32), rules=ctypes.pointer(rules))
        self._plan = c_void_p()
        self._layers = len(masks)
        self.memory = memory
        check(lib.yl_plan_create(byref(config), byref(self._plan)))

    def close(self):
        """Frees the plan; also done when the object goes."""
        if getattr(self, "_plan", None):
            lib.yl_plan_destroy(self._plan)
            self._plan = None

    __del__ = close

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def device(self):
        """Name of the device, and one line that says why it was taken."""
        return lib.yl_device_name(self._plan).decode(), lib.yl_device_why(self._plan).decode()

    def _call(self, held, feats, boxes, y_true, grads, box_weights, bad_boxes, normaliser, grad_scale, grad_mode):
        if not self._plan:
            raise YoloLossError("YL_INVALID_ARGUMENT", "this Loss is closed; make another")
        tensors = yl_tensors.init(
            feats=held.many(feats, self._layers, "feats"), grads=held.many(grads, self._layers, "grads", written=True),
            y_true=held.many(y_true, self._layers, "y_true"), boxes=held.one(boxes), box_weights=held.one(box_weights),
            boxes_policy=POLICIES[bad_boxes])
        by_name = {"batch": 0, "none": 1, "objects": 2}
        options = yl_call.init(grad_mode=GRAD_MODES[grad_mode], normaliser=by_name.get(normaliser, 3), grad_scale=grad_scale,
                               normaliser_value=1.0 if normaliser in by_name else normaliser)
        return tensors, options

    def __call__(self, feats, *, boxes=None, y_true=None, grads=None, box_weights=None, bad_boxes="error",
                 normaliser="batch", grad_scale=1.0, grad_mode="overwrite"):
        """The loss, and the gradient into grads if they are given. Waits. normaliser: batch, none, objects, or a number."""
        held = _Tensors()
        tensors, options = self._call(held, feats, boxes, y_true, grads, box_weights, bad_boxes, normaliser, grad_scale, grad_mode)
        result = Result(self._layers)
        out = yl_result.init(summary=ctypes.addressof(result.summary), layers=ctypes.addressof(result.layers))
        check(lib.yl_loss_dlpack(self._plan, byref(tensors), byref(options), byref(out)))
        return result

    def enqueue(self, feats, stream, summary, *, boxes=None, y_true=None, grads=None, box_weights=None, bad_boxes="error",
                normaliser="batch", grad_scale=1.0, grad_mode="overwrite"):
        """The same on a CUDA stream (an integer), without waiting. summary: an address that the device can write, of
        ctypes.sizeof(yl_summary) bytes; its first double is the total."""
        held = _Tensors()
        tensors, options = self._call(held, feats, boxes, y_true, grads, box_weights, bad_boxes, normaliser, grad_scale, grad_mode)
        out = yl_result.init(summary=summary)
        check(lib.yl_loss_dlpack_async(self._plan, byref(tensors), byref(options), stream, byref(out)))

    def torch(self, feats, **options):
        """A scalar tensor with autograd: its backward hands out the gradient that was computed with the loss. The options
        are those of a call. On CUDA (memory="device") it is enqueued on the current stream, and nothing waits; boxes that
        are refused make total and gradient NaN there."""
        return _torch_function().apply(self, options, *feats)


def _torch_function():
    """The torch.autograd.Function; made at first use, so that the module needs no torch."""
    if not hasattr(_torch_function, "made"):
        import torch

        class YoloLossFunction(torch.autograd.Function):
            @staticmethod
            def forward(ctx, loss, options, *feats):
                grads = [torch.empty_like(f) for f in feats]
                if loss.memory == "device":
                    summary = torch.full([ctypes.sizeof(yl_summary) // 8], torch.nan, dtype=torch.float64, device=feats[0].device)
                    stream = torch.cuda.current_stream(feats[0].device).cuda_stream
                    loss.enqueue(feats, stream, summary.data_ptr(), grads=grads, **options)
                    total = summary[0]
                else:
                    total = torch.tensor(loss(feats, grads=grads, **options).total, dtype=torch.float64)
                ctx.save_for_backward(total, *grads)
                return total.to(feats[0].dtype if feats[0].dtype == torch.float64 else torch.float32)

            @staticmethod
            @torch.autograd.function.once_differentiable
            def backward(ctx, upstream):
                total, *grads = ctx.saved_tensors
                if total.is_cuda:  # boxes were refused where the total is still NaN: no gradient was written
                    upstream = torch.where(total.isnan(), total, upstream)
                return (None, None, *[grad * upstream.to(grad.dtype) for grad in grads])

        _torch_function.made = YoloLossFunction
    return _torch_function.made
