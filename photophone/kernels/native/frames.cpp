// Convolutions over time and linear layers of frames, with what stands in front of and behind them in the same pass.
//
// y[row, t] = sum over k of w[row, k] x[k, t]: vectors run along time, weights are broadcast. So signals keep torch's
// layout (rows, channels, time), a tap of a convolution is a shift of the signal and nothing is unfolded, and the ends
// are filled up while a block of the signal is brought into the cache. Weights are read as torch has them: a few
// outputs at a time are put in order on the stack of the thread, so no second copy of them can grow old.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <omp.h>
#include <vector>

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16, MOST_ROWS = 12;
#else
constexpr int LANES = 8, MOST_ROWS = 6;
#endif
constexpr int VECTORS = 2, WIDTH = VECTORS * LANES;  // MOST_ROWS x VECTORS sums fill the registers
constexpr int64_t BLOCK_FLOATS = 96 * 1024;          // of a signal that stay in the second cache
constexpr int64_t AHEAD = 2048;                      // weights that are asked for in advance
constexpr int64_t SMALL_WORK = 1 << 19;              // products below which a second thread gains nothing

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));

typedef float Anywhere __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline Floats load(const float* p) { return *(const Anywhere*)p; }
inline void store(float* p, Floats v) { *(Anywhere*)p = v; }
inline Floats choose(Ints mask, Floats a, Floats b) { return mask ? a : b; }

// e^x for x <= 0, to 2e-7 of it: 2^n times a polynomial on [-ln(2) / 2, ln(2) / 2].
inline Floats exp_below_zero(Floats x) {
    x = choose(x < -87.0f, Floats{} - 87.0f, x);
    const Ints n = __builtin_convertvector(x * 1.44269504f - 0.5f, Ints);  // to the nearest: it cuts towards 0
    const Floats r = x - __builtin_convertvector(n, Floats) * 0.693147181f;
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (Floats)((n + 127) << 23);
}

inline Floats elu(Floats x) { return choose(x > 0.0f, x, exp_below_zero(choose(x > 0.0f, Floats{}, x)) - 1.0f); }

// x (1 + erf(x / sqrt(2))) / 2, with erf as a quotient of polynomials on [-4, 4].
inline Floats gelu(Floats x) {
    Floats z = x * 0.70710678f;
    z = choose(z > 4.0f, Floats{} + 4.0f, z);
    z = choose(z < -4.0f, Floats{} - 4.0f, z);
    const Floats s = z * z;
    Floats p = s * -2.72614225801306e-10f + 2.77068142495902e-08f;
    p = p * s + -2.10102402082508e-06f;
    p = p * s + -5.69250639462346e-05f;
    p = p * s + -7.34990630326855e-04f;
    p = p * s + -2.95459980854025e-03f;
    p = p * s + -1.60960333262415e-02f;
    Floats q = s * -1.45660718464996e-05f + -2.13374055278905e-04f;
    q = q * s + -1.68282697438203e-03f;
    q = q * s + -7.37332916720468e-03f;
    q = q * s + -1.42647390514189e-02f;
    return x * 0.5f * (1.0f + z * p / q);
}

inline Floats sigmoid(Floats x) {
    const Floats e = exp_below_zero(choose(x > 0.0f, -x, x));
    return choose(x > 0.0f, Floats{} + 1.0f, e) / (1.0f + e);
}

inline Floats tanh(Floats x) {
    const Floats e = exp_below_zero(choose(x > 0.0f, -2.0f * x, 2.0f * x));
    const Floats y = (1.0f - e) / (1.0f + e);
    return choose(x > 0.0f, y, -y);
}

enum { PLAIN = 0, ELU = 1, GELU = 2 };
inline Floats activate(int64_t kind, Floats x) { return kind == ELU ? elu(x) : kind == GELU ? gelu(x) : x; }

enum { ZEROS = 0, MIRRORED = 1 };

// Field by field as ctypes has it in kernels/frames.py. An output row is (channel, phase): a transposed convolution of
// stride s is a convolution of few taps with s phases for each channel, whose results lie side by side in time.
struct Layer {
    const float *weight, *ordered;       // as torch has it, and what frames_order made of it, or null
    const float *bias, *scale;           // (out), or null
    int64_t out, in, taps;               // channels, and taps of a phase
    int64_t w_out, w_in;                 // strides of the weights
    int64_t kernel, phases;              // taps in all, and phases: 1 for a plain convolution
    int64_t stride, dilation, left, fill;
    int64_t before, after;               // activations
};

struct Signal {
    const float* x;  // (rows, in, length)
    float* y;        // (rows, out, made)
    const float* add;  // as y, or null
    int64_t rows, length, made, steps, trim;  // steps of time that are computed, and outputs cut in front
    int64_t x_row, x_channel, x_time, y_row, y_channel, y_time, add_row, add_channel, add_time;
};

struct Plan {
    std::vector<int64_t> shifts;  // of each k in a block of the signal
    int64_t groups, width, pitch; // phases of the stride, positions of each, and floats from channel to channel
    int64_t block;                // steps of time

    Plan(const Layer& a, const Signal& s, int64_t threads) {
        const int64_t reach = (a.taps - 1) * a.dilation;
        groups = std::min(a.stride, reach + 1);
        int64_t size = BLOCK_FLOATS / (a.in * groups) / WIDTH * WIDTH;
        size = std::max<int64_t>(WIDTH, std::min<int64_t>(size, 2048));
        int64_t count = (s.steps + size - 1) / size;
        if (s.rows * count > 1) count = (s.rows * count + threads - 1) / threads * threads / s.rows;
        count = std::max<int64_t>(count, 1);
        block = ((s.steps + count - 1) / count + WIDTH - 1) / WIDTH * WIDTH;
        width = block + reach / a.stride;
        width = ((width + 15) / 16) | 1, width *= 16;  // an odd number of cache lines: no two channels in each other's way
        pitch = groups * width;
        for (int64_t c = 0; c < a.in; c++)
            for (int64_t tap = 0; tap < a.taps; tap++) {
                const int64_t at = tap * a.dilation;
                shifts.push_back(c * pitch + at % a.stride * width + at / a.stride);
            }
    }
    int64_t blocks(const Signal& s) const { return (s.steps + block - 1) / block; }
};

inline float value_at(const Layer& a, const Signal& s, const float* x, int64_t i) {
    if (i >= 0 && i < s.length) return x[i * s.x_time];
    if (a.fill == ZEROS) return 0;
    // A signal that is not longer than its past is extended by zeros before it is mirrored.
    i = i < 0 ? -i : 2 * (s.length - 1) - i;
    return i >= 0 && i < s.length ? x[i * s.x_time] : 0;
}

// A block of the signal into the cache: (in, groups, width), activated, with its ends filled up.
inline void gather(const Layer& a, const Signal& s, const Plan& p, int64_t row, int64_t start, float* block) {
    const bool frames = s.x_channel == 1 && s.x_time != 1;
    for (int64_t c = 0; c < a.in; c++) {
        const float* x = s.x + row * s.x_row + c * s.x_channel;
        for (int64_t g = 0; g < p.groups; g++) {
            float* to = block + c * p.pitch + g * p.width;
            const int64_t from = start * a.stride + g - a.left;  // of position 0
            // positions whose inputs lie inside
            int64_t first = from >= 0 ? 0 : (-from + a.stride - 1) / a.stride;
            int64_t last = s.length - 1 < from ? 0 : (s.length - 1 - from) / a.stride + 1;
            first = std::min(first, p.width), last = std::max(first, std::min(last, p.width));
            for (int64_t q = 0; q < first; q++) to[q] = value_at(a, s, x, from + q * a.stride);
            if (a.stride == 1 && s.x_time == 1)
                std::memcpy(to + first, x + from + first, (last - first) * sizeof(float));
            else if (!frames)
                for (int64_t q = first; q < last; q++) to[q] = x[(from + q * a.stride) * s.x_time];
            for (int64_t q = last; q < p.width; q++) to[q] = value_at(a, s, x, from + q * a.stride);
        }
    }
    if (frames)  // channels lie together: a few of them for all times
        for (int64_t c = 0; c < a.in; c += 16)
            for (int64_t g = 0; g < p.groups; g++)
                for (int64_t q = 0; q < p.width; q++) {
                    const int64_t i = (start + q) * a.stride + g - a.left;
                    if (i < 0 || i >= s.length) continue;
                    const float* x = s.x + row * s.x_row + i * s.x_time;
                    for (int64_t d = c; d < std::min(c + 16, a.in); d++)
                        block[d * p.pitch + g * p.width + q] = x[d];
                }
    if (a.before != PLAIN)
        for (int64_t i = 0; i < a.in * p.pitch; i += LANES) store(block + i, activate(a.before, load(block + i)));
}

// Rows that are computed together: phases of neighbouring channels, or some phases of one channel.
struct Tile {
    int64_t channel, channels, phase, phases;
    Tile(const Layer& a, int64_t number) {
        const int64_t parts = (a.phases + MOST_ROWS - 1) / MOST_ROWS, part = number % parts;
        const int64_t strip = number / parts, strips = count(a) / parts;
        channel = a.out * strip / strips, channels = a.out * (strip + 1) / strips - channel;
        phase = a.phases * part / parts, phases = a.phases * (part + 1) / parts - phase;
    }
    int64_t rows() const { return channels * phases; }
    int64_t place(const Layer& a) const { return (channel * a.phases + phase) * a.in * a.taps; }  // in ordered weights
    static int64_t count(const Layer& a) {
        const int64_t parts = (a.phases + MOST_ROWS - 1) / MOST_ROWS, together = std::max<int64_t>(1, MOST_ROWS / a.phases);
        return (a.out + together - 1) / together * parts;
    }
};

#ifdef __clang__
#define SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef int32_t FourInts __attribute__((vector_size(16)));
#define SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, FourInts{i, j, k, l})
#endif
#define LOW(a, b) SHUFFLE(a, b, 0, 4, 1, 5)
#define HIGH(a, b) SHUFFLE(a, b, 2, 6, 3, 7)
#define FIRST(a, b) SHUFFLE(a, b, 0, 1, 4, 5)
#define SECOND(a, b) SHUFFLE(a, b, 2, 3, 6, 7)

// Rows of w, each contiguous over all k, to (keys, rows).
inline void transpose(const float* w, int64_t w_row, int64_t rows, int64_t keys, float* to) {
    typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4, w += 4 * w_row) {
        int64_t k = 0;
        for (; k + 4 <= keys; k += 4) {
            const Four a = *(const Four*)(w + k), b = *(const Four*)(w + w_row + k),
                       c = *(const Four*)(w + 2 * w_row + k), d = *(const Four*)(w + 3 * w_row + k);
            const Four ab = LOW(a, b), cd = LOW(c, d);
            const Four ef = HIGH(a, b), gh = HIGH(c, d);
            float* at = to + k * rows + r;
            *(Four*)at = FIRST(ab, cd);
            *(Four*)(at + rows) = SECOND(ab, cd);
            *(Four*)(at + 2 * rows) = FIRST(ef, gh);
            *(Four*)(at + 3 * rows) = SECOND(ef, gh);
        }
        for (; k < keys; k++)
            for (int i = 0; i < 4; i++) to[k * rows + r + i] = w[i * w_row + k];
    }
    for (; r < rows; r++, w += w_row)
        for (int64_t k = 0; k < keys; k++) to[k * rows + r] = w[k];
}

// Weights of a tile, for each k one behind the other: (keys, rows).
inline void order(const Layer& a, const Tile& tile, float* to) {
    if (a.phases == 1) return transpose(a.weight + tile.channel * a.w_out, a.w_out, tile.rows(), a.in * a.taps, to);
    for (int64_t c = 0; c < a.in; c++)
        for (int64_t tap = 0; tap < a.taps; tap++)  // the newest input meets the first taps
            for (int64_t n = tile.channel; n < tile.channel + tile.channels; n++) {
                const float* w = a.weight + c * a.w_in + n * a.w_out + (a.taps - 1 - tap) * a.phases + tile.phase;
                for (int64_t phase = 0; phase < tile.phases; phase++) *to++ = w[phase];
            }
}

template <int R, int V>
__attribute__((noinline)) void products(const float* w, const float* x, const int64_t* shifts, int64_t keys, Floats* sums) {
    Floats s[R][V] = {};
    for (int64_t k = 0; k < keys; k++, w += R) {
        const float* at = x + shifts[k];
        __builtin_prefetch(w + AHEAD);
        Floats v[V];
#pragma GCC unroll 2
        for (int i = 0; i < V; i++) v[i] = load(at + i * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++)
#pragma GCC unroll 2
            for (int i = 0; i < V; i++) s[r][i] += v[i] * w[r];
    }
    for (int r = 0; r < R; r++)
        for (int i = 0; i < V; i++) sums[r * V + i] = s[r][i];
}

template <int R>
void multiply(int64_t rows, const float* w, const float* x, const int64_t* shifts, int64_t keys, int64_t vectors,
              Floats* sums) {
    if constexpr (R > 1)
        if (rows < R) return multiply<R - 1>(rows, w, x, shifts, keys, vectors, sums);
    if (vectors == 1) products<R, 1>(w, x, shifts, keys, sums);
    else products<R, VECTORS>(w, x, shifts, keys, sums);
}

// One row of results at times start.., to where they belong.
inline void finish(const Layer& a, const Signal& s, int64_t batch, int64_t channel, int64_t phase, int64_t start,
                   int64_t vectors, const Floats* sums) {
    float* y = s.y + batch * s.y_row + channel * s.y_channel;
    const float* add = s.add ? s.add + batch * s.add_row + channel * s.add_channel : nullptr;
    const float bias = a.bias ? a.bias[channel] : 0, scale = a.scale ? a.scale[channel] : 1;
    for (int64_t v = 0; v < vectors; v++) {
        const Floats made = activate(a.after, sums[v] + bias) * scale;
        const int64_t from = start + v * LANES;
        if (a.phases == 1 && s.y_time == 1 && (!add || s.add_time == 1) && s.trim == 0 && from + LANES <= s.made) {
            store(y + from, add ? made + load(add + from) : made);
            continue;
        }
        for (int64_t i = 0; i < LANES; i++) {
            const int64_t at = (from + i) * a.phases + phase - s.trim;
            if (at >= 0 && at < s.made) y[at * s.y_time] = add ? made[i] + add[at * s.add_time] : made[i];
        }
    }
}

}  // namespace

// All weights of a layer in the order in which they are read, out * phases * in * taps numbers.
extern "C" void frames_order(const Layer* layer, float* to) {
    for (int64_t number = 0; number < Tile::count(*layer); number++) {
        const Tile tile(*layer, number);
        order(*layer, tile, to + tile.place(*layer));
    }
}

extern "C" void frames_product(const Layer* layer, const Signal* signal, int threads) {
    const Layer& a = *layer;
    const Signal& s = *signal;
    const int64_t keys = a.in * a.taps, tiles = Tile::count(a);
    if (a.out * a.phases * keys * s.steps * s.rows < SMALL_WORK) threads = 1;
    const Plan plan(a, s, threads);
    const int64_t blocks = plan.blocks(s) * s.rows;
    // where there are fewer blocks than threads, several of them share a block's outputs
    const int64_t shares = std::min<int64_t>(tiles, (threads + blocks - 1) / blocks);
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> block(a.in * plan.pitch + WIDTH), ordered(a.ordered ? 0 : keys * MOST_ROWS);
        Floats sums[MOST_ROWS * VECTORS];
#pragma omp for schedule(dynamic)
        for (int64_t job = 0; job < blocks * shares; job++) {
            const int64_t share = job % shares, batch = job / shares / plan.blocks(s);
            const int64_t start = job / shares % plan.blocks(s) * plan.block;
            gather(a, s, plan, batch, start, block.data());
            for (int64_t number = tiles * share / shares; number < tiles * (share + 1) / shares; number++) {
                const Tile tile(a, number);
                const float* w = a.ordered ? a.ordered + tile.place(a) : ordered.data();
                if (!a.ordered) order(a, tile, ordered.data());
                for (int64_t t = 0; t < plan.block && start + t < s.steps; t += WIDTH) {
                    const int64_t vectors = start + t + LANES < s.steps ? VECTORS : 1;
                    multiply<MOST_ROWS>(tile.rows(), w, block.data() + t, plan.shifts.data(), keys, vectors, sums);
                    for (int64_t r = 0; r < tile.rows(); r++)
                        finish(a, s, batch, tile.channel + r / tile.phases, tile.phase + r % tile.phases, start + t, vectors,
                               sums + r * vectors);
                }
            }
        }
    }
}

// Field by field as ctypes has it in kernels/frames.py. Pointers may be null: without weights the norm is alone.
struct Depthwise {
    const float *weight, *bias, *gain, *shift;  // (channels, kernel), and (channels) each
    int64_t channels, kernel, dilation, left;
    float eps;
};

// Contiguous x (rows, channels, length) to y (rows, channels, made): a few frames at a time stay in the cache while
// their means and variances are found.
extern "C" void depthwise_norm(const Depthwise* layer, const Signal* signal, int threads) {
    const Depthwise& a = *layer;
    const Signal& s = *signal;
    const int64_t blocks = (s.made + WIDTH - 1) / WIDTH, reach = (a.kernel - 1) * a.dilation;
    if (s.rows * s.made * a.channels * a.kernel < SMALL_WORK) threads = 1;
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> block(a.channels * WIDTH), ends(WIDTH + reach);
#pragma omp for
        for (int64_t job = 0; job < blocks * s.rows; job++) {
            const int64_t start = job % blocks * WIDTH, count = std::min<int64_t>(WIDTH, s.made - start);
            const int64_t from = start - a.left, first = job / blocks * a.channels;
            const bool inside = from >= 0 && from + reach + WIDTH <= s.length;
            Floats sum[VECTORS] = {}, squares[VECTORS] = {}, scale[VECTORS];
            for (int64_t c = 0; c < a.channels; c++) {
                const float* x = s.x + (first + c) * s.length + from;
                if (!inside) {
                    for (int64_t i = 0; i < WIDTH + reach; i++) ends[i] = from + i >= 0 && from + i < s.length ? x[i] : 0;
                    x = ends.data();
                }
                for (int v = 0; v < VECTORS; v++) {
                    Floats made = Floats{} + (a.bias ? a.bias[c] : 0);
                    if (!a.weight) made = load(x + v * LANES);
                    else for (int64_t k = 0; k < a.kernel; k++)
                        made += load(x + v * LANES + k * a.dilation) * a.weight[c * a.kernel + k];
                    sum[v] += made;
                    store(&block[c * WIDTH + v * LANES], made);
                }
            }
            for (int v = 0; v < VECTORS; v++) sum[v] /= (float)a.channels;
            for (int64_t c = 0; c < a.channels; c++)
                for (int v = 0; v < VECTORS; v++) {
                    const Floats centred = load(&block[c * WIDTH + v * LANES]) - sum[v];
                    squares[v] += centred * centred;
                }
            for (int v = 0; v < VECTORS; v++)
                for (int i = 0; i < LANES; i++) scale[v][i] = 1 / std::sqrt(squares[v][i] / a.channels + a.eps);
            for (int64_t c = 0; c < a.channels; c++) {
                float* y = s.y + (first + c) * s.made + start;
                const float gain = a.gain ? a.gain[c] : 1, shift = a.shift ? a.shift[c] : 0;
                for (int v = 0; v < VECTORS; v++) {
                    const Floats made = (load(&block[c * WIDTH + v * LANES]) - sum[v]) * scale[v] * gain + shift;
                    if ((v + 1) * LANES <= count) store(y + v * LANES, made);
                    else for (int64_t i = v * LANES; i < count; i++) y[i] = made[i - v * LANES];
                }
            }
        }
    }
}

// A layer of an LSTM. What the inputs give to the gates comes ready, so a step is one product with all of the weights,
// and reading them is its cost: they lie in the order of reading, (units / LANES, units, 4 gates, LANES).
struct Recurrent {
    const float* weight;                    // ordered by lstm_order
    const float* gates;                     // (steps, rows, 4 units)
    float* y;                               // (steps, rows, units)
    int64_t rows, steps, units;
};

extern "C" int frames_lanes() { return LANES; }

// weight (4 units, units), gates i f g o one below the other.
extern "C" void lstm_order(const float* weight, int64_t units, float* to) {
    for (int64_t group = 0; group < units; group += LANES)
        for (int64_t k = 0; k < units; k++)
            for (int64_t gate = 0; gate < 4; gate++)
                for (int64_t lane = 0; lane < LANES; lane++) *to++ = weight[(gate * units + group + lane) * units + k];
}

namespace {

// LANES units of R rows, a step further.
template <int R>
__attribute__((noinline)) void lstm_units(const Recurrent& a, const float* gates, const float* before, int64_t row,
                                          int64_t group, float* cells, float* y) {
    const float* w = a.weight + group * a.units * 4;
    const float* h = before + row * a.units;
    constexpr int CHAINS = R == 1 ? 2 : 1;  // one row alone would wait for its own sums
    Floats sums[CHAINS][R][4] = {};
    for (int64_t k = 0; k < a.units; k += CHAINS)
        for (int chain = 0; chain < CHAINS; chain++, w += 4 * LANES)
            for (int gate = 0; gate < 4; gate++) {
                const Floats weight = load(w + gate * LANES);
                for (int r = 0; r < R; r++) sums[chain][r][gate] += weight * h[r * a.units + k + chain];
            }
    for (int r = 0; r < R; r++) {
        const float* from = gates + (row + r) * 4 * a.units + group;
        Floats z[4];
        for (int gate = 0; gate < 4; gate++) {
            z[gate] = sums[0][r][gate] + load(from + gate * a.units);
            if (CHAINS > 1) z[gate] += sums[CHAINS - 1][r][gate];
        }
        float* cell = cells + (row + r) * a.units + group;
        const Floats c = sigmoid(z[1]) * load(cell) + sigmoid(z[0]) * tanh(z[2]);
        store(cell, c);
        store(y + (row + r) * a.units + group, sigmoid(z[3]) * tanh(c));
    }
}

}  // namespace

extern "C" void lstm(const Recurrent* layer) {
    const Recurrent& a = *layer;
    const int64_t size = a.rows * a.units;
    std::vector<float> cells(size), zeros(size);
    for (int64_t step = 0; step < a.steps; step++) {
        const float* before = step ? a.y + (step - 1) * size : zeros.data();
        const float* gates = a.gates + step * 4 * size;
        float* y = a.y + step * size;
        for (int64_t group = 0; group < a.units; group += LANES) {
            int64_t row = 0;
            for (; row + 2 <= a.rows; row += 2) lstm_units<2>(a, gates, before, row, group, cells.data(), y);
            if (row < a.rows) lstm_units<1>(a, gates, before, row, group, cells.data(), y);
        }
    }
}

// A mark of a few of the numbers, to notice that they were changed.
extern "C" int64_t frames_mark(const uint32_t* x, int64_t count) {
    uint64_t mark = count;
    for (int64_t i = 0; i < count; i += std::max<int64_t>(1, count / 64)) mark = (mark ^ x[i]) * 1099511628211u;
    return (int64_t)mark;
}
