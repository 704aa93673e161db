// Runs blocks of a kernel on the calling thread of the host.
#pragma once

#include "quern.cuh"

namespace mock {

// Runs every block of a grid, one after another.
void run_grid(const Kernel& kernel, Dimensions grid, Dimensions block, const void* parameters);

}  // namespace mock
