// A barrier for the threads of a team, for machines on which other programs run, too.
//
// OpenMP's spins for milliseconds while a partner that waits for a core cannot get one. This one spins for as long as
// partners that run may differ, and then sleeps until the last has come.
#pragma once

#include <atomic>
#include <cstdint>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <thread>
#endif

class alignas(64) Barrier {
    static constexpr int SPINS = 2000;  // 20 to 90 microseconds

    alignas(64) std::atomic<int32_t> arrived{0};
    alignas(64) std::atomic<int32_t> turn{0};
    std::atomic<int32_t> sleeping{0};

    static void pause() {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    void sleep(int32_t seen) {
#ifdef __linux__
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);  // not, if turn is another by now
#else
        std::this_thread::yield();
#endif
    }

    void wake() {
#ifdef __linux__
        syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
#endif
    }

  public:
    // Returns once all ``team`` threads have called it; what they wrote before is seen behind it.
    void wait(int team) {
        if (team == 1) return;
        const int32_t seen = turn.load(std::memory_order_acquire);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == team) {
            arrived.store(0, std::memory_order_relaxed);  // before the others can come again
            turn.store(seen + 1);
            if (sleeping.load()) wake();
            return;
        }
        for (int spin = 0; spin < SPINS; spin++, pause())
            if (turn.load(std::memory_order_acquire) != seen) return;
        sleeping.fetch_add(1);
        while (turn.load() == seen) sleep(seen);
        sleeping.fetch_sub(1);
    }
};
