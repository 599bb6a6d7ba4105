// Decode steps: y = x W^T for a few rows of x, and the blocks of a Llama made of it. Every weight is
// read from memory once, whatever the number of rows.
//
// Weights lie in the order in which they are read, one stream without jumps: two thirds of the time of rows of a matrix.
// A row's result is the same to the last bit with any other rows beside it: each (row, output) pair has one vector of
// partial sums, filled in the order of the channels and added up in one order.
//
// Rounded weights lie in words of 32 bits. A part of a word becomes a float by one mask and one conversion, where it
// stands: the factor 2^(8 part) that this leaves is taken out of x, exactly, once a product and not once a weight.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <omp.h>
#include <vector>
#include "barrier.h"
#ifdef __AVX__
#include <immintrin.h>
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are packed with their first part in the lowest byte"
#endif

namespace {

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define WIDE
constexpr int LANES = 16, MOST_ROWS = 6;
#else
constexpr int LANES = 8, MOST_ROWS = 3;
#endif
// MOST_ROWS rows share a pass over a block of weights: with OUTPUTS each, their sums fill the registers. A block stays
// in the nearest cache for the rows after them.
constexpr int OUTPUTS = 4;
constexpr int64_t LINE = 64;           // bytes of a line of the cache
constexpr int64_t PIECE = 16384;       // bytes of weights that a thread takes at a time
constexpr int64_t FIRST = 4096;        // bytes of the next weights that are asked for before a barrier
constexpr int64_t GROUP = 32;          // neighbouring channels of 4-bit weights that share a scale: they fill one lane
constexpr int64_t GROUPS = 8;          // of a tile of 4-bit weights: one in each of 8 lanes
constexpr int64_t NIBBLES = 8;         // of a word
constexpr float NOTHING = -3.0e38f;    // score of a key that is not seen

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Words __attribute__((vector_size(4 * LANES)));

inline Floats load(const float* p) { Floats v; std::memcpy(&v, p, sizeof v); return v; }
inline Words load(const int32_t* p) { Words v; std::memcpy(&v, p, sizeof v); return v; }
inline void store(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }

inline Floats eight_lanes(const float* p) {  // as often as they fit
#ifdef WIDE
    return (Floats)_mm512_broadcast_f32x8(_mm256_loadu_ps(p));
#else
    return load(p);
#endif
}

inline Floats bfloat16_lanes(const uint16_t* p) {
    typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));
    typedef uint32_t Unsigned __attribute__((vector_size(4 * LANES)));
    Halves v;
    std::memcpy(&v, p, sizeof v);
    return (Floats)(__builtin_convertvector(v, Unsigned) << 16);
}

typedef float Eight __attribute__((vector_size(32)));

inline Eight eighth(Floats v, int at) {  // eight lanes from ``at`` on
#ifdef WIDE
    return (Eight)(at ? _mm512_extractf32x8_ps((__m512)v, 1) : _mm512_castps512_ps256((__m512)v));
#else
    return v;
#endif
}

// Sums over the lanes of four vectors.
inline void totals(Eight a, Eight b, Eight c, Eight d, float* sums) {
#ifdef __AVX__
    const __m256 pairs = _mm256_hadd_ps((__m256)a, (__m256)b), others = _mm256_hadd_ps((__m256)c, (__m256)d);
    const __m256 fours = _mm256_hadd_ps(pairs, others);
    _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(fours), _mm256_extractf128_ps(fours, 1)));
#else
    for (int r = 0; r < 4; r++) sums[r] = 0;
    for (int lane = 0; lane < 8; lane++) sums[0] += a[lane], sums[1] += b[lane], sums[2] += c[lane], sums[3] += d[lane];
#endif
}

inline Eight folded(Floats v) { return LANES == 8 ? eighth(v, 0) : eighth(v, 0) + eighth(v, 8); }

// A vector that several products want stays in a register: with 32 of them the compiler reads it again each time
// instead, and processors read one vector of this width a cycle.
template <class Vector>
inline void keep(Vector& v) {
#ifdef WIDE
    asm("" : "+v"(v));
#endif
}

inline float total(Floats v) {
    float sums[4];
    totals(folded(v), Eight{}, Eight{}, Eight{}, sums);
    return sums[0];
}

// e^x to 2 units in the last place where that is a normal number, else the smallest or largest one that is.
inline Floats exponential(Floats x) {
    const Floats lowest = Floats{} - 87.0f, highest = Floats{} + 88.0f;
    x = x < lowest ? lowest : x;
    x = x > highest ? highest : x;
    const Words half = ((Words)x & INT32_MIN) | 0x3f000000;  // 0.5 with the sign of x, to round to the nearest
    const Words power = __builtin_convertvector(x * 1.44269504f + (Floats)half, Words);
    const Floats whole = __builtin_convertvector(power, Floats);
    const Floats rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Floats y = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * rest + 8.3334519073e-3f;
    y = y * rest + 4.1665795894e-2f;
    y = y * rest + 1.6666665459e-1f;
    y = y * rest + 5.0000001201e-1f;
    y = y * rest * rest + rest + 1.0f;
    return y * (Floats)((power + 127) << 23);
}

enum Kind : int64_t { FLOAT32, BFLOAT16, INT8, INT4 };

// Packed weights, padded with zeros, in blocks of OUTPUTS outputs and tiles of channels. A block of a tile is
// (OUTPUTS, LANES) words: a word's parts are channels that lie LANES apart. Of 4-bit weights it is (4, OUTPUTS, GROUPS)
// words: GROUP neighbouring channels are the NIBBLES of 4 words of one lane.
// All but the highest part of INT8 and INT4 are without sign, 128 and 8 too large.
struct Matrix {
    const void* weight;
    const void* scale;  // INT8: float (out); INT4: bfloat16 (blocks, tiles, OUTPUTS, GROUPS); or null
    const float* bias;  // (out), or null
    int64_t in, out, kind;

    int64_t parts() const { return kind == FLOAT32 ? 1 : kind == BFLOAT16 ? 2 : 4; }
    int64_t channels() const { return kind == INT4 ? GROUP * GROUPS : parts() * LANES; }  // of a tile
    int64_t tiles() const { return (in + channels() - 1) / channels(); }
    int64_t blocks() const { return (out + OUTPUTS - 1) / OUTPUTS; }
    int64_t words() const { return tiles() * OUTPUTS * (kind == INT4 ? GROUP / NIBBLES * GROUPS : LANES); }  // a block
    const int32_t* block(int64_t index) const { return (const int32_t*)weight + index * words(); }
    const uint16_t* scales(int64_t index) const {
        return (const uint16_t*)scale + index * tiles() * OUTPUTS * GROUPS;
    }
    int64_t piece() const { return std::max<int64_t>(1, PIECE / (4 * words())); }  // blocks that are taken at a time
};

// Numbers that begin with a line of the cache: a vector that lies in two lines costs two reads.
class Numbers {
    struct alignas(LINE) Line { float numbers[LINE / sizeof(float)]; };
    std::vector<Line> lines;

  public:
    void resize(int64_t count) { lines.resize((count + LINE / sizeof(float) - 1) / (LINE / sizeof(float))); }
    float* data() { return (float*)lines.data(); }
    const float* data() const { return (const float*)lines.data(); }
};

// Rows of x in the order of a matrix's parts, padded, without the factors that its parts have; and what is to be added
// for parts that are too large: LANES numbers a row, or GROUPS a tile.
struct Rows {
    Numbers x, offsets;
    int64_t width, offset_width;

    void fit(const Matrix& a, const float* from, int64_t count) {
        const int64_t tiles = a.tiles(), channels = a.channels();
        width = tiles * channels;
        offset_width = a.kind == INT4 ? tiles * GROUPS : LANES;
        x.resize(count * width);
        if (a.kind >= INT8) offsets.resize(count * offset_width);
        for (int64_t row = 0; row < count; row++, from += a.in) {
            float* to = x.data() + row * width;
            if (a.kind < INT8) {
                std::memcpy(to, from, a.in * sizeof(float));
                std::fill(to + a.in, to + width, 0.0f);
            } else if (a.kind == INT8) {
                bytes(from, a.in, to, offsets.data() + row * offset_width);
            } else {
                nibbles(from, a.in, to, offsets.data() + row * offset_width);
            }
        }
    }

    void bytes(const float* from, int64_t in, float* to, float* offset) const {
        Floats sum{};
        for (int64_t k = 0; k < width; k += LANES) {
            Floats v{};
            if (k + LANES <= in) v = load(from + k);
            else if (k < in) std::memcpy(&v, from + k, (in - k) * sizeof(float));
            const int64_t part = k / LANES % 4;
            if (part < 3) sum += v;
            store(to + k, v * (part == 0 ? 1.0f : part == 1 ? 0x1p-8f : part == 2 ? 0x1p-16f : 0x1p-24f));
        }
        store(offset, sum * -128.0f);
    }

    void nibbles(const float* from, int64_t in, float* to, float* offset) const {
        static const float FACTORS[NIBBLES] = {1, 0x1p-4f, 0x1p-8f, 0x1p-12f, 0x1p-16f, 0x1p-20f, 0x1p-24f, 0x1p-28f};
        float padded[GROUP * GROUPS] = {};
        for (int64_t k = 0; k < width; k += GROUP * GROUPS, to += GROUP * GROUPS, offset += GROUPS) {
            const float* tile = from + k;
            if (k + GROUP * GROUPS > in) {
                std::memcpy(padded, tile, (in - k) * sizeof(float));
                tile = padded;
            }
            float sums[GROUPS] = {};
            for (int64_t place = 0; place < GROUP; place++)
                for (int64_t group = 0; group < GROUPS; group++) {
                    const float v = tile[group * GROUP + place];
                    to[place * GROUPS + group] = v * FACTORS[place % NIBBLES];
                    sums[group] += place % NIBBLES < NIBBLES - 1 ? v : 0.0f;
                }
            for (int64_t group = 0; group < GROUPS; group++) offset[group] = -8 * sums[group];
        }
    }
};

// Asks for weights that lie AHEAD bytes further on, past the caches that x lies in. They come in by themselves, and
// sooner; but where x takes much of the nearest cache they drive it out, which costs a third of the speed.
constexpr int64_t AHEAD = 4096, MUCH = 8192;

template <int64_t BYTES>
inline void ask(const int32_t* weight) {
    for (int64_t line = 0; line < BYTES; line += LINE) __builtin_prefetch((const char*)weight + AHEAD + line, 0, 0);
}

// A part of each word as a float, times 2^(8 part) for bytes.
template <int PARTS>
inline Floats part(Words words, int index) {
    if (PARTS == 1) return (Floats)words;
    if (PARTS == 2) return (Floats)(index == 0 ? words << 16 : words & (int32_t)0xffff0000);  // the upper half of a float
    return __builtin_convertvector(words & (int32_t)(0xffu << 8 * index), Floats);
}

// The products of a block of outputs with each of M rows: results (M, OUTPUTS).
template <int M, int PARTS>
inline void product(const float* x, const float* offsets, int64_t tiles, const int32_t* weight, float* results) {
    const int64_t width = tiles * PARTS * LANES;
    const bool large = M * width * (int64_t)sizeof(float) > MUCH;
    Floats sums[M][OUTPUTS];
    for (int m = 0; m < M; m++)
        for (int r = 0; r < OUTPUTS; r++) sums[m][r] = PARTS == 4 ? load(offsets + m * LANES) : Floats{};
    for (int64_t tile = 0; tile < tiles; tile++, weight += OUTPUTS * LANES) {
        if (large) ask<4 * OUTPUTS * LANES>(weight);
        Words words[OUTPUTS];
        for (int r = 0; r < OUTPUTS; r++) words[r] = load(weight + r * LANES), keep(words[r]);
#pragma GCC unroll 4
        for (int p = 0; p < PARTS; p++, x += LANES) {
            Floats xs[M];
            for (int m = 0; m < M; m++) xs[m] = load(x + m * width), keep(xs[m]);
            for (int r = 0; r < OUTPUTS; r++) {
                const Floats w = part<PARTS>(words[r], p);
                for (int m = 0; m < M; m++) sums[m][r] += xs[m] * w;
            }
        }
    }
    for (int m = 0; m < M; m++)
        totals(folded(sums[m][0]), folded(sums[m][1]), folded(sums[m][2]), folded(sums[m][3]), results + m * OUTPUTS);
}

// The same for 4-bit weights. A vector holds 8 lanes of one output, or of two.
template <int M>
inline void product_of_nibbles(const float* x, const float* offsets, int64_t tiles, const int32_t* weight,
                               const uint16_t* scales, float* results) {
    constexpr int VECTORS = OUTPUTS * GROUPS / LANES;
    const int64_t width = tiles * GROUP * GROUPS;
    const bool large = M * width * (int64_t)sizeof(float) > MUCH;
    Floats sums[M][VECTORS] = {};
    for (int64_t tile = 0; tile < tiles; tile++, offsets += GROUPS, scales += VECTORS * LANES) {
        Floats inner[M][VECTORS];
        for (int m = 0; m < M; m++)
            for (int v = 0; v < VECTORS; v++) inner[m][v] = eight_lanes(offsets + m * tiles * GROUPS);
        for (int word = 0; word < GROUP / NIBBLES; word++, weight += VECTORS * LANES) {
            if (large) ask<4 * VECTORS * LANES>(weight);
            Words words[VECTORS];
            for (int v = 0; v < VECTORS; v++) words[v] = load(weight + v * LANES), keep(words[v]);
#pragma GCC unroll 8
            for (int nibble = 0; nibble < NIBBLES; nibble++, x += GROUPS) {
                Floats xs[M];
                for (int m = 0; m < M; m++) xs[m] = eight_lanes(x + m * width), keep(xs[m]);
                for (int v = 0; v < VECTORS; v++) {
                    const Floats w = __builtin_convertvector(words[v] & (int32_t)(0xfu << 4 * nibble), Floats);
                    for (int m = 0; m < M; m++) inner[m][v] += xs[m] * w;
                }
            }
        }
        for (int v = 0; v < VECTORS; v++) {
            const Floats scale = bfloat16_lanes(scales + v * LANES);
            for (int m = 0; m < M; m++) sums[m][v] += scale * inner[m][v];
        }
    }
    for (int m = 0; m < M; m++) {
        Eight outputs[OUTPUTS];
        for (int r = 0; r < OUTPUTS; r++) outputs[r] = eighth(sums[m][r * GROUPS / LANES], r * GROUPS % LANES);
        totals(outputs[0], outputs[1], outputs[2], outputs[3], results + m * OUTPUTS);
    }
}

// One block of outputs for up to M rows from ``row`` on, with scale and bias: results (count, OUTPUTS).
template <int M>
inline void products(const Matrix& a, int64_t block, const Rows& rows, int64_t row, int64_t count, float* results) {
    if constexpr (M > 1)
        if (count < M) return products<M - 1>(a, block, rows, row, count, results);
    const int64_t tiles = a.tiles();
    const float *x = rows.x.data() + row * rows.width, *offsets = rows.offsets.data() + row * rows.offset_width;
    const int32_t* weight = a.block(block);
    if (a.kind == FLOAT32) product<M, 1>(x, offsets, tiles, weight, results);
    else if (a.kind == BFLOAT16) product<M, 2>(x, offsets, tiles, weight, results);
    else if (a.kind == INT8) product<M, 4>(x, offsets, tiles, weight, results);
    else product_of_nibbles<M>(x, offsets, tiles, weight, a.scales(block), results);
    const int64_t from = block * OUTPUTS, wanted = std::min<int64_t>(OUTPUTS, a.out - from);
    for (int m = 0; m < M; m++)
        for (int64_t r = 0; r < wanted; r++) {
            float& y = results[m * OUTPUTS + r];
            if (a.kind == INT8) y *= ((const float*)a.scale)[from + r];
            if (a.bias) y += a.bias[from + r];
        }
}

// Calls put(row, output, value) for all rows and the outputs of some blocks.
template <class Put>
inline void multiply(const Matrix& a, const Rows& x, int64_t rows, int64_t first, int64_t last, Put put) {
    const int64_t groups = (rows + MOST_ROWS - 1) / MOST_ROWS;
    float results[MOST_ROWS * OUTPUTS];
    for (int64_t block = first; block < last; block++)
        for (int64_t group = 0; group < groups; group++) {
            const int64_t row = rows * group / groups, next = rows * (group + 1) / groups, from = block * OUTPUTS;
            products<MOST_ROWS>(a, block, x, row, next - row, results);
            for (int64_t m = 0; m < next - row; m++)
                for (int64_t r = 0; r < std::min<int64_t>(OUTPUTS, a.out - from); r++)
                    put(row + m, from + r, results[m * OUTPUTS + r]);
        }
}

struct alignas(LINE) Counter { std::atomic<int64_t> taken{0}; };

// Calls work(first, last) until all of ``count`` things are done by the team. A thread goes through its own share piece
// by piece, in the order of the memory, and then helps the others: one that has to wait for a core keeps one piece only.
template <class Work>
inline void share(Counter* counters, int64_t count, int64_t piece, Work work) {
    const int64_t thread = omp_get_thread_num(), team = omp_get_num_threads();
    for (int64_t i = 0; i < team; i++) {
        const int64_t whose = (thread + i) % team, first = count * whose / team, last = count * (whose + 1) / team;
        for (;;) {
            const int64_t at = first + piece * counters[whose].taken.fetch_add(1, std::memory_order_relaxed);
            if (at >= last) break;
            work(at, std::min(at + piece, last));
        }
    }
}

// The memory fetches the first weights of this thread's next share while the others finish and x is made.
inline void announce(const Matrix& a) {
    const char* first = (const char*)a.block(a.blocks() * omp_get_thread_num() / omp_get_num_threads());
    for (int64_t at = 0; at < FIRST; at += LINE) __builtin_prefetch(first + at, 0, 0);
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
    float* const* caches;  // of each block: keys, values (rows, kv_heads, length, head_dim), contiguous but for
                           // cache_row and cache_head
    const int64_t* places; // (rows) first place of each row, or null: start
    const float* norm;     // of the states behind the last block (dim), or null
    int64_t rows, count, rotary_row, mask_row, mask_token, cache_row, cache_head, start, span;
    float eps;             // of norm
};

inline void rms_norm(const float* x, const float* weight, float eps, int64_t dim, float* y) {
    Floats squares{};
    int64_t i = 0;
    for (; i + LANES <= dim; i += LANES) squares += load(x + i) * load(x + i);
    float sum = total(squares);
    for (; i < dim; i++) sum += x[i] * x[i];
    const float factor = 1 / std::sqrt(sum / dim + eps);
    for (i = 0; i < dim; i++) y[i] = x[i] * factor * weight[i];
}

inline void rotate(const float* x, const float* table, int64_t dim, bool halves, float scale, float* y) {
    const int64_t first = halves ? 1 : 2, second = halves ? dim / 2 : 1;
    for (int64_t i = 0; i < dim / 2; i++) {
        const float a = x[i * first], b = x[i * first + second], cos = table[2 * i], sin = table[2 * i + 1];
        y[i * first] = (a * cos - b * sin) * scale;
        y[i * first + second] = (b * cos + a * sin) * scale;
    }
}

// Sums of values (span, dim) by weights, WIDTH vectors of channels at a time.
template <int WIDTH>
inline void blend(const float* weights, const float* values, int64_t span, int64_t dim, float factor, float* y) {
    Floats sums[WIDTH] = {};
    for (int64_t j = 0; j < span; j++)
        if (weights[j] != 0)
            for (int i = 0; i < WIDTH; i++) sums[i] += weights[j] * load(values + j * dim + i * LANES);
    for (int i = 0; i < WIDTH; i++) store(y + i * LANES, sums[i] * factor);
}

// One query over the keys it sees; scores has room for span numbers and 2 LANES more.
inline void attend(const float* query, const float* keys, const float* values, const uint8_t* mask, int64_t span,
                   int64_t dim, float* scores, float* y) {
    float largest = NOTHING;
    for (int64_t j = 0; j < span; j += 4) {
        Floats sums[4] = {};
        const int64_t count = std::min<int64_t>(4, span - j);
        for (int64_t key = 0; key < count; key++)
            for (int64_t i = 0; i < dim; i += LANES)
                sums[key] += load(query + i) * load(keys + (j + key) * dim + i);
        totals(folded(sums[0]), folded(sums[1]), folded(sums[2]), folded(sums[3]), scores + j);
        for (int64_t key = 0; key < count; key++) {
            if (mask && !mask[j + key]) scores[j + key] = NOTHING;
            largest = std::max(largest, scores[j + key]);
        }
    }
    std::fill(scores + span, scores + span + LANES, NOTHING);
    Floats weights{};
    for (int64_t j = 0; j < span; j += LANES) {
        const Floats score = load(scores + j);
        const Floats weight = (Floats)((Words)exponential(score - largest) & (score > NOTHING / 2));
        weights += weight;
        store(scores + j, weight);
    }
    const float sum = total(weights), factor = sum > 0 ? 1 / sum : 0;  // a query that sees nothing gets nothing
    int64_t i = 0;
    for (; i + 4 * LANES <= dim; i += 4 * LANES) blend<4>(scores, values + i, span, dim, factor, y + i);
    for (; i < dim; i += LANES) blend<1>(scores, values + i, span, dim, factor, y + i);
}

// All queries of one row that share a head of keys: keys and values go to the cache, then the queries look at it.
inline void attend_head(const Block& b, const Step& s, int64_t layer, int64_t row, int64_t head, const float* qkv,
                        float* attended, float* scores) {
    const int64_t d = b.head_dim, width = (b.heads + 2 * b.kv_heads) * d, group = b.heads / b.kv_heads;
    const int64_t start = s.places ? s.places[row] : s.start;
    float* keys = s.caches[2 * layer] + row * s.cache_row + head * s.cache_head;
    float* values = s.caches[2 * layer + 1] + row * s.cache_row + head * s.cache_head;
    for (int64_t n = 0; n < s.count; n++) {
        const float* token = qkv + (row * s.count + n) * width;
        const float* table = s.rotary + row * s.rotary_row + n * d;
        rotate(token + (b.heads + head) * d, table, d, b.halves, 1, keys + (start + n) * d);
        std::memcpy(values + (start + n) * d, token + (b.heads + b.kv_heads + head) * d, d * sizeof(float));
    }
    float* query = scores + s.span + 2 * LANES;
    for (int64_t n = 0; n < s.count; n++)
        for (int64_t h = head * group; h < (head + 1) * group; h++) {
            const int64_t token = row * s.count + n;
            rotate(qkv + token * width + h * d, s.rotary + row * s.rotary_row + n * d, d, b.halves,
                   1 / std::sqrt((float)d), query);
            const uint8_t* mask = s.mask ? s.mask + row * s.mask_row + n * s.mask_token : nullptr;
            attend(query, keys, values, mask, s.span, d, scores, attended + (token * b.heads + h) * d);
        }
}

// gate = silu(gate) * value for some outputs of one token.
inline void activate(float* gate, const float* value, int64_t count) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const Floats g = load(gate + i);
        store(gate + i, g / (exponential(-g) + 1.0f) * load(value + i));
    }
    if (i == count) return;
    Floats g{}, v{};
    std::memcpy(&g, gate + i, (count - i) * sizeof(float));
    std::memcpy(&v, value + i, (count - i) * sizeof(float));
    g = g / (exponential(-g) + 1.0f) * v;
    std::memcpy(gate + i, &g, (count - i) * sizeof(float));
}

enum Phase { QKV, ATTENTION, OUT, FEED, DOWN, PHASES };

// What the threads share while they run blocks one after the other. Norms of a few tokens cost less than a barrier, so
// every thread makes its own.
struct Run {
    const Block* const* blocks;
    const int64_t depth, threads, tokens;
    const Step& s;
    Numbers qkv, attended, gates, values;
    std::vector<Counter> counters;
    Barrier barrier;

    Run(const Block* const* blocks, int64_t depth, const Step& s, int64_t threads)
        : blocks(blocks), depth(depth), threads(threads), tokens(s.rows * s.count), s(s),
          counters(depth * PHASES * threads) {
        int64_t width = 0, inner = 0, hidden = 0;
        for (int64_t layer = 0; layer < depth; layer++) {
            const Block& b = *blocks[layer];
            width = std::max(width, b.qkv.out);
            inner = std::max(inner, b.heads * b.head_dim);
            hidden = std::max(hidden, b.gate.out);
        }
        qkv.resize(tokens * width), attended.resize(tokens * inner);
        gates.resize(tokens * hidden), values.resize(tokens * hidden);
    }

    void wait_for_all() { barrier.wait(omp_get_num_threads()); }

    void norm(const Block& b, const float* weight, const float* from, float* normed) const {
        for (int64_t t = 0; t < tokens; t++)
            rms_norm(from + t * b.qkv.in, weight, b.eps, b.qkv.in, normed + t * b.qkv.in);
    }

    void feed(const Block& b, const Rows& x, Counter* counter) {
        const int64_t width = b.gate.out;
        share(counter, b.gate.blocks(), b.gate.piece(), [&](int64_t first, int64_t last) {
            multiply(b.gate, x, tokens, first, last, [&](int64_t t, int64_t o, float v) {
                gates.data()[t * width + o] = v;
            });
            multiply(b.value, x, tokens, first, last, [&](int64_t t, int64_t o, float v) {
                values.data()[t * width + o] = v;
            });
            const int64_t from = first * OUTPUTS, to = std::min(last * OUTPUTS, width);
            for (int64_t t = 0; t < tokens; t++)
                activate(gates.data() + t * width + from, values.data() + t * width + from, to - from);
        });
    }

    // One thread's part of a block. x may be y but in the first block.
    void block(int64_t layer, const float* x, Rows& rows, float* normed, float* scores) {
        const Block& b = *blocks[layer];
        Counter* counter = counters.data() + layer * PHASES * threads;
        const int64_t dim = b.qkv.in, width = b.qkv.out;
        norm(b, b.norm1, x, normed);
        rows.fit(b.qkv, normed, tokens);
        share(counter + QKV * threads, b.qkv.blocks(), b.qkv.piece(), [&](int64_t first, int64_t last) {
            multiply(b.qkv, rows, tokens, first, last, [&](int64_t t, int64_t o, float v) {
                qkv.data()[t * width + o] = v;
            });
        });
        announce(b.out);
        wait_for_all();
        share(counter + ATTENTION * threads, s.rows * b.kv_heads, 1, [&](int64_t task, int64_t) {
            attend_head(b, s, layer, task / b.kv_heads, task % b.kv_heads, qkv.data(), attended.data(), scores);
        });
        wait_for_all();
        rows.fit(b.out, attended.data(), tokens);
        share(counter + OUT * threads, b.out.blocks(), b.out.piece(), [&](int64_t first, int64_t last) {
            multiply(b.out, rows, tokens, first, last, [&](int64_t t, int64_t o, float v) {
                s.y[t * dim + o] = x[t * dim + o] + b.residual * v;
            });
        });
        announce(b.gate);
        wait_for_all();
        norm(b, b.norm2, s.y, normed);
        rows.fit(b.gate, normed, tokens);
        feed(b, rows, counter + FEED * threads);
        announce(b.down);
        wait_for_all();
        rows.fit(b.down, gates.data(), tokens);
        share(counter + DOWN * threads, b.down.blocks(), b.down.piece(), [&](int64_t first, int64_t last) {
            multiply(b.down, rows, tokens, first, last, [&](int64_t t, int64_t o, float v) {
                s.y[t * dim + o] += b.residual * v;
            });
        });
        if (layer + 1 < depth) announce(blocks[layer + 1]->qkv);
        wait_for_all();  // in the end too: then OpenMP's own finds all threads
    }
};

// The channels of one output in a tile.
inline void unpack_parts(const Matrix& a, const int32_t* words, int64_t output, float* y) {
    const Words all = load(words);
    if (a.kind == FLOAT32) return store(y, (Floats)all);
    if (a.kind == BFLOAT16) return store(y, part<2>(all, 0)), store(y + LANES, part<2>(all, 1));
    const float scale = ((const float*)a.scale)[output];
    for (int p = 0; p < 4; p++) {
        const Words bits = p < 3 ? (all >> 8 * p & 255) - 128 : all >> 24;
        store(y + p * LANES, __builtin_convertvector(bits, Floats) * scale);
    }
}

inline void unpack_nibbles(const int32_t* words, const uint16_t* scales, int64_t output, float* y) {
    for (int64_t group = 0; group < GROUPS; group++) {
        const uint32_t bits = (uint32_t)scales[group] << 16;
        float scale;
        std::memcpy(&scale, &bits, sizeof scale);
        for (int64_t word = 0; word < GROUP / NIBBLES; word++, y += NIBBLES) {
            const int32_t all = words[(word * OUTPUTS + output) * GROUPS + group];
            for (int64_t n = 0; n < NIBBLES; n++)
                y[n] = (n + 1 < NIBBLES ? (all >> 4 * n & 15) - 8 : all >> 28) * scale;
        }
    }
}

}  // namespace

extern "C" int packed_lanes() { return LANES; }
extern "C" int packed_outputs() { return OUTPUTS; }

extern "C" void few_rows_linear(const Matrix* matrix, const float* x, float* y, int64_t rows, int threads) {
    const Matrix& a = *matrix;
    std::vector<Counter> counters(threads);
    Barrier barrier;
#pragma omp parallel num_threads(threads)
    {
        Rows fitted;
        announce(a);
        fitted.fit(a, x, rows);
        share(counters.data(), a.blocks(), a.piece(), [&](int64_t first, int64_t last) {
            multiply(a, fitted, rows, first, last, [&](int64_t row, int64_t o, float v) { y[row * a.out + o] = v; });
        });
        barrier.wait(omp_get_num_threads());
    }
}

// The weights (out, in) as the products have them, scales included.
extern "C" void unpack(const Matrix* matrix, float* y, int threads) {
    const Matrix& a = *matrix;
#pragma omp parallel for num_threads(threads)
    for (int64_t output = 0; output < a.out; output++) {
        const int64_t block = output / OUTPUTS, r = output % OUTPUTS;
        float tile[GROUP * GROUPS];
        for (int64_t t = 0; t < a.tiles(); t++) {
            const int32_t* words = a.block(block) + t * (a.words() / a.tiles());
            if (a.kind == INT4) unpack_nibbles(words, a.scales(block) + (t * OUTPUTS + r) * GROUPS, r, tile);
            else unpack_parts(a, words + r * LANES, output, tile);
            const int64_t from = t * a.channels();
            std::memcpy(y + output * a.in + from, tile, std::min(a.channels(), a.in - from) * sizeof(float));
        }
    }
}

// Blocks one after the other. 1, and nothing is done, when a token's place is not one of those that are seen.
extern "C" int llama_blocks(const Block* const* blocks, int64_t depth, const Step* step, int threads) {
    const Step& s = *step;
    for (int64_t row = 0; row < s.rows; row++) {
        const int64_t start = s.places ? s.places[row] : s.start;
        if (start < 0 || start + s.count > s.span) return 1;
    }
    Run run(blocks, depth, s, threads);
    int64_t head_dim = 0;
    for (int64_t layer = 0; layer < depth; layer++) head_dim = std::max(head_dim, blocks[layer]->head_dim);
#pragma omp parallel num_threads(threads)
    {
        Rows rows;
        Numbers normed, scores;
        normed.resize(run.tokens * blocks[0]->qkv.in);
        scores.resize(s.span + 2 * LANES + head_dim);
        for (int64_t layer = 0; layer < depth; layer++)
            run.block(layer, layer ? s.y : s.x, rows, normed.data(), scores.data());
        const int64_t dim = blocks[0]->qkv.in, thread = omp_get_thread_num(), team = omp_get_num_threads();
        if (s.norm)
            for (int64_t t = run.tokens * thread / team; t < run.tokens * (thread + 1) / team; t++)
                rms_norm(s.y + t * dim, s.norm, s.eps, dim, s.y + t * dim);
    }
    return 0;
}
