// Steps of optimizers: each element is read once and written once.
#include "quern.cuh"

// The parameter, its gradient and what is kept for it; the first and the last come out anew.
struct Optimizer {
    u64 count;
    u64 first;   // 0
    u32 rank;    // at least 1
    u32 vector;  // whether inputs are dense or one element, aligned for packs
    u64 dims[MAX_RANK];
    View in[4];
    void* out[3];
    double values[9];  // of the rule
};

// How an element of a parameter and what is kept for it change.
template <typename C> struct Descent {
    static constexpr int KEPT = 0;
    C rate, decay;
    DEVICE Descent(const double* values) : rate(C(values[0])), decay(C(values[1])) {}
    DEVICE C apply(C parameter, C gradient, C*) const {
        return parameter - rate * (gradient + decay * parameter);
    }
};
template <typename C> struct Momentum {
    static constexpr int KEPT = 1;
    C rate, decay, momentum;
    bool ahead;  // whether the step looks ahead along the velocity
    DEVICE Momentum(const double* values)
        : rate(C(values[0])), decay(C(values[1])), momentum(C(values[2])), ahead(values[3] > 0) {}
    DEVICE C apply(C parameter, C gradient, C* velocity) const {
        gradient = gradient + decay * parameter;
        *velocity = momentum * *velocity + gradient;
        return parameter - rate * (ahead ? gradient + momentum * *velocity : *velocity);
    }
};
template <typename C> struct Adam {
    static constexpr int KEPT = 2;
    // `scale`: of the root of the second moment. `stays`: how much of the parameter does.
    C rate, first, of_gradient, second, of_square, scale, epsilon, decay, stays;
    DEVICE Adam(const double* values)
        : rate(C(values[0])), first(C(values[1])), of_gradient(C(values[2])),
          second(C(values[3])), of_square(C(values[4])), scale(C(values[5])),
          epsilon(C(values[6])), decay(C(values[7])), stays(C(values[8])) {}
    DEVICE C apply(C parameter, C gradient, C* moments) const {
        gradient = gradient + decay * parameter;
        moments[0] = first * moments[0] + of_gradient * gradient;
        moments[1] = second * moments[1] + of_square * (gradient * gradient);
        C size = sqrt_of(moments[1]) * scale + epsilon;
        return stays * parameter - rate * moments[0] / size;
    }
};

template <template <typename> class Rule, typename T> DEVICE void step(const Optimizer& p) {
    typedef typename Element<T>::Compute C;
    constexpr int KEPT = Rule<C>::KEPT, V = sizeof(C) == 8 ? 2 : 4;
    const Rule<C> rule(p.values);
    u64 packs = p.vector ? p.count / V : 0;
#pragma unroll 1
    for (u64 i = this_thread(); i < packs; i += all_threads()) {
        Pack<T, V> parameter = load_pack<T, V>(p.in[0], i), gradient = load_pack<T, V>(p.in[1], i);
        Pack<C, V> kept[KEPT + 1];
#pragma unroll
        for (int k = 0; k < KEPT; ++k) kept[k] = load_pack<C, V>(p.in[2 + k], i);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            C own[KEPT + 1];
#pragma unroll
            for (int k = 0; k < KEPT; ++k) own[k] = kept[k].at[v];
            parameter.at[v] = Element<T>::narrow(
                rule.apply(widen(parameter.at[v]), widen(gradient.at[v]), own));
#pragma unroll
            for (int k = 0; k < KEPT; ++k) kept[k].at[v] = own[k];
        }
        static_cast<Pack<T, V>*>(p.out[0])[i] = parameter;
#pragma unroll
        for (int k = 0; k < KEPT; ++k) static_cast<Pack<C, V>*>(p.out[1 + k])[i] = kept[k];
    }
    each_element<2 + KEPT>(p, packs * V, [&](u64 i, const u64* at) {
        C own[KEPT + 1];
#pragma unroll
        for (int k = 0; k < KEPT; ++k) own[k] = static_cast<const C*>(p.in[2 + k].data)[at[2 + k]];
        C parameter = widen(static_cast<const T*>(p.in[0].data)[at[0]]);
        C gradient = widen(static_cast<const T*>(p.in[1].data)[at[1]]);
        static_cast<T*>(p.out[0])[i] = Element<T>::narrow(rule.apply(parameter, gradient, own));
#pragma unroll
        for (int k = 0; k < KEPT; ++k) static_cast<C*>(p.out[1 + k])[i] = own[k];
    });
}

#define STEP(name, Rule, suffix, T) \
    KERNEL(name##_##suffix, Optimizer) { step<Rule, T>(p); }
EACH_FLOAT(STEP, descent, Descent)
EACH_FLOAT(STEP, momentum, Momentum)
EACH_FLOAT(STEP, adam, Adam)
