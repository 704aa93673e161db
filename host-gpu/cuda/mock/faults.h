// What the mock driver is told to do wrong, by the variable QUERN_MOCK_FAULT.
#pragma once

namespace mock {

// `out-of-memory@N`, `launch@N`, `sticky@N`, `hang@N`, `leak@N`, `unclear@N`: the N-th allocation,
// launch, kernel, release or clearing goes wrong, counted from 1. `slow`: every event takes
// QUERN_MOCK_SLOW_MS milliseconds, or 3.
struct Faults {
    static bool strikes(const char* kind);
    static bool slow();
};

// A number from a variable of the environment.
unsigned long long setting(const char* name, unsigned long long otherwise);

}  // namespace mock
