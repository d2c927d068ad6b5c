// Every form, layout and tile of the CPU matmul kernels against the op's own meaning, at sizes with all kinds of rests.
#include "kernels/cpu/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/fields.h"
#include "device/target.h"
#include "kernels/weight_layout.h"

namespace ingot {
namespace {

struct Size {
  int64_t rows, n, k;
};

std::vector<float> random_floats(int64_t count, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(engine);
  return values;
}

struct Case {
  Matmul op;
  Size size;
  DType dtype;
  std::vector<float> x, bias, residual;
  std::vector<std::byte> w;

  Case(Matmul op_, Size size_, DType dtype_) : op(op_), size(size_), dtype(dtype_) {
    x = random_floats(size.rows * size.k, 1);
    bias = random_floats(size.n, 3);
    residual = random_floats(size.rows * size.n, 4);
    std::vector<float> weights = random_floats(size.n * size.k, 2);
    w.resize(weights.size() * static_cast<size_t>(size_of(dtype)));
    convert(DType::kF32, weights.data(), dtype, w.data(), static_cast<int64_t>(weights.size()));
  }

  int64_t columns() const { return op.gated ? size.n / 2 : size.n; }  // of y

  TensorType weight_type() const { return {dtype, {size.n, size.k}, ""}; }

  std::vector<std::byte> packed(const std::string& name) const {
    if (name.empty()) return w;
    const WeightLayout* layout = find_weight_layout(name);
    if (!layout || !layout->accepts(weight_type())) throw std::runtime_error("no layout " + name);
    std::vector<std::byte> out(static_cast<size_t>(layout->packed_bytes(weight_type())));
    int64_t blocks = (size.n + layout->rows_per_block - 1) / layout->rows_per_block;
    int64_t row_bytes = size.k * size_of(dtype);
    std::byte* place = out.data();
    for (int64_t block = 0; block < blocks; ++block, place += out.size() / static_cast<size_t>(blocks)) {
      int64_t row = block * layout->rows_per_block;
      layout->pack(dtype, w.data() + row * row_bytes, std::min(layout->rows_per_block, size.n - row), size.k, place);
    }
    return out;
  }

  std::vector<float> run(const std::string& kernel, const MatmulTiling& tiling, int threads,
                         const MatmulHandover& handover = {}) const {
    MatmulParameters parameters;
    static_cast<Matmul&>(parameters) = op;
    static_cast<MatmulTiling&>(parameters) = tiling;
    static_cast<MatmulHandover&>(parameters) = handover;
    std::unique_ptr<Kernel> made = make_kernel(kernel, print_fields(parameters));
    std::vector<std::byte> weights = packed(tiling.layout);
    std::vector<float> y(static_cast<size_t>(size.rows * columns()), NAN);
    std::vector<Argument> arguments = {
        {const_cast<float*>(x.data()), DType::kF32, 2, {size.rows, size.k}},
        {weights.data(), dtype, 2, {size.n, size.k}},
    };
    if (op.bias) arguments.push_back({const_cast<float*>(bias.data()), DType::kF32, 1, {size.n}});
    if (op.residual) arguments.push_back({const_cast<float*>(residual.data()), DType::kF32, 2, {size.rows, size.n}});
    arguments.push_back({y.data(), DType::kF32, 2, {size.rows, columns()}});
    int64_t scratch_bytes = matmul_scratch_bytes(parameters, size.rows, size.n, size.k);
    std::vector<std::byte> scratch(static_cast<size_t>(scratch_bytes) + 64);
    auto aligned = (reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64;
    ThreadPool pool(threads);
    made->run({arguments, reinterpret_cast<std::byte*>(aligned), &pool});
    return y;
  }

  // Σ|a b| of one output element.
  double magnitude(int64_t row, int64_t column) const {
    double sum = 0;
    for (int64_t k = 0; k < size.k; ++k)
      sum += std::abs(x[static_cast<size_t>(row * size.k + k)] * load_element(dtype, w.data(), column * size.k + k));
    return sum;
  }

  double expected(int64_t index) const {
    TensorType x_type{DType::kF32, {size.rows, size.k}, ""}, y_type{DType::kF32, {size.rows, columns()}, ""};
    std::vector<TensorView> views = {{x_type, x.data()}, {weight_type(), w.data()}};
    if (op.bias) views.push_back({{DType::kF32, {size.n}, ""}, bias.data()});
    if (op.residual) views.push_back({y_type, residual.data()});
    return op.evaluate_at(views, 0, index);
  }

  // f32 sums of k products: 4 ε √k Σ|a b|. x rounded to bf16 adds errors of 2⁻⁹ to each product: 2⁻⁶ Σ|a b| / √k is
  // about six times their standard deviation. Activation functions have slopes up to 1.2 and errors of a few ε of their
  // own.
  void check(const std::string& kernel, const MatmulTiling& tiling, int threads = 2, bool rounds_x = false) const {
    SCOPED_TRACE(
        format("{} {} {}x{}x{} {}", kernel, print_fields(tiling), size.rows, size.n, size.k, enum_name(dtype)));
    std::vector<float> y = run(kernel, tiling, threads);
    int64_t n = columns(), count = size.rows * n, step = std::max<int64_t>(1, count / 700);
    double root = std::sqrt(static_cast<double>(size.k));
    for (int64_t i = 0; i < count; i += i < 64 || count - i < 64 ? 1 : step) {
      double sum = magnitude(i / n, i % n) + 3, want = expected(i);
      double bound = 0x1p-24 * (4 * root + 16) * sum + (rounds_x ? 0x1p-6 * sum / root : 0);
      // The error of a product of two such sums: each error times the other sum, which is about Σ|a b| / √k.
      if (op.gated) bound *= 2 * (magnitude(i / n, n + i % n) + sum) / root + 2;
      ASSERT_NEAR(y[static_cast<size_t>(i)], want, bound) << "row " << i / n << ", column " << i % n;
    }
  }
};

struct Isa {
  std::string kernel;
  CpuLevel level;
  std::vector<std::pair<int64_t, int64_t>> tiles;
};

const std::vector<Isa>& isas() {
  static const std::vector<Isa> list = {
      {"cpu.matmul_portable", CpuLevel::kPortable, {{3, 16}, {2, 16}}},
      {"cpu.matmul_avx2", CpuLevel::kAvx2, {{6, 16}, {4, 16}}},
      {"cpu.matmul_avx512", CpuLevel::kAvx512, {{14, 32}, {9, 48}, {5, 32}}},
  };
  return list;
}

class MatmulKernels : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (cpu_features().level < GetParam().level) GTEST_SKIP() << "needs " << enum_name(GetParam().level);
  }
  // A gemm tiling of the first tile.
  MatmulTiling gemm(const std::string& layout, int64_t k_block) const {
    auto [rows, columns] = GetParam().tiles[0];
    return {.form = MatmulForm::kGemm, .layout = layout, .rows = rows, .columns = columns, .k_block = k_block};
  }
};

const std::vector<std::string> kLayouts = {"", "panel_16", "panel_32"};
const std::vector<DType> kDTypes = {DType::kBF16, DType::kF16, DType::kF32};

TEST_P(MatmulKernels, StreamAnyNumberOfRows) {
  for (DType dtype : kDTypes)
    for (const std::string& layout : kLayouts)
      for (int64_t rows = 1; rows <= 18; ++rows)
        Case({}, {rows, 70, 131}, dtype).check(GetParam().kernel, {.layout = layout});
}

TEST_P(MatmulKernels, StreamOddSizes) {
  for (DType dtype : kDTypes)
    for (const std::string& layout : kLayouts)
      for (Size size :
           {Size{1, 1, 1}, Size{2, 3, 2}, Size{3, 17, 7}, Size{1, 33, 64}, Size{5, 48, 1000}, Size{1, 100, 33}})
        Case({}, size, dtype).check(GetParam().kernel, {.layout = layout});
}

TEST_P(MatmulKernels, MultiplyTiles) {
  for (DType dtype : kDTypes)
    for (const std::string& layout : kLayouts)
      for (auto [rows, columns] : GetParam().tiles) {
        if (layout == "panel_32" && columns % 32 != 0) continue;
        MatmulTiling tiling{
            .form = MatmulForm::kGemm, .layout = layout, .rows = rows, .columns = columns, .k_block = 64};
        for (Size size : {Size{1, 1, 1}, Size{15, 65, 129}, Size{29, 100, 64}, Size{64, 31, 70}, Size{7, 300, 200}})
          Case({}, size, dtype).check(GetParam().kernel, tiling);
      }
}

TEST_P(MatmulKernels, CutManyRowsIntoBlocks) {
  Case many({.bias = true, .residual = true}, {kMatmulRowBlock * 2 + 37, 48, 160}, DType::kBF16);
  many.check(GetParam().kernel, gemm("panel_16", 128));
  many.check(GetParam().kernel, gemm("", 96));
  many.check(GetParam().kernel, {.layout = "panel_32"});
  many.check(GetParam().kernel, {});
}

TEST_P(MatmulKernels, ApplyEveryEpilogue) {
  for (size_t function = 0; function < enum_names(ActivationFunction{}).size(); ++function)
    for (int flags = 0; flags < 4; ++flags) {
      auto chosen = static_cast<ActivationFunction>(function);
      Case c({.bias = (flags & 1) != 0, .function = chosen, .residual = (flags & 2) != 0}, {9, 53, 37}, DType::kBF16);
      SCOPED_TRACE(print_fields(c.op));
      c.check(GetParam().kernel, gemm("", 32));
      c.check(GetParam().kernel, {});
      c.check(GetParam().kernel, {.layout = "panel_16"});
    }
}

TEST_P(MatmulKernels, GiveTheSameBitsOnAnyNumberOfThreads) {
  Case c({}, {40, 530, 300}, DType::kBF16);
  for (const char* layout : {"", "panel_16"})
    for (const MatmulTiling& tiling : {MatmulTiling{.layout = layout}, gemm(layout, 96)}) {
      std::vector<float> one = c.run(GetParam().kernel, tiling, 1);
      for (int threads : {2, 3, 7}) EXPECT_EQ(one, c.run(GetParam().kernel, tiling, threads));
    }
}

TEST_P(MatmulKernels, ApplyGatedActivationsBehindTheirProducts) {
  for (Size size : {Size{1, 300, 70}, Size{5, 64, 512}, Size{70, 130, 64}})
    for (const MatmulTiling& tiling : {MatmulTiling{.layout = "panel_16"}, gemm("", 128)}) {
      Case({.function = ActivationFunction::kSilu, .gated = true}, size, DType::kBF16).check(GetParam().kernel, tiling);
      Case({.bias = true, .function = ActivationFunction::kGeluTanh, .gated = true}, size, DType::kF32)
          .check(GetParam().kernel, tiling);
    }
}

TEST_P(MatmulKernels, GiveARowTheSameResultInAnyCompany) {
  Case all({}, {25, 64, 512}, DType::kBF16);
  for (const char* layout : {"", "panel_16"})
    for (const MatmulTiling& tiling : {MatmulTiling{.layout = layout}, gemm(layout, 128)}) {
      std::vector<float> together = all.run(GetParam().kernel, tiling, 2);
      for (int64_t first : {int64_t{1}, int64_t{2}, int64_t{9}}) {
        Case some = all;
        some.size.rows = first;
        std::vector<float> alone = some.run(GetParam().kernel, tiling, 2);
        for (size_t i = 0; i < alone.size(); ++i) ASSERT_NEAR(alone[i], together[i], 1e-5 * std::sqrt(512));
      }
    }
}

TEST_P(MatmulKernels, RefuseTilesTheyDoNotHave) {
  for (const char* text : {"{form = gemm, rows = 99, columns = 32, k_block = 64}", "{form = gemm}", "{layout = odd}",
                           "{form = gemm, rows = 2, columns = 16, k_block = 48}", "{depth = 3}",
                           "{form = gemm, rows = 2, columns = 32, k_block = 4096}"})
    EXPECT_THROW(make_kernel(GetParam().kernel, text), Error) << text;
}

// The kernels that round x to bf16.
class MatmulPairKernels : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (cpu_features().level < GetParam().level) GTEST_SKIP() << "needs " << enum_name(GetParam().level);
    if (!cpu_features().avx512_bf16) GTEST_SKIP() << "needs avx512_bf16";
  }
};

TEST_P(MatmulPairKernels, MultiplyTiles) {
  for (const std::string& layout : kLayouts)
    for (auto [rows, columns] : GetParam().tiles) {
      MatmulTiling tiling{.form = MatmulForm::kPairs, .layout = layout, .rows = rows, .columns = columns};
      for (int64_t k_block : {64, 512})
        for (Size size : {Size{1, 1, 1}, Size{15, 65, 129}, Size{29, 100, 64}, Size{64, 31, 70}, Size{7, 300, 200},
                          Size{16, 64, 128}, Size{49, 129, 97}, Size{1, 512, 1000}}) {
          tiling.k_block = k_block;
          Case({}, size, DType::kBF16).check(GetParam().kernel, tiling, 2, true);
        }
    }
}

TEST_P(MatmulPairKernels, CutManyRowsIntoBlocksAndApplyEpilogues) {
  auto [rows, columns] = GetParam().tiles[0];
  for (const char* layout : {"", "panel_32"}) {
    MatmulTiling tiling{.form = MatmulForm::kPairs, .layout = layout, .rows = rows, .columns = columns, .k_block = 96};
    Case many({.bias = true, .residual = true}, {kMatmulRowBlock + 37, 70, 160}, DType::kBF16);
    many.check(GetParam().kernel, tiling, 2, true);
    for (int64_t n : {70, 128})
      Case({.residual = true}, {kMatmulRowBlock + 37, n, 160}, DType::kBF16).check(GetParam().kernel, tiling, 2, true);
    Case active({.bias = true, .function = ActivationFunction::kSilu}, {33, 70, 160}, DType::kBF16);
    active.check(GetParam().kernel, tiling, 2, true);
  }
}

// In products that apply the activation themselves, and in those that leave it to the end: a bias, odd halves.
TEST_P(MatmulPairKernels, ApplyGatedActivations) {
  for (const std::string& layout : kLayouts)
    for (auto [rows, columns] : GetParam().tiles)
      for (Size size :
           {Size{1, 64, 96}, Size{33, 96, 160}, Size{70, 1056, 64}, Size{49, 74, 97}, Size{300, 64, 2400}}) {
        MatmulTiling tiling{.form = MatmulForm::kPairs, .layout = layout, .rows = rows, .columns = columns};
        tiling.k_block = 256;
        Case({.function = ActivationFunction::kSilu, .gated = true}, size, DType::kBF16)
            .check(GetParam().kernel, tiling, 2, true);
        Case({.bias = true, .function = ActivationFunction::kGelu, .gated = true}, size, DType::kBF16)
            .check(GetParam().kernel, tiling, 3, true);
      }
}

// Gates from far below to far above where exp overflows.
TEST_P(MatmulPairKernels, ApplyLargeGates) {
  for (auto function : {ActivationFunction::kSilu, ActivationFunction::kQuickGelu, ActivationFunction::kGeluTanh})
    for (auto [rows, columns] : GetParam().tiles)
      for (Size size : {Size{16, 64, 512}, Size{37, 192, 1024}}) {
        MatmulTiling tiling{.form = MatmulForm::kPairs, .layout = "panel_16", .rows = rows, .columns = columns};
        tiling.k_block = 512;
        Case c({.function = function, .gated = true}, size, DType::kBF16);
        c.check(GetParam().kernel, tiling, 2, true);
        for (int64_t row = 0; row < size.rows; ++row)
          for (int64_t k = 0; k < size.k; ++k)
            c.x[static_cast<size_t>(row * size.k + k)] *= static_cast<float>(row % 7);
        c.check(GetParam().kernel, tiling, 1, true);
      }
}

// More rows, features and k than are multiplied at a time.
TEST_P(MatmulPairKernels, CutWhatCachesCannotHold) {
  for (auto [rows, columns] : GetParam().tiles)
    for (const char* layout : {"", "panel_16", "panel_32"}) {
      MatmulTiling tiling{.form = MatmulForm::kPairs, .layout = layout, .rows = rows, .columns = columns};
      tiling.k_block = 256;
      int threads = columns == 32 ? 1 : 3;
      Case({}, {290, 530, 2400}, DType::kBF16).check(GetParam().kernel, tiling, threads, true);
      Case({}, {530, 530, 2100}, DType::kBF16).check(GetParam().kernel, tiling, threads, true);
    }
}

// In place, and with a call.
TEST_P(MatmulPairKernels, HandOverRoundedValuesInTiles) {
  if (GetParam().kernel != "cpu.matmul_amx") GTEST_SKIP() << "packs x otherwise";
  for (auto function : {ActivationFunction::kSilu, ActivationFunction::kGeluTanh, ActivationFunction::kGelu})
    for (auto [rows, columns] : GetParam().tiles)
      for (const std::string& layout : kLayouts)
        for (Size size : {Size{16, 128, 64}, Size{50, 192, 70}, Size{50, 192, 512}, Size{530, 1088, 64}}) {
          MatmulTiling tiling{.form = MatmulForm::kPairs, .layout = layout, .rows = rows, .columns = columns};
          if (!takes_tiles(tiling, size.rows, size.n / 2)) continue;
          const Matmul gated{.function = function, .gated = true};
          ASSERT_TRUE(gives_tiles({gated, tiling, {}}, size.rows, size.n));
          Case first(gated, size, DType::kBF16), second({}, {size.rows, 70, size.n / 2}, DType::kBF16);
          for (int64_t k_block : {96, 512}) {
            SCOPED_TRACE(format("{} {}x{} {}", layout, size.rows, size.n, k_block));
            tiling.k_block = k_block;
            second.x = first.run(GetParam().kernel, tiling, 2);
            std::vector<float> want = second.run(GetParam().kernel, tiling, 2);
            second.x = first.run(GetParam().kernel, tiling, 3, {{.gives_tiles = k_block}});
            EXPECT_EQ(want, second.run(GetParam().kernel, tiling, 2, {.takes_tiles = true}));
          }
        }
}

TEST(MatmulHandover, RefusesWhatTheFormCannotDo) {
  const std::string tiling = "function = silu, gated = true, form = pairs, rows = 16, k_block = 512";
  EXPECT_NO_THROW(make_kernel("cpu.matmul_amx", "{" + tiling + ", columns = 32, gives_tiles = 64}"));
  EXPECT_THROW(make_kernel("cpu.matmul_amx", "{" + tiling + ", columns = 32, gives_tiles = 40}"), Error);
  EXPECT_THROW(make_kernel("cpu.matmul_amx", "{" + tiling + ", columns = 32, gives_tiles = -32}"), Error);
  EXPECT_THROW(make_kernel("cpu.matmul_amx", "{" + tiling + ", columns = 64, gives_tiles = 64}"), Error);
  EXPECT_THROW(make_kernel("cpu.matmul_amx", "{bias = true, " + tiling + ", columns = 32, gives_tiles = 64}"), Error);
}

TEST_P(MatmulPairKernels, GiveTheSameBitsOnAnyNumberOfThreads) {
  for (auto [rows, columns] : GetParam().tiles)
    for (bool gated : {false, true})
      for (Size size : {Size{40, 544, 300}, Size{270, 544, 1024}, Size{270, 544, 2100}}) {
        const auto function = gated ? ActivationFunction::kSilu : ActivationFunction::kNone;
        Case c({.function = function, .gated = gated}, size, DType::kBF16);
        for (const char* layout : {"", "panel_16"}) {
          MatmulTiling tiling{.form = MatmulForm::kPairs, .layout = layout, .rows = rows, .columns = columns};
          tiling.k_block = size.k % 512 == 0 ? 512 : 96;
          std::vector<float> one = c.run(GetParam().kernel, tiling, 1);
          for (int threads : {2, 3, 7}) EXPECT_EQ(one, c.run(GetParam().kernel, tiling, threads));
        }
      }
}

const std::vector<Isa> kPairIsas = {
    {"cpu.matmul_avx512_bf16", CpuLevel::kAvx512, {{14, 32}, {5, 32}}},
    {"cpu.matmul_amx", CpuLevel::kAmx, {{16, 32}, {16, 64}}},
};

INSTANTIATE_TEST_SUITE_P(All, MatmulPairKernels, testing::ValuesIn(kPairIsas),
                         [](const auto& info) { return info.param.kernel.substr(4); });

INSTANTIATE_TEST_SUITE_P(All, MatmulKernels, testing::ValuesIn(isas()),
                         [](const auto& info) { return info.param.kernel.substr(4); });

}  // namespace
}  // namespace ingot
