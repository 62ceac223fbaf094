// Runs the kernels of the host SIMT runner: each thread of a block is a fiber with a stack of its own, and a scheduler
// resumes them one by one on the calling host thread.
//
// A fiber runs until its next meeting (barrier, shuffle, ballot) or its end. The scheduler lets a warp run until all
// its lanes wait at a barrier of the block or have ended, then the next warp, and opens the barrier when all threads
// are there. This order is fixed, but every other kernel runs its blocks backwards, so that a result which depends on
// the order of blocks is found. Races between two meetings are not provoked but detected: every access to a shared
// array is recorded with the number of barriers passed so far (note_write, note_read). runtime.cpp is next: devices
// and memory.
#include <sys/mman.h>

#include <cstdarg>
#include <list>
#include <vector>

#include "runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

// Switches fibers: pushes the registers that a call must preserve (x86-64 System V), stores the stack pointer in *from,
// and continues with the stack to, which an earlier switch or resume() has left. The floating-point control words are
// not saved, since no kernel changes them. Assembly, because swapcontext makes a system call at each switch, and every
// thread switches at every meeting.
extern "C" void simt_switch(void **from, void *to);
#if !defined(__x86_64__)
#error "the host SIMT runner switches fibers in x86-64 assembly"
#endif
asm(R"(
.text
.type simt_switch, @function
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch, .-simt_switch
)");

namespace simt {
namespace {

constexpr size_t kStack = 256 << 10, kPage = 4096;
constexpr unsigned kMaxThreads = 1024, kWarp = 32;

struct Fiber {
  void *stack_pointer = nullptr;     // while it is suspended
  char *stack = nullptr;             // lowest address; the lowest page is protected, so an overflow ends the program
  bool done = true;                  // its thread of the block has ended
  Meeting waiting = Meeting::kNone;  // the meeting at which it waits
  unsigned mask = 0;                 // of that meeting: its lanes
  uint64_t value = 0;                // of that meeting: what this lane brings
  int line = 0;                      // of that meeting: its source line
};

struct SharedArray {
  int line;        // where it is declared: its name
  uint32_t block;  // number of the block that used it last
  std::vector<unsigned char> bytes;
};

// The state of the running kernel. One kernel runs at a time, whatever its stream: all of this is guarded by
// device_mutex.
Fiber fibers[kMaxThreads];
uint64_t exchanged[kMaxThreads];  // what the lanes brought to their warp's last meeting
// Meetings of each warp; barriers of all blocks; blocks; kernels. None is ever reset, so that a number never comes
// twice.
uint32_t warp_phases[kMaxThreads / kWarp], block_phase, block_number, launches;
std::list<SharedArray> shared_arrays;
void *scheduler_stack_pointer;
void (*thread_function)(const void *);
const void *thread_body;
unsigned current;
#if defined(__SANITIZE_ADDRESS__)
const void *scheduler_stack;
size_t scheduler_stack_size;
#endif

// Suspends the running fiber and returns to the scheduler. AddressSanitizer must be informed of every change of stack.
void to_scheduler() {
#if defined(__SANITIZE_ADDRESS__)
  void *fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, scheduler_stack, scheduler_stack_size);
#endif
  simt_switch(&fibers[current].stack_pointer, scheduler_stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_stack_size);
#endif
}

// Is the body of every fiber. A fiber never ends: it runs one thread of a block, waits, and runs one of the next block,
// so that stacks are set up once for all kernels.
[[noreturn]] void live() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
  for (;;) {
    thread_function(thread_body);
    fibers[current].done = true;
    to_scheduler();
  }
}

// Lets a fiber run to its next meeting or its end. The first time it gets a stack that looks as if simt_switch had been
// called from the first line of live().
void resume(unsigned thread) {
  Fiber &fiber = fibers[thread];
  if (!fiber.stack) {
    fiber.stack = static_cast<char *>(
        mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (fiber.stack == MAP_FAILED || mprotect(fiber.stack, kPage, PROT_NONE) != 0) fault("no memory for a stack");
    auto *top = reinterpret_cast<void **>(fiber.stack + kStack);
    // simt_switch pops six registers and returns to live(). Then the stack pointer is top - 1, 8 below a multiple of
    // 16, as after a call instruction: compilers rely on that.
    top[-2] = reinterpret_cast<void *>(&live);
    fiber.stack_pointer = top - 8;
  }
  current = thread;
  threadIdx.x = thread;
#if defined(__SANITIZE_ADDRESS__)
  void *fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, fiber.stack + kPage, kStack - kPage);
#endif
  simt_switch(&scheduler_stack_pointer, fiber.stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

// Runs a warp until every lane has ended or waits at a barrier of the block. Whenever no lane can go on and some wait
// for a meeting of the warp, that meeting takes place: all lanes of its mask must be there, on the same line.
void run_warp(unsigned first) {
  for (;;) {
    for (unsigned i = first; i < first + kWarp; ++i)
      if (!fibers[i].done && fibers[i].waiting == Meeting::kNone) resume(i);
    const Fiber *meeting = nullptr;
    for (unsigned i = first; i < first + kWarp; ++i)
      if (!fibers[i].done && fibers[i].waiting == Meeting::kWarp) meeting = &fibers[i];
    if (!meeting) return;
    for (unsigned i = 0; i < kWarp; ++i) {
      const Fiber &lane = fibers[first + i];
      if (!(meeting->mask >> i & 1)) continue;
      if (lane.done || lane.waiting != Meeting::kWarp || lane.line != meeting->line || lane.mask != meeting->mask)
        fault("line %d: lane %u of warp %u does not come to the shuffle, ballot or __syncwarp (%s)", meeting->line, i,
              first / kWarp, lane.done ? "it has ended" : ("it is at line " + std::to_string(lane.line)).c_str());
    }
    for (unsigned i = 0; i < kWarp; ++i) {
      if (!(meeting->mask >> i & 1)) continue;
      exchanged[first + i] = fibers[first + i].value;
      fibers[first + i].waiting = Meeting::kNone;
    }
    ++warp_phases[first / kWarp];
  }
}

// Runs one block. All threads, or none, must come to a __syncthreads, and to the same one.
void run_block(unsigned threads) {
  ++block_number;
  for (unsigned i = 0; i < threads; ++i) {
    fibers[i].done = false;
    fibers[i].waiting = Meeting::kNone;
  }
  for (;;) {
    for (unsigned first = 0; first < threads; first += kWarp) run_warp(first);
    unsigned waiting = 0;
    for (unsigned i = 0; i < threads; ++i) waiting += !fibers[i].done;
    if (waiting == 0) return;
    for (unsigned i = 0; i < threads; ++i)
      if (waiting < threads || fibers[i].line != fibers[0].line)
        fault("block %u: not all threads come to one __syncthreads (%u of %u wait; lines %d and %d)", blockIdx.x,
              waiting, threads, fibers[0].line, fibers[i].line);
    for (unsigned i = 0; i < threads; ++i) fibers[i].waiting = Meeting::kNone;
    ++block_phase;
  }
}

}  // namespace

void fault(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::fprintf(stderr, "simt: block %u, thread %u: ", blockIdx.x, threadIdx.x);
  std::vfprintf(stderr, format, arguments);
  std::fprintf(stderr, "\n");
  va_end(arguments);
  std::abort();
}

void meet(Meeting meeting, unsigned mask, uint64_t value, int line) {
  Fiber &fiber = fibers[current];
  if (meeting == Meeting::kWarp && !(mask >> (current % kWarp) & 1))
    fault("line %d: a lane is not in its own mask", line);
  fiber.waiting = meeting;
  fiber.mask = mask;
  fiber.value = value;
  fiber.line = line;
  to_scheduler();
}

uint64_t lane_value(unsigned mask, uint64_t value, int source, int line) {
  meet(Meeting::kWarp, mask, value, line);
  if (source < 0 || source >= int(kWarp) || !(mask >> source & 1)) fault("line %d: shuffle from lane %d", line, source);
  return exchanged[current / kWarp * kWarp + static_cast<unsigned>(source)];
}

unsigned ballot(unsigned mask, bool predicate, int line) {
  meet(Meeting::kWarp, mask, predicate, line);
  unsigned lanes = 0;
  for (unsigned i = 0; i < kWarp; ++i)
    if (mask >> i & 1) lanes |= unsigned(exchanged[current / kWarp * kWarp + i]) << i;
  return lanes;
}

void *shared_memory(int line, size_t bytes) {
  SharedArray *found = nullptr;
  for (SharedArray &array : shared_arrays)
    if (array.line == line && array.bytes.size() == bytes) found = &array;
  if (!found) {
    shared_arrays.push_back({line, block_number - 1, std::vector<unsigned char>(bytes)});
    found = &shared_arrays.back();
  }
  // All ones make writer and reader of every Access -1, and the values NaN, should one ever be read unchecked.
  if (found->block != block_number) std::memset(found->bytes.data(), 0xFF, bytes);
  found->block = block_number;
  return found->bytes.data();
}

// A write races with any access of another thread since the block's last barrier.
void note_write(Access &access, int line, size_t index) {
  const auto me = static_cast<int32_t>(current);
  if (access.writer >= 0 && access.writer != me && access.write_phase == block_phase)
    fault("line %d[%zu]: written by threads %d and %d without a barrier between", line, index, access.writer, me);
  if (access.reader != -1 && access.reader != me && access.read_phase == block_phase)
    fault("line %d[%zu]: written by thread %d after another read it without a barrier between", line, index, me);
  access.writer = me;
  access.write_phase = block_phase;
  access.write_warp_phase = warp_phases[current / kWarp];
}

// A read races with a write of another thread, unless a barrier of the block or a meeting of the warp they share lies
// between the two.
void note_read(Access &access, int line, size_t index) {
  const auto me = static_cast<int32_t>(current);
  if (access.writer < 0) fault("line %d[%zu]: read, but nobody wrote it", line, index);
  const bool of_my_warp =
      access.writer / int(kWarp) == me / int(kWarp) && access.write_warp_phase != warp_phases[current / kWarp];
  if (access.writer != me && access.write_phase == block_phase && !of_my_warp)
    fault("line %d[%zu]: written by thread %d, read without a barrier between", line, index, access.writer);
  const bool first = access.reader == -1 || access.read_phase != block_phase;
  access.reader = first || access.reader == me ? me : -2;
  access.read_phase = block_phase;
}

void for_blocks(dim3 grid, dim3 block, const std::function<void()> &run_block_now) {
  if (block.x == 0 || block.x > kMaxThreads || block.x % kWarp || block.y != 1 || block.z != 1 || grid.x == 0 ||
      grid.x > INT32_MAX || grid.y != 1 || grid.z != 1)
    fault("a launch of %u x %u x %u blocks of %u x %u x %u threads", grid.x, grid.y, grid.z, block.x, block.y, block.z);
  gridDim = grid;
  blockDim = block;
  const bool backwards = launches++ % 2;
  for (unsigned i = 0; i < grid.x; ++i) {
    blockIdx.x = backwards ? grid.x - 1 - i : i;
    run_block_now();
  }
}

void run(dim3 grid, dim3 block, void (*thread)(const void *), const void *body) {
  const DeviceAccess access;
  thread_function = thread;
  thread_body = body;
  for_blocks(grid, block, [&] { run_block(block.x); });
}

}  // namespace simt
