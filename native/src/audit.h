// yl_audit: finds what is wrong with truths, on the host. It judges rows of boxes and places them by the functions that
// a call uses (boxes.h), so that the audit and the loss cannot disagree. It is for a data set once, not for every step,
// and so it is simple rather than fast: one thread, one pass, memory for one image.
#pragma once

#include "backend.h"

namespace yl {

// Audits the truths of a call that check_audit has checked, and writes what result asks for. Truths in device memory
// are copied to the host, image by image if they are dense. Throws a Failure if the device cannot reach them, or fails.
void audit(const Shape &shape, const Call &call, float poor_iou, const yl_audit_result &result);

}  // namespace yl
