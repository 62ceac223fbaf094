// yl_audit: what is wrong with truths, on the host.
#pragma once

#include "backend.h"

namespace yl {

// The targets of call have been checked; in device memory they are copied.
void audit(const Shape &shape, const Call &call, float poor_iou, const yl_audit_result &result);

}  // namespace yl
