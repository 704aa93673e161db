// Counts what happens, until it is the turn of the fault that was asked for.
#include "faults.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

namespace mock {

unsigned long long setting(const char* name, unsigned long long otherwise) {
    const char* value = getenv(name);
    return value && *value ? strtoull(value, nullptr, 10) : otherwise;
}

static const std::string& fault() {
    static const std::string text = [] {
        const char* value = getenv("QUERN_MOCK_FAULT");
        return std::string(value ? value : "");
    }();
    return text;
}

bool Faults::strikes(const char* kind) {
    static std::atomic<unsigned long long> seen{0};
    const std::string& text = fault();
    size_t length = strlen(kind);
    if (text.compare(0, length, kind) != 0 || text[length] != '@') return false;
    return ++seen == strtoull(text.c_str() + length + 1, nullptr, 10);
}

bool Faults::slow() { return fault() == "slow"; }

}  // namespace mock
