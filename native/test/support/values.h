// The types and orders in which logits and gradients are stored, as a caller would write them.
#pragma once

#include <cstdint>

#include "yololoss.h"

// Returns the bytes of one value of a type.
int64_t size_of(int32_t dtype);

// Stores a double as a value of a type, and reads it back; rounded() does both.
void put(int32_t dtype, char *at, double value);
double get(int32_t dtype, const char *at);
double rounded(int32_t dtype, double value);

// Returns the index in the order of a layout of element i of (B, H, W, A, channels). cells are those of one image.
int64_t index_in(int32_t layout, int64_t i, int64_t cells, int64_t anchors, int64_t channels);
