// Decode steps: y = x W^T for a few rows of x, and a whole block of a Llama made of it. Every weight is read from memory once, whatever the number of rows.
//
// Weights lie in the order in which they are read, one stream without jumps: two thirds of the time of rows of a matrix.
// A row's result is the same to the last bit with any other rows beside it: each (row, output) pair has one vector of
// partial sums, filled in the order of the channels and added up in one order.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <omp.h>
#include <vector>
#include "barrier.h"
#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16, MOST_ROWS = 6;
#else
constexpr int LANES = 8, MOST_ROWS = 3;
#endif
// MOST_ROWS rows share a pass over a block of weights: with OUTPUTS each, their sums fill the registers. A block stays
// in the nearest cache for the rows after them.
constexpr int OUTPUTS = 4;
constexpr int64_t AHEAD = 2048;  // bytes that are asked for in advance

typedef float Floats __attribute__((vector_size(4 * LANES)));

inline Floats load(const float* p) { Floats v; std::memcpy(&v, p, sizeof v); return v; }
#if defined(__AVX512F__)
inline Floats load(const uint16_t* p) {  // bfloat16: the upper half of a float
    return (Floats)_mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
inline Floats load(const int8_t* p) {
    return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
#elif defined(__AVX2__)
inline Floats load(const uint16_t* p) {
    return (Floats)_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
inline Floats load(const int8_t* p) {
    return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
}
#else
inline Floats load(const uint16_t* p) {
    typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));
    typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
    Halves v;
    std::memcpy(&v, p, sizeof v);
    return (Floats)(__builtin_convertvector(v, Words) << 16);
}
inline Floats load(const int8_t* p) {
    typedef int8_t Bytes __attribute__((vector_size(LANES)));
    Bytes v;
    std::memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, Floats);
}
#endif

inline float total(Floats v) {
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += v[lane];
    return sum;
}

// Packed weights (out / OUTPUTS, in / LANES, OUTPUTS, LANES), padded with zeros; scale and bias (out) may be null.
// bytes of a weight: 4 float32, 2 bfloat16, 1 int8.
struct Matrix {
    const void* weight;
    const float *scale, *bias;
    int64_t in, out, bytes;
    int64_t blocks() const { return (out + OUTPUTS - 1) / OUTPUTS; }
};

struct Share {  // of a thread in count things
    int64_t first, last;
    explicit Share(int64_t count) {
        const int64_t thread = omp_get_thread_num(), team = omp_get_num_threads();
        first = count * thread / team, last = count * (thread + 1) / team;
    }
};

// OUTPUTS products of each of M rows: results (M, OUTPUTS).
template <int M, class T>
inline void tile(const float* x, int64_t in, const T* weight, float* results) {
    Floats sums[M][OUTPUTS] = {};
    Floats xs[M];
    auto multiply = [&] {
        __builtin_prefetch((const char*)weight + AHEAD);
        if (sizeof(T) * OUTPUTS * LANES > 64) __builtin_prefetch((const char*)weight + AHEAD + 64);
        for (int r = 0; r < OUTPUTS; r++, weight += LANES) {
            const Floats w = load(weight);
            for (int m = 0; m < M; m++) sums[m][r] += xs[m] * w;
        }
    };
    int64_t k = 0;
    for (; k + LANES <= in; k += LANES) {
        for (int m = 0; m < M; m++) xs[m] = load(x + m * in + k);
        multiply();
    }
    if (k < in) {  // the weights are padded, x is not
        for (int m = 0; m < M; m++) {
            xs[m] = Floats{};
            std::memcpy(&xs[m], x + m * in + k, (in - k) * sizeof(float));
        }
        multiply();
    }
    for (int m = 0; m < M; m++)
        for (int r = 0; r < OUTPUTS; r++) results[m * OUTPUTS + r] = total(sums[m][r]);
}

template <int M, class T>
inline void tiles(const float* x, int64_t count, int64_t in, const T* weight, float* results) {
    if constexpr (M > 1)
        if (count < M) return tiles<M - 1, T>(x, count, in, weight, results);
    tile<M, T>(x, in, weight, results);
}

// One block of outputs for up to MOST_ROWS rows, with scale and bias: results (count, OUTPUTS).
inline void products(const Matrix& a, int64_t block, const float* x, int64_t count, float* results) {
    const int64_t at = block * ((a.in + LANES - 1) / LANES * LANES * OUTPUTS);
    if (a.bytes == 4) tiles<MOST_ROWS>(x, count, a.in, (const float*)a.weight + at, results);
    else if (a.bytes == 2) tiles<MOST_ROWS>(x, count, a.in, (const uint16_t*)a.weight + at, results);
    else tiles<MOST_ROWS>(x, count, a.in, (const int8_t*)a.weight + at, results);
    const int64_t from = block * OUTPUTS, wanted = std::min<int64_t>(OUTPUTS, a.out - from);
    for (int64_t m = 0; m < count; m++)
        for (int64_t r = 0; r < wanted; r++) {
            float& y = results[m * OUTPUTS + r];
            if (a.scale) y *= a.scale[from + r];
            if (a.bias) y += a.bias[from + r];
        }
}

// Calls put(row, output, value) for all rows and this thread's share of the outputs.
template <class Put>
inline void multiply(const Matrix& a, const float* x, int64_t rows, Put put) {
    const int64_t groups = (rows + MOST_ROWS - 1) / MOST_ROWS;
    float results[MOST_ROWS * OUTPUTS];
    for (Share share(a.blocks()); share.first < share.last; share.first++)
        for (int64_t group = 0; group < groups; group++) {
            const int64_t row = rows * group / groups, next = rows * (group + 1) / groups, from = share.first * OUTPUTS;
            products(a, share.first, x + row * a.in, next - row, results);
            for (int64_t m = 0; m < next - row; m++)
                for (int64_t r = 0; r < std::min<int64_t>(OUTPUTS, a.out - from); r++)
                    put(row + m, from + r, results[m * OUTPUTS + r]);
        }
}

// A Llama block on rows x count tokens, with a cache. Field by field as ctypes has it in kernels/decode_block.py.
struct Block {
    Matrix qkv, out, gate, value, down;
    const float *norm1, *norm2;
    float eps, residual;
    int64_t heads, kv_heads, head_dim, halves;
};

struct Step {
    const float* x;        // (rows, count, dim)
    float* y;              // the same
    const float* rotary;   // (rows or 1, count, head_dim / 2, 2): rotary_row from row to row, 0 for one
    const uint8_t* mask;   // (rows or 1, count, span): mask_row and mask_token apart; null: all are seen
    float *keys, *values;  // (rows, kv_heads, length, head_dim), contiguous but for cache_row and cache_head
    const int64_t* places; // (rows) first place of each row, or null: start
    int64_t rows, count, rotary_row, mask_row, mask_token, cache_row, cache_head, start, span;
};

inline void rms_norm(const float* x, const float* weight, float eps, int64_t dim, float* y) {
    float sum = 0;
    for (int64_t i = 0; i < dim; i++) sum += x[i] * x[i];
    const float factor = 1 / std::sqrt(sum / dim + eps);
    for (int64_t i = 0; i < dim; i++) y[i] = x[i] * factor * weight[i];
}

inline void rotate(const float* x, const float* table, int64_t dim, bool halves, float scale, float* y) {
    const int64_t first = halves ? 1 : 2, second = halves ? dim / 2 : 1;
    for (int64_t i = 0; i < dim / 2; i++) {
        const float a = x[i * first], b = x[i * first + second], cos = table[2 * i], sin = table[2 * i + 1];
        y[i * first] = (a * cos - b * sin) * scale;
        y[i * first + second] = (b * cos + a * sin) * scale;
    }
}

// One query over the keys it sees; scores has room for span numbers.
inline void attend(const float* query, const float* keys, const float* values, const uint8_t* mask, int64_t span,
                   int64_t dim, float* scores, float* y) {
    float largest = -3.0e38f;
    for (int64_t j = 0; j < span; j++) {
        if (mask && !mask[j]) continue;
        Floats sum{};
        for (int64_t i = 0; i < dim; i += LANES) sum += load(query + i) * load(keys + j * dim + i);
        scores[j] = total(sum);
        largest = std::max(largest, scores[j]);
    }
    float weights = 0;
    for (int64_t i = 0; i < dim; i++) y[i] = 0;
    for (int64_t j = 0; j < span; j++) {
        if (mask && !mask[j]) continue;
        const float weight = std::exp(scores[j] - largest);
        weights += weight;
        for (int64_t i = 0; i < dim; i++) y[i] += weight * values[j * dim + i];
    }
    const float factor = weights > 0 ? 1 / weights : 0;  // a query that sees nothing gets nothing
    for (int64_t i = 0; i < dim; i++) y[i] *= factor;
}

// All queries of one row that share a head of keys: keys and values go to the cache, then the queries look at it.
inline void attend_head(const Block& b, const Step& s, int64_t row, int64_t head, float* qkv, float* attended,
                        float* scores) {
    const int64_t d = b.head_dim, width = (b.heads + 2 * b.kv_heads) * d, group = b.heads / b.kv_heads;
    const int64_t start = s.places ? s.places[row] : s.start;
    float* keys = s.keys + row * s.cache_row + head * s.cache_head;
    float* values = s.values + row * s.cache_row + head * s.cache_head;
    for (int64_t n = 0; n < s.count; n++) {
        const float* token = qkv + (row * s.count + n) * width;
        const float* table = s.rotary + row * s.rotary_row + n * d;
        rotate(token + (b.heads + head) * d, table, d, b.halves, 1, keys + (start + n) * d);
        std::memcpy(values + (start + n) * d, token + (b.heads + b.kv_heads + head) * d, d * sizeof(float));
    }
    std::vector<float> query(d);
    for (int64_t n = 0; n < s.count; n++)
        for (int64_t h = head * group; h < (head + 1) * group; h++) {
            const int64_t token = row * s.count + n;
            rotate(qkv + token * width + h * d, s.rotary + row * s.rotary_row + n * d, d, b.halves,
                   1 / std::sqrt((float)d), query.data());
            const uint8_t* mask = s.mask ? s.mask + row * s.mask_row + n * s.mask_token : nullptr;
            attend(query.data(), keys, values, mask, s.span, d, scores, attended + (token * b.heads + h) * d);
        }
}

}  // namespace

extern "C" int packed_lanes() { return LANES; }
extern "C" int packed_outputs() { return OUTPUTS; }

extern "C" void few_rows_linear(const Matrix* a, const float* x, float* y, int64_t rows, int threads) {
#pragma omp parallel num_threads(threads)
    multiply(*a, x, rows, [&](int64_t row, int64_t output, float v) { y[row * a->out + output] = v; });
}

// 1, and nothing is done, when a token's place is not one of those that are seen. A head of keys is written by the
// thread that reads it.
extern "C" int llama_block(const Block* block, const Step* step, int threads) {
    const Block& b = *block;
    const Step& s = *step;
    for (int64_t row = 0; row < s.rows; row++) {
        const int64_t start = s.places ? s.places[row] : s.start;
        if (start < 0 || start + s.count > s.span) return 1;
    }
    const int64_t tokens = s.rows * s.count, dim = b.qkv.in, inner = b.heads * b.head_dim;
    std::vector<float> normed(tokens * dim), qkv(tokens * b.qkv.out), attended(tokens * inner),
        hidden(tokens * b.gate.out);
    Barrier barrier;
    auto wait_for_all = [&] { barrier.wait(omp_get_num_threads()); };
    auto add = [&](int64_t t, int64_t o, float v) { s.y[t * dim + o] += b.residual * v; };
#pragma omp parallel num_threads(threads)
    {
        for (Share share(tokens); share.first < share.last; share.first++) {
            const int64_t at = share.first * dim;
            rms_norm(s.x + at, b.norm1, b.eps, dim, normed.data() + at);
            std::memcpy(s.y + at, s.x + at, dim * sizeof(float));
        }
        wait_for_all();
        multiply(b.qkv, normed.data(), tokens, [&](int64_t t, int64_t o, float v) { qkv[t * b.qkv.out + o] = v; });
        wait_for_all();
        {
            std::vector<float> scores(s.span);
            for (Share share(s.rows * b.kv_heads); share.first < share.last; share.first++)
                attend_head(b, s, share.first / b.kv_heads, share.first % b.kv_heads, qkv.data(), attended.data(),
                            scores.data());
        }
        wait_for_all();
        multiply(b.out, attended.data(), tokens, add);
        wait_for_all();
        for (Share share(tokens); share.first < share.last; share.first++)
            rms_norm(s.y + share.first * dim, b.norm2, b.eps, dim, normed.data() + share.first * dim);
        wait_for_all();
        // both products of a share have the same outputs, so the thread that multiplies them has written both
        multiply(b.gate, normed.data(), tokens, [&](int64_t t, int64_t o, float v) {
            hidden[t * b.gate.out + o] = v / (1 + std::exp(-v));
        });
        multiply(b.value, normed.data(), tokens, [&](int64_t t, int64_t o, float v) {
            hidden[t * b.gate.out + o] *= v;
        });
        wait_for_all();
        multiply(b.down, hidden.data(), tokens, add);
        wait_for_all();  // OpenMP's own, which ends the team, finds all threads
    }
    return 0;
}
