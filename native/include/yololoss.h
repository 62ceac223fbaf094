/* yololoss: the YOLOv3 training loss and its gradient.

   This header is the manual of the C interface. Sections 1 to 3 are enough for a first call; the others are reference.

      1  Introduction and vocabulary
      2  A minimal call
      3  Status and errors
      4  Configuring a plan
      5  Truths
      6  The call and its result
      7  Formulas and numerics
      8  Decoding and dense truths
      9  Advanced: asynchronous calls, device memory, exact sums, audit
     10  Versions

   Two more headers build on this one: yololoss_dlpack.h takes the arrays of NumPy, PyTorch, JAX and others as they are,
   and yololoss_binding.h has what the binding of another language needs.


   1  Introduction and vocabulary
   ------------------------------

   The library computes the loss function `yolo_loss` of keras-yolo3 (github.com/qqwweee/keras-yolo3, commit e6598d1,
   yolo3/model.py) and the derivative of the loss with respect to every raw output of the network. Section 7 gives the
   formulas and lists every difference from keras-yolo3.

     B          batch size: the number of images of a call
     L          number of layers, the scales of the network: three for YOLOv3, two for tiny YOLOv3
     H, W       rows and columns of a layer's grid
     A          number of anchors of a layer
     C          number of classes
     T          number of rows of boxes for each image
     cell       one anchor at one grid position of one image; a layer has B*H*W*A cells
     m          the mask of a cell, y_true channel 4
     object     a cell whose mask is not 0 (a NaN is not 0 either)
     background a cell whose mask is 0
     truth      the box and class that a prediction should give: a row of boxes, or an object's values of y_true
     k          the ignore factor of a cell: 0 if its prediction overlaps a truth well enough, else 1 (section 7)
     row        the sums and counts of one image in one layer (yl_parts)

   Arrays are in C order. y_true and boxes are float32; yl_config chooses the type and layout of feats and grads.

     feats[l]   (B, H, W, A*(5+C)), or (B, A*(5+C), H, W) with YL_NCHW: the raw outputs of layer l; the channels of
                each anchor are tx, ty, tw, th, objectness and C class logits
     y_true[l]  (B, H, W, A, 5+C): centre x, centre y, width and height as fractions of the input, mask m, C class
                targets
     boxes      (B, T, 5): x_min, y_min, x_max, y_max in input pixels, class; a row whose four coordinates are all 0 is
                unused
     grads[l]   shape and layout of feats[l]: d (total * grad_scale) / d feats[l]


   2  A minimal call
   -----------------

   One image, one layer with a 4x4 grid and two anchors, one class, one box; the loss on the CPU and its gradient:

     static const int32_t mask[] = {0, 1};
     static const float anchors[] = {30, 40, 90, 80}, box[] = {20, 30, 60, 70, 0}, feats[4 * 4 * 2 * 6];
     static float grad[4 * 4 * 2 * 6];
     const yl_layer layer = {4, 4, mask, 2, 0};
     const void *feats_of[] = {feats};
     void *grads_of[] = {grad};
     yl_plan *plan;
     yl_summary summary;
     yl_config config = YL_CONFIG_INIT;
     yl_boxes boxes = YL_BOXES_INIT;
     yl_call call = YL_CALL_INIT;
     yl_result result = YL_RESULT_INIT;
     config.layers = &layer, config.layer_count = 1, config.anchors = anchors, config.anchor_count = 2;
     config.input_height = config.input_width = 128, config.num_classes = 1;
     boxes.data = box, boxes.per_image = 1;
     call.batch = 1, call.feats = feats_of, call.boxes = &boxes, call.grads = grads_of;
     result.summary = &summary;
     if (yl_plan_create(&config, &plan) || yl_loss(plan, &call, &result)) fprintf(stderr, "%s\n", yl_last_error());
     else printf("loss %f on %s\n", summary.total, yl_device_name(plan));
     yl_plan_destroy(plan);

   Create a plan once, and call yl_loss with it for every step: a plan holds everything that is costly to set up. */
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

/* 3  Status and errors
   --------------------

   Errors: every function that can fail returns a yl_status. On any status but YL_OK, yl_last_error() returns one
   sentence for the calling thread: it names the offending value, what was expected and what to do. Nothing in the
   library prints, exits, aborts or lets an exception out. All arguments are checked before anything is written: after
   YL_INVALID_ARGUMENT, YL_INVALID_BOXES or YL_UNSUPPORTED nothing has been written, unless a function says otherwise.

   Struct sizes: a struct that begins with struct_size must be initialised by its _INIT macro, so that it can grow. A
   library that knows more fields than the caller uses the macro's defaults for the missing ones; a struct that is
   larger than the library knows is YL_UNSUPPORTED. A field named reserved must be 0, and is 0 in results.

   Threads: every function may be called from any thread. Calls on one plan wait for each other, so a plan serves one
   call at a time; calls on different plans run in parallel, also on one device. No other call may use a plan while
   yl_plan_destroy runs on it, or afterwards. A call enqueued by yl_loss_async occupies its plan until the stream has
   executed it. */
typedef enum yl_status {
  YL_OK = 0,               /* success */
  YL_INVALID_ARGUMENT = 1, /* a pointer, size or value that this header does not allow */
  YL_INVALID_BOXES = 2,    /* a row of boxes is not a valid object, or the boxes are not in pixels, and the policy is
                              YL_BOXES_ERROR */
  YL_UNSUPPORTED = 3,      /* allowed by this header, but not available in this build or version */
  YL_NO_DEVICE = 4,        /* the requested device cannot be used on this machine */
  YL_OUT_OF_MEMORY = 5,    /* memory could not be allocated, or threads could not be started */
  YL_INTERNAL = 6,         /* a bug in the library; please report it with the text of yl_last_error() */
  YL_DEVICE_FAILED = 7     /* the CUDA driver reported an error, named by yl_last_error(); all outputs are undefined */
} yl_status;

/* Returns the sentence that describes the calling thread's last failure, or "" if it had none. The text is valid until
   the next failure on this thread. */
YL_API const char *yl_last_error(void);

/* Returns the name of a status, such as "YL_OK", or "unknown status" for any other value. The text is static. */
YL_API const char *yl_status_name(int32_t status);

/* 4  Configuring a plan
   --------------------- */

/* The device that computes the loss. A device that is requested by name is never replaced by another. */
enum {
  YL_DEVICE_AUTO = 0,      /* cpu for YL_MEMORY_HOST, cuda for YL_MEMORY_DEVICE; yl_device_why() gives the reason */
  YL_DEVICE_REFERENCE = 1, /* double precision, one thread, plain loops: a second opinion, not a fast path */
  YL_DEVICE_CPU = 2,       /* float32 arithmetic (float64 for YL_F64), several threads */
  YL_DEVICE_CUDA = 3       /* hand-written kernels, float32 arithmetic (float64 for YL_F64); at most 16 layers */
};

/* The memory that holds the arrays of a plan's calls: feats, y_true, boxes and their weights, grads and the maps of
   yl_result, and the arrays of yl_yolo_head, yl_build_y_true and yl_audit. The structs and arrays of pointers that are
   passed to a function are host memory; yl_result says where results are written. */
enum {
  YL_MEMORY_HOST = 0,  /* host memory. A cuda plan copies the arrays, one chunk of images while it computes another;
                          pinned memory makes that faster */
  YL_MEMORY_DEVICE = 1 /* memory of the CUDA device, or memory that it can reach (pinned, managed, or of a device to
                          which peer access is enabled); needs device cuda or auto */
};

/* The type of feats, and of grads unless yl_config.grad_dtype says otherwise. y_true and boxes are always float32. */
enum {
  YL_F32 = 0,  /* float32 */
  YL_F16 = 1,  /* IEEE 754 binary16; computed in float32, the gradient is rounded to nearest even */
  YL_BF16 = 2, /* bfloat16, the upper half of a float32; computed in float32, the gradient is rounded to nearest even */
  YL_F64 = 3   /* float64; computed in double on every device */
};

/* The type of grads. */
enum {
  YL_GRAD_LIKE_FEATS = 0, /* the type of feats */
  YL_GRAD_F32 = 1         /* float32, whatever the type of feats; does not overflow at 65520 as an f16 gradient does */
};

/* The layout of feats and grads, and with it the order of the maps of yl_result. */
enum {
  YL_NHWC = 0, /* (B, H, W, A*(5+C)), the layout of Keras and TensorFlow */
  YL_NCHW = 1  /* (B, A*(5+C), H, W), the layout of Darknet and PyTorch: the same channels as planes */
};

/* The truths with which the prediction of a cell is compared to find its ignore factor k. */
enum {
  YL_SCOPE_LAYER = 0, /* the truths of its image in its own layer, as in keras-yolo3 */
  YL_SCOPE_IMAGE = 1  /* the truths of its image in all layers, as in Darknet */
};

/* One layer, that is one scale of the network. H*W*A must be less than 2^31. */
typedef struct yl_layer {
  int32_t grid_height;        /* H >= 1 */
  int32_t grid_width;         /* W >= 1 */
  const int32_t *anchor_mask; /* A indices into yl_config.anchors */
  int32_t anchor_count;       /* A >= 1 */
  int32_t reserved;           /* 0 */
} yl_layer;

/* Changes to keras-yolo3's loss; section 7 shows where each enters the formulas. Weights must be finite and >= 0. A
   part or class of weight 0 contributes exactly 0 to loss and gradient, even where the unweighted value is not
   finite. */
typedef struct yl_rules {
  size_t struct_size;           /* sizeof(yl_rules), set by YL_RULES_INIT */
  const float *class_weights;   /* (C) weights of the classes, or NULL: all 1 */
  const float *ignore_threshes; /* (L) thresholds, one for each layer, finite; or NULL: yl_config.ignore_thresh
                                   for all */
  float weight_xy;              /* weight of the xy part; default 1 */
  float weight_wh;              /* weight of the wh part; default 1 */
  float weight_object;          /* weight of the confidence part of objects; default 1 */
  float weight_background;      /* weight of the confidence part of background; default 1 */
  float weight_class;           /* weight of the class part; default 1 */
  float label_smoothing;        /* e in 0..1: class targets become y*(1-e) + e/2; default 0 */
  int32_t ignore_scope;         /* YL_SCOPE_...; default YL_SCOPE_LAYER */
  int32_t reserved;             /* 0 */
} yl_rules;

#define YL_RULES_INIT {sizeof(yl_rules), 0, 0, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 0.0f, 0, 0}

/* Describes a plan. yl_plan_create copies all of it, and keeps no pointer. */
typedef struct yl_config {
  size_t struct_size;     /* sizeof(yl_config), set by YL_CONFIG_INIT */
  const yl_layer *layers; /* layer_count layers, in the order of feats */
  const float *anchors;   /* (anchor_count, 2): width and height in input pixels, finite and > 0. Boxes are matched with
                             all of them, whether a layer uses them or not */
  int32_t layer_count;    /* L, 1..4096; the cuda device takes 1..16 */
  int32_t anchor_count;   /* number of anchors, >= 1 */
  int32_t input_height;   /* height of the network's input in pixels, >= 1; in keras-yolo3 32 * H of layer 0 */
  int32_t input_width;    /* width of the network's input in pixels, >= 1; in keras-yolo3 32 * W of layer 0 */
  int32_t num_classes;    /* C, 1..2^24 */
  float ignore_thresh;    /* a background cell counts while its best IoU is strictly below this; finite; default 0.5 */
  int32_t max_batch;      /* the largest B of a call, >= 1; default 1. max_batch * layer_count must be less than 2^31 */
  int32_t device;         /* YL_DEVICE_...; default YL_DEVICE_AUTO */
  int32_t device_index;   /* the number of the CUDA device, from 0; must be 0 for other devices */
  int32_t memory;         /* YL_MEMORY_...; default YL_MEMORY_HOST */
  int32_t dtype;          /* the type of feats, YL_F32 ...; default YL_F32 */
  int32_t layout;         /* the layout of feats and grads, YL_NHWC or YL_NCHW; default YL_NHWC */
  int32_t threads;        /* threads of the cpu device, or of a cuda plan that copies host memory which is not pinned;
                             1..1024, or 0 (default) for YOLOLOSS_THREADS (see yl_plan) */
  int32_t grad_dtype;     /* YL_GRAD_LIKE_FEATS (default) or YL_GRAD_F32 */
  const yl_rules *rules;  /* changes to the loss, or NULL: keras-yolo3's loss */
} yl_config;

#define YL_CONFIG_INIT {sizeof(yl_config), 0, 0, 0, 0, 0, 0, 0, 0.5f, 1, 0, 0, 0, 0, 0, 0, 0, 0}

/* A plan holds what is costly to set up: the checked config, the workspace and the threads. Plans of different configs
   are independent.

   Making a plan reads these environment variables. An empty value counts as unset, and any other value than those
   listed is YL_INVALID_ARGUMENT:
     YOLOLOSS_THREADS  1..1024: the number of threads if yl_config.threads is 0; if unset, one thread for each processor
                       that this process may use, at most 1024
     YOLOLOSS_ISA      baseline, avx2 or avx512 (only baseline if the processor is not x86-64): the cpu device uses no
                       wider instruction set than this; if unset, it uses the widest that the processor has
     YOLOLOSS_DEBUG    1 enables the check of YL_GRAD_REFRESH buffers (slow: it reads all of grads); 0 or unset
                       disables it */
typedef struct yl_plan yl_plan;

/* Checks the config and makes a plan in *plan, which the caller must pass to yl_plan_destroy. On failure *plan is NULL.
   The workspace takes about 32 bytes, and 4 more for every 32 classes, for each cell of max_batch images, in the memory
   of the device that computes the loss. In host memory this is only reserved: the operating system provides the part
   that holds objects when it is first written. The cpu device takes about 40 bytes more for each cell of one image, and
   28 for each of its threads; the reference device a row of 5 + C values for each cell of one image. A cuda plan with
   host memory also allocates chunk buffers, on the device and in pinned host memory.
   Errors: YL_INVALID_ARGUMENT, YL_UNSUPPORTED, YL_NO_DEVICE, YL_OUT_OF_MEMORY, YL_DEVICE_FAILED.
   Threads: any. */
YL_API yl_status yl_plan_create(const yl_config *config, yl_plan **plan);

/* Stops the threads of a plan and frees it. A cuda plan first waits for the calls that yl_loss_async has enqueued. It
   does not know of replays of graphs that hold its calls: these must have been executed, and none may follow. NULL is
   allowed.
   Threads: any, but no other call may use the plan while this runs, or afterwards. */
YL_API void yl_plan_destroy(yl_plan *plan);

/* Returns the name of the plan's device: "reference", "cpu" or "cuda:0", with the number of the CUDA device. The text
   is valid as long as the plan; NULL gives "".
   Threads: any, also during a call on the plan. */
YL_API const char *yl_device_name(const yl_plan *plan);

/* Returns one line that says why the plan uses its device, and with which arithmetic. The text is valid as long as the
   plan; NULL gives "".
   Threads: any, also during a call on the plan. */
YL_API const char *yl_device_why(const yl_plan *plan);

/* Checks whether a plan can be made on a device, and returns YL_OK if so. device_index is the number of a CUDA device
   and must be 0 for other devices.
   Errors: YL_NO_DEVICE if the device cannot be used, with the reason in yl_last_error(); YL_INVALID_ARGUMENT if device
   is not one of YL_DEVICE_..., or device_index is not 0 and device is not YL_DEVICE_CUDA.
   Threads: any. */
YL_API yl_status yl_device_check(int32_t device, int32_t device_index);

/* 5  Truths
   ---------

   Truths are given to a call either as boxes or as dense y_true, the arrays that keras-yolo3's data generator makes.
   Boxes give the same bits as the dense y_true that yl_build_y_true makes from them, and save its memory. A cell of
   dense y_true is an object if its mask is not 0; the values of other cells are not read (except with YL_SCAN_ALL). */

/* The policy for a row of boxes that is not a valid object: a coordinate or class is not finite, the box has no area
   (x_max <= x_min or y_max <= y_min), the class is not a whole number in 0..C-1, the size is too large for float32, the
   centre lies outside the input, or its weight is not a finite number >= 0. (keras-yolo3 crashes, wraps round to
   another cell, or lets the NaN into the loss.)

   YL_BOXES_ERROR also refuses boxes that look normalised, that is, like fractions of the input instead of pixels: at
   least one row of an image is used, every coordinate of every used row of the image is in 0..1, and at least one is
   not a whole number. Such boxes would be valid objects, all in the first cell. This is checked in host memory only. */
enum {
  YL_BOXES_ERROR = 0, /* the call fails with YL_INVALID_BOXES, naming image and row; nothing has been written. An
                         enqueued call reports it in yl_completion */
  YL_BOXES_SKIP = 1,  /* the row is left out and counted as skipped */
  YL_BOXES_CLAMP = 2  /* a row whose centre lies outside the input, or that is too large for float32, is cut to the
                         input and counted as clamped. If it is still not a valid object, it is skipped, as is any other
                         invalid row. A NaN never becomes a box */
};

/* Truths as boxes. There is no upper limit on their number: no table can overflow. */
typedef struct yl_boxes {
  size_t struct_size;   /* sizeof(yl_boxes), set by YL_BOXES_INIT */
  const float *data;    /* (B, per_image, 5), see section 1; may be NULL if per_image is 0 */
  int32_t per_image;    /* T >= 0, the number of rows for each image */
  int32_t policy;       /* YL_BOXES_...; default YL_BOXES_ERROR */
  const float *weights; /* (B, per_image), or NULL: all 1. The weight v of the row's object (the score of mixup), finite
                           and >= 0; any other value makes the row invalid. Of rows that share a cell, the last
                           one's counts */
} yl_boxes;

#define YL_BOXES_INIT {sizeof(yl_boxes), 0, 0, 0, 0}

/* Counts the boxes of a call by their outcome. used + skipped is the number of rows whose coordinates are not all 0. */
typedef struct yl_box_counts {
  int64_t used;     /* rows that are valid objects, after clamping */
  int64_t skipped;  /* rows left out by YL_BOXES_SKIP or YL_BOXES_CLAMP */
  int64_t clamped;  /* used rows that YL_BOXES_CLAMP has cut to the input */
  int64_t dropped;  /* used rows whose best anchor belongs to no layer, so that they have no truth */
  int64_t collided; /* used rows that took a cell which an earlier row of the same image already had */
} yl_box_counts;

/* 6  The call and its result
   -------------------------- */

/* The divisor of the raw sums of the loss and of the gradient. */
enum {
  YL_NORMALISER_BATCH = 0,   /* B, as in keras-yolo3 */
  YL_NORMALISER_NONE = 1,    /* 1 */
  YL_NORMALISER_OBJECTS = 2, /* the number of objects of the call, at least 1 */
  YL_NORMALISER_VALUE = 3    /* yl_call.normaliser_value, for a batch that is spread over several calls */
};

/* How grads are written. */
enum {
  YL_GRAD_OVERWRITE = 0, /* every element is written; the previous content does not matter */
  YL_GRAD_REFRESH = 1,   /* the result of OVERWRITE with fewer writes, for gradient buffers that are reused. Requires
                            that grads are the buffers of this plan's last call with a gradient, unchanged since, and
                            that they were written for at least as many images. Only the objectness channel, the rows of
                            objects and the rows of the last call's objects need be written (more is, where that is
                            faster). grads[l] must not be feats[l]. YL_INVALID_ARGUMENT if the buffers are not those of
                            the last call, were written for fewer images, hold a sum (ACCUMULATE), or if the last call
                            failed with YL_DEVICE_FAILED, or on a cuda plan with YL_OUT_OF_MEMORY. Changed content is
                            not detected, except in host memory with YOLOLOSS_DEBUG=1; that an enqueued call wrote
                            nothing, because its boxes were refused, is never detected */
  YL_GRAD_ACCUMULATE = 2 /* grads += gradient, each sum rounded to the type of grads: for the losses of several heads
                            and for micro-batches. Only the objectness channel and the rows of objects are touched,
                            since the gradient is 0 elsewhere. grads[l] must not be feats[l] */
};

/* Which values are checked for yl_parts.non_finite and yl_result.offender. */
enum {
  YL_SCAN_USED = 0, /* the values that count: masks and objectness of all cells, all channels of objects */
  YL_SCAN_ALL = 1   /* every value of feats and y_true; reads all of their memory, to search for the source of a NaN */
};

/* One call. Exactly one of y_true and boxes must be given. */
typedef struct yl_call {
  size_t struct_size;         /* sizeof(yl_call), set by YL_CALL_INIT */
  const void *const *feats;   /* L pointers to the raw outputs, see section 1 */
  const float *const *y_true; /* L pointers to dense truths, or NULL if boxes are given */
  const yl_boxes *boxes;      /* truths as boxes, or NULL if y_true is given */
  void *const *grads;         /* L pointers to the gradients, or NULL: loss only. grads[l] may be exactly feats[l]; any
                                 other overlap of an output with another array is YL_INVALID_ARGUMENT */
  int32_t batch;              /* B, 1..max_batch */
  int32_t grad_mode;          /* YL_GRAD_...; default YL_GRAD_OVERWRITE */
  int32_t normaliser;         /* YL_NORMALISER_...; default YL_NORMALISER_BATCH */
  int32_t scan;               /* YL_SCAN_...; default YL_SCAN_USED */
  double normaliser_value;    /* used by YL_NORMALISER_VALUE; finite and > 0 with every normaliser; default 1 */
  double grad_scale;          /* factor of the gradient (upstream gradient, loss scale), finite; default 1 */
  const float *normaliser_at; /* NULL, or one float that a cuda plan reads, instead of normaliser_value, when the
                                 kernels run: in memory that the device can reach, with YL_NORMALISER_VALUE. The value
                                 is not checked. Other devices: YL_INVALID_ARGUMENT */
  const float *grad_scale_at; /* NULL, or one float that a cuda plan reads, instead of grad_scale, when the kernels run:
                                 in memory that the device can reach. The value is not checked. Other devices:
                                 YL_INVALID_ARGUMENT */
} yl_call;

#define YL_CALL_INIT {sizeof(yl_call), 0, 0, 0, 0, 0, 0, 0, 0, 1.0, 1.0, 0, 0}

/* Sums and counts: of one image in one layer (a row, raw sums), or of one layer (sums divided by the normaliser; counts
   are never divided). The confidence part of keras-yolo3 is confidence_object + confidence_background. */
typedef struct yl_parts {
  double xy;                    /* loss of the centres of objects */
  double wh;                    /* loss of the sizes of objects */
  double confidence_object;     /* loss of the objectness of objects (m != 0) */
  double confidence_background; /* loss of the objectness of background (m = 0) */
  double class_;                /* loss of the classes of objects */
  int64_t objects;              /* cells with m != 0 */
  int64_t ignored;              /* cells with k = 0, objects included */
  int64_t ignored_background;   /* cells with k = 0 and m = 0 */
  int64_t non_finite;           /* NaN and infinities among the masks and objectness logits of all cells and the other
                                   values of objects (four box logits, class logits, truths); with YL_SCAN_ALL, among
                                   all values of feats and y_true */
  int64_t found_inf;            /* elements of the gradient that this call wrote as NaN or infinity in the type of
                                   grads: reveals a loss scale that is too large */
} yl_parts;

/* The result of the whole call. Counts are sums over all images and layers. */
typedef struct yl_summary {
  double total;               /* the loss: the sum of all parts of all layers, divided by the normaliser */
  double normaliser;          /* what the sums were divided by */
  int64_t objects;            /* cells with m != 0 */
  int64_t ignored;            /* cells with k = 0, objects included */
  int64_t ignored_background; /* cells with k = 0 and m = 0 */
  int64_t non_finite;         /* as yl_parts.non_finite; 0 means that every value that counts was finite */
  int64_t found_inf;          /* as yl_parts.found_inf; if above 0, a loss scaler skips the step and lowers the scale */
  yl_box_counts boxes;        /* the outcomes of the boxes; all 0 for dense y_true */
} yl_summary;

/* The outcome of a call of yl_loss_async. */
typedef struct yl_completion {
  int32_t status;   /* YL_OK, or YL_INVALID_BOXES: then nothing else has been written */
  int32_t image;    /* image of the first row of boxes that YL_BOXES_ERROR refuses; -1 if there is none */
  int32_t row;      /* number of that row within its image; -1 if there is none */
  int32_t reserved; /* 0 */
} yl_completion;

/* Statistics of one layer. All are sums over the images of the call, so those of the shards of a batch can be added.
   For a mean, divide by objects or background where that is not 0. */
typedef struct yl_stats {
  int64_t objects;              /* cells with m != 0 */
  int64_t background;           /* cells with m = 0 */
  double iou;                   /* IoU of each object's prediction with its own truth; NaN counts as 0 */
  int64_t iou_50;               /* objects whose IoU is above 0.5 */
  int64_t iou_75;               /* objects whose IoU is above 0.75 */
  double objectness_object;     /* sigmoid(to) of objects */
  double objectness_background; /* sigmoid(to) of background */
  double grad_xy;               /* squares of the gradient's elements for tx and ty, grad_scale/normaliser included,
                                   before they are rounded to f16 or bf16 or added to grads; the square root is the
                                   norm. 0 without grads */
  double grad_wh;               /* squares of the gradient's elements for tw and th, like grad_xy */
  double grad_object;           /* squares of the gradient's elements for the objectness of objects, like grad_xy */
  double grad_background;       /* squares of the gradient's elements for the objectness of background, like grad_xy */
  double grad_class;            /* squares of the gradient's elements for the class logits, like grad_xy */
} yl_stats;

/* Why a loss or gradient is not finite. */
enum {
  YL_CAUSE_NONE = 0,    /* nothing was found */
  YL_CAUSE_FEATS = 1,   /* a logit is not finite */
  YL_CAUSE_TRUTH = 2,   /* a value of y_true is not finite, or an object's width or height is <= 0 (its logarithm is not
                           finite) */
  YL_CAUSE_OVERFLOW = 3 /* the input is finite, but its loss is not, or its gradient is not in the type of grads */
};

/* The first value, in the order of image, layer, row, column, anchor, channel, that makes the loss or the gradient NaN
   or infinite, or that would do so if it counted (YL_SCAN_ALL). */
typedef struct yl_offender {
  int32_t cause;    /* YL_CAUSE_...; with YL_CAUSE_NONE all other fields are 0 */
  int32_t image;    /* 0..B-1 */
  int32_t layer;    /* 0..L-1 */
  int32_t row;      /* row of the grid, 0..H-1 */
  int32_t column;   /* column of the grid, 0..W-1 */
  int32_t anchor;   /* anchor of the layer, 0..A-1 */
  int32_t channel;  /* 0..4+C: tx, ty, tw, th, objectness, classes */
  int32_t reserved; /* 0 */
  double value;     /* YL_CAUSE_FEATS, YL_CAUSE_OVERFLOW: the logit; YL_CAUSE_TRUTH: the value of y_true */
  double gradient;  /* YL_CAUSE_OVERFLOW: the channel's gradient before it is rounded to the type of grads; else 0 */
} yl_offender;

/* Where a call writes its result: caller-owned memory, each part optional (NULL). A call that is refused leaves it
   unchanged; after YL_DEVICE_FAILED, or YL_OUT_OF_MEMORY of a cuda plan, its content is undefined. summary, layers,
   rows, stats and offender are host memory for yl_loss, and memory that the device can write (its own, pinned or
   managed) for yl_loss_async; the arrays of the three maps are in the plan's memory, as feats are. stats, offender and
   the maps cost time if they are requested, and nothing if they are not. */
typedef struct yl_result {
  size_t struct_size;        /* sizeof(yl_result), set by YL_RESULT_INIT */
  yl_summary *summary;       /* one summary */
  yl_parts *layers;          /* (L), sums divided by the normaliser */
  yl_parts *rows;            /* (B, L), raw sums; the row of image b and layer l is rows[b*L + l]. The rows of the
                                shards of a batch can be added, exactly by yl_sum_add */
  yl_completion *completion; /* one, for yl_loss_async only; must be NULL for yl_loss, which returns its status */
  yl_stats *stats;           /* (L) statistics */
  yl_offender *offender;     /* one: the first value that is not finite */
  float *const *ignore_mask; /* L pointers to (B, H, W, A), with YL_NCHW (B, A, H, W): the ignore factor k, 0 or 1 */
  float *const *best_iou;    /* L pointers to (B, H, W, A), with YL_NCHW (B, A, H, W): the largest IoU of the prediction
                                with a truth of the ignore scope. A NaN IoU counts as 0; 0 if there is no truth */
  float *const *cell_loss;   /* L pointers to (B, H, W, A), with YL_NCHW (B, A, H, W): the sum of the cell's parts,
                                weighted, not divided by the normaliser */
} yl_result;

#define YL_RESULT_INIT {sizeof(yl_result), 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* Computes the loss, and the gradient if call->grads is given. Section 7 has the formulas. Returns when everything is
   written. result may be NULL if only the gradient is needed. Allocates no memory, except that a cuda plan with host
   memory enlarges its buffers for host boxes that need more space than those of any call before.

   With YL_MEMORY_DEVICE the call is ordered behind what was enqueued on the legacy default stream; synchronise with
   other streams first, or use yl_loss_async. Pointers are checked: each must be memory of the plan's device, or memory
   that the device can reach. A pointer to memory of the device itself is checked only if it differs from the one in the
   plan's previous call. Boxes are checked on the device.

   Errors: YL_INVALID_ARGUMENT, YL_INVALID_BOXES, YL_UNSUPPORTED; then nothing has been written. On a cuda plan also
   YL_DEVICE_FAILED, and YL_OUT_OF_MEMORY if buffers cannot be enlarged.
   Threads: any; waits while another call uses the plan. */
YL_API yl_status yl_loss(yl_plan *plan, const yl_call *call, const yl_result *result);

/* 7  Formulas and numerics
   ------------------------

   For a cell at (row, column) with anchor size aw x ah in input pixels, logits t, truth y, and input size IW x IH:

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
               (ty and th as tx and tw, with gy and gh)

   yl_rules change loss and gradient as follows; v is the weight of the object's box, 1 for dense truths:
     xy is multiplied by weight_xy*v, and wh by weight_wh*v
     confidence is multiplied by weight_object*v for an object, and by weight_background for background
     class c is multiplied by weight_class*v*class_weights[c], and its y_c becomes y_c*(1-e) + e/2, e = label_smoothing
     k uses the layer's own ignore_threshes, and with YL_SCOPE_IMAGE the objects of all layers of the image

   Differences from keras-yolo3. All concern values that are not finite, or a size e^t that overflows:
     - A prediction or truth whose IoU is NaN counts as no overlap; keras-yolo3 ignores the cell.
     - An ignored background cell contributes exactly 0.
     - Class logits of background cells have no effect, nor have box logits of background cells that no truth can reach.
   yl_parts.non_finite says which values that are not finite are counted. The effect of one logit of a background cell
   that is not ignored:

     logit                     here: loss   gradient there     keras-yolo3: loss   gradient there
     objectness NaN            NaN          NaN                NaN                 NaN
     objectness +-infinity     NaN          finite             NaN                 finite
     tx, ty NaN / infinite     finite       0                  NaN                 NaN / 0
     tw, th NaN or infinite    finite       0                  NaN                 NaN
     tw, th 1e20               finite       0                  NaN (0*infinity)    0
     class NaN / infinite      finite       0                  NaN                 NaN / 0

   Determinism. The cpu device computes each cell in float32 (YL_F64: in double) and adds in double, in a fixed order:
   the same input gives the same bits for any number of threads and any position of an image in the batch. The cuda
   device does the same: on one kind of device, the same input gives the same bits for any position of an image in the
   batch, in every run and on every stream. The bits of the cuda device are not those of the cpu device, nor are those
   of one instruction set of the cpu device those of another. On every device truths as boxes give the bits of the dense
   y_true that they stand for.

   Rounding error, on every device and instruction set. Let r = 2^-24 (2^-53 for YL_F64 and for the reference device),
   and S the sum of the magnitudes of the numbers that a value is made of; in a difference such as y_x*W - column both
   operands count.
     - The loss of a cell, and an element of the gradient before it is rounded to 16 bits, are within 4*r*S of the exact
       value, so two devices or instruction sets differ by at most 8*r*S.
     - Numbers below 2^-100 (2^-960 for YL_F64 and the reference device) may count as zero.
     - A gradient of 16 bits is the float32 gradient, rounded to nearest even.
     - Adding up n cells adds an error of at most n * 2^-53 times the sum of their magnitudes. */

/* 8  Decoding and dense truths
   ---------------------------- */

/* Outputs of yl_yolo_head for one layer: caller-owned float32 arrays, each optional (NULL). */
typedef struct yl_head {
  size_t struct_size;     /* sizeof(yl_head), set by YL_HEAD_INIT */
  const void *feats;      /* the raw outputs of the layer, B images, in the plan's type and layout */
  float *grid;            /* (H, W, 1, 2): column and row of each grid position */
  float *box_xy;          /* (B, H, W, A, 2): centre as a fraction of the input */
  float *box_wh;          /* (B, H, W, A, 2): width and height as fractions of the input */
  float *box_confidence;  /* (B, H, W, A, 1): sigmoid of the objectness logit */
  float *box_class_probs; /* (B, H, W, A, C): sigmoid of the class logits */
  int32_t layer;          /* 0..L-1 */
  int32_t batch;          /* B, 1..max_batch */
} yl_head;

#define YL_HEAD_INIT {sizeof(yl_head), 0, 0, 0, 0, 0, 0, 0, 1}

/* Decodes the raw outputs of one layer as keras-yolo3's yolo_head does. Outputs must not overlap each other or feats;
   all arrays are in the plan's memory. Returns when everything is written.
   Errors: YL_INVALID_ARGUMENT, YL_UNSUPPORTED; then nothing has been written. On a cuda plan also those of yl_loss.
   Threads: any; waits while another call uses the plan. */
YL_API yl_status yl_yolo_head(yl_plan *plan, const yl_head *head);

/* Writes the dense truths of boxes, as keras-yolo3's preprocess_true_boxes does. y_true is L pointers to (batch, H, W,
   A, 5+C) float32 arrays in the plan's memory, every element of which is written; batch is 1..max_batch. counts, in
   host memory, may be NULL. boxes->weights must be NULL, since y_true has no field for weights. For each row of boxes,
   in order:
     1. centre = floor((min+max)/2), size = max-min; both are divided by the input's size, rounded once to float32;
     2. of all anchors, the first with the largest IoU at a common centre is chosen;
     3. every layer whose anchor_mask holds that anchor gets the box at column floor(x*W), row floor(y*H), where the
        products are computed in double;
     4. there x, y, w, h are set, and the mask and the flag of the class become 1. A later box of the same cell replaces
        the coordinates; class flags stay, so that two may be set.
   Errors: those of yl_loss.
   Threads: any; waits while another call uses the plan. */
YL_API yl_status yl_build_y_true(yl_plan *plan, int32_t batch, const yl_boxes *boxes, float *const *y_true,
                                 yl_box_counts *counts);

/* 9  Advanced: asynchronous calls, device memory, exact sums, audit
   -----------------------------------------------------------------

   Statistics, the first value that is not finite, and maps of cells are parts of yl_result (section 6). */

/* 9.1  Asynchronous calls */

/* Enqueues what yl_loss computes on a stream, without waiting. Needs a cuda plan with YL_MEMORY_DEVICE. stream is a
   cudaStream_t or CUstream of the plan's context (section 9.2); NULL is the legacy default stream. The call is one
   kernel or two, with no copy and no allocation, so it can be captured in a CUDA graph and replayed. Before the plan is
   destroyed, or memory that the graph uses is freed, the caller must wait for the last replay.

   Structs and arrays of pointers are read before the function returns; the memory that they point to must stay valid
   until the stream has executed the call. Calls on one plan, replays of its graphs included, must follow each other on
   the device: use one stream, or order the streams by events.

   Errors: those of yl_loss that can be found without reading device memory, and YL_UNSUPPORTED for any other plan. A
   row of boxes that the policy refuses is reported in result->completion.
   Threads: any; waits while another call uses the plan, but not for the device. */
YL_API yl_status yl_loss_async(yl_plan *plan, const yl_call *call, void *stream, const yl_result *result);

/* 9.2  Device memory and streams

   For callers that have no binding of the device's own runtime. Memory and streams may be shared with that runtime: its
   functions may use and free them too.

   Contexts: every function leaves the calling thread's current CUDA context as it was. It works in that context if it
   is on the device that the function is about, else in the primary context of that device; a plan stays in the context
   in which it was made. No context is created on any other device. Pinned memory belongs to the current context, else
   to a device that has a primary context, else to device 0.

   Captures: another thread may capture a stream, in any mode, while a function runs. However, yl_plan_create,
   yl_device_copy and everything on stream NULL use the legacy default stream, which CUDA does not allow while a stream
   without cudaStreamNonBlocking is captured: the function fails with YL_DEVICE_FAILED, and the capture ends.

   device is the kind of device: YL_DEVICE_CUDA. A kind that works on host memory (YL_DEVICE_CPU, YL_DEVICE_REFERENCE)
   has no memory and streams of its own: YL_UNSUPPORTED. Without a usable device the status is YL_NO_DEVICE, and
   yl_last_error() gives the reason.
   Errors of every function of this section: YL_INVALID_ARGUMENT, YL_UNSUPPORTED, YL_NO_DEVICE, YL_OUT_OF_MEMORY,
   YL_DEVICE_FAILED.
   Threads: any. */

/* Properties of a device. */
typedef struct yl_device_properties {
  size_t struct_size;         /* sizeof(yl_device_properties), set by YL_DEVICE_PROPERTIES_INIT */
  int64_t total_memory;       /* bytes of device memory */
  int64_t free_memory;        /* bytes of device memory that are free now */
  int32_t compute_capability; /* CUDA: 10 * major + minor, such as 90 for an H200 */
  int32_t multiprocessors;    /* number of multiprocessors */
  char name[256];             /* name of the device, ended by a zero byte */
} yl_device_properties;

#define YL_DEVICE_PROPERTIES_INIT {sizeof(yl_device_properties), 0, 0, 0, 0, {0}}

/* Sets *count to the number of usable devices of a kind; they are numbered from 0. If none can be used, *count is 0 and
   the status is YL_NO_DEVICE. */
YL_API yl_status yl_device_count(int32_t device, int32_t *count);

/* Writes the properties of a device; properties must be initialised by YL_DEVICE_PROPERTIES_INIT. */
YL_API yl_status yl_device_get_properties(int32_t device, int32_t device_index, yl_device_properties *properties);

/* Allocates bytes >= 1 of memory of a device, aligned to 256 bytes. On failure *memory is NULL. */
YL_API yl_status yl_device_malloc(int32_t device, int32_t device_index, int64_t bytes, void **memory);

/* Frees memory that yl_device_malloc returned, after the calls that yl_loss_async has enqueued have been executed. The
   caller must wait for whatever else uses it: copies, kernels of its own, replays of graphs. NULL is allowed. */
YL_API yl_status yl_device_free(int32_t device, void *memory);

/* Allocates bytes >= 1 of pinned host memory, which every device of the kind can reach. On failure *memory is NULL. */
YL_API yl_status yl_device_malloc_host(int32_t device, int64_t bytes, void **memory);

/* Frees memory that yl_device_malloc_host returned, with the same order as yl_device_free. NULL is allowed. */
YL_API yl_status yl_device_free_host(int32_t device, void *memory);

/* Copies bytes >= 1 between any of host, pinned and device memory, ordered behind the legacy default stream. Returns
   when the copy is done. */
YL_API yl_status yl_device_copy(int32_t device, int32_t device_index, void *to, const void *from, int64_t bytes);

/* Enqueues a copy of bytes >= 1 between any of host, pinned and device memory on a stream of device_index; NULL is its
   legacy default stream. Both memories must stay valid until the stream has executed the copy. */
YL_API yl_status yl_device_copy_async(int32_t device, int32_t device_index, void *to, const void *from, int64_t bytes,
                                      void *stream);

/* Creates a stream that does not wait for the legacy default stream. On failure *stream is NULL. */
YL_API yl_status yl_stream_create(int32_t device, int32_t device_index, void **stream);

/* Destroys a stream and returns at once; what is enqueued on it is still executed. NULL is allowed. */
YL_API yl_status yl_stream_destroy(int32_t device, int32_t device_index, void *stream);

/* Returns when all that was enqueued on a stream has been executed. NULL is the legacy default stream of
   device_index. */
YL_API yl_status yl_stream_synchronize(int32_t device, int32_t device_index, void *stream);

/* 9.3  Exact sums

   Adds the rows of any number of calls, threads, ranks and machines into one sum. The sum is exact, so that order and
   grouping change no bit, and it is rounded once, to nearest even, when yl_sum_result is called. The total may
   therefore differ in the last bits from yl_summary.total, whose sums are rounded at each addition.

   A sum is YL_SUM_WORDS(L) int64 in caller-owned host memory (8.7 kB for three layers), aligned to 8 bytes. All zero
   words are the sum of no rows. Two sums are merged by adding word to word: by yl_sum_merge, or by anything that adds
   int64 over a network, such as MPI_Allreduce with MPI_INT64_T and MPI_SUM, or ncclAllReduce with ncclInt64 and
   ncclSum, for up to 2^30 sums at once. Equal sums that a function below wrote are equal words, in files too (among
   machines of one byte order). Java's LossSum is made of the same words.
   Errors: YL_INVALID_ARGUMENT; then nothing has been written.
   Threads: any, but only one call at a time may use a sum. */
#define YL_SUM_WORDS(layer_count) (6 + 360 * (layer_count))

/* Adds batch images (0 or more) of rows, as yl_result.rows has them, and the counts of boxes unless boxes is NULL.
   layer_count is L, 1..4096; rows may be NULL if batch is 0. */
YL_API yl_status yl_sum_add(int64_t *sum, int32_t layer_count, const yl_parts *rows, int32_t batch,
                            const yl_box_counts *boxes);

/* Adds another sum of the same number of layers to sum. other may be sum itself. */
YL_API yl_status yl_sum_merge(int64_t *sum, int32_t layer_count, const int64_t *other);

/* Rounds a sum: writes the sums of each layer, divided by the normaliser, to layers (layer_count of them), and the
   result over all layers to summary. Either may be NULL; the sum is not changed. normaliser is YL_NORMALISER_...: BATCH
   stands for the number of all images that were added, at least 1. normaliser_value is used by YL_NORMALISER_VALUE, and
   must be finite and > 0 always. A sum that met both infinities, or a NaN, is NaN. */
YL_API yl_status yl_sum_result(const int64_t *sum, int32_t layer_count, int32_t normaliser, double normaliser_value,
                               yl_summary *summary, yl_parts *layers);

/* 9.4  Audit

   Finds what is wrong with truths, and how well boxes fit the anchors. The audit works on the host, whatever the plan's
   device (device memory is copied), and is not meant for every step: run it once for a data set, or when the counts of
   yl_summary show that something is wrong. */

/* The reason of a finding. */
enum {
  /* Rows of boxes that are not valid objects: YL_BOXES_ERROR refuses a call for them. */
  YL_REASON_NOT_FINITE = 0, /* a coordinate, class or weight is NaN or infinite, or a weight is negative; value: it */
  YL_REASON_NO_AREA = 1,    /* x_max <= x_min or y_max <= y_min; value: the smaller side */
  YL_REASON_CLASS = 2,      /* the class is not a whole number in 0..C-1; value: the class */
  YL_REASON_TOO_LARGE = 3,  /* the size is too large for float32; value: the larger side */
  YL_REASON_OUTSIDE = 4,    /* the centre is outside the input; value: the coordinate that is outside, in pixels */
  /* Rows of boxes that are used. */
  YL_REASON_COLLISION = 5,   /* the row takes the cell of an earlier row, named by other; both classes stay set */
  YL_REASON_NO_LAYER = 6,    /* the best anchor belongs to no layer: the row has no truth; value: IoU with the anchor */
  YL_REASON_TWO_LAYERS = 7,  /* the best anchor belongs to several layers: the row has a truth in each; value: their
                                number */
  YL_REASON_POOR_ANCHOR = 8, /* the IoU with the best anchor is below poor_iou; value: the IoU */
  /* Objects of dense y_true. */
  YL_REASON_CENTRE = 9,  /* the centre is not in the object's cell; value: the coordinate that is not */
  YL_REASON_SIZE = 10,   /* the width or height is <= 0, NaN or infinite; value: it */
  YL_REASON_MASK = 11,   /* the mask is not in 0..1; value: the mask */
  YL_REASON_TARGET = 12, /* a class target is NaN or infinite; value: the target */
  /* All boxes of an image. */
  YL_REASON_NORMALISED = 13, /* the boxes look normalised, see YL_BOXES_ERROR, which refuses them in host memory. Found
                                once for an image, for its first used row; value: its first coordinate that is not 0 */
  YL_REASON_COUNT = 14       /* the number of reasons */
};

/* The action that a call of yl_loss with the same truths would take for the row or object. */
enum {
  YL_ACTION_KEPT = 0,    /* use it as it is */
  YL_ACTION_REFUSED = 1, /* fail with YL_INVALID_BOXES */
  YL_ACTION_SKIPPED = 2, /* leave it out */
  YL_ACTION_CLAMPED = 3, /* cut it to the input, and use it */
  YL_ACTION_DROPPED = 4  /* count it as used, but it has no truth */
};

/* One finding. */
typedef struct yl_finding {
  int32_t reason;      /* YL_REASON_... */
  int32_t action;      /* YL_ACTION_... */
  int32_t image;       /* 0..B-1 */
  int32_t row;         /* row of the image's boxes; -1 for y_true */
  int32_t other;       /* YL_REASON_COLLISION: the earlier row; else -1 */
  int32_t layer;       /* layer of the cell that the finding is about; -1 if there is none */
  int32_t grid_row;    /* row of that cell; -1 if there is none */
  int32_t grid_column; /* column of that cell; -1 if there is none */
  int32_t anchor;      /* boxes: the best anchor, an index into yl_config.anchors, -1 if there is none; y_true: anchor
                          of the layer, 0..A-1 */
  float value;         /* the offending value, see YL_REASON_...; 0 for YL_REASON_COLLISION */
} yl_finding;

/* Where an audit writes its result: caller-owned host memory, each part optional (NULL). */
typedef struct yl_audit_result {
  size_t struct_size;   /* sizeof(yl_audit_result), set by YL_AUDIT_RESULT_INIT */
  yl_finding *findings; /* (capacity): the first findings, in the order of images and rows or cells */
  int64_t capacity;     /* the number of findings that have room, >= 0; counts[] says how many there are */
  int64_t *counts;      /* (YL_REASON_COUNT): the number of findings of each reason, those without room included */
  int64_t *anchor_use;  /* (L, anchor_count): the number of rows, or objects of y_true, that use each anchor in each
                           layer */
  float *best_iou;      /* (B, T), not written for y_true: the IoU of each used row with its best anchor at a common
                           centre, the largest that a prediction of an anchor's size can reach; 0 for other rows */
} yl_audit_result;

#define YL_AUDIT_RESULT_INIT {sizeof(yl_audit_result), 0, 0, 0, 0, 0}

/* Checks boxes as a call with their policy would, or y_true (L pointers); exactly one of them must be given, in the
   plan's memory. A row or object can have several findings, which never make the function fail. batch is 1..max_batch.
   poor_iou is the threshold of YL_REASON_POOR_ANCHOR, in 0..1; 0 reports none.
   Errors: YL_INVALID_ARGUMENT, YL_UNSUPPORTED, YL_OUT_OF_MEMORY; with device memory also YL_DEVICE_FAILED. If the
   device cannot reach the memory (YL_INVALID_ARGUMENT), or on the last two errors, the content of result is undefined.
   Threads: any; waits while another call uses the plan. */
YL_API yl_status yl_audit(yl_plan *plan, int32_t batch, const float *const *y_true, const yl_boxes *boxes,
                          float poor_iou, const yl_audit_result *result);

/* 10  Versions
   ------------

   The version is written here only; CMake reads it. The ABI version changes when callers must be recompiled. */
#define YL_VERSION_MAJOR 0
#define YL_VERSION_MINOR 1
#define YL_VERSION_PATCH 0
#define YL_ABI_VERSION 4

/* Returns the version of the library that is loaded, such as "0.1.0". The text is static. */
YL_API const char *yl_version_string(void);

/* Returns the YL_ABI_VERSION of the library that is loaded. A program that loads the library at run time compares it
   with its own. */
YL_API int32_t yl_abi_version(void);

#ifdef __cplusplus
}
#endif
#endif
