// Runs kernels on the CPU: threads are fibers, a barrier or a shuffle hands over to another.
//
// kernels.cu is compiled with -fsanitize=thread, and the functions that its accesses call are the
// ones below instead of the sanitizer's. So every access to device or shared memory is checked:
// that it lies in an allocation, that shared memory was written before it is read, and that no two
// threads touch one place between two barriers, one of them writing (shuffles order nothing).
#include "cuda_runtime.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace emulator {

dim3 thread, block;

namespace {

enum class State { ready, shuffle, barrier, ended };

struct Fiber {
  ucontext_t context;
  State state;
  int line;
  unsigned shuffles;
};

constexpr size_t kMemory = size_t{1} << 26, kShared = size_t{48} << 10;
constexpr size_t kStack = size_t{64} << 10, kGranule = 2;
constexpr int kNobody = -1, kSeveral = -2;

struct Cell {  // what happened last to two bytes of memory, and when
  uint32_t wrote, read;
  int16_t writer, reader;
  bool allocated, atomic;
};

template <class T>
T* mapped(size_t bytes) {
  return static_cast<T*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
}

// Device memory; its first kShared bytes are the shared memory of the block that runs.
char* const memory = mapped<char>(kMemory);
Cell* const cells = mapped<Cell>(kMemory / kGranule * sizeof(Cell));
size_t used = kShared + 4096;

int order = 0;
std::mt19937 random_numbers;
std::vector<Fiber> fibers;
std::vector<std::unique_ptr<char[]>> stacks;
std::vector<uint64_t> lanes[2];
std::vector<std::pair<int, size_t>> declared;  // shared arrays of this block: line, offset
size_t shared_used = 0, dynamic_at = 0;
ucontext_t scheduler;
int current = -1, waiting = 0;
uint32_t now = 1, launch_start = 1, block_start = 1;  // barriers passed, of all launches
const std::function<void()>* work = nullptr;
std::string failure;

[[noreturn]] void fail(const std::string& what) {
  failure = what + " (block " + std::to_string(block.x) + ", " + std::to_string(block.y) + ", " +
            std::to_string(block.z) + ")";
  setcontext(&scheduler);
  abort();
}

std::string place(int index) {
  const Fiber& f = fibers[index];
  return "thread " + std::to_string(index) +
         (f.state == State::ended ? " has ended" : " waits at line " + std::to_string(f.line));
}

void mark(size_t offset, size_t bytes, bool allocated) {
  for (size_t g = offset / kGranule; g < (offset + bytes + kGranule - 1) / kGranule; ++g)
    cells[g] = {0, 0, kNobody, kNobody, allocated, false};
}

void yield(State state, int line) {
  Fiber& fiber = fibers[current];
  fiber.state = state;
  fiber.line = line;
  swapcontext(&fiber.context, &scheduler);
}

void release(size_t first, size_t last) {
  for (size_t i = first; i < last; ++i)
    if (fibers[i].line != fibers[first].line)
      fail("divergence: " + place(static_cast<int>(first)) + ", " + place(static_cast<int>(i)));
  for (size_t i = first; i < last; ++i) fibers[i].state = State::ready;
}

void start() {
  (*work)();
  fibers[current].state = State::ended;
  setcontext(&scheduler);
}

int next() {
  const int count = static_cast<int>(fibers.size());
  const int first = order == 0 ? 0 : order == 1 ? count - 1 : random_numbers() % count;
  const int step = order == 1 ? count - 1 : 1;
  for (int i = 0, at = first; i < count; ++i, at = (at + step) % count)
    if (fibers[at].state == State::ready) return at;
  return -1;
}

void run_block(dim3 size, size_t dynamic) {
  block_start = ++now;
  declared.clear();
  mark(0, kShared, false);
  memset(memory, 0xff, kShared);
  dynamic_at = 0;
  shared_used = (dynamic + 63) / 64 * 64 + 64;
  mark(0, dynamic, true);
  waiting = 0;
  for (size_t i = 0; i < fibers.size(); ++i) {
    Fiber& f = fibers[i];
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = stacks[i].get();
    f.context.uc_stack.ss_size = kStack;
    f.context.uc_link = nullptr;
    makecontext(&f.context, start, 0);
    f.state = State::ready;
    f.shuffles = 0;
  }
  for (int at; (at = next()) >= 0;) {
    const unsigned row = at / size.x;
    thread = dim3(at % size.x, row % size.y, row / size.y);
    current = at;
    swapcontext(&scheduler, &fibers[at].context);
    current = -1;
    if (!failure.empty()) throw std::runtime_error(std::exchange(failure, ""));
  }
  for (size_t i = 0; i < fibers.size(); ++i) {
    if (fibers[i].state == State::ended) continue;
    size_t other = 0;  // one that is elsewhere
    while (other + 1 < fibers.size() && fibers[other].state == fibers[i].state) ++other;
    throw std::runtime_error("divergence: " + place(static_cast<int>(i)) + ", " +
                             place(static_cast<int>(other)));
  }
}

enum class Kind { read, write, atomic };

void touch(const void* address, size_t bytes, Kind kind) {
  const size_t offset = static_cast<const char*>(address) - memory;
  if (reinterpret_cast<uintptr_t>(address) < 65536) fail("out of bounds: a null pointer");
  if (current < 0 || offset >= kMemory) return;  // a stack, a parameter, a constant
  const bool shared = offset < kShared;
  for (size_t g = offset / kGranule; g <= (offset + bytes - 1) / kGranule; ++g) {
    Cell& c = cells[g];
    const auto at = [&] {
      return " at byte " + std::to_string(offset) + " of " + (shared ? "shared" : "device") +
             " memory";
    };
    if (!c.allocated) fail("out of bounds" + at());
    if (kind != Kind::write && shared && c.wrote < block_start) fail("not initialised" + at());
    const auto clash = [&](uint32_t when, int who) {
      return (when >= launch_start && when < block_start) ||
             (when == now && who != kNobody && who != current);
    };
    if (clash(c.wrote, c.writer) && !(kind == Kind::atomic && c.atomic))
      fail("race: written by another thread and touched by " + std::to_string(current) + at());
    if (kind != Kind::read && clash(c.read, c.reader))
      fail("race: read by another thread and written by " + std::to_string(current) + at());
    if (kind == Kind::read) {
      c.reader = c.read == now && c.reader != current ? kSeveral : current;
      c.read = now;
    } else {
      c.writer = current;
      c.wrote = now;
      c.atomic = kind == Kind::atomic;
    }
  }
}

}  // namespace

void run(dim3 grid, dim3 size, size_t dynamic, cudaStream_t, const std::function<void()>& body) {
  const size_t threads = size_t{size.x} * size.y * size.z;
  if (threads % 32) throw std::runtime_error("blocks must be whole warps");
  fibers.resize(threads);
  while (stacks.size() < threads) stacks.emplace_back(new char[kStack]);
  for (auto& l : lanes) l.assign(threads, 0);
  work = &body;
  launch_start = ++now;
  std::vector<dim3> blocks;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) blocks.emplace_back(x, y, z);
  if (order == 1) std::reverse(blocks.begin(), blocks.end());
  if (order > 1) std::shuffle(blocks.begin(), blocks.end(), random_numbers);
  for (const dim3& b : blocks) {
    block = b;
    run_block(size, dynamic);
  }
}

void* shared_bytes(size_t bytes, int line) {
  for (const auto& d : declared)
    if (d.first == line) return memory + d.second;
  const size_t at = shared_used;
  shared_used += (bytes + 63) / 64 * 64 + 64;
  if (shared_used > kShared) fail("too much shared memory");
  mark(at, bytes, true);
  declared.emplace_back(line, at);
  return memory + at;
}

void* dynamic_bytes() { return memory + dynamic_at; }

void barrier(int line) {
  fibers[current].state = State::barrier;
  fibers[current].line = line;
  if (++waiting == static_cast<int>(fibers.size())) {
    waiting = 0;
    ++now;
    release(0, fibers.size());
  }
  yield(fibers[current].state, line);
}

const uint64_t* exchange(uint64_t bits, int line) {
  Fiber& fiber = fibers[current];
  const size_t first = current / 32 * 32;
  uint64_t* slots = lanes[fiber.shuffles++ % 2].data();
  slots[current] = bits;
  fiber.state = State::shuffle;
  fiber.line = line;
  if (std::all_of(fibers.begin() + first, fibers.begin() + first + 32,
                  [](const Fiber& f) { return f.state == State::shuffle; }))
    release(first, first + 32);
  yield(fiber.state, line);
  return slots + first;
}

int add(int* address, int value) {
  touch(address, sizeof *address, Kind::atomic);
  const int before = *address;
  *address += value;
  return before;
}

}  // namespace emulator

extern "C" {

void emulator_order(int order) {
  emulator::order = order;
  emulator::random_numbers.seed(order);
}

// Frees everything; what lay there must not be touched any more.
void emulator_free() {
  using namespace emulator;
  constexpr size_t first = kShared + 4096;
  mark(first, used - first, false);
  used = first;
}

// Bytes on the device, with 64 bytes around them that nobody may touch.
char* emulator_allocate(size_t bytes) {
  using namespace emulator;
  const size_t at = (used + 127) / 64 * 64;
  if (at + bytes + 64 > kMemory) return nullptr;
  mark(used, at + bytes + 64 - used, false);
  mark(at, bytes, true);
  used = at + bytes;
  return memory + at;
}

#define POSGAN_ACCESS(bytes)                                                               \
  void __tsan_read##bytes(void* p) { emulator::touch(p, bytes, emulator::Kind::read); }    \
  void __tsan_write##bytes(void* p) { emulator::touch(p, bytes, emulator::Kind::write); }  \
  void __tsan_unaligned_read##bytes(void* p) { __tsan_read##bytes(p); }                    \
  void __tsan_unaligned_write##bytes(void* p) { __tsan_write##bytes(p); }
POSGAN_ACCESS(1)
POSGAN_ACCESS(2)
POSGAN_ACCESS(4)
POSGAN_ACCESS(8)
POSGAN_ACCESS(16)
void __tsan_read_range(void* p, size_t n) { emulator::touch(p, n, emulator::Kind::read); }
void __tsan_write_range(void* p, size_t n) { emulator::touch(p, n, emulator::Kind::write); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}

}  // extern "C"
