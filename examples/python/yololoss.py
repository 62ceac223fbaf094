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
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import sys
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_uint8, c_uint16, c_uint32, \
    c_uint64, c_void_p


class YoloLossError(Exception):
    """What yl_last_error() says; status is the name of the yl_status."""

    def __init__(self, status, sentence):
        super().__init__(sentence)
        self.status = status


def _load():
    """The library, and the module of its structs: yololoss_abi.py, which the library's build writes and installs."""
    here = pathlib.Path(__file__).resolve().parents[2] / "target/native/libyololoss.so"
    path = os.environ.get("YOLOLOSS_LIBRARY") or (str(here) if here.exists() else "libyololoss.so.0")
    library = ctypes.CDLL(path)
    near = list(pathlib.Path(path).resolve().parents)[:4]  # a build folder or an install prefix is among these
    folders = [str(folder / place) for folder in near for place in ("abi", "share/yololoss")]
    spec = importlib.machinery.PathFinder.find_spec("yololoss_abi", [*folders, *sys.path])
    if spec is None:
        raise YoloLossError("YL_UNSUPPORTED", f"there is no yololoss_abi.py near {path}; it is in abi of the library's build "
                            "folder and in share/yololoss of its install; put it on PYTHONPATH")
    structs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(structs)
    if library.yl_abi_version() != structs.YL_ABI_VERSION:
        raise YoloLossError("YL_UNSUPPORTED", f"{path} has ABI version {library.yl_abi_version()}, {spec.origin} "
                            f"has {structs.YL_ABI_VERSION}")
    library.yl_last_error.restype = library.yl_status_name.restype = library.yl_version_string.restype = c_char_p
    library.yl_device_name.restype = library.yl_device_why.restype = c_char_p
    library.yl_device_name.argtypes = library.yl_device_why.argtypes = library.yl_plan_destroy.argtypes = [c_void_p]
    library.yl_plan_destroy.restype = None
    library.yl_offset_of.restype = c_int64
    library.yl_offset_of.argtypes = [c_char_p, c_char_p]
    tensors, call, result = POINTER(structs.yl_tensors), POINTER(structs.yl_call), POINTER(structs.yl_result)
    library.yl_plan_create.argtypes = [POINTER(structs.yl_config), POINTER(c_void_p)]
    library.yl_loss_dlpack.argtypes = [c_void_p, tensors, call, result]
    library.yl_loss_dlpack_async.argtypes = [c_void_p, tensors, call, c_void_p, result]
    return library, structs


lib, abi = _load()

DTYPES = {"float32": abi.YL_F32, "float16": abi.YL_F16, "bfloat16": abi.YL_BF16, "float64": abi.YL_F64}
LAYOUTS = {"nhwc": abi.YL_NHWC, "nchw": abi.YL_NCHW}
MEMORIES = {"host": abi.YL_MEMORY_HOST, "device": abi.YL_MEMORY_DEVICE}
SCOPES = {"layer": abi.YL_SCOPE_LAYER, "image": abi.YL_SCOPE_IMAGE}
POLICIES = {"error": abi.YL_BOXES_ERROR, "skip": abi.YL_BOXES_SKIP, "clamp": abi.YL_BOXES_CLAMP}
DEVICES = {"auto": abi.YL_DEVICE_AUTO, "reference": abi.YL_DEVICE_REFERENCE, "cpu": abi.YL_DEVICE_CPU,
           "cuda": abi.YL_DEVICE_CUDA}
GRAD_MODES = {"overwrite": abi.YL_GRAD_OVERWRITE, "refresh": abi.YL_GRAD_REFRESH,
              "accumulate": abi.YL_GRAD_ACCUMULATE}
NORMALISERS = {"batch": abi.YL_NORMALISER_BATCH, "none": abi.YL_NORMALISER_NONE,
               "objects": abi.YL_NORMALISER_OBJECTS}

# Fields of yl_parts whose name in JSON is another: that of the golden cases.
JSON_NAMES = {"class_": "class", "objects": "object_count", "ignored": "ignore_count",
              "ignored_background": "ignore_count_background"}
PARTS = [name for name, kind in abi.yl_parts._fields_ if kind is c_double]
LOGGED_COUNTS = ["objects", "ignored_background", "non_finite"]

DLTensor = abi.DLTensor
DLTensor._fields_ = [
    ("data", c_void_p), ("device_type", c_int32), ("device_id", c_int32), ("ndim", c_int32), ("code", c_uint8),
    ("bits", c_uint8), ("lanes", c_uint16), ("shape", POINTER(c_int64)), ("strides", POINTER(c_int64)),
    ("byte_offset", c_uint64)]


class _Versioned(ctypes.Structure):  # DLManagedTensorVersioned
    _fields_ = [("major", c_uint32), ("minor", c_uint32), ("manager_ctx", c_void_p), ("deleter", c_void_p),
                ("flags", c_uint64), ("dl_tensor", DLTensor)]


class Parts(abi.yl_parts):
    """The parts of a layer; confidence is the sum of its two."""

    @property
    def confidence(self):
        return self.confidence_object + self.confidence_background


class Result:
    """total, normaliser, objects, ..., boxes as in yl_summary; layers: the parts of each, yl_parts."""

    def __init__(self, layers):
        self.layers = (Parts * layers)()
        self.summary = abi.yl_summary()

    def __getattr__(self, name):
        return getattr(self.summary, name)

    def log_line(self, step, **more):
        """A line for a log of a training that `yololoss compare` reads: JSON, in which NaN and infinities are strings."""
        names = {name: JSON_NAMES.get(name, name) for name in PARTS + LOGGED_COUNTS}
        layers = [{in_json: getattr(parts, name) for name, in_json in names.items()} for parts in self.layers]
        line = {"step": step, "normaliser": self.normaliser, "total": self.total, "layers": layers, **more}
        return json.dumps(json.loads(json.dumps(line), parse_constant=str)) + "\n"


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
        layers = (abi.yl_layer * len(masks))(*[abi.yl_layer(input_shape[0] // s, input_shape[1] // s, mask, len(mask), 0)
                                           for s, mask in zip(strides, masks)])
        weights = {"xy": 1, "wh": 1, "object": 1, "background": 1, "class_": 1, **(weights or {})}
        rules = abi.yl_rules.init(weight_xy=weights["xy"], weight_wh=weights["wh"], weight_object=weights["object"],
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
        config = abi.yl_config.init(
            layers=layers, anchors=_floats([side for anchor in anchors for side in anchor]), layer_count=len(masks),
            anchor_count=len(anchors), input_height=input_shape[0], input_width=input_shape[1], num_classes=num_classes,
            ignore_thresh=ignore_thresh, max_batch=max_batch, device=DEVICES[kind],
            device_index=int(index or 0), memory=MEMORIES[memory], dtype=DTYPES[dtype], layout=LAYOUTS[layout],
            threads=threads, grad_dtype=abi.YL_GRAD_F32 if grad_float32 else abi.YL_GRAD_LIKE_FEATS, rules=ctypes.pointer(rules))
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
        tensors = abi.yl_tensors.init(
            feats=held.many(feats, self._layers, "feats"), grads=held.many(grads, self._layers, "grads", written=True),
            y_true=held.many(y_true, self._layers, "y_true"), boxes=held.one(boxes), box_weights=held.one(box_weights),
            boxes_policy=POLICIES[bad_boxes])
        by_value = normaliser not in NORMALISERS
        options = abi.yl_call.init(grad_mode=GRAD_MODES[grad_mode], grad_scale=grad_scale,
                                   normaliser=abi.YL_NORMALISER_VALUE if by_value else NORMALISERS[normaliser],
                                   normaliser_value=normaliser if by_value else 1.0)
        return tensors, options

    def __call__(self, feats, *, boxes=None, y_true=None, grads=None, box_weights=None, bad_boxes="error",
                 normaliser="batch", grad_scale=1.0, grad_mode="overwrite"):
        """The loss, and the gradient into grads if they are given. Waits. normaliser: batch, none, objects, or a number."""
        held = _Tensors()
        tensors, options = self._call(held, feats, boxes, y_true, grads, box_weights, bad_boxes, normaliser, grad_scale, grad_mode)
        result = Result(self._layers)
        out = abi.yl_result.init(summary=ctypes.pointer(result.summary),
                                 layers=ctypes.cast(result.layers, POINTER(abi.yl_parts)))
        check(lib.yl_loss_dlpack(self._plan, byref(tensors), byref(options), byref(out)))
        return result

    def enqueue(self, feats, stream, summary, *, boxes=None, y_true=None, grads=None, box_weights=None, bad_boxes="error",
                normaliser="batch", grad_scale=1.0, grad_mode="overwrite"):
        """The same on a CUDA stream (an integer), without waiting. summary: an address that the device can write, of
        ctypes.sizeof(abi.yl_summary) bytes; its first double is the total."""
        held = _Tensors()
        tensors, options = self._call(held, feats, boxes, y_true, grads, box_weights, bad_boxes, normaliser, grad_scale, grad_mode)
        out = abi.yl_result.init(summary=ctypes.cast(summary, POINTER(abi.yl_summary)))
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
                    summary = torch.full([ctypes.sizeof(abi.yl_summary) // 8], torch.nan, dtype=torch.float64, device=feats[0].device)
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
