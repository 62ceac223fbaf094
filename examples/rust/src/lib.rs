//! A safe wrapper of yololoss.h: lengths are checked here, lifetimes by the compiler, everything else by the library.
use std::ffi::CStr;
use std::ptr::null_mut;

/// The structs and constants of the header, written by the library's build, and the functions that are used here.
#[allow(non_camel_case_types, dead_code)]
mod raw {
    use std::ffi::c_char;
    include!(env!("YOLOLOSS_ABI"));
    extern "C" {
        pub fn yl_plan_create(config: *const yl_config, plan: *mut *mut yl_plan) -> i32;
        pub fn yl_plan_destroy(plan: *mut yl_plan);
        pub fn yl_device_name(plan: *const yl_plan) -> *const c_char;
        pub fn yl_loss(plan: *mut yl_plan, call: *const yl_call, result: *const yl_result) -> i32;
        pub fn yl_last_error() -> *const c_char;
        #[cfg(test)]
        pub fn yl_offset_of(name: *const c_char, field: *const c_char) -> i64;
    }
}

/// The parts of a layer, divided by the batch.
pub use raw::yl_parts as Parts;
/// The result of a call.
pub use raw::yl_summary as Summary;

/// A scale: rows and columns of its grid, and indices into the anchors.
pub struct Layer {
    pub height: usize,
    pub width: usize,
    pub anchor_mask: Vec<i32>,
}

/// A plan on the CPU, for float32 feats of (B, H, W, A*(5+C)). Not for two threads at once: calls need it alone.
pub struct Loss {
    plan: *mut raw::yl_plan,
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
                ..Default::default()
            });
            lengths.push(
                l.height
                    .saturating_mul(l.width)
                    .saturating_mul(l.anchor_mask.len())
                    .saturating_mul(classes.saturating_add(5)),
            );
        }
        let config = raw::yl_config {
            layers: structs.as_ptr(),
            anchors: anchors.as_ptr().cast(),
            layer_count: small(layers.len())?,
            anchor_count: small(anchors.len())?,
            input_height: small(input[0])?,
            input_width: small(input[1])?,
            num_classes: small(classes)?,
            max_batch: small(max_batch)?,
            ..Default::default()
        };
        let mut plan = null_mut();
        match unsafe { raw::yl_plan_create(&config, &mut plan) } {
            raw::YL_OK => Ok(Loss { plan, lengths, max_batch }),
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
        let rows = raw::yl_boxes { data: boxes.as_ptr().cast(), per_image, ..Default::default() };
        let call = raw::yl_call {
            feats: feats_at.as_ptr().cast(),
            boxes: &rows,
            grads: grads_at.as_ptr().cast(),
            batch: batch as i32,
            ..Default::default()
        };
        let mut summary = Summary::default();
        let mut layers = vec![Parts::default(); self.lengths.len()];
        let result = raw::yl_result { summary: &mut summary, layers: layers.as_mut_ptr(), ..Default::default() };
        match unsafe { raw::yl_loss(self.plan, &call, &result) } {
            raw::YL_OK => Ok((summary, layers)),
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
    use std::ptr::null;

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
        for (name, size, fields) in raw::layouts() {
            let name = CString::new(name).unwrap();
            assert_eq!(unsafe { raw::yl_offset_of(name.as_ptr(), null()) }, size as i64, "{name:?}");
            for (field, offset) in fields {
                let field = CString::new(field).unwrap();
                let at = unsafe { raw::yl_offset_of(name.as_ptr(), field.as_ptr()) };
                assert_eq!(at, offset as i64, "{name:?}.{field:?}");
            }
        }
    }
}
