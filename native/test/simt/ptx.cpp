// Runs kernels as nvcc compiled them: interprets their PTX, the assembly language that a driver translates for its GPU.
// So a test sees what the compiler made of a kernel, such as its stores of 16 bytes, its approximations and its order
// of additions, where simt.cpp runs what the source says. Neither knows caches or times.
//
// A warp executes an instruction for all lanes that are at it, and each lane has a program counter of its own. After a
// branch on which lanes disagree, those with the smallest counter go on first: compilers emit the code of a branch
// before the code that follows it, so the lanes meet again where a GPU would reconverge them. A warp runs until all of
// its lanes wait at a barrier of the block, or have ended; then the next warp runs.
//
// An access that is misaligned or outside an allocation, a barrier or shuffle to which a lane does not come, and an
// instruction that this file does not know end the program with a sentence. Environment:
//
//   SIMT_PTX         files of PTX, separated by colons: every launch runs the kernel of that name in one of them
//   SIMT_PTX_ULP     -1, 1 or random: changes results of rcp.approx.f64, whose error a GPU may choose, by one unit in
//                    the last place that it has (random: by -1, 0 or 1, as a hash of the operand says)
//
// read_function reads a kernel, Decoder says what each instruction does, run_ptx runs a launch. count_ptx counts what
// launches do; the test test_ptx.cpp limits it.
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <climits>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "runtime.h"

namespace simt {
namespace {

constexpr int kLanes = 32;
constexpr uint32_t kFull = ~uint32_t(0);

// ---- What a kernel is after it has been read ------------------------------------------------------------------------

// An operand: 32 values, one for each lane, of 1, 2, 4 or 8 bytes, at an offset of a warp's memory. Registers, special
// registers and constants are the same to an instruction; constants are written once, when a kernel's warps are made.
struct Operand {
  uint32_t offset = 0;
  uint8_t bytes = 0;
  int32_t number = 0;  // index in Warp::ready; -1: not a register
};

struct Warp;
struct Instruction;
using Action = std::function<void(Warp &, const Instruction &, uint32_t lanes)>;

enum class Kind : uint8_t { kCompute, kBranch, kEnd, kBlockBarrier, kWarpBarrier };
// How keep_score counts an instruction.
enum class Memory : uint8_t { kNone, kLoad, kStore, kFence, kAtomic, kOrdered };  // kOrdered: a fence, then kAtomic

struct Instruction {
  Action action;  // of the lanes that the guard lets through
  Kind kind = Kind::kCompute;
  Memory memory = Memory::kNone;
  bool guarded = false, negated = false;
  Operand guard;
  std::array<Operand, 5> to, from;
  int outputs = 0, inputs = 0;
  int64_t offset = 0;  // bytes that are added to an address
  int target = 0;      // index of the instruction that a branch goes to
  int line = 0;        // in the file
};

struct Parameter {
  std::string name;
  size_t bytes;
};

struct Function {
  std::string name, file;
  std::vector<Parameter> parameters;
  std::vector<Instruction> code;
  std::vector<std::pair<Operand, uint64_t>> constants;
  std::vector<std::pair<Operand, size_t>> parameter_addresses;  // operands with the address of a parameter, its number
  std::vector<std::pair<Operand, size_t>> local_addresses;      // operands with an address in a lane's local memory
  Operand thread, block, threads, blocks, lane;                 // special registers
  size_t warp_bytes = 0;
  int registers = 0;
  size_t shared_bytes = 0, local_bytes = 0;
};

// A warp that runs: its registers, and where its lanes are.
struct Warp {
  const Function *function = nullptr;
  std::vector<char> memory;
  std::vector<int> ready;  // by register: the trip after which it is there
  std::vector<char> local;
  char *shared = nullptr;
  int counter[kLanes];           // next instruction of each lane
  uint32_t live, block_waiting;  // lanes that have not ended; lanes at a barrier of the block
  uint32_t warp_waiting;         // lanes at a barrier of the warp, or a shuffle
  unsigned first_thread;
  int64_t issued;
  int now;     // trips that have passed
  int stored;  // the trip after which all stores are done

  template <class T> T *at(const Operand &operand) { return reinterpret_cast<T *>(memory.data() + operand.offset); }
  // Returns the value of a lane, zero-extended.
  uint64_t get(const Operand &operand, int i) {
    switch (operand.bytes) {
      case 1: return at<uint8_t>(operand)[i];
      case 2: return at<uint16_t>(operand)[i];
      case 4: return at<uint32_t>(operand)[i];
      default: return at<uint64_t>(operand)[i];
    }
  }
  void set(const Operand &operand, int i, uint64_t value) {
    switch (operand.bytes) {
      case 1: at<uint8_t>(operand)[i] = static_cast<uint8_t>(value); break;
      case 2: at<uint16_t>(operand)[i] = static_cast<uint16_t>(value); break;
      case 4: at<uint32_t>(operand)[i] = static_cast<uint32_t>(value); break;
      default: at<uint64_t>(operand)[i] = value;
    }
  }
};

[[noreturn]] void fault_at(const Function &function, int line, const std::string &what) {
  fault("%s:%d: %s", function.file.c_str(), line, what.c_str());
}

// ---- Arithmetic that a host has no instruction for ------------------------------------------------------------------

template <class To, class From> To bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "the same bits as another type");
  To to;
  std::memcpy(&to, &value, sizeof to);
  return to;
}

// Returns by how many units in the last place to change the approximation of an operand (SIMT_PTX_ULP).
int units_off(uint64_t operand) {
  static const char *const setting = std::getenv("SIMT_PTX_ULP");
  if (!setting) return 0;
  if (std::strcmp(setting, "random") != 0) return std::atoi(setting);
  return static_cast<int>((operand * 0x9E3779B97F4A7C15u >> 40) % 3) - 1;
}

// Computes rcp.approx.ftz.f64, which is the upper half of the result.
double reciprocal_approximately(double value) {
  const double reciprocal = bits<double>(bits<uint64_t>(1 / value) >> 32 << 32);
  if (!std::isnormal(reciprocal)) return 1 / value;
  const auto units = static_cast<uint64_t>(static_cast<int64_t>(units_off(bits<uint64_t>(value))));
  return bits<double>(bits<uint64_t>(reciprocal) + (units << 32));
}

float from_half(uint16_t half) {
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  float size = std::ldexp(static_cast<float>(exponent ? fraction | 1024 : fraction), (exponent ? exponent : 1) - 25);
  if (exponent == 31)
    size = fraction ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  return half >> 15 ? -size : size;
}

// Rounds to nearest, ties to even.
uint16_t to_half(float value) {
  const float size = std::fabs(value);
  const unsigned sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return 0x7FFF;
  if (size >= 65520) return static_cast<uint16_t>(sign | 0x7C00);
  const int exponent = size == 0 ? -14 : std::max(std::ilogb(size), -14);
  // The number of units in the last place; it may be that of the next power of two, or of a subnormal number.
  const auto units = static_cast<unsigned>(std::nearbyint(std::ldexp(size, 10 - exponent)));
  return static_cast<uint16_t>(sign | ((static_cast<unsigned>(exponent + 14) << 10) + units));
}

// Returns a float rounded to an integer, by the rounding word of cvt.
double to_integer(double value, const std::string &rounding) {
  if (rounding == "rmi") return std::floor(value);
  if (rounding == "rpi") return std::ceil(value);
  if (rounding == "rzi") return std::trunc(value);
  return std::nearbyint(value);
}

// Returns an integral number in an integer type, saturated.
uint64_t saturated(double value, int bytes, bool is_signed) {
  const int magnitude = 8 * bytes - is_signed;
  const double limit = std::ldexp(1.0, magnitude);
  if (value >= limit) return magnitude == 64 ? ~uint64_t(0) : (uint64_t(1) << magnitude) - 1;
  if (!is_signed) return value <= 0 ? 0 : static_cast<uint64_t>(value);
  return value <= -limit ? ~uint64_t(0) << magnitude : static_cast<uint64_t>(static_cast<int64_t>(value));
}

// Returns an integer of that many bytes, extended to 64 bits.
uint64_t extended(uint64_t value, int bytes, bool is_signed) {
  const int unused = 64 - 8 * bytes;
  value <<= unused;
  return is_signed ? static_cast<uint64_t>(static_cast<int64_t>(value) >> unused) : value >> unused;
}

// Returns the upper 64 bits of a product.
uint64_t upper_half(uint64_t a, uint64_t b, bool is_signed) {
  __extension__ typedef __int128 Wide;
  __extension__ typedef unsigned __int128 UnsignedWide;
  if (!is_signed) return static_cast<uint64_t>(static_cast<UnsignedWide>(a) * b >> 64);
  return static_cast<uint64_t>(static_cast<Wide>(static_cast<int64_t>(a)) * static_cast<int64_t>(b) >> 64);
}

// ---- What instructions do -------------------------------------------------------------------------------------------

// The words of an opcode, as in setp.ltu.f32, and the tokens of its operands: a group for each operand, which has
// several tokens if the operand is a vector.
struct Text {
  std::vector<std::string> words;
  std::vector<std::vector<std::string>> operands;
};

// A type word of an opcode.
struct Type {
  char kind;  // s, u, b, f, or p for pred
  int bytes;
};

Type type_of(const std::string &word) {
  if (word == "pred") return {'p', 1};
  return {word[0], std::atoi(word.c_str() + 1) / 8};
}

// Reads the body of a kernel and gives each instruction its action.
class Decoder {
 public:
  Decoder(Function &function, const std::map<std::string, size_t> &shared) : f(function), shared_(shared) {
    f.thread = special("%tid.x");
    f.block = special("%ctaid.x");
    f.threads = special("%ntid.x");
    f.blocks = special("%nctaid.x");
    f.lane = special("%laneid");
  }

  // Declares count registers with a name like %r, or a single one.
  void declare_registers(const std::string &name, int count, const std::string &type) {
    const int bytes = type_of(type.substr(1)).bytes;
    for (int i = 0; i < count; ++i) named_[count == 1 ? name : name + std::to_string(i)] = allocate(bytes, true);
  }
  void declare_local(const std::string &name, size_t bytes) {
    local_[name] = f.local_bytes;
    f.local_bytes += (bytes + 15) / 16 * 16;
  }
  void label(const std::string &name) { labels_[name] = static_cast<int>(f.code.size()); }

  // Adds an instruction. guard is a predicate, with ! in front if it is negated, or empty.
  void add(const Text &text, const std::string &guard, int line) {
    f.code.emplace_back();
    in = &f.code.back();
    text_ = &text;
    in->line = line;
    if (!guard.empty()) {
      in->guarded = true;
      in->negated = guard[0] == '!';
      in->guard = operand(guard.substr(in->negated), 1);
    }
    decode();
    if (in->kind == Kind::kCompute && !in->action) unknown();
  }

  // Resolves the branches, when all labels are known.
  void finish() {
    for (const auto &[at, label] : branches_) {
      const auto found = labels_.find(label);
      if (found == labels_.end()) fault_at(f, f.code[at].line, "no label " + label);
      f.code[at].target = found->second;
    }
    f.warp_bytes = bytes_;
  }

 private:
  Operand allocate(int bytes, bool is_register) {
    Operand operand;
    bytes_ = (bytes_ + 63) / 64 * 64;
    operand.offset = static_cast<uint32_t>(bytes_);
    operand.bytes = static_cast<uint8_t>(bytes);
    operand.number = is_register ? f.registers++ : -1;
    bytes_ += static_cast<size_t>(bytes) * kLanes;
    return operand;
  }
  Operand special(const std::string &name) { return named_[name] = allocate(4, false); }
  Operand constant(uint64_t value, int bytes) {
    const auto [found, added] = constants_.try_emplace({value, bytes});
    if (added) {
      found->second = allocate(bytes, false);
      f.constants.emplace_back(found->second, value);
    }
    return found->second;
  }

  [[noreturn]] void unknown() {
    std::string opcode;
    for (const std::string &word : text_->words) opcode += (opcode.empty() ? "" : ".") + word;
    fault_at(f, in->line, "the instruction " + opcode + " is not known; add it to Decoder of ptx.cpp");
  }

  // Returns the operand of a token; bytes is the size of a constant.
  Operand operand(const std::string &token, int bytes) {
    const auto found = named_.find(token);
    if (found != named_.end()) return found->second;
    if (token.compare(0, 2, "0f") == 0 || token.compare(0, 2, "0d") == 0)
      return constant(std::stoull(token.substr(2), nullptr, 16), bytes);
    if (token[0] == '-' || std::isdigit(static_cast<unsigned char>(token[0])))
      return constant(extended(token[0] == '-' ? static_cast<uint64_t>(std::stoll(token, nullptr, 0))
                                               : std::stoull(token, nullptr, 0),
                               bytes, false),
                      bytes);
    if (token == "_") return allocate(bytes, false);
    return address_of(token, bytes);
  }
  // Returns an operand that holds the address of a symbol: a parameter, or an array in shared or local memory. A shared
  // address is an offset in the memory of the block.
  Operand address_of(const std::string &symbol, int bytes) {
    const auto at_shared = shared_.find(symbol);
    if (at_shared != shared_.end()) return constant(at_shared->second, bytes);
    const Operand address = allocate(8, false);
    const auto at_local = local_.find(symbol);
    if (at_local != local_.end()) {
      f.local_addresses.emplace_back(address, at_local->second);
      return address;
    }
    for (size_t i = 0; i < f.parameters.size(); ++i)
      if (f.parameters[i].name == symbol) {
        f.parameter_addresses.emplace_back(address, i);
        return address;
      }
    fault_at(f, in->line, "no symbol " + symbol);
  }

  const std::string &token(size_t operand, size_t part = 0) const { return text_->operands.at(operand).at(part); }
  const std::string &word(size_t i) const { return text_->words.at(i); }
  const std::string &last_word() const { return text_->words.back(); }
  bool has(const char *word) const {
    return std::find(text_->words.begin(), text_->words.end(), word) != text_->words.end();
  }

  // Adds an input or output of the instruction.
  void input(const std::string &token, int bytes) {
    in->from[static_cast<size_t>(in->inputs++)] = operand(token, bytes);
  }
  void output(const std::string &token) { in->to[static_cast<size_t>(in->outputs++)] = operand(token, 8); }
  // Adds the first operand as the output, and the others as inputs whose constants have that many bytes.
  void operands(int bytes) {
    output(token(0));
    for (size_t i = 1; i < text_->operands.size(); ++i) input(token(i), bytes);
  }

  // Makes the instruction compute f of its inputs, as numbers of types From, in each lane.
  template <class To, class... From, class F> void each(F function) {
    constexpr int sizes[] = {static_cast<int>(sizeof(From))...};
    if (text_->operands.size() != 1 + sizeof...(From) || text_->operands[0].size() != 1) unknown();
    output(token(0));
    for (size_t i = 0; i < sizeof...(From); ++i) {
      input(token(1 + i), sizes[i]);
      if (in->from[i].bytes != sizes[i]) fault_at(f, in->line, "the size of an operand is not that of the type");
    }
    if (in->to[0].bytes != sizeof(To)) fault_at(f, in->line, "the size of the result is not that of the type");
    in->action = in_each_lane<To, From...>(function, std::index_sequence_for<From...>());
  }
  // Returns the action that computes a function in each lane. Registers that overlap are the same one, so no lane
  // reads what another has written.
  template <class To, class... From, class F, size_t... K>
  static Action in_each_lane(F function, std::index_sequence<K...>) {
    return [function](Warp &warp, const Instruction &instruction, uint32_t lanes) {
      To *const to = warp.at<To>(instruction.to[0]);
      const std::tuple<const From *...> from(warp.at<From>(instruction.from[K])...);
      if (lanes == kFull) {
#pragma GCC ivdep
        for (int i = 0; i < kLanes; ++i) to[i] = function(std::get<K>(from)[i]...);
      } else {
        for (int i = 0; i < kLanes; ++i)
          if (lanes >> i & 1) to[i] = function(std::get<K>(from)[i]...);
      }
    };
  }
  // Makes the instruction compute a function of its inputs as they are, extended by zeros.
  template <class F> void raw(int bytes, F function) {
    operands(bytes);
    in->action = [function](Warp &warp, const Instruction &instruction, uint32_t lanes) {
      uint64_t values[5];
      for (int i = 0; i < kLanes; ++i) {
        if (!(lanes >> i & 1)) continue;
        for (size_t k = 0; k < static_cast<size_t>(instruction.inputs); ++k)
          values[k] = warp.get(instruction.from[k], i);
        warp.set(instruction.to[0], i, function(values));
      }
    };
  }

  // Calls make with a value of the integer type that a type word stands for.
  template <class Make> void with_integer(const Type &type, Make make) {
    switch (type.bytes * (type.kind == 's' ? -1 : 1)) {
      case 2: return make(uint16_t());
      case -2: return make(int16_t());
      case 4: return make(uint32_t());
      case -4: return make(int32_t());
      case 8: return make(uint64_t());
      case -8: return make(int64_t());
      default: unknown();
    }
  }
  // The same for bits, whatever the type; a predicate is a byte.
  template <class Make> void with_bits(const Type &type, Make make) {
    switch (type.bytes) {
      case 1: return make(uint8_t());
      case 2: return make(uint16_t());
      case 4: return make(uint32_t());
      default: return make(uint64_t());
    }
  }
  template <class Make> void with_float(const Type &type, Make make) {
    if (type.bytes == 4) return make(float());
    if (type.bytes == 8) return make(double());
    unknown();
  }
  // Make the instruction compute a function of two numbers of its type. Floats must be rounded to nearest by name
  // (.rn), because ptxas may fuse a product and a sum that are not.
  template <class F> void of_floats(const Type &type, F function) {
    if (!has("rn"))
      fault_at(f, in->line, "a sum or product without .rn, which ptxas may fuse: compile with -fmad=false");
    with_float(type, [&](auto zero) { each<decltype(zero), decltype(zero), decltype(zero)>(function); });
  }
  template <class F> void of_integers(const Type &type, F function) {
    with_integer(type, [&](auto zero) {
      using T = decltype(zero);
      each<T, T, T>([function](T a, T b) { return static_cast<T>(function(a, b)); });
    });
  }
  // The same for bits: sums and differences wrap, whatever the sign.
  template <class F> void of_bits(const Type &type, F function) {
    with_bits(type, [&](auto zero) {
      using T = decltype(zero);
      each<T, T, T>([function](T a, T b) { return static_cast<T>(function(a, b)); });
    });
  }

  void decode() {
    const std::string &op = word(0);
    const Type type = type_of(last_word());
    if (op == "ld") return load(type);
    if (op == "st") return store(type);
    if (op == "atom" || op == "red") return atomic(type);
    if (op == "mov") return move(type);
    if (op == "cvta") return convert_address(type);
    if (op == "cvt") return convert();
    if (op == "bra") {
      in->kind = Kind::kBranch;
      branches_.emplace_back(f.code.size() - 1, token(0));
    } else if (op == "ret" || op == "exit") {
      in->kind = Kind::kEnd;
    } else if (op == "bar" || op == "barrier" || op == "shfl" || op == "vote") {
      meeting(op);
    } else if (op == "membar" || op == "fence") {
      in->memory = Memory::kFence;
      in->action = [](Warp &, const Instruction &, uint32_t) {};
    } else if (op == "griddepcontrol") {  // launches follow each other: there is nothing to wait for
      in->action = [](Warp &, const Instruction &, uint32_t) {};
    } else if (op == "setp") {
      set_predicate(type);
    } else if (op == "selp") {
      with_bits(type, [&](auto zero) {
        using T = decltype(zero);
        each<T, T, T, uint8_t>([](T yes, T no, uint8_t condition) { return condition ? yes : no; });
      });
    } else {
      compute(op, type);
    }
  }

  void compute(const std::string &op, const Type &type) {
    const bool is_float = type.kind == 'f';
    for (size_t i = 1; i + 1 < text_->words.size(); ++i) {  // an unknown modifier must not be ignored
      const std::string &modifier = word(i);
      const bool of_reciprocal = op == "rcp" && (modifier == "approx" || modifier == "ftz");
      const bool of_product =
          (op == "mul" || op == "mad") && (modifier == "lo" || modifier == "hi" || modifier == "wide");
      if (!(modifier == "rn" && is_float) && !of_reciprocal && !of_product &&
          !(op == "bfind" && modifier == "shiftamt"))
        unknown();
    }
    if (op == "add" && is_float)
      of_floats(type, [](auto a, auto b) { return a + b; });
    else if (op == "add")
      of_bits(type, [](auto a, auto b) { return a + b; });
    else if (op == "sub" && is_float)
      of_floats(type, [](auto a, auto b) { return a - b; });
    else if (op == "sub")
      of_bits(type, [](auto a, auto b) { return a - b; });
    else if (op == "mul" && is_float)
      of_floats(type, [](auto a, auto b) { return a * b; });
    else if (op == "mul" || op == "mad")
      multiply(op == "mad", type);
    else if (op == "fma" && has("rn"))
      with_float(type, [&](auto zero) {
        using T = decltype(zero);
        each<T, T, T, T>([](T a, T b, T c) { return std::fma(a, b, c); });
      });
    else if (op == "div" && is_float)
      of_floats(type, [](auto a, auto b) { return a / b; });
    else if (op == "div")
      of_integers(type, [](auto a, auto b) { return b == 0 ? static_cast<decltype(a)>(-1) : a / b; });
    else if (op == "rem")
      of_integers(type, [](auto a, auto b) { return b == 0 ? a : a % b; });
    else if (op == "min" || op == "max")
      extreme(op == "max", type);
    else if (op == "neg" && is_float)
      with_float(type, [&](auto zero) {
        using T = decltype(zero);
        each<T, T>([](T a) { return -a; });
      });
    else if (op == "neg")
      with_bits(type, [&](auto zero) {
        using T = decltype(zero);
        each<T, T>([](T a) { return static_cast<T>(-a); });
      });
    else if (op == "abs" && is_float)
      with_float(type, [&](auto zero) {
        using T = decltype(zero);
        each<T, T>([](T a) { return std::fabs(a); });
      });
    else if (op == "and")
      of_bits(type, [](auto a, auto b) { return a & b; });
    else if (op == "or")
      of_bits(type, [](auto a, auto b) { return a | b; });
    else if (op == "xor")
      of_bits(type, [](auto a, auto b) { return a ^ b; });
    else if (op == "not")
      with_bits(type, [&](auto zero) {
        using T = decltype(zero);
        const T flipped = type.kind == 'p' ? T(1) : static_cast<T>(~T(0));
        each<T, T>([flipped](T a) { return static_cast<T>(a ^ flipped); });
      });
    else if (op == "shl" || op == "shr")
      shift(op == "shl", type);
    else if (op == "popc")
      raw(4, [](const uint64_t *from) { return static_cast<uint64_t>(__builtin_popcountll(from[0])); });
    else if (op == "clz" && type.bytes == 4)
      raw(4,
          [](const uint64_t *from) { return uint64_t(from[0] ? __builtin_clz(static_cast<unsigned>(from[0])) : 32); });
    else if (op == "brev" && type.bytes == 4)
      raw(4, [](const uint64_t *from) {
        uint64_t reversed = 0;
        for (int i = 0; i < 32; ++i) reversed |= (from[0] >> i & 1) << (31 - i);
        return reversed;
      });
    else if (op == "bfind" && has("shiftamt") && type.bytes == 4 && type.kind == 'u')
      raw(4, [](const uint64_t *from) {
        return from[0] ? static_cast<uint64_t>(__builtin_clz(static_cast<unsigned>(from[0]))) : ~uint64_t(0);
      });
    else if (op == "rcp" && has("approx") && has("ftz") && type.bytes == 8)
      each<double, double>(reciprocal_approximately);
    else
      unknown();
  }

  // mul and mad: lo, hi, or wide, whose result and sum are twice as wide.
  void multiply(bool adds, const Type &type) {
    const bool is_signed = type.kind == 's', wide = has("wide"), high = has("hi");
    const int bytes = type.bytes;
    output(token(0));
    input(token(1), bytes);
    input(token(2), bytes);
    if (adds) input(token(3), wide ? 2 * bytes : bytes);
    in->action = [=](Warp &warp, const Instruction &instruction, uint32_t lanes) {
      for (int i = 0; i < kLanes; ++i) {
        if (!(lanes >> i & 1)) continue;
        const uint64_t a = extended(warp.get(instruction.from[0], i), bytes, is_signed),
                       b = extended(warp.get(instruction.from[1], i), bytes, is_signed);
        uint64_t product = a * b;
        if (high && bytes < 8) product >>= 8 * bytes;
        if (high && bytes == 8) product = upper_half(a, b, is_signed);
        if (adds) product += warp.get(instruction.from[2], i);
        warp.set(instruction.to[0], i, product);
      }
    };
  }

  // min and max; of a number and a NaN both are the number.
  void extreme(bool largest, const Type &type) {
    if (type.kind == 'f')
      return with_float(type, [&](auto zero) {
        using T = decltype(zero);
        each<T, T, T>([largest](T a, T b) { return largest ? std::fmax(a, b) : std::fmin(a, b); });
      });
    of_integers(type, [largest](auto a, auto b) { return (a < b) != largest ? a : b; });
  }

  // Shifts by 32 bits or more are defined: they leave nothing, or the sign.
  void shift(bool left, const Type &type) {
    const int bytes = type.bytes;
    const bool is_signed = type.kind == 's';
    output(token(0));
    input(token(1), bytes);
    input(token(2), 4);
    in->action = [=](Warp &warp, const Instruction &instruction, uint32_t lanes) {
      for (int i = 0; i < kLanes; ++i) {
        if (!(lanes >> i & 1)) continue;
        const uint64_t value = extended(warp.get(instruction.from[0], i), bytes, is_signed);
        const uint64_t amount = std::min<uint64_t>(warp.get(instruction.from[1], i), 63);
        const uint64_t none = is_signed && !left ? extended(value, 8, true) >> 63 ? ~uint64_t(0) : 0 : 0;
        uint64_t shifted = left ? value << amount : static_cast<uint64_t>(static_cast<int64_t>(value) >> amount);
        if (!left && !is_signed) shifted = value >> amount;
        if (warp.get(instruction.from[1], i) >= 8 * static_cast<uint64_t>(bytes)) shifted = none;
        warp.set(instruction.to[0], i, shifted);
      }
    };
  }

  // setp: a comparison. One of floats that ends with u is true if either is NaN; the others are false.
  void set_predicate(const Type &type) {
    if (text_->words.size() != 3) unknown();
    const std::string &how = word(1);
    if (type.kind == 'p') unknown();
    if (type.kind != 'f') {
      const bool is_signed = type.kind == 's';
      if (is_signed) return with_integer(type, [&](auto zero) { compare<decltype(zero)>(how); });
      return with_bits(type, [&](auto zero) { compare<decltype(zero)>(how); });
    }
    with_float(type, [&](auto zero) { compare<decltype(zero)>(how); });
  }
  template <class T> void compare(const std::string &how) {
    const auto result = [&](auto function) {
      each<uint8_t, T, T>([function](T a, T b) { return static_cast<uint8_t>(function(a, b)); });
    };
    if (how == "eq") return result([](T a, T b) { return a == b; });
    if (how == "ne") return result([](T a, T b) { return a < b || a > b; });
    if (how == "lt" || how == "lo") return result([](T a, T b) { return a < b; });
    if (how == "le" || how == "ls") return result([](T a, T b) { return a <= b; });
    if (how == "gt" || how == "hi") return result([](T a, T b) { return a > b; });
    if (how == "ge" || how == "hs") return result([](T a, T b) { return a >= b; });
    if (how == "equ") return result([](T a, T b) { return !(a < b || a > b); });
    if (how == "neu") return result([](T a, T b) { return a != b; });
    if (how == "ltu") return result([](T a, T b) { return !(a >= b); });
    if (how == "leu") return result([](T a, T b) { return !(a > b); });
    if (how == "gtu") return result([](T a, T b) { return !(a <= b); });
    if (how == "geu") return result([](T a, T b) { return !(a < b); });
    if (how == "nan") return result([](T a, T b) { return a != a || b != b; });
    if (how == "num") return result([](T a, T b) { return a == a && b == b; });
    unknown();
  }

  // mov: a value, or two registers as the halves of a larger one.
  void move(const Type &type) {
    const auto &to = text_->operands.at(0), &from = text_->operands.at(1);
    if (to.size() == 1 && from.size() == 1) {
      const bool is_symbol = from[0][0] == '_' || std::isalpha(static_cast<unsigned char>(from[0][0]));
      if (is_symbol) return raw(type.bytes, [](const uint64_t *values) { return values[0]; });
      if (type.kind == 'p')  // true is written as -1
        return each<uint8_t, uint8_t>([](uint8_t value) { return static_cast<uint8_t>(value & 1); });
      return with_bits(type,
                       [&](auto zero) { each<decltype(zero), decltype(zero)>([](auto value) { return value; }); });
    }
    for (const std::string &part : to) output(part);
    for (const std::string &part : from) input(part, type.bytes);
    const int parts = std::max(in->inputs, in->outputs), shift_of_part = 8 * type.bytes / parts;
    in->action = [shift_of_part](Warp &warp, const Instruction &instruction, uint32_t lanes) {
      for (int i = 0; i < kLanes; ++i) {
        if (!(lanes >> i & 1)) continue;
        uint64_t whole = 0;
        int shift = 0;
        for (size_t k = 0; k < static_cast<size_t>(instruction.inputs); ++k) {
          whole |= warp.get(instruction.from[k], i) << shift;
          shift += shift_of_part;
        }
        for (size_t k = 0; k < static_cast<size_t>(instruction.outputs); ++k) {
          warp.set(instruction.to[k], i, whole);
          whole >>= shift_of_part;
        }
      }
    };
  }

  // cvta: all addresses are the host's but those of shared memory.
  void convert_address(const Type &type) {
    if (!has("shared")) return raw(type.bytes, [](const uint64_t *from) { return from[0]; });
    operands(type.bytes);
    const bool to_shared = has("to");
    in->action = [to_shared](Warp &warp, const Instruction &instruction, uint32_t lanes) {
      const auto base = reinterpret_cast<uint64_t>(warp.shared);
      for (int i = 0; i < kLanes; ++i)
        if (lanes >> i & 1) {
          const uint64_t address = warp.get(instruction.from[0], i);
          warp.set(instruction.to[0], i, to_shared ? address - base : address + base);
        }
    };
  }

  // cvt, from any type to any other.
  void convert() {
    const auto &words = text_->words;
    const Type to = type_of(words[words.size() - 2]), from = type_of(words.back());
    std::string rounding;
    bool saturates = false;
    for (size_t i = 1; i + 2 < words.size(); ++i) {
      if (words[i] == "sat")
        saturates = true;
      else if (words[i] == "rn" || words[i] == "rni" || words[i] == "rmi" || words[i] == "rpi" || words[i] == "rzi")
        rounding = words[i];
      else
        unknown();
    }
    const bool to_float = to.kind == 'f', from_float = from.kind == 'f';
    const bool integral = rounding.size() == 3;
    if ((saturates && !(to_float && from_float && to.bytes == 4)) || to.kind == 'b' || from.kind == 'b') unknown();
    raw(from.bytes, [=](const uint64_t *values) -> uint64_t {
      const uint64_t given = extended(values[0], from.bytes, from.kind == 's');
      if (!to_float && !from_float) return extended(given, to.bytes, to.kind == 's');
      if (!from_float && to.bytes == 4)
        return bits<uint32_t>(from.kind == 's' ? static_cast<float>(static_cast<int64_t>(given))
                                               : static_cast<float>(given));
      if (!from_float)
        return bits<uint64_t>(from.kind == 's' ? static_cast<double>(static_cast<int64_t>(given))
                                               : static_cast<double>(given));
      double number = from.bytes == 8   ? bits<double>(given)
                      : from.bytes == 4 ? double(bits<float>(static_cast<uint32_t>(given)))
                                        : double(from_half(static_cast<uint16_t>(given)));
      if (integral) number = to_integer(number, rounding);
      if (!to_float && number != number)
        return from.bytes == 8 || to.bytes == 8 ? uint64_t(1) << (8 * to.bytes - 1) : 0;
      if (!to_float) return extended(saturated(number, to.bytes, to.kind == 's'), to.bytes, to.kind == 's');
      if (saturates) number = number >= 0 ? std::min(number, 1.0) : 0;  // NaN: 0
      if (to.bytes == 8) return bits<uint64_t>(number);
      if (to.bytes == 4) return bits<uint32_t>(static_cast<float>(number));
      return to_half(static_cast<float>(number));
    });
  }

  // ---- memory ----

  // An address without a space is global, or what cvta has made of one in shared or local memory.
  enum class Space { kParameter, kShared, kLocal, kGlobal, kGeneric };
  Space space() const {
    return has("param")    ? Space::kParameter
           : has("shared") ? Space::kShared
           : has("local")  ? Space::kLocal
           : has("global") ? Space::kGlobal
                           : Space::kGeneric;
  }
  static bool is_far(Space space) { return space == Space::kGlobal || space == Space::kGeneric; }

  // Adds the address [base+offset] as an input.
  void address(const std::string &text) {
    const size_t plus = text.find('+');
    input(text.substr(1, std::min(plus, text.size() - 1) - 1), 8);
    in->offset = plus == std::string::npos ? 0 : std::stoll(text.substr(plus + 1));
  }

  // Returns where a lane's access goes; faults if it may not.
  static char *place(Warp &warp, const Instruction &instruction, const Operand &base, int i, Space space, int bytes) {
    const uint64_t address = warp.get(base, i) + static_cast<uint64_t>(instruction.offset);
    threadIdx.x = warp.first_thread + static_cast<unsigned>(i);
    const auto refuse = [&](const char *what) {
      fault_at(*warp.function, instruction.line,
               std::string(what) + " of " + std::to_string(bytes) + " bytes at " + std::to_string(address));
    };
    if (address % static_cast<uint64_t>(bytes) != 0) refuse("a misaligned access");
    auto *const at = reinterpret_cast<char *>(address);
    if (space == Space::kShared) {
      if (address + static_cast<uint64_t>(bytes) > warp.function->shared_bytes)
        refuse("an access outside shared memory");
      return warp.shared + address;
    }
    if (space == Space::kParameter) return at;
    const auto within = [&](const char *start, size_t size) { return at >= start && at + bytes <= start + size; };
    if (within(warp.local.data(), warp.local.size())) return at;
    if (space == Space::kGeneric && within(warp.shared, warp.function->shared_bytes)) return at;
    if (space == Space::kLocal || !accessible(at, static_cast<size_t>(bytes)))
      refuse("an access outside every allocation");
    return at;
  }

  // ld: each value goes to a register, which may be larger.
  void load(const Type &type) {
    const Space where = space();
    for (const std::string &part : text_->operands.at(0)) output(part);
    address(token(1));
    if (is_far(where)) in->memory = Memory::kLoad;
    in->action = [=](Warp &warp, const Instruction &instruction, uint32_t lanes) {
      const int bytes = type.bytes * instruction.outputs;
      for (int i = 0; i < kLanes; ++i) {
        if (!(lanes >> i & 1)) continue;
        const char *const at = place(warp, instruction, instruction.from[0], i, where, bytes);
        for (size_t k = 0; k < static_cast<size_t>(instruction.outputs); ++k) {
          uint64_t value = 0;
          std::memcpy(&value, at + k * static_cast<size_t>(type.bytes), static_cast<size_t>(type.bytes));
          warp.set(instruction.to[k], i, extended(value, type.bytes, type.kind == 's'));
        }
      }
    };
  }

  // st: the lowest bytes of each register.
  void store(const Type &type) {
    const Space where = space();
    address(token(0));
    for (const std::string &part : text_->operands.at(1)) input(part, type.bytes);
    if (is_far(where)) in->memory = Memory::kStore;
    in->action = [=](Warp &warp, const Instruction &instruction, uint32_t lanes) {
      const int values = instruction.inputs - 1;
      for (int i = 0; i < kLanes; ++i) {
        if (!(lanes >> i & 1)) continue;
        char *const at = place(warp, instruction, instruction.from[0], i, where, type.bytes * values);
        for (size_t k = 0; k < static_cast<size_t>(values); ++k) {
          const uint64_t value = warp.get(instruction.from[k + 1], i);
          std::memcpy(at + k * static_cast<size_t>(type.bytes), &value, static_cast<size_t>(type.bytes));
        }
      }
    };
  }

  // atom and red on integers, lane by lane.
  void atomic(const Type &type) {
    const bool returns = word(0) == "atom";
    const bool adds = has("add"), least = has("min"), largest = has("max"), either = has("or"), exchanges = has("exch");
    if (type.kind == 'f' || type.kind == 's' || !(adds || least || largest || either || exchanges)) unknown();
    if (returns) output(token(0));
    address(token(returns));
    input(token(returns + size_t(1)), type.bytes);
    const Space where = space();
    in->memory = !is_far(where) ? Memory::kNone : has("acq_rel") ? Memory::kOrdered : Memory::kAtomic;
    in->action = [=](Warp &warp, const Instruction &instruction, uint32_t lanes) {
      for (int i = 0; i < kLanes; ++i) {
        if (!(lanes >> i & 1)) continue;
        char *const at = place(warp, instruction, instruction.from[0], i, where, type.bytes);
        const uint64_t value = warp.get(instruction.from[1], i);
        uint64_t before = 0;
        std::memcpy(&before, at, static_cast<size_t>(type.bytes));
        const uint64_t after = adds      ? before + value
                               : least   ? std::min(before, value)
                               : largest ? std::max(before, value)
                               : either  ? before | value
                                         : value;
        std::memcpy(at, &after, static_cast<size_t>(type.bytes));
        if (returns) warp.set(instruction.to[0], i, before);
      }
    };
  }

  // ---- barriers, shuffles, votes ----

  // The last input of those of a warp is the mask of the lanes that meet.
  void meeting(const std::string &op) {
    const bool of_warp = op == "shfl" || op == "vote" || has("warp");
    if (in->guarded || !(of_warp || has("sync"))) unknown();
    in->kind = of_warp ? Kind::kWarpBarrier : Kind::kBlockBarrier;
    in->action = [](Warp &, const Instruction &, uint32_t) {};
    if (op == "shfl") return shuffle();
    if (op == "vote") return vote();
    if (of_warp) return input(token(0), 4);
    if (token(0) != "0" || text_->operands.size() != 1) unknown();
  }

  // shfl.sync: value, lane or distance, limits, mask.
  void shuffle() {
    const std::string mode = word(2);
    if (mode != "bfly" && mode != "idx" && mode != "down" && mode != "up") unknown();
    for (const std::string &part : text_->operands.at(0)) output(part);
    for (size_t i = 1; i < 5; ++i) input(token(i), 4);
    in->action = [mode](Warp &warp, const Instruction &instruction, uint32_t lanes) {
      uint32_t values[kLanes];
      std::copy_n(warp.at<uint32_t>(instruction.from[0]), kLanes, values);
      for (int i = 0; i < kLanes; ++i) {
        if (!(lanes >> i & 1)) continue;
        const int by = static_cast<int>(warp.get(instruction.from[1], i) & 31);
        const auto limits = static_cast<int>(warp.get(instruction.from[2], i));
        const int segment = limits >> 8 & 31, least = i & segment, most = least | (limits & 31 & ~segment);
        const int source = mode == "bfly"   ? i ^ by
                           : mode == "idx"  ? least | (by & ~segment)
                           : mode == "down" ? i + by
                                            : i - by;
        const bool inside = mode == "up" ? source >= most : source <= most;
        if (inside && !(lanes >> source & 1))
          fault_at(*warp.function, instruction.line, "a shuffle from an absent lane");
        warp.set(instruction.to[0], i, values[inside ? source : i]);
        if (instruction.outputs > 1) warp.set(instruction.to[1], i, inside);
      }
    };
  }

  // vote.sync: predicate, mask.
  void vote() {
    const bool ballot = has("ballot"), any = has("any"), all = has("all");
    if (!ballot && !any && !all) unknown();
    output(token(0));
    input(token(1), 1);
    input(token(2), 4);
    in->action = [=](Warp &warp, const Instruction &instruction, uint32_t lanes) {
      uint32_t votes = 0;
      for (int i = 0; i < kLanes; ++i)
        if (lanes >> i & 1) votes |= static_cast<uint32_t>(warp.get(instruction.from[0], i)) << i;
      const uint64_t result = ballot ? votes : any ? votes != 0 : votes == lanes;
      for (int i = 0; i < kLanes; ++i)
        if (lanes >> i & 1) warp.set(instruction.to[0], i, result);
    };
  }

  Function &f;
  const std::map<std::string, size_t> &shared_;
  Instruction *in = nullptr;
  const Text *text_ = nullptr;
  size_t bytes_ = 0;
  std::map<std::string, Operand> named_;
  std::map<std::pair<uint64_t, int>, Operand> constants_;
  std::map<std::string, size_t> local_;
  std::map<std::string, int> labels_;
  std::vector<std::pair<size_t, std::string>> branches_;
};

// ---- Reading --------------------------------------------------------------------------------------------------------

// Cuts a file into statements: what ends with a semicolon or a colon, and braces. Comments are dropped.
class Reader {
 public:
  explicit Reader(const std::string &path) : path_(path) {
    std::ifstream file(path);
    if (!file) fault("SIMT_PTX: %s cannot be read", path.c_str());
    std::stringstream whole;
    whole << file.rdbuf();
    text_ = whole.str();
  }

  // Reads the next statement, without its end; returns its last character: ; : { } or 0 at the end of the file. Braces
  // of a vector belong to the statement, and so does what a directive like .entry has in parentheses.
  char next(std::string &statement) {
    statement.clear();
    int depth = 0;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (text_.compare(at_, 2, "//") == 0) at_ = std::min(text_.find('\n', at_), text_.size());
      if (at_ == text_.size()) break;
      if (text_[at_] == '\n') ++line_;
      if (std::isspace(static_cast<unsigned char>(text_[at_]))) {
        if (!statement.empty() && statement.back() != ' ') statement += ' ';
        // A directive of the file that has a line of its own, without an end.
        if (text_[at_] == '\n' &&
            (starts(statement, ".version") || starts(statement, ".target") || starts(statement, ".address_size")))
          statement.clear();
        continue;
      }
      if (statement.empty()) first_line_ = line_;
      const bool of_vector = (c == '{' && !statement.empty() && statement[0] != '.') || (c == '}' && depth > 0);
      if (of_vector) depth += c == '{' ? 1 : -1;
      if (!of_vector && (c == ';' || c == ':' || c == '{' || c == '}')) {
        ++at_;
        while (!statement.empty() && statement.back() == ' ') statement.pop_back();
        return c;
      }
      statement += c;
    }
    return 0;
  }
  int line() const { return first_line_; }
  const std::string &path() const { return path_; }

  static bool starts(const std::string &text, const char *with) {
    return text.compare(0, std::strlen(with), with) == 0;
  }

 private:
  std::string path_, text_;
  size_t at_ = 0;
  int line_ = 1, first_line_ = 1;
};

// Returns the number in brackets behind an array's name, 1 without.
size_t length_of(const std::string &declaration) {
  const size_t open = declaration.find('[');
  return open == std::string::npos ? 1 : std::stoull(declaration.substr(open + 1));
}
// Returns the parts of a text between separators, without spaces around them.
std::vector<std::string> split(const std::string &text, const char *separators) {
  std::vector<std::string> parts;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find_first_of(separators, at), text.size());
    if (end > at) parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

// Reads the operands of an instruction. {a, b} and a|b are operands of two parts.
std::vector<std::vector<std::string>> operands_of(const std::string &text) {
  std::vector<std::vector<std::string>> operands(1);
  std::string token;
  bool in_vector = false;
  const auto end_token = [&] {
    if (!token.empty()) operands.back().push_back(token);
    token.clear();
  };
  for (const char c : text) {
    if (c == '{' || c == '}') {
      in_vector = c == '{';
    } else if (c == ',' || c == '|') {
      end_token();
      if (c == ',' && !in_vector) operands.emplace_back();
    } else if (c != ' ') {
      token += c;
    }
  }
  end_token();
  if (operands.back().empty()) operands.pop_back();
  return operands;
}

// Adds an array in shared memory: .shared .align 8 .b8 name[320]
void declare_shared(const std::string &statement, std::map<std::string, size_t> &shared, size_t &bytes) {
  const std::vector<std::string> words = split(statement, " ");
  const std::string &declaration = words.back(), &type = words[words.size() - 2];
  const size_t alignment = words[1] == ".align" ? std::stoull(words[2]) : 8;
  bytes = (bytes + alignment - 1) / alignment * alignment;
  shared[declaration.substr(0, declaration.find('['))] = bytes;
  bytes += length_of(declaration) * static_cast<size_t>(type_of(type.substr(1)).bytes);
}

// Reads the kernel whose header is the statement, up to its last brace. shared holds the arrays of the file, of which a
// kernel's own are not part.
std::unique_ptr<Function> read_function(const std::string &header, Reader &reader,
                                        const std::map<std::string, size_t> &of_file, size_t bytes_of_file) {
  auto function = std::make_unique<Function>();
  std::map<std::string, size_t> shared = of_file;
  function->shared_bytes = bytes_of_file;
  function->file = reader.path();
  const size_t open = header.find('('), close = header.find(')');
  const size_t name = header.rfind(' ', header.find_last_not_of(' ', open - 1));
  function->name = split(header.substr(name, open - name), " ").at(0);
  for (const std::string &parameter : split(header.substr(open + 1, close - open - 1), ",")) {
    const std::vector<std::string> words = split(parameter, " ");
    const std::string &declaration = words.back(), &type = words[words.size() - 2];
    function->parameters.push_back({declaration.substr(0, declaration.find('[')),
                                    length_of(declaration) * static_cast<size_t>(type_of(type.substr(1)).bytes)});
  }
  Decoder decoder(*function, shared);
  std::string statement;
  for (int depth = 1; depth > 0;) {
    const char end = reader.next(statement);
    if (end == 0) fault("%s ends within a kernel", reader.path().c_str());
    if (end == '{' || end == '}') {
      depth += end == '{' ? 1 : -1;
    } else if (end == ':') {
      decoder.label(statement);
    } else if (Reader::starts(statement, ".reg")) {
      const std::vector<std::string> words = split(statement, " <>");
      decoder.declare_registers(words.at(2), words.size() > 3 ? std::stoi(words[3]) : 1, words.at(1));
    } else if (Reader::starts(statement, ".shared")) {
      declare_shared(statement, shared, function->shared_bytes);
    } else if (Reader::starts(statement, ".local")) {
      const std::string declaration = split(statement, " ").back();
      decoder.declare_local(declaration.substr(0, declaration.find('[')), length_of(declaration));
    } else if (!statement.empty() && statement[0] != '.') {
      std::string guard;
      if (statement[0] == '@') {
        const size_t space = statement.find(' ');
        guard = statement.substr(1, space - 1);
        statement = statement.substr(space + 1);
      }
      const size_t space = std::min(statement.find(' '), statement.size());
      decoder.add({split(statement.substr(0, space), "."), operands_of(statement.substr(space))}, guard, reader.line());
    }
  }
  decoder.finish();
  return function;
}

using Functions = std::map<std::string, std::unique_ptr<Function>>;

// Reads the kernels of several files, separated by colons, by name.
Functions read_functions(const std::string &files) {
  Functions functions;
  for (const std::string &file : split(files, ":")) {
    Reader reader(file);
    std::map<std::string, size_t> shared;
    size_t bytes = 0;
    std::string statement;
    for (char end = reader.next(statement); end != 0; end = reader.next(statement)) {
      if (end == ';' && Reader::starts(statement, ".shared")) {
        declare_shared(statement, shared, bytes);
      } else if (end == '{' && statement.find(".entry") != std::string::npos) {
        auto function = read_function(statement, reader, shared, bytes);
        functions[function->name] = std::move(function);
      } else {
        fault("%s:%d: %s is not known", file.c_str(), reader.line(), statement.c_str());
      }
    }
  }
  return functions;
}

// ---- Running --------------------------------------------------------------------------------------------------------

std::vector<PtxLaunch> *counted = nullptr;  // see count_ptx

// Sectors of global memory that the running block has loaded, which its multiprocessor's cache holds. An instruction
// that orders memory empties it.
std::set<uint64_t> cached;
constexpr uint64_t kSector = 32;

// Returns whether a load of some lanes leaves the multiprocessor, and notes what it brings in.
bool leaves(Warp &warp, const Instruction &instruction, uint32_t lanes) {
  bool left = false;
  for (int i = 0; i < kLanes; ++i) {
    if (!(lanes >> i & 1)) continue;
    const uint64_t address = warp.get(instruction.from[0], i) + static_cast<uint64_t>(instruction.offset);
    const auto offset = address - reinterpret_cast<uint64_t>(warp.shared);
    if (offset < warp.function->shared_bytes) continue;
    left |= cached.insert(address / kSector).second;
  }
  return left;
}

// Makes an instruction wait for its operands, and notes when its results are there: counts the round trips to global
// memory that follow each other (PtxLaunch::trips).
void keep_score(Warp &warp, const Instruction &instruction, uint32_t lanes) {
  const auto wait_for = [&](const Operand &operand) {
    if (operand.number >= 0) warp.now = std::max(warp.now, warp.ready[static_cast<size_t>(operand.number)]);
  };
  if (instruction.guarded) wait_for(instruction.guard);
  for (size_t k = 0; k < static_cast<size_t>(instruction.inputs); ++k) wait_for(instruction.from[k]);
  bool trip = false;
  switch (instruction.memory) {
    case Memory::kNone: break;
    case Memory::kLoad: trip = leaves(warp, instruction, lanes); break;
    case Memory::kStore: warp.stored = warp.now + 1; break;
    case Memory::kAtomic:
      trip = leaves(warp, instruction, lanes);
      cached.clear();  // its sector is not kept, and others are not worth a list
      break;
    case Memory::kOrdered:
    case Memory::kFence:
      warp.now = std::max(warp.now, warp.stored);
      cached.clear();
      trip = instruction.memory == Memory::kOrdered;
  }
  const int ready = warp.now + trip;
  for (size_t k = 0; k < static_cast<size_t>(instruction.outputs); ++k)
    if (instruction.to[k].number >= 0) warp.ready[static_cast<size_t>(instruction.to[k].number)] = ready;
}

// Runs the lanes of a warp that are all at one instruction, the least of the warp, until they part, wait or end, or
// come to where other lanes are.
void run_lanes(Warp &warp, uint32_t lanes, int counter, int others) {
  const std::vector<Instruction> &code = warp.function->code;
  const auto leave_at = [&](uint32_t leaving, int at) {
    for (int i = 0; i < kLanes; ++i)
      if (leaving >> i & 1) warp.counter[i] = at;
  };
  while (counter < others) {
    const Instruction &instruction = code[static_cast<size_t>(counter)];
    uint32_t active = lanes;
    if (instruction.guarded) {
      const uint8_t *const guard = warp.at<uint8_t>(instruction.guard);
      uint32_t passed = 0;
      for (int i = 0; i < kLanes; ++i) passed |= uint32_t(guard[i] != 0) << i;
      active &= instruction.negated ? ~passed : passed;
    }
    if (counted) {
      ++warp.issued;
      keep_score(warp, instruction, active);
    }
    switch (instruction.kind) {
      case Kind::kCompute:
        if (active) instruction.action(warp, instruction, active);
        break;
      case Kind::kBranch:
        if (active == lanes) {
          counter = instruction.target;
          continue;
        }
        if (active == 0) break;
        leave_at(active, instruction.target);
        return leave_at(lanes & ~active, counter + 1);
      case Kind::kEnd: warp.live &= ~active; return leave_at(lanes & ~active, counter + 1);
      case Kind::kBlockBarrier: warp.block_waiting |= lanes; return leave_at(lanes, counter);
      case Kind::kWarpBarrier: {
        const Operand &mask = instruction.from[static_cast<size_t>(instruction.inputs - 1)];
        if (warp.get(mask, __builtin_ctz(lanes)) != lanes) {
          warp.warp_waiting |= lanes;
          return leave_at(lanes, counter);
        }
        instruction.action(warp, instruction, lanes);
        break;
      }
    }
    ++counter;
  }
  leave_at(lanes, counter);
}

// Lets the lanes go on that wait for each other within a warp, when no other lane can.
void open_warp_barrier(Warp &warp) {
  const int first = __builtin_ctz(warp.warp_waiting);
  const int counter = warp.counter[first];
  const Instruction &instruction = warp.function->code[static_cast<size_t>(counter)];
  const auto mask =
      static_cast<uint32_t>(warp.get(instruction.from[static_cast<size_t>(instruction.inputs - 1)], first));
  for (int i = 0; i < kLanes; ++i)
    if ((mask >> i & 1) && (!(warp.warp_waiting >> i & 1) || warp.counter[i] != counter))
      fault_at(*warp.function, instruction.line,
               "lane " + std::to_string(i) + " does not come to the shuffle, vote or barrier of its warp");
  instruction.action(warp, instruction, mask);
  warp.warp_waiting &= ~mask;
  for (int i = 0; i < kLanes; ++i)
    if (mask >> i & 1) ++warp.counter[i];
}

// Runs a warp until all of its lanes have ended or wait at a barrier of the block.
void run_warp(Warp &warp) {
  for (;;) {
    const uint32_t able = warp.live & ~warp.block_waiting & ~warp.warp_waiting;
    if (!able && !warp.warp_waiting) return;
    if (!able) {
      open_warp_barrier(warp);
      continue;
    }
    int least = INT_MAX, others = INT_MAX;
    uint32_t lanes = 0;
    for (int i = 0; i < kLanes; ++i)
      if (able >> i & 1) least = std::min(least, warp.counter[i]);
    for (int i = 0; i < kLanes; ++i) {
      if (!(able >> i & 1)) continue;
      if (warp.counter[i] == least)
        lanes |= uint32_t(1) << i;
      else
        others = std::min(others, warp.counter[i]);
    }
    run_lanes(warp, lanes, least, others);
  }
}

// Runs one block, whose warps are set up but for what differs from block to block.
void run_block(std::vector<Warp> &warps) {
  cached.clear();
  for (Warp &warp : warps) {
    std::fill_n(warp.counter, kLanes, 0);
    std::fill_n(warp.at<uint32_t>(warp.function->block), kLanes, blockIdx.x);
    warp.live = kFull;
    warp.block_waiting = warp.warp_waiting = 0;
    warp.issued = 0;
    warp.now = warp.stored = 0;
    std::fill(warp.ready.begin(), warp.ready.end(), 0);
  }
  for (;;) {
    for (Warp &warp : warps) run_warp(warp);
    int now = 0, counter = -1;
    size_t waiting = 0;
    for (const Warp &warp : warps) {
      now = std::max(now, warp.now);
      for (int i = 0; i < kLanes; ++i) {
        if (!(warp.live >> i & 1)) continue;
        if (counter >= 0 && warp.counter[i] != counter)
          fault_at(*warp.function, warp.function->code[static_cast<size_t>(counter)].line,
                   "not all threads come to this barrier of the block");
        counter = warp.counter[i];
        ++waiting;
      }
    }
    if (waiting == 0) return;
    const Function &function = *warps[0].function;
    if (waiting != kLanes * warps.size())
      fault_at(function, function.code[static_cast<size_t>(counter)].line,
               "threads have ended that should come to this barrier of the block");
    for (Warp &warp : warps) {
      warp.block_waiting = 0;
      warp.now = now;
      for (int &next : warp.counter) ++next;
    }
  }
}

// Returns the warps of a kernel for blocks of that many threads, with their constants. They are made once.
std::vector<Warp> &warps_of(const Function &function, unsigned threads) {
  static std::map<std::pair<const Function *, unsigned>, std::vector<Warp>> all;
  std::vector<Warp> &warps = all[{&function, threads}];
  if (!warps.empty()) return warps;
  warps.resize(threads / kLanes);
  for (size_t w = 0; w < warps.size(); ++w) {
    Warp &warp = warps[w];
    warp.function = &function;
    warp.memory.resize(function.warp_bytes);
    warp.ready.resize(static_cast<size_t>(function.registers));
    warp.local.resize(function.local_bytes * kLanes);
    warp.first_thread = static_cast<unsigned>(w * kLanes);
    for (int i = 0; i < kLanes; ++i) {
      for (const auto &[operand, value] : function.constants) warp.set(operand, i, value);
      for (const auto &[operand, offset] : function.local_addresses)
        warp.set(
            operand, i,
            reinterpret_cast<uint64_t>(warp.local.data() + static_cast<size_t>(i) * function.local_bytes + offset));
      warp.set(function.thread, i, warp.first_thread + static_cast<unsigned>(i));
      warp.set(function.threads, i, threads);
      warp.set(function.lane, i, static_cast<uint64_t>(i));
    }
  }
  return warps;
}

}  // namespace

void count_ptx(std::vector<PtxLaunch> *launches) { counted = launches; }

bool run_ptx(const void *kernel, dim3 grid, dim3 block, const void *const *arguments, const size_t *sizes,
             size_t count) {
  const char *const files = std::getenv("SIMT_PTX");
  if (!files) return false;
  const DeviceAccess access;
  static std::map<std::string, Functions> read;  // what SIMT_PTX has named so far; guarded by device_mutex
  const auto known = read.find(files);
  const Functions &functions = known != read.end() ? known->second : read[files] = read_functions(files);
  Dl_info info;
  if (dladdr(kernel, &info) == 0 || !info.dli_sname) fault("a kernel without a name");
  const auto found = functions.find(info.dli_sname);
  if (found == functions.end()) fault("SIMT_PTX has no kernel %s", info.dli_sname);
  const Function &function = *found->second;
  if (count != function.parameters.size()) fault("%s: %zu arguments", info.dli_sname, count);
  std::vector<Warp> &warps = warps_of(function, block.x);
  // The sizes differ only by padding at the end of a struct.
  std::vector<std::vector<uint64_t>> copies(count);
  for (size_t i = 0; i < count; ++i) {
    if (function.parameters[i].bytes > sizes[i]) fault("%s: the size of argument %zu", info.dli_sname, i);
    copies[i].resize(sizes[i] / 8 + 1);
    std::memcpy(copies[i].data(), arguments[i], sizes[i]);
  }
  std::vector<uint64_t> shared(function.shared_bytes / 8 + 1);
  for (Warp &warp : warps) {
    warp.shared = reinterpret_cast<char *>(shared.data());
    for (int i = 0; i < kLanes; ++i) {
      warp.set(function.blocks, i, grid.x);
      for (const auto &[operand, number] : function.parameter_addresses)
        warp.set(operand, i, reinterpret_cast<uint64_t>(copies[number].data()));
    }
  }
  PtxLaunch launch{function.name, grid.x, 0, {}};
  int64_t issued = 0;
  for_blocks(grid, block, [&] {
    std::fill(shared.begin(), shared.end(), ~uint64_t(0));
    run_block(warps);
    launch.trips.push_back(0);
    for (const Warp &warp : warps) {
      issued += warp.issued;
      launch.trips.back() = std::max(launch.trips.back(), warp.now);
    }
  });
  if (!counted) return true;
  std::sort(launch.trips.begin(), launch.trips.end());
  launch.instructions = static_cast<double>(issued) / (static_cast<double>(grid.x) * static_cast<double>(warps.size()));
  counted->push_back(launch);
  return true;
}

}  // namespace simt
