//! A safe wrapper of yololoss.h: lengths are checked here, lifetimes by the compiler, everything else by the library.
use std::ffi::{c_char, c_void, CStr};
use std::ptr::{null, null_mut};

/// The structs of the header, field by field.
mod raw {
    use super::*;
    macro_rules! structs { ($($name:ident { $($field:ident: $type:ty),* $(,)? })*) => { $(
        #[repr(C)] #[derive(Clone, Copy)] pub struct $name { $(pub $field: $type),* }
        impl $name {
            /// Name, size, and offset of each field, for the test against the library.
            #[cfg(test)] pub fn layout() -> (&'static str, usize, Vec<(&'static str, usize)>) {
                (stringify!($name), std::mem::size_of::<Self>(), vec![$((stringify!($field), std::mem::offset_of!(Self, $field))),*])
            }
        }
    )* } }
    structs! {
        yl_layer { grid_height: i32, grid_width: i32, anchor_mask: *const i32, anchor_count: i32, reserved: i32 }
        yl_config {
            struct_size: usize, layers: *const yl_layer, anchors: *const f32, layer_count: i32, anchor_count: i32,
            input_height: i32, input_width: i32, num_classes: i32, ignore_thresh: f32, max_batch: i32, device: i32,
            device_index: i32, memory: i32, dtype: i32, layout: i32, threads: i32, grad_dtype: i32, rules: *const c_void,
        }
        yl_boxes { struct_size: usize, data: *const f32, per_image: i32, policy: i32, weights: *const f32 }
        yl_call {
            struct_size: usize, feats: *const *const f32, y_true: *const *const f32, boxes: *const yl_boxes,
            grads: *const *mut f32, batch: i32, grad_mode: i32, normaliser: i32, scan: i32, normaliser_value: f64,
            grad_scale: f64, normaliser_at: *const f32, grad_scale_at: *const f32,
        }
        yl_result {
            struct_size: usize, summary: *mut Summary, layers: *mut Parts, rows: *mut Parts, completion: *mut c_void,
            stats: *mut c_void, offender: *mut c_void, ignore_mask: *const *mut f32, best_iou: *const *mut f32,
            cell_loss: *const *mut f32,
        }
    }
    pub enum Plan {}
    extern "C" {
        pub fn yl_plan_create(config: *const yl_config, plan: *mut *mut Plan) -> i32;
        pub fn yl_plan_destroy(plan: *mut Plan);
        pub fn yl_device_name(plan: *const Plan) -> *const c_char;
        pub fn yl_loss(plan: *mut Plan, call: *const yl_call, result: *const yl_result) -> i32;
        pub fn yl_last_error() -> *const c_char;
        #[cfg(test)]
        pub fn yl_offset_of(name: *const c_char, field: *const c_char) -> i64;
    }
}

/// yl_parts: the parts of a layer, divided by the batch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts {
    pub xy: f64,
    pub wh: f64,
    pub confidence_object: f64,
    pub confidence_background: f64,
    pub class: f64,
    pub objects: i64,
    pub ignored: i64,
    pub ignored_background: i64,
    pub non_finite: i64,
    pub found_inf: i64,
}

/// yl_summary. boxes: used, skipped, clamped, dropped, collided.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub total: f64,
    pub normaliser: f64,
    pub objects: i64,
    pub ignored: i64,
    pub ignored_background: i64,
    pub non_finite: i64,
    pub found_inf: i64,
    pub boxes: [i64; 5],
}

/// A scale: rows and columns of its grid, and indices into the anchors.
pub struct Layer {
    pub height: usize,
    pub width: usize,
    pub anchor_mask: Vec<i32>,
}

/// A plan on the CPU, for float32 feats of (B, H, W, A*(5+C)). Not for two threads at once: calls need it alone.
pub struct Loss {
    plan: *mut raw::Plan,
    lengths: Vec<usize>,
    max_batch: usize,
}

unsafe impl Send for Loss {}

fn last_error() -> String {
    unsafe { CStr::from_ptr(raw::yl_last_error()) }.to_string_lossy().into_owned()
}

impl Loss {
    /// anchors: width and height in pixels of the input; input: height and width.
    pub fn new(
        layers: &[Layer],
        anchors: &[[f32; 2]],
        input: [usize; 2],
        classes: usize,
        max_batch: usize,
    ) -> Result<Self, String> {
        let small = |n: usize| i32::try_from(n).map_err(|_| format!("{n} is too large; less than 2^31 is expected"));
        let mut structs = Vec::new();
        let mut lengths = Vec::new();
        for l in layers {
            let (h, w, a) = (small(l.height)?, small(l.width)?, small(l.anchor_mask.len())?);
            structs.push(raw::yl_layer {
                grid_height: h,
                grid_width: w,
                anchor_mask: l.anchor_mask.as_ptr(),
                anchor_count: a,
                reserved: 0,
            });
            lengths.push(
                l.height
                    .saturating_mul(l.width)
                    .saturating_mul(l.anchor_mask.len())
                    .saturating_mul(classes.saturating_add(5)),
            );
        }
        let config = raw::yl_config {
            struct_size: std::mem::size_of::<raw::yl_config>(),
            layers: structs.as_ptr(),
            anchors: anchors.as_ptr().cast(),
            layer_count: small(layers.len())?,
            anchor_count: small(anchors.len())?,
            input_height: small(input[0])?,
            input_width: small(input[1])?,
            num_classes: small(classes)?,
            ignore_thresh: 0.5,
            max_batch: small(max_batch)?,
            device: 0,
            device_index: 0,
            memory: 0,
            dtype: 0,
            layout: 0,
            threads: 0,
            grad_dtype: 0,
            rules: null(),
        };
        let mut plan = null_mut();
        match unsafe { raw::yl_plan_create(&config, &mut plan) } {
            0 => Ok(Loss { plan, lengths, max_batch }),
            _ => Err(last_error()),
        }
    }

    pub fn device(&self) -> String {
        unsafe { CStr::from_ptr(raw::yl_device_name(self.plan)) }.to_string_lossy().into_owned()
    }

    /// The loss of a batch, and its gradient into grads. boxes: the same number for each image, x_min, y_min, x_max, y_max
    /// in pixels of the input, class; unused rows are zero.
    pub fn compute(
        &mut self,
        batch: usize,
        feats: &[&[f32]],
        boxes: &[[f32; 5]],
        grads: &mut [&mut [f32]],
    ) -> Result<(Summary, Vec<Parts>), String> {
        if batch == 0 || batch > self.max_batch || boxes.len() % batch != 0 {
            return Err(format!(
                "batch is {batch} with {} boxes; 1..{} and the same number of boxes for each image are expected",
                boxes.len(),
                self.max_batch
            ));
        }
        let wanted: Vec<usize> = self.lengths.iter().map(|n| n * batch).collect();
        if feats.iter().map(|f| f.len()).ne(wanted.iter().copied())
            || grads.iter().map(|g| g.len()).ne(wanted.iter().copied())
        {
            return Err(format!("feats or grads are not slices of {wanted:?} values, one for each layer"));
        }
        let feats_at: Vec<*const f32> = feats.iter().map(|f| f.as_ptr()).collect();
        let grads_at: Vec<*mut f32> = grads.iter_mut().map(|g| g.as_mut_ptr()).collect();
        let per_image = i32::try_from(boxes.len() / batch).map_err(|_| "too many boxes".to_string())?;
        let rows = raw::yl_boxes {
            struct_size: std::mem::size_of::<raw::yl_boxes>(),
            data: boxes.as_ptr().cast(),
            per_image,
            policy: 0,
            weights: null(),
        };
        let call = raw::yl_call {
            struct_size: std::mem::size_of::<raw::yl_call>(),
            feats: feats_at.as_ptr(),
            y_true: null(),
            boxes: &rows,
            grads: grads_at.as_ptr(),
            batch: batch as i32,
            grad_mode: 0,
            normaliser: 0,
            scan: 0,
            normaliser_value: 1.0,
            grad_scale: 1.0,
            normaliser_at: null(),
            grad_scale_at: null(),
        };
        let mut summary = Summary::default();
        let mut layers = vec![Parts::default(); self.lengths.len()];
        let result = raw::yl_result {
            struct_size: std::mem::size_of::<raw::yl_result>(),
            summary: &mut summary,
            layers: layers.as_mut_ptr(),
            rows: null_mut(),
            completion: null_mut(),
            stats: null_mut(),
            offender: null_mut(),
            ignore_mask: null(),
            best_iou: null(),
            cell_loss: null(),
        };
        match unsafe { raw::yl_loss(self.plan, &call, &result) } {
            0 => Ok((summary, layers)),
            _ => Err(last_error()),
        }
    }
}

impl Drop for Loss {
    fn drop(&mut self) {
        unsafe { raw::yl_plan_destroy(self.plan) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    fn one_cell(max_batch: usize) -> Result<Loss, String> {
        Loss::new(&[Layer { height: 2, width: 2, anchor_mask: vec![0] }], &[[16.0, 16.0]], [32, 32], 1, max_batch)
    }

    #[test]
    fn one_object() {
        // Centre (10, 10), size 16: s = 1.75; xy = 3.5 ln 2, wh = 0, class = ln 2; the gradient of its class is -1/2.
        let mut grad = [f32::NAN; 24];
        let (summary, parts) =
            one_cell(1).unwrap().compute(1, &[&[0.0; 24]], &[[2.0, 2.0, 18.0, 18.0, 0.0]], &mut [&mut grad]).unwrap();
        assert_eq!(summary.objects, 1);
        assert!((parts[0].xy - 3.5 * 2f64.ln()).abs() < 1e-6 && parts[0].wh.abs() < 1e-6, "{parts:?}");
        assert!((grad[4] + 0.5).abs() < 1e-6 && (grad[5] + 0.5).abs() < 1e-6, "{grad:?}");
    }

    #[test]
    fn refusals() {
        assert!(one_cell(0).err().unwrap().contains("max_batch is 0"));
        let mut loss = one_cell(1).unwrap();
        let mut grad = [0.0; 24];
        let mut says = |batch, feats: &[f32], class, words| {
            let error = loss.compute(batch, &[feats], &[[2.0, 2.0, 18.0, 18.0, class]], &mut [&mut grad]).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        says(1, &[0.0; 23], 0.0, "slices of [24] values");
        says(2, &[0.0; 24], 0.0, "batch is 2");
        says(1, &[0.0; 24], 7.0, "row 0");
    }

    #[test]
    fn structs_are_those_of_the_library() {
        use raw::*;
        for (name, size, fields) in
            [yl_layer::layout(), yl_config::layout(), yl_boxes::layout(), yl_call::layout(), yl_result::layout()]
        {
            let name = CString::new(name).unwrap();
            assert_eq!(unsafe { yl_offset_of(name.as_ptr(), null()) }, size as i64, "{name:?}");
            for (field, offset) in fields {
                let field = CString::new(field).unwrap();
                assert_eq!(unsafe { yl_offset_of(name.as_ptr(), field.as_ptr()) }, offset as i64, "{name:?}.{field:?}");
            }
        }
        for (name, size) in [("yl_parts", std::mem::size_of::<Parts>()), ("yl_summary", std::mem::size_of::<Summary>())]
        {
            let name = CString::new(name).unwrap();
            assert_eq!(unsafe { yl_offset_of(name.as_ptr(), null()) }, size as i64);
        }
    }
}
