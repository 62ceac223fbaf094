// The output of a run against that of the reference device, within the tolerance of its types.
#pragma once

#include "run.h"
#include "test.h"

// The error of a type's arithmetic (float32 on cpu and cuda, except for float64), and of the rounding of its gradient.
double arithmetic_error(const Options &options);
double rounding_error(const Options &options);

// Checks every output: loss, parts and counts of each row, gradient; with statistics also those, the offender and the
// maps.
void compare(const Case &c, const Options &options, const Output &got, const Output &want);

// Checks the layers of a golden case against keras-yolo3's figures.
void compare_with_golden(const Case &c, const yl_summary &summary, const std::vector<yl_parts> &layers,
                         const Tolerance &tolerance, const std::string &where);
