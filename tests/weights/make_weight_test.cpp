#include "weights/make_weight.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <random>

#include "base/error.h"
#include "base/fields.h"
#include "checkpoint/safetensors_writer.h"

namespace ingot {
namespace {

// A layout for tests: columns of a block one after the other (column major), the last block filled with zeros.
template <int64_t kRows>
constexpr WeightLayout column_layout(std::string_view name) {
  return {.name = name,
          .rows_per_block = kRows,
          .accepts = [](const TensorType& type) { return type.dtype != DType::kF64; },
          .packed_bytes =
              [](const TensorType& type) {
                std::vector<int64_t> sizes = type.sizes();
                int64_t matrices = sizes.size() == 3 ? sizes[0] : 1, rows = sizes[sizes.size() - 2];
                return matrices * ((rows + kRows - 1) / kRows * kRows) * sizes.back() * size_of(type.dtype);
              },
          .pack =
              [](DType dtype, const void* source, int64_t rows, int64_t cols, void* out) {
                size_t size = static_cast<size_t>(size_of(dtype));
                for (int64_t c = 0; c < cols; ++c)
                  for (int64_t r = 0; r < kRows; ++r) {
                    std::byte* to = static_cast<std::byte*>(out) + static_cast<size_t>(c * kRows + r) * size;
                    if (r < rows)
                      std::memcpy(to, static_cast<const std::byte*>(source) + static_cast<size_t>(r * cols + c) * size,
                                  size);
                    else
                      std::memset(to, 0, size);
                  }
              }};
}
constexpr WeightLayout kLayouts[] = {column_layout<4>("columns_4"), column_layout<200>("columns_200")};

const WeightLayout* find_layout(std::string_view name) {
  for (const WeightLayout& layout : kLayouts)
    if (layout.name == name) return &layout;
  return nullptr;
}

// What a layout makes of row-major bytes, one matrix and one block after the other.
std::vector<std::byte> packed(const WeightLayout& layout, const TensorType& type, const std::vector<std::byte>& plain) {
  std::vector<std::byte> out;
  std::vector<int64_t> sizes = type.sizes();
  int64_t n = sizes[sizes.size() - 2], k = sizes.back(), row_bytes = k * size_of(type.dtype);
  for (int64_t matrix = 0; matrix * n * row_bytes < static_cast<int64_t>(plain.size()); ++matrix)
    for (int64_t row = 0; row < n; row += layout.rows_per_block) {
      std::vector<std::byte> block(static_cast<size_t>(layout.rows_per_block * row_bytes));
      layout.pack(type.dtype, plain.data() + (matrix * n + row) * row_bytes, std::min(layout.rows_per_block, n - row),
                  k, block.data());
      out.insert(out.end(), block.begin(), block.end());
    }
  return out;
}

std::vector<std::byte> make(const Recipe& recipe, const Checkpoint& checkpoint, ThreadPool& pool) {
  std::vector<std::byte> bytes;
  make_weight(recipe, checkpoint, pool, find_layout,
              [&](std::span<const std::byte> piece) { bytes.insert(bytes.end(), piece.begin(), piece.end()); });
  EXPECT_EQ(static_cast<int64_t>(bytes.size()), weight_bytes(weight_type(recipe, checkpoint), find_layout))
      << print(recipe);
  return bytes;
}

// The same by `evaluate`.
std::vector<std::byte> expected(const Recipe& recipe, const Checkpoint& checkpoint) {
  HostTensor value = evaluate(recipe, [&](std::string_view name) {
    std::vector<std::byte> bytes(static_cast<size_t>(checkpoint.type(name).bytes()));
    checkpoint.read(name, 0, checkpoint.type(name).elements(), bytes.data());
    return HostTensor(TensorView{checkpoint.type(name), bytes.data()});
  });
  std::string layout = weight_type(recipe, checkpoint).layout;
  return layout.empty() ? value.bytes() : packed(*find_layout(layout), value.type, value.bytes());
}

std::vector<double> random_values(std::mt19937& random, int64_t count) {
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = normal(random);
  return values;
}

// Tensors named by their shape and dtype ("7x5_bf16"), at odd offsets in one file.
class MakeWeight : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::mt19937 random(1);
    std::vector<NamedTensor> tensors{{"odd", HostTensor(parse_type("u8[1]"))}};
    for (DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16})
      for (const auto& [name, shape] : shapes()) {
        TensorType type{dtype, {shape.begin(), shape.end()}, ""};
        HostTensor value(type, random_values(random, type.elements()));
        round_values(value);
        tensors.push_back({name + "_" + std::string(enum_name(dtype)), value});
      }
    tensors.push_back({"ids", {parse_type("i64[7]"), {1, 2, 3, 4, 5, 6, 7}}});
    directory_ = new TemporaryDirectory;
    directory_->write("config.json", R"({"dtype": "bfloat16"})");
    directory_->write("model.safetensors", safetensors_file(tensors));
  }
  static void TearDownTestSuite() { delete directory_; }

  static std::vector<std::pair<std::string, std::vector<int64_t>>> shapes() {
    return {{"1", {1}},      {"5", {5}},          {"7", {7}},           {"7x5", {7, 5}},
            {"1x5", {1, 5}}, {"33x17", {33, 17}}, {"3x7x5", {3, 7, 5}}, {"2x70x66", {2, 70, 66}}};
  }

  void check(const Recipe& recipe, const Checkpoint& checkpoint) {
    std::vector<std::byte> bytes = expected(recipe, checkpoint);
    EXPECT_TRUE(make(recipe, checkpoint, pool_) == bytes) << print(recipe);
    EXPECT_TRUE(make(recipe, checkpoint, single_) == bytes) << print(recipe);
  }

  static TemporaryDirectory* directory_;
  Checkpoint checkpoint_ = Checkpoint::open(directory_->path());
  ThreadPool pool_{2}, single_{1};
};
TemporaryDirectory* MakeWeight::directory_ = nullptr;

TEST_F(MakeWeight, EveryFunctionInEveryDType) {
  for (const char* dtype : {"f64", "f32", "f16", "bf16"})
    for (const char* pattern : {"7x5_D",
                                "cast(33x17_D, f32)",
                                "cast(33x17_D, f16)",
                                "cast(33x17_D, bf16)",
                                "cast(33x17_D, f64)",
                                "concat(7x5_D, 1x5_D, 7x5_D)",
                                "stack(7x5_D, 7x5_D)",
                                "transpose(33x17_D)",
                                "transpose(cast(33x17_D, f32))",
                                "slice(33x17_D, 0, 3, 9)",
                                "slice(33x17_D, 1, 3, 9)",
                                "slice(3x7x5_D, 1, 2, 6)",
                                "slice(3x7x5_D, 2, 4, 5)",
                                "reshape(33x17_D, 17, 33)",
                                "reshape(5_D, 5, 1)",
                                "add(33x17_D, 0.3)",
                                "scale(33x17_D, 1.7)",
                                "mul(33x17_D, 33x17_D)",
                                "mul(3x7x5_D, 5_D)",
                                "mul(5_D, 5_D)",
                                "mul_rows(3x7x5_D, constant([1, 2.5, -3]))",
                                "mul_rows(7x5_D, 7_D)",
                                "concat(cast(7_D, f32), constant([1, 2]), rope_frequencies(10000, 16, default))",
                                "cast(scale(33x17_D, 0.1), bf16)",
                                "pack(33x17_D, columns_4)",
                                "pack(33x17_D, columns_200)",
                                "pack(2x70x66_D, columns_4)",
                                "pack(cast(transpose(33x17_D), bf16), columns_4)",
                                "pack(cast(2x70x66_D, f16), columns_200)",
                                "pack(slice(3x7x5_D, 0, 1, 3), columns_4)"}) {
      std::string text = pattern;
      if (std::string_view(dtype) == "f64" && text.starts_with("pack") && text.find("cast") == std::string::npos)
        continue;
      for (size_t at; (at = text.find("_D")) != std::string::npos;) text.replace(at, 2, "_" + std::string(dtype));
      for (size_t at = 0; (at = text.find_first_of("0123456789", at)) != std::string::npos;) {
        size_t end = text.find_first_not_of("x0123456789_bf", at);  // a name that begins with a digit needs quotes
        std::string word = text.substr(at, std::min(end, text.size()) - at);
        bool is_name = word.find("_f") != std::string::npos || word.find("_b") != std::string::npos;
        bool starts = at == 0 || text[at - 1] == '(' || text[at - 1] == ' ';
        if (is_name && starts) text.replace(at, word.size(), "\"" + word + "\"");
        at = std::min(text.size(), at + word.size() + 2);
      }
      check(parse_recipe(text), checkpoint_);
    }
  check(parse_recipe("cast(ids, f32)"), checkpoint_);
}

// Draws typed recipes; each step wraps or combines what it has.
class RecipeDrawer {
 public:
  RecipeDrawer(uint32_t seed, const Checkpoint& checkpoint) : random_(seed), checkpoint_(checkpoint) {}

  Recipe draw() {
    Recipe recipe = matrix();
    for (int steps = below(6); steps > 0; --steps) recipe = step(recipe);
    if (below(3) == 0) recipe = recipe::cast(recipe, any_float());
    TensorType type = weight_type(recipe, checkpoint_);
    bool fits = type.rank() >= 2 && type.rank() <= 3 && type.dtype != DType::kF64;
    return fits && below(2) ? recipe::pack(recipe, below(2) ? "columns_4" : "columns_200") : recipe;
  }

 private:
  int below(int64_t n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }
  DType any_float() { return static_cast<DType>(below(4)); }
  Recipe matrix() {
    const char* names[] = {"7x5", "1x5", "33x17", "3x7x5", "2x70x66", "5"};
    return recipe::tensor(names[below(6)] + ("_" + std::string(enum_name(any_float()))));
  }
  Recipe vector(int64_t size) {
    std::vector<float> values(static_cast<size_t>(size));
    for (float& value : values) value = static_cast<float>(below(1000)) / 300 - 1;
    return below(2) ? recipe::constant(values) : recipe::cast(recipe::constant(values), any_float());
  }
  Recipe step(const Recipe& e) {
    TensorType type = weight_type(e, checkpoint_);
    std::vector<int64_t> sizes = type.sizes();
    int64_t axis = below(type.rank()), size = sizes[static_cast<size_t>(axis)];
    switch (below(10)) {
      case 0:
        return recipe::cast(e, any_float());
      case 1:
        return recipe::concat({e, recipe::slice(e, 0, 0, 1 + below(sizes[0])), e});
      case 2:
        return type.rank() == 2 ? recipe::transpose(e) : recipe::reshape(e, {type.elements(), 1});
      case 3: {
        int64_t begin = below(size);
        return recipe::slice(e, axis, begin, begin + 1 + below(size - begin));
      }
      case 4:
        std::reverse(sizes.begin(), sizes.end());
        return recipe::reshape(e, sizes);
      case 5:
        return recipe::add(e, below(100) / 37.0);
      case 6:
        return recipe::scale(e, below(100) / 37.0);
      case 7:
        return below(2) ? recipe::mul(e, e) : recipe::mul(e, vector(sizes.back()));
      case 8:
        return recipe::mul_rows(e, vector(sizes[0]));
      default:
        return type.rank() < 3 ? recipe::stack({e, e}) : e;
    }
  }

  std::mt19937 random_;
  const Checkpoint& checkpoint_;
};

TEST_F(MakeWeight, RandomCompositionsAgreeWithEvaluate) {
  for (uint32_t seed = 0; seed < 1500; ++seed) {
    Recipe recipe = RecipeDrawer(seed, checkpoint_).draw();
    EXPECT_EQ(parse_recipe(print(recipe)), recipe);
    EXPECT_TRUE(make(recipe, checkpoint_, pool_) == expected(recipe, checkpoint_)) << print(recipe);
    if (HasFailure()) break;
  }
}

TEST_F(MakeWeight, RandomCheckpointsGiveTheSameBytesHoweverTheyAreRead) {
  Checkpoint random = Checkpoint::random(directory_->path(), 3);
  random.require("w", {300, 257});
  random.require("n.norm.weight", {257});
  for (const char* text :
       {"w", "cast(w, f32)", "transpose(w)", "pack(w, columns_4)", "cast(mul(w, n.norm.weight), bf16)",
        "concat(w, slice(w, 0, 7, 8))", "cast(transpose(scale(w, 3)), f16)"})
    check(parse_recipe(text), random);
}

// Several chunks, the last of which is cut in the middle of tiles and rows.
TEST_F(MakeWeight, LargeWeightsComeInOrder) {
  Checkpoint random = Checkpoint::random(directory_->path(), 4);
  random.require("w", {1301, 1303});
  for (const char* text : {"cast(w, f32)", "transpose(w)", "transpose(cast(w, f32))", "pack(w, columns_200)"})
    check(parse_recipe(text), random);
}

// Whoever writes them would take the page faults of the mapping in the middle of a write.
TEST_F(MakeWeight, MappedTensorsThatAreWantedAsTheyLieAreCopied) {
  TemporaryDirectory directory;
  HostTensor a(parse_type("bf16[1500, 1000]")), b(a.type);
  std::mt19937 random(5);
  for (HostTensor* tensor : {&a, &b})
    for (double& value : tensor->values) value = random() % 256;
  directory.write("config.json", "{}");
  directory.write("model.safetensors", safetensors_file({{"a", a}, {"b", b}}));
  Checkpoint checkpoint = Checkpoint::open(directory.path());
  const auto mapped = [&](const std::byte* data) {
    return std::ranges::any_of(std::array{"a", "b"}, [&](const char* name) {
      const auto* begin = static_cast<const std::byte*>(checkpoint.view(name).data);
      return data >= begin && data < begin + a.type.bytes();
    });
  };
  for (const char* text : {"a", "concat(a, b)", "cast(concat(a, b), bf16)", "reshape(concat(a, b), 1000, 3000)",
                           "slice(stack(a, b), 0, 0, 2)"}) {
    check(parse_recipe(text), checkpoint);
    make_weight(parse_recipe(text), checkpoint, pool_, find_layout, [&](std::span<const std::byte> piece) {
      EXPECT_FALSE(mapped(piece.data())) << text;
      EXPECT_LE(piece.size(), size_t{8} << 20) << text;
    });
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
double anonymous_mib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("RssAnon:")) return std::stod(line.substr(8)) / 1024;
  return 0;
}

TEST_F(MakeWeight, MemoryStaysSmall) {
  Checkpoint random = Checkpoint::random(directory_->path(), 4);
  random.require("w", {40000, 2048});  // 156 MiB
  random.require("v", {2048});
  for (const char* text : {"w", "cast(w, f32)", "transpose(w)", "cast(mul(scale(transpose(w), 2), transpose(w)), bf16)",
                           "pack(cast(mul(w, v), bf16), columns_4)", "pack(cast(transpose(w), bf16), columns_200)"}) {
    double before = anonymous_mib(), most = 0;
    make_weight(parse_recipe(text), random, pool_, find_layout,
                [&](std::span<const std::byte>) { most = std::max(most, anonymous_mib() - before); });
    EXPECT_LE(most, 64) << text;
  }
}
#endif

TEST_F(MakeWeight, ErrorsOfTheSinkArePassedOn) {
  Checkpoint random = Checkpoint::random(directory_->path(), 4);
  random.require("w", {4096, 4096});
  for (const char* text : {"w", "pack(w, columns_4)"})
    for (int good : {0, 1, 3}) {
      int calls = 0;
      EXPECT_THROW(make_weight(parse_recipe(text), random, pool_, find_layout,
                               [&](std::span<const std::byte>) {
                                 if (calls++ == good) fail(ErrorCode::kRuntime, "disk full");
                               }),
                   Error);
      EXPECT_EQ(calls, good + 1);
    }
}

TEST_F(MakeWeight, MistakesAreErrors) {
  for (const char* text : {"missing", "pack(\"7x5_f32\", unknown)", "pack(\"7x5_f64\", columns_4)",
                           "transpose(\"5_f32\")", "concat(\"7x5_f32\", \"7x5_f16\")"})
    EXPECT_THROW(make(parse_recipe(text), checkpoint_, pool_), Error) << text;
  EXPECT_THROW(weight_bytes(parse_type("f32[2, 2]@unknown"), find_layout), Error);
  EXPECT_EQ(weight_bytes(parse_type("f32[5, 2]@columns_4"), find_layout), 64);
}

}  // namespace
}  // namespace ingot
