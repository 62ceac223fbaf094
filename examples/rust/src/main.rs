//! Gradient descent on the logits themselves, until two boxes are "predicted".
use yololoss::{Layer, Loss};

fn main() -> Result<(), String> {
    let layers = [
        Layer { height: 4, width: 4, anchor_mask: vec![3, 4, 5] },
        Layer { height: 8, width: 8, anchor_mask: vec![0, 1, 2] },
    ];
    let anchors = [[10.0, 14.0], [23.0, 27.0], [37.0, 58.0], [81.0, 82.0], [100.0, 60.0], [60.0, 100.0]];
    let boxes = [[8.0, 10.0, 90.0, 100.0, 0.0], [70.0, 70.0, 95.0, 100.0, 2.0]];
    let mut loss = Loss::new(&layers, &anchors, [128, 128], 3, 1)?;
    let mut feats = [vec![0f32; 4 * 4 * 24], vec![0f32; 8 * 8 * 24]];
    let mut grads = feats.clone();
    let mut first = f64::NAN;
    for step in 0..=200 {
        let [feats0, feats1] = &feats;
        let [grad0, grad1] = &mut grads;
        let (summary, parts) = loss.compute(1, &[feats0, feats1], &boxes, &mut [grad0, grad1])?;
        if step == 0 {
            first = summary.total;
        }
        if step % 50 == 0 {
            let class: f64 = parts.iter().map(|p| p.class_).sum();
            println!(
                "step {step:3}: loss {:8.4}, class {class:.4}, {} objects, {}",
                summary.total,
                summary.objects,
                loss.device()
            );
        }
        if step == 200 && summary.total > first / 10.0 {
            return Err(format!("the loss fell from {first} to {} only", summary.total));
        }
        for (f, g) in feats.iter_mut().flatten().zip(grads.iter().flatten()) {
            *f -= g;
        }
    }
    Ok(())
}
