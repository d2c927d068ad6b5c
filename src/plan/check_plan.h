// Whether a plan is consistent in itself: what the runtime relies on without looking again.
#pragma once

#include "plan/plan.h"

namespace ingot {

// Throws an Error with ErrorCode::kIncompatible that names the member and what is wrong with it, unless
//   names are unique, types have at most 4 dimensions of known symbols, and sizes stay far from overflow;
//   states are [pool_pages.GROUP, constants…] of a known group and its page size, or [seats, constants…] of none;
//   weights are constant, in the order of their offsets, apart from each other, at multiples of 64, and, if row major,
//   exactly as large as their type;
//   every buffer names something that exists, with its type, and lies within it at the largest dimensions;
//   arena buffers and scratch begin at multiples of 64.
// The first symbol of a state needs no range.
void check_plan(const Plan& plan);

// The bytes of the weight section: where the last weight ends.
uint64_t weight_section_bytes(const Plan& plan);
// The same for the module section.
uint64_t module_section_bytes(const Plan& plan);

}  // namespace ingot
