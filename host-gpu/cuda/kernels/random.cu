// Numbers of a random stream: what an element is follows from the seed and its place alone.
#include "quern.cuh"

struct Random {
    u64 count;
    u64 seed;
    u64 offset;  // number of the first block of words
    void* out;   // aligned for packs
};

struct Words {
    u32 at[4];
};

// A block of words of Philox 4x32-10, of Salmon et al., "Parallel random numbers: as easy as 1, 2,
// 3", 2011: the seed is the key, the counter the number of the block.
DEVICE Words philox(u64 seed, u64 offset, u64 block) {
    u64 number = offset + block;
    Words words = {{u32(number), u32(number >> 32), u32(number < offset), 0}};
    u32 even = u32(seed), odd = u32(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        u64 left = u64(words.at[0]) * 0xd2511f53u, right = u64(words.at[2]) * 0xcd9e8d57u;
        words = {{u32(right >> 32) ^ words.at[1] ^ even, u32(right),
                  u32(left >> 32) ^ words.at[3] ^ odd, u32(left)}};
        even += 0x9e3779b9u;
        odd += 0xbb67ae85u;
    }
    return words;
}

DEVICE void circle(float turn, float* sine, float* cosine) { sincospif(2 * turn, sine, cosine); }
DEVICE void circle(double turn, double* sine, double* cosine) { sincospi(2 * turn, sine, cosine); }

// By Box and Muller: a point of the plane, by how far away it is and in which direction.
template <typename C> DEVICE void point(C share, C turn, C* to) {
    C radius = sqrt_of(C(-2) * log_of(share)), sine, cosine;
    circle(turn, &sine, &cosine);
    to[0] = radius * cosine;
    to[1] = radius * sine;
}

// A type that takes one word for an element, of which so many bits are used.
template <u32 Bits> struct OfOneWord {
    static constexpr int EACH = 4;  // elements of a block of words
    static DEVICE void uniform(const Words& words, float* to) {
#pragma unroll
        for (int k = 0; k < 4; ++k)
            to[k] = float(words.at[k] >> (32 - Bits)) * (1.0f / float(1u << Bits));
    }
    static DEVICE void normal(const Words& words, float* to) {
        constexpr float UNIT = 1.0f / 4294967296.0f;
#pragma unroll
        for (int k = 0; k < 4; k += 2)
            point(float(words.at[k]) * UNIT + UNIT / 2,
                  float(words.at[k + 1] >> 8) * (1.0f / float(1u << 24)), to + k);
    }
};
template <typename T> struct Drawn;
template <> struct Drawn<f16> : OfOneWord<11> {};
template <> struct Drawn<bf16> : OfOneWord<8> {};
template <> struct Drawn<float> : OfOneWord<24> {};
template <> struct Drawn<double> {
    static constexpr int EACH = 2;
    // Two words, the lower one first, as a number from 0 to below 1.
    static DEVICE double share(u32 low, u32 high) {
        return double((u64(high) << 32 | low) >> 11) * (1.0 / double(1ull << 53));
    }
    static DEVICE void uniform(const Words& words, double* to) {
        to[0] = share(words.at[0], words.at[1]);
        to[1] = share(words.at[2], words.at[3]);
    }
    static DEVICE void normal(const Words& words, double* to) {
        point(share(words.at[0], words.at[1]) + 0.5 / double(1ull << 53),
              share(words.at[2], words.at[3]), to);
    }
};

// A thread makes the elements of one block of words, and the next that is so far away.
template <typename T, bool Normal> DEVICE void draw(const Random& p) {
    typedef typename Element<T>::Compute C;
    constexpr int EACH = Drawn<T>::EACH;
    T* out = static_cast<T*>(p.out);
    u64 blocks = (p.count + EACH - 1) / EACH;
#pragma unroll 1
    for (u64 block = this_thread(); block < blocks; block += all_threads()) {
        Words words = philox(p.seed, p.offset, block);
        C numbers[EACH];
        if (Normal) {
            Drawn<T>::normal(words, numbers);
        } else {
            Drawn<T>::uniform(words, numbers);
        }
        Pack<T, EACH> pack;
#pragma unroll
        for (int k = 0; k < EACH; ++k) pack.at[k] = Element<T>::narrow(numbers[k]);
        u64 first = block * EACH;
        if (first + EACH <= p.count) {
            reinterpret_cast<Pack<T, EACH>*>(out)[block] = pack;
        } else {
#pragma unroll
            for (int k = 0; k < EACH; ++k)
                if (first + k < p.count) out[first + k] = pack.at[k];
        }
    }
}

#define RANDOM(none, suffix, T) \
    KERNEL(uniform_##suffix, Random) { draw<T, false>(p); } \
    KERNEL(normal_##suffix, Random) { draw<T, true>(p); }
EACH_FLOAT(RANDOM, )
