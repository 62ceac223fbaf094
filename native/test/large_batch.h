// The batch in which test_faults.cpp and test_audit.cpp plant what is wrong.
#pragma once

#include "case.h"
#include "devices.h"

// Returns six images of three layers with logits in -2..2, an object here and there as y_true, and 42 other boxes of
// which no two share a cell.
Case large_batch();

// Returns whether a device adds nothing to the ones before: the number of threads does not matter to what is reported.
bool repeats_another(const Device &device);
