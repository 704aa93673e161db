// The loss of a classification and its gradient: a block for each row of logits, which it goes
// through twice.
#include "quern.cuh"

struct CrossEntropy {
    u64 rows;
    u64 length;
    u32 rank;        // of what lies around rows
    u32 vector;      // whether rows are dense, and they and their gradients aligned for packs
    u64 dims[MAX_RANK];
    u64 strides[MAX_RANK];
    u64 label_strides[MAX_RANK];
    u64 stride;      // between elements of a row
    const void* logits;
    const void* labels;
    void* loss;
    void* gradient;
    i64 ignored;
    u64 ignores;     // whether there is such a label
    double share;    // of the label, beyond what every class has
    double spread;   // what every class has
    Checked checked;
};

// Runs f(elements as they are computed in, where the first is) for this thread's packs of a row.
template <int V, typename T, typename F> DEVICE void each_pack(u64 length, const T* x, u64 stride, F f) {
    typedef typename Element<T>::Compute C;
#pragma unroll 1
    for (u64 k = u64(threadIdx.x) * V; k < length; k += u64(blockDim.x) * V) {
        C values[V];
        if (V > 1) {
            Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(x + k);
#pragma unroll
            for (int v = 0; v < V; ++v) values[v] = widen(pack.at[v]);
        } else {
            values[0] = widen(x[k * stride]);
        }
        f(values, k);
    }
}

template <int V, typename T> DEVICE void put_pack(T* to, const typename Element<T>::Compute* values) {
    Pack<T, V> pack;
#pragma unroll
    for (int v = 0; v < V; ++v) pack.at[v] = Element<T>::narrow(values[v]);
    *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

// The loss by differences from the largest logit, which are small where the loss is. What has no
// share adds nothing, be it as far away as can be.
template <int V, typename T>
DEVICE void compare(const CrossEntropy& p, const T* x, u64 label, T* loss, T* gradient) {
    typedef typename Element<T>::Compute C;
    Exponentials<C> all = Exponentials<C>::none();
    each_pack<V>(p.length, x, p.stride, [&](const C* values, u64) { all.template take<V>(values); });
    all = across_block(all, [](Exponentials<C> a, Exponentials<C> b) { return join(a, b); });
    C scale = C(1) / all.sum, share = C(p.share), spread = C(p.spread), below = 0;
    each_pack<V>(p.length, x, p.stride, [&](C* values, u64 k) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            C far = values[v] - all.max;
            below += far;
            values[v] = exp_of(far) * scale - spread - (k + v == label ? share : C(0));
        }
        put_pack<V>(gradient + k, values);
    });
    if (p.spread > 0) below = across_block(below, [](C a, C b) { return a + b; });
    if (threadIdx.x != 0) return;
    C sum = log_of(all.sum);
    if (share > 0) sum -= share * (widen(x[label * p.stride]) - all.max);
    if (spread > 0) sum -= spread * below;
    *loss = Element<T>::narrow(sum);
}

template <typename T, typename I> DEVICE void cross_entropy(const CrossEntropy& p) {
    typedef typename Element<T>::Compute C;
    constexpr int V = 16 / sizeof(T);
    for (u64 row = blockIdx.x; row < p.rows; row += gridDim.x) {
        const T* x = static_cast<const T*>(p.logits) + place(p.rank, p.dims, p.strides, row);
        const I* labels = static_cast<const I*>(p.labels);
        i64 label = labels[place(p.rank, p.dims, p.label_strides, row)];
        T* loss = static_cast<T*>(p.loss) + row;
        T* gradient = static_cast<T*>(p.gradient) + row * p.length;
        bool ignored = p.ignores && label == p.ignored;
        if (ignored || u64(label) >= p.length) {
            if (!ignored && threadIdx.x == 0) tell(p.checked, row, label);
            for (u64 k = threadIdx.x; k < p.length; k += blockDim.x)
                gradient[k] = Element<T>::narrow(C(0));
            if (threadIdx.x == 0) *loss = Element<T>::narrow(C(0));
        } else if (p.vector) {
            compare<V>(p, x, u64(label), loss, gradient);
        } else {
            compare<1>(p, x, u64(label), loss, gradient);
        }
    }
}

#define CROSS_ENTROPY(name, suffix, T) \
    KERNEL_WITH_BARRIERS(name##_##suffix##_i32, CrossEntropy) { cross_entropy<T, i32>(p); } \
    KERNEL_WITH_BARRIERS(name##_##suffix##_i64, CrossEntropy) { cross_entropy<T, i64>(p); }
EACH_FLOAT(CROSS_ENTROPY, cross_entropy)
