/* yololoss: the YOLOv3 training loss and its gradient.

   This header is the manual. The semantics are those of `yolo_loss` in keras-yolo3 (github.com/qqwweee/keras-yolo3,
   commit e6598d1, yolo3/model.py); the formulas stand below at yl_loss.

   Words: B batch; H, W rows and columns of a layer's grid; A anchors of a layer; C classes; L layers (scales).
   A cell is one anchor at one grid position of one image; an object is a cell whose mask m is not 0.

   Shapes (C order; float32 but for feats and grads, whose type and order the config names):
     feats[l]   (B, H, W, A*(5+C))   raw outputs; for each anchor tx, ty, tw, th, objectness, C class logits
                                     NCHW: (B, A*(5+C), H, W), the same channels as planes
     y_true[l]  (B, H, W, A, 5+C)    centre x, centre y, width, height as fractions of the input, mask m, C targets
     boxes      (B, T, 5)            x_min, y_min, x_max, y_max in input pixels, class; unused rows are zero
     grads[l]   as feats[l]          d (total * grad_scale) / d feats[l]

   Errors: every function that can fail returns a yl_status. On anything but YL_OK, yl_last_error() holds, for the
   calling thread, one sentence with the offending value, what was expected and what to do. Nothing in the library
   prints, exits, aborts or lets an exception out.

   Growth: structs that begin with struct_size are filled by their _INIT macro. A library that knows more fields than
   the caller uses the defaults of the macro for them; a struct larger than the library knows is YL_UNSUPPORTED.

   Threads: any function may be called from any thread. Calls on one plan wait for each other, so a plan serves one
   call at a time; different plans run side by side, also on one device. No other call may use a plan while or after it
   is destroyed. What yl_loss_async has enqueued occupies its plan until the stream has passed it. */
#ifndef YOLOLOSS_H
#define YOLOLOSS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define YL_API __attribute__((visibility("default")))
#else
#define YL_API
#endif

/* The version is written here only; CMake reads it. The ABI version changes when a caller must be compiled anew. */
#define YL_VERSION_MAJOR 0
#define YL_VERSION_MINOR 1
#define YL_VERSION_PATCH 0
#define YL_ABI_VERSION 3

typedef enum yl_status {
  YL_OK = 0,               /* success */
  YL_INVALID_ARGUMENT = 1, /* a pointer, size or value that the contract does not allow */
  YL_INVALID_BOXES = 2,    /* a row of boxes that the policy YL_BOXES_ERROR refuses */
  YL_UNSUPPORTED = 3,      /* in the contract, but not in this build or version */
  YL_NO_DEVICE = 4,        /* the device asked for cannot be used on this machine */
  YL_OUT_OF_MEMORY = 5,    /* workspace or threads could not be had */
  YL_INTERNAL = 6,         /* a fault of the library; please report it with yl_last_error() */
  YL_DEVICE_FAILED = 7 /* the CUDA driver reported an error; the sentence names it. What was to be written is lost */
} yl_status;

/* Where the loss is computed. A device asked for by name is never replaced by another. */
enum {
  YL_DEVICE_AUTO = 0,      /* the best for the caller's memory; yl_device_why() says the reason */
  YL_DEVICE_REFERENCE = 1, /* double precision, one thread, plain loops: a second opinion, not a fast path */
  YL_DEVICE_CPU = 2,       /* float32 arithmetic (float64 for YL_F64), several threads */
  YL_DEVICE_CUDA = 3       /* hand-written kernels, the same arithmetic; at most 16 layers */
};

/* Where feats, y_true, boxes and grads live, and the arrays of yl_yolo_head and yl_build_y_true. With HOST a cuda plan
   copies them, in chunks of images while the chunk before is computed; faster from and to pinned memory. */
enum {
  YL_MEMORY_HOST = 0,
  YL_MEMORY_DEVICE = 1 /* memory of the CUDA device, or that it can reach (pinned, managed); device cuda or auto */
};

/* Type of feats and grads. y_true and boxes are always float32. */
enum {
  YL_F32 = 0,
  YL_F16 = 1,  /* IEEE 754 binary16; computed in float32, the gradient rounded to nearest even */
  YL_BF16 = 2, /* the upper half of a float32; alike */
  YL_F64 = 3   /* computed in double on every device */
};

/* Type of grads. */
enum {
  YL_GRAD_LIKE_FEATS = 0,
  YL_GRAD_F32 = 1 /* float32, whatever feats are: it does not overflow where an f16 gradient does, at 65520 */
};

/* Order of feats and grads. */
enum {
  YL_NHWC = 0, /* (B, H, W, A*(5+C)): Keras, TensorFlow */
  YL_NCHW = 1  /* (B, A*(5+C), H, W): Darknet, PyTorch */
};

/* The truths that a background cell is compared with for k. */
enum {
  YL_SCOPE_LAYER = 0, /* of its image in its own layer, as keras-yolo3 */
  YL_SCOPE_IMAGE = 1  /* of its image in all layers, as Darknet */
};

/* What the raw sums are divided by. */
enum {
  YL_NORMALISER_BATCH = 0,   /* B, as keras-yolo3 */
  YL_NORMALISER_NONE = 1,    /* 1 */
  YL_NORMALISER_OBJECTS = 2, /* objects of the call, at least 1 */
  YL_NORMALISER_VALUE = 3    /* yl_call.normaliser_value, finite and > 0: for a batch spread over several calls */
};

/* How grads is written. */
enum {
  YL_GRAD_OVERWRITE = 0, /* every element is written; what it held does not matter */
  YL_GRAD_REFRESH = 1,   /* the same result with fewer writes, where grads are the buffers of this plan's last call with
                            a gradient and hold what that wrote for at least as many images: only the objectness channel,
                            the rows of objects and the rows that were objects then need be written (more is, where that
                            is faster). Not over feats. Other buffers or more images than then are refused; changed
                            content is noticed in host memory with YOLOLOSS_DEBUG=1 only, which costs a reading of all
                            grads, and never that an enqueued call wrote nothing since its boxes were refused */
  YL_GRAD_ACCUMULATE = 2 /* grads += gradient, each sum rounded to the type of grads: for losses of several heads and
                            for micro-batches. Only what is not zero is touched, as with REFRESH. Not over feats */
};

/* Which values are looked at for yl_parts.non_finite and yl_result.offender. */
enum {
  YL_SCAN_USED = 0, /* those that count: masks and objectness of all cells, whole rows of objects */
  YL_SCAN_ALL = 1   /* every value of feats, and of y_true; reads all memory, for the search after a NaN */
};

/* What happens to a row of boxes that names no object: a coordinate or class that is not finite, no area, a class
   that is not a whole number in 0..C-1, a centre outside the input, a bad weight. (keras-yolo3 crashes, wraps round or
   poisons.) */
enum {
  YL_BOXES_ERROR = 0, /* YL_INVALID_BOXES, naming image and row; nothing has been written */
  YL_BOXES_SKIP = 1,  /* the row is left out and counted as skipped */
  YL_BOXES_CLAMP = 2  /* a row whose centre lies outside the input, or that is too large for float32, is cut to the
                         input and counted as clamped; what then still names no object, and any other bad row, is
                         skipped. A NaN never becomes a box */
};

/* One scale of the network. */
typedef struct yl_layer {
  int32_t grid_height;        /* H */
  int32_t grid_width;         /* W */
  const int32_t *anchor_mask; /* A indices into yl_config.anchors */
  int32_t anchor_count;       /* A */
  int32_t reserved;           /* 0 */
} yl_layer;

/* Departures from keras-yolo3's loss; the formulas at yl_loss say where each stands. Weights are finite and >= 0; a part
   or class of weight 0 contributes exactly 0. */
typedef struct yl_rules {
  size_t struct_size;           /* sizeof(yl_rules), set by YL_RULES_INIT */
  const float *class_weights;   /* C, or NULL: all 1 */
  const float *ignore_threshes; /* L, for each layer its own, or NULL: yl_config.ignore_thresh */
  float weight_xy;              /* default 1, as the next four */
  float weight_wh;
  float weight_object;     /* of the confidence of objects */
  float weight_background; /* of the confidence of background */
  float weight_class;
  float label_smoothing; /* e in 0..1: class targets become y*(1-e) + e/2; default 0 */
  int32_t ignore_scope;  /* YL_SCOPE_...; default LAYER */
  int32_t reserved;      /* 0 */
} yl_rules;

#define YL_RULES_INIT \
  { sizeof(yl_rules), 0, 0, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 0.0f, 0, 0 }

/* What a plan is made for. Copied by yl_plan_create; no pointer is kept. */
typedef struct yl_config {
  size_t struct_size;     /* sizeof(yl_config), set by YL_CONFIG_INIT */
  const yl_layer *layers; /* layer_count layers, in the order of feats */
  const float *anchors;   /* (anchor_count, 2): width, height in input pixels; all that boxes are matched with */
  int32_t layer_count;    /* L >= 1; three for YOLOv3, two for tiny */
  int32_t anchor_count;   /* >= 1 */
  int32_t input_height;   /* of the network's input, in pixels; keras-yolo3: 32 * H of layer 0 */
  int32_t input_width;
  int32_t num_classes;   /* C >= 1 */
  float ignore_thresh;   /* a background cell counts while its best IoU is strictly below; default 0.5 */
  int32_t max_batch;     /* largest B of a call; default 1 */
  int32_t device;        /* YL_DEVICE_...; default AUTO */
  int32_t device_index;  /* which CUDA device; 0 otherwise */
  int32_t memory;        /* YL_MEMORY_...; default HOST */
  int32_t dtype;         /* YL_F32 ...; default F32 */
  int32_t layout;        /* YL_NHWC ...; default NHWC */
  int32_t threads;       /* of the cpu device, and of the copies of a cuda plan with host memory that is not pinned;
                           1..1024; 0 (default): YOLOLOSS_THREADS, or one per processor that this process may use */
  int32_t grad_dtype;    /* YL_GRAD_LIKE_FEATS (default) or YL_GRAD_F32 */
  const yl_rules *rules; /* or NULL: keras-yolo3's loss */
} yl_config;

#define YL_CONFIG_INIT \
  { sizeof(yl_config), 0, 0, 0, 0, 0, 0, 0, 0.5f, 1, 0, 0, 0, 0, 0, 0, 0, 0 }

/* A plan holds what is costly: the checked config, the workspace, the threads.

   Read from the environment when a plan is made; a value that is none of these is YL_INVALID_ARGUMENT:
     YOLOLOSS_THREADS  1..1024: what 0 in yl_config.threads stands for
     YOLOLOSS_ISA      baseline, avx2 or avx512: the cpu device uses no better instruction set than this
     YOLOLOSS_DEBUG    1: checks that read what a promise speaks of (YL_GRAD_REFRESH); 0, or unset: not */
typedef struct yl_plan yl_plan;

/* Truths as boxes. */
typedef struct yl_boxes {
  size_t struct_size;   /* sizeof(yl_boxes), set by YL_BOXES_INIT */
  const float *data;    /* (B, per_image, 5); may be NULL if per_image is 0 */
  int32_t per_image;    /* T >= 0; any number: no table can overflow */
  int32_t policy;       /* YL_BOXES_...; default ERROR */
  const float *weights; /* (B, per_image), or NULL: 1. Factor v of the row's object, finite and >= 0 (the score of
                           mixup); any other value makes the row a bad one. Of rows that share a cell the last counts */
} yl_boxes;

#define YL_BOXES_INIT \
  { sizeof(yl_boxes), 0, 0, 0, 0 }

/* What became of the boxes of a call. used + skipped = rows that are not all zero. */
typedef struct yl_box_counts {
  int64_t used;     /* rows that name an object */
  int64_t skipped;  /* rows left out by YL_BOXES_SKIP or YL_BOXES_CLAMP */
  int64_t clamped;  /* used rows that YL_BOXES_CLAMP has cut to the input */
  int64_t dropped;  /* used rows whose best anchor is in no layer, so they have no truth */
  int64_t collided; /* times that a used row took a cell which an earlier row of the image had */
} yl_box_counts;

/* One call. Exactly one of y_true and boxes is given. */
typedef struct yl_call {
  size_t struct_size;         /* sizeof(yl_call), set by YL_CALL_INIT */
  const void *const *feats;   /* L pointers */
  const float *const *y_true; /* L pointers, or NULL: boxes */
  const yl_boxes *boxes;      /* or NULL: y_true */
  void *const *grads;         /* L pointers, or NULL: loss only. grads[l] may be feats[l]; no other overlap */
  int32_t batch;              /* B, 1..max_batch */
  int32_t grad_mode;          /* YL_GRAD_...; default OVERWRITE */
  int32_t normaliser;         /* YL_NORMALISER_...; default BATCH */
  int32_t scan;               /* YL_SCAN_...; default USED */
  double normaliser_value;    /* for YL_NORMALISER_VALUE; default 1 */
  double grad_scale;          /* factor of the gradient (upstream gradient, loss scale), finite; default 1 */
  const float *normaliser_at; /* or NULL. A cuda plan reads the normaliser here when the kernels run, instead of
                                 normaliser_value: memory that the device can reach, with normaliser VALUE. The value is
                                 not checked */
  const float *grad_scale_at; /* or NULL: the same for grad_scale */
} yl_call;

#define YL_CALL_INIT \
  { sizeof(yl_call), 0, 0, 0, 0, 0, 0, 0, 0, 1.0, 1.0, 0, 0 }

/* Sums and counts, of one image in one layer (a row, raw) or of one layer (divided by the normaliser).
   The confidence part of keras-yolo3 is confidence_object + confidence_background. */
typedef struct yl_parts {
  double xy;
  double wh;
  double confidence_object;     /* of cells with m != 0 */
  double confidence_background; /* of cells with m = 0 */
  double class_;
  int64_t objects;            /* cells with m != 0 */
  int64_t ignored;            /* cells with k = 0, objects included */
  int64_t ignored_background; /* cells with k = 0 and m = 0 */
  int64_t non_finite;         /* NaN and infinities among the masks and objectness logits of all cells and among the
                                 other values of objects (four box logits, class logits, truths); with YL_SCAN_ALL among
                                 all values of feats and y_true */
  int64_t found_inf; /* elements of the gradient that this call wrote as NaN or infinity, in the type of grads: so
                                 that a loss scale that is too large does not go unseen */
} yl_parts;

/* The result of the whole call. Counts are sums over images and layers. */
typedef struct yl_summary {
  double total;               /* all parts of all layers / normaliser */
  double normaliser;          /* what the sums were divided by */
  int64_t objects;            /* as in yl_parts */
  int64_t ignored;            /* as in yl_parts */
  int64_t ignored_background; /* as in yl_parts */
  int64_t non_finite;         /* as in yl_parts; 0 says that every value that counts was finite */
  int64_t found_inf;          /* as in yl_parts; for a loss scaler: above 0, leave out the step and lower the scale */
  yl_box_counts boxes;        /* zeros for a dense call */
} yl_summary;

/* What became of a call of yl_loss_async. */
typedef struct yl_completion {
  int32_t status; /* YL_OK, or YL_INVALID_BOXES: then nothing else has been written */
  int32_t image;  /* of the first row of boxes that the policy YL_BOXES_ERROR refuses; -1 if there is none */
  int32_t row;    /* of that image; -1 if there is none */
  int32_t reserved;
} yl_completion;

/* Statistics of one layer, as sums over the images of the call: those of shards of a batch add up. A mean is a sum divided
   by objects or background, where that is not 0. */
typedef struct yl_stats {
  int64_t objects;              /* cells with m != 0 */
  int64_t background;           /* cells with m = 0 */
  double iou;                   /* of the predictions of objects with their own truths; NaN counts as 0 */
  int64_t iou_50;               /* objects for which it is above 0.5 */
  int64_t iou_75;               /* above 0.75 */
  double objectness_object;     /* sigmoid(to) of objects */
  double objectness_background; /* of background */
  double grad_xy;               /* squares of the gradient's elements of a part, before they are rounded to f16 or bf16
                                   or added: its norm is the square root. 0 without grads */
  double grad_wh;
  double grad_object;
  double grad_background;
  double grad_class;
} yl_stats;

/* Why a loss or gradient is not finite. */
enum {
  YL_CAUSE_NONE = 0,    /* nothing was found */
  YL_CAUSE_FEATS = 1,   /* a logit that is not finite */
  YL_CAUSE_TRUTH = 2,   /* a value of y_true that is not finite, or an object's width or height <= 0 (its logarithm) */
  YL_CAUSE_OVERFLOW = 3 /* finite input whose loss, or whose gradient in the type of grads, is not */
};

/* The first value, in the order of image, layer, row, column, anchor, channel, that poisons or would poison the loss. */
typedef struct yl_offender {
  int32_t cause; /* YL_CAUSE_...; with NONE all else is 0 */
  int32_t image;
  int32_t layer;
  int32_t row; /* of the grid */
  int32_t column;
  int32_t anchor;  /* 0..A-1 of the layer */
  int32_t channel; /* 0..4+C: tx, ty, tw, th, objectness, classes */
  int32_t reserved;
  double value;    /* FEATS, OVERFLOW: the logit; TRUTH: that of y_true */
  double gradient; /* OVERFLOW: of the channel, before it is rounded to the type of grads; else 0 */
} yl_offender;

/* Where the result goes: the caller's memory, each part optional (NULL). Written only on YL_OK. For yl_loss memory of
   the host, for yl_loss_async memory that the device can write (its own, pinned or managed). */
typedef struct yl_result {
  size_t struct_size;        /* sizeof(yl_result), set by YL_RESULT_INIT */
  yl_summary *summary;       /* one */
  yl_parts *layers;          /* L, divided by the normaliser */
  yl_parts *rows;            /* B*L, raw; row of image b and layer l at [b*L + l]. Rows of shards of a batch add up */
  yl_completion *completion; /* one; of yl_loss_async only, yl_loss returns its status */
  /* What follows costs time where it is asked for. The arrays of the last three lie where feats lie. */
  yl_stats *stats;           /* L */
  yl_offender *offender;     /* one */
  float *const *ignore_mask; /* L pointers, (B, H, W, A), with NCHW (B, A, H, W): k */
  float *const *best_iou;    /* alike: the largest IoU with a truth of the scope; 0 if there is none, or NaN */
  float *const *cell_loss;   /* alike: the cell's parts, weighted, not divided by the normaliser */
} yl_result;

#define YL_RESULT_INIT \
  { sizeof(yl_result), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Outputs of yl_yolo_head for one layer: the caller's float32 arrays, each optional (NULL). */
typedef struct yl_head {
  size_t struct_size;     /* sizeof(yl_head), set by YL_HEAD_INIT */
  const void *feats;      /* of the layer, B images */
  float *grid;            /* (H, W, 1, 2): column, row */
  float *box_xy;          /* (B, H, W, A, 2): centre as a fraction of the input */
  float *box_wh;          /* (B, H, W, A, 2): size as a fraction of the input */
  float *box_confidence;  /* (B, H, W, A, 1): sigmoid of the objectness logit */
  float *box_class_probs; /* (B, H, W, A, C): sigmoid of the class logits */
  int32_t layer;          /* 0..L-1 */
  int32_t batch;          /* B, 1..max_batch */
} yl_head;

#define YL_HEAD_INIT \
  { sizeof(yl_head), 0, 0, 0, 0, 0, 0, 0, 1 }

/* Checks the config and does everything that costs. *plan is the caller's, to be given to yl_plan_destroy; on failure
   it is NULL. Memory: reserves 32 bytes and 4 more for every 32 classes, for each cell of max_batch images, on the
   device where the loss is computed; on the host only the part that holds objects is touched. A cuda plan with host
   memory takes chunk buffers too, on both sides. Errors: YL_INVALID_ARGUMENT, YL_UNSUPPORTED, YL_NO_DEVICE,
   YL_OUT_OF_MEMORY, YL_DEVICE_FAILED. */
YL_API yl_status yl_plan_create(const yl_config *config, yl_plan **plan);

/* Frees the plan and stops its threads. NULL is allowed. */
YL_API void yl_plan_destroy(yl_plan *plan);

/* The device of the plan ("reference", "cpu", "cuda:0"), and one line that says why it was taken. Both live as long as
   the plan. NULL gives "". */
YL_API const char *yl_device_name(const yl_plan *plan);
YL_API const char *yl_device_why(const yl_plan *plan);

/* YL_OK if a plan can be made on the device; YL_NO_DEVICE if not, and yl_last_error() says why; YL_INVALID_ARGUMENT
   for a value that names no device. */
YL_API yl_status yl_device_check(int32_t device, int32_t device_index);

/* The loss, and the gradient if call->grads is given. Returns when everything is written. result may be NULL if only
   the gradient is wanted. No memory is allocated. For a cell at (row, column) with anchor (aw, ah), logits t and
   truths y, input IW x IH:

     sigmoid(u) = 1 / (1 + e^-u)        ce(z, u) = max(u, 0) - u*z + ln(1 + e^-|u|)
     m = y[4]        s = 2 - y_w*y_h    (box_loss_scale)
     gx, gy = y_x*W - column, y_y*H - row               (raw_true_xy)
     gw, gh = ln(y_w*IW/aw), ln(y_h*IH/ah)              (raw_true_wh; 0 where m = 0)
     predicted box: centre ((sigmoid(tx)+column)/W, (sigmoid(ty)+row)/H), size (aw*e^tw/IW, ah*e^th/IH)
     k = 0 if some object of the same image and layer has IoU >= ignore_thresh with the predicted box, else 1

     xy         = m*s*(ce(gx, tx) + ce(gy, ty))         wh    = m*s*((gw-tw)^2 + (gh-th)^2)/2
     confidence = (m + (1-m)*k) * ce(m, to)             class = m * sum over classes of ce(y_c, tc)

     gradient: tx: m*s*(sigmoid(tx)-gx)    tw: m*s*(tw-gw)    to: (m + (1-m)*k)*(sigmoid(to)-m)
               tc: m*(sigmoid(tc)-y_c), each times grad_scale/normaliser; k counts as a constant

   With yl_rules, and v the weight of the object's box (1 for dense truths): loss and gradient of
     xy times weight_xy*v, of wh times weight_wh*v, of class c times weight_class*v*class_weights[c], of confidence times
     weight_object*v for an object, weight_background for background; in class y_c is y_c*(1-e) + e/2, e = label_smoothing;
     in k the layer's own ignore_threshes, and with YL_SCOPE_IMAGE objects of all layers of the image.

   Differences from keras-yolo3, all with values that are not finite or a size e^t that overflows: a prediction or a
   truth whose IoU is NaN counts as no overlap (keras-yolo3 ignores the cell); an ignored background cell contributes
   exactly 0; class logits of background cells are never read, nor are their box logits where no truth can reach the
   cell. yl_parts.non_finite says which values that are not finite are counted. One logit of a counted background cell:

     logit                     here: loss   gradient there     keras-yolo3: loss   gradient there
     objectness NaN            NaN          NaN                NaN                 NaN
     objectness +-infinity     NaN          finite             NaN                 finite
     tx, ty NaN / infinite     finite       0                  NaN                 NaN / 0
     tw, th NaN or infinite    finite       0                  NaN                 NaN
     tw, th 1e20               finite       0                  NaN (0*infinity)    0
     class NaN / infinite      finite       0                  NaN                 NaN / 0

   Numbers: the cpu device computes each cell in float32 and sums in double, in a fixed order: the same input gives the
   same bits for any thread count and any position of an image in the batch; truths as boxes give the bits of the dense
   y_true they stand for. The cuda device alike, for every run and stream on one kind of device; its bits are not those
   of the cpu device, nor are those of one of the cpu device's instruction sets those of another.

   Errors of rounding, on every device and instruction set: a cell's loss and an element of the gradient (in float32) are
   within 4 * 2^-24 (YL_F64 and the reference device: 4 * 2^-53) of the sum of the magnitudes of what they are made of, so
   that two of them differ by 8 at most. In a difference such as y_x*W - column both numbers count; numbers below 2^-100
   (2^-960) may count as zero. A gradient of 16 bits is that of float32 rounded to nearest even. A sum of n cells adds at
   most n * 2^-53 of the sum of their magnitudes.

   Device memory: the call is ordered behind what was enqueued on the legacy default stream; wait for other streams
   first, or use yl_loss_async. A pointer is checked when it differs from that of the plan's call before: it must belong
   to the plan's device or be reachable from it. Boxes are checked on the device.

   Errors: YL_INVALID_ARGUMENT, YL_INVALID_BOXES, YL_UNSUPPORTED; then nothing has been written. On a cuda plan also
   YL_DEVICE_FAILED, and YL_OUT_OF_MEMORY where host boxes need a larger buffer than any call before. */
YL_API yl_status yl_loss(yl_plan *plan, const yl_call *call, const yl_result *result);

/* The same for a cuda plan with device memory, enqueued on a stream (cudaStream_t, CUstream or NULL: the legacy default
   stream) without waiting: two kernels, no copy, no allocation, so that it may be captured in a CUDA graph and replayed.
   The structs and arrays of pointers are read before it returns; the memory that they point to must stay until the
   stream has passed the call. Calls of one plan, replays of its graphs included, must follow each other on the device:
   one stream, or events of the caller's. Errors: those of yl_loss that need no look at device memory; a row of boxes
   that the policy refuses is told by result->completion. */
YL_API yl_status yl_loss_async(yl_plan *plan, const yl_call *call, void *stream, const yl_result *result);

/* Decodes the raw outputs of one layer, in the plan's type and order, as keras-yolo3's yolo_head. Outputs must not
   overlap each other or feats.
   Errors: YL_INVALID_ARGUMENT, YL_UNSUPPORTED; then nothing has been written. On a cuda plan as yl_loss. */
YL_API yl_status yl_yolo_head(yl_plan *plan, const yl_head *head);

/* Writes the dense truths of boxes, as keras-yolo3's preprocess_true_boxes: L pointers y_true, each (batch, H, W, A,
   5+C), written whole. counts may be NULL. For each row of boxes, in order:
     1. centre = floor((min+max)/2), size = max-min; divided by the input's size, rounded once to float32;
     2. of all anchors the first with the largest IoU at a common centre;
     3. every layer whose mask holds that anchor gets the box at column floor(x*W), row floor(y*H), products in double;
     4. there x, y, w, h are set, the mask and the flag of the class become 1. A later box of the same cell replaces the
        coordinates; class flags stay, so that two may be set.
   boxes->weights has no place in y_true and must be NULL. Errors as yl_loss. */
YL_API yl_status yl_build_y_true(yl_plan *plan, int32_t batch, const yl_boxes *boxes, float *const *y_true,
                                 yl_box_counts *counts);

/* Labels as data: what is wrong with truths, and how boxes fit the anchors. Works on the host, whatever the device (device
   memory is copied), and is not meant for every step: once for a data set, or when counts of yl_summary say that something
   is wrong. */
enum {
  /* rows of boxes that name no object: ERROR refuses the call for them */
  YL_REASON_NOT_FINITE = 0, /* a coordinate, class or weight that is NaN or infinite, or a negative weight; value: it */
  YL_REASON_NO_AREA = 1,    /* x_max <= x_min or y_max <= y_min; value: the smaller side */
  YL_REASON_CLASS = 2,      /* not a whole number in 0..C-1; value: it */
  YL_REASON_TOO_LARGE = 3,  /* for float32; value: the larger side */
  YL_REASON_OUTSIDE = 4,    /* a centre outside the input; value: the coordinate of the centre that is, in pixels */
  /* rows of boxes that are used */
  YL_REASON_COLLISION = 5,   /* takes the cell of an earlier row, named by other; both classes stay set */
  YL_REASON_NO_LAYER = 6,    /* the best anchor is in no layer: the row has no truth; value: IoU with it */
  YL_REASON_TWO_LAYERS = 7,  /* the best anchor is in several layers: the row has a truth in each; value: how many */
  YL_REASON_POOR_ANCHOR = 8, /* the IoU with the best anchor is below poor_iou; value: it */
  /* objects of dense y_true */
  YL_REASON_CENTRE = 9,  /* the centre is not in the object's cell; value: the coordinate that is not */
  YL_REASON_SIZE = 10,   /* width or height <= 0, NaN or infinite; value: it */
  YL_REASON_MASK = 11,   /* not in 0..1; value: it */
  YL_REASON_TARGET = 12, /* a class target that is NaN or infinite; value: it */
  YL_REASON_COUNT = 13
};

/* What the call does with it. */
enum {
  YL_ACTION_KEPT = 0,    /* used as it is */
  YL_ACTION_REFUSED = 1, /* the call fails */
  YL_ACTION_SKIPPED = 2, /* left out */
  YL_ACTION_CLAMPED = 3, /* cut to the input, and used */
  YL_ACTION_DROPPED = 4  /* used, but it has no truth */
};

typedef struct yl_finding {
  int32_t reason; /* YL_REASON_... */
  int32_t action; /* YL_ACTION_... */
  int32_t image;
  int32_t row;   /* of the image's boxes; -1 for y_true */
  int32_t other; /* COLLISION: the earlier row; else -1 */
  int32_t layer; /* of the cell that it is about, as the next three; -1 if there is none */
  int32_t grid_row;
  int32_t grid_column;
  int32_t anchor; /* boxes: index into yl_config.anchors, -1 if there is none; y_true: 0..A-1 of the layer */
  float value;    /* the offending one, see YL_REASON_... */
} yl_finding;

/* Where the audit goes: the caller's memory on the host, each part optional (NULL). */
typedef struct yl_audit_result {
  size_t struct_size;   /* sizeof(yl_audit_result), set by YL_AUDIT_RESULT_INIT */
  yl_finding *findings; /* the first capacity findings, in the order of images and rows or cells */
  int64_t capacity;
  int64_t *counts;     /* YL_REASON_COUNT, one for each reason, of all findings, also those that found no room */
  int64_t *anchor_use; /* (L, anchor_count): how many rows, or objects of y_true, use each anchor in each layer */
  float *best_iou; /* (B, T), not written for y_true: the best possible IoU of each used row, that with its best anchor
                          at a common centre; 0 for other rows */
} yl_audit_result;

#define YL_AUDIT_RESULT_INIT \
  { sizeof(yl_audit_result), 0, 0, 0, 0, 0 }

/* Looks at boxes as a call with their policy would, or at y_true (L pointers); exactly one of them is given. poor_iou: for
   YL_REASON_POOR_ANCHOR, 0..1; 0: never. Errors: YL_INVALID_ARGUMENT, with device memory also YL_DEVICE_FAILED and
   YL_OUT_OF_MEMORY. */
YL_API yl_status yl_audit(yl_plan *plan, int32_t batch, const float *const *y_true, const yl_boxes *boxes,
                          float poor_iou, const yl_audit_result *result);

/* Rows of any number of calls, threads, ranks and machines as one sum: exact, so that order and grouping change no bit,
   and rounded once, to nearest even, when its result is asked for. A sum is YL_SUM_WORDS(L) int64 in memory of the
   caller's on the host (8.7 kB for three layers); all zero it is that of no rows. Two sums are merged by adding word to
   word: by yl_sum_merge, or by whatever adds int64 over a network, such as MPI_Allreduce with MPI_INT64_T and MPI_SUM or
   ncclAllReduce with ncclInt64 and ncclSum, of up to 2^30 sums at once. Equal sums that a function below wrote are equal
   words, in files too (of machines of one byte order); Java's LossSum is made of the same words. The total may differ
   from yl_summary.total in the last bits, whose sums are rounded at each addition.
   Errors: YL_INVALID_ARGUMENT; then nothing has been written. Each call of one sum at a time. */
#define YL_SUM_WORDS(layer_count) (6 + 360 * (layer_count))

/* Adds batch images (0 or more) of yl_result.rows, and yl_summary.boxes or NULL. */
YL_API yl_status yl_sum_add(int64_t *sum, int32_t layer_count, const yl_parts *rows, int32_t batch,
                            const yl_box_counts *boxes);

/* Adds another sum; other may be sum. */
YL_API yl_status yl_sum_merge(int64_t *sum, int32_t layer_count, const int64_t *other);

/* The rounded sums of the layers (layer_count of them), divided by the normaliser, and of all parts of all layers, in
   summary; either may be NULL. normaliser: YL_NORMALISER_..., with BATCH all images that were added, at least 1;
   normaliser_value: for VALUE, finite and > 0 always. A sum that met both infinities, or a NaN, is NaN. */
YL_API yl_status yl_sum_result(const int64_t *sum, int32_t layer_count, int32_t normaliser, double normaliser_value,
                               yl_summary *summary, yl_parts *layers);

/* Memory and streams of a kind of device (YL_DEVICE_CUDA), for callers that have no binding of it; the functions of its own
   runtime may use and free them too. A kind that works on host memory (YL_DEVICE_CPU, YL_DEVICE_REFERENCE) has none:
   YL_UNSUPPORTED. Without a usable device: YL_NO_DEVICE, and yl_last_error() says why. Errors of all:
   YL_INVALID_ARGUMENT, YL_UNSUPPORTED, YL_NO_DEVICE, YL_OUT_OF_MEMORY, YL_DEVICE_FAILED. */
typedef struct yl_device_properties {
  size_t struct_size;         /* sizeof(yl_device_properties), set by YL_DEVICE_PROPERTIES_INIT */
  int64_t total_memory;       /* bytes */
  int64_t free_memory;        /* bytes */
  int32_t compute_capability; /* CUDA: 10 * major + minor: 90 for an H200 */
  int32_t multiprocessors;
  char name[256];
} yl_device_properties;

#define YL_DEVICE_PROPERTIES_INIT                   \
  {                                                 \
    sizeof(yl_device_properties), 0, 0, 0, 0, { 0 } \
  }

/* *count = usable devices of the kind, numbered from 0. Where none can be used *count is 0 and the status YL_NO_DEVICE. */
YL_API yl_status yl_device_count(int32_t device, int32_t *count);
YL_API yl_status yl_device_get_properties(int32_t device, int32_t device_index, yl_device_properties *properties);

/* bytes >= 1 of device memory (aligned to 256), or of pinned host memory that every device of the kind can reach. On
   failure *memory is NULL. Freeing waits for all that is enqueued on the device that it was allocated for; NULL is
   allowed. */
YL_API yl_status yl_device_malloc(int32_t device, int32_t device_index, int64_t bytes, void **memory);
YL_API yl_status yl_device_free(int32_t device, void *memory);
YL_API yl_status yl_device_malloc_host(int32_t device, int64_t bytes, void **memory);
YL_API yl_status yl_device_free_host(int32_t device, void *memory);

/* Copies between any of host, pinned and device memory. yl_device_copy returns when it is done, ordered behind the legacy
   default stream; yl_device_copy_async enqueues it on a stream of device_index. */
YL_API yl_status yl_device_copy(int32_t device, int32_t device_index, void *to, const void *from, int64_t bytes);
YL_API yl_status yl_device_copy_async(int32_t device, int32_t device_index, void *to, const void *from, int64_t bytes,
                                      void *stream);

/* A stream that does not wait for the legacy default stream. synchronize returns when all that was enqueued is done.
   Destroying returns at once; what is enqueued still runs. */
YL_API yl_status yl_stream_create(int32_t device, int32_t device_index, void **stream);
YL_API yl_status yl_stream_destroy(int32_t device, int32_t device_index, void *stream);
YL_API yl_status yl_stream_synchronize(int32_t device, int32_t device_index, void *stream);

/* The sentence of this thread's last failure; "" if there was none. Valid until the next failure on this thread. */
YL_API const char *yl_last_error(void);

/* "YL_OK", "YL_INVALID_ARGUMENT", ...; "unknown status" for other values. */
YL_API const char *yl_status_name(int32_t status);

/* The version of the library that is loaded: "0.1.0", and its YL_ABI_VERSION. */
YL_API const char *yl_version_string(void);
YL_API int32_t yl_abi_version(void);

#ifdef __cplusplus
}
#endif
#endif
