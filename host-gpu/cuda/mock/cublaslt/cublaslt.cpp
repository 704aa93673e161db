// A cuBLASLt without a device: as much of its interface as is used, over the host's memory, and
// stricter than the real one. Products are computed by the mock driver's streams. An algorithm is
// good for the very product that it was asked for, and for addresses as round as was said then.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "faults.h"
#include "quern.cuh"

#define API extern "C" __attribute__((visibility("default")))

namespace mock {
class Stream;
}
// Of the mock driver: has a stream do some work, which must leave so many bytes at an address.
extern "C" void quern_mock_enqueue(mock::Stream* stream, uintptr_t at, size_t bytes,
                                   void (*work)(void*), void* argument);

enum Status { SUCCESS = 0, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum Type { R_32F = 0, R_64F = 1, R_16F = 2, R_16BF = 14 };
enum Compute { COMPUTE_32F = 68, COMPUTE_64F = 70, COMPUTE_32F_FAST_TF32 = 77 };

struct Description {
    int compute, scale, turn_a = 0, turn_b = 0;
};
struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t apart;
    int batches = 1;
    int64_t batch_stride = 0;

    size_t size() const { return type == R_64F ? 8 : type == R_32F ? 4 : 2; }
};
struct Preference {
    uint64_t workspace = 0;
    uint32_t reduction = 7, alignment[4] = {256, 256, 256, 256};
};
struct Algorithm {
    uint64_t product;
    uint32_t alignment[4];
    uint64_t workspace;
    uint64_t unused[4];
};
static_assert(sizeof(Algorithm) == 64, "as large as the real one");
struct Heuristic {
    Algorithm algorithm;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

static uint64_t hash(uint64_t seed, uint64_t value) {
    return (seed ^ value) * 0x9e3779b97f4a7c15ull + (seed >> 29);
}
static uint64_t hash(const Description& d, const Layout* const (&layouts)[4]) {
    uint64_t all = hash(hash(hash(d.compute, d.scale), d.turn_a), d.turn_b);
    for (const Layout* layout : layouts)
        for (uint64_t value : {uint64_t(layout->type), layout->rows, layout->columns,
                               uint64_t(layout->apart), uint64_t(layout->batches),
                               uint64_t(layout->batch_stride)})
            all = hash(all, value);
    return all;
}

API size_t cublasLtGetVersion() {
    return size_t(mock::setting("QUERN_MOCK_CUBLASLT_VERSION", 130002));
}
API int cublasLtCreate(void** handle) {
    *handle = new char;
    return SUCCESS;
}
API int cublasLtDestroy(void* handle) {
    delete static_cast<char*>(handle);
    return SUCCESS;
}
API int cublasLtMatmulDescCreate(Description** made, int compute, int scale) {
    *made = new Description{compute, scale};
    return SUCCESS;
}
API int cublasLtMatmulDescDestroy(Description* description) {
    delete description;
    return SUCCESS;
}
API int cublasLtMatmulDescSetAttribute(Description* description, int attribute, const void* value,
                                       size_t bytes) {
    int* where = attribute == 3 ? &description->turn_a
        : attribute == 4 ? &description->turn_b : nullptr;
    if (!where || bytes != 4) return INVALID_VALUE;
    memcpy(where, value, bytes);
    return *where == 0 || *where == 1 ? SUCCESS : INVALID_VALUE;
}
API int cublasLtMatrixLayoutCreate(Layout** made, int type, uint64_t rows, uint64_t columns,
                                   int64_t apart) {
    *made = new Layout{type, rows, columns, apart};
    return SUCCESS;
}
API int cublasLtMatrixLayoutDestroy(Layout* layout) {
    delete layout;
    return SUCCESS;
}
API int cublasLtMatrixLayoutSetAttribute(Layout* layout, int attribute, const void* value,
                                         size_t bytes) {
    if (attribute == 5 && bytes == 4) {
        memcpy(&layout->batches, value, bytes);
    } else if (attribute == 6 && bytes == 8) {
        memcpy(&layout->batch_stride, value, bytes);
    } else {
        return INVALID_VALUE;
    }
    return SUCCESS;
}
API int cublasLtMatmulPreferenceCreate(Preference** made) {
    *made = new Preference;
    return SUCCESS;
}
API int cublasLtMatmulPreferenceDestroy(Preference* preference) {
    delete preference;
    return SUCCESS;
}
API int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute,
                                             const void* value, size_t bytes) {
    if (attribute == 1 && bytes == 8) {
        memcpy(&preference->workspace, value, bytes);
    } else if (attribute == 3 && bytes == 4) {
        memcpy(&preference->reduction, value, bytes);
    } else if (attribute >= 5 && attribute <= 8 && bytes == 4) {
        memcpy(&preference->alignment[attribute - 5], value, bytes);
    } else {
        return INVALID_VALUE;
    }
    return SUCCESS;
}

// Whether matrices fit each other and their types.
static bool valid(const Description& d, const Layout* const (&layouts)[4]) {
    const Layout &a = *layouts[0], &b = *layouts[1], &c = *layouts[2], &out = *layouts[3];
    uint64_t rows = d.turn_a ? a.columns : a.rows, inner = d.turn_a ? a.rows : a.columns;
    uint64_t columns = d.turn_b ? b.rows : b.columns;
    bool fits = out.rows == rows && out.columns == columns && c.rows == rows &&
        c.columns == columns && (d.turn_b ? b.columns : b.rows) == inner;
    for (const Layout* layout : layouts)
        fits = fits && layout->type == a.type && layout->batches == out.batches &&
            layout->batches > 0 && layout->batches < 65536 && layout->rows > 0 && layout->columns > 0 &&
            layout->apart >= int64_t(layout->rows) && layout->batch_stride >= 0;
    bool wide = a.type == R_64F;
    bool computes = wide ? d.compute == COMPUTE_64F && d.scale == R_64F
        : d.scale == R_32F && (d.compute == COMPUTE_32F ||
                               (d.compute == COMPUTE_32F_FAST_TF32 && a.type == R_32F));
    bool disjoint = out.batches == 1 || out.batch_stride >= int64_t(out.apart * out.columns);
    return fits && computes && disjoint;
}

API int cublasLtMatmulAlgoGetHeuristic(void*, const Description* d, const Layout* a,
                                       const Layout* b, const Layout* c, const Layout* out,
                                       const Preference* preference, int wanted, Heuristic* found,
                                       int* count) {
    const Layout* const layouts[] = {a, b, c, out};
    *count = 0;
    if (wanted < 1 || !valid(*d, layouts)) return INVALID_VALUE;
    // Algorithms that add parts up in FP16, or in no certain order, must not be allowed.
    if (preference->reduction & ~2u) return INVALID_VALUE;
    if (mock::setting("QUERN_MOCK_CUBLASLT_NONE", 0)) return SUCCESS;
    memset(found, 0, sizeof *found);
    found->algorithm.product = hash(*d, layouts);
    memcpy(found->algorithm.alignment, preference->alignment, sizeof preference->alignment);
    found->workspace = found->algorithm.workspace = preference->workspace;
    *count = 1;
    return SUCCESS;
}

static float rounded(float x, bool tf32) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (tf32) bits &= ~0x1fffu;
    memcpy(&x, &bits, sizeof x);
    return x;
}

// One product after another, as the columns of matrices say.
template <typename T>
static void multiply(const Description& d, const Layout& a, const Layout& b, const Layout& out,
                     const void* a_at, const void* b_at, void* out_at) {
    typedef typename Element<T>::Compute C;
    uint64_t inner = d.turn_a ? a.rows : a.columns;
    for (int batch = 0; batch < out.batches; ++batch) {
        const T* left = static_cast<const T*>(a_at) + batch * a.batch_stride;
        const T* right = static_cast<const T*>(b_at) + batch * b.batch_stride;
        T* to = static_cast<T*>(out_at) + batch * out.batch_stride;
        for (uint64_t column = 0; column < out.columns; ++column)
            for (uint64_t row = 0; row < out.rows; ++row) {
                C sum = 0;
                for (uint64_t k = 0; k < inner; ++k) {
                    C x = widen(left[d.turn_a ? k + row * a.apart : row + k * a.apart]);
                    C y = widen(right[d.turn_b ? column + k * b.apart : k + column * b.apart]);
                    if constexpr (sizeof(C) == 4) {
                        bool tf32 = d.compute == COMPUTE_32F_FAST_TF32;
                        sum += rounded(x, tf32) * rounded(y, tf32);
                    } else {
                        sum += x * y;
                    }
                }
                to[row + column * out.apart] = Element<T>::narrow(sum);
            }
    }
}

API int cublasLtMatmul(void*, const Description* d, const void* alpha, const void* a_at,
                       const Layout* a, const void* b_at, const Layout* b, const void* beta,
                       const void* c_at, const Layout* c, void* out_at, const Layout* out,
                       const Algorithm* algorithm, void* workspace, size_t workspace_bytes,
                       mock::Stream* stream) {
    const Layout* const layouts[] = {a, b, c, out};
    const void* const addresses[] = {a_at, b_at, c_at, out_at};
    if (!valid(*d, layouts) || algorithm->product != hash(*d, layouts)) return INVALID_VALUE;
    for (int i = 0; i < 4; ++i)
        if (uintptr_t(addresses[i]) % algorithm->alignment[i]) return INVALID_VALUE;
    if (workspace_bytes < algorithm->workspace || uintptr_t(workspace) % 256) return INVALID_VALUE;
    double one = 0, zero = 1;
    if (d->scale == R_64F) {
        memcpy(&one, alpha, 8);
        memcpy(&zero, beta, 8);
    } else {
        float single;
        memcpy(&single, alpha, 4);
        one = single;
        memcpy(&single, beta, 4);
        zero = single;
    }
    if (one != 1 || zero != 0) return NOT_SUPPORTED;
    if (mock::Faults::strikes("product")) return EXECUTION_FAILED;
    // What it was given may be gone when it is the stream's turn.
    auto* work = new std::function<void()>(
        [d = *d, a = *a, b = *b, out = *out, a_at, b_at, out_at, workspace, workspace_bytes] {
            memset(workspace, 0xab, workspace_bytes);
            auto compute = out.type == R_64F ? multiply<double>
                : out.type == R_32F ? multiply<float>
                : out.type == R_16F ? multiply<f16> : multiply<bf16>;
            compute(d, a, b, out, a_at, b_at, out_at);
        });
    size_t elements = (out->batches - 1) * out->batch_stride + (out->columns - 1) * out->apart +
        out->rows;
    quern_mock_enqueue(stream, uintptr_t(out_at), elements * out->size(), [](void* argument) {
        auto* work = static_cast<std::function<void()>*>(argument);
        (*work)();
        delete work;
    }, work);
    return SUCCESS;
}
